//! The life of a batch from its making to its deletion.

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{MODEL, hex_sha256, jsonl, line, slow_world, world};

#[tokio::test]
async fn a_batch_from_a_file_answers_each_page_about_its_own_image() {
    let world = world().await;
    let job = world.job("my job", &["p1", "p2"]).await;
    let done = world.poll(&job).await;
    let id = job.strip_prefix("batches/").unwrap();
    assert_eq!(id.len(), 36);
    let metadata = &done["metadata"];
    assert_eq!(done["done"], true);
    assert_eq!(metadata["state"], "BATCH_STATE_SUCCEEDED");
    assert_eq!(metadata["displayName"], "my job");
    assert_eq!(metadata["model"], format!("models/{MODEL}"));
    assert_eq!(
        metadata["batchStats"],
        json!({"requestCount": "2", "successfulRequestCount": "2"})
    );
    assert_eq!(
        metadata["output"]["responsesFile"],
        format!("files/batch-{id}")
    );
    assert_eq!(
        done["response"]["responsesFile"],
        format!("files/batch-{id}")
    );

    let text = String::from_utf8(world.results(&done).await).unwrap();
    for (line, key) in text.lines().zip(["p1", "p2"]) {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["key"], key);
        let candidate = &row["response"]["candidates"][0];
        assert_eq!(candidate["finishReason"], "STOP");
        let answer = candidate["content"]["parts"][0]["text"].as_str().unwrap();
        let answer: Value = serde_json::from_str(answer).unwrap();
        let image = hex_sha256(key.as_bytes());
        assert_eq!(answer["title"], format!("title of {key} image {image}"));
        let usage = &row["response"]["usageMetadata"];
        let count = |name: &str| usage[name].as_u64().unwrap();
        let sum =
            count("promptTokenCount") + count("candidatesTokenCount") + count("thoughtsTokenCount");
        assert_eq!(count("totalTokenCount"), sum);
        assert_eq!(
            usage["promptTokensDetails"][1],
            json!({"modality": "IMAGE", "tokenCount": 1120})
        );
    }
    let ledger = world.emulator.ledger();
    assert_eq!(ledger.requests_by_key["p1"], 1);
    assert_eq!(ledger.answers_by_key["p2"]["ok"], 1);
    let last = &ledger.last_request_by_key["p1"];
    assert_eq!(last.prompt_sha256, hex_sha256(b"Transcribe."));
    assert_eq!(last.image_sha256, Some(hex_sha256(b"p1")));
}

#[tokio::test]
async fn a_new_batch_is_pending_without_done() {
    let world = slow_world().await;
    let job = world.job("slow", &["p1"]).await;
    let operation = world.poll(&job).await;
    assert!(operation.get("done").is_none() && operation.get("response").is_none());
    assert_eq!(operation["metadata"]["state"], "BATCH_STATE_PENDING");
    let stats = json!({"requestCount": "1", "pendingRequestCount": "1"});
    assert_eq!(operation["metadata"]["batchStats"], stats);
    assert_eq!(world.emulator.ledger().jobs_live, 1);
}

#[tokio::test]
async fn an_inline_batch_mixes_spellings_and_answers_doubly_nested() {
    let world = world().await;
    let mut entry = line("x", "https://elsewhere/v1/files/nosuchfile00");
    entry.as_object_mut().unwrap().remove("key");
    entry["metadata"] = json!({"key": "gone"});
    let body = json!({"batch": {"displayName": "inline", "priority": 5, "inputConfig": {"requests": {"requests": [
        {"request": {"contents": [{"parts": [{"inlineData": {"mime_type": "image/png", "data": "YWJj"}}]}],
            "generationConfig": {"responseMimeType": "application/json", "thinkingConfig": {"thinking_level": "LOW"}}},
         "metadata": {"key": "p1"}},
        entry]}}}});
    let path = format!("/v1beta/models/{MODEL}:batchGenerateContent");
    let created = world.post(&path, &body).await;
    let metadata = &created.body["metadata"];
    assert!(
        metadata.get("inputConfig").is_none(),
        "inline input is not echoed"
    );
    assert_eq!(metadata["priority"], "5");
    let done = world.poll(created.body["name"].as_str().unwrap()).await;
    assert_eq!(
        done["metadata"]["output"]["inlinedResponses"],
        done["response"]["inlinedResponses"]
    );
    let rows = &done["response"]["inlinedResponses"]["inlinedResponses"];
    assert_eq!(rows[0]["metadata"]["key"], "p1");
    let text = rows[0]["response"]["candidates"][0]["content"]["parts"][0]["text"]
        .as_str()
        .unwrap();
    let answer: Value = serde_json::from_str(text).unwrap();
    assert_eq!(answer["image_sha256"], hex_sha256(b"abc"));
    let error = json!({"code": 7, "message": "You do not have permission to access the File nosuchfile00 or it may not exist."});
    assert_eq!(rows[1]["error"], error);
    let listed = world.get("/v1/batches?pageSize=100").await.body;
    assert!(
        listed["operations"][0].get("response").is_none(),
        "lists leave inline results out"
    );
    assert_eq!(listed["operations"][0]["done"], true);
}

