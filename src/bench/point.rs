//! One measured run, in a process of its own, so that its memory and its processor time are those of
//! this run and of nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use serde::{Deserialize, Serialize};

use super::history;
use super::measured::{AskedFigures, Cpu, Database, Measured, SpotFigures, StageCpu, StageFigures};
use crate::actors::activity::answered;
use crate::actors::conductor::RunEnd;
use crate::actors::state::engine::THREAD_NAME;
use crate::actors::state::messages::{Summarize, Summary};
use crate::actors::state::open::StateOptions;
use crate::actors::state::timeline::{self, BatchLife, Step};
use crate::actors::state::{StateActor, read};
use crate::adapters::system_clock;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::meter::database::DatabaseReading;
use crate::meter::{Meter, Spot, SpotReading, Stage, StageReading, cpu};
use crate::pipeline::from_settings::{self, RunRequest};
use crate::pipeline::{self, Plan, metered};
use crate::settings::{self, Settings, Sources};

/// What one run is to be: the settings it is made from, and where it works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PointOrder {
    pub config_file: Option<PathBuf>,
    pub cwd: PathBuf,
    /// Settings on top of the file, by dotted path.
    pub flags: BTreeMap<String, String>,
    /// Variables that are set for this run; the key of a real account is not among them.
    pub env: BTreeMap<String, String>,
    /// Whether the environment of the process counts too.
    pub inherits_env: bool,
    pub state_file: PathBuf,
    pub pages: u64,
    /// The pause between two looks at a job.
    pub poll_ms: u64,
    /// The pause between two beats of the root.
    pub beat_ms: u64,
}

/// Runs the pipeline as ordered, and measures it.
pub async fn run(order: &PointOrder) -> anyhow::Result<Measured> {
    let settings = load(order)?;
    let mut plan = Plan::from_settings(&settings, RunRequest::default())?;
    plan.conductor.beat = Duration::from_millis(order.beat_ms);
    plan.poller.interval = Duration::from_millis(order.poll_ms);
    // Whatever is beside the work is not measured, and nobody is told of anything.
    plan.alerter = None;
    plan.upkeep = None;
    let mut world = from_settings::world(&settings)?;
    world.channels.clear();
    let limits = settings.clone();
    let meter = Meter::new(move |spot| limit_of(&limits, spot));
    plan.meter = Some(Arc::clone(&meter));
    let state = StateActor::open(StateOptions {
        path: order.state_file.clone(),
        unlock_behind_dead: from_settings::skip_dead(&settings),
    })
    .await?
    .metered(Arc::clone(&meter.database));
    let state = metered::start(Some(&meter), Stage::State, state);
    let before = Clocks::now(&meter);
    let begun_at = system_clock::now();
    let running = pipeline::start(world, plan, state.clone()).await?;
    let metered = Arc::clone(&meter);
    let (end, after, summary) = running
        .finished(|end| async move {
            let after = Clocks::now(&metered);
            (end, after, summary(&state).await)
        })
        .await;
    let database = meter.database.read();
    let history = History::read(&order.state_file).await?;
    let summary = summary?;
    Ok(Measured {
        pages: order.pages,
        completed: summary.pages_in(PageStage::Completed),
        is_done: matches!(end, RunEnd::Done(_)),
        ended: ended(&end),
        wall_seconds: after.at.duration_since(before.at).as_secs_f64(),
        image_bytes: history.image_bytes,
        cores: cores(),
        cpu: cpu_of(&before, &after),
        peak_memory_bytes: cpu::peak_memory_bytes(),
        machine_busy: after
            .machine
            .zip(before.machine)
            .and_then(|(after, before)| after.busy_since(before)),
        database: database_of(database),
        spots: after.spots.iter().map(spot_of).collect(),
        stages: history.stages(begun_at),
        batches: history::batches(
            &history.batches,
            &history.steps,
            history.end(begun_at),
            settings.execution.max_concurrent_batches,
        ),
        cost_nanos: history.cost_nanos(),
    })
}

/// Processors that this process may use.
pub fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

