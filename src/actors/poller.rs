//! Poller: watches every live job on its own cadence. Only the provider ends one.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::brake::Brake;
use super::busy::Busy;
use super::ending::ReleaseRules;
use super::hint::{BatchSubmitted, PagesReleased, ResultsReady, Tick};
use super::state::StateActor;
use super::state::messages::{BatchRow, LateJob, ListBatches, ListLate};
use super::wish;
use crate::decide::cadence;
use crate::domain::batch::{BatchStage, BatchState};
use crate::domain::ids::{BatchId, RemoteName};
use crate::domain::late::LateState;
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;

mod late;
mod look;

use late::{LateLook, LateLooked};
use look::{Look, Looked};

/// What a poller is told at birth.
#[derive(Clone)]
pub struct PollerOptions {
    /// The pause between two looks at one job, moved by jitter.
    pub interval: Duration,
    /// The longest pause after failed looks.
    pub interval_max: Duration,
    /// Looks that run side by side.
    pub polls_max: usize,
    /// How long a job that ended well may leave its results unnamed before that is alarming.
    pub results_wait: Duration,
    /// The age at which a live job is warned of, again at each doubling.
    pub slow_warn: Duration,
    /// The pause between two looks at a job beside or after its batch.
    pub late_interval: Duration,
    pub release: ReleaseRules,
    pub brake: Brake,
}

/// Whom a poller talks to.
#[derive(Clone)]
pub struct PollerPeers {
    pub state: Addr<StateActor>,
    pub ready: Recipient<ResultsReady>,
    pub released: Recipient<PagesReleased>,
}

/// The stage.
pub struct Poller {
    options: PollerOptions,
    peers: PollerPeers,
    activity: Activity,
    batches: Rc<dyn BatchApi>,
    clock: Rc<dyn Clock>,
    entropy: Rc<dyn Entropy>,
    born: Timestamp,
    listing: bool,
    list_again: bool,
    busy: Busy,
    /// When each job is looked at next, and how many looks at it failed in a row.
    cadence: HashMap<BatchId, Cadence>,
    /// Jobs beside or after their batches: whether they are being listed, and which are looked at.
    listing_late: bool,
    looking_late: HashSet<RemoteName>,
}

#[derive(Clone, Copy)]
struct Cadence {
    due: Timestamp,
    failures: u32,
    warned_age: Duration,
}

