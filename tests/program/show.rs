//! `pagemill explain`, `show` and `replay`: why a page is not running, its whole story, and what its
//! stored answers are worth today.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::kit::{Ended, World, WorldOptions, key, sha256, write};

/// The page of each kind in the finished world.
const DONE: (usize, usize) = (0, 2);
const DEAD: (usize, usize) = (1, 2);
const WAITS: (usize, usize) = (1, 4);
const NO_IMAGE: (usize, usize) = (2, 1);

fn page((book, number): (usize, usize)) -> String {
    key(book, number)
}

/// Books in which a page is done, is dead, waits behind the dead one, or has no image.
fn finished() -> World {
    let faults = format!(
        "pages: [{{key: '{}', kind: invalid_schema, times: always}}]",
        page(DEAD)
    );
    let world = World::new(&WorldOptions {
        books: 3,
        pages: 4,
        faults: &faults,
        settings: &[
            ("execution.max_retries", "1"),
            ("execution.on_dead_predecessor", "block"),
        ],
        ..WorldOptions::default()
    });
    fs::remove_file(world.image(&page(NO_IMAGE))).unwrap();
    world.run_to(3, &["run"]);
    world
}

/// What the log says of pages that a look at the tree leaves alone.
fn left_alone(ended: &Ended) -> BTreeMap<String, String> {
    let lines = ended.err.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let fields = line.get("fields").unwrap_or(&line);
        if fields["message"] != "page left alone" {
            return None;
        }
        let text = |name: &str| fields[name].as_str().map(str::to_owned);
        Some((text("page.key")?, text("reason")?))
    });
    lines.collect()
}

#[test]
fn s1_31_s3_20_the_scanner_and_explain_give_the_same_reason() {
    let mut world = finished();
    let debug = ["--log-level", "debug", "--log-format", "json"];
    let check = |world: &World, command: &[&str], code: i32| {
        let said = left_alone(&world.run_to(code, &[command, &debug].concat()));
        for (key, reason) in &said {
            let why = world.run_to(0, &["explain", key, "--json"]).json();
            // Of an image the log tells what is wrong with it, too.
            let word = why["left_alone"].as_str().unwrap();
            assert!(reason.starts_with(word), "{key}: {reason}: {why}");
            let sentence = why["sentence"].as_str().unwrap();
            assert!(sentence.contains(reason.as_str()), "{reason}: {sentence}");
        }
        said
    };
    let said = check(&world, &["run"], 3);
    let dry = check(&world, &["run", "--dry-run"], 0);
    assert!(dry.keys().eq(said.keys()));
    assert_eq!(said.len(), world.pages.len());
    assert_eq!(said[&page(DONE)], "done");
    assert_eq!(said[&page(DEAD)], "dead");
    assert_eq!(said[&page(WAITS)], "waits for page 3");
    assert_eq!(dry[&page(NO_IMAGE)], "image missing or not usable");

    // A filter on the page itself, so that the scanner meets what it leaves out.
    world.set("filters.where.page", "['3', '4']");
    let why = world.run_to(0, &["explain", &page(DEAD), "--json"]).json();
    let said = left_alone(&world.run(&[&["run", "--dry-run"][..], &debug].concat()));
    assert_eq!(said[&page(DEAD)], "out of scope");
    assert_eq!(why["left_alone"], "out of scope");
}

#[test]
fn explain_says_in_one_sentence_what_keeps_a_page_and_what_to_type() {
    let world = finished();
    let check = |key: &str, code: i32, texts: &[&str]| {
        let ended = world.run_to(code, &["explain", key]);
        ended.assert_says(texts);
        ended.out
    };
    let dead = page(DEAD);
    let clear = format!("pagemill clear-failures --key '{dead}'\n");
    check(&dead, 0, &["is dead: failed with ValidationError", &clear]);
    // The sentence leads past the page before to the one that holds both up.
    let said = check(&page(WAITS), 0, &[&clear, "held up by"]);
    let first = said.lines().next().unwrap();
    let chain = " waits for page 3, which is held up by page 2, which is dead: ";
    assert!(
        first.contains(chain) && first.ends_with(clear.trim_end()),
        "{first}"
    );
    check(
        &page(DONE),
        0,
        &[" is done, accepted ", "pagemill redo --key "],
    );
    check(
        &page(NO_IMAGE),
        0,
        &[
            "has its image missing or not usable: no image beside the label",
            "replace the image",
        ],
    );
    // Somebody names a file instead.
    let label = world.label(&page(DONE));
    check(label.to_str().unwrap(), 0, &[&page(DONE), " is done"]);

    // Keys that are nearly right.
    let typo = "s1:Schol 1:1850:2";
    check(
        typo,
        1,
        &["is not known", "no label, no image and no output", &dead],
    );
    check(
        "S1:School 1",
        2,
        &["is no record key of this layout", "S1:School 1:1850:1"],
    );
    let fresh = key(0, 9);
    write(&world.label(&fresh), b"{}");
    check(
        &fresh,
        0,
        &[
            "is not known yet: its label is there",
            "until you start: pagemill run",
        ],
    );

    fs::write(
        world.image(&page(NO_IMAGE)),
        fs::read(world.image(&page(DONE))).unwrap(),
    )
    .unwrap();
    check(
        &page(NO_IMAGE),
        0,
        &["and now it is usable", "pagemill run"],
    );
    fs::rename(world.output(&page(DONE)), world.root().join("kept.json")).unwrap();
    check(&page(DONE), 0, &["was done, but its output is gone"]);
}

