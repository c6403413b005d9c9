//! Why one page is not running at this moment, and what would make it run.
//!
//! The part that the Scanner can see is decided by [`scan::need`], the same for both, so that its log
//! and `pagemill explain` never differ in their reason.

use std::time::Duration;

use super::brake::Trial;
use super::scan::{self, Known, LeftAlone, Need};
use super::storage;
use crate::domain::batch::BatchState;
use crate::domain::failure::ErrorType;
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, RecordKey};
use crate::domain::page::{PageStage, RequeueCause};
use crate::domain::time::Timestamp;

mod words;

pub use words::{Remedy, Style};

/// What is known of a page and of what it depends on.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub page: Known,
    /// When it came to its stage.
    pub since: Timestamp,
    /// The event that brought it there, as `page_events` calls it.
    pub moved_by: String,
    /// Its status sentence.
    pub status: String,
    /// Whether the filters of this configuration admit it.
    pub in_scope: bool,
    pub has_label: bool,
    pub has_output: bool,
    pub image: ImageSeen,
    pub not_before: Option<Timestamp>,
    /// How long its remote file lives, if it has one.
    pub image_expires_at: Option<Timestamp>,
    /// Failures that count against it, and how many it may have.
    pub failures: u64,
    pub max_retries: u32,
    /// The batch that holds it.
    pub batch: Option<BatchFacts>,
    /// The page at the beginning of its chain of waiting ones, and how many stand between.
    pub holder: Option<(u64, Box<Facts<'a>>)>,
    pub desk: &'a Desk,
}

/// What a look at a page's image showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImageSeen {
    /// It does not matter in this stage.
    #[default]
    NotLooked,
    Usable {
        bytes: u64,
    },
    Fault(String),
}

/// The batch that holds a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFacts {
    pub batch: BatchId,
    pub state: BatchState,
    pub submitted_at: Option<Timestamp>,
    pub unreachable_since: Option<Timestamp>,
    /// Complete looks at the remote list, and how many are needed.
    pub lookups: u32,
    pub lookups_needed: u32,
    /// Whether its results are on our disk.
    pub collected: bool,
    /// What half and nine tenths of its model's jobs took at most.
    pub usual: Option<(Duration, Duration)>,
}

/// What holds for all pages alike.
#[derive(Debug, Clone)]
pub struct Desk {
    pub now: Timestamp,
    /// Whether a process works on this state.
    pub running: bool,
    pub chained: bool,
    /// Reason, words and start of each open halt, oldest first.
    pub halts: Vec<(HaltReason, String, Timestamp)>,
    pub live_batches: u64,
    pub live_max: u64,
    /// Pages that are being uploaded or are uploaded, and how many may be.
    pub ahead: u64,
    pub ahead_max: u64,
    pub held_bytes: u64,
    pub storage_budget_bytes: u64,
    /// Pages that wait for a batch, how many make it full, and when it is sent as it is.
    pub uploaded: u64,
    pub batch_pages: u64,
    pub sent_at: Option<Timestamp>,
    pub trial: Trial,
    /// Estimated input tokens in live batches, and how many there may be.
    pub tokens: u64,
    pub tokens_max: Option<u64>,
    /// The least life of a remote file that is sent.
    pub life_min: Duration,
}

/// Why a page does not run, or that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Done(Timestamp),
    OutputGone,
    OutputToRead,
    LabelGone,
    LabelBack,
    OutOfScope,
    LeftOut(String),
    InReview(String),
    ImageNotUsable(ImageSeen),
    Dead {
        error: Option<ErrorType>,
        failures: u64,
        max_retries: u32,
        status: String,
    },
    WaitsForPage {
        before: RecordKey,
        holder: Option<Box<Held>>,
    },
    WaitsUntil {
        until: Timestamp,
        pause: Pause,
    },
    /// The batch that it was in is not closed yet.
    HeldBy(BatchId),
    Uploading(Timestamp),
    WaitsForUpload(Queue),
    WaitsForBatch(Queue),
    InBatch(BatchId, InBatch),
    Judged(Option<BatchId>),
    /// The state does not know it, but its label is there.
    NotScanned,
    /// Neither the state knows it, nor is there a label.
    NoLabel {
        has_output: bool,
        has_image: bool,
    },
}

/// The page that really holds another one up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub key: RecordKey,
    /// How many pages stand between the two.
    pub between: u64,
    pub why: Reason,
}

/// What a page pauses for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Upload,
    Failure,
    ExpiredBatch,
    Other,
}

