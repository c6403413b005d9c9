//! `pagemill reconcile`: what the database believes against what the provider shows, and the way back
//! for a database that was lost.

use std::io::{BufRead, IsTerminal, Write};

use actix::Actor;
use clap::Args;
use indicatif::MultiProgress;
use serde_json::{Value, json};

use super::run::start_logging;
use super::{Common, exit};
use crate::actors::activity::answered;
use crate::actors::state::messages::Close;
use crate::actors::state::open::{OpenError, StateOptions};
use crate::actors::state::{StateActor, read};
use crate::decide::reconcile::{Difference, Kind};
use crate::domain::manifest::JobFound;
use crate::pipeline::from_settings::{self, RunRequest};
use crate::pipeline::reconcile::{Deed, Picture, ReconcileError, apply, look};
use crate::pipeline::{Plan, World};
use crate::report::words;
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill reconcile                    what differs; changes nothing, also beside a run
  pagemill reconcile --apply            bring the database to what is there; asks first
  pagemill reconcile --apply --yes      the same without asking
  pagemill reconcile --json

After the database was lost, or an old copy was put back: reconcile --apply
first, then run. It never sends a page, and touches no job or file of another
project.

Exit codes: 0 nothing differs, or all of it was set right; 1 something differs,
or needs you; 5 a run is going on (--apply); 69 provider unavailable; 78
configuration.")]
pub struct ReconcileArgs {
    /// Change the database to what is there, and delete remote files of ours that nobody knows
    #[arg(long)]
    pub apply: bool,
    /// Do not ask before changing anything
    #[arg(long, requires = "apply")]
    pub yes: bool,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(
    common: &Common,
    args: &ReconcileArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    start_logging(&settings, MultiProgress::new());
    let plan = Plan::from_settings(&settings, RunRequest::default());
    let prepared = plan.and_then(|plan| Ok((plan, from_settings::world(&settings)?)));
    let (plan, world) = match prepared {
        Ok(prepared) => prepared,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let ended = if args.apply {
        applied(&settings, &plan, &world, args, out).await
    } else {
        compared(&settings, &plan, &world, args, out).await
    };
    ended.or_else(|error| match error.downcast::<ReconcileError>() {
        Err(other) => Err(other),
        Ok(fault) => {
            eprintln!("{fault}");
            Ok(match fault {
                ReconcileError::Provider(_) => exit::UNAVAILABLE,
                ReconcileError::OtherKey { .. } => exit::CONFIGURATION,
                ReconcileError::State(_) | ReconcileError::Disk(_) => exit::FAILED,
            })
        }
    })
}

async fn compared(
    settings: &Settings,
    plan: &Plan,
    world: &World,
    args: &ReconcileArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let database = match read::open_read_only(&settings.state.sqlite_file).await {
        Ok(database) => Some(database),
        Err(OpenError::Missing { .. }) => None,
        Err(fault) => return Err(fault.into()),
    };
    let picture = look(world, plan, database.as_ref()).await?;
    let code = if picture.needs_care() {
        exit::FAILED
    } else {
        exit::DONE
    };
    if args.json {
        writeln!(out, "{:#}", as_json(&picture, None, code))?;
    } else {
        print(&picture, out)?;
        if code != exit::DONE {
            writeln!(out, "nothing was changed; pagemill reconcile --apply does")?;
        }
    }
    Ok(code)
}

async fn applied(
    settings: &Settings,
    plan: &Plan,
    world: &World,
    args: &ReconcileArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let options = StateOptions {
        path: settings.state.sqlite_file.clone(),
        unlock_behind_dead: from_settings::skip_dead(settings),
    };
    let state = match StateActor::open(options).await {
        Ok(state) => state.start(),
        Err(fault @ OpenError::InUse { .. }) => {
            eprintln!("{fault}");
            return Ok(exit::IN_USE);
        }
        Err(fault) => return Err(fault.into()),
    };
    let database = read::open_read_only(&settings.state.sqlite_file).await?;
    let picture = look(world, plan, Some(&database)).await?;
    database.close().await?;
    if !args.json {
        print(&picture, out)?;
    }
    if !args.yes && picture.needs_care() && !confirmed(out)? {
        answered(state.send(Close {}).await)?;
        writeln!(out, "nothing was changed")?;
        return Ok(exit::USAGE);
    }
    let deeds = apply(world, plan, &state, &picture).await?;
    answered(state.send(Close {}).await)?;
    let code = if deeds.iter().all(|deed| deed.done) && picture.manifest_faults.is_empty() {
        exit::DONE
    } else {
        exit::FAILED
    };
    if args.json {
        writeln!(out, "{:#}", as_json(&picture, Some(&deeds), code))?;
        return Ok(code);
    }
    for deed in &deeds {
        let Deed { about, done, words } = deed;
        let mark = if *done { "done" } else { "left" };
        writeln!(out, "{mark}     {about}: {words}")?;
    }
    writeln!(out, "{}", last_words(&deeds))?;
    Ok(code)
}

fn last_words(deeds: &[Deed]) -> &'static str {
    if deeds.is_empty() {
        "nothing was to be changed"
    } else if deeds.iter().all(|deed| deed.done) {
        "pagemill run goes on from here"
    } else {
        "some of it needs you; see above"
    }
}

/// Asks on the terminal; without one the answer is no.
fn confirmed(out: &mut impl Write) -> std::io::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        writeln!(out, "there is nobody to ask; add --yes")?;
        return Ok(false);
    }
    write!(out, "change the database to this? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn print(picture: &Picture, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "provider {} jobs and {} files, whoever's they are",
        words::count(picture.jobs as u64),
        words::count(picture.files as u64)
    )?;
    for difference in &picture.differences {
        writeln!(out, "batch    {}: {}", difference.batch, told(difference))?;
    }
    for fault in &picture.manifest_faults {
        writeln!(out, "manifest {fault}; look at it yourself")?;
    }
    for (count, words) in [
        (
            picture.orphans.len(),
            "at the provider are ours and in no list of ours",
        ),
        (
            picture.gone.len(),
            "that the database counts on are not at the provider",
        ),
    ] {
        if count > 0 {
            writeln!(out, "files    {} {words}", words::count(count as u64))?;
        }
    }
    if !picture.outputs.is_empty() {
        let count = words::count(picture.outputs.len() as u64);
        writeln!(
            out,
            "outputs  {count} are there, but their pages would be sent again"
        )?;
    }
    if !picture.needs_care() {
        writeln!(out, "the database and the provider agree")?;
    }
    Ok(())
}

