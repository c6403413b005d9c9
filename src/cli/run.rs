//! `pagemill run`: the pipeline on the real world, until it is done or told to stop.

use std::io::Write;
use std::path::Path;

use actix::{Actor, Addr};
use clap::Args;
use indicatif::MultiProgress;

use super::progress::{self, Bars};
use super::{Common, ScopeArgs, dry_run, exit, logging};
use crate::actors::activity::answered;
use crate::actors::conductor::{Mode, RunEnd};
use crate::actors::state::StateActor;
use crate::actors::state::messages::{StateError, Summarize, Summary};
use crate::actors::state::open::{OpenError, StateOptions};
use crate::domain::ids::RunId;
use crate::domain::page::PageStage;
use crate::domain::window::Window;
use crate::pipeline::from_settings::{self, PlanError, RunRequest};
use crate::pipeline::{self, Plan, Running, StartError};
use crate::report::words;
use crate::settings::{LogFormat, Settings};

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill run --dry-run                       what would be done; opens no socket
  pagemill run --limit 20                      at most twenty pages
  pagemill run --states Alabama --year-start 1849 --year-end 1852
  pagemill run --where school='Howard College'
  pagemill run --once                          from cron: collect, top up, exit
  pagemill run --window 2025-01-23             only labels that arrived on that day (UTC)
  pagemill run --run-id january --since 2025-01-01 --until 2025-02-01 --zone Europe/Berlin

