//! Alerts: what an operator is told of once, and the figures that lead to it.

use std::time::Duration;

use super::failure::words;
use super::halt::HaltReason;
use super::ids::{BatchId, RunId};
use super::time::Timestamp;

words! {
    /// What an alert is about, as `alerts.kind` holds it.
    AlertKind {
        /// So many answers in a row were failures.
        ConsecutiveFailures => "consecutive_failures",
        /// Too many of the last answers were failures.
        FailureRate => "failure_rate",
        /// Nothing was accepted for long, although there is work.
        NothingAccepted => "nothing_accepted",
        /// A job ended long ago and its results are not on the local disk.
        ResultsUncollected => "results_uncollected",
        /// Our bytes in the provider's store are near the budget.
        RemoteStorage => "remote_storage",
        /// The disk of the work folder is nearly full.
        LocalDisk => "local_disk",
        /// Nothing is submitted; the subject is the reason.
        Halted => "halted",
        /// No call to the provider works.
        ProviderUnreachable => "provider_unreachable",
        /// The provider does not show a live job to the key that made it.
        BatchUnreachable => "batch_unreachable",
        /// A job runs far longer than those of its model used to; the subject is the model.
        BatchSlow => "batch_slow",
    }
}

words! {
    /// What is told of an alert.
    AlertEvent {
        Fired => "fired",
        Cleared => "cleared",
        /// Nothing is wrong: somebody tries the channel.
        Test => "test",
    }
}

words! {
    /// How an operator is told, beside the log.
    Channel {
        Webhook => "webhook",
        Command => "command",
    }
}

/// Something that holds now and that an operator should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub kind: AlertKind,
    /// Which one of its kind; empty where there is only one.
    pub subject: String,
    pub message: String,
    pub since: Timestamp,
    /// It began and ended between two looks.
    pub over: bool,
}

/// An alert as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// A UUIDv7.
    pub id: String,
    pub kind: AlertKind,
    pub subject: String,
    pub message: String,
    /// Since when the condition has held.
    pub since: Timestamp,
    /// When it was told first.
    pub fired_at: Timestamp,
    pub last_seen: Timestamp,
    pub cleared_at: Option<Timestamp>,
    /// How many recorded looks found it.
    pub times: u64,
}

/// How the jobs of a model have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTimes {
    pub model: String,
    /// The age of the oldest live job.
    pub live_oldest: Option<Duration>,
    /// How many have ended, and what nine tenths of them took at most.
    pub ended: u64,
    pub nine_tenths: Option<Duration>,
}

/// The figures of the state that alerts follow from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Answers since the last accepted one, and the most there were since the last look.
    pub barren: u64,
    pub barren_peak: u64,
    /// Answers in the window, and how many of them were accepted.
    pub results: u64,
    pub accepted: u64,
    pub accepted_at: Option<Timestamp>,
    /// Batches that have not ended, and since when the oldest of them is with the provider.
    pub live: u64,
    pub live_since: Option<Timestamp>,
    /// Whether pages could be sent, where that was asked.
    pub runnable: bool,
    /// Batches whose job ended and whose results are not on the disk: how many, the oldest and its
    /// end.
    pub uncollected: u64,
    pub uncollected_oldest: Option<(BatchId, Timestamp)>,
    pub remote_bytes: u64,
    pub halts: Vec<(HaltReason, String, Timestamp)>,
    pub unreachable: Vec<(BatchId, Timestamp)>,
    pub jobs: Vec<JobTimes>,
    /// The alerts that are open, oldest first.
    pub open: Vec<Alert>,
    /// The last sign of life of a run.
    pub heartbeat: Option<Heartbeat>,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub run: RunId,
    pub at: Timestamp,
    /// Since when there has been work without a pause.
    pub busy_since: Option<Timestamp>,
}

/// What is known of the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProviderHealth {
    /// Nothing yet: no call was made.
    #[default]
    Unknown,
    Answers,
    /// No call has worked since then.
    Trouble {
        since: Timestamp,
        message: String,
    },
}

/// One message to bring out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The alert's; together with the event it names the message.
    pub id: String,
    pub event: AlertEvent,
    /// The word of the kind; `test` for a test.
    pub kind: String,
    pub subject: String,
    pub message: String,
    pub since: Timestamp,
    pub fired_at: Timestamp,
    pub cleared_at: Option<Timestamp>,
    /// Which pagemill speaks.
    pub instance: String,
    /// When this try is made.
    pub at: Timestamp,
    /// The number of this try, from 1.
    pub attempt: u32,
}

impl Notification {
    /// What a receiver knows the message by, however often it comes.
    pub fn idempotency_id(&self) -> String {
        format!("{}-{}", self.id, self.event)
    }
}
