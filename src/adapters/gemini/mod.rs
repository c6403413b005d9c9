//! The provider over HTTP: the Files and the Batch API of the Gemini Developer API.
//!
//! **Invariant:** nothing here repeats a call that creates a batch, at any layer; the key travels
//! in one header only and stands in no message and no `Debug` text.

mod batches;
mod client;
mod download;
mod fault;
mod files;
mod models;
mod part_file;
mod source;
mod upload;

pub use client::{CHUNK_BYTES, GeminiClient, GeminiOptions, OptionsError, SecretText};
