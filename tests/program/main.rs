//! The program: the real binary as a child process, against an emulator inside the test.
//!
//! Nothing here looks inside the pipeline. What is believed is the exit code, the texts, the files,
//! the database read by SQL, and the emulator's own ledger.
//!
//! Random tests print their seed; `PAGEMILL_TEST_SEED=...` plays it again. `PAGEMILL_TEST_PAGES=2000`
//! makes the whole runs of `whole.rs` larger (in books of fifty pages), for runs by hand:
//!
//! ```sh
//! PAGEMILL_TEST_PAGES=2000 cargo test --release --test program whole -- --nocapture
//! ```

mod alerts;
mod backup;
mod bench;
mod books;
mod cli;
mod disk;
mod doctor;
mod export;
mod failures;
mod handbook;
mod kill;
mod kit;
mod limits;
mod maintain;
mod orders;
mod paths;
mod playbook;
mod reconcile;
mod report;
mod secrets;
mod show;
mod status;
mod usage;
mod verify;
mod whole;
