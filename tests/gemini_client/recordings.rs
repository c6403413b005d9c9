//! The recorded exchanges: what we send is what was recorded, and we read the recorded answers.

use std::fs;
use std::path::Path;

use pagemill::adapters::gemini::{GeminiClient, GeminiOptions, OptionsError, SecretText};
use pagemill::domain::failure::{AccountFault, ApiError, Effect, Next, Quota};
use pagemill::domain::ids::RemoteName;
use pagemill::domain::remote::{RemoteBatchState, RemoteFileState, RemoteOutput};
use pagemill::ports::batch_api::BatchApi;
use pagemill::ports::file_api::FileApi;
use serde_json::Value;

use crate::server::{KEY, Reply, Request, Server, options};

pub struct Recording(Value);

impl Recording {
    pub fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire");
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        Recording(serde_json::from_str(&text).unwrap())
    }

    pub fn reply(&self) -> Reply {
        let response = &self.0["response"];
        let body = match &response["body"] {
            Value::Null => Vec::new(),
            Value::Object(body) if body.contains_key("text") => {
                body["text"].as_str().unwrap().as_bytes().to_vec()
            }
            body => serde_json::to_vec_pretty(body).unwrap(),
        };
        let mut reply = Reply::new(response["status"].as_u64().unwrap() as u16, body);
        for (name, value) in response["headers"].as_object().unwrap() {
            reply = reply.header(name, value.as_str().unwrap());
        }
        reply
    }

    pub fn request(&self) -> &Value {
        &self.0["request"]
    }

    /// Compares what every client must send; what names the client is its own business.
    pub fn check(&self, sent: &Request) {
        let recorded = self.request();
        assert_eq!(sent.method, recorded["method"]);
        assert_eq!(sent.path, recorded["path"]);
        for (name, value) in recorded["headers"].as_object().unwrap() {
            let is_protocol = name.to_lowercase().starts_with("x-goog-upload")
                && name != "X-Goog-Upload-File-Name";
            if is_protocol {
                assert_eq!(sent.header(name), value.as_str(), "{name}");
            }
        }
        if recorded["method"] == "POST" && recorded["body"].is_object() {
            let is_json = serde_json::from_slice::<Value>(&sent.body);
            match recorded["body"].get("text") {
                Some(text) => assert_eq!(text.as_str().unwrap().as_bytes(), sent.body),
                None => {
                    assert_eq!(is_json.unwrap(), recorded["body"]);
                    assert_eq!(sent.header("content-type"), Some("application/json"));
                }
            }
        }
    }
}

/// Plays one recording to one call.
async fn play<T>(
    name: &str,
    call: impl AsyncFnOnce(&GeminiClient) -> Result<T, ApiError>,
) -> (Result<T, ApiError>, Request) {
    let recording = Recording::load(name);
    let server = Server::new(vec![recording.reply()]);
    let client = server.client();
    let outcome = call(&client).await;
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "{name}");
    assert_eq!(requests[0].header("x-goog-api-key"), Some(KEY), "{name}");
    if let Err(error) = &outcome {
        assert!(!format!("{error:?}{client:?}").contains(KEY), "{name}");
    }
    (outcome, requests.into_iter().next().unwrap())
}

fn name(text: &str) -> RemoteName {
    RemoteName::from(text)
}

const JOB: &str = "batches/6mq8sye2nja3jgzdul48vwpme0rqspya0ju2";

#[tokio::test]
async fn files_are_looked_at_listed_and_deleted() {
    let id = "files/l7f6h94run82";
    let (file, sent) = play("10-files-get", async |c| c.file(&name(id)).await).await;
    Recording::load("10-files-get").check(&sent);
    let file = file.unwrap();
    assert_eq!(
        (file.name.as_str(), file.state),
        (id, RemoteFileState::Active)
    );
    assert!(file.bytes.is_some() && file.sha256.unwrap().len() == 64);
    let (file, _) = play("11-files-get-processing", async |c| c.file(&name(id)).await).await;
    let file = file.unwrap();
    assert_eq!(file.state, RemoteFileState::Processing);

    let (page, sent) = play("12-files-list-page1", async |c| c.list_files(None).await).await;
    let page = page.unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (2, Some("2")));
    assert_eq!(
        (sent.path.as_str(), sent.query.as_str()),
        ("/v1/files", "pageSize=100")
    );
    let token = "a b&c=d/";
    let (_, sent) = play("12-files-list-page1", async |c| {
        c.list_files(Some(token)).await
    })
    .await;
    assert_eq!(sent.query, "pageSize=100&pageToken=a+b%26c%3Dd%2F");

    let gone = name("files/s28vaojhb83v");
    let (deleted, sent) = play("14-files-delete", async |c| c.delete_file(&gone).await).await;
    Recording::load("14-files-delete").check(&sent);
    deleted.unwrap();
    let (error, _) = play("15-files-get-gone-403", async |c| c.file(&gone).await).await;
    assert_eq!(error.unwrap_err().next, Next::Missing);
    let results = name("files/batch-6mq8sye2nja3jgzdul48vwpme0rqspya0ju2");
    let recording = "23-files-delete-results-file-400";
    let (error, sent) = play(recording, async |c| c.delete_file(&results).await).await;
    Recording::load(recording).check(&sent);
    assert_eq!(error.unwrap_err().next, Next::Refused);
}

