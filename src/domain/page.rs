//! The life of a page: its states, what can happen to it, and what follows.
//!
//! [`next`] is the only place that makes a new state. `docs/states.md` shows the same table.

use super::failure::{ErrorType, words};
use super::ids::{BatchId, RemoteName, Sha256Hex};
use super::time::Timestamp;

words! {
    /// The stage of a page: the part of its state that operators see.
    PageStage {
        Discovered => "discovered",
        Uploading => "uploading",
        Uploaded => "uploaded",
        Batched => "batched",
        Validating => "validating",
        Completed => "completed",
        Dead => "dead",
        Review => "review",
        Skipped => "skipped",
    }
}

/// A page's image in the provider's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    pub file: RemoteName,
    pub expires_at: Timestamp,
}

/// Everything a page's future depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageState {
    /// On the work list; not to be touched before the given instant.
    Discovered { not_before: Option<Timestamp> },
    /// Claimed by the uploader of this process.
    Uploading,
    /// The image is in the provider's store, waiting for a batch.
    Uploaded { image: StoredImage },
    /// In a planned or live batch.
    Batched { batch: BatchId, image: StoredImage },
    /// Its batch is being collected.
    Validating { batch: BatchId },
    /// The output is on disk.
    Completed { output: Sha256Hex },
    /// Not sent again until an operator says so, or its image changes.
    Dead { error: ErrorType },
    /// Waits for a person's judgement.
    Review { error: ErrorType },
    /// Left out, with the reason in the status sentence.
    Skipped,
}

impl PageState {
    /// The stage that this state belongs to.
    pub fn stage(&self) -> PageStage {
        match self {
            Self::Discovered { .. } => PageStage::Discovered,
            Self::Uploading => PageStage::Uploading,
            Self::Uploaded { .. } => PageStage::Uploaded,
            Self::Batched { .. } => PageStage::Batched,
            Self::Validating { .. } => PageStage::Validating,
            Self::Completed { .. } => PageStage::Completed,
            Self::Dead { .. } => PageStage::Dead,
            Self::Review { .. } => PageStage::Review,
            Self::Skipped => PageStage::Skipped,
        }
    }
}

/// How much depends on a page: first what an operator says, then how many pages wait behind it. More
/// urgent is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// As [`super::order::Priority::rank`] counts it.
    pub priority: i64,
    /// How many pages can only run after it.
    pub chain_ahead: u32,
}

/// What happens to a page that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Afterwards {
    /// It runs again, not before the given instant.
    Again { not_before: Option<Timestamp> },
    /// Its retries are spent, or another try would be pointless.
    Dead,
    /// A person shall look at it.
    Review,
}

/// Why a page goes back to the work list by other ways than a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequeueCause {
    /// An operator asked for it.
    Operator,
    /// Its output was deleted.
    OutputVanished,
    /// The image of a page that was dead for its image has changed.
    ImageChanged,
    /// A label that had vanished is back.
    LabelReturned,
}

/// Something that happens to a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageEvent {
    /// The uploader takes the page.
    UploadStarted,
    /// The image is in the store.
    UploadStored { image: StoredImage },
    /// The upload failed this time, or its claim died with its process.
    UploadDeferred { until: Option<Timestamp> },
    /// The image will never be sent as it is, or its uploads are spent.
    UploadRefused { error: ErrorType },
    /// The remote file has too little life left to be used.
    FileExpired,
    /// The page is a member of a planned batch.
    Packed { batch: BatchId },
    /// The page cannot be put into a request: its label or prompt is at fault.
    PackRefused { error: ErrorType },
    /// Its batch ended without a verdict on it.
    Released { at: Timestamp },
    /// Its batch expired: it waits before it is sent again.
    BatchExpired { until: Timestamp },
    /// Its batches ended without a verdict too often.
    ReleasesSpent { error: ErrorType },
    /// It was alone in a batch that failed as a whole: it is what the provider does not take.
    Isolated { error: ErrorType },
    /// Its batch's results are on our disk.
    AnswerAtHand,
    /// The output is on disk and synced.
    Accepted { output: Sha256Hex },
    /// The answer is not usable.
    Rejected {
        error: ErrorType,
        afterwards: Afterwards,
    },
    /// A valid output was found that this state did not know.
    Adopted { output: Sha256Hex },
    /// The label is gone from the work list.
    LabelVanished,
    /// An operator left it out.
    LeftOut,
    /// Back to the work list.
    Requeued { cause: RequeueCause },
}

