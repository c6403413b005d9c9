//! Builds a run: recovers what an earlier process left, starts the stages last to first, and hands
//! out the handle that everything else (the program, a test, another program) drives it by.

pub mod from_settings;
mod manifests;
pub mod period_report;
pub mod reconcile;
mod start_up;
mod sweep;
pub mod upkeep;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::actors::activity::{Root, answered};
use crate::actors::batch_submitter::{
    BatchSubmitter, BatchSubmitterOptions, BatchSubmitterPeers, BatchSubmitterPorts, LineWriter,
    Prices,
};
use crate::actors::conductor::{Begin, Conductor, ConductorOptions, RunEnd, Stages, Stop};
use crate::actors::poller::{Poller, PollerOptions, PollerPeers};
use crate::actors::result_processor::{
    ReportFacts, ResultProcessor, ResultProcessorOptions, ResultProcessorPeers,
    ResultProcessorPorts,
};
use crate::actors::scanner::{Scanner, ScannerOptions, ScannerPeers};
use crate::actors::state::StateActor;
use crate::actors::state::messages::{Close, FinishRun, RunStarted, RunStatus};
use crate::actors::uploader::transfer::{Transfer, TransferOptions};
use crate::actors::uploader::{Uploader, UploaderOptions, UploaderPeers, UploaderPorts};
use crate::domain::ids::{RunId, ScopeToken, Sha256Hex};
use crate::domain::layout::Layout;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::file_api::FileApi;
use crate::ports::page_source::PageSource;
use crate::ports::result_sink::ResultSink;
use crate::prompt::{Recipe, Validator};
use crate::report;

pub use start_up::StartError;

use start_up::{
    file_prefix, open_run, prepare_disk, recover_state, refuse_other_keys, refuse_unknown,
};

/// What a run needs from the world.
#[derive(Clone)]
pub struct World {
    pub files: Rc<dyn FileApi>,
    pub batches: Rc<dyn BatchApi>,
    pub source: Rc<dyn PageSource>,
    pub sink: Rc<dyn ResultSink>,
    pub clock: Rc<dyn Clock>,
    pub entropy: Rc<dyn Entropy>,
}

/// What a run does, in plain values: each stage's options, and what they share.
#[derive(Clone)]
pub struct Plan {
    pub run: RunId,
    pub run_label: Option<String>,
    pub scope: ScopeToken,
    pub config_snapshot: String,
    pub config_sha256: Sha256Hex,
    pub layout: Layout,
    pub chained: bool,
    pub recipe: Arc<Recipe>,
    pub validator: Arc<Validator>,
    pub prices: Prices,
    pub conductor: ConductorOptions,
    pub scanner: ScannerOptions,
    pub transfer: TransferOptions,
    pub uploader: UploaderOptions,
    pub submitter: BatchSubmitterOptions,
    pub poller: PollerOptions,
    pub processor: ResultProcessorOptions,
    /// What is done beside the work; nothing when absent.
    pub upkeep: Option<upkeep::UpkeepPlan>,
}

/// The stages of a run, by address; for whoever wants to talk to one of them.
#[derive(Clone)]
pub struct StageAddresses {
    pub scanner: Addr<Scanner>,
    pub uploader: Addr<Uploader>,
    pub submitter: Addr<BatchSubmitter>,
    pub poller: Addr<Poller>,
    pub processor: Addr<ResultProcessor>,
}

/// A run under way.
pub struct Running {
    run: RunId,
    state: Addr<StateActor>,
    conductor: Addr<Conductor>,
    clock: Rc<dyn Clock>,
    files: Rc<dyn FileApi>,
    sink: Rc<dyn ResultSink>,
    file_prefix: String,
    /// Whether the provider was reached at all.
    contacted: Rc<Cell<bool>>,
    upkeep: Option<upkeep::Running>,
    finished: oneshot::Receiver<RunEnd>,
    pub started: RunStarted,
    pub stages: StageAddresses,
}

/// A handle that can ask a run to stop.
#[derive(Clone)]
pub struct Stopper(Addr<Conductor>);

impl Stopper {
    /// Asks for the orderly end: no new work, what is in flight finishes.
    pub fn stop(&self) {
        self.0.do_send(Stop);
    }
}

