//! One place where things stay: how many, how long, and how often it was full.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was seen at a spot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SpotReading {
    /// How many fit, where there is a limit.
    pub limit: Option<usize>,
    /// Stays that have ended or are under way.
    pub stays: u64,
    /// The longest that the spot was, in stays at once.
    pub most: usize,
    /// The time that all stays took together, up to now.
    pub stayed: Duration,
    /// The time in which there was at least one.
    pub busy: Duration,
    /// The time in which no more would have fitted.
    pub full: Duration,
}

#[derive(Debug)]
struct Seen {
    reading: SpotReading,
    now: usize,
    since: Instant,
}

/// The book of one spot.
#[derive(Debug)]
pub(super) struct SpotBook(Mutex<Seen>);

/// One stay; it ends when this is dropped.
pub(super) struct Stay<'a>(&'a SpotBook);

impl SpotBook {
    pub(super) fn new(limit: Option<usize>) -> Self {
        SpotBook(Mutex::new(Seen {
            reading: SpotReading {
                limit,
                ..SpotReading::default()
            },
            now: 0,
            since: Instant::now(),
        }))
    }

    pub(super) fn enter(&self) -> Stay<'_> {
        let mut seen = self.seen();
        seen.now += 1;
        seen.reading.stays += 1;
        seen.reading.most = seen.reading.most.max(seen.now);
        Stay(self)
    }

    pub(super) fn read(&self) -> SpotReading {
        self.seen().reading
    }

    /// The book, with the time up to now entered.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Counters are whole at any time; a panic of another thread does not spoil them.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.duration_since(seen.since);
        seen.since = now;
        let count = seen.now;
        let reading = &mut seen.reading;
        reading.stayed += passed * u32::try_from(count).unwrap_or(u32::MAX);
        if count > 0 {
            reading.busy += passed;
        }
        if reading.limit.is_some_and(|limit| count >= limit) {
            reading.full += passed;
        }
        seen
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let mut seen = self.0.seen();
        seen.now = seen.now.saturating_sub(1);
    }
}
