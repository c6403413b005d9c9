//! Reads request bodies as the provider does: both spellings of every field at any depth, and a
//! field it does not know is an error.
//!
//! The result is the same JSON with camelCase names, so the rest of the room asks for one
//! spelling only.

use serde_json::{Map, Value};

use super::errors::Refusal;

/// What may stand in a field.
#[derive(Clone, Copy)]
enum Kind {
    /// A text, number or boolean; int64 come as numbers or texts.
    Scalar,
    /// Any JSON, taken as it is.
    Any,
    /// Another message.
    One(&'static Message),
    /// A list of messages.
    Many(&'static Message),
    /// A list of anything.
    List,
    /// An object of messages under free names.
    Named(&'static Message),
}

use Kind::{Any, List, Many, Named, One, Scalar};

/// A message of the API: its fields by their camelCase names.
struct Message {
    fields: &'static [(&'static str, Kind)],
}

static FILE_START: Message = Message {
    fields: &[("file", One(&FILE))],
};
static FILE: Message = Message {
    fields: &[
        ("name", Scalar),
        ("displayName", Scalar),
        ("mimeType", Scalar),
        ("sizeBytes", Scalar),
        ("createTime", Scalar),
        ("updateTime", Scalar),
        ("expirationTime", Scalar),
        ("sha256Hash", Scalar),
        ("uri", Scalar),
        ("state", Scalar),
        ("source", Scalar),
    ],
};
static CREATE: Message = Message {
    fields: &[("batch", One(&BATCH)), ("model", Scalar)],
};
static BATCH: Message = Message {
    fields: &[
        ("displayName", Scalar),
        ("inputConfig", One(&INPUT)),
        ("model", Scalar),
        ("name", Scalar),
        ("priority", Scalar),
        ("webhookConfig", One(&WEBHOOK)),
    ],
};
static INPUT: Message = Message {
    fields: &[("fileName", Scalar), ("requests", One(&INLINED_LIST))],
};
static INLINED_LIST: Message = Message {
    fields: &[("requests", Many(&INLINED))],
};
static INLINED: Message = Message {
    fields: &[("request", One(&GENERATE)), ("metadata", Any)],
};
static WEBHOOK: Message = Message {
    fields: &[("uris", List), ("userMetadata", Any)],
};
static LINE: Message = Message {
    fields: &[
        ("key", Scalar),
        ("request", One(&GENERATE)),
        ("metadata", Any),
    ],
};
static GENERATE: Message = Message {
    fields: &[
        ("model", Scalar),
        ("contents", Many(&CONTENT)),
        ("systemInstruction", One(&CONTENT)),
        ("generationConfig", One(&GENERATION)),
        ("safetySettings", Many(&SAFETY)),
        ("tools", List),
        ("toolConfig", Any),
        ("cachedContent", Scalar),
    ],
};
static CONTENT: Message = Message {
    fields: &[("role", Scalar), ("parts", Many(&PART))],
};
static PART: Message = Message {
    fields: &[
        ("text", Scalar),
        ("inlineData", One(&BLOB)),
        ("fileData", One(&FILE_DATA)),
        ("mediaResolution", One(&RESOLUTION)),
        ("thought", Scalar),
        ("thoughtSignature", Scalar),
        ("functionCall", Any),
        ("functionResponse", Any),
        ("executableCode", Any),
        ("codeExecutionResult", Any),
        ("videoMetadata", Any),
        ("partMetadata", Any),
    ],
};
static BLOB: Message = Message {
    fields: &[
        ("mimeType", Scalar),
        ("data", Scalar),
        ("displayName", Scalar),
    ],
};
static FILE_DATA: Message = Message {
    fields: &[
        ("mimeType", Scalar),
        ("fileUri", Scalar),
        ("displayName", Scalar),
    ],
};
static RESOLUTION: Message = Message {
    fields: &[("level", Scalar), ("numTokens", Scalar)],
};
static SAFETY: Message = Message {
    fields: &[
        ("category", Scalar),
        ("threshold", Scalar),
        ("method", Scalar),
    ],
};
static THINKING: Message = Message {
    fields: &[
        ("includeThoughts", Scalar),
        ("thinkingBudget", Scalar),
        ("thinkingLevel", Scalar),
    ],
};
static GENERATION: Message = Message {
    fields: &[
        ("temperature", Scalar),
        ("topP", Scalar),
        ("topK", Scalar),
        ("candidateCount", Scalar),
        ("maxOutputTokens", Scalar),
        ("stopSequences", List),
        ("seed", Scalar),
        ("presencePenalty", Scalar),
        ("frequencyPenalty", Scalar),
        ("responseMimeType", Scalar),
        ("responseSchema", One(&SCHEMA)),
        ("responseJsonSchema", Any),
        ("responseModalities", List),
        ("responseLogprobs", Scalar),
        ("logprobs", Scalar),
        ("enableEnhancedCivicAnswers", Scalar),
        ("mediaResolution", Scalar),
        ("thinkingConfig", One(&THINKING)),
        ("speechConfig", Any),
        ("imageConfig", Any),
    ],
};
static SCHEMA: Message = Message {
    fields: &[
        ("type", Scalar),
        ("format", Scalar),
        ("title", Scalar),
        ("description", Scalar),
        ("nullable", Scalar),
        ("default", Any),
        ("example", Any),
        ("enum", List),
        ("items", One(&SCHEMA)),
        ("minItems", Scalar),
        ("maxItems", Scalar),
        ("properties", Named(&SCHEMA)),
        ("required", List),
        ("propertyOrdering", List),
        ("minProperties", Scalar),
        ("maxProperties", Scalar),
        ("minLength", Scalar),
        ("maxLength", Scalar),
        ("pattern", Scalar),
        ("minimum", Scalar),
        ("maximum", Scalar),
        ("anyOf", Many(&SCHEMA)),
    ],
};

/// The field whose snake_case spelling means something else in a batch: the camelCase one is
/// known to give JSON that does not follow the schema.
pub(super) const JSON_SCHEMA_SNAKE: &str = "response_json_schema";

/// Nesting beyond this is refused rather than followed.
const DEPTH_MAX: usize = 64;

/// Reads the body of an upload start; gives the `file` object, empty when there is none.
pub(super) fn file_start(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let mut start = message(&parse(body)?, &FILE_START, "")?;
    match start.remove("file") {
        Some(Value::Object(file)) => Ok(file),
        _ => Ok(Map::new()),
    }
}

/// Reads the body of a batch create; gives the `batch` object.
pub(super) fn create(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let mut create = message(&parse(body)?, &CREATE, "")?;
    let Some(Value::Object(batch)) = create.remove("batch") else {
        return Err(Refusal::invalid_argument(
            "* BatchGenerateContentRequest.batch: required field is missing\n",
        ));
    };
    let requests = batch
        .get("inputConfig")
        .and_then(|input| input.pointer("/requests/requests"));
    for (index, inlined) in requests
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let path = format!("batch.input_config.requests.requests[{index}].request");
        check_request(inlined.get("request"), &path)?;
    }
    Ok(batch)
}

