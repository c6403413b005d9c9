//! The walk through the label tree, on a thread of its own.
//!
//! Folders are listed and nothing else: the kind of an entry comes with its name, and only symbolic
//! links are looked at. Chunks go through a bounded channel, so a slow reader slows the walk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::durable::{blocking, fault, gone, is_disk_fault};
use super::folder_stamp;
use super::parallel::in_parallel;
use super::source::FilesystemOptions;
use super::walk_book;
use crate::domain::layout::Layout;
use crate::meter::carried;
use crate::ports::page_source::{
    BookStamps, Found, LevelFilter, Oddity, OddityKind, Scope, SourceError, Walk,
};

/// How many pages and oddities fill a chunk; a book is never split.
const CHUNK_ITEMS: usize = 5_000;
/// How many books are listed in one go, and on how many threads.
const BOOKS_TOGETHER: usize = 64;
const LISTED_TOGETHER: usize = 2;
/// How many chunks may wait.
const CHUNKS_WAITING: usize = 2;

struct Chunks(mpsc::Receiver<Vec<Found>>);

#[async_trait(?Send)]
impl Walk for Chunks {
    async fn next(&mut self) -> Option<Vec<Found>> {
        self.0.recv().await
    }
}

/// Starts a walk; fails when the label folder cannot be listed or is empty.
pub(super) async fn start(
    options: Arc<FilesystemOptions>,
    scope: Scope,
    stamps: Arc<BookStamps>,
    has_outputs: Arc<AtomicBool>,
) -> Result<Box<dyn Walk>, SourceError> {
    let root = options.label_dir.clone();
    let listed = root.clone();
    let real = blocking(&root, move || match gone(&listed) {
        Some(fault) => Err(fault),
        None => fs::canonicalize(&listed).map_err(|error| fault(&listed, &error)),
    })
    .await?;
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    tokio::task::spawn_blocking(carried(move || {
        let mut walker = Walker {
            options: &options,
            scope: &scope,
            stamps: &stamps,
            has_outputs: &has_outputs,
            sender,
            waiting: Vec::new(),
            chunk: Vec::new(),
            items: 0,
        };
        // The reader has gone: nobody is left to be told.
        let _ = walker
            .folder(&mut Vec::new(), &mut vec![real])
            .and_then(|()| walker.list_waiting())
            .and_then(|()| walker.send());
    }));
    Ok(Box::new(Chunks(receiver)))
}

/// The reader of the walk has gone.
struct Unwanted;

struct Walker<'a> {
    options: &'a FilesystemOptions,
    scope: &'a Scope,
    stamps: &'a BookStamps,
    has_outputs: &'a AtomicBool,
    sender: mpsc::Sender<Vec<Found>>,
    /// The levels of books that are to be listed together.
    waiting: Vec<Vec<String>>,
    chunk: Vec<Found>,
    items: usize,
}

/// An entry of a folder, its kind looked up through links.
pub(super) enum Entry {
    File {
        is_link: bool,
    },
    Folder {
        is_link: bool,
    },
    /// A link to nowhere, a pipe, a socket, a device.
    Other,
}

