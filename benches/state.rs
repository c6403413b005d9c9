//! Rows a second through StateActor, on a real file: registering pages, and taking one batch after
//! the other from plan to settlement.
//!
//! `cargo bench --bench state [-- pages]`; without a number a small run shows that it works.

#[path = "../tests/it/kit/state_world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod state_world;

use std::time::Instant;

use pagemill::actors::state::messages::*;
use pagemill::domain::batch::BatchEvent;
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::*;
use state_world::*;

/// Pages in one message of the scanner.
const MESSAGE_PAGES: u32 = 5_000;
/// Pages in one book.
const BOOK_PAGES: u32 = 200;
/// Pages in one batch.
const BATCH_PAGES: u32 = 5_000;

fn page(index: u32) -> NewPage {
    let (book, number) = (index / BOOK_PAGES, index % BOOK_PAGES + 1);
    let book = format!("Alabama:School {book:06}:1849");
    let named = |number: u32| RecordKey::from(format!("{book}:{number:04}"));
    let former = (number > 1).then(|| named(number - 1));
    NewPage {
        key: named(number),
        levels: vec![
            "Alabama".to_owned(),
            format!("School {:06}", index / BOOK_PAGES),
            "1849".to_owned(),
            number.to_string(),
        ],
        number,
        predecessor: former.clone(),
        waits_for: former,
        chain_ahead: BOOK_PAGES - number,
        book,
    }
}

fn report(what: &str, rows: u32, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!(
        "{what}: {rows} rows, {:.0} rows/s",
        f64::from(rows) / seconds
    );
}

async fn register(world: &World, pages: u32) {
    let start = Instant::now();
    let mut first = 0;
    while first < pages {
        let last = pages.min(first + MESSAGE_PAGES);
        let changes = ScanChanges {
            register: (first..last).map(page).collect(),
            ..ScanChanges::default()
        };
        world.tell(scan(changes, 0)).await.unwrap();
        first = last;
    }
    report("registered", pages, start);
    let start = Instant::now();
    let changes = ScanChanges {
        register: (0..pages.min(MESSAGE_PAGES)).map(page).collect(),
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 0)).await.unwrap();
    report("found again", pages.min(MESSAGE_PAGES), start);
}

fn stored(key: &RecordKey) -> UploadRecord {
    let mut record = uploaded(1, 20);
    let name = RemoteName::from(format!("files/{key}"));
    if let Some((file, _facts)) = &mut record.stored {
        file.name = name.clone();
    }
    let image = pagemill::domain::page::StoredImage {
        file: name,
        expires_at: at(20 + 2 * DAY),
    };
    record.event = pagemill::domain::page::PageEvent::UploadStored { image };
    record.key = key.clone();
    record
}

async fn one_batch(world: &World) {
    let start = Instant::now();
    let mut claim = claim(u64::from(BATCH_PAGES), 10);
    claim.chained = false;
    let claimed = world.tell(claim).await.unwrap();
    let members: Vec<RecordKey> = claimed.pages.into_iter().map(|page| page.key).collect();
    let rows = u32::try_from(members.len()).unwrap();
    report("claimed", rows, start);

    let start = Instant::now();
    let uploads = members.iter().map(stored).collect();
    world.tell(record_uploads(uploads, 20)).await.unwrap();
    report("uploaded", rows, start);

    let start = Instant::now();
    world.tell(plan("b1", members.clone(), 100)).await.unwrap();
    report("planned", rows, start);

    let start = Instant::now();
    let mut lines = spooled("b1", []);
    lines.included = members
        .iter()
        .map(|key| IncludedMember {
            key: key.clone(),
            prompt_sha256: sha("prompt"),
            context_sha256: None,
        })
        .collect();
    world.tell(lines).await.unwrap();
    report("spooled", rows, start);

    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(220),
    };
    world.tell(begin).await.unwrap();
    let remote = RemoteName::from("batches/b1");
    let accept = BatchEvent::SubmitAccepted { remote };
    world.tell(record_submit("b1", accept)).await.unwrap();
    world.ready("b1").await;

    let start = Instant::now();
    world.tell(collect("b1")).await.unwrap();
    report("collected", rows, start);

    let start = Instant::now();
    for chunk in members.chunks(1_000) {
        let judged = chunk.iter().enumerate().map(|(place, key)| {
            let mut verdict = if place % 10 == 0 {
                rejected(1, ErrorType::Validation, again())
            } else {
                accepted(1)
            };
            verdict.key = key.clone();
            verdict
        });
        world.tell(verdicts("b1", judged.collect())).await.unwrap();
    }
    report("judged", rows, start);

    let start = Instant::now();
    world.tell(settle("b1")).await.unwrap();
    report("settled", rows, start);
}

#[actix::main]
async fn main() {
    let pages = std::env::args().find_map(|argument| argument.parse().ok());
    let world = World::new().await;
    register(&world, pages.unwrap_or(20_000)).await;
    one_batch(&world).await;
    let start = Instant::now();
    let ask = ListWork {
        scope: ScopeToken::from("scope"),
        chained: true,
        at: at(900),
    };
    world.tell(ask).await.unwrap();
    println!("work left: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
