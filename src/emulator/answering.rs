//! The ways in which an answer leaves, and the ways in which it does not.

use std::io;
use std::time::Duration;

use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::{StreamExt, stream};
use serde_json::Value;

/// Reads a header as text.
pub(super) fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// Sends JSON under the content type that the service uses.
pub(super) fn json_answer(builder: &mut HttpResponseBuilder, body: &Value) -> HttpResponse {
    builder
        .content_type("application/json; charset=utf-8")
        .body(body.to_string())
}

/// Sends JSON with status 200.
pub(super) fn ok(body: &Value) -> HttpResponse {
    json_answer(&mut HttpResponse::Ok(), body)
}

/// Reads a body to its end and forgets it, so that the client gets to read the answer.
pub(super) async fn drain(mut payload: Payload) {
    while let Some(Ok(_)) = payload.next().await {}
}

/// Breaks the connection instead of answering: the body fails before a byte is written.
pub(super) fn broken() -> HttpResponse {
    const NEVER_SENT: u64 = 1024;
    let failure = stream::once(async { Err::<Bytes, io::Error>(closed()) });
    HttpResponse::Ok()
        .no_chunking(NEVER_SENT)
        .streaming(failure)
}

/// Sends a part of a body and then breaks the connection.
pub(super) fn cut(builder: &mut HttpResponseBuilder, part: Vec<u8>, whole: u64) -> HttpResponse {
    const TIME_TO_LEAVE: Duration = Duration::from_millis(20);
    let first = stream::once(async { Ok::<Bytes, io::Error>(Bytes::from(part)) });
    // What was handed over is sent only when the connection is next polled.
    let failure = stream::once(async {
        tokio::time::sleep(TIME_TO_LEAVE).await;
        Err(closed())
    });
    builder
        .no_chunking(whole)
        .streaming(Box::pin(first.chain(failure)))
}

fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the emulator plays a lost connection",
    )
}
