//! ResultProcessor: brings results to our disk, joins them to pages by key, judges them, writes
//! outputs and settles batches.
//!
//! The raw results are durable before a line of them is read, and an output is durable before its
//! page counts as done. Doing it all twice changes nothing.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::brake::Brake;
use super::busy::Busy;
use super::disk_pause::DiskPause;
use super::ending::ReleaseRules;
use super::hint::{PagesReleased, PagesUnlocked, ResultsReady, Tick};
use super::state::StateActor;
use super::state::messages::{
    BatchRow, LateJob, ListBatches, ListLate, ListUnreported, RecordReport, StateError, Unreported,
};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, RemoteName};
use crate::domain::late::LateState;
use crate::domain::time::Timestamp;
use crate::meter::{Spot, waiting};
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::file_api::FileApi;
use crate::ports::page_source::{PageSource, SourceError};
use crate::ports::result_sink::ResultSink;
use crate::prompt::Validator;

mod collection;
pub mod index;
pub mod judge;
mod late;

use collection::{Collection, CollectionEnd};
pub use judge::JudgeRules;
use late::{LateCollection, LateEnd};

/// What a processor is told at birth.
#[derive(Clone)]
pub struct ResultProcessorOptions {
    pub rules: JudgeRules,
    /// Batches that are collected side by side.
    pub collections_max: usize,
    /// Pages whose verdicts are written in one message.
    pub verdicts_together: usize,
    /// How long results that cannot be found are looked for before they count as lost.
    pub results_wait: Duration,
    /// The pause after a collection that did not come to its end.
    pub again_after: Duration,
    pub release: ReleaseRules,
    pub brake: Brake,
    /// Whether a job stays with the provider when its results are on our disk and recorded.
    pub keep_remote: bool,
    /// Whether the images are read again before answers about them are accepted.
    pub compare_images: bool,
    /// How long after a job's end its results may be missing on our disk before that is an alarm.
    pub uncollected_alarm: Duration,
    /// Input and output prices, for the costs of attempts.
    pub price: Option<crate::decide::cost::Price>,
}

/// Whom a processor talks to.
#[derive(Clone)]
pub struct ResultProcessorPeers {
    pub state: Addr<StateActor>,
    pub unlocked: Recipient<PagesUnlocked>,
    pub released: Recipient<PagesReleased>,
}

/// What collecting needs from the world.
#[derive(Clone)]
pub struct ResultProcessorPorts {
    pub source: Rc<dyn PageSource>,
    pub files: Rc<dyn FileApi>,
    pub batches: Rc<dyn BatchApi>,
    pub sink: Rc<dyn ResultSink>,
    pub clock: Rc<dyn Clock>,
}

/// Makes the report of a settled batch.
pub type ReportWriter = Rc<dyn Fn(&ReportFacts) -> String>;

/// What a report is made from.
pub struct ReportFacts {
    pub batch: BatchRow,
    pub settled: super::state::messages::Settled,
    pub lines: super::state::messages::LineCounts,
    pub max_retries: u32,
    pub at: Timestamp,
}

/// The stage.
pub struct ResultProcessor {
    shop: Rc<Shop>,
    activity: Activity,
    listing: bool,
    list_again: bool,
    busy: Busy,
    /// Batches whose collection did not come to its end, and when it is tried again.
    put_off: HashMap<BatchId, Timestamp>,
    /// Batches whose missing results were told of.
    alarmed: HashSet<BatchId>,
    /// The job beside or after its batch that is being collected, and when others are tried again.
    late: Option<RemoteName>,
    listing_late: bool,
    late_put_off: HashMap<RemoteName, Timestamp>,
    /// Whether the reports that an earlier process owes were written.
    caught_up: bool,
    disk: DiskPause,
}

/// Everything that a collection needs; shared by all of them.
pub(super) struct Shop {
    pub options: ResultProcessorOptions,
    pub peers: ResultProcessorPeers,
    pub ports: ResultProcessorPorts,
    pub validator: Arc<Validator>,
    pub report: ReportWriter,
}

