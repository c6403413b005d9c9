//! The read side of `pagemill verify`: the state held against itself, and what the files are held
//! against. Reads only; one transaction is one consistent look.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, EntityTrait, FromQueryResult,
    TransactionTrait,
};

use entity::{reports, submissions};

use super::messages::{
    BatchRow, LineCounts, RawFile, Settled, StateError, StateRepair, StateResult,
};
use super::questions::batch_row;
use super::results::failed_pages;
use super::rows::{TokenSums, instant, word};
use super::sql::{first, json_list, maybe_text, number, rows, signed, text, unsigned};
use super::{audit_pages, audit_rows};
use crate::domain::attempt::Tally;
use crate::domain::batch::BatchStage;
use crate::domain::finding::FindingKind;
use crate::domain::ids::{BatchId, RecipeHash, RecordKey, Sha256Hex};
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// Something that is not as it should be, or a number of such things beyond those that are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: FindingKind,
    /// A key, a batch, a name; empty for things beyond the named ones.
    pub thing: String,
    pub detail: String,
    pub repair: Option<StateRepair>,
    /// Usually one.
    pub count: u64,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    pub pages: u64,
    pub events: u64,
    pub batches: u64,
}

/// Begins one consistent look.
pub async fn snapshot(connection: &DatabaseConnection) -> StateResult<DatabaseTransaction> {
    Ok(connection.begin().await?)
}

/// Ends it.
pub async fn end_snapshot(snapshot: DatabaseTransaction) -> StateResult<()> {
    Ok(snapshot.rollback().await?)
}

/// Holds the state against itself. `max_retries` is what the settings say today.
pub async fn check_state(
    snapshot: &DatabaseTransaction,
    max_retries: u32,
    tell: &mut dyn FnMut(Found),
) -> StateResult<Looked> {
    audit_rows::check_database(snapshot, tell).await?;
    audit_rows::check_tables(snapshot, max_retries, tell).await?;
    let (pages, events) = audit_pages::check_pages(snapshot, tell).await?;
    let batches = "SELECT count(*) FROM submissions";
    Ok(Looked {
        pages,
        events,
        batches: number(snapshot, batches, []).await?,
    })
}

/// A completed page, and what its file is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPage {
    pub key: RecordKey,
    pub output: Sha256Hex,
    pub recipe: Option<RecipeHash>,
    /// Whether a live batch still holds it.
    pub held: bool,
}

#[derive(FromQueryResult)]
struct CompletedRow {
    record_key: String,
    output_sha256: String,
    recipe_hash: Option<String>,
    held: i64,
}

#[derive(FromQueryResult)]
struct BookedRow {
    record_key: String,
    arrived_at: String,
}

/// The next pages that are booked to a window, by key, with when their labels arrived.
pub async fn booked_pages(
    conn: &impl ConnectionTrait,
    after: &str,
    limit: u64,
) -> StateResult<Vec<(RecordKey, String)>> {
    let found: Vec<BookedRow> = rows(
        conn,
        "SELECT record_key, arrived_at FROM pages
         WHERE record_key > ?1 AND window_name IS NOT NULL AND arrived_at IS NOT NULL
         ORDER BY record_key LIMIT ?2",
        [after.into(), signed(limit).into()],
    )
    .await?;
    let pages = found.into_iter();
    Ok(pages
        .map(|row| (RecordKey::from(row.record_key), row.arrived_at))
        .collect())
}

/// The next completed pages by key.
pub async fn completed_pages(
    conn: &impl ConnectionTrait,
    after: &str,
    limit: u64,
) -> StateResult<Vec<CompletedPage>> {
    let values = [after.into(), signed(limit).into()];
    let found: Vec<CompletedRow> = rows(conn, COMPLETED, values).await?;
    Ok(found.into_iter().map(completed_page).collect())
}

/// These of the pages that are completed, as they stand now.
pub async fn completed_again(
    conn: &impl ConnectionTrait,
    keys: &[RecordKey],
) -> StateResult<Vec<CompletedPage>> {
    let list = json_list(keys.iter().map(RecordKey::as_str));
    let found: Vec<CompletedRow> = rows(conn, COMPLETED_AGAIN, [list]).await?;
    Ok(found.into_iter().map(completed_page).collect())
}

fn completed_page(row: CompletedRow) -> CompletedPage {
    CompletedPage {
        key: RecordKey::from(row.record_key),
        output: Sha256Hex::from(row.output_sha256),
        recipe: row.recipe_hash.map(RecipeHash::from),
        held: row.held != 0,
    }
}

/// The plus keeps SQLite on the keys: they come in order, and nothing is sorted.
const COMPLETED: &str = "
    SELECT record_key, output_sha256, recipe_hash, batch_id IS NOT NULL AS held FROM pages
    WHERE +stage = 'completed' AND output_sha256 IS NOT NULL AND record_key > ?1
    ORDER BY record_key LIMIT ?2";