/// Recovers the state and starts a run on it.
pub async fn start(
    world: World,
    mut plan: Plan,
    state: Addr<StateActor>,
) -> Result<Running, StartError> {
    let clock = Rc::clone(&world.clock);
    recover_state(&state, &*clock).await?;
    refuse_other_keys(&state, &plan.uploader.key_fingerprint).await?;
    refuse_unknown(&manifests::tidy(&world.sink, &state).await?)?;
    prepare_disk(&world, &state).await?;
    let started = open_run(&plan, &state, &*clock).await?;
    let file_prefix = file_prefix(&plan.uploader.display_name_prefix, &started.first_run);
    plan.uploader.display_name_prefix = file_prefix.clone();
    plan.submitter.file_name_prefix = file_prefix.clone();
    // Pages that are freed while earlier results are collected wait until all of them are.
    plan.uploader.waits_for_tick = true;
    let (sender, finished) = oneshot::channel();
    let at_work = Rc::new(Cell::new(0));
    let contacted = Rc::new(Cell::new(false));
    let conductor = Conductor::new(
        plan.conductor.clone(),
        state.clone(),
        Rc::clone(&clock),
        Rc::clone(&at_work),
        Rc::clone(&contacted),
        sender,
    )
    .start();
    let root = Root {
        gone: conductor.clone().recipient(),
        trouble: conductor.clone().recipient(),
        contact: conductor.clone().recipient(),
        at_work,
    };
    let upkeep = plan.upkeep.take();
    let upkeep = upkeep.map(|plan| upkeep::Running::start(plan, state.clone(), Rc::clone(&clock)));
    let run = plan.run.clone();
    let files = Rc::clone(&world.files);
    let sink = Rc::clone(&world.sink);
    let stages = start_stages(world, plan, &state, &conductor, &root);
    conductor.do_send(Begin {
        stages: stages.for_root(),
    });
    Ok(Running {
        run,
        state,
        conductor,
        clock,
        files,
        sink,
        file_prefix,
        contacted,
        upkeep,
        finished,
        started,
        stages,
    })
}

/// Starts the stages last to first, so that each is given the addresses it needs at birth. The
/// uploader is both near the beginning and at the end of the circle, so its address is taken from
/// its own context before it is made.
fn start_stages(
    world: World,
    plan: Plan,
    state: &Addr<StateActor>,
    conductor: &Addr<Conductor>,
    root: &Root,
) -> StageAddresses {
    let transfer = Rc::new(Transfer::new(
        plan.transfer.clone(),
        Rc::clone(&world.files),
        Rc::clone(&world.clock),
    ));
    let mut others = None;
    let uploader = Uploader::create(|ctx| {
        let uploader = ctx.address();
        let scanner = start_scanner(&world, &plan, state, conductor, root, &uploader);
        let processor = start_processor(&world, &plan, state, root, &scanner, &uploader);
        let poller = start_poller(&world, &plan, state, root, &processor, &uploader);
        let submitter = start_submitter(&world, &plan, state, root, &poller, &uploader, &transfer);
        let peers = UploaderPeers {
            state: state.clone(),
            uploaded: submitter.clone().recipient(),
        };
        others = Some((scanner, submitter, poller, processor));
        Uploader::new(
            plan.uploader.clone(),
            peers,
            root.clone(),
            UploaderPorts {
                source: Rc::clone(&world.source),
                files: Rc::clone(&world.files),
                batches: Rc::clone(&world.batches),
                clock: Rc::clone(&world.clock),
                entropy: Rc::clone(&world.entropy),
                transfer: Rc::clone(&transfer),
            },
        )
    });
    let (scanner, submitter, poller, processor) =
        others.expect("the uploader's making starts the others");
    StageAddresses {
        scanner,
        uploader,
        submitter,
        poller,
        processor,
    }
}

fn start_scanner(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    conductor: &Addr<Conductor>,
    root: &Root,
    uploader: &Addr<Uploader>,
) -> Addr<Scanner> {
    let peers = ScannerPeers {
        state: state.clone(),
        registered: uploader.clone().recipient(),
        done: conductor.clone().recipient(),
    };
    let (source, clock) = (Rc::clone(&world.source), Rc::clone(&world.clock));
    Scanner::new(plan.scanner.clone(), peers, root.clone(), source, clock).start()
}

fn start_processor(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    root: &Root,
    scanner: &Addr<Scanner>,
    uploader: &Addr<Uploader>,
) -> Addr<ResultProcessor> {
    let peers = ResultProcessorPeers {
        state: state.clone(),
        unlocked: scanner.clone().recipient(),
        released: uploader.clone().recipient(),
    };
    let ports = ResultProcessorPorts {
        source: Rc::clone(&world.source),
        files: Rc::clone(&world.files),
        batches: Rc::clone(&world.batches),
        sink: Rc::clone(&world.sink),
        clock: Rc::clone(&world.clock),
    };
    let validator = Arc::clone(&plan.validator);
    let report = Rc::new(|facts: &ReportFacts| report::batch::markdown(&report_facts(facts)));
    ResultProcessor::new(
        plan.processor.clone(),
        peers,
        root.clone(),
        ports,
        validator,
        report,
    )
    .start()
}

fn start_poller(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    root: &Root,
    processor: &Addr<ResultProcessor>,
    uploader: &Addr<Uploader>,
) -> Addr<Poller> {
    let peers = PollerPeers {
        state: state.clone(),
        ready: processor.clone().recipient(),
        released: uploader.clone().recipient(),
    };
    let (batches, clock) = (Rc::clone(&world.batches), Rc::clone(&world.clock));
    let entropy = Rc::clone(&world.entropy);
    Poller::new(
        plan.poller.clone(),
        peers,
        root.clone(),
        batches,
        clock,
        entropy,
    )
    .start()
}

