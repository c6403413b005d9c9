//! The integration tests: one binary, a module per subject.

mod adoption;
mod alerter;
mod batch_submitter;
mod desk;
mod desk_backup;
mod desk_failures;
mod disk;
mod field_notes;
mod kit;
mod metered;
mod order_desk;
mod orders;
mod pipeline;
mod poller;
mod props;
mod remote_bytes;
mod repairs;
mod report;
mod result_processor;
mod scanner;
mod schedule;
mod schema;
mod state;
mod state_faults;
mod states;
mod uploader;
