//! What a start asks of the state before anything more is sent: is what is in flight what the rows
//! say? The whole audit takes its time; this follows what is in flight.

use sea_orm::DatabaseTransaction;

use super::audit_rows::{
    Breach, HELD_NOT_INFLIGHT, IN_TWO_BATCHES, INFLIGHT_NOT_HELD, INFLIGHT_OF_CLOSED,
};
use super::messages::{CheckLive, StateResult};
use super::sql::rows;
use super::{Apply, Rules};

/// Breaches that are told at a start; one is enough not to.
const TOLD_AT_START: usize = 3;

impl Apply for CheckLive {
    type Reply = Vec<String>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<String>> {
        let mut told = Vec::new();
        for question in LIVE_PROMISES {
            let sql = format!("{question} LIMIT {TOLD_AT_START}");
            for breach in rows::<Breach, 0>(tx, &sql, []).await? {
                told.push(format!("page '{}': {}", breach.thing, breach.detail));
            }
        }
        told.truncate(TOLD_AT_START);
        Ok(told)
    }
}

/// What must hold of pages in flight before anything more is sent.
pub(super) const LIVE_PROMISES: [&str; 4] = [
    IN_TWO_BATCHES,
    INFLIGHT_OF_CLOSED,
    INFLIGHT_NOT_HELD,
    HELD_NOT_INFLIGHT,
];
