//! `pagemill backup`, `restore` and `nuke`: nothing is lost, nothing is paid for twice, and what is
//! deleted is what was announced.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kit::{World, WorldOptions, rows, sha256, write};

fn chained(books: usize, pages: usize, latency_ms: u64) -> World {
    World::new(&WorldOptions {
        books,
        pages,
        latency_ms,
        settings: &[
            ("execution.batch_size_limit", "2"),
            ("breaker.pilot_pages", "0"),
        ],
        ..WorldOptions::default()
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn backups(world: &World) -> Vec<PathBuf> {
    files(&world.root().join("data/backups"))
}

fn outputs(world: &World) -> usize {
    let pages = world.pages.iter();
    pages
        .filter(|page| world.output(&page.key).exists())
        .count()
}

/// Every page is done, by its own answer, and was asked for once.
fn assert_all_done_once(world: &World, root: &Path) {
    for page in &world.pages {
        let levels = page.key.replace(':', "/");
        let output = root.join(format!("dataset/output_results/{levels}.json"));
        let output = fs::read_to_string(output).unwrap();
        let image = root.join(format!("dataset/raw_image_dataset/{levels}.png"));
        let image = sha256(&fs::read(image).unwrap());
        let expected = format!("text of {} image {image}", page.key);
        assert!(output.contains(&expected), "{}: {output}", page.key);
    }
    let ledger = world.ledger();
    let twice: Vec<(&String, &u64)> = ledger
        .requests_by_key
        .iter()
        .filter(|(_key, count)| **count != 1)
        .collect();
    assert!(twice.is_empty(), "paid for twice: {twice:?}");
    assert_eq!(ledger.requests_by_key.len(), world.pages.len());
    let database = root.join("data/gemini_batches.db");
    let done = rows(
        &database,
        "SELECT count(*) FROM pages WHERE stage = 'completed'",
    );
    assert_eq!(done, [[world.pages.len().to_string()]]);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn s4_44_after_an_old_backup_is_put_back_nothing_is_paid_for_twice() {
    let world = chained(4, 3, 1000);
    let mut running = world.start(&["run"]);
    running.wait_until("live jobs beside outputs", || {
        outputs(&world) >= 2 && world.ledger().jobs_live >= 2
    });
    let ended = world.run_to(0, &["backup", "--json"]);
    let made = ended.json();
    assert_eq!(made["version"], 1);
    let backup = PathBuf::from(made["backup"]["file"].as_str().unwrap());
    let live = made["backup"]["batches_by_state"]["submitted"].as_u64();
    assert!(live.is_some_and(|live| live >= 1), "{made}");
    let refused = world.run_to(5, &["restore", text(&backup), "--yes"]);
    refused.assert_says(&["is in use by another pagemill"]);
    running.wait().assert_code(0);

    world.run_to(0, &["backup", "--verify", text(&backup)]);
    let before = fs::read(world.database()).unwrap();
    let told = world.run_to(0, &["restore", text(&backup), "--dry-run"]);
    told.assert_says(&[
        "12 pages",
        "of history are only in the present one",
        "kept as",
    ]);
    let refused = world.run_to(2, &["restore", text(&backup)]);
    refused.assert_says(&["there is nobody to ask; add --yes", "nothing was changed"]);
    assert_eq!(fs::read(world.database()).unwrap(), before);
    let done = world.run_to(0, &["restore", text(&backup), "--yes"]);
    done.assert_says(&[
        "restored data/gemini_batches.db",
        "pagemill reconcile --apply",
    ]);
    let kept = files(&world.root().join("data"));
    let kept = kept
        .iter()
        .find(|path| text(path).contains(".before-restore-"));
    assert_eq!(fs::read(kept.unwrap()).unwrap(), before);

    world.run_to(0, &["reconcile", "--apply", "--yes"]);
    world.run_to(0, &["run"]);
    assert_all_done_once(&world, &world.root());
    world.run_to(0, &["verify"]);
    // And once more in one go, over a database that is gone.
    fs::remove_file(world.database()).unwrap();
    let ended = world.run_to(0, &["restore", text(&backup), "--yes", "--reconcile"]);
    ended.assert_says(&[
        "where there is no database",
        "restored data/gemini_batches.db",
    ]);
    world.run_to(0, &["run"]);
    assert_all_done_once(&world, &world.root());
}

#[test]
fn s4_43_backups_beside_a_run_pass_and_old_ones_go() {
    let world = chained(6, 4, 100);
    let folder = world.root().join("data/backups");
    for name in [
        "gemini_batches-20260101T030000Z.db",
        "gemini_batches-20260102T030000Z.db",
        "another-20260101T030000Z.db",
        "notes.txt",
    ] {
        write(&folder.join(name), name.as_bytes());
    }
    let mut running = world.start(&["run"]);
    running.wait_until_said(&["labels scanned"]);
    let mut made = Vec::new();
    while running.wait_at_most(std::time::Duration::ZERO).is_none() {
        let ended = world.run_to(0, &["backup", "--json"]);
        made.push(ended.json()["backup"]["file"].as_str().unwrap().to_owned());
    }
    assert!(made.len() >= 2, "{made:?}");
    for backup in &made {
        let ended = world.run_to(0, &["backup", "--verify", backup]);
        ended.assert_says(&["is whole"]);
        // Each is a state that was committed: what was sent out is accounted for.
        let odd = rows(
            Path::new(backup),
            "SELECT count(*) FROM submissions AS s WHERE s.record_count <>
               (SELECT count(*) FROM batch_record_keys AS k WHERE k.batch_id = s.batch_id)",
        );
        assert_eq!(odd, [["0"]], "{backup}");
    }
    let told = world.run_to(0, &["backup", "--keep", "30d", "--dry-run"]);
    told.assert_says(&["would take away data/backups/gemini_batches-20260101T030000Z.db"]);
    assert_eq!(backups(&world).len(), made.len() + 4);
    let ended = world.run_to(0, &["backup", "--keep", "30d"]);
    ended.assert_says(&["took away data/backups/gemini_batches-20260102T030000Z.db"]);
    assert_eq!(backups(&world).len(), made.len() + 1 + 2);
    world.run_to(0, &["backup", "--keep", "2"]);
    assert_eq!(backups(&world).len(), 2 + 2);
    let listed = world.run_to(0, &["backup", "--list", "--json"]).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2);
    assert!(
        backups(&world)
            .iter()
            .all(|path| !text(path).ends_with(".part"))
    );
    // Elsewhere, and one that does not pass.
    world.run_to(0, &["backup", "--to", "far/away"]);
    let far = files(&world.root().join("far/away"));
    let mut bytes = fs::read(&far[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    fs::write(&far[0], bytes).unwrap();
    world
        .run_to(2, &["restore", "none.db", "--yes"])
        .assert_says(&["is no file"]);
    let itself = ["restore", "data/gemini_batches.db", "--yes"];
    world
        .run_to(2, &itself)
        .assert_says(&["is the database itself"]);
    let refused = world.run_to(1, &["backup", "--verify", text(&far[0])]);
    refused.assert_says(&["is damaged"]);
    let refused = world.run_to(1, &["restore", text(&far[0]), "--yes"]);
    refused.assert_says(&["nothing was changed", "is damaged"]);
    world.run_to(0, &["verify"]);
}

/// Runs until results are on the disk and cannot be collected, and dies.
fn die_over_raw_results(world: &World) {
    let running = world.start(&["run"]);
    let mut running = running;
    running.wait_until("a job is live", || world.ledger().jobs_live >= 1);
    // A file where folders have to be: collecting waits.
    write(
        &world.root().join("dataset/output_results/S0"),
        b"in the way",
    );
    running.wait_until("results are on the disk", || {
        let fetched = "SELECT count(*) FROM submissions WHERE raw_path IS NOT NULL";
        world.database().exists() && world.number(fetched) >= 1
    });
    running.kill();
    fs::remove_file(world.root().join("dataset/output_results/S0")).unwrap();
}

#[test]
fn a_project_that_was_moved_goes_on_from_where_it_is() {
    let world = chained(1, 2, 700);
    die_over_raw_results(&world);
    let downloads = |world: &World| {
        let by_endpoint = world.ledger().requests_by_endpoint;
        let found = by_endpoint
            .iter()
            .filter(|(name, _count)| name.contains("download"));
        found.map(|(_name, count)| count).sum::<u64>()
    };
    let fetched = downloads(&world);
    assert_eq!(fetched, 1);
    let there = world.folder().join("another machine/archive");
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::rename(world.root(), &there).unwrap();
    let run = |arguments: &[&str]| world.start_in(&there, arguments).wait();
    run(&["reconcile"]).assert_code(0);
    run(&["run"]).assert_code(0);
    assert_all_done_once(&world, &there);
    // The results that were on the disk were not fetched again.
    assert_eq!(downloads(&world), fetched + 1);
    run(&["verify"]).assert_code(0);
    // Nor do they have to be paid for again when an output is lost.
    let output = there.join(format!(
        "dataset/output_results/{}.json",
        world.pages[0].key.replace(':', "/")
    ));
    let paid = fs::read(&output).unwrap();
    fs::remove_file(&output).unwrap();
    run(&["verify", "--fix", "--restore", "--yes"]).assert_code(0);
    assert_eq!(fs::read(&output).unwrap(), paid);
}

#[test]
fn s1_25_after_nuke_the_next_run_begins_anew() {
    let world = chained(4, 1, 1200);
    let mut running = world.start(&["run"]);
    running.wait_until("jobs are live", || world.ledger().jobs_live >= 2);
    let refused = world.run_to(5, &["nuke", "--confirm", "--yes"]);
    refused.assert_says(&["is in use by another pagemill"]);
    running.kill();

    let before = fs::read(world.database()).unwrap();
    let told = world.run_to(0, &["nuke", "--dry-run"]);
    told.assert_says(&[
        "would delete",
        "2 batches are live",
        "batches/",
        "nothing was changed",
    ]);
    let announced = world.run_to(0, &["nuke", "--dry-run", "--json"]).json();
    world
        .run_to(2, &["nuke"])
        .assert_says(&["pagemill nuke --confirm"]);
    let refused = world.run_to(1, &["nuke", "--confirm", "--yes"]);
    refused.assert_says(&["2 batches are live", "nothing was deleted", "--abandon"]);
    let refused = world.run_to(2, &["nuke", "--confirm", "--abandon"]);
    refused.assert_says(&["there is nobody to ask; add --yes", "nothing was deleted"]);
    assert_eq!(fs::read(world.database()).unwrap(), before);

    let done = world
        .run_to(0, &["nuke", "--confirm", "--abandon", "--yes", "--json"])
        .json();
    for field in [
        "tables",
        "manifests",
        "spool",
        "live",
        "unknown",
        "remote_files",
    ] {
        assert_eq!(done[field], announced[field], "{field}");
    }
    assert_eq!(done["live"].as_array().unwrap().len(), 2);
    assert_eq!(world.number("SELECT count(*) FROM pages"), 0);
    assert_eq!(
        files(&world.root().join("data/batches")),
        Vec::<PathBuf>::new()
    );
    world
        .run_to(0, &["nuke", "--confirm"])
        .assert_says(&["there is nothing to delete"]);
    for page in &world.pages {
        assert!(world.label(&page.key).exists() && world.image(&page.key).exists());
    }
    // The next run is clean, and every page is sent again: that is what was asked for.
    world.run_to(0, &["run"]);
    assert_eq!(outputs(&world), world.pages.len());
    assert!(
        world
            .ledger()
            .requests_by_key
            .values()
            .all(|count| *count <= 2)
    );
    // With the outputs in place a second one costs nothing.
    let paid = world.ledger().requests_by_key;
    world.run_to(
        0,
        &[
            "nuke",
            "--confirm",
            "--recreate-tables",
            "--yes",
            "--no-backup",
        ],
    );
    assert_eq!(outputs(&world), world.pages.len());
    world.run_to(0, &["run"]);
    assert_eq!(world.ledger().requests_by_key, paid);
    assert_eq!(
        world.number("SELECT count(*) FROM pages WHERE stage = 'completed'"),
        4
    );
    // What was deleted first is in the backup that was made before.
    let backup = done["backup"].as_str().unwrap();
    let found = world
        .run_to(0, &["backup", "--verify", backup, "--json"])
        .json();
    assert_eq!(found["batches_by_state"]["submitted"], Value::from(2));
    assert_eq!(backups(&world).len(), 1);
}

#[test]
fn nuke_knows_the_batches_of_a_database_that_was_lost() {
    let world = chained(1, 1, 1500);
    let mut running = world.start(&["run"]);
    running.wait_until("a job is live", || world.ledger().jobs_live >= 1);
    running.kill();
    for path in files(&world.root().join("data")) {
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    let refused = world.run_to(1, &["nuke", "--confirm", "--yes"]);
    refused.assert_says(&["1 batch is live", "known by its manifest alone"]);
    world.run_to(0, &["nuke", "--confirm", "--yes", "--abandon"]);
    world.run_to(0, &["run"]);
    assert_eq!(outputs(&world), 1);
}
