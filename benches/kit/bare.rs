//! What every reader of result lines must do, and no more: the floor of judging and collecting.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

/// A line as a bare program would read it: typed, and only what it must have.
#[derive(Deserialize)]
pub struct BareLine<'a> {
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    #[serde(borrow)]
    response: BareResponse<'a>,
}

#[derive(Deserialize)]
struct BareResponse<'a> {
    #[serde(borrow)]
    candidates: Vec<BareCandidate<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BareCandidate<'a> {
    #[serde(borrow)]
    content: BareContent<'a>,
    #[serde(borrow)]
    finish_reason: Cow<'a, str>,
}

#[derive(Deserialize)]
struct BareContent<'a> {
    #[serde(borrow)]
    parts: Vec<BarePart<'a>>,
}

#[derive(Deserialize)]
struct BarePart<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl<'a> BareLine<'a> {
    pub fn read(line: &'a [u8]) -> Self {
        serde_json::from_slice(line).expect("the bench's own lines are whole")
    }

    /// The text of the answer.
    pub fn text(&self) -> &str {
        let first = &self.response.candidates[0];
        assert_eq!(first.finish_reason, "STOP");
        &first.content.parts[0].text
    }

    /// The answer, and how it would be written, schema or not.
    pub fn parsed(&self) -> (Value, Vec<u8>) {
        let value: Value = serde_json::from_str(self.text()).expect("the answer is JSON");
        let mut output = serde_json::to_vec_pretty(&value).expect("a value always serializes");
        output.push(b'\n');
        (value, output)
    }
}
