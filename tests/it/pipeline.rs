//! The whole pipeline on a real SQLite file, with the provider in memory.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use pagemill::actors::conductor::{Mode, RunEnd};
use pagemill::actors::hint::Leave;
use pagemill::actors::state::messages::{Close, WorkLeft};
use pagemill::domain::failure::{AccountFault, Next};
use pagemill::domain::ids::KeyFingerprint;
use pagemill::pipeline::{self, Running};
use serde_json::json;

use crate::kit::fake_provider::{FakeProvider, Script};
use crate::kit::sandbox::{HOUR, Sandbox};
use crate::result_processor::answer;

/// What the world does to the jobs on each of its beats.
pub type OnBeat = Box<dyn FnMut(&FakeProvider)>;

/// Lets time pass and jobs end until the run is over. The conductor beats in real time, so the
/// world does too: five seconds of the run's clock to one of its beats.
pub async fn until_end(sandbox: &Sandbox, running: Running, mut on_beat: OnBeat) -> RunEnd {
    let (provider, clock) = (Rc::clone(&sandbox.provider), Rc::clone(&sandbox.clock));
    let world = async move {
        let mut beats = tokio::time::interval(Duration::from_millis(5));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for _ in 0..BEATS_MAX {
            beats.tick().await;
            on_beat(&provider);
            clock.advance(Duration::from_secs(5));
        }
    };
    tokio::select! {
        end = running.finished(|end| async { end }) => end,
        () = world => panic!("the run does not end: {:?}", sandbox.provider.record.borrow().calls),
    }
}

/// More beats than any run of these tests needs.
const BEATS_MAX: usize = 40_000;

/// Ends every job that is still running with a good answer to each of its lines.
pub fn answer_all(provider: &FakeProvider) {
    let jobs = provider.record.borrow().jobs.clone();
    for (name, job) in jobs {
        if job.state == "BATCH_STATE_PENDING" {
            let keys = provider.keys(&name);
            let lines: Vec<String> = keys
                .iter()
                .map(|key| answer(key, &format!("text of {key}")))
                .collect();
            provider.succeed(&name, &lines);
        }
    }
}

pub async fn start(sandbox: &Sandbox) -> Running {
    pipeline::start(sandbox.world(), sandbox.plan.clone(), sandbox.state.clone())
        .await
        .unwrap()
}

/// Three books of four pages each, every page after the one before it. Batches wait for company as
/// long as there can be any, so that it is known how many there are.
async fn three_books() -> Sandbox {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.submitter.fill_wait = HOUR;
    for book in ["a", "b", "c"] {
        for page in 1..=4 {
            sandbox.tree.add(book, page);
        }
    }
    sandbox
}

pub async fn stages(sandbox: &Sandbox) -> Vec<String> {
    sandbox
        .sql("SELECT stage||' '||count(*) FROM pages GROUP BY stage ORDER BY stage")
        .await
}

/// P5: no page is ever lost, and every settled batch balances.
pub async fn assert_balance(sandbox: &Sandbox) {
    let unbalanced = "SELECT batch_id FROM submissions WHERE state = 'settled' AND
                      count_submitted <> count_succeeded + count_failed + count_missing + count_released";
    assert_eq!(sandbox.sql(unbalanced).await, Vec::<String>::new());
    let doubled = "SELECT record_key FROM inflight_records GROUP BY record_key HAVING count(*) > 1";
    assert_eq!(sandbox.sql(doubled).await, Vec::<String>::new());
}

