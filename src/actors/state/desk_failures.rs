//! The questions of `pagemill failures`: figures, lists, and every failure in turn.
//!
//! A failure's row carries whole answers, so figures come from two indexes that hold all they need.
//! The levels of a page are taken from its key: no question here looks at all pages.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use serde_json::json;

use super::messages::StateResult;
use super::questions::counts;
use super::rows::{corrupt, instant, word};
use super::selection::condition;
use super::sql::{number, rows, signed, unsigned};
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RecordKey};
use crate::domain::page::PageStage;
use crate::domain::selection::Selection;
use crate::domain::time::Timestamp;

mod whole;

pub use whole::{
    AttemptLine, LogRow, PageLine, Said, attempts_of, log_of, logs_after, page_of, said_after,
    times_of,
};

/// Which failures are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureFilter {
    pub selection: Selection,
    pub error: Option<ErrorType>,
    /// From this instant on.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
    /// Only of pages that are dead or wait for a person.
    pub given_up: bool,
}

/// Failures that have something in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// What they have in common: a type, or a level's name.
    pub name: String,
    pub failures: u64,
    /// Those that count against their page.
    pub counted: u64,
    pub pages: u64,
}

/// What `pagemill failures --summary` counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureTotals {
    pub total: u64,
    pub counted: u64,
    /// Pages with at least one.
    pub pages: u64,
    /// Pages that are dead or wait for a person, whenever they failed.
    pub dead: u64,
    pub review: u64,
    /// Most frequent first.
    pub by_type: Vec<Group>,
}

/// One failure in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureLine {
    pub id: i64,
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

/// Failures of one type on one day (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCount {
    /// `2026-11-22`.
    pub day: String,
    pub error: ErrorType,
    pub failures: u64,
    pub counted: u64,
}

/// A page that is not sent again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    pub key: RecordKey,
    pub stage: PageStage,
    pub error: Option<ErrorType>,
    /// The status sentence.
    pub status: String,
    /// Failures counted against it.
    pub failures: u64,
    /// The message of its last failure, if one was logged.
    pub message: Option<String>,
    pub at: Timestamp,
}

/// The levels of a page from its key. A level with encoded characters is rare: only then the page
/// is looked up.
const LEVELS: &str = "
    CASE WHEN instr(f.record_key, '%') = 0
         THEN '[' || replace(json_quote(f.record_key), ':', '\",\"') || ']'
         ELSE (SELECT g.levels FROM pages AS g WHERE g.record_key = f.record_key) END";

/// The failures that a filter means, under the alias that [`condition`] knows, and its parameters.
struct Meant {
    from_where: String,
    values: [Value; 2],
}

/// `access` may say how the table is to be walked.
fn meant(filter: &FailureFilter, access: &str) -> Meant {
    let selected = condition(&filter.selection, 1);
    let mut parts = vec![selected.sql, "?2 IS NOT NULL".to_owned()];
    if filter.error.is_some() {
        // The plus keeps SQLite from an index behind which whole answers would have to be read.
        parts.push("+p.error_type = ?2->>'$.error'".to_owned());
    }
    if filter.since.is_some() {
        parts.push("p.created_at >= ?2->>'$.since'".to_owned());
    }
    if filter.until.is_some() {
        parts.push("p.created_at < ?2->>'$.until'".to_owned());
    }
    if filter.given_up {
        parts.push(
            "EXISTS (SELECT 1 FROM pages AS d WHERE d.record_key = p.record_key
                     AND d.stage IN ('dead','review'))"
                .to_owned(),
        );
    }
    let parameters = json!({
        "error": filter.error.map(ErrorType::as_str),
        "since": filter.since.map(|at| at.to_string()),
        "until": filter.until.map(|at| at.to_string()),
    });
    let from_where = format!(
        "FROM (SELECT f.*, {LEVELS} AS levels FROM failure_logs AS f {access}) AS p WHERE {}",
        parts.join(" AND ")
    );
    Meant {
        from_where,
        values: [selected.value, parameters.to_string().into()],
    }
}

#[derive(FromQueryResult)]
struct GroupRow {
    word: String,
    failures: i64,
    counted: i64,
    pages: i64,
    groups: i64,
}

/// The statement that groups failures; public for the test of its plan.
pub fn groups_statement(filter: &FailureFilter, by: &str) -> (String, [Value; 2]) {
    let Meant { from_where, values } = meant(filter, "");
    let sql = format!(
        "SELECT *, count(*) OVER () AS groups FROM (
             SELECT coalesce({by}, '') AS word, count(*) AS failures,
                    coalesce(sum(p.counted), 0) AS counted,
                    count(DISTINCT p.record_key) AS pages
             {from_where} GROUP BY 1)
         ORDER BY failures DESC, word LIMIT ?3"
    );
    (sql, values)
}

