//! `pagemill reconcile`: a database that was lost, or put back from an old copy, is brought to what is
//! there, and nothing is paid for twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pagemill::adapters::gemini::{CHUNK_BYTES, GeminiClient, GeminiOptions, SecretText};
use pagemill::ports::batch_api::BatchApi;
use serde_json::Value;

use crate::kit::{Ended, KEY, Random, World, WorldOptions, sha256, wait_for};

fn chained(books: usize, pages: usize, latency_ms: u64) -> World {
    World::new(&WorldOptions {
        books,
        pages,
        latency_ms,
        settings: &[("execution.batch_size_limit", "2")],
        ..WorldOptions::default()
    })
}

/// The database with all that SQLite keeps beside it.
fn database_files(world: &World) -> Vec<PathBuf> {
    let database = world.database();
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
    ["", "-wal", "-shm"].map(beside).to_vec()
}

fn lose_database(world: &World) {
    for path in database_files(world) {
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
}

fn outputs(world: &World) -> usize {
    let pages = world.pages.iter();
    pages
        .filter(|page| world.output(&page.key).exists())
        .count()
}

fn manifests(world: &World) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(world.root().join("data/batches")) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    // One that is being written has another name until it is whole.
    let mut found: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    found.sort();
    found
}

/// Every page is done, by its own answer, and was asked for once.
fn assert_all_done_once(world: &World) {
    for page in &world.pages {
        let output = fs::read_to_string(world.output(&page.key)).unwrap();
        let image = sha256(&fs::read(world.image(&page.key)).unwrap());
        let expected = format!("text of {} image {image}", page.key);
        assert!(output.contains(&expected), "{}: {output}", page.key);
    }
    let completed = world.number("SELECT count(*) FROM pages WHERE stage = 'completed'");
    assert_eq!(completed as usize, world.pages.len());
    assert_eq!(world.number("SELECT count(*) FROM inflight_records"), 0);
    let ledger = world.ledger();
    let twice: Vec<(&String, &u64)> = ledger
        .requests_by_key
        .iter()
        .filter(|(_key, count)| **count != 1)
        .collect();
    assert!(twice.is_empty(), "paid for twice: {twice:?}");
    assert_eq!(ledger.requests_by_key.len(), world.pages.len());
    let doubled = ledger.jobs_by_name.values().any(|jobs| *jobs > 1);
    assert!(!doubled, "{:?}", ledger.jobs_by_name);
    assert_eq!(manifests(world), Vec::<PathBuf>::new());
    assert_history_gives_the_stages(world);
}

/// The last event of each page leads to where it is, and each event begins where the one before it
/// ended.
fn assert_history_gives_the_stages(world: &World) {
    let broken = world.rows(
        "SELECT p.record_key, p.stage, e.to_stage FROM pages AS p
         LEFT JOIN page_events AS e ON e.id =
             (SELECT max(id) FROM page_events WHERE record_key = p.record_key)
         WHERE e.to_stage IS NOT p.stage
         UNION ALL
         SELECT e.record_key, e.from_stage, b.to_stage FROM page_events AS e
         LEFT JOIN page_events AS b ON b.id =
             (SELECT max(id) FROM page_events WHERE record_key = e.record_key AND id < e.id)
         WHERE e.from_stage IS NOT b.to_stage",
    );
    assert_eq!(broken, Vec::<Vec<String>>::new());
}

fn kinds(ended: &Ended) -> Vec<String> {
    let said = ended.json();
    let found = said["differences"].as_array().unwrap().iter();
    found
        .map(|difference| difference["kind"].as_str().unwrap().to_owned())
        .collect()
}

fn client(world: &World) -> GeminiClient {
    // Another test of this process may have installed it.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    GeminiClient::new(GeminiOptions {
        base_url: world.emulator.base_url(),
        version: "v1beta".to_owned(),
        api_key: SecretText::new(KEY),
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(60),
        chunk_bytes: CHUNK_BYTES,
        body_bytes_max: 1 << 20,
        resume_pause: Duration::ZERO,
    })
    .unwrap()
}

