//! The operator's playbook, step by step, with the real binary on a state that a run made.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::books::Books;
use crate::kit::{Ended, World, WorldOptions, key, sha256};

/// Four books in four states; the second page of each book fails once more than it may.
const FAILS_TWICE: &str = "pages: [{key: '*:2', kind: invalid_json, times: 2}]";

fn dead_letters() -> World {
    let world = World::new(&WorldOptions {
        books: 4,
        pages: 3,
        faults: FAILS_TWICE,
        settings: &[
            ("execution.max_retries", "1"),
            ("breaker.pilot_pages", "0"),
            ("breaker.identical_failures", "0"),
        ],
        ..WorldOptions::default()
    });
    world.run_to(3, &["run"]);
    assert_eq!(dead(&world).len(), 4);
    world
}

fn dead(world: &World) -> Vec<String> {
    let sql = "SELECT record_key FROM pages WHERE stage = 'dead' ORDER BY 1";
    world.rows(sql).into_iter().flatten().collect()
}

fn orders(world: &World) -> Vec<Vec<String>> {
    world.rows("SELECT command, by_whom, reason, state FROM orders ORDER BY order_id")
}

/// The counts of an order's answer.
fn counts(ended: &Ended) -> serde_json::Value {
    ended.json()["counts"].clone()
}

fn database_bytes(world: &World) -> String {
    sha256(&fs::read(world.database()).unwrap())
}

#[test]
fn s1_14_playbook_a_how_to_resume_is_to_start_again() {
    let world = World::new(&WorldOptions {
        books: 4,
        pages: 2,
        latency_ms: 1_500,
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run"]);
    running.wait_until_said(&["batch submitted"]);
    running.kill();
    let active = world.rows("SELECT batch_id FROM active_batches WHERE status = 'active'");
    assert!(!active.is_empty());
    world.run_to(0, &["run"]);
    for batch in active {
        let sql = format!(
            "SELECT state FROM submissions WHERE batch_id = '{}'",
            batch[0]
        );
        assert_eq!(
            world.rows(&sql),
            [["settled"]],
            "an active batch is polled again"
        );
    }
    Books::default().check(&world);
    assert!(
        world
            .ledger()
            .requests_by_key
            .values()
            .all(|count| *count == 1)
    );
}

#[test]
fn s1_15_playbook_b_a_done_page_runs_again_when_its_output_is_deleted_or_redone() {
    let world = World::new(&WorldOptions {
        books: 1,
        pages: 3,
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    let page = key(0, 2);
    let first = fs::read(world.output(&page)).unwrap();

    // 1. Delete the file, 2. clear its failures, 3. the scan finds it missing.
    fs::remove_file(world.output(&page)).unwrap();
    let cleared = world.run_to(
        0,
        &[
            "clear-failures",
            "--states",
            "S0",
            "--schools",
            "School 0",
            "--year-start",
            "1849",
            "--year-end",
            "1849",
            "--yes",
        ],
    );
    cleared.assert_says(&["nothing to do"]);
    world.run_to(0, &["run"]);
    assert!(world.output(&page).exists());
    assert_eq!(world.ledger().requests_by_key[&page], 2);

    // The same in one command, with the old output kept.
    let redone = world.run_to(
        0,
        &[
            "redo",
            "--key",
            &page,
            "--reset-failures",
            "--yes",
            "--json",
            "--reason",
            "blurred",
        ],
    );
    assert_eq!(counts(&redone)["done pages to run again"], 1);
    assert!(!world.output(&page).exists());
    assert!(
        holds(&world.root().join("data/revisions"), &first),
        "the old output is a revision"
    );
    world.run_to(0, &["run"]);
    assert_eq!(world.ledger().requests_by_key[&page], 3);
    world.run_to(0, &["verify"]);
    let why = world.rows(&format!(
        "SELECT details->>'why', details->>'cause' FROM page_events
         WHERE record_key = '{page}' AND event = 'requeued' ORDER BY id"
    ));
    let expected = [["", "output_vanished"], ["blurred", "operator"]];
    assert_eq!(why, expected);
}

/// Whether a file below a folder holds exactly this.
fn holds(folder: &Path, wanted: &[u8]) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            holds(&path, wanted)
        } else {
            fs::read(&path).unwrap() == wanted
        }
    })
}

