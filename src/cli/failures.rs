//! `pagemill failures`: what went wrong, by type, with the newest at hand.

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::{Common, exit};
use crate::actors::state::read::{self, FailureSummary};
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill failures --summary   what went wrong, by type, and the newest failures")]
pub struct FailuresArgs {
    /// Show totals by type and the newest failures
    #[arg(long, required = true)]
    pub summary: bool,
    /// How many of the newest failures are shown
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub limit: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;
/// What a message is cut to in the text form, in characters.
const MESSAGE_CHARACTERS: usize = 100;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &FailuresArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.load(Vec::new()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let connection = read::open_read_only(&loaded.settings.state.sqlite_file).await?;
    let summary = read::failure_summary(&connection, None, args.limit).await?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&as_json(&summary))?)?;
    } else {
        print(&summary, out)?;
    }
    Ok(exit::DONE)
}

fn print(summary: &FailureSummary, out: &mut impl Write) -> io::Result<()> {
    if summary.total == 0 {
        return writeln!(out, "no failures");
    }
    writeln!(
        out,
        "{} failures on {} pages; {} count against their page; {} pages dead, {} in review",
        words::count(summary.total),
        words::count(summary.pages),
        words::count(summary.counted),
        words::count(summary.dead),
        words::count(summary.review)
    )?;
    for (error, count) in &summary.by_type {
        writeln!(out, "  {:<18} {:>10}", error.as_str(), words::count(*count))?;
    }
    if !summary.latest.is_empty() {
        writeln!(out, "newest:")?;
    }
    for line in &summary.latest {
        let message: String = line
            .message
            .chars()
            .map(|character| {
                if character.is_control() {
                    ' '
                } else {
                    character
                }
            })
            .take(MESSAGE_CHARACTERS)
            .collect();
        writeln!(
            out,
            "  {} {} ({} so far) {}",
            line.at, line.key, line.failures, line.error
        )?;
        writeln!(out, "    {message}")?;
    }
    Ok(())
}

fn as_json(summary: &FailureSummary) -> serde_json::Value {
    let by_type: serde_json::Map<String, serde_json::Value> = summary
        .by_type
        .iter()
        .map(|(error, count)| (error.as_str().to_owned(), json!(count)))
        .collect();
    let latest: Vec<serde_json::Value> = summary
        .latest
        .iter()
        .map(|line| {
            json!({
                "record_key": line.key.as_str(),
                "batch_id": line.batch.as_ref().map(|batch| batch.as_str()),
                "attempt_number": line.attempt_number,
                "error_type": line.error.as_str(),
                "error_message": line.message,
                "counted": line.counted,
                "failures": line.failures,
                "stage": line.stage.map(|stage| stage.as_str()),
                "created_at": line.at.to_string(),
            })
        })
        .collect();
    json!({
        "version": JSON_VERSION,
        "total": summary.total,
        "counted": summary.counted,
        "pages": summary.pages,
        "dead": summary.dead,
        "review": summary.review,
        "by_type": by_type,
        "latest": latest,
    })
}
