//! `pagemill backup`: a copy of the database, made beside whoever works on it, and read through
//! before it counts.

pub mod folder;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use self::folder::{Backup, Folder};
use super::screen::{Columns, Screen, Side};
use super::{Common, cwd, exit};
use crate::actors::state::copy::{self, Census};
use crate::actors::state::open;
use crate::adapters::filesystem::place;
use crate::adapters::system_clock;
use crate::decide::backups::{self, Keep};
use crate::domain::time::Timestamp;
use crate::report::words;
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill backup                         a copy in {work_dir}/backups, also beside a run
  pagemill backup --keep 30d              and take away those older than 30 days
  pagemill backup --keep 10 --dry-run     what would be made and taken away
  pagemill backup --to /mnt/nas/pagemill  on another disk
  pagemill backup --list                  the backups that are there
  pagemill backup --verify FILE           read one through

A backup is one file, and holds everything that the database knows: pages,
history, batches, failures, settings and prompts of each run. It is copied from
one moment, read through (every page of the file, every reference, every count
against the original), and only then gets its name. Only backups of this
database are ever taken away, and never the newest. Put one back with `pagemill
restore FILE`.

Exit codes: 0 done; 1 failed, or the file does not pass; 2 usage; 78
configuration.")]
pub struct BackupArgs {
    /// Folder of the backups [default: {work_dir}/backups]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Afterwards take away older ones: those beyond a span (30d, 12h, 8w) or a number (10)
    #[arg(long, value_name = "SPAN|NUMBER", value_parser = Keep::parse)]
    pub keep: Option<Keep>,
    /// Show the backups that are there and change nothing
    #[arg(long, conflicts_with_all = ["keep", "dry_run", "verify"])]
    pub list: bool,
    /// Read a backup through and change nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "keep", "dry_run"])]
    pub verify: Option<PathBuf>,
    /// Say what would be made and taken away, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;
/// What a copy may need beyond the size of the files that it is made from.
const SPARE_BYTES: u64 = 1 << 20;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &BackupArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    if let Some(file) = &args.verify {
        return verified(&cwd().join(file), args.json, out);
    }
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let folder = folder_of(&settings, args.to.as_deref());
    if args.list {
        return listed(&folder, args.json, out);
    }
    let database = &settings.state.sqlite_file;
    match open::is_ours(database).await {
        Ok(Some(())) => {}
        Ok(None) => {
            let shown = shown(database);
            eprintln!(
                "there is no database at {shown}, so nothing to back up; run the pipeline first: pagemill run"
            );
            return Ok(exit::FAILED);
        }
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::FAILED);
        }
    }
    if let Err(fault) = room_for(&settings, &folder) {
        eprintln!("{fault}");
        return Ok(exit::FAILED);
    }
    if args.dry_run {
        return rehearsed(database, &folder, args, out);
    }
    match made(database, &folder, args, out) {
        Ok(()) => Ok(exit::DONE),
        Err(error) => match error.downcast::<copy::CopyError>() {
            Ok(fault) => {
                eprintln!("no backup was made: {fault}");
                Ok(exit::FAILED)
            }
            Err(other) => Err(other),
        },
    }
}

/// Where backups of the database of these settings are.
pub fn folder_of(settings: &Settings, named: Option<&Path>) -> Folder {
    let path = match named {
        Some(named) => cwd().join(named),
        None => settings.paths.work_dir.join("backups"),
    };
    Folder::of(&settings.state.sqlite_file, path)
}

/// A path as an operator would type it here.
pub fn shown(path: &Path) -> String {
    let here = cwd();
    let below = path.strip_prefix(&here).ok();
    below.unwrap_or(path).display().to_string()
}

/// Whether the disk of the folder has room for one more, and why not.
pub fn room_for(settings: &Settings, folder: &Folder) -> Result<(), String> {
    let database = &settings.state.sqlite_file;
    let ahead = crate::actors::state::replace::with_suffix(database, "-wal");
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |facts| facts.len());
    let needed = bytes(database) + bytes(&ahead) + SPARE_BYTES;
    let left = settings.paths.free_bytes_min;
    let Ok(free) = place::free_bytes(&folder.path) else {
        // Where the system does not tell, the copy itself finds out.
        return Ok(());
    };
    if free >= needed.saturating_add(left) {
        return Ok(());
    }
    Err(format!(
        "a backup takes up to {} and {} stay free (paths.free_bytes_min), but {} has {}: make \
         room, or name a folder on another disk with --to",
        words::bytes(needed),
        words::bytes(left),
        shown(&folder.path),
        words::bytes(free),
    ))
}

/// Those that have had their time, once `fresh` is there too.
fn outlived(
    listed: &[Backup],
    fresh: Option<Timestamp>,
    keep: Option<Keep>,
    now: Timestamp,
) -> Vec<Backup> {
    let Some(keep) = keep else {
        return Vec::new();
    };
    let made = listed.iter().map(|backup| backup.made_at);
    let made: Vec<Timestamp> = made.chain(fresh).collect();
    let places = backups::outlived(&made, keep, now);
    let gone = places.into_iter().filter_map(|place| listed.get(place));
    gone.cloned().collect()
}

