//! A tree of readable files, one a page, with an index; brought up to date by each export.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use super::check::{self, Difference};
use super::document::{Document, Maker};
use super::index::{self, Entry, Head, Reader, Sums};
use super::{StateArgs, StateFormat, default_root};
use crate::actors::state::page_walk::{self as desk, PageWalk};
use crate::actors::state::{audit, read};
use crate::adapters::filesystem::export::{
    NewFile, holds_bytes, make_root, remove_from_tree, write_tree,
};
use crate::adapters::system_clock;
use crate::cli::exit;
use crate::cli::target::refuse_kept;
use crate::domain::ids::RecordKey;
use crate::domain::layout::Layout;
use crate::domain::page::PageStage;
use crate::domain::selection::Selection;
use crate::report::words;
use crate::settings::Settings;

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;
/// Files that are removed together.
const REMOVED_TOGETHER: usize = 1_000;
/// The summary below the root, as the reports of the export.
const SUMMARY: &str = "reports/summary.json";

/// A folder that an export must not be written to.
#[derive(Debug, thiserror::Error)]
pub enum RootFault {
    #[error(
        "{folder} has {found} in it, and no {} of an export: name an empty folder, or a new one",
        index::NAME
    )]
    Foreign { folder: String, found: String },
    #[error("{0}: delete it, and every file is written again")]
    Index(#[from] index::IndexFault),
    #[error("there is no export in {0}: make one with pagemill export state")]
    Nothing(String),
}

/// What an export did.
#[derive(Debug, Default)]
struct Done {
    written: u64,
    unchanged: u64,
    removed: u64,
    /// Entries of pages that were not chosen, and stay as they are.
    kept: u64,
}

/// Runs the command; gives the exit code.
pub async fn run(
    settings: &Settings,
    args: &StateArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let selection = match args.select.selection(&settings.paths.layout) {
        Ok(selection) => selection,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let root = args.to.clone().unwrap_or_else(|| default_root(settings));
    if let Err(fault) = refuse_kept(settings, &root) {
        eprintln!("{fault}");
        return Ok(exit::USAGE);
    }
    if args.check {
        return check(settings, args, &root, &selection, out).await;
    }
    let job = Job {
        settings,
        root: &root,
        selection: &selection,
        head: head(args, &root, &selection)?,
    };
    make_root(&root)?;
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let snapshot = audit::snapshot(&connection).await?;
    let (done, sums) = job.run(&snapshot).await?;
    audit::end_snapshot(snapshot).await?;
    connection.close().await?;
    let summary = job.summary(&done, &sums);
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
    } else {
        let Done {
            written,
            unchanged,
            removed,
            kept,
        } = done;
        writeln!(
            out,
            "{} pages in {}",
            words::count(sums.pages),
            root.display()
        )?;
        for (count, what) in [
            (written, "written"),
            (unchanged, "unchanged"),
            (
                removed,
                "removed: the database does not know their pages any more",
            ),
            (kept, "left as they are: their pages were not chosen"),
        ] {
            if count > 0 {
                writeln!(out, "  {:>9} {what}", words::count(count))?;
            }
        }
    }
    Ok(exit::DONE)
}

/// What the index will say, from what it says and what is asked for.
fn head(args: &StateArgs, root: &Path, selection: &Selection) -> Result<Head, RootFault> {
    refuse_foreign(root)?;
    let before = Reader::open(root)?.map(|reader| reader.head);
    let format = args.format.or(before.as_ref().map(|head| head.format));
    Ok(Head {
        format: format.unwrap_or(StateFormat::Yaml),
        complete: selection.is_all() || before.is_some_and(|head| head.complete),
    })
}

