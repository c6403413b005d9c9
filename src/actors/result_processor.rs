//! ResultProcessor: brings results to our disk, joins them to pages by key, judges them, writes
//! outputs and settles batches.
//!
//! The raw results are durable before a line of them is read, and an output is durable before its
//! page counts as done. Doing it all twice changes nothing.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::busy::Busy;
use super::disk_pause::DiskPause;
use super::hint::{PagesReleased, PagesUnlocked, ResultsReady, Tick};
use super::state::StateActor;
use super::state::messages::{BatchRow, ListBatches, StateError};
use crate::domain::batch::BatchStage;
use crate::domain::ids::BatchId;
use crate::domain::time::Timestamp;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::file_api::FileApi;
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::ResultSink;
use crate::prompt::Validator;

mod collection;
pub mod index;
pub mod judge;

use collection::{Collection, CollectionEnd};
pub use judge::JudgeRules;

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
    pub releases_max: u32,
    /// Whether a job stays with the provider when its results are on our disk and recorded.
    pub keep_remote: bool,
    /// What an image must have left to be used again after a release.
    pub life_min: Duration,
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

    fn collect(&mut self, row: BatchRow, ctx: &mut Context<Self>) {
        let batch = row.batch.clone();
        self.busy.begin(batch.clone());
        self.activity.begin();
        let collection = Collection::new(Rc::clone(&self.shop), row);
        let work = async move { collection.run().await };
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

/// More ready batches than this are never looked at in one question.
const READY_LISTED: u64 = 1_000;

impl Actor for ResultProcessor {
    type Context = Context<Self>;
}

impl Handler<ResultsReady> for ResultProcessor {
    type Result = ();

    fn handle(&mut self, _: ResultsReady, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<Tick> for ResultProcessor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Stage for ResultProcessor {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }
}

stage_handlers!(ResultProcessor);
