//! `pagemill health`: is anything wrong, in an exit code. Looks beside a run, or without one.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use super::screen::Screen;
use super::{Common, alarms, exit};
use crate::actors::state::messages::{LastRun, RunStatus, StateResult};
use crate::actors::state::{alerts, read};
use crate::adapters::system_clock;
use crate::decide::alert::{self, Pulse, RunFacts, Surroundings};
use crate::domain::alert::{Incident, ProviderHealth, Vitals};
use crate::domain::time::Timestamp;
use crate::pipeline::{alarms as rules, from_settings};
use crate::ports::result_sink::ResultSink;
use crate::report::words;
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill health                  for a container, a supervisor or cron: the exit code says it
  pagemill health --max-age 30m    where `pagemill run --once` comes every quarter of an hour
  pagemill health --json           the same for a program

What is wrong is said in a line each. It is judged afresh, from the database
and this machine, so it holds whether a run goes on or not; the provider is not
asked. A run leaves a sign of life every minute: one that should be going and
has left none for --max-age is wrong as well.

Exit codes: 0 healthy; 1 something is wrong; 78 configuration.")]
pub struct HealthArgs {
    /// How old the last sign of life of a run that should be going may be: 90s, 5m, 2h or 1d
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = span)]
    pub max_age: Duration,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;

/// What was found.
struct Findings {
    incidents: Vec<Incident>,
    vitals: Vitals,
    run: Option<LastRun>,
    pulse: Pulse,
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &HealthArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let now = system_clock::now();
    let file = &settings.state.sqlite_file;
    let found = match read::open_read_only(file).await {
        Ok(connection) => look(&connection, &settings, args.max_age, now).await,
        Err(fault) => {
            return unknown(&fault.to_string(), args.json, now, out);
        }
    };
    let findings = match found {
        Ok(findings) => findings,
        Err(fault) => return unknown(&fault.to_string(), args.json, now, out),
    };
    let healthy = findings.incidents.is_empty() && findings.pulse == Pulse::Well;
    if args.json {
        let shown = as_json(&findings, healthy, now);
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        print(&findings, healthy, now, out)?;
    }
    Ok(if healthy { exit::DONE } else { exit::FAILED })
}

async fn look(
    connection: &DatabaseConnection,
    settings: &Settings,
    max_age: Duration,
    now: Timestamp,
) -> StateResult<Findings> {
    let rules = rules::rules(settings);
    let vitals = alerts::vitals(connection, None, rules.failure_window, now).await?;
    let around = Surroundings {
        now,
        free_bytes: from_settings::filesystem(settings).free_bytes().await,
        provider: ProviderHealth::Unknown,
    };
    let mut incidents = alert::incidents(&vitals, &around, &rules);
    incidents.retain(|incident| !incident.over);
    let run = alerts::last_run(connection).await?;
    let pulse = match &run {
        Some(run) => alert::pulse(&facts(run, &vitals), now, max_age),
        None => Pulse::Well,
    };
    Ok(Findings {
        incidents,
        vitals,
        run,
        pulse,
    })
}

fn facts(run: &LastRun, vitals: &Vitals) -> RunFacts {
    let heartbeat = vitals.heartbeat.as_ref();
    RunFacts {
        id: run.run.to_string(),
        open: matches!(run.status, RunStatus::Initializing | RunStatus::Processing),
        failed: run.status == RunStatus::Failed,
        updated_at: run.updated_at,
        heartbeat: heartbeat
            .filter(|beat| beat.run == run.run)
            .map(|beat| beat.at),
        live: vitals.live,
    }
}

/// The last sign of life of the last run.
fn last_sign(findings: &Findings) -> Option<Timestamp> {
    let run = findings.run.as_ref()?;
    let facts = facts(run, &findings.vitals);
    Some(
        facts
            .heartbeat
            .map_or(facts.updated_at, |at| at.max(facts.updated_at)),
    )
}

/// What cannot be looked at is not healthy.
fn unknown(fault: &str, json: bool, now: Timestamp, out: &mut impl Write) -> anyhow::Result<u8> {
    if json {
        let shown = json!({
            "version": JSON_VERSION, "at": now.to_string(), "healthy": false, "fault": fault,
            "silent": null, "alerts": [], "run": null, "last_sign_at": null,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        writeln!(out, "UNKNOWN  {fault}")?;
    }
    Ok(exit::FAILED)
}

fn print(
    findings: &Findings,
    healthy: bool,
    now: Timestamp,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let screen = Screen::of_stdout();
    for incident in &findings.incidents {
        alarms::print_one(
            incident.kind,
            &incident.subject,
            incident.since,
            &incident.message,
            screen,
            now,
            out,
        )?;
    }
    if let Pulse::Silent { words } = &findings.pulse {
        alarms::print_words("SILENT", words, screen, out)?;
    }
    if !healthy {
        return Ok(());
    }
    let words = match (&findings.run, last_sign(findings)) {
        (Some(run), Some(at)) => format!(
            "run {} is {}, last sign of life {} ago",
            run.run,
            run.status,
            words::span(now.since(at))
        ),
        _ => "nothing has run yet".to_owned(),
    };
    write!(out, "{}  ", screen.good("healthy"))?;
    screen.paragraph("healthy  ".len(), &words, out)
}

fn as_json(findings: &Findings, healthy: bool, now: Timestamp) -> Value {
    let open = &findings.vitals.open;
    let incidents: Vec<Value> = findings
        .incidents
        .iter()
        .map(|incident| {
            let mut known = open.iter();
            let known = known
                .find(|alert| alert.kind == incident.kind && alert.subject == incident.subject);
            json!({
                // Absent until a run has told of it.
                "id": known.map(|alert| alert.id.as_str()),
                "kind": incident.kind.as_str(),
                "subject": incident.subject,
                "message": incident.message,
                "since": incident.since.to_string(),
            })
        })
        .collect();
    let silent = match &findings.pulse {
        Pulse::Well => None,
        Pulse::Silent { words } => Some(words),
    };
    json!({
        "version": JSON_VERSION,
        "at": now.to_string(),
        "healthy": healthy,
        "fault": null,
        "silent": silent,
        "alerts": incidents,
        "run": findings.run.as_ref().map(|run| json!({
            "id": run.run.as_str(), "status": run.status.as_str(),
        })),
        "last_sign_at": last_sign(findings).map(|at| at.to_string()),
    })
}

/// Reads a span of time: a whole number, and s, m, h or d; seconds without.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let number: u64 = number.parse().unwrap_or(0);
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=31_536_000) => Ok(Duration::from_secs(seconds)),
        _ => Err("write a time up to a year, such as 90s, 5m, 2h or 1d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_units() {
        let check = |text: &str, seconds: u64| {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        };
        check("90", 90);
        check("90s", 90);
        check("5m", 300);
        check("2h", 7_200);
        check("365d", 31_536_000);
        for wrong in [
            "",
            "0",
            "5 m",
            "m",
            "-1",
            "1.5h",
            "366d",
            "99999999999999999999d",
        ] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
