//! The bodies with which the provider refuses, as `google.rpc` errors.
//!
//! The texts and shapes follow published answers of the live service; a client under test may
//! compare them word by word.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use serde_json::{Value, json};

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) http: u16,
    status: &'static str,
    message: String,
    details: Vec<Value>,
    retry_after_seconds: Option<u64>,
    html: bool,
}

/// What a 429 says about when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryHint {
    /// Nothing: only the quota and a help link.
    Silent,
    /// A `RetryInfo` of this many milliseconds and a `Retry-After` header.
    Milliseconds(u64),
    /// The hint that no client can follow: `i64::MAX` seconds.
    Absurd,
}

impl Refusal {
    fn new(http: u16, status: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            http,
            status,
            message: message.into(),
            details: Vec::new(),
            retry_after_seconds: None,
            html: false,
        }
    }

    /// A request that is wrong in itself.
    pub(super) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message)
    }

    /// A field the message does not have, with the violation the live service adds.
    pub(super) fn unknown_field(path: &str, name: &str) -> Self {
        let message = format!(
            "Invalid JSON payload received. Unknown name \"{name}\" at '{path}': Cannot find field."
        );
        Self::field_violation(path, message)
    }

    /// A field whose value has the wrong type or is out of range.
    pub(super) fn invalid_value(path: &str, why: &str) -> Self {
        Self::field_violation(path, format!("Invalid value at '{path}' ({why})"))
    }

    fn field_violation(path: &str, message: String) -> Self {
        let details = vec![json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": path, "description": message}],
        })];
        Refusal {
            details,
            ..Self::invalid_argument(message)
        }
    }

    /// A key that is not the one this emulator accepts.
    pub(super) fn bad_key() -> Self {
        let message = "API key not valid. Please pass a valid API key.";
        let details = vec![
            json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }),
            json!({
                "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
                "locale": "en-US",
                "message": message,
            }),
        ];
        Refusal {
            details,
            ..Self::invalid_argument(message)
        }
    }

    /// No key at all.
    pub(super) fn no_key() -> Self {
        Self::new(
            403,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity). \
             Please use API Key or other form of API consumer identity to call this API.",
        )
    }

    /// A file that is missing, expired or somebody else's: the service does not say which.
    pub(super) fn missing_file(id: &str) -> Self {
        Self::new(403, "PERMISSION_DENIED", missing_file_text(id))
    }

    /// A batch, or a batch's input, that does not exist.
    pub(super) fn not_found() -> Self {
        Self::new(404, "NOT_FOUND", "Requested entity was not found.")
    }

    /// A model name the provider does not serve.
    pub(super) fn unknown_model(model: &str, version: &str) -> Self {
        let message = format!(
            "models/{model} is not found for API version {version}, or is not supported for \
             batchGenerateContent. Call ListModels to see the list of available models and their \
             supported methods."
        );
        Self::new(404, "NOT_FOUND", message)
    }

    /// A file that may not be used yet, or never.
    pub(super) fn inactive_file(id: &str) -> Self {
        Self::precondition(inactive_file_text(id))
    }

    /// A request that does not fit the state of things.
    pub(super) fn precondition(message: impl Into<String>) -> Self {
        Self::new(400, "FAILED_PRECONDITION", message)
    }

    /// A chosen name that is taken.
    pub(super) fn already_exists(id: &str) -> Self {
        Self::new(
            409,
            "ALREADY_EXISTS",
            format!("The File {id} already exists."),
        )
    }

    /// An id longer than the service's own limit; results files trip over it.
    pub(super) fn long_file_id(method: &str) -> Self {
        Self::invalid_argument(format!(
            "* {method}.name: File ID (name excluding 'files/') cannot be more than 40 characters.\n"
        ))
    }

    /// A range outside the file.
    pub(super) fn range_not_satisfiable() -> Self {
        Self::new(416, "OUT_OF_RANGE", "Requested range not satisfiable.")
    }

    /// Too many requests.
    pub(super) fn quota(hint: RetryHint) -> Self {
        let mut message =
            "You exceeded your current quota, please check your plan and billing details."
                .to_owned();
        let mut details = vec![
            json!({
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{
                    "quotaMetric": "generativelanguage.googleapis.com/example_metric",
                    "quotaId": "ExamplePerProjectPerModel",
                    "quotaDimensions": {"location": "global", "model": "gemini"},
                    "quotaValue": "3000000",
                }],
            }),
            help(),
        ];
        let delay = match hint {
            RetryHint::Silent => None,
            RetryHint::Milliseconds(millis) => Some((
                format!("{}.{:03}s", millis / 1000, millis % 1000),
                millis.div_ceil(1000),
            )),
            RetryHint::Absurd => Some((format!("{}s", i64::MAX), i64::MAX.unsigned_abs())),
        };
        if let Some((text, _)) = &delay {
            message.push_str(&format!(" Please retry in {text}."));
            details.push(json!({
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": text,
            }));
        }
        Refusal {
            details,
            retry_after_seconds: delay.map(|(_, seconds)| seconds),
            ..Self::new(429, "RESOURCE_EXHAUSTED", message)
        }
    }

    /// The project's file storage is full; waiting does not help, so no hint is given.
    pub(super) fn storage_full(limit_bytes: u64) -> Self {
        let message = format!(
            "You exceeded your current quota, please check your plan and billing details. For more \
             information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.\n\
             * Quota exceeded for metric: generativelanguage.googleapis.com/file_storage_bytes, \
             limit: {limit_bytes}"
        );
        let details = vec![
            json!({
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{
                    "quotaMetric": "generativelanguage.googleapis.com/file_storage_bytes",
                    "quotaId": "FileStorageBytesPerProject",
                    "quotaValue": limit_bytes.to_string(),
                }],
            }),
            help(),
        ];
        Refusal {
            details,
            ..Self::new(429, "RESOURCE_EXHAUSTED", message)
        }
    }

    /// Something broke on the provider's side.
    pub(super) fn internal() -> Self {
        Self::new(
            500,
            "INTERNAL",
            "An internal error has occurred. Please retry or report in \
             https://developers.generativeai.google/guide/troubleshooting",
        )
    }

    /// The model, or the service before it, is overloaded.
    pub(super) fn overloaded() -> Self {
        Self::new(
            503,
            "UNAVAILABLE",
            "The model is overloaded. Please try again later.",
        )
    }

    /// The upload or file service is away.
    pub(super) fn unavailable() -> Self {
        Self::new(503, "UNAVAILABLE", "The service is currently unavailable.")
    }

    /// A gateway in between answered in its own way.
    pub(super) fn bad_gateway() -> Self {
        Refusal {
            html: true,
            ..Self::new(502, "", "<html><title>502</title></html>")
        }
    }

    /// A path the provider does not serve.
    pub(super) fn no_such_path() -> Self {
        Refusal {
            html: true,
            ..Self::new(
                404,
                "",
                "<html><title>Error 404 (Not Found)!!1</title></html>",
            )
        }
    }

    /// Renders the refusal as an HTTP answer.
    pub(super) fn answer(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut builder = HttpResponse::build(status);
        if self.html {
            return builder
                .content_type(ContentType::html())
                .body(self.message.clone());
        }
        if let Some(seconds) = self.retry_after_seconds {
            builder.insert_header(("Retry-After", seconds.to_string()));
        }
        builder
            .content_type("application/json; charset=utf-8")
            .body(self.body().to_string())
    }

    /// The JSON body alone.
    fn body(&self) -> Value {
        let mut error = json!({"code": self.http, "message": self.message, "status": self.status});
        if !self.details.is_empty() {
            error["details"] = Value::Array(self.details.clone());
        }
        json!({"error": error})
    }

    /// The sentence, as a job's own error quotes it.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

/// The sentence about a file that cannot be seen; rows of a batch carry it too.
pub(super) fn missing_file_text(id: &str) -> String {
    format!("You do not have permission to access the File {id} or it may not exist.")
}

/// The sentence about a file that is still processing, or failed.
pub(super) fn inactive_file_text(id: &str) -> String {
    format!("The File {id} is not in an ACTIVE state and usage is not allowed.")
}

fn help() -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.Help",
        "links": [{
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }],
    })
}
