//! SIGKILL at any moment loses nothing and buys nothing twice.

use std::time::Duration;

use crate::books::Books;
use crate::kit::{MILD, Random, World, WorldOptions};

#[test]
fn f12_p12_killed_at_random_moments_it_ends_as_if_nothing_had_happened() {
    const KILLS_MAX: u64 = 12;
    let mut random = Random::new("kill");
    let world = World::new(&WorldOptions {
        books: 30,
        pages: 5,
        latency_ms: 100,
        faults: MILD,
        seed: random.seed(),
        ..WorldOptions::default()
    });
    let mut kills = 0;
    let ended = loop {
        let mut running = world.start(&["run"]);
        if kills == KILLS_MAX {
            break running.wait();
        }
        let moment = Duration::from_millis(random.between(100, 3000));
        match running.wait_at_most(moment) {
            Some(ended) => break ended,
            None => running.kill(),
        }
        kills += 1;
    };
    ended.assert_code(0);
    let ledger = world.ledger();
    eprintln!("{kills} kills, {} jobs", ledger.jobs_made);
    let books = Books { ..Books::default() };
    books.check(&world);
}
