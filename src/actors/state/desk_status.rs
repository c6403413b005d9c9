//! What `pagemill status` asks beyond the summary: why pages are where they are, how fast outputs
//! come, how long stages take, and which pages are in a stage.
//!
//! Reads beside a running process. What is counted over all pages is counted from covering indexes.

use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult};

use entity::runs;

use super::messages::{RunStatus, StateResult};
use super::questions;
use super::rows::{instant, maybe_instant, word};
use super::sql::{first, number, rows, text, unsigned};
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RunId, ScopeToken};
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// How far back outputs are counted for the throughput.
const PACE_SPAN: Duration = Duration::from_secs(24 * 3_600);

/// What the settings say about which pages may run.
#[derive(Debug, Clone)]
pub struct Terms {
    pub scope: ScopeToken,
    /// Whether a page waits for the page before it.
    pub chained: bool,
    /// After what time results that are not on our disk are an alarm.
    pub uncollected_after: Duration,
}

/// The latest run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestRun {
    pub run: RunId,
    pub label: Option<String>,
    pub status: RunStatus,
    /// How often its work was taken up again.
    pub restarts: u64,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// The name of its window, if it has one.
    pub window: Option<String>,
}

/// How fast outputs were accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throughput {
    /// In batches that were settled within the last 24 hours.
    pub accepted: u64,
    pub batches: u64,
    /// Since the first of these batches was submitted; at most 24 hours.
    pub over: Duration,
}

/// How long pages stayed in a stage, as the newest changes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    pub stage: PageStage,
    pub stays: u64,
    /// What half and nine tenths of the stays took at most.
    pub half: Duration,
    pub nine_tenths: Duration,
}

/// What is known beside [`super::messages::Summary`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desk {
    pub run: Option<LatestRun>,
    /// Discovered pages of this scope that may be claimed at once.
    pub runnable: u64,
    /// Discovered pages of this scope that wait only for an instant, and the earliest one.
    pub waiting: u64,
    pub earliest: Option<Timestamp>,
    /// Discovered pages of this scope that wait for another page, and those of every scope.
    pub blocked: u64,
    pub blocked_in_all: u64,
    /// Those of them, and of other scopes, in whose chain a page is dead or in review.
    pub behind_fault: u64,
    /// Discovered pages of other scopes: today's settings do not send them.
    pub elsewhere: u64,
    /// Dead pages and pages in review, by error.
    pub faults: Vec<(PageStage, ErrorType, u64)>,
    /// Pages of the longest chain that is still ahead.
    pub chain: u64,
    pub throughput: Throughput,
    /// How many pages have failed how often so far.
    pub retries: Vec<(u64, u64)>,
    /// Jobs that ended long ago and whose results are not on our disk, and since when.
    pub uncollected: Vec<(BatchId, Timestamp)>,
    pub stays: Vec<Stay>,
    /// Remote files that wait to be deleted.
    pub deletable: u64,
}

#[derive(FromQueryResult)]
struct ScopeRow {
    scope: Option<String>,
    pages: i64,
    ahead: Option<i64>,
}

/// Pages of one kind, in this scope and in others, and the most pages that wait behind one.
#[derive(Default)]
struct Found {
    here: u64,
    elsewhere: u64,
    ahead: Option<u64>,
}

async fn by_scope(
    conn: &impl ConnectionTrait,
    sql: &str,
    scope: &ScopeToken,
) -> StateResult<Found> {
    let mut found = Found::default();
    for row in rows::<ScopeRow, 0>(conn, sql, []).await? {
        if row.scope.as_deref() == Some(scope.as_str()) {
            found.here += unsigned(row.pages);
            found.ahead = row.ahead.map(unsigned);
        } else {
            found.elsewhere += unsigned(row.pages);
        }
    }
    Ok(found)
}

/// Everything that the desk shows beside the summary.
pub async fn desk(conn: &impl ConnectionTrait, terms: &Terms, at: Timestamp) -> StateResult<Desk> {
    let Terms {
        scope,
        chained,
        uncollected_after,
    } = terms;
    let free = by_scope(conn, FREE, scope).await?;
    let blocked = by_scope(conn, BLOCKED, scope).await?;
    let (waiting, earliest) = waiting(conn, terms, at).await?;
    let blocked_in_all = blocked.here + blocked.elsewhere;
    let behind_fault = if *chained && blocked_in_all > 0 {
        number(conn, BEHIND_FAULT, []).await?.min(blocked_in_all)
    } else {
        0
    };
    let ready = if *chained {
        free.here
    } else {
        free.here + blocked.here
    };
    let chain = match (chained, behind_fault) {
        (false, _) => 1,
        // A page that is under way has at most one more behind it than the page that waits for it.
        (true, 0) => {
            let behind = blocked.ahead.map_or(0, |ahead| ahead + 2);
            behind.max(free.ahead.map_or(0, |ahead| ahead + 1)).max(1)
        }
        // What is behind a fault is not ahead.
        (true, _) => {
            let under_way = number(conn, CHAIN_UNDER_WAY, []).await?;
            under_way.max(free.ahead.unwrap_or(0)) + 1
        }
    };
    Ok(Desk {
        run: latest_run(conn).await?,
        runnable: ready.saturating_sub(waiting),
        waiting,
        earliest,
        blocked: if *chained { blocked.here } else { 0 },
        blocked_in_all,
        behind_fault,
        elsewhere: free.elsewhere + blocked.elsewhere,
        faults: faults(conn).await?,
        chain,
        throughput: throughput(conn, at).await?,
        retries: retries(conn).await?,
        uncollected: uncollected(conn, at.minus(*uncollected_after)).await?,
        stays: stays(conn).await?,
        deletable: number(conn, questions::DELETABLE_COUNT, []).await?,
    })
}

