//! A provider of the fewest words: it keeps nothing but what it needs to answer, makes result files
//! of any size while they are fetched, and remembers when it was asked first.
//!
//! It is no judge (the emulator is): it takes every request for right.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pagemill::adapters::system_clock;
use serde_json::{Value, json};

use super::answers::Answers;
use super::tables::key_of;

/// Who is in a batch.
#[derive(Clone)]
pub enum Members {
    /// Pages of the prepared database, by their numbers.
    Prepared {
        first: u64,
        count: u64,
    },
    Named(Arc<Vec<String>>),
}

/// The playing provider; its threads end with the process.
pub struct Provider {
    address: String,
    shared: Arc<Mutex<World>>,
}

struct World {
    batches: HashMap<String, Members>,
    /// Keys in the lines files that were uploaded.
    lines: HashMap<String, Arc<Vec<String>>>,
    /// What is being uploaded, by session: its content type.
    sessions: HashMap<u64, String>,
    made: u64,
    answers: Answers,
    /// Whether jobs are over when they are looked at.
    over: bool,
    first_look: Option<Instant>,
    uploaded: u64,
}

impl Provider {
    /// Listens on a free port.
    pub fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(World {
            batches: HashMap::new(),
            lines: HashMap::new(),
            sessions: HashMap::new(),
            made: 0,
            answers,
            over: true,
            first_look: None,
            uploaded: 0,
        }));
        let (world, base) = (Arc::clone(&shared), address.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (world, base) = (Arc::clone(&world), base.clone());
                // A client that goes away ends its own connection only.
                thread::spawn(move || serve(stream, &world, &base).ok());
            }
        });
        Provider { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Knows a batch from now on.
    pub fn knows(&self, batch: &str, members: Members) {
        let mut world = self.shared.lock().unwrap();
        world.batches.insert(batch.to_owned(), members);
    }

    /// Whether jobs are over when they are looked at.
    pub fn lets_jobs_end(&self, over: bool) {
        self.shared.lock().unwrap().over = over;
    }

    /// When a batch was looked at first, since this was asked last.
    pub fn first_look(&self) -> Option<Instant> {
        self.shared.lock().unwrap().first_look.take()
    }

    /// Bytes that were uploaded.
    pub fn uploaded(&self) -> u64 {
        self.shared.lock().unwrap().uploaded
    }
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

impl Request {
    /// The next request; `None` when the client has gone.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next(), words.next());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Ok(Some(Request {
            method: method.unwrap_or_default(),
            path: path.unwrap_or_default(),
            headers,
        }))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn bytes(&self) -> u64 {
        self.header("content-length").parse().unwrap_or(0)
    }
}

fn serve(stream: TcpStream, world: &Mutex<World>, base: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
    let mut to = stream;
    while let Some(request) = Request::read(&mut from)? {
        let mut body = (&mut from).take(request.bytes());
        let path = request.path.split('?').next().unwrap_or_default();
        match (request.method.as_str(), path) {
            ("POST", path) if path.starts_with("/session/") => {
                let session = path.rsplit('/').next().unwrap_or_default();
                take_chunk(&request, session, &mut body, &mut to, world, base)?;
            }
            ("POST", path) if path.starts_with("/upload/") => {
                io::copy(&mut body, &mut io::sink())?;
                let session = begin(&request, world);
                let place = format!("X-Goog-Upload-URL: {base}/session/{session}\r\n");
                answer(&mut to, "200 OK", &place, "")?;
            }
            ("GET", path) if path.ends_with(":download") => {
                send_results(path, &mut to, world)?;
            }
            (method, path) => {
                let mut text = String::new();
                body.read_to_string(&mut text)?;
                let (status, said) = say(method, path, &text, world);
                answer(&mut to, status, "", &said.to_string())?;
            }
        }
    }
    Ok(())
}

fn answer(to: &mut TcpStream, status: &str, headers: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    to.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}

fn begin(request: &Request, world: &Mutex<World>) -> u64 {
    let kind = request.header("x-goog-upload-header-content-type");
    let mut world = world.lock().unwrap();
    world.made += 1;
    let session = world.made;
    world.sessions.insert(session, kind.to_owned());
    session
}

