//! The rules, as functions of values: facts in, a decision and its reason out.
//!
//! **Invariant:** nothing here knows a clock, a file, the network or a serialization format.

pub mod verdict;
