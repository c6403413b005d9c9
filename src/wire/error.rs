//! What a failed call asks of the caller.
//!
//! The HTTP status alone misleads: a bad key is a 400, a missing file is a 403, and a full store
//! is the same 429 as too many calls. So the reasons and quotas in the body are read first.

use std::time::{Duration, SystemTime};

use super::loose::{Object, cut};
use crate::domain::failure::{AccountFault, ApiError, Effect, Next, Quota};

/// The longest message that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 500;

/// What was called, as far as it decides what an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The create of a batch: the one call that must not happen twice.
    CreateBatch,
    /// Looks at one batch.
    GetBatch,
    ListBatches,
    CancelBatch,
    DeleteBatch,
    /// Any step of an upload.
    Upload,
    GetFile,
    ListFiles,
    DeleteFile,
    Download,
    GetModel,
}

impl Call {
    /// The words for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateBatch => "create a batch",
            Self::GetBatch => "look at a batch",
            Self::ListBatches => "list batches",
            Self::CancelBatch => "cancel a batch",
            Self::DeleteBatch => "delete a batch",
            Self::Upload => "upload a file",
            Self::GetFile => "look at a file",
            Self::ListFiles => "list files",
            Self::DeleteFile => "delete a file",
            Self::Download => "download a file",
            Self::GetModel => "look at the model",
        }
    }

    /// What a call may have done whose answer does not tell.
    pub fn doubt(self) -> Effect {
        match self {
            Self::CreateBatch
            | Self::CancelBatch
            | Self::DeleteBatch
            | Self::Upload
            | Self::DeleteFile => Effect::Maybe,
            Self::GetBatch
            | Self::ListBatches
            | Self::GetFile
            | Self::ListFiles
            | Self::Download
            | Self::GetModel => Effect::None,
        }
    }

    fn names_one_file(self) -> bool {
        matches!(self, Self::GetFile | Self::DeleteFile | Self::Download)
    }
}

/// An answer that is not the one hoped for.
#[derive(Debug, Clone, Copy)]
pub struct HttpAnswer<'a> {
    pub status: u16,
    /// The `Retry-After` header.
    pub retry_after: Option<&'a str>,
    /// The `Date` header: what a `Retry-After` that is a date is counted from.
    pub date: Option<&'a str>,
    /// JSON, HTML, or nothing at all.
    pub body: &'a [u8],
}

/// Classifies a failed call by its answer.
pub fn api_error(call: Call, answer: &HttpAnswer<'_>) -> ApiError {
    let fault = Fault::read(answer.body);
    // An error was seen inside a 200.
    let status = match fault.code {
        Some(code) if (200..300).contains(&answer.status) && (400..600).contains(&code) => code,
        _ => answer.status,
    };
    let word = match fault.status.as_str() {
        "" => String::new(),
        word => format!(" {word}"),
    };
    let said = match fault.message.as_str() {
        "" => describe(answer.body),
        message => one_line(message),
    };
    let next = next(call, status, &fault, answer);
    // The provider has one word for all its limits; each calls for something else.
    let limit = match &next {
        Next::Throttled { quota, .. } => format!(" ({})", quota.as_str()),
        _ => String::new(),
    };
    ApiError {
        effect: effect(call, answer.status, status),
        next,
        http_status: Some(answer.status),
        message: format!(
            "{}: HTTP {}{word}{limit}: {said}",
            call.as_str(),
            answer.status
        ),
    }
}

/// An answer that should have been readable and is not.
pub fn garbled(call: Call, http_status: Option<u16>, detail: &str) -> ApiError {
    ApiError {
        effect: call.doubt(),
        next: Next::Garbled,
        http_status,
        message: format!("{}: {}", call.as_str(), one_line(detail)),
    }
}

/// A text fit for a log line: one line, cut to a limit, without queries of addresses and without
/// anything that has the form of a key.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for piece in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if piece.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&without_secrets(piece));
        if line.len() > MESSAGE_BYTES_MAX {
            break;
        }
    }
    cut(&line, MESSAGE_BYTES_MAX).to_owned()
}

fn without_secrets(piece: &str) -> String {
    let lower = piece.to_ascii_lowercase();
    let query = lower
        .find("://")
        .and_then(|at| lower[at..].find('?').map(|question| at + question + 1));
    // A piece may hold several of these; nothing behind the first is shown.
    let first = [query, lower.find("key="), piece.find("AIza")]
        .into_iter()
        .flatten()
        .min();
    match first {
        Some(at) => format!("{}[removed]", &piece[..at]),
        None => piece.to_owned(),
    }
}

/// Whether the thing may have happened. Only the create of a batch is delicate, but the answer is
/// the same for every call that changes something: no 4xx does, except the one that says that the
/// server ran out of patience.
fn effect(call: Call, http_status: u16, status: u16) -> Effect {
    match status {
        408 => call.doubt(),
        400..500 if http_status >= 400 => Effect::None,
        _ => call.doubt(),
    }
}

