//! Old files in less space. The compressed file is whole, synced, and read back before anybody is
//! told of it, and what it was goes only after that is recorded: a crash leaves one of them, or both.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder;

use super::content::{self, COMPRESSED, compressed, is_compressed, plain};
use super::durable::{
    blocking, fault, folder_of, is_temporary, refusal, sync_folder, temporary_of,
};
use super::sink::{is_plain_name, write_durably};
use super::source::{Filesystem, FilesystemOptions};
use crate::domain::ids::Sha256Hex;
use crate::domain::time::Timestamp;
use crate::ports::archive::{Archive, Compression, StopWord};
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::Written;

/// How hard is tried. A fifth to a third of a result file is left; more effort saves little.
const LEVEL: i32 = 6;
/// Folders below the exports that are walked into at most.
const DEPTH_MAX: usize = 20;

#[async_trait(?Send)]
impl Archive for Filesystem {
    async fn compress_raw(
        &self,
        recorded: &Path,
        expected: &Written,
        stop: &StopWord,
    ) -> Result<Compression, SourceError> {
        let options = Arc::clone(&self.options);
        let (path, expected, stop) = (recorded.to_path_buf(), expected.clone(), stop.clone());
        blocking(recorded, move || {
            compress_raw(&options, &path, &expected, &stop)
        })
        .await
    }

    async fn remove_raw(&self, path: &Path) -> Result<u64, SourceError> {
        let options = Arc::clone(&self.options);
        let path = path.to_path_buf();
        blocking(&path.clone(), move || remove_raw(&options, &path)).await
    }

    async fn doubled_raw(&self) -> Result<Vec<PathBuf>, SourceError> {
        let folder = self.options.work_dir.join("raw");
        blocking(&folder.clone(), move || {
            doubled(&folder).map_err(|error| fault(&folder, &error))
        })
        .await
    }

    async fn keep_report(&self, folder: &str, name: &str, text: &str) -> Result<(), SourceError> {
        let reports = self.options.work_dir.join("reports");
        for part in [folder, name] {
            if !is_plain_name(part) {
                return Err(refusal(&reports, &format!("'{part}' is not a file name")));
            }
        }
        let path = reports.join(folder).join(name);
        let content = text.as_bytes().to_vec();
        blocking(&path.clone(), move || {
            write_durably(&path, &content).map_err(|error| fault(&path, &error))
        })
        .await
    }

    async fn old_exports(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PathBuf, u64)>, SourceError> {
        let folder = self.options.work_dir.join("export");
        blocking(&folder.clone(), move || {
            let mut found = Vec::new();
            old_files(&folder, 0, before, limit, &mut found)
                .map_err(|error| fault(&folder, &error))?;
            Ok(found)
        })
        .await
    }

    async fn compress_export(
        &self,
        path: &Path,
        stop: &StopWord,
    ) -> Result<Option<u64>, SourceError> {
        let exports = self.options.work_dir.join("export");
        let (path, stop) = (path.to_path_buf(), stop.clone());
        blocking(&path.clone(), move || {
            if !path.starts_with(&exports) || is_compressed(&path) {
                return Err(refusal(&path, "not an exported file"));
            }
            let done = compress(&path, None, &stop).map_err(|error| fault(&path, &error))?;
            match done {
                Done::Stopped => Ok(None),
                Done::Differs(detail) => Err(refusal(&path, &detail)),
                Done::Written(bytes) => {
                    remove(&path).map_err(|error| fault(&path, &error))?;
                    Ok(Some(bytes))
                }
            }
        })
        .await
    }
}

fn compress_raw(
    options: &FilesystemOptions,
    recorded: &Path,
    expected: &Written,
    stop: &StopWord,
) -> Result<Compression, SourceError> {
    let raw = options.work_dir.join("raw");
    let found = content::find(&options.work_dir, recorded);
    // What stands elsewhere was put there by somebody.
    let Some(found) = found.filter(|found| folder_of(found) == raw) else {
        return Ok(Compression::Missing);
    };
    if is_compressed(&found) {
        let facts = content::facts(&found).map_err(|error| fault(&found, &error))?;
        if facts != *expected {
            let detail = "its compressed form does not hold what was recorded".to_owned();
            return Ok(Compression::Damaged { detail });
        }
        let bytes = fs::metadata(&found)
            .map_err(|error| fault(&found, &error))?
            .len();
        return Ok(Compression::Done { path: found, bytes });
    }
    let done = compress(&found, Some(expected), stop).map_err(|error| fault(&found, &error))?;
    Ok(match done {
        Done::Written(bytes) => Compression::Done {
            path: compressed(&found),
            bytes,
        },
        Done::Differs(detail) => Compression::Damaged { detail },
        Done::Stopped => Compression::Stopped,
    })
}

