//! One answer to one page: usable, the page's failure, or somebody else's fault.

use crate::domain::answer::{Response, RowBody};
use crate::domain::failure::ErrorType;
use crate::domain::page::Afterwards;
use crate::domain::remote::RemoteStatus;
use crate::domain::time::Timestamp;

/// What an answer is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading<'a> {
    /// The text of a whole answer; whether it is the JSON that was asked for is not judged here.
    Text(&'a str),
    /// The page's failure; counts one.
    Failed { error: ErrorType, message: String },
    /// The page goes back uncounted.
    NotThePagesFault {
        cause: String,
        /// Whether it counts as a release of the page: a spent quota says nothing about it.
        counted: bool,
    },
}

/// Reads an answer. Nothing but `STOP` with text is a success, however good the text looks.
pub fn read(body: &RowBody) -> Reading<'_> {
    match body {
        RowBody::Error(status) => read_error(status),
        RowBody::Response(response) => read_response(response),
    }
}

/// What becomes of a page that was rejected: it is dead once its failures exceed the retries.
/// `failures_before` does not count the present one.
pub fn afterwards(
    failures_before: u32,
    max_retries: u32,
    not_before: Option<Timestamp>,
) -> Afterwards {
    if failures_before >= max_retries {
        Afterwards::Dead
    } else {
        Afterwards::Again { not_before }
    }
}

/// Finds the JSON in an answer: the whole text, else what stands in its one code fence, else the
/// one outermost object in its prose. `None` when there is none, when it does not end, or when
/// there are several and so it cannot be told which one was meant.
pub fn extract_json(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}').trim();
    whole_value(text)
        .or_else(|| fenced_value(text))
        .or_else(|| lone_object(text))
}

fn read_error(status: &RemoteStatus) -> Reading<'static> {
    let RemoteStatus { code, message } = status;
    let shown = match code {
        Some(code) => format!("error code {code}{}", grpc_name(*code)),
        None => "an error without a code".to_owned(),
    };
    let shown = match message.as_str() {
        "" => shown,
        message => format!("{shown}: {message}"),
    };
    match code {
        // 1: not served before the job was cancelled. 8 and 14: quota, overload. 7 and 9: the
        // image's remote file is gone or not ready.
        Some(code @ (1 | 7 | 8 | 9 | 14)) => Reading::NotThePagesFault {
            cause: shown,
            counted: *code != 8,
        },
        _ => failed(ErrorType::Api, shown),
    }
}

fn grpc_name(code: i64) -> &'static str {
    match code {
        1 => " (CANCELLED)",
        3 => " (INVALID_ARGUMENT)",
        4 => " (DEADLINE_EXCEEDED)",
        5 => " (NOT_FOUND)",
        7 => " (PERMISSION_DENIED)",
        8 => " (RESOURCE_EXHAUSTED)",
        9 => " (FAILED_PRECONDITION)",
        13 => " (INTERNAL)",
        14 => " (UNAVAILABLE)",
        _ => "",
    }
}

fn read_response(response: &Response) -> Reading<'_> {
    if let Some(reason) = &response.block_reason
        && !(reason.ends_with("UNSPECIFIED") && response.candidates > 0)
    {
        return failed(
            ErrorType::ContentFiltered,
            format!("the prompt was blocked: blockReason is {reason}"),
        );
    }
    if response.candidates == 0 {
        return failed(
            ErrorType::Value,
            "the response has no candidates".to_owned(),
        );
    }
    let Some(reason) = &response.finish_reason else {
        return failed(ErrorType::Value, "finishReason is absent".to_owned());
    };
    if let Some(error) = failure_of(reason) {
        return failed(error, format!("finishReason is {reason}"));
    }
    match &response.text {
        Some(text) if !text.trim().is_empty() => Reading::Text(text),
        Some(_) => failed(ErrorType::Value, "the answer's text is empty".to_owned()),
        None => failed(ErrorType::Value, "the answer has no text".to_owned()),
    }
}