const COMPLETED_AGAIN: &str = "
    SELECT record_key, output_sha256, recipe_hash, batch_id IS NOT NULL AS held FROM pages
    WHERE record_key IN (SELECT value FROM json_each(?1))
      AND stage = 'completed' AND output_sha256 IS NOT NULL
    ORDER BY record_key";

/// The schema of a recipe, as text.
pub async fn schema_of(
    conn: &impl ConnectionTrait,
    recipe: &RecipeHash,
) -> StateResult<Option<String>> {
    let sql = "SELECT schema FROM recipes WHERE recipe_hash = ?1";
    maybe_text(conn, sql, [text(recipe)]).await
}

/// Where an accepted answer stands in the raw results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedLine {
    pub batch: BatchId,
    pub raw_path: String,
    pub offset: u64,
    pub bytes: u64,
}

#[derive(FromQueryResult)]
struct AcceptedLineRow {
    batch_id: String,
    raw_path: String,
    raw_line_offset: i64,
    raw_line_bytes: i64,
}

/// The accepted answers of a page, newest first.
pub async fn accepted_lines(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
) -> StateResult<Vec<AcceptedLine>> {
    let sql = "SELECT a.batch_id, s.raw_path, a.raw_line_offset, a.raw_line_bytes
               FROM attempts AS a JOIN submissions AS s ON s.batch_id = a.batch_id
               WHERE a.record_key = ?1 AND a.outcome = 'accepted' AND s.raw_path IS NOT NULL
                 AND a.raw_line_offset IS NOT NULL AND a.raw_line_bytes IS NOT NULL
               ORDER BY a.attempt_number DESC LIMIT 10";
    let found: Vec<AcceptedLineRow> = rows(conn, sql, [text(key)]).await?;
    let lines = found.into_iter().map(|row| AcceptedLine {
        batch: BatchId::from(row.batch_id),
        raw_path: row.raw_path,
        offset: unsigned(row.raw_line_offset),
        bytes: unsigned(row.raw_line_bytes),
    });
    Ok(lines.collect())
}

/// Where a page stands, for a file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub key: RecordKey,
    pub stage: PageStage,
    /// Whether a batch holds it.
    pub held: bool,
}

#[derive(FromQueryResult)]
struct StandingRow {
    record_key: String,
    stage: String,
    held: i64,
}

/// Those of these pages that are known.
pub async fn standings(
    conn: &impl ConnectionTrait,
    keys: &[RecordKey],
) -> StateResult<Vec<Standing>> {
    let list = json_list(keys.iter().map(RecordKey::as_str));
    let sql = "SELECT record_key, stage, batch_id IS NOT NULL AS held FROM pages
               WHERE record_key IN (SELECT value FROM json_each(?1))";
    let found: Vec<StandingRow> = rows(conn, sql, [list]).await?;
    let standings = found.into_iter().map(|row| {
        let thing = format!("page '{}'", row.record_key);
        Ok(Standing {
            stage: word(&thing, &row.stage, PageStage::parse)?,
            key: RecordKey::from(row.record_key),
            held: row.held != 0,
        })
    });
    standings.collect()
}

/// A batch, and what its files are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFiles {
    pub batch: BatchId,
    pub stage: BatchStage,
    pub raw: Option<RawFile>,
    /// The name of its report, once that was recorded.
    pub report: Option<String>,
    /// When its last change was recorded.
    pub updated_at: Timestamp,
}

#[derive(FromQueryResult)]
struct BatchFilesRow {
    batch_id: String,
    state: String,
    raw_path: Option<String>,
    raw_bytes: Option<i64>,
    raw_sha256: Option<String>,
    report: Option<String>,
    updated_at: String,
}

/// The next batches by id.
pub async fn batch_files(
    conn: &impl ConnectionTrait,
    after: &str,
    limit: u64,
) -> StateResult<Vec<BatchFiles>> {
    let sql = format!("{BATCH_FILES} WHERE s.batch_id > ?1 ORDER BY s.batch_id LIMIT ?2");
    let values = [after.into(), signed(limit).into()];
    let found: Vec<BatchFilesRow> = rows(conn, &sql, values).await?;
    found.into_iter().map(batch_files_of).collect()
}

/// One batch, as it stands now.
pub async fn batch_again(
    conn: &impl ConnectionTrait,
    batch: &BatchId,
) -> StateResult<Option<BatchFiles>> {
    let sql = format!("{BATCH_FILES} WHERE s.batch_id = ?1");
    let found: Option<BatchFilesRow> = first(conn, &sql, [text(batch)]).await?;
    found.map(batch_files_of).transpose()
}

