//! What StateActor is asked and told. One message is one atomic change; the time is an argument.
//!
//! Messages carry many rows. Rows that are written are sorted by key by whoever applies them.

use actix::Message;

use crate::domain::attempt::{FailureDetail, Tally, Verdict};
use crate::domain::batch::{BatchEvent, BatchState};
use crate::domain::halt::{HaltReason, Pulse, Standing};
use crate::domain::ids::{
    BatchId, KeyFingerprint, OrderId, RecipeHash, RecordKey, RemoteName, RunId, ScopeToken,
    Sha256Hex,
};
use crate::domain::late::{LateEvent, LateState};
use crate::domain::manifest::{BatchManifest, JobFound};
use crate::domain::order::{Effects, KeptOrder, Order, OrderState, Signature};
use crate::domain::pace::Pace;
use crate::domain::page::{IllegalTransition, PageEvent, Urgency};
use crate::domain::remote::{RemoteOutput, RemoteStats};
use crate::domain::time::Timestamp;
use crate::domain::window::Window;

mod brakes;
mod members;
mod repairs;
mod replies;
mod upkeep;

pub use brakes::*;
pub use members::*;
pub use repairs::*;
pub use replies::*;
pub use upkeep::*;

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
    /// The disk below the database is full, read-only, gone or failing. StateActor waits for it; only
    /// who comes when the state is being closed hears of it.
    #[error("the disk of the database is at fault: {0}")]
    Disk(String),
    /// A run is one recipe and one window.
    #[error(
        "run '{run}' was begun with another {what} ({theirs}): give this one another id, or none"
    )]
    OtherRun {
        run: RunId,
        what: &'static str,
        theirs: String,
    },
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

mod alerts;

pub use alerts::*;

