//! A stopwatch beside the changes: which message, or commit, held up all the others.
//!
//! It measures and logs; no time that it sees gets into a row or a decision.

use std::time::{Duration, Instant};

/// What is told of slow messages.
#[derive(Debug, Default)]
pub(super) struct SlowLog {
    /// Nothing is measured without.
    pub(super) threshold: Option<Duration>,
    times: u64,
}

impl SlowLog {
    /// Begins to measure.
    pub(super) fn start(&self) -> Option<Instant> {
        self.threshold.map(|_measured| Instant::now())
    }

    /// Tells of what took longer than the threshold. `messages` is how many share it.
    pub(super) fn stop(&mut self, started: Option<Instant>, what: &'static str, messages: usize) {
        let (Some(started), Some(threshold)) = (started, self.threshold) else {
            return;
        };
        let took = started.elapsed();
        if took < threshold {
            return;
        }
        self.times = self.times.saturating_add(1);
        tracing::warn!(
            what,
            messages,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            times = self.times,
            "the database took long; everything else waited for it"
        );
    }
}

/// The name of a message, without its path.
pub(super) fn name_of<M>() -> &'static str {
    let path = std::any::type_name::<M>();
    path.rsplit("::").next().unwrap_or(path)
}
