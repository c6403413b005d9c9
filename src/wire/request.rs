//! What is sent: request lines, the start of an upload, the create of a batch.
//!
//! Requests are camelCase throughout, and a request line carries nothing of ours but `key`: other
//! fields of a caller were seen to come back altered.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::io::{self, Write};

/// Everything that one request line is made of.
#[derive(Debug, Clone, Copy)]
pub struct LineParts<'a> {
    /// The record key; comes back with the answer.
    pub key: &'a str,
    /// The address of the uploaded image.
    pub file_uri: &'a str,
    /// The image type, as the upload declared it.
    pub mime: &'a str,
    pub prompt: &'a str,
    pub generation_config: &'a GenerationConfig,
}

/// How an answer is to be made, as it is sent: the same in most lines of a batch, and written once for
/// all of them.
#[derive(Debug, Clone)]
pub struct GenerationConfig(Box<RawValue>);

impl GenerationConfig {
    /// `config` is an object with camelCase members, without those that declare the response format;
    /// `response_schema` is in the provider's dialect.
    pub fn new(config: &Value, response_schema: &Value) -> Result<Self, WireError> {
        let config = config.as_object().ok_or(WireError::ConfigNotAnObject)?;
        if let Some(field) = RESPONSE_FIELDS
            .into_iter()
            .find(|field| config.contains_key(*field))
        {
            return Err(WireError::ConfigTaken { field });
        }
        let mut sent = config.clone();
        sent.insert("responseMimeType".to_owned(), "application/json".into());
        sent.insert("responseSchema".to_owned(), response_schema.clone());
        Ok(GenerationConfig(
            to_raw_value(&sent).expect("maps with string keys always serialize"),
        ))
    }
}

/// Why a request line cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a request line without a key")]
    NoKey,
    #[error("page {key}: the prompt has a NUL character, which the provider refuses")]
    Nul { key: String },
    #[error("the generation config is not an object")]
    ConfigNotAnObject,
    #[error("the generation config must not set '{field}'; it follows from the schema")]
    ConfigTaken { field: &'static str },
    #[error("page {key}: the request line does not read back: {detail}")]
    NotReadBack { key: String, detail: String },
}

/// What the response format is declared by; never the operator's to set.
const RESPONSE_FIELDS: [&str; 4] = [
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "response_json_schema",
];

/// Writes one JSON line, newline included, and reads it back before it is given out: one bad line
/// costs the whole job.
pub fn line(parts: &LineParts<'_>) -> Result<Vec<u8>, WireError> {
    let mut bytes = to_json(&Line::of(parts)?);
    check(&bytes, parts.key)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The length of such a line in bytes, newline included.
pub fn line_bytes(parts: &LineParts<'_>) -> Result<u64, WireError> {
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, &Line::of(parts)?)
        .expect("maps with string keys always serialize, and counting never fails");
    Ok(counted.0 + 1)
}

/// Counts what is written.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Line<'a> {
    /// The line that these parts make, unless they cannot make one.
    fn of(parts: &LineParts<'a>) -> Result<Self, WireError> {
        let LineParts {
            key,
            file_uri,
            mime,
            prompt,
            generation_config,
        } = *parts;
        if key.is_empty() {
            return Err(WireError::NoKey);
        }
        if prompt.contains('\0') {
            return Err(WireError::Nul {
                key: key.to_owned(),
            });
        }
        let file_data = FileData {
            mime_type: mime,
            file_uri,
        };
        Ok(Line {
            key,
            request: Request {
                contents: [Content {
                    role: "user",
                    parts: [Part::File { file_data }, Part::Text { text: prompt }],
                }],
                generation_config: &generation_config.0,
            },
        })
    }
}

/// The body that starts an upload. `bytes` is a string on the wire, as every 64-bit number.
pub fn upload_start(display_name: &str, mime: &str, bytes: u64) -> Vec<u8> {
    to_json(&UploadStart {
        file: FileMetadata {
            display_name,
            mime_type: mime,
            size_bytes: bytes.to_string(),
        },
    })
}

/// The body that creates a batch over an uploaded file of request lines.
pub fn batch_create(display_name: &str, input_file: &str) -> Vec<u8> {
    to_json(&BatchCreate {
        batch: Batch {
            display_name,
            input_config: InputConfig {
                file_name: input_file,
            },
        },
    })
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with string keys always serialize")
}

