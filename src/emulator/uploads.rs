//! The resumable upload protocol: start, chunks, query, finalize, cancel.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use dashmap::DashMap;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex as AsyncMutex;

use super::answering::{self, header, json_answer};
use super::errors::{Refusal, RetryHint};
use super::faults::Fault;
use super::files::{self, StoredFile};
use super::kept::Kept;
use super::ledger::Tally;
use super::requests;
use super::world::{World, random_id};

/// Every chunk but the last must be a multiple of this.
pub(super) const GRANULARITY: u64 = 8_388_608;

/// The largest file the API takes.
const FILE_BYTES_MAX: u64 = 2_147_483_648;

/// All upload sessions by upload id.
#[derive(Default)]
pub(super) struct Uploads {
    /// Shared by all workers: each chunk of each upload looks its session up.
    sessions: DashMap<String, Arc<AsyncMutex<Session>>>,
}

/// One upload.
struct Session {
    version: &'static str,
    id: String,
    display_name: String,
    mime: String,
    declared: Option<u64>,
    created: Timestamp,
    born: Instant,
    progress: Progress,
}

/// How far an upload is.
enum Progress {
    /// Boxed, so that the many sessions that have ended stay small.
    Active(Box<Received>),
    /// The file is looked up when it is asked for: a session must not keep a deleted one alive.
    Final {
        bytes: u64,
    },
    Cancelled,
}

/// The bytes that are committed so far.
struct Received {
    bytes: u64,
    hasher: Sha256,
    kept: Kept,
}

/// What a chunk request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Upload { finalize: bool },
    Query,
    Cancel,
}

/// Answers an upload start.
pub(super) fn start(
    world: &World,
    version: &'static str,
    request: &HttpRequest,
    body: &[u8],
) -> Result<HttpResponse, Refusal> {
    let file = requests::file_start(body)?;
    let text = |name: &str| file.get(name).and_then(Value::as_str);
    let display_name = text("displayName").unwrap_or_default().to_owned();
    refuse_start(world, &display_name)?;
    let protocol = header(request, "X-Goog-Upload-Protocol");
    let command = header(request, "X-Goog-Upload-Command");
    if protocol != Some("resumable") || command != Some("start") {
        let text = "an upload starts with X-Goog-Upload-Protocol: resumable and \
                    X-Goog-Upload-Command: start";
        return Err(Refusal::invalid_argument(text));
    }
    let declared = declared_size(request, &file)?;
    let weight = world.files.weight().bytes;
    let limit = world.options.storage_limit_bytes;
    if weight.saturating_add(declared.unwrap_or_default()) > limit {
        return Err(Refusal::storage_full(limit));
    }
    let id = match text("name") {
        Some(name) => chosen_id(world, name)?,
        None => random_id(12),
    };
    let mime = header(request, "X-Goog-Upload-Header-Content-Type").or(text("mimeType"));
    let mime = mime.unwrap_or("application/octet-stream").to_owned();
    let kept = if files::keeps_content(&mime) {
        Kept::Memory(Vec::new())
    } else {
        Kept::Nothing
    };
    let received = Received {
        bytes: 0,
        hasher: Sha256::new(),
        kept,
    };
    let session = Session {
        version,
        id,
        display_name,
        mime,
        declared,
        created: Timestamp::now(),
        born: Instant::now(),
        progress: Progress::Active(Box::new(received)),
    };
    let upload_id = random_id(41);
    let url = format!(
        "{}/upload/{version}/files?upload_id={upload_id}&upload_protocol=resumable",
        world.base_url
    );
    world.uploads.insert(upload_id.clone(), session);
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("X-GUploader-UploadID", upload_id))
        .insert_header(("X-Goog-Upload-Status", "active"))
        .insert_header(("X-Goog-Upload-URL", url.clone()))
        .insert_header(("X-Goog-Upload-Control-URL", url))
        .insert_header(("X-Goog-Upload-Chunk-Granularity", GRANULARITY.to_string()))
        .finish())
}

fn refuse_start(world: &World, name: &str) -> Result<(), Refusal> {
    const RETRY_MILLISECONDS: u64 = 1200;
    let faults = [
        Fault::UploadStart429,
        Fault::UploadStart429RetryInfo,
        Fault::UploadStart429AbsurdRetry,
        Fault::UploadStartStorageFull,
        Fault::UploadStart503,
    ];
    Err(match world.dice.first_hit(&faults, name) {
        None => return Ok(()),
        Some(Fault::UploadStart429) => Refusal::quota(RetryHint::Silent),
        Some(Fault::UploadStart429RetryInfo) => {
            Refusal::quota(RetryHint::Milliseconds(RETRY_MILLISECONDS))
        }
        Some(Fault::UploadStart429AbsurdRetry) => Refusal::quota(RetryHint::Absurd),
        Some(Fault::UploadStartStorageFull) => {
            Refusal::storage_full(world.options.storage_limit_bytes)
        }
        Some(_) => Refusal::unavailable(),
    })
}

