//! Waiting for the disk of the database: how long between two tries, and when an operator is told.

use std::time::Duration;

/// The pause before the first try, doubled for each further one up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Tries after which an operator is told again: about ten minutes of the longest pause.
const TOLD_AGAIN_AFTER: u32 = 60;

/// How long a group of messages has waited.
#[derive(Debug, Default)]
pub(super) struct DiskPatience {
    tries: u32,
}

impl DiskPatience {
    /// Waits before the next try.
    pub(super) async fn wait(&mut self, reason: &str) {
        if self.tries.is_multiple_of(TOLD_AGAIN_AFTER) {
            tracing::error!(
                reason,
                "the database cannot be written; everything waits, nothing is lost, and work goes on when it can be"
            );
        }
        let doublings = self.tries.min(16);
        self.tries = self.tries.saturating_add(1);
        tokio::time::sleep(PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX)).await;
    }

    /// The disk takes what it is given.
    pub(super) fn over(&self) {
        if self.tries > 0 {
            tracing::info!(tries = self.tries, "the database can be written again");
        }
    }
}
