//! The refusals, word by word as published from the live service.

use pagemill::emulator::EmulatorOptions;
use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Answer, MODEL, World, world, world_of, world_with};

async fn start(world: &World) -> Answer {
    let request = world.start_request("image/png", 1, &json!({}));
    Answer::read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn keys_are_asked_for() {
    let options = EmulatorOptions {
        api_key: Some("right".to_owned()),
        ..EmulatorOptions::default()
    };
    let world = world_with(options).await;
    let wrong = world.get("/v1/files").await;
    assert_eq!(
        wrong.body,
        json!({"error": {"code": 400,
        "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
             "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}},
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US",
             "message": "API key not valid. Please pass a valid API key."}]}})
    );
    let none = Answer::read(
        world
            .client
            .get(world.url("/v1/files"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    let (code, status, message) = none.error();
    assert_eq!((none.status, code, status), (403, 403, "PERMISSION_DENIED"));
    assert!(message.starts_with("Method doesn't allow unregistered callers ("));
    let query = world
        .client
        .get(world.url("/v1/files?key=right"))
        .send()
        .await
        .unwrap();
    assert_eq!(query.status(), 200);
    assert_eq!(world.emulator.ledger().unauthorized, 2);
}

#[tokio::test]
async fn quota_refusals_carry_what_the_recordings_carry() {
    let world = world_of("create_429_retry_info: 1").await;
    let path = format!("/v1/models/{MODEL}:batchGenerateContent");
    let body = json!({"batch": {"displayName": "a"}}).to_string();
    let answer = world
        .request(Method::POST, &path)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["Retry-After"], "2");
    let error = Answer::read(answer).await;
    let kinds: Vec<&str> = error.body["error"]["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|detail| {
            detail["@type"]
                .as_str()
                .unwrap()
                .rsplit('.')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(kinds, ["QuotaFailure", "Help", "RetryInfo"]);
    assert_eq!(error.body["error"]["details"][2]["retryDelay"], "1.500s");
    let message = "You exceeded your current quota, please check your plan and billing details. \
                   Please retry in 1.500s.";
    assert_eq!(error.error(), (429, "RESOURCE_EXHAUSTED", message));
}

#[tokio::test]
async fn a_full_storage_says_so_without_a_hint() {
    let world = world_of("upload_start_storage_full: 1").await;
    let full = start(&world).await;
    let details = full.body["error"]["details"].as_array().unwrap();
    assert_eq!(full.status, 429);
    assert_eq!(details.len(), 2, "no RetryInfo");
    assert_eq!(
        details[0]["violations"][0],
        json!({
        "quotaMetric": "generativelanguage.googleapis.com/file_storage_bytes",
        "quotaId": "FileStorageBytesPerProject", "quotaValue": "21474836480"})
    );
}

#[tokio::test]
async fn upload_starts_are_refused_in_every_way() {
    for (fault, status, delay) in [
        ("upload_start_429", 429, None),
        ("upload_start_429_retry_info", 429, Some("1.200s")),
        (
            "upload_start_429_absurd_retry",
            429,
            Some("9223372036854775807s"),
        ),
        ("upload_start_503", 503, None),
    ] {
        let world = world_of(&format!("{fault}: 1")).await;
        let refused = start(&world).await;
        assert_eq!(refused.status, status, "{fault}");
        assert!(refused.upload_status.is_none());
        let details = refused.body["error"]["details"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let told = details
            .iter()
            .find_map(|detail| detail["retryDelay"].as_str());
        assert_eq!(told, delay, "{fault}");
        let ledger = world.emulator.ledger();
        assert_eq!(
            (ledger.uploads_started, ledger.faults_played[fault]),
            (1, 1)
        );
    }
}

#[tokio::test]
async fn creates_are_refused_for_what_is_wrong_with_them() {
    let world = world().await;
    let path = format!("/v1/models/{MODEL}:batchGenerateContent");
    let contents = json!([{"parts": [{"text": "hi"}]}]);
    let misplaced = json!({"batch": {"input_config": {"requests": {"requests": [
        {"request": {"contents": contents}, "safetySettings": []}]}}}});
    let refused = world.post(&path, &misplaced).await;
    let words = "Invalid JSON payload received. Unknown name \"safetySettings\" at \
                 'batch.input_config.requests.requests[0]': Cannot find field.";
    assert_eq!(refused.error(), (400, "INVALID_ARGUMENT", words));
    assert_eq!(
        refused.body["error"]["details"][0]["fieldViolations"][0],
        json!({
        "field": "batch.input_config.requests.requests[0]", "description": words})
    );

    let missing = world.create("a", "files/nosuchfile00").await;
    assert_eq!(
        missing.error(),
        (404, "NOT_FOUND", "Requested entity was not found.")
    );
    let neither = world
        .post(&path, &json!({"batch": {"displayName": "a"}}))
        .await;
    assert_eq!(neither.status, 400);
    let image = world.upload("image/png", "i", b"i").await;
    assert_eq!(
        world
            .create("a", image["name"].as_str().unwrap())
            .await
            .status,
        400
    );
    let unknown = world
        .post("/v1/models/other-1:batchGenerateContent", &misplaced)
        .await;
    assert_eq!(unknown.status, 400, "the body is read before the model");
    assert_eq!(world.get("/v1/models/other-1").await.status, 404);
    assert_eq!(world.emulator.ledger().jobs_made, 0);
}

#[tokio::test]
async fn a_file_that_is_not_active_cannot_be_used() {
    for (faults, state) in [
        (
            "file_processing: {rate: 1, milliseconds: 3600000}",
            "PROCESSING",
        ),
        ("file_failed: 1", "FAILED"),
    ] {
        let world = world_of(faults).await;
        let file = world.upload("jsonl", "input", b"{}").await;
        assert_eq!(file["state"], state);
        assert_eq!(file.get("sizeBytes").is_none(), state == "PROCESSING");
        let name = file["name"].as_str().unwrap();
        let refused = world.create("a", name).await;
        let words = format!(
            "The File {} is not in an ACTIVE state and usage is not allowed.",
            name.strip_prefix("files/").unwrap()
        );
        assert_eq!(
            refused.error(),
            (400, "FAILED_PRECONDITION", words.as_str())
        );
    }
}

#[tokio::test]
async fn a_row_about_a_file_that_is_not_active_is_an_error_of_code_9() {
    let faults = "file_processing: {rate: 1, milliseconds: 3600000, only: 'p1'}";
    let world = world_of(faults).await;
    let rows = world.rows(&["p1", "p2"]).await;
    assert_eq!(rows[0]["error"]["code"], 9);
    assert!(rows[1].get("response").is_some());
    assert_eq!(
        world.emulator.ledger().answers_by_key["p1"]["file_inactive"],
        1
    );
}

#[tokio::test]
async fn looks_and_lists_fail_in_every_way() {
    for (fault, status) in [("poll_429", 429), ("poll_503", 503), ("poll_502_html", 502)] {
        let world = world_of(&format!("{fault}: 1")).await;
        let job = world.job("a", &["p1"]).await;
        let answer = world.get(&format!("/v1/{job}")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.body.is_string(), fault == "poll_502_html");
    }
    let world = world_of("list_503: 1\nfile_get_503: 1\ndelete_503: 1").await;
    assert_eq!(world.get("/v1/batches?pageSize=9").await.status, 503);
    assert_eq!(world.get("/v1/files?pageSize=9").await.status, 503);
    let file = world.upload("image/png", "i", b"i").await;
    let path = format!("/v1/{}", file["name"].as_str().unwrap());
    assert_eq!(world.get(&path).await.status, 503);
    assert_eq!(world.delete(&path).await.status, 503);
    let world = world_of("delete_429: 1").await;
    let job = world.job("a", &["p1"]).await;
    assert_eq!(world.delete(&format!("/v1/{job}")).await.status, 429);
    assert_eq!(
        world.get("/nowhere").await.body,
        Value::String("<html><title>Error 404 (Not Found)!!1</title></html>".to_owned())
    );
}