#[tokio::test]
async fn batches_are_created_looked_at_and_ended() {
    let recording = "45-js-batches-create-file";
    let input = name("files/sau4iyl6i5p5");
    for model in ["gemini-3.8-flash", "models/gemini-3.8-flash"] {
        let (batch, sent) = play(recording, async |c| c.create(model, "j", &input).await).await;
        Recording::load(recording).check(&sent);
        let batch = batch.unwrap();
        assert_eq!(batch.state, RemoteBatchState::Pending);
        assert_eq!(batch.display_name.as_deref(), Some("j"));
        assert_eq!((batch.stats.requests, batch.stats.failed), (Some(1), None));
    }
    let (batch, sent) = play("20-batches-get-succeeded-file", async |c| {
        c.batch(&name(JOB)).await
    })
    .await;
    Recording::load("20-batches-get-succeeded-file").check(&sent);
    let batch = batch.unwrap();
    assert_eq!(batch.state, RemoteBatchState::Succeeded);
    let results = format!("files/batch-{}", &JOB["batches/".len()..]);
    assert_eq!(
        batch.output,
        Some(RemoteOutput::File(RemoteName::new(results)))
    );
    assert!(batch.ended_at > batch.created_at);

    let id = name("batches/7c5wdzsgb3xtu7ptazpzw8ayhvhyiq4lihjr");
    let (done, sent) = play("27-batches-cancel", async |c| c.cancel(&id).await).await;
    Recording::load("27-batches-cancel").check(&sent);
    assert_eq!((done, sent.header("content-length")), (Ok(()), Some("0")));
    let (error, _) = play("29-batches-cancel-finished-400", async |c| {
        c.cancel(&id).await
    })
    .await;
    assert_eq!(error.unwrap_err().next, Next::Refused);
    let id = name("batches/5qobbndyktwbxze17h7yt8ex7dfolqvpl6kb");
    let (done, sent) = play("46-js-batches-delete", async |c| c.delete_batch(&id).await).await;
    Recording::load("46-js-batches-delete").check(&sent);
    done.unwrap();
}

#[tokio::test]
async fn every_end_of_a_job_is_read() {
    let table = [
        ("25-batches-get-failed", RemoteBatchState::Failed),
        ("26-batches-get-expired", RemoteBatchState::Expired),
        ("28-batches-get-cancelled", RemoteBatchState::Cancelled),
    ];
    for (recording, state) in table {
        let (batch, _) = play(recording, async |c| c.batch(&name(JOB)).await).await;
        let batch = batch.unwrap();
        assert_eq!((batch.state, batch.output), (state, None), "{recording}");
    }
    let (page, sent) = play("30-batches-list-page1", async |c| c.list(None).await).await;
    let page = page.unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (3, Some("3")));
    assert_eq!(
        (sent.path.as_str(), sent.query.as_str()),
        ("/v1/batches", "pageSize=100")
    );
}

#[tokio::test]
async fn inline_results_are_saved_as_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raw/b.jsonl");
    let recording = "21-batches-get-succeeded-inline";
    let (batch, _) = play(recording, async |c| c.batch(&name(JOB)).await).await;
    assert_eq!(batch.unwrap().output, Some(RemoteOutput::Inline));
    let saved = async |c: &GeminiClient| c.save_inline(&name(JOB), path.clone()).await;
    let (collected, _) = play(recording, saved).await;
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(collected.unwrap().bytes, text.len() as u64);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (lines.len(), &lines[0]["key"], &lines[1]["key"]),
        (2, &"p1".into(), &"p2".into())
    );
    assert_eq!(lines[1]["error"]["code"], 7);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    let (error, _) = play("20-batches-get-succeeded-file", saved).await;
    assert_eq!(error.unwrap_err().next, Next::Garbled);
}