/// What a page queues behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    Halted(HaltReason, String, Timestamp),
    /// Nobody is at work.
    NoProcess,
    /// Enough pages are on their way to a batch.
    Ahead {
        ahead: u64,
        ahead_max: u64,
    },
    StoreFull {
        held: u64,
        budget: u64,
    },
    /// Its remote file has too little life left.
    FileTooOld(Timestamp),
    LiveBatches {
        live: u64,
        live_max: u64,
    },
    /// The first batch of a recipe has not brought its answers.
    Pilot,
    Tokens {
        tokens: u64,
        tokens_max: u64,
    },
    /// The batch may still grow.
    Filling {
        pages: u64,
        full: u64,
        until: Timestamp,
    },
    /// Nothing keeps it but the pages before it.
    NextInLine,
}

/// Where the batch of a page stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InBatch {
    Planned {
        not_before: Option<Timestamp>,
        halted: Option<HaltReason>,
    },
    Submitting,
    InDoubt {
        since: Timestamp,
        lookups: u32,
        needed: u32,
    },
    Unreachable(Timestamp),
    WithProvider {
        since: Option<Timestamp>,
        usual: Option<(Duration, Duration)>,
        /// Whether nine tenths of the jobs took less.
        is_late: bool,
    },
    Collecting {
        on_disk: bool,
    },
    Closing,
}

/// A reason, and whether a process is there to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub key: RecordKey,
    pub reason: Reason,
    pub running: bool,
}

/// What is known of a key that the state does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stranger {
    pub has_label: bool,
    pub has_output: bool,
    pub has_image: bool,
    pub in_scope: bool,
    pub running: bool,
}

/// Tells why a page that the state knows is not running.
pub fn explain(facts: &Facts<'_>) -> Explanation {
    Explanation {
        key: facts.page.key.clone(),
        reason: reason(facts),
        running: facts.desk.running,
    }
}

/// Tells why a page that the state does not know is not running.
pub fn explain_stranger(key: &RecordKey, stranger: Stranger) -> Explanation {
    let Stranger {
        has_label,
        has_output,
        has_image,
        in_scope,
        running,
    } = stranger;
    let reason = match (has_label, in_scope) {
        (false, _) => Reason::NoLabel {
            has_output,
            has_image,
        },
        (true, false) => Reason::OutOfScope,
        (true, true) => Reason::NotScanned,
    };
    Explanation {
        key: key.clone(),
        reason,
        running,
    }
}

fn reason(facts: &Facts<'_>) -> Reason {
    let stage = facts.page.stage;
    let at_work = matches!(
        stage,
        PageStage::Uploading | PageStage::Batched | PageStage::Validating | PageStage::Completed
    );
    if !facts.has_label
        && !facts.page.left_out
        && matches!(stage, PageStage::Discovered | PageStage::Skipped)
    {
        return Reason::LabelGone;
    }
    if !at_work && !facts.in_scope {
        return Reason::OutOfScope;
    }
    match scan::need(&facts.page, facts.has_output, facts.desk.chained) {
        Need::Runs => waits(facts),
        Need::JudgeOutput => Reason::OutputToRead,
        Need::Again(RequeueCause::OutputVanished) => Reason::OutputGone,
        Need::Again(_) => Reason::LabelBack,
        Need::LeftAlone(why) => left_alone(why, facts),
    }
}

fn left_alone(why: LeftAlone<'_>, facts: &Facts<'_>) -> Reason {
    match why {
        LeftAlone::Done => Reason::Done(facts.since),
        LeftAlone::Dead => Reason::Dead {
            error: facts.page.dead_for,
            failures: facts.failures,
            max_retries: facts.max_retries,
            status: facts.status.clone(),
        },
        LeftAlone::ImageNotUsable => Reason::ImageNotUsable(facts.image.clone()),
        LeftAlone::InReview => Reason::InReview(facts.status.clone()),
        LeftAlone::LeftOut => Reason::LeftOut(facts.status.clone()),
        LeftAlone::OutOfScope => Reason::OutOfScope,
        LeftAlone::WaitsFor(before) => Reason::WaitsForPage {
            before: before.clone(),
            holder: facts.holder.as_ref().map(|(between, holder)| {
                Box::new(Held {
                    key: holder.page.key.clone(),
                    between: *between,
                    why: reason(holder),
                })
            }),
        },
        LeftAlone::InFlight(stage) => in_flight(stage, facts),
    }
}

