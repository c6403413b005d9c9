//! What a run is told at birth, and how it may end.

use std::time::Duration;

use crate::actors::state::messages::WorkLeft;
use crate::domain::halt::HaltReason;
use crate::domain::ids::ScopeToken;

/// What a conductor is told at birth.
#[derive(Clone)]
pub struct ConductorOptions {
    pub scope: ScopeToken,
    pub chained: bool,
    pub mode: Mode,
    /// The pause between two beats.
    pub beat: Duration,
    /// The pause between two looks at the tree when the run never ends by itself.
    pub scan_interval: Duration,
    /// How long the provider may be out of reach, with work left, before the run ends.
    pub unavailable_max: Duration,
    /// Whether no page may be uploaded beyond those already claimed (`--limit` is used up).
    pub pages_max: Option<u64>,
}

/// When a run ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When no batch is live and nothing is runnable.
    UntilDone,
    /// Never.
    Watch,
    /// When what can be collected is collected and what can be sent is sent.
    Once,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// Nothing is left to do.
    Done(WorkLeft),
    /// Stopped, or ended by its mode, with work left.
    WorkLeft(WorkLeft),
    /// Submission is halted until an operator resumes it, and all that was sent is collected.
    Halted { reason: HaltReason, message: String },
    /// The provider was out of reach for too long.
    Unavailable { message: String },
    /// The tree could not be looked at.
    NoLabels { message: String },
    /// A stage died.
    Failed { stage: String, reason: String },
}
