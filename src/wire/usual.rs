//! A result line of the shape that nearly all have, read in one pass.
//!
//! [`super::response`] opens a line level by level, which passes over the answer's text once a level.
//! What is read here is what it would read, or nothing: whatever is odd, absent, null, spelled the other
//! way or named twice is left to it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::domain::answer::Response;
use crate::domain::attempt::Tokens;

/// Reads a trimmed line of the usual shape.
pub(super) fn answer(line: &str) -> Option<(String, Response)> {
    let Map(Line {
        key,
        response: Map(response),
        ..
    }) = serde_json::from_str(line).ok()?;
    let Map(usage) = response.usage;
    let [Map(candidate)] = <[_; 1]>::try_from(response.candidates).ok()?;
    let mut text: Option<String> = None;
    for Map(part) in candidate.content.0.parts {
        match &mut text {
            _ if part.thought => {}
            Some(text) => text.push_str(&part.text),
            None => text = Some(part.text.into_owned()),
        }
    }
    let response = Response {
        candidates: 1,
        finish_reason: Some(candidate.finish_reason.into_owned()),
        text,
        block_reason: None,
        tokens: Tokens {
            prompt: usage.prompt.0,
            cached: usage.cached.0,
            candidates: usage.candidates.0,
            thoughts: usage.thoughts.0,
            total: usage.total.0,
        },
        model_version: Some(response.model_version.into_owned()),
    };
    Some((key.into_owned(), response))
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    response: Map<ResponseBody<'a>>,
    #[serde(default, rename = "metadata")]
    _metadata: Nothing,
    #[serde(default, rename = "error")]
    _error: Nothing,
    #[serde(default, rename = "status")]
    _status: Nothing,
}

#[derive(serde::Deserialize)]
struct ResponseBody<'a> {
    #[serde(borrow)]
    candidates: Vec<Map<Candidate<'a>>>,
    #[serde(rename = "usageMetadata")]
    usage: Map<Usage>,
    #[serde(borrow, rename = "modelVersion")]
    model_version: Cow<'a, str>,
    #[serde(default, rename = "promptFeedback", alias = "prompt_feedback")]
    _feedback: Nothing,
    #[serde(default, rename = "usage_metadata", alias = "model_version")]
    _other_spelling: Nothing,
}

#[derive(serde::Deserialize)]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Map<Content<'a>>,
    #[serde(borrow, rename = "finishReason")]
    finish_reason: Cow<'a, str>,
    #[serde(default, rename = "finish_reason")]
    _other_spelling: Nothing,
}

#[derive(serde::Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Vec<Map<Part<'a>>>,
}

#[derive(serde::Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(default)]
    thought: bool,
}

#[derive(serde::Deserialize)]
struct Usage {
    #[serde(default, rename = "promptTokenCount")]
    prompt: Count,
    #[serde(default, rename = "cachedContentTokenCount")]
    cached: Count,
    #[serde(default, rename = "candidatesTokenCount")]
    candidates: Count,
    #[serde(default, rename = "thoughtsTokenCount")]
    thoughts: Count,
    #[serde(default, rename = "totalTokenCount")]
    total: Count,
    #[serde(
        default,
        rename = "prompt_token_count",
        alias = "cached_content_token_count",
        alias = "candidates_token_count",
        alias = "thoughts_token_count",
        alias = "total_token_count"
    )]
    _other_spelling: Nothing,
}

/// An object. A struct alone would be read from a list of its fields as well.
struct Map<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Map<T>;
            fn expecting(&self, words: &mut fmt::Formatter<'_>) -> fmt::Result {
                words.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Map<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Map)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A bare whole number, if it is there.
#[derive(Default)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|count| Count(Some(count)))
    }
}

