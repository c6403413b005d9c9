//! Who fulfils the ports: the provider over HTTP, the file system, the system's clock and
//! randomness.
//!
//! **Invariant:** nothing here knows an actor, the settings or the database; every adapter gets
//! plain values.

pub mod command_hook;
pub mod filesystem;
pub mod gemini;
pub mod os_entropy;
mod regular_file;
pub mod system_clock;
pub mod webhook;
