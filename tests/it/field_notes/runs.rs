//! F05, F07, F10, F14, F15, F18, F25, F32: whole runs against a provider that does what others met.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pagemill::actors::conductor::RunEnd;
use pagemill::actors::state::messages::{RecordPoll, Summarize, Turnaround, WorkLeft};
use pagemill::domain::batch::BatchEvent;
use pagemill::domain::ids::RecordKey;
use pagemill::domain::remote::{RemoteOutput, RemoteStats};
use serde_json::{Value, json};

use crate::kit::fake_provider::FakeProvider;
use crate::kit::memory_tree::sha256;
use crate::kit::sandbox::{HOUR, Sandbox, recipe};
use crate::pipeline::{answer_all, assert_balance, stages, start, until_end};
use crate::poller::submitted;
use crate::result_processor::{answer, response, said};

/// The jobs that are still waiting, with the keys of their lines.
pub fn pending(provider: &FakeProvider) -> Vec<(String, Vec<String>)> {
    let jobs = provider.jobs().into_iter();
    jobs.filter(|job| provider.record.borrow().jobs[job].state == "BATCH_STATE_PENDING")
        .map(|job| (provider.keys(&job), job))
        .map(|(keys, job)| (job, keys))
        .collect()
}

/// A run to its end in which every page gets the line that `line` makes for it; gives what each page
/// was asked, in order.
async fn run_with(
    sandbox: &Sandbox,
    line: impl Fn(&str) -> String + 'static,
) -> BTreeMap<String, Vec<Value>> {
    let asked: Rc<RefCell<BTreeMap<String, Vec<Value>>>> = Rc::default();
    let record = Rc::clone(&asked);
    let running = start(sandbox).await;
    let on_beat = move |provider: &FakeProvider| {
        for (job, keys) in pending(provider) {
            let lines = provider.record.borrow().jobs[&job].lines.clone();
            for (key, line) in keys.iter().zip(lines.lines()) {
                let request: Value = serde_json::from_str(line).unwrap();
                let mut record = record.borrow_mut();
                record.entry(key.clone()).or_default().push(request);
            }
            let results: Vec<String> = keys.iter().map(|key| line(key)).collect();
            provider.succeed(&job, &results);
        }
    };
    let end = until_end(sandbox, running, Box::new(on_beat)).await;
    assert!(matches!(end, RunEnd::Done(_)), "{end:?}");
    asked.take()
}

/// A page in a book of its own each.
pub async fn single_pages(count: u32) -> Sandbox {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.submitter.fill_wait = HOUR;
    for book in 1..=count {
        sandbox.tree.add(&format!("book{book}"), 1);
    }
    sandbox
}

/// One value of the parameters of each try.
fn parameter(asked: &[Value], name: &str) -> Vec<Value> {
    let values = asked.iter();
    values
        .map(|request| request["request"]["generationConfig"][name].clone())
        .collect()
}

#[actix::test]
async fn f01_a_key_leads_to_the_image_the_prompt_and_the_recipe_as_they_were_sent() {
    let sandbox = single_pages(3).await;
    let asked = run_with(&sandbox, |key| answer(key, "x")).await;
    let sent = "SELECT a.record_key||' '||f.sha256||' '||a.prompt_sha256||' '||s.recipe_hash
                FROM attempts AS a JOIN submissions AS s ON s.batch_id = a.batch_id
                JOIN remote_files AS f ON f.name = a.image_file ORDER BY a.record_key";
    let expected: Vec<String> = asked
        .iter()
        .map(|(key, requests)| {
            let image = sandbox.tree.images.borrow()[&RecordKey::from(key.as_str())].clone();
            let parts = &requests[0]["request"]["contents"][0]["parts"];
            let prompt = parts[1]["text"].as_str().unwrap();
            format!(
                "{key} {} {} {}",
                sha256(&image.unwrap()),
                sha256(prompt.as_bytes()),
                sandbox.plan.recipe.hash
            )
        })
        .collect();
    assert_eq!(sandbox.sql(sent).await, expected);
}

#[actix::test]
async fn f05_the_try_after_a_cut_answer_has_more_room_up_to_a_limit() {
    let mut sandbox = single_pages(2).await;
    let config = json!({"temperature": 0.1, "maxOutputTokens": 20_000});
    sandbox.plan.recipe = Arc::new(recipe(&sandbox.tree.layout, &config));
    let asked = run_with(&sandbox, |key| match key {
        "book1:1" => response(key, Some("{\"text\": \"x\"}"), "MAX_TOKENS").to_string(),
        key => answer(key, "x"),
    })
    .await;
    let tokens = parameter(&asked["book1:1"], "maxOutputTokens");
    assert_eq!(tokens, [json!(20_000), json!(40_000), json!(65_536)]);
    let temperatures = parameter(&asked["book1:1"], "temperature");
    assert_eq!(temperatures, [json!(0.1), json!(0.1), json!(0.1)]);
    assert_eq!(
        parameter(&asked["book2:1"], "maxOutputTokens"),
        [json!(20_000)]
    );
    assert_eq!(stages(&sandbox).await, ["completed 1", "dead 1"]);
    let changed = "SELECT coalesce(parameters, 'as the recipe') FROM attempts
                   ORDER BY record_key, attempt_number";
    assert_eq!(
        sandbox.sql(changed).await,
        [
            "as the recipe",
            "{\"maxOutputTokens\":40000}",
            "{\"maxOutputTokens\":65536}",
            "as the recipe"
        ]
    );
}

