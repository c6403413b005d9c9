//! A clock that stands still until a test moves it.

use std::cell::Cell;
use std::time::Duration;

use async_trait::async_trait;
use pagemill::domain::time::Timestamp;
use pagemill::ports::clock::Clock;
use tokio::sync::Notify;

/// The clock of a test.
pub struct ManualClock {
    now: Cell<Timestamp>,
    moved: Notify,
}

impl ManualClock {
    /// Starts at a round instant, so that offsets can be read.
    pub fn new() -> Self {
        let start = Timestamp::parse("2026-11-21T10:00:00Z").unwrap();
        ManualClock {
            now: Cell::new(start),
            moved: Notify::new(),
        }
    }

    /// Lets time pass; whoever sleeps until then wakes.
    pub fn advance(&self, span: Duration) {
        self.now.set(self.now.get().plus(span));
        self.moved.notify_waiters();
    }
}

#[async_trait(?Send)]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    async fn sleep(&self, span: Duration) {
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