fn declared_size(request: &HttpRequest, file: &Map<String, Value>) -> Result<Option<u64>, Refusal> {
    let in_body = file.get("sizeBytes").map(|size| match size {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let in_header = header(request, "X-Goog-Upload-Header-Content-Length").map(str::to_owned);
    let Some(written) = in_header.or(in_body) else {
        return Ok(None);
    };
    match written.parse::<u64>() {
        Ok(size) if size <= FILE_BYTES_MAX => Ok(Some(size)),
        Ok(size) => {
            let text = format!("the file has {size} bytes, more than the {FILE_BYTES_MAX} allowed");
            Err(Refusal::invalid_argument(text))
        }
        Err(_) => Err(Refusal::invalid_value(
            "file.size_bytes",
            &format!("TYPE_INT64, {written}"),
        )),
    }
}

fn chosen_id(world: &World, name: &str) -> Result<String, Refusal> {
    let id = name.strip_prefix("files/").unwrap_or(name);
    if !files::is_file_id(id) {
        let text = format!(
            "* CreateFileRequest.file.name: '{name}' is not a file name: up to 40 lowercase \
             letters, digits and dashes, no dash at either end\n"
        );
        return Err(Refusal::invalid_argument(text));
    }
    match world.files.find(id) {
        Some(_) => Err(Refusal::already_exists(id)),
        None => Ok(id.to_owned()),
    }
}

/// Answers a request to an upload URL.
pub(super) async fn bytes(
    world: &World,
    upload_id: &str,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let Some(session) = world.uploads.find(upload_id) else {
        answering::drain(payload).await;
        return Err(Refusal::not_found());
    };
    let mut session = session.lock().await;
    let Some(command) = Command::read(header(request, "X-Goog-Upload-Command")) else {
        answering::drain(payload).await;
        return Ok(refused(
            &session.progress,
            &Refusal::invalid_argument("no X-Goog-Upload-Command that is known"),
        ));
    };
    match command {
        Command::Query => Ok(session.query(world)),
        Command::Cancel => Ok(session.cancel()),
        Command::Upload { finalize } => {
            let offset = header(request, "X-Goog-Upload-Offset").and_then(|text| text.parse().ok());
            chunk(world, &mut session, payload, offset, finalize).await
        }
    }
}

async fn chunk(
    world: &World,
    session: &mut Session,
    payload: Payload,
    offset: Option<u64>,
    finalize: bool,
) -> Result<HttpResponse, Refusal> {
    let name = session.display_name.clone();
    if world.dice.hits(Fault::UploadChunk503, &name) {
        answering::drain(payload).await;
        return Err(Refusal::unavailable());
    }
    let Progress::Active(received) = &mut session.progress else {
        answering::drain(payload).await;
        let refusal = Refusal::precondition("Upload has already been terminated.");
        return Ok(refused(&session.progress, &refusal));
    };
    if offset != Some(received.bytes) {
        answering::drain(payload).await;
        let text = format!(
            "the offset must be {}, where the stored bytes end",
            received.bytes
        );
        return Ok(refused(&session.progress, &Refusal::invalid_argument(text)));
    }
    let taken = match take(world, received, payload).await {
        Ok(taken) => taken,
        Err(refusal) => return Ok(refused(&session.progress, &refusal)),
    };
    let total = received.bytes + taken.bytes;
    if !finalize && taken.bytes % GRANULARITY != 0 {
        let text =
            format!("a chunk that is not the last must be a multiple of {GRANULARITY} bytes");
        return Ok(refused(&session.progress, &Refusal::invalid_argument(text)));
    }
    let over = session.declared.is_some_and(|declared| total > declared);
    let under = finalize && session.declared.is_some_and(|declared| total < declared);
    if over || under || total > FILE_BYTES_MAX {
        let text = format!(
            "{total} bytes were sent where {:?} were declared",
            session.declared
        );
        return Ok(refused(&session.progress, &Refusal::invalid_argument(text)));
    }
    received.bytes = total;
    received.hasher = taken.hasher;
    world.ledger.add(Tally::UploadBytes, taken.bytes);
    if finalize {
        return session.finalize(world);
    }
    if world.dice.hits(Fault::UploadChunkLostAnswer, &name) {
        return Ok(answering::broken());
    }
    Ok(status(HttpResponse::Ok(), &session.progress).finish())
}

/// What one chunk brought; committed only when the whole chunk is in order.
struct Taken {
    bytes: u64,
    hasher: Sha256,
}

async fn take(
    world: &World,
    received: &mut Received,
    mut payload: Payload,
) -> Result<Taken, Refusal> {
    let mut taken = Taken {
        bytes: 0,
        hasher: received.hasher.clone(),
    };
    let broken = |error: io::Error| {
        tracing::warn!(%error, "the emulator cannot store an upload");
        Refusal::internal()
    };
    received.kept.rewind(received.bytes).map_err(broken)?;
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|_| Refusal::invalid_argument("the chunk was cut off"))?;
        if received.bytes + taken.bytes + piece.len() as u64 > FILE_BYTES_MAX {
            continue;
        }
        taken.bytes += piece.len() as u64;
        taken.hasher.update(&piece);
        received.kept.push(&piece, &world.folder).map_err(broken)?;
    }
    Ok(taken)
}