/// How failures are grouped by a level, from its place in the layout.
pub fn by_place(place: usize) -> String {
    format!("p.levels->>'$[{place}]'")
}

async fn groups(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    by: &str,
    limit: u64,
) -> StateResult<(Vec<Group>, u64)> {
    let (sql, [selection, filter]) = groups_statement(filter, by);
    let values = [selection, filter, signed(limit).into()];
    let found: Vec<GroupRow> = rows(conn, &sql, values).await?;
    let all = found.first().map_or(0, |row| unsigned(row.groups));
    let groups = found.into_iter().map(|row| Group {
        name: row.word,
        failures: unsigned(row.failures),
        counted: unsigned(row.counted),
        pages: unsigned(row.pages),
    });
    Ok((groups.collect(), all))
}

/// Failures by a level of the layout (its place, from 0), most frequent first; and how many groups
/// there are in all.
pub async fn by_level(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    place: usize,
    limit: u64,
) -> StateResult<(Vec<Group>, u64)> {
    groups(conn, filter, &by_place(place), limit).await
}

/// The figures that every summary begins with.
pub async fn totals(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
) -> StateResult<FailureTotals> {
    let all_types = super::sql::as_u64(ErrorType::ALL.len());
    let (by_type, _groups) = groups(conn, filter, "p.error_type", all_types).await?;
    let Meant { from_where, values } = meant(filter, "");
    let pages = format!("SELECT count(DISTINCT p.record_key) {from_where}");
    let (sql, given_up) = given_up_count_statement(filter);
    let given_up = counts(conn, &sql, given_up).await?;
    let of = |stage: PageStage| {
        let found = given_up
            .iter()
            .find(|(word, _count)| word == stage.as_str());
        found.map_or(0, |(_word, count)| *count)
    };
    Ok(FailureTotals {
        total: by_type.iter().map(|group| group.failures).sum(),
        counted: by_type.iter().map(|group| group.counted).sum(),
        pages: number(conn, &pages, values).await?,
        dead: of(PageStage::Dead),
        review: of(PageStage::Review),
        by_type,
    })
}

#[derive(FromQueryResult)]
struct DayRow {
    day: String,
    error_type: String,
    failures: i64,
    counted: i64,
}

/// The statement of the trend; public for the test of its plan.
pub fn trend_statement(filter: &FailureFilter) -> (String, [Value; 2]) {
    let Meant { from_where, values } = meant(filter, "");
    let sql = format!(
        "SELECT substr(p.created_at, 1, 10) AS day, p.error_type, count(*) AS failures,
                sum(p.counted) AS counted
         {from_where} GROUP BY 1, 2 ORDER BY 1, 2"
    );
    (sql, values)
}

/// Failures by day and type, oldest day first; days without failures are not there.
pub async fn trend(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
) -> StateResult<Vec<DayCount>> {
    let (sql, values) = trend_statement(filter);
    let found: Vec<DayRow> = rows(conn, &sql, values).await?;
    let days = found.into_iter().map(|row| {
        Ok(DayCount {
            error: word("failures", &row.error_type, ErrorType::parse)?,
            failures: unsigned(row.failures),
            counted: unsigned(row.counted),
            day: row.day,
        })
    });
    days.collect()
}

#[derive(FromQueryResult)]
struct LineRow {
    id: i64,
    record_key: String,
    batch_id: String,
    attempt_number: i64,
    error_type: String,
    error_message: Vec<u8>,
    counted: i64,
    failures: i64,
    stage: Option<String>,
    created_at: String,
}

/// The statement that lists failures; public for the test of its plan. Texts are read as bytes: what
/// another program wrote need not be UTF-8.
pub fn newest_statement(filter: &FailureFilter) -> (String, [Value; 2]) {
    let Meant { from_where, values } = meant(filter, "");
    let sql = format!(
        "SELECT l.id, l.record_key, l.batch_id, l.attempt_number, l.error_type,
                CAST(l.error_message AS BLOB) AS error_message, l.counted,
                coalesce(c.count, 0) AS failures, g.stage, l.created_at
         FROM (SELECT p.id {from_where} ORDER BY p.id DESC LIMIT ?3) AS i
         CROSS JOIN failure_logs AS l ON l.id = i.id
         LEFT JOIN failure_counts AS c ON c.record_key = l.record_key
         LEFT JOIN pages AS g ON g.record_key = l.record_key
         ORDER BY l.id DESC"
    );
    (sql, values)
}

