//! Which pages are in a stage.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::messages::StateResult;
use super::rows::{instant, maybe_instant, word};
use super::selection::condition;
use super::sql::{rows, signed, unsigned};
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RecordKey};
use crate::domain::page::PageStage;
use crate::domain::selection::{LevelChoice, LevelFilter, Selection};
use crate::domain::time::Timestamp;

/// Where more pages than these are in a stage, a part of the tree is walked rather than the stage.
const STAGE_WALKED_MAX: u64 = 20_000;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPage {
    pub key: RecordKey,
    pub stage: PageStage,
    /// The sentence that its last change left.
    pub status: String,
    pub error: Option<ErrorType>,
    pub waits_for: Option<RecordKey>,
    pub not_before: Option<Timestamp>,
    pub batch: Option<BatchId>,
    /// Failures counted against it so far.
    pub failures: u64,
    pub updated_at: Timestamp,
}

#[derive(FromQueryResult)]
struct ListedRow {
    record_key: String,
    stage: String,
    status: String,
    error: Option<String>,
    waits_for: Option<String>,
    not_before: Option<String>,
    batch_id: Option<String>,
    failures: i64,
    updated_at: String,
}

const COLUMNS: &str = "
    SELECT p.record_key, p.stage, p.status, p.error, p.waits_for, p.not_before, p.batch_id,
           coalesce((SELECT c.count FROM failure_counts AS c WHERE c.record_key = p.record_key), 0)
               AS failures,
           p.updated_at";

/// In the order in which they came to the work list, which the index on stages has.
const OF_STAGE: &str = "
    FROM pages AS p INDEXED BY pages_stage WHERE p.stage = ?1";
const OF_STAGE_ORDER: &str = "ORDER BY p.scope, p.rowid LIMIT ?2";

/// By key, which the primary key has.
const OF_TREE: &str = "
    FROM pages AS p WHERE +p.stage = ?1";
const OF_TREE_ORDER: &str = "ORDER BY p.record_key LIMIT ?2";

/// Lists pages of a stage, at most `limit`. `in_stage` is how many pages the stage has: a small one
/// is looked through for the selection, in a large one the selection is looked through for the stage.
pub async fn list_stage(
    conn: &impl ConnectionTrait,
    stage: PageStage,
    in_stage: u64,
    selection: &Selection,
    limit: u64,
) -> StateResult<Vec<ListedPage>> {
    let by_tree =
        !selection.keys.is_empty() || (in_stage > STAGE_WALKED_MAX && names_one_part(selection));
    let sql = statement(selection, by_tree);
    let value = condition(selection, 3).value;
    let values = [stage.as_str().into(), signed(limit).into(), value];
    let found: Vec<ListedRow> = rows(conn, &sql, values).await?;
    found.into_iter().map(listed).collect()
}

fn statement(selection: &Selection, by_tree: bool) -> String {
    let (from, order) = if by_tree {
        (OF_TREE, OF_TREE_ORDER)
    } else {
        (OF_STAGE, OF_STAGE_ORDER)
    };
    let condition = condition(selection, 3).sql;
    format!("{COLUMNS}{from} AND {condition} {order}")
}

/// Whether the selection is one part of the tree, whose keys stand together.
fn names_one_part(selection: &Selection) -> bool {
    selection.choices.iter().any(|choice| {
        choice.place == 0 && matches!(&choice.filter, LevelFilter::OneOf(names) if names.len() == 1)
    })
}

fn listed(row: ListedRow) -> StateResult<ListedPage> {
    let thing = format!("page '{}'", row.record_key);
    let error = row.error.as_deref();
    Ok(ListedPage {
        stage: word(&thing, &row.stage, PageStage::parse)?,
        error: error
            .map(|error| word(&thing, error, ErrorType::parse))
            .transpose()?,
        not_before: maybe_instant(&thing, row.not_before.as_deref())?,
        updated_at: instant(&thing, &row.updated_at)?,
        status: row.status,
        waits_for: row.waits_for.map(RecordKey::from),
        batch: row.batch_id.map(BatchId::from),
        failures: unsigned(row.failures),
        key: RecordKey::from(row.record_key),
    })
}

/// The questions of this file as they are asked, for the tests of their plans.
pub fn questions() -> Vec<(&'static str, String)> {
    let year = LevelChoice {
        name: "year".to_owned(),
        place: 2,
        filter: LevelFilter::Range { start: 0, end: 1 },
    };
    let state = LevelChoice {
        name: "state".to_owned(),
        place: 0,
        filter: LevelFilter::OneOf(vec!["Ohio".to_owned()]),
    };
    let some = |choices| Selection {
        keys: Vec::new(),
        choices,
    };
    let named = Selection::of_key(RecordKey::from("Ohio:1"));
    vec![
        ("pages of a stage", statement(&Selection::default(), false)),
        ("pages of some years", statement(&some(vec![year]), false)),
        ("pages of a state", statement(&some(vec![state]), true)),
        ("named pages", statement(&named, true)),
    ]
}