/// A field that the usual shape does not have.
#[derive(Default)]
struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("nothing is expected here"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::answer::RowBody;
    use crate::wire::response::{Row, row_of_any_shape};

    const USUAL: &str = r#"{"key": "p1", "response": {"candidates": [{"content": {"parts": [{"text": "he"}, {"text": "secret", "thought": true}, {"text": "llo"}], "role": "model"}, "finishReason": "STOP", "index": 0}], "usageMetadata": {"promptTokenCount": 1107, "candidatesTokenCount": 5, "totalTokenCount": 1132, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}], "thoughtsTokenCount": 20}, "modelVersion": "gemini-3.8-flash", "responseId": "n2"}}"#;

    /// What the quick way reads, the slow one reads as well, to the letter.
    fn both_ways_agree(line: &str) -> bool {
        let Some((key, response)) = answer(line) else {
            return false;
        };
        let body = RowBody::Response(response);
        let quick = Row::Answer { key, body };
        assert_eq!(quick, row_of_any_shape(line), "{line}");
        true
    }

    #[test]
    fn f34_usual_lines_are_read_the_quick_way_and_all_others_are_not() {
        let odd: &[(&str, &str)] = &[
            (r#""key": "p1""#, r#""key": 1"#),
            (r#""key": "p1""#, r#""key": "p1", "key": "p2""#),
            (
                r#""key": "p1""#,
                r#""key": "p1", "metadata": {"key": "p2"}"#,
            ),
            (r#""key": "p1""#, r#""key": "p1", "error": null"#),
            (r#""key": "p1""#, r#""key": "p1", "status": {"code": 5}"#),
            (
                r#"{"candidates""#,
                r#"{"prompt_feedback": {"blockReason": "OTHER"}, "candidates""#,
            ),
            (r#"{"candidates""#, r#"{"promptFeedback": {}, "candidates""#),
            (r#"{"candidates""#, r#"{"usage_metadata": {}, "candidates""#),
            (r#"{"candidates""#, r#"{"candidates": [], "candidates""#),
            (r#""candidates": ["#, r#""candidates": [{}, "#),
            (
                r#""candidates": ["#,
                r#""candidates": [[[[["t"]]], "STOP"], "#,
            ),
            (r#""STOP""#, "null"),
            (r#""finishReason""#, r#""finish_reason""#),
            (
                r#""finishReason""#,
                r#""finish_reason": "MAX_TOKENS", "finishReason""#,
            ),
            (r#"{"text": "he"}"#, r#"{"inlineData": {}}"#),
            (r#"{"text": "he"}"#, r#"["he", false]"#),
            (r#"{"text": "he"}"#, r#"{"text": "\ud800"}"#),
            (r#"{"text": "he"}"#, r#"{"text": "he", "thought": null}"#),
            (r#"{"text": "he"}"#, r#"{"text": "he", "thought": "true"}"#),
            ("1107", "\"1107\""),
            ("1107", "-1"),
            ("1107", "null"),
            ("1107", "99999999999999999999"),
            (r#""promptTokenCount""#, r#""prompt_token_count""#),
            (r#""modelVersion": "gemini-3.8-flash", "#, ""),
            (r#""gemini-3.8-flash""#, "null"),
        ];
        assert!(both_ways_agree(USUAL));
        for (from, to) in odd {
            let line = USUAL.replacen(from, to, 1);
            assert_ne!(line, USUAL, "{from}");
            assert!(!both_ways_agree(&line), "{line}");
        }
        for harmless in [
            USUAL.replace("he", r"h\u00e9\n"),
            USUAL.replace("responseId", "responseIdOfSomeKind"),
            USUAL.replace(r#"{"text": "llo"}"#, ""),
            USUAL.replace("1107", "0"),
        ] {
            let line = harmless.replace("}, ]", "}]");
            assert!(both_ways_agree(&line), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_mutation_is_read_otherwise(at in 0..USUAL.len(), to in ".{0,3}", cut in 0..20usize) {
            let at = USUAL.floor_char_boundary(at.min(USUAL.len()));
            let after = USUAL.floor_char_boundary((at + cut).min(USUAL.len()));
            both_ways_agree(&format!("{}{to}{}", &USUAL[..at], &USUAL[after..]));
        }
    }
}
