//! Reports: facts in, text out. Nothing here asks for facts.

pub mod batch;
pub mod words;
