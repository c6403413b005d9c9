//! Every fault at full rate shows its symptom.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{CHUNK, World, world, world_of};

/// The only candidate of a row, and the text of its parts.
fn candidate(row: &Value) -> (Value, Vec<String>) {
    let candidate = row["response"]["candidates"][0].clone();
    let parts = candidate["content"]["parts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let texts = parts
        .iter()
        .map(|part| part["text"].as_str().unwrap_or_default().to_owned());
    (candidate.clone(), texts.collect())
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

/// Says whether a row shows what its fault promises.
fn shows(kind: &str, rows: &[Value]) -> bool {
    let Some(row) = rows.first() else {
        return kind == "missing";
    };
    let (candidate, texts) = candidate(row);
    let finish = candidate["finishReason"].as_str().unwrap_or_default();
    let whole = texts.concat();
    let code = |field: &str| row[field]["code"].as_i64().unwrap_or_default();
    match kind {
        "error_13" => code("error") == 13,
        "error_8" => code("error") == 8,
        "error_7" => code("error") == 7,
        "status_error" => code("status") == 13 && row.get("error").is_none(),
        "no_candidates" => row["response"].get("candidates").is_none(),
        "prompt_blocked" => row["response"]["promptFeedback"]["blockReason"].is_string(),
        "max_tokens_empty" => finish == "MAX_TOKENS" && texts.is_empty(),
        "truncated" => finish == "MAX_TOKENS" && !whole.is_empty() && !is_json(&whole),
        "repetition" => finish == "MAX_TOKENS" && whole.matches("the same line").count() > 100,
        "recitation" => finish == "RECITATION" && texts.is_empty(),
        "safety" => finish == "SAFETY" && candidate.get("content").is_none(),
        "empty_parts" => finish == "STOP" && texts == [""],
        "duplicate_same" => rows.len() == 2 && rows[0] == rows[1],
        "duplicate_conflict" => {
            rows.len() == 2 && rows[0] != rows[1] && rows[0]["key"] == rows[1]["key"]
        }
        "code_fence" => whole.starts_with("```json\n") && whole.ends_with("\n```"),
        "prose_around" => whole.starts_with("Here is") && whole.contains("\n\n{"),
        "thought_parts" => {
            candidate["content"]["parts"][0]["thought"] == true && is_json(&texts[1])
        }
        "split_parts" => texts.len() == 3 && is_json(&whole),
        "invalid_schema" => is_json(&whole) && !whole.contains("\"title\""),
        "invalid_json" => finish == "STOP" && !is_json(&whole),
        _ => false,
    }
}

#[tokio::test]
async fn every_kind_of_bad_row_shows_its_symptom() {
    let world = world().await;
    for kind in [
        "error_13",
        "error_8",
        "error_7",
        "status_error",
        "no_candidates",
        "prompt_blocked",
        "max_tokens_empty",
        "truncated",
        "repetition",
        "recitation",
        "safety",
        "empty_parts",
        "missing",
        "duplicate_same",
        "duplicate_conflict",
        "code_fence",
        "prose_around",
        "thought_parts",
        "split_parts",
        "invalid_schema",
        "invalid_json",
    ] {
        let text = format!("row_{kind}: 1");
        world
            .emulator
            .set_faults(pagemill::emulator::FaultProfile::from_yaml(&text).unwrap());
        let rows = world.rows(&["p1"]).await;
        assert!(shows(kind, &rows), "{kind}: {rows:?}");
        assert_eq!(world.emulator.ledger().answers_by_key["p1"][kind], 1);
    }
    let good = world_of("pages: []").await.rows(&["p1"]).await;
    assert!(is_json(&candidate(&good[0]).1.concat()));
}

#[tokio::test]
async fn a_page_rule_holds_for_its_first_requests() {
    let world = world_of("pages: [{key: 'a:*', kind: 'row_error:13', times: 1}]").await;
    let first = world.rows(&["a:1", "b:1"]).await;
    assert_eq!(first[0]["error"]["code"], 13);
    assert!(first[1].get("response").is_some());
    let second = world.rows(&["a:1"]).await;
    assert!(second[0].get("response").is_some());
}

/// Runs a job of three pages; gives the raw results.
async fn raw(world: &World) -> Vec<u8> {
    let job = world.job("job", &["p1", "p2", "p3"]).await;
    world.results(&world.poll(&job).await).await
}

#[tokio::test]
async fn results_files_are_set_in_every_odd_way() {
    let plain = raw(&world().await).await;
    assert!(plain.ends_with(b"}\n"));
    let crlf = raw(&world_of("lines_crlf: 1").await).await;
    assert_eq!(crlf.windows(2).filter(|two| two == b"\r\n").count(), 3);
    let blank = raw(&world_of("lines_blank: 1").await).await;
    assert_eq!(
        String::from_utf8(blank)
            .unwrap()
            .lines()
            .filter(|line| line.is_empty())
            .count(),
        3
    );
    let cut = raw(&world_of("lines_no_final_newline: 1").await).await;
    assert_eq!(cut, plain[..plain.len() - 1]);
    let spoiled = raw(&world_of("row_invalid_utf8: {rate: 1, only: p2}").await).await;
    let broken: Vec<bool> = spoiled
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| std::str::from_utf8(line).is_err())
        .collect();
    assert_eq!(broken, [false, true, false]);
    let keys = |bytes: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(bytes).unwrap();
        let rows = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| row["key"].as_str().unwrap().to_owned())
            .collect()
    };
    let shuffled = keys(raw(&world_of("rows_shuffled: 1").await).await);
    assert_ne!(shuffled, ["p1", "p2", "p3"]);
    assert_eq!(shuffled.iter().collect::<BTreeSet<_>>().len(), 3);
    let foreign = keys(raw(&world_of("rows_unknown_key: 1").await).await);
    assert!(
        foreign.len() == 4 && foreign[3].starts_with("unknown-"),
        "{foreign:?}"
    );
}

