//! `pagemill alerts`: what an operator was told of, and whether telling works.

use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::MultiProgress;
use serde_json::{Value, json};

use super::run::start_logging;
use super::screen::{Columns, Screen, Side, more, seconds};
use super::{Common, alarms, exit};
use crate::actors::state::messages::DeliveryState;
use crate::actors::state::{alerts, read};
use crate::adapters::os_entropy::OsEntropy;
use crate::adapters::system_clock;
use crate::domain::alert::{Alert, AlertEvent, Channel, Notification};
use crate::domain::time::Timestamp;
use crate::pipeline::alarms::channels;
use crate::ports::alert_channel::AlertChannel;
use crate::ports::entropy::Entropy;
use crate::report::words;
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill alerts test          send a message through each channel, and say what came of it
  pagemill alerts list          what is wrong now, and who was told
  pagemill alerts list --all    what was wrong before as well, newest first")]
pub struct AlertsArgs {
    #[command(subcommand)]
    pub command: AlertsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum AlertsCommand {
    /// Show open alerts and how they were delivered
    List(ListArgs),
    /// Send a test message through each configured channel; changes nothing
    Test(TestArgs),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill alerts list                    what is wrong now, and who was told
  pagemill alerts list --all --limit 5    the five newest, those that are over as well
  pagemill alerts list --all --json       the same for a program")]
pub struct ListArgs {
    /// Show those that are over as well, newest first
    #[arg(long)]
    pub all: bool,
    /// With --all: show at most this many
    #[arg(long, value_name = "N", default_value_t = 20, requires = "all",
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub limit: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill alerts test                      after every change of alerts.webhook or alerts.command
  pagemill alerts test --log-level debug    with what the command printed

Exit codes: 0 every channel took it; 1 one did not, or none is configured; 78
configuration.")]
pub struct TestArgs {
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &AlertsArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    match &args.command {
        AlertsCommand::List(args) => list(&settings, args, out).await,
        AlertsCommand::Test(args) => test(&settings, args, out).await,
    }
}

// ---- list ----

async fn list(settings: &Settings, args: &ListArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let (shown, total) = if args.all {
        alerts::history(&connection, args.limit).await?
    } else {
        let open = alerts::open_alerts(&connection).await?;
        let total = u64::try_from(open.len()).unwrap_or(u64::MAX);
        (open, total)
    };
    let mut found = Vec::with_capacity(shown.len());
    for alert in shown {
        let deliveries = alerts::deliveries(&connection, &alert.id).await?;
        found.push((alert, deliveries));
    }
    let now = system_clock::now();
    if args.json {
        let rows: Vec<Value> = found.iter().map(row_as_json).collect();
        let shown = json!({
            "version": JSON_VERSION, "at": now.to_string(), "total": total, "alerts": rows,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(exit::DONE);
    }
    if found.is_empty() {
        let words = if args.all {
            "there has been no alert"
        } else {
            "no alert is open; `pagemill alerts list --all` shows earlier ones"
        };
        writeln!(out, "{words}")?;
        return Ok(exit::DONE);
    }
    print(&found, now, out)?;
    let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
    more(count, total, "--limit N shows more", out)?;
    Ok(exit::DONE)
}

fn print(
    found: &[(Alert, Vec<DeliveryState>)],
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    let screen = Screen::of_stdout();
    let headings = [
        ("fired", Side::Left),
        ("state", Side::Left),
        ("alert", Side::Left),
        ("what", Side::Left),
    ];
    let mut columns = Columns::new(screen, &headings);
    for (alert, deliveries) in found {
        let state = match alert.cleared_at {
            None => "open".to_owned(),
            Some(at) => format!("over after {}", words::span(at.since(alert.since))),
        };
        columns.row(&[
            seconds(alert.fired_at),
            state,
            alarms::name(alert.kind, &alert.subject),
            alert.message.clone(),
        ]);
        for delivery in deliveries {
            columns.row(&["", "", "", &delivery_words(delivery, now)]);
        }
    }
    columns.print(out)
}

fn delivery_words(delivery: &DeliveryState, now: Timestamp) -> String {
    let DeliveryState {
        channel,
        event,
        attempts,
        next_at,
        delivered_at,
        last_error,
    } = delivery;
    let error = last_error.as_deref().unwrap_or_default();
    match (delivered_at, next_at) {
        (Some(at), _) => format!("- {channel}: {event} delivered {}", seconds(*at)),
        (None, None) => format!("- {channel}: {event} given up after {attempts} tries: {error}"),
        (None, Some(_)) if *attempts == 0 => format!("- {channel}: {event} is due"),
        (None, Some(at)) => format!(
            "- {channel}: {event} failed {attempts} times, again in {}: {error}",
            words::span(at.since(now))
        ),
    }
}

fn row_as_json((alert, deliveries): &(Alert, Vec<DeliveryState>)) -> Value {
    let mut row = alarms::one_as_json(alert);
    let deliveries: Vec<Value> = deliveries
        .iter()
        .map(|delivery| {
            json!({
                "channel": delivery.channel.as_str(),
                "event": delivery.event.as_str(),
                "attempts": delivery.attempts,
                "next_at": delivery.next_at.map(|at| at.to_string()),
                "delivered_at": delivery.delivered_at.map(|at| at.to_string()),
                "last_error": delivery.last_error,
            })
        })
        .collect();
    row["deliveries"] = deliveries.into();
    row
}

// ---- test ----

/// What came of one try.
struct Tried {
    channel: Channel,
    place: String,
    took: Duration,
    fault: Option<String>,
}

async fn test(settings: &Settings, args: &TestArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    start_logging(settings, MultiProgress::new());
    if let Some(fault) = settings.alerts.missing_secret() {
        eprintln!("{fault}");
        return Ok(exit::CONFIGURATION);
    }
    let channels = match channels(settings) {
        Ok(channels) => channels,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let now = system_clock::now();
    let message = message(settings, now);
    let mut tried = Vec::new();
    for channel in &channels {
        tried.push(try_out(channel, &message).await);
    }
    let all_took_it = tried.iter().all(|tried| tried.fault.is_none());
    if args.json {
        let shown = json!({
            "version": JSON_VERSION, "id": message.id, "at": now.to_string(),
            "channels": tried.iter().map(tried_as_json).collect::<Vec<_>>(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        print_tried(&tried, &message, out)?;
    }
    Ok(if all_took_it && !tried.is_empty() {
        exit::DONE
    } else {
        exit::FAILED
    })
}

fn message(settings: &Settings, now: Timestamp) -> Notification {
    Notification {
        id: OsEntropy.unique_id(now),
        event: AlertEvent::Test,
        kind: AlertEvent::Test.to_string(),
        subject: String::new(),
        message: "this is a test of pagemill's alerts; nothing is wrong".to_owned(),
        since: now,
        fired_at: now,
        cleared_at: None,
        instance: settings.batch.display_name_prefix.clone(),
        at: now,
        attempt: 1,
    }
}

async fn try_out(channel: &Rc<dyn AlertChannel>, message: &Notification) -> Tried {
    let began = system_clock::now();
    let outcome = channel.deliver(message).await;
    Tried {
        channel: channel.channel(),
        place: channel.place(),
        took: system_clock::now().since(began),
        fault: outcome.err().map(|fault| fault.0),
    }
}

fn print_tried(tried: &[Tried], message: &Notification, out: &mut impl Write) -> io::Result<()> {
    if tried.is_empty() {
        return writeln!(
            out,
            "no channel is configured: set alerts.webhook.url or alerts.command. Without one, \
             alerts stand in the log,\nin `pagemill status` and in the exit code of `pagemill \
             health`"
        );
    }
    let screen = Screen::of_stdout();
    for tried in tried {
        let what = match &tried.fault {
            None => format!(
                "{} in {} ms ({})",
                screen.good("took it"),
                tried.took.as_millis(),
                tried.place
            ),
            Some(fault) => format!("{}: {fault}", screen.alarm("FAILED")),
        };
        writeln!(out, "{:<8} {what}", tried.channel.as_str())?;
    }
    writeln!(out, "message  {}", message.idempotency_id())
}

fn tried_as_json(tried: &Tried) -> Value {
    json!({
        "channel": tried.channel.as_str(),
        "place": tried.place,
        "delivered": tried.fault.is_none(),
        "took_ms": u64::try_from(tried.took.as_millis()).unwrap_or(u64::MAX),
        "fault": tried.fault,
    })
}