#[test]
fn s1_17_playbook_c_dead_letters_are_unblocked_by_state_school_year_or_all() {
    let world = dead_letters();

    // A dry run says what the real one does, and changes nothing.
    let before = database_bytes(&world);
    let dry = world.run_to(
        0,
        &["clear-failures", "--states", "S1", "--dry-run", "--json"],
    );
    assert_eq!(database_bytes(&world), before, "s1_21: byte for byte");
    let real = world.run_to(
        0,
        &[
            "clear-failures",
            "--states",
            "S1",
            "--yes",
            "--json",
            "--by",
            "ann",
            "--reason",
            "x",
        ],
    );
    assert_eq!(dry.json()["preview"]["counts"], counts(&real));
    assert_eq!(counts(&real)["dead pages to run again"], 1);
    assert_eq!(counts(&real)["failure counts cleared"], 1);
    assert_eq!(dead(&world), [key(0, 2), key(2, 2), key(3, 2)]);
    assert_eq!(
        orders(&world),
        [["clear-failures", "ann", "x", "done"]],
        "s1_07"
    );

    // Schools of a state, a range of years, any level.
    let school = [
        "clear-failures",
        "--states",
        "S2",
        "--schools",
        "School 1",
        "School 2",
        "--yes",
    ];
    world.run_to(0, &school);
    assert_eq!(dead(&world), [key(0, 2), key(3, 2)]);
    let years = [
        "clear-failures",
        "--year-start",
        "1852",
        "--year-end",
        "1852",
        "--yes",
    ];
    world.run_to(0, &years);
    assert_eq!(dead(&world), [key(0, 2)]);
    world
        .run_to(
            0,
            &["clear-failures", "--where", "year=1800..1840", "--yes"],
        )
        .assert_says(&["no known page is meant"]);

    // Nobody says yes: nothing happens.
    world
        .run_to(1, &["clear-failures", "--all"])
        .assert_says(&["nothing was changed"]);
    assert_eq!(dead(&world).len(), 1);
    world.run_to(0, &["clear-failures", "--all", "--yes"]);
    assert!(dead(&world).is_empty());
    assert_eq!(world.number("SELECT count(*) FROM failure_counts"), 0);
    assert_eq!(
        world.number("SELECT count(*) FROM failure_logs"),
        8,
        "s3_16: history stays"
    );

    // They are fresh candidates, and the provider is well again.
    world.run_to(0, &["run"]);
    world.run_to(0, &["verify"]);
    assert!(world.output(&key(1, 2)).exists());
}

#[test]
fn s1_22_playbook_d_a_stuck_batch_is_forgotten_in_one_transaction_and_its_place_is_free() {
    let world = World::new(&WorldOptions {
        books: 1,
        pages: 2,
        latency_ms: 600_000,
        settings: &[("execution.max_concurrent_batches", "1")],
        ..WorldOptions::default()
    });
    world.run_to(75, &["run", "--once"]);
    let batch = world.rows("SELECT batch_id FROM active_batches")[0][0].clone();

    let before = database_bytes(&world);
    let dry = world.run_to(0, &["batches", "forget", &batch, "--dry-run"]);
    dry.assert_says(&["forgetting it frees 1 pages", "nothing was changed"]);
    assert_eq!(database_bytes(&world), before);
    let forget = [
        "batches",
        "forget",
        &batch,
        "--cancel-remote",
        "--yes",
        "--reason",
        "stuck",
    ];
    world.run_to(0, &forget);

    assert_eq!(
        world.rows("SELECT status FROM active_batches"),
        [["failed"]]
    );
    assert_eq!(world.number("SELECT count(*) FROM inflight_records"), 0);
    let pages = "SELECT count(*) FROM pages WHERE batch_id IS NOT NULL";
    assert_eq!(world.number(pages), 0);
    assert_eq!(
        world.rows("SELECT cancel_sent_at IS NOT NULL FROM submissions"),
        [["1"]]
    );
    let again = world.run(&["batches", "forget", &batch, "--yes"]);
    again.assert_code(1);
    again.assert_says(&["is abandoned: there is nothing to end"]);

    // Open capacity: the next run creates a new batch.
    world.run_to(75, &["run", "--once"]);
    let batches = world.rows("SELECT state FROM submissions ORDER BY batch_id");
    assert_eq!(batches, [["abandoned"], ["submitted"]], "s1_25");
    world.run_to(0, &["verify"]);
}