/// Reads one line of an input file; gives the line with camelCase names.
pub(super) fn line(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let line = message(&parse(bytes)?, &LINE, "")?;
    if line.get("key").is_some_and(|key| !key.is_string()) {
        return Err(Refusal::invalid_value("key", "TYPE_STRING"));
    }
    check_request(line.get("request"), "request")?;
    Ok(line)
}

/// Checks what the field tables cannot say about a request.
fn check_request(request: Option<&Value>, path: &str) -> Result<(), Refusal> {
    let contents = request
        .and_then(|request| request.get("contents"))
        .and_then(Value::as_array);
    if contents.is_none_or(Vec::is_empty) {
        let text =
            format!("* GenerateContentRequest.contents: contents is not specified ({path})\n");
        return Err(Refusal::invalid_argument(text));
    }
    let Some(config) = request.and_then(|request| request.get("generationConfig")) else {
        return Ok(());
    };
    let json_schema =
        config.get("responseJsonSchema").is_some() || config.get(JSON_SCHEMA_SNAKE).is_some();
    if json_schema && config.get("responseSchema").is_some() {
        let text = "response_schema must not be set when response_json_schema is set";
        return Err(Refusal::invalid_argument(text));
    }
    const LEVELS: [&str; 5] = ["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"];
    match config.pointer("/thinkingConfig/thinkingLevel") {
        Some(level) if !level.as_str().is_some_and(|level| LEVELS.contains(&level)) => {
            let path = format!("{path}.generation_config.thinking_config.thinking_level");
            Err(Refusal::invalid_value(
                &path,
                &format!("TYPE_ENUM, {level}"),
            ))
        }
        _ => Ok(()),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::invalid_argument(format!("Invalid JSON payload received. {error}"))
    })
}

