//! An export held against the database it was made from, and against its own index.

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;

use crate::adapters::filesystem::export::{content_of, uncompressed};
use sea_orm::ConnectionTrait;

use super::StateFormat;
use super::document::Maker;
use super::index::{self, Entry, Reader};
use super::state::admits;
use crate::actors::state::page_walk::{self as desk, PageDetails, PageFacts, PageWalk};
use crate::adapters::system_clock;
use crate::domain::selection::Selection;
use crate::settings::Settings;

/// In which way an export differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file is not what was exported, or the index is not what was written.
    Damaged,
    /// The database has gone on since.
    Behind,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Behind => "behind",
        }
    }
}

/// One thing in which an export differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub kind: Kind,
    /// A page, or a file below the root.
    pub thing: String,
    pub detail: String,
}

/// What is being compared.
struct Comparison<'a> {
    root: &'a Path,
    maker: Maker<'a>,
    selection: &'a Selection,
    /// Paths that the index names, by their hash.
    named: HashSet<u64>,
    tell: &'a mut dyn FnMut(Difference),
}

/// Compares an export with the database, and tells each difference; gives how many files the index
/// names, or `None` where there is no export.
pub async fn check(
    settings: &Settings,
    conn: &impl ConnectionTrait,
    root: &Path,
    selection: &Selection,
    tell: &mut dyn FnMut(Difference),
) -> anyhow::Result<Option<u64>> {
    let mut reader = match Reader::open(root) {
        Ok(None) => return Ok(None),
        Ok(Some(reader)) => reader,
        Err(fault) => {
            tell(damaged(index::NAME, fault.to_string()));
            return Ok(Some(0));
        }
    };
    let complete = reader.head.complete;
    let mut comparison = Comparison {
        root,
        maker: Maker {
            paths: &settings.paths,
            recipes: desk::recipes(conn).await?,
            format: reader.head.format,
        },
        selection,
        named: HashSet::new(),
        tell,
    };
    let compared = comparison.compare(conn, &mut reader, complete).await;
    match compared {
        Ok(()) => {}
        Err(error) => match error.downcast::<index::IndexFault>() {
            // What stands behind the fault in the index cannot be compared.
            Ok(fault) => {
                (comparison.tell)(damaged(index::NAME, fault.to_string()));
                return Ok(Some(comparison.named.len() as u64));
            }
            Err(error) => return Err(error),
        },
    }
    if !reader.adds_up() {
        let detail = "its counts or its checksum are not those of its pages".to_owned();
        (comparison.tell)(damaged(index::NAME, detail));
    }
    let folder = root.join(index::FOLDER);
    comparison.unlisted(&folder)?;
    Ok(Some(comparison.named.len() as u64))
}

fn damaged(thing: &str, detail: String) -> Difference {
    Difference {
        kind: Kind::Damaged,
        thing: thing.to_owned(),
        detail,
    }
}

fn behind(key: &str, detail: &str) -> Difference {
    Difference {
        kind: Kind::Behind,
        thing: key.to_owned(),
        detail: detail.to_owned(),
    }
}

impl Comparison<'_> {
    /// Goes through index and database side by side: both are in the order of the keys.
    async fn compare(
        &mut self,
        conn: &impl ConnectionTrait,
        reader: &mut Reader,
        complete: bool,
    ) -> anyhow::Result<()> {
        let mut walk = PageWalk::new(self.selection, &[], system_clock::now());
        loop {
            let pages = walk.next(conn).await?;
            if pages.is_empty() {
                break;
            }
            let details = desk::details(conn, &pages).await?;
            for page in &pages {
                self.only_in_index(reader, Some(&page.record_key))?;
                let is_next = reader
                    .peek()
                    .is_some_and(|entry| entry.key == page.record_key);
                if let Some(entry) = if is_next { reader.take()? } else { None } {
                    self.name(&entry);
                    self.both(&entry, page, &details)?;
                } else if complete || !self.selection.is_all() {
                    (self.tell)(behind(&page.record_key, "the page is not in the export"));
                }
            }
        }
        self.only_in_index(reader, None)
    }

    fn only_in_index(&mut self, reader: &mut Reader, upto: Option<&str>) -> anyhow::Result<()> {
        loop {
            let is_before = |entry: &Entry| upto.is_none_or(|upto| entry.key.as_str() < upto);
            if !reader.peek().is_some_and(is_before) {
                return Ok(());
            }
            let Some(entry) = reader.take()? else {
                return Ok(());
            };
            self.name(&entry);
            if admits(self.selection, &self.maker.paths.layout, &entry.key) {
                let detail = "the database does not know the page any more";
                (self.tell)(behind(&entry.key, detail));
            }
        }
    }

    fn name(&mut self, entry: &Entry) {
        self.named.insert(hash_of(Path::new(&entry.path)));
    }

    fn both(
        &mut self,
        entry: &Entry,
        page: &PageFacts,
        details: &PageDetails,
    ) -> anyhow::Result<()> {
        // Pages that were exported at different times may be of different formats.
        let ending = Path::new(&entry.path).extension();
        let format = ending.and_then(|end| StateFormat::parse(end.to_str()?));
        self.maker.format = format.unwrap_or(self.maker.format);
        let document = self.maker.document(page, details)?;
        if let Some(detail) = self.file_fault(entry) {
            (self.tell)(damaged(&entry.path, detail));
        }
        if entry.stage != page.stage {
            let detail = format!("exported as {}, it is {} now", entry.stage, page.stage);
            (self.tell)(behind(&entry.key, &detail));
        } else if entry.sha256 != document.sha256 || entry.path != document.path {
            let detail = "the page has changed since it was exported";
            (self.tell)(behind(&entry.key, detail));
        }
        Ok(())
    }

    /// What is wrong with a file, as its index has it.
    fn file_fault(&self, entry: &Entry) -> Option<String> {
        let Some(place) = entry.place(self.root) else {
            return Some("the index names a path that no export has".to_owned());
        };
        match content_of(&place) {
            Ok(None) => Some("the file is not there".to_owned()),
            Err(error) => Some(format!("the file cannot be read: {error}")),
            Ok(Some(content)) if content.sha256.as_str() != entry.sha256 => {
                Some("the file is not what was exported".to_owned())
            }
            Ok(Some(_as_exported)) => None,
        }
    }

    /// Tells the files that the index does not name.
    fn unlisted(&mut self, folder: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.unlisted(&path)?;
                continue;
            }
            let plain = uncompressed(&path);
            let below = plain.strip_prefix(self.root).unwrap_or(&plain);
            if !self.named.contains(&hash_of(below)) {
                let thing = below.to_string_lossy();
                let detail = "the index does not name this file".to_owned();
                (self.tell)(damaged(&thing, detail));
            }
        }
        Ok(())
    }
}

fn hash_of(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}
