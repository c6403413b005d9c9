//! SeaORM's connection to SQLite.
//!
//! SeaORM's own driver gives each connection a thread, which every statement wakes and whose answer wakes
//! the asker: for small statements that costs more than SQLite does. Here a statement is a call. An
//! [`Owner`] makes it on the thread that asks, which is to have nothing else to do; whatever [`connect`]
//! gives makes it on the blocking pool.
//!
//! A value that a column does not have in the type that is asked for is told by SeaORM as if it were
//! null. Columns are read by name: a row knows no order.

mod held;
mod owner;
mod proxy;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sea_orm::{DatabaseConnection, DbErr};

pub use self::held::code_of;
use self::held::{Shared, refusal};
pub use self::owner::{Mode, Owner};
use self::proxy::{Place, cut_off, proxied};

/// Prepared statements that a connection keeps, where nothing else is asked for.
const STATEMENTS_MAX: usize = 100;

/// How a database is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub path: PathBuf,
    pub access: Access,
    /// How long a lock of another connection is waited for.
    pub busy: Duration,
    /// `PRAGMA name = value` for each, in this order.
    pub pragmas: Vec<(&'static str, &'static str)>,
    /// Prepared statements that are kept.
    pub statements_max: usize,
}

/// What may be done with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    /// The same, and a database that is not there is made.
    Create,
}

impl Options {
    /// A connection that enforces foreign keys and waits five seconds for others.
    pub fn new(path: &Path, access: Access) -> Self {
        Options {
            path: path.to_owned(),
            access,
            busy: Duration::from_secs(5),
            pragmas: vec![("foreign_keys", "ON")],
            statements_max: STATEMENTS_MAX,
        }
    }

    /// Adds a pragma, which is set once the connection is open.
    pub fn pragma(mut self, name: &'static str, value: &'static str) -> Self {
        self.pragmas.push((name, value));
        self
    }

    fn open(&self) -> Result<Connection, DbErr> {
        self.opened().map_err(refusal)
    }

    fn opened(&self) -> rusqlite::Result<Connection> {
        let access = match self.access {
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Access::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.busy_timeout(self.busy)?;
        for (name, value) in &self.pragmas {
            db.execute_batch(&format!("PRAGMA {name} = {value}"))?;
        }
        db.set_prepared_statement_cache_capacity(self.statements_max);
        Ok(db)
    }
}

/// Opens a database; its statements run on the blocking pool of the runtime that asks, and transactions begin and
/// end where they are. One transaction at a time: a second one would be a part of the first. What goes wrong
/// when it begins or ends is told by the next statement, so that this is for reading, and for changes that
/// stand alone.
pub async fn connect(options: Options) -> Result<DatabaseConnection, DbErr> {
    let opened = tokio::task::spawn_blocking(move || options.open()).await;
    let shared = Arc::new(Shared::new(opened.map_err(cut_off)??));
    proxied(shared, Place::Aside).await
}

/// The same with the database of such a path, which is to be there.
pub async fn connect_to(path: &Path) -> Result<DatabaseConnection, DbErr> {
    connect(Options::new(path, Access::Write)).await
}
