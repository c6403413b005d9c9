use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use pagemill::adapters::gemini::CHUNK_BYTES;
use pagemill::domain::failure::{AccountFault, ApiError, Effect, Next, Quota};
use pagemill::domain::ids::Sha256Hex;
use pagemill::domain::remote::RemoteFile;
use pagemill::ports::file_api::{FileApi, Upload};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::recordings::Recording;
use crate::server::{KEY, Reply, Request, Server};

struct Source {
    _folder: TempDir,
    upload: Upload,
}

fn source(content: &[u8]) -> Source {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("صفحة 1.png");
    fs::write(&path, content).unwrap();
    Source {
        upload: Upload {
            display_name: "page-1".into(),
            mime: "image/png".into(),
            path,
            bytes: content.len() as u64,
            sha256: Sha256Hex::new(hex::encode(Sha256::digest(content))),
            content: None,
        },
        _folder: folder,
    }
}

fn started() -> Reply {
    Reply::new(200, "")
        .header("X-Goog-Upload-Status", "active")
        .header("X-Goog-Upload-URL", "{BASE}/upload/v1/files?upload_id=abc")
}

fn active(received: u64) -> Reply {
    Reply::new(200, "")
        .header("X-Goog-Upload-Status", "active")
        .header("X-Goog-Upload-Size-Received", received)
}

fn resource(content: &[u8]) -> String {
    format!(
        r#"{{"file":{{"name":"files/a","uri":"https://h/v1/files/a","sizeBytes":"{}","sha256Hash":"{}","state":"ACTIVE"}}}}"#,
        content.len(),
        hex::encode(Sha256::digest(content))
    )
}

fn done(body: impl Into<Vec<u8>>) -> Reply {
    Reply::new(200, body).header("X-Goog-Upload-Status", "final")
}

async fn run(content: &[u8], script: Vec<Reply>) -> (Result<RemoteFile, ApiError>, Vec<Request>) {
    let server = Server::new(script);
    let source = source(content);
    let outcome = server.client().upload(&source.upload).await;
    if let Err(error) = &outcome {
        assert!(!error.message.contains(KEY) && !error.message.contains("upload_id"));
    }
    (outcome, server.requests())
}

/// Commands, offsets and bodies of the requests after the start.
fn steps(requests: &[Request]) -> Vec<(String, Option<u64>, String)> {
    requests[1..]
        .iter()
        .map(|request| {
            assert_eq!(request.header("x-goog-api-key"), None);
            assert!(request.header("content-length").is_some());
            assert_eq!(
                (request.path.as_str(), request.query.as_str()),
                ("/upload/v1/files", "upload_id=abc")
            );
            (
                request.header("x-goog-upload-command").unwrap().to_owned(),
                request
                    .header("x-goog-upload-offset")
                    .map(|text| text.parse().unwrap()),
                String::from_utf8(request.body.clone()).unwrap(),
            )
        })
        .collect()
}

fn step(command: &str, offset: Option<u64>, body: &str) -> (String, Option<u64>, String) {
    (command.to_owned(), offset, body.to_owned())
}

