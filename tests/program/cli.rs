//! The command line: exit codes and texts are a contract with whoever starts the program.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::books::Books;
use crate::kit::{KEY, MILD, World, WorldOptions, key, write};

fn small() -> World {
    World::new(&WorldOptions {
        books: 2,
        pages: 2,
        ..WorldOptions::default()
    })
}

/// A world whose jobs take long enough to be met alive.
fn slow() -> World {
    World::new(&WorldOptions {
        books: 2,
        pages: 2,
        latency_ms: 3000,
        ..WorldOptions::default()
    })
}

/// An address at which nobody listens.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Every file below a folder with its content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                found.insert(path, content);
            }
        }
    }
    found
}

fn assert_key_is_nowhere(world: &World) {
    for (path, content) in contents(world.folder()) {
        let found = memchr::memmem::find(&content, KEY.as_bytes());
        assert_eq!(found, None, "the key is in {}", path.display());
    }
}

#[test]
fn all_done_is_0_and_a_second_run_is_0_at_once() {
    let world = small();
    let ended = world.run_to(0, &["run"]);
    ended.assert_says(&["all done", "4 of 4 done (100.0 %)", "outputs ", "reports "]);
    let ended = world.run_to(0, &["run", "--json"]);
    let said = ended.json();
    assert_eq!(said["version"], 1);
    assert_eq!(said["exit_code"], 0);
    assert_eq!(said["summary"]["pages"]["completed"], 4);
    Books::default().check(&world);
}

#[test]
fn s2_03_a_second_run_sends_no_request_at_all() {
    let world = small();
    world.run_to(0, &["run"]);
    let (sent, outputs) = (
        world.ledger().requests_by_endpoint,
        contents(&world.root().join("dataset/output_results")),
    );
    assert!(!sent.is_empty());
    let said = world.run_to(0, &["run", "--json"]).json();
    assert_eq!(said["exit_code"], 0);
    assert_eq!(world.ledger().requests_by_endpoint, sent);
    assert_eq!(
        contents(&world.root().join("dataset/output_results")),
        outputs
    );
}

#[test]
fn s3_10_a_restart_finds_the_sets_of_pages_as_the_killed_process_left_them() {
    let dead = key(0, 2);
    let faults = format!("pages: [{{key: '{dead}', kind: invalid_schema, times: always}}]");
    let mut world = World::new(&WorldOptions {
        books: 2,
        pages: 3,
        faults: &faults,
        latency_ms: 1_500,
        settings: &[
            ("execution.max_retries", "0"),
            ("execution.on_dead_predecessor", "block"),
        ],
        ..WorldOptions::default()
    });
    let sets = |world: &World| world.rows("SELECT stage, record_key FROM pages ORDER BY 1, 2");
    let mut running = world.start(&["run"]);
    running.wait_until("pages are done, dead and in a live batch", || {
        let stages = "SELECT count(DISTINCT stage) FROM pages AS p LEFT JOIN submissions AS s
                      USING (batch_id) WHERE p.stage IN ('completed', 'dead')
                      OR (p.stage = 'batched' AND s.state = 'submitted')";
        world.output(&key(0, 1)).exists() && world.number(stages) == 3
    });
    running.kill();
    let before = sets(&world);
    assert!(before.contains(&vec!["dead".to_owned(), dead.clone()]));
    assert!(before.contains(&vec!["discovered".to_owned(), key(0, 3)]));
    // A start that may not send, and cannot reach the provider, changes nothing of them.
    world.run_to(0, &["pause"]);
    let address = world.emulator.base_url();
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&closed_port()));
    world.run_to(75, &["run", "--once"]);
    assert_eq!(sets(&world), before);
    // And the work goes on from there.
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&address));
    world.run_to(0, &["resume"]);
    world.run_to(3, &["run"]);
    let paid = world.ledger().requests_by_key;
    assert!(paid.values().all(|count| *count == 1), "{paid:?}");
    assert_eq!(paid.len(), 5, "the page behind the dead one waits");
}

#[test]
fn s3_23_s4_02_runs_batches_and_orders_have_uuids_that_sort_by_time() {
    let world = small();
    world.run_to(0, &["run"]);
    world.run_to(0, &["run"]);
    world.run_to(0, &["run", "--run-id", "night 1"]);
    world.run_to(0, &["note", &key(0, 1), "seen"]);
    for (sql, least) in [
        ("SELECT run_id FROM runs ORDER BY started_at", 3),
        ("SELECT batch_id FROM submissions ORDER BY created_at", 2),
        ("SELECT order_id FROM orders", 1),
    ] {
        let mut ids: Vec<String> = world.rows(sql).into_iter().flatten().collect();
        assert!(ids.len() >= least, "{sql}: {ids:?}");
        // What somebody gives is taken as it is.
        ids.retain(|id| id != "night 1");
        assert!(ids.is_sorted(), "{sql}: {ids:?}");
        for id in &ids {
            let id = uuid::Uuid::parse_str(id).unwrap();
            assert_eq!(id.get_version_num(), 7, "{sql}: {id}");
        }
    }
    let runs = world.rows("SELECT run_id, restarts FROM runs");
    assert!(
        runs.contains(&vec!["night 1".to_owned(), "0".to_owned()]),
        "{runs:?}"
    );
}

