//! Each limit and filter, in a world where ignoring it would show.

use std::fs;

use crate::books::Books;
use crate::kit::{Ended, World, WorldOptions, key, png, prompt_sha256, sha256, write};

/// A world whose pages do not wait for each other.
fn unchained(books: usize, pages: usize, settings: &[(&str, &str)]) -> World {
    let mut world = World::new(&WorldOptions {
        books,
        pages,
        settings,
        ..WorldOptions::default()
    });
    world.set("execution.context", "none");
    world
}

/// What the emulator writes into the free text of a page.
fn answer(world: &World, key: &str) -> String {
    let image = sha256(&fs::read(world.image(key)).unwrap());
    format!("text of {key} image {image}")
}

fn last_prompt(world: &World, key: &str) -> String {
    world.ledger().last_request_by_key[key]
        .prompt_sha256
        .clone()
}

/// The numbers of pages of each job, largest first.
fn job_sizes(world: &World) -> Vec<usize> {
    let sql = "SELECT count(*) FROM batch_record_keys GROUP BY batch_id ORDER BY 1 DESC";
    let rows = world.rows(sql).into_iter().flatten();
    rows.map(|count| count.parse().unwrap()).collect()
}

#[test]
fn batch_size_limit_bounds_every_job() {
    let settings = [
        ("execution.batch_size_limit", "7"),
        ("batch.fill_wait_seconds", "30"),
    ];
    let world = unchained(2, 20, &settings);
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    let sizes = job_sizes(&world);
    assert_eq!(sizes[0], 7, "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 40, "{sizes:?}");
    assert_eq!(world.ledger().jobs_made, sizes.len() as u64);
}

#[test]
fn f15_p7_max_retries_bounds_the_tries_of_a_page_and_its_successor_goes_on() {
    let bad = key(0, 2);
    let faults = format!("pages: [{{key: '{bad}', kind: invalid_schema, times: always}}]");
    let world = World::new(&WorldOptions {
        pages: 4,
        faults: &faults,
        settings: &[("execution.max_retries", "2")],
        ..WorldOptions::default()
    });
    let ended = world.run_to(3, &["run"]);
    ended.assert_says(&["finished, but some pages are not done", "3 ValidationError"]);
    let books = Books {
        dead: [bad.clone()].into(),
    };
    books.check(&world);
    let requests = world.ledger().requests_by_key;
    let tries: Vec<u64> = requests.values().copied().collect();
    assert_eq!(tries, [1, 3, 1, 1], "{requests:?}");
    let (third, fourth) = (key(0, 3), key(0, 4));
    assert_eq!(last_prompt(&world, &third), prompt_sha256(&third, None));
    let context = answer(&world, &third);
    let expected = prompt_sha256(&fourth, Some(&context));
    assert_eq!(last_prompt(&world, &fourth), expected);
    // Started again, it stays dead and costs nothing.
    world.run_to(3, &["run"]);
    assert_eq!(world.ledger().requests_by_key, requests);
}

#[test]
fn max_retries_of_zero_means_one_try() {
    let bad = key(0, 1);
    let faults = format!("pages: [{{key: '{bad}', kind: recitation, times: 1}}]");
    let world = World::new(&WorldOptions {
        faults: &faults,
        settings: &[("execution.max_retries", "0")],
        ..WorldOptions::default()
    });
    world.run_to(3, &["run"]);
    assert_eq!(world.ledger().requests_by_key[&bad], 1);
}

#[test]
fn p7_a_dead_page_blocks_the_next_one_where_that_is_asked_for() {
    let bad = key(0, 1);
    let faults = format!("pages: [{{key: '{bad}', kind: missing, times: always}}]");
    let world = World::new(&WorldOptions {
        pages: 2,
        faults: &faults,
        settings: &[
            ("execution.max_retries", "0"),
            ("execution.on_dead_predecessor", "block"),
        ],
        ..WorldOptions::default()
    });
    world.run_to(3, &["run"]);
    assert_eq!(world.requested(), [bad]);
}

#[test]
fn max_concurrent_batches_bounds_the_live_jobs() {
    let settings = [
        ("execution.batch_size_limit", "2"),
        ("execution.max_concurrent_batches", "2"),
    ];
    let mut world = World::new(&WorldOptions {
        books: 4,
        pages: 3,
        latency_ms: 1500,
        settings: &settings,
        ..WorldOptions::default()
    });
    world.set("execution.context", "none");
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    let ledger = world.ledger();
    assert!(ledger.jobs_made >= 6, "{}", ledger.jobs_made);
    assert_eq!(ledger.jobs_live_max, 2);
}

/// Runs with a filter; only the pages of these books may be touched.
fn check_filter(settings: &[(&str, &str)], arguments: &[&str], books: &[usize]) {
    let world = unchained(8, 1, settings);
    let ended: Ended = world.run_to(0, arguments);
    let expected: Vec<String> = books.iter().map(|book| key(*book, 1)).collect();
    let mut requested = world.requested();
    requested.sort_by_key(|key| expected.iter().position(|known| known == key));
    assert_eq!(
        requested, expected,
        "{settings:?} {arguments:?} {}",
        ended.err
    );
    let images = "SELECT record_key FROM remote_files WHERE purpose = 'image' ORDER BY 1";
    let mut images: Vec<String> = world.rows(images).into_iter().flatten().collect();
    images.sort_by_key(|key| expected.iter().position(|known| known == key));
    assert_eq!(images, expected, "{settings:?} {arguments:?}");
    let ledger = world.ledger();
    let uploads = ledger.uploads_finalized - ledger.jobs_made;
    assert_eq!(
        uploads,
        books.len() as u64,
        "beside a file of lines for each job"
    );
    for page in &world.pages {
        let wanted = expected.contains(&page.key);
        assert_eq!(world.output(&page.key).exists(), wanted, "{}", page.key);
    }
}

#[test]
fn filters_leave_other_pages_alone() {
    check_filter(&[("filters.target_states", "[S1]")], &["run"], &[1, 5]);
    let years = [("filters.target_years", "{start: 1850, end: 1851}")];
    check_filter(&years, &["run"], &[1, 2, 5, 6]);
    check_filter(&[], &["run", "--states", "S0", "S3"], &[0, 3, 4, 7]);
    check_filter(&[], &["run", "--where", "school=School 6"], &[6]);
    let flags = ["run", "--year-start", "1849", "--year-end", "1849"];
    check_filter(&[], &flags, &[0, 4]);
    // A flag replaces what the settings say.
    let settings = [("filters.target_states", "[S1]")];
    check_filter(&settings, &["run", "--states", "S2"], &[2, 6]);
}

#[test]
fn a_page_is_not_asked_about_before_the_one_before_it_is_accepted() {
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 4,
        latency_ms: 100,
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    let first = |key: &str, stage: &str| {
        let quoted = key.replace('\'', "''");
        world.number(&format!(
            "SELECT min(id) FROM page_events WHERE record_key = '{quoted}' AND to_stage = '{stage}'"
        ))
    };
    for page in world.pages.iter().filter(|page| page.number > 1) {
        let before = key(page.book, page.number - 1);
        assert!(
            first(&page.key, "batched") > first(&before, "completed"),
            "{}",
            page.key
        );
        let expected = prompt_sha256(&page.key, Some(&answer(&world, &before)));
        assert_eq!(last_prompt(&world, &page.key), expected, "{}", page.key);
    }
}

#[test]
fn without_context_all_pages_go_at_once() {
    let world = unchained(2, 4, &[("batch.fill_wait_seconds", "30")]);
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    assert_eq!(job_sizes(&world), [8]);
    for page in &world.pages {
        assert_eq!(
            last_prompt(&world, &page.key),
            prompt_sha256(&page.key, None)
        );
    }
}

#[test]
fn p10_upload_starts_keep_to_their_rate() {
    let settings = [
        ("files.uploads_per_second", "20"),
        ("files.uploads_burst", "2"),
    ];
    let world = unchained(1, 60, &settings);
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    let ledger = world.ledger();
    assert!(ledger.uploads_started > 60);
    let most = ledger.uploads_started_per_second_max;
    assert!(most <= 22, "{most} starts in a second");
}

#[test]
fn a_page_limit_is_kept() {
    let world = unchained(4, 5, &[]);
    world.run_to(75, &["run", "--limit", "5"]);
    assert_eq!(world.requested().len(), 5);
    world.run_to(0, &["run"]);
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
fn outputs_that_are_there_are_adopted_and_never_sent() {
    let world = World::new(&WorldOptions {
        pages: 4,
        ..WorldOptions::default()
    });
    for number in [1, 2] {
        let key = key(0, number);
        let output = serde_json::json!({"text": answer(&world, &key)});
        write(&world.output(&key), output.to_string().as_bytes());
    }
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    assert_eq!(world.requested(), [key(0, 3), key(0, 4)]);
    let context = answer(&world, &key(0, 2));
    let expected = prompt_sha256(&key(0, 3), Some(&context));
    assert_eq!(last_prompt(&world, &key(0, 3)), expected);
}

#[test]
fn a_deleted_output_makes_its_page_run_again() {
    let world = World::new(&WorldOptions {
        pages: 3,
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    fs::remove_file(world.output(&key(0, 2))).unwrap();
    world.run_to(0, &["run"]);
    let tries: Vec<u64> = world.ledger().requests_by_key.into_values().collect();
    assert_eq!(tries, [1, 2, 1]);
    assert!(world.output(&key(0, 2)).exists());
    // Nothing is left to do, and nothing is done.
    let before = world.ledger().requests_by_endpoint;
    world.run_to(0, &["run"]);
    assert_eq!(world.ledger().requests_by_endpoint, before);
}

#[test]
fn an_unusable_image_is_dead_once_and_comes_back_when_mended() {
    let world = World::new(&WorldOptions {
        pages: 3,
        ..WorldOptions::default()
    });
    let bad = key(0, 2);
    let good_image = fs::read(world.image(&bad)).unwrap();
    for image in [Some(&good_image[..20]), None] {
        match image {
            Some(cut) => write(&world.image(&bad), cut),
            None => fs::remove_file(world.image(&bad)).unwrap(),
        }
        world.run_to(3, &["run"]);
        let sql = "SELECT record_key, error_type FROM failure_logs";
        assert_eq!(world.rows(sql), [[bad.as_str(), "ImageError"]]);
        assert_eq!(world.requested(), [key(0, 1), key(0, 3)]);
    }
    write(&world.image(&bad), &png(4711));
    world.run_to(0, &["run"]);
    Books::default().check(&world);
}
