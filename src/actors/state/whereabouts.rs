//! What the database believes to be at the provider, for comparing; read-only.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::messages::{FilePurpose, StateResult};
use super::rows::word;
use super::sql::{maybe_text, rows, text};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, RemoteName};
use crate::domain::time::Timestamp;

/// A batch that the database knows, open or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBatch {
    pub batch: BatchId,
    pub display_name: String,
    pub stage: BatchStage,
    pub remote: Option<RemoteName>,
}

/// A file that the ledger counts as being at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    pub name: RemoteName,
    pub purpose: FilePurpose,
}

#[derive(FromQueryResult)]
struct BatchLine {
    batch_id: String,
    display_name: String,
    state: String,
    remote_name: Option<String>,
}

/// Every batch ever, oldest first.
pub async fn batches(conn: &impl ConnectionTrait) -> StateResult<Vec<LocalBatch>> {
    let sql = "SELECT batch_id, display_name, state, remote_name FROM submissions
               ORDER BY created_at, batch_id";
    let found: Vec<BatchLine> = rows(conn, sql, []).await?;
    let found = found.into_iter().map(|line| {
        let thing = format!("batch '{}'", line.batch_id);
        Ok(LocalBatch {
            stage: word(&thing, &line.state, BatchStage::parse)?,
            batch: line.batch_id.into(),
            display_name: line.display_name,
            remote: line.remote_name.map(RemoteName::from),
        })
    });
    found.collect()
}

#[derive(FromQueryResult)]
struct FileLine {
    name: String,
    purpose: String,
}

/// Files that should be there: live ones, and those that wait to be deleted.
pub async fn files(conn: &impl ConnectionTrait, at: Timestamp) -> StateResult<Vec<LocalFile>> {
    let sql = "SELECT name, purpose FROM remote_files
               WHERE state IN ('live','deleting') AND expires_at > ?1 ORDER BY name";
    let found: Vec<FileLine> = rows(conn, sql, [text(at)]).await?;
    let found = found.into_iter().map(|line| {
        let thing = format!("remote file '{}'", line.name);
        Ok(LocalFile {
            purpose: word(&thing, &line.purpose, FilePurpose::parse)?,
            name: line.name.into(),
        })
    });
    found.collect()
}

/// What tells this database from every other: id and start of its first run.
pub async fn first_run(conn: &impl ConnectionTrait) -> StateResult<Option<String>> {
    maybe_text(conn, super::runs::FIRST_RUN, []).await
}
