//! Runs as `pagemill runs` shows them. They are never changed here, and earlier ones by nobody.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, QueryOrder, QuerySelect};

use entity::{recipes, runs};

use super::messages::{RecipeRow, RunStatus, StateError, StateResult};
use super::rows::{corrupt, instant, maybe_instant, word};
use super::sql::{json_list, number, rows, texts, unsigned};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{RecipeHash, RunId, ScopeToken, Sha256Hex};
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::domain::window::Window;

/// Runs that are named when a prefix fits several.
pub const NAMED_MAX: usize = 5;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub run: RunId,
    pub label: Option<String>,
    pub status: RunStatus,
    /// How often a process took its work up again.
    pub restarts: u64,
    pub scope: ScopeToken,
    /// Which labels belong to it, by when they arrived; all without one.
    pub window: Option<Window>,
    pub recipe: RecipeHash,
    /// Its settings as YAML, without secrets, and their hash.
    pub config: String,
    pub config_sha256: Sha256Hex,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// Pages of its scope by stage when it ended; empty before.
    pub totals: Vec<(PageStage, u64)>,
    pub work: Work,
}

/// What the batches of a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Batches by state, zeros left out.
    pub batches: Vec<(BatchStage, u64)>,
    /// Requests in them.
    pub requests: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub missing: u64,
    pub released: u64,
    pub cost_nanos: u64,
    pub tokens_prompt: u64,
    pub tokens_candidates: u64,
    pub tokens_thoughts: u64,
}

/// The runs that a word names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    One(Box<Run>),
    None,
    /// At most [`NAMED_MAX`] of those that begin so.
    Several(Vec<RunId>),
}

/// How many runs there are.
pub async fn count(conn: &impl ConnectionTrait) -> StateResult<u64> {
    number(conn, COUNT, []).await
}

const COUNT: &str = "SELECT count(*) FROM runs";

/// The runs that were at work last, the last one first.
pub async fn list(conn: &impl ConnectionTrait, limit: u64) -> StateResult<Vec<Run>> {
    let found = runs::Entity::find()
        .order_by_desc(runs::Column::UpdatedAt)
        .order_by_desc(runs::Column::RunId)
        .limit(limit)
        .all(conn)
        .await?;
    with_work(conn, found).await
}

/// The run with this id, or the only one whose id begins so.
pub async fn named(conn: &impl ConnectionTrait, word: &str) -> StateResult<Named> {
    let exact = runs::Entity::find_by_id(word).one(conn).await?;
    let found = match exact {
        Some(run) => run,
        None => {
            let ids = texts(conn, BEGINNING_SO, [word.into()]).await?;
            match ids.as_slice() {
                [] => return Ok(Named::None),
                [only] => {
                    let run = runs::Entity::find_by_id(only.as_str()).one(conn).await?;
                    run.ok_or_else(|| StateError::Missing(format!("run '{only}'")))?
                }
                several => {
                    let several = several.iter().take(NAMED_MAX);
                    return Ok(Named::Several(
                        several.map(|id| id.as_str().into()).collect(),
                    ));
                }
            }
        }
    };
    let runs = with_work(conn, vec![found]).await?;
    let run = runs.into_iter().next();
    Ok(run.map_or(Named::None, |run| Named::One(Box::new(run))))
}

/// Nothing follows what begins with the greatest character.
const BEGINNING_SO: &str = "
    SELECT run_id FROM runs
    WHERE run_id >= ?1 AND run_id < ?1 || char(1114111) AND ?1 <> '' ORDER BY run_id LIMIT 6";

/// What pages of a run are asked with.
pub async fn recipe(
    conn: &impl ConnectionTrait,
    hash: &RecipeHash,
) -> StateResult<Option<RecipeRow>> {
    let row = recipes::Entity::find_by_id(hash.as_str()).one(conn).await?;
    Ok(row.map(|row| RecipeRow {
        hash: RecipeHash::from(row.recipe_hash),
        prompt_name: row.prompt_name,
        prompt_template: row.prompt_template,
        context_template: row.context_template,
        schema: row.schema,
        model: row.model,
        generation_config: row.generation_config,
    }))
}

