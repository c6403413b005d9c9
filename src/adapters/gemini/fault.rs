//! Errors of calls that got no answer, and of our own disk.

use std::error::Error;
use std::path::Path;

use crate::domain::failure::{ApiError, Effect, Next};
use crate::wire::error::{Call, one_line};

/// Classifies a failed exchange. Only a connection that never came about is certain to have
/// changed nothing.
pub(super) fn transport(call: Call, error: &reqwest::Error) -> ApiError {
    let never_sent = error.is_connect() || error.is_builder();
    let next = if error.is_builder() {
        Next::Refused
    } else {
        Next::Transient
    };
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    };
    ApiError {
        effect: if never_sent {
            Effect::None
        } else {
            call.doubt()
        },
        next,
        http_status: error.status().map(|status| status.as_u16()),
        message: format!("{}: {what}: {}", call.as_str(), chain(error)),
    }
}

/// A transfer in which nothing moved for too long.
pub(super) fn silent(call: Call) -> ApiError {
    ApiError {
        effect: call.doubt(),
        next: Next::Transient,
        http_status: None,
        message: format!("{}: nothing arrived in time", call.as_str()),
    }
}

/// An answer that the service is known to give now and then, and that another try mends.
pub(super) fn transient(call: Call, http_status: Option<u16>, detail: &str) -> ApiError {
    ApiError {
        effect: call.doubt(),
        next: Next::Transient,
        http_status,
        message: format!("{}: {detail}", call.as_str()),
    }
}

/// A request that this program must not send.
pub(super) fn not_sent(call: Call, detail: &str) -> ApiError {
    ApiError {
        effect: Effect::None,
        next: Next::Refused,
        http_status: None,
        message: format!("{}: not sent: {}", call.as_str(), one_line(detail)),
    }
}

/// Our own file or disk is at fault.
pub(super) fn local(call: Call, path: &Path, detail: &str) -> ApiError {
    ApiError {
        effect: Effect::None,
        next: Next::Local,
        http_status: None,
        message: format!("{}: {}: {detail}", call.as_str(), path.display()),
    }
}

/// An error with its causes. The outermost text of reqwest names the address, queries included;
/// only its causes are told.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() {
        causes.push("no further detail".to_owned());
    }
    one_line(&causes.join(": "))
}

/// An address fit to be shown: without user and query.
pub(super) fn shown_url(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or(text);
    match text.rsplit_once('@') {
        Some((_user, rest)) => format!("[removed]@{rest}"),
        None => text.to_owned(),
    }
}
