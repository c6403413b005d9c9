//! Reading beside a running process: connections that cannot write, and the figures they give.

use std::path::Path;

use sea_orm::{ConnectionTrait, DatabaseConnection, EntityTrait, FromQueryResult, QueryOrder};

use entity::runs;

use super::messages::{HaltRow, KnownPage, RunStatus, StateResult, Summary};
use super::open::{Found, OpenError, connect_read_only, inspect};
use super::questions::{LIVE_STAGES, counts, list_batches, stage_counts, waiting_counts};
use super::rows::{TOKEN_SUMS, TokenSums, corrupt, instant, maybe_instant, word};
use super::sql::{first, maybe_text, number, rows, signed, text, unsigned};
use crate::domain::batch::BatchStage;
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RecordKey, RunId, ScopeToken};
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// Live batches that a summary lists.
const LIVE_LISTED_MAX: u64 = 100;

/// Opens a database that exists for reading only. Needs no lock: it may run beside the one process
/// that writes.
pub async fn open_read_only(path: &Path) -> Result<DatabaseConnection, OpenError> {
    match inspect(path).await? {
        Found::Ours { pending: false } => {}
        Found::Ours { pending: true } => {
            return Err(OpenError::Older {
                path: path.to_owned(),
            });
        }
        Found::Nothing => {
            return Err(OpenError::Missing {
                path: path.to_owned(),
            });
        }
    }
    open_as_it_is(path).await
}

/// The same without asking whether its shape is today's: for what looks at names and counts alone.
pub async fn open_as_it_is(path: &Path) -> Result<DatabaseConnection, OpenError> {
    let connection = connect_read_only(path).await;
    connection.map_err(|error| OpenError::Unusable {
        path: path.to_owned(),
        fault: error.to_string(),
    })
}

/// The open halts, oldest first.
pub async fn open_halts(conn: &impl ConnectionTrait) -> StateResult<Vec<HaltRow>> {
    super::halts::open_halts(conn).await
}

/// Whether a page is known.
pub async fn knows_page(conn: &impl ConnectionTrait, key: &RecordKey) -> StateResult<bool> {
    let sql = "SELECT count(*) FROM pages WHERE record_key = ?1";
    Ok(number(conn, sql, [text(key)]).await? > 0)
}

/// Reads the whole database through; gives the words of the first damage.
pub async fn damage(conn: &impl ConnectionTrait) -> StateResult<Option<String>> {
    let words = super::sql::texts(conn, "PRAGMA quick_check(1)", []).await?;
    Ok((words != ["ok"]).then(|| words.join(" ")))
}

/// The key fingerprints that batches with the provider (or perhaps there) were made under, and how
/// many of each.
pub async fn keys_in_use(conn: &impl ConnectionTrait) -> StateResult<Vec<(String, u64)>> {
    let sql = "SELECT key_fingerprint AS word, count(*) AS count FROM submissions
               WHERE state IN ('submitting','in doubt','submitted','ready')
               GROUP BY key_fingerprint ORDER BY 1";
    counts(conn, sql, []).await
}

/// The figures of `pagemill status`, for one scope or for all.
pub async fn summarize(
    conn: &impl ConnectionTrait,
    scope: Option<&ScopeToken>,
    at: Timestamp,
) -> StateResult<Summary> {
    let (blocked, waiting) = waiting_counts(conn, scope, at).await?;
    let held = "SELECT count(*) FROM remote_files
                WHERE state IN ('live','deleting','undeletable') AND expires_at > ?1";
    let sums = all_sums(conn).await?;
    let last = "SELECT at FROM page_events ORDER BY id DESC LIMIT 1";
    let last_event_at = maybe_text(conn, last, []).await?;
    let oddities = "SELECT kind AS word, count(*) AS count FROM scan_oddities GROUP BY kind";
    let (late_jobs, paid_twice) = super::late::late_sums(conn).await?;
    Ok(Summary {
        pages: stage_counts(conn, scope).await?,
        blocked,
        waiting,
        batches: batch_counts(conn).await?,
        live: list_batches(conn, &LIVE_STAGES, LIVE_LISTED_MAX).await?,
        turnarounds: super::turnaround::turnarounds(conn, at).await?,
        remote_files: number(conn, held, [text(at)]).await?,
        remote_bytes: super::remote_files::held_bytes(conn, at).await?,
        failures: failures_by_type(conn).await?,
        oddities: counts(conn, oddities, []).await?,
        cost_nanos: unsigned(sums.cost_nanos.unwrap_or(0)),
        tokens: sums.tokens(),
        last_event_at: maybe_instant("the last event", last_event_at.as_deref())?,
        halts: super::halts::open_halts(conn).await?,
        unreachable: unreachable(conn).await?,
        late_jobs,
        paid_twice,
        paces: super::paces::paces(conn).await?,
        run: latest_run(conn).await?,
    })
}

