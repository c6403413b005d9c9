//! The connection of one thread that has nothing else to do.

use std::sync::Arc;

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait};

use super::Options;
use super::held::Shared;
use super::proxy::{Place, proxied};

/// Whether a transaction is going to change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Read,
    /// Begins only when nobody else writes.
    Write,
}

/// A connection that is asked on the thread that asks. All of its futures are ready at once.
///
/// Transactions begin and end here, and not by SeaORM's own words for it, which would not tell that a
/// commit failed.
pub struct Owner {
    shared: Arc<Shared>,
    connection: DatabaseConnection,
}

impl Owner {
    /// Opens a database.
    pub async fn open(options: &Options) -> Result<Self, DbErr> {
        let shared = Arc::new(Shared::new(options.open()?));
        let connection = proxied(Arc::clone(&shared), Place::Here).await?;
        Ok(Owner { shared, connection })
    }

    /// For statements outside of transactions.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    /// Begins a transaction.
    pub async fn begin(&self, mode: Mode) -> Result<DatabaseTransaction, DbErr> {
        self.shared.held().next = mode;
        let transaction = self.connection.begin().await?;
        self.shared.held().told()?;
        Ok(transaction)
    }

    /// Begins a part of a transaction that can be taken back alone.
    pub async fn savepoint(
        &self,
        transaction: &DatabaseTransaction,
    ) -> Result<DatabaseTransaction, DbErr> {
        let savepoint = transaction.begin().await?;
        self.shared.held().told()?;
        Ok(savepoint)
    }

    /// Makes a transaction durable, or a part of it the whole's. A whole one that cannot be committed is rolled
    /// back.
    pub async fn commit(&self, transaction: DatabaseTransaction) -> Result<(), DbErr> {
        transaction.commit().await?;
        self.shared.held().told()
    }

    /// Takes back a transaction, or a part of it.
    pub async fn rollback(&self, transaction: DatabaseTransaction) -> Result<(), DbErr> {
        transaction.rollback().await?;
        self.shared.held().told()
    }

    /// Lets go of the database. Without it the connection is closed as well, and nobody hears of faults.
    pub fn close(self) -> Result<(), DbErr> {
        self.shared.held().close()
    }
}
