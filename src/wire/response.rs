//! One line of a result file.
//!
//! A line says for itself why it is not an answer; it is never matched by position and its key is
//! never guessed. The envelope is opened without building what is inside, so that a response that
//! cannot be read still belongs to its page.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::loose::{Object, cut};
use super::operation::status;
use super::usual;
pub use crate::domain::answer::{Response, RowBody};
use crate::domain::attempt::Tokens;

/// The most of a word that is no text, in bytes.
const WORD_BYTES_MAX: usize = 200;

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// White space only.
    Blank,
    NotUtf8,
    /// Not one JSON value, or an envelope that names a field twice.
    NotJson {
        detail: String,
    },
    NotAnObject,
    /// No key, or something in its place that is no text.
    NoKey,
    /// Two different keys in one line.
    TwoKeys {
        first: String,
        second: String,
    },
    /// A key, but neither a response nor an error.
    NoBody {
        key: String,
    },
    Answer {
        key: String,
        body: RowBody,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
}

/// What an answer consists of, not read yet.
enum Said<'a> {
    Response(&'a RawValue),
    Error(&'a RawValue),
}

/// Reads one line, without its end.
pub fn row(line: &[u8]) -> Row {
    let text = match trimmed(line) {
        Ok(text) => text,
        Err(row) => return *row,
    };
    match usual::answer(text) {
        Some((key, response)) => Row::Answer {
            key,
            body: RowBody::Response(response),
        },
        None => row_of_any_shape(text),
    }
}

/// Reads the trimmed text of a line level by level, whatever stands in it.
pub(super) fn row_of_any_shape(text: &str) -> Row {
    match addressed(text) {
        Ok((key, said)) => Row::Answer {
            key,
            body: match said {
                Said::Response(raw) => RowBody::Response(response(raw)),
                Said::Error(raw) => RowBody::Error(status(raw)),
            },
        },
        Err(row) => *row,
    }
}

/// Whom a line answers: the key of the row that [`row`] makes of it, if that is an answer. What is
/// answered is not read, which makes it several times cheaper.
pub fn answered_key(line: &[u8]) -> Option<String> {
    addressed(trimmed(line).ok()?).ok().map(|(key, _said)| key)
}

/// The text of a line, if it holds any.
fn trimmed(line: &[u8]) -> Result<&str, Box<Row>> {
    let text = std::str::from_utf8(line).map_err(|_| Box::new(Row::NotUtf8))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(Box::new(Row::Blank));
    }
    Ok(text)
}

fn addressed(text: &str) -> Result<(String, Said<'_>), Box<Row>> {
    let not_json = |error: serde_json::Error| {
        Box::new(Row::NotJson {
            detail: error.to_string(),
        })
    };
    if !text.starts_with('{') {
        serde_json::from_str::<&RawValue>(text).map_err(not_json)?;
        return Err(Box::new(Row::NotAnObject));
    }
    opened(&serde_json::from_str::<Envelope<'_>>(text).map_err(not_json)?)
}

fn opened<'a>(envelope: &Envelope<'a>) -> Result<(String, Said<'a>), Box<Row>> {
    let named = [
        envelope.key.map(as_text),
        envelope.metadata.and_then(metadata_key),
    ];
    let mut keys = Vec::new();
    for name in named.into_iter().flatten() {
        match name {
            Some(key) => keys.push(key),
            // What stands there might be another key than the one beside it.
            None => return Err(Box::new(Row::NoKey)),
        }
    }
    let mut keys = keys.into_iter();
    let key = match (keys.next(), keys.next()) {
        (Some(first), Some(second)) if first != second => {
            return Err(Box::new(Row::TwoKeys { first, second }));
        }
        (Some(key), _) => key,
        (None, _) => return Err(Box::new(Row::NoKey)),
    };
    let said = [envelope.error, envelope.status].into_iter().flatten();
    let error = said.clone().find(|raw| is_failure(raw));
    let said = match (error, envelope.response) {
        (Some(raw), _) => Said::Error(raw),
        (None, Some(raw)) => Said::Response(raw),
        (None, None) => match said.into_iter().next() {
            Some(raw) => Said::Error(raw),
            None => return Err(Box::new(Row::NoBody { key })),
        },
    };
    Ok((key, said))
}

fn as_text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The key that metadata names, if any: a text, or, as `None`, something that cannot be read as one.
fn metadata_key(raw: &RawValue) -> Option<Option<String>> {
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, default)]
        key: Option<&'a RawValue>,
    }
    if !raw.get().starts_with('{') {
        return None;
    }
    match serde_json::from_str::<Metadata<'_>>(raw.get()) {
        Ok(metadata) => metadata.key.map(as_text),
        Err(_) => Some(None),
    }
}

/// A status of code 0, or an empty one, says that nothing failed.
fn is_failure(raw: &RawValue) -> bool {
    let status = status(raw);
    match status.code {
        Some(code) => code != 0,
        None => !status.message.is_empty() && raw.get() != "{}",
    }
}