/// One sentence about a difference, with what to do.
fn told(difference: &Difference) -> String {
    match &difference.kind {
        Kind::Unreachable { remote } => format!(
            "unreachable: the provider does not show {remote}; its pages stay with it and are not \
             sent again by themselves"
        ),
        Kind::Behind { stage, found } => {
            format!("is {stage} in the database, but {}", found_words(found))
        }
        Kind::Unknown { found } => {
            format!("is not in the database, but {}", found_words(found))
        }
        Kind::Unclaimed {
            remote,
            ended: true,
        } => format!(
            "{remote} has our prefix, but neither database nor manifest knows it; --apply looks \
             into its results to see whose they are"
        ),
        Kind::Unclaimed {
            remote,
            ended: false,
        } => format!(
            "{remote} has our prefix and is at work, but neither database nor manifest knows it: \
             if it may be yours, start no run before it has ended and was adopted"
        ),
        Kind::Doubled { jobs, .. } => {
            let jobs: Vec<&str> = jobs.iter().map(|job| job.as_str()).collect();
            format!("has {} jobs, newest first: {}", jobs.len(), jobs.join(", "))
        }
        Kind::ClosedAtWork {
            stage,
            remote,
            state,
        } => format!("is {stage} in the database, but {remote} is {state}"),
        Kind::Waiting { remote, state } => {
            format!("{remote} is {state}; the next run collects it")
        }
    }
}

fn found_words(found: &JobFound) -> String {
    match found {
        JobFound::Job { remote, .. } => format!("the provider has {remote}"),
        JobFound::Doubt => "its manifest says that it was about to be created".to_owned(),
        JobFound::Results { .. } => "its results are on our disk".to_owned(),
    }
}

fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Unreachable { .. } => "unreachable",
        Kind::Behind { .. } => "behind",
        Kind::Unknown { .. } => "unknown",
        Kind::Unclaimed { .. } => "unclaimed",
        Kind::Doubled { .. } => "doubled",
        Kind::ClosedAtWork { .. } => "closed_at_work",
        Kind::Waiting { .. } => "waiting",
    }
}

fn as_json(picture: &Picture, deeds: Option<&[Deed]>, code: u8) -> Value {
    let differences: Vec<Value> = picture
        .differences
        .iter()
        .map(|difference| {
            json!({
                "batch_id": difference.batch.as_str(),
                "kind": kind_word(&difference.kind),
                "needs_care": difference.kind.needs_care(),
                "words": told(difference),
            })
        })
        .collect();
    let deeds: Option<Vec<Value>> = deeds.map(|deeds| {
        let one =
            |deed: &Deed| json!({"about": deed.about, "done": deed.done, "words": deed.words});
        deeds.iter().map(one).collect()
    });
    json!({
        "version": JSON_VERSION,
        "exit_code": code,
        "jobs": picture.jobs,
        "files": picture.files,
        "differences": differences,
        "manifest_faults": picture.manifest_faults,
        "orphans": picture.orphans.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "gone": picture.gone.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
        "outputs": picture.outputs.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
        "deeds": deeds,
    })
}
