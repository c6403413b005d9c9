//! What held a measured run up: from what was busy, full or waited for, to one name and its reason.

use std::time::Duration;

/// What was measured of a run. Times are of the run's own length.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// From the start of the run to its end.
    pub wall: Duration,
    /// Processors that the run could use.
    pub cores: u32,
    /// What all threads of the run worked.
    pub cpu: Duration,
    /// What the one thread worked that all actors share.
    pub actor_thread: Duration,
    /// Which part of the machine's processors was busy, with whatever; absent where it is not known.
    pub machine_busy: Option<f64>,
    /// How long the database was in a transaction.
    pub database_busy: Duration,
    /// How long an upload stood before the gate that spaces upload starts.
    pub gate_busy: Duration,
    /// How long every place among the uploads was taken.
    pub slots_full: Duration,
    /// How long as many batches were live as may be.
    pub batches_full: Duration,
    /// How long as many batches were collected as may be.
    pub collections_full: Duration,
    /// How long jobs ran while nothing was uploaded or collected.
    pub provider_alone: Duration,
}

/// What a run can be held up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    UploadRate,
    ActorThread,
    Database,
    Processors,
    LiveBatches,
    UploadSlots,
    Collecting,
    Provider,
}

impl Limit {
    /// The limit as people call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::UploadRate => "upload rate",
            Limit::ActorThread => "actor thread",
            Limit::Database => "database",
            Limit::Processors => "processors",
            Limit::LiveBatches => "live batches",
            Limit::UploadSlots => "upload slots",
            Limit::Collecting => "collecting",
            Limit::Provider => "provider",
        }
    }
}

/// What held a run up, and how that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub limit: Limit,
    /// The part of the time in which it did, 0 to 1.
    pub share: f64,
    /// Whether that was most of the time; else it is only the largest of small shares.
    pub is_clear: bool,
    /// One sentence.
    pub reason: String,
}

/// A thread or a machine that works for longer than this has nothing left to give.
const BUSY: f64 = 0.85;
/// A gate or a limit that holds somebody up for longer than this sets the pace.
const HOLDS: f64 = 0.5;

/// Names what held the run up. What stands earlier explains what stands later: uploads that wait for
/// the gate fill their places, too, and a machine without time left makes everything slow.
pub fn verdict(facts: &Facts) -> Verdict {
    let shares = shares(facts);
    let clear = shares.iter().find(|(_, share, least)| share >= least);
    let largest = shares
        .iter()
        .max_by(|left, right| (left.1 / left.2).total_cmp(&(right.1 / right.2)));
    let is_clear = clear.is_some();
    let (limit, share, _least) = *clear.or(largest).expect("there is a share for each limit");
    Verdict {
        limit,
        share,
        is_clear,
        reason: reason(limit, share, is_clear),
    }
}

/// Each limit with its share, and the share from which it is the one.
fn shares(facts: &Facts) -> [(Limit, f64, f64); 8] {
    let wall = facts.wall.as_secs_f64().max(f64::EPSILON);
    let part = |time: Duration| (time.as_secs_f64() / wall).clamp(0.0, 1.0);
    let own = facts.cpu.as_secs_f64() / (wall * f64::from(facts.cores.max(1)));
    let machine = facts.machine_busy.unwrap_or(0.0).max(own).clamp(0.0, 1.0);
    [
        (Limit::UploadRate, part(facts.gate_busy), HOLDS),
        (Limit::ActorThread, part(facts.actor_thread), BUSY),
        (Limit::Database, part(facts.database_busy), BUSY),
        (Limit::Processors, machine, BUSY),
        (Limit::LiveBatches, part(facts.batches_full), HOLDS),
        (Limit::UploadSlots, part(facts.slots_full), HOLDS),
        (Limit::Collecting, part(facts.collections_full), HOLDS),
        (Limit::Provider, part(facts.provider_alone), HOLDS),
    ]
}

fn reason(limit: Limit, share: f64, is_clear: bool) -> String {
    let percent = (share * 100.0).round();
    let what = match limit {
        Limit::UploadRate => "uploads stood before the rate gate",
        Limit::ActorThread => "the one thread of all actors was at work",
        Limit::Database => "the database was in a transaction",
        Limit::Processors => "the machine's processors were busy, with whatever runs on it",
        Limit::LiveBatches => "as many batches were live as may be",
        Limit::UploadSlots => "every place among the uploads was taken",
        Limit::Collecting => "as many batches were being collected as may be",
        Limit::Provider => "jobs ran and nothing else was to be done",
    };
    if is_clear {
        format!("{what} for {percent} % of the time")
    } else {
        format!(
            "nothing was at its limit for most of the time; the most was that {what}, {percent} %"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second in which nothing much happened, on two cores.
    fn idle() -> Facts {
        Facts {
            wall: Duration::from_secs(1),
            cores: 2,
            cpu: Duration::from_millis(200),
            actor_thread: Duration::from_millis(100),
            machine_busy: Some(0.2),
            database_busy: Duration::from_millis(50),
            gate_busy: Duration::ZERO,
            slots_full: Duration::ZERO,
            batches_full: Duration::ZERO,
            collections_full: Duration::ZERO,
            provider_alone: Duration::ZERO,
        }
    }

    fn check(expected: Limit, is_clear: bool, change: impl FnOnce(&mut Facts)) {
        let mut facts = idle();
        change(&mut facts);
        let verdict = verdict(&facts);
        assert_eq!(
            (verdict.limit, verdict.is_clear),
            (expected, is_clear),
            "{verdict:?}"
        );
        assert!((0.0..=1.0).contains(&verdict.share), "{verdict:?}");
        assert!(
            verdict.reason.contains(" % of the time") == is_clear,
            "{verdict:?}"
        );
    }

    const MOST: Duration = Duration::from_millis(900);

    #[test]
    fn each_limit_is_named_when_it_holds() {
        check(Limit::UploadRate, true, |facts| facts.gate_busy = MOST);
        check(Limit::ActorThread, true, |facts| facts.actor_thread = MOST);
        check(Limit::Database, true, |facts| facts.database_busy = MOST);
        check(Limit::Processors, true, |facts| facts.cpu = MOST * 2);
        check(Limit::Processors, true, |facts| {
            facts.machine_busy = Some(0.97)
        });
        check(Limit::LiveBatches, true, |facts| facts.batches_full = MOST);
        check(Limit::UploadSlots, true, |facts| facts.slots_full = MOST);
        check(Limit::Collecting, true, |facts| {
            facts.collections_full = MOST
        });
        check(Limit::Provider, true, |facts| facts.provider_alone = MOST);
    }

    #[test]
    fn a_cause_is_named_before_what_follows_from_it() {
        check(Limit::UploadRate, true, |facts| {
            facts.gate_busy = MOST;
            facts.slots_full = MOST;
        });
        check(Limit::Processors, true, |facts| {
            facts.machine_busy = Some(1.0);
            facts.slots_full = MOST;
        });
        check(Limit::LiveBatches, true, |facts| {
            facts.batches_full = MOST;
            facts.provider_alone = MOST;
        });
    }

    #[test]
    fn the_largest_share_is_told_as_what_it_is_when_nothing_holds() {
        check(Limit::UploadSlots, false, |facts| {
            facts.slots_full = Duration::from_millis(400);
        });
    }

    #[test]
    fn figures_beyond_the_run_do_not_break_a_share() {
        check(Limit::UploadRate, true, |facts| {
            facts.wall = Duration::ZERO;
            facts.gate_busy = MOST;
        });
    }
}
