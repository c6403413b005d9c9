//! The stages, and who tells whom.
//!
//! ```text
//! Scanner --PagesRegistered--> Uploader --PagesUploaded--> BatchSubmitter --BatchSubmitted--> Poller
//!    ^                            ^                                                              |
//!    |                            +------PagesReleased------+                               ResultsReady
//!    +----------------------------PagesUnlocked------------ ResultProcessor <--------------------+
//! ```
//!
//! OrderDesk, beside them, carries out what operators tell a running process to do. Conductor starts and
//! ends them all and sends the time; all of them ask and tell StateActor.
//!
//! **Invariant:** a stage handler never waits for the network; a stage never touches the database,
//! a file, the clock or randomness except through StateActor and the ports.

pub mod activity;
pub mod batch_submitter;
pub mod blocking;
pub mod brake;
pub mod busy;
pub mod conductor;
pub mod disk_pause;
pub mod ending;
pub mod hint;
pub mod order_desk;
pub mod poller;
pub mod result_processor;
pub mod scanner;
pub mod state;
pub mod uploader;
pub mod wish;
