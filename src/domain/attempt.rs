//! What came of asking for a page in a batch.

use super::failure::ErrorType;
use super::ids::{RecordKey, Sha256Hex};
use super::page::Afterwards;

/// Tokens of one answer, by kind, as the provider counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: Option<u64>,
    pub cached: Option<u64>,
    pub candidates: Option<u64>,
    pub thoughts: Option<u64>,
    pub total: Option<u64>,
}

/// Where a result line stands in the raw result file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawLine {
    pub offset: u64,
    pub bytes: u64,
}

/// What an answer says about itself, good or bad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerFacts {
    pub finish_reason: Option<String>,
    pub model_version: Option<String>,
    pub tokens: Tokens,
    /// In billionths of a US dollar; absent when the model has no known price.
    pub cost_nanos: Option<u64>,
    pub raw_line: Option<RawLine>,
}

/// Everything about a failure that a person needs who was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureDetail {
    pub error: ErrorType,
    pub message: String,
    /// The error chain, one cause a line.
    pub chain: String,
    /// All text of the answer.
    pub raw_text: Option<String>,
    /// The text that was taken for JSON.
    pub extracted_text: Option<String>,
    /// The response as it came, cut to a limit.
    pub raw_json: Option<String>,
}

impl FailureDetail {
    /// A failure of which nothing is known but the provider's words.
    pub fn of_provider(words: &str) -> Self {
        FailureDetail {
            error: ErrorType::Api,
            message: words.to_owned(),
            chain: String::new(),
            raw_text: None,
            extracted_text: None,
            raw_json: None,
        }
    }
}

/// The judgement on one page of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub key: RecordKey,
    pub facts: AnswerFacts,
    pub outcome: Outcome,
}

/// Good or bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The output is on disk under the page's own path, synced.
    Accepted { output: Sha256Hex, bytes: u64 },
    /// The page's fault: counts one failure.
    Rejected {
        failure: Box<FailureDetail>,
        afterwards: Afterwards,
    },
    /// Not the page's fault: the page goes back uncounted.
    Released {
        cause: String,
        /// Whether this counts as a release of the page: a spent quota says nothing about it.
        counted: bool,
    },
    /// Not the page's fault either, but once too often: it is not sent again.
    ReleasesSpent { cause: String },
}

/// How many members of a batch ended how. `submitted = succeeded + failed + missing + released`
/// once the batch is settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub submitted: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub missing: u64,
    pub released: u64,
    pub open: u64,
}
