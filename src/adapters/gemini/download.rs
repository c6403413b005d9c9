//! Bringing a generated file to disk, whole or not at all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, path::PathBuf};

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LOCATION, RANGE};
use reqwest::{Method, Response, Url};

use super::client::{GeminiClient, Reply, resource};
use super::fault;
use super::part_file::{PartFile, on_disk};
use crate::domain::failure::{ApiError, Next};
use crate::domain::ids::RemoteName;
use crate::ports::file_api::Collected;
use crate::wire::error::Call;

/// How often one download goes on after a break.
const RESUMES_MAX: u32 = 5;
/// How many redirects are followed.
const REDIRECTS_MAX: u32 = 5;
/// How much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 1024 * 1024;

const CALL: Call = Call::Download;

/// A download under way.
struct Download {
    destination: PathBuf,
    part: Arc<Mutex<PartFile>>,
    stored: u64,
    /// How long the file is, once an answer has said so.
    total: Option<u64>,
    /// The version of the file that the stored bytes belong to.
    etag: Option<String>,
}

impl GeminiClient {
    /// Downloads a file; the two documented addresses are tried in turn.
    pub(super) async fn download_whole(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        let path = format!("{}:download", resource(CALL, "files", name)?);
        let created = destination.clone();
        let part = on_disk(CALL, &destination, move || PartFile::create(created)).await?;
        let mut download = Download {
            destination,
            part: Arc::new(Mutex::new(part)),
            stored: 0,
            total: None,
            etag: None,
        };
        let media = |before: &str| {
            let mut url = self.url(before, &path);
            url.set_query(Some("alt=media"));
            url
        };
        let (plain, prefixed) = (media(""), media("/download"));
        let outcome = match self.fetch(&plain, &mut download).await {
            Err(error) if error.http_status == Some(404) => {
                self.fetch(&prefixed, &mut download).await
            }
            outcome => outcome,
        };
        outcome?;
        download.finish().await
    }

    /// Fetches the rest until there is none, going on after breaks.
    async fn fetch(&self, address: &Url, download: &mut Download) -> Result<(), ApiError> {
        let mut resumes = 0;
        loop {
            let error = match self.fetch_rest(address, download).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let is_break = matches!(error.next, Next::Transient);
            if !is_break || resumes == RESUMES_MAX {
                return Err(error);
            }
            resumes += 1;
            tokio::time::sleep(self.resume_pause * resumes).await;
        }
    }

    async fn fetch_rest(&self, address: &Url, download: &mut Download) -> Result<(), ApiError> {
        let response = self.open(address, download).await?;
        let status = response.status().as_u16();
        match status {
            206 if range_start(response.headers()) == Some(download.stored) => {
                let total = range_total(response.headers());
                download.total = total.or(download.total);
            }
            // The whole file: the range was not asked for or not heeded.
            200 => {
                download.restart().await?;
                let headers = response.headers();
                download.total = length(headers);
                download.etag = text(headers, ETAG.as_str()).filter(|tag| !tag.starts_with("W/"));
            }
            416 if download.total == Some(download.stored) => return Ok(()),
            206 | 416 => {
                download.restart().await?;
                return Err(fault::transient(
                    CALL,
                    Some(status),
                    "not the range asked for",
                ));
            }
            _ => return Err(self.refused(response).await),
        }
        self.store(response, download).await?;
        match download.total {
            Some(total) if total > download.stored => Err(fault::transient(
                CALL,
                Some(status),
                &format!("only {} of {total} bytes came", download.stored),
            )),
            Some(total) if total < download.stored => {
                let detail = format!("{} bytes came, not {total}", download.stored);
                Err(self.unreadable(CALL, status, &detail))
            }
            _ => Ok(()),
        }
    }

