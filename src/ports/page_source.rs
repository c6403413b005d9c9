//! The tree of labels, images and outputs, as something to read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::ids::{ImageStamp, RecordKey};
use crate::domain::image::{ImageFacts, ImageFault};
pub use crate::domain::selection::LevelFilter;
use crate::domain::time::Timestamp;

/// A failed read of our own files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct SourceError {
    pub path: String,
    pub message: String,
    /// True when there is no such file.
    pub missing: bool,
    /// True when the disk is at fault and not this file: full, read-only, failing, or not mounted.
    /// The same will work some day, and no page is to blame.
    pub disk: bool,
}

/// What one book's folders hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BookListing {
    /// The key prefix of the book's pages, encoded.
    pub book: String,
    /// The decoded levels above the page.
    pub levels: Vec<String>,
    /// Labels, by page number, then key.
    pub labels: Vec<ListedPage>,
    /// The encoded page levels that have an output file, sorted.
    pub outputs: Vec<String>,
    /// How the folders looked before they were listed. Absent where that could not tell a later change:
    /// they changed a moment ago, hold something odd, or hold a link.
    pub stamp: Option<BookStamp>,
}

/// Which folder it is, and when its entries last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderStamp {
    pub device: u64,
    pub inode: u64,
    /// The instant of the last change, in seconds and nanoseconds of the file system's clock.
    pub changed: (i64, i64),
}

/// How a book's folders looked: a book whose stamp is the same has the same labels and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BookStamp {
    pub labels: FolderStamp,
    /// Absent where there is no output folder.
    pub outputs: Option<FolderStamp>,
}

/// The stamps of books, by their keys.
pub type BookStamps = HashMap<String, BookStamp>;

/// A label of a book.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedPage {
    pub number: u32,
    pub key: RecordKey,
}

/// Something in the tree that is not a page, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Oddity {
    /// The path below the label folder, for people; not-UTF-8 bytes replaced.
    pub path: String,
    pub kind: OddityKind,
    pub detail: String,
}

crate::domain::failure::words! {
    /// Why something in the label tree is not a page.
    OddityKind {
        /// Deeper or less deep than the layout.
        WrongDepth => "wrong depth",
        /// The stem is not a whole number.
        NotANumber => "page is not a number",
        /// Another file of the same book has the same page number.
        SameNumber => "page number stands twice",
        /// A name that is not UTF-8 or too long.
        BadName => "name cannot be used",
        /// A file that is not a label.
        NotALabel => "not a label file",
        /// A symbolic link that leads back to a folder above it.
        LinkLoop => "symlink loop",
        /// A folder that could not be listed.
        Unreadable => "unreadable",
        /// A folder that the disk does not give now; it may some other time.
        DiskFault => "disk fault",
        /// The folder of a book's outputs cannot be read, or a link leads out of the output folder.
        /// The book is left alone: what it would cost could not be written.
        OutputFolder => "output folder cannot be used",
        /// An output without a label; left as it is.
        OutputWithoutLabel => "output without a label",
    }
}

/// What the walk found next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Book(BookListing),
    Oddity(Oddity),
    /// The key of a book that looks as it was said to look before; it was not listed.
    Unchanged(String),
}

/// Which part of the tree a run works on: per layout level, no filter or one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    pub levels: Vec<Option<LevelFilter>>,
}

/// A walk under way: chunks of books and oddities, in key order of books.
#[async_trait(?Send)]
pub trait Walk {
    /// The next chunk, bounded in pages; `None` when the walk is over.
    async fn next(&mut self) -> Option<Vec<Found>>;
}

/// The whole of a file, as it was checked.
pub type Content = Arc<Vec<u8>>;

/// Reads labels, images and outputs.
#[async_trait(?Send)]
pub trait PageSource {
    /// Starts to walk the label tree (and, folder by folder, the output tree beside it).
    /// Lists folders; never looks at files one by one. Fails only when the label folder itself
    /// cannot be listed, or is empty, as it is when its file system is not mounted.
    async fn walk(&self, scope: &Scope) -> Result<Box<dyn Walk>, SourceError>;

    /// The same, but books that still look as these stamps say are only named. Where stamps cannot be
    /// told, every book is listed.
    async fn walk_changed(
        &self,
        scope: &Scope,
        _stamps: Arc<BookStamps>,
    ) -> Result<Box<dyn Walk>, SourceError> {
        self.walk(scope).await
    }

    /// When labels arrived: the instants of their last change, in the order of the arguments. Looks at
    /// files one by one, which only a run with a window asks for.
    async fn arrivals(&self, keys: Vec<RecordKey>) -> Vec<Result<Timestamp, SourceError>>;

    /// The text of a label.
    async fn label(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError>;

    /// The texts of labels, in the order of the arguments.
    async fn labels(&self, keys: &[&RecordKey]) -> Vec<Result<Vec<u8>, SourceError>> {
        let mut labels = Vec::with_capacity(keys.len());
        for key in keys {
            labels.push(self.label(key).await);
        }
        labels
    }

    /// The text of an output.
    async fn output(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError>;

    /// Whether the label folder is there, though it holds nothing: nobody has put a label into it yet,
    /// or its file system is not mounted.
    async fn label_folder_is_empty(&self) -> bool {
        false
    }

    /// Whether the output folder is there and holds something; else why not. An empty folder is what
    /// is left where a file system was mounted.
    async fn output_folder(&self) -> Result<(), SourceError> {
        Ok(())
    }

    /// Finds and checks a page's image: type from its bytes, header, end, size, hash.
    async fn image(&self, key: &RecordKey) -> Result<(PathBuf, ImageFacts), ImageFault>;

    /// Whether nothing happened to these images since their stamps were made, in the order of the arguments:
    /// they need not be read to know that they are the same. `false` says nothing.
    async fn untouched(&self, images: Vec<(RecordKey, ImageStamp)>) -> Vec<bool> {
        vec![false; images.len()]
    }

    /// The same as [`PageSource::image`], with the bytes that were checked, unless there are too many of them to be held.
    async fn image_to_send(
        &self,
        key: &RecordKey,
    ) -> Result<(PathBuf, ImageFacts, Option<Content>), ImageFault> {
        let (path, facts) = self.image(key).await?;
        Ok((path, facts, None))
    }
}
