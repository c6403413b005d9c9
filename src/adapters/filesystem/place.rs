//! What a folder is like: room, writability, the kind of its file system, who holds a lock.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::durable::{folder_of, replace, sync_folder};

/// Bytes that may still be written below a path; where it does not exist yet, below the nearest
/// folder above it that does.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(nearest(path)?)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// The nearest folder at or above a path that exists.
pub fn nearest(path: &Path) -> io::Result<PathBuf> {
    let mut at = path;
    while !at.exists() {
        let above = folder_of(at);
        if above == at || above == Path::new(".") {
            break;
        }
        at = above;
    }
    fs::canonicalize(at)
}

/// Whether this process may make something in a folder, by its permissions alone.
pub fn may_write(folder: &Path) -> bool {
    use rustix::fs::Access;
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Does in a folder what every durable write does there (temporary file, sync, rename, sync of the
/// folder), and takes the file away again.
pub fn try_writing(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(
        ".pagemill-doctor.{}",
        uuid::Uuid::new_v4().simple()
    ));
    let written = replace(&path, b"written to see whether it can be\n");
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && written.is_err() => Ok(()),
        removed => removed,
    };
    written.and(removed).and_then(|()| sync_folder(folder))
}

/// The kind of the file system below a path when it is known to be reached over a network.
pub fn network_file_system(path: &Path) -> io::Result<Option<&'static str>> {
    network_kind(&nearest(path)?)
}

#[cfg(target_os = "linux")]
fn network_kind(folder: &Path) -> io::Result<Option<&'static str>> {
    // From the statfs(2) and the kernel's magic numbers.
    const KINDS: [(u64, &str); 9] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x00c3_6400, "Ceph"),
        (0x0102_1997, "9P"),
        (0x5346_414f, "AFS"),
        (0x0bd0_0bd0, "Lustre"),
        (0x0116_1970, "GFS2"),
    ];
    let facts = rustix::fs::statfs(folder)?;
    // The field's width and sign differ between machines; the numbers have 32 bits.
    let kind = facts.f_type as u64 & 0xffff_ffff;
    let known = KINDS.iter().find(|(number, _name)| *number == kind);
    Ok(known.map(|(_number, name)| *name))
}

#[cfg(not(target_os = "linux"))]
fn network_kind(_folder: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// Who holds a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Free,
    /// By a process, whose id is given where the system tells it.
    Held(Option<u32>),
}

/// Looks whether a lock file is held. It is never made, and never kept.
pub fn lock(path: &Path) -> io::Result<Lock> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Free),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            file.unlock()?;
            Ok(Lock::Free)
        }
        Err(TryLockError::WouldBlock) => {
            let inode = file.metadata()?.ino();
            let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
            Ok(Lock::Held(holder(&locks, inode)))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The process that holds a file of this inode, by a list of locks such as Linux keeps:
/// `1: FLOCK  ADVISORY  WRITE 3589 fe:00:5644587 0 EOF`.
fn holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (_number, kind) = (words.next()?, words.next()?);
        let (_advice, mode, process, place) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_it = kind == "FLOCK"
            && mode == "WRITE"
            && place.rsplit(':').next() == Some(inode.to_string().as_str());
        // Zero or less is a process outside of this container.
        is_it
            .then(|| process.parse().ok().filter(|process| *process > 0))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:7 0 EOF\n\
                     1: -> FLOCK ADVISORY WRITE 12 fe:00:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 3589 fe:00:7 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 fe:00:8 0 EOF\n";
        assert_eq!(holder(locks, 7), Some(3589));
        assert_eq!(holder(locks, 8), None);
        assert_eq!(holder("nonsense", 7), None);
    }

    #[test]
    fn a_held_lock_is_seen_and_a_probe_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        assert_eq!(lock(&path).unwrap(), Lock::Free);
        assert!(!path.exists());
        let held = File::create(&path).unwrap();
        held.lock().unwrap();
        assert!(matches!(lock(&path).unwrap(), Lock::Held(_)));
        held.unlock().unwrap();
        assert_eq!(lock(&path).unwrap(), Lock::Free);
        try_writing(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(try_writing(&folder.path().join("nowhere")).is_err());
        assert!(free_bytes(&folder.path().join("a/b")).unwrap() > 0);
    }
}
