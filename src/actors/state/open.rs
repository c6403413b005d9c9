//! Opening the database: one process at a time, the right file, the right shape.
//!
//! A file that is not ours, damaged, or from a newer program is refused before anything is written.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};
use sqlite::{Access, Mode, Options, Owner};

use super::messages::{StateError, StateResult};
use super::sql::texts;

/// What StateActor needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateOptions {
    /// The database file; its folder is made when it does not exist.
    pub path: PathBuf,
    /// Whether pages behind a dead one may run.
    pub unlock_behind_dead: bool,
}

/// Why the database was not opened. Nothing in it was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("'{0}' is not a database this program can open: write sqlite://PATH")]
    Url(String),
    #[error(
        "'{}' is in use by another pagemill: wait for it to end, or give this one its own state.url",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error("there is no database at '{}': run the pipeline first, with pagemill run", path.display())]
    Missing { path: PathBuf },
    #[error(
        "'{}' is damaged or no SQLite database ({fault}): put back a good copy, or name another file in state.url",
        path.display()
    )]
    Corrupt { path: PathBuf, fault: String },
    #[error(
        "'{}' is the database of another program: name another file in state.url",
        path.display()
    )]
    Foreign { path: PathBuf },
    #[error(
        "'{}' was written by a newer pagemill (it knows '{version}'): use that one, or name another file in state.url",
        path.display()
    )]
    Newer { path: PathBuf, version: String },
    #[error(
        "'{}' was written by an older pagemill: start a run once, which brings it up to date",
        path.display()
    )]
    Older { path: PathBuf },
    #[error("'{}' cannot be opened: {fault}", path.display())]
    Unusable { path: PathBuf, fault: String },
}

/// Reads a `sqlite://` address; a relative path starts at `base_dir`.
pub fn sqlite_path(url: &str, base_dir: &Path) -> Result<PathBuf, OpenError> {
    let refused = || OpenError::Url(url.to_owned());
    let rest = url.strip_prefix("sqlite:").ok_or_else(refused)?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let path = rest.split_once('?').map_or(rest, |(path, _query)| path);
    if path.is_empty() || path == ":memory:" {
        return Err(refused());
    }
    Ok(base_dir.join(path))
}

/// The lock of a database, held without opening it, so that another may be put in its place.
pub struct StateLock {
    /// The database itself, whatever link led to it.
    pub real: PathBuf,
    _lock: File,
}

impl StateLock {
    /// Takes the lock; fails when another process works on the database.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        Ok(StateLock {
            real: std::fs::canonicalize(path).unwrap_or_else(|_not_there| path.to_owned()),
            _lock: lock,
        })
    }
}

/// Looks whether a file is a database of ours that this program understands; `None` when there is
/// no file, or nothing in it. Changes nothing.
pub async fn is_ours(path: &Path) -> Result<Option<()>, OpenError> {
    Ok(match inspect(path).await? {
        Found::Nothing => None,
        Found::Ours { .. } => Some(()),
    })
}

/// An open, locked, migrated database.
pub(super) struct Store {
    path: PathBuf,
    /// `None` once it was let go of.
    owner: Option<Owner>,
    /// Held as long as this lives; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl Store {
    pub(super) async fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let found = inspect(path).await?;
        let unusable = |error: DbErr| OpenError::Unusable {
            path: path.to_owned(),
            fault: error.to_string(),
        };
        let owner = Owner::open(&options(path, Access::Create)).await;
        let owner = owner.map_err(unusable)?;
        if !matches!(found, Found::Ours { pending: false }) {
            migrate(&owner).await.map_err(unusable)?;
        }
        Ok(Store {
            path: path.to_owned(),
            owner: Some(owner),
            _lock: lock,
        })
    }

    /// The connection, which is made anew where the last one was let go of. A database that is gone is not made
    /// anew: an empty one in its place would be taken for a first start.
    pub(super) async fn owner(&mut self) -> StateResult<&Owner> {
        let owner = match self.owner.take() {
            Some(owner) => owner,
            None => Owner::open(&options(&self.path, Access::Write)).await?,
        };
        Ok(self.owner.insert(owner))
    }

    /// Lets go of a connection that may not know where it stands.
    pub(super) fn let_go(&mut self) {
        if let Some(owner) = self.owner.take() {
            // What cannot be closed well is dropped all the same.
            let _ = owner.close();
        }
    }

    /// Brings everything into the database file and lets go of it.
    pub(super) async fn close(mut self) -> StateResult<()> {
        let owner = self.owner().await?;
        let checkpoint = owner
            .connection()
            .execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)")
            .await;
        if let Some(owner) = self.owner.take() {
            owner.close()?;
        }
        checkpoint.map(|_done| ()).map_err(StateError::from)
    }
}

