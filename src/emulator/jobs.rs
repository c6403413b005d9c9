//! The life of a batch job: what was decided when it was made, and where it stands now.
//!
//! A job's state is read off the clock. Only its answers are made, once, when its time has come
//! (`run.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::dice::Dice;
use super::faults::Fault;

/// One batch job.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) display_name: String,
    pub(super) version: &'static str,
    pub(super) priority: Option<String>,
    pub(super) input: Input,
    pub(super) requests: u64,
    pub(super) created: Timestamp,
    pub(super) born: Instant,
    pub(super) plan: Plan,
    cut: Mutex<Option<Cut>>,
    begun: AtomicBool,
    deleted: AtomicBool,
    outcome: OnceLock<Outcome>,
    ended: watch::Sender<bool>,
}

/// Where a job's requests come from.
pub(super) enum Input {
    /// The id of an uploaded file.
    File(String),
    /// Requests of the create call itself.
    Inline(Vec<Map<String, Value>>),
}

/// What the dice decided for a job when it was made. Times count from its birth.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pending: Duration,
    running: Duration,
    finish: Duration,
    pub(super) fate: Fate,
    listed_after: Duration,
    results_unnamed: Duration,
    pub(super) results_unreadable: Duration,
    without_counts: bool,
    job_words: bool,
    pub(super) inline_output: bool,
}

/// How a job ends if nobody cancels it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    /// Succeeds, but never gets to some of its rows.
    PartlyServed,
    OutOfQuota,
    Broken,
    Expired,
    Cancelled,
}

/// A cancel by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    BeforeStart,
    WhileRunning,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Running,
    /// Running, under a word that clients do not know.
    Odd,
    /// Its time has come; the answers may still have to be made.
    Due,
}

/// How a job ended.
pub(super) struct Outcome {
    pub(super) end: End,
    pub(super) ended: Timestamp,
    pub(super) at: Instant,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) output: Output,
}

/// The terminal states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed { code: i32, message: String },
    Cancelled,
    Expired,
}

/// Where the results are.
pub(super) enum Output {
    None,
    File,
    /// The inner list of inlined responses.
    Inline(Vec<Value>),
}

/// What is asked of a new job.
pub(super) struct Order {
    pub(super) model: String,
    pub(super) display_name: String,
    pub(super) version: &'static str,
    pub(super) priority: Option<String>,
    pub(super) input: Input,
    pub(super) requests: u64,
}

impl Plan {
    /// Throws the dice for a new job.
    pub(super) fn throw(dice: &Dice, name: &str, latency: Duration, requests: u64) -> Self {
        let zero = Duration::ZERO;
        let lasts = |fault: Fault| dice.lasts(fault, name).unwrap_or(zero);
        let longer = lasts(Fault::JobPendingLonger);
        let running = latency + longer;
        let fates = [
            (Fault::JobFailed8, Fate::OutOfQuota),
            (Fault::JobFailed13, Fate::Broken),
            (Fault::JobExpired, Fate::Expired),
            (Fault::JobCancelled, Fate::Cancelled),
            (Fault::JobUnservedRows, Fate::PartlyServed),
        ];
        let too_large = dice
            .profile()
            .expire_over_requests
            .is_some_and(|most| requests > most);
        let thrown = || fates.iter().find(|(fault, _)| dice.hits(*fault, name));
        let fate = match too_large {
            true => Fate::Expired,
            false => thrown().map_or(Fate::Served, |(_, fate)| *fate),
        };
        Plan {
            pending: latency / 3 + longer,
            running,
            finish: running + lasts(Fault::JobUnknownState),
            fate,
            listed_after: lasts(Fault::ListDelay),
            results_unnamed: lasts(Fault::ResultsUnnamed),
            results_unreadable: lasts(Fault::ResultsUnreadable),
            without_counts: dice.hits(Fault::JobWithoutCounts, name),
            job_words: dice.hits(Fault::JobStateWords, name),
            inline_output: dice.answers_inline(name, requests),
        }
    }
}

impl Job {
    /// Makes a job; the caller has checked the order.
    pub(super) fn new(id: String, order: Order, plan: Plan) -> Self {
        let Order {
            model,
            display_name,
            version,
            priority,
            input,
            requests,
        } = order;
        Job {
            id,
            model,
            display_name,
            version,
            priority,
            input,
            requests,
            created: Timestamp::now(),
            born: Instant::now(),
            plan,
            cut: Mutex::new(None),
            begun: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            outcome: OnceLock::new(),
            ended: watch::Sender::new(false),
        }
    }

    /// Where the job stands at an instant.
    pub(super) fn phase(&self, now: Instant) -> Phase {
        if self.cut().is_some() {
            return Phase::Due;
        }
        let age = now.duration_since(self.born);
        if age < self.plan.pending {
            Phase::Pending
        } else if age < self.plan.running {
            Phase::Running
        } else if age < self.plan.finish {
            Phase::Odd
        } else {
            Phase::Due
        }
    }

    /// Says whether lists show the job yet.
    pub(super) fn is_listed(&self, now: Instant) -> bool {
        now.duration_since(self.born) >= self.plan.listed_after
    }

    /// When the job is due, if nobody cancels it.
    pub(super) fn due(&self) -> Instant {
        self.born + self.plan.finish
    }

    /// The client's cancel, if there was one.
    pub(super) fn cut(&self) -> Option<Cut> {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the job; says whether there was still something to cancel.
    pub(super) fn cancel(&self, now: Instant) -> bool {
        let cut = match self.phase(now) {
            Phase::Pending => Cut::BeforeStart,
            Phase::Running | Phase::Odd => Cut::WhileRunning,
            Phase::Due => return false,
        };
        let mut held = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let first = held.is_none();
        held.get_or_insert(cut);
        first
    }

    /// Stops the processing of a deleted job.
    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    /// Says whether the job was deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    /// Claims the making of the answers; only the first caller gets it.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    /// Ends the job.
    pub(super) fn end(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            self.ended.send_replace(true);
        }
    }