fn rehearsed(
    database: &Path,
    folder: &Folder,
    args: &BackupArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let now = system_clock::now();
    let path = folder.next(now);
    let gone = outlived(&folder.list()?, Some(now), args.keep, now);
    if args.json {
        let shown = json!({
            "version": JSON_VERSION,
            "dry_run": true,
            "backup": {"file": path.display().to_string()},
            "removed": names(&gone),
        });
        writeln!(out, "{shown:#}")?;
        return Ok(exit::DONE);
    }
    writeln!(out, "would back up {}", shown(database))?;
    writeln!(out, "  to {}", shown(&path))?;
    for backup in &gone {
        writeln!(out, "would take away {}", shown(&backup.path))?;
    }
    writeln!(out, "nothing was changed")?;
    Ok(exit::DONE)
}

fn made(
    database: &Path,
    folder: &Folder,
    args: &BackupArgs,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let now = system_clock::now();
    let path = folder.next(now);
    let census = folder.make(database, &path)?;
    let listed = folder.list()?;
    let gone = outlived(&listed, None, args.keep, now);
    for backup in &gone {
        std::fs::remove_file(&backup.path)?;
    }
    let stay: Vec<&Backup> = listed
        .iter()
        .filter(|backup| !gone.contains(backup))
        .collect();
    let bytes = std::fs::metadata(&path)?.len();
    if args.json {
        let shown = json!({
            "version": JSON_VERSION,
            "dry_run": false,
            "backup": as_json(&path, bytes, Some(now), &census),
            "removed": names(&gone),
            "kept": stay.len(),
        });
        writeln!(out, "{shown:#}")?;
        return Ok(());
    }
    writeln!(
        out,
        "backed up {} ({}: {}) in {}",
        shown(database),
        words::bytes(bytes),
        figures(&census),
        words::span(begun.elapsed())
    )?;
    writeln!(out, "  to {}", shown(&path))?;
    writeln!(
        out,
        "  read through: it is whole, and every count is that of the database"
    )?;
    for backup in &gone {
        writeln!(out, "took away {}", shown(&backup.path))?;
    }
    let held: u64 = stay.iter().map(|backup| backup.bytes).sum();
    let count = words::count(stay.len() as u64);
    let plural = if stay.len() == 1 { "" } else { "s" };
    let folder = shown(&folder.path);
    writeln!(
        out,
        "{folder} has {count} backup{plural}, {}",
        words::bytes(held)
    )?;
    Ok(())
}

/// What stands in a database, in a few words.
pub fn figures(census: &Census) -> String {
    let of = |table: &str| words::count(census.rows(table));
    format!(
        "{} pages, {} batches, {} events",
        of("pages"),
        of("submissions"),
        of("page_events")
    )
}

/// The same as JSON.
pub fn as_json(path: &Path, bytes: u64, made_at: Option<Timestamp>, census: &Census) -> Value {
    let map = |pairs: &[(String, u64)]| -> serde_json::Map<String, Value> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, count)| (name.clone(), json!(count)))
            .collect()
    };
    json!({
        "file": path.display().to_string(),
        "bytes": bytes,
        "made_at": made_at.map(|at| at.to_string()),
        "last_event_at": census.last_event_at.map(|at| at.to_string()),
        "tables": map(&census.tables),
        "pages_by_stage": map(&census.stages),
        "batches_by_state": map(&census.batches),
    })
}

fn names(backups: &[Backup]) -> Vec<String> {
    let paths = backups
        .iter()
        .map(|backup| backup.path.display().to_string());
    paths.collect()
}

fn listed(folder: &Folder, as_json: bool, out: &mut impl Write) -> anyhow::Result<u8> {
    let backups = folder.list()?;
    if as_json {
        let one = |backup: &Backup| {
            json!({
                "file": backup.path.display().to_string(),
                "made_at": backup.made_at.to_string(),
                "bytes": backup.bytes,
            })
        };
        let list: Vec<Value> = backups.iter().rev().map(one).collect();
        let shown = json!({"version": JSON_VERSION, "backups": list});
        writeln!(out, "{shown:#}")?;
        return Ok(exit::DONE);
    }
    print_list(folder, &backups, Screen::of_stdout(), out)?;
    Ok(exit::DONE)
}

fn print_list(
    folder: &Folder,
    backups: &[Backup],
    screen: Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    let place = shown(&folder.path);
    if backups.is_empty() {
        return writeln!(
            out,
            "there is no backup in {place}; pagemill backup makes one"
        );
    }
    let now = system_clock::now();
    writeln!(out, "{place}")?;
    let headings = [
        ("backup", Side::Left),
        ("size", Side::Right),
        ("made", Side::Left),
    ];
    let mut columns = Columns::new(screen, &headings);
    columns.keep_whole(0);
    for backup in backups.iter().rev() {
        let name = backup.path.file_name().unwrap_or_default();
        columns.row(&[
            name.to_string_lossy().into_owned(),
            words::bytes(backup.bytes),
            format!("{} ago", words::span(now.since(backup.made_at))),
        ]);
    }
    columns.print(out)
}

fn verified(file: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<u8> {
    let census = match copy::examine(file) {
        Ok(census) => census,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::FAILED);
        }
    };
    let bytes = std::fs::metadata(file)?.len();
    if json {
        let mut found = as_json(file, bytes, None, &census);
        found["version"] = json!(JSON_VERSION);
        writeln!(out, "{found:#}")?;
        return Ok(exit::DONE);
    }
    let now = system_clock::now();
    writeln!(out, "{} is whole ({})", shown(file), words::bytes(bytes))?;
    writeln!(out, "  {}", figures(&census))?;
    if let Some(last) = census.last_event_at {
        let screen = Screen::of_stdout();
        writeln!(
            out,
            "  the last change in it is from {}",
            screen.when(last, now)
        )?;
    }
    Ok(exit::DONE)
}
