//! What was learned of the service for each model.

use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};

use super::messages::{KeepPace, ReadPace, StateResult};
use super::sql::{execute_exactly, rows, signed, small, text, unsigned};
use super::{Apply, Rules};
use crate::domain::pace::Pace;

#[derive(FromQueryResult)]
struct PaceRow {
    model: String,
    pages_max: Option<i64>,
    tokens_max: Option<i64>,
    clean: i64,
    reason: String,
}

/// Every model of which something was learned.
pub(super) async fn paces(conn: &impl ConnectionTrait) -> StateResult<Vec<(String, Pace)>> {
    let sql = "SELECT model, pages_max, tokens_max, clean, reason FROM paces ORDER BY model";
    let found: Vec<PaceRow> = rows(conn, sql, []).await?;
    let paces = found.into_iter().map(|row| {
        let pace = Pace {
            pages_max: row.pages_max.map(small),
            tokens_max: row.tokens_max.map(unsigned),
            clean: small(row.clean),
            reason: row.reason,
        };
        (row.model, pace)
    });
    Ok(paces.collect())
}

impl Apply for ReadPace {
    type Reply = Pace;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Pace> {
        let all = paces(tx).await?;
        let own = all.into_iter().find(|(model, _pace)| *model == self.model);
        Ok(own.map(|(_model, pace)| pace).unwrap_or_default())
    }
}

impl Apply for KeepPace {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let Pace {
            pages_max,
            tokens_max,
            clean,
            reason,
        } = &self.pace;
        let values = [
            text(&self.model),
            pages_max.map(i64::from).into(),
            tokens_max.map(signed).into(),
            i64::from(*clean).into(),
            text(reason),
            text(self.at),
        ];
        execute_exactly(
            tx,
            "INSERT INTO paces (model, pages_max, tokens_max, clean, reason, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (model) DO UPDATE SET
                 pages_max = excluded.pages_max, tokens_max = excluded.tokens_max,
                 clean = excluded.clean, reason = excluded.reason,
                 updated_at = excluded.updated_at",
            values,
            1,
        )
        .await
    }
}