impl Session {
    fn query(&self, world: &World) -> HttpResponse {
        let mut builder = status(HttpResponse::Ok(), &self.progress);
        let ended = matches!(self.progress, Progress::Final { .. });
        match world.files.find(&self.id).filter(|_| ended) {
            Some(file) => {
                let body = json!({"file": file.resource(&world.base_url, Instant::now())});
                json_answer(&mut builder, &body)
            }
            None => builder.finish(),
        }
    }

    fn cancel(&mut self) -> HttpResponse {
        if matches!(self.progress, Progress::Active(_)) {
            self.progress = Progress::Cancelled;
        }
        status(HttpResponse::Ok(), &self.progress).finish()
    }

    /// Turns the received bytes into a file.
    fn finalize(&mut self, world: &World) -> Result<HttpResponse, Refusal> {
        let name = self.display_name.clone();
        let Progress::Active(received) = std::mem::replace(&mut self.progress, Progress::Cancelled)
        else {
            return Err(Refusal::internal());
        };
        let now = Instant::now();
        let wrong = world.dice.hits(Fault::UploadWrongSize, &name);
        let file = StoredFile {
            id: self.id.clone(),
            version: self.version,
            display_name: name.clone(),
            mime: self.mime.clone(),
            bytes: received.bytes,
            bytes_told: wrong.then_some(received.bytes + 1),
            digest: Some(received.hasher.finalize().into()),
            created: Timestamp::now(),
            expires: Some(files::expiry(
                self.created,
                self.born,
                world.options.file_lifetime,
            )),
            active_from: world
                .dice
                .lasts(Fault::FileProcessing, &name)
                .map(|span| now + span),
            failed: world.dice.hits(Fault::FileFailed, &name),
            generated: false,
            content: received.kept.into_content(),
        };
        let Some(file) = world.files.insert(file) else {
            return Ok(refused(&self.progress, &Refusal::already_exists(&self.id)));
        };
        world.ledger.add(Tally::UploadFinalized, 1);
        world.ledger.bytes_live(world.files.weight().bytes);
        let body = json!({"file": file.resource(&world.base_url, now)});
        self.progress = Progress::Final { bytes: file.bytes };
        if world.dice.hits(Fault::UploadFinalizeLostAnswer, &name) {
            return Ok(answering::broken());
        }
        let without = world.dice.hits(Fault::UploadFinalizeWithoutFile, &name);
        let body = if without { json!({}) } else { body };
        let mut builder = HttpResponse::Ok();
        builder.insert_header(("X-Goog-Upload-Status", "final"));
        Ok(json_answer(&mut builder, &body))
    }
}

impl Command {
    fn read(header: Option<&str>) -> Option<Command> {
        let mut words: Vec<&str> = header?.split(',').map(str::trim).collect();
        words.sort_unstable();
        match words.as_slice() {
            ["upload"] => Some(Command::Upload { finalize: false }),
            ["finalize"] | ["finalize", "upload"] => Some(Command::Upload { finalize: true }),
            ["query"] => Some(Command::Query),
            ["cancel"] => Some(Command::Cancel),
            _ => None,
        }
    }
}

impl Uploads {
    fn insert(&self, upload_id: String, session: Session) {
        let session = Arc::new(AsyncMutex::new(session));
        self.sessions.insert(upload_id, session);
    }

    fn find(&self, upload_id: &str) -> Option<Arc<AsyncMutex<Session>>> {
        let found = self.sessions.get(upload_id)?;
        Some(Arc::clone(&found))
    }

    /// Forgets all sessions.
    pub(super) fn forget(&self) {
        self.sessions.clear();
    }
}

/// Puts the headers that tell the state of an upload on an answer.
fn status(mut builder: HttpResponseBuilder, progress: &Progress) -> HttpResponseBuilder {
    let (word, bytes) = match progress {
        Progress::Active(received) => ("active", Some(received.bytes)),
        Progress::Final { bytes } => ("final", Some(*bytes)),
        Progress::Cancelled => ("cancelled", None),
    };
    builder.insert_header(("X-Goog-Upload-Status", word));
    if let Some(bytes) = bytes {
        builder.insert_header(("X-Goog-Upload-Size-Received", bytes.to_string()));
        builder.insert_header(("X-Goog-Upload-Chunk-Granularity", GRANULARITY.to_string()));
    }
    builder
}

/// A refusal that still tells the state of the upload, which it does not change.
fn refused(progress: &Progress, refusal: &Refusal) -> HttpResponse {
    let mut answer = refusal.answer();
    let told = status(HttpResponse::Ok(), progress).finish();
    for (name, value) in told.headers() {
        answer.headers_mut().insert(name.clone(), value.clone());
    }
    answer
}