fn start_submitter(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    root: &Root,
    poller: &Addr<Poller>,
    uploader: &Addr<Uploader>,
    transfer: &Rc<Transfer>,
) -> Addr<BatchSubmitter> {
    let peers = BatchSubmitterPeers {
        state: state.clone(),
        submitted: poller.clone().recipient(),
        released: uploader.clone().recipient(),
    };
    let ports = BatchSubmitterPorts {
        batches: Rc::clone(&world.batches),
        source: Rc::clone(&world.source),
        sink: Rc::clone(&world.sink),
        clock: Rc::clone(&world.clock),
        entropy: Rc::clone(&world.entropy),
        transfer: Rc::clone(transfer),
    };
    let writer = LineWriter::new(
        Arc::clone(&plan.recipe),
        plan.layout.clone(),
        plan.chained,
        plan.prices.clone(),
    );
    BatchSubmitter::new(plan.submitter.clone(), peers, root.clone(), ports, writer).start()
}

/// What the report of a settled batch tells.
pub fn report_facts(facts: &ReportFacts) -> report::batch::Facts {
    let ReportFacts {
        batch,
        settled,
        lines,
        max_retries,
        at,
    } = facts;
    report::batch::Facts {
        batch: batch.batch.to_string(),
        remote: batch.remote.as_ref().map(ToString::to_string),
        display_name: batch.display_name.clone(),
        model: batch.model.clone(),
        remote_state: batch.remote_state.clone(),
        created_at: batch.created_at,
        submitted_at: batch.submitted_at,
        settled_at: *at,
        tally: settled.tally,
        tokens: settled.tokens,
        lines: lines.lines,
        foreign_lines: lines.foreign,
        unreadable_lines: lines.unreadable,
        repeated_lines: lines.repeated,
        max_retries: *max_retries,
        failed: settled
            .failed
            .iter()
            .map(|page| report::batch::FailedPage {
                key: page.key.to_string(),
                error: page.error,
                message: page.message.clone(),
                failures: page.failures,
                stage: page.stage,
            })
            .collect(),
    }
}

impl StageAddresses {
    fn for_root(&self) -> Stages {
        let StageAddresses {
            scanner,
            uploader,
            submitter,
            poller,
            processor,
        } = self;
        Stages {
            rescan: scanner.clone().recipient(),
            // What is ready, then what the jobs offer now.
            collectors: vec![
                (processor.clone().recipient(), processor.clone().recipient()),
                (poller.clone().recipient(), poller.clone().recipient()),
                (processor.clone().recipient(), processor.clone().recipient()),
            ],
            // Collection is ticked before uploads, so that start-up collects before it uploads.
            ticks: vec![
                processor.clone().recipient(),
                poller.clone().recipient(),
                submitter.clone().recipient(),
                uploader.clone().recipient(),
            ],
            drains: vec![
                scanner.clone().recipient(),
                uploader.clone().recipient(),
                submitter.clone().recipient(),
                poller.clone().recipient(),
                processor.clone().recipient(),
            ],
            leaves: vec![
                scanner.clone().recipient(),
                uploader.clone().recipient(),
                submitter.clone().recipient(),
                poller.clone().recipient(),
                processor.clone().recipient(),
            ],
        }
    }
}

impl Running {
    /// A handle that can ask this run to stop.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.conductor.clone())
    }

    /// The state that this run works on.
    pub fn state(&self) -> &Addr<StateActor> {
        &self.state
    }

    /// Waits for the end, notes it in the state, asks `last` what is still to be asked of the
    /// state, and closes it.
    pub async fn finished<T, F>(self, last: impl FnOnce(RunEnd) -> F) -> T
    where
        F: Future<Output = T>,
    {
        let Running {
            run,
            state,
            conductor: _,
            clock,
            files,
            sink,
            file_prefix,
            contacted,
            upkeep,
            finished,
            started: _,
            stages: _,
        } = self;
        let end = finished.await.unwrap_or_else(|_gone| RunEnd::Failed {
            stage: "conductor".to_owned(),
            reason: "it stopped without a word".to_owned(),
        });
        if matches!(end, RunEnd::Done(_))
            && contacted.get()
            && let Err(error) = sweep::sweep(&files, &state, &file_prefix).await
        {
            tracing::error!(reason = %error, "the state could not be asked about remote files");
        }
        if let Err(error) = manifests::tidy(&sink, &state).await {
            tracing::error!(reason = %error, "the state could not be asked about batches");
        }
        let status = match &end {
            RunEnd::Done(_) => RunStatus::Completed,
            RunEnd::WorkLeft(_) | RunEnd::Halted { .. } => RunStatus::Stopped,
            RunEnd::Unavailable { .. } | RunEnd::NoLabels { .. } | RunEnd::Failed { .. } => {
                RunStatus::Failed
            }
        };
        let finish = FinishRun {
            run,
            status,
            at: clock.now(),
        };
        if let Err(error) = answered(state.send(finish).await) {
            tracing::error!(reason = %error, "the end of the run could not be noted");
        }
        if let Some(upkeep) = upkeep {
            upkeep.end().await;
        }
        let answer = last(end).await;
        if let Err(error) = answered(state.send(Close {}).await) {
            tracing::error!(reason = %error, "the state could not be closed");
        }
        answer
    }
}
