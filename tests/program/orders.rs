//! What an operator tells pagemill to do, while it runs and while it does not.

use crate::books::Books;
use crate::kit::{World, WorldOptions, key};

/// A world whose jobs take so long that a test can act while they run.
fn slow_world(books: usize, pages: usize) -> World {
    World::new(&WorldOptions {
        books,
        pages,
        latency_ms: 4_000,
        ..WorldOptions::default()
    })
}

#[test]
fn a_paused_run_collects_sends_nothing_and_goes_on_when_it_is_resumed() {
    let world = slow_world(2, 2);
    let mut running = world.start(&["run"]);
    running.wait_until_said(&["batch submitted"]);
    let paused = world.run_to(0, &["pause", "--by", "ann", "--reason", "budget"]);
    paused.assert_says(&["paused"]);
    running.wait_until("what was sent is collected", || {
        world.number("SELECT count(*) FROM pages WHERE stage = 'completed'") == 2
            && world.number("SELECT count(*) FROM v_active_batches") == 0
    });
    world
        .run_to(0, &["status"])
        .assert_says(&["by ann: budget", "pagemill resume"]);
    world
        .run_to(0, &["resume", "--dry-run"])
        .assert_says(&["would end: paused"]);
    assert_eq!(world.ledger().jobs_made, 1, "nothing was sent meanwhile");
    world
        .run_to(0, &["resume", "--by", "ann"])
        .assert_says(&["ended: paused"]);
    running.wait().assert_code(0);
    Books::default().check(&world);
    let given = world.rows("SELECT command, by_whom, state FROM orders ORDER BY order_id");
    assert_eq!(given, [["pause", "ann", "done"], ["resume", "ann", "done"]]);
}

#[test]
fn a_run_that_is_started_while_paused_begins_paused_and_one_that_looks_once_ends() {
    let world = World::new(&WorldOptions {
        pages: 2,
        ..WorldOptions::default()
    });
    world.run_to(75, &["run", "--once"]);
    world.run_to(0, &["pause"]);
    world.run_to(75, &["run", "--once"]);
    assert!(
        world.output(&key(0, 1)).exists(),
        "what was sent is collected"
    );
    assert_eq!(world.ledger().jobs_made, 1);
    world.run_to(0, &["resume"]);
    world.run_to(0, &["run"]);
    Books::default().check(&world);
}

#[test]
fn s2_42_without_automatic_recovery_a_run_sends_nothing_until_it_is_resumed() {
    let mut world = World::new(&WorldOptions::default());
    world.set("recovery.auto", "false");
    let mut running = world.start(&["run"]);
    running.wait_until("it is paused", || {
        world.database().exists() && world.run(&["status"]).out.contains("recovery.auto is off")
    });
    assert_eq!(world.ledger().jobs_made, 0);
    world.run_to(0, &["resume"]);
    running.wait().assert_code(0);
    Books::default().check(&world);
}

#[test]
fn orders_about_pages_are_carried_out_beside_a_run() {
    let world = slow_world(2, 3);
    let mut running = world.start(&["run"]);
    running.wait_until("a page of the first book is done", || {
        world.output(&key(0, 1)).exists()
    });
    world.run_to(
        0,
        &["skip", "--key", &key(1, 3), "--yes", "--reason", "blank"],
    );
    world.run_to(0, &["note", &key(0, 3), "look at the lower half"]);
    let high = world.run_to(0, &["priority", "high", "--key", &key(0, 3), "--json"]);
    assert_eq!(high.json()["state"], "done");
    running.wait().assert_code(0);
    assert!(!world.output(&key(1, 3)).exists());
    assert_eq!(world.ledger().requests_by_key.get(&key(1, 3)), None);
    let events = world.rows(&format!(
        "SELECT event FROM page_events WHERE record_key = '{}' AND details->>'by' IS NOT NULL
         ORDER BY id",
        key(0, 3)
    ));
    assert_eq!(events, [["noted"], ["prioritized"]]);
    world.run_to(0, &["verify"]);
    world.run_to(0, &["unskip", "--key", &key(1, 3), "--yes"]);
    world.run_to(0, &["run"]);
    Books::default().check(&world);
}

