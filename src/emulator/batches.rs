//! The answers of the Batch API's endpoints.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use actix_web::HttpResponse;
use serde_json::{Map, Value, json};

use super::answering::{self, ok};
use super::errors::{Refusal, RetryHint};
use super::faults::Fault;
use super::files::FileState;
use super::jobs::{Input, Job, Order, Plan};
use super::ledger::Tally;
use super::requests;
use super::run;
use super::world::{World, random_id};

/// How many jobs a list shows when the client does not say; the largest page there is.
const PAGE_SIZE: (usize, usize) = (10, 100);

/// Answers the creation of a batch. Two equal calls make two jobs, as the service does.
pub(super) async fn create(
    world: &Arc<World>,
    version: &'static str,
    model: &str,
    body: &[u8],
) -> Result<HttpResponse, Refusal> {
    let batch = requests::create(body);
    let name = |batch: &Map<String, Value>| text(batch, "displayName").unwrap_or_default();
    let display_name = batch.as_ref().map(name).unwrap_or_default();
    world.ledger.create_seen(&display_name);
    let batch = batch?;
    refuse_create(world, &display_name)?;
    if !model.starts_with("gemini-") {
        return Err(Refusal::unknown_model(model, version));
    }
    let (input, requests) = input(world, &batch)?;
    let order = Order {
        model: model.to_owned(),
        display_name: display_name.clone(),
        version,
        priority: batch.get("priority").map(|priority| match priority {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        input,
        requests,
    };
    let plan = Plan::throw(
        &world.dice,
        &display_name,
        world.options.batch_latency,
        requests,
    );
    let job = Arc::new(Job::new(random_id(36), order, plan));
    let answer = job.operation(job.born, false);
    world.jobs.insert(Arc::clone(&job));
    world.ledger.job_made(&display_name, world.jobs.live());
    // From here on the job exists and will be paid for, whatever the client gets to see.
    actix_web::rt::spawn(run::settle_when_due(Arc::clone(world), job));
    if let Some(span) = world.dice.lasts(Fault::CreateSlow, &display_name) {
        tokio::time::sleep(span).await;
    }
    if world.dice.hits(Fault::CreateLost503, &display_name) {
        return Err(Refusal::overloaded());
    }
    if world.dice.hits(Fault::CreateLostClosed, &display_name) {
        return Ok(answering::broken());
    }
    Ok(ok(&answer))
}

fn refuse_create(world: &World, name: &str) -> Result<(), Refusal> {
    const RETRY_MILLISECONDS: u64 = 1500;
    let faults = [
        Fault::Create429,
        Fault::Create429RetryInfo,
        Fault::CreateFailedPrecondition,
        Fault::Create500,
        Fault::Create503,
    ];
    Err(match world.dice.first_hit(&faults, name) {
        None => return Ok(()),
        Some(Fault::Create429) => Refusal::quota(RetryHint::Silent),
        Some(Fault::Create429RetryInfo) => {
            Refusal::quota(RetryHint::Milliseconds(RETRY_MILLISECONDS))
        }
        Some(Fault::CreateFailedPrecondition) => {
            Refusal::precondition("Precondition check failed.")
        }
        Some(Fault::Create500) => Refusal::internal(),
        Some(_) => Refusal::overloaded(),
    })
}

/// Finds the requests of a batch and counts them.
fn input(world: &World, batch: &Map<String, Value>) -> Result<(Input, u64), Refusal> {
    let empty = Value::Null;
    let config = batch.get("inputConfig").unwrap_or(&empty);
    let file = config.get("fileName").and_then(Value::as_str);
    let inline = config
        .pointer("/requests/requests")
        .and_then(Value::as_array);
    match (file, inline) {
        (Some(name), None) => {
            let id = name.strip_prefix("files/").unwrap_or(name);
            let requests = count_lines(world, id)?;
            Ok((Input::File(id.to_owned()), requests))
        }
        (None, Some(requests)) if !requests.is_empty() => {
            let count = requests.len() as u64;
            let entries = requests
                .iter()
                .filter_map(Value::as_object)
                .cloned()
                .collect();
            Ok((Input::Inline(entries), count))
        }
        _ => Err(Refusal::invalid_argument(
            "* BatchGenerateContentRequest.batch.input_config: one of file_name and requests is \
             required\n",
        )),
    }
}

fn count_lines(world: &World, id: &str) -> Result<u64, Refusal> {
    let file = world.files.find(id).ok_or_else(Refusal::not_found)?;
    if file.state(Instant::now()) != FileState::Active {
        return Err(Refusal::inactive_file(id));
    }
    let broken = |error: std::io::Error| {
        tracing::warn!(%error, "the emulator cannot read an input file");
        Refusal::internal()
    };
    let Some(mut reader) = file.open().map_err(broken)? else {
        let text = format!("Unsupported MIME type for batch input: {}", file.mime);
        return Err(Refusal::invalid_argument(text));
    };
    let mut count = 0;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(broken)? > 0 {
        count += u64::from(!line.iter().all(u8::is_ascii_whitespace));
        line.clear();
    }
    Ok(count)
}

/// Answers a look at one batch.
pub(super) async fn get(world: &Arc<World>, id: &str) -> Result<HttpResponse, Refusal> {
    let job = world.jobs.find(id).ok_or_else(Refusal::not_found)?;
    let faults = [Fault::Poll429, Fault::Poll503, Fault::Poll502Html];
    match world.dice.first_hit(&faults, &job.display_name) {
        None => {}
        Some(Fault::Poll429) => return Err(Refusal::quota(RetryHint::Silent)),
        Some(Fault::Poll503) => return Err(Refusal::overloaded()),
        Some(_) => return Err(Refusal::bad_gateway()),
    }
    run::settle(world, &job).await;
    Ok(ok(&job.operation(Instant::now(), false)))
}

/// Answers a list of batches, newest first.
pub(super) async fn list(
    world: &Arc<World>,
    size: Option<&str>,
    token: Option<&str>,
) -> Result<HttpResponse, Refusal> {
    if world.dice.hits(Fault::List503, "batches") {
        return Err(Refusal::overloaded());
    }
    if size.is_none() && world.dice.hits(Fault::ListWithoutPageSizeEmpty, "batches") {
        return Ok(ok(&json!({})));
    }
    let size = page_size(size, PAGE_SIZE)?;
    let before = page_token(token)?;
    let now = Instant::now();
    let page = world.jobs.page(before, size, now);
    let mut operations = Vec::with_capacity(page.jobs.len());
    for job in page.jobs {
        run::settle(world, &job).await;
        operations.push(job.operation(Instant::now(), true));
    }
    Ok(ok(&listed("operations", operations, page.next)))
}

/// Answers a cancel.
pub(super) async fn cancel(world: &Arc<World>, id: &str) -> Result<HttpResponse, Refusal> {
    let job = world.jobs.find(id).ok_or_else(Refusal::not_found)?;
    if !job.cancel(Instant::now()) {
        let text = format!("Batch {id} is in a terminal state and cannot be cancelled.");
        return Err(Refusal::precondition(text));
    }
    world.ledger.add(Tally::BatchCancelled, 1);
    run::settle(world, &job).await;
    Ok(ok(&json!({})))
}

/// Answers the deletion of a batch, which takes its results along.
pub(super) fn delete(world: &World, id: &str) -> Result<HttpResponse, Refusal> {
    let job = world.jobs.find(id).ok_or_else(Refusal::not_found)?;
    refuse_delete(world, &job.display_name)?;
    job.delete();
    world.jobs.remove(id);
    world.files.remove(&job.results_id());
    world.ledger.add(Tally::BatchDeleted, 1);
    Ok(ok(&json!({})))
}

/// Throws for the faults that files and batches share.
pub(super) fn refuse_delete(world: &World, name: &str) -> Result<(), Refusal> {
    match world
        .dice
        .first_hit(&[Fault::Delete429, Fault::Delete503], name)
    {
        None => Ok(()),
        Some(Fault::Delete429) => Err(Refusal::quota(RetryHint::Silent)),
        Some(_) => Err(Refusal::unavailable()),
    }
}

/// Reads a page size; a larger one than allowed is cut down, as the service does.
pub(super) fn page_size(
    written: Option<&str>,
    (usual, most): (usize, usize),
) -> Result<usize, Refusal> {
    let Some(written) = written else {
        return Ok(usual);
    };
    match written.parse::<usize>() {
        Ok(0) => Ok(usual),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(Refusal::invalid_value(
            "page_size",
            &format!("TYPE_INT32, {written}"),
        )),
    }
}

/// Reads a page token.
pub(super) fn page_token(written: Option<&str>) -> Result<Option<u64>, Refusal> {
    let Some(written) = written.filter(|written| !written.is_empty()) else {
        return Ok(None);
    };
    let token = written
        .parse()
        .map_err(|_| Refusal::invalid_argument("* page_token: Invalid page token.\n"));
    token.map(Some)
}

/// A page of a list: an empty list is left out, and a token never stands without items.
pub(super) fn listed(name: &str, items: Vec<Value>, next: Option<u64>) -> Value {
    let mut page = Map::new();
    if !items.is_empty() {
        page.insert(name.to_owned(), Value::Array(items));
    }
    if let Some(next) = next {
        page.insert("nextPageToken".to_owned(), json!(next.to_string()));
    }
    Value::Object(page)
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name).and_then(Value::as_str).map(str::to_owned)
}
