//! The ordered changes to pagemill's database.
//!
//! **Invariant:** a migration names its tables and columns itself. It uses no type of `entity` or
//! `pagemill`, so that yesterday's migration does not change when today's row does.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::*;

mod m20261122_000001_initial;
mod m20261122_000002_brakes;
mod m20261122_000003_attempt_parameters;
mod m20261122_000004_orders;
mod m20261122_000005_desk_indexes;
mod m20261122_000006_reports_and_retention;
mod m20261122_000007_alerts;
mod m20261122_000008_failure_indexes;

/// Every migration, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_000001_initial::Migration),
            Box::new(m20261122_000002_brakes::Migration),
            Box::new(m20261122_000003_attempt_parameters::Migration),
            Box::new(m20261122_000007_alerts::Migration),
            Box::new(m20261122_000004_orders::Migration),
            Box::new(m20261122_000005_desk_indexes::Migration),
            Box::new(m20261122_000008_failure_indexes::Migration),
            Box::new(m20261122_000006_reports_and_retention::Migration),
        ]
    }
}
