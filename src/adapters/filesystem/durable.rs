//! Writing so that a crash leaves the old state or the new one, never a half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::meter::carried;
use crate::ports::page_source::SourceError;

/// An error about a path.
pub(super) fn fault(path: &Path, error: &io::Error) -> SourceError {
    SourceError {
        path: path.display().to_string(),
        message: error.to_string(),
        missing: error.kind() == io::ErrorKind::NotFound,
        disk: is_disk_fault(error),
    }
}

/// Whether an error is the disk's, and not that of the one file that was asked for: an input or
/// output error, a stale handle, no space, a read-only or vanished file system, and whatever else
/// does not speak of this very name.
pub(super) fn is_disk_fault(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        !matches!(
            Errno::from_raw_os_error(code),
            Errno::NOENT
                | Errno::ACCESS
                | Errno::PERM
                | Errno::ISDIR
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::INVAL
        )
    })
}

/// Why a folder that should hold something cannot be relied on now, if so.
pub(super) fn gone(folder: &Path) -> Option<SourceError> {
    let first = fs::read_dir(folder).and_then(|mut entries| entries.next().transpose());
    let found = match first {
        Ok(Some(_entry)) => return None,
        Ok(None) => refusal(folder, "the folder is empty: is its file system mounted?"),
        Err(error) => fault(folder, &error),
    };
    Some(SourceError {
        missing: false,
        disk: true,
        ..found
    })
}

/// An error about a path that no system call made.
pub(super) fn refusal(path: &Path, message: &str) -> SourceError {
    SourceError {
        path: path.display().to_string(),
        message: message.to_owned(),
        missing: false,
        disk: false,
    }
}

/// Runs work on the blocking pool.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(carried(work)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(refusal(path, "the work on the file was cut off")),
    }
}

/// Makes a folder's entries durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Creates a folder and those above it, and makes each new entry durable.
pub(super) fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    if above != folder {
        create_folders(above)?;
    }
    create_folder(folder)
}

/// Creates one folder below an existing one; another thread or process may be faster.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(folder_of(folder)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The folder that a path stands in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Writes a file under its final name: temporary file in the same folder, sync, rename. The caller
/// syncs the folder, once for all files of it.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    Begun::write(path, content)?.finish()
}

/// A file that is written and not durable yet, nor under its final name.
pub(super) struct Begun<'a> {
    path: &'a Path,
    temporary: PathBuf,
    file: File,
}

impl<'a> Begun<'a> {
    /// Writes the temporary file of `path`.
    pub(super) fn write(path: &'a Path, content: &[u8]) -> io::Result<Self> {
        let temporary = temporary_of(path)?;
        let mut new = OpenOptions::new();
        let mut file = new.write(true).create_new(true).open(&temporary)?;
        if let Err(error) = file.write_all(content) {
            forget(&temporary);
            return Err(error);
        }
        Ok(Begun {
            path,
            temporary,
            file,
        })
    }

    /// Lets the system begin to write, where it can. Of several files that are begun like this, the first sync
    /// finds all the others on their way, and one commit of the file system's journal has all of them; one
    /// sync after the other would mean a commit each.
    pub(super) fn set_out(self) -> Self {
        // It is advice, and what it promises comes from the sync.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        self
    }

    /// Makes the file durable, then gives it its name.
    pub(super) fn finish(self) -> io::Result<()> {
        let synced = self.file.sync_all();
        let finished = synced.and_then(|()| fs::rename(&self.temporary, self.path));
        if finished.is_err() {
            forget(&self.temporary);
        }
        finished
    }
}

/// A leftover of our own name is harmless; the error that matters is the first one.
fn forget(temporary: &Path) {
    let _ = fs::remove_file(temporary);
}

/// Creates a file of ours afresh. What stands in its place goes first: a link there would be
/// followed, and what it leads to emptied.
pub(super) fn create_afresh(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// `.{name}.{32 hex digits}.tmp` in the same folder.
pub(super) fn temporary_of(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::Error::other("the path has no file name"))?;
    let random = uuid::Uuid::new_v4().simple();
    Ok(path.with_file_name(format!(".{name}.{random}.tmp")))
}

/// Whether a file name is one that [`replace`] makes.
pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|rest| rest.strip_suffix(".tmp"))
        .and_then(|rest| rest.rsplit_once('.'))
        .is_some_and(|(_name, random)| {
            random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_temporary_names_are_recognized() {
        let made = temporary_of(Path::new("/x/14.json")).unwrap();
        assert!(is_temporary(made.file_name().unwrap().to_str().unwrap()));
        for other in [
            ".DS_Store",
            ".14.json.tmp",
            "14.json",
            ".a.0123.tmp",
            ".tmp",
        ] {
            assert!(!is_temporary(other), "{other}");
        }
    }
}
