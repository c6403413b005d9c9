//! `pagemill export`: pages taken away, as a tree of readable files or as one table.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Common;
use super::select::SelectArgs;
use crate::settings::Settings;

pub mod check;
mod document;
mod index;
mod pages;
pub mod state;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill export state                     one YAML file a page, in data/export
  pagemill export state --format json --to /srv/copy --states Ohio
  pagemill export state --check             does it say what the database says?
  pagemill export pages --to pages.csv      one row a page
  pagemill export pages --stage dead --format keys --to dead.txt

Exit codes: 0 done; 1 failed, or --check found differences; 2 usage; 78
configuration.")]
pub struct ExportArgs {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Write one readable file a page, and an index of them; only what changed is written again
    #[command(after_help = "\
Examples:
  pagemill export state
  pagemill export state --format json --to /srv/copy --states Ohio
  pagemill export state --check")]
    State(StateArgs),
    /// Write one row a page, to a file or to standard output
    #[command(after_help = "\
Examples:
  pagemill export pages --to pages.csv
  pagemill export pages --stage ready --format jsonl
  pagemill export pages --stage dead --format keys --to dead.txt")]
    Pages(PagesArgs),
}

/// The form of a page's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateFormat {
    Yaml,
    Json,
}

impl StateFormat {
    /// The word, and the ending of file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Yaml, Self::Json]
            .into_iter()
            .find(|format| format.as_str() == word)
    }
}

#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// What the files are [default: what the export is already, or yaml]
    #[arg(long)]
    pub format: Option<StateFormat>,
    /// Where to [default: the folder export in paths.work_dir]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Write nothing: name what differs between the export and the database
    #[arg(long)]
    pub check: bool,
    /// With --check: how many differences are named
    #[arg(long, default_value_t = 20, value_name = "N", requires = "check",
          value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub limit: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub select: SelectArgs,
}

/// The form of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PagesFormat {
    Csv,
    Jsonl,
    /// Record keys alone, as --keys-from takes them
    Keys,
}

#[derive(Debug, Clone, Args)]
pub struct PagesArgs {
    /// What the table is
    #[arg(long, default_value = "csv")]
    pub format: PagesFormat,
    /// Only pages of these stages; ready, blocked and waiting are those on the work list
    #[arg(long, num_args = 1.., value_name = "STAGE", value_parser = pages::choice)]
    pub stage: Vec<pages::Choice>,
    /// Where to [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// With CSV: put an apostrophe before cells that a spreadsheet would run as formulas
    #[arg(long)]
    pub for_spreadsheets: bool,
    #[command(flatten)]
    pub select: SelectArgs,
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &ExportArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.loaded() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    match &args.what {
        What::State(args) => state::run(&loaded.settings, args, out).await,
        What::Pages(args) => pages::run(&loaded.settings, args, out).await,
    }
}

/// Where the state is exported to unless it is said otherwise.
pub fn default_root(settings: &Settings) -> PathBuf {
    settings.paths.work_dir.join("export")
}
