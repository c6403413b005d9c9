//! What an audit may change in the state.

use crate::domain::ids::{BatchId, RecordKey, RemoteName, Sha256Hex};

/// One safe change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateRepair {
    /// A completed page whose recorded output is gone goes back to the work list.
    Requeue { key: RecordKey, recorded: Sha256Hex },
    /// A page at rest is done with the output that is on disk.
    Adopt {
        key: RecordKey,
        sha256: Sha256Hex,
        bytes: u64,
    },
    /// A completed page is done with another output than the recorded one.
    AdoptChanged {
        key: RecordKey,
        sha256: Sha256Hex,
        bytes: u64,
    },
    /// A page is let go by a batch that is over.
    Free { key: RecordKey, batch: BatchId },
    /// The image of an uploaded page that is in no batch is uploaded again.
    UploadAgain { key: RecordKey },
    /// The in-flight row of a batch that is over goes.
    DropInflight { key: RecordKey, batch: BatchId },
    /// The in-flight row of a page in a live batch is put back.
    AddInflight { key: RecordKey, batch: BatchId },
    /// `active_batches` says again what `submissions` says.
    MirrorBatch { batch: BatchId },
    /// `failure_counts` says again what `failure_logs` says.
    Recount { key: RecordKey },
    /// A remote file that nobody needs is marked for deletion.
    ForgetRemote { name: RemoteName },
}

impl StateRepair {
    /// What it does, in one clause.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Requeue { .. } => "the page goes back to the work list; it is paid for again",
            Self::Adopt { .. } => "the page is done with this output; nothing is paid",
            Self::AdoptChanged { .. } => "this output is recorded in place of the former one",
            Self::Free { .. } => {
                "the page is let go; if it was in flight, it is sent and paid for again"
            }
            Self::UploadAgain { .. } => "its image is uploaded again",
            Self::DropInflight { .. } => "the row is removed",
            Self::AddInflight { .. } => "the row is put back",
            Self::MirrorBatch { .. } => "the status is written again from the submission",
            Self::Recount { .. } => "the count is written again from the log",
            Self::ForgetRemote { .. } => "it is marked, and the next run deletes it",
        }
    }
}