fn load(order: &PointOrder) -> anyhow::Result<Settings> {
    let mut env = order.env.clone();
    if order.inherits_env {
        env.extend(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
    }
    let sources = Sources {
        file: order.config_file.clone(),
        env,
        flags: order.flags.clone().into_iter().collect(),
        cwd: order.cwd.clone(),
    };
    Ok(settings::load(sources)?.settings)
}

/// How many fit into a spot.
fn limit_of(settings: &Settings, spot: Spot) -> Option<usize> {
    match spot {
        Spot::UploadSlot => Some(settings.files.upload_concurrency),
        Spot::Collection => Some(settings.results.downloads_in_flight),
        Spot::PollCall => Some(settings.batch.polls_in_flight),
        Spot::DeleteCall => Some(settings.files.deletes_in_flight),
        Spot::ImageCheck
        | Spot::UploadGate
        | Spot::UploadCall
        | Spot::CreateCall
        | Spot::DownloadCall
        | Spot::Judge
        | Spot::WriteOutputs => None,
    }
}

/// Every clock and counter at one moment.
struct Clocks {
    at: Instant,
    process: Duration,
    actor_thread: Duration,
    database: Option<Duration>,
    machine: Option<cpu::MachineTicks>,
    stages: Vec<StageReading>,
    spots: Vec<(Spot, SpotReading)>,
}

impl Clocks {
    /// To be asked on the thread of the actors.
    fn now(meter: &Meter) -> Self {
        Clocks {
            at: Instant::now(),
            process: cpu::of_process(),
            actor_thread: cpu::of_thread(),
            database: cpu::of_threads(THREAD_NAME),
            machine: cpu::of_machine(),
            stages: meter.stages(),
            spots: meter.spots(),
        }
    }
}

/// The processor time between two moments, and whose it was. What is given to nobody is `other`.
fn cpu_of(before: &Clocks, after: &Clocks) -> Cpu {
    let between = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
    let pairs = after.stages.iter().zip(&before.stages);
    let stages: Vec<StageCpu> = pairs
        .map(|(after, before)| StageCpu {
            stage: after.stage.as_str().to_owned(),
            actor: between(before.actor, after.actor),
            pool: between(before.pool, after.pool),
        })
        .collect();
    let database = after
        .database
        .zip(before.database)
        .map(|(after, before)| between(before, after));
    let total = between(before.process, after.process);
    let actor_thread = between(before.actor_thread, after.actor_thread);
    let of_actors: f64 = stages.iter().map(|stage| stage.actor).sum();
    let of_pool: f64 = stages.iter().map(|stage| stage.pool).sum();
    Cpu {
        total,
        actor_thread,
        connections: actor_thread - of_actors,
        other: total - actor_thread - of_pool - database.unwrap_or(0.0),
        database,
        stages,
    }
}

fn database_of(reading: DatabaseReading) -> Database {
    let DatabaseReading {
        takes,
        messages,
        queue_max,
        queue_sum,
        waited,
        waited_max,
        commits,
        messages_committed,
        reads,
        busy,
        committing,
        rows_changed,
        asked,
    } = reading;
    let mut asked: Vec<AskedFigures> = asked
        .into_iter()
        .map(|(name, asked)| AskedFigures {
            message: name.to_owned(),
            messages: asked.messages,
            seconds: asked.took.as_secs_f64(),
        })
        .collect();
    asked.sort_by(|left, right| right.seconds.total_cmp(&left.seconds));
    Database {
        commits,
        reads,
        messages,
        messages_committed,
        rows_changed,
        busy_seconds: busy.as_secs_f64(),
        committing_seconds: committing.as_secs_f64(),
        queue_mean: queue_sum as f64 / takes.max(1) as f64,
        queue_max: queue_max as u64,
        waited_mean_ms: waited.as_secs_f64() * 1_000.0 / messages.max(1) as f64,
        waited_max_ms: waited_max.as_secs_f64() * 1_000.0,
        asked,
    }
}

fn spot_of((spot, reading): &(Spot, SpotReading)) -> SpotFigures {
    let SpotReading {
        limit,
        stays,
        most,
        stayed,
        busy,
        full,
    } = *reading;
    SpotFigures {
        spot: spot.as_str().to_owned(),
        limit: limit.map(|limit| limit as u64),
        stays,
        most: most as u64,
        stayed_seconds: stayed.as_secs_f64(),
        busy_seconds: busy.as_secs_f64(),
        full_seconds: full.as_secs_f64(),
    }
}

async fn summary(state: &Addr<StateActor>) -> anyhow::Result<Summary> {
    let question = Summarize {
        scope: None,
        at: system_clock::now(),
    };
    Ok(answered(state.send(question).await)?)
}

fn ended(end: &RunEnd) -> String {
    match end {
        RunEnd::Done(_) => "all done".to_owned(),
        RunEnd::WorkLeft(_) => "stopped with work left".to_owned(),
        RunEnd::Halted { reason, message } => format!("halted ({reason}): {message}"),
        RunEnd::Unavailable { message } => format!("the provider is not available: {message}"),
        RunEnd::NoLabels { message } => format!("the pages could not be looked at: {message}"),
        RunEnd::Failed { stage, reason } => format!("{stage} failed: {reason}"),
    }
}

/// The history of the run, read when it is over.
struct History {
    steps: Vec<Step>,
    batches: Vec<BatchLife>,
    image_bytes: u64,
}

impl History {
    async fn read(state_file: &Path) -> anyhow::Result<Self> {
        let connection = read::open_read_only(state_file).await?;
        let steps = timeline::steps(&connection).await?;
        let batches = timeline::batches(&connection).await?;
        let image_bytes = timeline::image_bytes(&connection).await?;
        connection.close().await?;
        Ok(History {
            steps,
            batches,
            image_bytes,
        })
    }

    /// The last moment that the history knows.
    fn end(&self, begun_at: Timestamp) -> Timestamp {
        let closed = self.batches.iter().filter_map(|batch| batch.closed_at);
        let steps = self.steps.iter().map(|step| step.at);
        closed.chain(steps).max().unwrap_or(begun_at)
    }

    fn stages(&self, begun_at: Timestamp) -> Vec<StageFigures> {
        history::stages(&self.steps, begun_at, self.end(begun_at))
    }

    /// What the answers cost, where a price was known.
    fn cost_nanos(&self) -> Option<u64> {
        let cost: u64 = self.batches.iter().map(|batch| batch.cost_nanos).sum();
        (cost > 0).then_some(cost)
    }
}