fn next(call: Call, status: u16, fault: &Fault, answer: &HttpAnswer<'_>) -> Next {
    if let Some(account) = fault.account(status) {
        return Next::Account(account);
    }
    if status == 429 || fault.status == "RESOURCE_EXHAUSTED" {
        return Next::Throttled {
            after: hint(answer, fault),
            quota: fault.quota(),
        };
    }
    // A file that a create names may become usable; what never will is told by other words.
    let unready = fault.lower.contains("not in an active state")
        || (call == Call::CreateBatch && fault.status == "FAILED_PRECONDITION");
    if (400..500).contains(&status) && unready {
        return Next::NotReady;
    }
    let may_not_exist = fault.lower.contains("or it may not exist");
    match status {
        401 => Next::Account(AccountFault::Key),
        403 if call.names_one_file() || may_not_exist => Next::Missing,
        403 => Next::Account(AccountFault::Permission),
        404 | 410 => Next::Missing,
        408 | 500..=599 => Next::Transient,
        400..=499 => Next::Refused,
        _ => Next::Garbled,
    }
}

/// What an error body says.
#[derive(Debug, Default)]
struct Fault {
    code: Option<u16>,
    status: String,
    message: String,
    /// The message in lowercase.
    lower: String,
    reasons: Vec<String>,
    /// Quota ids and metrics.
    quotas: Vec<String>,
    retry_delay: Option<Duration>,
}

impl Fault {
    fn read(body: &[u8]) -> Self {
        let body = body.trim_ascii();
        // Some answers wrap the error object in a list of one.
        let list: Vec<&serde_json::value::RawValue> = match body.first() {
            Some(b'[') => serde_json::from_slice(body).unwrap_or_default(),
            _ => Vec::new(),
        };
        let outer = match list.first() {
            Some(first) => Object::open(first).unwrap_or_default(),
            None => Object::parse("an error", body).unwrap_or_default(),
        };
        let Some(error) = outer.object(&["error"]) else {
            let message = outer.text(&["error", "message"]).unwrap_or_default();
            return Fault {
                lower: message.to_ascii_lowercase(),
                message,
                ..Fault::default()
            };
        };
        let message = error.text(&["message"]).unwrap_or_default();
        let mut fault = Fault {
            code: error
                .count(&["code"])
                .and_then(|code| u16::try_from(code).ok()),
            status: one_line(&error.text(&["status"]).unwrap_or_default()),
            lower: message.to_ascii_lowercase(),
            message,
            ..Fault::default()
        };
        for raw in error.list(&["details"]).unwrap_or_default() {
            fault.read_detail(&Object::open(raw).unwrap_or_default());
        }
        fault
    }

    fn read_detail(&mut self, detail: &Object<'_>) {
        self.reasons.extend(detail.text(&["reason"]));
        for raw in detail.list(&["violations"]).unwrap_or_default() {
            let violation = Object::open(raw).unwrap_or_default();
            self.quotas.extend(violation.text(&["quotaId", "quota_id"]));
            self.quotas
                .extend(violation.text(&["quotaMetric", "quota_metric"]));
        }
        if self.retry_delay.is_none() {
            self.retry_delay = retry_delay(detail);
        }
    }

    /// What is wrong with the account, if that is the trouble: nothing that another request would
    /// change. The reasons are read before any words.
    fn account(&self, status: u16) -> Option<AccountFault> {
        let named = self.reasons.iter().find_map(|reason| {
            let known = ACCOUNT_REASONS.iter().find(|(word, _)| word == reason);
            known.map(|(_, fault)| *fault)
        });
        // The usual 429 asks to check "plan and billing details"; that is no account trouble.
        let may_tell = matches!(status, 400 | 401 | 403) && self.status != "RESOURCE_EXHAUSTED";
        let told = || {
            let known = ACCOUNT_WORDS
                .iter()
                .find(|(word, _)| self.lower.contains(word));
            known.map(|(_, fault)| *fault)
        };
        named.or_else(|| may_tell.then(told).flatten())
    }

    /// Which limit was met: by the ids and metrics of the quotas first, then by the words.
    fn quota(&self) -> Quota {
        let ids: Vec<String> = self
            .quotas
            .iter()
            .map(|id| id.to_ascii_lowercase())
            .collect();
        let any_id = |words: &[&str]| {
            ids.iter()
                .any(|id| words.iter().any(|word| id.contains(word)))
        };
        let told = |words: &[&str]| words.iter().any(|word| self.lower.contains(word));
        if any_id(&["filestoragebytes", "file_storage_bytes"])
            || told(&["filestoragebytes", "file_storage_bytes"])
        {
            Quota::Storage
        } else if any_id(&["spend", "budget"])
            || told(&["spending cap", "spend cap", "spend limit"])
        {
            Quota::Spend
        } else if any_id(&["perday", "per_day", "daily"]) || told(&["per day", "daily quota"]) {
            Quota::Daily
        } else if any_id(&["enqueuedtokens", "enqueued_tokens", "batchtokens"])
            || told(&["enqueued token"])
        {
            Quota::Tokens
        } else {
            Quota::Rate
        }
    }
}

