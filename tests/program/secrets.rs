//! The key is in the environment of the process and in one header, and nowhere else: not in what is
//! printed, written, recorded or shown, whatever is logged and whatever goes wrong.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use crate::books::Books;
use crate::kit::{MILD, World, WorldOptions, rows, write};

/// Looks like a key, and is two characters too short to be one.
const KEY: &str = "AIzaSy-planted-not-a-key-7f3a9c1e55d2";
/// Does not look like one, so that nothing but knowing it takes it out of a text.
const PLAIN_KEY: &str = "planted-not-a-key-7f3a9c1e55d2";
/// Half a key is a leak as well, and masking by what keys look like must not hide one.
const PIECES: [&str; 3] = ["AIzaSy-planted", "planted-not-a-key", "key-7f3a9c1e55d2"];
/// Everything that every crate has to say.
const ALL_CRATES: &str = "trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,h2=trace,\
    sea_orm=trace,actix_http=trace,actix_server=trace";

fn world(books: usize, faults: &str, key: &str) -> World {
    World::new(&WorldOptions {
        books,
        pages: 3,
        latency_ms: 300,
        faults,
        seed: 11,
        key,
        ..WorldOptions::default()
    })
}

/// Searches every file, the log of writes beside the database included, and whatever the children printed.
fn assert_nowhere(world: &World) {
    let mut folders = vec![world.folder().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert_clean(&path, path.to_string_lossy().as_bytes());
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_clean(&path, &fs::read(&path).unwrap());
                files += 1;
            }
        }
    }
    assert!(files > 5, "only {files} files were searched");
}

fn assert_clean(place: &Path, content: &[u8]) {
    for piece in PIECES {
        let found = memchr::memmem::find(content, piece.as_bytes());
        assert_eq!(found, None, "'{piece}' is in {}", place.display());
    }
}

/// Searches every column of every table, as text: what SQLite has packed, a search of the file
/// would miss.
fn assert_no_column(database: &Path) {
    let tables = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name";
    let tables = rows(database, tables);
    assert!(tables.len() > 10, "{tables:?}");
    for table in tables.iter().flatten() {
        let columns = rows(
            database,
            &format!("SELECT name FROM pragma_table_info('{table}')"),
        );
        let holds: Vec<String> = columns
            .iter()
            .flatten()
            .flat_map(|column| PIECES.map(|piece| holds(column, piece)))
            .collect();
        let sql = format!("SELECT * FROM \"{table}\" WHERE {}", holds.join(" OR "));
        let found = rows(database, &sql);
        assert!(found.is_empty(), "the key is in {table}: {found:?}");
    }
}

fn holds(column: &str, piece: &str) -> String {
    format!("instr(CAST(\"{column}\" AS BLOB), CAST('{piece}' AS BLOB)) > 0")
}

#[test]
fn p13_a_run_that_logs_everything_keeps_the_key_to_itself() {
    for format in ["json", "human"] {
        let world = world(3, MILD, KEY);
        let arguments = ["run", "--log-level", ALL_CRATES, "--log-format", format];
        let mut running = world.start(&arguments);
        let process = PathBuf::from(format!("/proc/{}/cmdline", running.id()));
        running.wait_until("a job", || world.ledger().jobs_made > 0);
        let line = fs::read(process).unwrap();
        assert!(memchr::memmem::find(&line, b"--log-level").is_some());
        assert_clean(Path::new("the process list"), &line);
        // Killed, so that what was not yet in the database stands in the log of writes.
        running.kill();
        assert!(world.root().join("data/gemini_batches.db-wal").exists());
        assert_nowhere(&world);
        let ended = world.run_to(0, &arguments);
        assert!(ended.err.contains("TRACE"), "nothing was logged");
        for command in [
            vec!["status"],
            vec!["status", "--json"],
            vec!["runs", "list", "--json"],
            vec!["failures", "--summary"],
            vec!["failures", "--summary", "--json", "--limit", "100"],
            vec!["config", "show", "--origin"],
            vec!["config", "show", "--json"],
            vec!["config", "check"],
            vec!["config", "check", "--json"],
            vec!["run", "--dry-run"],
            vec!["run", "--once", "--json"],
        ] {
            world.run_to(0, &command);
        }
        Books::default().check(&world);
        assert_nowhere(&world);
        assert_no_column(&world.database());
        assert_eq!(world.ledger().unauthorized, 0);
    }
}