/// Names of the jobs that the provider shows, newest first.
fn jobs(world: &World) -> Vec<String> {
    let listed = wait_for(client(world).list(None)).unwrap().items;
    listed.iter().map(|job| job.name.to_string()).collect()
}

#[test]
fn what_agrees_is_0_and_nothing_is_touched() {
    let world = chained(1, 2, 0);
    let ended = world.run_to(0, &["reconcile"]);
    ended.assert_says(&["0 jobs and 0 files", "the database and the provider agree"]);
    assert!(!world.database().exists());
    world.run_to(0, &["run"]);
    let before = fs::read(world.database()).unwrap();
    let ended = world.run_to(0, &["reconcile", "--json"]);
    assert_eq!(ended.json()["version"], 1);
    assert_eq!(ended.json()["differences"], Value::Array(vec![]));
    assert_eq!(fs::read(world.database()).unwrap(), before);
    world.run_to(0, &["reconcile", "--apply"]);
    world.run_to(2, &["reconcile", "--yes"]);
    assert_all_done_once(&world);
}

#[test]
fn p8_a_lost_database_is_rebuilt_and_nothing_is_paid_for_twice() {
    let world = chained(4, 3, 1500);
    let mut running = world.start(&["run"]);
    running.wait_until("live jobs beside outputs", || {
        outputs(&world) >= 2 && world.ledger().jobs_live >= 2
    });
    running.kill();
    lose_database(&world);
    let ended = world.run_to(1, &["run"]);
    ended.assert_says(&[
        "that this database does not know",
        "pagemill reconcile --apply",
    ]);
    lose_database(&world);
    let ended = world.run_to(1, &["reconcile"]);
    ended.assert_says(&["is not in the database, but the provider has batches/"]);
    assert!(!world.database().exists(), "comparing makes no database");
    let ended = world.run_to(2, &["reconcile", "--apply"]);
    ended.assert_says(&["there is nobody to ask; add --yes", "nothing was changed"]);
    let ended = world.run_to(0, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&["adopted with ", "pagemill run goes on from here"]);
    world.run_to(0, &["run"]);
    assert_all_done_once(&world);
    assert!(world.ledger().files.unwrap().is_empty(), "files are left");
}

/// Answers that get lost, lists that are late: nothing that makes an answer unusable, so that each
/// page still needs one request only.
const ROUGH: &str = "
upload_chunk_lost_answer: 0.1
upload_finalize_lost_answer: 0.1
create_503: 0.1
create_lost_503: 0.2
create_lost_closed: 0.2
create_slow: {rate: 0.2, milliseconds: 300}
poll_503: 0.2
list_503: 0.1
list_without_page_size_empty: 1
list_delay: {rate: 0.4, milliseconds: 400}
job_pending_longer: {rate: 0.2, milliseconds: 400}
results_unnamed: {rate: 0.2, milliseconds: 300}
download_503: 0.2
download_cut: 0.2
delete_503: 0.1
";

/// Kills the program and loses its database at random moments; gives how often.
fn lose_again_and_again(world: &World, random: &mut Random) -> u32 {
    const LOSSES: u32 = 6;
    let mut losses = 0;
    let ended = loop {
        let mut running = world.start(&["run"]);
        if losses == LOSSES {
            break running.wait();
        }
        let moment = Duration::from_millis(random.between(100, 2500));
        match running.wait_at_most(moment) {
            Some(ended) => break ended,
            None => running.kill(),
        }
        lose_database(world);
        losses += 1;
        let reconcile = || world.run(&["reconcile", "--apply", "--yes"]);
        let mut reconciled = reconcile();
        // The provider's list may fail as often as it likes; then nothing was changed.
        while reconciled.code == Some(69) {
            reconciled = reconcile();
        }
        reconciled.assert_code(0);
    };
    ended.assert_code(0);
    losses
}

