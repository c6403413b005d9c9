//! Failures one by one, whole: for exports, for groups of equal messages, and for one page.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::super::messages::StateResult;
use super::super::rows::{instant, word};
use super::super::sql::{first, json_list, rows, signed};
use super::{FailureFilter, Meant, lossy, meant};
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::time::Timestamp;

/// A message, for finding those that say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub id: i64,
    pub key: RecordKey,
    pub error: ErrorType,
    pub message: String,
}

#[derive(FromQueryResult)]
struct SaidRow {
    id: i64,
    record_key: String,
    error_type: String,
    error_message: Vec<u8>,
}

/// The next messages after an id, oldest first: a walk over the table, for who asks for all. Times
/// stand behind the answers in a row, and would take several times as long.
pub async fn said_after(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    after: i64,
    limit: u64,
) -> StateResult<Vec<Said>> {
    let Meant { from_where, values } = meant(filter, "NOT INDEXED");
    let [selection, filter] = values;
    let sql = format!(
        "SELECT p.id, p.record_key, p.error_type, CAST(p.error_message AS BLOB) AS error_message
         {from_where} AND p.id > ?3 ORDER BY p.id LIMIT ?4"
    );
    let values = [selection, filter, after.into(), signed(limit).into()];
    let found: Vec<SaidRow> = rows(conn, &sql, values).await?;
    let said = found.into_iter().map(|row| {
        let thing = format!("failure of page '{}'", row.record_key);
        Ok(Said {
            id: row.id,
            error: word(&thing, &row.error_type, ErrorType::parse)?,
            message: lossy(row.error_message),
            key: RecordKey::from(row.record_key),
        })
    });
    said.collect()
}

#[derive(FromQueryResult)]
struct TimeRow {
    id: i64,
    created_at: String,
}

/// When these failures happened.
pub async fn times_of(
    conn: &impl ConnectionTrait,
    ids: &[i64],
) -> StateResult<HashMap<i64, Timestamp>> {
    let sql = "SELECT id, created_at FROM failure_logs
               WHERE id IN (SELECT value FROM json_each(?1))";
    let found: Vec<TimeRow> = rows(conn, sql, [json_list(ids.iter().copied())]).await?;
    let times = found.into_iter().map(|row| {
        let at = instant("a failure", &row.created_at)?;
        Ok((row.id, at))
    });
    times.collect()
}

/// One row of `failure_logs`, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    pub id: i64,
    pub record_key: String,
    pub batch_id: String,
    pub attempt_number: i64,
    pub error_type: String,
    pub error_message: String,
    pub error_traceback: String,
    pub raw_response_text: Option<String>,
    pub extracted_text: Option<String>,
    pub raw_response_json: Option<String>,
    pub model_name: Option<String>,
    pub prompt_name: Option<String>,
    pub prompt_template: Option<String>,
    pub generation_config: Option<String>,
    pub counted: i64,
    pub run_id: Option<String>,
    pub created_at: String,
}

/// Texts that answers are kept in are read as bytes: see [`super::newest_statement`].
#[derive(FromQueryResult)]
struct StoredRow {
    id: i64,
    record_key: String,
    batch_id: String,
    attempt_number: i64,
    error_type: String,
    error_message: Vec<u8>,
    error_traceback: Vec<u8>,
    raw_response_text: Option<Vec<u8>>,
    extracted_text: Option<Vec<u8>>,
    raw_response_json: Option<Vec<u8>>,
    model_name: Option<String>,
    prompt_name: Option<String>,
    prompt_template: Option<String>,
    generation_config: Option<String>,
    counted: i64,
    run_id: Option<String>,
    created_at: String,
}

fn log_row(row: StoredRow) -> LogRow {
    LogRow {
        id: row.id,
        record_key: row.record_key,
        batch_id: row.batch_id,
        attempt_number: row.attempt_number,
        error_type: row.error_type,
        error_message: lossy(row.error_message),
        error_traceback: lossy(row.error_traceback),
        raw_response_text: row.raw_response_text.map(lossy),
        extracted_text: row.extracted_text.map(lossy),
        raw_response_json: row.raw_response_json.map(lossy),
        model_name: row.model_name,
        prompt_name: row.prompt_name,
        prompt_template: row.prompt_template,
        generation_config: row.generation_config,
        counted: row.counted,
        run_id: row.run_id,
        created_at: row.created_at,
    }
}

const LOG_COLUMNS: &str = "p.id, p.record_key, p.batch_id, p.attempt_number, p.error_type,
    CAST(p.error_message AS BLOB) AS error_message,
    CAST(p.error_traceback AS BLOB) AS error_traceback,
    CAST(p.raw_response_text AS BLOB) AS raw_response_text,
    CAST(p.extracted_text AS BLOB) AS extracted_text,
    CAST(p.raw_response_json AS BLOB) AS raw_response_json,
    p.model_name, p.prompt_name, p.prompt_template, p.generation_config, p.counted, p.run_id,
    p.created_at";

/// The next whole rows after an id, oldest first: a walk over the table, for an export.
pub async fn logs_after(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    after: i64,
    limit: u64,
) -> StateResult<Vec<LogRow>> {
    let Meant { from_where, values } = meant(filter, "NOT INDEXED");
    let [selection, filter] = values;
    let sql = format!("SELECT {LOG_COLUMNS} {from_where} AND p.id > ?3 ORDER BY p.id LIMIT ?4");
    let values = [selection, filter, after.into(), signed(limit).into()];
    let found: Vec<StoredRow> = rows(conn, &sql, values).await?;
    Ok(found.into_iter().map(log_row).collect())
}

/// One row, whole.
pub async fn log_of(conn: &impl ConnectionTrait, id: i64) -> StateResult<Option<LogRow>> {
    let sql = format!("SELECT {LOG_COLUMNS} FROM failure_logs AS p WHERE p.id = ?1");
    let found: Option<StoredRow> = first(conn, &sql, [id.into()]).await?;
    Ok(found.map(log_row))
}

/// One request for a page, and where its answer stands.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct AttemptLine {
    pub batch_id: String,
    pub attempt_number: i64,
    pub outcome: String,
    pub error_type: Option<String>,
    pub message: Option<String>,
    pub finish_reason: Option<String>,
    pub raw_path: Option<String>,
    pub raw_line_offset: Option<i64>,
    pub raw_line_bytes: Option<i64>,
    pub created_at: String,
    pub decided_at: Option<String>,
}

/// Every request for a page, oldest first.
pub async fn attempts_of(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
) -> StateResult<Vec<AttemptLine>> {
    let sql = "SELECT a.batch_id, a.attempt_number, a.outcome, a.error_type, a.message,
                      a.finish_reason, s.raw_path, a.raw_line_offset, a.raw_line_bytes,
                      a.created_at, a.decided_at
               FROM attempts AS a JOIN submissions AS s ON s.batch_id = a.batch_id
               WHERE a.record_key = ?1 ORDER BY a.attempt_number, a.created_at";
    rows(conn, sql, [key.as_str().into()]).await
}

/// A page as `pagemill failures --record-key` introduces it.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct PageLine {
    pub stage: String,
    pub status: String,
    pub failures: i64,
}

/// The page of a key, if it is known.
pub async fn page_of(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
) -> StateResult<Option<PageLine>> {
    let sql = "SELECT p.stage, p.status, coalesce(c.count, 0) AS failures
               FROM pages AS p LEFT JOIN failure_counts AS c ON c.record_key = p.record_key
               WHERE p.record_key = ?1";
    first(conn, sql, [key.as_str().into()]).await
}
