//! The ports of one process: each call passes its gates, and what it does, it does to the world
//! outside, which outlives the process.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use pagemill::decide::retry::upload_try_again;
use pagemill::domain::failure::{ApiError, Effect, Next};
use pagemill::domain::ids::{BatchId, ImageStamp, RecordKey, RemoteName};
use pagemill::domain::image::{ImageFacts, ImageFault};
use pagemill::domain::remote::{RemoteBatch, RemoteFile, RemoteFileState};
use pagemill::domain::time::Timestamp;
use pagemill::pipeline::World;
use pagemill::ports::batch_api::BatchApi;
use pagemill::ports::clock::Clock;
use pagemill::ports::entropy::Entropy;
use pagemill::ports::file_api::{Collected, FileApi, Listing, Upload};
use pagemill::ports::page_source::{Found, PageSource, Scope, SourceError, Walk};
use pagemill::ports::result_sink::{RawReader, RawText, ResultSink, Spool, Written};

use super::clock::Time;
use super::disk::{Disk, missing, sha256};
use super::gates::Gates;
use super::provider::{Fate, Provider, error, lost};
use super::watch::Watch;

/// Decides how each call goes; told what is called and for what.
pub trait Fates {
    fn call(&mut self, call: &'static str, subject: &str, now: Timestamp) -> Fate;
    /// Whether this write to our own disk fails.
    fn disk_fails(&mut self, write: &'static str) -> bool;
    /// A number in `0.0..1.0`.
    fn fraction(&mut self) -> f64;
}

/// The world outside.
pub struct Outside {
    pub clock: Time,
    pub provider: RefCell<Provider>,
    pub disk: RefCell<Disk>,
    pub fates: RefCell<Box<dyn Fates>>,
    pub watch: Rc<Watch>,
    /// What happened, in words, in order.
    pub story: RefCell<Vec<String>>,
    /// Calls that did not go well, by what was called and how they went.
    pub troubles: RefCell<BTreeMap<String, u64>>,
    /// Uploads of images that failed, by page.
    pub failed_uploads: RefCell<BTreeMap<RecordKey, u64>>,
    ids: Cell<u64>,
}

impl Outside {
    pub fn new(disk: Disk, fates: Box<dyn Fates>, watch: Rc<Watch>) -> Rc<Self> {
        Rc::new(Outside {
            clock: Time::new(),
            provider: RefCell::default(),
            disk: RefCell::new(disk),
            fates: RefCell::new(fates),
            watch,
            story: RefCell::default(),
            troubles: RefCell::default(),
            failed_uploads: RefCell::default(),
            ids: Cell::new(0),
        })
    }

    pub fn tell(&self, words: String) {
        let now = self.clock.now();
        self.story.borrow_mut().push(format!("{now} {words}"));
    }

    fn count(&self, words: String) {
        *self.troubles.borrow_mut().entry(words).or_default() += 1;
    }
}

/// The ports of one process.
pub struct Ports {
    pub gates: Rc<Gates>,
    pub outside: Rc<Outside>,
    /// Tries that an upload may take within one transfer.
    pub attempts: u32,
    tries: RefCell<BTreeMap<String, u32>>,
    /// Uploads that will be tried again after a short pause of real time.
    pub retries_due: Cell<u32>,
    list_began: Cell<Option<Timestamp>>,
}

impl Ports {
    pub fn new(gates: Rc<Gates>, outside: Rc<Outside>, attempts: u32) -> Rc<Self> {
        Rc::new(Ports {
            gates,
            outside,
            attempts,
            tries: RefCell::default(),
            retries_due: Cell::new(0),
            list_began: Cell::new(None),
        })
    }

    /// The world of a run.
    pub fn world(self: &Rc<Self>) -> World {
        World {
            files: self.clone(),
            batches: self.clone(),
            source: self.clone(),
            sink: self.clone(),
            clock: self.clone(),
            entropy: self.clone(),
            channels: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        self.outside.clock.now()
    }

    /// One call to the provider: a gate before it arrives, its turn, what it does, a gate before
    /// it is answered.
    async fn call<T>(
        &self,
        call: &'static str,
        subject: &str,
        act: impl Fn(&Self, &Fate) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.gates.gate(&format!("{call} before")).await;
        self.gates.turn(format!("{call} {subject}")).await;
        let fate = self
            .outside
            .fates
            .borrow_mut()
            .call(call, subject, self.now());
        if fate != Fate::Well {
            self.outside.count(format!("{call}: {}", words(&fate)));
        }
        let answer = match &fate {
            Fate::Refused(next) => Err(error(next.clone(), Effect::None, "scripted")),
            Fate::Unclear => Err(lost()),
            Fate::Lost => act(self, &fate).and_then(|_| Err(lost())),
            Fate::Doubled => {
                let first = act(self, &fate);
                let _again = act(self, &fate);
                first
            }
            Fate::Well | Fate::Late | Fate::Odd(_) => act(self, &fate),
        };
        let end = match &answer {
            Ok(_) => "well".to_owned(),
            Err(error) => format!("{:?} {:?}", error.effect, error.next),
        };
        self.outside
            .tell(format!("{call} {subject}: {fate:?}, answer {end}"));
        self.gates.gate(&format!("{call} after")).await;
        if fate == Fate::Late {
            self.gates
                .turn(format!("late answer of {call} {subject}"))
                .await;
        }
        answer
    }

    /// A write to our own disk.
    fn fails(&self, write: &'static str) -> Result<(), SourceError> {
        if !self.outside.fates.borrow_mut().disk_fails(write) {
            return Ok(());
        }
        self.outside.count(format!("{write}: no space"));
        self.outside.tell(format!("{write} fails"));
        Err(SourceError {
            path: write.to_owned(),
            message: "no space left on device".to_owned(),
            missing: false,
            disk: true,
        })
    }

    fn keep_upload(&self, upload: &Upload, fate: &Fate) -> Result<RemoteFile, ApiError> {
        let found = self.outside.disk.borrow().read(&upload.path);
        let bytes = found.map_err(|fault| error(Next::Local, Effect::None, &fault.to_string()))?;
        if bytes.len() as u64 != upload.bytes || sha256(&bytes) != upload.sha256 {
            return Err(error(Next::Local, Effect::None, "the file has changed"));
        }
        let odd = match fate {
            Fate::Odd(odd) => Some(*odd),
            _ => None,
        };
        let mut provider = self.outside.provider.borrow_mut();
        let name = provider.upload(upload, bytes, odd, self.now());
        if odd == Some(0) {
            let words = "the answer names another size";
            return Err(error(Next::Garbled, Effect::Maybe, words));
        }
        provider.file(&name, self.now(), false)
    }

    /// Notes whether this upload will be tried again by itself, so that the driver can wait for it.
    fn note_try(&self, upload: &Upload, answer: &Result<RemoteFile, ApiError>) {
        let mut tries = self.tries.borrow_mut();
        let tried = tries.entry(upload.display_name.clone()).or_default();
        *tried += 1;
        // A file that is not there at once may come to nothing yet.
        let is_there = answer
            .as_ref()
            .is_ok_and(|file| file.state == RemoteFileState::Active);
        if !is_there && let Some(key) = Disk::key_of(&upload.path) {
            let mut failed = self.outside.failed_uploads.borrow_mut();
            *failed.entry(key).or_default() += 1;
        }
        let again = answer.as_ref().is_err_and(upload_try_again);
        if again && *tried < self.attempts {
            self.retries_due.set(self.retries_due.get() + 1);
        }
    }

    fn save(&self, name: &RemoteName, path: &Path, cut: bool) -> Result<Collected, ApiError> {
        let bytes = self
            .outside
            .provider
            .borrow()
            .results(name.as_str(), self.now())?;
        if cut {
            return Err(error(Next::Transient, Effect::None, "the answer was cut"));
        }
        let collected = Collected {
            bytes: bytes.len() as u64,
            sha256: sha256(&bytes),
        };
        self.outside
            .disk
            .borrow_mut()
            .files
            .insert(path.to_owned(), bytes);
        Ok(collected)
    }

    /// Whether what this job has for us is on our disk.
    fn is_collected(&self, job: &str) -> bool {
        let provider = self.outside.provider.borrow();
        let Some(job) = provider.jobs.get(job) else {
            return false;
        };
        // Under which name is not the provider's business.
        let disk = self.outside.disk.borrow();
        disk.files.values().any(|file| *file == job.results)
    }
}

fn words(fate: &Fate) -> String {
    match fate {
        Fate::Refused(Next::Throttled { quota, .. }) => format!("throttled {quota:?}"),
        Fate::Refused(next) => format!("refused {next:?}"),
        other => format!("{other:?}"),
    }
}

#[async_trait(?Send)]
impl Clock for Ports {
    fn now(&self) -> Timestamp {
        self.gates.pass("now");
        self.outside.clock.now()
    }

    async fn sleep(&self, span: Duration) {
        self.outside.clock.sleep(span).await;
        self.gates.gate("slept").await;
    }
}

impl Entropy for Ports {
    fn unique_id(&self, _: Timestamp) -> String {
        let ids = &self.outside.ids;
        ids.set(ids.get() + 1);
        format!("00000000-0000-7000-8000-{:012}", ids.get())
    }

    fn fraction(&self) -> f64 {
        self.outside.fates.borrow_mut().fraction()
    }
}

#[async_trait(?Send)]
impl FileApi for Ports {
    async fn upload(&self, upload: &Upload) -> Result<RemoteFile, ApiError> {
        let is_retry = self
            .tries
            .borrow()
            .get(&upload.display_name)
            .is_some_and(|tried| *tried > 0);
        if is_retry && self.retries_due.get() > 0 {
            self.retries_due.set(self.retries_due.get() - 1);
        }
        let call = if upload.mime == "jsonl" {
            "upload lines"
        } else {
            "upload image"
        };
        let act = |ports: &Self, fate: &Fate| ports.keep_upload(upload, fate);
        let answer = self
            .call(call, &upload.path.display().to_string(), act)
            .await;
        self.note_try(upload, &answer);
        answer
    }

    async fn file(&self, name: &RemoteName) -> Result<RemoteFile, ApiError> {
        let look = |ports: &Self, _: &Fate| {
            let now = ports.now();
            ports
                .outside
                .provider
                .borrow_mut()
                .file(name.as_str(), now, true)
        };
        self.call("look at file", name.as_str(), look).await
    }

    async fn delete_file(&self, name: &RemoteName) -> Result<(), ApiError> {
        let delete = |ports: &Self, _: &Fate| {
            let now = ports.now();
            ports
                .outside
                .provider
                .borrow_mut()
                .delete_file(name.as_str(), now)
        };
        self.call("delete file", name.as_str(), delete).await
    }

    async fn download(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        let save = |ports: &Self, fate: &Fate| {
            ports.save(name, &destination, matches!(fate, Fate::Odd(_)))
        };
        self.call("download", name.as_str(), save).await
    }

    async fn list_files(&self, page: Option<&str>) -> Result<Listing<RemoteFile>, ApiError> {
        let list = |ports: &Self, _: &Fate| {
            Ok(ports
                .outside
                .provider
                .borrow()
                .list_files(page, ports.now()))
        };
        self.call("list files", page.unwrap_or("first"), list).await
    }
}

#[async_trait(?Send)]
impl BatchApi for Ports {
    async fn create(
        &self,
        _model: &str,
        display_name: &str,
        input: &RemoteName,
    ) -> Result<RemoteBatch, ApiError> {
        if let Some(fault) = self.outside.watch.not_submitting(display_name) {
            self.outside.provider.borrow_mut().faults.push(fault);
        }
        let now = self.now();
        let place = self
            .outside
            .provider
            .borrow_mut()
            .sent_create(display_name, now);
        let make = |ports: &Self, fate: &Fate| {
            let now = ports.now();
            let mut provider = ports.outside.provider.borrow_mut();
            let made = provider.create(place, input.as_str(), now)?;
            match fate {
                Fate::Odd(_) => Err(error(Next::Garbled, Effect::Maybe, "unreadable answer")),
                _ => provider.job(&made, None, now),
            }
        };
        let answer = self.call("create", display_name, make).await;
        if answer
            .as_ref()
            .is_err_and(|error| error.effect == Effect::None)
        {
            self.outside.provider.borrow_mut().creates[place].definite_no = true;
        }
        answer
    }

    async fn batch(&self, name: &RemoteName) -> Result<RemoteBatch, ApiError> {
        let look = |ports: &Self, fate: &Fate| {
            let odd = match fate {
                Fate::Odd(odd) => Some(*odd),
                _ => None,
            };
            let now = ports.now();
            ports
                .outside
                .provider
                .borrow_mut()
                .job(name.as_str(), odd, now)
        };
        self.call("poll", name.as_str(), look).await
    }

    async fn list(&self, page: Option<&str>) -> Result<Listing<RemoteBatch>, ApiError> {
        let list = |ports: &Self, _: &Fate| {
            let now = ports.now();
            if page.is_none() {
                ports.list_began.set(Some(now));
            }
            Ok(ports.outside.provider.borrow_mut().list(page, now))
        };
        let listing = self.call("list", page.unwrap_or("first"), list).await;
        if let Ok(Listing { next: None, .. }) = &listing
            && let Some(began) = self.list_began.take()
        {
            self.outside.provider.borrow_mut().lists.push(began);
        }
        listing
    }

    async fn cancel(&self, name: &RemoteName) -> Result<(), ApiError> {
        let cancel =
            |ports: &Self, _: &Fate| ports.outside.provider.borrow_mut().cancel(name.as_str());
        self.call("cancel", name.as_str(), cancel).await
    }

    async fn delete_batch(&self, name: &RemoteName) -> Result<(), ApiError> {
        let delete = |ports: &Self, _: &Fate| {
            let collected = ports.is_collected(name.as_str());
            ports
                .outside
                .provider
                .borrow_mut()
                .delete_job(name.as_str(), collected)
        };
        self.call("delete job", name.as_str(), delete).await
    }

    async fn save_inline(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        let save = |ports: &Self, fate: &Fate| {
            ports.save(name, &destination, matches!(fate, Fate::Odd(_)))
        };
        self.call("save inline", name.as_str(), save).await
    }
}

struct OneChunk(Option<Vec<Found>>);

#[async_trait(?Send)]
impl Walk for OneChunk {
    async fn next(&mut self) -> Option<Vec<Found>> {
        self.0.take()
    }
}

#[async_trait(?Send)]
impl PageSource for Ports {
    async fn walk(&self, _: &Scope) -> Result<Box<dyn Walk>, SourceError> {
        self.gates.gate("walk").await;
        let books = self.outside.disk.borrow().books();
        let books = books.into_iter().map(Found::Book).collect();
        Ok(Box::new(OneChunk(Some(books))))
    }

    async fn arrivals(&self, keys: Vec<RecordKey>) -> Vec<Result<Timestamp, SourceError>> {
        vec![Ok(Timestamp::EPOCH); keys.len()]
    }

    async fn label(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError> {
        self.gates.gate("label").await;
        let label = self.outside.disk.borrow().labels.get(key).cloned();
        label.ok_or_else(|| missing(key))
    }

    async fn output(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError> {
        self.gates.gate("output read").await;
        let output = self.outside.disk.borrow().outputs.get(key).cloned();
        output.ok_or_else(|| missing(key))
    }

    async fn untouched(&self, images: Vec<(RecordKey, ImageStamp)>) -> Vec<bool> {
        self.gates.gate("image stamps").await;
        let disk = self.outside.disk.borrow();
        let holds = |(key, made): &(RecordKey, ImageStamp)| disk.stamp(key).as_ref() == Some(made);
        images.iter().map(holds).collect()
    }

    async fn image(&self, key: &RecordKey) -> Result<(PathBuf, ImageFacts), ImageFault> {
        self.gates.gate("image").await;
        self.outside.disk.borrow_mut().image(key)
    }
}

/// A lines file under way: what is not finished dies with its process.
struct FileSpool {
    gates: Rc<Gates>,
    outside: Rc<Outside>,
    fault: Option<SourceError>,
    path: PathBuf,
    bytes: Vec<u8>,
}

#[async_trait(?Send)]
impl Spool for FileSpool {
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), SourceError> {
        self.gates.gate("spool write").await;
        self.bytes.extend(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Written, SourceError> {
        self.gates.gate("spool finish before").await;
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let written = Written {
            sha256: sha256(&self.bytes),
            bytes: self.bytes.len() as u64,
        };
        let (path, bytes) = (self.path, self.bytes);
        self.outside.disk.borrow_mut().files.insert(path, bytes);
        self.gates.gate("spool finish after").await;
        Ok(written)
    }
}

struct Lines {
    gates: Rc<Gates>,
    lines: std::vec::IntoIter<RawText>,
}

#[async_trait(?Send)]
impl RawReader for Lines {
    async fn next_lines(&mut self) -> Result<Option<Vec<RawText>>, SourceError> {
        self.gates.gate("raw read").await;
        let lines: Vec<RawText> = self.lines.by_ref().take(2).collect();
        Ok((!lines.is_empty()).then_some(lines))
    }
}

#[async_trait(?Send)]
impl ResultSink for Ports {
    async fn write_outputs(
        &self,
        outputs: Vec<(RecordKey, Vec<u8>)>,
    ) -> Vec<Result<Written, SourceError>> {
        let mut all = Vec::new();
        for (key, bytes) in outputs {
            self.gates.gate("output write before").await;
            if let Err(fault) = self.fails("output write") {
                all.push(Err(fault));
                continue;
            }
            all.push(Ok(Written {
                sha256: sha256(&bytes),
                bytes: bytes.len() as u64,
            }));
            self.outside.tell(format!("output of {key} is on disk"));
            self.outside.disk.borrow_mut().write_output(&key, bytes);
            self.gates.gate("output write after").await;
        }
        all
    }

    async fn retire_output(&self, key: &RecordKey) -> Result<(), SourceError> {
        let retired = self.outside.disk.borrow_mut().outputs.remove(key);
        retired.map(|_| ()).ok_or_else(|| missing(key))
    }

    async fn open_spool(&self, batch: &BatchId) -> Result<Box<dyn Spool>, SourceError> {
        self.gates.gate("spool open").await;
        Ok(Box::new(FileSpool {
            gates: Rc::clone(&self.gates),
            outside: Rc::clone(&self.outside),
            fault: self.fails("spool finish").err(),
            path: Disk::spool_path(batch),
            bytes: Vec::new(),
        }))
    }

    fn spool_path(&self, batch: &BatchId) -> PathBuf {
        Disk::spool_path(batch)
    }

    async fn has_spool(&self, path: &Path, bytes: u64) -> bool {
        self.gates.gate("spool look").await;
        self.outside.disk.borrow().has(path, bytes)
    }

    async fn remove_spool(&self, batch: &BatchId) -> Result<(), SourceError> {
        self.gates.gate("spool remove before").await;
        let path = Disk::spool_path(batch);
        self.outside.disk.borrow_mut().files.remove(&path);
        self.gates.gate("spool remove after").await;
        Ok(())
    }

    async fn write_manifest(&self, batch: &BatchId, text: Vec<u8>) -> Result<(), SourceError> {
        self.gates.gate("manifest before").await;
        self.fails("manifest")?;
        let kept = (batch.clone(), text);
        self.outside.disk.borrow_mut().manifests.extend([kept]);
        self.gates.gate("manifest after").await;
        Ok(())
    }

    async fn manifests(&self) -> Result<Vec<BatchId>, SourceError> {
        self.gates.gate("manifests look").await;
        let disk = self.outside.disk.borrow();
        Ok(disk.manifests.keys().cloned().collect())
    }

    async fn manifest(&self, batch: &BatchId) -> Result<Vec<u8>, SourceError> {
        let disk = self.outside.disk.borrow();
        let found = disk.manifests.get(batch).cloned();
        found.ok_or_else(|| missing(batch))
    }

    async fn remove_manifest(&self, batch: &BatchId) -> Result<(), SourceError> {
        self.gates.gate("manifest remove before").await;
        self.outside.disk.borrow_mut().manifests.remove(batch);
        self.gates.gate("manifest remove after").await;
        Ok(())
    }

    async fn raw_facts(&self, batch: &BatchId) -> Result<Option<Written>, SourceError> {
        let disk = self.outside.disk.borrow();
        let found = disk.files.get(&Disk::raw_path(batch));
        Ok(found.map(|bytes| Written {
            sha256: sha256(bytes),
            bytes: bytes.len() as u64,
        }))
    }

    fn raw_path(&self, batch: &BatchId) -> PathBuf {
        Disk::raw_path(batch)
    }

    async fn has_raw(&self, path: &Path, bytes: u64) -> bool {
        self.gates.gate("raw look").await;
        self.outside.disk.borrow().has(path, bytes)
    }

    async fn open_raw(&self, path: &Path) -> Result<Box<dyn RawReader>, SourceError> {
        self.gates.gate("raw open").await;
        let bytes = self.outside.disk.borrow().read(path)?;
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
        Ok(Box::new(Lines {
            gates: Rc::clone(&self.gates),
            lines: lines.into_iter(),
        }))
    }

    async fn raw_line(&self, path: &Path, offset: u64, bytes: u64) -> Result<Vec<u8>, SourceError> {
        let all = self.outside.disk.borrow().read(path)?;
        Ok(all[offset as usize..(offset + bytes) as usize].to_vec())
    }

    async fn write_report(&self, name: &str, text: &str) -> Result<PathBuf, SourceError> {
        self.gates.gate("report before").await;
        self.fails("report")?;
        let kept = (name.to_owned(), text.to_owned());
        self.outside.disk.borrow_mut().reports.extend([kept]);
        self.gates.gate("report after").await;
        Ok(PathBuf::from(name))
    }
}
