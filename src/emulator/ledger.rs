//! What the emulator counts. Tests take these numbers as the truth about what a client did.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Everything counted since the start or the last reset; the control endpoint sends the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LedgerSnapshot {
    /// Requests received by endpoint, refused ones included (`batch_create`, `file_get`, ...).
    pub requests_by_endpoint: BTreeMap<String, u64>,
    /// Requests refused for a missing or wrong API key.
    pub unauthorized: u64,
    /// Batch creates received by display name, whatever became of them.
    pub creates_by_name: BTreeMap<String, u64>,
    /// Jobs really made by display name; more than one means work was bought twice.
    pub jobs_by_name: BTreeMap<String, u64>,
    /// Batch creates received.
    pub creates_seen: u64,
    /// Jobs made, those with a lost answer included.
    pub jobs_made: u64,
    /// Jobs that are neither ended nor deleted.
    pub jobs_live: u64,
    /// The largest number of such jobs at any create.
    pub jobs_live_max: u64,
    /// Ended jobs by how they ended (`succeeded`, `failed`, `cancelled`, `expired`).
    pub jobs_ended: BTreeMap<String, u64>,
    /// How often each key was answered by the model in a job that ran: what was paid for. Rows of
    /// failed or expired jobs, and the unserved rows of a cut-off job, are not in it.
    pub requests_by_key: BTreeMap<String, u64>,
    /// The answers by key and kind: `ok`, the kind of a played fault, `unserved`,
    /// `file_missing` or `file_inactive`.
    pub answers_by_key: BTreeMap<String, BTreeMap<String, u64>>,
    /// What the last request of each key asked.
    pub last_request_by_key: BTreeMap<String, LastRequest>,
    /// The answers of all keys by kind.
    pub answers_by_kind: BTreeMap<String, u64>,
    /// Requests answered that had no key.
    pub requests_without_key: u64,
    /// Upload starts received, refused ones included.
    pub uploads_started: u64,
    /// The largest number of upload starts in any window of one second.
    pub uploads_started_per_second_max: u64,
    /// Uploads that ended in a file, those with a lost or wrong answer included.
    pub uploads_finalized: u64,
    /// Upload bytes stored, bytes sent again after a lost answer not included.
    pub upload_bytes: u64,
    /// Files that exist now, results files not included.
    pub files_live: u64,
    /// Bytes of all files that exist now, results files included: what counts against the limit.
    pub files_live_bytes: u64,
    /// The largest such number at any upload or result.
    pub files_live_bytes_max: u64,
    /// Results files that exist now.
    pub results_files_live: u64,
    /// Files deleted on request.
    pub files_deleted: u64,
    /// Batches deleted on request.
    pub batches_deleted: u64,
    /// Cancels accepted.
    pub batches_cancelled: u64,
    /// Faults played by the name of the fault.
    pub faults_played: BTreeMap<String, u64>,
    /// Every live file; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileEntry>>,
}

/// What one request asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LastRequest {
    /// Lowercase hex SHA-256 of the prompt: the text parts of `contents`, joined by newlines.
    pub prompt_sha256: String,
    /// Lowercase hex SHA-256 of the first image, if there was one.
    pub image_sha256: Option<String>,
}

/// One live file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// `files/...`
    pub name: String,
    /// As chosen by the uploader.
    pub display_name: String,
    /// The size that counts against the limit.
    pub bytes: u64,
    /// Lowercase hex SHA-256; empty for a results file.
    pub sha256: String,
}

/// The answers of one job, counted before they are booked in one go.
#[derive(Default)]
pub(super) struct JobCounts {
    rows: Vec<CountedRow>,
}

/// One answered or unserved request.
pub(super) struct CountedRow {
    pub(super) key: Option<String>,
    pub(super) kind: &'static str,
    pub(super) prompt: [u8; 32],
    pub(super) image: Option<[u8; 32]>,
}

/// The kind of a row that a cut-off job never reached.
pub(super) const UNSERVED: &str = "unserved";

/// The counters.
#[derive(Default)]
pub(super) struct Ledger {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    endpoints: HashMap<&'static str, u64>,
    creates: BTreeMap<String, u64>,
    jobs: BTreeMap<String, u64>,
    jobs_live_max: u64,
    jobs_ended: BTreeMap<&'static str, u64>,
    keys: HashMap<String, KeyCounts>,
    without_key: u64,
    kinds: BTreeMap<&'static str, u64>,
    upload_starts: u64,
    recent_starts: VecDeque<Instant>,
    recent_starts_max: usize,
    bytes_live_max: u64,
    once: BTreeMap<Tally, u64>,
}

#[derive(Default)]
struct KeyCounts {
    requests: u64,
    answers: Vec<(&'static str, u64)>,
    prompt: [u8; 32],
    image: Option<[u8; 32]>,
}

/// Plain counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tally {
    Unauthorized,
    UploadFinalized,
    UploadBytes,
    FileDeleted,
    BatchDeleted,
    BatchCancelled,
}

