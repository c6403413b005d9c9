//! Where outputs, reports and spooled request files go.

use async_trait::async_trait;
use std::path::{Path, PathBuf};

use super::page_source::SourceError;
use crate::domain::ids::{BatchId, RecordKey, Sha256Hex};

/// An output that is on disk, synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub sha256: Sha256Hex,
    pub bytes: u64,
}

/// A lines file being written.
#[async_trait(?Send)]
pub trait Spool {
    /// Appends bytes.
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), SourceError>;

    /// Syncs, renames to the final name and tells what was written.
    async fn finish(self: Box<Self>) -> Result<Written, SourceError>;
}

/// A raw result file being read in pieces.
#[async_trait(?Send)]
pub trait RawReader {
    /// Splits the file into lines and hands out the next run of them: offset, and the bytes, or
    /// `None` for a line longer than the limit, which is passed over without being held.
    async fn next_lines(&mut self) -> Result<Option<Vec<RawText>>, SourceError>;
}

/// One line of a raw result file, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawText {
    pub offset: u64,
    pub bytes: u64,
    /// `None` when the line is longer than the limit.
    pub text: Option<Vec<u8>>,
}

/// Writes durably: temporary file in the same folder, sync, rename, sync of the folder.
#[async_trait(?Send)]
pub trait ResultSink {
    /// Writes many outputs, in parallel; the answers stand in the order of the arguments.
    async fn write_outputs(
        &self,
        outputs: Vec<(RecordKey, Vec<u8>)>,
    ) -> Vec<Result<Written, SourceError>>;

    /// Says that outputs were written by an earlier process: an output folder that holds nothing is
    /// not the right one, and nothing is written into it.
    fn expect_outputs(&self) {}

    /// Whether the work folder can be written and has the free space that is always left; else why
    /// not. To be asked before anything large is written.
    async fn room(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// How much is free on the disk of the work folder, where that can be told.
    async fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Removes what earlier processes left in the work folder: unfinished files, and spool files of
    /// other batches than these. Gives how many.
    async fn remove_leftovers(&self, _keep: &[BatchId]) -> Result<u64, SourceError> {
        Ok(0)
    }

    /// Keeps the present output of a page as a revision and takes it out of the way.
    async fn retire_output(&self, key: &RecordKey) -> Result<(), SourceError>;

    /// Opens the spool file of a batch for writing, afresh.
    async fn open_spool(&self, batch: &BatchId) -> Result<Box<dyn Spool>, SourceError>;

    /// The path of the spool file of a batch.
    fn spool_path(&self, batch: &BatchId) -> PathBuf;

    /// Whether a spool file of this size is there.
    async fn has_spool(&self, path: &Path, bytes: u64) -> bool;

    /// Removes the spool file of a batch, if it is there.
    async fn remove_spool(&self, batch: &BatchId) -> Result<(), SourceError>;

    /// Keeps, beside the database, what is needed to know a batch again without it.
    async fn write_manifest(&self, batch: &BatchId, text: Vec<u8>) -> Result<(), SourceError>;

    /// The batches that have a manifest, in order.
    async fn manifests(&self) -> Result<Vec<BatchId>, SourceError>;

    /// The manifest of a batch.
    async fn manifest(&self, batch: &BatchId) -> Result<Vec<u8>, SourceError>;

    /// Removes the manifest of a batch, if it is there.
    async fn remove_manifest(&self, batch: &BatchId) -> Result<(), SourceError>;

    /// What the raw results of a batch are on disk, if they are there, whole.
    async fn raw_facts(&self, batch: &BatchId) -> Result<Option<Written>, SourceError>;

    /// The path under which the raw results of a batch are kept.
    fn raw_path(&self, batch: &BatchId) -> PathBuf;

    /// Whether raw results of a batch are there, whatever they hold.
    async fn is_raw_here(&self, batch: &BatchId) -> bool {
        self.raw_facts(batch)
            .await
            .is_ok_and(|facts| facts.is_some())
    }

    /// Whether a raw result file of this size is there. Whatever path was recorded, it is looked for
    /// in the work folder first, and may be compressed.
    async fn has_raw(&self, path: &Path, bytes: u64) -> bool;

    /// Opens a raw result file for reading, wherever and however it is now.
    async fn open_raw(&self, path: &Path) -> Result<Box<dyn RawReader>, SourceError>;

    /// Reads one line of a raw result file.
    async fn raw_line(&self, path: &Path, offset: u64, bytes: u64) -> Result<Vec<u8>, SourceError>;

    /// Writes a report under the given file name; gives its path.
    async fn write_report(&self, name: &str, text: &str) -> Result<PathBuf, SourceError>;
}