fn check(bytes: &[u8], key: &str) -> Result<(), WireError> {
    let failed = |detail: String| WireError::NotReadBack {
        key: key.to_owned(),
        detail,
    };
    if memchr::memchr2(b'\n', b'\r', bytes).is_some() {
        return Err(failed("it has a line break inside".to_owned()));
    }
    let echo: Echo<'_> =
        serde_json::from_slice(bytes).map_err(|error| failed(error.to_string()))?;
    if echo.key != key {
        return Err(failed(format!("its key reads '{}'", echo.key)));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Echo<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(rename = "request")]
    _request: serde::de::IgnoredAny,
}

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    contents: [Content<'a>; 1],
    generation_config: &'a RawValue,
}

#[derive(Serialize)]
struct Content<'a> {
    role: &'static str,
    parts: [Part<'a>; 2],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    #[serde(rename_all = "camelCase")]
    File {
        file_data: FileData<'a>,
    },
    Text {
        text: &'a str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    mime_type: &'a str,
    file_uri: &'a str,
}

#[derive(Serialize)]
struct UploadStart<'a> {
    file: FileMetadata<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileMetadata<'a> {
    display_name: &'a str,
    mime_type: &'a str,
    size_bytes: String,
}

#[derive(Serialize)]
struct BatchCreate<'a> {
    batch: Batch<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    display_name: &'a str,
    input_config: InputConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InputConfig<'a> {
    file_name: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A line; its length is counted right as well.
    fn written(key: &str, prompt: &str, config: &Value) -> Result<Vec<u8>, WireError> {
        let schema = json!({"type": "OBJECT", "properties": {"a_b": {"type": "STRING"}}});
        let parts = LineParts {
            key,
            file_uri: "https://generativelanguage.googleapis.com/v1beta/files/abc",
            mime: "image/png",
            prompt,
            generation_config: &GenerationConfig::new(config, &schema)?,
        };
        let bytes = line(&parts);
        let counted = bytes.as_ref().map(|bytes| bytes.len() as u64);
        assert_eq!(
            line_bytes(&parts).as_ref(),
            counted.as_ref().map_err(|e| *e)
        );
        bytes
    }

    #[test]
    fn f04_a_request_line_has_this_very_form() {
        let config = json!({"temperature": 0.1, "maxOutputTokens": 16384,
            "thinkingConfig": {"thinkingLevel": "LOW"}});
        let bytes = written(
            "Alabama:Howard College:1849:14",
            "Read\nthis \"page\".",
            &config,
        );
        let expected = concat!(
            r#"{"key":"Alabama:Howard College:1849:14","request":{"contents":[{"role":"user","parts":["#,
            r#"{"fileData":{"mimeType":"image/png","#,
            r#""fileUri":"https://generativelanguage.googleapis.com/v1beta/files/abc"}},"#,
            r#"{"text":"Read\nthis \"page\"."}]}],"#,
            r#""generationConfig":{"temperature":0.1,"maxOutputTokens":16384,"#,
            r#""thinkingConfig":{"thinkingLevel":"LOW"},"responseMimeType":"application/json","#,
            r#""responseSchema":{"type":"OBJECT","properties":{"a_b":{"type":"STRING"}}}}}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(bytes.unwrap()).unwrap(), expected);
    }

    #[test]
    fn the_other_bodies_have_this_very_form() {
        assert_eq!(
            String::from_utf8(upload_start("page 1", "image/png", u64::MAX)).unwrap(),
            r#"{"file":{"displayName":"page 1","mimeType":"image/png","sizeBytes":"18446744073709551615"}}"#
        );
        assert_eq!(
            String::from_utf8(batch_create("pagemill-1", "files/abc")).unwrap(),
            r#"{"batch":{"displayName":"pagemill-1","inputConfig":{"fileName":"files/abc"}}}"#
        );
    }

    fn check_refused(key: &str, prompt: &str, config: Value, expected: &str) {
        let error = written(key, prompt, &config).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn f24_what_would_cost_the_job_is_refused() {
        check_refused("", "p", json!({}), "without a key");
        check_refused("k", "a\0b", json!({}), "page k: the prompt has a NUL");
        check_refused("k", "p", json!([]), "not an object");
        check_refused("k", "p", json!({"responseSchema": {}}), "'responseSchema'");
        check_refused(
            "k",
            "p",
            json!({"responseJsonSchema": {}}),
            "'responseJsonSchema'",
        );
    }

    #[test]
    fn odd_characters_survive() {
        let prompt = "\u{2028}\u{feff}\r\n\t\u{1}é学\u{1f600}\\";
        let bytes = written("a%3Ab:\"q':04", prompt, &json!({})).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["key"], "a%3Ab:\"q':04");
        assert_eq!(value["request"]["contents"][0]["parts"][1]["text"], prompt);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