#[actix::test]
async fn p5_three_chained_books_run_to_their_end() {
    let sandbox = three_books().await;
    let running = start(&sandbox).await;
    let prompts = Rc::new(RefCell::new(BTreeSet::new()));
    let seen = Rc::clone(&prompts);
    let on_beat = move |provider: &FakeProvider| {
        for job in provider.record.borrow().jobs.values() {
            for line in job.lines.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                seen.borrow_mut().insert(line.to_string());
            }
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 12"]);
    assert_balance(&sandbox).await;
    let outputs = sandbox.tree.outputs.borrow().clone();
    assert_eq!(outputs.len(), 12);
    for (key, output) in &outputs {
        let text = json!({"text": format!("text of {key}")});
        let output: serde_json::Value = serde_json::from_slice(output).unwrap();
        assert_eq!(output, text, "P4: each page has its own answer");
    }
    let prompts = prompts.take();
    assert_eq!(prompts.len(), 12, "every page was asked about once");
    for page in 2..=4 {
        let before = format!("Before: text of b:{}", page - 1);
        let read = format!("Read b:{page}: page {page}.");
        let matching = prompts.iter().filter(|line| line.contains(&read));
        assert!(matching.into_iter().all(|line| line.contains(&before)));
    }
    assert_eq!(sandbox.provider.calls("create"), 4, "three pages at a time");
    assert_eq!(sandbox.tree.reports.borrow().len(), 4);
    let files = sandbox.provider.record.borrow().files.len();
    assert_eq!(files, 0, "P10: nothing of ours stays there");
    assert_eq!(sandbox.provider.jobs(), Vec::<String>::new());
    let run = "SELECT status FROM runs";
    assert_eq!(sandbox.sql(run).await, ["completed"]);
}

#[actix::test]
async fn a_run_that_has_nothing_to_do_is_done() {
    let sandbox = Sandbox::new().await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(|_| {})).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(sandbox.provider.record.borrow().calls, Vec::<String>::new());
}

#[actix::test]
async fn p8_once_tops_up_and_ends_and_the_next_time_collects_first() {
    let mut sandbox = three_books().await;
    sandbox.plan.conductor.mode = Mode::Once;
    let running = start(&sandbox).await;
    let RunEnd::WorkLeft(left) = until_end(&sandbox, running, Box::new(|_| {})).await else {
        panic!("a job is running");
    };
    assert_eq!((left.live_batches, left.batched, left.blocked), (1, 3, 9));
    assert_eq!(sandbox.sql("SELECT status FROM runs").await, ["stopped"]);
    answer_all(&sandbox.provider);
    let provider = Rc::clone(&sandbox.provider);
    let before = provider.record.borrow().calls.len();
    let sandbox = sandbox.on_same_folder().await;
    let running = start(&sandbox).await;
    assert_eq!(running.started.restarts, 1);
    let end = until_end(&sandbox, running, Box::new(|_| {})).await;
    assert!(matches!(end, RunEnd::WorkLeft(_)), "{end:?}");
    assert_eq!(stages(&sandbox).await[1], "completed 3");
    let record = provider.record.borrow();
    let calls = &record.calls[before..];
    let place = |kind: &str| calls.iter().position(|call| call.starts_with(kind));
    assert!(place("download") < place("create"), "{calls:?}");
    assert!(place("create").is_some(), "and the next pages are sent");
}

#[actix::test]
async fn p3_a_run_after_a_crash_looks_for_the_job_and_makes_no_second_one() {
    let sandbox = Sandbox::new().await;
    for book in ["a", "b", "c"] {
        sandbox.tree.add(book, 1);
    }
    // The create arrives, and the process ends before it hears of it.
    let running = start(&sandbox).await;
    let (began, mut beginnings) = tokio::sync::mpsc::unbounded_channel();
    let provider = Rc::downgrade(&sandbox.provider);
    sandbox.provider.record.borrow_mut().on_create = Some(Rc::new(move |display_name| {
        let (began, provider) = (began.clone(), provider.clone());
        Box::pin(async move {
            provider.upgrade().unwrap().make_job(&display_name);
            began.send(()).unwrap();
            std::future::pending::<()>().await;
        })
    }));
    beginnings.recv().await.unwrap();
    for stage in [
        running.stages.submitter.clone().recipient::<Leave>(),
        running.stages.uploader.clone().recipient(),
        running.stages.scanner.clone().recipient(),
        running.stages.poller.clone().recipient(),
        running.stages.processor.clone().recipient(),
    ] {
        // The first one that goes takes the others with it.
        let _gone = stage.send(Leave {}).await;
    }
    drop(running);
    let sandbox = sandbox.reopened().await;
    sandbox.provider.record.borrow_mut().on_create = None;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(
        sandbox.provider.calls("create"),
        0,
        "only the one that was lost"
    );
    assert_eq!(sandbox.provider.calls("list"), 1);
    assert_eq!(stages(&sandbox).await, ["completed 3"]);
    assert_balance(&sandbox).await;
}