#[tokio::test]
async fn what_was_held_since_it_was_checked_is_sent_without_the_file() {
    let content = b"0123456789";
    let mut held = source(content);
    held.upload.content = Some(Arc::new(content.to_vec()));
    fs::remove_file(&held.upload.path).unwrap();
    let script = vec![
        started().header("X-Goog-Upload-Chunk-Granularity", "4"),
        active(4),
        active(8),
        done(resource(content)),
    ];
    let server = Server::new(script);
    let client = server.client_with(4);
    client.upload(&held.upload).await.unwrap();
    assert_eq!(
        steps(&server.requests()),
        [
            step("upload", Some(0), "0123"),
            step("upload", Some(4), "4567"),
            step("upload, finalize", Some(8), "89"),
        ]
    );
    // What is not the whole of it is not trusted.
    held.upload.content = Some(Arc::new(b"01234".to_vec()));
    let server = Server::new(Vec::new());
    let refused = server.client().upload(&held.upload).await.unwrap_err();
    assert_eq!(refused.next, Next::Local);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_upload_is_sent_as_recorded() {
    let (start, finalize) = (
        Recording::load("43-js-files-upload-start"),
        Recording::load("44-js-files-upload-finalize"),
    );
    let server = Server::new(vec![start.reply(), finalize.reply()]);
    let content = finalize.request()["body"]["text"]
        .as_str()
        .unwrap()
        .as_bytes();
    let mut source = source(content);
    source.upload.display_name = "b".into();
    source.upload.mime = "jsonl".into();
    let file = server
        .client_with(CHUNK_BYTES)
        .upload(&source.upload)
        .await
        .unwrap();
    assert_eq!(file.name.as_str(), "files/sau4iyl6i5p5");
    assert_eq!(file.sha256.unwrap(), source.upload.sha256.as_str());
    let requests = server.requests();
    start.check(&requests[0]);
    finalize.check(&requests[1]);
    assert_eq!(requests[0].header("x-goog-api-key"), Some(KEY));
    assert_eq!(requests[1].header("x-goog-api-key"), None);
    assert_eq!(requests[1].query, finalize.request()["query"]);
    assert_eq!(requests[1].header("content-length"), Some("64"));
}

#[tokio::test]
async fn a_large_file_goes_in_chunks_of_8_mib() {
    let content: Vec<u8> = (0..2 * CHUNK_BYTES + 5)
        .map(|at| (at / 1000) as u8)
        .collect();
    let server = Server::new(vec![
        started().header("X-Goog-Upload-Chunk-Granularity", CHUNK_BYTES),
        active(CHUNK_BYTES as u64),
        Reply::new(200, "").header("X-Goog-Upload-Status", "active"),
        done(resource(&content)),
    ]);
    let source = source(&content);
    // A smaller chunk than the server takes is made as large as it must be.
    server.client_with(4).upload(&source.upload).await.unwrap();
    let requests = server.requests();
    let sizes: Vec<usize> = requests
        .iter()
        .skip(1)
        .map(|request| request.body.len())
        .collect();
    assert_eq!(sizes, [CHUNK_BYTES, CHUNK_BYTES, 5]);
    let commands: Vec<_> = requests
        .iter()
        .skip(1)
        .map(|r| r.header("x-goog-upload-command").unwrap())
        .collect();
    assert_eq!(commands, ["upload", "upload", "upload, finalize"]);
    let joined: Vec<u8> = requests
        .iter()
        .skip(1)
        .flat_map(|request| request.body.clone())
        .collect();
    assert!(joined == content);
}

#[tokio::test]
async fn whole_and_empty_files_end_with_a_finalize() {
    let (outcome, requests) = run(
        b"abcdefgh",
        vec![started(), active(4), done(resource(b"abcdefgh"))],
    )
    .await;
    outcome.unwrap();
    assert_eq!(
        steps(&requests),
        [
            step("upload", Some(0), "abcd"),
            step("upload, finalize", Some(4), "efgh")
        ]
    );
    let (outcome, requests) = run(b"", vec![started(), done(resource(b""))]).await;
    outcome.unwrap();
    assert_eq!(steps(&requests), [step("upload, finalize", Some(0), "")]);
}

#[tokio::test]
async fn a_broken_chunk_goes_on_where_the_server_says() {
    let content = b"abcdefghij";
    for broken in [
        Reply::new(503, "busy"),
        Reply::new(503, "busy").early(),
        Reply::silence(),
        Reply::new(200, ""),
        Reply::new(400, "offset"),
        Reply::new(412, ""),
        Reply::new(416, ""),
    ] {
        for received in [0, 2, 4, 6, 8] {
            let mut script = vec![started(), active(4), broken.clone(), active(received)];
            let mut expected = vec![
                step("upload", Some(0), "abcd"),
                step("upload", Some(4), "efgh"),
                step("query", None, ""),
            ];
            if received < 4 {
                // Behind what is known to be stored: the server lost what it had.
                let (outcome, _) = run(content, script).await;
                assert_eq!(outcome.unwrap_err().next, Next::Garbled);
                continue;
            }
            let mut offset = received as usize;
            while offset + 4 < content.len() {
                let body = std::str::from_utf8(&content[offset..offset + 4]).unwrap();
                expected.push(step("upload", Some(offset as u64), body));
                offset += 4;
                script.push(active(offset as u64));
            }
            let body = std::str::from_utf8(&content[offset..]).unwrap();
            expected.push(step("upload, finalize", Some(offset as u64), body));
            script.push(done(resource(content)));
            let (outcome, requests) = run(content, script).await;
            assert_eq!(
                outcome.unwrap().name.as_str(),
                "files/a",
                "{broken:?} {received}"
            );
            let mut sent = steps(&requests);
            if !matches!(sent[1].2.as_str(), "efgh") {
                // The server did not wait for the body.
                sent[1].2 = "efgh".to_owned();
            }
            assert_eq!(sent, expected, "{broken:?} {received}");
        }
    }
}

#[tokio::test]
async fn resumes_are_bounded() {
    let mut script = vec![started()];
    script.extend((0..20).map(|_| Reply::new(503, "busy")));
    let (outcome, requests) = run(b"abc", script).await;
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.next, error.http_status),
        (Next::Transient, Some(503))
    );
    let commands: Vec<String> = steps(&requests).into_iter().map(|step| step.0).collect();
    assert_eq!(
        commands,
        [
            "upload, finalize",
            "query",
            "query",
            "query",
            "query",
            "query"
        ]
    );
}

#[tokio::test]
async fn a_lost_finalize_is_asked_for() {
    let content = b"abc";
    let (outcome, requests) = run(
        content,
        vec![started(), Reply::silence(), done(resource(content))],
    )
    .await;
    assert_eq!(outcome.unwrap().name.as_str(), "files/a");
    assert_eq!(requests.len(), 3);
    let (outcome, _) = run(content, vec![started(), Reply::silence(), done("")]).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.next, error.effect), (Next::Transient, Effect::Maybe));
    assert!(
        error.message.contains("answer was lost"),
        "{}",
        error.message
    );
    // Taken in whole, but not ended yet: the finalize is sent again, empty.
    let (outcome, requests) = run(
        content,
        vec![
            started(),
            Reply::silence(),
            active(3),
            done(resource(content)),
        ],
    )
    .await;
    outcome.unwrap();
    assert_eq!(steps(&requests)[2], step("upload, finalize", Some(3), ""));
}

