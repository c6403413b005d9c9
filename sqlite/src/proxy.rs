//! What SeaORM is given of a connection.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use sea_orm::{
    Database, DatabaseConnection, DbBackend, DbErr, ProxyDatabaseTrait, ProxyExecResult, ProxyRow,
    Statement,
};

use super::held::{Held, Shared};

/// Where statements run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the thread that asks. What is told of a beginning or an end is left to the owner.
    Here,
    /// On the blocking pool. A beginning or an end that went wrong is told by the next statement.
    Aside,
}

/// A connection as SeaORM knows it.
pub(crate) async fn proxied(
    shared: Arc<Shared>,
    place: Place,
) -> Result<DatabaseConnection, DbErr> {
    let proxy: Box<dyn ProxyDatabaseTrait> = Box::new(Proxy { shared, place });
    Database::connect_proxy(DbBackend::Sqlite, Arc::new(proxy)).await
}

struct Proxy {
    shared: Arc<Shared>,
    place: Place,
}

impl Debug for Proxy {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "SQLite {:?}", self.place)
    }
}

impl Proxy {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Held) -> Result<T, DbErr> + Send + 'static,
    ) -> Result<T, DbErr> {
        if self.place == Place::Here {
            return work(&mut self.shared.held());
        }
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            let mut held = shared.held();
            held.told()?;
            work(&mut held)
        });
        done.await.map_err(cut_off)?
    }
}

pub(crate) fn cut_off(error: tokio::task::JoinError) -> DbErr {
    DbErr::Custom(format!("the work on the database was cut off: {error}"))
}

#[async_trait]
impl ProxyDatabaseTrait for Proxy {
    async fn query(&self, statement: Statement) -> Result<Vec<ProxyRow>, DbErr> {
        self.run(move |held| held.query(&statement)).await
    }

    async fn execute(&self, statement: Statement) -> Result<ProxyExecResult, DbErr> {
        self.run(move |held| held.execute(&statement)).await
    }

    async fn begin(&self) {
        self.shared.held().begin();
    }

    async fn commit(&self) {
        self.shared.held().commit();
    }

    async fn rollback(&self) {
        self.shared.held().rollback();
    }

    fn start_rollback(&self) {
        self.shared.held().rollback();
    }
}
