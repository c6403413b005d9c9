//! How a book's folders look from outside: which they are, and when their entries last changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::source::FilesystemOptions;
use super::walk::path_of;
use crate::ports::page_source::{BookStamp, FolderStamp};

/// A folder that changed so short a time ago may change once more without its time changing: file
/// systems count in steps, the coarsest of 2 s.
const STEP_SECONDS: i64 = 3;

/// The seconds since 1970, as a file system counts them.
pub(super) fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// The stamp of a book whose folders have stood still for a while at `now`, if that can be told.
pub(super) fn of_book(
    options: &FilesystemOptions,
    levels: &[String],
    now: i64,
) -> Option<BookStamp> {
    let labels = of_folder(&path_of(&options.label_dir, levels)).ok()?;
    let outputs = match of_folder(&path_of(&options.output_dir, levels)) {
        Ok(stamp) => Some(stamp),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    let still = |stamp: &FolderStamp| stands_still(stamp, now);
    (still(&labels) && outputs.as_ref().is_none_or(still)).then_some(BookStamp { labels, outputs })
}

/// Whether a folder has stood still at `now` for so long that its next change shows in its stamp.
pub(super) fn stands_still(stamp: &FolderStamp, now: i64) -> bool {
    stamp.changed.0.saturating_add(STEP_SECONDS) <= now
}

/// The time of the last change of any kind, which nobody can set, and not that of the contents, which
/// copying programs do set.
pub(super) fn of_folder(path: &Path) -> io::Result<FolderStamp> {
    let found = fs::metadata(path)?;
    Ok(FolderStamp {
        device: found.dev(),
        inode: found.ino(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}
