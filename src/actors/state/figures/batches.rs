//! Figures that are added up batch by batch.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::{BOOKED_AT, Booked};
use crate::actors::state::messages::StateResult;
use crate::actors::state::rows::{TokenSums, instant, maybe_instant, word};
use crate::actors::state::sql::{as_u64, json_list, rows, signed, unsigned};
use crate::actors::state::tallies::{tally, token_sums};
use crate::actors::state::turnaround::percentile;
use crate::domain::attempt::Tally;
use crate::domain::batch::BatchStage;
use crate::domain::figures::{Carried, RecipeSums, Sums, Took};
use crate::domain::ids::{BatchId, RecipeHash};
use crate::domain::period::Parts;
use crate::domain::time::Timestamp;

/// Batches that are read in one question.
const BATCHES_TOGETHER: u64 = 1_000;

/// What is added up batch by batch.
pub(super) struct Book {
    pub sums: Sums,
    pub stages: BTreeMap<BatchStage, u64>,
    took: Vec<Duration>,
    pub parts: Parts,
    pub by_part: Vec<Sums>,
    by_recipe: BTreeMap<(String, String), Sums>,
    pub results: Carried,
}

impl Book {
    pub fn new(parts: Parts) -> Self {
        Book {
            sums: Sums::default(),
            stages: BTreeMap::new(),
            took: Vec::new(),
            by_part: vec![Sums::default(); parts.parts.len()],
            parts,
            by_recipe: BTreeMap::new(),
            results: Carried::default(),
        }
    }

    pub fn took(&mut self) -> Took {
        self.took.sort_unstable();
        Took {
            ended: as_u64(self.took.len()),
            shortest: self.took.first().copied(),
            half: percentile(&self.took, 50),
            nine_tenths: percentile(&self.took, 90),
            longest: self.took.last().copied(),
        }
    }
}

#[derive(FromQueryResult)]
struct BatchRow {
    batch_id: String,
    state: String,
    recipe_hash: String,
    model: String,
    booked_at: String,
    submitted_at: Option<String>,
    ended_at: Option<String>,
    raw_bytes: Option<i64>,
    count_submitted: Option<i64>,
    count_succeeded: Option<i64>,
    count_failed: Option<i64>,
    count_missing: Option<i64>,
    count_released: Option<i64>,
}

pub(super) async fn read(
    conn: &impl ConnectionTrait,
    booked: &Booked,
    book: &mut Book,
) -> StateResult<()> {
    let sql = question(booked);
    let mut after = (String::new(), String::new());
    loop {
        let [one, two] = booked.values();
        let values = [
            one,
            two,
            after.0.into(),
            after.1.into(),
            signed(BATCHES_TOGETHER).into(),
        ];
        let found: Vec<SummedBatch> = rows(conn, &sql, values).await?;
        let Some(last) = found.last() else {
            return Ok(());
        };
        after = (last.row.booked_at.clone(), last.row.batch_id.clone());
        for SummedBatch { row, closed } in found {
            let thing = format!("batch '{}'", row.batch_id);
            let stage = word(&thing, &row.state, BatchStage::parse)?;
            let sums = sums_of(conn, &row, closed).await?;
            let booked_at = instant(&thing, &row.booked_at)?;
            let submitted = maybe_instant(&thing, row.submitted_at.as_deref())?;
            let ended = maybe_instant(&thing, row.ended_at.as_deref())?;
            add_batch(book, row, stage, &sums, booked_at, submitted.zip(ended));
        }
    }
}

pub(super) fn question(booked: &Booked) -> String {
    format!(
        "SELECT batch_id, state, recipe_hash, model, {BOOKED_AT} AS booked_at, submitted_at,
                CASE WHEN terminal_seen_at IS NOT NULL
                     THEN coalesce(ended_at, terminal_seen_at) END AS ended_at,
                raw_bytes, count_submitted, count_succeeded, count_failed, count_missing,
                count_released,
                tokens_prompt, tokens_cached, tokens_candidates, tokens_thoughts, tokens_total,
                cost_nanos
         FROM submissions
         WHERE {} AND ({BOOKED_AT}, batch_id) > (?3, ?4) ORDER BY {BOOKED_AT}, batch_id LIMIT ?5",
        booked.condition
    )
}

/// A batch with the sums that it carries once it is closed.
struct SummedBatch {
    row: BatchRow,
    closed: TokenSums,
}

impl FromQueryResult for SummedBatch {
    fn from_query_result(
        result: &sea_orm::QueryResult,
        prefix: &str,
    ) -> Result<Self, sea_orm::DbErr> {
        Ok(SummedBatch {
            row: BatchRow::from_query_result(result, prefix)?,
            closed: TokenSums::from_query_result(result, prefix)?,
        })
    }
}

fn add_batch(
    book: &mut Book,
    row: BatchRow,
    stage: BatchStage,
    sums: &Sums,
    booked_at: Timestamp,
    job: Option<(Timestamp, Timestamp)>,
) {
    book.sums.add(sums);
    *book.stages.entry(stage).or_insert(0) += 1;
    if let Some((submitted, ended)) = job {
        book.took.push(ended.since(submitted));
    }
    if let Some(place) = book.parts.place(booked_at) {
        book.by_part[place].add(sums);
    }
    if let Some(bytes) = row.raw_bytes {
        book.results.files += 1;
        book.results.bytes += unsigned(bytes);
    }
    let recipe = book.by_recipe.entry((row.recipe_hash, row.model));
    recipe.or_default().add(sums);
}

/// Only open batches are added up from their requests.
async fn sums_of(
    conn: &impl ConnectionTrait,
    row: &BatchRow,
    closed: TokenSums,
) -> StateResult<Sums> {
    let count = |column: Option<i64>| unsigned(column.unwrap_or(0));
    let batch = BatchId::from(row.batch_id.as_str());
    let (tally, sums) = if row.count_submitted.is_some() {
        let tally = Tally {
            submitted: count(row.count_submitted),
            succeeded: count(row.count_succeeded),
            failed: count(row.count_failed),
            missing: count(row.count_missing),
            released: count(row.count_released),
            open: 0,
        };
        (tally, closed)
    } else {
        (tally(conn, &batch).await?, token_sums(conn, &batch).await?)
    };
    Ok(Sums {
        batches: 1,
        tally,
        tokens: sums.tokens(),
        cost_nanos: count(sums.cost_nanos),
    })
}

#[derive(FromQueryResult)]
struct RecipeRow {
    recipe_hash: String,
    prompt_name: String,
}

pub(super) async fn recipes(
    conn: &impl ConnectionTrait,
    book: &Book,
) -> StateResult<Vec<RecipeSums>> {
    let hashes = book.by_recipe.keys().map(|(hash, _model)| hash.as_str());
    let sql = "SELECT recipe_hash, prompt_name FROM recipes
               WHERE recipe_hash IN (SELECT value FROM json_each(?1))";
    let names: Vec<RecipeRow> = rows(conn, sql, [json_list(hashes)]).await?;
    let names: BTreeMap<String, String> = names
        .into_iter()
        .map(|row| (row.recipe_hash, row.prompt_name))
        .collect();
    let mut recipes: Vec<RecipeSums> = book
        .by_recipe
        .iter()
        .map(|((hash, model), sums)| RecipeSums {
            recipe: RecipeHash::from(hash.as_str()),
            prompt_name: names.get(hash).cloned().unwrap_or_default(),
            model: model.clone(),
            sums: *sums,
        })
        .collect();
    recipes.sort_by_key(|recipe| std::cmp::Reverse(recipe.sums.tally.submitted));
    Ok(recipes)
}
