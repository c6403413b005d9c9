//! The project's files: what exists, what it weighs, and how the API describes it.
//!
//! Bytes are kept only where somebody can ask for them again: the content of possible batch inputs
//! and of results files. Of an image, the hash and the size remain.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// One file of the project.
pub(super) struct StoredFile {
    /// The part of the name after `files/`.
    pub(super) id: String,
    /// The API version it was made under; its addresses carry it.
    pub(super) version: &'static str,
    pub(super) display_name: String,
    pub(super) mime: String,
    pub(super) bytes: u64,
    /// The size the API tells, where it tells a wrong one.
    pub(super) bytes_told: Option<u64>,
    /// SHA-256 of the content; results files have none.
    pub(super) digest: Option<[u8; 32]>,
    pub(super) created: Timestamp,
    /// When it goes away by itself; results files stay with their batch.
    pub(super) expires: Option<(Timestamp, Instant)>,
    /// Until when it is being processed.
    pub(super) active_from: Option<Instant>,
    /// Whether processing fails in the end.
    pub(super) failed: bool,
    /// Whether it holds the results of a batch.
    pub(super) generated: bool,
    pub(super) content: Content,
}

/// The bytes of a file, or the lack of them.
pub(super) enum Content {
    /// Not kept.
    Forgotten,
    /// Small enough for memory.
    Memory(Vec<u8>),
    /// In the emulator's temporary folder.
    Disk(DiskFile),
}

/// A temporary file that goes away with its last user.
pub(super) struct DiskFile(PathBuf);

/// The life of a file as the API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    Processing,
    Active,
    Failed,
}

/// All files of the project.
#[derive(Default)]
pub(super) struct Files {
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    by_id: HashMap<String, (u64, Arc<StoredFile>)>,
    by_age: BTreeMap<u64, String>,
    sequence: u64,
    bytes: u64,
    generated: u64,
}

/// What the shelf weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// Files that were uploaded.
    pub(super) uploaded: u64,
    /// Results files.
    pub(super) generated: u64,
    /// Bytes of both.
    pub(super) bytes: u64,
}

/// A page of the list and the token of the next one.
pub(super) struct Page {
    pub(super) files: Vec<Arc<StoredFile>>,
    pub(super) next: Option<u64>,
}

impl DiskFile {
    /// Takes over a file that exists.
    pub(super) fn new(path: PathBuf) -> Self {
        DiskFile(path)
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "a temporary file of the emulator could not be removed");
        }
    }
}

impl StoredFile {
    /// The state at an instant.
    pub(super) fn state(&self, now: Instant) -> FileState {
        match self.active_from {
            Some(from) if now < from => FileState::Processing,
            _ if self.failed => FileState::Failed,
            _ => FileState::Active,
        }
    }

    fn expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|(_, at)| at <= now)
    }

    /// Describes the file as the API does; `base` is the address of the server.
    pub(super) fn resource(&self, base: &str, now: Instant) -> Value {
        let state = self.state(now);
        let uri = format!("{base}/{}/files/{}", self.version, self.id);
        let created = format!("{:.6}", self.created);
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("name", json!(format!("files/{}", self.id)));
        if !self.display_name.is_empty() {
            set("displayName", json!(self.display_name));
        }
        set("mimeType", json!(self.mime));
        if state != FileState::Processing {
            set(
                "sizeBytes",
                json!(self.bytes_told.unwrap_or(self.bytes).to_string()),
            );
        }
        set("createTime", json!(created));
        set("updateTime", json!(created));
        if let Some((at, _)) = self.expires {
            set("expirationTime", json!(format!("{at:.9}")));
        }
        if let Some(digest) = self.digest {
            // The service encodes the hex text, not the bytes, whatever its documentation says.
            set("sha256Hash", json!(STANDARD.encode(hex::encode(digest))));
        }
        set("uri", json!(uri));
        if self.generated {
            set("downloadUri", json!(format!("{uri}:download?alt=media")));
        }
        set(
            "state",
            json!(match state {
                FileState::Processing => "PROCESSING",
                FileState::Active => "ACTIVE",
                FileState::Failed => "FAILED",
            }),
        );
        set(
            "source",
            json!(if self.generated {
                "GENERATED"
            } else {
                "UPLOADED"
            }),
        );
        if state == FileState::Failed {
            set(
                "error",
                json!({"code": 13, "message": "The file could not be processed."}),
            );
        }
        Value::Object(fields)
    }

    /// Opens the content for reading; `None` when it was not kept.
    pub(super) fn open(&self) -> io::Result<Option<Box<dyn BufRead + Send + '_>>> {
        match &self.content {
            Content::Forgotten => Ok(None),
            Content::Memory(bytes) => Ok(Some(Box::new(Cursor::new(bytes)))),
            Content::Disk(file) => {
                let file = std::fs::File::open(file.path())?;
                Ok(Some(Box::new(BufReader::new(file))))
            }
        }
    }
}