    /// How the job ended, if it did.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Waits until the job has ended.
    pub(super) async fn wait(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as the job, so this cannot fail.
        let _ended = ended.wait_for(|ended| *ended).await;
    }

    /// The name of the results file, without `files/`.
    pub(super) fn results_id(&self) -> String {
        format!("batch-{}", self.id)
    }

    /// Describes the job as a long-running operation; a list leaves inline results out.
    pub(super) fn operation(&self, now: Instant, in_list: bool) -> Value {
        const PACKAGE: &str = "type.googleapis.com/google.ai.generativelanguage.v1main";
        let name = format!("batches/{}", self.id);
        let outcome = self.outcome();
        let output = outcome.and_then(|outcome| self.output(outcome, now, in_list));
        let mut metadata = Map::new();
        let mut set = |name: &str, value: Value| metadata.insert(name.to_owned(), value);
        set("@type", json!(format!("{PACKAGE}.GenerateContentBatch")));
        set("model", json!(format!("models/{}", self.model)));
        if !self.display_name.is_empty() {
            set("displayName", json!(self.display_name));
        }
        if let Input::File(id) = &self.input {
            set("inputConfig", json!({"fileName": format!("files/{id}")}));
        }
        if let Some(output) = &output {
            set("output", Value::Object(output.clone()));
        }
        set("createTime", json!(format!("{:.9}", self.created)));
        if let Some(outcome) = outcome {
            set("endTime", json!(format!("{:.9}", outcome.ended)));
        }
        let updated = outcome.map_or_else(Timestamp::now, |outcome| outcome.ended);
        set("updateTime", json!(format!("{updated:.9}")));
        if !self.plan.without_counts {
            set("batchStats", self.stats());
        }
        set("state", json!(self.state_word(now)));
        if let Some(priority) = &self.priority {
            set("priority", json!(priority));
        }
        set("name", json!(name));
        let mut operation = Map::new();
        operation.insert("name".to_owned(), json!(name));
        operation.insert("metadata".to_owned(), Value::Object(metadata));
        let Some(outcome) = outcome else {
            return Value::Object(operation);
        };
        operation.insert("done".to_owned(), json!(true));
        if let Some(error) = outcome.error() {
            operation.insert("error".to_owned(), error);
        }
        if let Some(output) = output {
            let kind = json!(format!("{PACKAGE}.GenerateContentBatchOutput"));
            let response = [("@type".to_owned(), kind)]
                .into_iter()
                .chain(output)
                .collect();
            operation.insert("response".to_owned(), Value::Object(response));
        }
        Value::Object(operation)
    }

    fn output(&self, outcome: &Outcome, now: Instant, in_list: bool) -> Option<Map<String, Value>> {
        if now < outcome.at + self.plan.results_unnamed {
            return None;
        }
        let (name, value) = match &outcome.output {
            Output::None => return None,
            Output::Inline(_) if in_list => return None,
            Output::File => (
                "responsesFile",
                json!(format!("files/{}", self.results_id())),
            ),
            Output::Inline(rows) => ("inlinedResponses", json!({"inlinedResponses": rows})),
        };
        Some(Map::from_iter([(name.to_owned(), value)]))
    }

    /// The statistics: int64 as texts, zeros left out.
    fn stats(&self) -> Value {
        let ended = self
            .outcome()
            .filter(|outcome| outcome.end == End::Succeeded);
        let counts = match ended {
            Some(outcome) => [
                ("requestCount", self.requests),
                ("successfulRequestCount", outcome.succeeded),
                ("failedRequestCount", outcome.failed),
            ],
            None => [
                ("requestCount", self.requests),
                ("pendingRequestCount", self.requests),
                ("failedRequestCount", 0),
            ],
        };
        let told = counts.into_iter().filter(|(_, count)| *count > 0);
        told.map(|(name, count)| (name.to_owned(), json!(count.to_string())))
            .collect()
    }

    fn state_word(&self, now: Instant) -> String {
        let word = match self.outcome().map(|outcome| &outcome.end) {
            Some(End::Succeeded) => "SUCCEEDED",
            Some(End::Failed { .. }) => "FAILED",
            Some(End::Cancelled) => "CANCELLED",
            Some(End::Expired) => "EXPIRED",
            None => match self.phase(now) {
                Phase::Pending => "PENDING",
                Phase::Odd => "REBALANCING",
                Phase::Running | Phase::Due => "RUNNING",
            },
        };
        let prefix = if self.plan.job_words {
            "JOB_STATE"
        } else {
            "BATCH_STATE"
        };
        format!("{prefix}_{word}")
    }
}

impl Outcome {
    /// An end without results.
    pub(super) fn without_results(end: End) -> Self {
        Outcome {
            end,
            ended: Timestamp::now(),
            at: Instant::now(),
            succeeded: 0,
            failed: 0,
            output: Output::None,
        }
    }

    fn error(&self) -> Option<Value> {
        match &self.end {
            End::Failed { code, message } => Some(json!({"code": code, "message": message})),
            End::Cancelled => Some(json!({"code": 13, "message": "Batch was cancelled."})),
            End::Succeeded | End::Expired => None,
        }
    }

    /// The word under which the ledger counts the end.
    pub(super) fn word(&self) -> &'static str {
        match self.end {
            End::Succeeded => "succeeded",
            End::Failed { .. } => "failed",
            End::Cancelled => "cancelled",
            End::Expired => "expired",
        }
    }
}