#[test]
fn s3_43_the_state_of_a_deployment_is_where_its_variables_say() {
    let mut world = small();
    let place = world.folder().join("state of one");
    world.set("paths.work_dir", place.to_str().unwrap());
    let database = format!("sqlite://{}/pages.db", place.display());
    world.set("state.url", &database);
    world.run_to(0, &["run"]);
    assert!(!world.root().join("data").exists());
    let found = contents(&place);
    let has = |part: &str| found.keys().any(|p| p.to_string_lossy().contains(part));
    assert!(
        has("/pages.db") && has("/raw/") && has("/reports/"),
        "{:?}",
        found.keys()
    );
    let status = world.run_to(0, &["status", "--json"]).json();
    assert_eq!(status["pages"]["completed"], 4);
    // Another deployment over the same tree has a state of its own, and pays for nothing again.
    let other = world.folder().join("state of another");
    world.set("paths.work_dir", other.to_str().unwrap());
    world.set(
        "state.url",
        &format!("sqlite://{}/pages.db", other.display()),
    );
    let sent = world.ledger().requests_by_key;
    world.run_to(0, &["run"]);
    assert_eq!(world.ledger().requests_by_key, sent);
    assert!(other.join("pages.db").exists());
    assert_eq!(contents(&place.join("raw")), {
        let raw = place.join("raw");
        found
            .into_iter()
            .filter(|(p, _)| p.starts_with(&raw))
            .collect()
    });
}

#[test]
fn wrong_use_is_2() {
    let world = small();
    for (arguments, text) in [
        (vec!["run", "--lmit", "3"], "unexpected argument '--lmit'"),
        (vec!["run", "--limit", "0"], "--limit"),
        (vec!["run", "--watch", "--once"], "cannot be used with"),
        (
            vec!["run", "--where", "school"],
            "--where takes LEVEL=VALUE",
        ),
        (vec!["run", "--year-start", "1849"], "go together"),
        (vec!["failures", "--by"], "--by"),
        (vec!["fly"], "unrecognized subcommand 'fly'"),
        (vec![], "Usage: pagemill"),
    ] {
        let ended = world.run_to(2, &arguments);
        ended.assert_says(&[text]);
    }
    for arguments in [["--help"], ["--version"]] {
        let ended = world.run_to(0, &arguments);
        ended.assert_says(&["pagemill"]);
    }
    assert_eq!(world.ledger().requests_by_endpoint, BTreeMap::new());
    assert!(!world.root().join("data").exists());
}

#[test]
fn a_state_in_use_is_5_and_a_killed_process_holds_nothing() {
    let world = slow();
    let mut first = world.start(&["run"]);
    first.wait_until("a job", || world.ledger().jobs_made > 0);
    let second = world.run_to(5, &["run"]);
    second.assert_says(&["gemini_batches.db' is in use by another pagemill"]);
    // Reading is not in the way.
    world.run_to(0, &["status"]);
    first.kill();
    world.run_to(0, &["run"]);
    let books = Books { ..Books::default() };
    books.check(&world);
}

#[test]
fn a_provider_out_of_reach_is_69() {
    let mut world = small();
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&closed_port()));
    world.set("execution.provider_unavailable_seconds", "10");
    let ended = world.run_to(69, &["run"]);
    ended.assert_says(&["the provider is not available: "]);
    let address = world.emulator.base_url();
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&address));
    world.run_to(0, &["run"]);
    Books::default().check(&world);
}

#[test]
fn p13_a_refused_key_ends_the_run_and_is_not_shown() {
    const OTHER: &str = "another-planted-key-90aa11";
    let mut world = small();
    world.variable("GEMINI_API_KEY", Some(OTHER));
    world.set("execution.provider_unavailable_seconds", "10");
    let ended = world.run_to(69, &["run", "--log-level", "trace"]);
    ended.assert_says(&["API key"]);
    for (path, content) in contents(world.folder()) {
        let found = memchr::memmem::find(&content, OTHER.as_bytes());
        assert_eq!(found, None, "the key is in {}", path.display());
    }
    world.variable("GEMINI_API_KEY", Some(KEY));
    world.run_to(0, &["run"]);
    Books::default().check(&world);
}