impl Ledger {
    /// Counts a request to an endpoint.
    pub(super) fn request(&self, endpoint: &'static str) {
        *self.lock().endpoints.entry(endpoint).or_default() += 1;
    }

    /// Adds to a plain counter.
    pub(super) fn add(&self, tally: Tally, amount: u64) {
        *self.lock().once.entry(tally).or_default() += amount;
    }

    /// Counts an upload start and the rate of starts.
    pub(super) fn upload_started(&self, now: Instant) {
        const WINDOW: Duration = Duration::from_secs(1);
        let mut counts = self.lock();
        counts.upload_starts += 1;
        counts.recent_starts.push_back(now);
        while counts
            .recent_starts
            .front()
            .is_some_and(|first| now.duration_since(*first) >= WINDOW)
        {
            counts.recent_starts.pop_front();
        }
        counts.recent_starts_max = counts.recent_starts_max.max(counts.recent_starts.len());
    }

    /// Counts a create, made or not.
    pub(super) fn create_seen(&self, display_name: &str) {
        *self
            .lock()
            .creates
            .entry(display_name.to_owned())
            .or_default() += 1;
    }

    /// Counts a job; `live` is the number of live jobs with it.
    pub(super) fn job_made(&self, display_name: &str, live: u64) {
        let mut counts = self.lock();
        *counts.jobs.entry(display_name.to_owned()).or_default() += 1;
        counts.jobs_live_max = counts.jobs_live_max.max(live);
    }

    /// Counts the end of a job.
    pub(super) fn job_ended(&self, how: &'static str) {
        *self.lock().jobs_ended.entry(how).or_default() += 1;
    }

    /// Notes how many bytes are stored now.
    pub(super) fn bytes_live(&self, bytes: u64) {
        let mut counts = self.lock();
        counts.bytes_live_max = counts.bytes_live_max.max(bytes);
    }

    /// Books the answers of a job.
    pub(super) fn answered(&self, job: JobCounts) {
        let mut counts = self.lock();
        for CountedRow {
            key,
            kind,
            prompt,
            image,
        } in job.rows
        {
            *counts.kinds.entry(kind).or_default() += 1;
            let Some(key) = key else {
                counts.without_key += 1;
                continue;
            };
            let entry = counts.keys.entry(key).or_default();
            entry.requests += u64::from(kind != UNSERVED);
            match entry.answers.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => entry.answers.push((kind, 1)),
            }
            entry.prompt = prompt;
            entry.image = image;
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&self) {
        *self.lock() = Counts::default();
    }

    /// Renders the counters; what the store and the dice know is filled in by the caller. Without
    /// `keys`, the three maps by key stay empty, which keeps the answer small.
    pub(super) fn snapshot(&self, keys: bool) -> LedgerSnapshot {
        let counts = self.lock();
        let once = |tally: Tally| counts.once.get(&tally).copied().unwrap_or_default();
        let named = |map: &BTreeMap<&'static str, u64>| -> BTreeMap<String, u64> {
            map.iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        let mut snapshot = LedgerSnapshot {
            requests_by_endpoint: named(&counts.endpoints.iter().map(|(k, v)| (*k, *v)).collect()),
            unauthorized: once(Tally::Unauthorized),
            creates_by_name: counts.creates.clone(),
            jobs_by_name: counts.jobs.clone(),
            creates_seen: counts.creates.values().sum(),
            jobs_made: counts.jobs.values().sum(),
            jobs_live_max: counts.jobs_live_max,
            jobs_ended: named(&counts.jobs_ended),
            answers_by_kind: named(&counts.kinds),
            requests_without_key: counts.without_key,
            uploads_started: counts.upload_starts,
            uploads_started_per_second_max: counts.recent_starts_max as u64,
            uploads_finalized: once(Tally::UploadFinalized),
            upload_bytes: once(Tally::UploadBytes),
            files_live_bytes_max: counts.bytes_live_max,
            files_deleted: once(Tally::FileDeleted),
            batches_deleted: once(Tally::BatchDeleted),
            batches_cancelled: once(Tally::BatchCancelled),
            ..LedgerSnapshot::default()
        };
        if keys {
            counts.fill_keys(&mut snapshot);
        }
        snapshot
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn fill_keys(&self, snapshot: &mut LedgerSnapshot) {
        for (key, counted) in &self.keys {
            let KeyCounts {
                requests,
                answers,
                prompt,
                image,
            } = counted;
            if *requests > 0 {
                snapshot.requests_by_key.insert(key.clone(), *requests);
            }
            let kinds = answers
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count));
            snapshot.answers_by_key.insert(key.clone(), kinds.collect());
            let last = LastRequest {
                prompt_sha256: hex::encode(prompt),
                image_sha256: image.map(hex::encode),
            };
            snapshot.last_request_by_key.insert(key.clone(), last);
        }
    }
}

impl JobCounts {
    /// Notes one row.
    pub(super) fn push(&mut self, row: CountedRow) {
        self.rows.push(row);
    }
}
