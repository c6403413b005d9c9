//! Labels, images and outputs in memory; spool and raw files in a temporary folder. Any of them can
//! be made to fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use pagemill::domain::ids::{BatchId, ImageStamp, RecordKey, Sha256Hex};
use pagemill::domain::image::{ImageFacts, ImageFault, ImageType};
use pagemill::domain::layout::{Layout, page_number};
use pagemill::domain::time::Timestamp;
use pagemill::ports::page_source::{
    BookListing, BookStamp, BookStamps, FolderStamp, Found, ListedPage, PageSource, Scope,
    SourceError, Walk,
};
use pagemill::ports::result_sink::{RawReader, RawText, ResultSink, Spool, Written};
use sha2::{Digest, Sha256};

/// The tree of a test.
pub struct MemoryTree {
    pub layout: Layout,
    pub folder: PathBuf,
    pub labels: RefCell<BTreeMap<RecordKey, Vec<u8>>>,
    /// When labels arrived; the others at the epoch.
    pub arrivals: RefCell<BTreeMap<RecordKey, Timestamp>>,
    pub images: RefCell<BTreeMap<RecordKey, Result<Vec<u8>, ImageFault>>>,
    pub outputs: RefCell<BTreeMap<RecordKey, Vec<u8>>>,
    pub reports: RefCell<BTreeMap<String, String>>,
    /// Writes of outputs that fail from here on.
    pub failing_writes: Cell<u32>,
    /// For each reading of raw results: the most lines that were handed out and not written yet.
    pub lines_ahead: Rc<RefCell<Vec<u64>>>,
    outputs_written: Rc<Cell<u64>>,
    /// How many manifests cannot be written.
    pub failing_manifests: Cell<u32>,
    /// Books that a walk listed, and did not only name.
    pub listed: RefCell<Vec<String>>,
    /// How images look from outside, where the disk tells.
    pub stamps: RefCell<BTreeMap<RecordKey, ImageStamp>>,
    /// Images that were read.
    pub images_read: RefCell<Vec<RecordKey>>,
    /// Outputs that were read.
    pub outputs_read: RefCell<Vec<RecordKey>>,
    pub disk: Disk,
}

/// How the disk below a tree fails. A number says how many calls fail from here on.
#[derive(Default)]
pub struct Disk {
    /// Questions for room.
    pub room: Cell<u32>,
    /// Lines files.
    pub spools: Cell<u32>,
    /// Outputs that are to become revisions.
    pub retires: Cell<u32>,
    /// Single files, by key.
    pub labels: RefCell<BTreeMap<RecordKey, u32>>,
    pub images: RefCell<BTreeMap<RecordKey, u32>>,
    pub outputs: RefCell<BTreeMap<RecordKey, u32>>,
    /// Whoever holds this one lets images wait.
    pub image_gate: tokio::sync::RwLock<()>,
    /// Whole folders that are not mounted.
    pub no_labels: Cell<bool>,
    pub no_images: Cell<bool>,
    pub no_outputs: Cell<bool>,
    /// How often the disk failed.
    pub failures: Cell<u32>,
    /// Batches whose spool files were kept at the start.
    pub kept: RefCell<Vec<Vec<BatchId>>>,
}

impl Disk {
    fn fault(&self, path: &str, message: &str) -> SourceError {
        self.failures.set(self.failures.get() + 1);
        SourceError {
            path: path.to_owned(),
            message: message.to_owned(),
            missing: false,
            disk: true,
        }
    }

    fn counted(&self, left: &Cell<u32>, path: &str, message: &str) -> Result<(), SourceError> {
        match left.get() {
            0 => Ok(()),
            some => {
                left.set(some - 1);
                Err(self.fault(path, message))
            }
        }
    }

    fn read(
        &self,
        key: &RecordKey,
        gone: &Cell<bool>,
        files: &RefCell<BTreeMap<RecordKey, u32>>,
    ) -> Result<(), SourceError> {
        if gone.get() {
            return Err(self.fault("folder", "the folder is empty: is its file system mounted?"));
        }
        match files.borrow_mut().get_mut(key) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(self.fault(key.as_str(), "Input/output error (os error 5)"))
            }
            _ => Ok(()),
        }
    }
}

pub fn sha256(bytes: &[u8]) -> Sha256Hex {
    Sha256Hex::from(hex::encode(Sha256::digest(bytes)))
}

fn missing(what: &str) -> SourceError {
    SourceError {
        path: what.to_owned(),
        message: "no such file".to_owned(),
        missing: true,
        disk: false,
    }
}

