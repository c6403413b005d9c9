//! What a process that died left behind: files of our own names that nothing refers to.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::durable::{fault, is_temporary};
use crate::ports::page_source::SourceError;

/// The ends of the names that unfinished spool files and downloads have.
const UNFINISHED: &str = ".jsonl.part";

/// Removes unfinished files of the work folder, and spool files that are not among `keep`.
pub(super) fn remove(work_dir: &Path, keep: &HashSet<PathBuf>) -> Result<u64, SourceError> {
    let spool = work_dir.join("spool");
    let mut removed = 0;
    removed += remove_where(&spool, |path, name| {
        name.ends_with(UNFINISHED) || (name.ends_with(".jsonl") && !keep.contains(path))
    })?;
    removed += remove_where(&work_dir.join("raw"), |_path, name| {
        name.ends_with(UNFINISHED) || is_temporary(name)
    })?;
    for reports in ["reports", "reports/daily", "reports/weekly"] {
        removed += remove_where(&work_dir.join(reports), |_path, name| is_temporary(name))?;
    }
    Ok(removed)
}

/// Folders of outputs that were looked through by this process.
pub(super) type Swept = Mutex<HashSet<PathBuf>>;

/// Removes the temporary files of an output folder, once a process and before its first write there:
/// after that, such a file may be one that is being written.
pub(super) fn sweep_outputs<'a>(swept: &Swept, folders: impl Iterator<Item = &'a Path>) {
    // Held while a folder is looked through, so that nobody writes into it meanwhile.
    let mut swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
    for folder in folders {
        if !swept.contains(folder) {
            swept.insert(folder.to_path_buf());
            // What cannot be removed is in nobody's way; a disk at fault shows at the write.
            let _ = remove_where(folder, |_path, name| is_temporary(name));
        }
    }
}

/// Removes the regular files of a folder whose names are ours to remove.
fn remove_where(folder: &Path, is_ours: impl Fn(&Path, &str) -> bool) -> Result<u64, SourceError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|error| fault(folder, &error))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|error| fault(folder, &error))?;
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if is_file && is_ours(&path, name) {
            fs::remove_file(&path).map_err(|error| fault(&path, &error))?;
            removed += 1;
        }
    }
    Ok(removed)
}