messages! {
    // ---- runs and recovery ----

    /// Opens a run, or continues it when the id is known; a known run with another recipe or another
    /// window is refused. Stores the recipe if it is new.
    StartRun {
        run: RunId,
        label: Option<String>,
        recipe: RecipeRow,
        scope: ScopeToken,
        window: Option<Window>,
        /// The settings as YAML, secrets masked.
        config_snapshot: String,
        config_sha256: Sha256Hex,
        at: Timestamp,
    } -> RunStarted;

    /// Closes a run, or notes that it stopped.
    FinishRun { run: RunId, status: RunStatus, at: Timestamp } -> ();

    /// Lists what a process left in the middle: pages Uploading, batches Submitting.
    ListInterrupted {} -> Interrupted;

    /// Looks at what is in flight, which is where a broken state would cost money; gives the first
    /// breaches in words.
    CheckLive {} -> Vec<String>;

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
    /// longest chain ahead, key. None while submission is halted.
    ClaimPages {
        run: RunId,
        scope: ScopeToken,
        limit: u64,
        /// No more are claimed than bring the pages that are uploading, or uploaded and in no
        /// batch, to this number; where pages are chained, as many again that are more urgent than
        /// one of those.
        ahead_max: u64,
        chained: bool,
        usable_until: Timestamp,
        at: Timestamp,
    } -> Claimed;

    /// What came of claimed pages. A record for a page that is no longer Uploading is refused.
    RecordUploads { run: RunId, uploads: Vec<UploadRecord>, at: Timestamp } -> ();

    /// Bytes of ours that count against the provider's store: images, lines and results, those of live
    /// jobs by estimate.
    HeldBytes { at: Timestamp } -> u64;

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

    /// The most urgent page that can still join a batch without one having to end first: runnable, being
    /// uploaded, or behind a page that is being judged.
    MostUrgent { scope: ScopeToken, at: Timestamp } -> Option<Urgency>;

    /// Whether any page can still join a batch without one having to end first.
    MoreCanCome { scope: ScopeToken, chained: bool, at: Timestamp } -> bool;

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
        /// Estimated input tokens.
        tokens: Option<u64>,
        at: Timestamp,
    } -> ();

    /// The members of a batch, sorted by key.
    ListMembers { batch: BatchId } -> Vec<Member>;

    /// The same, with no more of each than judging its answer needs.
    ListToJudge { batch: BatchId } -> Vec<ToJudge>;

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

    /// The provider does not show a live batch's job to the key that made it.
    MarkUnreachable { batch: BatchId, note: String, at: Timestamp } -> ();

    /// The results that the provider names are not there; gives since when that has been so.
    NoteResultsMissing { batch: BatchId, at: Timestamp } -> Timestamp;

    /// Settled batches that have no report yet: a crash came between. Oldest first.
    ListUnreported { limit: u64 } -> Vec<Unreported>;

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

    // ---- a database that is behind what happened ----

    /// What is needed to adopt the job of a batch without this database.
    DescribeBatch { batch: BatchId } -> BatchManifest;

    /// How those of these batches stand that are known.
    StagesOfBatches { batches: Vec<BatchId> } -> Vec<(BatchId, crate::domain::batch::BatchStage)>;

    /// Inserts a batch that is not known, with its run, recipe, pages, images and attempts, as far
    /// as it came. Members that are done or held elsewhere stay out, each with a sentence; where
    /// that is every member, so does the batch.
    AdoptBatch {
        manifest: BatchManifest,
        found: JobFound,
        /// The members' rows, for those that are not known.
        pages: Vec<NewPage>,
        scope: ScopeToken,
        /// Whose key sees the job.
        key_fingerprint: KeyFingerprint,
        config_snapshot: String,
        config_sha256: Sha256Hex,
        at: Timestamp,
    } -> AdoptedBatch;

    /// Brings a batch that is known to where its job, or its results, are.
    AdoptJob { batch: BatchId, found: JobFound, at: Timestamp } -> BatchState;

    /// Counts pages as done whose valid output was found, wherever they stand outside of batches;
    /// gives how many.
    AdoptOutputs { outputs: Vec<AdoptedOutput>, at: Timestamp } -> u64;

    /// The provider does not have these files any more: pages that wait with one are uploaded again.
    ForgetFiles { files: Vec<RemoteName>, at: Timestamp } -> u64;
    // ---- jobs beside or after their batches ----

    /// Begins to watch further jobs of these batches; gives how many are new.
    WatchJobs { jobs: Vec<(RemoteName, BatchId)>, at: Timestamp } -> u64;

    /// Batches planned since then whose job was made by a second create, or that were given up after
    /// one: an earlier create may yet turn out to have made a job as well.
    ListTwins { since: Timestamp } -> Vec<Twin>;

    /// Jobs beside or after their batches in one state, the one looked at longest ago first.
    ListLate { state: LateState, limit: u64 } -> Vec<LateJob>;

    /// What a look at such a job showed.
    RecordLateLook {
        job: RemoteName,
        remote_state: Option<String>,
        output: Option<RemoteOutput>,
        event: LateEvent,
        note: String,
        at: Timestamp,
    } -> LateState;

    /// The pages that such a job was to answer, as they stand now, sorted by key.
    ListLateMembers { batch: BatchId } -> Vec<LateMember>;

    /// What the answers of such a job are worth: pages that nothing else has completed are completed
    /// by them, the others were paid twice. Changes nothing while a page is in flight elsewhere.
    RecordLate {
        job: RemoteName,
        batch: BatchId,
        raw: RawFile,
        answers: Vec<LateAnswer>,
        at: Timestamp,
    } -> LateTally;

    // ---- orders ----

    /// Keeps an operator's order; it is carried out piece by piece.
    PlaceOrder { id: OrderId, order: Order, signature: Signature, at: Timestamp } -> ();

    /// The orders that are not done, oldest first.
    ListOpenOrders {} -> Vec<KeptOrder>;

    /// The next pages that an open order is about, by key; none when it is through.
    NextOfOrder { id: OrderId, limit: u64 } -> Vec<RecordKey>;

    /// Carries out an order for these pages, with their history; without any, the order is done.
    /// An order to forget a batch becomes a wish of that batch and stays open.
    CarryOut { id: OrderId, keys: Vec<RecordKey>, at: Timestamp } -> Effects;

    /// The order is done, or refused.
    CloseOrder { id: OrderId, state: OrderState, effects: Effects, at: Timestamp } -> ();

    /// Live batches and remote files of these keys are under another one from here on; gives how many
    /// batches. Leaves its order as a trace.
    TakeOverKeys {
        id: OrderId,
        from: Vec<KeyFingerprint>,
        to: KeyFingerprint,
        signature: Signature,
        at: Timestamp,
    } -> u64;

    /// One batch.
    FindBatch { batch: BatchId } -> Option<BatchRow>;

    /// The provider took the request to stop a batch's job.
    RecordCancelSent { batch: BatchId, at: Timestamp } -> ();

    /// Pages of low priority that have waited since then are of normal priority from now on; gives
    /// how many.
    AgePriorities { before: Timestamp, at: Timestamp } -> u64;

    // ---- halts ----

    /// Nothing is submitted from here on, for this reason. Of an open halt only the words and the
    /// number of times change. Tells whether it is new.
    Halt { reason: HaltReason, message: String, at: Timestamp } -> bool;

    /// Ends open halts, all of them or those for these reasons; gives what ended. Failures in a row
    /// are forgotten with a halt that they led to.
    Resume { reasons: Option<Vec<HaltReason>>, by: ResumedBy, at: Timestamp } -> Vec<HaltRow>;

    /// The open halts, oldest first.
    ListHalts {} -> Vec<HaltRow>;

    /// What was learned of the service for one model.
    ReadPace { model: String } -> Pace;

    /// Keeps what was learned.
    KeepPace { model: String, pace: Pace, at: Timestamp } -> ();

    /// How the last results were: `window` answers are looked at, to the end of a batch.
    FeelPulse { window: u64 } -> Pulse;

    /// How a recipe did in its first settled batches, as many as are asked for.
    ListStanding { recipe: RecipeHash, batches: u64 } -> Standing;

    // ---- questions ----

    /// Whether there is anything left to do in this scope.
    ListWork { scope: ScopeToken, chained: bool, at: Timestamp } -> WorkLeft;

    /// The figures of `pagemill status`.
    Summarize { scope: Option<ScopeToken>, at: Timestamp } -> Summary;

    // ---- repairs ----

    /// Applies what `pagemill verify --fix` found safe, all or none. Each repair looks again whether
    /// it still fits, and changes nothing that a live batch needs.
    RepairState { repairs: Vec<StateRepair>, at: Timestamp } -> ();

    // ---- upkeep ----

    /// Raw results of batches that were closed before an instant, and are not compressed, the oldest
    /// first, after `after`.
    ListOldRaw { before: Timestamp, after: Option<(Timestamp, BatchId)>, limit: u64 } -> Vec<OldRaw>;

    /// The same of jobs beside or after their batches, by name.
    ListOldLateRaw { before: Timestamp, after: String, limit: u64 } -> Vec<OldRaw>;

    /// Raw results stand under another path now, with the same content.
    RecordRawPath { owner: RawOwner, from: String, to: String, at: Timestamp } -> ();

    /// Keeps the report of a day or a week; a newer one replaces it.
    RecordPeriodReport { report: PeriodReport, at: Timestamp } -> ();

    /// The last message: checkpoints and closes the connection.
    Close {} -> ();
}
