//! The answers of the file endpoints, downloads included.

use std::io::{Read, Seek, SeekFrom};
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::answering::{cut, header, ok};
use super::batches::{listed, page_size, page_token, refuse_delete};
use super::errors::Refusal;
use super::faults::Fault;
use super::files::{Content, FileState};
use super::ledger::Tally;
use super::world::World;

/// How many files a list shows when the client does not say; the largest page there is.
const PAGE_SIZE: (usize, usize) = (10, 100);

/// Ids that the service makes for results are longer than those it lets clients name.
const FILE_ID_MAX: usize = 40;

/// Answers a look at one file.
pub(super) fn get(world: &World, id: &str) -> Result<HttpResponse, Refusal> {
    let file = world
        .files
        .find(id)
        .ok_or_else(|| Refusal::missing_file(id))?;
    if world.dice.hits(Fault::FileGet503, &file.display_name) {
        return Err(Refusal::unavailable());
    }
    Ok(ok(&file.resource(&world.base_url, Instant::now())))
}

/// Answers a list of the uploaded files, oldest first.
pub(super) fn list(
    world: &World,
    size: Option<&str>,
    token: Option<&str>,
) -> Result<HttpResponse, Refusal> {
    if world.dice.hits(Fault::List503, "files") {
        return Err(Refusal::unavailable());
    }
    let size = page_size(size, PAGE_SIZE)?;
    let page = world
        .files
        .page(page_token(token)?.unwrap_or_default(), size);
    let now = Instant::now();
    let files = page
        .files
        .iter()
        .map(|file| file.resource(&world.base_url, now))
        .collect();
    Ok(ok(&listed("files", files, page.next)))
}

/// Answers the deletion of a file. Results files cannot be deleted: their ids are too long.
pub(super) fn delete(world: &World, id: &str) -> Result<HttpResponse, Refusal> {
    if id.len() > FILE_ID_MAX {
        return Err(Refusal::long_file_id("DeleteFileRequest"));
    }
    let file = world
        .files
        .find(id)
        .ok_or_else(|| Refusal::missing_file(id))?;
    refuse_delete(world, &file.display_name)?;
    world.files.remove(id);
    world.ledger.add(Tally::FileDeleted, 1);
    Ok(ok(&json!({})))
}

/// Answers a download: results files only, whole or in part.
pub(super) async fn download(
    world: &World,
    id: &str,
    request: &HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let file = world
        .files
        .find(id)
        .ok_or_else(|| Refusal::missing_file(id))?;
    let Content::Disk(content) = &file.content else {
        return Err(not_downloadable(id));
    };
    if !file.generated {
        return Err(not_downloadable(id));
    }
    if file.state(Instant::now()) != FileState::Active {
        return Err(Refusal::inactive_file(id));
    }
    if world.dice.hits(Fault::Download503, id) {
        return Err(Refusal::unavailable());
    }
    let whole = file.bytes;
    let range = header(request, "Range").and_then(|range| read_range(range, whole));
    let mut builder = HttpResponse::Ok();
    let (start, end) = match range {
        None => (0, whole),
        Some(Err(refusal)) => return Err(refusal),
        Some(Ok((start, end))) => {
            builder = HttpResponse::PartialContent();
            let told = format!("bytes {start}-{}/{whole}", end - 1);
            builder.insert_header(("Content-Range", told));
            (start, end)
        }
    };
    builder
        .content_type("application/octet-stream")
        .insert_header(("Accept-Ranges", "bytes"));
    let broken = |error: std::io::Error| {
        tracing::warn!(%error, "the emulator cannot read a results file");
        Refusal::internal()
    };
    let mut source = std::fs::File::open(content.path()).map_err(broken)?;
    source.seek(SeekFrom::Start(start)).map_err(broken)?;
    let length = end - start;
    if world.dice.hits(Fault::DownloadCut, id) {
        return cut_short(&mut builder, source, length).map_err(broken);
    }
    let stream = ReaderStream::new(tokio::fs::File::from_std(source).take(length));
    Ok(builder.no_chunking(length).streaming(stream))
}

/// Sends about half, but no more than fits into memory with ease, and breaks off.
fn cut_short(
    builder: &mut HttpResponseBuilder,
    source: std::fs::File,
    length: u64,
) -> std::io::Result<HttpResponse> {
    const PART_BYTES_MAX: u64 = 65_536;
    let mut part = Vec::new();
    source
        .take((length / 2).min(PART_BYTES_MAX))
        .read_to_end(&mut part)?;
    Ok(cut(builder, part, length))
}

fn not_downloadable(id: &str) -> Refusal {
    Refusal::invalid_argument(format!(
        "File {id} is not downloadable; only generated files are."
    ))
}

/// Reads a `Range` header with one range; others are ignored, as HTTP allows. The end is exclusive.
fn read_range(written: &str, whole: u64) -> Option<Result<(u64, u64), Refusal>> {
    let (first, last) = written.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) => (start, last.saturating_add(1).min(whole)),
        (Ok(start), Err(_)) if last.is_empty() => (start, whole),
        (Err(_), Ok(tail)) if first.is_empty() => (whole.saturating_sub(tail), whole),
        _ => return None,
    };
    if start < end {
        return Some(Ok((start, end)));
    }
    Some(Err(Refusal::range_not_satisfiable()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        for (written, expected) in [
            ("bytes=0-", Some(Some((0, 10)))),
            ("bytes=4-", Some(Some((4, 10)))),
            ("bytes=4-5", Some(Some((4, 6)))),
            ("bytes=4-99", Some(Some((4, 10)))),
            ("bytes=-3", Some(Some((7, 10)))),
            ("bytes=10-", Some(None)),
            ("bytes=0-1,3-4", None),
            ("lines=1-2", None),
        ] {
            let read = read_range(written, 10).map(Result::ok);
            assert_eq!(read, expected, "{written}");
        }
    }
}
