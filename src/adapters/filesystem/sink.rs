//! What is written: outputs, revisions, spooled requests, reports; and where raw results stand.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::durable::{
    blocking, create_folders, fault, folder_of, gone, refusal, replace, sync_folder,
};
use super::source::{Filesystem, FilesystemOptions};
use super::{content, inside, leftovers, outputs, raw, room, spool};
use crate::domain::ids::{BatchId, RecordKey};
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::{RawReader, ResultSink, Spool, Written};

#[async_trait(?Send)]
impl ResultSink for Filesystem {
    async fn write_outputs(
        &self,
        outputs: Vec<(RecordKey, Vec<u8>)>,
    ) -> Vec<Result<Written, SourceError>> {
        let count = outputs.len();
        let options = Arc::clone(&self.options);
        let root = options.output_dir.clone();
        let (has_outputs, swept) = (Arc::clone(&self.has_outputs), Arc::clone(&self.swept));
        blocking(&root, move || {
            // What was there and is not must be unmounted: written here, the outputs would be lost
            // behind it when it is back.
            let unmounted = has_outputs
                .load(Ordering::Relaxed)
                .then(|| gone(&options.output_dir))
                .flatten();
            if let Some(fault) = unmounted {
                let message = format!("{}; if it is, put any file into it", fault.message);
                return Err(SourceError { message, ..fault });
            }
            let written = outputs::write_all(&options, outputs, &swept);
            if written.iter().any(Result::is_ok) {
                has_outputs.store(true, Ordering::Relaxed);
            }
            Ok(written)
        })
        .await
        .unwrap_or_else(|error| vec![Err(error); count])
    }

    fn expect_outputs(&self) {
        self.has_outputs.store(true, Ordering::Relaxed);
    }

    async fn room(&self) -> Result<(), SourceError> {
        let options = Arc::clone(&self.options);
        let folder = options.work_dir.clone();
        blocking(&folder, move || {
            room::check(&options.work_dir, options.free_bytes_min)
        })
        .await
    }

    async fn free_bytes(&self) -> Option<u64> {
        let folder = self.options.work_dir.clone();
        let found = blocking(&folder.clone(), move || room::free_bytes(&folder)).await;
        // Where it cannot be told, nothing else can be done with it either, and that is told there.
        found.ok()
    }

    async fn remove_leftovers(&self, keep: &[BatchId]) -> Result<u64, SourceError> {
        let keep: HashSet<PathBuf> = keep.iter().map(|batch| self.spool_path(batch)).collect();
        let options = Arc::clone(&self.options);
        let folder = options.work_dir.clone();
        blocking(&folder, move || leftovers::remove(&options.work_dir, &keep)).await
    }

    async fn retire_output(&self, key: &RecordKey) -> Result<(), SourceError> {
        let options = Arc::clone(&self.options);
        let key = key.clone();
        let root = options.output_dir.clone();
        blocking(&root, move || retire(&options, &key)).await
    }

    async fn open_spool(&self, batch: &BatchId) -> Result<Box<dyn Spool>, SourceError> {
        spool::create(self.spool_path(batch)).await
    }

    fn spool_path(&self, batch: &BatchId) -> PathBuf {
        self.batch_path("spool", batch, "jsonl")
    }

    async fn has_spool(&self, path: &Path, bytes: u64) -> bool {
        has_file(path, bytes).await
    }