#[actix::test]
async fn f14_p9_another_key_is_refused_while_batches_of_the_old_one_live() {
    let sandbox = Sandbox::new().await;
    sandbox.tree.add("a", 1);
    let running = start(&sandbox).await;
    while sandbox.provider.calls("create") == 0 {
        sandbox.clock.advance(Duration::from_secs(5));
        actix_rt::task::yield_now().await;
    }
    running.stopper().stop();
    running.finished(|end| async { end }).await;
    let mut sandbox = sandbox.on_same_folder().await;
    sandbox.plan.uploader.key_fingerprint = KeyFingerprint::from("another");
    let (world, plan) = (sandbox.world(), sandbox.plan.clone());
    let refused = pipeline::start(world, plan, sandbox.state.clone()).await;
    let words = refused.err().expect("the key is refused").to_string();
    assert!(words.contains("fingerprint fingerprint"), "{words}");
    sandbox.plan.uploader.key_fingerprint = KeyFingerprint::from("fingerprint");
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(sandbox.provider.calls("create"), 1, "bought once");
}

#[actix::test]
async fn f21_p10_a_finished_run_leaves_no_file_of_a_lost_upload_and_touches_nobody_elses() {
    use pagemill::ports::file_api::{FileApi, Upload};
    let sandbox = Sandbox::new().await;
    sandbox.tree.add("a", 1);
    let path = sandbox.folder.path().join("foreign");
    std::fs::write(&path, b"x").unwrap();
    let foreign = Upload {
        display_name: "pagemill-000000000000-image-of-somebody-else".into(),
        mime: "image/jpeg".into(),
        path,
        bytes: 1,
        sha256: crate::kit::memory_tree::sha256(b"x"),
        content: None,
    };
    let foreign = sandbox.provider.upload(&foreign).await.unwrap().name;
    let lost = [Script::Lost, Script::Lost];
    sandbox.provider.record.borrow_mut().uploads.extend(lost);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let files: Vec<String> = sandbox
        .provider
        .record
        .borrow()
        .files
        .keys()
        .cloned()
        .collect();
    assert_eq!(files, [foreign.to_string()]);
}