fn in_flight(stage: PageStage, facts: &Facts<'_>) -> Reason {
    let batch = facts.batch.as_ref();
    match (stage, batch) {
        (PageStage::Batched, Some(batch)) => {
            Reason::InBatch(batch.batch.clone(), in_batch(batch, facts.desk))
        }
        (PageStage::Validating, batch) => Reason::Judged(batch.map(|batch| batch.batch.clone())),
        (PageStage::Uploading, _) => Reason::Uploading(facts.since),
        _ => Reason::WaitsForBatch(for_batch(facts)),
    }
}

fn in_batch(batch: &BatchFacts, desk: &Desk) -> InBatch {
    match &batch.state {
        BatchState::Planned { not_before } => InBatch::Planned {
            not_before: not_before.filter(|at| *at > desk.now),
            halted: desk.halts.first().map(|(reason, _, _)| *reason),
        },
        BatchState::Submitting => InBatch::Submitting,
        BatchState::InDoubt { since } => InBatch::InDoubt {
            since: *since,
            lookups: batch.lookups,
            needed: batch.lookups_needed,
        },
        BatchState::Submitted { .. } => match batch.unreachable_since {
            Some(since) => InBatch::Unreachable(since),
            None => InBatch::WithProvider {
                since: batch.submitted_at,
                usual: batch.usual,
                is_late: batch
                    .submitted_at
                    .zip(batch.usual)
                    .is_some_and(|(at, (_half, most))| desk.now.since(at) > most),
            },
        },
        BatchState::Ready { .. } => InBatch::Collecting {
            on_disk: batch.collected,
        },
        BatchState::Settled | BatchState::Abandoned { .. } => InBatch::Closing,
    }
}

/// What a page on the work list, whose turn it could be, waits for.
fn waits(facts: &Facts<'_>) -> Reason {
    let desk = facts.desk;
    if let Some(batch) = &facts.batch {
        return Reason::HeldBy(batch.batch.clone());
    }
    if let Some(until) = facts.not_before.filter(|until| *until > desk.now) {
        let pause = match facts.moved_by.as_str() {
            "upload_deferred" => Pause::Upload,
            "rejected" => Pause::Failure,
            "batch_expired" => Pause::ExpiredBatch,
            _ => Pause::Other,
        };
        return Reason::WaitsUntil { until, pause };
    }
    let bytes = match &facts.image {
        ImageSeen::Fault(_) => return Reason::ImageNotUsable(facts.image.clone()),
        ImageSeen::Usable { bytes } => *bytes,
        ImageSeen::NotLooked => 0,
    };
    let queue = if let Some(stop) = stopped(desk) {
        stop
    } else if desk.ahead >= desk.ahead_max {
        Queue::Ahead {
            ahead: desk.ahead,
            ahead_max: desk.ahead_max,
        }
    } else if !storage::image_fits(desk.held_bytes, bytes, desk.storage_budget_bytes) {
        Queue::StoreFull {
            held: desk.held_bytes,
            budget: desk.storage_budget_bytes,
        }
    } else {
        Queue::NextInLine
    };
    Reason::WaitsForUpload(queue)
}

/// What stops all pages alike.
fn stopped(desk: &Desk) -> Option<Queue> {
    if let Some((reason, words, since)) = desk.halts.first() {
        return Some(Queue::Halted(*reason, words.clone(), *since));
    }
    (!desk.running).then_some(Queue::NoProcess)
}

/// What an uploaded page waits for.
fn for_batch(facts: &Facts<'_>) -> Queue {
    let desk = facts.desk;
    let soon = desk.now.plus(desk.life_min);
    if let Some(stop) = stopped(desk) {
        return stop;
    }
    if let Some(expires_at) = facts.image_expires_at.filter(|at| *at <= soon) {
        return Queue::FileTooOld(expires_at);
    }
    if desk.live_batches >= desk.live_max {
        return Queue::LiveBatches {
            live: desk.live_batches,
            live_max: desk.live_max,
        };
    }
    if desk.trial == Trial::Wait {
        return Queue::Pilot;
    }
    if let Some(tokens_max) = desk.tokens_max
        && desk.tokens >= tokens_max
        && desk.live_batches > 0
    {
        return Queue::Tokens {
            tokens: desk.tokens,
            tokens_max,
        };
    }
    match desk.sent_at {
        Some(until) if until > desk.now && desk.uploaded < desk.batch_pages => Queue::Filling {
            pages: desk.uploaded,
            full: desk.batch_pages,
            until,
        },
        _ => Queue::NextInLine,
    }
}

#[cfg(test)]
mod tests;
