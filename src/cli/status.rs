//! `pagemill status`: counts, live batches, remote bytes, cost.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Common, exit};
use crate::actors::state::messages::{BatchRow, Summary, Turnaround};
use crate::actors::state::read;
use crate::domain::batch::BatchStage;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill status          counts, live batches, remote bytes and cost; also beside a run
  pagemill status --json   the same for a program")]
pub struct StatusArgs {
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &StatusArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.load(Vec::new()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let at = crate::adapters::system_clock::now();
    let connection = read::open_read_only(&loaded.settings.state.sqlite_file).await?;
    let summary = read::summarize(&connection, None, at).await?;
    if args.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&as_json(&summary, at))?
        )?;
    } else {
        print(&summary, at, out)?;
    }
    Ok(exit::DONE)
}

fn of(summary: &Summary, wanted: PageStage) -> u64 {
    summary
        .pages
        .iter()
        .find(|(stage, _)| *stage == wanted)
        .map_or(0, |(_, count)| *count)
}

/// The text form.
pub fn print(summary: &Summary, at: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let total: u64 = summary.pages.iter().map(|(_, count)| count).sum();
    let done = of(summary, PageStage::Completed);
    if let Some((run, status, started)) = &summary.run {
        writeln!(out, "run      {run}, {status}, started {started}")?;
    }
    let share = if total == 0 {
        0.0
    } else {
        done as f64 * 100.0 / total as f64
    };
    writeln!(
        out,
        "pages    {} of {} done ({share:.1} %)",
        words::count(done),
        words::count(total)
    )?;
    for (stage, count) in &summary.pages {
        if *count == 0 {
            continue;
        }
        let why = match stage {
            PageStage::Discovered => why_discovered(summary),
            _ => String::new(),
        };
        writeln!(
            out,
            "  {:<12} {:>12}{why}",
            stage.as_str(),
            words::count(*count)
        )?;
    }
    print_list(
        "batches ",
        summary.batches.iter().map(|(stage, count)| (stage, count)),
        out,
    )?;
    for row in &summary.live {
        writeln!(out, "  {}", live_line(row, at))?;
    }
    for turnaround in &summary.turnarounds {
        writeln!(out, "jobs     {}", turnaround_line(turnaround))?;
    }
    print_resources(summary, out)?;
    print_halts(summary, at, out)?;
    print_list(
        "failures",
        summary.failures.iter().map(|(error, count)| (error, count)),
        out,
    )?;
    print_list(
        "not pages",
        summary.oddities.iter().map(|(kind, count)| (kind, count)),
        out,
    )?;
    if let Some(last) = summary.last_event_at {
        writeln!(out, "last     {} ago, {last}", words::span(at.since(last)))?;
    }
    Ok(())
}

/// What is held at the provider, and what was paid for.
fn print_resources(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "remote   {} in {} files",
        words::bytes(summary.remote_bytes),
        words::count(summary.remote_files)
    )?;
    let tokens = &summary.tokens;
    writeln!(
        out,
        "cost     {} ({} tokens in, {} out, {} thoughts)",
        words::dollars(summary.cost_nanos),
        words::count(tokens.prompt.unwrap_or(0)),
        words::count(tokens.candidates.unwrap_or(0)),
        words::count(tokens.thoughts.unwrap_or(0))
    )
}

/// What keeps work from going on as it should.
fn print_halts(summary: &Summary, at: Timestamp, out: &mut impl Write) -> io::Result<()> {
    for halt in &summary.halts {
        let age = words::span(at.since(halt.since));
        writeln!(out, "HALTED   {} for {age}: {}", halt.reason, halt.message)?;
        writeln!(out, "         {}", halt.reason.remedy())?;
    }
    for (batch, since) in &summary.unreachable {
        let age = words::span(at.since(*since));
        writeln!(
            out,
            "ALARM    batch {batch} cannot be seen for {age}; it is not sent again"
        )?;
    }
    for (model, pace) in &summary.paces {
        if pace.pages_max.is_some() || pace.tokens_max.is_some() {
            writeln!(out, "pace     {model}: {}", pace.reason)?;
        }
    }
    if summary.late_jobs > 0 {
        let jobs = words::count(summary.late_jobs);
        writeln!(
            out,
            "late     {jobs} jobs beside their batches may still bring answers"
        )?;
    }
    if summary.paid_twice > 0 {
        let answers = words::count(summary.paid_twice);
        writeln!(
            out,
            "twice    {answers} answers were paid for a second time"
        )?;
    }
    Ok(())
}

/// Words with their counts on one line; no line when there are none.
fn print_list<'a, W: std::fmt::Display + 'a>(
    name: &str,
    counted: impl Iterator<Item = (&'a W, &'a u64)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let counted: Vec<String> = counted
        .map(|(word, count)| format!("{} {word}", words::count(*count)))
        .collect();
    if counted.is_empty() {
        return Ok(());
    }
    writeln!(out, "{name} {}", counted.join(", "))
}

