//! What `pagemill demo` needs before it can run: a small dataset made of embedded assets.
//!
//! Here live the books, their labels, a prompt, a schema, a configuration and a fault profile.
//! The emulator and the pipeline that run on them do not: the subcommand puts the three together.

pub mod dataset;