#[test]
fn p12_a_stopped_run_is_75_and_goes_on() {
    for signal in ["TERM", "INT"] {
        let world = slow();
        let mut running = world.start(&["run"]);
        running.wait_until("a job", || world.ledger().jobs_made > 0);
        running.signal(signal);
        let ended = running.wait();
        ended.assert_code(75);
        ended.assert_says(&["stopped with work left; start again to go on"]);
        world.run_to(0, &["run"]);
        Books::default().check(&world);
        let paid = world.ledger().requests_by_key;
        assert!(paid.values().all(|count| *count == 1), "{signal}: {paid:?}");
    }
}

#[test]
fn once_is_75_until_nothing_is_left() {
    const ROUNDS_MAX: u32 = 60;
    let world = small();
    let mut codes = Vec::new();
    while codes.last() != Some(&Some(0)) {
        assert!(codes.len() < ROUNDS_MAX as usize, "{codes:?}");
        codes.push(world.run(&["run", "--once"]).code);
    }
    assert_eq!(codes[0], Some(75), "{codes:?}");
    assert!(
        codes.iter().rev().skip(1).all(|code| *code == Some(75)),
        "{codes:?}"
    );
    Books::default().check(&world);
}

#[test]
fn a_missing_key_is_78() {
    let mut world = small();
    world.variable("GEMINI_API_KEY", None);
    let ended = world.run_to(78, &["run"]);
    ended.assert_says(&["there is no API key: set GEMINI_API_KEY"]);
    assert!(!world.root().join("data").exists());
    // The file beside the configuration will do as well.
    write(
        &world.root().join(".env"),
        format!("GEMINI_API_KEY={KEY}\n").as_bytes(),
    );
    world.run_to(0, &["run"]);
}

#[test]
fn all_faults_of_the_configuration_are_told_at_once() {
    let mut world = small();
    let file = world.root().join("pagemill.yaml");
    let text = "execution: {max_retires: 3, batch_size_limit: 0}\nmodle: {name: x}\n";
    write(&file, text.as_bytes());
    world.set("files.upload_concurrency", "many");
    for command in [
        vec!["run"],
        vec!["run", "--dry-run"],
        vec!["config", "check"],
        vec!["status"],
    ] {
        let ended = world.run_to(78, &command);
        ended.assert_says(&[
            "execution.max_retires",
            "max_retries",
            "execution.batch_size_limit",
            "modle",
            "model",
            "files.upload_concurrency",
        ]);
    }
    let ended = world.run_to(78, &["run", "--config", "nowhere.yaml"]);
    ended.assert_says(&["nowhere.yaml: cannot be read"]);
    assert!(!world.root().join("data").exists());
}

#[test]
fn folders_that_are_not_there_are_78() {
    let mut world = small();
    world.set("paths.label_source_dir", "nowhere");
    world.set("paths.image_source_dir", "nowhere else");
    let ended = world.run_to(78, &["run"]);
    ended.assert_says(&[
        "paths.label_source_dir",
        "paths.image_source_dir",
        "does not exist",
    ]);
}

#[test]
fn p13_dry_run_writes_nothing_and_opens_no_socket() {
    let mut world = small();
    let address = world.emulator.base_url();
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&closed_port()));
    // A reader of SQLite's may leave an empty log and its index beside the database.
    let files = |world: &World| {
        let mut files = contents(&world.root());
        files.retain(|path, content| {
            let name = path.to_string_lossy();
            let is_readers = name.ends_with("-shm") || name.ends_with("-wal") && content.is_empty();
            !is_readers
        });
        files
    };
    let check = |world: &World, done: u64| {
        let before = files(world);
        let ended = world.run_to(0, &["run", "--dry-run"]);
        ended.assert_says(&[
            "labels in scope",
            "nothing was changed and nothing was sent",
        ]);
        let said = world.run_to(0, &["run", "--dry-run", "--json"]).json();
        assert_eq!(said["labels"], 4);
        assert_eq!(said["done"], done);
        assert_eq!(said["to_run"], 4 - done);
        assert!(files(world) == before, "files changed");
    };
    check(&world, 0);
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&address));
    world.run_to(0, &["run"]);
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&closed_port()));
    check(&world, 4);
}

