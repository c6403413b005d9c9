//! Indexes for what operators ask on large states: pages at fault by error, and the newest jobs
//! that ended. They grow with the faults and the batches, not with the pages.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

crate::run_statements!(UP, DOWN);

const UP: &[&str] = &[
    "CREATE INDEX pages_faults ON pages (stage, error, record_key) WHERE error IS NOT NULL",
    "CREATE INDEX submissions_ended
         ON submissions (terminal_seen_at, model, submitted_at, ended_at)
         WHERE terminal_seen_at IS NOT NULL AND submitted_at IS NOT NULL",
];

const DOWN: &[&str] = &["DROP INDEX submissions_ended", "DROP INDEX pages_faults"];
