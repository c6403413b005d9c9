//! Randomness: ids and jitter.

use crate::domain::ids::BatchId;
use crate::domain::time::Timestamp;

/// Gives what must not be predictable or must be unique.
pub trait Entropy {
    /// A fresh UUIDv7 for `now`, as the id of a batch.
    fn batch_id(&self, now: Timestamp) -> BatchId;

    /// A fresh ASCII display name of a remote file of ours: prefix, `what`, id.
    fn file_name(&self, what: &str, now: Timestamp) -> String;

    /// A number in `0.0..1.0`, for jitter.
    fn fraction(&self) -> f64;
}