#[test]
fn f06_status_and_failures_tell_what_happened() {
    let bad = key(1, 2);
    let faults = format!("pages: [{{key: '{bad}', kind: truncated, times: always}}]");
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 2,
        faults: &faults,
        settings: &[("execution.max_retries", "1")],
        ..WorldOptions::default()
    });
    let ended = world.run_to(1, &["status"]);
    ended.assert_says(&["there is no database at", "run the pipeline first"]);
    world.run_to(3, &["run"]);
    let status = world.run_to(0, &["status", "--json"]).json();
    assert_eq!(status["version"], 1);
    assert_eq!(status["pages"]["completed"], 3);
    assert_eq!(status["pages"]["dead"], 1);
    assert_eq!(status["failures"]["Truncated"], 2);
    assert_eq!(status["remote_files"], 0);
    assert_eq!(status["live"], Value::Array(Vec::new()));
    assert_eq!(status["run"]["status"], "completed");
    let ended = world.run_to(0, &["status"]);
    ended.assert_says(&["3 of 4 done (75.0 %)", "2 Truncated"]);
    let failures = world.run_to(0, &["failures", "--summary", "--json"]).json();
    assert_eq!(failures["total"], 2);
    assert_eq!(failures["counted"], 2);
    assert_eq!(failures["pages"], 1);
    assert_eq!(failures["dead"], 1);
    assert_eq!(failures["by_type"]["Truncated"], 2);
    assert_eq!(failures["latest"][0]["record_key"], bad);
    let ended = world.run_to(0, &["failures", "--summary", "--limit", "1"]);
    ended.assert_says(&["2 failures on 1 pages", &bad]);
}

#[test]
fn init_writes_what_config_check_accepts() {
    let world = small();
    let folder = world.folder().join("fresh");
    fs::create_dir(&folder).unwrap();
    let init = world.start_in(&folder, &["init"]).wait();
    init.assert_code(0);
    let check = world.start_in(&folder, &["config", "check"]).wait();
    check.assert_code(0);
    let shown = world
        .start_in(&folder, &["config", "show", "--origin"])
        .wait();
    shown.assert_code(0);
    shown.assert_says(&["GOOGLE_GEMINI_BASE_URL"]);
    let before = contents(&folder);
    let again = world.start_in(&folder, &["init"]).wait();
    again.assert_code(1);
    again.assert_says(&["nothing was written"]);
    assert_eq!(contents(&folder), before);
    // Nothing to do is done.
    let run = world.start_in(&folder, &["run"]).wait();
    run.assert_code(0);
    assert_key_is_nowhere(&world);
}

#[test]
fn config_schema_is_a_schema_that_knows_its_own_file() {
    let world = small();
    let schema = world.run_to(0, &["config", "schema"]).json();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let file = fs::read_to_string(world.root().join("pagemill.yaml")).unwrap();
    let file: Value = serde_yaml::from_str(&file).unwrap();
    assert!(validator.is_valid(&file));
    assert!(!validator.is_valid(&serde_json::json!({"execution": {"max_retires": 3}})));
}

#[test]
fn the_demo_needs_nothing_and_ends_well() {
    let mut world = small();
    world.variable("GEMINI_API_KEY", None);
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&closed_port()));
    let folder = world.folder().join("demo");
    let demo = world.run_to(0, &["demo", "--dir", folder.to_str().unwrap()]);
    demo.assert_says(&[
        "10 pages of two books",
        "all done",
        "10 of 10 done",
        "## Failed pages",
    ]);
    let ended = world.run_to(2, &["demo", "--dir", folder.to_str().unwrap()]);
    ended.assert_says(&["demo"]);
}

#[test]
fn the_demo_takes_a_folder_below_the_one_it_is_started_in() {
    let world = small();
    let demo = world
        .start_in(world.folder(), &["demo", "--dir", "here"])
        .wait();
    demo.assert_code(0);
    demo.assert_says(&["10 of 10 done"]);
    assert!(world.folder().join("here/data/reports").is_dir());
}

#[test]
fn p13_the_key_is_in_no_file_log_or_process_list() {
    let world = World::new(&WorldOptions {
        books: 4,
        pages: 3,
        latency_ms: 300,
        faults: MILD,
        seed: 3,
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run", "--log-level", "trace", "--log-format", "json"]);
    let process = PathBuf::from(format!("/proc/{}/cmdline", running.id()));
    running.wait_until("a job", || world.ledger().jobs_made > 0);
    let line = fs::read(process).unwrap();
    assert!(memchr::memmem::find(&line, b"--log-level").is_some());
    assert_eq!(memchr::memmem::find(&line, KEY.as_bytes()), None);
    let ended = running.wait();
    ended.assert_code(0);
    assert!(ended.err.contains("\"level\":\"DEBUG\""), "{}", ended.err);
    for command in [
        vec!["status", "--json"],
        vec!["failures", "--summary"],
        vec!["config", "show", "--origin"],
        vec!["config", "show", "--json"],
        vec!["config", "check"],
    ] {
        world.run_to(0, &command);
    }
    assert_key_is_nowhere(&world);
    assert_eq!(world.ledger().unauthorized, 0);
}