const FREE: &str = "
    SELECT scope, count(*) AS pages, max(chain_ahead) AS ahead FROM pages INDEXED BY pages_runnable
    WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL GROUP BY scope";

const BLOCKED: &str = "
    SELECT scope, count(*) AS pages, max(chain_ahead) AS ahead FROM pages INDEXED BY pages_blocked
    WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NOT NULL GROUP BY scope";

/// Of a chain, only its first page waits for the page at fault; the others wait for each other.
const BEHIND_FAULT: &str = "
    SELECT sum(w.chain_ahead + 1)
    FROM pages AS f INDEXED BY pages_faults
    CROSS JOIN pages AS w INDEXED BY pages_waits_for ON w.waits_for = f.record_key
    WHERE f.error IS NOT NULL AND w.waits_for IS NOT NULL AND w.stage = 'discovered'";

const CHAIN_UNDER_WAY: &str = "
    SELECT max(chain_ahead) FROM pages INDEXED BY pages_stage
    WHERE stage IN ('uploading','uploaded','batched','validating')";

#[derive(FromQueryResult)]
struct WaitingRow {
    pages: i64,
    earliest: Option<String>,
}

async fn waiting(
    conn: &impl ConnectionTrait,
    terms: &Terms,
    at: Timestamp,
) -> StateResult<(u64, Option<Timestamp>)> {
    let values = [text(&terms.scope), text(at), (!terms.chained).into()];
    let row: Option<WaitingRow> = first(conn, WAITING, values).await?;
    let Some(row) = row else {
        return Ok((0, None));
    };
    let earliest = maybe_instant("the next page that is due", row.earliest.as_deref())?;
    Ok((unsigned(row.pages), earliest))
}

const WAITING: &str = "
    SELECT count(*) AS pages, min(not_before) AS earliest FROM pages INDEXED BY pages_due
    WHERE stage = 'discovered' AND batch_id IS NULL AND not_before IS NOT NULL
      AND scope = ?1 AND not_before > ?2 AND (?3 OR waits_for IS NULL)";

#[derive(FromQueryResult)]
struct FaultRow {
    stage: String,
    error: String,
    pages: i64,
}

async fn faults(conn: &impl ConnectionTrait) -> StateResult<Vec<(PageStage, ErrorType, u64)>> {
    let found: Vec<FaultRow> = rows(conn, FAULTS, []).await?;
    let faults = found.into_iter().map(|row| {
        let stage = word("pages at fault", &row.stage, PageStage::parse)?;
        let error = word("pages at fault", &row.error, ErrorType::parse)?;
        Ok((stage, error, unsigned(row.pages)))
    });
    faults.collect()
}

const FAULTS: &str = "
    SELECT stage, error, count(*) AS pages FROM pages INDEXED BY pages_faults
    WHERE error IS NOT NULL GROUP BY stage, error ORDER BY stage, count(*) DESC, error";

async fn latest_run(conn: &impl ConnectionTrait) -> StateResult<Option<LatestRun>> {
    let Some(row) = first::<runs::Model, 0>(conn, LATEST_RUN, []).await? else {
        return Ok(None);
    };
    let thing = format!("run '{}'", row.run_id);
    Ok(Some(LatestRun {
        status: word(&thing, &row.status, RunStatus::parse)?,
        restarts: unsigned(row.restarts),
        started_at: instant(&thing, &row.started_at)?,
        ended_at: maybe_instant(&thing, row.ended_at.as_deref())?,
        label: row.label,
        window: row.window_name,
        run: RunId::from(row.run_id),
    }))
}

const LATEST_RUN: &str = "SELECT * FROM runs ORDER BY updated_at DESC LIMIT 1";

#[derive(FromQueryResult)]
struct ThroughputRow {
    accepted: Option<i64>,
    batches: i64,
    since: Option<String>,
}

