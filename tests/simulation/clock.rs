//! Time that moves when the driver says so, and numbers that come from a seed.

use std::cell::Cell;
use std::time::Duration;

use pagemill::domain::time::Timestamp;
use tokio::sync::Notify;

/// The clock of the world.
pub struct Time {
    now: Cell<Timestamp>,
    moved: Notify,
}

impl Time {
    pub fn new() -> Self {
        Time {
            now: Cell::new(Timestamp::parse("2026-11-21T10:00:00Z").unwrap()),
            moved: Notify::new(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// Lets time pass; whoever sleeps until then wakes.
    pub fn advance(&self, span: Duration) {
        self.now.set(self.now.get().plus(span));
        self.moved.notify_waiters();
    }

    pub async fn sleep(&self, span: Duration) {
        let until = self.now.get().plus(span);
        loop {
            let moved = self.moved.notified();
            if self.now.get() >= until {
                return;
            }
            moved.await;
        }
    }
}

/// A small generator (SplitMix64): the same seed gives the same numbers everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed ^ 0x005e_ed0f_a9a6_e000)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, share: u32) -> bool {
        self.below(1000) < share as usize
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A generator of its own, so that what one part draws does not move another.
    pub fn fork(&mut self) -> Dice {
        Dice(self.next())
    }
}
