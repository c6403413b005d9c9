//! Many histories, or one of them again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::history::{self, Tally, Told};

/// Histories that are lived when nobody says how many.
const SEEDS: u64 = 300;

/// Failed histories that are told whole; the others only by what they broke.
const STORIES_TOLD: usize = 5;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not '{text}'")),
    )
}

/// Lives the histories of these seeds, on all cores.
fn live_all(first: u64, count: u64) -> (Tally, Vec<Told>) {
    let next = AtomicU64::new(first);
    let whole = Mutex::new((Tally::default(), Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let told = history::live(seed);
                    let mut whole = whole.lock().unwrap();
                    whole.0.take_in(&told.tally);
                    if !told.faults.is_empty() {
                        whole.1.push(told);
                    }
                }
            });
        }
    });
    whole.into_inner().unwrap()
}

fn print(counts: &BTreeMap<String, u64>) {
    for (what, count) in counts {
        println!("{count:>9} {what}");
    }
}

/// Every promise that can be seen from outside holds after every commit, whatever happens and
/// wherever the process dies; and in the end everything is accounted for.
#[test]
fn the_promises_hold_in_every_history() {
    if let Some(seed) = number("PAGEMILL_SIM_SEED") {
        let told = history::live(seed);
        println!("{}", told.story.join("\n"));
        print(&told.tally.counts);
        assert!(told.faults.is_empty(), "seed {seed}: {:#?}", told.faults);
        return;
    }
    let first = number("PAGEMILL_SIM_FIRST").unwrap_or(0);
    let count = number("PAGEMILL_SIM_SEEDS").unwrap_or(SEEDS);
    let (tally, mut failed) = live_all(first, count);
    print(&tally.counts);
    failed.sort_by_key(|told| told.seed);
    for (place, told) in failed.iter().enumerate() {
        if place < STORIES_TOLD {
            println!("{}", told.story.join("\n"));
        }
        println!("seed {}: {:#?}", told.seed, told.faults);
    }
    let seeds: Vec<u64> = failed.iter().map(|told| told.seed).collect();
    assert!(
        seeds.is_empty(),
        "{} of {count} histories broke a promise, seeds {seeds:?}; to see one: \
         PAGEMILL_SIM_SEED={} cargo test --test simulation promises -- --nocapture",
        seeds.len(),
        seeds.first().copied().unwrap_or_default(),
    );
}

fn holds(seed: u64) {
    let told = history::live(seed);
    let story = told.story.join("\n");
    assert!(
        told.faults.is_empty(),
        "{story}\nseed {seed}: {:#?}",
        told.faults
    );
}

#[test]
fn p10_seeds_1251_3837_4611_and_5069_a_run_that_only_looks_at_late_jobs_sweeps_what_was_left() {
    for seed in [1251, 3837, 4611, 5069] {
        holds(seed);
    }
}

#[test]
fn p7_seed_3789_a_dead_page_with_a_late_answer_has_all_its_retries_again() {
    holds(3789);
}

#[test]
fn p8_seed_5012_results_that_were_lost_and_come_after_all_are_kept() {
    holds(5012);
}

#[test]
fn p12_seeds_5108_and_8068_a_page_that_moves_while_its_batch_is_planned_ends_no_run() {
    for seed in [5108, 8068] {
        holds(seed);
    }
}

#[test]
fn p3_seed_5559_a_batch_that_is_withdrawn_after_a_create_may_have_a_job() {
    holds(5559);
}
