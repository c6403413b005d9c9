//! BatchSubmitter: packs uploaded pages into batches and makes the provider take each one once.
//!
//! The order never changes: the intent is committed, the lines file is written and uploaded,
//! `Submitting` is committed, and only then is the create sent, once. Whatever leaves it open
//! whether the job exists leads to a search of the remote list, never to another create.

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::busy::Busy;
use super::hint::{BatchSubmitted, PagesReleased, PagesUploaded, Tick};
use super::state::StateActor;
use super::state::messages::{
    BatchRow, ListBatches, ListUploaded, ListWork, PlanBatch, StateError, Uploaded,
};
use super::uploader::transfer::Transfer;
use crate::decide::pack::{self, Candidate, Limits, Packed, Timing};
use crate::decide::retry::CreateRules;
use crate::domain::batch::{BatchStage, BatchState};
use crate::domain::ids::{BatchId, KeyFingerprint, RunId, ScopeToken};
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::page_source::PageSource;
use crate::ports::result_sink::ResultSink;

mod lines;
mod lookup;
mod manifest;
mod submission;

pub use lines::{LineWriter, Prices};
use lookup::Lookup;
use submission::{Submission, SubmissionEnd};

/// What a submitter is told at birth.
#[derive(Clone)]
pub struct BatchSubmitterOptions {
    pub run: RunId,
    pub scope: ScopeToken,
    pub chained: bool,
    pub key_fingerprint: KeyFingerprint,
    pub display_name_prefix: String,
    /// How the names of our remote files begin.
    pub file_name_prefix: String,
    pub limits: Limits,
    /// Batches that may be planned, submitting, in doubt, submitted or ready at one time.
    pub live_max: usize,
    /// How long a batch that could still grow waits.
    pub fill_wait: Duration,
    /// An image with less life left than this is not sent.
    pub life_min: Duration,
    /// A lines file with less life left than this is uploaded again.
    pub lines_life_min: Duration,
    pub create: CreateRules,
    /// How long a doubt lasts before a job counts as absent, and how many looks that takes.
    pub settle: Duration,
    pub lookups: u32,
    pub releases_max: u32,
    /// Submissions that are worked on side by side.
    pub submissions_max: usize,
}

/// Whom a submitter talks to.
#[derive(Clone)]
pub struct BatchSubmitterPeers {
    pub state: Addr<StateActor>,
    pub submitted: Recipient<BatchSubmitted>,
    pub released: Recipient<PagesReleased>,
}

/// What submitting needs from the world.
#[derive(Clone)]
pub struct BatchSubmitterPorts {
    pub batches: Rc<dyn BatchApi>,
    pub source: Rc<dyn PageSource>,
    pub sink: Rc<dyn ResultSink>,
    pub clock: Rc<dyn Clock>,
    pub entropy: Rc<dyn Entropy>,
    pub transfer: Rc<Transfer>,
}

/// The stage.
pub struct BatchSubmitter {
    desk: Rc<Desk>,
    activity: Activity,
    looking: bool,
    look_again: bool,
    more_may_come: bool,
    /// Batches that a future of ours is working on.
    busy: Busy,
    looking_up: bool,
}

/// Everything that a piece of submission work needs; shared by all of them.
pub(super) struct Desk {
    pub options: BatchSubmitterOptions,
    pub peers: BatchSubmitterPeers,
    pub ports: BatchSubmitterPorts,
    pub writer: Rc<LineWriter>,
}

/// What one look at the state found to do.
struct Found {
    due: Vec<BatchRow>,
    doubted: Vec<BatchRow>,
}

/// How many waiting pages are looked at for one batch, as a multiple of its page limit: pages that
/// cannot join one batch are passed over, not waited for.
const CANDIDATES_A_PAGE: u64 = 4;

