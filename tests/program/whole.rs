//! The whole program on many pages, to the end, in one go.

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