/// The failure that a finish reason stands for; `None` for the one that is a success.
fn failure_of(reason: &str) -> Option<ErrorType> {
    match reason {
        "STOP" => None,
        "MAX_TOKENS" => Some(ErrorType::Truncated),
        "RECITATION" => Some(ErrorType::Recitation),
        "SAFETY" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => Some(ErrorType::ContentFiltered),
        image if image.starts_with("IMAGE_") => Some(ErrorType::ContentFiltered),
        _ => Some(ErrorType::Value),
    }
}

fn failed(error: ErrorType, message: String) -> Reading<'static> {
    Reading::Failed { error, message }
}

/// A text that is one object or list from its first character to its last.
fn whole_value(text: &str) -> Option<&str> {
    (value_end(text)? == text.len()).then_some(text)
}

/// The value in a text with one code fence. A fence inside a string of the value is part of it.
fn fenced_value(text: &str) -> Option<&str> {
    let (_before, opened) = text.split_once("```")?;
    let (info, inside) = opened.split_at(opened.find(['{', '['])?);
    if info.contains("```") {
        return None;
    }
    let end = value_end(inside)?;
    let (value, after) = inside.split_at(end);
    let after = after.trim_start().strip_prefix("```")?;
    let is_alone = !after.contains("```") && !has_object(after);
    is_alone.then_some(value)
}

/// The one outermost object in prose.
fn lone_object(text: &str) -> Option<&str> {
    let from = text.find('{')?;
    let end = from + value_end(&text[from..])?;
    let has_another = has_object(&text[end..]);
    (!has_another).then_some(&text[from..end])
}

/// Whether there may be an object in a text. Not whether there is one: that would cost a scan for
/// every brace, and in doubt nothing is guessed anyway.
fn has_object(text: &str) -> bool {
    text.find('{').is_some_and(|at| text[at..].contains('}'))
}

