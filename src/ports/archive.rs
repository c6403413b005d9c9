//! Files that nobody changes any more, kept in less space.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::page_source::SourceError;
use super::result_sink::Written;
use crate::domain::time::Timestamp;

/// A word to stop, which work on large files listens to.
#[derive(Debug, Clone, Default)]
pub struct StopWord(Arc<AtomicBool>);

impl StopWord {
    pub fn say(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn was_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What became of a file that was to be compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compression {
    /// Its content stands compressed and synced under this path; what it was is still there.
    Done { path: PathBuf, bytes: u64 },
    /// It is not in its folder: moved away, perhaps.
    Missing,
    /// Its content is not what was recorded; it is left as it is.
    Damaged { detail: String },
    /// The word to stop came first.
    Stopped,
}

/// Compresses files and removes what was compressed.
#[async_trait(?Send)]
pub trait Archive {
    /// Compresses the raw results that were recorded under a path, if their content is as recorded,
    /// and reads them back.
    async fn compress_raw(
        &self,
        recorded: &Path,
        content: &Written,
        stop: &StopWord,
    ) -> Result<Compression, SourceError>;

    /// Removes raw results whose content stands compressed beside them, recorded under that path.
    /// Gives the bytes that this has set free.
    async fn remove_raw(&self, compressed: &Path) -> Result<u64, SourceError>;

    /// Raw results that stand both ways, with the same content, as a crash may leave them.
    async fn doubled_raw(&self) -> Result<Vec<PathBuf>, SourceError>;

    /// Writes a report into a folder below that of all reports, whole or not at all.
    async fn keep_report(&self, folder: &str, name: &str, text: &str) -> Result<(), SourceError>;

    /// Exported files last changed before an instant that are not compressed, with their bytes; at most so
    /// many.
    async fn old_exports(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PathBuf, u64)>, SourceError>;

    /// Compresses an exported file, reads it back, and removes what it was. Gives the bytes that it
    /// has now; `None` when the word to stop came first.
    async fn compress_export(
        &self,
        path: &Path,
        stop: &StopWord,
    ) -> Result<Option<u64>, SourceError>;
}
