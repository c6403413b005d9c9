//! What can go wrong with the provider, as a profile: which faults, how often, with what numbers.
//!
//! A profile is flat YAML. Each fault is a rate (`poll_503: 0.05`) or a block with the rate and
//! its numbers (`create_slow: {rate: 0.1, milliseconds: 5000}`). Rolling is in `dice.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Which faults the emulator plays, and how often.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultProfile {
    rates: BTreeMap<Fault, FaultRate>,
    /// The seed of the dice; what starts the emulator may give another.
    pub(super) seed: Option<u64>,
    /// Every job with more requests than this expires, whatever the dice say.
    pub(super) expire_over_requests: Option<u64>,
    /// Scripted answers by key, in order of preference.
    pub(super) pages: Vec<PageRule>,
}

/// How often one fault happens, and the numbers that belong to it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultRate {
    /// Probability between 0 and 1.
    rate: f64,
    /// Never more often than this since the profile was set.
    pub(super) at_most: Option<u64>,
    /// Only for things whose name matches: a display name, a row's key, a file's display name.
    only: Option<String>,
    /// The length of a delay or of a phase.
    milliseconds: Option<u64>,
    /// For `job_inline_output`: the largest job that counts as small.
    requests: Option<u64>,
}

/// A script for the requests of some keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageRule {
    /// A key, or a pattern in which `*` stands for any text.
    key: String,
    kind: RowKind,
    /// For how many requests of each matching key; later rules follow when it is used up.
    #[serde(default)]
    times: Times,
}

/// How long a page rule holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Times {
    #[default]
    Always,
    First(u64),
}

/// Why a fault profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultProfileError {
    /// The text is not YAML, or a value has the wrong type.
    #[error("the fault profile cannot be read: {0}")]
    Unreadable(#[from] serde_yaml::Error),
    /// A key that names no fault.
    #[error("the fault profile has no key '{key}'{}", did_you_mean(.suggestion.as_deref()))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The nearest key there is, if one is near.
        suggestion: Option<String>,
    },
    /// A value that cannot be what its key says.
    #[error("fault profile key '{key}': {why}")]
    BadValue {
        /// The key the value stands under.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

macro_rules! faults {
    ($($variant:ident = $name:literal,)*) => {
        /// Everything outside a single answer row that can go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) enum Fault {
            $($variant,)*
            /// A row of the results, in one of the ways a row can be bad.
            Row(RowKind),
        }

        impl Fault {
            /// Every fault that is not a row's, in the order of a request's life.
            const PLAIN: &[Fault] = &[$(Fault::$variant,)*];

            /// The key of the fault in a profile and in the ledger.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Fault::$variant => $name,)*
                    Fault::Row(kind) => kind.fault_name(),
                }
            }
        }
    };
}

faults! {
    UploadStart429 = "upload_start_429",
    UploadStart429RetryInfo = "upload_start_429_retry_info",
    UploadStart429AbsurdRetry = "upload_start_429_absurd_retry",
    UploadStartStorageFull = "upload_start_storage_full",
    UploadStart503 = "upload_start_503",
    UploadChunk503 = "upload_chunk_503",
    UploadChunkLostAnswer = "upload_chunk_lost_answer",
    UploadFinalizeLostAnswer = "upload_finalize_lost_answer",
    UploadFinalizeWithoutFile = "upload_finalize_without_file",
    UploadWrongSize = "upload_wrong_size",
    FileProcessing = "file_processing",
    FileFailed = "file_failed",
    FileGet503 = "file_get_503",
    Create429 = "create_429",
    Create429RetryInfo = "create_429_retry_info",
    CreateFailedPrecondition = "create_failed_precondition",
    Create500 = "create_500",
    Create503 = "create_503",
    CreateLost503 = "create_lost_503",
    CreateLostClosed = "create_lost_closed",
    CreateSlow = "create_slow",
    Poll429 = "poll_429",
    Poll503 = "poll_503",
    Poll502Html = "poll_502_html",
    List503 = "list_503",
    ListWithoutPageSizeEmpty = "list_without_page_size_empty",
    ListDelay = "list_delay",
    JobPendingLonger = "job_pending_longer",
    JobUnknownState = "job_unknown_state",
    JobStateWords = "job_state_words",
    JobWithoutCounts = "job_without_counts",
    JobFailed8 = "job_failed_8",
    JobFailed13 = "job_failed_13",
    JobExpired = "job_expired",
    JobCancelled = "job_cancelled",
    JobUnservedRows = "job_unserved_rows",
    JobInlineOutput = "job_inline_output",
    ResultsUnnamed = "results_unnamed",
    ResultsUnreadable = "results_unreadable",
    RowsShuffled = "rows_shuffled",
    RowsUnknownKey = "rows_unknown_key",
    LinesCrlf = "lines_crlf",
    LinesBlank = "lines_blank",
    LinesNoFinalNewline = "lines_no_final_newline",
    Download503 = "download_503",
    DownloadCut = "download_cut",
    Delete429 = "delete_429",
    Delete503 = "delete_503",
}

