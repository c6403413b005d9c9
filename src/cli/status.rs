//! `pagemill status`: how far the work is, what keeps it, when it may be done; and which pages are
//! in a stage.

use std::io::{self, Write};

use clap::Args;
use sea_orm::DatabaseConnection;

use super::screen::Screen;
use super::select::SelectArgs;
use super::{Common, exit};
use crate::actors::state::desk_status::{self, Desk, Terms};
use crate::actors::state::messages::{StateResult, Summary};
use crate::actors::state::{alerts, audit, read};
use crate::decide::estimate::{self, Estimate, Measured, Unknown};
use crate::domain::alert::Alert;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::settings::{Context, Settings};

mod alarms;
mod json;
mod pages;
mod text;
mod watch;

pub use json::as_json;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill status                          how far it is, what keeps it, when it may be done
  pagemill status --watch                  the same, redrawn every 2 seconds, until Ctrl-C
  pagemill status --stage dead --limit 50  the first 50 dead pages
  pagemill status --stage review --states Alabama
  pagemill status --incomplete             the pages that are in the middle
  pagemill status --json | jq .eta

It reads beside a running process and never disturbs it. Exit codes: 0 told; 1
there is no database; 78 configuration.")]
pub struct StatusArgs {
    /// Look again every so many seconds, on a terminal in place
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub watch: Option<u32>,
    /// List the pages in these stages
    #[arg(long = "stage", value_name = "STAGE", num_args = 1.., value_parser = stages())]
    pub stages: Vec<String>,
    /// List the pages that are in the middle: uploading, uploaded, batched, validating
    #[arg(long, conflicts_with = "stages")]
    pub incomplete: bool,
    /// How many pages are listed
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub limit: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
    // Last: its heading holds for what stands behind it.
    #[command(flatten)]
    pub select: SelectArgs,
}

/// The stages of a page that is neither on the work list nor at rest.
pub const INCOMPLETE: [PageStage; 4] = [
    PageStage::Uploading,
    PageStage::Uploaded,
    PageStage::Batched,
    PageStage::Validating,
];

fn stages() -> clap::builder::PossibleValuesParser {
    PageStage::ALL
        .iter()
        .map(|stage| stage.as_str())
        .collect::<Vec<_>>()
        .into()
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &StatusArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.loaded() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let settings = &loaded.settings;
    let listed = match pages::Wanted::of(args, settings) {
        Ok(listed) => listed,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let look = Look {
        settings,
        connection: &connection,
        listed,
        json: args.json,
    };
    match args.watch {
        None => {
            let block = look.block(Screen::of_stdout(), false).await?;
            out.write_all(&block)?;
        }
        Some(seconds) => watch::watch(&look, seconds, out).await?,
    }
    Ok(exit::DONE)
}

/// What is looked at, once or again and again.
struct Look<'a> {
    settings: &'a Settings,
    connection: &'a DatabaseConnection,
    /// Pages in place of figures.
    listed: Option<pages::Wanted>,
    json: bool,
}

impl Look<'_> {
    /// Everything that one look prints; JSON on one line where several follow each other.
    async fn block(&self, screen: Screen, on_one_line: bool) -> anyhow::Result<Vec<u8>> {
        let at = crate::adapters::system_clock::now();
        let mut block = Vec::new();
        let json = match &self.listed {
            Some(wanted) => {
                let list = wanted.list(self.connection).await?;
                if !self.json {
                    list.print(wanted, screen, at, &mut block)?;
                    return Ok(block);
                }
                list.as_json(wanted, at)
            }
            None => {
                let facts = Facts::look(self.connection, self.settings, at).await?;
                if !self.json {
                    text::print(&facts.view(screen), &mut block)?;
                    return Ok(block);
                }
                json::of_facts(&facts)
            }
        };
        let text = if on_one_line {
            json.to_string()
        } else {
            serde_json::to_string_pretty(&json)?
        };
        writeln!(block, "{text}")?;
        Ok(block)
    }
}

/// What the settings limit.
#[derive(Debug, Clone, Copy)]
struct Limits {
    storage_budget_bytes: u64,
    max_retries: u64,
}

/// All figures of one look.
struct Facts {
    summary: Summary,
    desk: Desk,
    /// What an operator was told of and is not over.
    alerts: Vec<Alert>,
    limits: Limits,
    measured: Measured,
    eta: Result<Estimate, Unknown>,
    at: Timestamp,
}

impl Facts {
    async fn look(
        connection: &DatabaseConnection,
        settings: &Settings,
        at: Timestamp,
    ) -> StateResult<Facts> {
        let terms = Terms {
            scope: settings.scope_token(),
            chained: settings.execution.context == Context::Chain,
            uncollected_after: settings.results.uncollected_alarm,
        };
        // One look, so that the figures fit each other beside a running process.
        let snapshot = audit::snapshot(connection).await?;
        let desk = desk_status::desk(&snapshot, &terms, at).await?;
        let summary = read::summarize_counted(&snapshot, at, desk.blocked_in_all).await?;
        let alerts = alerts::open_alerts(&snapshot).await?;
        audit::end_snapshot(snapshot).await?;
        let measured = measured(&summary, &desk);
        Ok(Facts {
            eta: estimate::estimate(&measured),
            summary,
            desk,
            alerts,
            limits: Limits {
                storage_budget_bytes: settings.files.storage_budget_bytes,
                max_retries: settings.execution.max_retries.into(),
            },
            measured,
            at,
        })
    }

    fn view(&self, screen: Screen) -> View<'_> {
        View {
            summary: &self.summary,
            facts: Some(self),
            screen,
            at: self.at,
        }
    }
}

/// What there is to show, and where. At the end of a run there is the summary alone.
struct View<'a> {
    summary: &'a Summary,
    facts: Option<&'a Facts>,
    screen: Screen,
    at: Timestamp,
}

/// Shows a summary without what only the desk asks.
pub fn print(summary: &Summary, at: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let view = View {
        summary,
        facts: None,
        screen: Screen::of_stdout(),
        at,
    };
    text::print(&view, out)
}

/// What the estimate is made from: the pages that can still be done as things stand.
fn measured(summary: &Summary, desk: &Desk) -> Measured {
    let under_way: u64 = INCOMPLETE
        .iter()
        .map(|stage| summary.pages_in(*stage))
        .sum();
    let listed = desk.runnable + desk.waiting + desk.blocked + held(summary, desk);
    // The model that is at work, or that was last.
    let jobs = summary.turnarounds.iter().filter(|jobs| jobs.ended > 0);
    let jobs = jobs.max_by_key(|jobs| (jobs.live, jobs.ended));
    Measured {
        left: under_way + listed.saturating_sub(desk.behind_fault),
        accepted: desk.throughput.accepted,
        batches: desk.throughput.batches,
        over: desk.throughput.over,
        chain: desk.chain,
        half: jobs.and_then(|jobs| jobs.half),
        nine_tenths: jobs.and_then(|jobs| jobs.nine_tenths),
        halted: !summary.halts.is_empty(),
    }
}

/// Discovered pages that a batch still holds: it lets go of them when it is settled.
fn held(summary: &Summary, desk: &Desk) -> u64 {
    let known = desk.runnable + desk.waiting + desk.blocked + desk.elsewhere;
    summary
        .pages_in(PageStage::Discovered)
        .saturating_sub(known)
}

/// The pages that count: all that are not left out.
fn counted(summary: &Summary) -> u64 {
    let all: u64 = summary.pages.iter().map(|(_stage, count)| count).sum();
    all - summary.pages_in(PageStage::Skipped)
}