/// Where the object or list ends that the text begins with: braces are counted outside strings.
fn value_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (open, close) = match bytes.first()? {
        b'{' => (b'{', b'}'),
        b'[' => (b'[', b']'),
        _ => return None,
    };
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            byte if *byte == open => depth += 1,
            byte if *byte == close => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(finish_reason: Option<&str>, text: Option<&str>) -> RowBody {
        RowBody::Response(Response {
            candidates: 1,
            finish_reason: finish_reason.map(str::to_owned),
            text: text.map(str::to_owned),
            ..Response::default()
        })
    }

    fn check_failed(body: &RowBody, expected: ErrorType, words: &str) {
        match read(body) {
            Reading::Failed { error, message } => {
                assert_eq!(
                    (error, message.contains(words)),
                    (expected, true),
                    "{message}"
                );
            }
            other => panic!("{body:?}: {other:?}"),
        }
    }

    #[test]
    fn f05_only_stop_with_text_is_a_success() {
        let good = response(Some("STOP"), Some("{}"));
        assert_eq!(read(&good), Reading::Text("{}"));
        check_failed(&response(Some("STOP"), None), ErrorType::Value, "no text");
        check_failed(
            &response(Some("STOP"), Some(" \n")),
            ErrorType::Value,
            "empty",
        );
        check_failed(&response(None, Some("{}")), ErrorType::Value, "absent");
    }

    #[test]
    fn f05_every_other_reason_is_a_failure_even_with_text() {
        let table = [
            ("MAX_TOKENS", ErrorType::Truncated),
            ("RECITATION", ErrorType::Recitation),
            ("SAFETY", ErrorType::ContentFiltered),
            ("BLOCKLIST", ErrorType::ContentFiltered),
            ("PROHIBITED_CONTENT", ErrorType::ContentFiltered),
            ("SPII", ErrorType::ContentFiltered),
            ("IMAGE_SAFETY", ErrorType::ContentFiltered),
            ("IMAGE_RECITATION", ErrorType::ContentFiltered),
            ("FINISH_REASON_UNSPECIFIED", ErrorType::Value),
            ("LANGUAGE", ErrorType::Value),
            ("OTHER", ErrorType::Value),
            ("NO_IMAGE", ErrorType::Value),
            ("MALFORMED_RESPONSE", ErrorType::Value),
            ("CONTINUATION", ErrorType::Value),
            ("stop", ErrorType::Value),
            ("SOMETHING_NEW", ErrorType::Value),
        ];
        for (reason, expected) in table {
            let words = format!("finishReason is {reason}");
            check_failed(&response(Some(reason), Some("{}")), expected, &words);
        }
    }

    #[test]
    fn f32_blocked_prompts_and_empty_responses_fail() {
        let blocked = |reason: &str, candidates| {
            RowBody::Response(Response {
                block_reason: Some(reason.to_owned()),
                candidates,
                ..Response::default()
            })
        };
        check_failed(
            &blocked("SAFETY", 0),
            ErrorType::ContentFiltered,
            "blockReason is SAFETY",
        );
        check_failed(&blocked("OTHER", 1), ErrorType::ContentFiltered, "OTHER");
        check_failed(
            &blocked("BLOCKED_REASON_UNSPECIFIED", 1),
            ErrorType::Value,
            "finishReason",
        );
        check_failed(
            &RowBody::Response(Response::default()),
            ErrorType::Value,
            "no candidates",
        );
    }

    #[test]
    fn f31_row_errors_are_placed_by_code() {
        let error = |code| {
            RowBody::Error(RemoteStatus {
                code,
                message: "why".into(),
            })
        };
        for code in [1, 7, 8, 9, 14] {
            let body = error(Some(code));
            let reading = read(&body);
            assert!(
                matches!(&reading, Reading::NotThePagesFault { cause, counted }
                    if cause.contains(&format!("code {code} ")) && *counted == (code != 8)),
                "{reading:?}"
            );
        }
        for code in [0, 2, 3, 4, 5, 10, 13, 99, -1] {
            check_failed(
                &error(Some(code)),
                ErrorType::Api,
                &format!("error code {code}"),
            );
        }
        check_failed(&error(None), ErrorType::Api, "without a code: why");
    }

    #[test]
    fn a_page_is_dead_when_its_failures_exceed_the_retries() {
        let again = Afterwards::Again {
            not_before: Some(Timestamp::EPOCH),
        };
        assert_eq!(afterwards(0, 3, Some(Timestamp::EPOCH)), again);
        assert_eq!(afterwards(2, 3, Some(Timestamp::EPOCH)), again);
        assert_eq!(afterwards(3, 3, None), Afterwards::Dead);
        assert_eq!(afterwards(u32::MAX, 3, None), Afterwards::Dead);
        assert_eq!(afterwards(0, 0, None), Afterwards::Dead);
    }

    fn check_json(text: &str, expected: Option<&str>) {
        assert_eq!(extract_json(text), expected, "{text}");
    }

    #[test]
    fn json_is_found_where_there_is_one() {
        check_json("{}", Some("{}"));
        check_json("\u{feff} {\"a\":1}\n", Some("{\"a\":1}"));
        check_json("[{\"a\":1},{\"b\":2}]", Some("[{\"a\":1},{\"b\":2}]"));
        check_json(
            "```json\n{\"a\": \"}```{\"}\n```",
            Some("{\"a\": \"}```{\"}"),
        );
        check_json("Here:\n```\n[1]\n```\nDone.", Some("[1]"));
        check_json("```{\"a\":1}```", Some("{\"a\":1}"));
        check_json(
            "Sure: {\"a\": {\"b\": \"\\\"}\"}} - done",
            Some("{\"a\": {\"b\": \"\\\"}\"}}"),
        );
        check_json("{\"a\":1} {", Some("{\"a\":1}"));
    }

    #[test]
    fn no_json_is_guessed() {
        check_json("", None);
        check_json("no braces", None);
        check_json("\"text\"", None);
        check_json("{\"a\":1", None);
        check_json("{\"a\":\"}", None);
        check_json("{\"a\":1}{\"b\":2}", None);
        check_json("{\"a\":1} or {\"b\":2}", None);
        check_json("```json\n{\"a\":1}\n```\n```json\n{\"b\":2}\n```", None);
        check_json("```json\n{\"a\":1}\n```\nor {\"b\":2}", None);
        check_json(&format!("{{}}{}}}", "{".repeat(1_000_000)), None);
    }
}
