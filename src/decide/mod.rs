//! The rules, as functions of values: facts in, a decision and its reason out.
//!
//! **Invariant:** nothing here reads a clock or rolls dice, and nothing knows a file, the network
//! or a serialization format; `now` and jitter are arguments.

pub mod alert;
pub mod backups;
pub mod bottleneck;
pub mod brake;
pub mod cadence;
pub mod capacity;
pub mod cost;
pub mod doctor;
pub mod estimate;
pub mod explain;
pub mod pace;
pub mod pack;
pub mod poll;
pub mod reconcile;
pub mod recover;
pub mod release;
pub mod report_due;
pub mod retry;
pub mod scan;
pub mod steps;
pub mod storage;
pub mod suggest;
pub mod tuning;
pub mod verdict;
