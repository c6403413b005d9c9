//! Folders below a root: made when they are needed, and refused when a link leads out of it.
//!
//! The root itself may be a link: it is what the operator named. Below it, a name comes from the
//! tree of labels, and nobody chose where a link under that name would lead.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::durable::{create_folder, create_folders, fault, refusal};
use crate::ports::page_source::SourceError;

/// Creates `folder` and those between it and `root`.
pub(super) fn prepare(root: &Path, folder: &Path) -> Result<(), SourceError> {
    create_folders(root).map_err(|error| fault(root, &error))?;
    for path in path_by_path(root, folder)? {
        if !is_there(root, &path)? {
            create_folder(&path).map_err(|error| fault(&path, &error))?;
        }
    }
    Ok(())
}

/// Whether `folder` is there and may be written to, as far as links go.
pub(super) fn has(root: &Path, folder: &Path) -> Result<bool, SourceError> {
    match fs::metadata(root) {
        // A link to a disk that is not mounted is no folder that is still to be made.
        Err(error) if error.kind() == ErrorKind::NotFound && root.is_symlink() => {
            return Err(refusal(root, "a link that leads nowhere"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fault(root, &error)),
        Ok(_) => {}
    }
    for path in path_by_path(root, folder)? {
        if !is_there(root, &path)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The folders below `root` down to `folder`.
fn path_by_path(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let below = folder
        .strip_prefix(root)
        .map_err(|_| refusal(folder, &format!("not below {}", root.display())))?;
    let mut path = root.to_path_buf();
    Ok(below
        .iter()
        .map(|level| {
            path.push(level);
            path.clone()
        })
        .collect())
}

/// Whether there is a folder, or a link to one below `root`.
fn is_there(root: &Path, path: &Path) -> Result<bool, SourceError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(found) if found.is_symlink() => stays_inside(root, path).map(|()| true),
        // Somebody puts that right, and then the folder can be made: no reason to leave a book alone.
        Ok(_) => Err(SourceError {
            disk: true,
            ..refusal(path, "not a folder")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(fault(path, &error)),
    }
}

fn stays_inside(root: &Path, link: &Path) -> Result<(), SourceError> {
    let real_root = fs::canonicalize(root).map_err(|error| fault(root, &error))?;
    let real = fs::canonicalize(link)
        .map_err(|error| refusal(link, &format!("a link that cannot be followed: {error}")))?;
    if !real.starts_with(&real_root) {
        let detail = format!(
            "a link that leads out of {}, to {}; put a folder in its place",
            root.display(),
            real.display()
        );
        return Err(refusal(link, &detail));
    }
    if !real.is_dir() {
        return Err(refusal(link, "a link that leads to no folder"));
    }
    Ok(())
}