/// Reads a response. What cannot be read has no candidates, and its text is kept.
fn response(raw: &RawValue) -> Response {
    let opened = Object::open(raw).unwrap_or_default();
    let (mut candidates, mut first) = (0, None);
    opened.each(&["candidates"], |candidate| {
        candidates += 1;
        first.get_or_insert(candidate);
    });
    let first = first.and_then(Object::open);
    let feedback = opened.object(&["promptFeedback", "prompt_feedback"]);
    Response {
        candidates,
        finish_reason: word(first.as_ref(), &["finishReason", "finish_reason"]),
        text: first.as_ref().and_then(text),
        block_reason: word(feedback.as_ref(), &["blockReason", "block_reason"]),
        tokens: opened
            .object(&["usageMetadata", "usage_metadata"])
            .map(|usage| tokens(&usage))
            .unwrap_or_default(),
        model_version: word(Some(&opened), &["modelVersion", "model_version"]),
    }
}

/// All text parts that are not thoughts, joined; none when one of them cannot be read, for a text
/// with a hole is another text.
fn text(candidate: &Object<'_>) -> Option<String> {
    let mut joined: Option<String> = None;
    let mut is_readable = true;
    let content = candidate.object(&["content"])?;
    content.each(&["parts"], |part| {
        let part = Object::open(part).unwrap_or_default();
        let is_text = |raw: &&RawValue| raw.get().starts_with('"');
        let Some(raw) = part.raw(&["text"]).filter(is_text) else {
            return;
        };
        if part.is_true(&["thought"]) {
            return;
        }
        match as_text(raw) {
            Some(text) => joined.get_or_insert_default().push_str(&text),
            None => is_readable = false,
        }
    });
    joined.filter(|_text| is_readable)
}

fn tokens(usage: &Object<'_>) -> Tokens {
    Tokens {
        prompt: usage.count(&["promptTokenCount", "prompt_token_count"]),
        cached: usage.count(&["cachedContentTokenCount", "cached_content_token_count"]),
        candidates: usage.count(&["candidatesTokenCount", "candidates_token_count"]),
        thoughts: usage.count(&["thoughtsTokenCount", "thoughts_token_count"]),
        total: usage.count(&["totalTokenCount", "total_token_count"]),
    }
}

