//! Our own files, in memory: labels, images, outputs, spool, raw results, reports. What stands here
//! is durable; it outlives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pagemill::domain::ids::{BatchId, ImageStamp, RecordKey, Sha256Hex};
use pagemill::domain::image::{ImageFacts, ImageFault, ImageType};
use pagemill::domain::layout::{Layout, page_number};
use pagemill::ports::page_source::{BookListing, ListedPage, SourceError};
use sha2::{Digest, Sha256};

pub fn sha256(bytes: &[u8]) -> Sha256Hex {
    Sha256Hex::from(hex::encode(Sha256::digest(bytes)))
}

/// An image of the tree: all it ever held, newest last, and what is wrong with it now.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub versions: Vec<Vec<u8>>,
    pub damaged: bool,
    /// Whether it was ever damaged.
    pub was_damaged: bool,
}

/// The tree.
pub struct Disk {
    pub layout: Layout,
    pub labels: BTreeMap<RecordKey, Vec<u8>>,
    pub images: BTreeMap<RecordKey, Image>,
    pub outputs: BTreeMap<RecordKey, Vec<u8>>,
    /// Outputs that an operator took away, and that are not back.
    pub taken: BTreeSet<RecordKey>,
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub reports: BTreeMap<String, String>,
    /// What is kept of live batches beside the database.
    pub manifests: BTreeMap<BatchId, Vec<u8>>,
    /// What outputs did that they must not do.
    pub faults: Vec<String>,
}

pub fn missing(what: impl std::fmt::Display) -> SourceError {
    SourceError {
        path: what.to_string(),
        message: "no such file".to_owned(),
        missing: true,
        disk: false,
    }
}

/// The text that the provider reads out of an image of a page.
pub fn text_of(key: &str, image: &[u8]) -> String {
    format!("text of {key} from {}", &sha256(image).as_str()[..12])
}

/// The bytes of an image of a page: some, so that a store can be full of them.
fn image_of(key: &RecordKey, version: usize) -> Vec<u8> {
    let grains = ".".repeat(IMAGE_BYTES);
    format!("image of {key}, version {version} {grains}").into_bytes()
}

const IMAGE_BYTES: usize = 4_000;

impl Disk {
    pub fn new() -> Self {
        Disk {
            layout: Layout::parse("{book}/{page}").unwrap(),
            labels: BTreeMap::new(),
            images: BTreeMap::new(),
            outputs: BTreeMap::new(),
            taken: BTreeSet::new(),
            files: BTreeMap::new(),
            reports: BTreeMap::new(),
            manifests: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Adds a page with a label and an image of its own.
    pub fn add(&mut self, book: &str, page: u32) -> RecordKey {
        let key = self.layout.key(&[book, &page.to_string()]).unwrap();
        let label = format!("{{\"title\": \"page {page}\"}}");
        self.labels.insert(key.clone(), label.into_bytes());
        let image = Image {
            versions: vec![image_of(&key, 1)],
            ..Image::default()
        };
        self.images.insert(key.clone(), image);
        key
    }

    /// Somebody scans the page again.
    pub fn replace_image(&mut self, key: &RecordKey) {
        let image = self.images.get_mut(key).unwrap();
        let version = image.versions.len() + 1;
        image.versions.push(image_of(key, version));
        image.damaged = false;
    }

    pub fn damage_image(&mut self, key: &RecordKey) {
        let image = self.images.get_mut(key).unwrap();
        image.damaged = true;
        image.was_damaged = true;
    }

    pub fn image_path(key: &RecordKey) -> PathBuf {
        PathBuf::from("/images").join(hex::encode(key.as_str()))
    }

    /// The page whose image stands there.
    pub fn key_of(path: &Path) -> Option<RecordKey> {
        let name = path.strip_prefix("/images").ok()?;
        let bytes = hex::decode(name.to_str()?).ok()?;
        String::from_utf8(bytes).ok().map(RecordKey::new)
    }

    /// How a page's image looks from outside. The disk tells it of pages with an even number only.
    pub fn stamp(&self, key: &RecordKey) -> Option<ImageStamp> {
        let is_even = key.as_str().ends_with(['0', '2', '4', '6', '8']);
        let versions = self.images[key].versions.len();
        is_even.then(|| ImageStamp::new(format!("version {versions}")))
    }

    pub fn image(&mut self, key: &RecordKey) -> Result<(PathBuf, ImageFacts), ImageFault> {
        let path = Self::image_path(key);
        let image = &self.images[key];
        if image.damaged {
            return Err(ImageFault::Damaged {
                path: path.display().to_string(),
                detail: "scripted".to_owned(),
            });
        }
        let bytes = image.versions.last().unwrap().clone();
        let facts = ImageFacts {
            mime: ImageType::Jpeg,
            bytes: bytes.len() as u64,
            width: 1,
            height: 1,
            sha256: sha256(&bytes),
            stamp: self.stamp(key),
        };
        self.files.insert(path.clone(), bytes);
        Ok((path, facts))
    }

    /// The texts that an output of this page may hold: one for each image it ever had.
    pub fn texts(&self, key: &RecordKey) -> Vec<String> {
        let versions = self.images[key].versions.iter();
        versions.map(|image| text_of(key.as_str(), image)).collect()
    }

    /// P1 and P4: whole, valid, the page's own text, and never another one over it.
    pub fn write_output(&mut self, key: &RecordKey, bytes: Vec<u8>) {
        let value: serde_json::Value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(error) => return self.faults.push(format!("P1 output of {key}: {error}")),
        };
        let text = value["text"].as_str().unwrap_or_default().to_owned();
        if !self.images.contains_key(key) || !self.texts(key).contains(&text) {
            self.faults
                .push(format!("P4 output of {key} says '{text}'"));
        }
        if self.outputs.get(key).is_some_and(|old| *old != bytes) {
            self.faults
                .push(format!("P1 output of {key} was written over"));
        }
        self.taken.remove(key);
        self.outputs.insert(key.clone(), bytes);
    }

    /// An operator deletes an output.
    pub fn take_output(&mut self, key: &RecordKey) {
        if self.outputs.remove(key).is_some() {
            self.taken.insert(key.clone());
        }
    }

    pub fn spool_path(batch: &BatchId) -> PathBuf {
        PathBuf::from("/spool").join(batch.as_str())
    }

    pub fn raw_path(batch: &BatchId) -> PathBuf {
        PathBuf::from("/raw").join(batch.as_str())
    }

    pub fn read(&self, path: &Path) -> Result<Vec<u8>, SourceError> {
        let found = self.files.get(path).cloned();
        found.ok_or_else(|| missing(path.display()))
    }

    pub fn has(&self, path: &Path, bytes: u64) -> bool {
        let found = self.files.get(path);
        found.is_some_and(|file| file.len() as u64 == bytes)
    }

    /// All books with their labels and outputs, as a walk lists them.
    pub fn books(&self) -> Vec<BookListing> {
        let mut books: BTreeMap<String, BookListing> = BTreeMap::new();
        for key in self.labels.keys() {
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
        for key in self.outputs.keys() {
            if let Some(book) = books.get_mut(key.book()) {
                book.outputs.push(key.page().to_owned());
            }
        }
        for book in books.values_mut() {
            book.labels.sort();
            book.outputs.sort();
        }
        books.into_values().collect()
    }
}
