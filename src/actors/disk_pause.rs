//! A stage that our own disk holds up: how long it pauses, and how often an operator hears of it.

use std::time::Duration;

use crate::decide::cadence;
use crate::domain::time::Timestamp;
use crate::notices;

/// The first pause, and the longest when the disk goes on failing.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long it takes until an operator is told the same again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// The pauses of one stage.
#[derive(Debug)]
pub struct DiskPause {
    stage: &'static str,
    /// Since when nothing has worked; absent while the disk does.
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    times: u32,
    told_at: Option<Timestamp>,
    /// Whether an operator was told of the present trouble.
    told: bool,
}

impl DiskPause {
    /// A stage whose disk works.
    pub fn new(stage: &'static str) -> Self {
        DiskPause {
            stage,
            since: None,
            until: None,
            times: 0,
            told_at: None,
            told: false,
        }
    }

    /// Whether the stage is to leave the disk alone now.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// The disk failed; gives when to try again. What fails together makes one pause.
    pub fn begin(&mut self, reason: &str, now: Timestamp) -> Timestamp {
        if let Some(until) = self.until.filter(|until| now < *until) {
            return until;
        }
        self.times = self.times.saturating_add(1);
        self.since.get_or_insert(now);
        let until = now.plus(cadence::backoff(PAUSE_MIN, self.times, PAUSE_MAX, 0.5));
        self.until = Some(until);
        self.told |= self.note(reason, now);
        until
    }

    /// Tells an operator, unless the last time was a short while ago; gives whether it did. Alone, it
    /// is for a single file that cannot be read while others can.
    pub fn note(&mut self, reason: &str, now: Timestamp) -> bool {
        let is_due = self
            .told_at
            .is_none_or(|at| now.since(at) >= TOLD_AGAIN_AFTER);
        if is_due {
            notices::DiskTrouble {
                stage: self.stage,
                reason,
            }
            .emit();
            self.told_at = Some(now);
        }
        is_due
    }

    /// The disk did what it was asked for.
    pub fn over(&mut self, now: Timestamp) {
        let Some(since) = self.since.take() else {
            return;
        };
        if std::mem::take(&mut self.told) {
            notices::DiskBack {
                stage: self.stage,
                after: now.since(since),
            }
            .emit();
        }
        self.until = None;
        self.times = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f46_pauses_grow_to_a_minute_and_end_at_the_first_success() {
        let mut pause = DiskPause::new("a stage");
        let mut now = Timestamp::EPOCH;
        let mut lengths = Vec::new();
        for _ in 0..6 {
            let until = pause.begin("full", now);
            assert_eq!(pause.begin("full", now), until, "one pause at a time");
            assert!(pause.holds(now) && !pause.holds(until));
            lengths.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(lengths, [5, 10, 20, 40, 60, 60]);
        pause.over(now);
        assert!(!pause.holds(now));
        assert_eq!(pause.begin("full", now), now.plus(PAUSE_MIN));
    }

    #[test]
    fn f46_an_operator_is_told_once_and_again_only_after_ten_minutes() {
        let mut pause = DiskPause::new("a stage");
        let mut now = Timestamp::EPOCH;
        let mut told = Vec::new();
        while now.since(Timestamp::EPOCH) <= Duration::from_secs(1300) {
            let before = pause.told_at;
            pause.begin("full", now);
            if pause.told_at != before {
                told.push(now.since(Timestamp::EPOCH).as_secs());
            }
            // One success between two failures is no reason to say it all again.
            pause.over(now);
            now = now.plus(Duration::from_secs(10));
        }
        assert_eq!(told, [0, 600, 1200]);
    }
}
