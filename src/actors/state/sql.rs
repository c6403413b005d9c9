//! The few ways in which this room talks SQL: a statement, its rows, and lists as one JSON parameter.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Statement, Value};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use super::messages::{StateError, StateResult};
use crate::domain::ids::BatchId;

/// Rows that one statement writes or looks up. One JSON parameter carries them, so the limit on
/// bound parameters does not matter; the size of that parameter does.
pub(super) const CHUNK_ROWS: usize = 1_000;

impl From<DbErr> for StateError {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        if is_disk_fault(&error) {
            StateError::Disk(text)
        } else {
            StateError::Db(text)
        }
    }
}

/// Whether an error is the disk's and not the statement's, by SQLite's primary result code.
fn is_disk_fault(error: &DbErr) -> bool {
    const READONLY: u32 = 8;
    const IOERR: u32 = 10;
    const FULL: u32 = 13;
    const CANTOPEN: u32 = 14;
    let code = sqlite::code_of(error);
    code.is_some_and(|code| matches!(code & 0xff, READONLY | IOERR | FULL | CANTOPEN))
}

fn statement(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(conn.get_database_backend(), sql, values)
}

/// Executes a statement and gives the number of rows that it touched.
pub(super) async fn execute(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> StateResult<u64> {
    let done = conn.execute_raw(statement(conn, sql, values)).await?;
    Ok(done.rows_affected())
}

/// Executes a statement that must touch exactly `expected` rows.
///
/// Everything that is written was read in the same transaction, so another number is a fault of
/// ours: better to stop than to go on from a state that is not what it seems.
pub(super) async fn execute_exactly(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
    expected: usize,
) -> StateResult<()> {
    let touched = execute(conn, sql, values).await?;
    if touched == as_u64(expected) {
        return Ok(());
    }
    Err(StateError::Conflict(format!(
        "a change was to touch {expected} rows but touched {touched}"
    )))
}

/// Gives all rows of a question.
pub(super) async fn rows<T: FromQueryResult, const N: usize>(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: [Value; N],
) -> StateResult<Vec<T>> {
    let found = conn.query_all_raw(statement(conn, sql, values)).await?;
    let rows: Result<Vec<T>, DbErr> = found
        .iter()
        .map(|row| T::from_query_result(row, ""))
        .collect();
    Ok(rows?)
}

/// Gives the rows of a question that answers with one JSON array of arrays, each with the fields of `T`
/// in their order. For many rows this is several times cheaper than a value at a time: SeaORM has a map of
/// names for each row.
pub(super) async fn listed<T: DeserializeOwned, const N: usize>(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: [Value; N],
) -> StateResult<Vec<T>> {
    let list = maybe_text(conn, sql, values).await?.unwrap_or_default();
    if list.is_empty() {
        return Ok(Vec::new());
    }
    read_back(&list)
}

/// Reads what a question gave as JSON.
pub(super) fn read_back<T: DeserializeOwned>(text: &str) -> StateResult<T> {
    serde_json::from_str(text).map_err(|error| StateError::CorruptRow {
        thing: "a list of rows".to_owned(),
        fault: error.to_string(),
    })
}

/// A row that is about one page.
pub(super) trait Keyed {
    /// The record key.
    fn key(&self) -> &str;
}

/// Gives what [`listed`] would give of a batch's members, a chunk of them at a time, so that their text is
/// never held whole: each brought to what is wanted of it, in the order of their keys. The question is
/// about the members of batch `?1` that [`of_members`] calls `chunk`.
pub(super) async fn listed_members<T: DeserializeOwned + Keyed, U>(
    conn: &impl ConnectionTrait,
    sql: &str,
    batch: &BatchId,
    wanted: impl Fn(T) -> StateResult<U>,
) -> StateResult<Vec<U>> {
    let sql = of_members(sql);
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let size = signed(as_u64(CHUNK_ROWS));
        let values = [text(batch), after.as_str().into(), size.into()];
        let Some(row) = conn.query_one_raw(statement(conn, &sql, values)).await? else {
            return Ok(all);
        };
        let count: i64 = row.try_get("", "count")?;
        let last: Option<String> = row.try_get("", "last")?;
        let mut found: Vec<T> = read_back(&row.try_get::<String>("", "list")?)?;
        found.sort_by(|a, b| a.key().cmp(b.key()));
        for row in found {
            all.push(wanted(row)?);
        }
        // Members of which something is missing count, though they are not listed.
        match last {
            Some(last) if count >= size => after = last,
            _ => return Ok(all),
        }
    }
}

