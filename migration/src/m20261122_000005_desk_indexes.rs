//! Indexes for what operators ask on large states: pages at fault by error, and the newest jobs
//! that ended. They grow with the faults and the batches, not with the pages.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for statement in UP {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for statement in DOWN {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const UP: &[&str] = &[
    "CREATE INDEX pages_faults ON pages (stage, error, record_key) WHERE error IS NOT NULL",
    "CREATE INDEX submissions_ended
         ON submissions (terminal_seen_at, model, submitted_at, ended_at)
         WHERE terminal_seen_at IS NOT NULL AND submitted_at IS NOT NULL",
];

const DOWN: &[&str] = &["DROP INDEX submissions_ended", "DROP INDEX pages_faults"];
