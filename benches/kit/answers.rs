//! Result lines of about 5 KB: thirty texts in a JSON object, as text inside the provider's JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

const FIELDS: usize = 30;

fn field(number: usize) -> String {
    format!("field_{number:02}")
}

/// The schema that the answers follow.
pub fn schema() -> Value {
    let properties: Map<String, Value> = (0..FIELDS)
        .map(|number| (field(number), json!({"type": "string", "minLength": 1})))
        .collect();
    let required: Vec<String> = (0..FIELDS).map(field).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// What the model says of a page.
pub fn answer(page: u32) -> String {
    let fields: Map<String, Value> = (0..FIELDS)
        .map(|number| {
            let mut text = format!("Page {page}: \"Virgil\", Æneid.\n");
            while text.len() < 120 {
                write!(text, "Algebra and Greek Reader {number}; ")
                    .expect("a String takes everything");
            }
            (field(number), Value::String(text))
        })
        .collect();
    Value::Object(fields).to_string()
}

/// The line of a result file for a page, without its end.
pub fn line(key: &str, page: u32) -> String {
    json!({
        "key": key,
        "response": {
            "candidates": [{
                "content": {"parts": [{"text": answer(page)}], "role": "model"},
                "finishReason": "STOP",
                "index": 0,
            }],
            "usageMetadata": {
                "promptTokenCount": 1107,
                "candidatesTokenCount": 1400,
                "totalTokenCount": 2507,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}],
            },
            "modelVersion": "gemini-3.8-flash",
            "responseId": "n2",
        },
    })
    .to_string()
}
