//! `pagemill failures`: the figures, the lists and the exports of one world with every kind of end.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kit::{World, WorldOptions, key, rows, wait_for};

/// Two books: one page is dead of its schema, one came through at the second try.
struct Plot {
    world: World,
    dead: String,
    second: String,
}

fn failed() -> Plot {
    let (dead, second) = (key(1, 2), key(0, 1));
    let faults = format!(
        "pages:
  - {{key: '{dead}', kind: invalid_schema, times: always}}
  - {{key: '{second}', kind: truncated, times: 1}}"
    );
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 2,
        faults: &faults,
        settings: &[("execution.max_retries", "1")],
        ..WorldOptions::default()
    });
    world.run_to(3, &["run"]);
    Plot {
        world,
        dead,
        second,
    }
}

/// Writes to the database as another program might.
fn plant(database: &Path, sql: &str) {
    use sea_orm::ConnectionTrait;
    wait_for(async {
        let connection = sqlite::connect_to(database).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn s1_34_s1_35_s1_36_s0_22_s3_31_every_view_tells_the_same_story() {
    let Plot {
        world,
        dead,
        second,
    } = failed();
    // Without a flag: the summary.
    let plain = world.run_to(0, &["failures"]);
    let summary = world.run_to(0, &["failures", "--summary"]);
    assert_eq!(plain.out, summary.out);
    plain.assert_says(&[
        "3 failures on 2 pages; 3 count against their page; 1 pages dead, 0 in review",
        "  ValidationError             2",
        "newest:",
    ]);
    let json = world.run_to(0, &["failures", "--json"]).json();
    assert_eq!(json["version"], 1);
    assert_eq!(json["total"], 3);
    assert_eq!(json["by_type"]["Truncated"], 1);
    assert_eq!(json["latest"].as_array().unwrap().len(), 3);

    let all = [
        "failures",
        "--by-error-type",
        "--by-state",
        "--by-school",
        "--by",
        "year",
        "--dead",
        "--json",
    ];
    let json = world.run_to(0, &all).json();
    let levels = json["by_level"].as_array().unwrap();
    let names: Vec<&str> = levels
        .iter()
        .map(|by| by["level"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["state", "school", "year"]);
    // Beside another view, --dead leaves only the failures of dead pages.
    assert_eq!(levels[0]["groups"][0]["name"], "S1");
    assert_eq!(levels[0]["groups"][0]["failures"], 2);
    assert_eq!(levels[0]["groups_in_all"], 1);
    assert_eq!(json["given_up"][0]["record_key"], dead.as_str());
    let ended = world.run_to(0, &["failures", "--by-state", "--by-error-type"]);
    ended.assert_says(&["error type", "state", "S0", "S1"]);

    // S0-22: the dead page and its last reason.
    let ended = world.run_to(0, &["failures", "--dead"]);
    ended.assert_says(&["1 pages dead, 0 in review", &dead, "ValidationError"]);
    assert!(!ended.out.contains(&second), "{}", ended.out);

    // S1-36: one page, all its requests.
    let ended = world.run_to(0, &["failures", "--record-key", &dead]);
    ended.assert_says(&[
        "dead",
        "attempt 1 in batch",
        "attempt 2 in batch",
        "2 failures logged",
    ]);
    let json = world
        .run_to(0, &["failures", "--record-key", &second, "--json"])
        .json();
    assert_eq!(json["page"]["stage"], "completed");
    let outcomes: Vec<&str> = json["page"]["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["rejected", "accepted"]);

    // Filters narrow every view.
    let truncated = [
        "failures",
        "--error-type",
        "truncated",
        "--states",
        "S0",
        "--json",
    ];
    assert_eq!(world.run_to(0, &truncated).json()["total"], 1);
    let nowhere = [
        "failures",
        "--states",
        "S0",
        "--error-type",
        "ValidationError",
    ];
    assert_eq!(world.run_to(0, &nowhere).out, "no failures\n");
    let before = ["failures", "--until", "2020-01-01"];
    assert_eq!(world.run_to(0, &before).out, "no failures\n");
}

#[test]
fn s0_26_s0_29_s0_30_s0_31_answers_groups_and_days_are_at_hand() {
    let Plot {
        world,
        dead,
        second,
    } = failed();
    let raw = ["failures", "--record-key", &dead, "--raw"];
    let ended = world.run_to(0, &raw);
    ended.assert_says(&[
        "text of the answer",
        "prompt template",
        "Transcribe {{ key }}",
        "gemini-3.8-flash",
        "raw line",
        "data/raw/",
    ]);
    let json = world
        .run_to(0, &["failures", "--record-key", &dead, "--raw", "--json"])
        .json();
    let raw = &json["latest"][0]["raw"];
    let line = raw["raw_line"]["text"].as_str().unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["key"], dead.as_str());
    assert!(raw["raw_response_text"].is_string(), "{raw}");
    assert!(raw["raw_response_json"].is_string(), "{raw}");
    // The raw results may have been moved away: the log still has the answer.
    for file in fs::read_dir(world.root().join("data/raw")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let ended = world.run_to(0, &["failures", "--record-key", &dead, "--raw"]);
    ended.assert_says(&["which is not there any more", "text of the answer"]);

    // Two failures that differ only in numbers and names are one group.
    plant(
        &world.database(),
        &format!(
            "INSERT INTO failure_logs (record_key, batch_id, attempt_number, error_type,
                 error_message, error_traceback, counted, created_at)
             VALUES ('{dead}', '', 1, 'ApiError', 'no ''a'' in line 3 of {dead}', '', 0,
                     '2026-11-20T00:00:00.000000Z'),
                    ('{second}', '', 1, 'ApiError', 'no ''b'' in line 44 of {second}', '', 0,
                     '2026-11-20T23:59:59.999999Z')"
        ),
    );
    let clusters = ["failures", "--clusters", "--error-type", "ApiError"];
    let ended = world.run_to(0, &clusters);
    ended.assert_says(&["2  ApiError on 2 pages", "no '…' in line # of <key>"]);
    let trend = [
        "failures",
        "--trend",
        "--since",
        "2026-11-19",
        "--until",
        "2026-11-21",
        "--json",
    ];
    let trend = world.run_to(0, &trend).json();
    let days = trend["trend"]["days"].as_array().unwrap();
    assert_eq!(days.len(), 1, "{trend}");
    assert_eq!(days[0]["day"], "2026-11-20");
    assert_eq!(days[0]["by_type"]["ApiError"], 2);
    let trend = [
        "failures",
        "--trend",
        "--since",
        "2026-11-19",
        "--until",
        "2026-11-21",
    ];
    world
        .run_to(0, &trend)
        .assert_says(&["2026-11-19    -", "2026-11-20    2"]);
}

/// What a CSV file holds, the heading first.
fn read_csv(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(path)
        .unwrap();
    reader
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect()
}

#[test]
fn s1_37_exports_are_what_the_table_holds() {
    let Plot { world, dead, .. } = failed();
    let nasty = "=1+1, \"quoted\"\r\nand\nlines, Élève";
    plant(
        &world.database(),
        &format!(
            "UPDATE failure_logs SET error_message = '{nasty}', raw_response_text = '{nasty}'
             WHERE id = (SELECT min(id) FROM failure_logs)"
        ),
    );
    let columns = rows(
        &world.database(),
        "SELECT name FROM pragma_table_info('failure_logs') ORDER BY cid",
    );
    let columns: Vec<String> = columns.into_iter().flatten().collect();
    let table = world.rows("SELECT * FROM failure_logs ORDER BY id");

    let csv = world.root().join("failures.csv");
    fs::write(&csv, "what was there before").unwrap();
    let lines = world.root().join("failures.jsonl");
    let ended = world.run_to(
        0,
        &[
            "failures",
            "--export-csv",
            "failures.csv",
            "--export-jsonl",
            "failures.jsonl",
        ],
    );
    assert_eq!(ended.out, "");
    ended.assert_says(&["3 failures written to failures.csv", "--for-spreadsheets"]);
    let text = fs::read_to_string(&csv).unwrap();
    assert!(text.starts_with("id,record_key,batch_id,"), "{text}");
    assert!(text.ends_with("\r\n"));
    let read = read_csv(&csv);
    assert_eq!(read[0], columns);
    assert_eq!(read[1..], table);

    let objects: Vec<Value> = fs::read_to_string(&lines)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 3);
    for (object, row) in objects.iter().zip(&table) {
        let names: Vec<&String> = object.as_object().unwrap().keys().collect();
        assert_eq!(names, columns.iter().collect::<Vec<_>>());
        for (name, expected) in columns.iter().zip(row) {
            let value = match &object[name] {
                Value::String(text) => text.clone(),
                Value::Bool(truth) => i64::from(*truth).to_string(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            assert_eq!(value, *expected, "{name}");
        }
    }
    assert_eq!(objects[0]["error_message"], nasty);

    // To standard output, of some pages, with formulas disarmed.
    let to_stdout = ["failures", "--export-csv", "-", "--key", &dead];
    let ended = world.run_to(0, &to_stdout);
    assert!(ended.out.matches("\r\n").count() >= 3, "{}", ended.out);
    assert!(!ended.err.contains("written"), "{}", ended.err);
    world.run_to(
        0,
        &["failures", "--export-csv", "safe.csv", "--for-spreadsheets"],
    );
    assert_eq!(
        read_csv(&world.root().join("safe.csv"))[1][5],
        format!("'{nasty}")
    );
    // Nothing is left beside the files.
    let left: Vec<PathBuf> = fs::read_dir(world.root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "tmp"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn p13_exports_are_refused_where_pagemill_keeps_things() {
    let Plot { world, .. } = failed();
    for (path, role) in [
        ("dataset/output_results/x.csv", "paths.output_dir"),
        (
            "dataset/label_to_curricular/S0/x.csv",
            "paths.label_source_dir",
        ),
        ("dataset/raw_image_dataset/x.csv", "paths.image_source_dir"),
        ("data/raw/x.csv", "raw results"),
        ("data/gemini_batches.db", "is the database"),
        ("data/gemini_batches.db-wal", "is the database"),
    ] {
        let ended = world.run(&["failures", "--export-csv", path]);
        ended.assert_code(2);
        ended.assert_says(&[role, "name a"]);
    }
    let ended = world.run_to(1, &["failures", "--export-csv", "nowhere/x.csv"]);
    ended.assert_says(&["there is no such folder"]);
    for (arguments, words) in [
        (vec!["--export-csv", "-", "--json"], "leave out --json"),
        (
            vec!["--export-csv", "-", "--by-state"],
            "leave out what is to be shown",
        ),
        (
            vec!["--by", "town"],
            "its levels are state, school, year, page",
        ),
        (vec!["--since", "monday"], "a day such as 2026-11-22"),
        (
            vec!["--record-key", "nonsense"],
            "is no record key of this layout",
        ),
        (
            vec!["--record-key", "S0:School 0:1849:1", "--states", "S0"],
            "leave out",
        ),
        (vec!["--raw", "--limit", "500"], "--raw shows at most 100"),
        (vec!["--raw", "--trend"], "--raw goes with"),
        (vec!["--error-type", "Nonsense"], "ValidationError"),
    ] {
        let arguments: Vec<&str> = ["failures"].into_iter().chain(arguments).collect();
        let ended = world.run(&arguments);
        ended.assert_code(2);
        ended.assert_says(&[words]);
    }
}
