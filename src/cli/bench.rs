//! `pagemill bench`: how fast the pipeline is on this machine, what limits it, and what to change first.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::screen::Screen;
use super::{Common, exit, run as running, target};
use crate::adapters::system_clock;
use crate::bench::children::stdin_closed;
use crate::bench::facts::{self, Expectation, Row};
use crate::bench::files::{self, Machine, PROGRAM, Report, SCRATCH};
use crate::bench::knobs::{Knob, Point};
use crate::bench::live::PAGES;
use crate::bench::plan::{self, Ask, SweepPlan};
use crate::bench::point::{self, PointOrder};
use crate::bench::sweep::{self, Bench, Findings, SweepFault};
use crate::report::words;
use crate::settings::{Context, Loaded, Settings};

mod live;
mod print;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill bench --dry-run                 which points would be measured, and for how long
  pagemill bench                           about two minutes, around the configuration's own values
  pagemill bench --image-kb 800 --turnaround-hours 6       with images and a provider like yours
  pagemill bench --upload-concurrency 4,16,64 --uploads-per-second 0
  pagemill bench --live-batches 2,10 --latency-ms 500,4000 --cross --repeat 3 --out tuning
  pagemill bench --live --budget-usd 0.50 --pages 20       the real service, for money

A flag with several values varies that value; with one value everything is measured with it. The
settings are not changed, and neither the database nor the outputs of a project are touched. Without
--live everything runs against the built-in emulator: no key is needed, nothing is paid for. Stopped
with Ctrl-C, it writes what was measured so far.

Exit codes: 0 all measured; 1 a run failed; 2 usage; 4 the budget is too small; 75 stopped; 78
configuration.")]
pub struct BenchArgs {
    /// Uploads at the same time, such as 4,16,64
    #[arg(long, value_name = "N,..")]
    pub upload_concurrency: Option<String>,
    /// Uploads started in a second, at most; 0 means no limit
    #[arg(long, value_name = "N,..")]
    pub uploads_per_second: Option<String>,
    /// Pages in a batch, at most
    #[arg(long, value_name = "N,..")]
    pub batch_size: Option<String>,
    /// Batches at the provider at the same time, at most
    #[arg(long, value_name = "N,..")]
    pub live_batches: Option<String>,
    /// Size of the made images, in kB [default: 200]
    #[arg(long, value_name = "N,..")]
    pub image_kb: Option<String>,
    /// Time that a job takes at the played provider, in milliseconds [default: 500]
    #[arg(long, value_name = "N,..")]
    pub latency_ms: Option<String>,
    /// Part of uploads, looks, downloads and answers that fail, 0 to 0.5 [default: 0]
    #[arg(long, value_name = "X,..")]
    pub error_rate: Option<String>,
    /// Measure every value with every value of the others, in up to 200 points
    #[arg(long)]
    pub cross: bool,
    /// Pages of each run [default: as many as make about two minutes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub pages: Option<u64>,
    /// Runs of each point; the middle one counts
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=20))]
    pub repeat: u64,
    /// How long a job is taken to last at the real service, for the pages of a day
    #[arg(long, default_value_t = 24.0, value_name = "HOURS")]
    pub turnaround_hours: f64,
    /// Where the results go [default: pagemill-bench beside the work folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Say what would be measured and for how long; starts nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Send pages of the project to the real service, which costs money; needs --budget-usd
    #[arg(long)]
    pub live: bool,
    /// What a live bench may cost at most, in US dollars; nothing is sent where it could cost more
    #[arg(long, value_name = "USD")]
    pub budget_usd: Option<f64>,
    /// Send without asking
    #[arg(long)]
    pub yes: bool,
    /// Measure the run that this file describes, in this process
    #[arg(long, hide = true, value_name = "FILE", requires = "figures")]
    pub point: Option<PathBuf>,
    /// Where the figures of that run go
    #[arg(long, hide = true, value_name = "FILE", requires = "point")]
    pub figures: Option<PathBuf>,
}

