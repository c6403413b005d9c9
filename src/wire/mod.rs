//! The provider's protocol as text: what pagemill writes and what it reads.
//!
//! **Invariant:** functions of values only; no files, no network, no settings.

pub mod schema;
