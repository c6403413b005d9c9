//! The resumable upload: start, chunks, finalize; after a broken chunk a query tells where to go on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Url};

use super::client::{GeminiClient, Reply};
use super::fault;
use super::part_file::on_disk;
use super::source::{self, Source};
use crate::domain::failure::ApiError;
use crate::domain::remote::{RemoteFile, RemoteFileState};
use crate::ports::file_api::Upload;
use crate::wire::error::Call;
use crate::wire::{file, request};

/// How often one try asks where to go on.
const RESUMES_MAX: u32 = 5;
/// The slowest link that a chunk is waited for, in bytes a second.
const LINK_RATE_MIN: u64 = 32 * 1024;
/// The largest chunk that a server may ask for, in bytes.
const GRANULARITY_MAX: usize = 64 * 1024 * 1024;

const CALL: Call = Call::Upload;

/// What follows from an answer to a chunk or to a query.
enum Step {
    /// The server has everything before this offset.
    Stored(u64),
    /// The upload is over; this is its answer.
    Finished(Reply),
    /// Ask where to go on.
    Broken(ApiError),
    /// This try is over.
    GivenUp(ApiError),
}

/// An upload that the server has agreed to.
struct Session {
    url: Url,
    chunk_bytes: usize,
}

impl GeminiClient {
    /// One try to upload one file.
    pub(super) async fn upload_once(&self, upload: &Upload) -> Result<RemoteFile, ApiError> {
        let bytes = match source::held(upload) {
            Some(content) => Content::Held(content),
            None => Content::opened(upload).await?,
        };
        // A small file is read and checked before the server hears of it.
        bytes.window(upload, 0, self.chunk_bytes).await?;
        let session = self.start(upload).await?;
        self.send_all(upload, &bytes, &session).await
    }

    async fn start(&self, upload: &Upload) -> Result<Session, ApiError> {
        let url = self.url("/upload", "files");
        let request = self
            .request(&self.calls, Method::POST, url)
            .header(CONTENT_TYPE, "application/json")
            .header("X-Goog-Upload-Protocol", "resumable")
            .header("X-Goog-Upload-Command", "start")
            .header("X-Goog-Upload-Header-Content-Length", upload.bytes)
            .header("X-Goog-Upload-Header-Content-Type", upload.mime.as_str())
            .timeout(self.request_timeout)
            .body(request::upload_start(
                &upload.display_name,
                &upload.mime,
                upload.bytes,
            ));
        let reply = self.exchange(CALL, request).await?;
        if !reply.is_success() {
            return Err(self.refusal(CALL, &reply));
        }
        let garbled = |detail: &str| self.unreadable(CALL, reply.status, detail);
        let address = reply
            .header("X-Goog-Upload-URL")
            .ok_or_else(|| garbled("the answer to the start names no upload address"))?;
        let url = Url::parse(address)
            .ok()
            .filter(|url| url.origin() == self.base.origin())
            .ok_or_else(|| garbled("the upload address is not on the server that was called"))?;
        let granularity = reply
            .header("X-Goog-Upload-Chunk-Granularity")
            .and_then(|text| text.trim().parse::<usize>().ok())
            .filter(|granularity| (1..=GRANULARITY_MAX).contains(granularity))
            .unwrap_or(1);
        // Every chunk but the last must be a multiple of what the server asks for.
        let chunk_bytes = (self.chunk_bytes - self.chunk_bytes % granularity).max(granularity);
        Ok(Session { url, chunk_bytes })
    }

    async fn send_all(
        &self,
        upload: &Upload,
        source: &Content,
        session: &Session,
    ) -> Result<RemoteFile, ApiError> {
        let mut offset = 0;
        let mut resumes = 0;
        let mut step = self.send_from(upload, source, session, offset).await?;
        loop {
            match step {
                Step::Finished(reply) => return self.finished(upload, &reply),
                Step::GivenUp(error) => return Err(error),
                Step::Stored(stored) if stored > upload.bytes || stored < offset => {
                    let detail = format!("it holds {stored} of {} bytes", upload.bytes);
                    return Err(self.unreadable(CALL, 200, &detail));
                }
                Step::Stored(stored) => {
                    offset = stored;
                    step = self.send_from(upload, source, session, offset).await?;
                }
                Step::Broken(error) if resumes == RESUMES_MAX => return Err(error),
                Step::Broken(_) => {
                    resumes += 1;
                    tokio::time::sleep(self.resume_pause * resumes).await;
                    step = self.query(session).await;
                }
            }
        }
    }

