//! Judgement of answers: text out of the line, JSON out of the text, the schema over the JSON.
//! Runs on the blocking pool, on as many threads as there are cores to use.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::actors::blocking::in_shares;
use crate::decide::verdict::{self, Reading};
use crate::domain::answer::RowBody;
use crate::domain::attempt::{AnswerFacts, FailureDetail, RawLine};
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::page::Afterwards;
use crate::domain::time::Timestamp;
use crate::ports::result_sink::RawText;
use crate::prompt::Validator;
use crate::wire::response::{self, Row};

/// The most that is told of what stands in the place of a key, in characters.
const ECHO_CHARS_MAX: usize = 200;

/// What answers are judged by.
#[derive(Debug, Clone)]
pub struct JudgeRules {
    /// Failures after which a page is not sent again.
    pub max_retries: u32,
    /// The pause before a rejected page runs again.
    pub retry_delay: Duration,
    /// The most of a response that is kept with a failure.
    pub stored_response_bytes_max: usize,
    /// Whether an answer without any content is a failure.
    pub refuse_empty: bool,
    /// The field into which the model copies the page's key.
    pub echo_field: Option<String>,
    /// Threads that judge side by side.
    pub threads: usize,
}

impl JudgeRules {
    /// What follows for a page that failed once more after `failures` failures.
    pub fn afterwards(&self, failures: u32, now: Timestamp) -> Afterwards {
        let not_before = (!self.retry_delay.is_zero()).then(|| now.plus(self.retry_delay));
        verdict::afterwards(failures, self.max_retries, not_before)
    }
}

/// One judged line.
#[derive(Debug, Clone)]
pub struct Judged {
    pub key: RecordKey,
    pub line: RawLine,
    pub facts: AnswerFacts,
    pub judgement: Judgement,
}

/// What an answer is worth.
#[derive(Debug, Clone)]
pub enum Judgement {
    /// The output, as it is to be written.
    Accepted {
        output: Vec<u8>,
    },
    Rejected(Box<FailureDetail>),
    /// Not the page's fault.
    Released {
        cause: String,
        /// Whether it counts as a release of the page.
        counted: bool,
    },
}

/// Judges a run of lines. Lines that carry no key are passed over; they are counted elsewhere.
pub async fn judge_lines(
    lines: Vec<RawText>,
    validator: Arc<Validator>,
    rules: JudgeRules,
) -> Vec<Judged> {
    let threads = rules.threads;
    let judged = in_shares(lines, threads, move |line| {
        judge_line(&line, &validator, &rules)
    });
    judged.await.into_iter().flatten().collect()
}

fn judge_line(line: &RawText, validator: &Validator, rules: &JudgeRules) -> Option<Judged> {
    let text = line.text.as_deref()?;
    let Row::Answer { key, body } = response::row(text) else {
        return None;
    };
    let raw_json = || shortened(text, rules.stored_response_bytes_max);
    let judgement = match verdict::read(&body) {
        Reading::NotThePagesFault { cause, counted } => Judgement::Released { cause, counted },
        Reading::Failed { error, message } => Judgement::Rejected(Box::new(FailureDetail {
            error,
            chain: message.clone(),
            message,
            raw_text: text_of(&body),
            extracted_text: None,
            raw_json: Some(raw_json()),
        })),
        Reading::Text(text) => judge_text(text, &key, validator, rules).unwrap_or_else(|failed| {
            let TextFailure {
                error,
                message,
                chain,
                extracted,
            } = failed;
            Judgement::Rejected(Box::new(FailureDetail {
                error,
                message,
                chain,
                raw_text: Some(text.to_owned()),
                extracted_text: extracted,
                raw_json: Some(raw_json()),
            }))
        }),
    };
    let place = RawLine {
        offset: line.offset,
        bytes: line.bytes,
    };
    Some(Judged {
        key: RecordKey::new(key),
        line: place,
        facts: facts_of(&body),
        judgement,
    })
}

fn text_of(body: &RowBody) -> Option<String> {
    match body {
        RowBody::Response(response) => response.text.clone(),
        RowBody::Error(_) => None,
    }
}

fn facts_of(body: &RowBody) -> AnswerFacts {
    match body {
        RowBody::Response(response) => AnswerFacts {
            finish_reason: response.finish_reason.clone(),
            model_version: response.model_version.clone(),
            tokens: response.tokens,
            ..AnswerFacts::default()
        },
        RowBody::Error(_) => AnswerFacts::default(),
    }
}

