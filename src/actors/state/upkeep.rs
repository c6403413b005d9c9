//! Raw results that are compressed when they are old, and reports of days and weeks.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult};

use entity::period_reports;

use super::messages::{
    ListOldLateRaw, ListOldRaw, OldRaw, RawFile, RawOwner, RecordPeriodReport, RecordRawPath,
    StateResult,
};
use super::rows::{corrupt, instant, word};
use super::sql::{execute_exactly, rows, signed, text, unsigned};
use super::{Apply, Rules};
use crate::domain::figures::WrittenReport;
use crate::domain::ids::{BatchId, RemoteName, Sha256Hex};
use crate::domain::period::{Day, PeriodKind, Zone};
use crate::domain::time::Timestamp;

/// The words of the index that holds what is still to be compressed.
pub(super) const OLD_RAW: &str = "
    SELECT batch_id AS owner, raw_path, raw_bytes, raw_sha256, closed_at FROM submissions
    WHERE closed_at IS NOT NULL AND raw_path IS NOT NULL AND substr(raw_path, -4) <> '.zst'
      AND closed_at < ?1 AND (closed_at, batch_id) > (?2, ?3)
    ORDER BY closed_at, batch_id LIMIT ?4";

const OLD_LATE_RAW: &str = "
    SELECT remote_name AS owner, raw_path, raw_bytes, raw_sha256, updated_at AS closed_at
    FROM late_jobs
    WHERE state = 'collected' AND raw_path IS NOT NULL AND substr(raw_path, -4) <> '.zst'
      AND raw_sha256 IS NOT NULL AND updated_at < ?1 AND remote_name > ?2
    ORDER BY remote_name LIMIT ?3";

#[derive(FromQueryResult)]
struct OldRawRow {
    owner: String,
    raw_path: String,
    raw_bytes: i64,
    raw_sha256: String,
    closed_at: String,
}

fn old_raw(row: OldRawRow, owner: impl Fn(&str) -> RawOwner) -> StateResult<OldRaw> {
    Ok(OldRaw {
        closed_at: instant("raw results", &row.closed_at)?,
        owner: owner(&row.owner),
        raw: RawFile {
            path: row.raw_path,
            bytes: unsigned(row.raw_bytes),
            sha256: Sha256Hex::from(row.raw_sha256),
        },
    })
}

/// Raw results of closed batches that are not compressed, for reading beside a run.
pub async fn old_raws(
    conn: &impl ConnectionTrait,
    before: Timestamp,
    after: Option<&(Timestamp, BatchId)>,
    limit: u64,
) -> StateResult<Vec<OldRaw>> {
    let (at, batch) = match after {
        Some((at, batch)) => (at.to_string(), batch.to_string()),
        None => (String::new(), String::new()),
    };
    let values = [text(before), at.into(), batch.into(), signed(limit).into()];
    let found: Vec<OldRawRow> = rows(conn, OLD_RAW, values).await?;
    let batch = |id: &str| RawOwner::Batch(BatchId::from(id));
    found.into_iter().map(|row| old_raw(row, batch)).collect()
}

/// The same of jobs beside or after their batches.
pub async fn old_late_raws(
    conn: &impl ConnectionTrait,
    before: Timestamp,
    after: &str,
    limit: u64,
) -> StateResult<Vec<OldRaw>> {
    let values = [text(before), after.into(), signed(limit).into()];
    let found: Vec<OldRawRow> = rows(conn, OLD_LATE_RAW, values).await?;
    let job = |name: &str| RawOwner::LateJob(RemoteName::from(name));
    found.into_iter().map(|row| old_raw(row, job)).collect()
}

impl Apply for ListOldRaw {
    type Reply = Vec<OldRaw>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<OldRaw>> {
        old_raws(tx, self.before, self.after.as_ref(), self.limit).await
    }
}

impl Apply for ListOldLateRaw {
    type Reply = Vec<OldRaw>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<OldRaw>> {
        old_late_raws(tx, self.before, &self.after, self.limit).await
    }
}

impl Apply for RecordRawPath {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let (sql, owner) = match &self.owner {
            RawOwner::Batch(batch) => (
                "UPDATE submissions SET raw_path = ?3, updated_at = ?4
                 WHERE batch_id = ?1 AND raw_path = ?2 AND closed_at IS NOT NULL",
                text(batch),
            ),
            RawOwner::LateJob(job) => (
                "UPDATE late_jobs SET raw_path = ?3
                 WHERE remote_name = ?1 AND raw_path = ?2 AND state = 'collected' AND ?4 <> ''",
                text(job),
            ),
        };
        let values = [owner, text(&self.from), text(&self.to), text(self.at)];
        execute_exactly(tx, sql, values, 1).await
    }
}

impl Apply for RecordPeriodReport {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let report = &self.report;
        let row = period_reports::ActiveModel {
            kind: Set(report.kind.to_string()),
            first_day: Set(report.first.to_string()),
            zone: Set(report.zone.clone()),
            name: Set(report.name.clone()),
            requests: Set(signed(report.requests)),
            requests_open: Set(signed(report.open)),
            markdown: Set(report.markdown.clone()),
            created_at: Set(self.at.to_string()),
            updated_at: Set(self.at.to_string()),
        };
        let key = [
            period_reports::Column::Kind,
            period_reports::Column::FirstDay,
            period_reports::Column::Zone,
        ];
        let newest = OnConflict::columns(key)
            .update_columns([
                period_reports::Column::Name,
                period_reports::Column::Requests,
                period_reports::Column::RequestsOpen,
                period_reports::Column::Markdown,
                period_reports::Column::UpdatedAt,
            ])
            .to_owned();
        period_reports::Entity::insert(row)
            .on_conflict(newest)
            .exec_without_returning(tx)
            .await?;
        Ok(())
    }
}

#[derive(FromQueryResult)]
struct WrittenRow {
    kind: String,
    first_day: String,
    requests_open: i64,
    updated_at: String,
}

/// The reports of days and weeks of a zone that were written, from a day on.
pub async fn written_reports(
    conn: &impl ConnectionTrait,
    zone: &Zone,
    from: Day,
) -> StateResult<Vec<WrittenReport>> {
    let sql = "SELECT kind, first_day, requests_open, updated_at FROM period_reports
               WHERE zone = ?1 AND first_day >= ?2 ORDER BY kind, first_day";
    let found: Vec<WrittenRow> = rows(conn, sql, [text(zone), text(from)]).await?;
    let reports = found.into_iter().map(|row| {
        let thing = format!("the report of '{}'", row.first_day);
        Ok(WrittenReport {
            kind: word(&thing, &row.kind, PeriodKind::parse)?,
            first: Day::parse(&row.first_day)
                .map_err(|fault| corrupt(thing.clone(), fault.to_string()))?,
            open: unsigned(row.requests_open),
            written_at: instant(&thing, &row.updated_at)?,
        })
    });
    reports.collect()
}
