//! Emptying the database for good: what is in it, what still costs money, and the one transaction
//! that takes it all away.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use sqlite::{Mode, Owner};

use super::messages::StateResult;
use super::open::{OpenError, StateLock, is_ours, own_for_clearing};
use super::orders;
use super::sql::{json_list, number, rows, texts, unsigned};
use crate::domain::ids::{BatchId, OrderId};
use crate::domain::order::{Effects, Order, Signature};
use crate::domain::time::Timestamp;

/// A batch that the provider may still work on, and bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveBatch {
    pub batch: BatchId,
    pub state: String,
    /// The provider's name for it, once there is one.
    pub remote: Option<String>,
    pub pages: u64,
}

/// What would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Every table with its rows, by name; the record of the shape is not among them.
    pub tables: Vec<(String, u64)>,
    /// Oldest first.
    pub live: Vec<LiveBatch>,
    /// Those of the named batches that are closed.
    pub closed: Vec<BatchId>,
    /// Files at the provider that nobody will delete any more, and their bytes.
    pub remote_files: u64,
    pub remote_bytes: u64,
}

#[derive(FromQueryResult)]
struct LiveRow {
    batch_id: String,
    state: String,
    remote_name: Option<String>,
    record_count: i64,
}

const LIVE: &str = "
    SELECT batch_id, state, remote_name, record_count FROM submissions
    WHERE state IN ('planned','submitting','in doubt','submitted','ready')
    ORDER BY created_at, batch_id";

const CLOSED: &str = "
    SELECT s.batch_id FROM submissions AS s JOIN json_each(?1) AS j ON j.value = s.batch_id
    WHERE s.state IN ('settled','abandoned')";

const TABLES: &str = "
    SELECT name FROM sqlite_master WHERE type = 'table'
      AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> 'seaql_migrations' ORDER BY name";

/// Looks at everything that clearing would take away. Counts all rows. `named` are batches that
/// something outside of the database speaks of.
pub async fn inventory(conn: &impl ConnectionTrait, named: &[BatchId]) -> StateResult<Inventory> {
    let live: Vec<LiveRow> = rows(conn, LIVE, []).await?;
    let names = json_list(named.iter().map(BatchId::as_str));
    let closed = texts(conn, CLOSED, [names]).await?;
    let held = "FROM remote_files WHERE state IN ('live','deleting')";
    let files = number(conn, &format!("SELECT count(*) {held}"), []).await?;
    let bytes = number(conn, &format!("SELECT sum(bytes) {held}"), []).await?;
    Ok(Inventory {
        tables: counted(conn).await?,
        live: live
            .into_iter()
            .map(|row| LiveBatch {
                batch: BatchId::from(row.batch_id),
                state: row.state,
                remote: row.remote_name,
                pages: unsigned(row.record_count),
            })
            .collect(),
        closed: closed.into_iter().map(BatchId::from).collect(),
        remote_files: files,
        remote_bytes: bytes,
    })
}

async fn counted(conn: &impl ConnectionTrait) -> StateResult<Vec<(String, u64)>> {
    let mut tables = Vec::new();
    for name in texts(conn, TABLES, []).await? {
        let count = number(conn, &format!("SELECT count(*) FROM {}", quoted(&name)), []).await?;
        tables.push((name, count));
    }
    Ok(tables)
}

/// A name cannot be bound; these are the database's own.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Why nothing was cleared.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    State(#[from] super::messages::StateError),
}

/// Who had the database emptied, when and why, for the one row that stands in it afterwards.
#[derive(Debug, Clone)]
pub struct Trace {
    pub id: OrderId,
    pub signature: Signature,
    pub at: Timestamp,
}

/// Deletes every row of the locked database, or its whole shape, which is then made anew; all of it
/// or nothing. Gives the rows that went, by table.
pub async fn clear(
    lock: &StateLock,
    recreate: bool,
    trace: &Trace,
) -> Result<Vec<(String, u64)>, ClearError> {
    is_ours(&lock.real).await?;
    let owner = own_for_clearing(&lock.real).await?;
    let cleared = emptied(&owner, recreate, trace).await;
    if cleared.is_ok() {
        // What is left of the file is empty; where it cannot be made small, it is used again.
        for statement in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
            let _ = owner.connection().execute_unprepared(statement).await;
        }
    }
    // The answer is known; a connection that cannot be closed well changes nothing about it.
    let _ = owner.close();
    Ok(cleared?)
}

async fn emptied(owner: &Owner, recreate: bool, trace: &Trace) -> StateResult<Vec<(String, u64)>> {
    let transaction = owner.begin(Mode::Write).await?;
    let tables = counted(&transaction).await?;
    for (name, _rows) in &tables {
        let statement = format!("DELETE FROM {}", quoted(name));
        transaction.execute_unprepared(&statement).await?;
    }
    let sequences = "SELECT name FROM sqlite_master WHERE name = 'sqlite_sequence'";
    if !texts(&transaction, sequences, []).await?.is_empty() {
        let statement = "DELETE FROM sqlite_sequence";
        transaction.execute_unprepared(statement).await?;
    }
    if recreate {
        recreated(&transaction, &tables).await?;
    } else {
        // The only row that a new database has.
        let first = "INSERT INTO streaks (id, kind, count, barren, since, updated_at)
                     VALUES (1, '', 0, 0, '', '')";
        transaction.execute_unprepared(first).await?;
    }
    let order = Order::Nuke {
        recreate_tables: recreate,
    };
    let mut effects = Effects::default();
    effects.add(
        "rows deleted",
        tables.iter().map(|(_name, rows)| rows).sum(),
    );
    orders::place_done(
        &transaction,
        &trace.id,
        &order,
        &trace.signature,
        &effects,
        trace.at,
    )
    .await?;
    owner.commit(transaction).await?;
    Ok(tables)
}

async fn recreated(transaction: &DatabaseTransaction, tables: &[(String, u64)]) -> StateResult<()> {
    for kind in ["trigger", "view"] {
        let names = "SELECT name FROM sqlite_master WHERE type = ?1";
        for name in texts(transaction, names, [kind.into()]).await? {
            let statement = format!("DROP {kind} {}", quoted(&name));
            transaction.execute_unprepared(&statement).await?;
        }
    }
    for (name, _rows) in tables {
        let statement = format!("DROP TABLE {}", quoted(name));
        transaction.execute_unprepared(&statement).await?;
    }
    let versions = "DELETE FROM seaql_migrations";
    transaction.execute_unprepared(versions).await?;
    Ok(Migrator::up(transaction, None).await?)
}