#[derive(FromQueryResult)]
struct WorkRow {
    run_id: String,
    state: String,
    batches: i64,
    requests: i64,
    succeeded: i64,
    failed: i64,
    missing: i64,
    released: i64,
    cost_nanos: i64,
    tokens_prompt: i64,
    tokens_candidates: i64,
    tokens_thoughts: i64,
}

const WORK: &str = "
    SELECT run_id, state, count(*) AS batches, sum(record_count) AS requests,
           coalesce(sum(count_succeeded), 0) AS succeeded, coalesce(sum(count_failed), 0) AS failed,
           coalesce(sum(count_missing), 0) AS missing, coalesce(sum(count_released), 0) AS released,
           coalesce(sum(cost_nanos), 0) AS cost_nanos,
           coalesce(sum(tokens_prompt), 0) AS tokens_prompt,
           coalesce(sum(tokens_candidates), 0) AS tokens_candidates,
           coalesce(sum(tokens_thoughts), 0) AS tokens_thoughts
    FROM submissions INDEXED BY submissions_run_id
    WHERE run_id IN (SELECT value FROM json_each(?1)) GROUP BY run_id, state";

async fn with_work(conn: &impl ConnectionTrait, found: Vec<runs::Model>) -> StateResult<Vec<Run>> {
    let ids = json_list(found.iter().map(|run| run.run_id.as_str()));
    let mut work: HashMap<String, Work> = HashMap::new();
    for row in rows::<WorkRow, 1>(conn, WORK, [ids]).await? {
        let stage = word("batches of a run", &row.state, BatchStage::parse)?;
        let work = work.entry(row.run_id).or_default();
        work.batches.push((stage, unsigned(row.batches)));
        for (sum, value) in [
            (&mut work.requests, row.requests),
            (&mut work.succeeded, row.succeeded),
            (&mut work.failed, row.failed),
            (&mut work.missing, row.missing),
            (&mut work.released, row.released),
            (&mut work.cost_nanos, row.cost_nanos),
            (&mut work.tokens_prompt, row.tokens_prompt),
            (&mut work.tokens_candidates, row.tokens_candidates),
            (&mut work.tokens_thoughts, row.tokens_thoughts),
        ] {
            *sum += unsigned(value);
        }
    }
    let runs = found.into_iter().map(|row| {
        let mut work = work.remove(&row.run_id).unwrap_or_default();
        work.batches.sort_unstable();
        run(row, work)
    });
    runs.collect()
}

fn run(row: runs::Model, work: Work) -> StateResult<Run> {
    let thing = format!("run '{}'", row.run_id);
    Ok(Run {
        status: word(&thing, &row.status, RunStatus::parse)?,
        restarts: unsigned(row.restarts),
        started_at: instant(&thing, &row.started_at)?,
        ended_at: maybe_instant(&thing, row.ended_at.as_deref())?,
        updated_at: instant(&thing, &row.updated_at)?,
        totals: totals(&thing, &row.totals)?,
        window: window(&thing, &row)?,
        label: row.label,
        scope: ScopeToken::from(row.scope),
        recipe: RecipeHash::from(row.recipe_hash),
        config: row.config_snapshot,
        config_sha256: Sha256Hex::from(row.config_sha256),
        run: RunId::from(row.run_id),
        work,
    })
}

fn window(thing: &str, row: &runs::Model) -> StateResult<Option<Window>> {
    let since = maybe_instant(thing, row.window_since.as_deref())?;
    let until = maybe_instant(thing, row.window_until.as_deref())?;
    Ok(since.zip(until).map(|(since, until)| Window {
        since,
        until,
        name: row.window_name.clone().unwrap_or_default(),
    }))
}

/// Totals by stage; a run that was adopted may have none.
fn totals(thing: &str, json: &str) -> StateResult<Vec<(PageStage, u64)>> {
    let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)
        .map_err(|fault| corrupt(thing.to_owned(), format!("totals: {fault}")))?;
    let mut totals = Vec::new();
    for (stage, count) in read {
        let count = count.as_u64().unwrap_or(0);
        totals.push((word(thing, &stage, PageStage::parse)?, count));
    }
    totals.sort_unstable();
    Ok(totals)
}

/// The questions of this file, for the tests of their plans.
pub const QUESTIONS: &[(&str, &str)] = &[
    ("runs", COUNT),
    ("runs beginning so", BEGINNING_SO),
    ("work of runs", WORK),
];