#[tokio::test]
async fn one_bad_line_fails_the_whole_job() {
    let world = world().await;
    let good = line("p1", "https://elsewhere/v1/files/none");
    let mut bad = good.clone();
    bad["request"]["generationConfig"]["max_tokens"] = json!(5);
    for (lines, words) in [
        (jsonl(&[good, bad]), "line 2 of files/"),
        (
            b"{\"key\": \"a\", \"request\": {}}\n".to_vec(),
            "contents is not specified",
        ),
        (b"not json\n".to_vec(), "Invalid JSON payload"),
        (b"\n".to_vec(), "no requests"),
    ] {
        let input = world.upload("jsonl", "input", &lines).await;
        let created = world.create("bad", input["name"].as_str().unwrap()).await;
        let failed = world.poll(created.body["name"].as_str().unwrap()).await;
        assert_eq!(failed["metadata"]["state"], "BATCH_STATE_FAILED");
        assert_eq!(failed["error"]["code"], 3);
        let message = failed["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        assert!(failed.get("response").is_none() && failed["done"] == true);
    }
    assert!(world.emulator.ledger().requests_by_key.is_empty());
}

#[tokio::test]
async fn equal_creates_make_two_jobs_and_both_are_paid_for() {
    let world = world().await;
    let image = world.upload("image/png", "i", b"i").await;
    let input = jsonl(&[line("p1", image["uri"].as_str().unwrap())]);
    let input = world.upload("jsonl", "input", &input).await;
    let name = input["name"].as_str().unwrap();
    let first = world.create("twice", name).await;
    let second = world.create("twice", name).await;
    assert_ne!(first.body["name"], second.body["name"]);
    world.poll(first.body["name"].as_str().unwrap()).await;
    world.poll(second.body["name"].as_str().unwrap()).await;
    let ledger = world.emulator.ledger();
    assert_eq!(ledger.jobs_by_name["twice"], 2);
    assert_eq!(ledger.requests_by_key["p1"], 2);
}

#[tokio::test]
async fn a_job_that_nobody_asks_for_runs_all_the_same() {
    let world = world().await;
    world.job("forgotten", &["p1"]).await;
    while world.emulator.ledger().requests_by_key.get("p1") != Some(&1) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn batches_are_listed_newest_first_in_pages() {
    let world = world().await;
    let mut names = Vec::new();
    for number in 0..5 {
        names.push(world.job(&format!("job {number}"), &["p1"]).await);
    }
    names.reverse();
    let mut listed = Vec::new();
    let mut path = "/v1beta/batches?pageSize=2".to_owned();
    loop {
        let page = world.get(&path).await.body;
        let jobs = page["operations"]
            .as_array()
            .expect("a page is never empty");
        listed.extend(
            jobs.iter()
                .map(|job| job["name"].as_str().unwrap().to_owned()),
        );
        let Some(token) = page["nextPageToken"].as_str() else {
            break;
        };
        path = format!("/v1beta/batches?pageSize=2&pageToken={token}");
    }
    assert_eq!(listed, names);
}

#[tokio::test]
async fn a_cancel_before_the_start_leaves_nothing() {
    let world = slow_world().await;
    let job = world.job("early", &["p1"]).await;
    let path = format!("/v1/{job}:cancel");
    assert_eq!(world.post(&path, &Value::Null).await.body, json!({}));
    let operation = world.poll(&job).await;
    assert_eq!(operation["metadata"]["state"], "BATCH_STATE_CANCELLED");
    assert_eq!(operation["error"]["code"], 13);
    let again = world.post(&path, &Value::Null).await;
    assert_eq!(
        (again.status, again.error().1),
        (400, "FAILED_PRECONDITION")
    );
    assert_eq!(world.poll(&job).await, operation, "the state is unchanged");
}

#[tokio::test]
async fn a_cancel_while_running_keeps_what_was_served() {
    // Running begins at a third of the latency, which a test must not wait for: an unknown state
    // before the end counts as running, too.
    let world = crate::kit::world_of("job_unknown_state: {rate: 1, milliseconds: 3600000}").await;
    let job = world.job("late", &["p1", "p2", "p3", "p4"]).await;
    assert_eq!(
        world.poll(&job).await["metadata"]["state"],
        "BATCH_STATE_REBALANCING"
    );
    assert_eq!(
        world
            .post(&format!("/v1/{job}:cancel"), &Value::Null)
            .await
            .status,
        200
    );
    let operation = world.poll(&job).await;
    assert_eq!(operation["metadata"]["state"], "BATCH_STATE_SUCCEEDED");
    let text = String::from_utf8(world.results(&operation).await).unwrap();
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        rows.iter()
            .filter(|row| row["error"] == json!({"code": 1}))
            .count(),
        2
    );
    let ledger = world.emulator.ledger();
    assert_eq!(ledger.requests_by_key.len(), 2);
    assert_eq!(ledger.answers_by_kind["unserved"], 2);
}

#[tokio::test]
async fn a_deleted_batch_takes_its_results_along() {
    let world = world().await;
    let job = world.job("gone", &["p1"]).await;
    let operation = world.poll(&job).await;
    let results = operation["response"]["responsesFile"]
        .as_str()
        .unwrap()
        .to_owned();
    let file = world.get(&format!("/v1/{results}")).await;
    assert_eq!(file.body["source"], "GENERATED");
    let refused = world.delete(&format!("/v1/{results}")).await;
    let words = "* DeleteFileRequest.name: File ID (name excluding 'files/') cannot be more than 40 characters.\n";
    assert_eq!(refused.error(), (400, "INVALID_ARGUMENT", words));

    assert_eq!(world.delete(&format!("/v1/{job}")).await.body, json!({}));
    let missing = world.get(&format!("/v1/{job}")).await;
    assert_eq!(
        missing.error(),
        (404, "NOT_FOUND", "Requested entity was not found.")
    );
    assert_eq!(world.delete(&format!("/v1/{job}")).await.status, 404);
    assert_eq!(world.get(&format!("/v1/{results}")).await.status, 403);
    assert_eq!(world.emulator.ledger().results_files_live, 0);
}

#[tokio::test]
async fn results_can_be_had_in_parts_and_under_both_paths() {
    let world = world().await;
    let job = world.job("parts", &["p1", "p2"]).await;
    let operation = world.poll(&job).await;
    let whole = world.results(&operation).await;
    let results = operation["response"]["responsesFile"].as_str().unwrap();
    let path = format!("/download/v1beta/{results}:download?alt=media");
    let request = world
        .request(Method::GET, &path)
        .header("Range", "bytes=100-");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 206);
    let told = format!("bytes 100-{}/{}", whole.len() - 1, whole.len());
    assert_eq!(answer.headers()["Content-Range"], told.as_str());
    assert_eq!(answer.bytes().await.unwrap(), whole[100..]);
    let past = format!("bytes={}-", whole.len());
    let request = world.request(Method::GET, &path).header("Range", past);
    assert_eq!(request.send().await.unwrap().status(), 416);
}

#[tokio::test]
async fn lines_without_a_key_and_with_a_repeated_key_are_answered() {
    let world = world().await;
    let text = json!({"request": {"contents": [{"parts": [{"text": "hi"}]}]}});
    let mut keyed = text.clone();
    keyed["key"] = json!("p1");
    let input = world
        .upload("jsonl", "input", &jsonl(&[text, keyed.clone(), keyed]))
        .await;
    let created = world.create("odd", input["name"].as_str().unwrap()).await;
    let done = world.poll(created.body["name"].as_str().unwrap()).await;
    let results = String::from_utf8(world.results(&done).await).unwrap();
    let keys: Vec<Value> = results
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].clone())
        .collect();
    assert_eq!(keys, [Value::Null, json!("p1"), json!("p1")]);
    let ledger = world.emulator.ledger();
    assert_eq!(
        (ledger.requests_without_key, ledger.requests_by_key["p1"]),
        (1, 2)
    );
}