/// The turnarounds that make sense, in hours.
const TURNAROUND_HOURS: std::ops::RangeInclusive<f64> = 0.01..=72.0;
/// How often, and with what pauses, a folder is removed that somebody may still write into.
const REMOVALS: u32 = 40;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);
/// The folder of the results where none is named.
const FOLDER: &str = "pagemill-bench";

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &BenchArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    if let (Some(order), Some(figures)) = (&args.point, &args.figures) {
        return one_run(order, figures).await;
    }
    let loaded = match common.loaded() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let ask = match ask(args, &loaded.settings) {
        Ok(ask) => ask,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    if let Some(fault) = live::fault(args) {
        eprintln!("{fault}");
        return Ok(exit::USAGE);
    }
    let plan = match plan::plan(&ask) {
        Ok(plan) => plan,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let folder = folder(args, &loaded)?;
    let is_kept = target::refuse_kept(&loaded.settings, &folder);
    let checked = is_kept.map_err(anyhow::Error::from);
    if let Err(fault) = checked.and_then(|()| Ok(files::check_folder(&folder)?)) {
        eprintln!("{fault}");
        return Ok(exit::USAGE);
    }
    let screen = Screen::of_stdout();
    print::plan(&plan, &folder, &screen, out)?;
    let live = if args.live {
        match live::allowed(&loaded, args, &plan, out)? {
            Ok(config_file) => Some(config_file),
            Err(code) => return Ok(code),
        }
    } else {
        None
    };
    if args.dry_run {
        writeln!(out, "nothing was measured and nothing was written")?;
        return Ok(exit::DONE);
    }
    let turnaround = Duration::from_secs_f64(args.turnaround_hours * 3_600.0);
    let task = Task {
        settings: &loaded.settings,
        plan: &plan,
        folder: &folder,
        turnaround,
        live,
    };
    task.measure(&screen, out).await
}

/// The hidden half: measures one run in this process, and ends when the bench does.
async fn one_run(order: &Path, figures: &Path) -> anyhow::Result<u8> {
    let order: PointOrder = serde_json::from_slice(&fs::read(order)?)?;
    let measured = tokio::select! {
        measured = point::run(&order) => measured?,
        () = stdin_closed() => anyhow::bail!("the bench that wanted these figures is gone"),
    };
    fs::write(figures, serde_json::to_vec(&measured)?)?;
    Ok(exit::DONE)
}

/// What the flags ask for.
fn ask(args: &BenchArgs, settings: &Settings) -> Result<Ask, String> {
    let given = [
        (Knob::UploadConcurrency, &args.upload_concurrency),
        (Knob::UploadsPerSecond, &args.uploads_per_second),
        (Knob::BatchSize, &args.batch_size),
        (Knob::LiveBatches, &args.live_batches),
        (Knob::ImageKb, &args.image_kb),
        (Knob::LatencyMs, &args.latency_ms),
        (Knob::ErrorRate, &args.error_rate),
    ];
    let mut values: BTreeMap<Knob, Vec<u64>> = BTreeMap::new();
    for (knob, text) in given {
        let Some(text) = text else { continue };
        let parsed: Result<Vec<u64>, String> = text
            .split(',')
            .map(|value| knob.parse(value.trim()))
            .collect();
        let flag = knob.as_str().replace('_', "-");
        values.insert(knob, parsed.map_err(|fault| format!("--{flag}: {fault}"))?);
    }
    if !TURNAROUND_HOURS.contains(&args.turnaround_hours) {
        return Err(format!(
            "--turnaround-hours: '{}' is no value from {} to {}",
            args.turnaround_hours,
            TURNAROUND_HOURS.start(),
            TURNAROUND_HOURS.end()
        ));
    }
    if args.cross && values.values().all(|values| values.len() < 2) {
        return Err(
            "--cross needs several values for at least one flag, such as --batch-size 50,200"
                .to_owned(),
        );
    }
    Ok(Ask {
        base: Point::of(settings),
        given: values,
        cross: args.cross,
        pages: args.pages.or_else(|| args.live.then_some(PAGES)),
        repeat: args.repeat,
        is_live: args.live,
    })
}

/// Where the results go.
fn folder(args: &BenchArgs, loaded: &Loaded) -> anyhow::Result<PathBuf> {
    let folder = match (&args.out, &loaded.file) {
        (Some(folder), _) => folder.clone(),
        (None, Some(_configuration)) => {
            let work = &loaded.settings.paths.work_dir;
            work.parent().unwrap_or(work).join(FOLDER)
        }
        (None, None) => PathBuf::from(FOLDER),
    };
    Ok(std::path::absolute(folder)?)
}

/// What is to be measured, and with what.
struct Task<'a> {
    settings: &'a Settings,
    plan: &'a SweepPlan,
    folder: &'a Path,
    turnaround: Duration,
    /// The configuration of the project, where the real service is measured.
    live: Option<PathBuf>,
}

