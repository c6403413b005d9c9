//! `pagemill status` and `pagemill runs`: what they say is what the database holds, before, beside
//! and after a run, and it fits the terminal.

use serde_json::Value;

use crate::kit::{Ended, World, WorldOptions, key};

const MIDDLE: &str = "('uploading','uploaded','batched','validating')";

fn assert_fits(ended: &Ended, width: usize) {
    for line in ended.out.lines() {
        assert!(line.chars().count() <= width, "{width}: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
}

/// Looks at a width.
fn at_width(world: &mut World, width: usize, arguments: &[&str]) -> Ended {
    world.variable("COLUMNS", Some(&width.to_string()));
    let ended = world.run_to(0, arguments);
    assert_fits(&ended, width);
    world.variable("COLUMNS", None);
    ended
}

fn listed(list: &Value) -> Vec<String> {
    let pages = list["pages"].as_array().unwrap().iter();
    let keys = pages.map(|page| page["record_key"].as_str().unwrap().to_owned());
    keys.collect()
}

fn keys_in(world: &World, stages: &str) -> Vec<String> {
    let sql = format!("SELECT record_key FROM pages WHERE stage IN {stages} ORDER BY rowid");
    let rows = world.rows(&sql);
    rows.into_iter().map(|mut row| row.remove(0)).collect()
}

/// The figures of `status --json` against those of the tables.
fn assert_figures(world: &World) -> Value {
    let status = world.run_to(0, &["status", "--json"]).json();
    let mut sum = 0;
    for (stage, count) in status["pages"].as_object().unwrap() {
        let sql = format!("SELECT count(*) FROM pages WHERE stage = '{stage}'");
        assert_eq!(count.as_i64().unwrap(), world.number(&sql), "{stage}");
        sum += count.as_i64().unwrap();
    }
    assert_eq!(sum, world.number("SELECT count(*) FROM pages"));
    for (state, count) in status["batches"].as_object().unwrap() {
        let sql = format!("SELECT count(*) FROM submissions WHERE state = '{state}'");
        assert_eq!(count.as_i64().unwrap(), world.number(&sql), "{state}");
    }
    let reasons = &status["reasons"];
    let discovered: u64 = [
        "ready",
        "wait_for_the_page_before",
        "wait_for_their_time",
        "held_by_their_batch",
        "outside_the_scope",
    ]
    .iter()
    .map(|reason| reasons[reason].as_u64().unwrap())
    .sum();
    assert_eq!(status["pages"]["discovered"], discovered);
    let done = status["pages"]["completed"].as_f64().unwrap();
    let counted = sum as f64 - status["pages"]["skipped"].as_f64().unwrap();
    let percent = status["percent"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&percent));
    assert!((percent - done * 100.0 / counted.max(1.0)).abs() <= 0.1);
    status
}

#[test]
fn s2_05_s2_33_s2_35_s3_21_s3_30_status_tells_what_the_tables_hold_and_fits_the_terminal() {
    let bad = key(1, 2);
    let faults = format!("pages: [{{key: '{bad}', kind: truncated, times: always}}]");
    let mut world = World::new(&WorldOptions {
        books: 2,
        pages: 3,
        faults: &faults,
        settings: &[
            ("execution.max_retries", "1"),
            ("execution.on_dead_predecessor", "block"),
        ],
        ..WorldOptions::default()
    });
    world.run_to(75, &["run", "--limit", "2", "--label", "first night"]);
    let status = assert_figures(&world);
    assert_eq!(status["version"], 1);
    assert_eq!(status["run"]["label"], "first night");
    assert_eq!(status["run"]["restarts"], 0);
    assert_eq!(status["run"]["last_checkpoint"], status["last_event_at"]);
    assert_eq!(status["eta"]["known"], true, "{status}");
    assert_eq!(status["eta"]["chain"], 2);
    assert!(status["eta"]["seconds"].as_u64() >= status["eta"]["least_seconds"].as_u64());
    world.run_to(3, &["run"]);
    let status = assert_figures(&world);
    assert_eq!(status["percent"], 66.6);
    assert_eq!(status["reasons"]["behind_a_fault"], 1);
    assert_eq!(status["reasons"]["faults"][0]["error_type"], "Truncated");
    assert_eq!(status["retries"][0]["failures"], 2);
    assert_eq!(status["eta"]["pages_left"], 0);
    assert_eq!(status["queue"]["pages_to_upload"], 0);
    let stays = status["stays"].as_array().unwrap();
    assert!(stays.iter().any(|stay| stay["stage"] == "batched"));
    for width in [80, 160] {
        let ended = at_width(&mut world, width, &["status"]);
        ended.assert_says(&[
            "4 of 6 done (66.6 %)",
            "1 page has failed so far: 1 maxed",
            "of 18.0 GiB in 0 files",
            "1 Truncated",
        ]);
        assert!(!ended.out.contains('\u{1b}'), "no colors but on a terminal");
        let ended = at_width(
            &mut world,
            width,
            &["status", "--stage", "dead", "discovered"],
        );
        ended.assert_says(&[&bad, "waits for page 2"]);
    }
    // What stands behind the dead page is told with it.
    world
        .run_to(0, &["status"])
        .assert_says(&["1 of them behind a page that is dead"]);
    let none = world.run_to(0, &["status", "--stage", "review", "skipped"]);
    none.assert_says(&["no page is in stage review or skipped"]);
}

#[test]
fn s2_34_s2_35_nothing_is_zero_percent_and_its_end_is_unknown() {
    let world = World::new(&WorldOptions {
        pages: 2,
        latency_ms: 600_000,
        ..WorldOptions::default()
    });
    world.run_to(75, &["run", "--once"]);
    let status = assert_figures(&world);
    assert_eq!(status["percent"], 0.0);
    assert_eq!(status["eta"]["known"], false);
    assert_eq!(status["eta"]["at"], Value::Null);
    let ended = world.run_to(0, &["status"]);
    ended.assert_says(&[
        "0 of 2 done (0.0 %)",
        "eta      unknown: nothing was accepted",
    ]);
}

#[test]
fn s2_27_s2_20_after_a_kill_the_pages_in_the_middle_are_those_of_the_invariant() {
    let world = World::new(&WorldOptions {
        books: 6,
        pages: 2,
        latency_ms: 600_000,
        settings: &[
            ("execution.context", "none"),
            ("execution.batch_size_limit", "4"),
        ],
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run"]);
    running.wait_until_said(&["batch submitted"]);
    // Beside the run: it is not disturbed, and the figures are of one moment each.
    world.run_to(0, &["status", "--json"]);
    running.kill();
    assert_figures(&world);
    let list = world
        .run_to(0, &["status", "--incomplete", "--json"])
        .json();
    let mut found = listed(&list);
    let mut expected = keys_in(&world, MIDDLE);
    assert!(!expected.is_empty());
    assert_eq!(list["in_stages"], expected.len());
    assert_eq!(list["more"], false);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let few = world.run_to(0, &["status", "--incomplete", "--limit", "1"]);
    assert_eq!(few.out.lines().count(), 3, "{}", few.out);
    few.assert_says(&[&format!("… and {} more: --limit N", expected.len() - 1)]);
    // By stage and by a part of the tree.
    let stage = [
        "status",
        "--json",
        "--stage",
        "batched",
        "uploaded",
        "discovered",
    ];
    let some = [stage.as_slice(), &["--states", "S1"]].concat();
    let expected = world
        .rows("SELECT record_key FROM pages WHERE record_key LIKE 'S1:%'")
        .len();
    assert_eq!(listed(&world.run_to(0, &some).json()).len(), expected);
    // What cannot be meant is answered with what to type.
    world
        .run_to(2, &["status", "--states", "S1"])
        .assert_says(&["--stage dead, or --incomplete"]);
    world
        .run_to(2, &["status", "--stage", "deed"])
        .assert_says(&["'dead'"]);
    let where_ = ["status", "--stage", "dead", "--where", "town=Lima"];
    world
        .run_to(2, &where_)
        .assert_says(&["its levels are state, school, year, page"]);
}

#[test]
fn s3_03_s3_04_s3_22_s4_06_s4_33_s4_35_runs_are_listed_and_shown_with_settings_and_recipe() {
    let mut world = World::new(&WorldOptions {
        pages: 2,
        ..WorldOptions::default()
    });
    world
        .run(&["runs", "list"])
        .assert_says(&["there is no database at"]);
    world.run_to(
        75,
        &[
            "run", "--run-id", "night-1", "--label", "first", "--limit", "1",
        ],
    );
    world.run_to(0, &["run", "--run-id", "night-1"]);
    world.run_to(0, &["run", "--run-id", "night-2"]);
    let list = world.run_to(0, &["runs", "list", "--json"]).json();
    assert_eq!((&list["version"], &list["total"]), (&1.into(), &2.into()));
    assert_eq!(list["runs"][0]["run_id"], "night-2");
    let first = &list["runs"][1];
    assert_eq!(first["restarts"], 1);
    assert_eq!(first["status"], "completed");
    assert_eq!(first["totals"]["completed"], 2);
    assert_eq!(first["succeeded"], 2);
    let cost = world.number("SELECT sum(cost_nanos) FROM submissions") as f64 / 1e9;
    assert_eq!(first["cost_usd"], cost);
    let shown = world
        .run_to(0, &["runs", "show", "night-1", "--json"])
        .json();
    assert_eq!(shown["recipe"]["model"], "gemini-3.8-flash");
    assert!(
        shown["recipe"]["prompt_template"]
            .as_str()
            .unwrap()
            .starts_with("Transcribe")
    );
    let config = shown["config"].as_str().unwrap();
    assert!(
        config.contains("max_retries: 8") && !config.contains(crate::kit::KEY),
        "{config}"
    );
    let sha256 = crate::kit::sha256(config.as_bytes());
    assert_eq!(shown["config_sha256"], sha256);
    for width in [80, 160] {
        at_width(&mut world, width, &["runs", "list"]).assert_says(&["night-1", "completed"]);
    }
    let text = world.run_to(0, &["runs", "show", "night-1"]);
    text.assert_says(&[
        "2 of 2 done",
        "its prompt, page_ocr:",
        "its settings, without secrets:",
    ]);
    world
        .run_to(0, &["runs", "list", "--limit", "1"])
        .assert_says(&["… and 1 more: --limit N"]);
    // A beginning is enough where it fits one run.
    world
        .run_to(1, &["runs", "show", "night"])
        .assert_says(&["several runs begin with 'night': night-1, night-2; give more of the id"]);
    let none = world.run_to(1, &["runs", "show", "day"]);
    none.assert_says(&["there is no run 'day'; pagemill runs list names them"]);
}

#[test]
fn watching_elsewhere_than_on_a_terminal_prints_a_block_each_time_and_ends_on_a_signal() {
    let world = World::new(&WorldOptions::default());
    world.run_to(0, &["run"]);
    let mut running = world.start(&["status", "--watch", "1", "--json"]);
    running.wait_until_printed(&|out| out.lines().count() >= 2);
    running.signal("INT");
    let ended = running.wait();
    ended.assert_code(0);
    for line in ended.out.lines() {
        let status: Value = serde_json::from_str(line).unwrap();
        assert_eq!(status["percent"], 100.0);
    }
    world.run_to(2, &["status", "--watch", "0"]);
}
