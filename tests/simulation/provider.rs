//! The provider, as a value: files, jobs, and a book of everything that it did and said. It never
//! forgets, so that at the end it can be asked what really happened.

use std::collections::BTreeMap;
use std::time::Duration;

use pagemill::domain::failure::{ApiError, Effect, Next};
use pagemill::domain::ids::RemoteName;
use pagemill::domain::remote::{
    RemoteBatch, RemoteBatchState, RemoteFile, RemoteFileState, RemoteOutput, RemoteStats,
    RemoteStatus,
};
use pagemill::domain::time::Timestamp;
use pagemill::ports::file_api::{Listing, Upload};
use serde_json::{Value, json};

use super::disk::{sha256, text_of};
use super::intended;

/// How a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Well,
    /// Nothing happens, and the answer says so.
    Refused(Next),
    /// Nothing happens, and the answer does not say so.
    Unclear,
    /// It happens; the answer is lost.
    Lost,
    /// It happens twice.
    Doubled,
    /// It happens; the answer comes much later.
    Late,
    /// What can go wrong with this kind of call only.
    Odd(u32),
}

/// A file in the store.
#[derive(Debug, Clone)]
pub struct StoredFile {
    pub display_name: String,
    pub mime: String,
    pub bytes: Vec<u8>,
    pub born: Timestamp,
    pub expires: Timestamp,
    /// Looks for which it is still processed.
    pub processing: u32,
    pub broken: bool,
    pub deleted: bool,
}

/// What a job has for one of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Good,
    Missing,
    /// The same line twice.
    Doubled,
    /// Two lines that contradict each other.
    Conflict,
    BrokenUtf8,
    CutShort,
    Error(i64),
    Recitation,
    Blocked,
    MaxTokens,
    NotJson,
    AgainstSchema,
    Empty,
}

/// What one line of a job asks.
#[derive(Debug, Clone)]
pub struct Line {
    pub key: String,
    pub file: String,
    pub prompt: String,
}

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    pub display_name: String,
    pub lines: Vec<Line>,
    pub created: Timestamp,
    /// From when on the list shows it.
    pub listed: Timestamp,
    pub state: &'static str,
    pub error: Option<(i64, &'static str)>,
    pub output: Option<RemoteOutput>,
    /// From when on the job says where its results are.
    pub named: Timestamp,
    /// Whether that is later than an end that is no success.
    pub named_late: bool,
    /// From when on they can be fetched.
    pub fetchable: Timestamp,
    pub results: Vec<u8>,
    pub rows: BTreeMap<String, Row>,
    pub deleted: bool,
    /// Whether the network made it of a create that had made one already.
    pub second: bool,
}

/// One create that reached us.
#[derive(Debug, Clone)]
pub struct Create {
    pub display_name: String,
    pub at: Timestamp,
    /// Jobs that it made.
    pub made: Vec<String>,
    /// Whether whoever sent it was told that it made none.
    pub definite_no: bool,
}

#[derive(Default)]
pub struct Provider {
    pub files: BTreeMap<String, StoredFile>,
    pub jobs: BTreeMap<String, Job>,
    pub creates: Vec<Create>,
    /// When a list of jobs was read to its end.
    pub lists: Vec<Timestamp>,
    pub uploads: u64,
    /// Jobs on one page of a list.
    pub list_page: usize,
    /// How long the list may lag behind; zero for a list that is always right.
    pub list_lag: Duration,
    /// What must never happen and did.
    pub faults: Vec<String>,
    serial: u64,
}

pub const FILE_LIFE: Duration = Duration::from_secs(48 * 3600);

pub fn error(next: Next, effect: Effect, message: &str) -> ApiError {
    ApiError {
        effect,
        next,
        http_status: None,
        message: message.to_owned(),
    }
}

/// The answer to a call that says nothing of what happened.
pub fn lost() -> ApiError {
    error(Next::Transient, Effect::Maybe, "the answer was lost")
}

fn gone(what: &str) -> ApiError {
    error(Next::Missing, Effect::None, &format!("there is no {what}"))
}

