//! Builds a run: recovers what an earlier process left, starts the stages last to first, and hands
//! out the handle that everything else (the program, a test, another program) drives it by.

pub mod alarms;
pub mod from_settings;
mod manifests;
pub mod metered;
pub mod period_report;
pub mod reconcile;
mod stages;
mod start_up;
mod sweep;
pub mod upkeep;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::actors::activity::{Root, answered};
use crate::actors::alerter::{Alerter, AlerterOptions};
use crate::actors::batch_submitter::{BatchSubmitter, BatchSubmitterOptions, Prices};
use crate::actors::conductor::{Begin, Conductor, ConductorOptions, RunEnd, Stop};
use crate::actors::order_desk::{OrderDesk, OrderDeskOptions};
use crate::actors::poller::{Poller, PollerOptions};
use crate::actors::result_processor::{ReportFacts, ResultProcessor, ResultProcessorOptions};
use crate::actors::scanner::{Scanner, ScannerOptions};
use crate::actors::state::StateActor;
use crate::actors::state::messages::{Close, FinishRun, RunStarted, RunStatus};
use crate::actors::uploader::transfer::TransferOptions;
use crate::actors::uploader::{Uploader, UploaderOptions};
use crate::domain::ids::{RunId, ScopeToken, Sha256Hex};
use crate::domain::layout::Layout;
use crate::meter::Meter;
use crate::notices;
use crate::ports::alert_channel::AlertChannel;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::file_api::FileApi;
use crate::ports::page_source::PageSource;
use crate::ports::result_sink::ResultSink;
use crate::prompt::{Recipe, Validator};
use crate::report;

pub use start_up::StartError;

use stages::start_stages;
use start_up::{
    begin_paused, file_prefix, open_run, prepare_disk, recover_state, refuse_inconsistent,
    refuse_other_keys, refuse_unknown,
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
    /// How an operator is told of alerts, beside the log.
    pub channels: Vec<Rc<dyn AlertChannel>>,
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
    /// Nobody watches over the run without.
    pub alerter: Option<AlerterOptions>,
    pub order_desk: OrderDeskOptions,
    /// Whether the run begins paused, until an operator resumes it.
    pub begins_paused: bool,
    /// What is done beside the work; nothing when absent.
    pub upkeep: Option<upkeep::UpkeepPlan>,
    /// What the stages cost and wait for is counted here; not at all when absent.
    pub meter: Option<Arc<Meter>>,
}

/// The stages of a run, by address; for whoever wants to talk to one of them.
#[derive(Clone)]
pub struct StageAddresses {
    pub scanner: Addr<Scanner>,
    pub uploader: Addr<Uploader>,
    pub submitter: Addr<BatchSubmitter>,
    pub poller: Addr<Poller>,
    pub processor: Addr<ResultProcessor>,
    pub alerter: Option<Addr<Alerter>>,
    pub order_desk: Addr<OrderDesk>,
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
    mut world: World,
    mut plan: Plan,
    state: Addr<StateActor>,
) -> Result<Running, StartError> {
    if plan.meter.is_some() {
        world = metered::calls(world);
    }
    let clock = Rc::clone(&world.clock);
    recover_state(&state, &*clock).await?;
    refuse_other_keys(&state, &plan.uploader.key_fingerprint).await?;
    refuse_inconsistent(&state).await?;
    refuse_unknown(&manifests::tidy(&world.sink, &state).await?)?;
    prepare_disk(&world, &state).await?;
    let started = open_run(&plan, &state, &*clock).await?;
    if plan.begins_paused {
        begin_paused(&state, &*clock).await?;
    }
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
    notices::RunBegun {
        run: &run,
        restarts: started.restarts,
    }
    .emit();
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
        notices::RunEnded { run: &run, status }.emit();
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
