//! What StateActor answers, and what its messages carry: rows as stages see them.

use std::time::Duration;

use super::brakes::HaltRow;
use crate::domain::attempt::{FailureDetail, Tally};
use crate::domain::batch::BatchState;
use crate::domain::failure::{ErrorType, words};
use crate::domain::ids::{
    BatchId, KeyFingerprint, RecipeHash, RecordKey, RemoteName, RunId, ScopeToken, Sha256Hex,
};
use crate::domain::image::ImageFacts;
use crate::domain::order::Wish;
use crate::domain::pace::Pace;
use crate::domain::page::{PageEvent, PageStage, Urgency};
use crate::domain::remote::RemoteOutput;
use crate::domain::time::Timestamp;

words! {
    /// How a run stands.
    RunStatus {
        Initializing => "initializing",
        Processing => "processing",
        Completed => "completed",
        Failed => "failed",
        Stopped => "stopped",
    }
}

words! {
    /// What a remote file is for.
    FilePurpose {
        Image => "image",
        Lines => "lines",
        Results => "results",
    }
}

words! {
    /// How a remote file of ours stands in the ledger.
    LedgerState {
        Live => "live",
        Deleting => "deleting",
        Deleted => "deleted",
        Undeletable => "undeletable",
        Gone => "gone",
    }
}

/// A recipe as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeRow {
    pub hash: RecipeHash,
    pub prompt_name: String,
    pub prompt_template: String,
    pub context_template: Option<String>,
    pub schema: String,
    pub model: String,
    /// JSON.
    pub generation_config: String,
}

/// A run that is open now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStarted {
    pub restarts: u32,
    /// Tells this state from every other: the id and the start of its first run.
    pub first_run: String,
}

/// What a process left in the middle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interrupted {
    pub uploading: Vec<RecordKey>,
    pub submitting: Vec<BatchId>,
}

/// A page as the scanner needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPage {
    pub key: RecordKey,
    pub number: u32,
    pub stage: PageStage,
    pub predecessor: Option<RecordKey>,
    pub waits_for: Option<RecordKey>,
    pub chain_ahead: u32,
    pub scope: Option<ScopeToken>,
    pub dead_for: Option<ErrorType>,
    /// Whether an operator left it out.
    pub left_out: bool,
}

/// A page that was not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPage {
    pub key: RecordKey,
    /// Encoded levels above the page, joined: the key's prefix.
    pub book: String,
    /// The decoded levels, page included.
    pub levels: Vec<String>,
    pub number: u32,
    pub predecessor: Option<RecordKey>,
    pub waits_for: Option<RecordKey>,
    pub chain_ahead: u32,
}

/// What a look at the tree changes. All lists may be empty; all are sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanChanges {
    /// Inserted as Discovered with the history word `seen`. Known keys are left alone.
    pub register: Vec<NewPage>,
    /// Known or just registered pages with a valid output: event Adopted.
    pub adopt: Vec<AdoptedOutput>,
    /// Back to the work list.
    pub requeue: Vec<(RecordKey, PageEvent)>,
    /// Discovered pages whose label is gone.
    pub label_vanished: Vec<RecordKey>,
    /// New places in the chain; the waiting part is corrected by what the rows then say: a page
    /// never waits for one that is completed.
    pub rechain: Vec<Rechained>,
    /// Pages that now belong to the scope.
    pub rescope: Vec<RecordKey>,
    /// Under a window: its name, and when the labels of these pages arrived.
    pub arrived: Option<(String, Vec<(RecordKey, Timestamp)>)>,
}

/// A valid output found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedOutput {
    pub key: RecordKey,
    pub sha256: Sha256Hex,
    pub bytes: u64,
}

/// A page's place in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rechained {
    pub key: RecordKey,
    pub predecessor: Option<RecordKey>,
    pub waits_for: Option<RecordKey>,
    pub chain_ahead: u32,
}

/// Something in the tree that is not a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddityRow {
    pub path: String,
    pub kind: String,
    pub detail: String,
}

/// Claimed pages, best first, and the bytes that the ledger holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    pub pages: Vec<ClaimedPage>,
    /// Bytes of ours in the provider's store that still count.
    pub remote_bytes: u64,
}

