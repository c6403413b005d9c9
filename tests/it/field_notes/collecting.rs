//! F07, F10, F26, F27, F35: looking at jobs and bringing their results home.

use std::rc::Rc;
use std::time::Duration;

use pagemill::actors::hint::Idle;
use pagemill::actors::state::messages::{ListDeletable, RecordPoll, Summarize};
use pagemill::domain::batch::{BatchEvent, BatchStage};
use pagemill::domain::failure::Next;
use pagemill::domain::ids::RecordKey;
use pagemill::domain::page::PageStage;
use pagemill::domain::remote::{RemoteBatchState, RemoteStats};
use tokio::sync::Notify;

use super::answers::pages;
use crate::kit::fake_provider::Script;
use crate::kit::notices::{listen, told};
use crate::kit::sandbox::{HOUR, Sandbox};
use crate::poller;
use crate::result_processor::{Scene, answer, lines};

const MINUTE: u64 = 60;

#[actix::test]
async fn f07_results_that_are_not_on_disk_hours_after_the_end_are_told_of_once() {
    listen();
    let mut scene = Scene::new(1).await;
    let (batch, job) = scene.submit().await;
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    let refusals = (0..100).map(|_| Script::Refused(Next::Transient));
    let provider = &scene.sandbox.provider;
    provider.record.borrow_mut().downloads.extend(refusals);
    scene.tick_after(0).await;
    let alarms = || told("results are not on the local disk");
    scene.tick_after(6 * 60 * MINUTE - 1).await;
    assert_eq!(alarms(), Vec::<String>::new());
    scene.tick_after(1).await;
    scene.tick_after(60 * MINUTE).await;
    assert_eq!(alarms().len(), 1, "{:?}", alarms());
    assert!(alarms()[0].starts_with("ERROR"), "{:?}", alarms());
    assert!(
        alarms()[0].contains("batch.id=b-0 age_hours=6"),
        "{:?}",
        alarms()
    );
    // Nothing is given up, and what comes in the end is taken.
    assert_eq!(scene.batch_stages().await, [BatchStage::Ready]);
    scene.sandbox.provider.record.borrow_mut().downloads.clear();
    scene.tick_after(60 * MINUTE).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
}

#[actix::test]
async fn f07_results_that_come_in_time_are_no_alarm() {
    listen();
    let mut scene = Scene::new(1).await;
    scene.judge(lines(&[answer("book:10", "x")])).await;
    scene.tick_after(100 * 60 * MINUTE).await;
    assert_eq!(told("on the local disk"), Vec::<String>::new());
}

#[actix::test]
async fn f07_lost_results_are_recorded_as_lost_with_the_age_of_the_job() {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.processor.results_wait = 3 * HOUR;
    let mut scene = pages(sandbox, 1).await;
    let (batch, job) = scene.submit().await;
    scene.offer(&batch, &job, Vec::new()).await;
    let missing = (0..10).map(|_| Script::Refused(Next::Missing));
    let provider = &scene.sandbox.provider;
    provider.record.borrow_mut().downloads.extend(missing);
    scene.collect(&batch).await;
    scene.tick_after(3 * 60 * MINUTE).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Abandoned]);
    let lost = "SELECT abandon_code||': '||note FROM submissions";
    let lost = scene.sandbox.sql(lost).await.remove(0);
    let expected = "results_lost: results lost 3 h after the job ended: ";
    assert!(lost.starts_with(expected), "{lost}");
}

#[actix::test]
async fn f10_no_remote_file_is_up_for_deletion_before_the_batch_is_settled() {
    let mut scene = Scene::new(2).await;
    let (batch, job) = scene.submit().await;
    let results = ["book:10", "book:20"].map(|key| answer(key, "x"));
    scene.offer(&batch, &job, lines(&results)).await;
    scene.sandbox.tree.failing_writes.set(1);
    scene.collect(&batch).await;
    let deletable = async || {
        let at = scene.sandbox.now();
        let question = ListDeletable { limit: 100, at };
        scene.sandbox.ask(question).await.unwrap().len()
    };
    assert_eq!(deletable().await, 0, "one of two outputs is not on disk");
    scene.tick_after(30).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(deletable().await, 4, "two images, the lines, the results");
}

#[actix::test]
async fn f26_a_results_file_that_is_shorter_than_the_counts_is_fetched_again_before_it_is_believed()
{
    listen();
    let mut scene = Scene::new(3).await;
    let (batch, job) = scene.submit().await;
    let results = ["book:10", "book:20", "book:30"].map(|key| answer(key, "x"));
    let stats = RemoteStats {
        succeeded: Some(2),
        failed: Some(1),
        ..RemoteStats::default()
    };
    let provider = &scene.sandbox.provider;
    provider
        .record
        .borrow_mut()
        .downloads
        .push_back(Script::Cut);
    scene
        .offer_as(
            "BATCH_STATE_SUCCEEDED",
            stats,
            &batch,
            &job,
            lines(&results),
        )
        .await;
    scene.collect(&batch).await;
    assert_eq!(scene.sandbox.provider.calls("download"), 2);
    assert_eq!(scene.failures().await, Vec::<String>::new());
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 3);
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(told("fewer lines than the provider counts").len(), 1);
    let raw = scene.sandbox.batches().await.remove(0).raw.unwrap();
    assert_eq!(std::fs::read(raw.path).unwrap(), lines(&results));
}