#[derive(FromQueryResult)]
struct UnreachableRow {
    batch_id: String,
    unreachable_since: String,
}

async fn unreachable(conn: &impl ConnectionTrait) -> StateResult<Vec<(BatchId, Timestamp)>> {
    let found: Vec<UnreachableRow> = rows(
        conn,
        "SELECT batch_id, unreachable_since FROM submissions
         WHERE state = 'submitted' AND unreachable_since IS NOT NULL ORDER BY unreachable_since",
        [],
    )
    .await?;
    let batches = found.into_iter().map(|row| {
        let since = instant("an unreachable batch", &row.unreachable_since)?;
        Ok((BatchId::from(row.batch_id), since))
    });
    batches.collect()
}

/// Closed batches carry their sums; only the open ones are added up from their attempts.
async fn all_sums(conn: &impl ConnectionTrait) -> StateResult<TokenSums> {
    let columns = "tokens_prompt, tokens_cached, tokens_candidates, tokens_thoughts, \
                   tokens_total, cost_nanos";
    let sql = format!(
        "SELECT {TOKEN_SUMS} FROM (
             SELECT {columns} FROM submissions WHERE state IN ('settled','abandoned')
             UNION ALL
             SELECT {columns} FROM attempts WHERE batch_id IN (
                 SELECT batch_id FROM submissions
                 WHERE state IN ('planned','submitting','in doubt','submitted','ready')))"
    );
    Ok(first(conn, &sql, []).await?.unwrap_or_default())
}

async fn batch_counts(conn: &impl ConnectionTrait) -> StateResult<Vec<(BatchStage, u64)>> {
    let sql = "SELECT state AS word, count(*) AS count FROM submissions GROUP BY state";
    let mut found = Vec::new();
    for (state, count) in counts(conn, sql, []).await? {
        found.push((word("batches", &state, BatchStage::parse)?, count));
    }
    found.sort_unstable();
    Ok(found)
}

async fn failures_by_type(conn: &impl ConnectionTrait) -> StateResult<Vec<(ErrorType, u64)>> {
    let sql = "SELECT error_type AS word, count(*) AS count FROM failure_logs GROUP BY error_type";
    let mut found = Vec::new();
    for (error, count) in counts(conn, sql, []).await? {
        found.push((word("failures", &error, ErrorType::parse)?, count));
    }
    found.sort_unstable();
    Ok(found)
}

async fn latest_run(
    conn: &impl ConnectionTrait,
) -> StateResult<Option<(RunId, RunStatus, Timestamp)>> {
    let run = runs::Entity::find()
        .order_by_desc(runs::Column::UpdatedAt)
        .one(conn)
        .await?;
    let Some(run) = run else {
        return Ok(None);
    };
    let thing = format!("run '{}'", run.run_id);
    let status = word(&thing, &run.status, RunStatus::parse)?;
    let started_at = instant(&thing, &run.started_at)?;
    Ok(Some((RunId::from(run.run_id), status, started_at)))
}

/// The known pages of some books, by key; for saying what a run would do.
pub async fn pages_of_books(
    conn: &impl ConnectionTrait,
    books: &[String],
) -> StateResult<Vec<KnownPage>> {
    super::scan::pages_of_books(conn, books).await
}

