//! The sweep: each point in processes of its own, one after the other, then the points around whatever
//! was found to be better.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::children::{self, ChildFault, Provider, RUN_MAX};
use super::facts::{Row, SUGGESTIONS_MAX, noise};
use super::knobs::{Knob, Point};
use super::live::{self, LiveFault};
use super::measured::Measured;
use super::plan::{PlannedPoint, SweepPlan, star};
use super::point::PointOrder;
use super::project::{self, Project, ProjectFault};
use crate::decide::suggest::Tuned;
use crate::decide::tuning::{self, Advice, Sample};
use crate::settings::Settings;

/// The key that the played provider is shown.
const KEY: &str = "bench-key-of-no-account";
/// The pause between two beats of a measured run; a run of its own beats four times a second, which a
/// run of a few seconds would mostly wait for.
const BEAT_MS: u64 = 50;
/// Looks at a job while it takes its time, and the shortest and longest pause between two.
const LOOKS: u64 = 10;
const POLL_MS: (u64, u64) = (10, 1_000);

/// Why a sweep cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SweepFault {
    #[error(transparent)]
    Project(#[from] ProjectFault),
    #[error(transparent)]
    Child(#[from] ChildFault),
    #[error(transparent)]
    Live(#[from] LiveFault),
    #[error("cannot make a folder in '{}': {source}", .path.display())]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "a measured run did not come to its end: {ended}; {completed} of {pages} pages were done"
    )]
    Unfinished {
        ended: String,
        completed: u64,
        pages: u64,
    },
}

/// What was measured so far. It is whole after each point, so that an interrupted sweep keeps it.
#[derive(Debug, Default)]
pub struct Findings {
    pub rows: Vec<Row>,
    /// The runs of each row.
    pub runs: Vec<Vec<Measured>>,
    /// What made runs faster, each after the ones before it.
    pub tuned: Vec<Tuned>,
    /// Whether every point was measured.
    pub is_whole: bool,
}

/// Where points are measured, and with what beside their values.
pub struct Bench<'a> {
    settings: &'a Settings,
    scratch: &'a Path,
    projects: BTreeMap<u64, Project>,
    pages: u64,
    /// Pages of the real project, where the real service is measured.
    live: Option<Project>,
}

impl<'a> Bench<'a> {
    /// A bench in a folder that is its own.
    pub fn new(settings: &'a Settings, scratch: &'a Path, pages: u64) -> Self {
        Bench {
            settings,
            scratch,
            projects: BTreeMap::new(),
            pages,
            live: None,
        }
    }

    /// The same against the real service, with these pages.
    pub fn against_the_service(self, project: Project) -> Self {
        Bench {
            live: Some(project),
            ..self
        }
    }

    fn project(&mut self, image_kb: u64) -> Result<Project, ProjectFault> {
        if let Some(project) = self.projects.get(&image_kb) {
            return Ok(project.clone());
        }
        let root = self.scratch.join(format!("project-{image_kb}"));
        let project = project::create(&root, self.pages, image_kb)?;
        self.projects.insert(image_kb, project.clone());
        Ok(project)
    }

    /// Measures one run of one point.
    pub async fn measure(&mut self, point: &Point) -> Result<Measured, SweepFault> {
        if let Some(project) = &self.live {
            return self.measure_live(point, project).await;
        }
        let project = self.project(point.image_kb)?;
        let folder = TempDir::new_in(self.scratch).map_err(|source| SweepFault::Folder {
            path: self.scratch.to_owned(),
            source,
        })?;
        let provider = Provider::start(point, folder.path()).await?;
        let order = order(self.settings, point, &project, &provider, folder.path());
        let measured = children::measure(&order, folder.path(), Some(RUN_MAX)).await;
        provider.stop().await;
        let measured = measured?;
        // With faults some pages may be given up; without, all must be there.
        let is_whole = measured.completed == measured.pages || point.error_permille > 0;
        finished(measured, is_whole)
    }

    /// Measures one run against the real service. Its folder is left where it does not come to its end:
    /// its state knows the jobs that may be paid for.
    async fn measure_live(&self, point: &Point, project: &Project) -> Result<Measured, SweepFault> {
        let folder = TempDir::new_in(self.scratch).map_err(|source| SweepFault::Folder {
            path: self.scratch.to_owned(),
            source,
        })?;
        let order = live::order(self.settings, point, project, folder.path());
        let folder = folder.keep();
        // The service may take a day, and nobody but the operator ends that.
        let measured = children::measure(&order, &folder, None).await?;
        let measured = finished(measured, true)?;
        std::fs::remove_dir_all(&folder).map_err(|source| SweepFault::Folder {
            path: folder,
            source,
        })?;
        Ok(measured)
    }
}

