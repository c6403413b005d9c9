//! The command line: parse, ask, print. No decisions.

pub mod alarms;
pub mod alerts;
pub mod arenas;
pub mod backup;
pub mod batches;
pub mod bench;
pub mod completions;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod dry_run;
pub mod emulator;
pub mod exit;
pub mod explain;
pub mod export;
pub mod failures;
pub mod health;
pub mod init;
pub mod logging;
pub mod maintain;
pub mod man;
pub mod nuke;
pub mod order;
pub mod orders;
pub mod pages;
pub mod pause;
pub mod progress;
pub mod reconcile;
pub mod rekey;
pub mod replay;
pub mod report;
pub mod restore;
pub mod resume;
pub mod rows;
pub mod run;
pub mod runs;
pub mod screen;
pub mod select;
pub mod shell;
pub mod show;
pub mod status;
pub mod target;
pub mod usage;
pub mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::{self, Loaded, SettingsError, Sources};

/// Runs a tree of page images through the Gemini Batch API and leaves one schema-validated JSON
/// file a page.
#[derive(Debug, Parser)]
#[command(name = "pagemill", version, about, long_about = None, max_term_width = 100)]
#[command(after_help = "\
Examples:
  pagemill demo                  see it work: no key, no files needed
  # begin
  pagemill init                  write a starter configuration into this folder
  pagemill config check          say what is wrong with it, all at once
  pagemill doctor                are key, model, disk and database fit for it?
  # run
  pagemill run --dry-run         say what a run would do; opens no socket
  pagemill run --limit 20        try it on twenty pages
  pagemill run                   work until nothing is left to do
  pagemill bench                 how fast is it here, and what limits it?
  pagemill pause                 send nothing more until resumed
  # watch
  pagemill status                how far it is, and what keeps it; beside a run
  pagemill health                is anything wrong? the exit code says it
  pagemill alerts test           try out how you are told when something is
  pagemill runs list             the runs, with what they did and cost
  # correct
  pagemill failures --summary    what went wrong, by type
  pagemill explain KEY           why this page is not running
  pagemill show KEY              its whole story, word for word
  pagemill clear-failures --all  let dead pages run again; redo: done ones
  pagemill batches list          what is with the provider; cancel or forget one
  # report and keep
  pagemill report --period day   what was done today and what it cost
  pagemill export state          one readable file a page, with an index
  pagemill verify                is all there, whole and as recorded?
  pagemill backup --keep 30d     copy the database, also beside a run

Exit codes: 0 all done; 1 failed; 2 usage; 3 finished, but pages are dead or in
review; 4 the budget is too small; 5 state is in use by another process; 69
provider unavailable; 75 stopped with work left (start again); 78 configuration.")]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// The heading of what every command takes.
const COMMON: &str = "Options of every command";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The configuration file [default: pagemill.yaml, or PAGEMILL_CONFIG]
    #[arg(long, global = true, help_heading = COMMON, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How log lines look: human, json, or auto (human on a terminal)
    #[arg(long, global = true, help_heading = COMMON, value_name = "FORMAT", value_parser = ["human", "json", "auto"])]
    pub log_format: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as pagemill=debug
    #[arg(long, global = true, help_heading = COMMON, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work: a small dataset, the built-in emulator, the whole pipeline; no key needed
    Demo(demo::DemoArgs),
    /// Write a commented starter configuration, prompt and schema
    Init(init::InitArgs),
    /// Check, show or describe the configuration
    Config(config::ConfigArgs),
    /// Check key, model, clock, disk, folders, database and prompt; costs nothing
    Doctor(doctor::DoctorArgs),
    /// Play the provider: Files and Batch API on loopback, to rehearse a configuration for nothing
    Emulator(emulator::EmulatorArgs),
    /// Measure how fast this machine and these settings are, and what to change first
    Bench(bench::BenchArgs),
    /// Work until no batch is live and nothing is runnable, then exit
    Run(run::RunArgs),
    /// Upload and submit nothing until it is resumed; what was sent is collected
    Pause(pause::PauseArgs),
    /// End a pause, or what else keeps submission halted
    Resume(resume::ResumeArgs),
    /// Show how far the work is and what keeps it, or the pages in a stage
    Status(status::StatusArgs),
    /// Say whether anything is wrong, in lines and an exit code; for containers, cron and systemd
    Health(health::HealthArgs),
    /// Show what you were told of, or send a test message through each channel
    Alerts(alerts::AlertsArgs),
    /// List runs, or show one with its settings and its recipe
    Runs(runs::RunsArgs),
    /// List live and past batches, show one, stop or give up one
    Batches(batches::BatchesArgs),
    /// Show what operators told pagemill to do, when and why
    Orders(orders::OrdersArgs),
    /// Show what went wrong: failures by type, and the newest ones
    Failures(failures::FailuresArgs),
    /// Say why a page is not running, and what would make it run
    Explain(explain::ExplainArgs),
    /// Show the whole story of one page: files, history, attempts, failures, request, answer
    Show(show::ShowArgs),
    /// Judge stored answers once more, by today's schema; sends and changes nothing
    Replay(replay::ReplayArgs),
    /// Let failure counts begin anew, and send dead pages again
    ClearFailures(pages::ClearFailuresArgs),
    /// Run done pages again; their outputs are kept as revisions
    Redo(pages::RedoArgs),
    /// Leave pages out
    Skip(pages::SkipArgs),
    /// Put pages that were left out back on the work list
    Unskip(pages::UnskipArgs),
    /// Send pages before, or after, the others
    Priority(pages::PriorityArgs),
    /// Write a remark into a page's history
    Note(pages::NoteArgs),
    /// Report on a day, a week, a batch, a run or everything: Markdown, HTML, JSON, CSV
    Report(report::ReportArgs),
    /// Take pages away: a tree of readable files, or one table
    Export(export::ExportArgs),
    /// Hold the state against itself and against the files; --fix repairs what is safe
    Verify(verify::VerifyArgs),
    /// Compare the database with the provider, and rebuild one that was lost
    Reconcile(reconcile::ReconcileArgs),
    /// Let another key of the same project take over what is with the provider
    Rekey(rekey::RekeyArgs),
    /// Write reports that are due and compress old raw results now; a run does so by itself
    Maintain(maintain::MaintainArgs),
    /// Copy the database, also beside a run, and take away old copies
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the database
    Restore(restore::RestoreArgs),
    /// Delete everything that the database knows, and begin anew
    Nuke(nuke::NukeArgs),
    /// Print the completions of a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands into a folder
    Man(man::ManArgs),
}

