//! `pagemill nuke`: forget everything, and begin with an empty database.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::backup::{folder_of, room_for, shown};
use super::order::{self, SignedArgs};
use super::screen::{self, Columns, Screen, Side};
use super::{Common, exit};
use crate::actors::state::clearing::{self, ClearError, Inventory, Trace};
use crate::actors::state::open::{self, OpenError, StateLock};
use crate::actors::state::read;
use crate::adapters::os_entropy::OsEntropy;
use crate::adapters::system_clock;
use crate::domain::ids::{BatchId, OrderId};
use crate::domain::order::Signature;
use crate::ports::entropy::Entropy;
use crate::report::words;
use crate::settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill nuke --dry-run                      what would be deleted; changes nothing
  pagemill nuke --confirm                      delete it, after a question and a backup
  pagemill nuke --confirm --recreate-tables    and make the tables anew
  pagemill nuke --confirm --abandon --yes      although batches are live; without asking

Deleted are all rows of the database, the request lines in {work_dir}/spool and
the manifests in {work_dir}/batches. Labels, images, outputs, raw results,
reports and backups stay; a page whose output is there counts as done in the
next run. A batch that is live goes on at the provider and is billed, and the
next run sends its pages again: collect it first (pagemill run), or cancel it.
To forget one batch, a page's failures or a page's result, this is the wrong
command.

Exit codes: 0 done; 1 batches are live, or it failed; 2 usage, or the answer
was no; 5 another process works on the database; 78 configuration.")]
pub struct NukeArgs {
    /// Say what would be deleted and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    pub confirm: bool,
    /// Drop the tables and make them anew, instead of emptying them
    #[arg(long)]
    pub recreate_tables: bool,
    /// Also when batches are live: they go on at the provider and are billed
    #[arg(long)]
    pub abandon: bool,
    /// Make no backup first
    #[arg(long)]
    pub no_backup: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub signed: SignedArgs,
}

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;
/// Live batches that are named, at most.
const NAMED_MAX: usize = 20;

/// Everything that would go, and what speaks against it.
struct Found {
    inventory: Inventory,
    /// Batches that only a manifest knows: the provider may be at work on them too.
    unknown: Vec<BatchId>,
    manifests: Vec<PathBuf>,
    spool: Vec<PathBuf>,
}

impl Found {
    fn live(&self) -> usize {
        self.inventory.live.len() + self.unknown.len()
    }

    fn is_nothing(&self) -> bool {
        // What an empty database has: the row of its failures, and who emptied it.
        let tables = self.inventory.tables.iter();
        let rows: u64 = tables
            .filter(|(name, _rows)| !["streaks", "orders"].contains(&name.as_str()))
            .map(|(_name, rows)| rows)
            .sum();
        rows == 0 && self.manifests.is_empty() && self.spool.is_empty()
    }
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &NukeArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let ended = if args.confirm {
        confirmed(&settings, args, out).await
    } else {
        rehearsed(&settings, args, out).await
    };
    ended.or_else(|error| match error.downcast::<OpenError>() {
        Err(other) => Err(other),
        Ok(fault) => {
            eprintln!("{fault}");
            Ok(match fault {
                OpenError::InUse { .. } => exit::IN_USE,
                _ => exit::FAILED,
            })
        }
    })
}

async fn rehearsed(
    settings: &Settings,
    args: &NukeArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let found = look(settings).await?;
    if args.json {
        print_json(&found, args, None, out)?;
    } else {
        print(&found, args, "would delete", out)?;
        writeln!(out, "nothing was changed")?;
    }
    if args.dry_run {
        return Ok(exit::DONE);
    }
    eprintln!("to do it: pagemill nuke --confirm");
    Ok(exit::USAGE)
}

