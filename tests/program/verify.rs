//! `pagemill verify`: every planted fault is named, what is safe is repaired, and what was never
//! harmed is never blamed.
//!
//! A run makes a state; each fault is planted in a copy of it, so that one run serves many faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::books::Books;
use crate::kit::{Ended, MILD, Random, World, WorldOptions, key, rows, wait_for, write};

/// A valid output that no page of these worlds has.
const VALID: &[u8] = b"{\"text\": \"typed by hand\"}\n";
/// What a provider's error would look like in the wrong place.
const ERROR_TEXT: &[u8] = b"{\"error\": {\"code\": 503, \"message\": \"overloaded\"}}";
const LONG_AGO: &str = "2020-01-01T00:00:00.000000Z";

/// A copy of a world's project that faults are planted in.
struct Plot<'a> {
    world: &'a World,
    root: PathBuf,
    _folder: tempfile::TempDir,
}

impl<'a> Plot<'a> {
    fn new(world: &'a World) -> Plot<'a> {
        let folder = tempfile::Builder::new()
            .prefix("plot-")
            .tempdir_in(world.folder())
            .unwrap();
        let root = folder.path().join("project");
        copy(&world.root(), &root);
        let plot = Plot {
            world,
            root,
            _folder: folder,
        };
        // The copy has its own raw results, and everything in it happened long ago.
        plot.plant(&format!(
            "UPDATE submissions SET raw_path = replace(raw_path, '{}', '{}');
             UPDATE submissions SET updated_at = '{LONG_AGO}';
             UPDATE submissions SET closed_at = '{LONG_AGO}' WHERE closed_at IS NOT NULL",
            world.root().display(),
            plot.root.display(),
        ));
        plot
    }

    fn database(&self) -> PathBuf {
        self.root.join("data/gemini_batches.db")
    }

    /// Writes to the database as nobody should: no promise of its tables is kept.
    fn plant(&self, sql: &str) {
        use sea_orm::ConnectionTrait;
        wait_for(async {
            let connection = sqlite::connect_to(&self.database()).await.unwrap();
            for pragma in ["foreign_keys = OFF", "ignore_check_constraints = ON"] {
                let pragma = format!("PRAGMA {pragma}");
                connection.execute_unprepared(&pragma).await.unwrap();
            }
            connection.execute_unprepared(sql).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        rows(&self.database(), sql)
    }

    fn one(&self, sql: &str) -> String {
        self.rows(sql)[0][0].clone()
    }

    fn output(&self, key: &str) -> PathBuf {
        let name = format!("{}.json", key.replace(':', "/"));
        self.root.join("dataset/output_results").join(name)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.root.join("data").join(name)
    }

    fn verify(&self, arguments: &[&str]) -> Ended {
        let arguments: Vec<&str> = ["verify"].iter().chain(arguments).copied().collect();
        self.world.start_in(&self.root, &arguments).wait()
    }

    fn start(&self, arguments: &[&str]) -> Ended {
        self.world.start_in(&self.root, arguments).wait()
    }

    /// The kinds that are found, with their things.
    fn kinds(&self) -> Vec<(String, String)> {
        let found = self.verify(&["--json", "--limit", "1000"]).json();
        assert_eq!(found["version"], 1);
        let findings = found["findings"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        findings
            .map(|finding| (text(&finding["kind"]), text(&finding["thing"])))
            .collect()
    }

    /// Asserts that a fault is named.
    fn assert_found(&self, kind: &str, thing: &str) {
        let kinds = self.kinds();
        let named = kinds
            .iter()
            .any(|(found, named)| found == kind && named.contains(thing));
        assert!(named, "no '{kind}' of '{thing}' in {kinds:?}");
    }

    /// Asserts that the fault is named, repaired, and gone.
    fn assert_repaired(&self, kind: &str, thing: &str) -> Ended {
        self.assert_found(kind, thing);
        self.verify(&[]).assert_code(1);
        let ended = self.verify(&["--fix", "--yes"]);
        ended.assert_code(0);
        ended.assert_says(&["repaired", "nothing is left"]);
        self.assert_clean();
        ended
    }

    /// Asserts that the fault is named, and left to a person.
    fn assert_left(&self, kind: &str, thing: &str) {
        self.assert_found(kind, thing);
        let ended = self.verify(&["--fix", "--yes"]);
        ended.assert_code(1);
        ended.assert_says(&["by hand:"]);
        self.assert_found(kind, thing);
    }

    fn assert_clean(&self) {
        let ended = self.verify(&[]);
        ended.assert_code(0);
        ended.assert_says(&["nothing is wrong\n"]);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Two books of two pages; the last page of the second one is dead.
fn finished() -> (World, String) {
    let dead = key(1, 2);
    let faults = format!("pages: [{{key: '{dead}', kind: invalid_schema, times: always}}]");
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 2,
        faults: &faults,
        settings: &[("execution.max_retries", "1")],
        ..WorldOptions::default()
    });
    world.run_to(3, &["run"]);
    (world, dead)
}

/// Pages in a live batch, and pages that are uploaded and wait for theirs.
fn under_way() -> World {
    let world = World::new(&WorldOptions {
        books: 4,
        pages: 1,
        latency_ms: 3_600_000,
        settings: &[
            ("execution.batch_size_limit", "2"),
            ("execution.max_concurrent_batches", "1"),
        ],
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run"]);
    running.wait_until("two pages wait and two are sent", || {
        world.database().exists()
            && stages_are(&world, "submitted", 1)
            && world.number("SELECT count(*) FROM pages WHERE stage = 'uploaded'") == 2
    });
    running.signal("TERM");
    running.wait().assert_code(75);
    world
}

fn stages_are(world: &World, state: &str, count: i64) -> bool {
    // Before the first migration there is no table to ask.
    let ready = world.root().join("data/spool").exists();
    let sql = format!("SELECT count(*) FROM submissions WHERE state = '{state}'");
    ready && world.number(&sql) == count
}

fn age(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(86_400);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(long_ago).unwrap();
}

#[test]
fn f06_after_a_run_with_every_fault_nothing_is_found() {
    let random = Random::new("verify");
    let world = World::new(&WorldOptions {
        books: 12,
        pages: 2,
        latency_ms: 50,
        faults: MILD,
        seed: random.seed(),
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    let found = world.run_to(0, &["verify", "--json"]).json();
    assert_eq!(found["kinds"], serde_json::json!([]), "{found:#}");
    assert_eq!(found["looked_at"]["pages"], 24);
    assert_eq!(found["looked_at"]["outputs"], 24);
}

#[test]
fn f10_outputs_that_are_gone_or_broken_are_found_and_their_pages_run_again() {
    let (world, _dead) = finished();
    let page = key(0, 1);
    Plot::new(&world).assert_clean();

    let gone = Plot::new(&world);
    fs::remove_file(gone.output(&page)).unwrap();
    gone.assert_repaired("output missing", &page);
    let last = format!(
        "SELECT event, details FROM page_events WHERE record_key = '{page}' ORDER BY id DESC LIMIT 1"
    );
    let last = &gone.rows(&last)[0];
    assert_eq!(last[0], "requeued");
    assert!(last[1].contains("output_vanished"), "{last:?}");
    // What goes back to the work list is done by the next run, and the books are balanced.
    world.start_in(&gone.root, &["run"]).wait().assert_code(3);
    assert!(gone.output(&page).exists());
    gone.assert_clean();

    // Where the raw results do not have it any more, a broken one is paid for again, too.
    for broken in [&b"{\"text\": \"cut"[..], b"", ERROR_TEXT] {
        let plot = Plot::new(&world);
        plot.plant("UPDATE attempts SET raw_line_offset = raw_line_offset + 1");
        fs::write(plot.output(&page), broken).unwrap();
        plot.assert_repaired("output broken", &page);
        assert!(!plot.output(&page).exists());
        let sql = format!("SELECT stage FROM pages WHERE record_key = '{page}'");
        assert_eq!(plot.one(&sql), "discovered");
        let kept = files_below(&plot.data("revisions"));
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(fs::read(&kept[0]).unwrap(), broken);
    }

    let unreadable = Plot::new(&world);
    fs::remove_file(unreadable.output(&page)).unwrap();
    fs::create_dir(unreadable.output(&page)).unwrap();
    unreadable.assert_left("output unreadable", &page);
}

#[test]
fn p8_an_output_that_was_paid_for_is_made_again_from_the_raw_results() {
    let (world, _dead) = finished();
    let page = key(0, 1);
    let paid = fs::read(world.output(&page)).unwrap();
    let stage = format!("SELECT stage FROM pages WHERE record_key = '{page}'");

    let broken = Plot::new(&world);
    fs::write(broken.output(&page), ERROR_TEXT).unwrap();
    broken.assert_repaired("output broken", &page);
    assert_eq!(fs::read(broken.output(&page)).unwrap(), paid);
    assert_eq!(broken.one(&stage), "completed");
    let kept = files_below(&broken.data("revisions"));
    assert_eq!(fs::read(&kept[0]).unwrap(), ERROR_TEXT);

    // Who deletes an output wants the page to run again, unless it is said otherwise.
    let gone = Plot::new(&world);
    fs::remove_file(gone.output(&page)).unwrap();
    gone.verify(&["--fix", "--yes", "--restore"]).assert_code(0);
    assert_eq!(fs::read(gone.output(&page)).unwrap(), paid);
    gone.assert_clean();
}

#[test]
fn f10_an_output_changed_by_hand_is_kept_unless_somebody_decides() {
    let (world, _dead) = finished();
    let (page, plot) = (key(0, 1), Plot::new(&world));
    fs::write(plot.output(&page), VALID).unwrap();
    plot.assert_left("output changed", &page);
    assert_eq!(fs::read(plot.output(&page)).unwrap(), VALID);
    plot.verify(&["--fix", "--yes", "--adopt-changed"])
        .assert_code(0);
    plot.assert_clean();
    assert_eq!(fs::read(plot.output(&page)).unwrap(), VALID);
    let sql = format!("SELECT stage FROM pages WHERE record_key = '{page}'");
    assert_eq!(plot.one(&sql), "completed");
}

#[test]
fn f06_outputs_that_no_completed_page_stands_for_are_found() {
    let (world, dead) = finished();
    let valid = Plot::new(&world);
    write(&valid.output(&dead), VALID);
    valid.assert_repaired("output not recorded", &dead);
    let sql = format!("SELECT stage FROM pages WHERE record_key = '{dead}'");
    assert_eq!(valid.one(&sql), "completed");
    assert_eq!(fs::read(valid.output(&dead)).unwrap(), VALID);

    let error = Plot::new(&world);
    write(&error.output(&dead), ERROR_TEXT);
    error.assert_repaired("output not usable", &dead);
    assert_eq!(files_below(&error.data("revisions")).len(), 1);

    let stranger = Plot::new(&world);
    let unknown = key(0, 99);
    write(&stranger.output(&unknown), VALID);
    stranger.assert_left("output without a page", &unknown);
    assert!(stranger.output(&unknown).exists());

    let stale = Plot::new(&world);
    let name = ".1.json.0123456789abcdef0123456789abcdef.tmp";
    let temporary = stale.output(&dead).with_file_name(name);
    write(&temporary, b"{");
    // Beside a run it could be at work on it; with the lock nobody is.
    stale.assert_clean();
    age(&temporary);
    stale.assert_repaired("stale temporary file", name);
    assert!(!temporary.exists());
}

#[test]
fn s4_26_a_run_does_not_start_on_a_state_that_would_buy_twice() {
    let world = under_way();
    let plot = Plot::new(&world);
    plot.plant("DELETE FROM inflight_records");
    let refused = plot.start(&["run", "--once"]);
    refused.assert_code(1);
    refused.assert_says(&["the state is not consistent", "pagemill verify"]);
    let creates = world.ledger().creates_seen;
    let fixed = plot.verify(&["--fix", "--yes"]);
    fixed.assert_code(0);
    assert_eq!(world.ledger().creates_seen, creates);
}

#[test]
fn s3_19_outputs_of_other_recipes_and_schemas_are_named() {
    let mut world = World::new(&WorldOptions {
        pages: 2,
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    world
        .run_to(0, &["verify", "--recipes"])
        .assert_says(&["nothing is wrong"]);

    // Another temperature is another recipe; nobody says so unasked.
    world.set("model.generation_config", "{temperature: 0.9}");
    let found = world.run_to(0, &["verify", "--recipes", "--json"]).json();
    let kinds = found["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    assert_eq!(kinds[0]["kind"], "output of another recipe");
    assert_eq!(kinds[0]["count"], 2);
    let unasked = world.run_to(0, &["verify", "--json"]).json();
    assert_eq!(unasked["kinds"].as_array().unwrap().len(), 0);

    // A stricter schema that would not have taken what stands there.
    let plot = Plot::new(&world);
    let strict =
        r#"{"type": "object", "required": ["never"], "properties": {"never": {"type": "string"}}}"#;
    write(
        &plot.root.join("schemas/page_ocr.v1.json"),
        strict.as_bytes(),
    );
    plot.plant(&format!("UPDATE recipes SET schema = '{strict}'"));
    assert!(
        plot.kinds()
            .iter()
            .any(|(kind, _)| kind == "output off its schema")
    );
}

#[test]
fn an_output_folder_without_anything_in_it_sends_no_page_again() {
    let (world, _dead) = finished();
    let plot = Plot::new(&world);
    let folder = plot.root.join("dataset/output_results");
    fs::remove_dir_all(&folder).unwrap();
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(&folder).unwrap();
        }
        plot.assert_left("output folder empty", "output_results");
        let completed = "SELECT count(*) FROM pages WHERE stage = 'completed'";
        assert_eq!(plot.one(completed), "3");
    }
}

#[test]
fn f06_stages_that_history_does_not_lead_to_are_found() {
    let (world, dead) = finished();
    let page = key(0, 1);
    let last = format!("(SELECT max(id) FROM page_events WHERE record_key = '{page}')");
    for (sql, kind, thing) in [
        (
            format!("UPDATE page_events SET to_stage = 'dead' WHERE id = {last}"),
            "page history broken",
            &page,
        ),
        (
            format!("DELETE FROM page_events WHERE id = {last}"),
            "page history broken",
            &page,
        ),
        (
            format!("UPDATE page_events SET event = 'rejected' WHERE id = {last}"),
            "page history broken",
            &page,
        ),
        (
            format!(
                "DELETE FROM page_events WHERE id = (SELECT id FROM page_events
                 WHERE record_key = '{page}' ORDER BY id LIMIT 1 OFFSET 2)"
            ),
            "page history broken",
            &page,
        ),
        (
            format!("DELETE FROM page_events WHERE record_key = '{page}'"),
            "page history broken",
            &page,
        ),
        (
            format!("DELETE FROM pages WHERE record_key = '{page}'"),
            "page history broken",
            &page,
        ),
        (
            format!("UPDATE pages SET stage = 'review' WHERE record_key = '{dead}'"),
            "page history broken",
            &dead,
        ),
        (
            format!("UPDATE pages SET error = 'ApiError' WHERE record_key = '{page}'"),
            "row impossible",
            &page,
        ),
    ] {
        let plot = Plot::new(&world);
        plot.plant(&sql);
        plot.assert_left(kind, thing);
    }
    let history = Plot::new(&world);
    let batch = history.one("SELECT batch_id FROM submissions LIMIT 1");
    history.plant(&format!(
        "DELETE FROM submission_events WHERE batch_id = '{batch}' AND event = 'settled'"
    ));
    history.assert_left("batch history broken", &batch);
}

#[test]
fn f02_batches_whose_books_do_not_balance_are_found() {
    let (world, _dead) = finished();
    let page = key(0, 1);
    let batch_of = format!("(SELECT batch_id FROM batch_record_keys WHERE record_key = '{page}')");
    for (sql, kind, by_batch) in [
        (
            format!(
                "UPDATE submissions SET count_succeeded = count_succeeded + 1
                 WHERE batch_id = {batch_of}"
            ),
            "batch counts differ",
            true,
        ),
        (
            format!(
                "UPDATE submissions SET count_submitted = 1, count_succeeded = 1, count_failed = 0,
                        count_missing = 0, count_released = 0, record_count = 1
                 WHERE batch_id = {batch_of}"
            ),
            "batch counts differ",
            true,
        ),
        (
            format!(
                "UPDATE attempts SET outcome = 'pending', decided_at = NULL
                 WHERE record_key = '{page}'"
            ),
            "attempt without an outcome",
            false,
        ),
        (
            format!("DELETE FROM attempts WHERE record_key = '{page}'"),
            "members differ",
            false,
        ),
        (
            format!("DELETE FROM batch_record_keys WHERE record_key = '{page}'"),
            "members differ",
            false,
        ),
        (
            format!("INSERT INTO batch_record_keys VALUES ('nobody', '{page}', '{LONG_AGO}')"),
            "members differ",
            false,
        ),
        (
            format!("INSERT INTO batch_record_keys VALUES ('nobody', '{page}', '{LONG_AGO}')"),
            "database damaged",
            false,
        ),
    ] {
        let plot = Plot::new(&world);
        let thing = match (by_batch, kind) {
            (true, _) => plot.one(&format!("SELECT {batch_of}")),
            (false, "database damaged") => String::new(),
            (false, _) => page.clone(),
        };
        plot.plant(&sql);
        plot.assert_left(kind, &thing);
    }
    for sql in [
        format!("UPDATE active_batches SET status = 'active' WHERE batch_id = {batch_of}"),
        format!("DELETE FROM active_batches WHERE batch_id = {batch_of}"),
    ] {
        let plot = Plot::new(&world);
        let batch = plot.one(&format!("SELECT {batch_of}"));
        plot.plant(&sql);
        plot.assert_repaired("batch status differs", &batch);
    }
}

#[test]
fn p2_pages_that_a_closed_batch_holds_are_let_go() {
    let (world, dead) = finished();
    let page = key(0, 1);
    let batch_of = format!("(SELECT batch_id FROM batch_record_keys WHERE record_key = '{page}')");

    let held = Plot::new(&world);
    held.plant(&format!(
        "UPDATE pages SET batch_id = {batch_of} WHERE record_key IN ('{page}', '{dead}')"
    ));
    held.assert_repaired("held by a closed batch", &dead);

    // Its last event taken away, the page looks as if its verdict had been lost.
    let stuck = Plot::new(&world);
    stuck.plant(&format!(
        "UPDATE pages SET stage = 'validating', batch_id = {batch_of}, output_sha256 = NULL,
                output_bytes = NULL WHERE record_key = '{page}';
         DELETE FROM page_events
         WHERE id = (SELECT max(id) FROM page_events WHERE record_key = '{page}')"
    ));
    // Its output is still there: once let go, the page is done with it and costs nothing.
    stuck.assert_repaired("held by a closed batch", &page);
    let sql = format!("SELECT stage FROM pages WHERE record_key = '{page}'");
    assert_eq!(stuck.one(&sql), "completed");

    let stray = Plot::new(&world);
    stray.plant(&format!(
        "INSERT INTO inflight_records VALUES ('{page}', {batch_of}, '{LONG_AGO}')"
    ));
    stray.assert_repaired("in-flight row astray", &page);
    assert_eq!(stray.one("SELECT count(*) FROM inflight_records"), "0");
}

#[test]
fn p6_failures_that_are_counted_wrongly_are_counted_again() {
    let (world, dead) = finished();
    let page = key(0, 1);
    for (sql, thing) in [
        (
            "UPDATE failure_counts SET count = count + 1".to_owned(),
            &dead,
        ),
        ("DELETE FROM failure_counts".to_owned(), &dead),
        (
            format!("INSERT INTO failure_counts VALUES ('{page}', 3, '{LONG_AGO}')"),
            &page,
        ),
    ] {
        let plot = Plot::new(&world);
        let before = plot.rows("SELECT record_key, count FROM failure_counts");
        plot.plant(&sql);
        plot.assert_repaired("failure count differs", thing);
        assert_eq!(
            plot.rows("SELECT record_key, count FROM failure_counts"),
            before
        );
    }
    let unlogged = Plot::new(&world);
    unlogged.plant("DELETE FROM failure_logs; DELETE FROM failure_counts");
    unlogged.assert_left("failure not logged", &dead);
    let twice = Plot::new(&world);
    twice.plant(
        "CREATE TEMP TABLE t AS SELECT * FROM failure_logs LIMIT 1;
         UPDATE t SET id = 1000;
         INSERT INTO failure_logs SELECT * FROM t",
    );
    twice.assert_left("failure logged twice", &dead);
    let again = Plot::new(&world);
    again.plant(&format!(
        "UPDATE failure_logs SET counted = 0 WHERE record_key = '{dead}'"
    ));
    again.assert_repaired("failure count differs", &dead);
    assert_eq!(again.one("SELECT count(*) FROM failure_counts"), "0");
}

#[test]
fn remote_files_that_nobody_needs_are_marked_for_deletion() {
    let (world, _dead) = finished();
    for purpose in ["image", "lines"] {
        let plot = Plot::new(&world);
        let name = format!("(SELECT min(name) FROM remote_files WHERE purpose = '{purpose}')");
        let file = plot.one(&format!("SELECT {name}"));
        plot.plant(&format!(
            "UPDATE remote_files SET state = 'live' WHERE name = {name}"
        ));
        plot.assert_repaired("remote file forgotten", &file);
        let sql = format!("SELECT state FROM remote_files WHERE name = '{file}'");
        assert_eq!(plot.one(&sql), "deleting");
    }
}

#[test]
fn f02_raw_results_are_held_against_what_was_recorded() {
    let (world, _dead) = finished();
    let batch = world.rows("SELECT min(batch_id) FROM submissions")[0][0].clone();
    let raw = |plot: &Plot<'_>| plot.data(&format!("raw/{batch}.jsonl"));

    // Moved away, perhaps: worth a note, and no fault.
    let gone = Plot::new(&world);
    fs::remove_file(raw(&gone)).unwrap();
    gone.assert_found("raw results missing", &batch);
    let ended = gone.verify(&[]);
    ended.assert_code(0);
    ended.assert_says(&["nothing is wrong; 1 to note", "may be moved away"]);

    for damage in [0, 1] {
        let plot = Plot::new(&world);
        let mut bytes = fs::read(raw(&plot)).unwrap();
        match damage {
            0 => bytes[10] ^= 1,
            _ => bytes.truncate(10),
        }
        fs::write(raw(&plot), &bytes).unwrap();
        plot.assert_left("raw results damaged", &batch);
        assert_eq!(fs::read(raw(&plot)).unwrap(), bytes);
    }

    let unrecorded = Plot::new(&world);
    unrecorded.plant(&format!(
        "UPDATE submissions SET raw_path = NULL, raw_bytes = NULL, raw_sha256 = NULL
         WHERE batch_id = '{batch}'"
    ));
    unrecorded.assert_left("raw results damaged", &batch);

    // The results of a job that came late are named after its batch, too.
    let late = Plot::new(&world);
    write(&late.data(&format!("raw/{batch}-0a1b2c3d.jsonl")), b"{}\n");
    late.assert_clean();

    let stranger = Plot::new(&world);
    let unknown = stranger.data("raw/0193-unknown.jsonl");
    write(&unknown, b"{}\n");
    stranger.assert_found("raw results of no batch", "0193-unknown");
    stranger.verify(&["--fix", "--yes"]).assert_code(0);
    assert!(unknown.exists());
}

#[test]
fn a_report_lost_between_settlement_and_report_is_written_again() {
    let (world, dead) = finished();
    let sql = format!("SELECT max(batch_id) FROM batch_record_keys WHERE record_key = '{dead}'");
    let batch = world.rows(&sql)[0][0].clone();
    let report = |plot: &Plot<'_>| plot.data(&format!("reports/{batch}.md"));

    let file = Plot::new(&world);
    let before = fs::read_to_string(report(&file)).unwrap();
    fs::remove_file(report(&file)).unwrap();
    file.assert_repaired("report missing", &batch);
    assert_eq!(fs::read_to_string(report(&file)).unwrap(), before);

    let both = Plot::new(&world);
    fs::remove_file(report(&both)).unwrap();
    both.plant(&format!("DELETE FROM reports WHERE batch_id = '{batch}'"));
    both.assert_repaired("report missing", &batch);
    let after = fs::read_to_string(report(&both)).unwrap();
    assert!(
        after.contains(&format!("| {dead} | ValidationError |")),
        "{after}"
    );
    let of_pages = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("settled"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(of_pages(&after), of_pages(&before));
    let kept = format!("SELECT markdown FROM reports WHERE batch_id = '{batch}'");
    assert_eq!(both.one(&kept), after);
}

#[test]
fn f46_request_lines_and_downloads_that_nobody_needs_are_removed() {
    let (world, _dead) = finished();
    let batch = world.rows("SELECT min(batch_id) FROM submissions")[0][0].clone();
    for (name, kind) in [
        (
            "spool/0193-unknown.jsonl".to_owned(),
            "spool file of no planned batch",
        ),
        (
            format!("spool/{batch}.jsonl"),
            "spool file of no planned batch",
        ),
        (format!("spool/{batch}.jsonl.part"), "stale temporary file"),
        (format!("raw/{batch}.jsonl.part"), "stale temporary file"),
    ] {
        let plot = Plot::new(&world);
        let path = plot.data(&name);
        write(&path, b"{}\n");
        age(&path);
        plot.assert_repaired(kind, &name);
        assert!(!path.exists(), "{name}");
    }
}

#[test]
fn what_a_live_batch_needs_is_left_alone() {
    let world = under_way();
    Plot::new(&world).assert_clean();
    let clean = Plot::new(&world);
    let batched = "(SELECT min(record_key) FROM pages WHERE stage = 'batched')";
    let page = clean.one(&format!("SELECT {batched}"));
    let waiting = clean.one("SELECT min(record_key) FROM pages WHERE stage = 'uploaded'");

    let missing = Plot::new(&world);
    missing.plant(&format!(
        "DELETE FROM inflight_records WHERE record_key = '{page}'"
    ));
    missing.assert_repaired("in-flight row missing", &page);
    assert_eq!(missing.one("SELECT count(*) FROM inflight_records"), "2");

    let image = Plot::new(&world);
    image.plant("DELETE FROM remote_files WHERE purpose = 'image'");
    image.assert_found("image not in the ledger", &waiting);
    image.assert_left("image not in the ledger", &page);
    let sql = format!("SELECT stage FROM pages WHERE record_key = '{waiting}'");
    assert_eq!(image.one(&sql), "discovered");

    for (sql, kind) in [
        (
            format!("UPDATE pages SET batch_id = NULL WHERE record_key = '{page}'"),
            "in-flight row astray",
        ),
        (
            format!("DELETE FROM batch_record_keys WHERE record_key = '{page}'"),
            "members differ",
        ),
        (
            format!(
                "CREATE TEMP TABLE t AS SELECT * FROM submissions;
                 UPDATE t SET batch_id = 'other', display_name = 'other';
                 INSERT INTO submissions SELECT * FROM t;
                 INSERT INTO batch_record_keys VALUES ('other', '{page}', '{LONG_AGO}')"
            ),
            "in two batches",
        ),
    ] {
        let plot = Plot::new(&world);
        plot.plant(&sql);
        plot.assert_left(kind, &page);
        let stage = format!("SELECT stage FROM pages WHERE record_key = '{page}'");
        assert_eq!(plot.one(&stage), "batched");
    }

    let output = Plot::new(&world);
    write(&output.output(&page), VALID);
    output.assert_found("output of a page in flight", &page);
    output.verify(&["--fix", "--yes"]).assert_code(0);
    assert_eq!(fs::read(output.output(&page)).unwrap(), VALID);
}

#[test]
fn p7_a_page_that_runs_although_its_retries_are_spent_is_noted() {
    let world = under_way();
    let plot = Plot::new(&world);
    let page = plot.one("SELECT min(record_key) FROM pages WHERE stage = 'uploaded'");
    plot.plant(&format!(
        "INSERT INTO failure_counts VALUES ('{page}', 9, '{LONG_AGO}')"
    ));
    plot.assert_found("retries spent", &page);
}

#[test]
fn beside_a_run_nothing_is_blamed_and_nothing_is_repaired() {
    let world = World::new(&WorldOptions {
        books: 6,
        pages: 3,
        latency_ms: 200,
        settings: &[("execution.batch_size_limit", "2")],
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run"]);
    running.wait_until("it works", || {
        world.database().exists() && stages_are(&world, "settled", 1)
    });
    world
        .run_to(5, &["verify", "--fix", "--yes"])
        .assert_says(&["in use"]);
    let mut looks = 0;
    let ended = loop {
        let found = world.run_to(0, &["verify", "--json"]).json();
        assert_eq!(found["kinds"], serde_json::json!([]), "{found:#}");
        looks += 1;
        if let Some(ended) = running.wait_at_most(Duration::ZERO) {
            break ended;
        }
    };
    ended.assert_code(0);
    assert!(looks > 1, "{looks}");
    Books::default().check(&world);
}

#[test]
fn a_repair_is_asked_for_and_a_dry_run_only_tells() {
    let (world, _dead) = finished();
    let (page, plot) = (key(0, 1), Plot::new(&world));
    fs::remove_file(plot.output(&page)).unwrap();
    let before = plot.rows("SELECT * FROM page_events");
    let told = plot.verify(&["--fix", "--dry-run"]);
    told.assert_code(1);
    told.assert_says(&["--fix: the page goes back", "nothing was changed"]);
    // Nobody answers.
    let asked = plot.verify(&["--fix"]);
    asked.assert_code(1);
    asked.assert_says(&[
        "repair 1 findings (up to 1 pages are sent, and paid for, again)? [y/N]",
        "nothing was changed",
    ]);
    assert_eq!(plot.rows("SELECT * FROM page_events"), before);
    let json = plot.verify(&["--fix", "--yes", "--json"]);
    json.assert_code(0);
    let json = json.json();
    assert_eq!(json["repaired"]["done"], 1);
    assert_eq!(json["left"]["wrong"], 0);
    plot.verify(&["--dry-run"]).assert_code(2);
}

#[test]
fn findings_are_shown_within_eighty_columns_and_up_to_the_limit() {
    let (world, _dead) = finished();
    let plot = Plot::new(&world);
    for page in [key(0, 1), key(0, 2), key(1, 1)] {
        fs::write(plot.output(&page), b"{").unwrap();
    }
    plot.plant(
        "UPDATE active_batches SET status = 'active';
         UPDATE failure_counts SET count = count + 1",
    );
    let ended = plot.verify(&["--limit", "2"]);
    ended.assert_code(1);
    ended.assert_says(&["and 1 more (--limit is 2)", "output broken: 3"]);
    let long: Vec<&str> = ended
        .out
        .lines()
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(long.is_empty(), "{long:?}");
    let found = plot.verify(&["--limit", "0", "--json"]).json();
    assert_eq!(found["findings"], serde_json::json!([]));
    assert!(found["repairable"].as_u64().unwrap() >= 5, "{found}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}