The run can be stopped at any time, by a signal or worse, and started again.")]
pub struct RunArgs {
    /// Never exit by itself; look at the labels again every execution.scan_interval_seconds
    #[arg(long, conflicts_with = "once")]
    pub watch: bool,
    /// Collect what is ready, send what can be sent, exit without waiting (75 with work left)
    #[arg(long)]
    pub once: bool,
    /// Say what would be done and change nothing; opens no socket
    #[arg(long)]
    pub dry_run: bool,
    /// Send at most this many pages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Continue the run of this id, or begin one under it
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// Only labels that arrived on this day, such as 2025-01-23
    #[arg(long, value_name = "DATE", conflicts_with_all = ["since", "until"])]
    pub window: Option<String>,
    /// Only labels that arrived at this instant or date, or later
    #[arg(long, value_name = "WHEN", requires = "until")]
    pub since: Option<String>,
    /// Only labels that arrived before this instant or date
    #[arg(long, value_name = "WHEN", requires = "since")]
    pub until: Option<String>,
    /// The time zone of --window, and of the dates of --since and --until
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub zone: String,
    /// A name for this run, for people
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Print JSON instead of text (with --dry-run, and for the summary at the end)
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// The window that the flags name, if they do; says what is wrong with it, and gives the exit code.
    pub fn window(&self) -> Result<Option<Window>, u8> {
        let window = match (&self.window, &self.since, &self.until) {
            (Some(date), _, _) => Window::day(date, &self.zone),
            (None, Some(since), Some(until)) => Window::between(since, until, &self.zone),
            _ => return Ok(None),
        };
        window.map(Some).map_err(|fault| {
            eprintln!("{fault}");
            exit::USAGE
        })
    }
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &RunArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let flags = match args.scope.as_settings() {
        Ok(flags) => flags,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let settings = match common.load(flags) {
        Ok(loaded) => loaded.settings,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let bars = progress::place();
    start_logging(&settings, bars.clone());
    let faults = settings.check_environment();
    if !faults.is_empty() {
        for fault in faults {
            eprintln!("{fault}");
        }
        return Ok(exit::CONFIGURATION);
    }
    if args.dry_run || settings.execution.dry_run {
        return match args.window() {
            Ok(window) => dry_run::run(&settings, window.as_ref(), args.json, out).await,
            Err(code) => Ok(code),
        };
    }
    on_settings(&settings, args, &bars, out).await
}

/// Starts logging as the settings say.
pub fn start_logging(settings: &Settings, bars: MultiProgress) {
    let setting = match settings.log.format {
        LogFormat::Auto => "auto",
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    };
    logging::start(logging::shape(setting), &settings.log.level, bars);
}

/// Runs the pipeline on checked settings, then prints its summary.
pub async fn on_settings(
    settings: &Settings,
    args: &RunArgs,
    bars: &MultiProgress,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let window = match args.window() {
        Ok(window) => window,
        Err(code) => return Ok(code),
    };
    let request = RunRequest {
        window,
        run: args.run_id.as_deref().map(RunId::from),
        label: args.label.clone(),
        mode: Some(match (args.watch, args.once) {
            (true, _) => Mode::Watch,
            (_, true) => Mode::Once,
            _ => Mode::UntilDone,
        }),
        pages_max: args.limit,
    };
    let (plan, world) = match prepare(settings, request) {
        Ok(prepared) => prepared,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let state = match open_state(settings).await {
        Ok(state) => state,
        Err(code) => return Ok(code),
    };
    let scope = plan.scope.clone();
    let running = match pipeline::start(world, plan, state.clone()).await {
        Ok(running) => running,
        Err(
            fault @ (StartError::OtherKey { .. } | StartError::State(StateError::OtherRun { .. })),
        ) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
        Err(fault) => return Err(fault.into()),
    };
    let bars =
        Bars::new(bars).map(|bars| actix_rt::spawn(bars.follow(state.clone(), scope.clone())));
    let ending = drive(running, settings.shutdown_grace, |end| async {
        let question = Summarize {
            scope: Some(scope),
            at: crate::adapters::system_clock::now(),
        };
        (answered(state.send(question).await).ok(), end)
    })
    .await;
    if let Some(bars) = bars {
        bars.abort();
        // The bars take their lines away when they go, which must not be after the summary.
        let _gone = bars.await;
    }
    let Some((summary, end)) = ending else {
        eprintln!("not everything in flight could finish; it is recovered at the next start");
        return Ok(exit::WORK_LEFT);
    };
    let code = exit::of(&end);
    summarize(&end, summary.as_ref(), code, settings, args.json, out)?;
    Ok(code)
}

/// Takes the state of a project; says why that cannot be done, and gives the exit code for it.
pub async fn open_state(settings: &Settings) -> Result<Addr<StateActor>, u8> {
    let state = StateActor::open(StateOptions {
        path: settings.state.sqlite_file.clone(),
        unlock_behind_dead: from_settings::skip_dead(settings),
    })
    .await;
    let state = state.map(|state| match settings.log.slow_query {
        Some(threshold) => state.log_slow(threshold),
        None => state,
    });
    state.map(StateActor::start).map_err(|fault| {
        eprintln!("{fault}");
        match fault {
            OpenError::InUse { .. } => exit::IN_USE,
            _ => exit::FAILED,
        }
    })
}

fn prepare(settings: &Settings, request: RunRequest) -> Result<(Plan, pipeline::World), PlanError> {
    Ok((
        Plan::from_settings(settings, request)?,
        from_settings::world(settings)?,
    ))
}

/// Waits for the run's end or a signal, whichever comes first; after a signal the run has the
/// grace period to end in order. `None` when it did not.
async fn drive<T, F>(
    running: Running,
    grace: std::time::Duration,
    last: impl FnOnce(RunEnd) -> F,
) -> Option<T>
where
    F: std::future::Future<Output = T>,
{
    let stopper = running.stopper();
    let finished = running.finished(last);
    futures_util::pin_mut!(finished);
    tokio::select! {
        ended = &mut finished => return Some(ended),
        () = signal() => {}
    }
    eprintln!("stopping: nothing new is begun, what is in flight finishes");
    stopper.stop();
    tokio::select! {
        ended = &mut finished => Some(ended),
        () = actix_rt::time::sleep(grace) => None,
        () = signal() => None,
    }
}

/// Returns at SIGINT or SIGTERM.
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let term = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    match (term, interrupt) {
        (Ok(mut term), Ok(mut interrupt)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without a handler the system's own reaction to a signal stands.
        _ => std::future::pending().await,
    }
}

fn summarize(
    end: &RunEnd,
    summary: Option<&Summary>,
    code: u8,
    settings: &Settings,
    json: bool,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let words = match end {
        RunEnd::Done(work) if work.dead + work.review + work.blocked > 0 => {
            "finished, but some pages are not done".to_owned()
        }
        RunEnd::Done(_) => "all done".to_owned(),
        RunEnd::WorkLeft(_) => "stopped with work left; start again to go on".to_owned(),
        RunEnd::Halted { reason, message } => format!(
            "submission is halted ({reason}): {message}; {}",
            reason.remedy()
        ),
        RunEnd::Unavailable { message } => format!("the provider is not available: {message}"),
        RunEnd::NoLabels { message } => format!("the tree could not be looked at: {message}"),
        RunEnd::Failed { stage, reason } => format!("{stage} failed: {reason}"),
    };
    let at = crate::adapters::system_clock::now();
    if json {
        let summary = summary.map(|summary| super::status::as_json(summary, at));
        let ended = serde_json::json!({
            "version": 1, "exit_code": code, "ended": words, "summary": summary,
        });
        return writeln!(out, "{}", serde_json::to_string_pretty(&ended)?);
    }
    writeln!(out, "{words}")?;
    if let Some(summary) = summary {
        super::status::print(summary, at, out)?;
    }
    let outputs = display(&settings.paths.output_dir);
    let reports = display(&settings.paths.work_dir.join("reports"));
    writeln!(out, "outputs  {outputs}")?;
    writeln!(out, "reports  {reports}")?;
    let pages_in = |stage| summary.map_or(0, |summary| summary.pages_in(stage));
    let dead = pages_in(PageStage::Dead) + pages_in(PageStage::Review);
    if dead > 0 {
        let pages = if dead == 1 {
            "page needs"
        } else {
            "pages need"
        };
        let dead = words::count(dead);
        writeln!(out, "{dead} {pages} a look: pagemill failures --summary")?;
    }
    Ok(())
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
