//! The integration tests: one binary, a module per subject.

mod adoption;
mod batch_submitter;
mod disk;
mod field_notes;
mod kit;
mod pipeline;
mod poller;
mod props;
mod remote_bytes;
mod repairs;
mod report;
mod result_processor;
mod scanner;
mod schema;
mod state;
mod state_faults;
mod states;
mod uploader;