/// A question about members of batch `?1`: the first `?3` after key `?2`, how many these are, and the last.
pub(super) fn of_members(sql: &str) -> String {
    format!(
        "WITH chunk AS MATERIALIZED (
             SELECT record_key FROM batch_record_keys
             WHERE batch_id = ?1 AND record_key > ?2 ORDER BY record_key LIMIT ?3)
         SELECT (SELECT count(*) FROM chunk) AS count,
             (SELECT max(record_key) FROM chunk) AS last, ({sql}) AS list"
    )
}

/// Gives the first row of a question.
pub(super) async fn first<T: FromQueryResult, const N: usize>(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: [Value; N],
) -> StateResult<Option<T>> {
    let found = conn.query_one_raw(statement(conn, sql, values)).await?;
    Ok(found
        .map(|row| T::from_query_result(&row, ""))
        .transpose()?)
}

/// Gives the first column of every row.
pub(super) async fn texts<const N: usize>(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: [Value; N],
) -> StateResult<Vec<String>> {
    let found = conn.query_all_raw(statement(conn, sql, values)).await?;
    let texts: Result<Vec<String>, DbErr> = found.iter().map(|row| row.try_get_by(0)).collect();
    Ok(texts?)
}

/// Gives the first column of the only row, nothing counted as zero.
pub(super) async fn number<const N: usize>(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: [Value; N],
) -> StateResult<u64> {
    let found = conn.query_one_raw(statement(conn, sql, values)).await?;
    let value: Option<i64> = match found {
        Some(row) => row.try_get_by(0)?,
        None => None,
    };
    Ok(unsigned(value.unwrap_or(0)))
}

/// Gives the first column of the only row, if there is one and it is not null.
pub(super) async fn maybe_text<const N: usize>(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: [Value; N],
) -> StateResult<Option<String>> {
    let found = conn.query_one_raw(statement(conn, sql, values)).await?;
    match found {
        Some(row) => Ok(row.try_get_by(0)?),
        None => Ok(None),
    }
}

/// Writes values as one JSON array, to be read by `json_each`; or by `jsonb_each` where each value is
/// itself a row, which spares SQLite writing every row as text again for each of its columns.
pub(super) fn json_list<T: Serialize>(values: impl IntoIterator<Item = T>) -> Value {
    let mut list = serde_json::Serializer::new(Vec::new());
    // Texts, numbers and what is made of them: nothing in it can fail to be JSON, or to be UTF-8.
    let written = list.collect_seq(values).is_ok();
    let text = String::from_utf8(list.into_inner()).ok();
    text.filter(|_| written).unwrap_or_default().into()
}

/// The text of anything that can be shown, as a parameter.
pub(super) fn text(value: impl std::fmt::Display) -> Value {
    value.to_string().into()
}

/// The text of anything that can be shown, or null.
pub(super) fn optional_text(value: Option<impl std::fmt::Display>) -> Value {
    value.map(|value| value.to_string()).into()
}

/// A count as the database keeps it. Larger ones than it can keep do not occur: they would be
/// bytes or tokens beyond what the world holds.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count from the database. CHECKs keep negative ones out.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A small count from the database.
pub(super) fn small(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

/// A length as a count.
pub(super) fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