async fn throughput(conn: &impl ConnectionTrait, at: Timestamp) -> StateResult<Throughput> {
    let from = at.minus(PACE_SPAN);
    let row: Option<ThroughputRow> = first(conn, THROUGHPUT, [text(from)]).await?;
    let since = row.as_ref().and_then(|row| row.since.as_deref());
    let (Some(row), Some(since)) = (&row, maybe_instant("a settled batch", since)?) else {
        return Ok(Throughput::default());
    };
    Ok(Throughput {
        accepted: unsigned(row.accepted.unwrap_or(0)),
        batches: unsigned(row.batches),
        over: at.since(since.max(from)),
    })
}

const THROUGHPUT: &str = "
    SELECT sum(count_succeeded) AS accepted, count(*) AS batches,
           min(coalesce(submitted_at, created_at)) AS since
    FROM submissions INDEXED BY submissions_closed_at
    WHERE state = 'settled' AND closed_at > ?1 AND count_succeeded > 0";

#[derive(FromQueryResult)]
struct RetryRow {
    failures: i64,
    pages: i64,
}

async fn retries(conn: &impl ConnectionTrait) -> StateResult<Vec<(u64, u64)>> {
    let found: Vec<RetryRow> = rows(conn, RETRIES, []).await?;
    let retries = found
        .into_iter()
        .map(|row| (unsigned(row.failures), unsigned(row.pages)));
    Ok(retries.collect())
}

const RETRIES: &str = "
    SELECT count AS failures, count(*) AS pages FROM failure_counts GROUP BY count ORDER BY count";

#[derive(FromQueryResult)]
struct UncollectedRow {
    batch_id: String,
    since: String,
}

async fn uncollected(
    conn: &impl ConnectionTrait,
    before: Timestamp,
) -> StateResult<Vec<(BatchId, Timestamp)>> {
    let found: Vec<UncollectedRow> = rows(conn, UNCOLLECTED, [text(before)]).await?;
    let batches = found.into_iter().map(|row| {
        let since = instant("an ended job", &row.since)?;
        Ok((BatchId::from(row.batch_id), since))
    });
    batches.collect()
}

const UNCOLLECTED: &str = "
    SELECT batch_id, coalesce(ended_at, terminal_seen_at) AS since FROM submissions
    WHERE state IN ('submitted','ready') AND raw_path IS NULL
      AND coalesce(ended_at, terminal_seen_at) <= ?1
    ORDER BY since LIMIT 100";

#[derive(FromQueryResult)]
struct StayRow {
    stage: String,
    stays: i64,
    half: f64,
    nine_tenths: f64,
}

async fn stays(conn: &impl ConnectionTrait) -> StateResult<Vec<Stay>> {
    let found: Vec<StayRow> = rows(conn, STAYS, []).await?;
    let mut stays = Vec::with_capacity(found.len());
    for row in found {
        let span = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        stays.push(Stay {
            stage: word("the newest changes", &row.stage, PageStage::parse)?,
            stays: unsigned(row.stays),
            half: span(row.half),
            nine_tenths: span(row.nine_tenths),
        });
    }
    stays.sort_unstable_by_key(|stay| stay.stage);
    Ok(stays)
}

/// The stays that the newest 2,000 changes ended: however long ago a stay began, it is found. What
/// moves no page, such as an operator's note, ends none.
const STAYS: &str = "
    WITH moves AS (
        SELECT * FROM (SELECT id, record_key, at, from_stage, to_stage FROM page_events
                       ORDER BY id DESC LIMIT 2000)
        WHERE from_stage IS NOT NULL AND from_stage <> to_stage),
    stays AS (
        SELECT from_stage AS stage, (julianday(at) - julianday((
            SELECT b.at FROM page_events AS b
            WHERE b.record_key = m.record_key AND b.id < m.id AND b.from_stage IS NOT b.to_stage
            ORDER BY b.id DESC LIMIT 1))) * 86400.0 AS seconds
        FROM moves AS m),
    ranked AS (
        SELECT stage, seconds, row_number() OVER (PARTITION BY stage ORDER BY seconds) AS place,
               count(*) OVER (PARTITION BY stage) AS stays
        FROM stays WHERE seconds IS NOT NULL)
    SELECT stage, stays, min(seconds) FILTER (WHERE place * 2 >= stays) AS half,
           min(seconds) FILTER (WHERE place * 10 >= stays * 9) AS nine_tenths
    FROM ranked GROUP BY stage, stays";

/// The questions of this file, for the tests of their plans.
pub const QUESTIONS: &[(&str, &str)] = &[
    ("stages", questions::STAGES),
    ("free pages", FREE),
    ("blocked pages", BLOCKED),
    ("behind a fault", BEHIND_FAULT),
    ("chains under way", CHAIN_UNDER_WAY),
    ("waiting pages", WAITING),
    ("pages at fault", FAULTS),
    ("latest run", LATEST_RUN),
    ("throughput", THROUGHPUT),
    ("retries", RETRIES),
    ("uncollected", UNCOLLECTED),
    ("stays", STAYS),
];