/// The beginning of a line as text.
fn shortened(line: &[u8], bytes_max: usize) -> String {
    let kept = &line[..line.len().min(bytes_max)];
    String::from_utf8_lossy(kept).into_owned()
}

struct TextFailure {
    error: ErrorType,
    message: String,
    chain: String,
    extracted: Option<String>,
}

/// Takes the JSON out of a text and holds it against the schema and the rules.
fn judge_text(
    text: &str,
    key: &str,
    validator: &Validator,
    rules: &JudgeRules,
) -> Result<Judgement, TextFailure> {
    let not_json = |message: String, extracted: Option<&str>| TextFailure {
        error: ErrorType::JsonDecode,
        chain: message.clone(),
        message,
        extracted: extracted.map(str::to_owned),
    };
    let (json, value) = match json_in(text) {
        Some((json, Ok(value))) => (json, value),
        Some((json, Err(error))) => {
            return Err(not_json(format!("not JSON: {error}"), Some(json)));
        }
        None => {
            let message = "the text holds no single JSON object".to_owned();
            return Err(not_json(message, None));
        }
    };
    if let Err(faults) = validator.check(&value) {
        return Err(TextFailure {
            error: ErrorType::Validation,
            message: faults.first().cloned().unwrap_or_default(),
            chain: faults.join("\n"),
            extracted: Some(json.to_owned()),
        });
    }
    if let Some((error, message)) = doubt(&value, key, rules) {
        return Err(TextFailure {
            error,
            chain: message.clone(),
            message,
            extracted: Some(json.to_owned()),
        });
    }
    let mut output = serde_json::to_vec_pretty(&value)
        .map_err(|error| not_json(error.to_string(), Some(json)))?;
    output.push(b'\n');
    Ok(Judgement::Accepted { output })
}

/// The JSON in an answer's text, and its value. Most texts are JSON from end to end, which reading it
/// shows; only what is not is looked through for where its JSON stands.
pub fn json_in(text: &str) -> Option<(&str, Result<Value, serde_json::Error>)> {
    let whole = text.trim();
    if whole.starts_with('{')
        && let Ok(value) = serde_json::from_str(whole)
    {
        return Some((whole, Ok(value)));
    }
    let json = verdict::extract_json(text)?;
    Some((json, serde_json::from_str(json)))
}

/// What the schema cannot say: that an answer has content, and that it is about this page.
fn doubt(value: &Value, key: &str, rules: &JudgeRules) -> Option<(ErrorType, String)> {
    if let Some(field) = &rules.echo_field {
        let echo = value.get(field);
        if echo.and_then(Value::as_str) != Some(key) {
            let said = echo.map_or_else(|| "nothing".to_owned(), Value::to_string);
            let said: String = said.chars().take(ECHO_CHARS_MAX).collect();
            let message = format!("'{field}' says {said}, so the answer is not about page {key}");
            return Some((ErrorType::Validation, message));
        }
    }
    let content = match (value, &rules.echo_field) {
        (Value::Object(fields), Some(echo)) => fields
            .iter()
            .filter(|(name, _)| *name != echo)
            .any(|(_, value)| has_content(value)),
        _ => has_content(value),
    };
    if rules.refuse_empty && !content {
        let message = "every field of the answer is null or empty".to_owned();
        return Some((ErrorType::Value, message));
    }
    None
}

/// Whether there is anything in a value but null, blank texts and empty lists.
fn has_content(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => items.iter().any(has_content),
        Value::Object(fields) => fields.values().any(has_content),
    }
}

/// The failure of a page that no line answers, or that several contradicting lines answer.
pub fn unanswered(conflicting_lines: Option<u64>) -> FailureDetail {
    let (error, message) = match conflicting_lines {
        None => (
            ErrorType::MissingResponse,
            "the results hold no line with this page's key".to_owned(),
        ),
        Some(lines) => (
            ErrorType::AmbiguousResponse,
            format!("{lines} different lines carry this page's key; none is believed"),
        ),
    };
    FailureDetail {
        error,
        chain: message.clone(),
        message,
        raw_text: None,
        extracted_text: None,
        raw_json: None,
    }
}
