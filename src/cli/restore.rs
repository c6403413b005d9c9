//! `pagemill restore`: a backup in the place of the database, which is kept beside it.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::backup::folder::Bar;
use super::backup::{as_json, figures, shown};
use super::reconcile::{self, ReconcileArgs};
use super::screen::{self, Screen};
use super::{Common, cwd, exit};
use crate::actors::state::copy::{self, Census, CopyError};
use crate::actors::state::open::{OpenError, StateLock};
use crate::actors::state::replace;
use crate::adapters::system_clock;
use crate::decide::backups;
use crate::domain::time::Timestamp;
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill backup --list                              the backups that are there
  pagemill restore data/backups/gemini_batches-20261122T094711Z.db
  pagemill restore FILE --dry-run                     what would be replaced by what
  pagemill restore FILE --yes --reconcile             without asking, and bring it up to date

The backup is read through before anything is touched. The database that it
replaces is kept beside it as ...before-restore-TIME.db. What happened since
the backup is not lost: `pagemill reconcile --apply` takes in the batches that
were made since, results that are on the disk, and outputs that are there, so
that nothing is paid for twice. Until then `pagemill run` may refuse to start.

Exit codes: 0 done; 1 failed, or the backup does not pass; 2 usage, or the
answer was no; 5 another process works on the database; 78 configuration.")]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Say what would be replaced by what, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Afterwards bring the database up to date, as `pagemill reconcile --apply --yes` does
    #[arg(long, conflicts_with = "dry_run")]
    pub reconcile: bool,
    /// Print JSON (version 1) instead of text
    #[arg(long, conflicts_with = "reconcile")]
    pub json: bool,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;

/// The two databases.
struct Exchange {
    backup: Census,
    /// `None` when there is none; else what is in it, or why that cannot be told.
    present: Option<Result<Census, CopyError>>,
    /// Where the present one will be kept.
    kept: PathBuf,
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &RestoreArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let file = cwd().join(&args.file);
    let database = &settings.state.sqlite_file;
    if let Some(problem) = unusable(&file, database) {
        eprintln!("{} {problem}", args.file.display());
        return Ok(exit::USAGE);
    }
    let lock = match StateLock::take(database) {
        Ok(lock) => lock,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(match fault {
                OpenError::InUse { .. } => exit::IN_USE,
                _ => exit::FAILED,
            });
        }
    };
    let now = system_clock::now();
    let exchange = match look(&file, &lock, now) {
        Ok(exchange) => exchange,
        Err(fault) => {
            eprintln!("nothing was changed: {fault}");
            return Ok(exit::FAILED);
        }
    };
    if !args.json {
        print(&exchange, &file, &lock.real, now, out)?;
    }
    if args.dry_run {
        if args.json {
            print_json(&exchange, &file, &lock.real, true, out)?;
        } else {
            writeln!(out, "nothing was changed")?;
        }
        return Ok(exit::DONE);
    }
    if !args.yes && !agreed()? {
        eprintln!("nothing was changed");
        return Ok(exit::USAGE);
    }
    if let Err(fault) = placed(lock, &file, &exchange.kept) {
        eprintln!("nothing was replaced: {fault}");
        return Ok(exit::FAILED);
    }
    if args.json {
        print_json(&exchange, &file, database, false, out)?;
        return Ok(exit::DONE);
    }
    writeln!(out, "restored {}", shown(database))?;
    if args.reconcile {
        return reconciled(common, out).await;
    }
    writeln!(
        out,
        "next: pagemill reconcile --apply, to take in what happened since"
    )?;
    writeln!(out, "then: pagemill run")?;
    Ok(exit::DONE)
}

/// Replaces, and lets go of the lock.
fn placed(lock: StateLock, file: &Path, kept: &Path) -> Result<Census, CopyError> {
    let bar = Bar::new("restoring");
    let placed = replace::replace(&lock, file, kept, &mut |done, of| bar.at(done, of));
    bar.end();
    placed
}

async fn reconciled(common: &Common, out: &mut impl Write) -> anyhow::Result<u8> {
    writeln!(out)?;
    let args = ReconcileArgs {
        apply: true,
        yes: true,
        json: false,
    };
    reconcile::run(common, &args, out).await
}

/// What speaks against a file before it is opened.
fn unusable(file: &Path, database: &Path) -> Option<&'static str> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if !file.is_file() {
        Some("is no file: pagemill backup --list shows the backups")
    } else if real(file) == real(database) {
        Some("is the database itself")
    } else {
        None
    }
}

fn look(file: &Path, lock: &StateLock, now: Timestamp) -> Result<Exchange, CopyError> {
    let backup = copy::examine(file)?;
    let place = &lock.real;
    let present = place.exists().then(|| copy::examine(place));
    let stem = place.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("{stem}.before-restore-{}.db", backups::compact(now));
    Ok(Exchange {
        backup,
        present,
        kept: place.with_file_name(name),
    })
}

/// Asks on the terminal; without one the answer is no.
fn agreed() -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() {
        eprintln!("there is nobody to ask; add --yes");
        return Ok(false);
    }
    screen::confirmed("put the backup in the place of the database?")
}

fn age(census: &Census, now: Timestamp) -> String {
    match census.last_event_at {
        Some(last) => format!("last change {}", Screen::of_stdout().when(last, now)),
        None => "no page in it has ever changed".to_owned(),
    }
}

fn print(
    exchange: &Exchange,
    file: &Path,
    database: &Path,
    now: Timestamp,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let backup = &exchange.backup;
    writeln!(out, "backup    {}", shown(file))?;
    writeln!(out, "          {}", figures(backup))?;
    writeln!(out, "          {}", age(backup, now))?;
    writeln!(out, "replaces  {}", shown(database))?;
    match &exchange.present {
        None => writeln!(out, "          where there is no database")?,
        Some(present) => {
            match present {
                Ok(census) => {
                    writeln!(out, "          {}", figures(census))?;
                    writeln!(out, "          {}", age(census, now))?;
                }
                Err(fault) => writeln!(out, "          {fault}")?,
            }
            writeln!(out, "kept as   {}", shown(&exchange.kept))?;
        }
    }
    if let Some(Ok(present)) = &exchange.present
        && let (Some(then), Some(last)) = (backup.last_event_at, present.last_event_at)
        && last > then
    {
        let behind = words::span(last.since(then));
        writeln!(
            out,
            "          {behind} of history are only in the present one"
        )?;
    }
    Ok(())
}

fn print_json(
    exchange: &Exchange,
    file: &Path,
    database: &Path,
    dry_run: bool,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |facts| facts.len());
    let one = |path: &Path, census: &Census| as_json(path, size(path), None, census);
    let kept = exchange
        .present
        .as_ref()
        .map(|_present| exchange.kept.display().to_string());
    let replaced = match &exchange.present {
        None => serde_json::Value::Null,
        Some(Ok(census)) => one(database, census),
        Some(Err(fault)) => {
            json!({"file": database.display().to_string(), "fault": fault.to_string()})
        }
    };
    let shown = json!({
        "version": JSON_VERSION,
        "dry_run": dry_run,
        "backup": one(file, &exchange.backup),
        "replaced": replaced,
        "kept": kept,
        "next": "pagemill reconcile --apply",
    });
    writeln!(out, "{shown:#}")
}