async fn confirmed(
    settings: &Settings,
    args: &NukeArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let signature = match order::signature(&args.signed) {
        Ok(signature) => signature,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let lock = StateLock::take(&settings.state.sqlite_file)?;
    let found = look(settings).await?;
    if found.live() > 0 && !args.abandon {
        print_live(&found, &mut io::stderr())?;
        eprintln!(
            "nothing was deleted: collect them with pagemill run, or add --abandon, and the next \
             run pays for their pages again"
        );
        return Ok(exit::FAILED);
    }
    if found.is_nothing() && !args.recreate_tables {
        if args.json {
            print_json(&found, args, None, out)?;
        } else {
            print(&found, args, "to delete", out)?;
        }
        return Ok(exit::DONE);
    }
    if !args.yes {
        print(&found, args, "to delete", out)?;
        out.flush()?;
        if !agreed(args)? {
            eprintln!("nothing was deleted");
            return Ok(exit::USAGE);
        }
    }
    let backup = match backed_up(settings, args, &found) {
        Ok(backup) => backup,
        Err(fault) => {
            eprintln!(
                "nothing was deleted, for there is no backup: {fault}\n(--no-backup does without one)"
            );
            return Ok(exit::FAILED);
        }
    };
    if !found.inventory.tables.is_empty() {
        cleared(&lock, args.recreate_tables, signature).await?;
    }
    // Only now: a manifest that is left says more than a database that forgot its batch.
    for path in found.spool.iter().chain(&found.manifests) {
        fs::remove_file(path)?;
    }
    if args.json {
        print_json(&found, args, backup.as_deref(), out)?;
        return Ok(exit::DONE);
    }
    print(&found, args, "deleted", out)?;
    if let Some(backup) = &backup {
        writeln!(out, "to take it back: pagemill restore '{}'", shown(backup))?;
    }
    Ok(exit::DONE)
}

async fn cleared(lock: &StateLock, recreate: bool, signature: Signature) -> anyhow::Result<()> {
    let at = system_clock::now();
    let trace = Trace {
        id: OrderId::from(OsEntropy.unique_id(at)),
        signature,
        at,
    };
    let cleared = clearing::clear(lock, recreate, &trace).await;
    cleared.map(|_rows| ()).map_err(|error| match error {
        ClearError::Open(fault) => anyhow::Error::from(fault),
        ClearError::State(fault) => anyhow::Error::from(fault),
    })
}

/// Reads only; a database of an older shape is looked at as it is.
async fn look(settings: &Settings) -> anyhow::Result<Found> {
    let work = &settings.paths.work_dir;
    let manifests = files_of(&work.join("batches"), &[".json", ".tmp"])?;
    let spool = files_of(&work.join("spool"), &[".jsonl", ".jsonl.part"])?;
    let named: Vec<BatchId> = manifests.iter().filter_map(|path| batch_of(path)).collect();
    let database = &settings.state.sqlite_file;
    let inventory = match open::is_ours(database).await? {
        None => Inventory::default(),
        Some(()) => {
            let connection = read::open_as_it_is(database).await?;
            let inventory = clearing::inventory(&connection, &named).await?;
            connection.close().await?;
            inventory
        }
    };
    let known: BTreeSet<&BatchId> = inventory
        .closed
        .iter()
        .chain(inventory.live.iter().map(|live| &live.batch))
        .collect();
    let unknown = named.iter().filter(|batch| !known.contains(batch));
    Ok(Found {
        unknown: unknown.cloned().collect(),
        inventory,
        manifests,
        spool,
    })
}

/// The regular files of a folder whose names end so, sorted.
fn files_of(folder: &Path, ends: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_file() && ends.iter().any(|end| name.ends_with(end)) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The batch that a manifest is named after.
fn batch_of(manifest: &Path) -> Option<BatchId> {
    let name = manifest.file_name()?.to_str()?;
    let stem = name.strip_suffix(".json")?;
    (!stem.starts_with('.')).then(|| BatchId::from(stem))
}

fn backed_up(
    settings: &Settings,
    args: &NukeArgs,
    found: &Found,
) -> anyhow::Result<Option<PathBuf>> {
    if args.no_backup || found.inventory.tables.is_empty() {
        return Ok(None);
    }
    let folder = folder_of(settings, None);
    room_for(settings, &folder).map_err(anyhow::Error::msg)?;
    let path = folder.next(system_clock::now());
    folder.make(&settings.state.sqlite_file, &path)?;
    Ok(Some(path))
}

/// Asks on the terminal; without one the answer is no.
fn agreed(args: &NukeArgs) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        eprintln!("there is nobody to ask; add --yes");
        return Ok(false);
    }
    let backup = if args.no_backup {
        "WITHOUT a backup"
    } else {
        "after a backup"
    };
    screen::confirmed(&format!("delete all of this, {backup}?"))
}

