//! `pagemill bench`: a tiny sweep, what it leaves behind and what it leaves alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::kit::{World, WorldOptions, sha256};

/// Two points in three or four runs of twenty pages.
const TINY: [&str; 9] = [
    "bench",
    "--pages",
    "20",
    "--image-kb",
    "10",
    "--latency-ms",
    "20",
    "--out",
    "tuning",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = TINY.to_vec();
    arguments.extend(more);
    arguments
}

fn report(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("bench.json")).unwrap()).unwrap()
}

/// Every file below a folder with the hash of its content.
fn hashes(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let hash = sha256(&fs::read(&path).unwrap());
                found.insert(path, hash);
            }
        }
    }
    found
}

/// The processes that have this text among their arguments.
fn processes_with(text: &str) -> Vec<String> {
    let listed = Command::new("ps").args(["-eo", "pid,args"]).output();
    let listed = String::from_utf8_lossy(&listed.unwrap().stdout).into_owned();
    let lines = listed.lines().filter(|line| line.contains(text));
    // Whoever waits in this test has no such argument, and zombies have none at all.
    lines.map(str::to_owned).collect()
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{path} is no number in {value}"))
}

fn check_figures(figures: &Value) {
    assert_eq!(figures["completed"], 20, "{figures}");
    assert_eq!(figures["is_done"], true);
    assert!(number(figures, "/database/commits") > 0.0);
    assert!(
        number(figures, "/database/messages_committed") >= number(figures, "/database/commits")
    );
    assert!(number(figures, "/database/rows_changed") > 20.0);
    let cpu = &figures["cpu"];
    let stages = cpu["stages"].as_array().unwrap();
    let of_stages: f64 = stages
        .iter()
        .map(|stage| number(stage, "/actor") + number(stage, "/pool"))
        .sum();
    let database = cpu["database"].as_f64().unwrap_or(0.0);
    let parts = of_stages + database + number(cpu, "/connections") + number(cpu, "/other");
    let total = number(cpu, "/total");
    assert!((parts - total).abs() < 1e-6, "{parts} of {total}");
    // What nobody is named for is little, and no part was counted twice.
    assert!(number(cpu, "/other") > -0.02 * total, "{cpu}");
    assert!(number(cpu, "/other") < 0.3 * total, "{cpu}");
    assert!(number(cpu, "/connections") >= 0.0, "{cpu}");
    for stage in [
        "uploader",
        "batch submitter",
        "result processor",
        "state actor",
    ] {
        let found = stages.iter().find(|found| found["stage"] == stage).unwrap();
        let cost = number(found, "/actor") + number(found, "/pool");
        assert!(cost > 0.0, "{stage}: {found}");
    }
    for stage in figures["stages"].as_array().unwrap() {
        assert_eq!(number(stage, "/visits"), 20.0, "{stage}");
        assert!(number(stage, "/depth_max") <= 20.0, "{stage}");
    }
    let spots = figures["spots"].as_array().unwrap();
    let slots = spots.iter().find(|spot| spot["spot"] == "upload slot");
    let slots = slots.unwrap();
    assert!(number(slots, "/most") <= number(slots, "/limit"), "{slots}");
    assert!(
        number(slots, "/stays") >= 40.0,
        "a check and an upload of each page"
    );
}