/// What a server may do with a key that it was sent. `{KEY}` and `{BASE}` are filled in.
const ECHOES: [(&str, &str); 11] = [
    (
        "400 Bad Request",
        r#"{"error":{"code":400,"message":"API key not valid: {KEY}. See {BASE}/v1beta/files?key={KEY}","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID","metadata":{"key":"{KEY}"}}]}}"#,
    ),
    (
        "400 Bad Request",
        r#"{"error":{"code":400,"message":"{KEY}","status":"{KEY}"}}"#,
    ),
    (
        "403 Forbidden",
        r#"{"error":{"code":403,"message":"consumer 'api_key:{KEY}' has been suspended"}}"#,
    ),
    (
        "429 Too Many Requests\r\nRetry-After: {KEY}",
        r#"{"error":{"code":429,"message":"{KEY} retry in {KEY}s","details":[{"retryDelay":"{KEY}"}]}}"#,
    ),
    (
        "500 Internal Server Error",
        "<html>x-goog-api-key: {KEY}</html>",
    ),
    ("502 Bad Gateway", "proxy said x-goog-api-key={KEY}"),
    (
        "302 Found\r\nLocation: {BASE}/elsewhere?key={KEY}",
        "moved to {BASE}/?key={KEY}",
    ),
    ("200 OK", "not JSON, but {KEY}"),
    (
        "200 OK",
        r#"{"files":"{KEY}","operations":[{"name":"{KEY}/x","error":{"message":"{KEY}"}}]}"#,
    ),
    (
        "200 OK\r\nX-Goog-Upload-URL: {BASE}/upload?key={KEY}\r\nX-Goog-Upload-Status: {KEY}",
        r#"{"file":{"name":"files/{KEY}","uri":"{BASE}/{KEY}","displayName":"{KEY}","state":"{KEY}"}}"#,
    ),
    // Nothing but a closed connection.
    ("", ""),
];

/// A server that repeats the key in every answer.
fn echoing(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let address = base.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client may hang up first; that is its right.
            let _ended = answer(&stream.unwrap(), status, body, &address);
        }
    });
    base
}

fn answer(mut stream: &TcpStream, status: &str, body: &str, base: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some(("x-goog-api-key", value)) => key = value.to_owned(),
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(_other) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let filled = |text: &str| text.replace("{KEY}", &key).replace("{BASE}", base);
    if status.is_empty() {
        return Ok(());
    }
    let body = filled(body);
    let head = format!(
        "HTTP/1.1 {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        filled(status),
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

#[test]
fn p13_a_provider_that_repeats_the_key_is_not_repeated() {
    let mut children = Vec::new();
    let (status, body) = ECHOES[0];
    let plain = ECHOES.map(|(status, body)| (status, body, PLAIN_KEY));
    for (status, body, key) in plain.into_iter().chain([(status, body, KEY)]) {
        let mut world = world(1, "", key);
        world.variable("GOOGLE_GEMINI_BASE_URL", Some(&echoing(status, body)));
        world.set("execution.provider_unavailable_seconds", "10");
        world.set("files.upload_retry_attempts", "1");
        let running = world.start(&["run", "--log-level", ALL_CRATES]);
        children.push((status, body, world, running));
    }
    for (status, body, world, running) in children {
        let ended = running.wait();
        assert_eq!(ended.code, Some(69), "{status} {body}: {}", ended.out);
        world.run(&["status", "--json"]);
        world.run(&["failures", "--summary", "--json"]);
        assert_nowhere(&world);
        assert_no_column(&world.database());
    }
}

#[test]
fn p13_nobody_at_the_address_is_told_without_the_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut world = world(1, "", KEY);
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&address));
    world.set("execution.provider_unavailable_seconds", "10");
    let ended = world.run_to(69, &["run", "--log-level", ALL_CRATES]);
    ended.assert_says(&["the provider is not available: "]);
    assert_nowhere(&world);
    assert_no_column(&world.database());
}

#[test]
fn p13_a_key_in_the_wrong_place_is_refused_and_not_shown() {
    let places = [
        (
            "GOOGLE_GEMINI_BASE_URL",
            format!("https://example.org/?key={KEY}"),
        ),
        (
            "GOOGLE_GEMINI_BASE_URL",
            format!("https://{KEY}@example.org"),
        ),
        (
            "GOOGLE_GEMINI_BASE_URL",
            format!("https://example.org/{KEY}"),
        ),
        ("PAGEMILL__PATHS__OUTPUT_DIR", format!("out-{KEY}")),
        ("PAGEMILL__BATCH__DISPLAY_NAME_PREFIX", KEY.to_owned()),
        ("PAGEMILL__API__PROJECT", KEY.to_owned()),
        ("PAGEMILL__MODEL__NAME", KEY.to_owned()),
        ("PAGEMILL__STATE__URL", format!("sqlite://{KEY}.db")),
        ("PAGEMILL__API__KEY", KEY.to_owned()),
        ("GEMINI_API_KEY", format!("{KEY} {KEY}")),
    ];
    for (name, value) in places {
        let mut world = world(1, "", KEY);
        world.variable(name, Some(&value));
        for command in [
            vec!["run", "--log-level", "trace"],
            vec!["status"],
            vec!["failures", "--summary"],
            vec!["config", "show", "--origin"],
            vec!["config", "check", "--json"],
        ] {
            world.run_to(78, &command);
        }
        assert_eq!(world.ledger().jobs_made, 0);
        assert_nowhere(&world);
    }
    let world = world(1, "", KEY);
    for text in [
        format!("api: {{key: {KEY}}}\n"),
        format!("{KEY}: [\n"),
        format!("a: !{KEY} b\n"),
    ] {
        write(&world.root().join("pagemill.yaml"), text.as_bytes());
        let ended = world.run_to(78, &["config", "check"]);
        assert_clean(Path::new("stdout"), ended.out.as_bytes());
        assert_clean(Path::new("stderr"), ended.err.as_bytes());
    }
}