    /// Sends the chunk at `offset`; an error is our own disk's.
    async fn send_from(
        &self,
        upload: &Upload,
        source: &Content,
        session: &Session,
        offset: u64,
    ) -> Result<Step, ApiError> {
        let chunk = source.window(upload, offset, session.chunk_bytes).await?;
        let after = offset + chunk.len() as u64;
        let is_last = after == upload.bytes;
        let patience = Duration::from_secs(chunk.len() as u64 / LINK_RATE_MIN);
        // The session's address alone authorizes a chunk: the key stays at home.
        let request = self
            .calls
            .post(session.url.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(
                "X-Goog-Upload-Command",
                if is_last {
                    "upload, finalize"
                } else {
                    "upload"
                },
            )
            .header("X-Goog-Upload-Offset", offset)
            // Named, because an empty body would go without.
            .header(CONTENT_LENGTH, chunk.len())
            .timeout(self.request_timeout + patience)
            .body(chunk);
        Ok(match self.exchange(CALL, request).await {
            Ok(reply) => self.judge_chunk(reply, after, is_last),
            Err(error) => Step::Broken(error),
        })
    }

    fn judge_chunk(&self, reply: Reply, after: u64, is_last: bool) -> Step {
        let status = reply
            .header("X-Goog-Upload-Status")
            .map(str::to_ascii_lowercase);
        match status.as_deref() {
            Some("final") if reply.is_success() && is_last => Step::Finished(reply),
            Some("final") if reply.is_success() => {
                let detail = "the upload was ended before its last chunk";
                Step::GivenUp(fault::transient(CALL, Some(reply.status), detail))
            }
            Some("active") if reply.is_success() && !is_last => {
                Step::Stored(received(&reply).unwrap_or(after))
            }
            Some("final" | "cancelled" | "canceled") => Step::GivenUp(self.ended(&reply)),
            _ => self.judge_break(reply),
        }
    }

    async fn query(&self, session: &Session) -> Step {
        let request = self
            .calls
            .post(session.url.clone())
            .header("X-Goog-Upload-Command", "query")
            .header(CONTENT_LENGTH, 0)
            .timeout(self.request_timeout);
        let reply = match self.exchange(CALL, request).await {
            Ok(reply) => reply,
            Err(error) => return Step::Broken(error),
        };
        let status = reply
            .header("X-Goog-Upload-Status")
            .map(str::to_ascii_lowercase);
        match (status.as_deref(), received(&reply)) {
            (Some("active"), Some(stored)) if reply.is_success() => Step::Stored(stored),
            (Some("final"), _) if reply.is_success() && file::file(&reply.body).is_ok() => {
                Step::Finished(reply)
            }
            (Some("final"), _) if reply.is_success() => {
                let detail = "the upload ended, but its answer was lost";
                Step::GivenUp(fault::transient(CALL, Some(reply.status), detail))
            }
            (Some("final" | "cancelled" | "canceled"), _) => Step::GivenUp(self.ended(&reply)),
            _ => self.judge_break(reply),
        }
    }

    /// An answer that does not move the upload on. Whether it is worth asking where to go on
    /// depends on what it says about the session.
    fn judge_break(&self, reply: Reply) -> Step {
        let error = if reply.is_success() {
            self.unreadable(
                CALL,
                reply.status,
                "an answer without a usable upload status",
            )
        } else {
            self.refusal(CALL, &reply)
        };
        match reply.status {
            400 | 408 | 412 | 416 | 500..=599 => Step::Broken(error),
            200..=299 => Step::Broken(error),
            _ => Step::GivenUp(error),
        }
    }

    fn ended(&self, reply: &Reply) -> ApiError {
        if reply.is_success() {
            fault::transient(CALL, Some(reply.status), "the server ended the upload")
        } else {
            self.refusal(CALL, reply)
        }
    }

    /// The file that came of it, if it is ours: an answer may lack the file or name another one.
    fn finished(&self, upload: &Upload, reply: &Reply) -> Result<RemoteFile, ApiError> {
        let status = Some(reply.status);
        let Ok(file) = file::file(&reply.body) else {
            let has_error = memchr::memmem::find(&reply.body, b"\"error\"").is_some();
            return Err(if has_error {
                self.refusal(CALL, reply)
            } else {
                fault::transient(CALL, status, "the answer carries no file")
            });
        };
        let garbled = |detail: String| {
            let detail = format!("{} {detail}", file.name);
            Err(self.unreadable(CALL, reply.status, &detail))
        };
        if file.uri.is_empty() {
            return garbled("has no uri".to_owned());
        }
        match file.bytes {
            Some(bytes) if bytes != upload.bytes => {
                return garbled(format!("has {bytes} bytes, not {}", upload.bytes));
            }
            None if file.state != RemoteFileState::Processing => {
                return garbled("has no size".to_owned());
            }
            _ => {}
        }
        match &file.sha256 {
            Some(sha256) if sha256 != upload.sha256.as_str() => {
                garbled(format!("has the SHA-256 {sha256}, not {}", upload.sha256))
            }
            _ => Ok(file),
        }
    }
}

/// Where the bytes of an upload come from.
enum Content {
    /// Held since they were checked.
    Held(Bytes),
    /// Read from the file, and checked once more.
    OnDisk(Arc<Mutex<Source>>),
}

impl Content {
    async fn opened(upload: &Upload) -> Result<Self, ApiError> {
        let opened = upload.clone();
        let source = on_disk(CALL, &upload.path, move || Source::open(&opened)).await?;
        Ok(Content::OnDisk(Arc::new(Mutex::new(source))))
    }

    /// The bytes from `offset` on, at most `length` of them; a file is read on the blocking pool.
    async fn window(&self, upload: &Upload, offset: u64, length: usize) -> Result<Bytes, ApiError> {
        let source = match self {
            Content::Held(content) => {
                // An offset beyond the end was refused before.
                let from =
                    usize::try_from(offset).map_or(content.len(), |at| at.min(content.len()));
                let until = from.saturating_add(length).min(content.len());
                return Ok(content.slice(from..until));
            }
            Content::OnDisk(source) => Arc::clone(source),
        };
        on_disk(CALL, &upload.path, move || {
            source
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .window(offset, length)
        })
        .await
    }
}

fn received(reply: &Reply) -> Option<u64> {
    reply
        .header("X-Goog-Upload-Size-Received")?
        .trim()
        .parse()
        .ok()
}
