//! How much space is left on the disk of the work folder.

use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::durable::{create_folders, fault, refusal};
use crate::ports::page_source::SourceError;

/// Says why nothing large should be written below `folder` now, if so.
pub(super) fn check(folder: &Path, free_bytes_min: u64) -> Result<(), SourceError> {
    create_folders(folder).map_err(|error| blame_the_disk(fault(folder, &error)))?;
    let found = statvfs(folder).map_err(|error| blame_the_disk(fault(folder, &error.into())))?;
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(blame_the_disk(refusal(
            folder,
            "the file system is read-only",
        )));
    }
    let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
    if free_bytes < free_bytes_min {
        let words = format!(
            "{free_bytes} bytes are free, fewer than paths.free_bytes_min ({free_bytes_min}): make room"
        );
        return Err(blame_the_disk(refusal(folder, &words)));
    }
    Ok(())
}

/// How much is free on the disk of a folder, or of the nearest one above it that is there.
pub(super) fn free_bytes(folder: &Path) -> Result<u64, SourceError> {
    let mut there = folder;
    while !there.exists() {
        match there.parent() {
            Some(parent) if parent != Path::new("") => there = parent,
            _ => break,
        }
    }
    let found = statvfs(there).map_err(|error| fault(there, &error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn blame_the_disk(error: SourceError) -> SourceError {
    SourceError {
        missing: false,
        disk: true,
        ..error
    }
}