#[test]
fn s2_23_what_operators_did_stands_in_explain_and_in_the_story() {
    let world = finished();
    let waits = page(WAITS);
    let by = ["--by", "anna", "--yes"];
    let order = |words: &[&str]| world.run_to(0, &[words, &by].concat());
    let why = ["--reason", "a blank page"];
    order(&[&["skip", "--key", &waits][..], &why].concat());
    let said = world.run_to(0, &["explain", &waits]).out;
    let sentence = said.lines().next().unwrap();
    let unskip = format!("to let it run: pagemill unskip --key '{waits}'");
    assert!(sentence.ends_with(&unskip), "{sentence}");
    assert!(
        sentence.contains(" is left out by an operator, anna: a blank page; "),
        "{sentence}"
    );
    order(&["unskip", "--key", &waits]);
    world.run_to(0, &["note", &waits, "ask Ben", "--by", "anna"]);
    let told = world.run_to(0, &["show", &waits]);
    told.assert_says(&["left out by anna: a blank page", "noted by anna: ask Ben"]);

    world.run_to(0, &["pause", "--reason", "a holiday", "--by", "anna"]);
    order(&["redo", "--key", &page(DONE)]);
    let why = world.run_to(0, &["explain", &page(DONE), "--json"]).json();
    assert_eq!(why["reason"], "halted", "{why}");
    assert_eq!(why["remedy"], "to go on");
    assert_eq!(why["command"], json!(["pagemill", "resume"]));
}