/// A word, or whatever stands in its place, as text.
fn word(object: Option<&Object<'_>>, names: &[&str]) -> Option<String> {
    let raw = object?.raw(names)?;
    as_text(raw).or_else(|| Some(cut(raw.get(), WORD_BYTES_MAX).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"key": "p1", "response": {"candidates": [{"content": {"parts": [{"text": "he"}, {"text": "secret", "thought": true}, {"inlineData": {}}, {"text": "llo"}], "role": "model"}, "finishReason": "STOP", "index": 0}], "usageMetadata": {"promptTokenCount": 1107, "candidatesTokenCount": 5, "totalTokenCount": 1132, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}], "thoughtsTokenCount": 20}, "modelVersion": "gemini-3.8-flash", "responseId": "n2"}}"#;

    fn answer(line: &str) -> (String, RowBody) {
        match row(line.as_bytes()) {
            Row::Answer { key, body } => (key, body),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn f34_a_good_line_is_read_whole() {
        let (key, body) = answer(GOOD);
        let RowBody::Response(response) = body else {
            panic!("an error");
        };
        assert_eq!(key, "p1");
        assert_eq!(response.text.as_deref(), Some("hello"));
        assert_eq!(response.finish_reason.as_deref(), Some("STOP"));
        assert_eq!(response.candidates, 1);
        assert_eq!(response.block_reason, None);
        assert_eq!(response.model_version.as_deref(), Some("gemini-3.8-flash"));
        assert_eq!(
            response.tokens,
            Tokens {
                prompt: Some(1107),
                cached: None,
                candidates: Some(5),
                thoughts: Some(20),
                total: Some(1132)
            }
        );
    }

    fn check(line: &[u8], expected: Row) {
        assert_eq!(row(line), expected, "{}", String::from_utf8_lossy(line));
    }

    #[test]
    fn what_is_no_answer_says_why() {
        check(b"", Row::Blank);
        check(b" \r", Row::Blank);
        check(b"\xff{}", Row::NotUtf8);
        check(b"[1]", Row::NotAnObject);
        check(b"5", Row::NotAnObject);
        check(b"{}", Row::NoKey);
        check(br#"{"key":5,"response":{}}"#, Row::NoKey);
        check(br#"{"key":null,"response":{}}"#, Row::NoKey);
        check(br#"{"key":"a"}"#, Row::NoBody { key: "a".into() });
        check(
            br#"{"key":"a","response":null}"#,
            Row::NoBody { key: "a".into() },
        );
        check(
            br#"{"key":"a","metadata":{"key":"b"},"response":{}}"#,
            Row::TwoKeys {
                first: "a".into(),
                second: "b".into(),
            },
        );
        for unclear in [
            r#"{"key":5,"metadata":{"key":"b"},"response":{}}"#,
            r#"{"key":"a","metadata":{"key":5},"response":{}}"#,
            r#"{"key":"a","metadata":{"key":"\ud800"},"response":{}}"#,
            r#"{"key":"a","metadata":{"key":"b","key":"a"},"response":{}}"#,
        ] {
            check(unclear.as_bytes(), Row::NoKey);
        }
        for broken in ["nothing", "{\"key\":", r#"{"key":"a","key":"b"}"#, "{} {}"] {
            assert!(
                matches!(row(broken.as_bytes()), Row::NotJson { .. }),
                "{broken}"
            );
        }
    }

    #[test]
    fn f34_keys_are_found_in_both_places() {
        assert_eq!(answer(r#"{"metadata":{"key":"m"},"response":{}}"#).0, "m");
        assert_eq!(
            answer(r#"{"key":"m","metadata":{"key":"m"},"response":{}}"#).0,
            "m"
        );
        assert_eq!(answer(r#"{"key":"","response":{}}"#).0, "");
        for beside in ["null", "5", "{}", r#"{"key":null}"#, r#"{"x":"\ud800"}"#] {
            let line = format!(r#"{{"key":"m","metadata":{beside},"response":{{}}}}"#);
            assert_eq!(answer(&line).0, "m", "{beside}");
        }
        assert_eq!(answer("\u{feff}{\"key\":\"b\",\"response\":{}}\r").0, "b");
    }

    fn check_error(line: &str, code: Option<i64>, message: &str) {
        let expected = RowBody::Error(crate::domain::remote::RemoteStatus {
            code,
            message: message.into(),
        });
        assert_eq!(answer(line).1, expected, "{line}");
    }

    #[test]
    fn f31_errors_are_found_in_both_places() {
        check_error(
            r#"{"key":"a","error":{"code":13,"message":"m"}}"#,
            Some(13),
            "m",
        );
        check_error(r#"{"key":"a","status":{"code":"8"}}"#, Some(8), "");
        check_error(r#"{"key":"a","error":"broken"}"#, None, "broken");
        check_error(r#"{"key":"a","error":{}}"#, None, "");
        check_error(
            r#"{"key":"a","response":{},"error":{"code":1}}"#,
            Some(1),
            "",
        );
        for fine in [
            r#"{"key":"a","response":{},"status":{}}"#,
            r#"{"key":"a","response":{},"status":{"code":0}}"#,
            r#"{"key":"a","response":{},"status":""}"#,
        ] {
            assert!(matches!(answer(fine).1, RowBody::Response(_)), "{fine}");
        }
    }

    #[test]
    fn a_response_that_cannot_be_read_still_belongs_to_its_page() {
        let deep = format!(
            r#"{{"key":"a","response":{}1{}}}"#,
            "[".repeat(50_000),
            "]".repeat(50_000)
        );
        let (key, body) = answer(&deep);
        let RowBody::Response(response) = body else {
            panic!()
        };
        assert_eq!((key.as_str(), response), ("a", Response::default()));
        let lone = r#"{"key":"a","response":{"candidates":[{"finishReason":"STOP","content":{"parts":[{"text":"\ud800"}]}}]}}"#;
        let RowBody::Response(unreadable) = answer(lone).1 else {
            panic!()
        };
        assert_eq!((unreadable.candidates, unreadable.text), (1, None));
        let hole = r#"{"key":"a","response":{"candidates":[{"content":{"parts":[{"text":"a"},{"text":"\ud800"},{"text":"b"}]}}]}}"#;
        let RowBody::Response(with_a_hole) = answer(hole).1 else {
            panic!()
        };
        assert_eq!(with_a_hole.text, None);
    }

    #[test]
    fn f31_blocked_and_empty_responses_have_no_text() {
        let (_, blocked) =
            answer(r#"{"key":"a","response":{"promptFeedback":{"blockReason":"SAFETY"}}}"#);
        let RowBody::Response(blocked) = blocked else {
            panic!()
        };
        assert_eq!(
            (blocked.block_reason.as_deref(), blocked.candidates),
            (Some("SAFETY"), 0)
        );
        let (_, silent) = answer(
            r#"{"key":"a","response":{"candidates":[{"finish_reason":"MAX_TOKENS","content":{"role":"model"}}]}}"#,
        );
        let RowBody::Response(silent) = silent else {
            panic!()
        };
        assert_eq!(
            (silent.text, silent.finish_reason.as_deref()),
            (None, Some("MAX_TOKENS"))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            row(&bytes);
            let _ = super::super::operation::batch(&bytes);
            let _ = super::super::operation::inline_lines(&bytes);
            let _ = super::super::file::file_page(&bytes);
        }

        #[test]
        fn no_mutation_panics(at in 0..GOOD.len(), byte in any::<u8>(), cut in 0..GOOD.len()) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            row(&bytes);
            row(&bytes[..cut]);
            bytes.remove(at);
            row(&bytes);
        }

        #[test]
        fn any_json_passes_through(text in "[\\[\\]{}\",:a-c0-9 \\\\u]{0,200}") {
            row(text.as_bytes());
            row(format!(r#"{{"key":"k","response":{text}}}"#).as_bytes());
            row(format!(r#"{{"key":"k","error":{text}}}"#).as_bytes());
        }
    }
}
