//! What pagemill knows about pages, batches and the provider, as plain values.
//!
//! **Invariant:** nothing here reads a clock, a file, the network or randomness, and nothing
//! serializes. Everything is a function of its arguments.

pub mod alert;
pub mod answer;
pub mod attempt;
pub mod batch;
pub mod failure;
pub mod figures;
pub mod finding;
pub mod halt;
pub mod ids;
pub mod image;
pub mod late;
pub mod layout;
pub mod manifest;
pub mod order;
pub mod pace;
pub mod page;
pub mod period;
pub mod remote;
pub mod replay;
pub mod selection;
pub mod signature;
pub mod time;
pub mod window;