#[test]
fn explain_follows_a_page_into_its_batch_beside_a_run() {
    let world = World::new(&WorldOptions {
        latency_ms: 600_000,
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run"]);
    running.wait_until_said(&["batch submitted"]);
    let key = key(0, 1);
    let explain = || world.run_to(0, &["explain", &key, "--json"]).json();
    let why = explain();
    assert_eq!(why["reason"], "with_provider", "{why}");
    assert_eq!(why["left_alone"], "in flight: batched");
    assert_eq!(why["is_running"], true);
    let batch = &world.rows("SELECT batch_id FROM submissions")[0][0];
    assert_eq!(why["page"]["batch_id"], json!(batch));
    let sentence = why["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("no job of this model has ended yet"),
        "{sentence}"
    );
    running.kill();
    let why = explain();
    assert_eq!(why["is_running"], false);
    assert_eq!(why["command"], json!(["pagemill", "run"]));
    world
        .run_to(0, &["show", &key, "--request"])
        .assert_says(&["attempt 1, as it was sent"]);
}

#[test]
fn s4_33_show_renders_every_request_line_as_it_was_sent_to_the_byte() {
    let mut world = finished();
    // Offline: no key, and nobody listens.
    world.variable("GEMINI_API_KEY", None);
    world.variable("GOOGLE_GEMINI_BASE_URL", Some("http://127.0.0.1:9"));
    let batches = world.rows("SELECT batch_id, lines_sha256 FROM submissions ORDER BY 1");
    assert!(batches.len() > 3);
    for batch in &batches {
        let members = world.rows(&format!(
            "SELECT record_key, attempt_number FROM attempts WHERE batch_id = '{}'
             ORDER BY record_key",
            batch[0]
        ));
        let mut lines = String::new();
        for member in members {
            let show = ["show", &member[0], "--request", "--attempt", &member[1]];
            let ended = world.run_to(0, &show);
            ended.assert_says(&["as it was sent (prompt sha256 "]);
            lines.push_str(&ended.out);
        }
        assert_eq!(sha256(lines.as_bytes()), batch[1], "{lines}");
    }
    // What the provider itself took in last.
    let taken = world.ledger().last_request_by_key;
    let done = page(DONE);
    let shown = world
        .run_to(0, &["show", &done, "--request", "--json"])
        .json();
    assert_eq!(shown["is_as_sent"], true);
    assert_eq!(shown["prompt_sha256"], json!(taken[&done].prompt_sha256));
    assert_eq!(shown["line"]["key"], json!(done));

    write(&world.label(&done), br#"{"title": "another"}"#);
    let ended = world.run_to(0, &["show", &done, "--request"]);
    ended.assert_says(&["NOT as it was sent: since then the label is another one"]);
    let before = key(0, 1);
    write(&world.output(&before), br#"{"text": "another"}"#);
    let shown = world
        .run_to(0, &["show", &done, "--request", "--json"])
        .json();
    assert_eq!(shown["is_as_sent"], false);
    assert_eq!(
        shown["changes"],
        json!(["the output of the page before is another one"])
    );
    // A page that was never sent is rendered as it would be.
    world
        .run_to(0, &["show", &page(WAITS), "--request"])
        .assert_says(&["as it would be sent next", "files/not-uploaded-yet"]);
}

#[test]
fn s2_12_show_tells_the_whole_story_of_a_page() {
    let world = finished();
    let dead = page(DEAD);
    let story = world.run_to(0, &["show", &dead, "--json"]).json();
    assert_eq!(story["version"], 1);
    assert_eq!(story["title"], "page 2");
    assert_eq!(story["page"]["levels"]["school"], "School 1");
    let stage = &world.rows(&format!(
        "SELECT stage, status FROM pages WHERE record_key = '{dead}'"
    ))[0];
    assert_eq!(story["page"]["stage"], json!(stage[0]));
    assert_eq!(story["page"]["status"], json!(stage[1]));

    // Two tries: each counter agrees with its rows.
    for counter in ["uploads", "submissions", "validations"] {
        assert_eq!(story["counters"][counter], 2, "{counter}");
    }
    // What the page took, in bytes and tokens and money.
    let image = fs::metadata(world.image(&dead)).unwrap().len();
    assert_eq!(story["counters"]["bytes_up"], 2 * image);
    for (counter, column) in [
        ("bytes_down", "raw_line_bytes"),
        ("tokens_in", "tokens_prompt"),
        ("tokens_out", "tokens_candidates"),
        ("tokens_thoughts", "tokens_thoughts"),
    ] {
        let sql = format!("SELECT sum({column}) FROM attempts WHERE record_key = '{dead}'");
        assert_eq!(story["counters"][counter], world.number(&sql), "{counter}");
    }
    let cost = format!("SELECT sum(cost_nanos) FROM attempts WHERE record_key = '{dead}'");
    let cost = world.number(&cost) as f64 / 1e9;
    assert_eq!(story["counters"]["cost_usd"], cost);
    let attempts = story["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    let failures = story["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2);
    for (attempt, failure) in attempts.iter().zip(failures) {
        assert_eq!(attempt["error_type"], "ValidationError");
        assert_eq!(attempt["raw"]["key"], json!(dead));
        assert_eq!(attempt["finish_reason"], "STOP");
        assert!(attempt["tokens"]["prompt"].as_u64().unwrap() > 0);
        // The pointer that failed, and what the model said.
        assert!(
            failure["message"].as_str().unwrap().starts_with("at /"),
            "{failure}"
        );
        assert!(failure["raw_text"].is_string() && failure["extracted_text"].is_string());
        assert_eq!(failure["counted"], true);
    }
    let events = world.rows(&format!(
        "SELECT event, from_stage, to_stage, correlation_id FROM page_events
         WHERE record_key = '{dead}' ORDER BY id"
    ));
    let told = story["events"].as_array().unwrap();
    assert_eq!(told.len(), events.len());
    for (told, event) in told.iter().zip(&events) {
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let told = [
            text("event"),
            text("from"),
            text("to"),
            text("correlation_id"),
        ];
        assert_eq!(told.as_slice(), event.as_slice());
    }
    let files = story["files"].as_array().unwrap();
    let of = |what: &'static str| files.iter().filter(move |file| file["what"] == what);
    for what in ["label", "image", "raw result", "report"] {
        assert!(
            of(what).count() > 0 && of(what).all(|file| file["is_there"] == true),
            "{what}"
        );
    }
    assert!(of("output").all(|file| file["is_there"] == false));
    assert_eq!(of("remote image").count(), 2);
    assert!(
        story["recipe"]["prompt_template"]
            .as_str()
            .unwrap()
            .starts_with("Transcribe")
    );

    let ended = world.run_to(0, &["show", &dead, "--events", "2"]);
    ended.assert_says(&[
        &dead,
        "title       page 2\n",
        "counters    2 uploads, 2 submissions, 2 validations, 2 failures counted with 1 retry allowed",
        "earlier events: pagemill show 'S1:School 1:1850:2' --events ",
        "attempt 2   rejected for ValidationError",
        "answer of attempt 2 rejected: ValidationError; not sent again",
        "  because   at /",
    ]);
    check_texts(&world);
    world
        .run_to(1, &["show", &dead, "--attempt", "7"])
        .assert_says(&["has no attempt 7"]);
    world
        .run_to(1, &["show", &key(7, 7)])
        .assert_says(&["is not known"]);
    world
        .run_to(2, &["show", "nonsense"])
        .assert_says(&["is no record key"]);
    world
        .run_to(2, &["show", &dead, "--raw", "--request"])
        .assert_says(&["cannot be used with"]);
}

/// Answers and outputs come out word for word.
fn check_texts(world: &World) {
    let (dead, done) = (page(DEAD), page(DONE));
    let output = world.run_to(0, &["show", &done, "--output"]);
    assert_eq!(
        output.out.as_bytes(),
        fs::read(world.output(&done)).unwrap()
    );
    world
        .run_to(1, &["show", &dead, "--output"])
        .assert_says(&["is dead; its output: "]);

    let places = world.rows(&format!(
        "SELECT s.raw_path, a.raw_line_offset, a.raw_line_bytes FROM attempts AS a
         JOIN submissions AS s USING (batch_id) WHERE a.record_key = '{dead}'
         ORDER BY a.attempt_number"
    ));
    let line = |place: &[String]| {
        let file = fs::read(&place[0]).unwrap();
        let from: usize = place[1].parse().unwrap();
        let bytes: usize = place[2].parse().unwrap();
        String::from_utf8(file[from..from + bytes].to_vec()).unwrap()
    };
    let lines: Vec<String> = places.iter().map(|place| line(place)).collect();
    let raw = world.run_to(0, &["show", &dead, "--raw"]).out;
    assert_eq!(raw, format!("{}\n{}\n", lines[0], lines[1]));
    let raw = world
        .run_to(0, &["show", &dead, "--raw", "--attempt", "2"])
        .out;
    assert_eq!(raw, format!("{}\n", lines[1]));
    let never = world.run_to(1, &["show", &page(WAITS), "--raw"]);
    never.assert_says(&["was never sent"]);
}

#[test]
fn s0_28_stored_answers_are_judged_by_todays_schema_offline() {
    let mut world = finished();
    world.variable("GEMINI_API_KEY", None);
    world.variable("GOOGLE_GEMINI_BASE_URL", Some("http://127.0.0.1:9"));
    let dead = page(DEAD);
    let schema = world.root().join("schemas/page_ocr.v1.json");
    let set = |schema_now: Value| fs::write(&schema, schema_now.to_string()).unwrap();
    let database = fs::read(world.database()).unwrap();

    let replay = |arguments: &[&str]| {
        let arguments = [&["replay", "--json"][..], arguments].concat();
        world.run_to(0, &arguments).json()
    };
    assert_eq!(replay(&[])["would"], json!({"ValidationError": 1}));
    set(json!({"type": "object", "properties": {"text": {"type": ["string", "null"]}}}));
    let said = replay(&[]);
    assert_eq!(said["would"], json!({"accepted": 1}), "{said}");
    assert_eq!(said["otherwise"][0]["key"], json!(dead));
    assert_eq!(replay(&["--where", "school=School 0"])["judged"], 0);
    let ended = world.run_to(0, &["show", &dead, "--validate"]);
    ended.assert_says(&["would be", "ValidationError  accepted"]);

    set(json!({"type": "object", "properties": {"text": {"type": "string", "maxLength": 1}}}));
    let said = replay(&["--accepted", "--show", "1"]);
    let done = world.number("SELECT count(*) FROM pages WHERE stage = 'completed'");
    assert_eq!(said["would"], json!({"ValidationError": done}));
    assert_eq!(said["otherwise"].as_array().unwrap().len(), 1);
    world
        .run_to(0, &["replay", "--accepted", "--limit", "2"])
        .assert_says(&["2 accepted answers judged", "--limit N judges more"]);
    assert_eq!(fs::read(world.database()).unwrap(), database);
}