#[actix::test]
async fn p6_expired_jobs_cost_nothing_and_their_pages_run_again() {
    let sandbox = three_books().await;
    let running = start(&sandbox).await;
    let mut expired = 0;
    let on_beat = move |provider: &FakeProvider| {
        let jobs = provider.jobs();
        if let Some(job) = jobs.last().filter(|_| expired < 2)
            && provider.record.borrow().jobs[job].state == "BATCH_STATE_PENDING"
        {
            expired += 1;
            return provider.end(job, "BATCH_STATE_EXPIRED", None);
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 12"]);
    let counted = "SELECT record_key FROM failure_counts";
    assert_eq!(sandbox.sql(counted).await, Vec::<String>::new());
    assert_balance(&sandbox).await;
}

#[actix::test]
async fn f25_p7_a_dead_page_is_left_and_those_behind_it_run_without_it() {
    let sandbox = Sandbox::new().await;
    for page in 1..=3 {
        sandbox.tree.add("a", page);
    }
    let running = start(&sandbox).await;
    let on_beat = |provider: &FakeProvider| {
        for name in provider.jobs() {
            if provider.keys(&name) == ["a:2"] {
                provider.succeed(&name, &["{\"key\": \"a:2\", \"response\": {}}".to_owned()]);
            }
        }
        answer_all(provider);
    };
    let RunEnd::Done(left) = until_end(&sandbox, running, Box::new(on_beat)).await else {
        panic!("nothing is left to do");
    };
    assert_eq!(left.dead, 1);
    assert_eq!(stages(&sandbox).await, ["completed 2", "dead 1"]);
    let attempts = "SELECT record_key||' '||count(*) FROM attempts GROUP BY record_key";
    assert_eq!(
        sandbox.sql(attempts).await,
        ["a:1 1", "a:2 3", "a:3 1"],
        "max_retries of the sandbox is 2"
    );
    let contexts = "SELECT record_key FROM attempts WHERE context_sha256 IS NOT NULL GROUP BY 1";
    assert_eq!(sandbox.sql(contexts).await, ["a:2"]);
    assert_balance(&sandbox).await;
}

#[actix::test]
async fn a_state_that_is_gone_ends_the_run() {
    let sandbox = three_books().await;
    let running = start(&sandbox).await;
    running.state().send(Close {}).await.unwrap().unwrap();
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert!(matches!(end, RunEnd::Failed { .. }), "{end:?}");
}

#[actix::test]
async fn a_stage_that_dies_ends_the_run_and_is_named() {
    let sandbox = three_books().await;
    let running = start(&sandbox).await;
    running.stages.poller.send(Leave {}).await.unwrap();
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    let RunEnd::Failed { stage, .. } = end else {
        panic!("{end:?}");
    };
    assert_eq!(stage, "poller");
    assert_eq!(sandbox.sql("SELECT status FROM runs").await, ["failed"]);
}

#[actix::test]
async fn p12_a_stopped_run_takes_no_new_work_and_the_next_one_finishes_it() {
    let sandbox = three_books().await;
    let running = start(&sandbox).await;
    let stopper = running.stopper();
    let on_beat = move |provider: &FakeProvider| {
        if provider.calls("create") == 1 {
            stopper.stop();
        }
    };
    let RunEnd::WorkLeft(left) = until_end(&sandbox, running, Box::new(on_beat)).await else {
        panic!("work is left");
    };
    assert_eq!(left.batched, 3);
    assert_eq!(sandbox.provider.calls("create"), 1);
    assert_eq!(sandbox.sql("SELECT status FROM runs").await, ["stopped"]);
    let sandbox = sandbox.on_same_folder().await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 12"]);
    assert_eq!(sandbox.provider.calls("create"), 4, "nothing twice");
    assert_balance(&sandbox).await;
}

/// A run whose every call of one kind is refused.
async fn refused(script: impl FnOnce(&FakeProvider)) -> (Sandbox, RunEnd, Duration) {
    let sandbox = three_books().await;
    script(&sandbox.provider);
    let began = sandbox.now();
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(|_| {})).await;
    let lasted = sandbox.now().since(began);
    (sandbox, end, lasted)
}

fn always() -> impl Iterator<Item = Script> {
    std::iter::repeat_n(Script::Refused(Next::Account(AccountFault::Key)), 10_000)
}

fn assert_given_up(end: &RunEnd, lasted: Duration) {
    assert!(matches!(end, RunEnd::Unavailable { .. }), "{end:?}");
    assert!(lasted >= Duration::from_secs(1800), "{lasted:?}");
    assert!(lasted < Duration::from_secs(3600), "{lasted:?}");
}

#[actix::test]
async fn p6_a_provider_that_refuses_uploads_ends_the_run_and_charges_nobody() {
    let (sandbox, end, lasted) =
        refused(|provider| provider.record.borrow_mut().uploads.extend(always())).await;
    assert_given_up(&end, lasted);
    assert_eq!(stages(&sandbox).await, ["discovered 12"]);
    let failures = sandbox.sql("SELECT record_key FROM failure_counts").await;
    assert_eq!(failures, Vec::<String>::new());
}

#[actix::test]
async fn p6_a_provider_that_refuses_creates_ends_the_run_and_keeps_the_batch() {
    let (sandbox, end, lasted) =
        refused(|provider| provider.record.borrow_mut().creates.extend(always())).await;
    assert_given_up(&end, lasted);
    assert_eq!(stages(&sandbox).await, ["batched 3", "discovered 9"]);
    let failures = sandbox.sql("SELECT record_key FROM failure_counts").await;
    assert_eq!(failures, Vec::<String>::new());
}

#[actix::test]
async fn p9_a_provider_that_does_not_answer_polls_ends_the_run_and_no_job() {
    let (sandbox, end, lasted) =
        refused(|provider| provider.record.borrow_mut().polls.extend(always())).await;
    assert_given_up(&end, lasted);
    assert_eq!(stages(&sandbox).await, ["batched 3", "discovered 9"]);
}
