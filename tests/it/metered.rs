//! A run under a meter: it does what it does without one, and what it did is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Actor;
use pagemill::actors::conductor::RunEnd;
use pagemill::actors::state::messages::{Close, WorkLeft};
use pagemill::actors::state::open::StateOptions;
use pagemill::actors::state::{StateActor, read, timeline};
use pagemill::domain::page::PageStage;
use pagemill::meter::{Meter, Spot, SpotReading};

use crate::kit::sandbox::Sandbox;
use crate::pipeline::{answer_all, assert_balance, stages, start, until_end};

/// A sandbox of two books of three pages, and the meter of its run and of its database.
async fn metered() -> (Sandbox, Arc<Meter>) {
    let mut sandbox = Sandbox::new().await;
    for book in ["a", "b"] {
        for page in 1..=3 {
            sandbox.tree.add(book, page);
        }
    }
    let limit = sandbox.plan.uploader.concurrency;
    let meter = Meter::new(move |spot| (spot == Spot::UploadSlot).then_some(limit));
    sandbox.plan.meter = Some(Arc::clone(&meter));
    sandbox.ask(Close {}).await.unwrap();
    let options = StateOptions {
        path: sandbox.folder.path().join("state.db"),
        unlock_behind_dead: true,
    };
    let state = StateActor::open(options).await.unwrap();
    sandbox.state = state.metered(Arc::clone(&meter.database)).start();
    (sandbox, meter)
}

#[actix::test]
async fn a_metered_run_ends_as_any_other_and_everything_is_counted_once() {
    let (sandbox, meter) = metered().await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 6"]);
    assert_balance(&sandbox).await;

    let spots: BTreeMap<&str, SpotReading> = meter
        .spots()
        .into_iter()
        .map(|(spot, reading)| (spot.as_str(), reading))
        .collect();
    let calls = |name: &str| sandbox.provider.calls(name) as u64;
    assert_eq!(spots["image check"].stays, 6);
    assert_eq!(spots["upload slot"].stays, 12, "a check and an upload each");
    assert!(spots["upload slot"].most <= sandbox.plan.uploader.concurrency);
    assert_eq!(spots["upload rate gate"].stays, 0, "there is no gate here");
    assert_eq!(spots["upload call"].stays, calls("upload"));
    assert_eq!(spots["create call"].stays, calls("create"));
    assert_eq!(spots["collection slot"].stays, calls("create"));
    assert_eq!(spots["writing outputs"].stays, calls("create"));
    for (name, reading) in &spots {
        assert!(reading.busy <= reading.stayed, "{name}: {reading:?}");
    }

    let database = meter.database.read();
    assert!(database.commits > 0 && database.messages_committed >= database.commits);
    let asked: u64 = database.asked.values().map(|asked| asked.messages).sum();
    // The last one closed the database and was applied to nothing.
    assert_eq!(database.messages, asked + 1);
    assert_eq!(database.asked["RecordVerdicts"].messages, calls("create"));
    assert!(database.committing <= database.busy);
    assert!(database.rows_changed > Some(6), "{database:?}");
}

#[actix::test]
async fn the_history_tells_how_every_page_and_batch_went() {
    let (sandbox, _meter) = metered().await;
    let running = start(&sandbox).await;
    until_end(&sandbox, running, Box::new(answer_all)).await;
    let path = sandbox.folder.path().join("state.db");
    let connection = read::open_read_only(&path).await.unwrap();
    let mut ways: BTreeMap<String, Vec<PageStage>> = BTreeMap::new();
    for step in timeline::steps(&connection).await.unwrap() {
        ways.entry(step.page).or_default().push(step.to);
    }
    assert_eq!(ways.len(), 6);
    let whole = [
        PageStage::Discovered,
        PageStage::Uploading,
        PageStage::Uploaded,
        PageStage::Batched,
        PageStage::Validating,
        PageStage::Completed,
    ];
    for (page, way) in ways {
        assert_eq!(way, whole, "{page}");
    }
    let batches = timeline::batches(&connection).await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.pages).sum::<u64>(), 6);
    for batch in &batches {
        let times = [
            Some(batch.created_at),
            batch.submitted_at,
            batch.seen_at,
            batch.closed_at,
        ];
        assert!(
            times.iter().all(Option::is_some) && times.is_sorted(),
            "{batch:?}"
        );
        assert!(batch.job.is_some() && batch.line_bytes > 0, "{batch:?}");
    }
    assert!(timeline::image_bytes(&connection).await.unwrap() > 0);
    connection.close().await.unwrap();
}
