//! What the model said, and where it stands: everything about one failure.

use std::path::{Path, PathBuf};

use sea_orm::ConnectionTrait;

use super::Desk;
use crate::actors::state::desk_failures::{self as desk, AttemptLine, FailureLine, LogRow};
use crate::actors::state::messages::StateResult;
use crate::domain::ids::BatchId;
use crate::ports::result_sink::ResultSink;

/// A failure with its answer.
pub struct Raw {
    pub log: LogRow,
    pub line: Option<RawPlace>,
}

/// Where the answer's line stands in the raw results.
pub struct RawPlace {
    pub path: PathBuf,
    pub offset: u64,
    pub bytes: u64,
    /// Absent where the file is not there any more, or not what it was.
    pub text: Option<String>,
}

/// Finds everything about a failure.
pub async fn of_line<C: ConnectionTrait>(
    desk: &Desk<'_, C>,
    line: &FailureLine,
) -> StateResult<Option<Raw>> {
    let Some(log) = desk::log_of(desk.conn, line.id).await? else {
        return Ok(None);
    };
    let Some(batch) = &line.batch else {
        return Ok(Some(Raw { log, line: None }));
    };
    let attempts = desk::attempts_of(desk.conn, &line.key).await?;
    let mut attempts = attempts.into_iter();
    let attempt = attempts.find(|attempt| attempt.batch_id == batch.as_str());
    let place = match attempt {
        Some(attempt) => place(desk, batch, attempt).await,
        None => None,
    };
    Ok(Some(Raw { log, line: place }))
}

async fn place<C: ConnectionTrait>(
    desk: &Desk<'_, C>,
    batch: &BatchId,
    attempt: AttemptLine,
) -> Option<RawPlace> {
    let offset = u64::try_from(attempt.raw_line_offset?).ok()?;
    let bytes = u64::try_from(attempt.raw_line_bytes?).ok()?;
    let recorded = PathBuf::from(attempt.raw_path?);
    // A work folder that was moved has the file at today's place.
    let here = desk.files.raw_path(batch);
    for path in [&recorded, &here] {
        if let Ok(text) = desk.files.raw_line(path, offset, bytes).await {
            return Some(RawPlace {
                path: path.clone(),
                offset,
                bytes,
                text: Some(String::from_utf8_lossy(&text).into_owned()),
            });
        }
    }
    Some(RawPlace {
        path: recorded,
        offset,
        bytes,
        text: None,
    })
}

/// A path as it is shown: below the folder of the project where it can be.
pub fn shown(path: &Path) -> String {
    let base = crate::cli::cwd();
    path.strip_prefix(&base)
        .unwrap_or(path)
        .display()
        .to_string()
}
