//! A client of a few lines for each call, without any cleverness of its own.

use std::sync::Once;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pagemill::emulator::{Emulator, EmulatorOptions, FaultProfile};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const MODEL: &str = "gemini-3.8-flash";
pub const CHUNK: usize = 8_388_608;

/// An emulator and a client for it.
pub struct World {
    pub emulator: Emulator,
    pub client: Client,
}

/// An answer taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub upload_status: Option<String>,
    pub received: Option<String>,
    pub body: Value,
}

pub async fn world() -> World {
    world_with(EmulatorOptions::default()).await
}

pub async fn world_with(options: EmulatorOptions) -> World {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let installed = rustls::crypto::ring::default_provider().install_default();
        assert!(installed.is_ok());
    });
    let emulator = Emulator::start(options).await.unwrap();
    World {
        emulator,
        client: Client::builder().no_proxy().build().unwrap(),
    }
}

pub async fn world_of(faults: &str) -> World {
    let faults = FaultProfile::from_yaml(faults).unwrap();
    world_with(EmulatorOptions {
        faults,
        ..EmulatorOptions::default()
    })
    .await
}

/// A world whose jobs take so long that no test sees their end.
pub async fn slow_world() -> World {
    let batch_latency = Duration::from_secs(3600);
    world_with(EmulatorOptions {
        batch_latency,
        ..EmulatorOptions::default()
    })
    .await
}

pub fn hex_sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The hash as the API writes it.
pub fn told_sha256(bytes: &[u8]) -> String {
    STANDARD.encode(hex_sha256(bytes))
}

/// One line of an input file that asks about one image.
pub fn line(key: &str, uri: &str) -> Value {
    json!({"key": key, "request": {
        "contents": [{"role": "user", "parts": [
            {"fileData": {"mimeType": "image/png", "fileUri": uri}},
            {"text": "Transcribe."}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": {
            "type": "OBJECT",
            "properties": {"title": {"type": "STRING"}, "rows": {"type": "ARRAY", "items": {"type": "STRING"}}},
            "required": ["title", "rows"]}}}})
}

pub fn jsonl(lines: &[Value]) -> Vec<u8> {
    lines
        .iter()
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .into_bytes()
}

impl World {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.emulator.base_url())
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, self.url(path))
            .header("x-goog-api-key", "test")
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::read(self.request(Method::DELETE, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).body(body.to_string());
        Answer::read(request.send().await.unwrap()).await
    }

    pub fn start_request(&self, mime: &str, size: usize, body: &Value) -> RequestBuilder {
        self.request(Method::POST, "/upload/v1beta/files")
            .header("X-Goog-Upload-Protocol", "resumable")
            .header("X-Goog-Upload-Command", "start")
            .header("X-Goog-Upload-Header-Content-Length", size.to_string())
            .header("X-Goog-Upload-Header-Content-Type", mime)
            .body(body.to_string())
    }

    /// Starts an upload; gives its URL.
    pub async fn start(&self, mime: &str, size: usize, name: &str) -> String {
        let body = json!({"file": {"displayName": name}});
        let answer = self.start_request(mime, size, &body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.headers()["X-Goog-Upload-URL"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub fn chunk_request(
        &self,
        url: &str,
        command: &str,
        offset: usize,
        bytes: &[u8],
    ) -> RequestBuilder {
        // No API key: the URL alone must do.
        self.client
            .post(url)
            .header("X-Goog-Upload-Command", command)
            .header("X-Goog-Upload-Offset", offset.to_string())
            .body(bytes.to_vec())
    }

    pub async fn chunk(&self, url: &str, command: &str, offset: usize, bytes: &[u8]) -> Answer {
        let request = self.chunk_request(url, command, offset, bytes);
        Answer::read(request.send().await.unwrap()).await
    }

    /// Uploads a small file; gives its resource.
    pub async fn upload(&self, mime: &str, name: &str, bytes: &[u8]) -> Value {
        let url = self.start(mime, bytes.len(), name).await;
        let answer = self.chunk(&url, "upload, finalize", 0, bytes).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["file"].clone()
    }

    pub async fn create(&self, name: &str, file: &str) -> Answer {
        let path = format!("/v1/models/{MODEL}:batchGenerateContent");
        let batch = json!({"display_name": name, "input_config": {"file_name": file}});
        self.post(&path, &json!({"batch": batch})).await
    }

    /// Makes a job of one page per key, each with an image of its own; gives its name.
    pub async fn job(&self, name: &str, keys: &[&str]) -> String {
        let mut lines = Vec::new();
        for key in keys {
            let image = self.upload("image/png", key, key.as_bytes()).await;
            lines.push(line(key, image["uri"].as_str().unwrap()));
        }
        let input = self.upload("jsonl", "input", &jsonl(&lines)).await;
        let created = self.create(name, input["name"].as_str().unwrap()).await;
        assert_eq!(created.status, 200, "{created:?}");
        created.body["name"].as_str().unwrap().to_owned()
    }

    pub async fn poll(&self, job: &str) -> Value {
        let answer = self.get(&format!("/v1/{job}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Downloads the results of a finished job as bytes.
    pub async fn results(&self, operation: &Value) -> Vec<u8> {
        let file = operation["response"]["responsesFile"].as_str().unwrap();
        let path = format!("/v1/{file}:download?alt=media");
        let answer = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    }

    /// Runs a job of these keys to its end; gives its rows.
    pub async fn rows(&self, keys: &[&str]) -> Vec<Value> {
        let job = self.job("job", keys).await;
        let operation = self.poll(&job).await;
        assert_eq!(
            operation["metadata"]["state"], "BATCH_STATE_SUCCEEDED",
            "{operation}"
        );
        let text = String::from_utf8(self.results(&operation).await).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Answer {
    pub async fn read(response: Response) -> Answer {
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let upload_status = header("X-Goog-Upload-Status");
        let received = header("X-Goog-Upload-Size-Received");
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer {
            status,
            upload_status,
            received,
            body,
        }
    }

    /// The code, the status word and the message of an error body.
    pub fn error(&self) -> (u64, &str, &str) {
        let error = &self.body["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        (
            error["code"].as_u64().unwrap_or_default(),
            text("status"),
            text("message"),
        )
    }
}
