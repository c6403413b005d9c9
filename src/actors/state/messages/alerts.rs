//! What StateActor is asked and told of alerts.

use actix::Message;

use super::StateResult;
use crate::domain::alert::{Alert, AlertEvent, Channel, Incident, Vitals};
use crate::domain::ids::{RunId, ScopeToken};
use crate::domain::time::Timestamp;

messages! {
    /// The figures that alerts follow from: `window` answers are looked at, to the end of a batch.
    ReadVitals { scope: ScopeToken, window: u64, at: Timestamp } -> Vitals;

    /// Keeps what holds now, and a sign of life: what is new fires, what is open and not named here
    /// is cleared, and each change is due on the channels that are to hear of it.
    RecordAlerts {
        run: RunId,
        /// Each with the id that it gets if it is new.
        incidents: Vec<(String, Incident)>,
        /// Who hears of what is new; of its end whoever heard of its beginning.
        channels: Vec<Channel>,
        /// The most failures in a row that were judged here: they are forgotten.
        barren_peak: u64,
        /// Since when there has been work without a pause.
        busy_since: Option<Timestamp>,
        at: Timestamp,
    } -> AlertChanges;

    /// Deliveries that are due on these channels, the longest due first. The end of an alert waits
    /// for its beginning.
    ListDeliveries { channels: Vec<Channel>, limit: u64, at: Timestamp } -> Vec<Delivery>;

    /// What came of a try.
    RecordDelivery {
        alert: String,
        channel: Channel,
        event: AlertEvent,
        outcome: DeliveryOutcome,
        at: Timestamp,
    } -> ();
}

/// What a look changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertChanges {
    pub fired: Vec<Alert>,
    pub cleared: Vec<Alert>,
}

/// A message to bring out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub alert: Alert,
    pub channel: Channel,
    pub event: AlertEvent,
    /// Tries so far.
    pub attempts: u32,
}

/// What came of a try to bring a message out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    Delivered,
    Failed {
        error: String,
        /// When it is tried again; never, when absent.
        next_at: Option<Timestamp>,
    },
}

/// How a delivery stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryState {
    pub channel: Channel,
    pub event: AlertEvent,
    pub attempts: u32,
    /// Absent when it is delivered or given up.
    pub next_at: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    pub last_error: Option<String>,
}

/// How the last run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    pub run: RunId,
    pub status: super::RunStatus,
    pub updated_at: Timestamp,
}
