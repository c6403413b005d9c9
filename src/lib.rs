//! pagemill runs a tree of page images through the Gemini Batch API and leaves one
//! schema-validated JSON file a page.
//!
//! The modules stand in reading order: what pagemill knows ([`domain`]), its rules ([`decide`]),
//! the provider's protocol ([`wire`]), what it needs from the world ([`ports`]) and who fulfils it
//! ([`adapters`]), the stages ([`actors`]), and what puts them together ([`pipeline`]).

pub mod actors;
pub mod adapters;
pub mod bench;
pub mod cli;
pub mod decide;
pub mod demo;
pub mod domain;
pub mod emulator;
pub mod meter;
pub mod notices;
pub mod pipeline;
pub mod ports;
pub mod prompt;
pub mod report;
pub mod settings;
pub mod wire;
