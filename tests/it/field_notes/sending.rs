//! F09, F22, F28, F29: what goes to the provider, who may send, and how often.

use std::time::Duration;

use pagemill::actors::hint::{Idle, PagesRegistered};
use pagemill::actors::state::messages::Close;
use pagemill::domain::batch::BatchStage;
use pagemill::domain::failure::{Next, Quota};
use pagemill::domain::page::PageStage;
use pagemill::wire::request::batch_create;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::kit::fake_provider::Script;
use crate::kit::sandbox::Sandbox;
use crate::kit::state_world::{ask, beside};
use crate::{batch_submitter, uploader};

#[test]
fn f09_a_create_names_a_lines_file_and_never_carries_requests() {
    let body: Value = serde_json::from_slice(&batch_create("pagemill-1", "files/abc")).unwrap();
    assert_eq!(
        body["batch"]["inputConfig"],
        json!({"fileName": "files/abc"})
    );
    assert_eq!(body["batch"].as_object().unwrap().len(), 2, "{body}");
}

#[actix::test]
async fn f09_every_create_of_a_run_follows_the_upload_of_its_lines_file() {
    let scene = batch_submitter::Scene::new(6, |_| {}).await;
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 2);
    assert_eq!(scene.lines_uploads(), 2);
    let record = scene.sandbox.provider.record.borrow();
    for job in record.jobs.values() {
        assert!(record.files.contains_key(job.input.as_str()));
    }
}

#[actix::test]
async fn f22_a_create_before_a_file_is_ready_waits_and_sends_the_same_intent_again() {
    let scene = batch_submitter::Scene::new(3, |_| {}).await;
    scene.script([
        Script::Refused(Next::NotReady),
        Script::Refused(Next::NotReady),
    ]);
    scene.tick_after(0).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Planned]);
    scene.tick_after(30).await;
    scene.tick_after(60).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Submitted]);
    let mut names = scene.sandbox.provider.words("create");
    assert_eq!(names.len(), 3);
    names.dedup();
    assert_eq!(names.len(), 1, "one intent: {names:?}");
    let attempts = "SELECT DISTINCT attempt_number||'' FROM attempts";
    assert_eq!(scene.sandbox.sql(attempts).await, ["1"]);
    let charged = scene
        .sandbox
        .sql("SELECT record_key FROM failure_counts")
        .await;
    assert_eq!(charged, Vec::<String>::new());
}

#[actix::test]
async fn f22_no_create_is_sent_before_the_lines_file_is_active() {
    let scene = batch_submitter::Scene::new(3, |_| {}).await;
    let provider = &scene.sandbox.provider;
    let slow = Script::Processing(3);
    provider.record.borrow_mut().uploads.push_back(slow);
    let tick = scene.sandbox.tick();
    scene.submitter.send(tick).await.unwrap();
    let steps = async {
        while provider.calls("file ") < 2 {
            assert_eq!(scene.creates(), 0);
            scene.sandbox.clock.advance(Duration::from_secs(1));
            actix_rt::task::yield_now().await;
        }
        assert_eq!(scene.creates(), 0, "seen twice, and in processing still");
        while provider.calls("file ") < 3 {
            scene.sandbox.clock.advance(Duration::from_secs(1));
            actix_rt::task::yield_now().await;
        }
    };
    futures_util::join!(scene.idle(), steps);
    assert_eq!(scene.creates(), 1);
}

#[actix::test]
async fn f22_an_image_that_the_provider_cannot_process_is_its_pages_failure_and_in_no_batch() {
    let scene = uploader::Scene::new(1, |_| {}).await;
    let cycles = scene.sandbox.plan.uploader.rules.cycles_max;
    let scripts = (0..cycles).map(|_| Script::Unprocessable);
    let provider = &scene.sandbox.provider;
    provider.record.borrow_mut().uploads.extend(scripts);
    for _cycle in 0..cycles {
        assert_eq!(scene.count(PageStage::Discovered).await, 1);
        scene.work().await;
        assert_eq!(scene.count(PageStage::Uploaded).await, 0);
        scene.sandbox.clock.advance(Duration::from_secs(3_600));
    }
    assert_eq!(scene.count(PageStage::Dead).await, 1);
    let told = "SELECT DISTINCT error_type||': '||error_message FROM failure_logs";
    let told = scene.sandbox.sql(told).await;
    assert!(
        told.iter()
            .all(|words| words.starts_with("UploadError: ") && words.contains("could not process")),
        "{told:?}"
    );
}