/// The figures of a run that came to its end; the fault of one that did not.
fn finished(measured: Measured, is_whole: bool) -> Result<Measured, SweepFault> {
    if measured.is_done && is_whole {
        return Ok(measured);
    }
    Err(SweepFault::Unfinished {
        ended: measured.ended,
        completed: measured.completed,
        pages: measured.pages,
    })
}

/// A run of the made project, with the settings that have to do with speed.
fn order(
    settings: &Settings,
    point: &Point,
    project: &Project,
    provider: &Provider,
    folder: &Path,
) -> PointOrder {
    let cwd = project.config_file.parent().unwrap_or(Path::new("."));
    let (least, most) = POLL_MS;
    PointOrder {
        config_file: Some(project.config_file.clone()),
        cwd: cwd.to_owned(),
        flags: flags(settings, point, project, folder),
        env: [
            ("GEMINI_API_KEY".to_owned(), KEY.to_owned()),
            (
                "GOOGLE_GEMINI_BASE_URL".to_owned(),
                provider.base_url.clone(),
            ),
        ]
        .into(),
        inherits_env: false,
        state_file: folder.join("state.db"),
        pages: project.pages,
        poll_ms: (point.latency_ms / LOOKS).clamp(least, most),
        beat_ms: BEAT_MS,
    }
}

/// The settings of a run by their paths, with their texts.
fn flags(
    settings: &Settings,
    point: &Point,
    project: &Project,
    folder: &Path,
) -> BTreeMap<String, String> {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let mut flags: BTreeMap<String, String> = Knob::ALL
        .into_iter()
        .filter_map(|knob| Some((knob.setting()?.to_owned(), point.get(knob).to_string())))
        .collect();
    let places = [
        ("paths.label_source_dir", quoted(&project.labels)),
        ("paths.image_source_dir", quoted(&project.images)),
        ("paths.output_dir", quoted(&folder.join("outputs"))),
        ("paths.work_dir", quoted(&folder.join("work"))),
        ("execution.context", "none".to_owned()),
        ("log.level", "error".to_owned()),
    ];
    // Errors are ordered here, and a first batch of its own would be most of a short run.
    let quiet = [
        "breaker.identical_failures",
        "breaker.nothing_accepted",
        "breaker.accept_percent",
        "breaker.pilot_pages",
    ];
    let quiet = quiet.map(|path| (path, "0".to_owned()));
    let all = places.into_iter().chain(quiet).chain(kept(settings));
    flags.extend(all.map(|(path, text)| (path.to_owned(), text)));
    flags
}

/// The settings that have to do with speed and are not varied: the configuration's own.
fn kept(settings: &Settings) -> Vec<(&'static str, String)> {
    let (files, batch, results) = (&settings.files, &settings.batch, &settings.results);
    let mut kept: Vec<(&str, u64)> = vec![
        ("files.uploads_burst", files.uploads_burst.into()),
        ("files.upload_ahead_batches", files.upload_ahead_batches),
        (
            "files.upload_retry_attempts",
            files.upload_retry_attempts.into(),
        ),
        (
            "files.upload_retry_backoff_seconds",
            files.upload_retry_backoff.as_secs(),
        ),
        ("files.storage_budget_bytes", files.storage_budget_bytes),
        ("files.deletes_in_flight", files.deletes_in_flight as u64),
        ("batch.bytes_max", batch.bytes_max),
        ("batch.tokens_per_image", batch.tokens_per_image),
        ("batch.fill_wait_seconds", batch.fill_wait.as_secs()),
        ("batch.polls_in_flight", batch.polls_in_flight as u64),
        ("results.writers", results.writers as u64),
        (
            "results.verdicts_per_commit",
            results.verdicts_per_commit as u64,
        ),
        (
            "results.downloads_in_flight",
            results.downloads_in_flight as u64,
        ),
    ];
    kept.extend(batch.tokens_max.map(|tokens| ("batch.tokens_max", tokens)));
    let images = ("results.compare_images", results.compare_images.to_string());
    let numbers = kept
        .into_iter()
        .map(|(path, value)| (path, value.to_string()));
    numbers.chain([images]).collect()
}

/// Measures every point of a plan, then goes on from what helps most, as long as something does. `tell`
/// hears of each row, with how many runs were measured.
pub async fn run(
    bench: &mut Bench<'_>,
    plan: &SweepPlan,
    findings: &mut Findings,
    tell: &mut impl FnMut(&Row, u64),
) -> Result<(), SweepFault> {
    let mut runs = 0;
    for planned in &plan.points {
        measure(bench, plan, planned, 0, findings, &mut runs, tell).await?;
    }
    loop {
        // One lucky run makes no suggestion.
        while let Some(place) = unsure(plan, findings) {
            again(bench, plan, place, findings, &mut runs, tell).await?;
        }
        let Some((base, step)) = next_step(plan, findings) else {
            break;
        };
        let left = tunable(plan, findings);
        for planned in star(&base, &plan.values, &left).into_iter().skip(1) {
            measure(bench, plan, &planned, step, findings, &mut runs, tell).await?;
        }
    }
    findings.is_whole = true;
    Ok(())
}