/// Takes a chunk of an upload. Of a lines file the keys are kept, as long as no key is cut by the
/// end of a chunk; only small files are answered about.
fn take_chunk(
    request: &Request,
    session: &str,
    body: &mut impl BufRead,
    to: &mut TcpStream,
    world: &Mutex<World>,
    base: &str,
) -> io::Result<()> {
    let number: u64 = session.parse().unwrap_or(0);
    let kind = world.lock().unwrap().sessions.get(&number).cloned();
    let mut keys = Vec::new();
    if kind.as_deref() == Some("jsonl") {
        let mut line = Vec::new();
        while body.read_until(b'\n', &mut line)? > 0 {
            keys.extend(key_in(&line));
            line.clear();
        }
    } else {
        io::copy(body, &mut io::sink())?;
    }
    let before: u64 = request.header("x-goog-upload-offset").parse().unwrap_or(0);
    let stored = before + request.bytes();
    let is_last = request.header("x-goog-upload-command").contains("finalize");
    {
        let mut world = world.lock().unwrap();
        world.uploaded += request.bytes();
        if !keys.is_empty() {
            let known = world.lines.entry(format!("files/f{session}")).or_default();
            Arc::make_mut(known).extend(keys);
        }
        if is_last {
            world.sessions.remove(&number);
        }
    }
    if !is_last {
        let so_far =
            format!("X-Goog-Upload-Status: active\r\nX-Goog-Upload-Size-Received: {stored}\r\n");
        return answer(to, "200 OK", &so_far, "");
    }
    let expires = system_clock::now().plus(Duration::from_secs(48 * 3600));
    let file = json!({"file": {
        "name": format!("files/f{session}"),
        "uri": format!("{base}/v1beta/files/f{session}"),
        "mimeType": kind,
        "sizeBytes": stored.to_string(),
        "createTime": system_clock::now().to_string(),
        "expirationTime": expires.to_string(),
        "state": "ACTIVE",
    }});
    answer(
        to,
        "200 OK",
        "X-Goog-Upload-Status: final\r\n",
        &file.to_string(),
    )
}

fn key_in(line: &[u8]) -> Option<String> {
    let line = line.strip_prefix(b"{\"key\":\"")?;
    let end = line.iter().position(|byte| *byte == b'"')?;
    Some(String::from_utf8_lossy(&line[..end]).into_owned())
}

/// Every answer that is JSON.
fn say(method: &str, path: &str, body: &str, world: &Mutex<World>) -> (&'static str, Value) {
    let mut world = world.lock().unwrap();
    let name = path.trim_start_matches("/v1beta/");
    match method {
        "DELETE" => ("200 OK", json!({})),
        "POST" if name.ends_with(":batchGenerateContent") => {
            let asked: Value = serde_json::from_str(body).unwrap_or_default();
            let file = asked.pointer("/batch/inputConfig/fileName");
            let file = file.or_else(|| asked.pointer("/batch/input_config/file_name"));
            let file = file.and_then(Value::as_str).unwrap_or_default();
            let keys = world.lines.get(file).cloned().unwrap_or_default();
            world.made += 1;
            let batch = format!("batches/made{}", world.made);
            world.batches.insert(batch.clone(), Members::Named(keys));
            ("200 OK", job(&batch, 0, false))
        }
        "GET" if world.batches.contains_key(name) => {
            world.first_look.get_or_insert_with(Instant::now);
            let count = world.batches[name].count();
            ("200 OK", job(name, count, world.over))
        }
        "GET" if !name.contains('/') => ("200 OK", json!({})),
        _ => (
            "404 Not Found",
            json!({"error": {"code": 404, "message": format!("{method} {path}"), "status": "NOT_FOUND"}}),
        ),
    }
}

fn job(name: &str, requests: u64, over: bool) -> Value {
    let id = name.trim_start_matches("batches/");
    let mut job = json!({
        "name": name,
        "metadata": {
            "name": name,
            "createTime": system_clock::now().to_string(),
            "state": if over { "BATCH_STATE_SUCCEEDED" } else { "BATCH_STATE_RUNNING" },
        },
    });
    if over {
        let output = json!({"responsesFile": format!("files/results-{id}")});
        let count = requests.to_string();
        job["metadata"]["output"] = output.clone();
        job["metadata"]["endTime"] = json!(system_clock::now().to_string());
        job["metadata"]["batchStats"] =
            json!({"requestCount": count, "successfulRequestCount": count});
        job["done"] = json!(true);
        job["response"] = output;
    }
    job
}

impl Members {
    fn count(&self) -> u64 {
        match self {
            Members::Prepared { count, .. } => *count,
            Members::Named(keys) => keys.len() as u64,
        }
    }

    fn key(&self, place: u64) -> String {
        match self {
            Members::Prepared { first, .. } => key_of(first + place),
            Members::Named(keys) => keys[place as usize].clone(),
        }
    }
}

/// Sends a result file as it makes it.
fn send_results(path: &str, to: &mut TcpStream, world: &Mutex<World>) -> io::Result<()> {
    let id = path.rsplit('/').next().unwrap_or_default();
    let id = id
        .trim_start_matches("results-")
        .trim_end_matches(":download");
    let (members, answers) = {
        let world = world.lock().unwrap();
        let members = world.batches.get(&format!("batches/{id}")).cloned();
        (members, world.answers.clone())
    };
    let Some(members) = members else {
        return answer(to, "404 Not Found", "", "{}");
    };
    let lengths = (0..members.count()).map(|place| answers.line_bytes(&members.key(place)));
    let bytes: u64 = lengths.sum();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    let mut to = io::BufWriter::with_capacity(256 * 1024, to);
    to.write_all(head.as_bytes())?;
    for place in 0..members.count() {
        answers.write(&members.key(place), &mut to)?;
    }
    to.flush()
}