#[tokio::test]
async fn recorded_errors_are_placed() {
    let storage = Next::Throttled {
        after: None,
        quota: Quota::Storage,
    };
    let rate = Next::Throttled {
        after: Some(std::time::Duration::from_secs(37)),
        quota: Quota::Rate,
    };
    let table = [
        ("33-batches-get-404", Next::Missing, Effect::None),
        ("34-error-429-quota", rate, Effect::None),
        ("35-error-429-file-storage", storage, Effect::None),
        ("36-error-400-unknown-field", Next::Refused, Effect::None),
        ("37-error-500", Next::Transient, Effect::Maybe),
        ("38-error-503", Next::Transient, Effect::Maybe),
        ("39-error-502-html", Next::Transient, Effect::Maybe),
        (
            "40-error-400-failed-precondition",
            Next::NotReady,
            Effect::None,
        ),
        (
            "41-error-400-bad-key",
            Next::Account(AccountFault::Key),
            Effect::None,
        ),
    ];
    for (recording, next, effect) in table {
        let create = async |c: &GeminiClient| c.create("m", "d", &name("files/a")).await;
        let (outcome, _) = play(recording, create).await;
        let error = outcome.unwrap_err();
        assert_eq!((error.next, error.effect), (next, effect), "{recording}");
        assert!(error.http_status.is_some_and(|status| status >= 400));
    }
}

#[tokio::test]
async fn names_that_would_call_something_else_are_not_sent() {
    let server = Server::new(Vec::new());
    let client = server.client();
    for bad in [
        "files/",
        "files/..",
        "files/a/b",
        "files/a?x",
        "files/a:download",
        "batches/a",
        "",
        "files/é",
    ] {
        let error = client.file(&name(bad)).await.unwrap_err();
        assert_eq!(
            (error.next, error.effect),
            (Next::Refused, Effect::None),
            "{bad}"
        );
    }
    for bad in ["", "..", "a/b", "m:generateContent", "models/models/m"] {
        assert!(
            client.create(bad, "d", &name("files/a")).await.is_err(),
            "{bad}"
        );
    }
    assert!(client.batch(&name("files/a")).await.is_err());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn unreadable_and_endless_answers_are_garbled() {
    for body in ["", "<html>", "[]", "{}"] {
        let server = Server::new(vec![Reply::new(200, body)]);
        let error = server.client().batch(&name(JOB)).await.unwrap_err();
        assert_eq!(error.next, Next::Garbled, "{body}");
    }
    let server = Server::new(vec![Reply::new(200, vec![b' '; 2 * 1024 * 1024])]);
    let error = server.client().batch(&name(JOB)).await.unwrap_err();
    assert!(
        error.message.contains("longer than 1048576 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_repeats_the_key_does_not_spread_it() {
    let body = format!(r#"{{"error":{{"code":400,"message":"bad {KEY} in ?key={KEY}"}}}}"#);
    let server = Server::new(vec![
        Reply::new(400, body),
        Reply::new(500, format!("<{KEY}>")),
        // Where the message is cut, the key must not be cut in half.
        Reply::new(500, format!("{}{KEY}", "x".repeat(195))),
    ]);
    let client = server.client();
    for _ in 0..3 {
        let error = client.file(&name("files/a")).await.unwrap_err();
        assert!(
            !format!("{error} {error:?} {client:?}").contains("planted"),
            "{error}"
        );
    }
    let shown = format!("{:?}", options(&server.base));
    assert!(!shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn options_are_checked() {
    let good = || options("https://generativelanguage.googleapis.com");
    GeminiClient::new(good()).unwrap();
    GeminiClient::new(options("https://proxy.example/gemini/")).unwrap();
    let refused = |change: &dyn Fn(&mut GeminiOptions)| {
        let mut options = good();
        change(&mut options);
        GeminiClient::new(options).err().unwrap()
    };
    assert_eq!(refused(&|o| o.chunk_bytes = 5), OptionsError::Chunk(5));
    assert_eq!(refused(&|o| o.chunk_bytes = 0), OptionsError::Chunk(0));
    assert_eq!(
        refused(&|o| o.api_key = SecretText::new("")),
        OptionsError::Key
    );
    let error = refused(&|o| o.api_key = SecretText::new(format!("{KEY}\n")));
    assert!(!format!("{error:?} {error}").contains(KEY));
    assert!(matches!(
        refused(&|o| o.version = "v1/../x".into()),
        OptionsError::Version(_)
    ));
    for bad in [
        "",
        "ftp://h",
        "https://",
        "/x",
        "https://h?key=planted",
        "https://u:planted@h",
    ] {
        let error = refused(&|o| o.base_url = bad.into());
        assert!(matches!(error, OptionsError::BaseUrl(_)), "{bad}");
        assert!(!error.to_string().contains("planted"), "{error}");
    }
}