impl Walker<'_> {
    /// Walks the folder at `levels`; `real` holds the true paths from the root down to it.
    fn folder(
        &mut self,
        levels: &mut Vec<String>,
        real: &mut Vec<PathBuf>,
    ) -> Result<(), Unwanted> {
        if levels.len() == self.options.layout.book_depth() {
            return self.book(levels);
        }
        let path = path_of(&self.options.label_dir, levels);
        let entries = match entries(&path) {
            Ok(entries) => entries,
            Err(error) => {
                return self.odd(unreadable(&error), levels, None, &error.to_string());
            }
        };
        let mut folders = BTreeMap::new();
        for entry in entries {
            let name = entry.file_name();
            match kind(&entry) {
                Entry::Folder { is_link } => match self.folder_name(levels, &name) {
                    Ok(Some(order)) => {
                        folders.insert(order, (name.to_string_lossy().into_owned(), is_link));
                    }
                    Ok(None) => {}
                    Err(detail) => {
                        self.odd(OddityKind::BadName, levels, Some(&name), &detail)?;
                    }
                },
                Entry::File { .. } => self.stray_file(levels, &name)?,
                Entry::Other => self.odd(
                    OddityKind::NotALabel,
                    levels,
                    Some(&name),
                    "neither a file nor a folder",
                )?,
            }
        }
        for (name, is_link) in folders.into_values() {
            self.descend(levels, real, name, is_link)?;
        }
        Ok(())
    }

    fn descend(
        &mut self,
        levels: &mut Vec<String>,
        real: &mut Vec<PathBuf>,
        name: String,
        is_link: bool,
    ) -> Result<(), Unwanted> {
        levels.push(name);
        let path = path_of(&self.options.label_dir, levels);
        let here = real.last().map_or(Path::new(""), PathBuf::as_path);
        let target = if is_link {
            fs::canonicalize(&path)
        } else {
            Ok(here.join(&levels[levels.len() - 1]))
        };
        let outcome = match target {
            Err(error) => self.odd(unreadable(&error), levels, None, &error.to_string()),
            Ok(target) if is_link && leads_back(&target, real) => {
                let detail = format!("it leads to {}", target.display());
                self.odd(OddityKind::LinkLoop, levels, None, &detail)
            }
            Ok(target) => {
                real.push(target);
                let walked = self.folder(levels, real);
                real.pop();
                walked
            }
        };
        levels.pop();
        outcome
    }

    /// What a folder sorts by, `None` when it is out of scope. Between siblings the separator that
    /// follows in a key counts too: `a b:` stands before `a:`.
    fn folder_name(&self, levels: &[String], name: &OsStr) -> Result<Option<String>, String> {
        let name = name.to_str().ok_or("not UTF-8")?;
        let mut order = self
            .options
            .layout
            .book_key(&[name])
            .map_err(|fault| fault.to_string())?;
        if levels.len() + 1 < self.options.layout.book_depth() {
            order.push(':');
        }
        let filter = self.filter(levels.len());
        Ok(filter
            .is_none_or(|filter| filter.admits(name))
            .then_some(order))
    }

    fn filter(&self, level: usize) -> Option<&LevelFilter> {
        self.scope.levels.get(level)?.as_ref()
    }

    fn stray_file(&mut self, levels: &[String], name: &OsStr) -> Result<(), Unwanted> {
        let Some(text) = name.to_str() else {
            return self.odd(OddityKind::BadName, levels, Some(name), "not UTF-8");
        };
        if super::durable::is_temporary(text) {
            return Ok(());
        }
        if text.ends_with(".json") {
            let detail = format!(
                "{} levels deep, the layout has {}",
                levels.len() + 1,
                self.options.layout.names().len()
            );
            return self.odd(OddityKind::WrongDepth, levels, Some(name), &detail);
        }
        self.odd(
            OddityKind::NotALabel,
            levels,
            Some(name),
            "not a .json file",
        )
    }

    fn book(&mut self, levels: &[String]) -> Result<(), Unwanted> {
        self.waiting.push(levels.to_vec());
        if self.waiting.len() >= BOOKS_TOGETHER {
            self.list_waiting()
        } else {
            Ok(())
        }
    }

    /// Lists the books that wait, side by side, and takes them in their order.
    fn list_waiting(&mut self) -> Result<(), Unwanted> {
        let books = std::mem::take(&mut self.waiting);
        let now = folder_stamp::seconds_now();
        let looks = in_parallel(LISTED_TOGETHER, books.len(), |at| {
            let levels = &books[at];
            Ok(walk_book::look(self.options, levels, self.stamps, now))
        });
        for (levels, look) in books.iter().zip(looks) {
            match look {
                Ok(look) => self.take(look)?,
                Err(error) => {
                    self.odd(OddityKind::Unreadable, levels, None, &error.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, look: walk_book::Look) -> Result<(), Unwanted> {
        match look {
            walk_book::Look::Unchanged(book) => {
                self.items += 1;
                self.chunk.push(Found::Unchanged(book));
            }
            walk_book::Look::Listed(listing, oddities) => {
                self.items += oddities.len();
                self.chunk.extend(oddities.into_iter().map(Found::Oddity));
                if let Some(listing) = listing {
                    if !listing.outputs.is_empty() {
                        self.has_outputs.store(true, Ordering::Relaxed);
                    }
                    self.items += listing.labels.len() + 1;
                    self.chunk.push(Found::Book(listing));
                }
            }
        }
        self.send_when_full()
    }

    fn odd(
        &mut self,
        kind: OddityKind,
        levels: &[String],
        name: Option<&OsStr>,
        detail: &str,
    ) -> Result<(), Unwanted> {
        self.items += 1;
        self.chunk
            .push(Found::Oddity(oddity(kind, levels, name, detail)));
        self.send_when_full()
    }

    fn send_when_full(&mut self) -> Result<(), Unwanted> {
        if self.items >= CHUNK_ITEMS {
            self.send()
        } else {
            Ok(())
        }
    }

    fn send(&mut self) -> Result<(), Unwanted> {
        self.items = 0;
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(std::mem::take(&mut self.chunk))
            .map_err(|_| Unwanted)
    }
}

/// Whether a folder is one that the walk is in, or stands above one.
fn leads_back(target: &Path, real: &[PathBuf]) -> bool {
    real.iter().any(|folder| folder.starts_with(target))
}

/// Lists a folder; an entry that cannot be read fails the whole, so that nothing goes missing.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(folder)?.collect()
}

/// What an entry is; only a link costs a look.
pub(super) fn kind(entry: &DirEntry) -> Entry {
    let Ok(kind) = entry.file_type() else {
        return Entry::Other;
    };
    if !kind.is_symlink() {
        return of_type(kind, false);
    }
    match fs::metadata(entry.path()) {
        Ok(found) => of_type(found.file_type(), true),
        // A link in a circle of links cannot even be looked at; the walk says where it leads.
        Err(_) => Entry::Other,
    }
}

fn of_type(kind: FileType, is_link: bool) -> Entry {
    if kind.is_dir() {
        Entry::Folder { is_link }
    } else if kind.is_file() {
        Entry::File { is_link }
    } else {
        Entry::Other
    }
}

pub(super) fn path_of(root: &Path, levels: &[String]) -> PathBuf {
    let mut path = root.to_path_buf();
    path.extend(levels);
    path
}

/// Something odd at `levels`, or in the folder there under `name`.
pub(super) fn oddity(
    kind: OddityKind,
    levels: &[String],
    name: Option<&OsStr>,
    detail: &str,
) -> Oddity {
    let mut path = levels.join("/");
    if let Some(name) = name {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&name.to_string_lossy());
    }
    Oddity {
        path,
        kind,
        detail: detail.to_owned(),
    }
}

/// What a folder is that could not be listed.
pub(super) fn unreadable(error: &io::Error) -> OddityKind {
    if is_disk_fault(error) {
        OddityKind::DiskFault
    } else {
        OddityKind::Unreadable
    }
}

/// The encoded page level of a stem, as it stands in a key.
pub(super) fn encoded(layout: &Layout, stem: &str) -> Option<String> {
    layout.book_key(&[stem]).ok()
}
