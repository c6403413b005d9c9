//! The whole program on many pages, to the end, in one go.

use std::collections::BTreeSet;

use crate::books::Books;
use crate::kit::{MILD, Random, World, WorldOptions, number_of};

/// How many books a whole run has, and of how many pages. A fault holds up its whole chain for
/// seconds, so that with faults the chains are shorter.
fn size(books: usize, pages: usize) -> (usize, usize) {
    const BOOK_PAGES: usize = 50;
    match number_of("PAGEMILL_TEST_PAGES") {
        Some(pages) => ((pages as usize).div_ceil(BOOK_PAGES), BOOK_PAGES),
        None => (books, pages),
    }
}

#[test]
fn chained_books_without_faults() {
    let (books, pages) = size(8, 50);
    let world = World::new(&WorldOptions {
        books,
        pages,
        ..WorldOptions::default()
    });
    let ended = world.run_to(0, &["run"]);
    ended.assert_says(&["all done"]);
    Books::default().check(&world);
    let ledger = world.ledger();
    let once = ledger.requests_by_key.values().all(|count| *count == 1);
    assert!(once, "a page was paid for twice without a fault");
}

#[test]
fn chained_books_with_every_fault() {
    let (books, pages) = size(100, 4);
    let random = Random::new("whole");
    let world = World::new(&WorldOptions {
        books,
        pages,
        latency_ms: 100,
        faults: MILD,
        seed: random.seed(),
        ..WorldOptions::default()
    });
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    let ledger = world.ledger();
    let kinds = ledger.faults_played.len();
    let played: u64 = ledger.faults_played.values().sum();
    eprintln!("{played} faults of {kinds} kinds");
    assert!(kinds >= 10, "{:?}", ledger.faults_played);
}

/// Pages of a book under a storm: each is asked for several times, and each time takes a while.
const STORM_BOOK_PAGES: usize = 4;

#[test]
fn f06_under_every_fault_at_five_percent_each_page_is_done_or_dead_for_what_the_provider_did() {
    let pages = number_of("PAGEMILL_STORM_PAGES").unwrap_or(80);
    let random = Random::new("storm");
    let world = World::new(&WorldOptions {
        books: (pages as usize).div_ceil(STORM_BOOK_PAGES),
        pages: STORM_BOOK_PAGES,
        latency_ms: 100,
        faults: include_str!("../../config/faults/storm.yaml"),
        seed: random.seed(),
        // Three of four answers are bad on purpose; that is no reason to stop here.
        settings: &[
            ("breaker.pilot_pages", "0"),
            ("breaker.nothing_accepted", "0"),
            ("breaker.accept_percent", "0"),
            ("execution.max_retries", "5"),
            // One job in ten expires or is cancelled, whatever its size.
            ("batch.size_min", "100"),
            ("execution.max_concurrent_batches", "40"),
        ],
        ..WorldOptions::default()
    });
    let ended = world.start(&["run"]).wait();
    let dead: BTreeSet<String> = world
        .rows("SELECT record_key FROM pages WHERE stage = 'dead'")
        .into_iter()
        .flatten()
        .collect();
    ended.assert_code(if dead.is_empty() { 0 } else { 3 });
    let counted = world.rows(
        "SELECT p.record_key FROM pages AS p LEFT JOIN failure_counts AS c USING (record_key)
         WHERE p.stage = 'dead' AND coalesce(c.count, 0) <= 5
           AND NOT EXISTS (SELECT 1 FROM failure_logs AS f WHERE f.record_key = p.record_key
                           AND (f.counted = 0 OR f.error_type IN ('ApiError','UploadError')))",
    );
    assert!(counted.is_empty(), "dead for nothing: {counted:?}");
    let ledger = world.ledger();
    eprintln!(
        "{} pages, {} dead, {} creates, {} jobs, {} faults of {} kinds",
        world.pages.len(),
        dead.len(),
        ledger.creates_seen,
        ledger.jobs_made,
        ledger.faults_played.values().sum::<u64>(),
        ledger.faults_played.len()
    );
    Books { dead }.check(&world);
}