fn why_discovered(summary: &Summary) -> String {
    match (summary.blocked, summary.waiting) {
        (0, 0) => String::new(),
        (blocked, 0) => format!("  ({} wait for the page before)", words::count(blocked)),
        (0, waiting) => format!("  ({} wait for their time)", words::count(waiting)),
        (blocked, waiting) => format!(
            "  ({} wait for the page before, {} for their time)",
            words::count(blocked),
            words::count(waiting)
        ),
    }
}

fn live_line(row: &BatchRow, at: Timestamp) -> String {
    let age = words::span(at.since(row.submitted_at.unwrap_or(row.created_at)));
    let remote = row.remote.as_ref().map_or("-", |name| name.as_str());
    let said = row.remote_state.as_deref().unwrap_or("-");
    let stage = row.state.stage();
    format!(
        "{} {stage} {age}, {} pages, {remote} {said}",
        row.batch,
        words::count(row.members)
    )
}

fn turnaround_line(turnaround: &Turnaround) -> String {
    let Turnaround {
        model,
        live,
        live_oldest,
        ended,
        half,
        nine_tenths,
    } = turnaround;
    let mut parts = Vec::new();
    if let (Some(half), Some(most)) = (half, nine_tenths) {
        parts.push(format!(
            "{ended} ended, half within {}, nine tenths within {}",
            words::span(*half),
            words::span(*most)
        ));
    }
    if let Some(oldest) = live_oldest {
        parts.push(format!("{live} live, the oldest {}", words::span(*oldest)));
    }
    format!("{model}: {}", parts.join("; "))
}

fn turnaround_json(turnaround: &Turnaround) -> serde_json::Value {
    let seconds = |span: Option<Duration>| span.map(|span| span.as_secs());
    json!({
        "model": turnaround.model,
        "live": turnaround.live,
        "live_oldest_seconds": seconds(turnaround.live_oldest),
        "ended": turnaround.ended,
        "p50_seconds": seconds(turnaround.half),
        "p90_seconds": seconds(turnaround.nine_tenths),
    })
}

fn live_json(summary: &Summary) -> Vec<serde_json::Value> {
    summary
        .live
        .iter()
        .map(|row| {
            json!({
                "batch_id": row.batch.as_str(),
                "remote_name": row.remote.as_ref().map(|name| name.as_str()),
                "state": row.state.stage().as_str(),
                "remote_state": row.remote_state,
                "pages": row.members,
                "created_at": row.created_at.to_string(),
                "submitted_at": row.submitted_at.map(|at| at.to_string()),
            })
        })
        .collect()
}

/// The JSON form.
pub fn as_json(summary: &Summary, at: Timestamp) -> serde_json::Value {
    let pages: serde_json::Map<String, serde_json::Value> = summary
        .pages
        .iter()
        .map(|(stage, count)| (stage.as_str().to_owned(), json!(count)))
        .collect();
    let batches: serde_json::Map<String, serde_json::Value> = BatchStage::ALL
        .iter()
        .map(|stage| {
            let found = summary.batches.iter().find(|(known, _)| known == stage);
            (
                stage.as_str().to_owned(),
                json!(found.map_or(0, |(_, count)| *count)),
            )
        })
        .collect();
    let counts = |list: &[(String, u64)]| -> serde_json::Map<String, serde_json::Value> {
        list.iter()
            .map(|(word, count)| (word.clone(), json!(count)))
            .collect()
    };
    let failures: Vec<(String, u64)> = summary
        .failures
        .iter()
        .map(|(error, count)| (error.to_string(), *count))
        .collect();
    json!({
        "version": JSON_VERSION,
        "at": at.to_string(),
        "run": summary.run.as_ref().map(|(run, status, started)| json!({
            "id": run.as_str(), "status": status.as_str(), "started_at": started.to_string(),
        })),
        "pages": pages,
        "blocked": summary.blocked,
        "waiting": summary.waiting,
        "batches": batches,
        "turnaround": summary.turnarounds.iter().map(turnaround_json).collect::<Vec<_>>(),
        "live": live_json(summary),
        "halts": summary.halts.iter().map(super::resume::as_json).collect::<Vec<_>>(),
        "unreachable": summary.unreachable.iter().map(|(batch, since)| json!({
            "batch_id": batch.as_str(), "since": since.to_string(),
        })).collect::<Vec<_>>(),
        "paces": summary.paces.iter().map(|(model, pace)| json!({
            "model": model, "pages_max": pace.pages_max, "tokens_max": pace.tokens_max,
            "reason": pace.reason,
        })).collect::<Vec<_>>(),
        "late_jobs": summary.late_jobs,
        "paid_twice": summary.paid_twice,
        "remote_files": summary.remote_files,
        "remote_bytes": summary.remote_bytes,
        "failures": counts(&failures),
        "not_pages": counts(&summary.oddities),
        "cost_usd": summary.cost_nanos as f64 / 1e9,
        "tokens": {
            "prompt": summary.tokens.prompt,
            "cached": summary.tokens.cached,
            "candidates": summary.tokens.candidates,
            "thoughts": summary.tokens.thoughts,
            "total": summary.tokens.total,
        },
        "last_event_at": summary.last_event_at.map(|at| at.to_string()),
    })
}