/// An export is written into a folder of its own: a new or empty one, or one that has an index.
fn refuse_foreign(root: &Path) -> Result<(), RootFault> {
    let Ok(entries) = fs::read_dir(root) else {
        return Ok(());
    };
    let names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    // The first export may have been cut off before it had an index.
    let is_ours = |name: &String| {
        let own = [index::NAME, index::FOLDER, "reports"];
        own.contains(&name.as_str()) || name.starts_with(&format!(".{}.", index::NAME))
    };
    match names.iter().find(|name| !is_ours(name)) {
        Some(found) if !names.iter().any(|name| name == index::NAME) => Err(RootFault::Foreign {
            folder: root.display().to_string(),
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}

/// One export under way.
struct Job<'a> {
    settings: &'a Settings,
    root: &'a Path,
    selection: &'a Selection,
    head: Head,
}

/// Where the old index has come to, and what is to be removed.
struct Old {
    reader: Option<Reader>,
    removals: Vec<PathBuf>,
}

impl Job<'_> {
    async fn run(&self, conn: &impl ConnectionTrait) -> anyhow::Result<(Done, Sums)> {
        let maker = Maker {
            paths: &self.settings.paths,
            recipes: desk::recipes(conn).await?,
            format: self.head.format,
        };
        let mut old = Old {
            reader: Reader::open(self.root)?,
            removals: Vec::new(),
        };
        let at = system_clock::now();
        let file = NewFile::create(&self.root.join(index::NAME))?;
        let mut writer = index::Writer::new(file, &self.head, at)?;
        let mut done = Done::default();
        let mut walk = PageWalk::new(self.selection, &[], at);
        loop {
            let pages = walk.next(conn).await?;
            if pages.is_empty() {
                break;
            }
            let details = desk::details(conn, &pages).await?;
            let mut files = Vec::new();
            for page in &pages {
                self.pass_over(&mut old, Some(&page.record_key), &mut writer, &mut done)?;
                let document = maker.document(page, &details)?;
                let before = old.take(&page.record_key)?;
                let entry = Entry {
                    key: page.record_key.clone(),
                    path: document.path.clone(),
                    stage: page.stage.clone(),
                    sha256: document.sha256.clone(),
                };
                if before.as_ref() == Some(&entry) && self.is_there(&document) {
                    done.unchanged += 1;
                } else {
                    done.written += 1;
                    files.push((self.root.join(&document.path), document.text));
                }
                // Another format has another ending.
                let moved = before.filter(|before| before.path != entry.path);
                old.removals
                    .extend(moved.and_then(|before| before.place(self.root)));
                writer.add(&entry)?;
            }
            write_tree(self.root, &files, self.settings.results.writers)?;
            self.remove(&mut old, REMOVED_TOGETHER)?;
        }
        self.pass_over(&mut old, None, &mut writer, &mut done)?;
        // Whatever goes, goes before the index that forgets it.
        self.remove(&mut old, 1)?;
        let (file, sums) = writer.finish()?;
        let summary = serde_json::to_vec_pretty(&self.summary(&done, &sums))?;
        write_tree(self.root, &[(self.root.join(SUMMARY), summary)], 1)?;
        file.commit()?;
        Ok((done, sums))
    }

    fn is_there(&self, document: &Document) -> bool {
        let place = self.root.join(&document.path);
        holds_bytes(&place, document.text.len() as u64)
    }

    /// Goes through the old index up to a key: what was not chosen stays, what the database no longer
    /// knows goes.
    fn pass_over<W: Write>(
        &self,
        old: &mut Old,
        upto: Option<&str>,
        writer: &mut index::Writer<W>,
        done: &mut Done,
    ) -> anyhow::Result<()> {
        while let Some(entry) = old.take_before(upto)? {
            if admits(self.selection, &self.settings.paths.layout, &entry.key) {
                old.removals.extend(entry.place(self.root));
                done.removed += 1;
            } else {
                writer.add(&entry)?;
                done.kept += 1;
            }
        }
        Ok(())
    }

    fn remove(&self, old: &mut Old, at_least: usize) -> anyhow::Result<()> {
        if old.removals.len() >= at_least {
            remove_from_tree(self.root, &old.removals)?;
            old.removals.clear();
        }
        Ok(())
    }

    fn summary(&self, done: &Done, sums: &Sums) -> Value {
        let stages = sums.stages();
        let completed = stages[PageStage::Completed.as_str()].as_u64().unwrap_or(0);
        let share = if sums.pages == 0 {
            0.0
        } else {
            completed as f64 * 100.0 / sums.pages as f64
        };
        json!({
            "version": JSON_VERSION,
            "folder": self.root.display().to_string(),
            "format": self.head.format.as_str(),
            "complete": self.head.complete,
            "pages": sums.pages,
            "written": done.written,
            "unchanged": done.unchanged,
            "removed": done.removed,
            "kept": done.kept,
            "stages": stages,
            "completion_percentage": share,
        })
    }
}

impl Old {
    /// The next entry, if its key comes before this one.
    fn take_before(&mut self, upto: Option<&str>) -> Result<Option<Entry>, index::IndexFault> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let is_before = |entry: &Entry| upto.is_none_or(|upto| entry.key.as_str() < upto);
        if !reader.peek().is_some_and(is_before) {
            return Ok(None);
        }
        reader.take()
    }

    /// The entry of this key, if it is next.
    fn take(&mut self, key: &str) -> Result<Option<Entry>, index::IndexFault> {
        match &mut self.reader {
            Some(reader) if reader.peek().is_some_and(|entry| entry.key == key) => reader.take(),
            _ => Ok(None),
        }
    }
}

/// Whether a page is one of those that were chosen. A key of another layout is only among all.
pub fn admits(selection: &Selection, layout: &Layout, key: &str) -> bool {
    if selection.is_all() {
        return true;
    }
    let key = RecordKey::from(key);
    let Ok(levels) = layout.levels(&key) else {
        return false;
    };
    let named = selection.keys.is_empty() || selection.keys.contains(&key);
    named
        && selection.choices.iter().all(|choice| {
            let level = levels.get(choice.place);
            level.is_some_and(|level| choice.filter.admits(level))
        })
}

async fn check(
    settings: &Settings,
    args: &StateArgs,
    root: &Path,
    selection: &Selection,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let snapshot = audit::snapshot(&connection).await?;
    let mut count: u64 = 0;
    let mut named: Vec<Difference> = Vec::new();
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let files = check::check(settings, &snapshot, root, selection, &mut |difference| {
        count += 1;
        if named.len() < limit {
            named.push(difference);
        }
    })
    .await?;
    audit::end_snapshot(snapshot).await?;
    connection.close().await?;
    let Some(files) = files else {
        return Err(RootFault::Nothing(root.display().to_string()).into());
    };
    if args.json {
        let differences = named.iter().map(|difference| {
            json!({
                "kind": difference.kind.as_str(),
                "thing": difference.thing,
                "detail": difference.detail,
            })
        });
        let value = json!({
            "version": JSON_VERSION,
            "folder": root.display().to_string(),
            "files": files,
            "differences": count,
            "named": differences.collect::<Vec<Value>>(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
    } else {
        let (files, counted) = (words::count(files), words::count(count));
        writeln!(out, "{files} files compared, {counted} differences")?;
        for Difference {
            kind,
            thing,
            detail,
        } in &named
        {
            writeln!(out, "  {}: {thing}", kind.as_str())?;
            writeln!(out, "    {detail}")?;
        }
        crate::cli::screen::more(named.len() as u64, count, "--limit N", out)?;
        if count > 0 {
            writeln!(out, "to bring it up to date: pagemill export state")?;
        }
    }
    Ok(if count == 0 { exit::DONE } else { exit::FAILED })
}