impl PageEvent {
    /// The word that `page_events.event` holds.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::UploadStarted => "upload_started",
            Self::UploadStored { .. } => "upload_stored",
            Self::UploadDeferred { .. } => "upload_deferred",
            Self::UploadRefused { .. } => "upload_refused",
            Self::FileExpired => "file_expired",
            Self::Packed { .. } => "packed",
            Self::PackRefused { .. } => "pack_refused",
            Self::Released { .. } => "released",
            Self::BatchExpired { .. } => "batch_expired",
            Self::ReleasesSpent { .. } => "releases_spent",
            Self::Isolated { .. } => "isolated",
            Self::AnswerAtHand => "answer_at_hand",
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::Adopted { .. } => "adopted",
            Self::LabelVanished => "label_vanished",
            Self::LeftOut => "left_out",
            Self::Requeued { .. } => "requeued",
        }
    }
}

/// The word that `page_events.event` holds for the registration of a page.
pub const SEEN: &str = "seen";

words! {
    /// What stands in a page's history without moving it.
    Remark {
        /// An operator's note.
        Noted => "noted",
        /// An operator gave it another priority.
        Prioritized => "prioritized",
        /// An operator cleared its failures; it was not dead.
        FailuresCleared => "failures_cleared",
    }
}

/// An event that its state does not know. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{thing} in state '{state}' cannot take '{event}'")]
pub struct IllegalTransition {
    pub thing: &'static str,
    pub state: &'static str,
    pub event: &'static str,
}

/// The state after `event`, or a refusal that changes nothing.
pub fn next(state: &PageState, event: &PageEvent) -> Result<PageState, IllegalTransition> {
    use PageEvent as E;
    use PageState as S;
    let after = match (state, event) {
        (S::Discovered { .. }, E::UploadStarted) => S::Uploading,
        (S::Discovered { .. }, E::LabelVanished)
        | (
            S::Discovered { .. } | S::Uploaded { .. } | S::Dead { .. } | S::Review { .. },
            E::LeftOut,
        ) => S::Skipped,
        (
            S::Discovered { .. }
            | S::Uploaded { .. }
            | S::Dead { .. }
            | S::Review { .. }
            | S::Skipped,
            E::Adopted { output },
        )
        | (S::Validating { .. }, E::Accepted { output }) => S::Completed {
            output: output.clone(),
        },

        (S::Uploading, E::UploadStored { image }) => S::Uploaded {
            image: image.clone(),
        },
        (S::Uploading, E::UploadDeferred { until }) => S::Discovered { not_before: *until },
        (S::Uploading, E::UploadRefused { error }) => S::Dead { error: *error },

        (S::Uploaded { .. }, E::FileExpired) => S::Discovered { not_before: None },
        (S::Uploaded { image }, E::Packed { batch }) => S::Batched {
            batch: batch.clone(),
            image: image.clone(),
        },

        (S::Batched { batch, .. }, E::AnswerAtHand) => S::Validating {
            batch: batch.clone(),
        },
        (S::Batched { .. }, E::PackRefused { error } | E::Isolated { error }) => {
            S::Dead { error: *error }
        }
        (S::Batched { image, .. }, E::Released { at }) if image.expires_at > *at => S::Uploaded {
            image: image.clone(),
        },
        (S::Batched { .. } | S::Validating { .. }, E::Released { .. }) => {
            S::Discovered { not_before: None }
        }
        (S::Batched { .. }, E::BatchExpired { until }) => S::Discovered {
            not_before: Some(*until),
        },
        (S::Batched { .. } | S::Validating { .. }, E::ReleasesSpent { error }) => {
            S::Dead { error: *error }
        }

        (S::Validating { .. }, E::Rejected { error, afterwards }) => rejected(*error, afterwards),

        (
            S::Completed { .. } | S::Dead { .. } | S::Review { .. } | S::Skipped,
            E::Requeued { .. },
        ) => S::Discovered { not_before: None },

        _ => {
            return Err(IllegalTransition {
                thing: "page",
                state: state.stage().as_str(),
                event: event.as_str(),
            });
        }
    };
    Ok(after)
}

fn rejected(error: ErrorType, afterwards: &Afterwards) -> PageState {
    match afterwards {
        Afterwards::Again { not_before } => PageState::Discovered {
            not_before: *not_before,
        },
        Afterwards::Dead => PageState::Dead { error },
        Afterwards::Review => PageState::Review { error },
    }
}
