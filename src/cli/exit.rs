//! Exit codes: a contract with whoever starts the program.

use crate::actors::conductor::RunEnd;
use crate::actors::state::messages::WorkLeft;

/// All done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// Wrong use of the command line.
pub const USAGE: u8 = 2;
/// Finished, but pages are dead or in review.
pub const PAGES_DEAD: u8 = 3;
/// The budget does not allow it.
pub const BUDGET: u8 = 4;
/// The state is in use by another process.
pub const IN_USE: u8 = 5;
/// The provider is not available.
pub const UNAVAILABLE: u8 = 69;
/// Stopped with work left: start again.
pub const WORK_LEFT: u8 = 75;
/// The configuration is at fault.
pub const CONFIGURATION: u8 = 78;

/// The code of a run's end.
pub fn of(end: &RunEnd) -> u8 {
    match end {
        RunEnd::Done(work) => finished(work),
        RunEnd::WorkLeft(_) | RunEnd::Halted { .. } => WORK_LEFT,
        RunEnd::Unavailable { .. } => UNAVAILABLE,
        RunEnd::NoLabels { .. } | RunEnd::Failed { .. } => FAILED,
    }
}

fn finished(work: &WorkLeft) -> u8 {
    if work.dead + work.review + work.blocked > 0 {
        PAGES_DEAD
    } else {
        DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f06_ends_have_their_codes() {
        let dead = WorkLeft {
            dead: 1,
            ..WorkLeft::default()
        };
        assert_eq!(of(&RunEnd::Done(WorkLeft::default())), 0);
        assert_eq!(of(&RunEnd::Done(dead.clone())), 3);
        assert_eq!(of(&RunEnd::WorkLeft(dead)), 75);
        assert_eq!(
            of(&RunEnd::Unavailable {
                message: String::new()
            }),
            69
        );
        assert_eq!(
            of(&RunEnd::NoLabels {
                message: String::new()
            }),
            1
        );
        let failed = RunEnd::Failed {
            stage: String::new(),
            reason: String::new(),
        };
        assert_eq!(of(&failed), 1);
    }
}
