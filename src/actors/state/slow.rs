//! A stopwatch beside the changes: which message, or commit, held up all the others.
//!
//! It measures and logs, and tells the meter of a run that has one; no time that it sees gets into a
//! row or a decision.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait;

use super::sql::number;
use crate::meter::database::Book;

/// What a commit is called among the messages.
pub(super) const COMMIT: &str = "commit";

/// What is told of slow messages.
#[derive(Debug, Default)]
pub(super) struct SlowLog {
    /// Nothing is measured without.
    pub(super) threshold: Option<Duration>,
    /// Nothing is counted without.
    pub(super) meter: Option<Arc<Book>>,
    times: u64,
}

impl SlowLog {
    /// Begins to measure.
    pub(super) fn start(&self) -> Option<Instant> {
        let is_measured = self.threshold.is_some() || self.meter.is_some();
        is_measured.then(Instant::now)
    }

    /// Tells of what took longer than the threshold. `messages` is how many share it.
    pub(super) fn stop(&mut self, started: Option<Instant>, what: &'static str, messages: usize) {
        let Some(started) = started else {
            return;
        };
        let took = started.elapsed();
        match &self.meter {
            Some(meter) if what == COMMIT => meter.committed(took),
            Some(meter) => meter.applied(what, took),
            None => {}
        }
        if self.threshold.is_none_or(|threshold| took < threshold) {
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

impl SlowLog {
    /// Counts messages that are taken from the queue, where `left` stay.
    pub(super) fn taken(&self, count: usize, left: usize) {
        if let Some(meter) = &self.meter {
            meter.taken(count, left);
        }
    }

    /// Counts a transaction that is over.
    pub(super) fn transacted(&self, begun: Option<Instant>, messages: usize, could_change: bool) {
        if let (Some(begun), Some(meter)) = (begun, &self.meter) {
            meter.transacted(messages, could_change, begun.elapsed());
        }
    }

    /// Asks, before the end, how many rows this connection has changed since it was opened.
    pub(super) async fn closing(&self, connection: &impl ConnectionTrait) {
        let Some(meter) = &self.meter else { return };
        // Where the disk fails at the very end, the figure stays unknown.
        if let Ok(rows) = number(connection, "SELECT total_changes()", []).await {
            meter.closing(rows);
        }
    }
}

/// The name of a message, without its path.
pub(super) fn name_of<M>() -> &'static str {
    let path = std::any::type_name::<M>();
    path.rsplit("::").next().unwrap_or(path)
}