#[actix::test]
async fn f26_no_more_lines_are_held_than_a_few_runs_however_long_the_results_are() {
    // A run of the tree of these tests has two lines. One is judged and one waits while three are written
    // or recorded.
    const HELD_MAX: u64 = 2 * (1 + 1 + 3);
    for pages in [3, 90] {
        let mut scene = Scene::new(pages).await;
        let results: Vec<String> = (1..=pages)
            .map(|page| answer(&format!("book:{}", page * 10), "x"))
            .collect();
        scene.judge(lines(&results)).await;
        assert_eq!(scene.sandbox.tree.outputs.borrow().len(), pages as usize);
        let ahead = scene.sandbox.tree.lines_ahead.borrow().clone();
        let [_index, judged] = ahead[..] else {
            panic!("read twice, not {ahead:?}");
        };
        assert!(judged <= HELD_MAX, "{judged} lines of {pages}");
    }
}

#[actix::test]
async fn f26_counts_that_are_wrong_hold_nothing_up_for_ever() {
    let mut scene = Scene::new(2).await;
    let (batch, job) = scene.submit().await;
    let stats = RemoteStats {
        succeeded: Some(79),
        failed: Some(u64::MAX >> 1),
        ..RemoteStats::default()
    };
    let results = lines(&[answer("book:10", "x")]);
    scene
        .offer_as("BATCH_STATE_SUCCEEDED", stats, &batch, &job, results)
        .await;
    scene.collect(&batch).await;
    assert_eq!(scene.sandbox.provider.calls("download"), 2);
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(scene.failures().await, ["book:20 MissingResponse 1"]);
}

#[actix::test]
async fn f26_a_second_fetch_that_breaks_judges_nothing_yet() {
    let mut scene = Scene::new(2).await;
    let (batch, job) = scene.submit().await;
    let stats = RemoteStats {
        succeeded: Some(2),
        ..RemoteStats::default()
    };
    let scripts = [Script::Cut, Script::Refused(Next::Transient)];
    let provider = &scene.sandbox.provider;
    provider.record.borrow_mut().downloads.extend(scripts);
    let results = ["book:10", "book:20"].map(|key| answer(key, "x"));
    scene
        .offer_as(
            "BATCH_STATE_SUCCEEDED",
            stats,
            &batch,
            &job,
            lines(&results),
        )
        .await;
    scene.collect(&batch).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Ready]);
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 0);
    scene.tick_after(30).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(scene.failures().await, Vec::<String>::new());
}

fn poll(scene: &Scene, state: &str, stats: RemoteStats) -> RecordPoll {
    RecordPoll {
        batch: "b-0".into(),
        remote_state: state.into(),
        stats,
        output: None,
        event: Some(BatchEvent::Advanced),
        ended_at: None,
        note: String::new(),
        at: scene.sandbox.now(),
    }
}

#[actix::test]
async fn f27_a_late_word_that_a_job_is_running_never_overwrites_its_success() {
    let mut scene = Scene::new(1).await;
    let (batch, job) = scene.submit().await;
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    let late = poll(&scene, "BATCH_STATE_RUNNING", RemoteStats::default());
    assert!(scene.sandbox.ask(late.clone()).await.is_err());
    let row = scene.sandbox.batches().await.remove(0);
    assert_eq!(row.state.stage(), BatchStage::Ready);
    assert_eq!(row.remote_state.as_deref(), Some("BATCH_STATE_SUCCEEDED"));
    assert!(row.output.is_some(), "where the results are is still known");
    scene.collect(&batch).await;
    assert!(scene.sandbox.ask(late).await.is_err());
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
}

#[actix::test]
async fn f27_a_look_that_does_not_come_back_delays_no_other_job() {
    let scene = poller::Scene::new(3).await;
    scene.tick_after(0).await;
    let release = Rc::new(Notify::new());
    let provider = &scene.sandbox.provider;
    let held = (scene.jobs[0].clone(), Rc::clone(&release));
    provider.record.borrow_mut().held_poll = Some(held);
    for job in &scene.jobs {
        provider.succeed(job, &[]);
    }
    scene.sandbox.clock.advance(Duration::from_secs(31));
    scene.poller.send(scene.sandbox.tick()).await.unwrap();
    while scene.stage(1).await != BatchStage::Ready || scene.stage(2).await != BatchStage::Ready {
        actix_rt::task::yield_now().await;
    }
    assert_eq!(scene.stage(0).await, BatchStage::Submitted);
    release.notify_one();
    scene.poller.send(Idle {}).await.unwrap();
    assert_eq!(scene.stage(0).await, BatchStage::Ready);
}