#[actix::test]
async fn f28_the_state_has_a_write_ahead_log_that_a_close_brings_home() {
    let sandbox = Sandbox::new().await;
    sandbox.start_run().await;
    let path = sandbox.folder.path().join("state.db");
    let log = sandbox.folder.path().join("state.db-wal");
    let mode = "SELECT journal_mode FROM pragma_journal_mode";
    assert_eq!(sandbox.sql(mode).await, ["wal"]);
    assert!(log.exists());
    sandbox.ask(Close {}).await.unwrap();
    let left = std::fs::metadata(&log).map_or(0, |log| log.len());
    assert_eq!(left, 0);
    assert_eq!(
        ask(&beside(&path).await, "SELECT run_id FROM runs").await,
        ["run-1"]
    );
}

#[actix::test]
async fn f28_a_change_waits_for_another_writer_instead_of_failing() {
    let sandbox = Sandbox::new().await;
    let other = beside(&sandbox.folder.path().join("state.db")).await;
    other.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
    let change = sandbox.start_run();
    let release = async {
        // The change is on its way, and meets the lock.
        for _turn in 0..100 {
            actix_rt::task::yield_now().await;
        }
        other.execute_unprepared("COMMIT").await.unwrap();
    };
    futures_util::join!(change, release);
    assert_eq!(sandbox.sql("SELECT run_id FROM runs").await, ["run-1"]);
}

#[actix::test]
async fn f29_uploads_that_are_all_throttled_at_once_go_on_together() {
    let scene = uploader::Scene::new(8, |_| {}).await;
    let throttled = Next::Throttled {
        after: Some(Duration::from_secs(10)),
        quota: Quota::Rate,
    };
    let workers = scene.sandbox.plan.uploader.concurrency;
    let scripts = (0..workers).map(|_| Script::Refused(throttled.clone()));
    let provider = &scene.sandbox.provider;
    provider.record.borrow_mut().uploads.extend(scripts);
    let work = scene.uploader.send(PagesRegistered { count: 8 });
    work.await.unwrap();
    let idle = scene.uploader.send(Idle {});
    let steps = async {
        while scene.sandbox.provider.calls("upload") < workers {
            actix_rt::task::yield_now().await;
        }
        assert_eq!(scene.count(PageStage::Uploading).await, 8);
        // Each has asked once, and all of them wait.
        assert_eq!(scene.sandbox.provider.calls("upload"), workers);
        scene.sandbox.clock.advance(Duration::from_secs(10));
    };
    let (idle, ()) = futures_util::join!(idle, steps);
    idle.unwrap();
    assert_eq!(scene.count(PageStage::Uploaded).await, 8);
    assert_eq!(scene.sandbox.provider.calls("upload"), workers + 8);
}

#[actix::test]
async fn f21_whatever_the_levels_are_called_the_provider_hears_ascii_names_of_ours() {
    let sandbox = Sandbox::new().await;
    let books = ["كتاب ٣".to_owned(), "🙂 %:".to_owned(), "ü".repeat(30)];
    for book in &books {
        sandbox.tree.add(book, 1);
    }
    let running = crate::pipeline::start(&sandbox).await;
    let end = crate::pipeline::until_end(&sandbox, running, Box::new(crate::pipeline::answer_all));
    end.await;
    assert_eq!(crate::pipeline::stages(&sandbox).await, ["completed 3"]);
    let told: Vec<String> = ["upload", "create"]
        .iter()
        .flat_map(|call| sandbox.provider.words(call))
        .collect();
    assert!(told.len() >= 5, "{told:?}");
    for words in &told {
        assert!(words.is_ascii() && words.len() < 200, "{words}");
    }
}
