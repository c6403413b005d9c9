//! How the members of a batch ended, in numbers, and what they cost.

use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, FromQueryResult};

use entity::submissions;

use super::messages::StateResult;
use super::rows::{TOKEN_SUMS, TokenSums};
use super::sql::{first, signed, text, unsigned};
use crate::domain::attempt::Tally;
use crate::domain::ids::BatchId;

/// The aggregates of a [`Tally`], for a SELECT from attempts.
pub(super) const OUTCOMES: &str = "
    count(*) AS submitted,
    count(*) FILTER (WHERE outcome = 'accepted') AS succeeded,
    count(*) FILTER (WHERE outcome = 'rejected' AND error_type <> 'MissingResponse') AS failed,
    count(*) FILTER (WHERE outcome = 'rejected' AND error_type = 'MissingResponse') AS missing,
    count(*) FILTER (WHERE outcome = 'released') AS released,
    count(*) FILTER (WHERE outcome = 'pending') AS open";

#[derive(FromQueryResult)]
struct TallyRow {
    submitted: i64,
    succeeded: i64,
    failed: i64,
    missing: i64,
    released: i64,
    open: i64,
}

/// Counts how the members of a batch ended.
pub(super) async fn tally(conn: &impl ConnectionTrait, batch: &BatchId) -> StateResult<Tally> {
    let sql = format!("SELECT {OUTCOMES} FROM attempts WHERE batch_id = ?1");
    let row: Option<TallyRow> = first(conn, &sql, [text(batch)]).await?;
    Ok(row.map_or(Tally::default(), |row| Tally {
        submitted: unsigned(row.submitted),
        succeeded: unsigned(row.succeeded),
        failed: unsigned(row.failed),
        missing: unsigned(row.missing),
        released: unsigned(row.released),
        open: unsigned(row.open),
    }))
}

/// Sums tokens and cost over a batch's attempts.
pub(super) async fn token_sums(
    conn: &impl ConnectionTrait,
    batch: &BatchId,
) -> StateResult<TokenSums> {
    let sql = format!("SELECT {TOKEN_SUMS} FROM attempts WHERE batch_id = ?1");
    Ok(first(conn, &sql, [text(batch)]).await?.unwrap_or_default())
}

/// Keeps the sums on the submission, so that nobody has to add up all attempts ever made.
pub(super) fn put_sums(change: &mut submissions::ActiveModel, sums: &TokenSums) {
    change.tokens_prompt = Set(sums.tokens_prompt);
    change.tokens_cached = Set(sums.tokens_cached);
    change.tokens_candidates = Set(sums.tokens_candidates);
    change.tokens_thoughts = Set(sums.tokens_thoughts);
    change.tokens_total = Set(sums.tokens_total);
    change.cost_nanos = Set(sums.cost_nanos);
}

/// Keeps the counts on the submission.
pub(super) fn put_tally(change: &mut submissions::ActiveModel, tally: &Tally) {
    change.count_submitted = Set(Some(signed(tally.submitted)));
    change.count_succeeded = Set(Some(signed(tally.succeeded)));
    change.count_failed = Set(Some(signed(tally.failed)));
    change.count_missing = Set(Some(signed(tally.missing)));
    change.count_released = Set(Some(signed(tally.released)));
}
