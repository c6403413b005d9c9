//! `pagemill resume`: end a pause, and what else keeps submission halted.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::order::{CarefulArgs, Desk, Giving, OrderArgs};
use super::{Common, exit};
use crate::actors::state::messages::HaltRow;
use crate::actors::state::read;
use crate::adapters::system_clock;
use crate::domain::order::Order;
use crate::domain::time::Timestamp;
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill status             tells what is halted, since when and why
  pagemill resume --dry-run   says what would be ended
  pagemill resume             ends a pause and all halts: the run that is under way, or the next one,
                              submits again

A halt keeps `pagemill run` from uploading and submitting; what was sent is
still collected. Halts for the key, permissions, billing, spending caps and
daily quotas also end by themselves when the provider takes calls again.")]
pub struct ResumeArgs {
    /// Say what would be ended and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub order: OrderArgs,
}

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &ResumeArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let desk = match Desk::open(common).await? {
        Ok(desk) => desk,
        Err(code) => return Ok(code),
    };
    let halts = read::open_halts(&desk.connection).await?;
    let at = system_clock::now();
    if halts.is_empty() || args.dry_run {
        if args.order.json {
            let shown = json!({
                "version": JSON_VERSION, "dry_run": args.dry_run,
                "halts": halts.iter().map(as_json).collect::<Vec<_>>(),
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
            return Ok(exit::DONE);
        }
        print(&halts, "would end", at, out)?;
        return Ok(exit::DONE);
    }
    if args.order.json {
        // The halts stand in the answer that the order gives.
        let mut answer = Vec::new();
        let code = give(&desk, args, &mut answer).await?;
        let order: serde_json::Value = serde_json::from_slice(&answer)?;
        let shown = json!({
            "version": JSON_VERSION, "dry_run": false,
            "halts": halts.iter().map(as_json).collect::<Vec<_>>(), "order": order,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(code);
    }
    let code = give(&desk, args, &mut std::io::sink()).await?;
    if code == exit::DONE {
        print(&halts, "ended", at, out)?;
        writeln!(out, "pages are sent again")?;
    }
    Ok(code)
}

async fn give(desk: &Desk, args: &ResumeArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let giving = Giving {
        order: Order::Resume,
        args: &args.order,
        careful: CarefulArgs::default(),
        question: None,
        desk,
    };
    giving.run(out).await
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

fn print(halts: &[HaltRow], did: &str, at: Timestamp, out: &mut impl Write) -> std::io::Result<()> {
    if halts.is_empty() {
        return writeln!(out, "nothing is halted");
    }
    for halt in halts {
        let age = words::span(at.since(halt.since));
        writeln!(out, "{did}: {} (for {age}): {}", halt.reason, halt.message)?;
    }
    Ok(())
}