/// Why a collection stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// The state cannot go on; the process ends.
    #[error(transparent)]
    State(#[from] StateError),
    /// Our disk is at fault; nothing is lost, and the collection is tried again.
    #[error(transparent)]
    Disk(#[from] SourceError),
}

impl ResultProcessor {
    /// Makes a processor; it works when results are offered or time passes.
    pub fn new(
        options: ResultProcessorOptions,
        peers: ResultProcessorPeers,
        root: Root,
        ports: ResultProcessorPorts,
        validator: Arc<Validator>,
        report: ReportWriter,
    ) -> Self {
        ResultProcessor {
            shop: Rc::new(Shop {
                options,
                peers,
                ports,
                validator,
                report,
            }),
            activity: Activity::new("result processor", root),
            listing: false,
            list_again: false,
            busy: Busy::default(),
            put_off: HashMap::new(),
            alarmed: HashSet::new(),
            late: None,
            listing_late: false,
            late_put_off: HashMap::new(),
            caught_up: false,
            disk: DiskPause::new("result processor"),
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
            states: vec![BatchStage::Ready],
            limit: READY_LISTED,
        };
        let asked = self.shop.peers.state.send(question).into_actor(self);
        ctx.spawn(asked.map(|reply, stage, ctx| {
            stage.listing = false;
            match answered(reply) {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(rows) => {
                    stage.begin(rows, ctx);
                    if std::mem::take(&mut stage.list_again) || stage.busy.is_outdated() {
                        stage.look(ctx);
                    }
                }
            }
            stage.activity.end();
        }));
    }

    fn begin(&mut self, mut rows: Vec<BatchRow>, ctx: &mut Context<Self>) {
        let now = self.shop.ports.clock.now();
        self.alarm(&rows, now);
        if self.disk.holds(now) {
            return;
        }
        // A batch that was tried in vain comes after all others, so that it holds nobody up.
        rows.sort_by_key(|row| self.put_off.get(&row.batch).copied());
        for row in rows {
            if self.busy.len() >= self.shop.options.collections_max {
                return;
            }
            let put_off = self
                .put_off
                .get(&row.batch)
                .is_some_and(|until| now < *until);
            if !put_off && self.busy.is_free(&row.batch) {
                self.collect(row, ctx);
            }
        }
    }

    /// Tells once of each job that ended long ago and whose results are not on our disk, whatever
    /// stands in the way: nobody knows how long the provider keeps them.
    fn alarm(&mut self, rows: &[BatchRow], now: Timestamp) {
        self.alarmed
            .retain(|batch| rows.iter().any(|row| row.batch == *batch));
        for row in rows.iter().filter(|row| row.raw.is_none()) {
            let ended_at = row.ended_at.or(row.terminal_seen_at);
            let Some(age) = ended_at.map(|ended_at| now.since(ended_at)) else {
                continue;
            };
            if age >= self.shop.options.uncollected_alarm && self.alarmed.insert(row.batch.clone())
            {
                notices::ResultsUncollected {
                    batch: &row.batch,
                    age,
                }
                .emit();
            }
        }
    }

    fn collect(&mut self, row: BatchRow, ctx: &mut Context<Self>) {
        let batch = row.batch.clone();
        self.busy.begin(batch.clone());
        self.activity.begin();
        let collection = Collection::new(Rc::clone(&self.shop), row);
        let work = waiting(Spot::Collection, collection.run());
        ctx.spawn(work.into_actor(self).map(move |end, stage, ctx| {
            stage.busy.end(&batch);
            let again = stage
                .shop
                .ports
                .clock
                .now()
                .plus(stage.shop.options.again_after);
            match end {
                Err(CollectionError::State(error)) => stage.activity.fail(error, ctx),
                Err(CollectionError::Disk(error)) => {
                    let now = stage.shop.ports.clock.now();
                    let until = stage.disk.begin(&error.to_string(), now);
                    stage.put_off.insert(batch, again.max(until));
                }
                Ok(CollectionEnd::NotYet { trouble, pause }) => {
                    let again = stage.shop.ports.clock.now().plus(pause);
                    stage.put_off.insert(batch, again);
                    if let Some(message) = trouble {
                        stage.activity.trouble(message);
                    }
                }
                Ok(CollectionEnd::Settled { released }) => {
                    stage.put_off.remove(&batch);
                    stage.disk.over(stage.shop.ports.clock.now());
                    stage.activity.contact();
                    stage
                        .shop
                        .peers
                        .released
                        .do_send(PagesReleased { count: released });
                }
            }
            stage.look(ctx);
            stage.activity.end();
        }));
    }
}

impl ResultProcessor {
    /// Collects jobs beside or after their batches, one at a time.
    fn look_late(&mut self, ctx: &mut Context<Self>) {
        if self.listing_late || self.late.is_some() || !self.activity.may_take() {
            return;
        }
        self.listing_late = true;
        self.activity.begin();
        let question = ListLate {
            state: LateState::Offered,
            limit: READY_LISTED,
        };
        let asked = self.shop.peers.state.send(question).into_actor(self);
        ctx.spawn(asked.map(|reply, stage, ctx| {
            stage.listing_late = false;
            match answered(reply) {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(jobs) => {
                    let now = stage.shop.ports.clock.now();
                    let is_due = |job: &LateJob| {
                        let put_off = stage.late_put_off.get(&job.job);
                        put_off.is_none_or(|until| now >= *until)
                    };
                    if let Some(job) = jobs.into_iter().find(is_due) {
                        stage.collect_late(job, ctx);
                    }
                }
            }
            stage.activity.end();
        }));
    }

    fn collect_late(&mut self, job: LateJob, ctx: &mut Context<Self>) {
        let name = job.job.clone();
        self.late = Some(name.clone());
        self.activity.begin();
        let collection = LateCollection::new(Rc::clone(&self.shop), job);
        let work = async move { collection.run().await };
        ctx.spawn(work.into_actor(self).map(move |end, stage, ctx| {
            stage.late = None;
            let now = stage.shop.ports.clock.now();
            match end {
                Err(CollectionError::State(error)) => stage.activity.fail(error, ctx),
                Err(CollectionError::Disk(error)) => {
                    let until = stage.disk.begin(&error.to_string(), now);
                    stage.late_put_off.insert(name, until);
                }
                Ok(LateEnd::NotYet { pause }) => {
                    stage.late_put_off.insert(name, now.plus(pause));
                }
                Ok(LateEnd::Done { accepted }) => {
                    stage.activity.contact();
                    stage.late_put_off.remove(&name);
                    if accepted > 0 {
                        let unlocked = PagesUnlocked { count: accepted };
                        stage.shop.peers.unlocked.do_send(unlocked);
                        let released = PagesReleased { count: 0 };
                        stage.shop.peers.released.do_send(released);
                    }
                    stage.look_late(ctx);
                }
            }
            stage.activity.end();
        }));
    }

    /// Writes the reports of batches that an earlier process settled and did not come to report.
    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.caught_up, true) {
            return;
        }
        self.activity.begin();
        let shop = Rc::clone(&self.shop);
        let work = async move { shop.catch_up().await };
        ctx.spawn(work.into_actor(self).map(|done, stage, ctx| {
            if let Err(error) = done {
                stage.activity.fail(error, ctx);
            }
            stage.activity.end();
        }));
    }
}

