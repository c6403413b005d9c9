//! BatchSubmitter: packs uploaded pages into batches and makes the provider take each one once.
//!
//! The order never changes: the intent is committed, the lines file is written and uploaded,
//! `Submitting` is committed, and only then is the create sent, once. Whatever leaves it open
//! whether the job exists leads to a search of the remote list, never to another create.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;

use super::activity::{Activity, Root, Stage, stage_handlers};
use super::brake::Brake;
use super::busy::Busy;
use super::disk_pause::DiskPause;
use super::ending::ReleaseRules;
use super::hint::{BatchSubmitted, PagesReleased, PagesUploaded, RoomAhead, Tick};
use super::state::StateActor;
use super::state::messages::{BatchRow, StateError};
use super::uploader::transfer::Transfer;
use super::wish::{Fulfilled, WishDesk};
use crate::decide::pack::Limits;
use crate::decide::retry::CreateRules;
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, KeyFingerprint, RunId, ScopeToken};
use crate::domain::time::Timestamp;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::page_source::PageSource;
use crate::ports::result_sink::ResultSink;

mod desk;
mod lines;
mod lookup;
mod manifest;
mod probe;
mod prompts;
mod submission;

use desk::Found;
pub use lines::{Line, LineWriter, Prices, Refusal, Subject};
use lookup::Lookup;
use probe::Probed;
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
    /// How long a batch that could still grow waits for the next page.
    pub fill_wait: Duration,
    pub storage_budget_bytes: u64,
    /// An image with less life left than this is not sent.
    pub life_min: Duration,
    /// A lines file with less life left than this is uploaded again.
    pub lines_life_min: Duration,
    pub create: CreateRules,
    /// How long a doubt lasts before a job counts as absent, and how many looks that takes.
    pub settle: Duration,
    pub lookups: u32,
    pub release: ReleaseRules,
    pub brake: Brake,
    /// Submissions that are worked on side by side.
    pub submissions_max: usize,
}

/// Whom a submitter talks to.
#[derive(Clone)]
pub struct BatchSubmitterPeers {
    pub state: Addr<StateActor>,
    pub submitted: Recipient<BatchSubmitted>,
    pub released: Recipient<PagesReleased>,
    pub room: Recipient<RoomAhead>,
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
    /// Pages without which the next batch is not full, where the last look found one that waits for
    /// company: until they are uploaded, no upload is worth a look of its own.
    short: u64,
    more_may_come: bool,
    /// Batches that a future of ours is working on.
    busy: Busy,
    looking_up: bool,
    /// Whether the provider is being asked if it takes calls again.
    probing: bool,
    born: Timestamp,
    /// When the list was last searched for second jobs of our batches.
    audited_at: Option<Timestamp>,
    disk: DiskPause,
}

/// Everything that a piece of submission work needs; shared by all of them.
pub(super) struct Desk {
    pub options: BatchSubmitterOptions,
    pub peers: BatchSubmitterPeers,
    pub ports: BatchSubmitterPorts,
    pub writer: Rc<LineWriter>,
    /// Whether the recipe has shown what it can do.
    pub proven: Cell<bool>,
    /// How many batches may be live, as it was last told.
    pub told_live_max: Cell<usize>,
    /// Since when there is a place for a batch, and pages for it, and it is held back.
    pub held_since: Cell<Option<Timestamp>>,
}