const BATCH_FILES: &str = "
    SELECT s.batch_id, s.state, s.raw_path, s.raw_bytes, s.raw_sha256,
           r.name AS report, s.updated_at
    FROM submissions AS s LEFT JOIN reports AS r ON r.batch_id = s.batch_id";

fn batch_files_of(row: BatchFilesRow) -> StateResult<BatchFiles> {
    let thing = format!("batch '{}'", row.batch_id);
    let raw = match (row.raw_path, row.raw_bytes, row.raw_sha256) {
        (Some(path), Some(bytes), Some(sha256)) => Some(RawFile {
            path,
            bytes: unsigned(bytes),
            sha256: Sha256Hex::from(sha256),
        }),
        _ => None,
    };
    Ok(BatchFiles {
        stage: word(&thing, &row.state, BatchStage::parse)?,
        updated_at: instant(&thing, &row.updated_at)?,
        batch: BatchId::from(row.batch_id),
        raw,
        report: row.report,
    })
}

/// How far a batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStanding {
    pub batch: BatchId,
    pub stage: BatchStage,
    /// When it was closed, or submitted, or planned.
    pub stepped_at: Timestamp,
}

impl BatchStanding {
    /// Whether its request lines may still be sent.
    pub fn needs_lines(&self) -> bool {
        match self.stage {
            BatchStage::Planned | BatchStage::Submitting | BatchStage::InDoubt => true,
            BatchStage::Submitted
            | BatchStage::Ready
            | BatchStage::Settled
            | BatchStage::Abandoned => false,
        }
    }
}

#[derive(FromQueryResult)]
struct BatchStandingRow {
    batch_id: String,
    state: String,
    stepped_at: String,
}

/// Those of these batches that are known.
pub async fn batch_stages(
    conn: &impl ConnectionTrait,
    batches: &[BatchId],
) -> StateResult<Vec<BatchStanding>> {
    let list = json_list(batches.iter().map(BatchId::as_str));
    let sql = "SELECT batch_id, state, coalesce(closed_at, submitted_at, created_at) AS stepped_at
               FROM submissions WHERE batch_id IN (SELECT value FROM json_each(?1))";
    let found: Vec<BatchStandingRow> = rows(conn, sql, [list]).await?;
    let standings = found.into_iter().map(|row| {
        let thing = format!("batch '{}'", row.batch_id);
        Ok(BatchStanding {
            stage: word(&thing, &row.state, BatchStage::parse)?,
            stepped_at: instant(&thing, &row.stepped_at)?,
            batch: BatchId::from(row.batch_id),
        })
    });
    standings.collect()
}

/// A settled batch as its report tells of it, from the rows.
#[derive(Debug, Clone)]
pub struct ReportRows {
    pub row: BatchRow,
    pub settled: Settled,
    pub lines: LineCounts,
    pub settled_at: Timestamp,
    /// The report, if it was recorded.
    pub recorded: Option<(String, String)>,
}

/// Reads what the report of a settled batch needs. The failures of its pages are counted as they
/// stand now.
pub async fn report_rows(conn: &impl ConnectionTrait, batch: &BatchId) -> StateResult<ReportRows> {
    let missing = || StateError::Missing(format!("settled batch '{batch}'"));
    let model = submissions::Entity::find_by_id(batch.as_str())
        .one(conn)
        .await?;
    let model = model.ok_or_else(missing)?;
    let closed_at = model.closed_at.clone().ok_or_else(missing)?;
    let count = |column: Option<i64>| unsigned(column.unwrap_or(0));
    let tally = Tally {
        submitted: count(model.count_submitted),
        succeeded: count(model.count_succeeded),
        failed: count(model.count_failed),
        missing: count(model.count_missing),
        released: count(model.count_released),
        open: 0,
    };
    let lines = LineCounts {
        lines: count(model.lines_total),
        foreign: count(model.lines_foreign),
        unreadable: count(model.lines_unreadable),
        repeated: count(model.lines_repeated),
    };
    let sums = "SELECT tokens_prompt, tokens_cached, tokens_candidates, tokens_thoughts,
                       tokens_total, cost_nanos FROM submissions WHERE batch_id = ?1";
    let sums: Option<TokenSums> = first(conn, sums, [text(batch)]).await?;
    let recorded = reports::Entity::find_by_id(batch.as_str())
        .one(conn)
        .await?;
    Ok(ReportRows {
        settled: Settled {
            tally,
            failed: failed_pages(conn, batch).await?,
            released: 0,
            tokens: sums.unwrap_or_default().tokens(),
        },
        lines,
        settled_at: instant(&format!("batch '{batch}'"), &closed_at)?,
        recorded: recorded.map(|report| (report.name, report.markdown)),
        row: batch_row(model, &std::collections::HashMap::new())?,
    })
}
