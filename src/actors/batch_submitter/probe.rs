//! A halted provider is asked, at no cost, whether it takes calls again.

use super::Desk;
use crate::actors::activity::answered;
use crate::actors::state::messages::{Halt, HaltRow, Resume, ResumedBy, StateError};
use crate::decide::{brake, retry};
use crate::domain::halt::HaltReason;
use crate::domain::time::Timestamp;
use crate::notices;

/// What the provider said.
pub(super) enum Probed {
    TakesCalls,
    StillNot { message: String },
}

/// The halts that end by themselves and for which it is time to ask. What another process was told
/// of key, permission or billing may have been mended before this one began, at `born`.
pub(super) fn due(halts: &[HaltRow], born: Timestamp, now: Timestamp) -> Vec<HaltReason> {
    let is_due = |halt: &&HaltRow| {
        let mended = halt.updated_at < born
            && matches!(
                halt.reason,
                HaltReason::Key | HaltReason::Permission | HaltReason::Billing
            );
        mended || now >= brake::probe_at(halt.reason, halt.times, halt.updated_at)
    };
    let waiting = halts.iter().filter(|halt| halt.reason.ends_by_itself());
    waiting.filter(is_due).map(|halt| halt.reason).collect()
}

impl Desk {
    /// Lists jobs, which costs nothing and needs all that a create needs of the account but money.
    /// Whether there is money only a create can tell; it halts again if there is none.
    pub(super) async fn probe(&self, due: Vec<HaltReason>) -> Result<Probed, StateError> {
        let listed = self.ports.batches.list(None).await;
        let at = self.ports.clock.now();
        let state = &self.peers.state;
        let Err(error) = listed else {
            let resume = Resume {
                reasons: Some(due),
                by: ResumedBy::Probe,
                at,
            };
            for halt in answered(state.send(resume).await)? {
                notices::HaltEnded {
                    reason: halt.reason,
                    by: ResumedBy::Probe,
                }
                .emit();
            }
            return Ok(Probed::TakesCalls);
        };
        let mut refused = due;
        refused.extend(retry::halt(&error).filter(|reason| !refused.contains(reason)));
        for reason in refused {
            let again = Halt {
                reason,
                message: error.message.clone(),
                at,
            };
            answered(state.send(again).await)?;
        }
        Ok(Probed::StillNot {
            message: error.message,
        })
    }
}