#[tokio::test]
async fn every_bad_end_of_a_job_shows() {
    for (faults, state, code) in [
        ("job_failed_8: 1", "FAILED", json!(8)),
        ("job_failed_13: 1", "FAILED", json!(13)),
        ("job_expired: 1", "EXPIRED", Value::Null),
        ("expire_over_requests: 1", "EXPIRED", Value::Null),
        ("job_cancelled: 1", "CANCELLED", json!(13)),
    ] {
        let world = world_of(faults).await;
        let job = world.job("job", &["p1", "p2"]).await;
        let operation = world.poll(&job).await;
        assert_eq!(
            operation["metadata"]["state"],
            format!("BATCH_STATE_{state}"),
            "{faults}"
        );
        assert_eq!(operation["error"]["code"], code, "{faults}");
        assert!(operation["done"] == true && operation.get("response").is_none());
        assert!(
            world.emulator.ledger().requests_by_key.is_empty(),
            "{faults}"
        );
    }
}

#[tokio::test]
async fn the_odd_looks_of_a_job_show() {
    let look = async |faults: &str| {
        let world = world_of(faults).await;
        let job = world.job("job", &["p1", "p2"]).await;
        world.poll(&job).await
    };
    let words = look("job_state_words: 1").await;
    assert_eq!(words["metadata"]["state"], "JOB_STATE_SUCCEEDED");
    let counts = look("job_without_counts: 1").await;
    assert!(counts["metadata"].get("batchStats").is_none());
    let odd = look("job_unknown_state: {rate: 1, milliseconds: 3600000}").await;
    assert_eq!(odd["metadata"]["state"], "BATCH_STATE_REBALANCING");
    let pending = look("job_pending_longer: {rate: 1, milliseconds: 3600000}").await;
    assert_eq!(pending["metadata"]["state"], "BATCH_STATE_PENDING");
    let unnamed = look("results_unnamed: {rate: 1, milliseconds: 3600000}").await;
    assert_eq!(unnamed["metadata"]["state"], "BATCH_STATE_SUCCEEDED");
    assert!(unnamed.get("response").is_none() && unnamed["metadata"].get("output").is_none());
    let unserved = look("job_unserved_rows: 1").await;
    let stats =
        json!({"requestCount": "2", "successfulRequestCount": "1", "failedRequestCount": "1"});
    assert_eq!(unserved["metadata"]["batchStats"], stats);
    let inline = look("job_inline_output: 1").await;
    let rows = &inline["response"]["inlinedResponses"]["inlinedResponses"];
    assert_eq!(rows[1]["metadata"]["key"], "p2");
    let large = look("job_inline_output: {rate: 1, requests: 1}").await;
    assert!(large["response"]["responsesFile"].is_string());
}

