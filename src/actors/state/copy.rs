//! Whole copies of a database, made beside whoever works on it, and looked through before they are
//! trusted.
//!
//! The copy is taken with SQLite's own backup, a few pages at a time, out of one read transaction:
//! what other connections commit meanwhile is not in it, and never makes it begin anew. What the
//! same transaction counts is what the copy must have.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::sql::unsigned;
use crate::domain::time::Timestamp;

/// Database pages that are copied at a time, of 4 KiB each as a rule.
const STEP_PAGES: i32 = 1_024;
/// The pause between two steps, which leaves the disk to the pipeline.
const STEP_PAUSE: Duration = Duration::from_millis(2);
/// How long a lock of another connection is waited for.
const BUSY: Duration = Duration::from_secs(30);

/// Why there is no copy, or why it is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("'{}': {fault}", path.display())]
    Disk { path: PathBuf, fault: io::Error },
    #[error("'{}' cannot be read or written by SQLite: {fault}", path.display())]
    Sqlite {
        path: PathBuf,
        fault: rusqlite::Error,
    },
    #[error("'{}' is damaged: {words}", path.display())]
    Damaged { path: PathBuf, words: String },
    #[error("'{}' is not what was copied: {words}", path.display())]
    Differs { path: PathBuf, words: String },
    #[error("'{}' was written by a newer pagemill (it knows '{version}'): use that one", path.display())]
    Newer { path: PathBuf, version: String },
    #[error("'{}' is no database of pagemill", path.display())]
    Foreign { path: PathBuf },
}

/// What stands in a database, in figures. Takes a look at every row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// The changes of shape that it has seen.
    pub versions: Vec<String>,
    /// Every table with its rows, by name.
    pub tables: Vec<(String, u64)>,
    /// Pages by stage, by name.
    pub stages: Vec<(String, u64)>,
    /// Batches by state, by name.
    pub batches: Vec<(String, u64)>,
    /// When a page changed last.
    pub last_event_at: Option<Timestamp>,
}

impl Census {
    /// The rows of one table.
    pub fn rows(&self, table: &str) -> u64 {
        let found = self.tables.iter().find(|(name, _rows)| name == table);
        found.map_or(0, |(_name, rows)| *rows)
    }

    /// The first thing that two databases do not have in common.
    fn difference(&self, other: &Census) -> Option<String> {
        if self == other {
            return None;
        }
        let lists = [
            (&self.tables, &other.tables),
            (&self.stages, &other.stages),
            (&self.batches, &other.batches),
        ];
        for (ours, theirs) in lists {
            let pair = ours.iter().zip(theirs).find(|(one, two)| one != two);
            if let Some(((name, here), (_same, there))) = pair {
                return Some(format!("{name}: {here} in the one, {there} in the other"));
            }
        }
        Some("their shape or their last event differs".to_owned())
    }
}

/// Copies a database into a new file, durably, while others may work on it. `progress` hears how
/// many database pages of how many are copied.
pub fn copy(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Census, CopyError> {
    let census = copied(from, to, progress).and_then(|census| {
        let copy = examine(to)?;
        match census.difference(&copy) {
            None => Ok(census),
            Some(words) => Err(CopyError::Differs {
                path: to.to_owned(),
                words,
            }),
        }
    });
    if census.is_err() {
        // The error that matters is the first one; the next backup takes such a file away.
        let _ = fs::remove_file(to);
    }
    census
}

fn copied(from: &Path, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Census, CopyError> {
    let disk = |fault| CopyError::Disk {
        path: to.to_owned(),
        fault,
    };
    create_like(from, to).map_err(disk)?;
    let read = |fault| sqlite(from, fault);
    let source = open_read_only(from)?;
    // Until its end this transaction sees one state, and so does the backup, which takes part in it.
    source.execute_batch("BEGIN").map_err(read)?;
    let census = census(&source).map_err(read)?;
    let mut target = Connection::open_with_flags(
        to,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|fault| sqlite(to, fault))?;
    steps(&source, &mut target, progress).map_err(|fault| sqlite(to, fault))?;
    source.execute_batch("COMMIT").map_err(read)?;
    let write = |fault| sqlite(to, fault);
    // One file that is whole by itself, which can also be read where nothing may be written.
    let mode: String = target
        .query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))
        .map_err(write)?;
    debug_assert_eq!(mode, "delete");
    target.close().map_err(|(_open, fault)| write(fault))?;
    let file = File::open(to).map_err(disk)?;
    file.sync_all().map_err(disk)?;
    Ok(census)
}

/// A new file that nobody may read who may not read the other.
fn create_like(from: &Path, to: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(to)?;
    file.set_permissions(fs::metadata(from)?.permissions())
}

