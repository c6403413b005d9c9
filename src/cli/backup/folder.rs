//! A folder of backups: what is in it, what its next one is called, and making it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};

use crate::actors::state::copy::{self, Census, CopyError};
use crate::cli::progress;
use crate::decide::backups;
use crate::domain::time::Timestamp;

/// How old an unfinished copy must be to count as left by a process that died.
const STALE: Duration = Duration::from_secs(24 * 3_600);
/// Backups that may be begun within one second.
const AGAIN_MAX: u32 = 1_000;

/// One backup of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub path: PathBuf,
    pub made_at: Timestamp,
    pub bytes: u64,
}

/// The backups of one database in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub path: PathBuf,
    /// The name of the database without its extension: backups of others are left alone.
    stem: String,
}

impl Folder {
    /// The folder for the backups of this database.
    pub fn of(database: &Path, path: PathBuf) -> Self {
        let stem = database.file_stem().and_then(OsStr::to_str);
        Folder {
            path,
            stem: stem.unwrap_or("state").to_owned(),
        }
    }

    /// Our backups, oldest first; none where there is no folder.
    pub fn list(&self) -> io::Result<Vec<Backup>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let made = name
                .to_str()
                .and_then(|name| backups::made_at(&self.stem, name));
            let facts = entry.metadata()?;
            if let Some(made_at) = made.filter(|_time| facts.is_file()) {
                found.push(Backup {
                    path: entry.path(),
                    made_at,
                    bytes: facts.len(),
                });
            }
        }
        // The second one of a second has the longer name.
        found.sort_by_key(|backup| {
            let name = backup.path.as_os_str();
            (backup.made_at, name.len(), name.to_owned())
        });
        Ok(found)
    }

    /// The path of the next backup.
    pub fn next(&self, at: Timestamp) -> PathBuf {
        let names = (0..AGAIN_MAX).map(|again| backups::file_name(&self.stem, at, again));
        let mut paths = names.map(|name| self.path.join(name));
        let free = paths.find(|path| fs::symlink_metadata(path).is_err());
        free.unwrap_or_else(|| {
            self.path
                .join(backups::file_name(&self.stem, at, AGAIN_MAX))
        })
    }

    /// Makes a backup under this path: whole and read through, or not at all.
    pub fn make(&self, database: &Path, path: &Path) -> Result<Census, CopyError> {
        let disk = |fault| CopyError::Disk {
            path: path.to_owned(),
            fault,
        };
        fs::create_dir_all(&self.path).map_err(disk)?;
        self.sweep().map_err(disk)?;
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or("backup");
        let unfinished = self
            .path
            .join(format!(".{name}.{}.part", std::process::id()));
        let bar = Bar::new("copying");
        let census = copy::copy(database, &unfinished, &mut |done, of| bar.at(done, of))?;
        bar.end();
        fs::rename(&unfinished, path)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(disk)?;
        Ok(census)
    }

    /// Takes away what processes that died left of their copies.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let is_ours = name.starts_with(&format!(".{}-", self.stem)) && name.ends_with(".part");
            let changed = entry.metadata()?.modified()?;
            let age = SystemTime::now().duration_since(changed);
            if is_ours && age.is_ok_and(|age| age > STALE) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// How far a copy is, on a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar with this word before it; where nobody looks on, nothing.
    pub fn new(word: &'static str) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:>8} {bar:20.cyan/dim} {percent:>3} % {elapsed} (left: {eta})",
        )
        .expect("the template is one of ours")
        .progress_chars("━╸─");
        let bar = progress::place().add(ProgressBar::new(0).with_style(style));
        bar.set_prefix(word);
        Bar(bar)
    }

    /// So many of so many.
    pub fn at(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_backups_of_this_database_are_listed_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "gemini_batches-20261122T094711Z-2.db",
            "gemini_batches-20261122T094711Z.db",
            "gemini_batches-20261121T094711Z.db",
            "other-20261122T094711Z.db",
            "notes.txt",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("gemini_batches-20260101T000000Z.db")).unwrap();
        let ours = Folder::of(Path::new("x/gemini_batches.db"), folder.path().to_owned());
        let listed = ours.list().unwrap();
        let names: Vec<&str> = listed
            .iter()
            .map(|backup| backup.path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "gemini_batches-20261121T094711Z.db",
                "gemini_batches-20261122T094711Z.db",
                "gemini_batches-20261122T094711Z-2.db",
            ]
        );
        let next = ours.next(listed[2].made_at);
        assert!(next.ends_with("gemini_batches-20261122T094711Z-3.db"));
        let nowhere = Folder::of(Path::new("x.db"), folder.path().join("none"));
        assert_eq!(nowhere.list().unwrap(), []);
    }
}
