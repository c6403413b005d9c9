//! The time of a page at each step of its life, by how many pages the database holds already.
//!
//! Half of the pages that are known are done, the others wait on the work list. The same messages go
//! to StateActor, in the sizes that the stages send by default. Then the floor: what the same tables
//! take by SQLite alone.

use std::time::{Duration, Instant};

use actix::prelude::*;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::*;
use pagemill::domain::attempt::Verdict;
use pagemill::domain::batch::BatchEvent;
use pagemill::domain::ids::*;
use pagemill::domain::page::{PageEvent, StoredImage};
use tempfile::TempDir;

use super::Size;
use super::alone::changes_alone;
use super::memory::whole_run;
use super::state::{open, tell};
use super::state_world::*;
use super::table::Table;
use super::tables::{BOOK_PAGES, Tables, levels_of};

/// Pages that one round brings through all steps.
const ROUND_PAGES: u64 = 1_000;
/// Rounds of which the middle one counts, step by step.
const ROUNDS: usize = 9;
/// The smallest database has pages for so many more.
const ROUNDS_ALONE: usize = 5;
const BATCH_PAGES: usize = 100;
/// As the uploader claims by default: twice its concurrency.
const CLAIMED_TOGETHER: u64 = 32;
/// The most that a page may take of what it took where ten times fewer were known.
const FACTOR_MAX: f64 = 1.25;
/// The first of the new pages; no known page comes so late.
const NEW_FIRST: u64 = 100_000_001;

const STEPS: [&str; 8] = [
    "look at a known page",
    "scan, register",
    "claim, record upload",
    "plan",
    "collect",
    "settle",
    "all of these",
    "six changes of a page, by SQLite alone",
];

/// What is no step, but the floor of what grows.
const FLOOR: usize = STEPS.len() - 1;

/// Every step at each size, and a whole run at the sizes that can be waited for.
pub fn growth(system: &SystemRunner, size: Size, table: &mut Table) {
    for chained in [false, true] {
        all_steps(system, size, chained, table);
    }
    whole_runs(system, size, table);
}

/// Every step at each size. Pages that stand alone are taken in the order of their keys; where they are
/// chained, those with most pages behind them come first, which are in many books.
fn all_steps(system: &SystemRunner, size: Size, chained: bool, table: &mut Table) {
    let growth = if chained { "growth, chained" } else { "growth" };
    let known_max = size.of("PAGEMILL_BENCH_SCALE_KNOWN", 1_000_000, 2_500);
    let rounds = if size == Size::Full { ROUNDS } else { 1 };
    let mut before: Option<Vec<Vec<f64>>> = None;
    for known in [known_max / 100, known_max / 10, known_max] {
        let taken = system.block_on(steps(known, chained, rounds));
        for (place, step) in STEPS.iter().enumerate() {
            let each = middle(&taken[place]);
            let what = format!("{growth}: {step}, {known} known");
            let fastest = taken[place][0];
            let Some(former) = &before else {
                table.note(&format!(
                    "{what}: {each:.1} us a page, fastest round {fastest:.1}"
                ));
                continue;
            };
            let factor = each / middle(&former[place]);
            if place == FLOOR {
                table.note(&format!("{what}: {factor:.2} x"));
            } else {
                table.line(&what, factor, FACTOR_MAX, "x");
            }
            table.note(&format!(
                "{each:.1} us a page; fastest round {fastest:.1}, {:.2} x",
                fastest / former[place][0]
            ));
        }
        before = Some(taken);
    }
}

fn whole_runs(system: &SystemRunner, size: Size, table: &mut Table) {
    let pages_max = size.of("PAGEMILL_BENCH_SCALE_PAGES", 100_000, 20);
    let mut before = None;
    for pages in [pages_max / 10, pages_max] {
        let (_memory, took) = whole_run(system, pages);
        let each = took.as_secs_f64() * 1e6 / pages as f64;
        if let Some(former) = before {
            let what = format!("growth: whole run of {pages} pages");
            table.line(&what, each / former, FACTOR_MAX, "x");
        }
        table.note(&format!("whole run of {pages} pages: {each:.0} us a page"));
        before = Some(each);
    }
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// Microseconds a page of each step, each round, sorted.
async fn steps(known: u64, chained: bool, rounds: usize) -> Vec<Vec<f64>> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    tell(&open(&path).await, Close {}).await;
    let tables = Tables {
        completed: known / 2,
        events: 5,
        discovered: known - known / 2,
        chained,
        scope: "scope".to_owned(),
        key_fingerprint: "key".to_owned(),
        image_sha256: "sha-image".to_owned(),
        image_bytes: 1_000,
        ..Tables::default()
    };
    tables.fill(&path).await;
    let state = open(&path).await;
    tell(&state, start_run()).await;
    let mut taken = vec![Vec::new(); FLOOR];
    for round in 0..rounds {
        let mut spans = round_of(&state, known, round as u64).await;
        spans.push(spans.iter().sum());
        for (all, span) in taken.iter_mut().zip(spans) {
            all.push(span.as_secs_f64() * 1e6 / ROUND_PAGES as f64);
        }
    }
    tell(&state, Close {}).await;
    // The actor goes with its connection.
    drop(state);
    for all in &mut taken {
        all.sort_by(f64::total_cmp);
    }
    taken.push(changes_alone(
        &path,
        ROUND_PAGES,
        BATCH_PAGES,
        rounds.min(ROUNDS_ALONE),
    ));
    taken
}