    async fn remove_spool(&self, batch: &BatchId) -> Result<(), SourceError> {
        let path = self.spool_path(batch);
        blocking(&path.clone(), move || {
            for path in [spool::unfinished(&path), path] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(fault(&path, &error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    async fn write_manifest(&self, batch: &BatchId, text: Vec<u8>) -> Result<(), SourceError> {
        let path = self.batch_path("batches", batch, "json");
        blocking(&path.clone(), move || {
            write_durably(&path, &text).map_err(|error| fault(&path, &error))
        })
        .await
    }

    async fn manifests(&self) -> Result<Vec<BatchId>, SourceError> {
        let folder = self.options.work_dir.join("batches");
        blocking(&folder.clone(), move || {
            batches_of(&folder).map_err(|error| fault(&folder, &error))
        })
        .await
    }

    async fn manifest(&self, batch: &BatchId) -> Result<Vec<u8>, SourceError> {
        let path = self.batch_path("batches", batch, "json");
        blocking(&path.clone(), move || {
            fs::read(&path).map_err(|error| fault(&path, &error))
        })
        .await
    }

    async fn remove_manifest(&self, batch: &BatchId) -> Result<(), SourceError> {
        let path = self.batch_path("batches", batch, "json");
        blocking(&path.clone(), move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault(&path, &error)),
            _ => Ok(()),
        })
        .await
    }

    async fn raw_facts(&self, batch: &BatchId) -> Result<Option<Written>, SourceError> {
        let path = self.raw_path(batch);
        let work_dir = self.options.work_dir.clone();
        blocking(&path.clone(), move || {
            let Some(found) = content::find(&work_dir, &path) else {
                return Ok(None);
            };
            let facts = content::facts(&found).map_err(|error| fault(&found, &error))?;
            Ok(Some(facts))
        })
        .await
    }

    fn raw_path(&self, batch: &BatchId) -> PathBuf {
        self.batch_path("raw", batch, "jsonl")
    }

    async fn is_raw_here(&self, batch: &BatchId) -> bool {
        content::find(&self.options.work_dir, &self.raw_path(batch)).is_some()
    }

    async fn has_raw(&self, path: &Path, bytes: u64) -> bool {
        let found = content::find(&self.options.work_dir, path);
        let length = found.map(|found| content::length(&found));
        length.is_some_and(|length| length.is_ok_and(|length| length == Some(bytes)))
    }

    async fn open_raw(&self, path: &Path) -> Result<Box<dyn RawReader>, SourceError> {
        raw::open(&self.raw_place(path), self.options.line_bytes_max).await
    }

    async fn raw_line(&self, path: &Path, offset: u64, bytes: u64) -> Result<Vec<u8>, SourceError> {
        let place = self.raw_place(path);
        let line_bytes_max = self.options.line_bytes_max;
        blocking(path, move || {
            raw::line(&place, offset, bytes, line_bytes_max)
        })
        .await
    }

    async fn write_report(&self, name: &str, text: &str) -> Result<PathBuf, SourceError> {
        let folder = self.options.work_dir.join("reports");
        if !is_plain_name(name) {
            return Err(refusal(&folder, &format!("'{name}' is not a file name")));
        }
        let path = folder.join(name);
        let content = text.as_bytes().to_vec();
        blocking(&path.clone(), move || {
            write_durably(&path, &content).map_err(|error| fault(&path, &error))?;
            Ok(path)
        })
        .await
    }
}

impl Filesystem {
    /// Where the raw results that were recorded under a path are; that path when they are nowhere.
    pub(super) fn raw_place(&self, recorded: &Path) -> PathBuf {
        let found = content::find(&self.options.work_dir, recorded);
        found.unwrap_or_else(|| recorded.to_path_buf())
    }

    fn batch_path(&self, folder: &str, batch: &BatchId, extension: &str) -> PathBuf {
        // An id is a UUID of ours; should one ever not be, it still names a file of this folder.
        let plain: String = batch
            .as_str()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let folder = self.options.work_dir.join(folder);
        folder.join(format!("{plain}.{extension}"))
    }
}

/// The batches that files of a folder are named after; a folder that does not exist has none.
fn batches_of(folder: &Path) -> io::Result<Vec<BatchId>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut batches = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
        // A temporary file begins with a dot.
        batches.extend(
            stem.filter(|stem| !stem.starts_with('.'))
                .map(BatchId::from),
        );
    }
    batches.sort();
    Ok(batches)
}

/// Whether there is a file of this size.
async fn has_file(path: &Path, bytes: u64) -> bool {
    let facts = tokio::fs::metadata(path).await;
    facts.is_ok_and(|facts| facts.is_file() && facts.len() == bytes)
}

/// Whether a text names a file of ours, and no folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

pub(super) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    create_folders(folder_of(path))?;
    replace(path, content)?;
    sync_folder(folder_of(path))
}

/// Moves an output to the revisions. Without an output there is nothing to keep: a crash between
/// the move and its record must not stop the second try.
fn retire(options: &FilesystemOptions, key: &RecordKey) -> Result<(), SourceError> {
    let root = &options.output_dir;
    let layout = &options.layout;
    let key_fault = |error: &dyn std::fmt::Display| refusal(root, &error.to_string());
    let path = layout
        .path(root, key, "json")
        .map_err(|error| key_fault(&error))?;
    if !path.exists() {
        return Ok(());
    }
    inside::prepare(root, folder_of(&path))?;
    let extension = revision(&path).map_err(|error| fault(&path, &error))?;
    let revisions = options.work_dir.join("revisions");
    let kept = layout
        .path(&revisions, key, &extension)
        .map_err(|error| key_fault(&error))?;
    inside::prepare(&revisions, folder_of(&kept))?;
    move_durably(&path, &kept).map_err(|error| fault(&kept, &error))
}

/// `{seconds of its last change}.{start of its SHA-256}.json`: revisions of a page sort by age, and
/// the same content is kept once.
fn revision(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let changed = file.metadata()?.modified()?;
    let seconds = changed
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut HashWriter(&mut hasher))?;
    let digest = hex::encode(hasher.finalize());
    Ok(format!("{seconds}.{}.json", &digest[..16]))
}

/// Hashes what is copied into it.
pub(super) struct HashWriter<'a>(pub(super) &'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            replace(to, &fs::read(from)?)?;
            sync_folder(folder_of(to))?;
            fs::remove_file(from)?;
        }
        outcome => {
            outcome?;
            sync_folder(folder_of(to))?;
        }
    }
    sync_folder(folder_of(from))
}
