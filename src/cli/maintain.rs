//! `pagemill maintain`: what a running pagemill does now and then, done now: reports of days and
//! weeks that are over, and old raw results and exports in less space.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use actix::Actor;
use clap::Args;
use serde_json::json;

use super::{Common, exit};
use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{Close, OldRaw, RawOwner};
use crate::actors::state::open::{OpenError, StateOptions};
use crate::actors::state::{read, upkeep};
use crate::adapters::filesystem::Filesystem;
use crate::adapters::system_clock;
use crate::decide::report_due::due;
use crate::domain::period::Period;
use crate::domain::time::Timestamp;
use crate::pipeline::from_settings;
use crate::pipeline::upkeep::{EXPORTS_MAX, Kept, Upkeep, UpkeepPlan, WRITTEN_BACK};
use crate::ports::archive::{Archive, StopWord};
use crate::ports::result_sink::ResultSink;
use crate::report::words;
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill maintain --dry-run       what would be done
  pagemill maintain                 compress what is older than
                                    retention.compress_after_days, and write
                                    reports that are due
  pagemill maintain --older-than 7  compress what is older than a week

A running pagemill does the same by itself, every hour. Compressed results stay
readable for every command; by hand: zstdcat data/raw/ID.jsonl.zst. Nothing is
deleted but what stands beside it with the same content.

Exit codes: 0 done; 1 something could not be; 5 a pagemill works on this state.")]
pub struct MaintainArgs {
    /// Say what would be done and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Compress what is older than this many days, whatever the settings say
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    pub older_than: Option<u32>,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Rows that a dry run asks for at a time.
const TOGETHER: u64 = 500;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &MaintainArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let mut plan = from_settings::upkeep(&settings);
    if let Some(days) = args.older_than {
        plan.compress_after = Some(DAY * days);
    }
    let now = system_clock::now();
    // Refuses what is not there, or not in today's shape: nothing here creates or changes one.
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    connection.close().await?;
    let kept = if args.dry_run {
        would_keep(&settings, &plan, now).await?
    } else {
        match keep(&settings, plan.clone(), now).await? {
            Ok(kept) => kept,
            Err(fault) => {
                eprintln!("{fault}");
                return Ok(match fault {
                    OpenError::InUse { .. } => exit::IN_USE,
                    _ => exit::FAILED,
                });
            }
        }
    };
    print(&kept, &plan, args, out)?;
    Ok(if kept.damaged > 0 {
        exit::FAILED
    } else {
        exit::DONE
    })
}

async fn keep(
    settings: &Settings,
    plan: UpkeepPlan,
    now: Timestamp,
) -> anyhow::Result<Result<Kept, OpenError>> {
    let opened = StateActor::open(StateOptions {
        path: settings.state.sqlite_file.clone(),
        unlock_behind_dead: from_settings::skip_dead(settings),
    });
    let state = match opened.await {
        Ok(state) => state.start(),
        Err(fault) => return Ok(Err(fault)),
    };
    let stop = StopWord::default();
    let upkeep = Upkeep::new(plan, state.clone(), stop.clone());
    let signal = actix_rt::spawn(async move {
        super::run::signal().await;
        eprintln!("stopping: what is being compressed is left as it was");
        stop.say();
    });
    let kept = upkeep.look(now).await;
    signal.abort();
    answered(state.send(Close {}).await)?;
    Ok(Ok(kept?))
}

/// What [`keep`] would do, by the same questions.
async fn would_keep(
    settings: &Settings,
    plan: &UpkeepPlan,
    now: Timestamp,
) -> anyhow::Result<Kept> {
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let files = from_settings::filesystem(settings);
    let mut kept = Kept::default();
    let rules = &plan.reports;
    if !rules.is_none() {
        let from = rules.zone.day_of(now).plus(-WRITTEN_BACK);
        let written = upkeep::written_reports(&connection, &rules.zone, from).await?;
        for period in due(rules, &written, now) {
            kept.reports += u64::from(has_something(&connection, &period).await?);
        }
    }
    let Some(age) = plan.compress_after else {
        return Ok(kept);
    };
    let before = now.minus(age);
    let mut after = None;
    loop {
        let old = upkeep::old_raws(&connection, before, after.as_ref(), TOGETHER).await?;
        let Some(last) = old.last() else { break };
        if let RawOwner::Batch(batch) = &last.owner {
            after = Some((last.closed_at, batch.clone()));
        }
        count_raw(&files, &old, &mut kept).await;
    }
    let mut after = String::new();
    loop {
        let old = upkeep::old_late_raws(&connection, before, &after, TOGETHER).await?;
        let Some(last) = old.last() else { break };
        if let RawOwner::LateJob(job) = &last.owner {
            after = job.to_string();
        }
        count_raw(&files, &old, &mut kept).await;
    }
    if plan.compress_exports {
        for (_path, bytes) in files.old_exports(before, EXPORTS_MAX).await? {
            kept.exports += 1;
            kept.bytes_before += bytes;
        }
    }
    connection.close().await?;
    Ok(kept)
}

/// Whether anything was booked in a period.
async fn has_something(
    connection: &sea_orm::DatabaseConnection,
    period: &Period,
) -> anyhow::Result<bool> {
    use crate::actors::state::figures::is_empty;
    Ok(!is_empty(connection, period.stretch()).await?)
}

async fn count_raw(files: &Filesystem, old: &[OldRaw], kept: &mut Kept) {
    for OldRaw { raw, .. } in old {
        if files.has_raw(Path::new(&raw.path), raw.bytes).await {
            kept.raw += 1;
            kept.bytes_before += raw.bytes;
        } else {
            kept.missing += 1;
        }
    }
}

fn print(
    kept: &Kept,
    plan: &UpkeepPlan,
    args: &MaintainArgs,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let Kept {
        reports,
        raw,
        exports,
        bytes_before,
        bytes_after,
        missing,
        damaged,
    } = kept;
    if args.json {
        let shown = json!({
            "version": JSON_VERSION, "dry_run": args.dry_run, "reports": reports, "raw": raw,
            "exports": exports, "bytes_before": bytes_before,
            "bytes_after": (!args.dry_run).then_some(bytes_after),
            "missing": missing, "damaged": damaged,
        });
        return writeln!(out, "{}", serde_json::to_string_pretty(&shown)?);
    }
    let would = if args.dry_run { "would be " } else { "" };
    if !plan.reports.is_none() {
        writeln!(out, "{} reports {would}written", words::count(*reports))?;
    }
    if plan.compress_after.is_none() {
        writeln!(
            out,
            "nothing is compressed: retention.compress_after_days is 0; see --older-than"
        )?;
        return Ok(());
    }
    let saved = if args.dry_run {
        format!("{} as they are", words::bytes(*bytes_before))
    } else {
        format!(
            "{} became {}, {} saved",
            words::bytes(*bytes_before),
            words::bytes(*bytes_after),
            words::bytes(bytes_before.saturating_sub(*bytes_after))
        )
    };
    writeln!(
        out,
        "{} raw result files and {} exported files {would}compressed: {saved}",
        words::count(*raw),
        words::count(*exports)
    )?;
    if *missing > 0 {
        let missing = words::count(*missing);
        writeln!(
            out,
            "{missing} raw result files are not in their folder; they are left alone"
        )?;
    }
    if *damaged > 0 {
        let damaged = words::count(*damaged);
        writeln!(
            out,
            "{damaged} raw result files are not what was recorded and are left as they are: pagemill verify"
        )?;
    }
    Ok(())
}
