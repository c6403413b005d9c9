//! pagemill runs a tree of page images through the Gemini Batch API and leaves one
//! schema-validated JSON file a page.
//!
//! The modules stand in reading order: what pagemill knows ([`domain`]), its rules ([`decide`]),
//! the provider's protocol ([`wire`]), what it needs from the world ([`ports`]) and who fulfils it
//! ([`adapters`]), the stages ([`actors`]), and what puts them together ([`pipeline`]).

pub mod domain;
pub mod emulator;
