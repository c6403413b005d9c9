//! One row of the results: the request taken apart, the answer put together, or the way it fails.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::answers::{self, Subject};
use super::dice::hash;
use super::faults::RowKind;
use super::requests::JSON_SCHEMA_SNAKE;

/// A request taken apart.
pub(super) struct Asked<'a> {
    pub(super) key: Option<String>,
    pub(super) metadata: Option<Value>,
    request: &'a Value,
    prompt: String,
    /// The ids of the files the request points at, in order.
    pub(super) files: Vec<String>,
    /// SHA-256 of the first image sent inline.
    inline_image: Option<[u8; 32]>,
    images: u64,
}

/// A row as the results carry it: one body field and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) field: &'static str,
    pub(super) body: Value,
}

/// What a response is made of besides its text.
struct Numbers {
    prompt_tokens: u64,
    image_tokens: u64,
    thought_tokens: u64,
    response_id: String,
    model: String,
}

impl<'a> Asked<'a> {
    /// Takes apart a line of an input file or an inline request, both with camelCase names.
    pub(super) fn new(entry: &'a Map<String, Value>) -> Self {
        let metadata = entry.get("metadata").cloned();
        let in_metadata = metadata.as_ref().and_then(|metadata| metadata.get("key"));
        let key = entry
            .get("key")
            .or(in_metadata)
            .and_then(Value::as_str)
            .map(str::to_owned);
        let request = entry.get("request").unwrap_or(&Value::Null);
        let mut asked = Asked {
            key,
            metadata,
            request,
            prompt: String::new(),
            files: Vec::new(),
            inline_image: None,
            images: 0,
        };
        let contents = request
            .get("contents")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let parts = contents
            .filter_map(|content| content.get("parts"))
            .filter_map(Value::as_array);
        for part in parts.flatten() {
            asked.take(part);
        }
        asked
    }

    fn take(&mut self, part: &Value) {
        if let Some(text) = part.get("text").and_then(Value::as_str) {
            if !self.prompt.is_empty() {
                self.prompt.push('\n');
            }
            self.prompt.push_str(text);
        }
        if let Some(uri) = part.pointer("/fileData/fileUri").and_then(Value::as_str) {
            let id = uri.rsplit('/').next().unwrap_or_default();
            self.files.push(id.to_owned());
            self.images += 1;
        }
        if let Some(data) = part.pointer("/inlineData/data").and_then(Value::as_str) {
            self.images += 1;
            let bytes = STANDARD.decode(data).or_else(|_| URL_SAFE.decode(data));
            let digest = bytes.ok().map(|bytes| Sha256::digest(bytes).into());
            self.inline_image = self.inline_image.or(digest);
        }
    }

    /// SHA-256 of the prompt's text.
    pub(super) fn prompt_hash(&self) -> [u8; 32] {
        Sha256::digest(self.prompt.as_bytes()).into()
    }

    /// SHA-256 of the first image; `first_file` is that of the first file, if it exists.
    pub(super) fn image_hash(&self, first_file: Option<[u8; 32]>) -> Option<[u8; 32]> {
        first_file.or(self.inline_image)
    }

    fn config(&self, name: &str) -> Option<&Value> {
        self.request.get("generationConfig")?.get(name)
    }

    /// The schema the answer must follow. One under the camelCase `responseJsonSchema` is not
    /// followed, because the batch service is known to get it wrong.
    fn schema(&self) -> Option<&Value> {
        self.config("responseSchema")
            .or_else(|| self.config(JSON_SCHEMA_SNAKE))
    }

    fn wants_json(&self) -> bool {
        let mime = self.config("responseMimeType").and_then(Value::as_str);
        mime.is_some_and(|mime| mime == "application/json")
    }

