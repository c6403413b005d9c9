//! Our own files as an audit sees them: what is there, whole or not, and what is left over.

use async_trait::async_trait;
use std::path::{Path, PathBuf};

use super::page_source::SourceError;
use crate::domain::ids::{BatchId, RecordKey, Sha256Hex};
use crate::domain::time::Timestamp;

/// What a file is, whatever its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    pub bytes: u64,
    pub sha256: Sha256Hex,
}

/// Something in the output folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InOutputs {
    /// A file at a page's place.
    Output(RecordKey),
    /// A temporary file of ours.
    Temporary(Leftover),
    /// A folder that cannot be listed.
    Unreadable(SourceError),
}

/// A file that may be left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub path: PathBuf,
    /// When it was last written to.
    pub changed_at: Timestamp,
}

/// What stands in the folders of the work folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkFiles {
    /// Request lines, by the batch that their name says.
    pub spooled: Vec<(BatchId, Leftover)>,
    /// Raw results, by the batch that their name says.
    pub raw: Vec<(BatchId, PathBuf)>,
    /// Files that were being written: request lines, downloads, reports, revisions.
    pub temporary: Vec<Leftover>,
}

/// A walk through the output folder under way.
#[async_trait(?Send)]
pub trait OutputWalk {
    /// The next chunk, bounded; `None` when the walk is over.
    async fn next(&mut self) -> Option<Vec<InOutputs>>;
}

/// Looks at files, and removes what is left over.
#[async_trait(?Send)]
pub trait FileAudit {
    /// Walks the output folder; `None` when it is not there or holds nothing at all.
    async fn walk_outputs(&self) -> Result<Option<Box<dyn OutputWalk>>, SourceError>;

    /// Size and hash of a file; `None` when it is not there.
    async fn facts(&self, path: &Path) -> Result<Option<FileFacts>, SourceError>;

    /// Size and hash of what the raw results that were recorded under a path hold, wherever and
    /// however they are now; `None` when they are nowhere.
    async fn raw_facts_of(&self, recorded: &Path) -> Result<Option<FileFacts>, SourceError>;

    /// Lists the folders of the work folder.
    async fn work_files(&self) -> Result<WorkFiles, SourceError>;

    /// Whether a report of this name is there.
    async fn has_report(&self, name: &str) -> bool;

    /// Removes request lines or a temporary file of ours; refuses everything else.
    async fn remove_leftover(&self, path: &Path) -> Result<(), SourceError>;
}