/// A page for the uploader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedPage {
    pub key: RecordKey,
    /// Upload cycles that failed since the last success.
    pub upload_cycles: u32,
    pub failures: u32,
}

/// A file in the provider's store, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub name: RemoteName,
    pub uri: String,
    pub mime: String,
    pub bytes: u64,
    pub sha256: Sha256Hex,
    pub key_fingerprint: KeyFingerprint,
    pub expires_at: Timestamp,
}

/// What came of one claimed page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRecord {
    pub key: RecordKey,
    /// UploadStored, UploadDeferred or UploadRefused.
    pub event: PageEvent,
    /// With UploadStored: the file for the ledger and the facts for the page.
    pub stored: Option<(StoredFile, ImageFacts)>,
    /// Kept in `failure_logs`; `counted` adds to `failure_counts`.
    pub failure: Option<(FailureDetail, Counted)>,
    /// Whether a failed upload cycle is counted on the page.
    pub cycle_spent: bool,
    /// One sentence for the page's status.
    pub note: String,
}

/// Whether a failure is the page's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Yes,
    No,
}

/// A ledger row that is to be deleted remotely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFile {
    pub name: RemoteName,
    pub purpose: FilePurpose,
    pub key_fingerprint: KeyFingerprint,
    /// The job that the file belongs to: a results file goes only with its job.
    pub job: Option<RemoteName>,
}

/// What came of deleting a remote file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteOutcome {
    Deleted,
    /// The provider no longer knows it.
    Gone,
    /// The provider will never delete it by itself.
    Undeletable {
        note: String,
    },
    /// To be tried again, not before the instant.
    Later {
        until: Timestamp,
        note: String,
    },
}

/// Pages waiting for a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uploaded {
    pub pages: Vec<UploadedPage>,
    /// How many wait in all.
    pub total: u64,
    /// When the one that came last was uploaded.
    pub newest: Option<Timestamp>,
}

/// A page that may be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedPage {
    pub key: RecordKey,
    pub predecessor: Option<RecordKey>,
    /// Whether the predecessor has an accepted output.
    pub predecessor_completed: bool,
    pub urgency: Urgency,
    pub image_bytes: u64,
    pub expires_at: Timestamp,
    /// The largest batch it may be in, after a batch of it failed as a whole.
    pub batch_size_max: Option<u32>,
    /// Batches that ended without a verdict on it.
    pub releases: u32,
}

/// A submission as stages see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    pub batch: BatchId,
    pub state: BatchState,
    pub display_name: String,
    pub model: String,
    pub recipe: RecipeHash,
    pub key_fingerprint: KeyFingerprint,
    pub members: u64,
    /// Once the lines file is on disk.
    pub lines: Option<(Sha256Hex, u64)>,
    /// Once the lines file is in the store.
    pub lines_file: Option<StoredFile>,
    pub creates: u32,
    pub lookups: u32,
    pub last_lookup_at: Option<Timestamp>,
    pub remote: Option<RemoteName>,
    pub remote_state: Option<String>,
    pub output: Option<RemoteOutput>,
    /// Answers, good and bad, that the provider counted when the job ended.
    pub answers_counted: Option<u64>,
    /// Once the raw results are on disk.
    pub raw: Option<RawFile>,
    pub created_at: Timestamp,
    pub submitted_at: Option<Timestamp>,
    /// When the provider said that the job ended.
    pub ended_at: Option<Timestamp>,
    /// When a terminal state was first seen.
    pub terminal_seen_at: Option<Timestamp>,
    /// Since when the provider does not show the job to its own key.
    pub unreachable_since: Option<Timestamp>,
    /// Estimated input tokens.
    pub tokens: Option<u64>,
    /// What an operator wants of it.
    pub wish: Option<Wish>,
    /// Whether the provider was asked to stop its job.
    pub cancel_sent: bool,
}

/// A raw result file on our disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFile {
    pub path: String,
    pub bytes: u64,
    pub sha256: Sha256Hex,
}

/// What recording verdicts did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerdictsRecorded {
    /// Verdicts that changed a page.
    pub applied: u64,
    /// Pages that no longer wait for another.
    pub unlocked: u64,
}

/// What a result file held, beside the answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineCounts {
    pub lines: u64,
    /// Lines whose key is no member's.
    pub foreign: u64,
    /// Lines without a key, or that are no JSON object.
    pub unreadable: u64,
    /// Lines that repeat another one.
    pub repeated: u64,
}