impl BatchSubmitter {
    /// Makes a submitter; it works when it is told that there may be work.
    pub fn new(
        options: BatchSubmitterOptions,
        peers: BatchSubmitterPeers,
        root: Root,
        ports: BatchSubmitterPorts,
        writer: LineWriter,
    ) -> Self {
        BatchSubmitter {
            desk: Rc::new(Desk {
                options,
                peers,
                ports,
                writer: Rc::new(writer),
            }),
            activity: Activity::new("batch submitter", root),
            looking: false,
            look_again: false,
            more_may_come: true,
            busy: Busy::default(),
            looking_up: false,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if !self.activity.may_take() {
            return;
        }
        if self.looking {
            self.look_again = true;
            return;
        }
        self.looking = true;
        self.busy.asking();
        self.activity.begin();
        let desk = Rc::clone(&self.desk);
        let more_may_come = self.more_may_come;
        let look = async move { desk.look(more_may_come).await };
        ctx.spawn(look.into_actor(self).map(|found, stage, ctx| {
            stage.looking = false;
            match found {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(found) => {
                    stage.begin(found, ctx);
                    if std::mem::take(&mut stage.look_again) || stage.busy.is_outdated() {
                        stage.look(ctx);
                    }
                }
            }
            stage.activity.end();
        }));
    }

    fn begin(&mut self, found: Found, ctx: &mut Context<Self>) {
        for row in found.due {
            if self.busy.len() >= self.desk.options.submissions_max {
                break;
            }
            if self.busy.is_free(&row.batch) {
                self.submit(row, ctx);
            }
        }
        let mut doubted = found.doubted;
        doubted.retain(|row| self.busy.is_free(&row.batch));
        if !doubted.is_empty() && !self.looking_up {
            self.look_up(doubted, ctx);
        }
    }

    fn submit(&mut self, row: BatchRow, ctx: &mut Context<Self>) {
        let batch = row.batch.clone();
        self.busy.begin(batch.clone());
        self.activity.begin();
        let submission = Submission::new(Rc::clone(&self.desk), row);
        let work = async move { submission.run().await };
        ctx.spawn(work.into_actor(self).map(move |end, stage, ctx| {
            stage.busy.end(&batch);
            match end {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(end) => stage.submission_done(batch, end, ctx),
            }
            stage.activity.end();
        }));
    }

    fn submission_done(&mut self, batch: BatchId, end: SubmissionEnd, ctx: &mut Context<Self>) {
        let peers = &self.desk.peers;
        match end {
            SubmissionEnd::Submitted => {
                self.activity.contact();
                peers.submitted.do_send(BatchSubmitted { batch });
                self.look(ctx);
            }
            SubmissionEnd::Ended { released } => {
                peers.released.do_send(PagesReleased { count: released });
                self.look(ctx);
            }
            SubmissionEnd::Doubt => self.look(ctx),
            // The row says when it is due again; the next tick finds it.
            SubmissionEnd::Parked { account } => {
                if let Some(message) = account {
                    self.activity.trouble(message);
                }
            }
        }
    }

    fn look_up(&mut self, doubted: Vec<BatchRow>, ctx: &mut Context<Self>) {
        self.looking_up = true;
        self.activity.begin();
        let batches: Vec<BatchId> = doubted.iter().map(|row| row.batch.clone()).collect();
        for batch in &batches {
            self.busy.begin(batch.clone());
        }
        let lookup = Lookup::new(Rc::clone(&self.desk), doubted);
        let work = async move { lookup.run().await };
        ctx.spawn(work.into_actor(self).map(move |end, stage, ctx| {
            stage.looking_up = false;
            for batch in &batches {
                stage.busy.end(batch);
            }
            match end {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(found) => {
                    for batch in found.adopted {
                        stage.desk.peers.submitted.do_send(BatchSubmitted { batch });
                    }
                    match found.trouble {
                        Some(message) => stage.activity.trouble(message),
                        None => stage.activity.contact(),
                    }
                    if found.absent > 0 {
                        stage.look(ctx);
                    }
                }
            }
            stage.activity.end();
        }));
    }
}

impl Desk {
    /// Plans what can be planned, then lists what is to be submitted and what is in doubt.
    async fn look(&self, more_may_come: bool) -> Result<Found, StateError> {
        loop {
            let live = self.live().await?;
            if live.len() >= self.options.live_max || !self.plan(more_may_come).await? {
                return Ok(self.found(live));
            }
        }
    }

    async fn live(&self) -> Result<Vec<BatchRow>, StateError> {
        let states = vec![
            BatchStage::Planned,
            BatchStage::Submitting,
            BatchStage::InDoubt,
            BatchStage::Submitted,
            BatchStage::Ready,
        ];
        let limit = LIVE_LISTED;
        answered(self.peers.state.send(ListBatches { states, limit }).await)
    }