fn broken(path: &Path, fault: &std::io::Error) -> SourceError {
    SourceError {
        path: path.display().to_string(),
        message: fault.to_string(),
        missing: fault.kind() == std::io::ErrorKind::NotFound,
        disk: false,
    }
}

impl MemoryTree {
    fn manifest_path(&self, batch: &BatchId) -> PathBuf {
        self.folder.join(format!("{batch}.manifest"))
    }

    pub fn new(folder: PathBuf) -> Self {
        MemoryTree {
            arrivals: RefCell::default(),
            layout: Layout::parse("{book}/{page}").unwrap(),
            folder,
            labels: RefCell::default(),
            images: RefCell::default(),
            outputs: RefCell::default(),
            reports: RefCell::default(),
            failing_writes: Cell::new(0),
            listed: RefCell::default(),
            lines_ahead: Rc::default(),
            outputs_written: Rc::default(),
            failing_manifests: Cell::new(0),
            stamps: RefCell::default(),
            images_read: RefCell::default(),
            outputs_read: RefCell::default(),
            disk: Disk::default(),
        }
    }

    /// Adds a page with a label and an image of its own.
    pub fn add(&self, book: &str, page: u32) -> RecordKey {
        let key = self.layout.key(&[book, &page.to_string()]).unwrap();
        let label = format!("{{\"title\": \"page {page}\"}}");
        self.labels
            .borrow_mut()
            .insert(key.clone(), label.into_bytes());
        self.images
            .borrow_mut()
            .insert(key.clone(), Ok(format!("image of {key}").into_bytes()));
        key
    }

    pub fn put_output(&self, key: &RecordKey, text: &str) {
        self.outputs
            .borrow_mut()
            .insert(key.clone(), text.as_bytes().to_vec());
    }
}

/// A stamp that changes with the names in the folders, as that of a folder does.
fn stamp(book: &BookListing) -> BookStamp {
    let folder = |names: &dyn std::fmt::Debug| FolderStamp {
        device: 1,
        inode: 1,
        changed: (0, hash(&format!("{names:?}"))),
    };
    BookStamp {
        labels: folder(&book.labels),
        outputs: Some(folder(&book.outputs)),
    }
}

fn hash(text: &str) -> i64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish().cast_signed()
}

struct OneChunk(Option<Vec<Found>>);

#[async_trait(?Send)]
impl Walk for OneChunk {
    async fn next(&mut self) -> Option<Vec<Found>> {
        self.0.take()
    }
}

#[async_trait(?Send)]
impl PageSource for MemoryTree {
    async fn walk(&self, scope: &Scope) -> Result<Box<dyn Walk>, SourceError> {
        self.walk_changed(scope, Arc::default()).await
    }

    async fn walk_changed(
        &self,
        _: &Scope,
        stamps: Arc<BookStamps>,
    ) -> Result<Box<dyn Walk>, SourceError> {
        if self.disk.no_labels.get() {
            return Err(self
                .disk
                .fault("labels", "the folder is empty: is its file system mounted?"));
        }
        let mut books: BTreeMap<String, BookListing> = BTreeMap::new();
        for key in self.labels.borrow().keys() {
            let mut levels = self.layout.levels(key).unwrap();
            let page = levels.pop().unwrap();
            let book = books.entry(key.book().to_owned()).or_default();
            book.book = key.book().to_owned();
            book.levels = levels;
            book.labels.push(ListedPage {
                number: page_number(&page).unwrap(),
                key: key.clone(),
            });
        }
        let outputs = self.outputs.borrow();
        let listed = outputs.keys().filter(|_| !self.disk.no_outputs.get());
        for key in listed {
            if let Some(book) = books.get_mut(key.book()) {
                book.outputs.push(key.page().to_owned());
            }
        }
        for book in books.values_mut() {
            book.labels.sort();
            book.outputs.sort();
            book.stamp = Some(stamp(book));
        }
        let found = books.into_values().map(|book| {
            if stamps.get(&book.book) == book.stamp.as_ref() {
                Found::Unchanged(book.book)
            } else {
                self.listed.borrow_mut().push(book.book.clone());
                Found::Book(book)
            }
        });
        Ok(Box::new(OneChunk(Some(found.collect()))))
    }

    async fn arrivals(&self, keys: Vec<RecordKey>) -> Vec<Result<Timestamp, SourceError>> {
        let known = self.arrivals.borrow();
        let arrival = |key| Ok(known.get(key).copied().unwrap_or(Timestamp::EPOCH));
        keys.iter().map(arrival).collect()
    }