impl Files {
    /// Finds a file that has not expired.
    pub(super) fn find(&self, id: &str) -> Option<Arc<StoredFile>> {
        let mut shelf = self.lock();
        let found = shelf.by_id.get(id).map(|(_, file)| Arc::clone(file))?;
        if found.expired(Instant::now()) {
            shelf.remove(id);
            return None;
        }
        Some(found)
    }

    /// Puts a file on the shelf, unless its id is taken.
    pub(super) fn insert(&self, file: StoredFile) -> Option<Arc<StoredFile>> {
        let mut shelf = self.lock();
        if shelf.by_id.contains_key(&file.id) {
            return None;
        }
        let file = Arc::new(file);
        shelf.sequence += 1;
        let sequence = shelf.sequence;
        shelf.bytes += file.bytes;
        shelf.generated += u64::from(file.generated);
        shelf.by_age.insert(sequence, file.id.clone());
        shelf
            .by_id
            .insert(file.id.clone(), (sequence, Arc::clone(&file)));
        Some(file)
    }

    /// Takes a file off the shelf.
    pub(super) fn remove(&self, id: &str) -> Option<Arc<StoredFile>> {
        self.lock().remove(id)
    }

    /// Lists uploaded files, oldest first, after a token.
    pub(super) fn page(&self, after: u64, size: usize) -> Page {
        let mut shelf = self.lock();
        shelf.drop_expired(Instant::now());
        let younger = shelf.by_age.range(after.saturating_add(1)..);
        let entries = younger.filter_map(|(_, id)| shelf.by_id.get(id));
        let mut uploaded = entries.filter(|(_, file)| !file.generated);
        let chosen: Vec<_> = uploaded.by_ref().take(size).collect();
        // A token stands only where another page is not empty: an empty one breaks clients.
        let next = uploaded
            .next()
            .and_then(|_| chosen.last())
            .map(|(sequence, _)| *sequence);
        Page {
            files: chosen
                .into_iter()
                .map(|(_, file)| Arc::clone(file))
                .collect(),
            next,
        }
    }

    /// What is stored now.
    pub(super) fn weight(&self) -> Weight {
        let mut shelf = self.lock();
        shelf.drop_expired(Instant::now());
        let all = shelf.by_id.len() as u64;
        Weight {
            uploaded: all - shelf.generated,
            generated: shelf.generated,
            bytes: shelf.bytes,
        }
    }

    /// Every file, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<StoredFile>> {
        let shelf = self.lock();
        let entries = shelf.by_age.values().filter_map(|id| shelf.by_id.get(id));
        entries.map(|(_, file)| Arc::clone(file)).collect()
    }

    /// Forgets all files.
    pub(super) fn forget(&self) {
        let mut shelf = self.lock();
        // Sequence numbers go on, so that a page token from before cannot skip new files.
        *shelf = Shelf {
            sequence: shelf.sequence,
            ..Shelf::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn remove(&mut self, id: &str) -> Option<Arc<StoredFile>> {
        let (sequence, file) = self.by_id.remove(id)?;
        self.by_age.remove(&sequence);
        self.bytes -= file.bytes;
        self.generated -= u64::from(file.generated);
        Some(file)
    }

    /// Drops expired files from the old end; all uploads live equally long, so the first that
    /// lives ends the search.
    fn drop_expired(&mut self, now: Instant) {
        loop {
            let uploaded = |id: &&String| self.by_id.get(*id).is_some_and(|(_, f)| !f.generated);
            let Some(oldest) = self.by_age.values().find(uploaded).cloned() else {
                return;
            };
            let expired = self
                .by_id
                .get(&oldest)
                .is_some_and(|(_, file)| file.expired(now));
            if !expired {
                return;
            }
            self.remove(&oldest);
        }
    }
}

/// Says whether a MIME type may be the input of a batch, so that its bytes must be kept.
pub(super) fn keeps_content(mime: &str) -> bool {
    const MEDIA: [&str; 4] = ["image/", "video/", "audio/", "application/pdf"];
    !MEDIA.iter().any(|prefix| mime.starts_with(prefix))
}

/// Says whether a chosen id has the form the API asks for.
pub(super) fn is_file_id(id: &str) -> bool {
    const LETTERS_MAX: usize = 40;
    let letters =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    (1..=LETTERS_MAX).contains(&id.len())
        && id.bytes().all(letters)
        && !id.starts_with('-')
        && !id.ends_with('-')
}

/// When a file made now goes away.
pub(super) fn expiry(created: Timestamp, born: Instant, life: Duration) -> (Timestamp, Instant) {
    let at = jiff::SignedDuration::try_from(life)
        .ok()
        .and_then(|life| created.checked_add(life).ok());
    (at.unwrap_or(Timestamp::MAX), born + life)
}
