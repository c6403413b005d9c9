//! Answers of a chosen length, all alike but for the key.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Map, Value, json};

const FIELDS: usize = 30;
/// What stands where the key goes.
const HOLE: &str = "<key>";

/// The lines of result files.
#[derive(Clone)]
pub struct Answers {
    before: Arc<str>,
    after: Arc<str>,
}

fn field(number: usize) -> String {
    format!("field_{number:02}")
}

/// The schema that the answers follow.
pub fn schema() -> Value {
    let properties: Map<String, Value> = (0..FIELDS)
        .map(|number| (field(number), json!({"type": "string", "minLength": 1})))
        .collect();
    let required: Vec<String> = (0..FIELDS).map(field).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

impl Answers {
    /// Answers whose lines have about so many bytes.
    pub fn of(line_bytes: u64) -> Self {
        // What is not text of a field is about 1,300 bytes; quotes and line ends are escaped twice.
        let field_bytes = (line_bytes.saturating_sub(1_300) / FIELDS as u64).max(20) as usize;
        let fields: Map<String, Value> = (0..FIELDS)
            .map(|number| {
                let mut text = String::new();
                while text.len() < field_bytes {
                    write!(text, "Virgil's Æneid, Algebra and Greek Reader {number}; ").unwrap();
                }
                while text.len() > field_bytes {
                    text.pop();
                }
                (field(number), Value::String(text))
            })
            .collect();
        let line = json!({
            "key": HOLE,
            "response": {
                "candidates": [{
                    "content": {"parts": [{"text": Value::Object(fields).to_string()}], "role": "model"},
                    "finishReason": "STOP",
                    "index": 0,
                }],
                "usageMetadata": {
                    "promptTokenCount": 1107, "candidatesTokenCount": 1400, "totalTokenCount": 2507,
                },
                "modelVersion": "gemini-3.8-flash",
            },
        });
        let line = format!("{line}\n");
        let (before, after) = line.split_once(HOLE).unwrap();
        Answers {
            before: before.into(),
            after: after.into(),
        }
    }

    /// The length of the line of a page, its end included.
    pub fn line_bytes(&self, key: &str) -> u64 {
        (self.before.len() + key.len() + self.after.len()) as u64
    }

    /// Writes the line of a page.
    pub fn write(&self, key: &str, to: &mut impl Write) -> io::Result<()> {
        for part in [&self.before, key, &self.after] {
            to.write_all(part.as_bytes())?;
        }
        Ok(())
    }
}
