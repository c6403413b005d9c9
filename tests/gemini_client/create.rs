//! A create is sent at most once, and its doubt is told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pagemill::adapters::gemini::{GeminiClient, GeminiOptions};
use pagemill::domain::failure::{ApiError, Effect, Next};
use pagemill::domain::ids::RemoteName;
use pagemill::domain::remote::RemoteBatch;
use pagemill::ports::batch_api::BatchApi;

use crate::server::{Reply, Server, options};

async fn create(client: &GeminiClient) -> Result<RemoteBatch, ApiError> {
    let input = RemoteName::from("files/a");
    client
        .create("gemini-3.8-flash", "pagemill-1", &input)
        .await
}

#[tokio::test]
async fn f12_a_create_is_sent_exactly_once_when_the_connection_breaks() {
    let good = Reply::new(200, r#"{"name":"batches/a"}"#);
    for broken in [
        Reply::silence(),
        Reply::silence().early(),
        good.clone().cut_after(5),
        Reply::new(503, "busy"),
        Reply::new(408, ""),
        Reply::new(200, ""),
        Reply::new(302, "").header("Location", "{BASE}/elsewhere"),
    ] {
        // A second request would be answered well: it must not come.
        let server = Server::new(vec![good.clone(), broken.clone(), good.clone()]);
        let client = server.client();
        create(&client).await.unwrap();
        let error = create(&client).await.unwrap_err();
        assert_eq!(error.effect, Effect::Maybe, "{broken:?}");
        assert!(
            matches!(error.next, Next::Transient | Next::Garbled),
            "{error}"
        );
        assert_eq!(server.requests().len(), 2, "{broken:?}");
    }
}

#[tokio::test]
async fn a_create_that_never_left_has_no_effect() {
    // Nobody listens on a port that only the system may give out.
    let base = "http://127.0.0.1:1";
    let client = GeminiClient::new(options(base)).unwrap();
    let error = create(&client).await.unwrap_err();
    assert_eq!((error.effect, error.next), (Effect::None, Next::Transient));
    assert!(
        error.message.starts_with("create a batch: no connection"),
        "{}",
        error.message
    );
    assert_eq!(error.http_status, None);
}

#[tokio::test]
async fn f12_a_create_without_an_answer_in_time_is_in_doubt() {
    // Connections are taken by the system; nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let client = GeminiClient::new(GeminiOptions {
        request_timeout: Duration::from_millis(20),
        ..options(&base)
    })
    .unwrap();
    let error = create(&client).await.unwrap_err();
    assert_eq!((error.effect, error.next), (Effect::Maybe, Next::Transient));
}

/// Answers every request of every connection, and counts the connections.
fn patient_server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || converse(stream.unwrap()));
        }
    });
    (base, connections)
}

fn converse(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let mut request = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..read]);
        let is_look = request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n");
        if is_look || request.ends_with(b"}}}") {
            let body = r#"{"name":"batches/a"}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", body.len());
            write!(stream, "{head}\r\n\r\n{body}").unwrap();
            request.clear();
        }
    }
}

#[tokio::test]
async fn f12_a_create_never_uses_a_connection_again() {
    let (base, connections) = patient_server();
    let client = GeminiClient::new(options(&base)).unwrap();
    for _ in 0..3 {
        client.batch(&RemoteName::from("batches/a")).await.unwrap();
    }
    let for_looks = connections.load(Ordering::SeqCst);
    assert_eq!(for_looks, 1, "looks share a connection");
    for _ in 0..3 {
        create(&client).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), for_looks + 3);
}