#[test]
fn p8_a_database_lost_again_and_again_at_random_moments() {
    let mut random = Random::new("reconcile");
    let world = chained(5, 3, 700);
    let losses = lose_again_and_again(&world, &mut random);
    eprintln!("{losses} losses, {} jobs", world.ledger().jobs_made);
    assert_all_done_once(&world);
}

#[test]
fn f12_a_database_lost_while_answers_get_lost_and_lists_are_late() {
    let mut random = Random::new("reconcile, rough");
    let world = World::new(&WorldOptions {
        books: 5,
        pages: 3,
        latency_ms: 700,
        faults: ROUGH,
        seed: random.seed(),
        settings: &[("execution.batch_size_limit", "2")],
        ..WorldOptions::default()
    });
    let losses = lose_again_and_again(&world, &mut random);
    let ledger = world.ledger();
    eprintln!(
        "{losses} losses, {} creates, {} jobs, faults {:?}",
        ledger.creates_seen, ledger.jobs_made, ledger.faults_played
    );
    assert_all_done_once(&world);
}

#[test]
fn p8_an_old_copy_of_the_database_is_brought_up_to_what_happened_since() {
    let world = chained(4, 3, 1000);
    let mut running = world.start(&["run"]);
    running.wait_until("live jobs beside outputs", || {
        outputs(&world) >= 2 && world.ledger().jobs_live >= 2
    });
    running.signal("TERM");
    running.wait().assert_code(75);
    let copy = world.folder().join("copy.db");
    fs::copy(world.database(), &copy).unwrap();
    let mut running = world.start(&["run"]);
    running.wait_until("much happened since", || {
        outputs(&world) >= 8 && world.ledger().jobs_live >= 1
    });
    running.kill();
    lose_database(&world);
    fs::copy(&copy, world.database()).unwrap();
    let before = world.run_to(1, &["reconcile", "--json"]);
    assert!(!kinds(&before).is_empty(), "{}", before.out);
    world.run_to(0, &["reconcile", "--apply", "--yes"]);
    world.run_to(0, &["run"]);
    assert_all_done_once(&world);
}

#[test]
fn f12_an_old_copy_that_has_not_come_to_the_create_does_not_create_again() {
    let world = chained(1, 1, 600_000);
    let mut running = world.start(&["run"]);
    running.wait_until("a job", || world.ledger().jobs_made == 1);
    running.wait_until("it is known", || {
        world.number("SELECT count(*) FROM submissions WHERE state = 'submitted'") == 1
    });
    running.kill();
    // What a copy holds that was made just before the create.
    change(
        &world,
        "UPDATE submissions SET state = 'planned', remote_name = NULL, submitted_at = NULL",
    );
    let ended = world.run_to(1, &["reconcile"]);
    ended.assert_says(&["is planned in the database, but the provider has batches/"]);
    let ended = world.run_to(0, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&["is submitted now"]);
    world.run_to(75, &["run", "--once"]);
    assert_eq!(world.ledger().jobs_made, 1);
}