    /// The text of a good answer.
    fn answer(&self, image: Option<[u8; 32]>, variant: u64) -> String {
        let image = image.map_or_else(|| "none".to_owned(), hex::encode);
        let key = self.key.as_deref().unwrap_or_default();
        let subject = Subject {
            key,
            image: &image,
            variant,
        };
        answers::text(&subject, self.schema(), self.wants_json())
    }

    fn numbers(&self, model: &str, nth: u64) -> Numbers {
        const LETTERS_PER_TOKEN: u64 = 4;
        let level = self.config("mediaResolution").and_then(Value::as_str);
        let tokens_per_image = match level {
            Some("MEDIA_RESOLUTION_LOW") => 280,
            Some("MEDIA_RESOLUTION_MEDIUM") => 560,
            _ => 1120,
        };
        let key = self.key.as_deref().unwrap_or_default();
        Numbers {
            prompt_tokens: 1 + self.prompt.chars().count() as u64 / LETTERS_PER_TOKEN,
            image_tokens: self.images * tokens_per_image,
            thought_tokens: 20 + hash(0, "thoughts", key, nth) % 200,
            response_id: format!("{:016x}", hash(0, "response", key, nth)),
            model: model.to_owned(),
        }
    }
}

impl Row {
    fn error(code: i32, message: &str) -> Self {
        Row {
            field: "error",
            body: json!({"code": code, "message": message}),
        }
    }

    /// The row of a request that a cut-off job never reached: a code and nothing else.
    pub(super) fn unserved() -> Self {
        Row {
            field: "error",
            body: json!({"code": 1}),
        }
    }

    /// The row of a request whose file cannot be seen.
    pub(super) fn file_missing(message: &str) -> Self {
        Self::error(7, message)
    }

    /// The row of a request whose file may not be used.
    pub(super) fn file_inactive(message: &str) -> Self {
        Self::error(9, message)
    }

    /// Says whether the statistics count the row as a success.
    pub(super) fn succeeded(&self) -> bool {
        self.field == "response"
    }
}

/// Builds the rows for one request: one, none or two, as the fault says.
pub(super) fn rows(
    asked: &Asked,
    image: Option<[u8; 32]>,
    model: &str,
    kind: Option<RowKind>,
    nth: u64,
) -> Vec<Row> {
    let numbers = asked.numbers(model, nth);
    let text = asked.answer(image, 0);
    let response = |body: Value| Row {
        field: "response",
        body,
    };
    let good = |text: &str| response(numbers.response("STOP", vec![json!({"text": text})], text));
    let Some(kind) = kind else {
        return vec![good(&text)];
    };
    let row = match kind {
        RowKind::Error13 => Row::error(13, "Internal error encountered."),
        RowKind::Error8 => Row::error(8, "Resource has been exhausted (e.g. check quota)."),
        RowKind::Error7 => Row::error(7, "The caller does not have permission"),
        RowKind::StatusError => Row {
            field: "status",
            ..Row::error(13, "Internal error encountered.")
        },
        RowKind::Missing => return Vec::new(),
        RowKind::DuplicateSame => return vec![good(&text), good(&text)],
        RowKind::DuplicateConflict => return vec![good(&text), good(&asked.answer(image, 1))],
        RowKind::CodeFence => good(&format!("```json\n{text}\n```")),
        RowKind::ProseAround => good(&format!(
            "Here is the JSON you asked for:\n\n{text}\n\nLet me know if anything is missing."
        )),
        RowKind::InvalidSchema => good(&answers::break_schema(&text, asked.schema())),
        RowKind::InvalidJson => good(&spoil_json(&text)),
        // The byte that spoils the line is put in when the line is written.
        RowKind::InvalidUtf8 => good(&text),
        RowKind::EmptyParts => response(numbers.response("STOP", vec![json!({"text": ""})], "")),
        RowKind::ThoughtParts => {
            let thought = json!({"text": "**Reading the page**\n\nIt has a heading {and} rows.", "thought": true});
            let answer = json!({"text": text, "thoughtSignature": "c2lnbmF0dXJl"});
            response(numbers.response("STOP", vec![thought, answer], &text))
        }
        RowKind::SplitParts => {
            let letters: Vec<char> = text.chars().collect();
            let pieces = letters.chunks(letters.len().div_ceil(3).max(1));
            let parts = pieces
                .map(|piece| json!({"text": String::from_iter(piece)}))
                .collect();
            response(numbers.response("STOP", parts, &text))
        }
        RowKind::Truncated => {
            let half: String = text.chars().take(text.chars().count() / 2).collect();
            response(numbers.response("MAX_TOKENS", vec![json!({"text": half})], &half))
        }
        RowKind::Repetition => {
            let start: String = text.chars().take_while(|letter| *letter != ':').collect();
            let long = format!("{start}: \"{}", "the same line again, ".repeat(500));
            response(numbers.response("MAX_TOKENS", vec![json!({"text": long})], &long))
        }
        RowKind::MaxTokensEmpty => response(numbers.response("MAX_TOKENS", Vec::new(), "")),
        RowKind::Recitation => response(numbers.response("RECITATION", Vec::new(), "")),
        RowKind::Safety => response(numbers.unsafe_answer()),
        RowKind::NoCandidates => response(numbers.without_candidates(None)),
        RowKind::PromptBlocked => response(numbers.without_candidates(Some("PROHIBITED_CONTENT"))),
    };
    vec![row]
}

