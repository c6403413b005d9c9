//! The rules: facts in, decision and reason out.
//!
//! **Invariant:** nothing here reads a clock, a file, the network or randomness; `now` and `seed`
//! are arguments.

pub mod cost;
