//! What StateActor is asked and told. One message is one atomic change; the time is an argument.
//!
//! Messages carry many rows. Rows that are written are sorted by key by whoever applies them.

use actix::Message;

use crate::domain::attempt::{FailureDetail, Tally, Verdict};
use crate::domain::batch::{BatchEvent, BatchState};
use crate::domain::ids::{
    BatchId, KeyFingerprint, RecipeHash, RecordKey, RemoteName, RunId, ScopeToken, Sha256Hex,
};
use crate::domain::page::{IllegalTransition, PageEvent};
use crate::domain::remote::{RemoteOutput, RemoteStats};
use crate::domain::time::Timestamp;

mod repairs;
mod replies;

pub use repairs::*;
pub use replies::*;

/// Why StateActor did not do what it was told. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    #[error("conflict: {0}")]
    Conflict(String),
    #[error("there is no {0}")]
    Missing(String),
    #[error("the row of {thing} cannot be: {fault}")]
    CorruptRow { thing: String, fault: String },
    #[error("{open} pages of batch {batch} have no outcome yet")]
    StillOpen { batch: BatchId, open: u64 },
    #[error("database: {0}")]
    Db(String),
    #[error("the state is closed")]
    Closed,
}

/// The answer to every message here.
pub type StateResult<T> = Result<T, StateError>;

/// Defines messages together with their replies.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? } -> $reply:ty;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

            impl Message for $name {
                type Result = StateResult<$reply>;
            }
        )+
    };
}