/// Restricts a command to a part of the tree.
#[derive(Debug, Clone, Default, Args)]
pub struct ScopeArgs {
    /// Only these values of the level `state`
    #[arg(long, num_args = 1.., value_name = "STATE")]
    pub states: Vec<String>,
    /// Only years from this one on (level `year`)
    #[arg(long, value_name = "YEAR")]
    pub year_start: Option<i64>,
    /// Only years up to this one (level `year`)
    #[arg(long, value_name = "YEAR")]
    pub year_end: Option<i64>,
    /// Only this value of any level; may be repeated, values of one level add up
    #[arg(long = "where", value_name = "LEVEL=VALUE")]
    pub wheres: Vec<String>,
}

/// A scope flag that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ScopeFault {
    #[error("--where takes LEVEL=VALUE, such as --where school='Howard College', not '{0}'")]
    NotAnAssignment(String),
    #[error("--year-start and --year-end go together")]
    HalfARange,
}

impl ScopeArgs {
    /// The flags as settings, by dotted path.
    pub fn as_settings(&self) -> Result<Vec<(String, String)>, ScopeFault> {
        let mut flags = Vec::new();
        if !self.states.is_empty() {
            flags.push(("filters.target_states".to_owned(), yaml_list(&self.states)));
        }
        match (self.year_start, self.year_end) {
            (None, None) => {}
            (Some(start), Some(end)) => {
                let range = format!("{{start: {start}, end: {end}}}");
                flags.push(("filters.target_years".to_owned(), range));
            }
            _ => return Err(ScopeFault::HalfARange),
        }
        let mut levels: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for assignment in &self.wheres {
            let (level, value) = assignment
                .split_once('=')
                .ok_or_else(|| ScopeFault::NotAnAssignment(assignment.clone()))?;
            levels.entry(level).or_default().push(value.to_owned());
        }
        for (level, values) in levels {
            flags.push((format!("filters.where.{level}"), yaml_list(&values)));
        }
        Ok(flags)
    }
}

/// A list of texts as YAML; JSON is YAML, and quotes everything that needs it.
fn yaml_list(values: &[String]) -> String {
    serde_json::to_string(values).expect("texts are always JSON")
}

impl Common {
    /// Loads the settings with these flags on top.
    pub fn load(&self, flags: Vec<(String, String)>) -> Result<Loaded, SettingsError> {
        settings::load(self.sources(flags))
    }

    /// Loads the settings; says what is wrong with them, and gives the exit code for it.
    pub fn loaded(&self) -> Result<Loaded, u8> {
        self.load(Vec::new()).map_err(|faults| {
            eprintln!("{faults}");
            exit::CONFIGURATION
        })
    }

    /// Where the settings of this process come from, with these flags on top.
    pub fn sources(&self, mut flags: Vec<(String, String)>) -> Sources {
        flags.extend(self.log_flags());
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources {
            file: self.config.clone(),
            env,
            flags,
            cwd: cwd(),
        }
    }

    /// The flags for the log as settings, by dotted path.
    pub fn log_flags(&self) -> Vec<(String, String)> {
        let mut flags = Vec::new();
        if let Some(format) = &self.log_format {
            flags.push(("log.format".to_owned(), format.clone()));
        }
        if let Some(level) = &self.log_level {
            let level = serde_json::Value::from(level.as_str()).to_string();
            flags.push(("log.level".to_owned(), level));
        }
        flags
    }
}

/// The folder that the process works in.
pub fn cwd() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_unknown| PathBuf::from("."))
}