/// What `pagemill failures --summary` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureSummary {
    /// Failures logged.
    pub total: u64,
    /// Those of them that count against their page.
    pub counted: u64,
    /// Pages with at least one.
    pub pages: u64,
    /// Pages that are dead or wait for a person.
    pub dead: u64,
    pub review: u64,
    /// Most frequent first.
    pub by_type: Vec<(ErrorType, u64)>,
    /// Failures by the level of the layout asked for (its place, from 0), most frequent first.
    pub by_level: Vec<(String, u64)>,
    /// The newest, newest first.
    pub latest: Vec<FailureLine>,
}

/// One failure in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureLine {
    pub key: RecordKey,
    /// Absent outside of batches.
    pub batch: Option<BatchId>,
    pub attempt_number: u64,
    pub error: ErrorType,
    pub message: String,
    pub counted: bool,
    /// Failures counted against the page so far.
    pub failures: u64,
    pub stage: Option<PageStage>,
    pub at: Timestamp,
}

#[derive(FromQueryResult)]
struct FailureRow {
    record_key: String,
    batch_id: String,
    attempt_number: i64,
    error_type: String,
    error_message: String,
    counted: i64,
    failures: i64,
    stage: Option<String>,
    created_at: String,
}

/// The figures of `pagemill failures --summary`: `level` names a place in the layout (0 is the
/// outermost), `latest` how many of the newest are listed.
pub async fn failure_summary(
    conn: &impl ConnectionTrait,
    level: Option<u32>,
    latest: u64,
) -> StateResult<FailureSummary> {
    let mut by_type = failures_by_type(conn).await?;
    by_type.sort_by_key(|(error, count)| (std::cmp::Reverse(*count), *error));
    let by_level = match level {
        Some(level) => counts(conn, BY_LEVEL, [format!("$[{level}]").into()]).await?,
        None => Vec::new(),
    };
    let stage = "SELECT count(*) FROM pages WHERE stage = ?1";
    let found: Vec<FailureRow> = rows(conn, LATEST, [signed(latest).into()]).await?;
    let lines: StateResult<Vec<FailureLine>> = found.into_iter().map(failure_line).collect();
    Ok(FailureSummary {
        total: by_type.iter().map(|(_error, count)| count).sum(),
        counted: number(conn, "SELECT sum(counted) FROM failure_logs", []).await?,
        pages: number(
            conn,
            "SELECT count(DISTINCT record_key) FROM failure_logs",
            [],
        )
        .await?,
        dead: number(conn, stage, [PageStage::Dead.as_str().into()]).await?,
        review: number(conn, stage, [PageStage::Review.as_str().into()]).await?,
        by_type,
        by_level,
        latest: lines?,
    })
}

const BY_LEVEL: &str = "
    SELECT coalesce(json_extract(p.levels, ?1), '') AS word, count(*) AS count
    FROM failure_logs AS l JOIN pages AS p ON p.record_key = l.record_key
    GROUP BY 1 ORDER BY 2 DESC, 1";

const LATEST: &str = "
    SELECT l.record_key, l.batch_id, l.attempt_number, l.error_type, l.error_message, l.counted,
           coalesce(c.count, 0) AS failures, p.stage, l.created_at
    FROM (SELECT * FROM failure_logs ORDER BY id DESC LIMIT ?1) AS l
    LEFT JOIN failure_counts AS c ON c.record_key = l.record_key
    LEFT JOIN pages AS p ON p.record_key = l.record_key
    ORDER BY l.id DESC";

fn failure_line(row: FailureRow) -> StateResult<FailureLine> {
    let thing = format!("failure of page '{}'", row.record_key);
    if row.record_key.is_empty() {
        return Err(corrupt(thing, "record_key is empty"));
    }
    let stage = row.stage.as_deref();
    Ok(FailureLine {
        batch: (!row.batch_id.is_empty()).then(|| BatchId::from(row.batch_id.as_str())),
        attempt_number: unsigned(row.attempt_number),
        error: word(&thing, &row.error_type, ErrorType::parse)?,
        message: row.error_message,
        counted: row.counted == 1,
        failures: unsigned(row.failures),
        stage: stage
            .map(|stage| word(&thing, stage, PageStage::parse))
            .transpose()?,
        at: instant(&thing, &row.created_at)?,
        key: RecordKey::from(row.record_key),
    })
}