impl Poller {
    /// Makes a poller; it works when time passes or a job is made.
    pub fn new(
        options: PollerOptions,
        peers: PollerPeers,
        root: Root,
        batches: Rc<dyn BatchApi>,
        clock: Rc<dyn Clock>,
        entropy: Rc<dyn Entropy>,
    ) -> Self {
        Poller {
            options,
            peers,
            activity: Activity::new("poller", root),
            batches,
            born: clock.now(),
            clock,
            entropy,
            listing: false,
            list_again: false,
            busy: Busy::default(),
            cadence: HashMap::new(),
            listing_late: false,
            looking_late: HashSet::new(),
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if !self.activity.may_take() {
            return;
        }
        if self.listing {
            self.list_again = true;
            return;
        }
        self.listing = true;
        self.busy.asking();
        self.activity.begin();
        let question = ListBatches {
            states: vec![BatchStage::Submitted],
            limit: SUBMITTED_LISTED,
        };
        let asked = self.peers.state.send(question).into_actor(self);
        ctx.spawn(asked.map(|reply, stage, ctx| {
            stage.listing = false;
            match answered(reply) {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(rows) => {
                    stage.begin_due(rows, ctx);
                    if std::mem::take(&mut stage.list_again) || stage.busy.is_outdated() {
                        stage.look(ctx);
                    }
                }
            }
            stage.activity.end();
        }));
    }

    fn begin_due(&mut self, rows: Vec<BatchRow>, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let live: HashSet<&BatchId> = rows.iter().map(|row| &row.batch).collect();
        self.cadence.retain(|batch, _| live.contains(batch));
        for row in &rows {
            let known = self.cadence.get(&row.batch).copied();
            let cadence = known.unwrap_or_else(|| self.first_look(row, now));
            self.cadence.insert(row.batch.clone(), cadence);
            self.warn_if_slow(row, now);
        }
        for row in rows {
            if self.busy.len() >= self.options.polls_max {
                return;
            }
            let due = self.cadence.get(&row.batch).is_none_or(|cadence| {
                cadence.due <= now || (cadence.failures == 0 && wish::is_pending(&row))
            });
            if due && self.busy.is_free(&row.batch) {
                self.poll(row, ctx);
            }
        }
    }

    /// A job that was made before this process began is looked at at once: start-up collects
    /// before it uploads. A new one gets its interval first.
    fn first_look(&self, row: &BatchRow, now: Timestamp) -> Cadence {
        let submitted = row.submitted_at.unwrap_or(row.created_at);
        let pause = cadence::jittered(self.options.interval, self.entropy.fraction());
        let due = if submitted < self.born {
            now
        } else {
            now.plus(pause)
        };
        Cadence {
            due,
            failures: 0,
            warned_age: Duration::ZERO,
        }
    }

    fn warn_if_slow(&mut self, row: &BatchRow, now: Timestamp) {
        let age = now.since(row.submitted_at.unwrap_or(row.created_at));
        if let Some(cadence) = self.cadence.get_mut(&row.batch) {
            let next = (cadence.warned_age * 2).max(self.options.slow_warn);
            if age >= next {
                cadence.warned_age = age;
                notices::BatchSlow {
                    batch: &row.batch,
                    age,
                }
                .emit();
            }
        }
    }

    fn poll(&mut self, row: BatchRow, ctx: &mut Context<Self>) {
        let BatchState::Submitted { remote } = row.state.clone() else {
            return;
        };
        self.busy.begin(row.batch.clone());
        self.activity.begin();
        let look = Look {
            state: self.peers.state.clone(),
            batches: Rc::clone(&self.batches),
            clock: Rc::clone(&self.clock),
            options: self.options.clone(),
            failures: self
                .cadence
                .get(&row.batch)
                .map_or(0, |cadence| cadence.failures),
            row,
            remote,
        };
        let batch = look.row.batch.clone();
        ctx.spawn(look.run().into_actor(self).map(move |looked, stage, ctx| {
            stage.busy.end(&batch);
            match looked {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(looked) => stage.looked(batch, looked),
            }
            stage.look(ctx);
            stage.activity.end();
        }));
    }

    fn looked(&mut self, batch: BatchId, looked: Looked) {
        let now = self.clock.now();
        let fraction = self.entropy.fraction();
        let (interval, interval_max) = (self.options.interval, self.options.interval_max);
        if !matches!(looked, Looked::Failed(_)) {
            self.activity.contact();
        }
        match looked {
            Looked::Again => {
                if let Some(cadence) = self.cadence.get_mut(&batch) {
                    cadence.failures = 0;
                    cadence.due = now.plus(cadence::jittered(interval, fraction));
                }
            }
            Looked::Ready => {
                self.cadence.remove(&batch);
                self.peers.ready.do_send(ResultsReady { batch });
            }
            Looked::Ended { released } => {
                self.cadence.remove(&batch);
                self.peers
                    .released
                    .do_send(PagesReleased { count: released });
            }
            Looked::Failed(error) => {
                notices::PollFailed {
                    batch: &batch,
                    message: &error.message,
                }
                .emit();
                self.activity.trouble(error.message);
                if let Some(cadence) = self.cadence.get_mut(&batch) {
                    cadence.failures = cadence.failures.saturating_add(1);
                    let pause =
                        cadence::backoff(interval, cadence.failures, interval_max, fraction);
                    cadence.due = now.plus(pause);
                }
            }
        }
    }
}

impl Poller {
    /// Looks at jobs beside or after their batches, seldom: what they bring is a windfall.
    fn look_late(&mut self, ctx: &mut Context<Self>) {
        if self.listing_late || !self.activity.may_take() {
            return;
        }
        self.listing_late = true;
        self.activity.begin();
        let question = ListLate {
            state: LateState::Watched,
            limit: LATE_LISTED,
        };
        let asked = self.peers.state.send(question).into_actor(self);
        ctx.spawn(asked.map(|reply, stage, ctx| {
            stage.listing_late = false;
            match answered(reply) {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(jobs) => stage.begin_late(jobs, ctx),
            }
            stage.activity.end();
        }));
    }

    fn begin_late(&mut self, jobs: Vec<LateJob>, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        for job in jobs {
            // What was last looked at by an earlier process is looked at at once.
            let due = job
                .looked_at
                .is_none_or(|at| at < self.born || now >= at.plus(self.options.late_interval));
            let free = !self.looking_late.contains(&job.job);
            if due && free && self.looking_late.len() < self.options.polls_max {
                self.poll_late(job, ctx);
            }
        }
    }

    fn poll_late(&mut self, job: LateJob, ctx: &mut Context<Self>) {
        let name = job.job.clone();
        self.looking_late.insert(name.clone());
        self.activity.begin();
        let look = LateLook {
            state: self.peers.state.clone(),
            batches: Rc::clone(&self.batches),
            clock: Rc::clone(&self.clock),
            patience: self.options.results_wait,
            job,
        };
        ctx.spawn(look.run().into_actor(self).map(move |looked, stage, ctx| {
            stage.looking_late.remove(&name);
            match looked {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(LateLooked::Offered { batch }) => {
                    stage.activity.contact();
                    stage.peers.ready.do_send(ResultsReady { batch });
                }
                Ok(LateLooked::Nothing) => stage.activity.contact(),
                Ok(LateLooked::Failed) => {}
            }
            stage.activity.end();
        }));
    }
}

/// More jobs beside or after their batches than this are never looked at in one question.
const LATE_LISTED: u64 = 1_000;

/// More live jobs than this are never looked at in one question.
const SUBMITTED_LISTED: u64 = 10_000;

impl Actor for Poller {
    type Context = Context<Self>;
}

impl Handler<BatchSubmitted> for Poller {
    type Result = ();

    fn handle(&mut self, _: BatchSubmitted, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<Tick> for Poller {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        self.look(ctx);
        self.look_late(ctx);
    }
}

impl Stage for Poller {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }
}

stage_handlers!(Poller);
