//! A file that arrives in pieces: written beside its destination, synced, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::fault;
use crate::domain::failure::ApiError;
use crate::domain::ids::Sha256Hex;
use crate::meter::carried;
use crate::ports::file_api::Collected;
use crate::wire::error::Call;

/// The temporary file of one transfer. Dropped unfinished, it is removed.
pub(super) struct PartFile {
    destination: PathBuf,
    part: PathBuf,
    file: File,
    hasher: Sha256,
    bytes: u64,
    is_finished: bool,
}

impl PartFile {
    /// Creates the temporary file, and the folder it stands in.
    pub(super) fn create(destination: PathBuf) -> io::Result<Self> {
        let mut name = destination
            .file_name()
            .ok_or_else(|| io::Error::other("the destination has no file name"))?
            .to_owned();
        name.push(".part");
        let part = destination.with_file_name(name);
        fs::create_dir_all(folder_of(&destination))?;
        Ok(PartFile {
            file: create_afresh(&part)?,
            destination,
            part,
            hasher: Sha256::new(),
            bytes: 0,
            is_finished: false,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Forgets what was written.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hasher = Sha256::new();
        self.bytes = 0;
        Ok(())
    }

    /// Syncs, renames, and syncs the folder.
    pub(super) fn finish(mut self) -> io::Result<Collected> {
        self.file.sync_all()?;
        fs::rename(&self.part, &self.destination)?;
        self.is_finished = true;
        File::open(folder_of(&self.destination))?.sync_all()?;
        let digest = std::mem::take(&mut self.hasher).finalize();
        Ok(Collected {
            bytes: self.bytes,
            sha256: Sha256Hex::new(hex::encode(digest)),
        })
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // The next try removes it, or says why it cannot.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// What a broken transfer left goes first, and so does a link: it would be followed, and what it
/// leads to emptied.
fn create_afresh(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes a whole content durably.
pub(super) async fn save(
    call: Call,
    destination: PathBuf,
    content: Vec<u8>,
) -> Result<Collected, ApiError> {
    let path = destination.clone();
    on_disk(call, &path, move || {
        let mut part = PartFile::create(destination)?;
        part.write(&content)?;
        part.finish()
    })
    .await
}

/// Runs work on the blocking pool; its failure is our disk's.
pub(super) async fn on_disk<T: Send + 'static>(
    call: Call,
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(carried(work)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(fault::local(call, path, &error.to_string())),
        Err(_) => Err(fault::local(call, path, "the work on the file was cut off")),
    }
}