#[tokio::test]
async fn lists_hide_what_they_hide() {
    let world = world_of("list_without_page_size_empty: 1").await;
    let job = world.job("job", &["p1"]).await;
    assert_eq!(world.get("/v1/batches").await.body, json!({}));
    let listed = world.get("/v1/batches?pageSize=10").await.body;
    assert_eq!(listed["operations"][0]["name"], job);
    let world = world_of("list_delay: {rate: 1, milliseconds: 3600000}").await;
    let job = world.job("job", &["p1"]).await;
    assert_eq!(world.get("/v1/batches?pageSize=10").await.body, json!({}));
    assert_eq!(world.get(&format!("/v1/{job}")).await.status, 200);
}

#[tokio::test]
async fn creates_fail_with_and_without_a_job() {
    for (fault, status, jobs) in [
        ("create_429", Some(429), 0),
        ("create_failed_precondition", Some(400), 0),
        ("create_500", Some(500), 0),
        ("create_503", Some(503), 0),
        ("create_lost_503", Some(503), 1),
        ("create_lost_closed", None, 1),
        ("create_slow", Some(200), 1),
    ] {
        let world = world_of(&format!("{fault}: {{rate: 1, milliseconds: 1}}")).await;
        let line = json!({"key": "p1", "request": {"contents": [{"parts": [{"text": "hi"}]}]}});
        let input = world
            .upload("jsonl", "input", line.to_string().as_bytes())
            .await;
        let path = format!("/v1/models/{}:batchGenerateContent", crate::kit::MODEL);
        let body = json!({"batch": {"displayName": "doubtful", "inputConfig": {"fileName": input["name"]}}});
        let request = world.request(Method::POST, &path).body(body.to_string());
        let answer = request
            .send()
            .await
            .ok()
            .map(|answer| answer.status().as_u16());
        assert_eq!(answer, status, "{fault}");
        let ledger = world.emulator.ledger();
        assert_eq!(
            (ledger.creates_seen, ledger.jobs_made),
            (1, jobs),
            "{fault}"
        );
        let listed = world.get("/v1/batches?pageSize=10").await.body;
        assert_eq!(listed.get("operations").is_some(), jobs == 1, "{fault}");
    }
}

