//! What an audit asks of the file system, and the only removal of files that it can ask for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::content;
use super::durable::{blocking, fault, folder_of, is_temporary, refusal, sync_folder};
use super::sink::HashWriter;
use super::source::{Filesystem, FilesystemOptions};
use super::walk::{Entry, kind};
use crate::adapters::regular_file;
use crate::domain::ids::{BatchId, Sha256Hex};
use crate::domain::layout::page_number;
use crate::domain::time::Timestamp;
use crate::ports::file_audit::{FileAudit, FileFacts, InOutputs, Leftover, OutputWalk, WorkFiles};
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::Written;

/// How many things fill a chunk of a walk.
const CHUNK_ITEMS: usize = 500;
/// How many chunks may wait.
const CHUNKS_WAITING: usize = 2;
/// How deep revisions are searched for temporary files; no layout is deeper.
const DEPTH_MAX: usize = 32;

struct Chunks(mpsc::Receiver<Vec<InOutputs>>);

#[async_trait(?Send)]
impl OutputWalk for Chunks {
    async fn next(&mut self) -> Option<Vec<InOutputs>> {
        self.0.recv().await
    }
}

#[async_trait(?Send)]
impl FileAudit for Filesystem {
    async fn walk_outputs(&self) -> Result<Option<Box<dyn OutputWalk>>, SourceError> {
        let root = self.options.output_dir.clone();
        let place = root.clone();
        let holds_something = blocking(&root, move || match fs::read_dir(&place) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fault(&place, &error)),
        })
        .await?;
        if !holds_something {
            return Ok(None);
        }
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let options = Arc::clone(&self.options);
        tokio::task::spawn_blocking(move || {
            let mut walker = Walker {
                options: &options,
                sender,
                chunk: Vec::new(),
            };
            // The reader has gone: nobody is left to be told.
            let _ = walker
                .folder(&options.output_dir, &mut Vec::new())
                .and_then(|()| walker.send());
        });
        Ok(Some(Box::new(Chunks(receiver))))
    }

    async fn facts(&self, path: &Path) -> Result<Option<FileFacts>, SourceError> {
        let place = path.to_path_buf();
        blocking(path, move || match facts(&place) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&place, &error)),
        })
        .await
    }

    async fn raw_facts_of(&self, recorded: &Path) -> Result<Option<FileFacts>, SourceError> {
        let work_dir = self.options.work_dir.clone();
        let recorded = recorded.to_path_buf();
        blocking(&recorded.clone(), move || {
            let Some(found) = content::find(&work_dir, &recorded) else {
                return Ok(None);
            };
            match content::facts(&found) {
                Ok(Written { bytes, sha256 }) => Ok(Some(FileFacts { bytes, sha256 })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(fault(&found, &error)),
            }
        })
        .await
    }

    async fn work_files(&self) -> Result<WorkFiles, SourceError> {
        let options = Arc::clone(&self.options);
        let root = options.work_dir.clone();
        blocking(&root, move || work_files(&options.work_dir)).await
    }

    async fn has_report(&self, name: &str) -> bool {
        let path = self.options.work_dir.join("reports").join(name);
        tokio::fs::metadata(path)
            .await
            .is_ok_and(|found| found.is_file())
    }

    async fn remove_leftover(&self, path: &Path) -> Result<(), SourceError> {
        let options = Arc::clone(&self.options);
        let place = path.to_path_buf();
        blocking(path, move || {
            if !is_leftover(&options, &place) {
                return Err(refusal(&place, "not a file that may be removed"));
            }
            fs::remove_file(&place)
                .and_then(|()| sync_folder(folder_of(&place)))
                .map_err(|error| fault(&place, &error))
        })
        .await
    }
}

fn facts(path: &Path) -> io::Result<FileFacts> {
    let (mut file, _found) = regular_file::open(path)?;
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut file, &mut HashWriter(&mut hasher))?;
    Ok(FileFacts {
        bytes,
        sha256: Sha256Hex::new(hex::encode(hasher.finalize())),
    })
}

/// Only what this program makes and does not need: request lines, and files with the names that
/// unfinished ones have.
fn is_leftover(options: &FilesystemOptions, path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let folder = folder_of(path);
    let (spool, raw) = (options.work_dir.join("spool"), options.work_dir.join("raw"));
    let is_lines = folder == spool && name.ends_with(".jsonl");
    let is_part = (folder == spool || folder == raw) && name.ends_with(".jsonl.part");
    let is_ours = path.starts_with(&options.output_dir) || path.starts_with(&options.work_dir);
    is_lines || is_part || (is_ours && is_temporary(name))
}