/// Brings some pages through all steps; gives the time of each.
async fn round_of(state: &Addr<StateActor>, known: u64, round: u64) -> Vec<Duration> {
    let mut spans = Vec::new();
    let since = Instant::now();
    let books = (0..ROUND_PAGES / BOOK_PAGES).map(|place| {
        let last = known / BOOK_PAGES;
        book_of((round * 37 + place * 11) % last.max(1) * BOOK_PAGES + 1)
    });
    let books = books.collect();
    assert!(!tell(state, PagesOfBooks { books }).await.is_empty());
    spans.push(since.elapsed());

    let since = Instant::now();
    let first = NEW_FIRST + round * ROUND_PAGES;
    let register = (first..first + ROUND_PAGES).map(new).collect();
    let changes = ScanChanges {
        register,
        ..ScanChanges::default()
    };
    tell(state, scan(changes, 0)).await;
    spans.push(since.elapsed());

    let since = Instant::now();
    let mut keys = Vec::new();
    while keys.len() < ROUND_PAGES as usize {
        let limit = CLAIMED_TOGETHER.min(ROUND_PAGES - keys.len() as u64);
        let claim = ClaimPages {
            chained: false,
            ..claim(limit, 10)
        };
        let claimed = tell(state, claim).await.pages;
        let uploads = claimed.iter().map(|page| stored(&page.key)).collect();
        tell(state, record_uploads(uploads, 20)).await;
        keys.extend(claimed.into_iter().map(|page| page.key));
    }
    spans.push(since.elapsed());

    let batches: Vec<(String, Vec<RecordKey>)> = keys
        .chunks(BATCH_PAGES)
        .enumerate()
        .map(|(place, keys)| (format!("b{round}-{place}"), keys.to_vec()))
        .collect();
    let since = Instant::now();
    for (name, keys) in &batches {
        tell(state, plan(name, keys.clone(), 100)).await;
    }
    spans.push(since.elapsed());

    for (name, keys) in &batches {
        submit(state, name, keys).await;
    }
    let since = Instant::now();
    for (name, keys) in &batches {
        tell(state, collect(name)).await;
        let batch = batch(name);
        assert_eq!(tell(state, ListMembers { batch }).await.len(), keys.len());
        tell(state, verdicts(name, keys.iter().map(accept).collect())).await;
    }
    spans.push(since.elapsed());

    let since = Instant::now();
    for (name, _keys) in &batches {
        tell(state, settle(name)).await;
    }
    spans.push(since.elapsed());
    spans
}

fn book_of(number: u64) -> String {
    levels_of(number)[..3].join(":")
}

fn new(number: u64) -> NewPage {
    let levels = levels_of(number);
    let book = book_of(number);
    NewPage {
        key: RecordKey::from(levels.join(":")),
        number: ((number - 1) % BOOK_PAGES + 1) as u32,
        levels: levels.to_vec(),
        predecessor: None,
        waits_for: None,
        chain_ahead: 0,
        book,
    }
}

fn stored(key: &RecordKey) -> UploadRecord {
    let mut record = uploaded(1, 20);
    let name = RemoteName::from(format!("files/{key}"));
    if let Some((file, _facts)) = &mut record.stored {
        file.name = name.clone();
    }
    let expires_at = at(20 + 2 * DAY);
    let image = StoredImage {
        file: name,
        expires_at,
    };
    record.event = PageEvent::UploadStored { image };
    record.key = key.clone();
    record
}

fn accept(key: &RecordKey) -> Verdict {
    let mut verdict = accepted(1);
    verdict.key = key.clone();
    verdict
}

/// From a planned batch to one whose results are there.
async fn submit(state: &Addr<StateActor>, name: &str, keys: &[RecordKey]) {
    let mut lines = spooled(name, []);
    lines.included = keys
        .iter()
        .map(|key| IncludedMember {
            key: key.clone(),
            prompt_sha256: sha("prompt"),
            context_sha256: None,
            parameters: None,
        })
        .collect();
    tell(state, lines).await;
    let batch = batch(name);
    tell(state, BeginSubmit { batch, at: at(220) }).await;
    let remote = RemoteName::from(format!("batches/{name}"));
    tell(
        state,
        record_submit(name, BatchEvent::SubmitAccepted { remote }),
    )
    .await;
    let offered = Some(BatchEvent::ResultsOffered);
    tell(state, poll(name, "BATCH_STATE_SUCCEEDED", offered)).await;
}
