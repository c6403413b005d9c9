//! The dice: one seed decides every fault, and what was played is counted.
//!
//! A throw depends on the seed, the fault, the name of the thing it happens to, and how often that
//! thing was thrown for before. So two runs that ask the same things in another order still meet
//! the same faults.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::faults::{Fault, FaultProfile, FaultRate, RowKind};

/// The seed, the profile in force, and what was thrown so far.
pub(super) struct Dice {
    seed: u64,
    thrown: Mutex<Thrown>,
}

/// What changes with each throw.
#[derive(Default)]
struct Thrown {
    profile: Arc<FaultProfile>,
    /// How often each (fault, name) was thrown for, by hash: names can be many and long.
    throws: HashMap<u64, u64>,
    played: HashMap<Fault, u64>,
}

/// What the dice decided for one request of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowThrow {
    /// The fault to play, if any.
    pub(super) kind: Option<RowKind>,
    /// Which request of this key it is, from 1.
    pub(super) nth: u64,
}

impl Dice {
    /// Takes the seed and the profile to begin with.
    pub(super) fn new(seed: u64, profile: FaultProfile) -> Self {
        let thrown = Thrown {
            profile: Arc::new(profile),
            ..Thrown::default()
        };
        Dice {
            seed,
            thrown: Mutex::new(thrown),
        }
    }

    /// Puts another profile in force and forgets every throw.
    pub(super) fn replace(&self, profile: FaultProfile) {
        *self.lock() = Thrown {
            profile: Arc::new(profile),
            ..Thrown::default()
        };
    }

    /// Forgets every throw and keeps the profile.
    pub(super) fn forget(&self) {
        let mut thrown = self.lock();
        *thrown = Thrown {
            profile: Arc::clone(&thrown.profile),
            ..Thrown::default()
        };
    }

    /// The profile in force.
    pub(super) fn profile(&self) -> Arc<FaultProfile> {
        Arc::clone(&self.lock().profile)
    }

    /// How often each fault was played, by name.
    pub(super) fn played(&self) -> Vec<(&'static str, u64)> {
        self.lock()
            .played
            .iter()
            .map(|(fault, count)| (fault.name(), *count))
            .collect()
    }

    /// Throws for one fault on one thing; says whether it happens.
    pub(super) fn hits(&self, fault: Fault, identity: &str) -> bool {
        self.throw(fault, identity).is_some()
    }

    /// Throws for a fault that lasts; gives how long it does, if it happens.
    pub(super) fn lasts(&self, fault: Fault, identity: &str) -> Option<Duration> {
        self.throw(fault, identity).map(|rate| rate.duration())
    }

    /// Throws for one of several faults that exclude each other; the first to hit is played.
    pub(super) fn first_hit(&self, faults: &[Fault], identity: &str) -> Option<Fault> {
        faults
            .iter()
            .copied()
            .find(|fault| self.hits(*fault, identity))
    }

    /// Throws for the small job that answers inline; `requests` is the size of this one.
    pub(super) fn answers_inline(&self, identity: &str, requests: u64) -> bool {
        let profile = self.profile();
        let small = |rate: &FaultRate| requests <= rate.requests_max();
        profile.rate_of(Fault::JobInlineOutput).is_some_and(small)
            && self.hits(Fault::JobInlineOutput, identity)
    }

    /// Throws for the next request of a key: the script first, then each kind of bad row.
    pub(super) fn row(&self, key: &str) -> RowThrow {
        let mut thrown = self.lock();
        let counter = thrown
            .throws
            .entry(hash(self.seed, "row", key, 0))
            .or_default();
        *counter += 1;
        let nth = *counter;
        let profile = Arc::clone(&thrown.profile);
        let scripted = profile.scripted(key, nth);
        let kind = scripted.or_else(|| {
            RowKind::ALL.iter().copied().find(|kind| {
                let fault = Fault::Row(*kind);
                let Some(rate) = profile.rate_of(fault) else {
                    return false;
                };
                let chance = fraction(hash(self.seed, fault.name(), key, nth));
                rate.hits(key, chance) && thrown.may_play(fault, rate)
            })
        });
        if let Some(kind) = kind {
            thrown.count(Fault::Row(kind));
        }
        RowThrow { kind, nth }
    }