impl Provider {
    fn name(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}{:06}", self.serial)
    }

    /// Files that take room now.
    pub fn held(&self, now: Timestamp) -> impl Iterator<Item = (&String, &StoredFile)> {
        self.files
            .iter()
            .filter(move |(_name, file)| !file.deleted && file.expires > now)
    }

    /// Stores a file; `odd` picks what is odd about it.
    pub fn upload(
        &mut self,
        upload: &Upload,
        bytes: Vec<u8>,
        odd: Option<u32>,
        now: Timestamp,
    ) -> String {
        self.uploads += 1;
        let name = self.name("files/f");
        let file = StoredFile {
            display_name: upload.display_name.clone(),
            mime: upload.mime.clone(),
            bytes,
            born: now,
            expires: now.plus(FILE_LIFE),
            processing: odd.filter(|odd| (1..10).contains(odd)).unwrap_or(0),
            broken: odd == Some(10),
            deleted: false,
        };
        self.files.insert(name.clone(), file);
        name
    }

    /// A look at a file; each one brings its processing nearer to the end.
    pub fn file(
        &mut self,
        name: &str,
        now: Timestamp,
        looked: bool,
    ) -> Result<RemoteFile, ApiError> {
        let file = self
            .files
            .get_mut(name)
            .filter(|file| !file.deleted && file.expires > now);
        let file = file.ok_or_else(|| gone(name))?;
        if looked {
            file.processing = file.processing.saturating_sub(1);
        }
        Ok(RemoteFile {
            name: RemoteName::from(name),
            uri: format!("https://fake/v1beta/{name}"),
            display_name: Some(file.display_name.clone()),
            mime: Some(file.mime.clone()),
            bytes: Some(file.bytes.len() as u64),
            sha256: Some(sha256(&file.bytes).to_string()),
            created_at: Some(file.born),
            expires_at: Some(file.expires),
            state: match (file.broken, file.processing) {
                (true, _) => RemoteFileState::Failed,
                (false, 0) => RemoteFileState::Active,
                (false, _) => RemoteFileState::Processing,
            },
        })
    }

    /// P10: no file goes while an unfinished job may read it.
    pub fn delete_file(&mut self, name: &str, now: Timestamp) -> Result<(), ApiError> {
        let reads = |job: &Job| {
            !job.second && is_running(job.state) && job.lines.iter().any(|line| line.file == name)
        };
        if let Some((job, _)) = self.jobs.iter().find(|(_, job)| reads(job)) {
            self.faults
                .push(format!("P10 {name} was deleted while {job} reads it"));
        }
        let file = self
            .files
            .get_mut(name)
            .filter(|file| !file.deleted && file.expires > now);
        file.ok_or_else(|| gone(name))?.deleted = true;
        Ok(())
    }

    pub fn list_files(&self, page: Option<&str>, now: Timestamp) -> Listing<RemoteFile> {
        let names: Vec<String> = self.held(now).map(|(name, _)| name.clone()).collect();
        let from: usize = page.map_or(0, |page| page.parse().unwrap());
        let size = 3;
        let mut looked = Provider {
            files: self.files.clone(),
            ..Provider::default()
        };
        let items = names.iter().skip(from).take(size);
        let items = items
            .map(|name| looked.file(name, now, false).unwrap())
            .collect();
        let next = (names.len() > from + size).then(|| (from + size).to_string());
        Listing { items, next }
    }

    /// A create is sent; gives its place in the book.
    pub fn sent_create(&mut self, display_name: &str, now: Timestamp) -> usize {
        if let Some(fault) = intended::second_create(self, display_name, now) {
            self.faults.push(fault);
        }
        self.creates.push(Create {
            display_name: display_name.to_owned(),
            at: now,
            made: Vec::new(),
            definite_no: false,
        });
        self.creates.len() - 1
    }

    /// A create arrives and makes a job.
    pub fn create(
        &mut self,
        place: usize,
        input: &str,
        now: Timestamp,
    ) -> Result<String, ApiError> {
        let file = self
            .files
            .get(input)
            .filter(|file| !file.deleted && file.expires > now);
        let text = file.ok_or_else(|| gone(input))?.bytes.clone();
        let lines = read_lines(&text);
        for line in &lines {
            if let Some(fault) = self.fault_of(line) {
                self.faults.push(fault);
            }
        }
        let display_name = self.creates[place].display_name.clone();
        let made = self.add_job(&display_name, &lines, now);
        let former = &mut self.creates[place].made;
        self.jobs.get_mut(&made).unwrap().second = !former.is_empty();
        former.push(made.clone());
        Ok(made)
    }

    /// P4: each line shows the page's own image, and what it is told of the page before is of the
    /// page before.
    fn fault_of(&self, line: &Line) -> Option<String> {
        let image = self.files.get(&line.file)?;
        let starts = format!("image of {}", line.key);
        let text = String::from_utf8_lossy(&image.bytes);
        if !text.starts_with(&format!("{starts},")) {
            return Some(format!("P4 the line of {} shows '{text}'", line.key));
        }
        let (_, context) = line.prompt.split_once("Before: text of ")?;
        let (book, page) = line.key.rsplit_once(':')?;
        let before = format!("{book}:{} from ", page.parse::<u32>().ok()?.checked_sub(1)?);
        let own = context.starts_with(&before);
        (!own).then(|| format!("P4 the prompt of {} says '{}'", line.key, line.prompt))
    }

    fn add_job(&mut self, display_name: &str, lines: &[Line], now: Timestamp) -> String {
        let name = self.name("batches/b");
        let job = Job {
            display_name: display_name.to_owned(),
            lines: lines.to_vec(),
            created: now,
            listed: now.plus(self.list_lag),
            state: "BATCH_STATE_PENDING",
            error: None,
            output: None,
            named: now,
            named_late: false,
            fetchable: now,
            results: Vec::new(),
            rows: BTreeMap::new(),
            deleted: false,
            second: false,
        };
        self.jobs.insert(name.clone(), job);
        name
    }

    /// A look at a job; `odd` changes what is said of it: 0 an unknown word, 1 that it is running.
    pub fn job(
        &mut self,
        name: &str,
        odd: Option<u32>,
        now: Timestamp,
    ) -> Result<RemoteBatch, ApiError> {
        let job = self
            .jobs
            .get_mut(name)
            .filter(|job| !job.deleted)
            .ok_or_else(|| gone(name))?;
        let state = match odd {
            Some(0) => "BATCH_STATE_NAPPING",
            Some(_) => "BATCH_STATE_RUNNING",
            None => job.state,
        };
        let is_named = job.named <= now && !is_running(job.state);
        Ok(RemoteBatch {
            name: RemoteName::from(name),
            display_name: Some(job.display_name.clone()),
            state: RemoteBatchState::parse(state),
            output: job.output.clone().filter(|_| is_named),
            error: job
                .error
                .filter(|_| odd.is_none())
                .map(|(code, words)| RemoteStatus {
                    code: Some(code),
                    message: words.into(),
                }),
            stats: RemoteStats::default(),
            created_at: Some(job.created),
            ended_at: None,
        })
    }

    pub fn list(&mut self, page: Option<&str>, now: Timestamp) -> Listing<RemoteBatch> {
        let shown = |job: &Job| !job.deleted && job.listed <= now;
        let names: Vec<String> = self
            .jobs
            .iter()
            .rev()
            .filter(|(_, job)| shown(job))
            .map(|(name, _)| name.clone())
            .collect();
        let from: usize = page.map_or(0, |page| page.parse().unwrap());
        let size = if self.list_page == 0 {
            1000
        } else {
            self.list_page
        };
        let items = names
            .iter()
            .skip(from)
            .take(size)
            .filter_map(|name| self.job(name, None, now).ok())
            .collect();
        let next = (names.len() > from + size).then(|| (from + size).to_string());
        Listing { items, next }
    }

    /// P8: a job goes only when nothing is left to fetch; whoever asks says what is on our disk.
    pub fn delete_job(&mut self, name: &str, collected: bool) -> Result<(), ApiError> {
        let job = self
            .jobs
            .get_mut(name)
            .filter(|job| !job.deleted)
            .ok_or_else(|| gone(name))?;
        if is_running(job.state) || (job.output.is_some() && !collected) {
            self.faults.push(format!(
                "P8 {name} was deleted before its results were on disk"
            ));
        }
        job.deleted = true;
        Ok(())
    }

    /// A job that has not ended ends with nothing.
    pub fn cancel(&mut self, name: &str) -> Result<(), ApiError> {
        let job = self.jobs.get_mut(name).filter(|job| !job.deleted);
        let job = job.ok_or_else(|| gone(name))?;
        if is_running(job.state) {
            job.state = "BATCH_STATE_CANCELLED";
        }
        Ok(())
    }

    /// The results of a job, by the name of their file or by its own.
    pub fn results(&self, name: &str, now: Timestamp) -> Result<Vec<u8>, ApiError> {
        let file = RemoteOutput::File(RemoteName::from(name));
        let named = |(job_name, job): &(&String, &Job)| {
            job.output.as_ref() == Some(&file)
                || (*job_name == name && job.output == Some(RemoteOutput::Inline))
        };
        let found = self.jobs.iter().find(named).map(|(_, job)| job);
        let found = found.filter(|job| !job.deleted && job.fetchable <= now);
        found
            .map(|job| job.results.clone())
            .ok_or_else(|| gone(name))
    }

    /// Ends a job with results: one row a line, in this order, with these strangers between them.
    pub fn end_with_rows(
        &mut self,
        name: &str,
        state: &'static str,
        rows: Vec<(String, Row)>,
        strangers: usize,
        inline: bool,
    ) {
        let mut results = Vec::new();
        for (key, row) in &rows {
            results.extend(self.row_bytes(name, key, *row));
        }
        for stranger in 0..strangers {
            let line = answer(
                &format!("nobody:{stranger}"),
                "STOP",
                Some("{\"text\": \"stranger\"}"),
            );
            results.extend(format!("{line}\n\n").into_bytes());
        }
        let job = self.jobs.get_mut(name).unwrap();
        job.state = state;
        job.rows = rows.into_iter().collect();
        job.results = results;
        job.output = Some(if inline {
            RemoteOutput::Inline
        } else {
            RemoteOutput::File(RemoteName::new(format!("files/results-{}", &name[8..])))
        });
    }

    /// Ends a job with nothing.
    pub fn end_empty(
        &mut self,
        name: &str,
        state: &'static str,
        error: Option<(i64, &'static str)>,
    ) {
        let job = self.jobs.get_mut(name).unwrap();
        job.state = state;
        job.error = error;
    }

    /// The names of jobs that have not ended.
    pub fn running(&self) -> Vec<String> {
        let running = self.jobs.iter().filter(|(_, job)| is_running(job.state));
        running.map(|(name, _)| name.clone()).collect()
    }

    /// The good text of a line; none when its image is no longer there.
    fn text(&self, job: &str, key: &str) -> Option<String> {
        let line = self.jobs[job].lines.iter().find(|line| line.key == key)?;
        Some(text_of(key, &self.files[&line.file].bytes))
    }

    fn row_bytes(&self, job: &str, key: &str, row: Row) -> Vec<u8> {
        let text = self.text(job, key).unwrap_or_default();
        let good = json!({"text": text}).to_string();
        let line = |text: &str| answer(key, "STOP", Some(text));
        let words = match row {
            Row::Missing => return Vec::new(),
            Row::Good => line(&good),
            Row::Doubled => format!("{}\n{}", line(&good), line(&good)),
            Row::Conflict => format!("{}\n{}", line(&good), line("{\"text\": \"another\"}")),
            Row::BrokenUtf8 => {
                let mut bytes = line(&good).into_bytes();
                let middle = bytes.len() / 2;
                bytes[middle] = 0xff;
                bytes.push(b'\n');
                return bytes;
            }
            Row::CutShort => {
                let whole = line(&good);
                whole[..whole.len() - 9].to_owned()
            }
            Row::Error(code) => {
                json!({"key": key, "error": {"code": code, "message": "scripted"}}).to_string()
            }
            Row::Recitation => answer(key, "RECITATION", None),
            Row::MaxTokens => answer(key, "MAX_TOKENS", Some(&good)),
            Row::Blocked => {
                json!({"key": key, "response": {"promptFeedback": {"blockReason": "SAFETY"}}})
                    .to_string()
            }
            Row::NotJson => line("I cannot read this"),
            Row::AgainstSchema => line("{\"texts\": []}"),
            Row::Empty => line(" "),
        };
        format!("{words}\n").into_bytes()
    }
}

pub fn is_running(state: &str) -> bool {
    state == "BATCH_STATE_PENDING" || state == "BATCH_STATE_RUNNING"
}

fn answer(key: &str, reason: &str, text: Option<&str>) -> String {
    let parts: Vec<Value> = text.iter().map(|text| json!({"text": text})).collect();
    json!({"key": key, "response": {"candidates": [
        {"content": {"parts": parts}, "finishReason": reason}
    ]}})
    .to_string()
}

fn read_lines(text: &[u8]) -> Vec<Line> {
    let lines = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let line: Value = serde_json::from_slice(line).unwrap();
            let words = line.to_string();
            let file = words.split("https://fake/v1beta/").nth(1).unwrap();
            Line {
                key: line["key"].as_str().unwrap().to_owned(),
                file: file.split('"').next().unwrap().to_owned(),
                prompt: words,
            }
        })
        .collect()
}
