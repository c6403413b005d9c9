//! What a report counts: the figures of a period, a batch, a run, or of everything so far.
//!
//! Every request for a page is booked with its batch, and a batch is booked to the instant at which
//! it was submitted (planned, until then). So a late answer belongs to the day on which it was asked
//! for, and the days add up to the whole.

use std::time::Duration;

use super::attempt::{Tally, Tokens};
use super::batch::BatchStage;
use super::failure::ErrorType;
use super::ids::{BatchId, RecipeHash, RecordKey, RunId};
use super::page::PageStage;
use super::period::{Day, Parts, PeriodKind, Stretch};
use super::time::Timestamp;

/// From this try on, tries are counted together.
pub const TRIES_APART: u32 = 10;

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// What was submitted in a stretch of time.
    Time(Stretch),
    Batch(BatchId),
    Run(RunId),
}

/// Sums over requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub batches: u64,
    pub tally: Tally,
    pub tokens: Tokens,
    /// In billionths of a US dollar.
    pub cost_nanos: u64,
}

impl Sums {
    /// Adds what another sum holds.
    pub fn add(&mut self, other: &Sums) {
        let Sums {
            batches,
            tally,
            tokens,
            cost_nanos,
        } = other;
        let Tally {
            submitted,
            succeeded,
            failed,
            missing,
            released,
            open,
        } = tally;
        self.batches += batches;
        self.tally.submitted += submitted;
        self.tally.succeeded += succeeded;
        self.tally.failed += failed;
        self.tally.missing += missing;
        self.tally.released += released;
        self.tally.open += open;
        self.add_tokens(tokens);
        self.cost_nanos += cost_nanos;
    }

    fn add_tokens(&mut self, other: &Tokens) {
        let Tokens {
            prompt,
            cached,
            candidates,
            thoughts,
            total,
        } = other;
        let mine = &mut self.tokens;
        for (mine, other) in [
            (&mut mine.prompt, prompt),
            (&mut mine.cached, cached),
            (&mut mine.candidates, candidates),
            (&mut mine.thoughts, thoughts),
            (&mut mine.total, total),
        ] {
            *mine = match (*mine, *other) {
                (None, None) => None,
                (mine, other) => Some(mine.unwrap_or(0) + other.unwrap_or(0)),
            };
        }
    }
}

/// Failures of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCount {
    pub error: ErrorType,
    /// Those that count against their page.
    pub counted: u64,
    pub uncounted: u64,
}

/// A page that failed, with its newest failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedPage {
    pub key: RecordKey,
    pub error: ErrorType,
    pub message: String,
    /// Failures counted against it now.
    pub failures: u32,
    /// Where it stands now; absent when the state does not know it any more.
    pub stage: Option<PageStage>,
}

/// Sums of what was asked in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeSums {
    pub recipe: RecipeHash,
    pub prompt_name: String,
    pub model: String,
    pub sums: Sums,
}

/// How long jobs took, from their submission to their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    pub ended: u64,
    pub shortest: Option<Duration>,
    pub half: Option<Duration>,
    pub nine_tenths: Option<Duration>,
    pub longest: Option<Duration>,
}

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    pub files: u64,
    pub bytes: u64,
}

/// Answers that came after their batch had ended, or beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LateSums {
    pub answers: u64,
    pub accepted: u64,
    pub paid_twice: u64,
}

/// The report of a day or a week that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenReport {
    pub kind: PeriodKind,
    pub first: Day,
    /// Requests of it that had no outcome then.
    pub open: u64,
    pub written_at: Timestamp,
}

/// Everything that a report tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    pub sums: Sums,
    /// The pages concerned by where they stand now, zeros left out.
    pub pages: Vec<(PageStage, u64)>,
    /// Most frequent first.
    pub errors: Vec<ErrorCount>,
    /// Those that are not sent again first, then by key; not more than were asked for.
    pub failed: Vec<FailedPage>,
    /// How many pages failed, how many of them are not sent again, and how many are done since.
    pub failed_total: u64,
    pub failed_dead: u64,
    pub failed_done: u64,
    /// Batches by state, zeros left out.
    pub batches: Vec<(BatchStage, u64)>,
    pub took: Took,
    /// Sums by when they are booked, in order.
    pub parts: Parts,
    pub by_part: Vec<Sums>,
    /// By the top level of the layout, most requests first.
    pub by_level: Vec<(String, Sums)>,
    pub by_recipe: Vec<RecipeSums>,
    /// By which try it was, from the first; not counted in batches.
    pub by_try: Vec<(u32, Sums)>,
    pub images: Carried,
    pub lines: Carried,
    pub results: Carried,
    pub late: LateSums,
}