#[actix::test]
async fn f32_each_try_after_a_refusal_is_warmer_and_the_failures_list_what_was_tried() {
    let sandbox = single_pages(1).await;
    let asked = run_with(&sandbox, |key| {
        response(key, None, "RECITATION").to_string()
    })
    .await;
    let temperatures = parameter(&asked["book1:1"], "temperature");
    assert_eq!(temperatures, [json!(0.1), json!(0.3), json!(0.5)]);
    let tried = "SELECT error_type||' '||generation_config FROM failure_logs ORDER BY id";
    assert_eq!(
        sandbox.sql(tried).await,
        [
            "Recitation {\"temperature\":0.1}",
            "Recitation {\"temperature\":0.3}",
            "Recitation {\"temperature\":0.5}"
        ]
    );
}

#[actix::test]
async fn f07_a_start_collects_all_that_is_finished_before_it_uploads_anything() {
    let sandbox = Sandbox::new().await;
    sandbox.start_run().await;
    let mut jobs = Vec::new();
    for batch in 0..5 {
        let book = format!("finished{batch}");
        let keys: Vec<RecordKey> = [10, 20].map(|page| sandbox.tree.add(&book, page)).to_vec();
        sandbox.register(&keys).await;
        sandbox.upload(2).await;
        jobs.push(submitted(&sandbox, &format!("b-{batch}"), &keys).await);
    }
    for page in 1..=100 {
        sandbox.tree.add(&format!("queued{page}"), 1);
    }
    sandbox.clock.advance(HOUR);
    for job in &jobs {
        let keys = sandbox.provider.keys(job);
        let results: Vec<String> = keys.iter().map(|key| answer(key, "x")).collect();
        sandbox.provider.succeed(job, &results);
    }
    let before = sandbox.provider.record.borrow().calls.len();
    let sandbox = sandbox.reopened().await;
    let running = start(&sandbox).await;
    let stopper = running.stopper();
    let on_beat = move |provider: &FakeProvider| {
        if provider.record.borrow().calls[before..]
            .iter()
            .any(|call| call.starts_with("upload"))
        {
            stopper.stop();
        }
    };
    until_end(&sandbox, running, Box::new(on_beat)).await;
    let record = sandbox.provider.record.borrow();
    let calls = &record.calls[before..];
    let place = |kind: &str| {
        let places = calls.iter().enumerate();
        places
            .filter(|(_, call)| call.starts_with(kind))
            .map(|(place, _)| place)
            .collect::<Vec<usize>>()
    };
    let (downloads, uploads) = (place("download"), place("upload"));
    assert_eq!(downloads.len(), 5, "{calls:?}");
    assert!(downloads.last() < uploads.first(), "{calls:?}");
}

#[actix::test]
async fn f10_nothing_remote_is_deleted_before_the_results_are_on_disk_and_recorded() {
    let sandbox = single_pages(3).await;
    sandbox.tree.failing_writes.set(4);
    run_with(&sandbox, |key| answer(key, "x")).await;
    assert_eq!(stages(&sandbox).await, ["completed 3"]);
    let calls = sandbox.provider.record.borrow().calls.clone();
    let first = |kind: &str| calls.iter().position(|call| call.starts_with(kind));
    assert!(first("delete ") > first("download"), "{calls:?}");
    assert!(first("delete_batch") > first("download"), "{calls:?}");
    // A file is marked for deletion by the settlement, never earlier.
    let early =
        "SELECT f.name FROM remote_files AS f JOIN submissions AS s ON s.batch_id = f.batch_id
                 WHERE f.updated_at < (SELECT max(a.decided_at) FROM attempts AS a
                                       WHERE a.batch_id = s.batch_id)";
    assert_eq!(sandbox.sql(early).await, Vec::<String>::new());
}

#[actix::test]
async fn f14_every_file_and_job_row_carries_the_fingerprint_of_its_key() {
    let sandbox = single_pages(3).await;
    run_with(&sandbox, |key| answer(key, "x")).await;
    for table in ["remote_files", "submissions"] {
        let keys = format!("SELECT DISTINCT key_fingerprint FROM {table}");
        assert_eq!(sandbox.sql(&keys).await, ["fingerprint"], "{table}");
    }
}

