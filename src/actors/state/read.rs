//! Reading beside a running process: connections that cannot write, and the figures they give.

use std::path::Path;

use sea_orm::{ConnectionTrait, DatabaseConnection, EntityTrait, FromQueryResult, QueryOrder};

use entity::runs;

use super::messages::{HaltRow, KnownPage, RunStatus, StateResult, Summary};
use super::open::{Found, OpenError, connect_read_only, inspect};
use super::questions::{
    LIVE_STAGES, counts, list_batches, stage_counts, waiting_count, waiting_counts,
};
use super::rows::{TOKEN_SUMS, TokenSums, instant, maybe_instant, word};
use super::sql::{first, maybe_text, number, rows, text, unsigned};
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
    let counts = waiting_counts(conn, scope, at).await?;
    summarize_with(conn, scope, at, counts).await
}

/// The same for all scopes, where the blocked pages were counted already: on a large state that
/// takes its time.
pub async fn summarize_counted(
    conn: &impl ConnectionTrait,
    at: Timestamp,
    blocked: u64,
) -> StateResult<Summary> {
    let waiting = waiting_count(conn, None, at).await?;
    summarize_with(conn, None, at, (blocked, waiting)).await
}

async fn summarize_with(
    conn: &impl ConnectionTrait,
    scope: Option<&ScopeToken>,
    at: Timestamp,
    (blocked, waiting): (u64, u64),
) -> StateResult<Summary> {
    let sums = all_sums(conn).await?;
    let last_event_at = maybe_text(conn, LAST_EVENT, []).await?;
    let (late_jobs, paid_twice) = super::late::late_sums(conn).await?;
    Ok(Summary {
        pages: stage_counts(conn, scope).await?,
        blocked,
        waiting,
        batches: batch_counts(conn).await?,
        live: list_batches(conn, &LIVE_STAGES, LIVE_LISTED_MAX).await?,
        turnarounds: super::turnaround::turnarounds(conn, at).await?,
        remote_files: number(conn, HELD_FILES, [text(at)]).await?,
        remote_bytes: super::remote_files::held_bytes(conn, at).await?,
        failures: failures_by_type(conn).await?,
        oddities: counts(conn, ODDITIES, []).await?,
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

const HELD_FILES: &str = "
    SELECT count(*) FROM remote_files
    WHERE state IN ('live','deleting','undeletable') AND expires_at > ?1";

const LAST_EVENT: &str = "SELECT at FROM page_events ORDER BY id DESC LIMIT 1";

const ODDITIES: &str = "SELECT kind AS word, count(*) AS count FROM scan_oddities GROUP BY kind";

const UNREACHABLE: &str = "
    SELECT batch_id, unreachable_since FROM submissions
    WHERE state = 'submitted' AND unreachable_since IS NOT NULL ORDER BY unreachable_since";

const BATCHES: &str = "SELECT state AS word, count(*) AS count FROM submissions GROUP BY state";

const FAILURES: &str =
    "SELECT error_type AS word, count(*) AS count FROM failure_logs GROUP BY error_type";

/// The questions of a summary, for the tests of their plans.
pub fn questions() -> Vec<(&'static str, String)> {
    let fixed = [
        ("stages", super::questions::STAGES),
        ("blocked in all", super::questions::BLOCKED),
        ("waiting in all", super::questions::WAITING),
        ("held files", HELD_FILES),
        ("held bytes", super::remote_files::HELD_BYTES),
        ("last event", LAST_EVENT),
        ("oddities", ODDITIES),
        ("unreachable", UNREACHABLE),
        ("batches by state", BATCHES),
        ("failures by type", FAILURES),
        ("jobs", super::turnaround::JOBS),
    ];
    let mut all = fixed.map(|(name, sql)| (name, sql.to_owned())).to_vec();
    all.push(("sums", sums_sql()));
    all
}

#[derive(FromQueryResult)]
struct UnreachableRow {
    batch_id: String,
    unreachable_since: String,
}

pub(super) async fn unreachable(
    conn: &impl ConnectionTrait,
) -> StateResult<Vec<(BatchId, Timestamp)>> {
    let found: Vec<UnreachableRow> = rows(conn, UNREACHABLE, []).await?;
    let batches = found.into_iter().map(|row| {
        let since = instant("an unreachable batch", &row.unreachable_since)?;
        Ok((BatchId::from(row.batch_id), since))
    });
    batches.collect()
}

/// Closed batches carry their sums; only the open ones are added up from their attempts.
async fn all_sums(conn: &impl ConnectionTrait) -> StateResult<TokenSums> {
    Ok(first(conn, &sums_sql(), []).await?.unwrap_or_default())
}

fn sums_sql() -> String {
    let columns = "tokens_prompt, tokens_cached, tokens_candidates, tokens_thoughts, \
                   tokens_total, cost_nanos";
    format!(
        "SELECT {TOKEN_SUMS} FROM (
             SELECT {columns} FROM submissions WHERE state IN ('settled','abandoned')
             UNION ALL
             SELECT {columns} FROM attempts WHERE batch_id IN (
                 SELECT batch_id FROM submissions
                 WHERE state IN ('planned','submitting','in doubt','submitted','ready')))"
    )
}

async fn batch_counts(conn: &impl ConnectionTrait) -> StateResult<Vec<(BatchStage, u64)>> {
    let mut found = Vec::new();
    for (state, count) in counts(conn, BATCHES, []).await? {
        found.push((word("batches", &state, BatchStage::parse)?, count));
    }
    found.sort_unstable();
    Ok(found)
}

async fn failures_by_type(conn: &impl ConnectionTrait) -> StateResult<Vec<(ErrorType, u64)>> {
    let mut found = Vec::new();
    for (error, count) in counts(conn, FAILURES, []).await? {
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

/// How many pages are in each stage, zeros included.
pub async fn pages_by_stage(conn: &impl ConnectionTrait) -> StateResult<Vec<(PageStage, u64)>> {
    stage_counts(conn, None).await
}

/// The known pages of some books, by key; for saying what a run would do.
pub async fn pages_of_books(
    conn: &impl ConnectionTrait,
    books: &[String],
) -> StateResult<Vec<KnownPage>> {
    super::scan::pages_of_books(conn, books).await
}
