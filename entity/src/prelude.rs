//! Every entity by the name of its table.

pub use super::active_batches::Entity as ActiveBatches;
pub use super::alert_deliveries::Entity as AlertDeliveries;
pub use super::alerts::Entity as Alerts;
pub use super::attempts::Entity as Attempts;
pub use super::batch_record_keys::Entity as BatchRecordKeys;
pub use super::failure_counts::Entity as FailureCounts;
pub use super::failure_logs::Entity as FailureLogs;
pub use super::halts::Entity as Halts;
pub use super::heartbeats::Entity as Heartbeats;
pub use super::inflight_records::Entity as InflightRecords;
pub use super::late_jobs::Entity as LateJobs;
pub use super::orders::Entity as Orders;
pub use super::paces::Entity as Paces;
pub use super::page_events::Entity as PageEvents;
pub use super::pages::Entity as Pages;
pub use super::period_reports::Entity as PeriodReports;
pub use super::recipes::Entity as Recipes;
pub use super::remote_files::Entity as RemoteFiles;
pub use super::reports::Entity as Reports;
pub use super::runs::Entity as Runs;
pub use super::scan_oddities::Entity as ScanOddities;
pub use super::streaks::Entity as Streaks;
pub use super::submission_events::Entity as SubmissionEvents;
pub use super::submissions::Entity as Submissions;