/// The lock file stands beside the database, so that locking does not meet SQLite's own locks.
fn lock(path: &Path) -> Result<File, OpenError> {
    let unusable = |error: std::io::Error| OpenError::Unusable {
        path: path.to_owned(),
        fault: error.to_string(),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(unusable)?;
    }
    // A database that is reached through a link is the same one, and has one lock.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_not_yet| path.to_owned());
    let mut name = real.into_os_string();
    name.push(".lock");
    let name = PathBuf::from(name);
    if name.is_symlink() {
        return Err(OpenError::Unusable {
            path: path.to_owned(),
            fault: format!("its lock '{}' is a link; remove it", name.display()),
        });
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(name)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// A connection that may change a database that is there.
pub(super) async fn connect(path: &Path) -> Result<DatabaseConnection, DbErr> {
    sqlite::connect(options(path, Access::Write)).await
}

/// A connection on which tables may go in any order, for whoever takes all of them away.
pub(super) async fn own_for_clearing(path: &Path) -> Result<Owner, OpenError> {
    let options = options(path, Access::Write).pragma("foreign_keys", "OFF");
    let owner = Owner::open(&options).await;
    owner.map_err(|error| OpenError::Unusable {
        path: path.to_owned(),
        fault: error.to_string(),
    })
}

/// Prepared statements that are kept. A change is a statement of its own for each set of columns that it
/// touches, so there are more of them than kinds of messages.
const STATEMENTS_MAX: usize = 300;

/// What a connection that writes keeps of the database in its own memory, in KiB as SQLite writes them.
/// What it does not keep, the system keeps in memory that it can give to others.
const CACHE_SIZE: &str = "-10240";

fn options(path: &Path, access: Access) -> Options {
    let options = Options::new(path, access)
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .pragma("wal_autocheckpoint", "10000")
        .pragma("cache_size", CACHE_SIZE)
        .pragma("temp_store", "MEMORY");
    Options {
        statements_max: STATEMENTS_MAX,
        ..options
    }
}

/// The same of a connection that only reads. It mostly goes through whole indexes once, where a larger cache is
/// memory to be asked for page by page, and nothing more: with 64 MiB a status of a million pages takes half as long
/// again, and a `verify` no less.
const READ_CACHE_SIZE: &str = "-4096";

/// A connection that can only read, beside whoever writes.
pub(super) async fn connect_read_only(path: &Path) -> Result<DatabaseConnection, DbErr> {
    let options = Options::new(path, Access::Read).pragma("cache_size", READ_CACHE_SIZE);
    sqlite::connect(options).await
}

/// All of it or nothing: a process that dies here leaves no half of a shape.
async fn migrate(owner: &Owner) -> Result<(), DbErr> {
    let transaction = owner.begin(Mode::Write).await?;
    Migrator::up(&transaction, None).await?;
    owner.commit(transaction).await
}

/// What stands in a database file.
pub(super) enum Found {
    /// No file, or one without a table.
    Nothing,
    /// Our tables, perhaps with changes still to come.
    Ours { pending: bool },
}

/// Files up to this size are read through before they are trusted; larger ones would make every
/// start slow, and SQLite reports their damage when it meets it.
const CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Looks at a database file without changing it.
pub(super) async fn inspect(path: &Path) -> Result<Found, OpenError> {
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => {
            return Err(OpenError::Unusable {
                path: path.to_owned(),
                fault: error.to_string(),
            });
        }
    };
    if bytes == 0 {
        return Ok(Found::Nothing);
    }
    refuse_other_formats(path)?;
    let connection = connect_read_only(path)
        .await
        .map_err(|e| fault(path, &e.to_string()))?;
    let found = inspect_tables(&connection, path, bytes).await;
    // The answer is known; a connection that cannot be closed well changes nothing about it.
    let _ = connection.close().await;
    found
}

fn refuse_other_formats(path: &Path) -> Result<(), OpenError> {
    let mut header = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if read.is_ok() && &header == b"SQLite format 3\0" {
        return Ok(());
    }
    Err(OpenError::Corrupt {
        path: path.to_owned(),
        fault: "its first bytes are not those of a SQLite database".to_owned(),
    })
}

async fn inspect_tables(
    connection: &DatabaseConnection,
    path: &Path,
    bytes: u64,
) -> Result<Found, OpenError> {
    let ask = async |sql: &str| {
        let answer = texts(connection, sql, []).await;
        answer.map_err(|error| fault(path, &error.to_string()))
    };
    if bytes <= CHECK_BYTES_MAX {
        let verdict = ask("PRAGMA quick_check(1)").await?;
        if verdict != ["ok"] {
            return Err(OpenError::Corrupt {
                path: path.to_owned(),
                fault: verdict.join(" "),
            });
        }
    }
    let tables = ask(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .await?;
    if tables.is_empty() {
        return Ok(Found::Nothing);
    }
    let foreign = OpenError::Foreign {
        path: path.to_owned(),
    };
    if !tables.iter().any(|table| table == "seaql_migrations") {
        return Err(foreign);
    }
    let applied = ask("SELECT version FROM seaql_migrations ORDER BY version").await?;
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let ours = known
        .first()
        .is_some_and(|initial| applied.contains(initial));
    if !ours && (tables.len() > 1 || !applied.is_empty()) {
        return Err(foreign);
    }
    if let Some(version) = applied.iter().find(|version| !known.contains(version)) {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            version: version.clone(),
        });
    }
    Ok(Found::Ours {
        pending: applied.len() < known.len(),
    })
}

/// SQLite's two words for damage; everything else may pass when the cause does.
fn fault(path: &Path, message: &str) -> OpenError {
    let damaged = message.contains("malformed") || message.contains("not a database");
    let (path, fault) = (path.to_owned(), message.to_owned());
    if damaged {
        OpenError::Corrupt { path, fault }
    } else {
        OpenError::Unusable { path, fault }
    }
}