fn change(world: &World, sql: &str) {
    use sea_orm::ConnectionTrait;
    wait_for(async {
        let connection = sqlite::connect_to(&world.database()).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn f13_a_job_that_is_gone_is_unreachable_and_its_pages_are_not_sent_again() {
    let world = chained(1, 1, 600_000);
    let mut running = world.start(&["run"]);
    running.wait_until("a job is known", || {
        world.ledger().jobs_made == 1
            && world.number("SELECT count(*) FROM submissions WHERE state = 'submitted'") == 1
    });
    running.kill();
    let job = jobs(&world).remove(0);
    wait_for(client(&world).delete_batch(&job.as_str().into())).unwrap();
    let ended = world.run_to(1, &["reconcile", "--json"]);
    assert_eq!(kinds(&ended), ["unreachable"]);
    let ended = world.run_to(1, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&["left as it is: its pages are not sent again by themselves"]);
    world.run_to(75, &["run", "--once"]);
    assert_eq!(world.ledger().jobs_made, 1);
    let batched = world.number("SELECT count(*) FROM pages WHERE stage = 'batched'");
    assert_eq!(batched, 1);
}

#[test]
fn p4_without_a_manifest_a_job_is_told_by_its_results() {
    let world = chained(2, 1, 1500);
    let mut running = world.start(&["run"]);
    running.wait_until("a job", || world.ledger().jobs_made == 1);
    running.kill();
    lose_database(&world);
    for manifest in manifests(&world) {
        fs::remove_file(manifest).unwrap();
    }
    let ended = world.run_to(1, &["reconcile", "--apply", "--yes", "--json"]);
    assert_eq!(kinds(&ended), ["unclaimed"]);
    ended.assert_says(&["start no run before"]);
    wait_for_the_end(&world);
    let ended = world.run_to(0, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&["adopted with 2 pages as batches/"]);
    world.run_to(0, &["run"]);
    assert_all_done_once(&world);
}

/// Waits until every job has ended; a job's end comes by itself.
fn wait_for_the_end(world: &World) {
    let client = client(world);
    loop {
        let jobs = wait_for(client.list(None)).unwrap().items;
        if jobs.iter().all(|job| job.state.is_terminal()) {
            return;
        }
        std::thread::yield_now();
    }
}

/// A batch that ended empty and whose pages went into the next one: a crash can leave both manifests.
#[test]
fn p2_a_page_that_two_manifests_name_belongs_to_the_newer_batch() {
    let world = chained(1, 1, 1000);
    world.emulator.set_faults(
        pagemill::emulator::FaultProfile::from_yaml("job_expired: {rate: 1, at_most: 1}").unwrap(),
    );
    let mut running = world.start(&["run"]);
    running.wait_until("the first manifest", || manifests(&world).len() == 1);
    let first = manifests(&world).remove(0);
    let kept = fs::read(&first).unwrap();
    running.wait_until("the second job", || world.ledger().jobs_made == 2);
    running.kill();
    fs::write(&first, kept).unwrap();
    assert_eq!(manifests(&world).len(), 2);
    lose_database(&world);
    let ended = world.run_to(0, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&[
        "none of its pages is free",
        "has it; batches/",
        "is left alone",
    ]);
    assert_eq!(manifests(&world).len(), 1);
    world.run_to(0, &["run"]);
    assert_eq!(world.ledger().jobs_made, 2);
    assert!(world.output(&world.pages[0].key).exists());
}

#[test]
fn jobs_and_files_of_other_projects_are_left_alone() {
    let ours = chained(1, 2, 0);
    let mut theirs = World::new(&WorldOptions {
        books: 3,
        pages: 1,
        settings: &[("filters.where.school", "[School 1, School 2]")],
        ..WorldOptions::default()
    });
    for prefix in ["other", "pagemill"] {
        theirs.set("batch.display_name_prefix", prefix);
        let base = ours.emulator.base_url();
        theirs.variable("GOOGLE_GEMINI_BASE_URL", Some(&base));
        let before = ours.ledger().jobs_made;
        let mut running = theirs.start(&["run"]);
        running.wait_until("their job", || ours.ledger().jobs_made > before);
        running.kill();
        let (jobs_before, files_before) = (jobs(&ours), ours.ledger().files_live);
        if prefix == "other" {
            ours.run_to(0, &["reconcile"]);
            ours.run_to(0, &["reconcile", "--apply", "--yes"]);
        } else {
            wait_for_the_end(&ours);
            ours.run_to(1, &["reconcile"]);
            let ended = ours.run_to(0, &["reconcile", "--apply", "--yes"]);
            ended.assert_says(&["name pages that have no label here: not ours, left alone"]);
            assert!(
                !ours
                    .root()
                    .join("data/raw")
                    .read_dir()
                    .unwrap()
                    .any(|_| true)
            );
        }
        assert_eq!(jobs(&ours), jobs_before);
        assert_eq!(ours.ledger().files_live, files_before);
        theirs.run_to(0, &["run"]);
        theirs.run_to(0, &["run"]);
        for page in &theirs.pages {
            // So that the next round has something to send.
            let _was_there = fs::remove_file(theirs.output(&page.key));
        }
    }
}

#[test]
fn f12_a_doubled_job_is_told_and_watched() {
    let world = chained(1, 1, 600_000);
    let mut running = world.start(&["run"]);
    running.wait_until("a job is known", || {
        world.ledger().jobs_made == 1
            && world.number("SELECT count(*) FROM submissions WHERE state = 'submitted'") == 1
    });
    running.kill();
    let known = world
        .rows("SELECT model, display_name, lines_file FROM submissions")
        .remove(0);
    let [model, name, lines] = known.as_slice() else {
        panic!("{known:?}");
    };
    wait_for(client(&world).create(model, name, &lines.as_str().into())).unwrap();
    let ended = world.run_to(1, &["reconcile", "--json"]);
    assert_eq!(kinds(&ended), ["doubled"]);
    ended.assert_says(&["has 2 jobs, newest first: batches/"]);
    let ended = world.run_to(0, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&["1 further jobs are watched from here on"]);
    assert_eq!(jobs(&world).len(), 2);
    let watched = world.rows("SELECT remote_name FROM late_jobs").remove(0);
    assert_eq!(watched, [jobs(&world).remove(0)], "the newer one");
}

#[test]
fn orphans_with_our_mark_are_swept_and_a_broken_manifest_keeps_them() {
    let world = chained(1, 1, 600_000);
    let mut running = world.start(&["run"]);
    running.wait_until("a job is known", || {
        world.ledger().jobs_made == 1
            && world.number("SELECT count(*) FROM submissions WHERE state = 'submitted'") == 1
    });
    running.kill();
    let files = world.ledger().files_live;
    change(&world, "DELETE FROM remote_files WHERE purpose = 'lines'");
    let manifest = manifests(&world).remove(0);
    let other = manifest.with_file_name("01a201a6-517c-75a1-a897-c28b16fc7a22.json");
    fs::write(&other, b"{\"version\": 1").unwrap();
    let ended = world.run_to(1, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&["cannot be read", "a job that was not adopted may need them"]);
    assert_eq!(world.ledger().files_live, files);
    fs::remove_file(&other).unwrap();
    let ended = world.run_to(0, &["reconcile", "--apply", "--yes"]);
    ended.assert_says(&["1 that nobody knows are deleted at the provider"]);
    assert_eq!(world.ledger().files_live, files - 1);
    world.run_to(0, &["reconcile"]);
}

#[test]
fn a_run_that_is_going_on_and_another_key_refuse() {
    let mut world = chained(1, 1, 600_000);
    let mut running = world.start(&["run"]);
    running.wait_until("a job is known", || {
        world.ledger().jobs_made == 1
            && world.number("SELECT count(*) FROM submissions WHERE state = 'submitted'") == 1
    });
    world.run_to(0, &["reconcile"]);
    world.run_to(5, &["reconcile", "--apply", "--yes"]);
    running.kill();
    world.variable("GEMINI_API_KEY", Some("planted-other-77aa10"));
    let ended = world.run_to(78, &["reconcile"]);
    ended.assert_says(&["Use the key that made them"]);
    assert!(is_nowhere(world.folder(), KEY));
    world.variable("GEMINI_API_KEY", Some(KEY));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr();
    let nobody = format!("http://{}", nobody.unwrap());
    world.variable("GOOGLE_GEMINI_BASE_URL", Some(&nobody));
    world.run_to(69, &["reconcile"]);
}

fn is_nowhere(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().all(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_nowhere(&path, text);
        }
        let content = fs::read(&path).unwrap();
        memchr::memmem::find(&content, text.as_bytes()).is_none()
    })
}