fn work_files(work_dir: &Path) -> Result<WorkFiles, SourceError> {
    let mut found = WorkFiles::default();
    for (path, name) in files(&work_dir.join("spool"))? {
        if let Some(batch) = name.strip_suffix(".jsonl") {
            let batch = BatchId::from(batch);
            found.spooled.push((batch, leftover(path)?));
        } else if name.ends_with(".jsonl.part") || is_temporary(&name) {
            found.temporary.push(leftover(path)?);
        }
    }
    for (path, name) in files(&work_dir.join("raw"))? {
        let plain = name.strip_suffix(content::COMPRESSED).unwrap_or(&name);
        if let Some(batch) = plain.strip_suffix(".jsonl") {
            found.raw.push((BatchId::from(batch), path));
        } else if name.ends_with(".jsonl.part") || is_temporary(&name) {
            found.temporary.push(leftover(path)?);
        }
    }
    for folder in ["reports", "revisions"] {
        temporary_below(&work_dir.join(folder), 0, &mut found.temporary)?;
    }
    found.spooled.sort_by(|a, b| a.0.cmp(&b.0));
    found.raw.sort();
    found.temporary.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The files of a folder with their names; a folder that is not there has none.
fn files(folder: &Path) -> Result<Vec<(PathBuf, String)>, SourceError> {
    let mut found = Vec::new();
    for entry in entries(folder)? {
        let name = entry.file_name();
        if let (Entry::File { .. }, Some(name)) = (kind(&entry), name.to_str()) {
            found.push((entry.path(), name.to_owned()));
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, SourceError> {
    match super::walk::entries(folder) {
        Ok(entries) => Ok(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(fault(folder, &error)),
    }
}

/// Collects the temporary files below a folder; links are not followed.
fn temporary_below(
    folder: &Path,
    depth: usize,
    into: &mut Vec<Leftover>,
) -> Result<(), SourceError> {
    for entry in entries(folder)? {
        match kind(&entry) {
            Entry::Folder { is_link: false } if depth < DEPTH_MAX => {
                temporary_below(&entry.path(), depth + 1, into)?;
            }
            Entry::File { .. } if entry.file_name().to_str().is_some_and(is_temporary) => {
                into.push(leftover(entry.path())?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A file with the time of its last change; one that went away meanwhile counts as just changed.
fn leftover(path: PathBuf) -> Result<Leftover, SourceError> {
    let changed_at = match fs::metadata(&path).and_then(|found| found.modified()) {
        Ok(changed) => {
            let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Timestamp::from_micros(i64::MAX),
        Err(error) => return Err(fault(&path, &error)),
    };
    Ok(Leftover { path, changed_at })
}

/// The reader of the walk has gone.
struct Unwanted;

struct Walker<'a> {
    options: &'a FilesystemOptions,
    sender: mpsc::Sender<Vec<InOutputs>>,
    chunk: Vec<InOutputs>,
}

impl Walker<'_> {
    /// Walks the folder at `levels`. Links to folders are left out: what they lead to is walked
    /// where it stands, or is none of ours.
    fn folder(&mut self, path: &Path, levels: &mut Vec<String>) -> Result<(), Unwanted> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.add(InOutputs::Unreadable(fault(path, &error))),
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.add(InOutputs::Unreadable(fault(path, &error)))?;
                    continue;
                }
            };
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            match kind(&entry) {
                Entry::Folder { is_link: false } => folders.push(name.to_owned()),
                Entry::File { .. } => self.file(&entry.path(), name, levels)?,
                Entry::Folder { is_link: true } | Entry::Other => {}
            }
        }
        if levels.len() >= self.options.layout.book_depth() {
            return Ok(());
        }
        folders.sort();
        for folder in folders {
            let below = path.join(&folder);
            levels.push(folder);
            let walked = self.folder(&below, levels);
            levels.pop();
            walked?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str, levels: &[String]) -> Result<(), Unwanted> {
        if is_temporary(name) {
            let found = match leftover(path.to_path_buf()) {
                Ok(found) => InOutputs::Temporary(found),
                Err(error) => InOutputs::Unreadable(error),
            };
            return self.add(found);
        }
        let Some(page) = name
            .strip_suffix(".json")
            .filter(|stem| page_number(stem).is_ok())
        else {
            return Ok(());
        };
        let mut all: Vec<&str> = levels.iter().map(String::as_str).collect();
        all.push(page);
        match self.options.layout.key(&all) {
            Ok(key) => self.add(InOutputs::Output(key)),
            // Not at a page's depth: no file of ours.
            Err(_) => Ok(()),
        }
    }

    fn add(&mut self, found: InOutputs) -> Result<(), Unwanted> {
        self.chunk.push(found);
        if self.chunk.len() >= CHUNK_ITEMS {
            return self.send();
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Unwanted> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(std::mem::take(&mut self.chunk))
            .map_err(|_| Unwanted)
    }
}