#[tokio::test]
async fn f21_an_answer_counts_only_when_it_is_about_our_bytes() {
    let content = b"abc";
    let file = |fields: &str| format!(r#"{{"file":{{"name":"files/a"{fields}}}}}"#);
    let good = r#","uri":"u","sizeBytes":"3""#;
    let wrong_hash = format!(
        r#"{good},"state":"ACTIVE","sha256Hash":"{}""#,
        "0".repeat(64)
    );
    let table = [
        (String::new(), Some(Next::Transient)),
        ("{}".to_owned(), Some(Next::Transient)),
        (r#"{"file":{}}"#.to_owned(), Some(Next::Transient)),
        (file(good), None),
        (file(r#","uri":"u","sizeBytes":"4""#), Some(Next::Garbled)),
        (file(r#","uri":"u""#), Some(Next::Garbled)),
        (file(r#","uri":"u","state":"PROCESSING""#), None),
        (file(r#","sizeBytes":"3""#), Some(Next::Garbled)),
        (file(&wrong_hash), Some(Next::Garbled)),
        (
            r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}"#.to_owned(),
            Some(Next::Throttled {
                after: None,
                quota: Quota::Rate,
            }),
        ),
    ];
    for (body, expected) in table {
        let (outcome, _) = run(content, vec![started(), done(body.clone())]).await;
        assert_eq!(outcome.err().map(|error| error.next), expected, "{body}");
    }
}

#[tokio::test]
async fn some_answers_end_the_try() {
    let storage = Recording::load("35-error-429-file-storage").reply();
    let (outcome, requests) = run(b"abc", vec![storage]).await;
    let expected = Next::Throttled {
        after: None,
        quota: Quota::Storage,
    };
    assert_eq!((outcome.unwrap_err().next, requests.len()), (expected, 1));
    for (status, next) in [
        (401, Next::Account(AccountFault::Key)),
        (403, Next::Account(AccountFault::Permission)),
        (404, Next::Missing),
    ] {
        let (outcome, requests) = run(b"abc", vec![started(), Reply::new(status, "")]).await;
        assert_eq!((outcome.unwrap_err().next, requests.len()), (next, 2));
    }
    let unsupported = Reply::new(
        400,
        r#"{"error":{"code":400,"message":"Unsupported MIME type"}}"#,
    )
    .header("X-Goog-Upload-Status", "final");
    let (outcome, requests) = run(b"abc", vec![started(), unsupported]).await;
    assert_eq!(
        (outcome.unwrap_err().next, requests.len()),
        (Next::Refused, 2)
    );
    let (outcome, _) = run(b"abc", vec![started(), Reply::silence(), active(4)]).await;
    assert_eq!(outcome.unwrap_err().next, Next::Garbled);
}

#[tokio::test]
async fn bytes_go_only_to_the_server_that_was_called() {
    for address in [
        "/upload?upload_id=x",
        "http://127.0.0.1:1/x",
        "https://evil.example/x",
        "file:///etc/passwd",
    ] {
        let reply = Reply::new(200, "").header("X-Goog-Upload-URL", address);
        let (outcome, requests) = run(b"abc", vec![reply]).await;
        assert_eq!(
            (outcome.unwrap_err().next, requests.len()),
            (Next::Garbled, 1),
            "{address}"
        );
    }
    let (outcome, _) = run(b"abc", vec![Reply::new(200, "")]).await;
    assert_eq!(outcome.unwrap_err().next, Next::Garbled);
}

async fn check_changed(change: impl FnOnce(&mut Upload, PathBuf)) {
    let server = Server::new(vec![started(), active(4)]);
    let mut source = source(b"abcdef");
    let path = source.upload.path.clone();
    change(&mut source.upload, path.clone());
    let error = server.client().upload(&source.upload).await.unwrap_err();
    assert_eq!((error.next, error.effect), (Next::Local, Effect::None));
    assert!(
        error
            .message
            .contains(&source.upload.path.display().to_string()),
        "{}",
        error.message
    );
    let finalized = server
        .requests()
        .iter()
        .any(|r| r.header("x-goog-upload-command") == Some("upload, finalize"));
    assert!(!finalized, "a changed file must not become a remote file");
}

#[tokio::test]
async fn a_file_that_changed_is_not_uploaded() {
    check_changed(|_, path| fs::write(path, b"abcdeX").unwrap()).await;
    check_changed(|_, path| fs::write(path, b"abc").unwrap()).await;
    check_changed(|_, path| fs::write(path, b"abcdefg").unwrap()).await;
    check_changed(|_, path| fs::remove_file(path).unwrap()).await;
    check_changed(|upload, path| upload.path = path.parent().unwrap().to_path_buf()).await;
}