#[test]
fn a_batch_is_cancelled_and_another_forgotten_beside_a_run() {
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 1,
        latency_ms: 600_000,
        settings: &[
            ("execution.batch_size_limit", "1"),
            ("breaker.pilot_pages", "0"),
        ],
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run"]);
    let live = "SELECT batch_id FROM submissions WHERE state = 'submitted' ORDER BY batch_id";
    running.wait_until("both jobs are made", || world.ledger().jobs_made == 2);
    running.wait_until("both are known", || world.rows(live).len() == 2);
    let batches: Vec<String> = world.rows(live).into_iter().flatten().collect();
    world.run_to(0, &["batches", "cancel", &batches[0], "--yes"]);
    world.run_to(0, &["batches", "forget", &batches[1], "--yes"]);
    let ended = |batch: &str| {
        world.rows(&format!(
            "SELECT abandon_code, wish, cancel_sent_at IS NOT NULL FROM submissions
             WHERE batch_id = '{batch}' AND state = 'abandoned'"
        ))
    };
    running.wait_until("the provider says that the job is cancelled", || {
        !ended(&batches[0]).is_empty()
    });
    running.wait_until("their pages are sent again", || {
        world.ledger().jobs_made == 4
    });
    running.signal("TERM");
    running.wait().assert_code(75);
    assert_eq!(ended(&batches[0]), [["cancelled", "cancel", "1"]]);
    assert_eq!(ended(&batches[1]), [["forgotten", "forget", "0"]]);
    world.run_to(0, &["verify"]);
}

#[test]
fn an_order_that_nobody_carries_out_is_kept_and_the_next_run_does_it() {
    let world = World::new(&WorldOptions::default());
    world.run_to(0, &["run"]);
    // Somebody has the state who looks for no orders.
    let lock = std::fs::File::options()
        .write(true)
        .open(world.root().join("data/gemini_batches.db.lock"))
        .unwrap();
    lock.try_lock().unwrap();
    let kept = world.run(&["note", &key(0, 1), "kept", "--wait", "0"]);
    kept.assert_code(75);
    kept.assert_says(&["is kept and not carried out yet"]);
    drop(lock);
    assert_eq!(world.rows("SELECT state FROM orders"), [["open"]]);
    world.run_to(0, &["run"]);
    assert_eq!(world.rows("SELECT state FROM orders"), [["done"]]);
}

#[test]
fn s3_09_a_run_is_continued_by_its_id_with_its_own_recipe_and_window_or_not_at_all() {
    let mut world = World::new(&WorldOptions {
        pages: 2,
        ..WorldOptions::default()
    });
    world.run_to(75, &["run", "--once", "--run-id", "january"]);
    world.run_to(0, &["run", "--run-id", "january"]);
    assert_eq!(
        world.rows("SELECT run_id, restarts FROM runs"),
        [["january", "1"]],
        "s3_04"
    );
    let other = world.run(&["run", "--run-id", "january", "--window", "2025-01-23"]);
    other.assert_code(78);
    other.assert_says(&["was begun with another window (none): give this one another id"]);
    world.set("model.name", "gemini-3.8-pro");
    world.set("api.project", "");
    let other = world.run(&["run", "--run-id", "january"]);
    other.assert_code(78);
    other.assert_says(&["was begun with another recipe"]);
}

#[test]
fn f14_another_key_of_the_same_project_takes_over_and_one_of_another_project_does_not() {
    let mut world = World::new(&WorldOptions {
        pages: 2,
        latency_ms: 600_000,
        any_key: true,
        ..WorldOptions::default()
    });
    world.run_to(75, &["run", "--once"]);
    world
        .run_to(0, &["rekey", "--yes"])
        .assert_says(&["every live batch was made under this key"]);
    world.variable("GEMINI_API_KEY", Some("another-key"));
    let refused = world.run(&["run", "--once"]);
    refused.assert_code(78);
    refused.assert_says(&["pagemill rekey"]);

    // A job that the new key does not see keeps everything as it is.
    let provider = world.emulator.base_url();
    let elsewhere = World::new(&WorldOptions {
        any_key: true,
        ..WorldOptions::default()
    });
    world.variable(
        "GOOGLE_GEMINI_BASE_URL",
        Some(&elsewhere.emulator.base_url()),
    );
    let blind = world.run(&["rekey", "--yes"]);
    blind.assert_code(1);
    blind.assert_says(&["this key does not see batches/", "nothing was changed"]);
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&provider));

    let keys = "SELECT count(DISTINCT key_fingerprint) FROM submissions";
    let before = world.rows("SELECT key_fingerprint FROM submissions");
    world
        .run_to(0, &["rekey", "--dry-run"])
        .assert_says(&["would take over"]);
    assert_eq!(
        world.rows("SELECT key_fingerprint FROM submissions"),
        before
    );
    let taken = ["rekey", "--yes", "--by", "ann", "--reason", "expired"];
    world
        .run_to(0, &taken)
        .assert_says(&["taken over by the key"]);
    assert_ne!(
        world.rows("SELECT key_fingerprint FROM submissions"),
        before
    );
    assert_eq!(world.number(keys), 1);
    let traced = world.rows("SELECT command, by_whom, reason, state FROM orders");
    assert_eq!(traced, [["rekey", "ann", "expired", "done"]]);
    world.run_to(75, &["run", "--once"]);
    assert_eq!(world.ledger().jobs_made, 1, "nothing was bought again");
    world.run_to(0, &["verify"]);
}