#[actix::test]
async fn f27_a_success_without_results_is_an_alarm_after_its_wait_and_is_still_asked_for() {
    listen();
    let scene = poller::Scene::new(1).await;
    scene.tick_after(0).await;
    let provider = &scene.sandbox.provider;
    provider.end(&scene.jobs[0], "BATCH_STATE_SUCCEEDED", None);
    let alarms = || told("job succeeded but names no results").len();
    scene.tick_after(MINUTE).await;
    scene.tick_after(30 * MINUTE - 1).await;
    assert_eq!(alarms(), 0);
    scene.tick_after(MINUTE).await;
    assert_eq!(alarms(), 1);
    assert_eq!(scene.stage(0).await, BatchStage::Submitted);
    scene.sandbox.provider.succeed(&scene.jobs[0], &[]);
    scene.tick_after(MINUTE).await;
    assert_eq!(scene.stage(0).await, BatchStage::Ready);
}

#[actix::test]
async fn f13_a_job_that_runs_for_days_is_warned_of_once_a_threshold() {
    listen();
    let scene = poller::Scene::new(1).await;
    let warnings = || told("batch is slow").len();
    for _hour in 0..23 {
        scene.tick_after(60 * MINUTE).await;
    }
    assert_eq!(warnings(), 0);
    for _hour in 23..72 {
        scene.tick_after(60 * MINUTE).await;
    }
    assert_eq!(warnings(), 2, "at 24 and at 48 hours");
    assert_eq!(scene.stage(0).await, BatchStage::Submitted);
    assert_eq!(scene.sandbox.provider.calls("cancel"), 0);
}

#[actix::test]
async fn f08_the_reservation_of_an_expired_job_stays_in_the_books() {
    let scene = poller::Scene::new(1).await;
    let db = crate::kit::state_world::beside(&scene.sandbox.folder.path().join("state.db")).await;
    let reserve = "UPDATE submissions SET reserved_cost_nanos = 7";
    sea_orm::ConnectionTrait::execute_unprepared(&db, reserve)
        .await
        .unwrap();
    scene.tick_after(0).await;
    let provider = &scene.sandbox.provider;
    provider.end(&scene.jobs[0], "BATCH_STATE_EXPIRED", None);
    scene.tick_after(31).await;
    let books = "SELECT state||' '||abandon_code||' '||reserved_cost_nanos FROM submissions";
    assert_eq!(scene.sandbox.sql(books).await, ["abandoned expired 7"]);
}

#[actix::test]
async fn f35_progress_is_counted_from_our_own_pages_whatever_the_provider_counts() {
    let mut scene = Scene::new(3).await;
    scene.submit().await;
    let stats = RemoteStats {
        requests: Some(100),
        pending: None,
        succeeded: Some(100),
        failed: Some(0),
    };
    let running = poll(&scene, "BATCH_STATE_RUNNING", stats);
    scene.sandbox.ask(running).await.unwrap();
    let question = Summarize {
        scope: None,
        at: scene.sandbox.now(),
    };
    let summary = scene.sandbox.ask(question).await.unwrap();
    let counted: Vec<(PageStage, u64)> = summary
        .pages
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(counted, [(PageStage::Batched, 3)]);
    let theirs =
        "SELECT remote_requests||' '||remote_succeeded||' '||remote_failed FROM submissions";
    assert_eq!(scene.sandbox.sql(theirs).await, ["100 100 0"], "kept apart");
}

#[test]
fn f34_a_state_is_read_by_its_last_word_and_an_unknown_one_is_not_the_end() {
    for prefix in ["BATCH_STATE_", "JOB_STATE_", "STATE_", ""] {
        for word in ["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"] {
            let state = RemoteBatchState::parse(&format!("{prefix}{word}"));
            assert!(state.is_terminal(), "{prefix}{word}");
        }
        for word in [
            "PENDING",
            "RUNNING",
            "PAUSED",
            "UPDATING",
            "QUEUED",
            "UNSPECIFIED",
        ] {
            let state = RemoteBatchState::parse(&format!("{prefix}{word}"));
            assert!(!state.is_terminal(), "{prefix}{word}");
        }
    }
}

#[actix::test]
async fn f10_an_accepted_output_is_not_written_again_by_a_later_answer() {
    let mut scene = Scene::new(1).await;
    scene.judge(lines(&[answer("book:10", "good")])).await;
    let good = scene.output("book:10").unwrap();
    // Somebody puts the batch back and another answer into its raw file.
    let raw = scene.sandbox.batches().await.remove(0).raw.unwrap();
    let worse = lines(&[answer("book:10", "worse")]);
    std::fs::write(&raw.path, &worse).unwrap();
    scene
        .meddle(&format!(
            "UPDATE submissions SET state = 'ready', closed_at = NULL, raw_bytes = {}",
            worse.len()
        ))
        .await;
    let scene = Scene::on(scene.sandbox.reopened().await);
    scene.tick_after(MINUTE).await;
    assert_eq!(scene.output("book:10").unwrap(), good);
    let attempts = "SELECT record_key||' '||outcome FROM attempts";
    assert_eq!(scene.sandbox.sql(attempts).await, ["book:10 accepted"]);
    assert_eq!(scene.sandbox.claim(10).await, Vec::<RecordKey>::new());
}
