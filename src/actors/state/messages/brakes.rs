//! What StateActor says of halts, and of jobs beside or after their batches.

use crate::domain::attempt::AnswerFacts;
use crate::domain::failure::words;
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, RecordKey, RemoteName, Sha256Hex};
use crate::domain::late::{LateState, LateWhy};
use crate::domain::page::PageStage;
use crate::domain::remote::RemoteOutput;
use crate::domain::time::Timestamp;

words! {
    /// Who ended a halt.
    ResumedBy {
        /// The provider took a call again.
        Probe => "probe",
        Operator => "operator",
    }
}

/// An open halt: nothing is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltRow {
    pub reason: HaltReason,
    pub message: String,
    /// How often in a row it was met.
    pub times: u32,
    pub since: Timestamp,
    pub updated_at: Timestamp,
}

/// A batch that may have a job that nobody knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    pub batch: BatchId,
    pub display_name: String,
    /// The job that it has.
    pub remote: Option<RemoteName>,
}

/// A job beside or after its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateJob {
    pub job: RemoteName,
    pub batch: BatchId,
    pub why: LateWhy,
    pub state: LateState,
    pub output: Option<RemoteOutput>,
    pub looks: u32,
    pub looked_at: Option<Timestamp>,
    pub found_at: Timestamp,
}

/// A page that a late job was to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateMember {
    pub key: RecordKey,
    pub stage: PageStage,
    /// Whether it is being uploaded, or in a batch that has not ended.
    pub in_flight: bool,
    /// The hash of its accepted output.
    pub output: Option<Sha256Hex>,
    /// Whether its attempt in this very batch was accepted.
    pub was_accepted: bool,
    /// The hash of the image that was sent, where it is known.
    pub image_sha256: Option<Sha256Hex>,
}

impl LateMember {
    /// Whether a late answer may still complete the page. A page in flight is left alone: whichever
    /// answer is accepted first wins, and this one waits for the other.
    pub fn may_take(&self) -> bool {
        !self.in_flight
            && matches!(
                self.stage,
                PageStage::Discovered | PageStage::Uploaded | PageStage::Dead | PageStage::Review
            )
    }
}

/// An answer that came late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateAnswer {
    pub key: RecordKey,
    pub facts: AnswerFacts,
    /// Hash and size of the output, for an answer that is good enough.
    pub output: Option<(Sha256Hex, u64)>,
    /// What is wrong with it, or what became of it.
    pub words: String,
}

/// What late answers were worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LateTally {
    pub answers: u64,
    pub accepted: u64,
    pub paid_twice: u64,
    /// Pages that are in flight elsewhere; nothing was changed if there are any.
    pub in_flight: u64,
}
