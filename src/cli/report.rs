//! `pagemill report`: what was done and what it cost, of a day, a week, a batch, a run, or in all.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use sea_orm::DatabaseConnection;

use super::{Common, exit};
use crate::actors::state::messages::StateResult;
use crate::actors::state::{figures, read};
use crate::adapters::system_clock;
use crate::domain::figures::Subject;
use crate::domain::ids::{BatchId, RunId};
use crate::domain::period::{Day, Period, PeriodKind, Stretch, Zone};
use crate::domain::time::Timestamp;
use crate::pipeline::period_report::{Asked, Shape, gather, of_period};
use crate::report::facts::document;
use crate::report::{Format, render};
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill report                             everything so far, in Markdown
  pagemill report --period day                today so far
  pagemill report --period day --date 2025-01-23 --zone Europe/Berlin
  pagemill report --period week --format html --out week.html
  pagemill report --batch 01a2 --format json  the beginning of an id is enough
  pagemill report --run 01a2 --format csv

All figures of a batch are booked to the time of its submission, those of late
answers too: days add up to the whole. A day is from midnight to midnight in
its zone, a week from Monday to Monday.

Exit codes: 0 written; 1 no such batch or run, or no database; 2 wrong use.")]
pub struct ReportArgs {
    /// Markdown, one self-contained HTML page, JSON (version 1), or CSV (one table)
    #[arg(long, value_enum, default_value_t = FormatArg::Md)]
    pub format: FormatArg,
    /// A day or a week: that of --date, or the present one
    #[arg(long, value_enum, group = "subject")]
    pub period: Option<PeriodArg>,
    /// The day, or any day of the week
    #[arg(long, value_name = "YYYY-MM-DD", requires = "period", value_parser = Day::parse)]
    pub date: Option<Day>,
    /// The time zone of days, hours and times [default: report.zone]
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse)]
    pub zone: Option<Zone>,
    /// One batch, by its id or the beginning of it
    #[arg(long, value_name = "ID", group = "subject")]
    pub batch: Option<String>,
    /// One run, by its id or the beginning of it
    #[arg(long, value_name = "ID", group = "subject")]
    pub run: Option<String>,
    /// How many failed pages are named
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub limit: u32,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    Md,
    Html,
    Json,
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PeriodArg {
    Day,
    Week,
}

/// The most ids that are named when several begin alike.
const ALIKE_SHOWN: usize = 5;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &ReportArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.loaded() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let settings = &loaded.settings;
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let asked = match asked(&connection, args, settings, system_clock::now()).await? {
        Ok(asked) => asked,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::FAILED);
        }
    };
    let facts = gather(&connection, asked, args.limit.into()).await?;
    connection.close().await?;
    let format = match args.format {
        FormatArg::Md => Format::Markdown,
        FormatArg::Html => Format::Html,
        FormatArg::Json => Format::Json,
        FormatArg::Csv => Format::Csv,
    };
    let text = render(&document(&facts), format);
    match &args.out {
        Some(path) if path != Path::new("-") => {
            write_whole(path, &text)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            eprintln!("wrote {}", path.display());
        }
        _ => out.write_all(text.as_bytes())?,
    }
    Ok(exit::DONE)
}

/// Words for why a report cannot be made.
type Fault = String;

async fn asked(
    connection: &DatabaseConnection,
    args: &ReportArgs,
    settings: &Settings,
    at: Timestamp,
) -> StateResult<Result<Asked, Fault>> {
    let shape = Shape::of(settings);
    let zone = args.zone.clone().unwrap_or(settings.report.zone.clone());
    if let Some(kind) = args.period {
        let kind = match kind {
            PeriodArg::Day => PeriodKind::Day,
            PeriodArg::Week => PeriodKind::Week,
        };
        let day = args.date.unwrap_or(zone.day_of(at));
        return Ok(Ok(of_period(&Period::of(kind, day, zone), shape, at)));
    }
    let (subject, title, about) = if let Some(prefix) = &args.batch {
        let alike = figures::batches_like(connection, prefix, 1 + ALIKE_SHOWN as u64).await?;
        let batch = match only("batch", prefix, alike) {
            Ok(batch) => BatchId::from(batch),
            Err(fault) => return Ok(Err(fault)),
        };
        let about = figures::batch_story(connection, &batch).await?;
        (
            Subject::Batch(batch.clone()),
            format!("Batch {batch}"),
            about,
        )
    } else if let Some(prefix) = &args.run {
        let alike = figures::runs_like(connection, prefix, 1 + ALIKE_SHOWN as u64).await?;
        let run = match only("run", prefix, alike) {
            Ok(run) => RunId::from(run),
            Err(fault) => return Ok(Err(fault)),
        };
        let about = figures::run_story(connection, &run).await?;
        (Subject::Run(run.clone()), format!("Run {run}"), about)
    } else {
        let everything = Subject::Time(Stretch::everything());
        (everything, "Everything so far".to_owned(), Vec::new())
    };
    Ok(Ok(Asked {
        subject,
        title,
        about,
        zone,
        shape,
        at,
    }))
}

/// The only one of those that begin so.
fn only(what: &str, prefix: &str, mut alike: Vec<String>) -> Result<String, Fault> {
    if let Some(whole) = alike.iter().position(|id| id == prefix) {
        return Ok(alike.swap_remove(whole));
    }
    match alike.len() {
        0 => Err(format!(
            "there is no {what} '{prefix}'; give its id, or the beginning of it, as in the table {}",
            if what == "run" { "runs" } else { "submissions" }
        )),
        1 => Ok(alike.swap_remove(0)),
        found => {
            alike.truncate(ALIKE_SHOWN);
            let more = if found > ALIKE_SHOWN { ", ..." } else { "" };
            Err(format!(
                "'{prefix}' may be several {what} ids; write more of it: {}{more}",
                alike.join(", ")
            ))
        }
    }
}

/// Writes a file so that whoever reads it sees the old one or the new one, never a half.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(std::io::Error::other("it is a folder; name a file in it"));
    }
    let mut file = tempfile::Builder::new()
        .prefix(".report-")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    readable_by_others(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A temporary file is for its owner alone; a report is not.
fn readable_by_others(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::only;

    #[test]
    fn the_beginning_of_an_id_is_enough_when_there_is_one_such_id() {
        let check = |prefix, alike: &[&str], expected: Result<&str, &str>| {
            let alike = alike.iter().map(|id| (*id).to_owned()).collect();
            let found = only("batch", prefix, alike);
            let found = found.as_ref().map(String::as_str).map_err(String::as_str);
            assert_eq!(found, expected);
        };
        check("a", &["ab"], Ok("ab"));
        check("a", &["a", "ab"], Ok("a"));
        check(
            "a",
            &["ab", "ac"],
            Err("'a' may be several batch ids; write more of it: ab, ac"),
        );
        check(
            "a",
            &[],
            Err(
                "there is no batch 'a'; give its id, or the beginning of it, as in the table submissions",
            ),
        );
    }
}
