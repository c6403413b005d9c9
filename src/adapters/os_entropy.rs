//! The operating system's randomness.

use uuid::{NoContext, Timestamp as UuidTime, Uuid};

use crate::domain::time::Timestamp;
use crate::ports::entropy::Entropy;

/// Draws from the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn unique_id(&self, now: Timestamp) -> String {
        let micros = u64::try_from(now.as_micros()).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
        let time = UuidTime::from_unix(NoContext, micros / 1_000_000, nanos);
        Uuid::new_v7(time).to_string()
    }

    fn fraction(&self) -> f64 {
        // The first 48 bits of a version 4 UUID are random, and a double holds them exactly.
        let (bits, range) = (Uuid::new_v4().as_u128() >> 80, 1_u64 << 48);
        bits as f64 / range as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_sort_by_time() {
        let early = Timestamp::parse("2026-11-21T10:00:00Z").unwrap();
        let later = Timestamp::parse("2026-11-21T10:00:00.001Z").unwrap();
        let first = OsEntropy.unique_id(early);
        assert_ne!(first, OsEntropy.unique_id(early));
        assert!(first < OsEntropy.unique_id(later));
        assert_eq!(Uuid::parse_str(&first).unwrap().get_version_num(), 7);
        OsEntropy.unique_id(Timestamp::from_micros(-5));
    }

    #[test]
    fn fractions_stay_in_their_range() {
        let fractions: Vec<f64> = (0..1_000).map(|_| OsEntropy.fraction()).collect();
        assert!(
            fractions
                .iter()
                .all(|fraction| (0.0..1.0).contains(fraction))
        );
        assert!(fractions.iter().any(|fraction| *fraction > 0.5));
        assert!(fractions.iter().any(|fraction| *fraction < 0.5));
    }
}
