//! The command line: one file a subcommand. Each parses, asks and prints; decisions are made elsewhere.

pub mod config;
pub mod init;