fn print(found: &Found, args: &NukeArgs, did: &str, out: &mut impl Write) -> io::Result<()> {
    if found.is_nothing() && !args.recreate_tables {
        return writeln!(out, "there is nothing to delete");
    }
    let headings = [(did, Side::Left), ("rows", Side::Right)];
    let mut columns = Columns::new(Screen::of_stdout(), &headings);
    for (name, rows) in &found.inventory.tables {
        columns.row(&[name.clone(), words::count(*rows)]);
    }
    if !columns.is_empty() {
        columns.print(out)?;
    }
    for (files, what) in [
        (&found.manifests, "manifests of batches"),
        (&found.spool, "files of request lines"),
    ] {
        let count = words::count(files.len() as u64);
        let folder = files.first().and_then(|file| file.parent());
        let place = folder.map_or(String::new(), |folder| format!(" in {}", shown(folder)));
        writeln!(out, "{did}: {what}{place}: {count}")?;
    }
    if args.recreate_tables && !found.inventory.tables.is_empty() {
        writeln!(
            out,
            "{did}: the tables themselves; they are made anew, empty"
        )?;
    }
    print_live(found, out)?;
    if found.inventory.remote_files > 0 {
        writeln!(
            out,
            "{} files ({}) stay at the provider; they expire there within 48 hours",
            words::count(found.inventory.remote_files),
            words::bytes(found.inventory.remote_bytes)
        )?;
    }
    writeln!(
        out,
        "labels, images, outputs, raw results, reports and backups stay"
    )
}

fn print_live(found: &Found, out: &mut impl Write) -> io::Result<()> {
    if found.live() == 0 {
        return Ok(());
    }
    let count = words::count(found.live() as u64);
    let (noun, they) = if found.live() == 1 {
        ("batch is", "it goes on at the provider and is")
    } else {
        ("batches are", "they go on at the provider and are")
    };
    writeln!(out, "{count} {noun} live; {they} billed all the same:")?;
    let known = found.inventory.live.iter().map(|live| {
        let remote = live.remote.as_deref().unwrap_or("not sent yet");
        let pages = words::count(live.pages);
        format!("{} {}, {pages} pages, {remote}", live.batch, live.state)
    });
    let unknown = found.unknown.iter();
    let unknown = unknown.map(|batch| format!("{batch} known by its manifest alone"));
    for line in known.chain(unknown).take(NAMED_MAX) {
        writeln!(out, "  {line}")?;
    }
    let remedy = "pagemill status --json lists them";
    screen::more(NAMED_MAX as u64, found.live() as u64, remedy, out)
}

fn print_json(
    found: &Found,
    args: &NukeArgs,
    backup: Option<&Path>,
    out: &mut impl Write,
) -> io::Result<()> {
    let names = |paths: &[PathBuf]| -> Vec<String> {
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    };
    let tables: serde_json::Map<String, Value> = found
        .inventory
        .tables
        .iter()
        .map(|(name, rows)| (name.clone(), json!(rows)))
        .collect();
    let live = found.inventory.live.iter().map(|live| {
        json!({
            "batch_id": live.batch.as_str(),
            "state": live.state,
            "remote_name": live.remote,
            "pages": live.pages,
        })
    });
    let shown = json!({
        "version": JSON_VERSION,
        "dry_run": !args.confirm,
        "tables": tables,
        "recreate_tables": args.recreate_tables,
        "manifests": names(&found.manifests),
        "spool": names(&found.spool),
        "live": live.collect::<Vec<Value>>(),
        "unknown": found.unknown.iter().map(BatchId::as_str).collect::<Vec<_>>(),
        "remote_files": found.inventory.remote_files,
        "backup": backup.map(|path| path.display().to_string()),
    });
    writeln!(out, "{shown:#}")
}