#[test]
fn a_sweep_measures_writes_and_leaves_the_project_alone() {
    let mut world = World::new(&WorldOptions {
        books: 1,
        pages: 2,
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    let before = hashes(&world.root());
    let asked = world.ledger().requests_by_key;
    // A service that must not be met: the emulator of the sweep is its own.
    world.variable("GEMINI_API_KEY", None);
    let ended = world.run_to(0, &with(&["--upload-concurrency", "2,8"]));
    ended.assert_says(&[
        "pages/s",
        "settings to change first",
        "pages a day to expect",
    ]);
    let folder = world.root().join("tuning");
    let report = report(&folder);
    assert_eq!(
        (&report["version"], &report["is_whole"]),
        (&1.into(), &true.into())
    );
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len() >= 3, "the base and two values: {}", rows.len());
    let concurrencies: Vec<u64> = rows[..3]
        .iter()
        .map(|row| row["point"]["upload_concurrency"].as_u64().unwrap())
        .collect();
    assert_eq!(concurrencies, [16, 2, 8]);
    for row in rows {
        check_figures(&row["figures"]);
        assert!(!row["limit"].as_str().unwrap().is_empty());
    }
    let limits = report["expectation"]["limits"].as_array().unwrap();
    let days: Vec<u64> = limits
        .iter()
        .map(|limit| limit["pages_per_day"].as_u64().unwrap())
        .collect();
    assert!(days.is_sorted() && days[0] == 1_000, "{limits:?}");
    let table = fs::read_to_string(folder.join("bench.csv")).unwrap();
    assert_eq!(table.lines().count(), rows.len() + 1);
    let columns = |line: &str| line.split(',').count();
    let heading = columns(table.lines().next().unwrap());
    assert!(
        table.lines().all(|line| columns(line) == heading),
        "{table}"
    );
    let page = fs::read_to_string(folder.join("bench.html")).unwrap();
    for text in [
        "<svg class=\"plot\"",
        "id=\"plot-upload_concurrency\"",
        "How to read this",
    ] {
        assert!(page.contains(text), "{text}");
    }
    for outside in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let names: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let mut after = hashes(&world.root());
    after.retain(|path, _hash| !path.starts_with(&folder));
    assert_eq!(before, after, "the project was touched");
    assert_eq!(world.ledger().requests_by_key, asked);
    let left = processes_with(&folder.to_string_lossy());
    assert!(left.is_empty(), "{left:?}");
    // Its own results it may replace; a file of somebody else it may not.
    world.run_to(0, &with(&["--upload-concurrency", "2", "--dry-run"]));
    fs::write(folder.join("mine.txt"), "mine").unwrap();
    let refused = world.run_to(2, &with(&[]));
    refused.assert_says(&["mine.txt", "--out"]);
}

#[test]
fn without_a_configuration_a_sweep_has_the_defaults_and_a_made_project() {
    let world = World::new(&WorldOptions::default());
    let empty = world.folder().join("empty");
    fs::create_dir(&empty).unwrap();
    let arguments = with(&[
        "--uploads-per-second",
        "0",
        "--live-batches",
        "2,10",
        "--cross",
    ]);
    let ended = world.start_in(&empty, &arguments).wait();
    ended.assert_code(0);
    let report = report(&empty.join("tuning"));
    assert_eq!(report["base"]["uploads_per_second"], 0);
    assert_eq!(report["rows"].as_array().unwrap().len(), 2);
    assert!(!ended.err.contains("pagemill init"), "{}", ended.err);
}

#[test]
fn wrong_use_is_refused_before_anything_is_measured() {
    let world = World::new(&WorldOptions::default());
    for (arguments, says) in [
        (
            &["--upload-concurrency", "0"][..],
            &["--upload-concurrency", "1 to 256"][..],
        ),
        (&["--error-rate", "0.9"], &["--error-rate", "0 to 0.5"]),
        (&["--batch-size", "10,,20"], &["--batch-size", "''"]),
        (&["--turnaround-hours", "0"], &["--turnaround-hours", "72"]),
        (&["--cross"], &["--cross", "several values"]),
        (
            &["--pages", "100000", "--image-kb", "20000"],
            &["GB", "--pages"],
        ),
        (
            &["--out", "dataset/output_results/x"],
            &["paths.output_dir"],
        ),
        (&["--budget-usd", "1"], &["--live"]),
        (&["--live"], &["--budget-usd"]),
        (
            &["--live", "--budget-usd", "1", "--image-kb", "5"],
            &["--image-kb", "--live"],
        ),
        (&["--live", "--budget-usd=-1"], &["--budget-usd"]),
    ] {
        let mut words = vec!["bench"];
        words.extend(arguments);
        world.run_to(2, &words).assert_says(says);
    }
    assert!(!world.root().join("pagemill-bench").exists());
    let ended = world.run_to(0, &["bench", "--dry-run"]);
    ended.assert_says(&["points in", "about", "nothing was measured"]);
    assert!(!world.root().join("pagemill-bench").exists());
}

#[test]
fn a_stopped_sweep_writes_what_it_has_and_leaves_no_child() {
    let world = World::new(&WorldOptions::default());
    let folder = world.root().join("tuning");
    let marker = folder.to_string_lossy().into_owned();
    let mut running = world.start(&with(&["--upload-concurrency", "1,2,3,4,5,6,7,8"]));
    running.wait_until_said(&["upload_concurrency 2"]);
    running.signal("INT");
    let ended = running.wait();
    ended.assert_code(75);
    ended.assert_says(&["stopped", "pages/s"]);
    let report = report(&folder);
    assert_eq!(report["is_whole"], false);
    let rows = report["rows"].as_array().unwrap().len();
    assert!((3..9).contains(&rows), "{rows}");
    let names: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        processes_with(&marker).is_empty(),
        "{:?}",
        processes_with(&marker)
    );
}

