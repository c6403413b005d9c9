//! Alerts: told once, brought out at least once under one id, and the exit code of `health`.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use crate::kit::{World, WorldOptions, key, wait_for, write};

const SECRET: &str = "planted-hook-secret-2f8d44c1ab90";
const ADDRESS: &str = "planted-hook-address-91c0";
const EVERYTHING: &str = "trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,h2=trace,\
    sea_orm=trace";

/// What the receiver does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answers(u16),
    /// Keeps the connection open and says nothing.
    Hangs,
}

/// A message as it came.
#[derive(Debug, Clone)]
struct Came {
    head: String,
    headers: BTreeMap<String, String>,
    body: String,
    does: Does,
}

impl Came {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The id, the event, and what the receiver did.
    fn told(&self) -> (String, String, Does) {
        let json = self.json();
        let word = |name: &str| json[name].as_str().unwrap().to_owned();
        (word("id"), word("event"), self.does)
    }
}

/// A receiver on loopback. Takes everything that its script does not say otherwise.
#[derive(Clone)]
struct Receiver {
    url: String,
    came: Arc<(Mutex<Vec<Came>>, Condvar)>,
    script: Arc<Mutex<VecDeque<Does>>>,
}

impl Receiver {
    fn new(script: &[Does]) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver {
            url: format!(
                "http://planted:{ADDRESS}@{}/{ADDRESS}?x={ADDRESS}",
                listener.local_addr().unwrap()
            ),
            came: Arc::default(),
            script: Arc::new(Mutex::new(script.iter().copied().collect())),
        };
        let served = receiver.clone();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // A client that is killed hangs up in the middle.
                let Ok(does) = served.serve(&mut stream) else {
                    continue;
                };
                if does == Does::Hangs {
                    held.push(stream);
                }
            }
        });
        receiver
    }

    fn serve(&self, stream: &mut TcpStream) -> std::io::Result<Does> {
        let mut reader = BufReader::new(&*stream);
        let mut head = String::new();
        reader.read_line(&mut head)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
                None => break,
            };
        }
        let length = headers["content-length"].parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let script = self.script.lock().unwrap().pop_front();
        let does = script.unwrap_or(Does::Answers(200));
        let (came, news) = &*self.came;
        came.lock().unwrap().push(Came {
            head: head.trim_end().to_owned(),
            headers,
            body: String::from_utf8(body).unwrap(),
            does,
        });
        news.notify_all();
        if let Does::Answers(status) = does {
            // It repeats what it was sent, as some do, and would lead elsewhere.
            let answer = format!(
                "HTTP/1.1 {status} X\r\nConnection: close\r\nLocation: {}\r\n\
                 Content-Length: {}\r\n\r\n{SECRET}",
                self.url,
                SECRET.len()
            );
            stream.write_all(answer.as_bytes())?;
        }
        Ok(does)
    }

    fn came(&self) -> Vec<Came> {
        self.came.0.lock().unwrap().clone()
    }

    fn told(&self) -> Vec<(String, String, Does)> {
        self.came().iter().map(Came::told).collect()
    }

    /// Waits until so many messages came.
    fn wait(&self, count: usize) {
        let (came, news) = &*self.came;
        let guard = came.lock().unwrap();
        drop(news.wait_while(guard, |came| came.len() < count).unwrap());
    }
}

/// Six pages whose first answers are all refused, and whose second ones are good.
fn failing(receiver: &Receiver) -> World {
    let mut world = World::new(&WorldOptions {
        pages: 6,
        faults: "pages: [{key: '*', kind: invalid_schema, times: 1}]",
        settings: &[
            ("execution.context", "none"),
            ("batch.fill_wait_seconds", "1"),
            ("alerts.interval_seconds", "1"),
            ("alerts.webhook.secret_env", "HOOK_SECRET"),
        ],
        ..WorldOptions::default()
    });
    world.set("alerts.webhook.url", &receiver.url);
    world.variable("HOOK_SECRET", Some(SECRET));
    world
}

