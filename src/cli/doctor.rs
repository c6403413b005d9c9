//! `pagemill doctor`: is everything fit for a run? Looks, asks the provider questions that cost
//! nothing, and changes nothing.

mod local;
mod provider;

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::screen::Screen;
use super::{Common, exit};
use crate::decide::doctor::Verdict;
use crate::settings::{Fault, Settings};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill doctor                 before a run, after a move, and when something is odd
  pagemill doctor --offline       only what is on this machine; opens no socket
  pagemill doctor --json          for a supervisor or a script

Exit codes: 0 fit, perhaps with warnings; 1 something would fail; 78 the
configuration would.")]
pub struct DoctorArgs {
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
    /// Look at this machine only; opens no socket
    #[arg(long)]
    pub offline: bool,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    finding: String,
    /// What to do; with warnings and failures.
    remedy: Option<String>,
    /// Whether the configuration is at fault, so that nothing but a change of it helps.
    configuration: bool,
}

/// Everything that was found, in order.
#[derive(Debug, Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn good(&mut self, name: &'static str, finding: impl Into<String>) {
        self.judged(name, Verdict::Good, finding, "");
    }

    fn warn(&mut self, name: &'static str, finding: impl Into<String>, remedy: &str) {
        self.judged(name, Verdict::Warn, finding, remedy);
    }

    fn fail(&mut self, name: &'static str, finding: impl Into<String>, remedy: &str) {
        self.judged(name, Verdict::Fail, finding, remedy);
    }

    fn judged(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        finding: impl Into<String>,
        remedy: &str,
    ) {
        self.0.push(Check {
            name,
            verdict,
            finding: finding.into(),
            remedy: Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty()),
            configuration: false,
        });
    }

    fn configuration(&mut self, name: &'static str, verdict: Verdict, fault: &Fault) {
        self.0.push(Check {
            name,
            verdict,
            finding: format!("{}: {}", fault.path, fault.problem),
            remedy: Some(fault.remedy.clone()),
            configuration: true,
        });
    }

    fn count(&self, verdict: Verdict) -> usize {
        let is_it = |check: &&Check| check.verdict == verdict;
        self.0.iter().filter(is_it).count()
    }

    fn exit_code(&self) -> u8 {
        let failed = |check: &&Check| check.verdict == Verdict::Fail;
        match self.0.iter().find(failed) {
            None => exit::DONE,
            Some(_)
                if self
                    .0
                    .iter()
                    .filter(failed)
                    .any(|check| check.configuration) =>
            {
                exit::CONFIGURATION
            }
            Some(_) => exit::FAILED,
        }
    }
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &DoctorArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let mut findings = Findings::default();
    match common.load(Vec::new()) {
        Err(error) => {
            for fault in &error.faults {
                findings.configuration("configuration", Verdict::Fail, fault);
            }
        }
        Ok(loaded) => {
            let file = loaded.file.as_ref();
            let words = file.map_or("no file, all defaults".to_owned(), |file| {
                file.display().to_string()
            });
            findings.good("configuration", words);
            examine(&loaded.settings, args.offline, &mut findings).await;
        }
    }
    let code = findings.exit_code();
    if args.json {
        writeln!(out, "{:#}", as_json(&findings, code))?;
    } else {
        print(&findings, Screen::of_stdout(), out)?;
    }
    Ok(code)
}

async fn examine(settings: &Settings, offline: bool, findings: &mut Findings) {
    for warning in settings.warnings() {
        findings.configuration("configuration", Verdict::Warn, &warning);
    }
    local::folders(settings, findings);
    local::disk(settings, findings);
    local::database(settings, findings).await;
    local::prompt(settings, findings).await;
    if provider::key(settings, findings) && !offline {
        provider::ask(settings, findings).await;
    }
    if offline {
        findings.good("provider", "not asked (--offline)");
    }
}

/// As wide as a verdict with the blanks behind it, and as the longest name.
const VERDICT_WIDTH: usize = 6;
const NAME_WIDTH: usize = 13;

fn print(findings: &Findings, screen: Screen, out: &mut impl Write) -> io::Result<()> {
    for check in &findings.0 {
        let Check {
            name,
            verdict,
            finding,
            remedy,
            configuration: _,
        } = check;
        let verdict = verdict.as_str();
        write!(out, "{verdict:<4}  {name:<NAME_WIDTH$} ")?;
        let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}"));
        let words = format!("{finding}{}", remedy.unwrap_or_default());
        screen.paragraph(VERDICT_WIDTH + NAME_WIDTH + 1, &words, out)?;
    }
    writeln!(
        out,
        "{} ok, {} to look at, {} to mend; nothing was changed and nothing was paid for",
        findings.count(Verdict::Good),
        findings.count(Verdict::Warn),
        findings.count(Verdict::Fail)
    )
}

fn as_json(findings: &Findings, code: u8) -> serde_json::Value {
    let checks: Vec<serde_json::Value> = findings
        .0
        .iter()
        .map(|check| {
            json!({
                "check": check.name,
                "verdict": check.verdict.as_str().to_ascii_lowercase(),
                "finding": check.finding,
                "remedy": check.remedy,
                "configuration": check.configuration,
            })
        })
        .collect();
    json!({
        "version": JSON_VERSION,
        "checks": checks,
        "ok": findings.count(Verdict::Good),
        "warnings": findings.count(Verdict::Warn),
        "failures": findings.count(Verdict::Fail),
        "exit_code": code,
    })
}
