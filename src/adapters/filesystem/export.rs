//! What an operator takes away: single files of any length, and a tree of small ones.
//!
//! Everything takes its final name only when it is whole and synced, as outputs do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::content::{self, compressed};
use super::durable::{
    create_folders, fault, folder_of, refusal, replace, sync_folder, temporary_of,
};
use super::inside::prepare;
use super::parallel::in_parallel;
use crate::domain::ids::Sha256Hex;
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::Written;

/// A file of any length on its way. Dropped before [`NewFile::commit`], it leaves nothing.
pub struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
    is_whole: bool,
}

impl NewFile {
    /// Begins a file in a folder that exists.
    pub fn create(path: &Path) -> Result<NewFile, SourceError> {
        if path.is_dir() {
            return Err(refusal(path, "this is a folder; name a file in it"));
        }
        let folder = folder_of(path);
        if !folder.is_dir() {
            return Err(refusal(folder, "there is no such folder; make it first"));
        }
        let begin = || -> io::Result<(PathBuf, File)> {
            let temporary = temporary_of(path)?;
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).open(&temporary)?;
            Ok((temporary, file))
        };
        let (temporary, file) = begin().map_err(|error| fault(path, &error))?;
        Ok(NewFile {
            path: path.to_path_buf(),
            temporary,
            file: BufWriter::new(file),
            hasher: Sha256::new(),
            bytes: 0,
            is_whole: false,
        })
    }

    /// Gives the file its name, durably.
    pub fn commit(mut self) -> Result<Written, SourceError> {
        let mut finish = || -> io::Result<()> {
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            sync_folder(folder_of(&self.path))
        };
        finish().map_err(|error| fault(&self.path, &error))?;
        self.is_whole = true;
        let hash = std::mem::take(&mut self.hasher).finalize();
        Ok(Written {
            sha256: Sha256Hex::new(hex::encode(hash)),
            bytes: self.bytes,
        })
    }
}

impl Write for NewFile {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        self.hasher.update(&piece[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_whole {
            // A leftover of our own name is harmless.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The first of these folders in which a path would lie, links followed. The path itself need not
/// be there.
pub fn lies_in<'a>(path: &Path, folders: &[&'a Path]) -> Option<&'a Path> {
    let real = real_place(path);
    let mut folders = folders.iter();
    folders
        .find(|folder| real.starts_with(real_place(folder)))
        .copied()
}

/// A path with its links followed, as far as it is there.
fn real_place(path: &Path) -> PathBuf {
    let mut left = Vec::new();
    let mut there = path;
    loop {
        if let Ok(real) = fs::canonicalize(there) {
            return left.iter().rev().fold(real, |real, name| real.join(name));
        }
        let Some(name) = there.file_name() else {
            return path.to_path_buf();
        };
        left.push(name);
        there = folder_of(there);
    }
}

/// What a file of a tree holds, whether or not it is compressed by now; `None` when it is not there.
pub fn content_of(path: &Path) -> io::Result<Option<Written>> {
    for place in [path.to_path_buf(), compressed(path)] {
        match content::facts(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// Whether a file of a tree is there, compressed or not, and holds so many bytes.
pub fn holds_bytes(path: &Path, bytes: u64) -> bool {
    [path.to_path_buf(), compressed(path)].iter().any(|place| {
        let is_file = fs::symlink_metadata(place).is_ok_and(|found| found.is_file());
        is_file && content::length(place).is_ok_and(|length| length == Some(bytes))
    })
}

/// The path that a file of a tree has when it is not compressed.
pub fn uncompressed(path: &Path) -> PathBuf {
    content::plain(path)
}

/// Writes files of a tree; their folders are made, and no link that leads out of `root` is followed.
pub fn write_tree(
    root: &Path,
    files: &[(PathBuf, Vec<u8>)],
    writers: usize,
) -> Result<(), SourceError> {
    let mut folders: BTreeSet<&Path> = BTreeSet::new();
    for (path, _content) in files {
        folders.insert(folder_of(path));
    }
    for folder in &folders {
        prepare(root, folder)?;
    }
    let written = in_parallel(writers, files.len(), |at| {
        let (path, content) = &files[at];
        replace(path, content).map_err(|error| fault(path, &error))?;
        // What it was, compressed, must not be taken for it.
        remove_file(&compressed(path))
    });
    let folders: Vec<&Path> = folders.into_iter().collect();
    let synced = in_parallel(writers, folders.len(), |at| {
        sync_folder(folders[at]).map_err(|error| fault(folders[at], &error))
    });
    written.into_iter().chain(synced).collect()
}

fn remove_file(path: &Path) -> Result<(), SourceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault(path, &error)),
        _ => Ok(()),
    }
}

/// Removes files of a tree, and folders that are empty then.
pub fn remove_from_tree(root: &Path, paths: &[PathBuf]) -> Result<(), SourceError> {
    let mut touched: BTreeMap<&Path, ()> = BTreeMap::new();
    for path in paths {
        remove_file(path)?;
        remove_file(&compressed(path))?;
        touched.insert(folder_of(path), ());
    }
    for (folder, ()) in touched {
        let mut folder = folder;
        // A folder that is not empty stays, and ends the way up.
        while folder != root && folder.starts_with(root) && fs::remove_dir(folder).is_ok() {
            folder = folder_of(folder);
        }
        if folder.is_dir() {
            sync_folder(folder).map_err(|error| fault(folder, &error))?;
        }
    }
    Ok(())
}

/// Makes the root of a tree.
pub fn make_root(root: &Path) -> Result<(), SourceError> {
    create_folders(root).map_err(|error| fault(root, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("failures.csv");
        fs::write(&path, "before").unwrap();
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        let written = file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(written.bytes, 5);
        assert_eq!(
            written.sha256.as_str(),
            hex::encode(Sha256::digest(b"whole"))
        );
        assert!(NewFile::create(folder.path()).is_err());
        assert!(NewFile::create(&folder.path().join("nowhere/x")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn places_are_known_behind_links_and_before_they_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("outputs");
        let link = folder.path().join("link");
        fs::create_dir(&kept).unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        let folders = [kept.as_path()];
        let inside = |path: &Path| lies_in(path, &folders).is_some();
        assert!(inside(&link.join("a/b.csv")));
        assert!(inside(&kept));
        assert!(inside(&folder.path().join("outputs/../outputs/x")));
        assert!(!inside(&folder.path().join("outputs2/x")));
        assert!(!inside(&folder.path().join("x")));
    }

    #[test]
    fn a_tree_loses_its_empty_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let [one, other] = ["a/b/1.yaml", "a/2.yaml"].map(|name| root.join(name));
        let files = [(one.clone(), b"1".to_vec()), (other.clone(), b"2".to_vec())];
        write_tree(root, &files, 2).unwrap();
        remove_from_tree(root, &[one, root.join("a/gone.yaml")]).unwrap();
        assert!(!root.join("a/b").exists());
        assert!(other.exists());
        remove_from_tree(root, &[other]).unwrap();
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }
}
