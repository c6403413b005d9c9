//! Poller: watches every live job on its own cadence. Only the provider ends one.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::busy::Busy;
use super::ending::{Ending, ReleaseRules};
use super::hint::{BatchSubmitted, PagesReleased, ResultsReady, Tick};
use super::state::StateActor;
use super::state::messages::{BatchRow, ListBatches, ListMembers, RecordPoll, StateError};
use crate::decide::cadence;
use crate::decide::poll::{self, Seen};
use crate::domain::batch::{AbandonCode, BatchEvent, BatchStage, BatchState};
use crate::domain::failure::{ApiError, Next};
use crate::domain::ids::{BatchId, RemoteName};
use crate::domain::remote::RemoteBatch;
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;

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
    pub releases_max: u32,
    /// What an image must have left to be used again after a release.
    pub life_min: Duration,
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
}

#[derive(Clone, Copy)]
struct Cadence {
    due: Timestamp,
    failures: u32,
    warned_age: Duration,
}

/// What one look led to.
enum Looked {
    Again,
    Ready,
    Ended { released: u64 },
    Failed(ApiError),
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
            let due = self
                .cadence
                .get(&row.batch)
                .is_none_or(|cadence| cadence.due <= now);
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

/// More live jobs than this are never looked at in one question.
const SUBMITTED_LISTED: u64 = 10_000;

/// One look at one job.
struct Look {
    state: Addr<StateActor>,
    batches: Rc<dyn BatchApi>,
    clock: Rc<dyn Clock>,
    options: PollerOptions,
    row: BatchRow,
    remote: RemoteName,
}

impl Look {
    async fn run(self) -> Result<Looked, StateError> {
        let remote = match self.batches.batch(&self.remote).await {
            Ok(remote) => remote,
            Err(error) => {
                if matches!(error.next, Next::Missing) {
                    // Under the key that made it a job does not vanish; alarm, and keep asking.
                    notices::BatchUnreachable {
                        batch: &self.row.batch,
                        remote: &self.remote,
                        message: &error.message,
                    }
                    .emit();
                }
                return Ok(Looked::Failed(error));
            }
        };
        let seen = poll::seen(&remote);
        let now = self.clock.now();
        match &seen {
            Seen::Nothing { code, words } => {
                let (code, words) = (*code, words.clone());
                self.record(&remote, BatchEvent::Advanced, now).await?;
                self.end(code, words, now).await
            }
            Seen::StillRunning => {
                self.record(&remote, seen.event(), now).await?;
                Ok(Looked::Again)
            }
            Seen::ResultsNotNamed => {
                let since = self.row.terminal_seen_at.unwrap_or(now);
                if now.since(since) >= self.options.results_wait {
                    notices::ResultsNotNamed {
                        batch: &self.row.batch,
                        for_span: now.since(since),
                    }
                    .emit();
                }
                self.record(&remote, seen.event(), now).await?;
                Ok(Looked::Again)
            }
            Seen::Results => {
                self.record(&remote, seen.event(), now).await?;
                notices::ResultsOffered {
                    batch: &self.row.batch,
                    state: remote.state.as_str(),
                }
                .emit();
                Ok(Looked::Ready)
            }
        }
    }

    async fn record(
        &self,
        remote: &RemoteBatch,
        event: BatchEvent,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let record = RecordPoll {
            batch: self.row.batch.clone(),
            remote_state: remote.state.as_str().to_owned(),
            stats: remote.stats,
            output: remote.output.clone(),
            event: Some(event),
            ended_at: remote.ended_at,
            note: remote
                .error
                .as_ref()
                .map(|error| error.message.clone())
                .unwrap_or_default(),
            at,
        };
        answered(self.state.send(record).await).map(|_state| ())
    }

    /// The provider ended the job and has nothing: its pages go back uncounted.
    async fn end(
        &self,
        code: AbandonCode,
        words: String,
        now: Timestamp,
    ) -> Result<Looked, StateError> {
        let batch = self.row.batch.clone();
        let members = answered(
            self.state
                .send(ListMembers {
                    batch: batch.clone(),
                })
                .await,
        )?;
        let ending = Ending {
            batch,
            event: BatchEvent::EndedEmpty { code },
            code,
            members,
            note: words,
        };
        let rules = ReleaseRules {
            releases_max: self.options.releases_max,
            life_min: self.options.life_min,
        };
        let released = ending.record(&self.state, rules, now).await?;
        Ok(Looked::Ended { released })
    }
}

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
    }
}

impl Stage for Poller {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }
}

stage_handlers!(Poller);
