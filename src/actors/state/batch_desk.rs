//! What `pagemill batches` asks: which batches there are, and everything about one.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect,
};

use entity::submissions;

use super::messages::{BatchRow, StateResult};
use super::questions::{batch_rows, counts};
use super::rows::{instant, maybe_instant};
use super::sql::{json_list, number, rows, signed, text, texts, unsigned};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, RunId};
use crate::domain::time::Timestamp;

/// Batches in these states, newest first, and how many there are.
pub async fn newest(
    conn: &impl ConnectionTrait,
    states: &[BatchStage],
    limit: u64,
) -> StateResult<(Vec<BatchRow>, u64)> {
    let words = states.iter().map(|state| state.as_str());
    let found = submissions::Entity::find()
        .filter(submissions::Column::State.is_in(words.clone()))
        .order_by_desc(submissions::Column::BatchId)
        .limit(limit)
        .all(conn)
        .await?;
    let total = number(
        conn,
        "SELECT count(*) FROM submissions WHERE state IN (SELECT value FROM json_each(?1))",
        [json_list(words)],
    )
    .await?;
    Ok((batch_rows(conn, found).await?, total))
}

/// The batches that a text may mean: our id, its beginning or its end, the job's name, or the display
/// name. More than one where it is too short.
pub async fn meant(conn: &impl ConnectionTrait, words: &str) -> StateResult<Vec<BatchId>> {
    // `g` is the character after every one that an id holds.
    let found = texts(
        conn,
        "SELECT batch_id FROM submissions WHERE batch_id >= ?1 AND batch_id < ?1 || 'g'
         UNION SELECT batch_id FROM submissions
             WHERE length(?1) >= 4 AND substr(batch_id, -length(?1)) = ?1
         UNION SELECT batch_id FROM submissions WHERE remote_name = ?1
         UNION SELECT batch_id FROM submissions WHERE display_name = ?1
         ORDER BY 1 LIMIT 5",
        [text(words)],
    )
    .await?;
    if found.iter().any(|batch| batch == words) {
        return Ok(vec![BatchId::from(words)]);
    }
    Ok(found.into_iter().map(BatchId::from).collect())
}

/// One step in the life of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStep {
    pub at: Timestamp,
    pub from: Option<String>,
    pub event: String,
    pub to: String,
    pub note: String,
}

/// What is told of one batch beside its row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchStory {
    pub run: Option<RunId>,
    pub note: String,
    pub closed_at: Option<Timestamp>,
    pub polled_at: Option<Timestamp>,
    pub cancel_sent_at: Option<Timestamp>,
    /// Its requests by what came of them.
    pub outcomes: Vec<(String, u64)>,
    pub tokens_total: u64,
    pub cost_nanos: u64,
    pub reserved_cost_nanos: Option<u64>,
    /// Oldest first.
    pub steps: Vec<BatchStep>,
}

#[derive(FromQueryResult)]
struct StoryRow {
    run_id: String,
    note: String,
    closed_at: Option<String>,
    polled_at: Option<String>,
    cancel_sent_at: Option<String>,
    reserved_cost_nanos: Option<i64>,
}

#[derive(FromQueryResult)]
struct StepRow {
    at: String,
    from_state: Option<String>,
    event: String,
    to_state: String,
    note: String,
}

/// Everything about one batch; `steps_max` of its newest steps.
pub async fn story(
    conn: &impl ConnectionTrait,
    batch: &BatchId,
    steps_max: u64,
) -> StateResult<BatchStory> {
    let thing = format!("batch '{batch}'");
    let row: Option<StoryRow> = super::sql::first(
        conn,
        "SELECT run_id, note, closed_at, polled_at, cancel_sent_at, reserved_cost_nanos
         FROM submissions WHERE batch_id = ?1",
        [text(batch)],
    )
    .await?;
    let Some(row) = row else {
        return Ok(BatchStory::default());
    };
    let found: Vec<StepRow> = rows(
        conn,
        "SELECT at, from_state, event, to_state, note FROM (
             SELECT * FROM submission_events WHERE batch_id = ?1 ORDER BY id DESC LIMIT ?2)
         ORDER BY id",
        [text(batch), signed(steps_max).into()],
    )
    .await?;
    let steps = found.into_iter().map(|step| {
        Ok(BatchStep {
            at: instant(&thing, &step.at)?,
            from: step.from_state,
            event: step.event,
            to: step.to_state,
            note: step.note,
        })
    });
    let sum = |column: &str| format!("SELECT sum({column}) FROM attempts WHERE batch_id = ?1");
    let outcomes = "SELECT outcome AS word, count(*) AS count FROM attempts WHERE batch_id = ?1
                    GROUP BY outcome ORDER BY 1";
    Ok(BatchStory {
        outcomes: counts(conn, outcomes, [text(batch)]).await?,
        tokens_total: number(conn, &sum("tokens_total"), [text(batch)]).await?,
        cost_nanos: number(conn, &sum("cost_nanos"), [text(batch)]).await?,
        reserved_cost_nanos: row.reserved_cost_nanos.map(unsigned),
        closed_at: maybe_instant(&thing, row.closed_at.as_deref())?,
        polled_at: maybe_instant(&thing, row.polled_at.as_deref())?,
        cancel_sent_at: maybe_instant(&thing, row.cancel_sent_at.as_deref())?,
        run: Some(RunId::from(row.run_id)),
        note: row.note,
        steps: steps.collect::<StateResult<Vec<BatchStep>>>()?,
    })
}

/// The record keys of a batch, in order, and how many there are.
pub async fn keys(
    conn: &impl ConnectionTrait,
    batch: &BatchId,
    limit: u64,
) -> StateResult<(Vec<String>, u64)> {
    let found = texts(
        conn,
        "SELECT record_key FROM batch_record_keys WHERE batch_id = ?1 ORDER BY record_key LIMIT ?2",
        [text(batch), signed(limit).into()],
    )
    .await?;
    let total = "SELECT count(*) FROM batch_record_keys WHERE batch_id = ?1";
    Ok((found, number(conn, total, [text(batch)]).await?))
}