#[tokio::test]
async fn uploads_lose_bytes_or_answers() {
    let bytes = vec![7_u8; CHUNK + 1];
    let world = world_of("upload_chunk_lost_answer: {rate: 1, at_most: 1}").await;
    let url = world.start("image/png", bytes.len(), "a").await;
    assert!(
        world
            .chunk_request(&url, "upload", 0, &bytes[..CHUNK])
            .send()
            .await
            .is_err()
    );
    let query = world.chunk(&url, "query", 0, b"").await;
    assert_eq!(
        query.received.as_deref(),
        Some("8388608"),
        "stored all the same"
    );

    let world = world_of("upload_chunk_503: {rate: 1, at_most: 1}").await;
    let url = world.start("image/png", 1, "a").await;
    let refused = world.chunk(&url, "upload, finalize", 0, b"a").await;
    assert_eq!((refused.status, refused.upload_status), (503, None));
    assert_eq!(
        world.chunk(&url, "query", 0, b"").await.received.as_deref(),
        Some("0")
    );
    assert_eq!(
        world.chunk(&url, "upload, finalize", 0, b"a").await.status,
        200
    );

    let world = world_of("upload_finalize_lost_answer: 1").await;
    let url = world.start("image/png", 1, "a").await;
    assert!(
        world
            .chunk_request(&url, "upload, finalize", 0, b"a")
            .send()
            .await
            .is_err()
    );
    assert_eq!(world.emulator.ledger().uploads_finalized, 1);
    let query = world.chunk(&url, "query", 0, b"").await;
    assert_eq!(query.upload_status.as_deref(), Some("final"));

    let world = world_of("upload_finalize_without_file: 1").await;
    let url = world.start("image/png", 1, "a").await;
    let answer = world.chunk(&url, "upload, finalize", 0, b"a").await;
    assert_eq!((answer.status, answer.body), (200, json!({})));
    let world = world_of("upload_wrong_size: 1").await;
    assert_eq!(world.upload("image/png", "a", b"a").await["sizeBytes"], "2");
}

#[tokio::test]
async fn a_lost_answer_leaves_not_one_byte() {
    let world = world_of("create_lost_closed: 1").await;
    let line = json!({"key": "p1", "request": {"contents": [{"parts": [{"text": "hi"}]}]}});
    let input = world
        .upload("jsonl", "input", line.to_string().as_bytes())
        .await;
    let body = json!({"batch": {"inputConfig": {"fileName": input["name"]}}}).to_string();
    let port = world.emulator.port();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let head = format!(
            "POST /v1/models/gemini-3.8-flash:batchGenerateContent HTTP/1.1\r\nHost: x\r\n\
             x-goog-api-key: k\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // Both a clean close and a reset are a lost answer.
        let _end = stream.read_to_end(&mut answer);
        answer
    });
    assert_eq!(answer.await.unwrap(), b"");
    assert_eq!(world.emulator.ledger().jobs_made, 1);
}

#[tokio::test]
async fn downloads_break_in_every_way() {
    let world = world_of("download_cut: {rate: 1, at_most: 1}").await;
    let job = world.job("job", &["p1", "p2"]).await;
    let operation = world.poll(&job).await;
    let results = operation["response"]["responsesFile"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/{results}:download?alt=media");
    let mut answer = world.request(Method::GET, &path).send().await.unwrap();
    let told = answer.content_length().unwrap();
    let mut got = Vec::new();
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(piece)) => got.extend_from_slice(&piece),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(
        broken && !got.is_empty() && (got.len() as u64) < told,
        "{} of {told}",
        got.len()
    );
    let rest = world
        .request(Method::GET, &path)
        .header("Range", format!("bytes={}-", got.len()));
    got.extend_from_slice(&rest.send().await.unwrap().bytes().await.unwrap());
    assert_eq!(got, world.results(&operation).await);

    let world = world_of("download_503: 1").await;
    let job = world.job("job", &["p1"]).await;
    let operation = world.poll(&job).await;
    let file = operation["response"]["responsesFile"].as_str().unwrap();
    assert_eq!(
        world
            .get(&format!("/v1/{file}:download?alt=media"))
            .await
            .status,
        503
    );
    let world = world_of("results_unreadable: {rate: 1, milliseconds: 3600000}").await;
    let job = world.job("job", &["p1"]).await;
    let operation = world.poll(&job).await;
    let file = operation["response"]["responsesFile"].as_str().unwrap();
    assert_eq!(
        world.get(&format!("/v1/{file}")).await.body["state"],
        "PROCESSING"
    );
    let early = world.get(&format!("/v1/{file}:download?alt=media")).await;
    assert_eq!(
        (early.status, early.error().1),
        (400, "FAILED_PRECONDITION")
    );
}