/// The newest failures, newest first.
pub async fn newest(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    limit: u64,
) -> StateResult<Vec<FailureLine>> {
    let (sql, [selection, filter]) = newest_statement(filter);
    let values = [selection, filter, signed(limit).into()];
    let found: Vec<LineRow> = rows(conn, &sql, values).await?;
    found.into_iter().map(failure_line).collect()
}

fn failure_line(row: LineRow) -> StateResult<FailureLine> {
    let thing = format!("failure of page '{}'", row.record_key);
    if row.record_key.is_empty() {
        return Err(corrupt(thing, "record_key is empty"));
    }
    let stage = row.stage.as_deref();
    Ok(FailureLine {
        id: row.id,
        batch: (!row.batch_id.is_empty()).then(|| BatchId::from(row.batch_id.as_str())),
        attempt_number: unsigned(row.attempt_number),
        error: word(&thing, &row.error_type, ErrorType::parse)?,
        message: lossy(row.error_message),
        counted: row.counted == 1,
        failures: unsigned(row.failures),
        stage: stage
            .map(|stage| word(&thing, stage, PageStage::parse))
            .transpose()?,
        at: instant(&thing, &row.created_at)?,
        key: RecordKey::from(row.record_key),
    })
}

/// What cannot be read as UTF-8 becomes U+FFFD.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
    }
}

/// The pages of a filter that are not sent again by themselves; failures before or after its times
/// are all the same to them.
fn given_up_from(filter: &FailureFilter) -> (String, [Value; 2]) {
    let selected = condition(&filter.selection, 1);
    let error = match filter.error {
        Some(_error) => "p.error = ?2",
        None => "?2 IS NOT NULL",
    };
    let from_where = format!(
        "FROM pages AS p INDEXED BY pages_given_up
         WHERE p.stage IN ('dead','review') AND {} AND {error}",
        selected.sql
    );
    let error = filter.error.map_or("", ErrorType::as_str);
    (from_where, [selected.value, error.into()])
}

/// The statement that counts such pages by stage; public for the test of its plan.
pub fn given_up_count_statement(filter: &FailureFilter) -> (String, [Value; 2]) {
    let (from_where, values) = given_up_from(filter);
    let sql = format!("SELECT p.stage AS word, count(*) AS count {from_where} GROUP BY p.stage");
    (sql, values)
}

#[derive(FromQueryResult)]
struct GivenUpRow {
    record_key: String,
    stage: String,
    error: Option<String>,
    status: String,
    failures: i64,
    error_message: Option<Vec<u8>>,
    updated_at: String,
}

/// The statement that lists such pages; public for the test of its plan.
pub fn given_up_statement(filter: &FailureFilter) -> (String, [Value; 2]) {
    let (from_where, values) = given_up_from(filter);
    let sql = format!(
        "SELECT g.record_key, g.stage, g.error, g.status, coalesce(c.count, 0) AS failures,
                CAST(l.error_message AS BLOB) AS error_message, g.updated_at
         FROM (SELECT p.record_key {from_where} ORDER BY p.record_key LIMIT ?3) AS i
         CROSS JOIN pages AS g ON g.record_key = i.record_key
         LEFT JOIN failure_counts AS c ON c.record_key = g.record_key
         LEFT JOIN failure_logs AS l ON l.id =
             (SELECT max(n.id) FROM failure_logs AS n WHERE n.record_key = g.record_key)
         ORDER BY g.record_key"
    );
    (sql, values)
}

/// Pages that are dead or wait for a person, by key, each with its last failure.
pub async fn given_up_pages(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    limit: u64,
) -> StateResult<Vec<GivenUp>> {
    let (sql, [selection, error]) = given_up_statement(filter);
    let values = [selection, error, signed(limit).into()];
    let found: Vec<GivenUpRow> = rows(conn, &sql, values).await?;
    let pages = found.into_iter().map(|row| {
        let thing = format!("page '{}'", row.record_key);
        let error = row.error.as_deref();
        Ok(GivenUp {
            stage: word(&thing, &row.stage, PageStage::parse)?,
            error: error
                .map(|error| word(&thing, error, ErrorType::parse))
                .transpose()?,
            status: row.status,
            failures: unsigned(row.failures),
            message: row.error_message.map(lossy),
            at: instant(&thing, &row.updated_at)?,
            key: RecordKey::from(row.record_key),
        })
    });
    pages.collect()
}
