//! The rows of pagemill's database: one type per table, no logic.
//!
//! **Invariant:** nothing here but the shape of the tables; what a row means is the business of
//! `pagemill::actors::state`, which also keeps columns and words in step with `migration`.

pub mod prelude;

pub mod active_batches;
pub mod alert_deliveries;
pub mod alerts;
pub mod attempts;
pub mod batch_record_keys;
pub mod failure_counts;
pub mod failure_logs;
pub mod halts;
pub mod heartbeats;
pub mod inflight_records;
pub mod late_jobs;
pub mod orders;
pub mod paces;
pub mod page_events;
pub mod pages;
pub mod period_reports;
pub mod recipes;
pub mod remote_files;
pub mod reports;
pub mod runs;
pub mod scan_oddities;
pub mod streaks;
pub mod submission_events;
pub mod submissions;