#[test]
fn s1_33_playbook_observability_the_tables_and_views_answer_plain_sql() {
    let world = dead_letters();
    for (sql, rows) in [
        ("SELECT batch_id FROM v_active_batches", 0),
        ("SELECT record_key FROM v_inflight", 0),
        ("SELECT record_key FROM v_failures WHERE stage = 'dead'", 8),
        ("SELECT record_key FROM failure_counts WHERE count = 2", 4),
        (
            "SELECT record_key FROM failure_logs WHERE error_type = 'JSONDecodeError'",
            8,
        ),
    ] {
        assert_eq!(world.rows(sql).len(), rows, "{sql}");
    }
    let batches = world.number("SELECT count(*) FROM active_batches WHERE status = 'completed'");
    assert!(batches >= 4, "{batches}");
    let reports = fs::read_dir(world.root().join("data/reports")).unwrap();
    assert_eq!(reports.count() as i64, batches, "one report a batch");
    let markdown = world
        .rows("SELECT markdown FROM reports")
        .concat()
        .join("\n");
    assert!(markdown.contains("retry 1 of 1"), "s1_28: {markdown}");
    assert!(markdown.contains("maxed"), "s0_38: {markdown}");
}

#[test]
fn s1_30_s4_04_each_batch_tells_its_steps_once_at_info_under_the_id_that_the_tables_have() {
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 2,
        ..WorldOptions::default()
    });
    let ended = world.run_to(0, &["run", "--log-format", "json", "--log-level", "debug"]);
    let lines = ended.err.lines();
    let lines: Vec<Value> = lines.flat_map(serde_json::from_str).collect();
    let at_info: Vec<&Value> = lines.iter().filter(|l| l["level"] == "INFO").collect();
    let batches = world.rows("SELECT batch_id, display_name FROM submissions");
    assert!(batches.len() >= 2, "{batches:?}");
    for batch in &batches {
        let of_batch = at_info
            .iter()
            .filter(|l| l["batch.id"] == batch[0].as_str());
        let steps: Vec<&str> = of_batch.flat_map(|l| l["message"].as_str()).collect();
        let expected = [
            "batch planned",
            "batch submitted",
            "results offered",
            "results fetched",
            "batch settled",
        ];
        assert_eq!(steps, expected);
        // The same id is in the provider's list, and in the history of each page.
        assert!(batch[1].ends_with(&batch[0]), "{batch:?}");
        let events = format!(
            "SELECT DISTINCT event FROM page_events
             WHERE batch_id = '{0}' AND correlation_id = '{0}' ORDER BY 1",
            batch[0]
        );
        let events: Vec<String> = world.rows(&events).into_iter().flatten().collect();
        assert_eq!(events, ["accepted", "answer_at_hand", "packed"]);
    }
    // Single pages are told of at debug.
    assert!(at_info.iter().all(|line| line.get("page.key").is_none()));
    assert!(lines.iter().any(|line| line.get("page.key").is_some()));
}

#[test]
fn s1_32_a_rejected_answer_is_one_warning_and_its_causes_are_in_the_failure_log() {
    let bad = key(0, 1);
    let faults = format!("pages: [{{key: '{bad}', kind: invalid_schema, times: 1}}]");
    let world = World::new(&WorldOptions {
        faults: &faults,
        ..WorldOptions::default()
    });
    let ended = world.run_to(0, &["run", "--log-format", "json"]);
    let lines = ended.err.lines();
    let lines: Vec<Value> = lines.flat_map(serde_json::from_str).collect();
    let told: Vec<&Value> = lines
        .iter()
        .filter(|l| l["page.key"] == bad.as_str())
        .collect();
    let [told] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(told["level"], "WARN");
    assert_eq!(told["message"], "answer rejected");
    assert_eq!(told["error"], "ValidationError");
    let logged = world.rows(
        "SELECT l.record_key, l.error_type, l.error_message, l.error_traceback <> '',
                s.state FROM failure_logs AS l JOIN submissions AS s USING (batch_id)",
    );
    let reason = told["reason"].as_str().unwrap();
    assert_eq!(
        logged,
        [[bad.as_str(), "ValidationError", reason, "1", "settled"]]
    );
    assert!(lines.iter().all(|line| line["level"] != "ERROR"));
}