    /// Asks for the rest, following redirects. The key goes to the provider's own address only.
    async fn open(&self, address: &Url, download: &Download) -> Result<Response, ApiError> {
        let mut url = address.clone();
        for _hop in 0..=REDIRECTS_MAX {
            let mut request = if url.origin() == self.base.origin() {
                self.request(&self.calls, Method::GET, url.clone())
            } else {
                self.calls.get(url.clone())
            };
            if download.stored > 0 {
                request = request.header(RANGE, format!("bytes={}-", download.stored));
                if let Some(etag) = &download.etag {
                    request = request.header(IF_RANGE, etag);
                }
            }
            let response = within(self.request_timeout, request.send())
                .await?
                .map_err(|error| self.transport(CALL, &error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            url = text(response.headers(), LOCATION.as_str())
                .and_then(|location| url.join(&location).ok())
                .filter(|next| next.scheme() == "https" || next.scheme() == self.base.scheme())
                .ok_or_else(|| {
                    let status = response.status().as_u16();
                    self.unreadable(CALL, status, "a redirect to nowhere")
                })?;
        }
        Err(self.unreadable(CALL, 302, "too many redirects"))
    }

    async fn store(&self, mut response: Response, download: &mut Download) -> Result<(), ApiError> {
        let mut gathered = Vec::with_capacity(WRITE_BYTES);
        loop {
            let piece = match within(self.request_timeout, response.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return download.write(gathered).await,
                // What came before the break is kept: the next request asks for the rest.
                Ok(Err(error)) => {
                    download.write(gathered).await?;
                    return Err(self.transport(CALL, &error));
                }
                Err(silence) => {
                    download.write(gathered).await?;
                    return Err(silence);
                }
            };
            gathered.extend_from_slice(&piece);
            if gathered.len() >= WRITE_BYTES {
                download.write(std::mem::take(&mut gathered)).await?;
            }
        }
    }

    async fn refused(&self, mut response: Response) -> ApiError {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Ok(Ok(Some(piece))) = within(self.request_timeout, response.chunk()).await {
            if body.len() + piece.len() > WRITE_BYTES {
                break;
            }
            body.extend_from_slice(&piece);
        }
        self.refusal(
            CALL,
            &Reply {
                status,
                headers,
                body: self.body_without_key(body),
            },
        )
    }
}

impl Download {
    async fn write(&mut self, piece: Vec<u8>) -> Result<(), ApiError> {
        self.on_part(move |part| part.write(&piece)).await
    }

    async fn restart(&mut self) -> Result<(), ApiError> {
        self.on_part(PartFile::restart).await
    }

    async fn on_part(
        &mut self,
        work: impl FnOnce(&mut PartFile) -> io::Result<()> + Send + 'static,
    ) -> Result<(), ApiError> {
        let part = Arc::clone(&self.part);
        self.stored = on_disk(CALL, &self.destination, move || {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut part)?;
            Ok(part.bytes())
        })
        .await?;
        Ok(())
    }

    async fn finish(self) -> Result<Collected, ApiError> {
        let part = Arc::into_inner(self.part)
            .and_then(|part| part.into_inner().ok())
            .ok_or_else(|| fault::local(CALL, &self.destination, "its file is still in use"))?;
        on_disk(CALL, &self.destination, move || part.finish()).await
    }
}

/// Waits for the next sign of life.
async fn within<F: Future>(patience: Duration, future: F) -> Result<F::Output, ApiError> {
    tokio::time::timeout(patience, future)
        .await
        .map_err(|_elapsed| fault::silent(CALL))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_LENGTH.as_str())?.trim().parse().ok()
}

/// The first byte of `bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let value = text(headers, CONTENT_RANGE.as_str())?;
    let (start, _rest) = value.trim().strip_prefix("bytes ")?.split_once('-')?;
    start.trim().parse().ok()
}

/// The length after the slash of `bytes 5-9/10`.
fn range_total(headers: &HeaderMap) -> Option<u64> {
    let value = text(headers, CONTENT_RANGE.as_str())?;
    value.rsplit_once('/')?.1.trim().parse().ok()
}
