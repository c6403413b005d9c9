//! Figures that are added up request by request.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::Booked;
use crate::actors::state::messages::StateResult;
use crate::actors::state::rows::{TOKEN_SUMS, TokenSums};
use crate::actors::state::sql::{rows, small, unsigned};
use crate::actors::state::tallies::OUTCOMES;
use crate::domain::attempt::Tally;
use crate::domain::figures::{Sums, TRIES_APART};
use crate::domain::layout::decoded_level;

#[derive(FromQueryResult)]
struct RequestsRow {
    level: String,
    attempt: i64,
    submitted: i64,
    succeeded: i64,
    failed: i64,
    missing: i64,
    released: i64,
    open: i64,
    tokens_prompt: Option<i64>,
    tokens_cached: Option<i64>,
    tokens_candidates: Option<i64>,
    tokens_thoughts: Option<i64>,
    tokens_total: Option<i64>,
    cost_nanos: Option<i64>,
}

pub(super) type ByLevelAndTry = (Vec<(String, Sums)>, Vec<(u32, Sums)>);

pub(super) async fn by_level_and_try(
    conn: &impl ConnectionTrait,
    booked: &Booked,
) -> StateResult<ByLevelAndTry> {
    let sql = question(booked);
    let found: Vec<RequestsRow> = rows(conn, &sql, booked.values()).await?;
    let mut levels: BTreeMap<String, Sums> = BTreeMap::new();
    let mut tries: BTreeMap<u32, Sums> = BTreeMap::new();
    for row in found {
        let tokens = TokenSums {
            tokens_prompt: row.tokens_prompt,
            tokens_cached: row.tokens_cached,
            tokens_candidates: row.tokens_candidates,
            tokens_thoughts: row.tokens_thoughts,
            tokens_total: row.tokens_total,
            cost_nanos: row.cost_nanos,
        };
        let sums = Sums {
            batches: 0,
            tally: Tally {
                submitted: unsigned(row.submitted),
                succeeded: unsigned(row.succeeded),
                failed: unsigned(row.failed),
                missing: unsigned(row.missing),
                released: unsigned(row.released),
                open: unsigned(row.open),
            },
            tokens: tokens.tokens(),
            cost_nanos: unsigned(row.cost_nanos.unwrap_or(0)),
        };
        let level = levels.entry(decoded_level(&row.level));
        level.or_default().add(&sums);
        tries.entry(small(row.attempt)).or_default().add(&sums);
    }
    let mut levels: Vec<(String, Sums)> = levels.into_iter().collect();
    levels.sort_by_key(|(_level, sums)| std::cmp::Reverse(sums.tally.submitted));
    Ok((levels, tries.into_iter().collect()))
}

pub(super) fn question(booked: &Booked) -> String {
    format!(
        "SELECT CASE instr(record_key, ':') WHEN 0 THEN ''
                ELSE substr(record_key, 1, instr(record_key, ':') - 1) END AS level,
                min(attempt_number, {TRIES_APART}) AS attempt,
                {OUTCOMES}, {TOKEN_SUMS}
         FROM attempts WHERE batch_id IN ({}) GROUP BY 1, 2",
        booked.batches()
    )
}
