//! `pagemill doctor` finds what was planted, says what to do, and costs nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use sea_orm::ConnectionTrait;
use serde_json::Value;

use crate::kit::{Ended, KEY, World, WorldOptions, key, wait_for, write};

fn small() -> World {
    World::new(&WorldOptions {
        pages: 2,
        ..WorldOptions::default()
    })
}

/// The verdicts of one check.
fn verdicts(ended: &Ended, check: &str) -> Vec<String> {
    let said = ended.json();
    let checks = said["checks"].as_array().unwrap().iter();
    let of_it = checks.filter(|found| found["check"] == check);
    of_it
        .map(|found| found["verdict"].as_str().unwrap().to_owned())
        .collect()
}

/// A provider that gives one answer to everything, in its own time. The thread ends with the test.
fn says(status: &'static str, date: SystemTime, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let date = httpdate::fmt_http_date(date);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
}

fn change(world: &World, sql: &str) {
    wait_for(async {
        let connection = sqlite::connect_to(&world.database()).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn w15_a_fit_world_is_0_and_nothing_is_made_or_paid_for() {
    let world = small();
    let ended = world.run_to(0, &["doctor"]);
    ended.assert_says(&[
        "is set, fingerprint ",
        "takes the key",
        "models/gemini-3.8-flash exists and takes batches",
        " s from the provider's",
        "the key may list batches",
        "makes a prompt",
        "is an image of",
        "does not exist yet; the first run makes it",
        "free: no pagemill works on this database",
        " 0 to mend; nothing was changed and nothing was paid for",
    ]);
    assert!(!ended.out.contains(KEY) && !ended.err.contains(KEY));
    assert!(!world.root().join("data").exists());
    let ledger = world.ledger();
    assert_eq!((ledger.jobs_made, ledger.uploads_started), (0, 0));
    let calls: Vec<&String> = ledger.requests_by_endpoint.keys().collect();
    assert_eq!(calls, ["batch_list", "model_get"]);

    world.run_to(0, &["run"]);
    let ended = world.run_to(0, &["doctor"]);
    ended.assert_says(&[
        "is whole and current",
        "output_results takes files durably",
        "data takes files durably",
    ]);
    let left = fs::read_dir(world.root().join("data")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains("doctor")));
}

#[test]
fn w15_offline_opens_no_socket() {
    let world = small();
    let ended = world.run_to(0, &["doctor", "--offline", "--json"]);
    assert_eq!(verdicts(&ended, "provider"), ["ok"]);
    assert_eq!(verdicts(&ended, "clock"), Vec::<String>::new());
    assert!(world.ledger().requests_by_endpoint.is_empty());
}

#[test]
fn w15_every_fault_of_the_configuration_is_told_at_once_and_is_78() {
    let mut world = small();
    world.set("execution.max_retries", "-1");
    world.set("batch.bytes_max", "lots");
    let ended = world.run_to(78, &["doctor"]);
    ended.assert_says(&["execution.max_retries", "batch.bytes_max", "2 to mend"]);

    let mut world = small();
    world.variable("GEMINI_API_KEY", None);
    let ended = world.run_to(78, &["doctor"]);
    ended.assert_says(&["FAIL  key           GEMINI_API_KEY: is not set"]);
    assert!(world.ledger().requests_by_endpoint.is_empty());
}

#[test]
fn w15_thinking_that_the_model_does_not_take_and_short_answers_are_told() {
    let mut world = small();
    world.set(
        "model.generation_config",
        "{max_output_tokens: 4095, thinking_config: {thinking_level: LOW}}",
    );
    let ended = world.run_to(0, &["doctor", "--offline"]);
    ended.assert_says(&["warn  configuration model.generation_config.maxOutputTokens: 4095"]);
    for (config, words) in [
        ("{thinking_config: {thinking_budget: 5}}", "is not taken by"),
        (
            "{thinking_config: {thinking_budget: 5, thinking_level: LOW}}",
            "has both thinkingBudget and thinkingLevel",
        ),
    ] {
        world.set("model.generation_config", config);
        let ended = world.run_to(78, &["doctor", "--offline"]);
        ended.assert_says(&[words]);
    }
}

#[test]
fn w15_a_refusal_is_told_by_its_kind() {
    let now = SystemTime::now();
    let mut world = small();
    world.variable("GEMINI_API_KEY", Some("planted-wrong-8f21c0"));
    let ended = world.run_to(1, &["doctor"]);
    ended.assert_says(&[
        "FAIL  provider      the key is not valid",
        "or make a new one",
    ]);
    assert!(!ended.out.contains("planted-wrong") && !ended.err.contains("planted-wrong"));

    world.variable("GEMINI_API_KEY", Some(KEY));
    for (status, body, words) in [
        (
            "403 Forbidden",
            r#"{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "Blocked.",
                "details": [{"reason": "SERVICE_DISABLED"}]}}"#,
            "the key may not do this",
        ),
        (
            "403 Forbidden",
            r#"{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "No.",
                "details": [{"reason": "BILLING_DISABLED"}]}}"#,
            "billing is at fault",
        ),
        (
            "400 Bad Request",
            r#"{"error": {"code": 400, "status": "FAILED_PRECONDITION",
                "message": "User location is not supported for the API use."}}"#,
            "the provider does not serve this place",
        ),
    ] {
        world.variable("GOOGLE_GEMINI_BASE_URL", Some(&says(status, now, body)));
        world.run_to(1, &["doctor"]).assert_says(&[words]);
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nobody = format!("http://{}", nobody.unwrap());
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&nobody));
    let ended = world.run_to(1, &["doctor"]);
    ended.assert_says(&["the provider cannot be reached", "api.base_url"]);
}