enum Done {
    /// So many bytes, synced, under the final name.
    Written(u64),
    Differs(String),
    Stopped,
}

/// Writes the compressed form of a file beside it and reads it back. What the file holds must be
/// what is expected of it, if something is.
fn compress(path: &Path, expected: Option<&Written>, stop: &StopWord) -> io::Result<Done> {
    let target = compressed(path);
    let temporary = temporary_of(&target)?;
    let written = write(path, &temporary, stop).and_then(|written| {
        let Some(content) = written else {
            return Ok(Done::Stopped);
        };
        if expected.is_some_and(|expected| *expected != content) {
            let detail = format!(
                "it holds {} bytes that are not what was recorded",
                content.bytes
            );
            return Ok(Done::Differs(detail));
        }
        if facts_of_compressed(&temporary)? != content {
            return Ok(Done::Differs(
                "what was written does not read back".to_owned(),
            ));
        }
        let bytes = fs::metadata(&temporary)?.len();
        fs::rename(&temporary, &target)?;
        sync_folder(folder_of(&target))?;
        Ok(Done::Written(bytes))
    });
    if !matches!(written, Ok(Done::Written(_))) {
        // A leftover of our own name is harmless, and removed at the next start.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Gives what the file held, or nothing when the word to stop came.
fn write(from: &Path, to: &Path, stop: &StopWord) -> io::Result<Option<Written>> {
    let mut plain = content::open(from)?;
    let length = fs::metadata(from)?.len();
    let file = OpenOptions::new().write(true).create_new(true).open(to)?;
    let mut encoder = Encoder::new(file, LEVEL)?;
    encoder.include_checksum(true)?;
    // The size stands in the header, so that it is known without reading the file.
    encoder.set_pledged_src_size(Some(length))?;
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    loop {
        if stop.was_said() {
            return Ok(None);
        }
        let piece = plain.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        encoder.write_all(piece)?;
        let taken = piece.len();
        bytes += taken as u64;
        plain.consume(taken);
    }
    encoder.finish()?.sync_all()?;
    Ok(Some(Written {
        sha256: Sha256Hex::new(hex::encode(hasher.finalize())),
        bytes,
    }))
}

/// Reads a compressed file whose name does not say that it is one.
fn facts_of_compressed(path: &Path) -> io::Result<Written> {
    let mut decoder = zstd::stream::read::Decoder::new(File::open(path)?)?;
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut decoder, &mut super::sink::HashWriter(&mut hasher))?;
    Ok(Written {
        sha256: Sha256Hex::new(hex::encode(hasher.finalize())),
        bytes,
    })
}

fn remove_raw(options: &FilesystemOptions, path: &Path) -> Result<u64, SourceError> {
    let raw = options.work_dir.join("raw");
    let before = plain(path);
    let is_safe = folder_of(path) == raw && is_compressed(path) && path.is_file();
    if !is_safe {
        return Err(refusal(&before, "there is no compressed form of it"));
    }
    let bytes = match fs::metadata(&before) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(fault(&before, &error)),
    };
    remove(&before).map_err(|error| fault(&before, &error))?;
    Ok(bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_folder(folder_of(path))
}

fn doubled(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (path, _bytes) in regular_files(folder)? {
        if !is_compressed(&path) {
            continue;
        }
        let before = plain(&path);
        let is_doubled = before != path && before.is_file();
        if is_doubled && content::facts(&before)? == content::facts(&path)? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The regular files of a folder with their sizes; a folder that is not there has none.
fn regular_files(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(found)
}

/// The index of an export stays readable as it is. Links are not followed.
fn old_files(
    folder: &Path,
    depth: usize,
    before: Timestamp,
    limit: usize,
    found: &mut Vec<(PathBuf, u64)>,
) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        if found.len() >= limit {
            return Ok(());
        }
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < DEPTH_MAX {
            old_files(&entry.path(), depth + 1, before, limit, found)?;
        }
        let name = entry.file_name();
        let name = name.to_str().unwrap_or(COMPRESSED);
        let stays = name.ends_with(COMPRESSED) || name == "index.json" || is_temporary(name);
        if kind.is_file() && !stays {
            let facts = entry.metadata()?;
            let changed = facts
                .modified()?
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let changed = i64::try_from(changed.as_micros()).unwrap_or(i64::MAX);
            if Timestamp::from_micros(changed) < before {
                found.push((entry.path(), facts.len()));
            }
        }
    }
    Ok(())
}