macro_rules! row_kinds {
    ($($variant:ident = $name:literal,)*) => {
        /// The ways in which one row of the results can be bad.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) enum RowKind {
            $($variant,)*
        }

        impl RowKind {
            /// Every kind, in the order in which the dice are rolled.
            pub(super) const ALL: &[RowKind] = &[$(RowKind::$variant,)*];

            /// The word for the kind in a page rule and in the ledger.
            pub(super) fn name(self) -> &'static str {
                &self.fault_name()["row_".len()..]
            }

            fn fault_name(self) -> &'static str {
                match self {
                    $(RowKind::$variant => concat!("row_", $name),)*
                }
            }
        }
    };
}

row_kinds! {
    Error13 = "error_13",
    Error8 = "error_8",
    Error7 = "error_7",
    StatusError = "status_error",
    NoCandidates = "no_candidates",
    PromptBlocked = "prompt_blocked",
    MaxTokensEmpty = "max_tokens_empty",
    Truncated = "truncated",
    Repetition = "repetition",
    Recitation = "recitation",
    Safety = "safety",
    EmptyParts = "empty_parts",
    Missing = "missing",
    DuplicateSame = "duplicate_same",
    DuplicateConflict = "duplicate_conflict",
    CodeFence = "code_fence",
    ProseAround = "prose_around",
    ThoughtParts = "thought_parts",
    SplitParts = "split_parts",
    InvalidSchema = "invalid_schema",
    InvalidJson = "invalid_json",
    InvalidUtf8 = "invalid_utf8",
}

