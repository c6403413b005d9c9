//! What one look at a job means for its batch.

use crate::domain::batch::{AbandonCode, BatchEvent};
use crate::domain::remote::{RemoteBatch, RemoteBatchState};

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing ended; look again.
    StillRunning,
    /// It ended well, but does not say where the results are; look again.
    ResultsNotNamed,
    /// Results are there to be fetched, whatever the state.
    Results,
    /// The provider ended it and has nothing for us.
    Nothing {
        code: AbandonCode,
        words: String,
        /// Whether the same job would fail again.
        for_good: bool,
    },
}

impl Seen {
    /// The event for the batch.
    pub fn event(&self) -> BatchEvent {
        match self {
            Self::StillRunning | Self::ResultsNotNamed => BatchEvent::Advanced,
            Self::Results => BatchEvent::ResultsOffered,
            Self::Nothing { code, .. } => BatchEvent::EndedEmpty { code: *code },
        }
    }
}

/// The gRPC code of a spent quota: the job's size was not at fault.
const RESOURCE_EXHAUSTED: i64 = 8;
/// gRPC codes that speak of what was sent: invalid argument, not found, already exists, permission
/// denied, failed precondition, out of range, unimplemented.
const FOR_GOOD: [i64; 7] = [3, 5, 6, 7, 9, 11, 12];

/// Reads one look at a job. Results are looked for in every terminal state before anything is
/// given up, and a word that is not known ends nothing.
pub fn seen(remote: &RemoteBatch) -> Seen {
    let code = match &remote.state {
        RemoteBatchState::Pending | RemoteBatchState::Running | RemoteBatchState::Unknown(_) => {
            return Seen::StillRunning;
        }
        _ if remote.output.is_some() => return Seen::Results,
        RemoteBatchState::Succeeded => return Seen::ResultsNotNamed,
        RemoteBatchState::Failed => match remote.error.as_ref().and_then(|error| error.code) {
            Some(RESOURCE_EXHAUSTED) => AbandonCode::Quota,
            _ => AbandonCode::Failed,
        },
        RemoteBatchState::Cancelled => AbandonCode::Cancelled,
        RemoteBatchState::Expired => AbandonCode::Expired,
    };
    let words = match &remote.error {
        Some(status) => match status.code {
            Some(number) => format!("code {number}: {}", status.message),
            None => status.message.clone(),
        },
        None => format!("the provider says {}", remote.state.as_str()),
    };
    let number = remote.error.as_ref().and_then(|error| error.code);
    Seen::Nothing {
        code,
        words,
        for_good: number.is_some_and(|number| FOR_GOOD.contains(&number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::RemoteName;
    use crate::domain::remote::{RemoteOutput, RemoteStats, RemoteStatus};

    fn remote(state: &str, output: bool, code: Option<i64>) -> RemoteBatch {
        RemoteBatch {
            name: RemoteName::from("batches/b"),
            display_name: None,
            state: RemoteBatchState::parse(state),
            output: output.then(|| RemoteOutput::File(RemoteName::from("files/batch-b"))),
            error: code.map(|code| RemoteStatus {
                code: Some(code),
                message: "words".into(),
            }),
            stats: RemoteStats::default(),
            created_at: None,
            ended_at: None,
        }
    }

    fn check(state: &str, output: bool, code: Option<i64>, expected: BatchEvent) {
        assert_eq!(
            seen(&remote(state, output, code)).event(),
            expected,
            "{state} {output}"
        );
    }

    #[test]
    fn only_the_providers_word_ends_a_batch() {
        check("BATCH_STATE_PENDING", false, None, BatchEvent::Advanced);
        check("BATCH_STATE_RUNNING", true, None, BatchEvent::Advanced);
        check("BATCH_STATE_NAPPING", false, None, BatchEvent::Advanced);
        check("", true, None, BatchEvent::Advanced);
    }

    #[test]
    fn every_terminal_state_is_searched_for_results() {
        for state in ["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"] {
            check(state, true, None, BatchEvent::ResultsOffered);
        }
        check("SUCCEEDED", false, None, BatchEvent::Advanced);
    }

    #[test]
    fn an_empty_end_says_why() {
        let ended = |code| BatchEvent::EndedEmpty { code };
        check("EXPIRED", false, None, ended(AbandonCode::Expired));
        check("CANCELLED", false, Some(13), ended(AbandonCode::Cancelled));
        check("FAILED", false, Some(3), ended(AbandonCode::Failed));
        check("FAILED", false, Some(8), ended(AbandonCode::Quota));
        assert_eq!(
            seen(&remote("FAILED", false, Some(8))),
            Seen::Nothing {
                code: AbandonCode::Quota,
                words: "code 8: words".into(),
                for_good: false
            }
        );
    }
}
