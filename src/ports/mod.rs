//! What pagemill needs from the world, as traits. No implementation lives here.
//!
//! **Invariant:** a stage reaches the provider, the file tree, the clock and randomness through
//! these traits only, so a test can stand in for each.

pub mod alert_channel;
pub mod archive;
pub mod batch_api;
pub mod clock;
pub mod entropy;
pub mod file_api;
pub mod file_audit;
pub mod model_api;
pub mod page_source;
pub mod result_sink;
