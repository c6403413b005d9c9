//! What failed, and which pages.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::Booked;
use crate::actors::state::messages::StateResult;
use crate::actors::state::rows::word;
use crate::actors::state::sql::{first, rows, signed, small, unsigned};
use crate::domain::failure::ErrorType;
use crate::domain::figures::{ErrorCount, FailedPage};
use crate::domain::ids::RecordKey;
use crate::domain::page::PageStage;

#[derive(FromQueryResult)]
struct ErrorRow {
    error_type: String,
    counted: i64,
    uncounted: i64,
}

pub(super) async fn errors(
    conn: &impl ConnectionTrait,
    booked: &Booked,
) -> StateResult<Vec<ErrorCount>> {
    let sql = question(booked);
    let found: Vec<ErrorRow> = rows(conn, &sql, booked.values()).await?;
    let mut errors = Vec::with_capacity(found.len());
    for row in found {
        errors.push(ErrorCount {
            error: word("failures", &row.error_type, ErrorType::parse)?,
            counted: unsigned(row.counted),
            uncounted: unsigned(row.uncounted),
        });
    }
    errors.sort_by_key(|count| {
        let all = count.counted + count.uncounted;
        (std::cmp::Reverse(all), count.error)
    });
    Ok(errors)
}

#[derive(FromQueryResult)]
struct FailedCountsRow {
    total: i64,
    dead: i64,
    done: i64,
}

pub(super) async fn failed_counts(
    conn: &impl ConnectionTrait,
    booked: &Booked,
) -> StateResult<(u64, u64, u64)> {
    let sql = format!(
        "SELECT count(*) AS total,
                count(*) FILTER (WHERE p.stage IN ('dead','review')) AS dead,
                count(*) FILTER (WHERE p.stage = 'completed') AS done
         FROM (SELECT DISTINCT record_key FROM failure_logs WHERE id IN ({})) AS l
         LEFT JOIN pages AS p ON p.record_key = l.record_key",
        booked.failures()
    );
    let found: Option<FailedCountsRow> = first(conn, &sql, booked.values()).await?;
    let found = found.map(|row| (unsigned(row.total), unsigned(row.dead), unsigned(row.done)));
    Ok(found.unwrap_or_default())
}

#[derive(FromQueryResult)]
struct FailedRow {
    record_key: String,
    error_type: String,
    error_message: String,
    failures: i64,
    stage: Option<String>,
}

pub(super) async fn failed(
    conn: &impl ConnectionTrait,
    booked: &Booked,
    limit: u64,
) -> StateResult<Vec<FailedPage>> {
    let sql = failed_question(booked);
    let [one, two] = booked.values();
    let found: Vec<FailedRow> = rows(conn, &sql, [one, two, signed(limit).into()]).await?;
    let failed = found.into_iter().map(|row| {
        let thing = format!("failure of page '{}'", row.record_key);
        let stage = row.stage.as_deref();
        Ok(FailedPage {
            error: word(&thing, &row.error_type, ErrorType::parse)?,
            message: row.error_message,
            failures: small(row.failures),
            stage: stage
                .map(|stage| word(&thing, stage, PageStage::parse))
                .transpose()?,
            key: RecordKey::from(row.record_key),
        })
    });
    failed.collect()
}

pub(super) fn question(booked: &Booked) -> String {
    format!(
        "SELECT error_type, count(*) FILTER (WHERE counted = 1) AS counted,
                count(*) FILTER (WHERE counted = 0) AS uncounted
         FROM failure_logs WHERE id IN ({}) GROUP BY error_type",
        booked.failures()
    )
}

pub(super) fn failed_question(booked: &Booked) -> String {
    format!(
        "SELECT l.record_key, l.error_type, l.error_message, coalesce(c.count, 0) AS failures,
                p.stage
         FROM (SELECT max(id) AS id FROM failure_logs WHERE id IN ({}) GROUP BY record_key) AS n
         JOIN failure_logs AS l ON l.id = n.id
         LEFT JOIN failure_counts AS c ON c.record_key = l.record_key
         LEFT JOIN pages AS p ON p.record_key = l.record_key
         ORDER BY CASE p.stage WHEN 'dead' THEN 0 WHEN 'review' THEN 0
                               WHEN 'completed' THEN 2 ELSE 1 END, l.record_key
         LIMIT ?3",
        booked.failures()
    )
}