/// The tables, indexes and views of a database, with how they are made.
fn shape(world: &World) -> Vec<Vec<String>> {
    world.rows("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
}

#[test]
fn s1_24_playbook_maintenance_recreated_tables_are_those_of_a_fresh_database() {
    let fresh = World::new(&WorldOptions::default());
    fresh.run_to(0, &["run"]);
    let world = dead_letters();
    let before = database_bytes(&world);
    world
        .run_to(0, &["nuke", "--recreate-tables", "--dry-run"])
        .assert_says(&["failure_logs", "nothing was changed"]);
    world
        .run_to(2, &["nuke", "--confirm", "--recreate-tables"])
        .assert_says(&["nothing was deleted"]);
    assert_eq!(database_bytes(&world), before);
    world.run_to(0, &["nuke", "--confirm", "--recreate-tables", "--yes"]);
    assert_eq!(shape(&world), shape(&fresh));
    assert_eq!(world.number("SELECT count(*) FROM failure_counts"), 0);
}

#[test]
fn s1_38_playbook_counts_of_done_pages_are_pruned_and_nothing_runs_again() {
    let world = World::new(&WorldOptions {
        books: 4,
        pages: 2,
        faults: "pages: [{key: '*:2', kind: invalid_json, times: 1}]",
        settings: &[("breaker.pilot_pages", "0")],
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    let counts = "SELECT count(*) FROM failure_counts";
    assert_eq!(world.number(counts), 4);
    let requests = world.ledger().requests_by_key;

    let some = ["clear-failures", "--completed", "--states", "S1"];
    let before = database_bytes(&world);
    world.run_to(0, &[&some[..], &["--dry-run"]].concat());
    assert_eq!(database_bytes(&world), before);
    world.run_to(0, &[&some[..], &["--yes"]].concat());
    assert_eq!(world.number(counts), 3);
    world.run_to(0, &["clear-failures", "--completed", "--all", "--yes"]);
    assert_eq!(world.number(counts), 0);

    world.run_to(0, &["run"]);
    assert_eq!(world.ledger().requests_by_key, requests);
    assert_eq!(world.number("SELECT count(*) FROM failure_logs"), 4);
    world.run_to(0, &["verify"]);
}

/// The log lines of a child.
fn log(ended: &Ended) -> Vec<Value> {
    let lines = ended.err.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn s1_32_playbook_api_faults_and_halts_are_told_with_their_causes() {
    let world = World::new(&WorldOptions {
        faults: "create_500: {rate: 1, at_most: 1}
pages: [{key: '*', kind: invalid_json, times: 1}]",
        settings: &[
            ("breaker.pilot_pages", "1"),
            ("breaker.pilot_accept_percent", "100"),
        ],
        ..WorldOptions::default()
    });
    let ended = world.run_to(75, &["run", "--log-format", "json", "--log-level", "warn"]);
    let lines = log(&ended);
    let told = |message: &str| {
        let mut told = lines.iter().filter(|line| line["message"] == message);
        told.next()
            .unwrap_or_else(|| panic!("{message}: {}", ended.err))
    };
    let (page, batch) = (
        key(0, 1),
        &world.rows("SELECT batch_id FROM submissions")[0][0],
    );
    let refused = told("create was not answered with a job");
    assert_eq!(refused["batch.id"], **batch);
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.starts_with("create a batch: HTTP 500"), "{reason}");
    let rejected = told("answer rejected");
    assert_eq!(rejected["page.key"], page.as_str());
    assert_eq!(rejected["error"], "JSONDecodeError");
    let reason = rejected["reason"].as_str().unwrap();
    assert!(reason.starts_with("not JSON: "), "{reason}");
    let halted = told("submission is halted; collection goes on");
    assert_eq!(halted["level"], "ERROR");
    assert!(
        halted["remedy"]
            .as_str()
            .unwrap()
            .contains("pagemill resume")
    );
    // The table has the same words, and the answer that they are about.
    let row = &world.rows("SELECT error_message, raw_response_text FROM failure_logs")[0];
    assert_eq!(row[0], reason);
    assert!(row[1].contains(&page), "{}", row[1]);
}
