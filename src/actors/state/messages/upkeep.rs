//! What is written or put away by itself now and then.

use super::RawFile;
use crate::domain::ids::{BatchId, RemoteName};
use crate::domain::period::{Day, PeriodKind};
use crate::domain::time::Timestamp;

/// Whose raw results a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawOwner {
    Batch(BatchId),
    /// A job beside or after its batch.
    LateJob(RemoteName),
}

/// Raw results that are old enough to be compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRaw {
    pub owner: RawOwner,
    pub raw: RawFile,
    pub closed_at: Timestamp,
}

/// The report of a day or a week, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodReport {
    pub kind: PeriodKind,
    pub first: Day,
    pub zone: String,
    pub name: String,
    /// Requests booked in the period, and those of them that had no outcome when it was written.
    pub requests: u64,
    pub open: u64,
    pub markdown: String,
}