messages! {
    // ---- runs and recovery ----

    /// Opens a run, or continues it when the id is known. Stores the recipe if it is new.
    StartRun {
        run: RunId,
        label: Option<String>,
        recipe: RecipeRow,
        scope: ScopeToken,
        /// The settings as YAML, secrets masked.
        config_snapshot: String,
        config_sha256: Sha256Hex,
        at: Timestamp,
    } -> RunStarted;

    /// Closes a run, or notes that it stopped.
    FinishRun { run: RunId, status: RunStatus, at: Timestamp } -> ();

    /// Lists what a process left in the middle: pages Uploading, batches Submitting.
    ListInterrupted {} -> Interrupted;

    /// Applies what `decide::recover` said about them, all or none.
    ApplyRecovery {
        pages: Vec<(RecordKey, PageEvent)>,
        batches: Vec<(BatchId, BatchEvent)>,
        at: Timestamp,
    } -> ();

    // ---- the work list ----

    /// The known pages of some books, sorted by key.
    PagesOfBooks { books: Vec<String> } -> Vec<KnownPage>;

    /// Applies what a look at the tree showed.
    ApplyScan { run: RunId, scope: ScopeToken, changes: ScanChanges, at: Timestamp } -> ();

    /// Replaces the list of things in the tree that are not pages.
    RecordOddities { run: RunId, oddities: Vec<OddityRow>, at: Timestamp } -> ();

    /// Pages that are dead for their image, sorted by key, after `after`.
    ListImageFaults { scope: ScopeToken, after: Option<RecordKey>, limit: u64 } -> Vec<RecordKey>;

    // ---- uploads ----

    /// First Uploaded pages (in no batch) whose file ends before `usable_until` become Discovered
    /// (their files to be deleted); then Discovered pages that are due become Uploading: in scope,
    /// held by no batch, and (when `chained`) waiting for no other page. Best first: priority,
    /// longest chain ahead, key.
    ClaimPages {
        run: RunId,
        scope: ScopeToken,
        limit: u64,
        /// No more are claimed than bring the pages that are uploading, or uploaded and in no
        /// batch, to this number.
        ahead_max: u64,
        chained: bool,
        usable_until: Timestamp,
        at: Timestamp,
    } -> Claimed;

    /// What came of claimed pages. A record for a page that is no longer Uploading is refused.
    RecordUploads { run: RunId, uploads: Vec<UploadRecord>, at: Timestamp } -> ();

    /// Remote files of ours that nobody needs any more (state `deleting`), oldest first.
    ListDeletable { limit: u64, at: Timestamp } -> Vec<LedgerFile>;

    /// Which of these remote files the ledger still counts as ours and in use, or to be deleted.
    KnownFiles { names: Vec<RemoteName> } -> Vec<RemoteName>;

    /// What came of deletions.
    RecordDeletions { files: Vec<(RemoteName, DeleteOutcome)>, at: Timestamp } -> ();

    // ---- batches ----

    /// Uploaded pages in scope whose file lives beyond `usable_until`, best first as in
    /// [`ClaimPages`], with how many there are in all.
    ListUploaded { scope: ScopeToken, limit: u64, usable_until: Timestamp } -> Uploaded;

    /// Inserts the intent: submission, membership, in-flight rows, pending attempts; every member
    /// Uploaded -> Batched, all or none.
    PlanBatch {
        batch: BatchId,
        display_name: String,
        run: RunId,
        recipe: RecipeHash,
        model: String,
        key_fingerprint: KeyFingerprint,
        members: Vec<RecordKey>,
        at: Timestamp,
    } -> ();

    /// The members of a batch, sorted by key.
    ListMembers { batch: BatchId } -> Vec<Member>;

    /// The lines file is on disk. Refused members leave the batch and are dead.
    RecordSpooled {
        batch: BatchId,
        sha256: Sha256Hex,
        bytes: u64,
        /// The most that this batch can cost, in billionths of a US dollar; unknown without a price.
        reserved_cost_nanos: Option<u64>,
        included: Vec<IncludedMember>,
        refused: Vec<(RecordKey, FailureDetail)>,
        at: Timestamp,
    } -> ();

    /// The lines file is in the provider's store and may be used.
    RecordJsonlUploaded { batch: BatchId, file: StoredFile, at: Timestamp } -> ();

    /// Forgets the remote lines file (gone or near its end) so that it is uploaded again; a file
    /// that may still be there is marked for deletion.
    ForgetJsonl { batch: BatchId, at: Timestamp } -> ();

    /// Planned -> Submitting, counts a create. Committed before the create is sent.
    BeginSubmit { batch: BatchId, at: Timestamp } -> ();

    /// What came of a create, or a refusal before it.
    RecordSubmit { batch: BatchId, event: BatchEvent, note: String, at: Timestamp } -> BatchState;

    /// What one complete look at the remote list showed; without an event the doubt goes on.
    RecordLookup {
        batch: BatchId,
        event: Option<BatchEvent>,
        /// Further jobs of the same display name.
        extra: Vec<RemoteName>,
        at: Timestamp,
    } -> BatchState;

    /// Batches that are in one of these states, oldest first.
    ListBatches { states: Vec<crate::domain::batch::BatchStage>, limit: u64 } -> Vec<BatchRow>;

    /// What a look at the job showed, and what follows.
    RecordPoll {
        batch: BatchId,
        remote_state: String,
        stats: RemoteStats,
        output: Option<RemoteOutput>,
        event: Option<BatchEvent>,
        ended_at: Option<Timestamp>,
        note: String,
        at: Timestamp,
    } -> BatchState;

    /// Ends a batch without results: applies `event` (EndedEmpty, Withdrawn, SubmitImpossible,
    /// ResultsLost, Forgotten), one event a member, and `batch_size_max` to those that go back.
    /// Members that are not named keep their outcome; none may be left open.
    EndBatch {
        batch: BatchId,
        event: BatchEvent,
        pages: Vec<(RecordKey, PageEvent)>,
        batch_size_max: Option<u32>,
        /// Whether this counts as a release of each of these pages.
        counted: bool,
        note: String,
        at: Timestamp,
    } -> Tally;

    // ---- results ----

    /// The raw results are on disk: every Batched member becomes Validating. Idempotent.
    BeginCollect { batch: BatchId, raw: RawFile, at: Timestamp } -> ();

    /// Applies verdicts to members that are still Validating in this batch; others are passed over,
    /// so that processing a result file twice counts nothing twice.
    RecordVerdicts { batch: BatchId, verdicts: Vec<Verdict>, at: Timestamp } -> VerdictsRecorded;

    /// Ready -> Settled, only when no member is Batched or Validating in it. Frees the members,
    /// marks the batch's remote files for deletion, stores the counts.
    SettleBatch {
        batch: BatchId,
        lines: LineCounts,
        /// Whether the job and its results file stay with the provider.
        keep_remote: bool,
        at: Timestamp,
    } -> Settled;

    /// Keeps the report of a batch.
    RecordReport { batch: BatchId, name: String, markdown: String, at: Timestamp } -> ();

    // ---- questions ----

    /// Whether there is anything left to do in this scope.
    ListWork { scope: ScopeToken, chained: bool, at: Timestamp } -> WorkLeft;

    /// The figures of `pagemill status`.
    Summarize { scope: Option<ScopeToken>, at: Timestamp } -> Summary;

    // ---- repairs ----

    /// Applies what `pagemill verify --fix` found safe, all or none. Each repair looks again whether
    /// it still fits, and changes nothing that a live batch needs.
    RepairState { repairs: Vec<StateRepair>, at: Timestamp } -> ();

    /// The last message: checkpoints and closes the connection.
    Close {} -> ();
}
