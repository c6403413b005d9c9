//! The client: its options, its connections, and how one call is made.

use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, Url};

use super::fault;
use crate::domain::failure::ApiError;
use crate::domain::ids::RemoteName;
use crate::wire::error::{Call, HttpAnswer, api_error, garbled};

/// The size of an upload's chunks that the service prescribes: all but the last must be a
/// multiple of it.
pub const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// A shorter text is no key but a word for an emulator, and may be part of any name in an answer.
const KEY_BYTES_MIN: usize = 16;

/// A text that shows itself nowhere.
#[derive(Clone)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        SecretText(text.into())
    }

    pub(in crate::adapters) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// How the provider is reached.
#[derive(Debug, Clone)]
pub struct GeminiOptions {
    /// Scheme, host and port; a path in front of the version is allowed.
    pub base_url: String,
    /// The path segment `v1beta` or `v1`.
    pub version: String,
    pub api_key: SecretText,
    pub connect_timeout: Duration,
    /// The longest a JSON call may take, and the longest silence during a transfer.
    pub request_timeout: Duration,
    /// A multiple of [`CHUNK_BYTES`]; another size is taken for a loopback address only.
    pub chunk_bytes: usize,
    /// The longest JSON answer that is read.
    pub body_bytes_max: usize,
    /// The wait before the first resume of a broken transfer; the n-th waits n times as long.
    pub resume_pause: Duration,
}

/// Why a client cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("api.base_url '{0}' is not an http or https address without user, query and fragment")]
    BaseUrl(String),
    #[error("api.version '{0}' is not a version such as v1beta")]
    Version(String),
    #[error("the API key is empty or has characters that a header cannot carry")]
    Key,
    #[error("chunks of {0} bytes are not a multiple of {CHUNK_BYTES}")]
    Chunk(usize),
    #[error("no TLS provider is installed; the program installs one before anything else")]
    NoTls,
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// Calls the provider.
pub struct GeminiClient {
    pub(super) calls: reqwest::Client,
    pub(super) creates: reqwest::Client,
    pub(super) base: Url,
    pub(super) chunk_bytes: usize,
    pub(super) request_timeout: Duration,
    pub(super) resume_pause: Duration,
    version: String,
    key_header: HeaderValue,
    key: SecretText,
    body_bytes_max: usize,
}