/// Renames the fields of one message, or says which field it does not have.
fn message(value: &Value, what: &Message, path: &str) -> Result<Map<String, Value>, Refusal> {
    if path.matches(['.', '[']).count() > DEPTH_MAX {
        return Err(Refusal::invalid_value(path, "nested too deeply"));
    }
    let Value::Object(fields) = value else {
        return Err(Refusal::invalid_value(path, "an object is expected"));
    };
    let mut renamed = Map::new();
    for (name, value) in fields {
        let camel = camel_case(name);
        let Some((known, kind)) = what.fields.iter().find(|(known, _)| *known == camel) else {
            return Err(Refusal::unknown_field(path, name));
        };
        if value.is_null() {
            continue;
        }
        let path = join(path, known);
        let value = field(value, *kind, &path)?;
        let kept = if name == JSON_SCHEMA_SNAKE {
            JSON_SCHEMA_SNAKE
        } else {
            known
        };
        if renamed.insert(kept.to_owned(), value).is_some() {
            return Err(Refusal::invalid_value(&path, "the field is set twice"));
        }
    }
    Ok(renamed)
}

fn field(value: &Value, kind: Kind, path: &str) -> Result<Value, Refusal> {
    match kind {
        Any => Ok(value.clone()),
        Scalar if value.is_object() || value.is_array() => {
            Err(Refusal::invalid_value(path, "a scalar is expected"))
        }
        Scalar => Ok(value.clone()),
        List if value.is_array() => Ok(value.clone()),
        List => Err(Refusal::invalid_value(path, "a list is expected")),
        One(what) => message(value, what, path).map(Value::Object),
        Many(what) => {
            // A single message is taken for a list of one, as protobuf's JSON reader does not;
            // the service refuses it, and so does this.
            let Value::Array(items) = value else {
                return Err(Refusal::invalid_value(path, "a list is expected"));
            };
            let items = items.iter().enumerate();
            let read = items.map(|(index, item)| {
                message(item, what, &format!("{path}[{index}]")).map(Value::Object)
            });
            read.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        Named(what) => {
            let Value::Object(items) = value else {
                return Err(Refusal::invalid_value(path, "an object is expected"));
            };
            let read = items.iter().map(|(name, item)| {
                let read = message(item, what, &format!("{path}[{name}]"))?;
                Ok((name.clone(), Value::Object(read)))
            });
            read.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
    }
}

fn join(path: &str, camel: &str) -> String {
    let snake = snake_case(camel);
    if path.is_empty() {
        snake
    } else {
        format!("{path}.{snake}")
    }
}

fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        match letter {
            '_' => upper = true,
            _ if upper => {
                camel.push(letter.to_ascii_uppercase());
                upper = false;
            }
            _ => camel.push(letter),
        }
    }
    camel
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(body: &Value) -> String {
        create(body.to_string().as_bytes())
            .unwrap_err()
            .message()
            .to_owned()
    }

    #[test]
    fn both_spellings_mix_in_one_body() {
        let body = json!({"batch": {"display_name": "a", "inputConfig": {"requests": {"requests": [{
            "request": {
                "contents": [{"parts": [{"fileData": {"file_uri": "u", "mimeType": "m"}}]}],
                "generation_config": {"thinkingConfig": {"thinking_level": "LOW"},
                    "responseSchema": {"type": "OBJECT", "properties": {"page_number": {"type": "STRING", "max_length": 3}}}},
            },
            "metadata": {"the_key": 1},
        }]}}}});
        let batch = Value::Object(create(body.to_string().as_bytes()).unwrap());
        let first = &batch["inputConfig"]["requests"]["requests"][0];
        assert_eq!(batch["displayName"], "a");
        assert_eq!(
            first["request"]["contents"][0]["parts"][0]["fileData"]["fileUri"],
            "u"
        );
        let config = &first["request"]["generationConfig"];
        assert_eq!(config["thinkingConfig"]["thinkingLevel"], "LOW");
        let names = &config["responseSchema"]["properties"];
        assert_eq!(
            names["page_number"]["maxLength"], 3,
            "free names keep their spelling"
        );
        assert_eq!(first["metadata"]["the_key"], 1);
    }

    #[test]
    fn a_field_at_the_wrong_place_is_named_with_its_path() {
        let contents = json!([{"parts": [{"text": "hi"}]}]);
        let body = json!({"batch": {"inputConfig": {"requests": {"requests": [
            {"request": {"contents": contents}, "safetySettings": []}]}}}});
        let expected = "Invalid JSON payload received. Unknown name \"safetySettings\" at \
                        'batch.input_config.requests.requests[0]': Cannot find field.";
        assert_eq!(refused(&body), expected);
    }

    #[test]
    fn a_line_is_checked_like_a_request() {
        let parts = r#""contents":[{"parts":[{"text":"hi"}]}]"#;
        for (text, expected) in [
            (format!(r#"{{"key":"a","request":{{{parts}}}}}"#), None),
            (format!(r#"{{"request":{{{parts}}}}}"#), None),
            (
                format!(r#"{{"key":7,"request":{{{parts}}}}}"#),
                Some("Invalid value at 'key'"),
            ),
            (
                r#"{"key":"a","request":{}}"#.to_owned(),
                Some("contents is not specified"),
            ),
            (
                r#"{"key":"a"}"#.to_owned(),
                Some("contents is not specified"),
            ),
            (
                format!(r#"{{"custom_id":"a","request":{{{parts}}}}}"#),
                Some("\"custom_id\" at ''"),
            ),
            (
                format!(r#"{{"request":{{{parts},"generationConfig":{{"max_tokens":1}}}}}}"#),
                Some("\"max_tokens\" at 'request.generation_config'"),
            ),
            (
                format!(
                    r#"{{"request":{{{parts},"generationConfig":{{"responseSchema":{{"additionalProperties":false}}}}}}}}"#
                ),
                Some("\"additionalProperties\" at 'request.generation_config.response_schema'"),
            ),
            (
                format!(
                    r#"{{"request":{{{parts},"generationConfig":{{"responseSchema":{{}},"response_json_schema":{{}}}}}}}}"#
                ),
                Some("must not be set when response_json_schema is set"),
            ),
            ("{".to_owned(), Some("Invalid JSON payload")),
        ] {
            let read = line(text.as_bytes());
            match expected {
                None => assert!(read.is_ok(), "{text}"),
                Some(words) => {
                    let refusal = read.unwrap_err();
                    assert!(
                        refusal.message().contains(words),
                        "{text}: {}",
                        refusal.message()
                    );
                }
            }
        }
    }
}
