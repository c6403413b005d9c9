//! Jobs that may still bring answers beside or after their batch: a second job of one display name,
//! or the job of a batch that ended on our side before it ended on the provider's.
//!
//! Their answers are paid for. They are collected, the first accepted answer of a page wins, and
//! what comes second is counted as paid twice.

use super::failure::words;
use super::page::IllegalTransition;

words! {
    /// Why a job is watched beside its batch.
    LateWhy {
        /// Another job has the display name of the batch.
        Extra => "extra",
        /// The batch ended without the provider's last word.
        Ended => "ended",
    }
}

words! {
    /// How such a job stands, as `late_jobs.state` holds it.
    LateState {
        Watched => "watched",
        /// It offers results.
        Offered => "offered",
        /// Its answers are with their pages, or counted as paid twice.
        Collected => "collected",
        /// It ended without answers.
        Cancelled => "cancelled",
        /// The provider no longer knows it.
        Gone => "gone",
    }
}

words! {
    /// Something that happens to such a job.
    LateEvent {
        /// It was looked at, and nothing ended.
        Looked => "looked",
        ResultsOffered => "results_offered",
        Collected => "collected",
        EndedEmpty => "ended_empty",
        Vanished => "vanished",
    }
}

impl LateState {
    /// The state after `event`, or a refusal that changes nothing.
    pub fn next(self, event: LateEvent) -> Result<LateState, IllegalTransition> {
        use LateEvent as E;
        use LateState as S;
        match (self, event) {
            (S::Watched, E::Looked) => Ok(S::Watched),
            (S::Watched, E::ResultsOffered) => Ok(S::Offered),
            (S::Watched, E::EndedEmpty) => Ok(S::Cancelled),
            (S::Watched | S::Offered, E::Vanished) => Ok(S::Gone),
            (S::Offered, E::Collected) => Ok(S::Collected),
            _ => Err(IllegalTransition {
                thing: "late job",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_lawful_or_refused() {
        let lawful = [
            (LateState::Watched, LateEvent::Looked, LateState::Watched),
            (
                LateState::Watched,
                LateEvent::ResultsOffered,
                LateState::Offered,
            ),
            (
                LateState::Watched,
                LateEvent::EndedEmpty,
                LateState::Cancelled,
            ),
            (LateState::Watched, LateEvent::Vanished, LateState::Gone),
            (LateState::Offered, LateEvent::Vanished, LateState::Gone),
            (
                LateState::Offered,
                LateEvent::Collected,
                LateState::Collected,
            ),
        ];
        for state in LateState::ALL {
            for event in LateEvent::ALL {
                let expected = lawful.iter().find(|row| row.0 == *state && row.1 == *event);
                let found = state.next(*event).ok();
                assert_eq!(found, expected.map(|row| row.2), "{state} {event}");
            }
        }
    }
}
