//! The life of a batch: from intent to settlement.
//!
//! [`next`] is the only place that makes a new state. `docs/states.md` shows the same table.

use super::failure::words;
use super::ids::RemoteName;
use super::page::IllegalTransition;
use super::time::Timestamp;

words! {
    /// The name of a batch's state, as `submissions.state` holds it.
    BatchStage {
        Planned => "planned",
        Submitting => "submitting",
        InDoubt => "in doubt",
        Submitted => "submitted",
        Ready => "ready",
        Settled => "settled",
        Abandoned => "abandoned",
    }
}

words! {
    /// Why a batch ended without results.
    AbandonCode {
        /// A member's image had too little life left before the create.
        Withdrawn => "withdrawn",
        /// The provider will never take this job.
        Refused => "refused",
        /// The provider says the job failed.
        Failed => "failed",
        /// The provider says the job was cancelled.
        Cancelled => "cancelled",
        /// The provider says the job failed for a spent quota.
        Quota => "quota",
        /// The provider says the job expired.
        Expired => "expired",
        /// The result could not be fetched any more.
        ResultsLost => "results_lost",
        /// An operator said to forget it.
        Forgotten => "forgotten",
    }
}

/// Everything a batch's future depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchState {
    /// Intended; not to be created before the given instant.
    Planned { not_before: Option<Timestamp> },
    /// A create may be on the wire.
    Submitting,
    /// A create may have happened; the remote list will tell.
    InDoubt { since: Timestamp },
    /// The provider has it.
    Submitted { remote: RemoteName },
    /// The provider offers results.
    Ready { remote: RemoteName },
    /// Every member has an outcome.
    Settled,
    /// Ended without results.
    Abandoned { code: AbandonCode },
}

impl BatchState {
    /// The name of this state.
    pub fn stage(&self) -> BatchStage {
        match self {
            Self::Planned { .. } => BatchStage::Planned,
            Self::Submitting => BatchStage::Submitting,
            Self::InDoubt { .. } => BatchStage::InDoubt,
            Self::Submitted { .. } => BatchStage::Submitted,
            Self::Ready { .. } => BatchStage::Ready,
            Self::Settled => BatchStage::Settled,
            Self::Abandoned { .. } => BatchStage::Abandoned,
        }
    }
}

/// Something that happens to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEvent {
    /// The create is about to be sent.
    SubmitStarted,
    /// It will not be sent: a member's file has too little life left.
    Withdrawn,
    /// The provider named the job.
    SubmitAccepted { remote: RemoteName },
    /// A definite no this time.
    SubmitRefused { until: Timestamp },
    /// A definite never.
    SubmitImpossible,
    /// It cannot be told whether the job exists.
    SubmitUnclear { at: Timestamp },
    /// The remote list shows the job.
    LookupFound { remote: RemoteName },
    /// The remote list, read often and wholly enough, does not show it.
    LookupAbsent { until: Option<Timestamp> },
    /// The provider said something that ends nothing.
    Advanced,
    /// The provider says where results are.
    ResultsOffered,
    /// The provider ended the job and has no results.
    EndedEmpty { code: AbandonCode },
    /// Every member has an outcome.
    Settled,
    /// The results cannot be had any more.
    ResultsLost,
    /// An operator gave it up.
    Forgotten,
}

impl BatchEvent {
    /// The word for logs and history.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::SubmitStarted => "submit_started",
            Self::Withdrawn => "withdrawn",
            Self::SubmitAccepted { .. } => "submit_accepted",
            Self::SubmitRefused { .. } => "submit_refused",
            Self::SubmitImpossible => "submit_impossible",
            Self::SubmitUnclear { .. } => "submit_unclear",
            Self::LookupFound { .. } => "lookup_found",
            Self::LookupAbsent { .. } => "lookup_absent",
            Self::Advanced => "advanced",
            Self::ResultsOffered => "results_offered",
            Self::EndedEmpty { .. } => "ended_empty",
            Self::Settled => "settled",
            Self::ResultsLost => "results_lost",
            Self::Forgotten => "forgotten",
        }
    }
}

/// The state after `event`, or a refusal that changes nothing.
pub fn next(state: &BatchState, event: &BatchEvent) -> Result<BatchState, IllegalTransition> {
    use BatchEvent as E;
    use BatchState as S;
    let after = match (state, event) {
        (S::Planned { .. }, E::SubmitStarted) => S::Submitting,
        (S::Planned { .. }, E::Withdrawn) => S::Abandoned {
            code: AbandonCode::Withdrawn,
        },
        (S::Planned { .. }, E::SubmitRefused { until }) => S::Planned {
            not_before: Some(*until),
        },
        (S::Planned { .. }, E::SubmitImpossible) => S::Abandoned {
            code: AbandonCode::Refused,
        },

        (S::Submitting, E::SubmitAccepted { remote }) => S::Submitted {
            remote: remote.clone(),
        },
        (S::Submitting, E::SubmitRefused { until }) => S::Planned {
            not_before: Some(*until),
        },
        (S::Submitting, E::SubmitImpossible) => S::Abandoned {
            code: AbandonCode::Refused,
        },
        (S::Submitting, E::SubmitUnclear { at }) => S::InDoubt { since: *at },

        (S::InDoubt { .. }, E::LookupFound { remote }) => S::Submitted {
            remote: remote.clone(),
        },
        (S::InDoubt { .. }, E::LookupAbsent { until }) => S::Planned { not_before: *until },

        (S::Submitted { remote }, E::Advanced) => S::Submitted {
            remote: remote.clone(),
        },
        (S::Submitted { remote }, E::ResultsOffered) => S::Ready {
            remote: remote.clone(),
        },
        (S::Submitted { .. }, E::EndedEmpty { code }) => S::Abandoned { code: *code },

        (S::Ready { .. }, E::Settled) => S::Settled,
        (S::Ready { .. }, E::ResultsLost) => S::Abandoned {
            code: AbandonCode::ResultsLost,
        },

        (
            S::Planned { .. } | S::InDoubt { .. } | S::Submitted { .. } | S::Ready { .. },
            E::Forgotten,
        ) => S::Abandoned {
            code: AbandonCode::Forgotten,
        },

        _ => {
            return Err(IllegalTransition {
                thing: "batch",
                state: state.stage().as_str(),
                event: event.as_str(),
            });
        }
    };
    Ok(after)
}