#[test]
fn w15_a_model_that_does_not_exist_is_told() {
    let mut world = small();
    world.set("model.name", "palm-2");
    let ended = world.run_to(1, &["doctor"]);
    ended.assert_says(&[
        "takes the key",
        "FAIL  model         palm-2: there is no such model",
    ]);
}

#[test]
fn w15_a_clock_that_is_off_is_a_warning_or_a_fault() {
    let model = r#"{"name": "models/gemini-3.8-flash"}"#;
    let mut world = small();
    for (off, verdict, code) in [(150, "warn", 0), (600, "fail", 1)] {
        let date = SystemTime::now() - Duration::from_secs(off);
        let provider = says("200 OK", date, model);
        world.variable("GOOGLE_GEMINI_BASE_URL", Some(&provider));
        let ended = world.run_to(code, &["doctor", "--json"]);
        assert_eq!(verdicts(&ended, "clock"), [verdict]);
    }
}

#[test]
fn w15_folders_that_cannot_be_used_are_told() {
    let mut world = small();
    let labels = world.root().join("dataset/label_to_curricular/results");
    fs::create_dir_all(&labels).unwrap();
    let link = world.root().join("linked");
    std::os::unix::fs::symlink(&labels, &link).unwrap();
    world.set("paths.output_dir", link.to_str().unwrap());
    let ended = world.run_to(78, &["doctor", "--offline"]);
    ended.assert_says(&["leads into paths.label_source_dir, perhaps by a link"]);

    let mut world = small();
    write(&world.root().join("plain"), b"");
    world.set("paths.work_dir", "plain/work");
    let ended = world.run_to(1, &["doctor", "--offline"]);
    ended.assert_says(&["work does not exist, and ", "plain cannot be written"]);
    fs::remove_dir_all(world.root().join("dataset/raw_image_dataset")).unwrap();
    let ended = world.run_to(78, &["doctor", "--offline"]);
    ended.assert_says(&["paths.image_source_dir: "]);
}

#[test]
fn w15_room_that_the_batches_would_not_find_is_told() {
    let mut world = small();
    world.set("execution.batch_size_limit", "50000");
    world.set("execution.max_concurrent_batches", "100");
    let ended = world.run(&["doctor", "--offline", "--json"]);
    for verdict in verdicts(&ended, "disk") {
        assert_ne!(verdict, "ok", "{}", ended.out);
    }
}

#[test]
fn w15_a_database_that_is_not_ours_to_use_is_told() {
    let world = small();
    world.run_to(0, &["run"]);
    change(
        &world,
        "INSERT INTO seaql_migrations VALUES ('m29990101_000001_later', 0)",
    );
    let ended = world.run_to(1, &["doctor", "--offline"]);
    ended.assert_says(&["was written by a newer pagemill"]);
    let size = fs::metadata(world.database()).unwrap().len() as usize;
    fs::write(world.database(), vec![b'x'; size]).unwrap();
    let ended = world.run_to(1, &["doctor", "--offline"]);
    ended.assert_says(&["is damaged or no SQLite database", "put back a good copy"]);
}

#[test]
fn w15_who_works_on_the_database_and_whose_batches_live_is_told() {
    let mut world = World::new(&WorldOptions {
        pages: 2,
        latency_ms: 600_000,
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run"]);
    running.wait_until("a job", || world.ledger().jobs_made > 0);
    let ended = world.run_to(0, &["doctor", "--offline"]);
    let held = format!("held by process {}, which is at work", running.id());
    ended.assert_says(&[&held]);
    running.kill();
    world.variable("GEMINI_API_KEY", Some("planted-other-77aa10"));
    let ended = world.run_to(1, &["doctor", "--offline"]);
    ended.assert_says(&[
        "1 live batches were made under the key ",
        "free: no pagemill",
    ]);
}

#[test]
fn w15_the_first_label_is_rendered_and_the_schema_compared() {
    let world = small();
    write(&world.label(&key(0, 1)), b"{\"name\": 1}");
    let ended = world.run_to(1, &["doctor", "--offline", "--json"]);
    assert_eq!(verdicts(&ended, "first page")[0], "fail");
    ended.assert_says(&["makes no prompt", "title"]);
    let said: Value = ended.json();
    let checks = said["checks"].as_array().unwrap();
    let schema = checks.iter().find(|check| check["check"] == "schema");
    let finding = schema.unwrap()["finding"].as_str().unwrap();
    assert!(finding.contains("additionalProperties"), "{finding}");
}