fn steps(
    source: &Connection,
    target: &mut Connection,
    progress: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<()> {
    // What a crash leaves of it is no backup: it is synced and named only when it is whole.
    target.execute_batch("PRAGMA synchronous=OFF")?;
    let backup = Backup::new(source, target)?;
    loop {
        let step = backup.step(STEP_PAGES)?;
        let so_far = backup.progress();
        let total = unsigned(i64::from(so_far.pagecount));
        progress(
            total.saturating_sub(unsigned(i64::from(so_far.remaining))),
            total,
        );
        match step {
            StepResult::Done => return Ok(()),
            // Another connection is at it; the next step goes on where this one stopped.
            _ => std::thread::sleep(STEP_PAUSE),
        }
    }
}

/// Looks through a whole database: every page of it, every reference between its tables, and its
/// figures.
pub fn examine(path: &Path) -> Result<Census, CopyError> {
    let damaged = |words: String| CopyError::Damaged {
        path: path.to_owned(),
        words,
    };
    let file = open_read_only(path)?;
    let words = file
        .query_row("PRAGMA integrity_check(1)", [], |row| {
            row.get::<_, String>(0)
        })
        .map_err(|fault| faulty(path, fault))?;
    if words != "ok" {
        return Err(damaged(words));
    }
    let mut dangling = file
        .prepare("PRAGMA foreign_key_check")
        .map_err(|fault| sqlite(path, fault))?;
    let mut found = dangling.query([]).map_err(|fault| sqlite(path, fault))?;
    if let Some(row) = found.next().map_err(|fault| sqlite(path, fault))? {
        let table: String = row.get(0).map_err(|fault| sqlite(path, fault))?;
        return Err(damaged(format!(
            "a row of {table} refers to one that is not there"
        )));
    }
    let is_ours = "SELECT count(*) FROM sqlite_master WHERE name = 'seaql_migrations'";
    let tables: i64 = file
        .query_row(is_ours, [], |row| row.get(0))
        .map_err(|fault| sqlite(path, fault))?;
    if tables == 0 {
        return Err(CopyError::Foreign {
            path: path.to_owned(),
        });
    }
    let census = census(&file).map_err(|fault| sqlite(path, fault))?;
    match unknown_version(&census) {
        None => Ok(census),
        Some(version) => Err(CopyError::Newer {
            path: path.to_owned(),
            version,
        }),
    }
}

fn unknown_version(census: &Census) -> Option<String> {
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let versions = census.versions.iter();
    versions
        .clone()
        .find(|version| !known.contains(version))
        .cloned()
}

/// The figures of a database, as one transaction sees them.
fn census(file: &Connection) -> rusqlite::Result<Census> {
    let names = names(
        file,
        "SELECT name FROM sqlite_master WHERE type = 'table'
           AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let has = |table: &str| names.iter().any(|name| name == table);
    let mut census = Census::default();
    for name in &names {
        // A name cannot be bound; this one is the database's own.
        let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = file.query_row(&sql, [], |row| row.get(0))?;
        census.tables.push((name.clone(), unsigned(rows)));
    }
    if has("seaql_migrations") {
        let sql = "SELECT version FROM seaql_migrations ORDER BY version";
        census.versions = self::names(file, sql)?;
    }
    if has("pages") {
        let sql = "SELECT stage, count(*) FROM pages GROUP BY stage ORDER BY stage";
        census.stages = pairs(file, sql)?;
    }
    if has("submissions") {
        let sql = "SELECT state, count(*) FROM submissions GROUP BY state ORDER BY state";
        census.batches = pairs(file, sql)?;
    }
    if has("page_events") {
        let last = names_of_last_event(file)?;
        census.last_event_at = last.and_then(|at| Timestamp::parse(&at).ok());
    }
    Ok(census)
}

fn names_of_last_event(file: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT at FROM page_events ORDER BY id DESC LIMIT 1";
    Ok(names(file, sql)?.pop())
}

fn names(file: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut question = file.prepare(sql)?;
    let found = question.query_map([], |row| row.get(0))?;
    found.collect()
}

fn pairs(file: &Connection, sql: &str) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut question = file.prepare(sql)?;
    let found = question.query_map([], |row| Ok((row.get(0)?, unsigned(row.get::<_, i64>(1)?))))?;
    found.collect()
}

pub(super) fn open_read_only(path: &Path) -> Result<Connection, CopyError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|file| {
        file.busy_timeout(BUSY)?;
        Ok(file)
    });
    opened.map_err(|fault| sqlite(path, fault))
}

fn sqlite(path: &Path, fault: rusqlite::Error) -> CopyError {
    CopyError::Sqlite {
        path: path.to_owned(),
        fault,
    }
}

/// Reading it through met damage that is no answer but an error.
fn faulty(path: &Path, fault: rusqlite::Error) -> CopyError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match fault.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => CopyError::Damaged {
            path: path.to_owned(),
            words: fault.to_string(),
        },
        _ => sqlite(path, fault),
    }
}
