//! The provider as a value in memory, behind the ports: scripted, counted, without a network.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;
use pagemill::domain::failure::{ApiError, Effect, Next};
use pagemill::domain::ids::{RemoteName, Sha256Hex};
use pagemill::domain::remote::{
    RemoteBatch, RemoteBatchState, RemoteFile, RemoteFileState, RemoteOutput, RemoteStats,
    RemoteStatus,
};
use pagemill::ports::batch_api::BatchApi;
use pagemill::ports::clock::Clock;
use pagemill::ports::file_api::{Collected, FileApi, Listing, Upload};
use sha2::{Digest, Sha256};

use super::manual_clock::ManualClock;

/// How the next call of a kind is answered.
#[derive(Debug, Clone)]
pub enum Script {
    /// As it should be.
    Well,
    /// The effect happens; the answer is lost.
    Lost,
    /// Nothing happens; the answer says what.
    Refused(Next),
    /// The uploaded file stays in processing for so many looks.
    Processing(u32),
}

/// A job of the fake.
#[derive(Debug, Clone)]
pub struct Job {
    pub display_name: String,
    pub input: RemoteName,
    /// The lines file, as it was when the job was made.
    pub lines: String,
    pub state: &'static str,
    pub error: Option<(i64, &'static str)>,
    /// The name of the results file, once there is one.
    pub results: Option<RemoteName>,
    pub results_text: Vec<u8>,
}

/// What a test does while a create is on the wire; it is told the display name.
pub type OnCreate = Rc<dyn Fn(String) -> LocalBoxFuture<'static, ()>>;

/// Everything that happened, in order, in words.
#[derive(Default)]
pub struct Record {
    pub calls: Vec<String>,
    pub files: BTreeMap<String, (Upload, Vec<u8>, u32)>,
    pub jobs: BTreeMap<String, Job>,
    pub uploads: VecDeque<Script>,
    pub creates: VecDeque<Script>,
    pub polls: VecDeque<Script>,
    pub lists: VecDeque<Script>,
    pub downloads: VecDeque<Script>,
    pub deletes: VecDeque<Script>,
    /// Jobs that the list does not show yet.
    pub hidden: bool,
    pub file_lists: VecDeque<Script>,
    /// Jobs, or files, on one page of their list; all of them when it is `None`.
    pub list_page: Option<usize>,
    pub batch_deletes: VecDeque<Script>,
    /// Runs when a create has left us and before the provider has heard of it.
    pub on_create: Option<OnCreate>,
    serial: u64,
}

/// The fake.
pub struct FakeProvider {
    pub record: RefCell<Record>,
    clock: Rc<ManualClock>,
}

impl Record {
    fn add_job(&mut self, display_name: &str, input: RemoteName, lines: Vec<u8>) -> String {
        self.serial += 1;
        let name = format!("batches/b{:06}", self.serial);
        let job = Job {
            display_name: display_name.to_owned(),
            input,
            lines: String::from_utf8(lines).unwrap(),
            state: "BATCH_STATE_PENDING",
            error: None,
            results: None,
            results_text: Vec::new(),
        };
        self.jobs.insert(name.clone(), job);
        name
    }
}

fn error(next: Next, effect: Effect, message: &str) -> ApiError {
    ApiError {
        effect,
        next,
        http_status: None,
        message: message.to_owned(),
    }
}

impl FakeProvider {
    pub fn new(clock: Rc<ManualClock>) -> Self {
        FakeProvider {
            record: RefCell::default(),
            clock,
        }
    }

    /// The calls so far whose words begin with `kind`.
    pub fn calls(&self, kind: &str) -> usize {
        self.record
            .borrow()
            .calls
            .iter()
            .filter(|call| call.starts_with(kind))
            .count()
    }

    /// The names of the jobs, oldest first.
    pub fn jobs(&self) -> Vec<String> {
        self.record.borrow().jobs.keys().cloned().collect()
    }

    /// The words of the calls so far that begin with `kind`.
    pub fn words(&self, kind: &str) -> Vec<String> {
        let record = self.record.borrow();
        let words = record.calls.iter().filter(|call| call.starts_with(kind));
        words.cloned().collect()
    }

    /// Ends a job well, with these result lines.
    pub fn succeed(&self, job: &str, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.succeed_with(job, text.into_bytes());
    }

    /// Ends a job well, with a results file of these bytes.
    pub fn succeed_with(&self, job: &str, results: Vec<u8>) {
        let mut record = self.record.borrow_mut();
        let job_row = record.jobs.get_mut(job).expect("the job exists");
        job_row.state = "BATCH_STATE_SUCCEEDED";
        job_row.results = Some(RemoteName::new(format!("files/batch-{}", &job[8..])));
        job_row.results_text = results;
    }

