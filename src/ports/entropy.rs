//! Randomness: ids and jitter.

use crate::domain::time::Timestamp;

/// Gives what must not be predictable or must be unique.
pub trait Entropy {
    /// A fresh UUIDv7 for `now`.
    fn unique_id(&self, now: Timestamp) -> String;

    /// A number in `0.0..1.0`, for jitter.
    fn fraction(&self) -> f64;
}
