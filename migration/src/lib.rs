//! The ordered changes to pagemill's database.
//!
//! **Invariant:** a migration names its tables and columns itself. It uses no type of `entity` or
//! `pagemill`, so that yesterday's migration does not change when today's row does.

use sea_orm_migration::prelude::*;
pub use sea_orm_migration::prelude::{MigrationName, MigratorTrait};

/// Makes a migration of statements that are executed in their order, all of them or none.
macro_rules! run_statements {
    ($up:expr, $down:expr) => {
        #[async_trait::async_trait]
        impl MigrationTrait for Migration {
            async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
                for statement in $up {
                    let connection = manager.get_connection();
                    connection.execute_unprepared(statement).await?;
                }
                Ok(())
            }

            async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
                for statement in $down {
                    let connection = manager.get_connection();
                    connection.execute_unprepared(statement).await?;
                }
                Ok(())
            }

            fn use_transaction(&self) -> Option<bool> {
                Some(true)
            }
        }
    };
}
pub(crate) use run_statements;

mod m20261122_000001_initial;
mod m20261122_000002_brakes;
mod m20261122_000003_attempt_parameters;
mod m20261122_000004_orders;
mod m20261122_000005_desk_indexes;
mod m20261122_000006_reports_and_retention;
mod m20261122_000007_alerts;
mod m20261122_000008_failure_indexes;
mod m20261122_000009_image_stamps;

/// Every migration, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_initial::Migration),
            Box::new(m20261122_000002_brakes::Migration),
            Box::new(m20261122_000003_attempt_parameters::Migration),
            Box::new(m20261122_000004_orders::Migration),
            Box::new(m20261122_000005_desk_indexes::Migration),
            Box::new(m20261122_000006_reports_and_retention::Migration),
            Box::new(m20261122_000007_alerts::Migration),
            Box::new(m20261122_000008_failure_indexes::Migration),
            Box::new(m20261122_000009_image_stamps::Migration),
        ]
    }
}