impl Shop {
    async fn catch_up(&self) -> Result<(), StateError> {
        loop {
            let question = ListUnreported {
                limit: UNREPORTED_LISTED,
            };
            let unreported = answered(self.peers.state.send(question).await)?;
            if unreported.is_empty() {
                return Ok(());
            }
            for batch in unreported {
                let Unreported {
                    batch,
                    settled,
                    lines,
                    settled_at,
                } = batch;
                let facts = ReportFacts {
                    batch,
                    settled,
                    lines,
                    max_retries: self.options.rules.max_retries,
                    at: settled_at,
                };
                self.write_report(&facts).await?;
            }
        }
    }

    /// Writes a report to disk and keeps it in the state. A report that cannot be written to disk
    /// stops nothing: the state has it.
    pub(super) async fn write_report(&self, facts: &ReportFacts) -> Result<(), StateError> {
        let markdown = (self.report)(facts);
        let name = format!("{}.md", facts.batch.batch);
        if let Err(error) = self.ports.sink.write_report(&name, &markdown).await {
            notices::LeftOnDisk { fault: &error }.emit();
        }
        let record = RecordReport {
            batch: facts.batch.batch.clone(),
            name,
            markdown,
            at: self.ports.clock.now(),
        };
        answered(self.peers.state.send(record).await)
    }
}

/// Reports that are written between two questions.
const UNREPORTED_LISTED: u64 = 100;

/// More ready batches than this are never looked at in one question.
const READY_LISTED: u64 = 1_000;

impl Actor for ResultProcessor {
    type Context = Context<Self>;
}

impl Handler<ResultsReady> for ResultProcessor {
    type Result = ();

    fn handle(&mut self, _: ResultsReady, ctx: &mut Self::Context) {
        self.look(ctx);
        self.look_late(ctx);
    }
}

impl Handler<Tick> for ResultProcessor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        self.catch_up(ctx);
        self.look(ctx);
        self.look_late(ctx);
    }
}

impl Stage for ResultProcessor {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }
}

stage_handlers!(ResultProcessor);