    /// Ends a job with a state and no results.
    pub fn end(&self, job: &str, state: &'static str, error: Option<(i64, &'static str)>) {
        let mut record = self.record.borrow_mut();
        let job_row = record.jobs.get_mut(job).expect("the job exists");
        job_row.state = state;
        job_row.error = error;
    }

    /// The keys that a job asks about, in the order of its lines.
    pub fn keys(&self, job: &str) -> Vec<String> {
        self.record.borrow().jobs[job]
            .lines
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["key"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    /// Makes a job of the lines file of the batch of this display name, as a create does whose answer is lost.
    pub fn make_job(&self, display_name: &str) {
        let batch = display_name.trim_start_matches("pagemill-");
        let mut record = self.record.borrow_mut();
        let found = record
            .files
            .iter()
            .rev()
            .find(|(_, (upload, _, _))| upload.display_name.ends_with(batch));
        let (input, (_, lines, _)) = found.expect("a batch's lines file ends with its id");
        let (input, lines) = (RemoteName::from(input.as_str()), lines.clone());
        record.add_job(display_name, input, lines);
    }

    fn file_of(&self, name: &str, upload: &Upload, processing: bool) -> RemoteFile {
        let now = self.clock.now();
        RemoteFile {
            name: RemoteName::from(name),
            uri: format!("https://fake/v1beta/{name}"),
            display_name: Some(upload.display_name.clone()),
            mime: Some(upload.mime.clone()),
            bytes: Some(upload.bytes),
            sha256: Some(upload.sha256.to_string()),
            created_at: Some(now),
            expires_at: Some(now.plus(Duration::from_secs(48 * 3600))),
            state: if processing {
                RemoteFileState::Processing
            } else {
                RemoteFileState::Active
            },
        }
    }

    fn batch_of(name: &str, job: &Job) -> RemoteBatch {
        RemoteBatch {
            name: RemoteName::from(name),
            display_name: Some(job.display_name.clone()),
            state: RemoteBatchState::parse(job.state),
            output: job.results.clone().map(RemoteOutput::File),
            error: job.error.map(|(code, words)| RemoteStatus {
                code: Some(code),
                message: words.into(),
            }),
            stats: RemoteStats::default(),
            created_at: None,
            ended_at: None,
        }
    }
}

#[async_trait(?Send)]
impl FileApi for FakeProvider {
    async fn upload(&self, upload: &Upload) -> Result<RemoteFile, ApiError> {
        let bytes = std::fs::read(&upload.path)
            .map_err(|fault| error(Next::Local, Effect::None, &fault.to_string()))?;
        let mut record = self.record.borrow_mut();
        record
            .calls
            .push(format!("upload {} {}", upload.mime, upload.display_name));
        let script = record.uploads.pop_front().unwrap_or(Script::Well);
        if let Script::Refused(next) = script {
            return Err(error(next, Effect::None, "scripted"));
        }
        record.serial += 1;
        let name = format!("files/f{:06}", record.serial);
        let looks = if let Script::Processing(looks) = script {
            looks
        } else {
            0
        };
        record
            .files
            .insert(name.clone(), (upload.clone(), bytes, looks));
        drop(record);
        match script {
            Script::Lost => Err(error(
                Next::Transient,
                Effect::Maybe,
                "scripted: answer lost",
            )),
            _ => Ok(self.file_of(&name, upload, looks > 0)),
        }
    }

    async fn file(&self, name: &RemoteName) -> Result<RemoteFile, ApiError> {
        let mut record = self.record.borrow_mut();
        record.calls.push(format!("file {name}"));
        let Some((upload, _bytes, looks)) = record.files.get_mut(name.as_str()) else {
            return Err(error(Next::Missing, Effect::None, "no such file"));
        };
        *looks = looks.saturating_sub(1);
        let (upload, processing) = (upload.clone(), *looks > 0);
        drop(record);
        Ok(self.file_of(name.as_str(), &upload, processing))
    }

    async fn delete_file(&self, name: &RemoteName) -> Result<(), ApiError> {
        let mut record = self.record.borrow_mut();
        record.calls.push(format!("delete {name}"));
        if let Some(Script::Refused(next)) = record.deletes.pop_front() {
            return Err(error(next, Effect::None, "scripted"));
        }
        match record.files.remove(name.as_str()) {
            Some(_) => Ok(()),
            None => Err(error(Next::Missing, Effect::None, "no such file")),
        }
    }

    async fn download(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        let mut record = self.record.borrow_mut();
        record.calls.push(format!("download {name}"));
        if let Some(Script::Refused(next)) = record.downloads.pop_front() {
            return Err(error(next, Effect::None, "scripted"));
        }
        let found = record
            .jobs
            .values()
            .find(|job| job.results.as_ref() == Some(name));
        let Some(job) = found else {
            return Err(error(Next::Missing, Effect::None, "no such results"));
        };
        std::fs::create_dir_all(destination.parent().unwrap()).unwrap();
        std::fs::write(&destination, &job.results_text).unwrap();
        let sha256 = Sha256Hex::from(hex::encode(Sha256::digest(&job.results_text)));
        Ok(Collected {
            bytes: job.results_text.len() as u64,
            sha256,
        })
    }

    async fn list_files(&self, page: Option<&str>) -> Result<Listing<RemoteFile>, ApiError> {
        let mut record = self.record.borrow_mut();
        let words = page.unwrap_or("first").to_owned();
        record.calls.push(format!("files list {words}"));
        if let Some(Script::Refused(next)) = record.file_lists.pop_front() {
            return Err(error(next, Effect::None, "scripted"));
        }
        let skipped: usize = page.map_or(0, |page| page.parse().unwrap());
        let size = record.list_page.unwrap_or(usize::MAX);
        drop(record);
        let files: Vec<(String, Upload)> = self
            .record
            .borrow()
            .files
            .iter()
            .map(|(name, (upload, _, _))| (name.clone(), upload.clone()))
            .collect();
        let rest = files.len().saturating_sub(skipped);
        let next = (rest > size).then(|| (skipped + size).to_string());
        let items = files
            .iter()
            .skip(skipped)
            .take(size)
            .map(|(name, upload)| self.file_of(name, upload, false))
            .collect();
        Ok(Listing { items, next })
    }
}

#[async_trait(?Send)]
impl BatchApi for FakeProvider {
    async fn create(
        &self,
        _model: &str,
        display_name: &str,
        input: &RemoteName,
    ) -> Result<RemoteBatch, ApiError> {
        let on_create = self.record.borrow().on_create.clone();
        if let Some(on_create) = on_create {
            on_create(display_name.to_owned()).await;
        }
        let mut record = self.record.borrow_mut();
        record.calls.push(format!("create {display_name}"));
        let script = record.creates.pop_front().unwrap_or(Script::Well);
        if let Script::Refused(next) = script {
            return Err(error(next, Effect::None, "scripted"));
        }
        let Some((_, lines, _)) = record.files.get(input.as_str()) else {
            return Err(error(Next::Missing, Effect::None, "no such input"));
        };
        let lines = lines.clone();
        let name = record.add_job(display_name, input.clone(), lines);
        let made = Self::batch_of(&name, &record.jobs[&name]);
        match script {
            Script::Lost => Err(error(
                Next::Transient,
                Effect::Maybe,
                "scripted: answer lost",
            )),
            _ => Ok(made),
        }
    }

    async fn batch(&self, name: &RemoteName) -> Result<RemoteBatch, ApiError> {
        let mut record = self.record.borrow_mut();
        record.calls.push(format!("poll {name}"));
        if let Some(Script::Refused(next)) = record.polls.pop_front() {
            return Err(error(next, Effect::None, "scripted"));
        }
        record
            .jobs
            .get(name.as_str())
            .map(|job| Self::batch_of(name.as_str(), job))
            .ok_or_else(|| error(Next::Missing, Effect::None, "no such job"))
    }

    async fn list(&self, page: Option<&str>) -> Result<Listing<RemoteBatch>, ApiError> {
        let mut record = self.record.borrow_mut();
        record
            .calls
            .push(format!("list {}", page.unwrap_or("first")));
        if let Some(Script::Refused(next)) = record.lists.pop_front() {
            return Err(error(next, Effect::None, "scripted"));
        }
        let shown = if record.hidden { 0 } else { usize::MAX };
        let skipped: usize = page.map_or(0, |page| page.parse().unwrap());
        let size = record.list_page.unwrap_or(usize::MAX);
        let jobs: Vec<RemoteBatch> = record
            .jobs
            .iter()
            .rev()
            .take(shown)
            .map(|(name, job)| Self::batch_of(name, job))
            .collect();
        let rest = jobs.len().saturating_sub(skipped);
        let next = (rest > size).then(|| (skipped + size).to_string());
        let items = jobs.into_iter().skip(skipped).take(size).collect();
        Ok(Listing { items, next })
    }

    async fn cancel(&self, name: &RemoteName) -> Result<(), ApiError> {
        self.record
            .borrow_mut()
            .calls
            .push(format!("cancel {name}"));
        Ok(())
    }

    async fn delete_batch(&self, name: &RemoteName) -> Result<(), ApiError> {
        self.record
            .borrow_mut()
            .calls
            .push(format!("delete_batch {name}"));
        let script = self.record.borrow_mut().batch_deletes.pop_front();
        if let Some(Script::Refused(next)) = script {
            return Err(error(next, Effect::None, "scripted"));
        }
        self.record.borrow_mut().jobs.remove(name.as_str());
        Ok(())
    }

    async fn save_inline(&self, _: &RemoteName, _: PathBuf) -> Result<Collected, ApiError> {
        Err(error(
            Next::Garbled,
            Effect::None,
            "the fake has no inline results",
        ))
    }
}
