//! The HTTP face: which request goes where, and who may ask.
//!
//! Paths are taken apart by hand, because the API puts verbs behind colons, and because one place
//! for all requests counts and authorizes them alike.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use actix_web::dev::Server;
use actix_web::http::Method;
use actix_web::web::{Bytes, Data, Payload, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;

use super::answering::{self, header, ok};
use super::errors::Refusal;
use super::ledger::Tally;
use super::world::World;
use super::{batches, control, downloads, uploads};

/// The largest JSON body; an inline batch may have 20 MB.
const BODY_BYTES_MAX: usize = 20_000_000;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint<'a> {
    Upload,
    FileList,
    FileGet(&'a str),
    FileDelete(&'a str),
    FileDownload(&'a str),
    ModelGet(&'a str),
    BatchCreate(&'a str),
    BatchList,
    BatchGet(&'a str),
    BatchDelete(&'a str),
    BatchCancel(&'a str),
}

/// The query parameters of all endpoints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    key: Option<String>,
    upload_id: Option<String>,
    #[serde(rename = "pageSize", alias = "page_size")]
    page_size: Option<String>,
    #[serde(rename = "pageToken", alias = "page_token")]
    page_token: Option<String>,
}

/// Builds the server on a listener; the caller runs it.
pub(super) fn serve(world: Arc<World>, listener: TcpListener) -> std::io::Result<Server> {
    const THREADS: usize = 2;
    let data = Data::from(world);
    let server = HttpServer::new(move || {
        let control = web::scope("/__control")
            .route("/ledger", web::get().to(control::ledger))
            .route("/faults", web::post().to(control::faults))
            .route("/reset", web::post().to(control::reset));
        App::new()
            .app_data(data.clone())
            .service(control)
            .default_service(web::to(answer))
    });
    Ok(server
        .workers(THREADS)
        .disable_signals()
        .listen(listener)?
        .run())
}

async fn answer(world: Data<World>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let world = world.into_inner();
    respond(&world, &request, payload)
        .await
        .unwrap_or_else(|refusal| refusal.answer())
}

async fn respond(
    world: &Arc<World>,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Refusal> {
    let parameters = Query::<Parameters>::from_query(request.query_string());
    let parameters = parameters.map(Query::into_inner).unwrap_or_default();
    let Some((version, endpoint)) = endpoint(request.method(), request.path()) else {
        answering::drain(payload).await;
        world.ledger.request("unknown");
        return Err(Refusal::no_such_path());
    };
    if endpoint == Endpoint::Upload
        && let Some(upload_id) = &parameters.upload_id
    {
        // The upload id alone is the permission: clients send chunks without their key.
        world.ledger.request("upload_bytes");
        return uploads::bytes(world, upload_id, request, payload).await;
    }
    world.ledger.request(endpoint.name());
    if let Err(refusal) = authorize(world, request, &parameters) {
        answering::drain(payload).await;
        world.ledger.add(Tally::Unauthorized, 1);
        return Err(refusal);
    }
    let body = read_body(payload).await?;
    let (size, token) = (
        parameters.page_size.as_deref(),
        parameters.page_token.as_deref(),
    );
    match endpoint {
        Endpoint::Upload => {
            world.ledger.upload_started(Instant::now());
            uploads::start(world, version, request, &body)
        }
        Endpoint::FileList => downloads::list(world, size, token),
        Endpoint::FileGet(id) => downloads::get(world, id),
        Endpoint::FileDelete(id) => downloads::delete(world, id),
        Endpoint::FileDownload(id) => downloads::download(world, id, request).await,
        Endpoint::ModelGet(model) => describe_model(model, version),
        Endpoint::BatchCreate(model) => batches::create(world, version, model, &body).await,
        Endpoint::BatchList => batches::list(world, size, token).await,
        Endpoint::BatchGet(id) => batches::get(world, id).await,
        Endpoint::BatchDelete(id) => batches::delete(world, id),
        Endpoint::BatchCancel(id) => batches::cancel(world, id).await,
    }
}

/// Takes a path apart; gives the API version and what is asked for.
fn endpoint<'a>(method: &Method, path: &'a str) -> Option<(&'static str, Endpoint<'a>)> {
    let mut segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let prefix = match segments.first() {
        Some(&("upload" | "download")) => segments.remove(0),
        _ => "",
    };
    let version = match *segments.first()? {
        "v1" => "v1",
        "v1beta" => "v1beta",
        _ => return None,
    };
    let rest = segments.get(1..)?;
    let (get, post, delete) = (
        method == Method::GET,
        method == Method::POST,
        method == Method::DELETE,
    );
    let last = rest.last().copied().unwrap_or_default();
    let (id, verb) = last.split_once(':').unwrap_or((last, ""));
    let endpoint = match (prefix, rest, verb) {
        ("upload", ["files"], "") if post || method == Method::PUT => Endpoint::Upload,
        ("" | "download", ["files", _], "download") if get => Endpoint::FileDownload(id),
        ("", ["files"], "") if get => Endpoint::FileList,
        ("", ["files", _], "") if get => Endpoint::FileGet(id),
        ("", ["files", _], "") if delete => Endpoint::FileDelete(id),
        ("", ["models", _], "") if get => Endpoint::ModelGet(id),
        ("", ["models", _], "batchGenerateContent") if post => Endpoint::BatchCreate(id),
        ("", ["batches"], "") if get => Endpoint::BatchList,
        ("", ["batches", _], "") if get => Endpoint::BatchGet(id),
        ("", ["batches", _], "") if delete => Endpoint::BatchDelete(id),
        ("", ["batches", _], "cancel") if post => Endpoint::BatchCancel(id),
        _ => return None,
    };
    Some((version, endpoint))
}

impl Endpoint<'_> {
    /// The name under which the ledger counts it.
    fn name(self) -> &'static str {
        match self {
            Endpoint::Upload => "upload_start",
            Endpoint::FileList => "file_list",
            Endpoint::FileGet(_) => "file_get",
            Endpoint::FileDelete(_) => "file_delete",
            Endpoint::FileDownload(_) => "file_download",
            Endpoint::ModelGet(_) => "model_get",
            Endpoint::BatchCreate(_) => "batch_create",
            Endpoint::BatchList => "batch_list",
            Endpoint::BatchGet(_) => "batch_get",
            Endpoint::BatchDelete(_) => "batch_delete",
            Endpoint::BatchCancel(_) => "batch_cancel",
        }
    }
}

fn authorize(world: &World, request: &HttpRequest, parameters: &Parameters) -> Result<(), Refusal> {
    let key = header(request, "x-goog-api-key").or(parameters.key.as_deref());
    match (key.filter(|key| !key.is_empty()), &world.options.api_key) {
        (None, _) => Err(Refusal::no_key()),
        (Some(key), Some(expected)) if key != expected => Err(Refusal::bad_key()),
        (Some(_), _) => Ok(()),
    }
}

async fn read_body(mut payload: Payload) -> Result<Bytes, Refusal> {
    let mut body = Vec::new();
    let mut over = false;
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|_| Refusal::invalid_argument("the body was cut off"))?;
        over |= body.len() + piece.len() > BODY_BYTES_MAX;
        if !over {
            body.extend_from_slice(&piece);
        }
    }
    if over {
        let text = format!("Request payload size exceeds the limit: {BODY_BYTES_MAX} bytes.");
        return Err(Refusal::invalid_argument(text));
    }
    Ok(Bytes::from(body))
}

/// A model as far as anybody asks: that it exists and takes batches.
fn describe_model(model: &str, version: &str) -> Result<HttpResponse, Refusal> {
    if !model.starts_with("gemini-") {
        return Err(Refusal::unknown_model(model, version));
    }
    Ok(ok(&json!({
        "name": format!("models/{model}"),
        "displayName": model,
        "description": "Played by the emulator.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "batchGenerateContent"],
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_the_api_says() {
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        for (method, path, expected) in [
            (
                &post,
                "/upload/v1beta/files",
                Some(("v1beta", Endpoint::Upload)),
            ),
            (
                &Method::PUT,
                "/upload/v1/files",
                Some(("v1", Endpoint::Upload)),
            ),
            (&get, "/v1/files", Some(("v1", Endpoint::FileList))),
            (
                &get,
                "/v1/files/a-b",
                Some(("v1", Endpoint::FileGet("a-b"))),
            ),
            (
                &delete,
                "/v1/files/a",
                Some(("v1", Endpoint::FileDelete("a"))),
            ),
            (
                &get,
                "/v1/files/a:download",
                Some(("v1", Endpoint::FileDownload("a"))),
            ),
            (
                &get,
                "/download/v1beta/files/a:download",
                Some(("v1beta", Endpoint::FileDownload("a"))),
            ),
            (
                &post,
                "/v1/models/gemini-3.8-flash:batchGenerateContent",
                Some(("v1", Endpoint::BatchCreate("gemini-3.8-flash"))),
            ),
            (
                &get,
                "/v1/models/gemini-3.8-flash",
                Some(("v1", Endpoint::ModelGet("gemini-3.8-flash"))),
            ),
            (&get, "/v1/batches", Some(("v1", Endpoint::BatchList))),
            (
                &post,
                "/v1/batches/b:cancel",
                Some(("v1", Endpoint::BatchCancel("b"))),
            ),
            (
                &delete,
                "/v1/batches/b",
                Some(("v1", Endpoint::BatchDelete("b"))),
            ),
            (&get, "/v2/batches", None),
            (&post, "/v1/batches/b", None),
            (&get, "/download/v1/files/a", None),
            (&get, "/", None),
        ] {
            assert_eq!(endpoint(method, path), expected, "{method} {path}");
        }
    }
}