/// A batch that is settled, with what its report needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub tally: Tally,
    pub failed: Vec<FailedPage>,
    /// Pages that are free again.
    pub released: u64,
    /// Sums over the batch's attempts.
    pub tokens: crate::domain::attempt::Tokens,
}

/// A settled batch without a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreported {
    pub batch: BatchRow,
    pub settled: Settled,
    pub lines: LineCounts,
    pub settled_at: Timestamp,
}

/// A failed page of a settled batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedPage {
    pub key: RecordKey,
    pub error: ErrorType,
    pub message: String,
    /// Failures counted so far, this one included.
    pub failures: u32,
    pub stage: PageStage,
}

/// What is left to do in a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkLeft {
    pub uploading: u64,
    pub uploaded: u64,
    pub batched: u64,
    pub validating: u64,
    /// Batches planned, submitting, in doubt, submitted or ready, of any scope.
    pub live_batches: u64,
    /// Those of them that have not been sent.
    pub planned: u64,
    /// Discovered pages that are due and wait for no other page (counted up to 1,000).
    pub runnable: u64,
    /// When the next Discovered page that waits for nothing but time is due.
    pub due_at: Option<Timestamp>,
    /// Remote files to delete, now or later.
    pub deletable: u64,
    /// Dead and review pages in scope (whether there are any is what matters; counted exactly).
    pub dead: u64,
    pub review: u64,
    /// Discovered pages that wait for another page.
    pub blocked: u64,
    /// Why nothing is submitted, oldest first.
    pub halts: Vec<HaltRow>,
}

/// How long the jobs of one model take, from their creation to their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turnaround {
    pub model: String,
    /// Jobs that have not ended, and the age of the oldest.
    pub live: usize,
    pub live_oldest: Option<Duration>,
    /// Jobs that ended, of the newest 1,000, and what half and nine tenths of them took at most.
    pub ended: usize,
    pub half: Option<Duration>,
    pub nine_tenths: Option<Duration>,
    /// How long each of these took, shortest first.
    pub spans: Vec<Duration>,
}

/// The figures of `pagemill status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Every stage, zeros included, in order.
    pub pages: Vec<(PageStage, u64)>,
    /// Discovered pages that wait for another page.
    pub blocked: u64,
    /// Discovered pages that wait for an instant.
    pub waiting: u64,
    /// Batches by state, zeros left out.
    pub batches: Vec<(crate::domain::batch::BatchStage, u64)>,
    /// Live batches, oldest first, at most 100.
    pub live: Vec<BatchRow>,
    /// How long jobs take, by model.
    pub turnarounds: Vec<Turnaround>,
    pub remote_files: u64,
    pub remote_bytes: u64,
    /// Failures logged, by type.
    pub failures: Vec<(ErrorType, u64)>,
    /// What the last scan could not place, by kind.
    pub oddities: Vec<(String, u64)>,
    /// Sum over all attempts, in billionths of a US dollar.
    pub cost_nanos: u64,
    pub tokens: crate::domain::attempt::Tokens,
    pub last_event_at: Option<Timestamp>,
    /// Why nothing is submitted, oldest first.
    pub halts: Vec<HaltRow>,
    /// Live batches whose job the provider does not show to their own key, and since when.
    pub unreachable: Vec<(BatchId, Timestamp)>,
    /// Jobs beside or after their batches that may still bring answers.
    pub late_jobs: u64,
    /// Answers that were paid for a second time.
    pub paid_twice: u64,
    /// Models whose batches are smaller than the settings allow, and why.
    pub paces: Vec<(String, Pace)>,
    /// The latest run: id, status, start.
    pub run: Option<(RunId, RunStatus, Timestamp)>,
}

/// What came of adopting a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdoptedBatch {
    /// With none, the batch itself stayed out.
    pub members: u64,
    /// Members that stayed out, and why.
    pub refused: Vec<(RecordKey, String)>,
}

impl Summary {
    /// How many pages are in a stage.
    pub fn pages_in(&self, stage: PageStage) -> u64 {
        self.pages
            .iter()
            .find(|(known, _)| *known == stage)
            .map_or(0, |(_, count)| *count)
    }
}
