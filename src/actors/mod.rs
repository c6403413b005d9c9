//! The stages, and who tells whom.

pub mod state;