/// Changes rows as no command does.
fn change(world: &World, sql: &str) {
    use sea_orm::ConnectionTrait;
    wait_for(async {
        let connection = sqlite::connect_to(&world.database()).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// Makes everything due that waits for its next try.
fn pauses_are_over(world: &World) {
    let sql = "UPDATE alert_deliveries SET next_at = created_at WHERE next_at IS NOT NULL";
    change(world, sql);
}

#[test]
fn s2_44_a_receiver_that_fails_gets_each_message_again_until_it_takes_it_once() {
    use Does::{Answers, Hangs};
    let receiver = Receiver::new(&[Answers(500), Answers(302), Hangs]);
    let mut world = failing(&receiver);
    world.set("alerts.timeout_seconds", "1");
    for _run in 0..5 {
        world.run_to(0, &["run"]);
        pauses_are_over(&world);
    }
    let told = receiver.told();
    let id = told[0].0.clone();
    let expected = [
        ("fired", Answers(500)),
        ("fired", Answers(302)),
        ("fired", Hangs),
        ("fired", Answers(200)),
        ("cleared", Answers(200)),
    ];
    let expected = expected.map(|(event, does)| (id.clone(), event.to_owned(), does));
    assert_eq!(told, expected);
    assert_eq!(
        world.rows("SELECT alert_id, kind FROM alerts"),
        [[id.as_str(), "consecutive_failures"]]
    );
    let came = receiver.came();
    for (number, message) in (1..).zip(&came[..4]) {
        assert_eq!(message.headers["idempotency-key"], format!("{id}-fired"));
        assert_eq!(message.headers["content-type"], "application/json");
        assert_eq!(message.json()["attempt"], number);
        assert!(message.head.starts_with("POST /"), "{}", message.head);
    }
    let message = came[3].json()["message"].clone();
    let words = "6 answers in a row were failures";
    assert!(message.as_str().unwrap().starts_with(words), "{message}");
    assert_signed(&came[3]);

    let listed = world.run_to(0, &["alerts", "list", "--all"]);
    listed.assert_says(&[
        "consecutive_failures",
        "- webhook: fired delivered",
        "over after",
    ]);
    let listed = world
        .run_to(0, &["alerts", "list", "--all", "--json"])
        .json();
    assert_eq!(listed["alerts"][0]["id"], id);
    assert_eq!(listed["alerts"][0]["deliveries"][0]["attempts"], 4);
    world
        .run_to(0, &["alerts", "list"])
        .assert_says(&["no alert is open"]);
}

/// What the handbook says to verify a message with.
fn snippet() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md");
    let text = fs::read_to_string(path).unwrap();
    let begin = text.find("```python\n").expect("a snippet") + "```python\n".len();
    let end = begin + text[begin..].find("```").unwrap();
    text[begin..end].to_owned()
}

fn verified(signature: &str, body: &str, secret: &str) -> bool {
    let script = format!(
        "{}\nimport os, sys\nprint(is_from_pagemill(os.environ['SIGNATURE'], \
         sys.stdin.buffer.read(), os.environ['SECRET'].encode()))",
        snippet()
    );
    let mut python = Command::new("python3")
        .args(["-c", &script])
        .env("SIGNATURE", signature)
        .env("SECRET", secret)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = python.stdin.take().unwrap();
    input.write_all(body.as_bytes()).unwrap();
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    match String::from_utf8(output.stdout).unwrap().trim() {
        "True" => true,
        "False" => false,
        other => panic!("{other}"),
    }
}

/// The handbook's own snippet takes the message as it came, and no other.
fn assert_signed(came: &Came) {
    let signature = &came.headers["pagemill-signature"];
    assert!(verified(signature, &came.body, SECRET));
    assert!(!verified(signature, &came.body.replace('6', "7"), SECRET));
    assert!(!verified(signature, &came.body, "another secret"));
    let old = signature.replacen("t=1", "t=0", 1);
    assert!(!verified(&old, &came.body, SECRET));
}

#[test]
fn s2_44_killed_between_the_answer_and_its_record_the_same_id_comes_again_and_no_other() {
    let receiver = Receiver::new(&[Does::Hangs]);
    let mut world = failing(&receiver);
    world.set("alerts.timeout_seconds", "300");
    let running = world.start(&["run"]);
    receiver.wait(1);
    running.kill();
    for _run in 0..3 {
        world.run_to(0, &["run"]);
    }
    let told = receiver.told();
    let id = told[0].0.clone();
    let answered = Does::Answers(200);
    let expected = [
        ("fired", Does::Hangs),
        ("fired", answered),
        ("cleared", answered),
    ];
    let expected = expected.map(|(event, does)| (id.clone(), event.to_owned(), does));
    assert_eq!(told, expected);
}

/// Searches every file, and whatever the children printed.
fn assert_nowhere(world: &World, pieces: &[&str]) {
    let mut folders = vec![world.folder().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = fs::read(&path).unwrap();
            for piece in pieces {
                let found = memchr::memmem::find(&content, piece.as_bytes());
                assert_eq!(found, None, "'{piece}' is in {}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 10, "only {files} files were searched");
}

#[test]
fn p13_the_webhooks_secrets_and_the_key_reach_neither_log_nor_database_nor_the_command() {
    let receiver = Receiver::new(&[Does::Answers(500)]);
    let mut world = failing(&receiver);
    world.set("alerts.command", "[./hook.sh, --urgent]");
    let hook = world.root().join("hook.sh");
    let script = "#!/bin/sh\n/usr/bin/env >> env.txt\necho \"$0 $*\" >> told.txt\n\
                  /bin/cat >> told.txt\n/usr/bin/env\nexit 0\n";
    write(&hook, script.as_bytes());
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    // A copy under a name that nobody can know of.
    world.variable("COPY", Some(&format!("x{SECRET}x")));
    world.variable("HARMLESS", Some("kept"));
    let arguments = ["run", "--log-level", EVERYTHING];
    let ended = world.run_to(0, &arguments);
    assert!(ended.err.contains("TRACE"), "nothing was logged");
    ended.assert_says(&["alert could not be delivered", "alert command ran"]);
    for command in [
        vec!["status", "--json"],
        vec!["alerts", "list", "--all", "--json"],
        vec!["alerts", "test", "--log-level", EVERYTHING],
        vec!["config", "show", "--origin"],
        vec!["config", "show", "--json"],
        vec!["config", "check"],
        vec!["health", "--json"],
    ] {
        world.run_to(0, &command);
    }
    let told = fs::read_to_string(world.root().join("told.txt")).unwrap();
    let events: Vec<String> = told
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].to_string())
        .collect();
    assert_eq!(events, ["\"fired\"", "\"cleared\"", "\"test\""]);
    assert!(told.contains("hook.sh --urgent\n"), "{told}");
    let env = fs::read_to_string(world.root().join("env.txt")).unwrap();
    assert!(env.contains("HARMLESS=kept"), "{env}");
    assert!(
        env.contains("PAGEMILL_ALERT_KIND=consecutive_failures"),
        "{env}"
    );
    assert!(!env.contains("COPY="), "{env}");
    assert_nowhere(&world, &[SECRET, "planted-hook", crate::kit::KEY]);
}

/// The lines of an unhealthy answer, and the same as JSON.
fn unhealthy(world: &World, arguments: &[&str], texts: &[&str]) -> Value {
    let text = [&["health"], arguments].concat();
    world.run_to(1, &text).assert_says(texts);
    let json = [&["health", "--json"], arguments].concat();
    let found = world.run_to(1, &json).json();
    assert_eq!(found["version"], 1);
    assert_eq!(found["healthy"], false);
    found
}

#[test]
fn health_says_in_its_exit_code_whether_anything_is_wrong() {
    let mut world = World::new(&WorldOptions {
        pages: 2,
        latency_ms: 3_600_000,
        settings: &[("execution.context", "none")],
        ..WorldOptions::default()
    });
    let found = unhealthy(&world, &[], &["UNKNOWN  there is no database at"]);
    assert!(
        found["fault"]
            .as_str()
            .unwrap()
            .contains("there is no database")
    );

    // A run with a live batch, and its end without a word.
    let mut running = world.start(&["run"]);
    running.wait_until("a job", || world.ledger().jobs_made > 0);
    running.wait_until("a sign of life", || {
        world.number("SELECT count(*) FROM heartbeats") > 0
    });
    let found = world.run_to(0, &["health", "--json"]).json();
    assert_eq!(found["run"]["status"], "processing");
    running.kill();
    world
        .run_to(0, &["health", "--max-age", "1d"])
        .assert_says(&["healthy  run "]);
    let hour_ago = "strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '-1 hour')";
    change(
        &world,
        &format!("UPDATE heartbeats SET at = {hour_ago}; UPDATE runs SET updated_at = {hour_ago}"),
    );
    let found = unhealthy(
        &world,
        &[],
        &["SILENT   run ", "no sign of life for 1 h 0 min"],
    );
    assert_eq!(found["alerts"], serde_json::json!([]));
    world.run_to(0, &["health", "--max-age", "2h"]);

    // Ended in order, with a batch that nobody works on.
    world.run_to(75, &["run", "--once"]);
    world.run_to(0, &["health"]);
    change(
        &world,
        &format!("UPDATE heartbeats SET at = {hour_ago}; UPDATE runs SET updated_at = {hour_ago}"),
    );
    unhealthy(
        &world,
        &[],
        &["SILENT   1 batch is live and nobody has worked on them"],
    );

    let halt = "INSERT INTO halts (reason, message, times, since, updated_at)
                SELECT 'pilot', '1 of 20 was accepted', 1, at, at FROM heartbeats";
    change(&world, halt);
    let found = unhealthy(
        &world,
        &["--max-age", "2h"],
        &["ALERT    halted (pilot) for 1 h"],
    );
    assert_eq!(found["alerts"][0]["kind"], "halted");
    assert_eq!(found["alerts"][0]["id"], Value::Null, "nobody was told yet");
    // The next run tells of it; once it is ended, nothing is left of it.
    world.run_to(75, &["run", "--once"]);
    let found = unhealthy(&world, &[], &["ALERT    halted (pilot)"]);
    let id = found["alerts"][0]["id"].clone();
    let status = world.run_to(0, &["status", "--json"]).json();
    assert_eq!(status["alerts"][0]["id"], id);
    world.run_to(0, &["resume"]);
    world.run_to(0, &["health"]);
    let status = world.run_to(0, &["status", "--json"]).json();
    assert_eq!(status["alerts"], serde_json::json!([]));

    world.set("alerts.disk_free_bytes", "1024TiB");
    unhealthy(
        &world,
        &[],
        &[
            "ALERT    local_disk",
            "are free on the disk of paths.work_dir",
        ],
    );
    world.set("alerts.disk_free_bytes", "0B");
    world.run_to(0, &["health"]);
    world.run_to(2, &["health", "--max-age", "soon"]);
    world.set("alerts.failure_percent", "200");
    world.run_to(78, &["health"]);
}

#[test]
fn a_new_user_learns_from_a_test_message_whether_alerts_arrive() {
    let receiver = Receiver::new(&[Does::Answers(404)]);
    let mut world = World::new(&WorldOptions::default());
    world
        .run_to(1, &["alerts", "test"])
        .assert_says(&["no channel is configured: set alerts.webhook.url or alerts.command"]);
    world.set("alerts.webhook.url", &receiver.url);
    let refused = world.run_to(1, &["alerts", "test"]);
    refused.assert_says(&["webhook  FAILED: http://127.0.0.1:", " answered 404"]);
    let taken = world.run_to(0, &["alerts", "test", "--json"]).json();
    assert_eq!(taken["channels"][0]["delivered"], true);
    let came = receiver.came();
    assert_eq!(came[1].json()["event"], "test");
    assert_eq!(came[1].json()["id"], taken["id"]);
    assert!(!came[1].headers.contains_key("pagemill-signature"));
    assert_eq!(
        came[1].headers["idempotency-key"],
        format!("{}-test", taken["id"].as_str().unwrap())
    );

    world.set("alerts.webhook.secret_env", "HOOK_SECRET");
    for command in [vec!["alerts", "test"], vec!["run"], vec!["config", "check"]] {
        let ended = world.run_to(78, &command);
        ended.assert_says(&["the environment variable HOOK_SECRET is not set"]);
    }
    // Looking needs no secret.
    assert_eq!(world.run(&["config", "show"]).code, Some(0));
    world.variable("HOOK_SECRET", Some(SECRET));
    world.run_to(0, &["alerts", "test"]);
    assert_signed_loosely(&receiver.came()[2]);
    world.set("alerts.webhook.url", "http://example.org/hook");
    let ended = world.run_to(78, &["alerts", "test"]);
    ended.assert_says(&["alerts.webhook.url: would send messages over the network unencrypted"]);
    assert!(!world.output(&key(0, 1)).exists());
}

fn assert_signed_loosely(came: &Came) {
    assert!(verified(
        &came.headers["pagemill-signature"],
        &came.body,
        SECRET
    ));
}
