//! What the provider says, unknown words included. Times are the provider's own.

use super::ids::RemoteName;
use super::time::Timestamp;

/// A file in the provider's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    pub name: RemoteName,
    pub uri: String,
    pub display_name: Option<String>,
    pub mime: Option<String>,
    /// Absent while the file is being processed.
    pub bytes: Option<u64>,
    /// Lowercase hex, whatever form it came in.
    pub sha256: Option<String>,
    pub created_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub state: RemoteFileState,
}

/// Whether a remote file may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteFileState {
    Processing,
    Active,
    Failed,
    /// A word this program does not know; never a reason to give up.
    Unknown(String),
}

/// A job of the provider, as one look at it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteBatch {
    pub name: RemoteName,
    pub display_name: Option<String>,
    pub state: RemoteBatchState,
    /// Where results are said to be, in whatever state.
    pub output: Option<RemoteOutput>,
    pub error: Option<RemoteStatus>,
    pub stats: RemoteStats,
    pub created_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// A job's state. A word that is not known counts as still running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteBatchState {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
    Unknown(String),
}

impl RemoteBatchState {
    /// Reads `BATCH_STATE_*`, `JOB_STATE_*` or the bare word, in any case.
    pub fn parse(word: &str) -> Self {
        let upper = word.to_ascii_uppercase();
        let bare = upper
            .rsplit_once("STATE_")
            .map_or(upper.as_str(), |(_prefix, bare)| bare);
        match bare {
            "PENDING" | "QUEUED" => Self::Pending,
            "RUNNING" => Self::Running,
            "SUCCEEDED" | "PARTIALLY_SUCCEEDED" => Self::Succeeded,
            "FAILED" => Self::Failed,
            "CANCELLED" | "CANCELED" => Self::Cancelled,
            "EXPIRED" => Self::Expired,
            _ => Self::Unknown(word.to_owned()),
        }
    }

    /// The word for logs and rows.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Unknown(word) => word,
        }
    }

    /// Whether the provider has said its last word on the job.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired => true,
            Self::Pending | Self::Running | Self::Unknown(_) => false,
        }
    }
}

/// Where a job's results stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteOutput {
    /// In a file of the provider's store.
    File(RemoteName),
    /// In the job itself.
    Inline,
}

/// A google.rpc.Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteStatus {
    pub code: Option<i64>,
    pub message: String,
}

/// The provider's own counts; shown, never trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteStats {
    pub requests: Option<u64>,
    pub pending: Option<u64>,
    pub succeeded: Option<u64>,
    pub failed: Option<u64>,
}

/// A model, as far as anybody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteModel {
    /// With `models/`.
    pub name: String,
    /// What it may be asked, such as `batchGenerateContent`; empty when the provider does not say.
    pub methods: Vec<String>,
    pub output_tokens_max: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: RemoteBatchState) {
        assert_eq!(RemoteBatchState::parse(word), expected, "{word}");
    }

    #[test]
    fn f34_states_are_read_by_their_suffix() {
        check("BATCH_STATE_SUCCEEDED", RemoteBatchState::Succeeded);
        check("JOB_STATE_SUCCEEDED", RemoteBatchState::Succeeded);
        check("batch_state_pending", RemoteBatchState::Pending);
        check("Running", RemoteBatchState::Running);
        check("JOB_STATE_PARTIALLY_SUCCEEDED", RemoteBatchState::Succeeded);
    }

    #[test]
    fn f34_an_unknown_state_is_kept_and_never_terminal() {
        let state = RemoteBatchState::parse("BATCH_STATE_TIRED");
        assert_eq!(state, RemoteBatchState::Unknown("BATCH_STATE_TIRED".into()));
        assert!(!state.is_terminal());
        assert!(!RemoteBatchState::parse("").is_terminal());
    }
}