/// The shortest pause between two searches of the list for second jobs of our batches.
const AUDIT_PAUSE: Duration = Duration::from_secs(300);

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
            born: ports.clock.now(),
            desk: Rc::new(Desk {
                options,
                peers,
                ports,
                writer: Rc::new(writer),
                proven: Cell::new(false),
                told_live_max: Cell::new(usize::MAX),
                held_since: Cell::new(None),
            }),
            activity: Activity::new("batch submitter", root),
            looking: false,
            look_again: false,
            short: 0,
            more_may_come: true,
            busy: Busy::default(),
            looking_up: false,
            probing: false,
            audited_at: None,
            disk: DiskPause::new("batch submitter"),
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
                    stage.short = found.short;
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
        let now = self.desk.ports.clock.now();
        if let Some(reason) = found.disk {
            self.disk.begin(&reason, now);
        }
        for row in found.given_up {
            if self.busy.is_free(&row.batch) {
                self.give_up(row, ctx);
            }
        }
        for row in found.due {
            if self.disk.holds(now) || self.busy.len() >= self.desk.options.submissions_max {
                break;
            }
            if self.busy.is_free(&row.batch) {
                self.submit(row, ctx);
            }
        }
        let mut doubted = found.doubted;
        doubted.retain(|row| self.busy.is_free(&row.batch));
        if !self.looking_up && (!doubted.is_empty() || self.audit_due()) {
            self.look_up(doubted, ctx);
        }
        let due = probe::due(&found.halts, self.born, self.desk.ports.clock.now());
        if !due.is_empty() && !self.probing {
            self.probe(due, ctx);
        }
    }

    /// Whether it is time to search the list for second jobs of batches that were created twice.
    fn audit_due(&self) -> bool {
        let now = self.desk.ports.clock.now();
        self.audited_at
            .is_none_or(|at| now >= at.plus(AUDIT_PAUSE.max(self.desk.options.settle)))
    }

    /// Asks the provider whether it takes calls again, and lifts the halts that this ends.
    fn probe(&mut self, due: Vec<HaltReason>, ctx: &mut Context<Self>) {
        self.probing = true;
        self.activity.begin();
        let desk = Rc::clone(&self.desk);
        let work = async move { desk.probe(due).await };
        ctx.spawn(work.into_actor(self).map(|probed, stage, ctx| {
            stage.probing = false;
            match probed {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(Probed::TakesCalls) => {
                    // Uploads were held back as well.
                    stage.desk.peers.room.do_send(RoomAhead {});
                    stage.look(ctx);
                }
                Ok(Probed::StillNot { message }) => stage.activity.trouble(message),
            }
            stage.activity.end();
        }));
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

    /// Ends a batch that the provider does not have, or perhaps has, because an operator wants it.
    fn give_up(&mut self, row: BatchRow, ctx: &mut Context<Self>) {
        let batch = row.batch.clone();
        self.busy.begin(batch.clone());
        self.activity.begin();
        let desk = Rc::clone(&self.desk);
        let work = async move {
            let wishes = WishDesk {
                state: desk.peers.state.clone(),
                batches: None,
                clock: Rc::clone(&desk.ports.clock),
                release: desk.options.release,
                brake: desk.options.brake,
            };
            let fulfilled = wishes.fulfill(&row).await?;
            desk.remove_spool(&row.batch).await;
            Ok(fulfilled)
        };
        ctx.spawn(work.into_actor(self).map(
            move |end: Result<Fulfilled, StateError>, stage, ctx| {
                stage.busy.end(&batch);
                match end {
                    Err(error) => stage.activity.fail(error, ctx),
                    Ok(Fulfilled::Forgotten { released }) => {
                        stage.submission_done(batch, SubmissionEnd::Ended { released }, ctx);
                    }
                    Ok(Fulfilled::LivesOn | Fulfilled::Failed(_)) => {}
                }
                stage.activity.end();
            },
        ));
    }

    fn submission_done(&mut self, batch: BatchId, end: SubmissionEnd, ctx: &mut Context<Self>) {
        let peers = &self.desk.peers;
        match end {
            SubmissionEnd::Submitted => {
                self.disk.over(self.desk.ports.clock.now());
                self.activity.contact();
                peers.submitted.do_send(BatchSubmitted { batch });
                self.look(ctx);
            }
            SubmissionEnd::Ended { released } => {
                peers.released.do_send(PagesReleased { count: released });
                self.look(ctx);
            }
            SubmissionEnd::Doubt => {
                self.disk.over(self.desk.ports.clock.now());
                self.look(ctx);
            }
            // The row is as it was; a tick after the pause finds it.
            SubmissionEnd::Disk { reason } => {
                self.disk.begin(&reason, self.desk.ports.clock.now());
            }
            // The row says when it is due again; the next tick finds it.
            SubmissionEnd::Parked { account } => {
                self.disk.over(self.desk.ports.clock.now());
                if let Some(message) = account {
                    self.activity.trouble(message);
                }
            }
        }
    }

    fn look_up(&mut self, doubted: Vec<BatchRow>, ctx: &mut Context<Self>) {
        self.looking_up = true;
        self.audited_at = Some(self.desk.ports.clock.now());
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
                        None if found.settled_doubt => stage.activity.contact(),
                        None => {}
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

impl Actor for BatchSubmitter {
    type Context = Context<Self>;
}

impl Handler<PagesUploaded> for BatchSubmitter {
    type Result = ();

    fn handle(&mut self, uploaded: PagesUploaded, ctx: &mut Self::Context) {
        self.short = self.short.saturating_sub(uploaded.count);
        // A look under way may have asked before these pages were there, and sets the figure anew.
        if self.short == 0 || self.looking {
            self.look(ctx);
        }
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