impl fmt::Debug for GeminiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeminiClient")
            .field("base", &self.base.as_str())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A whole answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl GeminiClient {
    /// Makes a client. Opens no connection.
    pub fn new(options: GeminiOptions) -> Result<Self, OptionsError> {
        let base = base_url(&options.base_url)?;
        if !is_plain(&options.version) {
            return Err(OptionsError::Version(options.version));
        }
        let mut key_header = HeaderValue::from_str(options.api_key.reveal())
            .ok()
            .filter(|value| !value.is_empty())
            .ok_or(OptionsError::Key)?;
        key_header.set_sensitive(true);
        let is_whole = options.chunk_bytes.is_multiple_of(CHUNK_BYTES) || is_loopback(&base);
        if options.chunk_bytes == 0 || !is_whole {
            return Err(OptionsError::Chunk(options.chunk_bytes));
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(OptionsError::NoTls);
        }
        let built = |builder: reqwest::ClientBuilder| {
            builder
                .build()
                .map_err(|error| OptionsError::Client(fault::chain(&error)))
        };
        // The create of a batch must not be sent twice, and two layers would do so. hyper sends a
        // request again when a *reused* connection turns out to be dead: without a pool no
        // connection is reused. reqwest sends one again that an HTTP/2 server refused or answered
        // by going away: its retries are off, and HTTP/1.1 has neither.
        let creates = common(&options, &base)
            .pool_max_idle_per_host(0)
            .http1_only();
        Ok(GeminiClient {
            calls: built(common(&options, &base))?,
            creates: built(creates)?,
            base,
            chunk_bytes: options.chunk_bytes,
            request_timeout: options.request_timeout,
            resume_pause: options.resume_pause,
            version: options.version,
            key_header,
            key: options.api_key,
            body_bytes_max: options.body_bytes_max,
        })
    }

    /// The address of a resource: `{base}{before}/{version}/{rest}`. The server's part of it was read when the
    /// client was made, and is not read again for every call.
    pub(super) fn url(&self, before: &str, rest: &str) -> Url {
        let base = self.base.path().trim_end_matches('/');
        let path = format!("{base}{before}/{}/{rest}", self.version);
        let mut url = self.base.clone();
        url.set_path(&path);
        url
    }

    /// Starts a request that carries the key.
    pub(super) fn request(
        &self,
        client: &reqwest::Client,
        method: Method,
        url: Url,
    ) -> RequestBuilder {
        client
            .request(method, url)
            .header("x-goog-api-key", self.key_header.clone())
    }

    /// Makes a JSON call within the request timeout; an answer other than 2xx is an error.
    pub(super) async fn json(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<Vec<u8>, ApiError> {
        let reply = self
            .exchange(call, request.timeout(self.request_timeout))
            .await?;
        if reply.is_success() {
            Ok(reply.body)
        } else {
            Err(self.refusal(call, &reply))
        }
    }

    /// Makes a call and reads its answer, whatever its status.
    pub(super) async fn exchange(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<Reply, ApiError> {
        let mut response = request
            .send()
            .await
            .map_err(|error| self.transport(call, &error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        match self.read_body(call, response).await {
            Ok(body) => Ok(Reply {
                status,
                headers,
                body: self.body_without_key(body),
            }),
            // The status of a refusal says enough without its words.
            Err(_) if status >= 400 => Ok(Reply {
                status,
                headers,
                body: Vec::new(),
            }),
            Err(error) => Err(error),
        }
    }

    async fn read_body(&self, call: Call, mut response: Response) -> Result<Vec<u8>, ApiError> {
        let status = Some(response.status().as_u16());
        let mut body = Vec::new();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| self.transport(call, &error))?
        {
            if body.len() + piece.len() > self.body_bytes_max {
                let detail = format!("the answer is longer than {} bytes", self.body_bytes_max);
                return Err(garbled(call, status, &detail));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The error that an answer stands for.
    pub(super) fn refusal(&self, call: Call, reply: &Reply) -> ApiError {
        let now = httpdate::fmt_http_date(SystemTime::now());
        api_error(
            call,
            &HttpAnswer {
                status: reply.status,
                retry_after: reply.header(RETRY_AFTER.as_str()),
                date: Some(reply.header(DATE.as_str()).unwrap_or(&now)),
                body: &reply.body,
            },
        )
    }

    /// The error that a call without an answer stands for.
    pub(super) fn transport(&self, call: Call, error: &reqwest::Error) -> ApiError {
        let mut error = fault::transport(call, error);
        error.message = self.without_key(&error.message);
        error
    }

    /// The error that an unreadable answer stands for.
    pub(super) fn unreadable(&self, call: Call, status: u16, detail: &str) -> ApiError {
        garbled(call, Some(status), &self.without_key(detail))
    }

    /// Servers and proxies like to repeat what they were sent, and what they say of a job or a file
    /// is kept. The key is taken out before a message is cut to its length: half a key is a key
    /// that no search would find.
    pub(super) fn body_without_key(&self, body: Vec<u8>) -> Vec<u8> {
        let key = self.key.reveal();
        let is_key = key.len() >= KEY_BYTES_MIN;
        match memchr::memmem::find(&body, key.as_bytes()) {
            Some(_) if is_key => self
                .without_key(&String::from_utf8_lossy(&body))
                .into_bytes(),
            _ => body,
        }
    }

    fn without_key(&self, text: &str) -> String {
        text.replace(self.key.reveal(), "[removed]")
    }
}

/// What both kinds of connection share. Whatever matters is said here rather than left to a
/// default: no retries, no redirects (one would carry the key to another host; a download follows
/// them by itself), no overall timeout (each call sets its own).
fn common(options: &GeminiOptions, base: &Url) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("pagemill/", env!("CARGO_PKG_VERSION")))
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_nodelay(true);
    if is_loopback(base) {
        builder.no_proxy()
    } else {
        builder
    }
}

fn base_url(text: &str) -> Result<Url, OptionsError> {
    let refused = || OptionsError::BaseUrl(fault::shown_url(text));
    let url = Url::parse(text.trim()).map_err(|_| refused())?;
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let is_web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    (is_bare && is_web).then_some(url).ok_or_else(refused)
}

fn is_loopback(base: &Url) -> bool {
    base.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// Whether a text is safe as one segment of a path.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().any(|byte| byte != b'.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The path of a remote name such as `files/abc`; anything else would call something else.
pub(super) fn resource<'n>(
    call: Call,
    collection: &str,
    name: &'n RemoteName,
) -> Result<&'n str, ApiError> {
    let is_ours = name
        .as_str()
        .strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(is_plain);
    if is_ours {
        Ok(name.as_str())
    } else {
        Err(fault::not_sent(
            call,
            &format!("'{name}' is not a name such as {collection}/abc"),
        ))
    }
}