async fn measure(
    bench: &mut Bench<'_>,
    plan: &SweepPlan,
    planned: &PlannedPoint,
    step: u32,
    findings: &mut Findings,
    runs: &mut u64,
    tell: &mut impl FnMut(&Row, u64),
) -> Result<(), SweepFault> {
    let mut measured = Vec::new();
    for _run in 0..plan.runs_of(planned) {
        measured.push(bench.measure(&planned.point).await?);
        *runs += 1;
    }
    if let Some(row) = Row::new(planned.point, planned.varied, step, &measured) {
        tell(&row, *runs);
        findings.rows.push(row);
        findings.runs.push(measured);
    }
    Ok(())
}

/// Measures a point as often as the base.
async fn again(
    bench: &mut Bench<'_>,
    plan: &SweepPlan,
    place: usize,
    findings: &mut Findings,
    runs: &mut u64,
    tell: &mut impl FnMut(&Row, u64),
) -> Result<(), SweepFault> {
    let (point, varied, step) = {
        let row = &findings.rows[place];
        (row.point, row.varied, row.step)
    };
    while (findings.runs[place].len() as u64) < plan.base_runs_min {
        let measured = bench.measure(&point).await?;
        findings.runs[place].push(measured);
        *runs += 1;
    }
    if let Some(row) = Row::new(point, varied, step, &findings.runs[place]) {
        tell(&row, *runs);
        findings.rows[place] = row;
    }
    Ok(())
}

/// The settings that may still be tuned: varied, and not changed already.
fn tunable(plan: &SweepPlan, findings: &Findings) -> Vec<Knob> {
    let knobs = plan.values.keys().copied();
    let is_changed = |path: &str| findings.tuned.iter().any(|tuned| tuned.setting == path);
    knobs
        .filter(|knob| knob.setting().is_some_and(|path| !is_changed(path)))
        .collect()
}

/// A change that made the points of a step faster.
struct Choice {
    knob: Knob,
    to: u64,
    before: f64,
    after: f64,
    base: Point,
    step: u32,
}

/// The change that made the points of the last step fastest; `None` when nothing helped by more than
/// noise, or enough was changed.
fn choice(plan: &SweepPlan, findings: &Findings) -> Option<Choice> {
    if plan.cross || plan.is_live || findings.tuned.len() >= SUGGESTIONS_MAX {
        return None;
    }
    let step = findings.tuned.len() as u32;
    let base = base_row(findings, step)?;
    let spread = noise(&findings.rows);
    let choices = tunable(plan, findings).into_iter().filter_map(|knob| {
        let of_knob = findings
            .rows
            .iter()
            .filter(|row| row.step == step && row.varied == Some(knob));
        let tried: Vec<Sample> = of_knob.map(|row| row.sample(knob)).collect();
        match tuning::advice(&base.sample(knob), &tried, spread) {
            Advice::Leave { .. } => None,
            Advice::Change { to, rate } => Some(Choice {
                knob,
                to,
                before: base.rate(),
                after: rate,
                base: base.point,
                step,
            }),
        }
    });
    choices.max_by(|left, right| left.after.total_cmp(&right.after))
}

/// The row of the best change, where it was measured less often than the base.
pub(super) fn unsure(plan: &SweepPlan, findings: &Findings) -> Option<usize> {
    let best = choice(plan, findings)?;
    let place = findings.rows.iter().position(|row| {
        row.step == best.step
            && row.varied == Some(best.knob)
            && row.point.get(best.knob) == best.to
    })?;
    let runs = findings.rows[place].rates.len() as u64;
    (runs < plan.base_runs_min).then_some(place)
}

/// Takes the best change, and gives the base and the number of the next step.
pub(super) fn next_step(plan: &SweepPlan, findings: &mut Findings) -> Option<(Point, u32)> {
    let Choice {
        knob,
        to,
        before,
        after,
        base,
        step,
    } = choice(plan, findings)?;
    findings.tuned.push(Tuned {
        setting: knob.setting()?,
        from: base.get(knob),
        to,
        before,
        after,
    });
    Some((base.with(knob, to), step + 1))
}

/// The row that the points of a step stand around: the first one, or the one that was chosen then.
fn base_row(findings: &Findings, step: u32) -> Option<&Row> {
    let mut base = findings.rows.first()?;
    for (number, tuned) in (0..step).zip(&findings.tuned) {
        base = findings.rows.iter().find(|row| {
            let is_it = |knob: Knob| {
                knob.setting() == Some(tuned.setting) && row.point.get(knob) == tuned.to
            };
            row.step == number && row.varied.is_some_and(is_it)
        })?;
    }
    Some(base)
}
