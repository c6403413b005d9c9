//! `pagemill resume`: end what keeps submission halted.

use std::io::Write;

use actix::Actor;
use clap::Args;
use serde_json::json;

use super::{Common, exit};
use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{Close, HaltRow, ListHalts, Resume, ResumedBy};
use crate::actors::state::open::{OpenError, StateOptions};
use crate::adapters::system_clock;
use crate::domain::time::Timestamp;
use crate::pipeline::from_settings;
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill status             tells what is halted, since when and why
  pagemill resume --dry-run   says what would be ended
  pagemill resume             ends all halts; the next run submits again

A halt keeps `pagemill run` from uploading and submitting; what was sent is still collected.
Halts for the key, permissions, billing, spending caps and daily quotas also end by themselves
when the provider takes calls again. A run that is under way has to be stopped first.")]
pub struct ResumeArgs {
    /// Say what would be ended and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &ResumeArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.load(Vec::new()) {
        Ok(loaded) => loaded.settings,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let path = settings.state.sqlite_file.clone();
    if !path.exists() {
        eprintln!(
            "there is no database at {}; nothing is halted",
            path.display()
        );
        return Ok(exit::FAILED);
    }
    let state = StateActor::open(StateOptions {
        path,
        unlock_behind_dead: from_settings::skip_dead(&settings),
    })
    .await;
    let state = match state {
        Ok(state) => state.start(),
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(match fault {
                OpenError::InUse { .. } => exit::IN_USE,
                _ => exit::FAILED,
            });
        }
    };
    let at = system_clock::now();
    let halts = if args.dry_run {
        answered(state.send(ListHalts {}).await)?
    } else {
        let order = Resume {
            reasons: None,
            by: ResumedBy::Operator,
            at,
        };
        answered(state.send(order).await)?
    };
    answered(state.send(Close {}).await)?;
    if args.json {
        let ended: Vec<serde_json::Value> = halts.iter().map(as_json).collect();
        let shown = json!({"version": JSON_VERSION, "dry_run": args.dry_run, "halts": ended});
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(exit::DONE);
    }
    print(&halts, args.dry_run, at, out)?;
    Ok(exit::DONE)
}

/// One halt as JSON, the same wherever it is shown.
pub fn as_json(halt: &HaltRow) -> serde_json::Value {
    json!({
        "reason": halt.reason.as_str(),
        "message": halt.message,
        "since": halt.since.to_string(),
        "times": halt.times,
        "ends_by_itself": halt.reason.ends_by_itself(),
        "remedy": halt.reason.remedy(),
    })
}

fn print(
    halts: &[HaltRow],
    dry_run: bool,
    at: Timestamp,
    out: &mut impl Write,
) -> std::io::Result<()> {
    if halts.is_empty() {
        return writeln!(out, "nothing is halted");
    }
    for halt in halts {
        let age = words::span(at.since(halt.since));
        let did = if dry_run { "would end" } else { "ended" };
        writeln!(out, "{did}: {} (for {age}): {}", halt.reason, halt.message)?;
    }
    if !dry_run {
        writeln!(out, "the next `pagemill run` submits again")?;
    }
    Ok(())
}
