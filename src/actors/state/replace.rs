//! Another database in the place of one: whole at every moment, and nothing of the former is lost.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::copy::{self, Census, CopyError};
use super::open::StateLock;

/// What SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// A path with something appended to its last name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts a copy of `backup` in the place of the locked database, which is kept as `kept`, if there is
/// one. A crash in the middle leaves the one or the other in place, whole.
pub fn replace(
    lock: &StateLock,
    backup: &Path,
    kept: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Census, CopyError> {
    let place = &lock.real;
    let disk = |fault| CopyError::Disk {
        path: place.clone(),
        fault,
    };
    let fresh = with_suffix(place, ".restoring");
    // Only the holder of the lock makes such a file.
    remove(&fresh).map_err(disk)?;
    let census = copy::copy(backup, &fresh, progress)?;
    set_aside(place, kept)
        .and_then(|()| fs::rename(&fresh, place))
        .and_then(|()| sync_folder(place))
        .map_err(disk)?;
    Ok(census)
}

/// Keeps the database under another name as well, with what is written ahead of it, and leaves
/// nothing beside it that SQLite would take for a part of its successor.
fn set_aside(place: &Path, kept: &Path) -> io::Result<()> {
    bring_in(place);
    let ahead = with_suffix(place, BESIDE[0]);
    if is_there(place)? {
        also_as(place, kept)?;
    }
    if fs::metadata(&ahead).is_ok_and(|facts| facts.len() > 0) {
        also_as(&ahead, &with_suffix(kept, BESIDE[0]))?;
    }
    sync_folder(place)?;
    for suffix in BESIDE {
        remove(&with_suffix(place, suffix))?;
    }
    sync_folder(place)
}

/// Brings what is written ahead into the database file. Where that fails, as in a damaged one, both
/// files are kept.
fn bring_in(place: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if let Ok(file) = Connection::open_with_flags(place, flags) {
        let _ = file.busy_timeout(Duration::from_secs(5));
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let _ = file.query_row(checkpoint, [], |row| row.get::<_, i64>(0));
        let _ = file.close();
    }
}

/// A second name for a file; where the file system knows no such thing, a copy.
fn also_as(path: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(path, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_no_links) => {
            fs::copy(path, name)?;
            File::open(name)?.sync_all()
        }
        Ok(()) => Ok(()),
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_facts) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}