impl Task<'_> {
    /// Measures, judges, writes and prints.
    async fn measure(&self, screen: &Screen, out: &mut impl Write) -> anyhow::Result<u8> {
        fs::create_dir_all(self.folder)?;
        let scratch = tempfile::Builder::new()
            .prefix(SCRATCH)
            .tempdir_in(self.folder)?;
        let mut bench = Bench::new(self.settings, scratch.path(), self.plan.pages);
        if let Some(config_file) = &self.live {
            let pages = self.plan.pages;
            match live::pages(self.settings, config_file, scratch.path(), pages).await {
                Ok(project) => bench = bench.against_the_service(project),
                Err(code) => return Ok(code),
            }
        }
        let mut findings = Findings::default();
        let ended = {
            let runs = self.plan.runs();
            let mut tell = |row: &Row, done: u64| print::progress(row, done, runs);
            let sweep = sweep::run(&mut bench, self.plan, &mut findings, &mut tell);
            tokio::select! {
                biased;
                () = running::signal() => None,
                ended = sweep => Some(ended),
            }
        };
        let code = match &ended {
            Some(Ok(())) => exit::DONE,
            Some(Err(fault)) => {
                print::fault(fault);
                exit::FAILED
            }
            None => {
                eprintln!("stopped; what was measured so far is written");
                exit::WORK_LEFT
            }
        };
        if self.live.is_some() && code != exit::DONE {
            let path = scratch.keep();
            if live::tell_left(&path).await == 0 {
                remove(&path).await?;
            }
        } else {
            remove(&scratch.keep()).await?;
        }
        if findings.rows.is_empty() {
            eprintln!("nothing was measured, and nothing is written");
            return Ok(code);
        }
        let report = self.report(&findings);
        files::write(&report, self.folder)?;
        print::report(&report, screen, out)?;
        Ok(code)
    }

    fn report(&self, findings: &Findings) -> Report {
        let base = self.plan.base();
        let terms = facts::terms(self.settings, &base, &findings.rows, self.turnaround);
        let chained = self.settings.execution.context == Context::Chain;
        let mut expectation = facts::expectation(&terms, chained);
        if let (true, Some(base)) = (self.plan.is_live, findings.rows.first()) {
            let seconds = base.figures.batches.turnaround_mean_seconds;
            expectation.notes.push(format!(
                "Measured against the service: a job of {:.0} pages took {seconds:.0} s from its making to \
                 its end.",
                base.figures.batches.pages_mean
            ));
        }
        Report {
            version: 1,
            program: PROGRAM,
            program_version: env!("CARGO_PKG_VERSION"),
            made_at: super::screen::seconds(system_clock::now()),
            machine: Machine::here(self.folder),
            is_live: self.plan.is_live,
            pages_per_run: self.plan.pages,
            planned_runs: self.plan.runs(),
            is_whole: findings.is_whole,
            base,
            noise: facts::noise(&findings.rows),
            headline: headline(&findings.rows, &expectation),
            suggestions: facts::suggestions(&terms, &findings.tuned),
            expectation,
            rows: findings.rows.clone(),
        }
    }
}

/// Removes the folder of a sweep. A child that was just killed may still be writing into it.
async fn remove(path: &Path) -> std::io::Result<()> {
    for _try in 1..REMOVALS {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(_at_work) => actix_rt::time::sleep(REMOVAL_PAUSE).await,
        }
    }
    fs::remove_dir_all(path)
}

/// The result in two sentences.
fn headline(rows: &[Row], expectation: &Expectation) -> String {
    let Some(base) = rows.first() else {
        return String::new();
    };
    let fastest = rows
        .iter()
        .filter(|row| row.point.image_kb == base.point.image_kb)
        .max_by(|left, right| left.rate().total_cmp(&right.rate()));
    let most = fastest.map_or(0.0, Row::rate);
    let limits = if base.limit_is_clear {
        format!("limited by the {}", base.limit)
    } else {
        "without a single limit".to_owned()
    };
    let day = expectation.limits.first().map_or_else(String::new, |first| {
        format!(
            " In a day the settings let {} pages through, if a job takes {} h; the limit is {}.",
            words::count(first.pages_per_day),
            expectation.turnaround_hours,
            first.limit
        )
    });
    format!(
        "{:.1} pages/s with the settings as they are, {limits}; {most:.1} pages/s at most among what was \
         tried.{day}",
        base.rate()
    )
}
