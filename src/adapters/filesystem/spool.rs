//! A lines file being written: under a temporary name until it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::durable::{blocking, create_folders, fault, folder_of, refusal, sync_folder};
use crate::domain::ids::Sha256Hex;
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::{Spool, Written};

/// The state that travels to the blocking pool and back.
struct Open {
    file: File,
    hasher: Sha256,
    bytes: u64,
}

struct SpoolFile {
    path: PathBuf,
    /// `None` after a write that failed: what stands in the file is not known any more.
    open: Option<Open>,
}

/// The name that a spool file has until it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("jsonl.part")
}

/// Opens a spool file afresh.
pub(super) async fn create(path: PathBuf) -> Result<Box<dyn Spool>, SourceError> {
    let part = unfinished(&path);
    let place = part.clone();
    let file = blocking(&place, move || {
        let folder = folder_of(&part);
        create_folders(folder).map_err(|error| fault(folder, &error))?;
        File::create(&part).map_err(|error| fault(&part, &error))
    })
    .await?;
    let open = Some(Open {
        file,
        hasher: Sha256::new(),
        bytes: 0,
    });
    Ok(Box::new(SpoolFile { path, open }))
}

/// A write that failed: the file is of no use any more, and its space may be what is missing.
fn given_up(path: &Path, error: &io::Error) -> SourceError {
    // The next try begins afresh, whether or not this one can be removed.
    let _ = fs::remove_file(unfinished(path));
    fault(path, error)
}

impl SpoolFile {
    fn take(&mut self) -> Result<Open, SourceError> {
        self.open
            .take()
            .ok_or_else(|| refusal(&self.path, "an earlier write failed"))
    }
}

#[async_trait(?Send)]
impl Spool for SpoolFile {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), SourceError> {
        let mut open = self.take()?;
        let path = self.path.clone();
        let written = blocking(&self.path, move || {
            open.file
                .write_all(&bytes)
                .map_err(|error| given_up(&path, &error))?;
            open.hasher.update(&bytes);
            open.bytes += bytes.len() as u64;
            Ok(open)
        });
        self.open = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Written, SourceError> {
        let open = self.take()?;
        let path = self.path.clone();
        blocking(&self.path, move || {
            let renamed = open
                .file
                .sync_all()
                .and_then(|()| fs::rename(unfinished(&path), &path))
                .and_then(|()| sync_folder(folder_of(&path)));
            renamed.map_err(|error| given_up(&path, &error))?;
            Ok(Written {
                sha256: Sha256Hex::new(hex::encode(open.hasher.finalize())),
                bytes: open.bytes,
            })
        })
        .await
    }
}
