//! Questions about failures are answered from indexes that hold all they need: a failure's row
//! carries whole answers, and reading fifty thousand of them to count them takes seconds.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

crate::run_statements!([UP], [DOWN]);

const UP: &str = "
CREATE INDEX failure_logs_by_page
    ON failure_logs (record_key, error_type, counted, created_at);
CREATE INDEX failure_logs_by_day
    ON failure_logs (created_at, error_type, counted, record_key);
CREATE INDEX pages_given_up
    ON pages (record_key, stage, error) WHERE stage IN ('dead','review');
";

const DOWN: &str = "
DROP INDEX pages_given_up;
DROP INDEX failure_logs_by_day;
DROP INDEX failure_logs_by_page;
";
