//! A server that plays a script: one answer a connection, in order, and every request recorded.
//! It speaks raw HTTP/1.1, so that it can also break off wherever a test wants it to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use pagemill::adapters::gemini::{GeminiClient, GeminiOptions, SecretText};

/// A key that must not turn up anywhere.
pub const KEY: &str = "planted-key-0123456789";

/// What the server received.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lowercase.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(&name.to_lowercase()).map(String::as_str)
    }
}

/// What the server does with one request.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Closes after so many bytes of the body.
    cut: Option<usize>,
    /// Closes without an answer.
    is_silent: bool,
    /// Answers, or closes, after the head of the request.
    is_early: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            is_silent: false,
            is_early: false,
        }
    }

    /// `{BASE}` in a value stands for the server's address.
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub fn early(mut self) -> Self {
        self.is_early = true;
        self
    }

    /// Takes the whole request and hangs up.
    pub fn silence() -> Self {
        Reply {
            is_silent: true,
            ..Reply::new(0, "")
        }
    }
}

pub struct Server {
    pub base: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn new(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (address, log) = (base.clone(), Arc::clone(&requests));
        std::thread::spawn(move || {
            let mut script = VecDeque::from(script);
            for stream in listener.incoming() {
                let reply = script.pop_front();
                serve(stream.unwrap(), reply, &address, &log);
            }
        });
        Server { base, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn client(&self) -> GeminiClient {
        self.client_with(4)
    }

    pub fn client_with(&self, chunk_bytes: usize) -> GeminiClient {
        GeminiClient::new(GeminiOptions {
            chunk_bytes,
            ..options(&self.base)
        })
        .unwrap()
    }
}

pub fn options(base: &str) -> GeminiOptions {
    static TLS: Once = Once::new();
    TLS.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap();
    });
    GeminiOptions {
        base_url: base.to_owned(),
        version: "v1".to_owned(),
        api_key: SecretText::new(KEY),
        connect_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(20),
        chunk_bytes: 8 * 1024 * 1024,
        body_bytes_max: 1024 * 1024,
        resume_pause: Duration::from_millis(1),
    }
}

fn serve(stream: TcpStream, reply: Option<Reply>, base: &str, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(&stream);
    let Some((mut request, length)) = head(&mut reader) else {
        return;
    };
    let reply = reply.unwrap_or_else(|| Reply::new(418, "unscripted"));
    if !reply.is_early {
        request.body = vec![0; length];
        if reader.read_exact(&mut request.body).is_err() {
            return;
        }
    }
    log.lock().unwrap().push(request);
    if reply.is_silent {
        return;
    }
    let mut answer = format!(
        "HTTP/1.1 {} Scripted\r\nConnection: close\r\n",
        reply.status
    );
    let has_length = reply
        .headers
        .iter()
        .any(|(name, _)| name == "Content-Length");
    if !has_length {
        answer.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        answer.push_str(&format!("{name}: {}\r\n", value.replace("{BASE}", base)));
    }
    answer.push_str("\r\n");
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    // A client may hang up first; that is its right.
    let mut writer = &stream;
    let _ = writer.write_all(answer.as_bytes());
    let _ = writer.write_all(body);
    let _ = writer.flush();
}

fn head(reader: &mut BufReader<&TcpStream>) -> Option<(Request, usize)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |text| text.parse().unwrap());
    let request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    Some((request, length))
}