impl<'de> Deserialize<'de> for RowKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        // `row_error:13` is how a script writes the code of a row error.
        let plain = word.strip_prefix("row_").unwrap_or(&word).replace(':', "_");
        let known = RowKind::ALL
            .iter()
            .copied()
            .find(|kind| kind.name() == plain);
        known.ok_or_else(|| {
            let words: Vec<&str> = RowKind::ALL.iter().map(|kind| kind.name()).collect();
            D::Error::custom(format!(
                "no kind '{word}'; the kinds are {}",
                words.join(", ")
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Count(u64),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Count(count) => Ok(Times::First(count)),
            Written::Word(word) if word == "always" => Ok(Times::Always),
            Written::Word(word) => Err(D::Error::custom(format!(
                "times is a count or 'always', not '{word}'"
            ))),
        }
    }
}

impl FaultProfile {
    /// No fault at all: the provider at its best.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads a profile; a key that names nothing is an error.
    pub fn from_yaml(text: &str) -> Result<Self, FaultProfileError> {
        let written: Option<BTreeMap<String, serde_yaml::Value>> = serde_yaml::from_str(text)?;
        let mut profile = FaultProfile::none();
        for (key, value) in written.unwrap_or_default() {
            match key.as_str() {
                "seed" => profile.seed = read(&key, value)?,
                "pages" => profile.pages = read(&key, value)?,
                "expire_over_requests" => profile.expire_over_requests = read(&key, value)?,
                _ => {
                    let fault = Fault::from_name(&key).ok_or_else(|| unknown_key(&key))?;
                    profile.rates.insert(fault, FaultRate::read(&key, value)?);
                }
            }
        }
        Ok(profile)
    }

    /// The rate of a fault, where one is set and above zero.
    pub(super) fn rate_of(&self, fault: Fault) -> Option<&FaultRate> {
        self.rates.get(&fault).filter(|rate| rate.rate > 0.0)
    }

    /// The script for the request number `nth` (from 1) of `key`, if the profile has one.
    ///
    /// Rules are used up in the order written, so "recitation once, then truncated once" is two
    /// rules with `times: 1`.
    pub(super) fn scripted(&self, key: &str, nth: u64) -> Option<RowKind> {
        let mut used_up = 0;
        for rule in self.pages.iter().filter(|rule| matches(&rule.key, key)) {
            match rule.times {
                Times::Always => return Some(rule.kind),
                Times::First(count) if nth <= used_up + count => return Some(rule.kind),
                Times::First(count) => used_up += count,
            }
        }
        None
    }
}

impl FaultRate {
    fn read(key: &str, value: serde_yaml::Value) -> Result<Self, FaultProfileError> {
        let rate = match value.as_f64() {
            Some(rate) => FaultRate {
                rate,
                at_most: None,
                only: None,
                milliseconds: None,
                requests: None,
            },
            None => read(key, value)?,
        };
        if (0.0..=1.0).contains(&rate.rate) {
            return Ok(rate);
        }
        let why = format!("a rate lies between 0 and 1, not at {}", rate.rate);
        Err(FaultProfileError::BadValue {
            key: key.to_owned(),
            why,
        })
    }

    /// Says whether a thing of this name can have the fault when `chance` (0 to 1) was rolled.
    pub(super) fn hits(&self, identity: &str, chance: f64) -> bool {
        let meant = self
            .only
            .as_ref()
            .is_none_or(|pattern| matches(pattern, identity));
        meant && chance < self.rate
    }

    /// The length of the fault's delay or phase.
    pub(super) fn duration(&self) -> Duration {
        const DEFAULT_MILLISECONDS: u64 = 1000;
        Duration::from_millis(self.milliseconds.unwrap_or(DEFAULT_MILLISECONDS))
    }

    /// The largest job that the fault takes for a small one.
    pub(super) fn requests_max(&self) -> u64 {
        const SMALL_JOB_REQUESTS: u64 = 100;
        self.requests.unwrap_or(SMALL_JOB_REQUESTS)
    }
}

impl Fault {
    /// Every fault there is.
    pub(super) fn all() -> impl Iterator<Item = Fault> {
        let rows = RowKind::ALL.iter().copied().map(Fault::Row);
        Fault::PLAIN.iter().copied().chain(rows)
    }

    fn from_name(name: &str) -> Option<Fault> {
        Fault::all().find(|fault| fault.name() == name)
    }
}

fn read<T: for<'de> Deserialize<'de>>(
    key: &str,
    value: serde_yaml::Value,
) -> Result<T, FaultProfileError> {
    serde_yaml::from_value(value).map_err(|error| FaultProfileError::BadValue {
        key: key.to_owned(),
        why: error.to_string(),
    })
}

fn unknown_key(key: &str) -> FaultProfileError {
    const NEAR: f64 = 0.8;
    let names = Fault::all()
        .map(Fault::name)
        .chain(["pages", "seed", "expire_over_requests"]);
    let scored = names.map(|name| (strsim::jaro_winkler(key, name), name));
    let nearest = scored.max_by(|left, right| left.0.total_cmp(&right.0));
    let suggestion = nearest
        .filter(|(score, _)| *score >= NEAR)
        .map(|(_, name)| name.to_owned());
    FaultProfileError::UnknownKey {
        key: key.to_owned(),
        suggestion,
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion
        .map(|known| format!(", did you mean '{known}'?"))
        .unwrap_or_default()
}

/// Compares a text with a pattern in which `*` stands for any text, also none.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("a:1", "a:1", true),
            ("a:1", "a:12", false),
            ("a:*", "a:12", true),
            ("*:12", "a:12", true),
            ("a*1*", "a:12", true),
            ("a*b*a", "aba", true),
            ("a*b*a", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_of_one_key_are_used_up_in_order() {
        let text = "pages:\n  - {key: p1, kind: recitation, times: 1}\n  - {key: 'p*', kind: 'row_error:13', times: 2}\n";
        let profile = FaultProfile::from_yaml(text).unwrap();
        let played: Vec<_> = (1..=4).map(|nth| profile.scripted("p1", nth)).collect();
        let error = Some(RowKind::Error13);
        assert_eq!(played, [Some(RowKind::Recitation), error, error, None]);
        assert_eq!(profile.scripted("p2", 3), None);
        assert_eq!(profile.scripted("q", 1), None);
    }

    #[test]
    fn a_wrong_profile_says_what_is_wrong() {
        for (text, expected) in [
            (
                "pol_503: 0.1",
                "has no key 'pol_503', did you mean 'poll_503'?",
            ),
            (
                "poll_503: 1.5",
                "key 'poll_503': a rate lies between 0 and 1, not at 1.5",
            ),
            ("poll_503: {rate: 0.1, often: 3}", "unknown field `often`"),
            (
                "pages: [{key: a, kind: nonsense}]",
                "no kind 'nonsense'; the kinds are error_13",
            ),
            (
                "pages: [{key: a, kind: safety, times: sometimes}]",
                "a count or 'always'",
            ),
            ("[1, 2]", "cannot be read"),
        ] {
            let error = FaultProfile::from_yaml(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(
            FaultProfile::from_yaml("# nothing\n").unwrap(),
            FaultProfile::none()
        );
    }

    #[test]
    fn the_shipped_profiles_name_every_fault() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/faults");
        for name in ["none", "default", "storm"] {
            let text = std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap();
            let profile = FaultProfile::from_yaml(&text).unwrap();
            for fault in Fault::all() {
                assert!(
                    profile.rates.contains_key(&fault),
                    "{name}: {}",
                    fault.name()
                );
                let played = profile.rate_of(fault).is_some();
                assert_eq!(played, name != "none", "{name}: {}", fault.name());
            }
        }
    }
}