    /// Throws and counts; gives the rate's numbers when the fault happens.
    fn throw(&self, fault: Fault, identity: &str) -> Option<FaultRate> {
        let mut thrown = self.lock();
        let profile = Arc::clone(&thrown.profile);
        let rate = profile.rate_of(fault)?;
        let counter = thrown
            .throws
            .entry(hash(self.seed, fault.name(), identity, 0))
            .or_default();
        *counter += 1;
        let chance = fraction(hash(self.seed, fault.name(), identity, *counter));
        if !rate.hits(identity, chance) || !thrown.may_play(fault, rate) {
            return None;
        }
        thrown.count(fault);
        Some(rate.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Thrown> {
        self.thrown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Thrown {
    fn may_play(&self, fault: Fault, rate: &FaultRate) -> bool {
        let played = self.played.get(&fault).copied().unwrap_or_default();
        rate.at_most.is_none_or(|most| played < most)
    }

    fn count(&mut self, fault: Fault) {
        *self.played.entry(fault).or_default() += 1;
    }
}

/// A stable hash: FNV-1a over all that a throw depends on, with a finisher that spreads the bits.
pub(super) fn hash(seed: u64, what: &str, identity: &str, nth: u64) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let numbers = [seed.to_le_bytes(), nth.to_le_bytes()];
    let bytes = what.bytes().chain([0]).chain(identity.bytes()).chain([0]);
    let all = bytes.chain(numbers.into_iter().flatten());
    let mixed = all.fold(OFFSET, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    let folded = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let folded = (folded ^ (folded >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    folded ^ (folded >> 31)
}

/// Maps a hash to the range from 0 up to, and not including, 1.
fn fraction(hash: u64) -> f64 {
    const MANTISSA_BITS: u32 = 53;
    (hash >> (u64::BITS - MANTISSA_BITS)) as f64 / (1_u64 << MANTISSA_BITS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice(text: &str, seed: u64) -> Dice {
        Dice::new(seed, FaultProfile::from_yaml(text).unwrap())
    }

    #[test]
    fn the_order_of_asking_does_not_change_the_faults() {
        let (left, right) = (dice("poll_503: 0.5", 7), dice("poll_503: 0.5", 7));
        let names: Vec<String> = (0..50).map(|number| format!("job {number}")).collect();
        let forward: Vec<bool> = names.iter().map(|n| left.hits(Fault::Poll503, n)).collect();
        let mut backward: Vec<bool> = names
            .iter()
            .rev()
            .map(|n| right.hits(Fault::Poll503, n))
            .collect();
        backward.reverse();
        assert_eq!(forward, backward);
        let hits = forward.iter().filter(|hit| **hit).count();
        assert!((10..=40).contains(&hits), "{hits} of 50 at one half");
    }

    #[test]
    fn a_rate_of_one_always_hits_until_at_most_is_reached() {
        let dice = dice("poll_503: {rate: 1.0, at_most: 2, only: 'a*'}", 1);
        let hits: Vec<bool> = ["a1", "b", "a2", "a3"]
            .iter()
            .map(|name| dice.hits(Fault::Poll503, name))
            .collect();
        assert_eq!(hits, [true, false, true, false]);
        assert_eq!(dice.played(), [("poll_503", 2)]);
        dice.forget();
        assert!(dice.hits(Fault::Poll503, "a3"));
    }

    #[test]
    fn a_script_comes_before_the_dice() {
        let text = "row_safety: 1.0\npages: [{key: p1, kind: missing, times: 1}]";
        let dice = dice(text, 1);
        assert_eq!(
            dice.row("p1"),
            RowThrow {
                kind: Some(RowKind::Missing),
                nth: 1
            }
        );
        assert_eq!(
            dice.row("p1"),
            RowThrow {
                kind: Some(RowKind::Safety),
                nth: 2
            }
        );
    }
}