#[test]
fn a_killed_sweep_takes_its_children_along() {
    let world = World::new(&WorldOptions::default());
    let folder = world.root().join("tuning");
    let marker = folder.to_string_lossy().into_owned();
    let mut arguments = TINY.to_vec();
    arguments[6] = "20000";
    let mut running = world.start(&arguments);
    let others = || {
        let found = processes_with(&marker);
        found
            .into_iter()
            .filter(|line| !line.contains("--pages"))
            .count()
    };
    running.wait_until("both children are there", || others() == 2);
    running.kill();
    // Their standard input is closed, and they end by themselves.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while others() > 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?}",
            processes_with(&marker)
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let refused = world.run_to(2, &TINY);
    refused.assert_says(&[".scratch-", "killed"]);
}

#[test]
fn a_live_bench_stays_within_its_budget_and_has_a_state_of_its_own() {
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 4,
        ..WorldOptions::default()
    });
    let live = ["bench", "--live", "--pages", "10", "--out", "tuning"];
    let mut poor = live.to_vec();
    poor.extend(["--budget-usd", "0.000001", "--yes"]);
    let refused = world.run_to(4, &poor);
    refused.assert_says(&["at most", "more than the budget", "nothing was sent"]);
    assert_eq!(world.ledger().creates_seen, 0);
    assert!(world.ledger().requests_by_key.is_empty());
    let mut unsaid = live.to_vec();
    unsaid.extend(["--budget-usd", "5"]);
    world.run_to(2, &unsaid).assert_says(&["--yes"]);
    assert_eq!(world.ledger().creates_seen, 0);
    let mut sent = unsaid.clone();
    sent.push("--yes");
    let ended = world.run_to(0, &sent);
    ended.assert_says(&["10 pages are sent", "pages/s"]);
    // Eight labels are there; each page was asked about once.
    let requests = world.ledger().requests_by_key;
    assert_eq!(requests.len(), 8, "{requests:?}");
    assert!(requests.values().all(|count| *count == 1), "{requests:?}");
    assert!(
        !world.database().exists(),
        "the project has no state of this"
    );
    let keys = world.pages.iter();
    assert!(
        keys.map(|page| world.output(&page.key))
            .all(|output| !output.exists())
    );
    let report = report(&world.root().join("tuning"));
    assert_eq!(report["is_live"], true);
    assert!(number(&report, "/rows/0/figures/cost_nanos") > 0.0);
    let text = fs::read_to_string(world.root().join("tuning/bench.json")).unwrap();
    assert!(!text.contains(crate::kit::KEY));
    assert_eq!(
        world.ledger().files_live,
        0,
        "files were left at the service"
    );
}
