//! The resumable upload and the files it makes.

use pagemill::emulator::EmulatorOptions;
use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{CHUNK, told_sha256, world, world_with};

#[tokio::test]
async fn a_start_answers_with_all_headers_and_its_own_address() {
    let world = world().await;
    let request = world.start_request("image/png", 3, &json!({"file": {"display_name": "a"}}));
    let answer = request.send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(answer.status(), 200);
    assert_eq!(header("X-Goog-Upload-Status"), "active");
    assert_eq!(header("X-Goog-Upload-Chunk-Granularity"), "8388608");
    assert_eq!(
        header("X-Goog-Upload-URL"),
        header("X-Goog-Upload-Control-URL")
    );
    let id = header("X-GUploader-UploadID");
    let expected = world.url(&format!(
        "/upload/v1beta/files?upload_id={id}&upload_protocol=resumable"
    ));
    assert_eq!(header("X-Goog-Upload-URL"), expected);
    assert_eq!(answer.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_file_has_the_fields_of_the_live_service() {
    let world = world().await;
    let bytes = b"not really a picture";
    let file = world.upload("image/png", "page 1", bytes).await;
    let names: Vec<&String> = file.as_object().unwrap().keys().collect();
    let expected = [
        "name",
        "displayName",
        "mimeType",
        "sizeBytes",
        "createTime",
        "updateTime",
        "expirationTime",
        "sha256Hash",
        "uri",
        "state",
        "source",
    ];
    assert_eq!(names, expected);
    assert_eq!(file["sizeBytes"], "20");
    assert_eq!(file["sha256Hash"], told_sha256(bytes));
    assert_eq!(file["state"], "ACTIVE");
    let name = file["name"].as_str().unwrap();
    assert_eq!(name.len(), "files/".len() + 12);
    assert_eq!(file["uri"], world.url(&format!("/v1beta/{name}")));
    assert_eq!(world.get(&format!("/v1/{name}")).await.body, file);
    let created: jiff::Timestamp = file["createTime"].as_str().unwrap().parse().unwrap();
    let expires: jiff::Timestamp = file["expirationTime"].as_str().unwrap().parse().unwrap();
    let life = expires.duration_since(created).as_secs();
    assert!((48 * 3600 - 60..=48 * 3600).contains(&life), "{life}");
}

#[tokio::test]
async fn a_large_file_goes_up_in_chunks_and_survives_a_wrong_offset() {
    let world = world().await;
    let bytes: Vec<u8> = (0..CHUNK + 1000).map(|at| (at % 251) as u8).collect();
    let url = world.start("jsonl", bytes.len(), "large").await;
    let first = world.chunk(&url, "upload", 0, &bytes[..CHUNK]).await;
    assert_eq!(
        (first.status, first.upload_status.as_deref()),
        (200, Some("active"))
    );
    assert_eq!(first.received.as_deref(), Some("8388608"));

    let again = world.chunk(&url, "upload", 0, &bytes[..CHUNK]).await;
    assert_eq!(
        (again.status, again.error().1),
        (400, "INVALID_ARGUMENT"),
        "wrong offset"
    );
    let odd = world.chunk(&url, "upload", CHUNK, &bytes[CHUNK..]).await;
    assert_eq!(odd.status, 400, "not a multiple of the granularity");
    let query = world.chunk(&url, "query", 0, b"").await;
    assert_eq!(query.upload_status.as_deref(), Some("active"));
    assert_eq!(
        query.received.as_deref(),
        Some("8388608"),
        "nothing was changed"
    );

    let last = world
        .chunk(&url, "upload, finalize", CHUNK, &bytes[CHUNK..])
        .await;
    assert_eq!(
        (last.status, last.upload_status.as_deref()),
        (200, Some("final")),
        "{last:?}"
    );
    assert_eq!(last.body["file"]["sha256Hash"], told_sha256(&bytes));
    assert_eq!(last.body["file"]["sizeBytes"], bytes.len().to_string());

    let query = world.chunk(&url, "query", 0, b"").await;
    assert_eq!(query.upload_status.as_deref(), Some("final"));
    assert_eq!(
        query.body, last.body,
        "a lost last answer can be asked for again"
    );
    let more = world
        .chunk(&url, "upload, finalize", bytes.len(), b"x")
        .await;
    assert_eq!(
        (more.status, more.upload_status.as_deref()),
        (400, Some("final"))
    );
    assert_eq!(world.emulator.ledger().uploads_finalized, 1);
}

#[tokio::test]
async fn bytes_may_come_by_put_and_a_file_may_be_empty() {
    let world = world().await;
    let url = world.start("image/png", 0, "empty").await;
    let request = world
        .client
        .put(&url)
        .header("X-Goog-Upload-Command", "upload, finalize")
        .header("X-Goog-Upload-Offset", "0")
        .header("Content-Length", "0");
    let body: Value =
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(body["file"]["sizeBytes"], "0");
    assert_eq!(body["file"]["sha256Hash"], told_sha256(b""));
}

#[tokio::test]
async fn a_cancelled_or_unknown_upload_takes_no_bytes() {
    let world = world().await;
    let url = world.start("image/png", 1, "a").await;
    let cancelled = world.chunk(&url, "cancel", 0, b"").await;
    assert_eq!(
        (cancelled.status, cancelled.upload_status.as_deref()),
        (200, Some("cancelled"))
    );
    let late = world.chunk(&url, "upload, finalize", 0, b"a").await;
    assert_eq!(
        (late.status, late.upload_status.as_deref()),
        (400, Some("cancelled"))
    );
    let nobody = world.url("/upload/v1/files?upload_id=nobody");
    assert_eq!(world.chunk(&nobody, "query", 0, b"").await.status, 404);
}

#[tokio::test]
async fn the_declared_size_is_held_to() {
    let world = world().await;
    let url = world.start("image/png", 5, "a").await;
    for bytes in [&b"1234"[..], b"123456"] {
        assert_eq!(
            world.chunk(&url, "upload, finalize", 0, bytes).await.status,
            400
        );
    }
    let right = world.chunk(&url, "upload, finalize", 0, b"12345").await;
    assert_eq!(
        right.body["file"]["sha256Hash"],
        told_sha256(b"12345"),
        "nothing stuck before"
    );
}

#[tokio::test]
async fn a_chosen_id_is_kept_and_can_be_taken_once() {
    let world = world().await;
    let start = async |id: &str| {
        let body = json!({"file": {"name": format!("files/{id}"), "sizeBytes": "1"}});
        let request = world.start_request("image/png", 1, &body);
        crate::kit::Answer::read(request.send().await.unwrap()).await
    };
    assert_eq!(start("My_Id").await.status, 400);
    assert_eq!(start("-a").await.status, 400);
    let body = json!({"file": {"name": "files/my-own-id"}});
    let answer = world
        .start_request("image/png", 1, &body)
        .send()
        .await
        .unwrap();
    let url = answer.headers()["X-Goog-Upload-URL"]
        .to_str()
        .unwrap()
        .to_owned();
    let file = world.chunk(&url, "upload, finalize", 0, b"a").await;
    assert_eq!(file.body["file"]["name"], "files/my-own-id");
    assert!(
        file.body["file"].get("displayName").is_none(),
        "empty texts are left out"
    );
    let taken = start("my-own-id").await;
    assert_eq!((taken.status, taken.error().1), (409, "ALREADY_EXISTS"));
}

#[tokio::test]
async fn files_are_listed_in_pages_and_deleted_for_good() {
    let world = world().await;
    assert_eq!(world.get("/v1/files").await.body, json!({}));
    let mut names = Vec::new();
    for number in 0..12 {
        let file = world.upload("image/png", "", &[number]).await;
        names.push(file["name"].as_str().unwrap().to_owned());
    }
    let usual = world.get("/v1/files").await.body;
    assert_eq!(usual["files"].as_array().unwrap().len(), 10);
    let mut listed = Vec::new();
    let mut path = "/v1/files?pageSize=4".to_owned();
    loop {
        let page = world.get(&path).await.body;
        let files = page["files"].as_array().expect("a page is never empty");
        listed.extend(
            files
                .iter()
                .map(|file| file["name"].as_str().unwrap().to_owned()),
        );
        let Some(token) = page["nextPageToken"].as_str() else {
            break;
        };
        path = format!("/v1/files?pageSize=4&pageToken={token}");
    }
    assert_eq!(listed, names);

    let path = format!("/v1beta/{}", names[0]);
    assert_eq!(world.delete(&path).await.body, json!({}));
    for answer in [world.get(&path).await, world.delete(&path).await] {
        assert_eq!(
            (answer.status, answer.error().1),
            (403, "PERMISSION_DENIED")
        );
    }
    let download = world
        .get(&format!("/v1/{}:download?alt=media", names[1]))
        .await;
    assert_eq!(
        (download.status, download.error().1),
        (400, "INVALID_ARGUMENT")
    );
}

#[tokio::test]
async fn storage_fills_up_and_frees_by_deletion() {
    let options = EmulatorOptions {
        storage_limit_bytes: 10,
        ..EmulatorOptions::default()
    };
    let world = world_with(options).await;
    let file = world.upload("image/png", "a", b"123456").await;
    let request = world.start_request("image/png", 5, &json!({}));
    assert_eq!(request.send().await.unwrap().status(), 429);
    world
        .delete(&format!("/v1/{}", file["name"].as_str().unwrap()))
        .await;
    world.upload("image/png", "b", b"12345").await;
    assert_eq!(world.emulator.ledger().files_live_bytes_max, 6);
}

#[tokio::test]
async fn a_file_goes_away_at_the_end_of_its_life() {
    let options = EmulatorOptions {
        file_lifetime: std::time::Duration::ZERO,
        ..EmulatorOptions::default()
    };
    let world = world_with(options).await;
    let file = world.upload("image/png", "a", b"a").await;
    let gone = world
        .get(&format!("/v1/{}", file["name"].as_str().unwrap()))
        .await;
    assert_eq!(gone.status, 403);
    assert_eq!(world.get("/v1/files").await.body, json!({}));
    assert_eq!(world.emulator.ledger().files_live_bytes, 0);
}

#[tokio::test]
async fn a_large_batch_input_is_kept_on_disk_and_read_back() {
    let world = world().await;
    let padding = "x".repeat(10_000);
    let line = json!({"key": "k", "request": {"contents": [{"parts": [{"text": padding}]}]}});
    let bytes = format!("{line}\n").repeat(900).into_bytes();
    assert!(bytes.len() > CHUNK);
    let url = world.start("text/plain", bytes.len(), "input").await;
    world.chunk(&url, "upload", 0, &bytes[..CHUNK]).await;
    let file = world
        .chunk(&url, "upload, finalize", CHUNK, &bytes[CHUNK..])
        .await;
    let created = world
        .create("job", file.body["file"]["name"].as_str().unwrap())
        .await;
    assert_eq!(
        created.body["metadata"]["batchStats"]["requestCount"],
        "900"
    );
    let done = world.poll(created.body["name"].as_str().unwrap()).await;
    assert_eq!(
        done["metadata"]["batchStats"]["successfulRequestCount"], "900",
        "{done}"
    );
    assert_eq!(world.emulator.ledger().requests_by_key["k"], 900);
    let request = world.request(Method::GET, "/v1/models/gemini-3.8-flash");
    assert_eq!(request.send().await.unwrap().status(), 200);
}
