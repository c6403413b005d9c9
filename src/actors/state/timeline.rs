//! When pages and batches went from one stage to the next, for whoever measures a run that is over.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::messages::StateResult;
use super::rows::{instant, maybe_instant, word};
use super::sql::rows;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// A page came into a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub page: String,
    pub to: PageStage,
    pub at: Timestamp,
}

/// The life of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchLife {
    /// The job, where it was made.
    pub job: Option<String>,
    pub pages: u64,
    pub line_bytes: u64,
    pub tokens_estimated: u64,
    pub cost_nanos: u64,
    pub created_at: Timestamp,
    pub submitted_at: Option<Timestamp>,
    /// When the job ended, as the provider says.
    pub ended_at: Option<Timestamp>,
    /// When its end was seen.
    pub seen_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
}

#[derive(FromQueryResult)]
struct StepRow {
    record_key: String,
    to_stage: String,
    at: String,
}

/// Every step of every page, in the order in which they were taken.
pub async fn steps(conn: &impl ConnectionTrait) -> StateResult<Vec<Step>> {
    let sql = "SELECT record_key, to_stage, at FROM page_events ORDER BY id";
    let found: Vec<StepRow> = rows(conn, sql, []).await?;
    let steps = found.into_iter().map(|row| {
        Ok(Step {
            page: row.record_key,
            to: word("a page event", &row.to_stage, PageStage::parse)?,
            at: instant("a page event", &row.at)?,
        })
    });
    steps.collect()
}

/// The bytes of all images that were brought to the provider's store.
pub async fn image_bytes(conn: &impl ConnectionTrait) -> StateResult<u64> {
    let sql = "SELECT coalesce(sum(bytes), 0) FROM remote_files WHERE purpose = 'image'";
    super::sql::number(conn, sql, []).await
}

/// What a fault in a time speaks of.
const OF_BATCH: &str = "a batch";

#[derive(FromQueryResult)]
struct LifeRow {
    remote_name: Option<String>,
    record_count: i64,
    lines_bytes: Option<i64>,
    tokens_estimated: Option<i64>,
    cost_nanos: Option<i64>,
    created_at: String,
    submitted_at: Option<String>,
    ended_at: Option<String>,
    terminal_seen_at: Option<String>,
    closed_at: Option<String>,
}

/// Every batch, oldest first.
pub async fn batches(conn: &impl ConnectionTrait) -> StateResult<Vec<BatchLife>> {
    let sql =
        "SELECT remote_name, record_count, lines_bytes, tokens_estimated, cost_nanos, created_at,
                      submitted_at, ended_at, terminal_seen_at, closed_at
                 FROM submissions ORDER BY created_at, batch_id";
    let found: Vec<LifeRow> = rows(conn, sql, []).await?;
    let lives = found.into_iter().map(|row| {
        let count = |number: Option<i64>| super::sql::unsigned(number.unwrap_or(0));
        Ok(BatchLife {
            job: row.remote_name,
            pages: count(Some(row.record_count)),
            line_bytes: count(row.lines_bytes),
            tokens_estimated: count(row.tokens_estimated),
            cost_nanos: count(row.cost_nanos),
            created_at: instant(OF_BATCH, &row.created_at)?,
            submitted_at: maybe_instant(OF_BATCH, row.submitted_at.as_deref())?,
            ended_at: maybe_instant(OF_BATCH, row.ended_at.as_deref())?,
            seen_at: maybe_instant(OF_BATCH, row.terminal_seen_at.as_deref())?,
            closed_at: maybe_instant(OF_BATCH, row.closed_at.as_deref())?,
        })
    });
    lives.collect()
}