/// Makes a text that looks like JSON and is not.
fn spoil_json(text: &str) -> String {
    match text.find(':') {
        Some(at) => format!("{}={}", &text[..at], &text[at + 1..]),
        None => format!("{text}}}"),
    }
}

impl Numbers {
    fn response(&self, finish: &str, parts: Vec<Value>, text: &str) -> Value {
        let mut content = json!({"role": "model"});
        if !parts.is_empty() {
            content = json!({"parts": parts, "role": "model"});
        }
        let candidate = json!({"content": content, "finishReason": finish, "index": 0});
        self.whole(vec![("candidates", json!([candidate]))], text)
    }

    fn unsafe_answer(&self) -> Value {
        let rating = json!({"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": true});
        let candidate = json!({"finishReason": "SAFETY", "index": 0, "safetyRatings": [rating]});
        self.whole(vec![("candidates", json!([candidate]))], "")
    }

    fn without_candidates(&self, reason: Option<&str>) -> Value {
        let feedback = reason.map(|reason| ("promptFeedback", json!({"blockReason": reason})));
        self.whole(feedback.into_iter().collect(), "")
    }

    fn whole(&self, head: Vec<(&str, Value)>, text: &str) -> Value {
        const LETTERS_PER_TOKEN: u64 = 4;
        let candidates = (text.chars().count() as u64).div_ceil(LETTERS_PER_TOKEN);
        let prompt = self.prompt_tokens + self.image_tokens;
        let mut details = vec![json!({"modality": "TEXT", "tokenCount": self.prompt_tokens})];
        if self.image_tokens > 0 {
            details.push(json!({"modality": "IMAGE", "tokenCount": self.image_tokens}));
        }
        let mut usage = Map::new();
        usage.insert("promptTokenCount".to_owned(), json!(prompt));
        if candidates > 0 {
            usage.insert("candidatesTokenCount".to_owned(), json!(candidates));
        }
        let total = prompt + candidates + self.thought_tokens;
        usage.insert("totalTokenCount".to_owned(), json!(total));
        usage.insert("promptTokensDetails".to_owned(), Value::Array(details));
        usage.insert("thoughtsTokenCount".to_owned(), json!(self.thought_tokens));
        let mut whole: Map<String, Value> = head
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        whole.insert("usageMetadata".to_owned(), Value::Object(usage));
        whole.insert("modelVersion".to_owned(), json!(self.model));
        whole.insert("responseId".to_owned(), json!(self.response_id));
        Value::Object(whole)
    }
}