    async fn label(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError> {
        self.disk
            .read(key, &self.disk.no_labels, &self.disk.labels)?;
        self.labels
            .borrow()
            .get(key)
            .cloned()
            .ok_or_else(|| missing(key.as_str()))
    }

    async fn output_folder(&self) -> Result<(), SourceError> {
        if self.disk.no_outputs.get() {
            return Err(self.disk.fault(
                "outputs",
                "the folder is empty: is its file system mounted?",
            ));
        }
        Ok(())
    }

    async fn output(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError> {
        self.outputs_read.borrow_mut().push(key.clone());
        self.disk
            .read(key, &self.disk.no_outputs, &self.disk.outputs)?;
        self.outputs
            .borrow()
            .get(key)
            .cloned()
            .ok_or_else(|| missing(key.as_str()))
    }

    async fn untouched(&self, images: Vec<(RecordKey, ImageStamp)>) -> Vec<bool> {
        let stamps = self.stamps.borrow();
        let holds = |(key, made): &(RecordKey, ImageStamp)| stamps.get(key) == Some(made);
        images.iter().map(holds).collect()
    }

    async fn image(&self, key: &RecordKey) -> Result<(PathBuf, ImageFacts), ImageFault> {
        let _open = self.disk.image_gate.read().await;
        if let Err(fault) = self.disk.read(key, &self.disk.no_images, &self.disk.images) {
            return Err(ImageFault::Disk {
                path: fault.path,
                detail: fault.message,
            });
        }
        let image = self.images.borrow().get(key).cloned();
        let bytes = image.unwrap_or_else(|| {
            Err(ImageFault::Missing {
                looked_for: format!("{key}.jpg"),
            })
        })?;
        let path = self.folder.join(hex::encode(key.as_str()));
        std::fs::write(&path, &bytes).unwrap();
        let facts = ImageFacts {
            mime: ImageType::Jpeg,
            bytes: bytes.len() as u64,
            width: 1,
            height: 1,
            sha256: sha256(&bytes),
            stamp: self.stamps.borrow().get(key).cloned(),
        };
        self.images_read.borrow_mut().push(key.clone());
        Ok((path, facts))
    }
}

struct FileSpool {
    path: PathBuf,
    bytes: Vec<u8>,
}

#[async_trait(?Send)]
impl Spool for FileSpool {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.bytes.extend(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Written, SourceError> {
        std::fs::write(&self.path, &self.bytes).map_err(|fault| broken(&self.path, &fault))?;
        Ok(Written {
            sha256: sha256(&self.bytes),
            bytes: self.bytes.len() as u64,
        })
    }
}

struct Lines {
    lines: std::vec::IntoIter<RawText>,
    handed_out: u64,
    ahead: Rc<RefCell<Vec<u64>>>,
    written: Rc<Cell<u64>>,
}

#[async_trait(?Send)]
impl RawReader for Lines {
    async fn next_lines(&mut self) -> Result<Option<Vec<RawText>>, SourceError> {
        // Two at a time, so that every test with three lines crosses a border.
        let lines: Vec<RawText> = self.lines.by_ref().take(2).collect();
        self.handed_out += lines.len() as u64;
        let now = self.handed_out.saturating_sub(self.written.get());
        let mut ahead = self.ahead.borrow_mut();
        let most = ahead.last_mut().expect("opening notes a reading");
        *most = now.max(*most);
        Ok((!lines.is_empty()).then_some(lines))
    }
}

#[async_trait(?Send)]
impl ResultSink for MemoryTree {
    async fn write_outputs(
        &self,
        outputs: Vec<(RecordKey, Vec<u8>)>,
    ) -> Vec<Result<Written, SourceError>> {
        outputs
            .into_iter()
            .map(|(key, bytes)| {
                let failing = self.failing_writes.get();
                if failing > 0 {
                    self.failing_writes.set(failing - 1);
                    let message = "no space left on device".to_owned();
                    return Err(SourceError {
                        path: key.to_string(),
                        message,
                        missing: false,
                        disk: true,
                    });
                }
                let written = Written {
                    sha256: sha256(&bytes),
                    bytes: bytes.len() as u64,
                };
                self.outputs.borrow_mut().insert(key, bytes);
                self.outputs_written.set(self.outputs_written.get() + 1);
                Ok(written)
            })
            .collect()
    }

    async fn room(&self) -> Result<(), SourceError> {
        let few = "1 bytes are free, fewer than paths.free_bytes_min";
        self.disk.counted(&self.disk.room, "work", few)
    }

    async fn remove_leftovers(&self, keep: &[BatchId]) -> Result<u64, SourceError> {
        self.disk.kept.borrow_mut().push(keep.to_vec());
        Ok(0)
    }

    async fn retire_output(&self, key: &RecordKey) -> Result<(), SourceError> {
        let retires = &self.disk.retires;
        self.disk
            .counted(retires, key.as_str(), "Read-only file system (os error 30)")?;
        self.outputs
            .borrow_mut()
            .remove(key)
            .map(|_| ())
            .ok_or_else(|| missing(key.as_str()))
    }

    async fn open_spool(&self, batch: &BatchId) -> Result<Box<dyn Spool>, SourceError> {
        let spools = &self.disk.spools;
        self.disk
            .counted(spools, "spool", "No space left on device (os error 28)")?;
        Ok(Box::new(FileSpool {
            path: self.spool_path(batch),
            bytes: Vec::new(),
        }))
    }

    fn spool_path(&self, batch: &BatchId) -> PathBuf {
        self.folder.join(format!("{batch}.spool"))
    }

    async fn has_spool(&self, path: &Path, bytes: u64) -> bool {
        std::fs::metadata(path).is_ok_and(|facts| facts.len() == bytes)
    }

    async fn remove_spool(&self, batch: &BatchId) -> Result<(), SourceError> {
        match std::fs::remove_file(self.spool_path(batch)) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
                Err(broken(&self.spool_path(batch), &fault))
            }
            _ => Ok(()),
        }
    }

    async fn write_manifest(&self, batch: &BatchId, text: Vec<u8>) -> Result<(), SourceError> {
        let path = self.manifest_path(batch);
        let failing = self.failing_manifests.get();
        if failing > 0 {
            self.failing_manifests.set(failing - 1);
            let full = std::io::Error::other("no space left on device");
            return Err(broken(&path, &full));
        }
        std::fs::write(&path, text).map_err(|fault| broken(&path, &fault))
    }

    async fn manifests(&self) -> Result<Vec<BatchId>, SourceError> {
        let entries = std::fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut batches: Vec<BatchId> = names
            .filter_map(|name| Some(BatchId::from(name.strip_suffix(".manifest")?)))
            .collect();
        batches.sort();
        Ok(batches)
    }

    async fn manifest(&self, batch: &BatchId) -> Result<Vec<u8>, SourceError> {
        let path = self.manifest_path(batch);
        std::fs::read(&path).map_err(|fault| broken(&path, &fault))
    }

    async fn remove_manifest(&self, batch: &BatchId) -> Result<(), SourceError> {
        let path = self.manifest_path(batch);
        match std::fs::remove_file(&path) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
                Err(broken(&path, &fault))
            }
            _ => Ok(()),
        }
    }

    async fn raw_facts(&self, batch: &BatchId) -> Result<Option<Written>, SourceError> {
        let read = std::fs::read(self.raw_path(batch));
        Ok(read.ok().map(|bytes| Written {
            sha256: sha256(&bytes),
            bytes: bytes.len() as u64,
        }))
    }

    fn raw_path(&self, batch: &BatchId) -> PathBuf {
        self.folder.join(format!("{batch}.raw"))
    }

    async fn has_raw(&self, path: &Path, bytes: u64) -> bool {
        std::fs::metadata(path).is_ok_and(|facts| facts.len() == bytes)
    }

    async fn open_raw(&self, path: &Path) -> Result<Box<dyn RawReader>, SourceError> {
        let bytes = std::fs::read(path).map_err(|fault| broken(path, &fault))?;
        let mut offset = 0;
        let mut lines = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let length = line.len() as u64;
            lines.push(RawText {
                offset,
                bytes: length,
                text: Some(line.to_vec()),
            });
            offset += length + 1;
        }
        self.lines_ahead.borrow_mut().push(0);
        Ok(Box::new(Lines {
            lines: lines.into_iter(),
            handed_out: 0,
            ahead: Rc::clone(&self.lines_ahead),
            written: Rc::clone(&self.outputs_written),
        }))
    }

    async fn raw_line(&self, path: &Path, offset: u64, bytes: u64) -> Result<Vec<u8>, SourceError> {
        let all = std::fs::read(path).map_err(|fault| broken(path, &fault))?;
        Ok(all[offset as usize..(offset + bytes) as usize].to_vec())
    }

    async fn write_report(&self, name: &str, text: &str) -> Result<PathBuf, SourceError> {
        self.reports
            .borrow_mut()
            .insert(name.to_owned(), text.to_owned());
        Ok(self.folder.join(name))
    }
}