    fn found(&self, live: Vec<BatchRow>) -> Found {
        let now = self.ports.clock.now();
        let mut found = Found {
            due: Vec::new(),
            doubted: Vec::new(),
        };
        for row in live {
            match &row.state {
                BatchState::Planned { not_before } => {
                    if not_before.is_none_or(|at| at <= now) {
                        found.due.push(row);
                    }
                }
                BatchState::InDoubt { .. } => {
                    if self.lookup_due(&row, now) {
                        found.doubted.push(row);
                    }
                }
                BatchState::Submitting
                | BatchState::Submitted { .. }
                | BatchState::Ready { .. }
                | BatchState::Settled
                | BatchState::Abandoned { .. } => {}
            }
        }
        found
    }

    /// Looks are spread evenly over the time that a doubt lasts.
    fn lookup_due(&self, row: &BatchRow, now: Timestamp) -> bool {
        let pause = self.options.settle / self.options.lookups.max(1);
        row.last_lookup_at
            .is_none_or(|last| now >= last.plus(pause))
    }

    /// Plans one batch if there is one to plan; says whether it did.
    async fn plan(&self, more_may_come: bool) -> Result<bool, StateError> {
        let now = self.ports.clock.now();
        // Asked before the list is: what can no longer come by now stands in the list.
        let more = more_may_come || self.more_can_come().await?;
        let waiting = ListUploaded {
            scope: self.options.scope.clone(),
            limit: u64::from(self.options.limits.pages_max) * CANDIDATES_A_PAGE,
            usable_until: now.plus(self.options.life_min),
        };
        let uploaded = answered(self.peers.state.send(waiting).await)?;
        if uploaded.pages.is_empty() {
            return Ok(false);
        }
        let oldest = uploaded.oldest;
        let Some(packed) = self.pack(uploaded).await else {
            return Ok(false);
        };
        match pack::timing(&packed, oldest, self.options.fill_wait, more, now) {
            Timing::Now => {}
            Timing::Wait { until } => {
                tracing::debug!(pages = packed.members.len(), until = %until, "batch may still grow");
                return Ok(false);
            }
        }
        let batch = BatchId::from(self.ports.entropy.unique_id(now));
        notices::BatchPlanned {
            batch: &batch,
            pages: packed.members.len(),
            line_bytes: packed.line_bytes,
            stopped: packed.stopped,
        }
        .emit();
        let mut members = packed.members;
        members.sort();
        let plan = PlanBatch {
            display_name: batch.display_name(&self.options.display_name_prefix),
            batch,
            run: self.options.run.clone(),
            recipe: self.writer.recipe_hash().clone(),
            model: self.writer.model().to_owned(),
            key_fingerprint: self.options.key_fingerprint.clone(),
            members,
            at: now,
        };
        answered(self.peers.state.send(plan).await)?;
        Ok(true)
    }

    async fn pack(&self, uploaded: Uploaded) -> Option<Packed> {
        let sizes = self
            .writer
            .measure(&uploaded.pages, &*self.ports.source)
            .await;
        let candidates: Vec<Candidate> = uploaded
            .pages
            .into_iter()
            .zip(sizes)
            .map(|(page, size)| Candidate {
                key: page.key,
                // Pages that stand alone may stand together.
                predecessor: page.predecessor.filter(|_| self.options.chained),
                line_bytes: size.line_bytes,
                tokens: size.tokens,
                batch_size_max: page.batch_size_max,
            })
            .collect();
        pack::pack(&candidates, self.options.limits)
    }

    /// Whether a page could still join without a batch having to end first.
    async fn more_can_come(&self) -> Result<bool, StateError> {
        let question = ListWork {
            scope: self.options.scope.clone(),
            chained: self.options.chained,
            at: self.ports.clock.now(),
        };
        let work = answered(self.peers.state.send(question).await)?;
        Ok(work.uploading > 0 || work.runnable > 0 || work.validating > 0)
    }
}

/// More live batches than this are never looked at in one question.
const LIVE_LISTED: u64 = 10_000;

impl Actor for BatchSubmitter {
    type Context = Context<Self>;
}

impl Handler<PagesUploaded> for BatchSubmitter {
    type Result = ();

    fn handle(&mut self, _: PagesUploaded, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<Tick> for BatchSubmitter {
    type Result = ();

    fn handle(&mut self, tick: Tick, ctx: &mut Self::Context) {
        self.more_may_come = tick.more_may_come;
        self.look(ctx);
    }
}

impl Stage for BatchSubmitter {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }
}

stage_handlers!(BatchSubmitter);