#[actix::test]
async fn f15_a_page_that_always_fails_is_sent_as_often_as_allowed_and_keeps_its_history() {
    let sandbox = single_pages(10).await;
    let asked = run_with(&sandbox, |key| match key {
        "book7:1" => said(key, "I cannot read this."),
        key => answer(key, "x"),
    })
    .await;
    for (key, requests) in &asked {
        let expected = if key == "book7:1" { 3 } else { 1 };
        assert_eq!(requests.len(), expected, "{key}");
    }
    assert_eq!(stages(&sandbox).await, ["completed 9", "dead 1"]);
    let history = "SELECT attempt_number||' '||error_type FROM attempts
                   WHERE record_key = 'book7:1' ORDER BY attempt_number";
    assert_eq!(
        sandbox.sql(history).await,
        [
            "1 JSONDecodeError",
            "2 JSONDecodeError",
            "3 JSONDecodeError"
        ]
    );
    let logged = "SELECT count(*)||'' FROM failure_logs WHERE record_key = 'book7:1'";
    assert_eq!(sandbox.sql(logged).await, ["3"]);
    // Another run leaves it alone.
    let sandbox = sandbox.on_same_folder().await;
    let again = run_with(&sandbox, |key| answer(key, "x")).await;
    assert_eq!(again, BTreeMap::new());
}

#[actix::test]
async fn f18_the_times_of_jobs_and_the_age_of_the_queue_are_shown_by_model() {
    let sandbox = Sandbox::new().await;
    sandbox.start_run().await;
    for minutes in 1..=10 {
        let book = format!("book{minutes}");
        let keys = [sandbox.tree.add(&book, 1)];
        sandbox.register(&keys).await;
        sandbox.upload(1).await;
        let batch = format!("b-{minutes:02}");
        submitted(&sandbox, &batch, &keys).await;
        if minutes == 10 {
            sandbox.clock.advance(HOUR);
            break;
        }
        let at = sandbox.now();
        let poll = RecordPoll {
            batch: batch.as_str().into(),
            remote_state: "BATCH_STATE_SUCCEEDED".into(),
            stats: RemoteStats::default(),
            output: Some(RemoteOutput::Inline),
            event: Some(BatchEvent::ResultsOffered),
            ended_at: Some(at.plus(Duration::from_secs(60 * minutes))),
            note: String::new(),
            at,
        };
        sandbox.ask(poll).await.unwrap();
    }
    let at = sandbox.now();
    let summary = sandbox.ask(Summarize { scope: None, at }).await.unwrap();
    let expected = Turnaround {
        model: "gemini-test".into(),
        live: 1,
        live_oldest: Some(HOUR),
        ended: 9,
        half: Some(Duration::from_secs(300)),
        nine_tenths: Some(Duration::from_secs(540)),
        spans: summary.turnarounds[0].spans.clone(),
    };
    assert!(expected.spans.is_sorted() && expected.spans.len() == 9);
    assert_eq!(summary.turnarounds, [expected]);
    let mut shown = Vec::new();
    pagemill::cli::status::print(&summary, at, &mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    let line = "gemini-test: 9 ended, half within 5 min";
    assert!(
        shown.contains(line) && shown.contains("1 live, the oldest 1 h"),
        "{shown}"
    );
}

#[actix::test]
async fn f18_a_provider_that_lets_large_jobs_expire_is_met_halfway_without_an_operator() {
    let mut sandbox = single_pages(16).await;
    sandbox.plan.submitter.limits.pages_max = 16;
    sandbox.plan.uploader.ahead_max = 32;
    let running = start(&sandbox).await;
    let sizes = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&sizes);
    let on_beat = move |provider: &FakeProvider| {
        for (job, keys) in pending(provider) {
            seen.borrow_mut().push(keys.len());
            if keys.len() > 3 {
                provider.end(&job, "BATCH_STATE_EXPIRED", None);
            }
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 16"]);
    let mut sizes = sizes.take();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 2, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 16]);
    let charged = sandbox.sql("SELECT record_key FROM failure_counts").await;
    assert_eq!(charged, Vec::<String>::new());
    assert_balance(&sandbox).await;
}

#[actix::test]
async fn f25_nine_pages_of_ten_appear_when_the_third_always_fails_and_the_fourth_says_so() {
    let sandbox = Sandbox::new().await;
    for page in 1..=10 {
        sandbox.tree.add("book", page);
    }
    run_with(&sandbox, |key| match key {
        "book:3" => said(key, "no"),
        key => answer(key, key),
    })
    .await;
    assert_eq!(stages(&sandbox).await, ["completed 9", "dead 1"]);
    assert_eq!(sandbox.tree.outputs.borrow().len(), 9);
    let contexts = "SELECT record_key||' '||(context_sha256 IS NOT NULL) FROM attempts
                    WHERE outcome = 'accepted' ORDER BY attempts.rowid";
    let contexts = sandbox.sql(contexts).await;
    let expected = [
        "book:1 0",
        "book:2 1",
        "book:4 0",
        "book:5 1",
        "book:6 1",
        "book:7 1",
        "book:8 1",
        "book:9 1",
        "book:10 1",
    ];
    assert_eq!(
        contexts, expected,
        "only the first one and the fourth had no context"
    );
    assert_balance(&sandbox).await;
}