/// Reasons in `details[]` that speak of the account.
const ACCOUNT_REASONS: [(&str, AccountFault); 12] = [
    ("API_KEY_INVALID", AccountFault::Key),
    ("API_KEY_EXPIRED", AccountFault::Key),
    ("API_KEY_SERVICE_BLOCKED", AccountFault::Key),
    ("API_KEY_IP_ADDRESS_BLOCKED", AccountFault::Key),
    ("API_KEY_HTTP_REFERRER_BLOCKED", AccountFault::Key),
    ("ACCESS_TOKEN_EXPIRED", AccountFault::Key),
    ("ACCESS_TOKEN_TYPE_UNSUPPORTED", AccountFault::Key),
    ("CREDENTIALS_MISSING", AccountFault::Key),
    ("BILLING_DISABLED", AccountFault::Billing),
    ("SERVICE_DISABLED", AccountFault::Permission),
    ("CONSUMER_INVALID", AccountFault::Permission),
    ("CONSUMER_SUSPENDED", AccountFault::Billing),
];

/// Words, in lowercase, that speak of the account where no reason does.
const ACCOUNT_WORDS: [(&str, AccountFault); 10] = [
    ("api key not valid", AccountFault::Key),
    ("api key expired", AccountFault::Key),
    ("api key not found", AccountFault::Key),
    ("unregistered callers", AccountFault::Key),
    ("reported as leaked", AccountFault::Key),
    ("billing", AccountFault::Billing),
    ("suspended", AccountFault::Billing),
    ("denied access", AccountFault::Permission),
    ("has not been used in project", AccountFault::Permission),
    ("user location is not supported", AccountFault::Permission),
];

/// How long the answer asks to wait: its header, else its RetryInfo, else its words.
fn hint(answer: &HttpAnswer<'_>, fault: &Fault) -> Option<Duration> {
    answer
        .retry_after
        .and_then(|value| retry_after(value, answer.date))
        .or(fault.retry_delay)
        .or_else(|| told_delay(&fault.lower))
}

/// Reads `Retry-After`: seconds, or a date counted from the `Date` of the same answer.
fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    seconds(value).or_else(|| {
        let until: SystemTime = httpdate::parse_http_date(value).ok()?;
        let from = httpdate::parse_http_date(date?.trim()).ok()?;
        Some(until.duration_since(from).unwrap_or(Duration::ZERO))
    })
}

/// Reads a RetryInfo: `"36.96s"`, or `{"seconds": .., "nanos": ..}`.
fn retry_delay(detail: &Object<'_>) -> Option<Duration> {
    let names = ["retryDelay", "retry_delay"];
    if let Some(text) = detail.text(&names) {
        return span(text.trim());
    }
    let parts = detail.object(&names)?;
    let whole = parts.integer(&["seconds"]).unwrap_or(0);
    let nanos = parts.integer(&["nanos"]).unwrap_or(0);
    if whole < 0 || nanos < 0 {
        return None;
    }
    Some(Duration::new(
        u64::try_from(whole).unwrap_or(u64::MAX),
        u32::try_from(nanos).unwrap_or(0).min(999_999_999),
    ))
}

/// Reads "please retry in 36.9s" out of a lowercase message.
fn told_delay(lower: &str) -> Option<Duration> {
    let (_before, rest) = lower.split_once("retry in ")?;
    let word = rest.split_whitespace().next()?;
    span(word.trim_end_matches(['.', ',', ';']))
}

/// Reads `36.96s`, `500ms`, `2m`, `1h` or a bare number of seconds.
fn span(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = seconds(number)?;
    match unit {
        "" | "s" => Some(number),
        "ms" => Some(number / 1000),
        "m" | "min" => Some(number.checked_mul(60).unwrap_or(Duration::MAX)),
        "h" => Some(number.checked_mul(3600).unwrap_or(Duration::MAX)),
        _ => None,
    }
}

/// Reads a decimal number of seconds without sign or exponent; too large a number saturates.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    // All are digits, so the only way to fail is to be too large.
    let whole: u64 = whole.parse().unwrap_or(u64::MAX);
    let nanos = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0_u32, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Some(Duration::new(whole, nanos))
}

/// Words for a body that has no message.
fn describe(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let text = text.trim();
    if text.is_empty() {
        return "empty body".to_owned();
    }
    if text.starts_with('<') {
        return format!("a page of HTML, {} bytes", body.len());
    }
    cut(&one_line(text), 200).to_owned()
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
