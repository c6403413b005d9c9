//! What is done beside the work: old raw results in less space, still read by every command, and
//! reports of days that are over.

use std::fs;
use std::path::PathBuf;

use crate::kit::{World, WorldOptions, key, wait_for, write};

fn world(settings: &[(&str, &str)], latency_ms: u64) -> World {
    let usual = [
        ("execution.context", "none"),
        ("execution.batch_size_limit", "4"),
    ];
    World::new(&WorldOptions {
        books: 3,
        pages: 4,
        latency_ms,
        settings: &[&usual, settings].concat(),
        ..WorldOptions::default()
    })
}

/// Changes the database as only a test may.
fn plant(world: &World, sql: &str) {
    use sea_orm::ConnectionTrait;
    wait_for(async {
        let connection = sqlite::connect_to(&world.database()).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// The names of a folder of the work folder, sorted.
fn names(world: &World, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(world.root().join("data").join(folder));
    let entries = entries.into_iter().flatten().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Makes every batch one that was submitted and closed long ago, or yesterday.
fn age(world: &World, days: i64) {
    let before = format!("strftime('%Y-%m-%dT12:00:00.000000Z', 'now', '-{days} days')");
    plant(
        world,
        &format!(
            "UPDATE submissions SET submitted_at = {before}, created_at = {before},
                 updated_at = {before}, closed_at = {before}"
        ),
    );
}

#[test]
fn s2_39_old_raw_results_are_compressed_and_every_command_still_reads_them() {
    let mut world = world(&[], 0);
    world.run_to(0, &["run"]);
    let before = names(&world, "raw");
    assert!(!before.is_empty());
    let none = world.run_to(0, &["maintain"]);
    none.assert_says(&["0 raw result files and 0 exported files compressed"]);
    assert_eq!(names(&world, "raw"), before);

    age(&world, 31);
    let count = before.len();
    let dry = world.run_to(0, &["maintain", "--dry-run", "--json"]).json();
    assert_eq!((&dry["version"], &dry["raw"]), (&1.into(), &count.into()));
    let bytes = world.number("SELECT sum(raw_bytes) FROM submissions");
    assert_eq!(dry["bytes_before"], bytes);
    assert_eq!(names(&world, "raw"), before);
    let never = world.run_to(0, &["maintain", "--dry-run", "--older-than", "32"]);
    never.assert_says(&["0 raw result files"]);

    // One of them is not what was recorded: it is told, and left alone.
    let whole = world.root().join("data/raw").join(&before[0]);
    let content = fs::read(&whole).unwrap();
    fs::write(&whole, b"{}\n").unwrap();
    let damaged = world.run_to(1, &["maintain"]);
    damaged.assert_says(&[
        "1 raw result files are not what was recorded",
        "pagemill verify",
    ]);
    assert_eq!(fs::read(&whole).unwrap(), b"{}\n");
    fs::write(&whole, &content).unwrap();

    // Exported files are as old, and stay where it is said so.
    world.set("retention.compress_exports", "false");
    let exported = world.root().join("data/export/S0/1.json");
    write(&exported, &content);
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let file = fs::File::options().write(true).open(&exported).unwrap();
    file.set_modified(past).unwrap();
    let done = world.run_to(0, &["maintain", "--json"]).json();
    assert_eq!((&done["raw"], &done["exports"]), (&1.into(), &0.into()));
    world.set("retention.compress_exports", "true");
    for arguments in [
        &["maintain", "--json", "--dry-run"][..],
        &["maintain", "--json"],
    ] {
        assert_eq!(world.run_to(0, arguments).json()["exports"], 1);
    }
    assert!(!exported.exists());
    let compressed: Vec<String> = before.iter().map(|name| format!("{name}.zst")).collect();
    assert_eq!(names(&world, "raw"), compressed);
    let recorded = "SELECT count(*) FROM submissions WHERE raw_path LIKE '%.jsonl.zst'";
    assert_eq!(world.number(recorded), count as i64);
    // The answers are still at hand, word for word.
    for arguments in [
        &["show", &key(0, 1), "--raw"][..],
        &["show", &key(0, 1), "--validate"],
        &["failures", "--raw"],
        &["replay", "--accepted"],
    ] {
        let shown = world.run_to(0, arguments);
        assert!(!shown.err.contains("cannot be read"), "{}", shown.err);
    }
    world
        .run_to(0, &["show", &key(0, 1), "--raw"])
        .assert_says(&["\"candidates\""]);
    // What was paid for is the same as before.
    let kept = "SELECT sum(raw_bytes) FROM submissions";
    assert_eq!(world.number(kept), bytes);
    world
        .run_to(0, &["verify"])
        .assert_says(&["nothing is wrong\n"]);
    world
        .run_to(0, &["maintain"])
        .assert_says(&["0 raw result files"]);
    world.run_to(0, &["run"]);

    // A lost output comes back from them.
    let output = world.output(&key(0, 1));
    let text = fs::read(&output).unwrap();
    fs::remove_file(&output).unwrap();
    world.run_to(0, &["verify", "--fix", "--yes", "--restore"]);
    assert_eq!(fs::read(&output).unwrap(), text);

    // And so does a damaged one show.
    let first = world.root().join("data/raw").join(&compressed[0]);
    let mut bytes = fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&first, bytes).unwrap();
    world
        .run_to(1, &["verify"])
        .assert_says(&["raw results damaged"]);
}

#[test]
fn s2_39_a_crash_between_two_steps_is_made_good_by_the_next_look() {
    let world = world(&[], 0);
    world.run_to(0, &["run"]);
    let plain = names(&world, "raw");
    let copies: Vec<(PathBuf, Vec<u8>)> = plain
        .iter()
        .map(|name| world.root().join("data/raw").join(name))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    age(&world, 31);
    world.run_to(0, &["maintain"]);
    let compressed = names(&world, "raw");
    // After the record, before the removal.
    fs::write(&copies[0].0, &copies[0].1).unwrap();
    // Before the record: the row names what stands beside it, or what is not there any more.
    for (place, path) in [(1, true), (2, false)] {
        let (plain, content) = &copies[place];
        let row = format!(
            "UPDATE submissions SET raw_path = '{0}' WHERE raw_path = '{0}.zst'",
            plain.display()
        );
        plant(&world, &row);
        if path {
            fs::write(plain, content).unwrap();
        }
    }
    world
        .run_to(0, &["verify"])
        .assert_says(&["nothing is wrong\n"]);
    world.run_to(0, &["maintain"]);
    assert_eq!(names(&world, "raw"), compressed);
    let left = "SELECT count(*) FROM submissions WHERE raw_path NOT LIKE '%.zst'";
    assert_eq!(world.number(left), 0);
    world
        .run_to(0, &["verify"])
        .assert_says(&["nothing is wrong\n"]);
}

#[test]
fn s2_39_an_old_copy_of_the_database_finds_results_that_were_compressed_since() {
    let world = world(&[], 1_000);
    let mut running = world.start(&["run"]);
    running.wait_until("live jobs", || world.ledger().jobs_live >= 2);
    running.signal("TERM");
    running.wait().assert_code(75);
    let copy = world.folder().join("copy.db");
    fs::copy(world.database(), &copy).unwrap();
    world.run_to(0, &["run"]);
    world.run_to(0, &["maintain", "--older-than", "0"]);
    assert!(
        names(&world, "raw")
            .iter()
            .all(|name| name.ends_with(".zst"))
    );
    for beside in ["", "-wal", "-shm"] {
        let path = format!("{}{beside}", world.database().display());
        let _absent = fs::remove_file(path);
    }
    fs::copy(&copy, world.database()).unwrap();
    world.run_to(1, &["reconcile"]);
    world.run_to(0, &["reconcile", "--apply", "--yes"]);
    world.run_to(0, &["run"]);
    let paid: Vec<u64> = world.ledger().requests_by_key.into_values().collect();
    assert_eq!(paid, vec![1; 12]);
    world
        .run_to(0, &["verify"])
        .assert_says(&["nothing is wrong"]);
}

#[test]
fn maintain_leaves_a_state_alone_on_which_a_run_works() {
    let world = world(&[], 600_000);
    let mut running = world.start(&["run"]);
    running.wait_until("a job", || world.ledger().jobs_made >= 1);
    world.run_to(5, &["maintain"]);
    world.run_to(0, &["maintain", "--dry-run"]);
    running.kill();
}

#[test]
fn s2_40_a_run_writes_the_reports_of_days_that_are_over_once() {
    let mut world = world(&[("report.daily", "true")], 0);
    world.run_to(0, &["run"]);
    assert_eq!(names(&world, "reports/daily"), Vec::<String>::new());
    age(&world, 1);
    // What a day's report says of its requests is what `report` says.
    let day = world.rows("SELECT date('now', '-1 day')")[0][0].clone();
    let arguments = [
        "report", "--format", "json", "--period", "day", "--date", &day,
    ];
    let summary = world.run_to(0, &arguments).json()["summary"].clone();
    world
        .run_to(0, &["maintain", "--dry-run"])
        .assert_says(&["1 reports would be written"]);
    world.run_to(0, &["run"]);
    let written = [format!("{day}.html"), format!("{day}.md")];
    assert_eq!(names(&world, "reports/daily"), written);
    let path = world.root().join("data/reports/daily").join(&written[1]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(summary.as_str().unwrap()), "{text}");
    let row = "SELECT kind, first_day, zone, requests, requests_open FROM period_reports";
    assert_eq!(world.rows(row), [["day", day.as_str(), "UTC", "12", "0"]]);

    // Once is enough; other forms, zones and weeks are others.
    fs::remove_file(&path).unwrap();
    world.run_to(0, &["run"]);
    assert!(!path.exists());
    world.set("report.zone", "Asia/Tokyo");
    world.set("report.weekly", "true");
    world.set("report.formats", "[csv]");
    world.run_to(0, &["maintain"]);
    assert!(names(&world, "reports/daily").contains(&format!("{day}.csv")));

    // A report with open requests is written again when some time has passed.
    plant(
        &world,
        "UPDATE period_reports SET requests_open = 3, updated_at = '2020-01-01T00:00:00.000000Z'
         WHERE kind = 'day' AND zone = 'Asia/Tokyo'",
    );
    world
        .run_to(0, &["maintain"])
        .assert_says(&["1 reports written"]);
    let open = "SELECT sum(requests_open) FROM period_reports";
    assert_eq!(world.number(open), 0);
}

#[test]
fn wrong_settings_of_reports_are_told_with_what_to_write() {
    let mut world = world(&[], 0);
    for (setting, value, says) in [
        (
            "report.zone",
            "Berlin",
            "'Berlin' is no time zone; write a name such as Europe/Berlin",
        ),
        (
            "report.formats",
            "[pdf]",
            "'pdf' is not one of md, html, json, csv",
        ),
        ("report.formats", "[md, md]", "names 'md' twice"),
        (
            "report.formats",
            "[]",
            "is an empty list; write a list such as [md, html, json, csv]",
        ),
        ("report.formats", "md", "is a text, not a list"),
        (
            "retention.compress_after_days",
            "-1",
            "write a whole number from 0 to 36500",
        ),
    ] {
        world.set(setting, value);
        world.run_to(78, &["report"]).assert_says(&[setting, says]);
        let name = format!("PAGEMILL__{}", setting.to_uppercase().replace('.', "__"));
        world.variable(&name, None);
    }
    world.set("retention.compress_after_days", "0");
    world.run_to(0, &["run"]);
    world
        .run_to(0, &["maintain"])
        .assert_says(&["nothing is compressed"]);
}