#[test]
fn a_run_that_was_killed_is_stopped_when_another_begins_and_a_choice_of_nothing_is_told() {
    let world = World::new(&WorldOptions {
        latency_ms: 600_000,
        ..WorldOptions::default()
    });
    let mut running = world.start(&["run", "--run-id", "killed"]);
    running.wait_until_said(&["batch submitted"]);
    running.kill();
    world.run_to(75, &["run", "--once", "--run-id", "after"]);
    let runs = "SELECT run_id, status, ended_at IS NOT NULL FROM runs ORDER BY created_at";
    let expected = [["killed", "stopped", "1"], ["after", "stopped", "1"]];
    assert_eq!(world.rows(runs), expected);

    let nobody = world.run_to(0, &["redo", "--states", "Alabam", "--yes"]);
    nobody.assert_says(&["redo (state Alabam): no known page is meant"]);
    let nothing = world.run_to(0, &["redo", "--states", "S0", "--yes"]);
    nothing.assert_says(&[
        "redo (state S0): nothing to do",
        "1  batched: left as they are",
    ]);
}

#[test]
fn s3_13_a_window_takes_the_labels_that_arrived_in_it_and_drift_is_found() {
    let world = World::new(&WorldOptions {
        pages: 3,
        ..WorldOptions::default()
    });
    let at = |number: usize, when: &str| {
        let touched = std::process::Command::new("touch")
            .args(["-d", when])
            .arg(world.label(&key(0, number)))
            .status();
        assert!(touched.unwrap().success());
    };
    at(1, "2025-01-22T23:59:59Z");
    at(2, "2025-01-23T00:00:00Z");
    at(3, "2025-01-24T00:00:00Z");
    world.run_to(0, &["run", "--window", "2025-01-23"]);
    assert_eq!(world.requested(), [key(0, 2)]);
    let booked = world.rows("SELECT record_key, window_name, arrived_at FROM pages");
    assert_eq!(
        booked,
        [[
            key(0, 2),
            "2025-01-23 UTC".into(),
            "2025-01-23T00:00:00.000000Z".into()
        ]]
    );
    world.run_to(0, &["verify"]);

    // In Berlin the day began an hour earlier.
    world.run_to(
        0,
        &["run", "--window", "2025-01-23", "--zone", "Europe/Berlin"],
    );
    assert_eq!(world.requested(), [key(0, 1), key(0, 2)]);
    world.run_to(
        0,
        &["run", "--since", "2025-01-24", "--until", "2025-01-25"],
    );
    Books::default().check(&world);
    for (window, pages) in [("2025-01-23 UTC", 1), ("2025-01-23 Europe/Berlin", 1)] {
        let sql = format!("SELECT count(*) FROM pages WHERE window_name = '{window}'");
        assert_eq!(world.number(&sql), pages, "sum over windows = total");
    }
    at(3, "2025-03-01T00:00:00Z");
    let drifted = world.run(&["verify"]);
    drifted.assert_code(1);
    drifted.assert_says(&["window drift", &key(0, 3)]);
    let wrong = world.run(&["run", "--window", "23.1.2025"]);
    wrong.assert_code(2);
    wrong.assert_says(&["write it as 2025-01-23"]);
}
