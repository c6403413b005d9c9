//! `pagemill bench --live`: what must be there and be said before a cent is spent.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::BenchArgs;
use crate::actors::state::read::open_read_only;
use crate::actors::state::timeline;
use crate::bench::live;
use crate::bench::plan::SweepPlan;
use crate::bench::project::Project;
use crate::cli::{dry_run, exit, screen};
use crate::pipeline::from_settings;
use crate::report::words;
use crate::settings::{Loaded, Settings};

/// Nanodollars in a dollar.
const NANOS: f64 = 1e9;
/// The largest budget that makes sense for a bench, in dollars.
const BUDGET_USD_MAX: f64 = 1_000.0;

/// What is wrong with the flags of a live bench, if something is.
pub fn fault(args: &BenchArgs) -> Option<String> {
    if !args.live {
        let spends = args.budget_usd.is_some() || args.yes;
        return spends.then(|| "--budget-usd and --yes go with --live".to_owned());
    }
    let made = [
        ("--image-kb", &args.image_kb),
        ("--latency-ms", &args.latency_ms),
        ("--error-rate", &args.error_rate),
    ];
    if let Some((flag, _)) = made.iter().find(|(_flag, value)| value.is_some()) {
        return Some(format!(
            "{flag} is for the played provider: the real service has its own, so leave it out with --live"
        ));
    }
    match args.budget_usd {
        None => {
            Some("--live costs money: say how much at most, such as --budget-usd 0.50".to_owned())
        }
        Some(usd) if !(usd > 0.0 && usd <= BUDGET_USD_MAX) => Some(format!(
            "--budget-usd: '{usd}' is no value above 0 and up to {BUDGET_USD_MAX}"
        )),
        Some(_) if args.pages.is_some_and(|pages| pages > live::PAGES_MAX) => Some(format!(
            "--pages: with --live at most {} are sent",
            live::PAGES_MAX
        )),
        Some(_) => None,
    }
}

/// Says what a live bench may cost and asks whether that is wanted; gives the configuration file that its
/// runs are made from. Sends nothing. `Err` is the exit code where it may not begin.
pub fn allowed(
    loaded: &Loaded,
    args: &BenchArgs,
    plan: &SweepPlan,
    out: &mut impl Write,
) -> anyhow::Result<Result<PathBuf, u8>> {
    let settings = &loaded.settings;
    let Some(file) = &loaded.file else {
        eprintln!(
            "--live needs the configuration of a project: there is none here (--config FILE)"
        );
        return Ok(Err(exit::CONFIGURATION));
    };
    if settings.api_key.is_none() {
        eprintln!("{}", from_settings::PlanError::NoKey);
        return Ok(Err(exit::CONFIGURATION));
    }
    let recipe = match from_settings::recipe(settings) {
        Ok(recipe) => recipe,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(Err(exit::CONFIGURATION));
        }
    };
    let pages = plan.pages.saturating_mul(plan.runs());
    let Some(worst) = dry_run::worst_nanos(settings, &recipe, pages)? else {
        eprintln!(
            "what {} costs is not known, so no budget can be kept: name a price list \
             (model.prices_file) and a limit of output tokens (model.generation_config)",
            settings.model.name
        );
        return Ok(Err(exit::CONFIGURATION));
    };
    let budget = args.budget_usd.unwrap_or(0.0);
    writeln!(
        out,
        "{} pages are sent to {} as {}, which costs {} at most",
        words::count(pages),
        settings.api.base_url,
        settings.model.name,
        words::dollars(worst)
    )?;
    if worst as f64 > budget * NANOS {
        eprintln!(
            "that is more than the budget of {budget} USD: nothing was sent. Measure fewer pages \
             (--pages) or points, or allow more (--budget-usd)"
        );
        return Ok(Err(exit::BUDGET));
    }
    if args.dry_run {
        return Ok(Ok(std::path::absolute(file)?));
    }
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            eprintln!("there is nobody to ask; add --yes");
            return Ok(Err(exit::USAGE));
        }
        if !screen::confirmed("send them?")? {
            eprintln!("nothing was sent");
            return Ok(Err(exit::FAILED));
        }
    }
    Ok(Ok(std::path::absolute(file)?))
}

/// Copies the pages that are sent; `Err` is the exit code.
pub async fn pages(
    settings: &Settings,
    config_file: &Path,
    scratch: &Path,
    pages: u64,
) -> Result<Project, u8> {
    let root = scratch.join("project");
    live::copy_pages(settings, config_file, &root, pages)
        .await
        .map_err(|fault| {
            eprintln!("{fault}");
            exit::FAILED
        })
}

/// Names the jobs that an interrupted run left with the provider, from the states in the folders of its
/// runs; says how many there are.
pub async fn tell_left(scratch: &Path) -> usize {
    let folders = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    let mut left = 0;
    for folder in folders {
        let state = folder.path().join("state.db");
        let Ok(connection) = open_read_only(&state).await else {
            continue;
        };
        let batches = timeline::batches(&connection).await.unwrap_or_default();
        for batch in batches.iter().filter(|batch| batch.closed_at.is_none()) {
            if let Some(job) = &batch.job {
                eprintln!("  {job}, {} pages", words::count(batch.pages));
                left += 1;
            }
        }
    }
    if left > 0 {
        eprintln!(
            "these jobs stay with the provider and may be paid for, and uploaded files stay until they expire; \
             what is known of them is kept in {}",
            scratch.display()
        );
    }
    left
}
