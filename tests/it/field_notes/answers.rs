//! F01, F02, F04, F06, F08, F32: whose an answer is, and what it is worth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pagemill::actors::result_processor::JudgeRules;
use pagemill::actors::result_processor::index::{Entry, Index};
use pagemill::actors::result_processor::judge::{Judgement, judge_lines};
use pagemill::domain::attempt::RawLine;
use pagemill::domain::batch::BatchStage;
use pagemill::domain::ids::{ImageStamp, RecordKey};
use pagemill::domain::image::ImageFault;
use pagemill::domain::remote::RemoteStats;
use pagemill::ports::result_sink::RawText;
use pagemill::prompt::Validator;
use pagemill::wire::schema::reduce;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::kit::sandbox::{SCHEMA, Sandbox, recipe};
use crate::props::{PAGES, expected, key, lines_after, mischief};
use crate::result_processor::{Scene, answer, lines, response, said};

fn rules() -> JudgeRules {
    JudgeRules {
        max_retries: 2,
        retry_delay: Duration::ZERO,
        stored_response_bytes_max: 1 << 10,
        refuse_empty: true,
        echo_field: None,
        threads: 1,
    }
}

/// The text that each page gets by these lines.
async fn joined(lines: &[String], validator: &Arc<Validator>) -> BTreeMap<String, String> {
    let mut index = Index::new((1..=PAGES).map(|page| RecordKey::from(key(page))));
    let mut texts = Vec::new();
    let mut offset = 0;
    for line in lines {
        let text = line.clone().into_bytes();
        let bytes = text.len() as u64;
        index.add(Entry::read(RawLine { offset, bytes }, Some(&text)));
        texts.push(RawText {
            offset,
            bytes,
            text: Some(text),
        });
        offset += bytes + 1;
    }
    let judged = judge_lines(texts, Arc::clone(validator), rules()).await;
    let mut found = BTreeMap::new();
    for judged in judged {
        if !index.is_answer(&judged.key, judged.line.offset) {
            continue;
        }
        if let Judgement::Accepted { output } = judged.judgement {
            let output: Value = serde_json::from_slice(&output).unwrap();
            let text = output["text"].as_str().unwrap().to_owned();
            let twice = found.insert(judged.key.to_string(), text);
            assert_eq!(twice, None, "one answer a page");
        }
    }
    found
}

#[test]
fn f01_no_page_gets_anothers_answer_in_ten_thousand_shuffled_cut_doubled_and_renamed_files() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = Arc::new(Validator::new(&schema).unwrap());
    let system = actix_rt::System::new();
    let mut runner = TestRunner::new(Config::with_cases(10_000));
    let files = vec(mischief(), PAGES as usize)
        .prop_map(|mischiefs| lines_after(&mischiefs))
        .prop_shuffle();
    let outcome = runner.run(&files, |lines| {
        let found = system.block_on(joined(&lines, &validator));
        let wanted: BTreeMap<String, String> = expected(&lines)
            .into_iter()
            .filter_map(|(key, text)| Some((key, text?)))
            .collect();
        prop_assert_eq!(found, wanted, "{:#?}", lines);
        Ok(())
    });
    outcome.unwrap();
}

#[actix::test]
async fn f01_an_answer_about_an_image_that_was_replaced_is_not_accepted_and_costs_the_page_nothing()
{
    let mut scene = Scene::new(3).await;
    let (batch, job) = scene.submit().await;
    let images = |key: &str, image: Result<Vec<u8>, ImageFault>| {
        let key = RecordKey::from(key);
        scene.sandbox.tree.images.borrow_mut().insert(key, image);
    };
    images("book:10", Ok(b"another scan".to_vec()));
    // Nobody can say what an image that cannot be read looks like now.
    let looked_for = "book/20.jpg".to_owned();
    images("book:20", Err(ImageFault::Missing { looked_for }));
    let results = ["book:10", "book:20", "book:30"].map(|key| answer(key, key));
    scene.offer(&batch, &job, lines(&results)).await;
    scene.collect(&batch).await;
    let stages: Vec<&str> = scene.stages().await.iter().map(|page| page.1).collect();
    assert_eq!(stages, ["discovered", "completed", "completed"]);
    assert_eq!(scene.output("book:10"), None);
    assert_eq!(scene.failures().await, Vec::<String>::new());
    let attempt = "SELECT outcome||': '||message FROM attempts WHERE record_key = 'book:10'";
    assert_eq!(
        scene.sandbox.sql(attempt).await,
        ["released: stale: the image was replaced after it was sent"]
    );
    // It is sent with the image that is there now.
    assert_eq!(scene.sandbox.upload(10).await, [RecordKey::from("book:10")]);
    let sent = "SELECT sha256 FROM remote_files WHERE record_key = 'book:10' AND state = 'live'";
    let now = crate::kit::memory_tree::sha256(b"another scan").to_string();
    assert_eq!(scene.sandbox.sql(sent).await, [now]);
}

#[actix::test]
async fn f01_an_image_that_nothing_happened_to_since_it_was_sent_is_not_read_again() {
    let keys = ["book:10", "book:20", "book:30"].map(RecordKey::from);
    let [still, replaced, untold] = keys.clone();
    let sandbox = Sandbox::new().await;
    let stamp = |key: &RecordKey, stamp: &str| {
        let mut stamps = sandbox.tree.stamps.borrow_mut();
        stamps.insert(key.clone(), ImageStamp::from(stamp));
    };
    stamp(&still, "first");
    stamp(&replaced, "first");
    let mut scene = pages(sandbox, 3).await;
    let (batch, job) = scene.submit().await;
    let tree = &scene.sandbox.tree;
    tree.images_read.borrow_mut().clear();
    let another = Ok(b"another scan".to_vec());
    tree.images.borrow_mut().insert(replaced.clone(), another);
    let second = ImageStamp::from("second");
    tree.stamps.borrow_mut().insert(replaced.clone(), second);
    // A stamp that is told only now says nothing about then.
    let late = ImageStamp::from("first");
    tree.stamps.borrow_mut().insert(untold.clone(), late);
    let results = keys.map(|key| answer(key.as_str(), key.as_str()));
    scene.offer(&batch, &job, lines(&results)).await;
    scene.collect(&batch).await;
    let stages: Vec<&str> = scene.stages().await.iter().map(|page| page.1).collect();
    assert_eq!(stages, ["completed", "discovered", "completed"]);
    let mut read = scene.sandbox.tree.images_read.borrow().clone();
    read.sort();
    assert_eq!(read, [replaced, untold]);
    assert!(scene.output(still.as_str()).is_some());
}

#[actix::test]
async fn f01_images_are_not_read_again_where_that_is_switched_off() {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.processor.compare_images = false;
    let mut scene = pages(sandbox, 1).await;
    let (batch, job) = scene.submit().await;
    let key = RecordKey::from("book:10");
    let another = Ok(b"another scan".to_vec());
    scene.sandbox.tree.images.borrow_mut().insert(key, another);
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    scene.collect(&batch).await;
    assert!(scene.output("book:10").is_some());
}

/// A processor over so many registered pages of a world that was changed.
pub async fn pages(sandbox: Sandbox, count: u32) -> Scene {
    sandbox.start_run().await;
    let keys: Vec<RecordKey> = (1..=count)
        .map(|page| sandbox.tree.add("book", page * 10))
        .collect();
    sandbox.register(&keys).await;
    Scene::on(sandbox)
}

#[actix::test]
async fn f01_an_answer_that_names_another_page_fails_where_the_schema_asks_for_the_key() {
    let mut sandbox = Sandbox::new().await;
    let schema = json!({"type": "object", "properties": {"page": {"type": "string"}, "text": {}}});
    sandbox.plan.validator = Arc::new(Validator::new(&schema).unwrap());
    sandbox.plan.processor.rules.echo_field = Some("page".to_owned());
    let mut scene = pages(sandbox, 4).await;
    let said = |key: &str, echo: Value, text: &str| {
        said(key, &json!({"page": echo, "text": text}).to_string())
    };
    let results = [
        said("book:10", json!("book:10"), "x"),
        said("book:20", json!("book:10"), "x"),
        said("book:30", Value::Null, "x"),
        // The key alone is no content.
        said("book:40", json!("book:40"), " "),
    ];
    scene.judge(lines(&results)).await;
    assert_eq!(
        scene.failures().await,
        [
            "book:20 ValidationError 1",
            "book:30 ValidationError 1",
            "book:40 ValueError 1"
        ]
    );
    let words = "SELECT error_message FROM failure_logs WHERE record_key = 'book:20'";
    assert_eq!(
        scene.sandbox.sql(words).await,
        ["'page' says \"book:10\", so the answer is not about page book:20"]
    );
}

#[actix::test]
async fn f01_a_schema_that_does_not_ask_for_the_key_is_refused_before_anything_is_sent() {
    let sandbox = Sandbox::new().await;
    let recipe = recipe(&sandbox.tree.layout, &json!({}));
    let file = std::path::Path::new("schema.json");
    assert_eq!(recipe.must_echo("text", file), Ok(()));
    let error = recipe.must_echo("page", file).unwrap_err().to_string();
    assert!(
        error.contains("schema.json") && error.contains("'page'"),
        "{error}"
    );
}

#[actix::test]
async fn f02_a_batch_whose_page_cannot_be_found_when_its_results_come_is_not_settled() {
    let mut scene = Scene::new(3).await;
    let (batch, job) = scene.submit().await;
    let results = ["book:10", "book:20", "book:30"].map(|key| answer(key, key));
    scene.offer(&batch, &job, lines(&results)).await;
    // The database itself refuses this, unless its keys are not enforced.
    let renamed = "PRAGMA foreign_keys = OFF;
                   UPDATE pages SET record_key = 'book:21' WHERE record_key = 'book:20'";
    scene.meddle(renamed).await;
    scene.collect(&batch).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Ready]);
    let active = "SELECT status FROM active_batches";
    assert_eq!(scene.sandbox.sql(active).await, ["active"]);
    // The page can be put back, and then nothing is lost.
    let back = "PRAGMA foreign_keys = OFF;
                UPDATE pages SET record_key = 'book:20' WHERE record_key = 'book:21'";
    scene.meddle(back).await;
    let scene = Scene::on(scene.sandbox.reopened().await);
    scene.tick_after(60).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 3);
}

#[actix::test]
async fn f02_the_raw_results_are_on_disk_and_hashed_before_the_first_verdict_and_are_kept() {
    let mut scene = Scene::new(2).await;
    let (batch, job) = scene.submit().await;
    let results = lines(&[answer("book:10", "x"), said("book:20", "no JSON")]);
    scene.offer(&batch, &job, results.clone()).await;
    let fault = "CREATE TRIGGER fault BEFORE UPDATE ON attempts
                 BEGIN SELECT RAISE(ABORT, 'fault'); END";
    scene.meddle(fault).await;
    scene.collect(&batch).await;
    let decided = "SELECT outcome FROM attempts WHERE outcome <> 'pending'";
    assert_eq!(scene.sandbox.sql(decided).await, Vec::<String>::new());
    let raw = scene.sandbox.batches().await.remove(0).raw.unwrap();
    assert_eq!(std::fs::read(&raw.path).unwrap(), results);
    assert_eq!(raw.sha256, crate::kit::memory_tree::sha256(&results));
    scene.meddle("DROP TRIGGER fault").await;
    let scene = Scene::on(scene.sandbox.reopened().await);
    scene.tick_after(60).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(std::fs::read(&raw.path).unwrap(), results, "kept");
}

#[actix::test]
async fn f04_an_answer_is_held_to_what_the_provider_is_not_told_of_the_schema() {
    let schema = json!({"type": "object", "required": ["text"],
        "properties": {"text": {"type": "string", "minLength": 3, "pattern": "^[a-z]+$"}}});
    let told = reduce(&schema).unwrap().schema.to_string();
    assert!(
        !told.contains("minLength") && !told.contains("pattern"),
        "{told}"
    );
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.validator = Arc::new(Validator::new(&schema).unwrap());
    let mut scene = pages(sandbox, 3).await;
    let results = [("book:10", "abc"), ("book:20", "ab"), ("book:30", "ABC")];
    scene
        .judge(lines(&results.map(|(key, text)| answer(key, text))))
        .await;
    assert_eq!(
        scene.failures().await,
        ["book:20 ValidationError 1", "book:30 ValidationError 1"]
    );
}

/// Answers that pass a schema which asks for nothing, and whether they have content.
const EMPTY_OR_NOT: [(&str, bool); 10] = [
    ("{}", false),
    (r#"{"text": null}"#, false),
    (r#"{"text": " \n", "lines": []}"#, false),
    (r#"{"a": {"b": [null, "", {}]}}"#, false),
    ("[]", false),
    (r#"{"text": null, "number": 0}"#, true),
    (r#"{"blank": true, "text": ""}"#, true),
    (r#"{"blank": false}"#, true),
    (r#"{"a": {"b": [null, "x"]}}"#, true),
    (r#"{"text": "."}"#, true),
];

async fn empty_or_not(refuse_empty: bool) -> Vec<&'static str> {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.validator = Arc::new(Validator::new(&json!({})).unwrap());
    sandbox.plan.processor.rules.refuse_empty = refuse_empty;
    let mut scene = pages(sandbox, EMPTY_OR_NOT.len() as u32).await;
    let results: Vec<String> = (1..)
        .zip(EMPTY_OR_NOT)
        .map(|(page, (text, _))| said(&format!("book:{}", page * 10), text))
        .collect();
    scene.judge(lines(&results)).await;
    let errors = "SELECT DISTINCT error_type FROM failure_logs";
    let errors = scene.sandbox.sql(errors).await;
    assert!(errors.is_empty() || errors == ["ValueError"], "{errors:?}");
    let mut stages = scene.stages().await;
    stages.sort_by_key(|(key, _)| key["book:".len()..].parse::<u32>().unwrap());
    stages.into_iter().map(|(_, stage)| stage).collect()
}

#[actix::test]
async fn f04_an_answer_without_content_is_a_failure_unless_that_is_switched_off() {
    let wanted: Vec<&str> = EMPTY_OR_NOT
        .iter()
        .map(|(_, content)| if *content { "completed" } else { "discovered" })
        .collect();
    assert_eq!(empty_or_not(true).await, wanted);
    assert_eq!(empty_or_not(false).await, ["completed"; EMPTY_OR_NOT.len()]);
}

#[actix::test]
async fn f06_a_failed_page_has_no_output_and_one_failure_that_leads_to_its_raw_line() {
    let mut scene = Scene::new(4).await;
    let results = [
        json!({"key": "book:10", "error": {"code": 13, "message": "Internal error"}}).to_string(),
        said("book:20", "I am sorry, I cannot read this page."),
        response("book:30", Some("{\"text\": \"x\"}"), "SAFETY").to_string(),
    ];
    scene.judge(lines(&results)).await;
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 0);
    let failures =
        "SELECT l.record_key||' '||l.error_type||' '||l.attempt_number||' '||l.batch_id||' '||
                    coalesce(a.raw_line_bytes, 'no line')
                    FROM failure_logs AS l
                    JOIN attempts AS a ON a.batch_id = l.batch_id AND a.record_key = l.record_key
                    ORDER BY l.record_key";
    let line = |at: usize| results[at].len();
    assert_eq!(
        scene.sandbox.sql(failures).await,
        [
            format!("book:10 ApiError 1 b-0 {}", line(0)),
            format!("book:20 JSONDecodeError 1 b-0 {}", line(1)),
            format!("book:30 ContentFiltered 1 b-0 {}", line(2)),
            "book:40 MissingResponse 1 b-0 no line".to_owned(),
        ]
    );
}

#[actix::test]
async fn f08_what_an_ended_job_did_not_answer_goes_back_uncounted_and_what_it_did_is_kept() {
    for state in [
        "BATCH_STATE_EXPIRED",
        "JOB_STATE_CANCELLED",
        "BATCH_STATE_FAILED",
    ] {
        let mut scene = Scene::new(4).await;
        let (batch, job) = scene.submit().await;
        let results = [
            answer("book:10", "x"),
            said("book:20", "no JSON"),
            json!({"key": "book:30", "error": {"code": 1, "message": "cancelled"}}).to_string(),
        ];
        let stats = RemoteStats::default();
        scene
            .offer_as(state, stats, &batch, &job, lines(&results))
            .await;
        scene.collect(&batch).await;
        assert_eq!(
            scene.failures().await,
            ["book:20 JSONDecodeError 1"],
            "{state}"
        );
        assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
        let counts = "SELECT count_submitted||' '||count_succeeded||' '||count_failed||' '||
                      count_missing||' '||count_released FROM submissions";
        assert_eq!(scene.sandbox.sql(counts).await, ["4 1 1 0 2"], "{state}");
        // Only what has no accepted answer is sent again.
        let again = ["book:20", "book:30", "book:40"].map(RecordKey::from);
        assert_eq!(scene.sandbox.upload(10).await, again, "{state}");
    }
}

#[actix::test]
async fn f08_lines_that_contradict_each_other_fail_in_an_ended_job_too() {
    let mut scene = Scene::new(1).await;
    let (batch, job) = scene.submit().await;
    let results = lines(&[answer("book:10", "x"), answer("book:10", "y")]);
    let stats = RemoteStats::default();
    scene
        .offer_as("BATCH_STATE_EXPIRED", stats, &batch, &job, results)
        .await;
    scene.collect(&batch).await;
    assert_eq!(scene.failures().await, ["book:10 AmbiguousResponse 1"]);
}

#[actix::test]
async fn f32_a_refusal_says_which_it_was_and_a_blocked_prompt_is_no_empty_success() {
    let mut scene = Scene::new(4).await;
    let blocked = |key: &str, reason: &str| {
        json!({"key": key, "response": {"promptFeedback": {"blockReason": reason}}}).to_string()
    };
    let results = [
        response("book:10", None, "RECITATION").to_string(),
        response("book:20", None, "SAFETY").to_string(),
        blocked("book:30", "PROHIBITED_CONTENT"),
        blocked("book:40", "OTHER"),
    ];
    scene.judge(lines(&results)).await;
    let told = "SELECT error_type||': '||error_message FROM failure_logs ORDER BY record_key";
    assert_eq!(
        scene.sandbox.sql(told).await,
        [
            "Recitation: finishReason is RECITATION",
            "ContentFiltered: finishReason is SAFETY",
            "ContentFiltered: the prompt was blocked: blockReason is PROHIBITED_CONTENT",
            "ContentFiltered: the prompt was blocked: blockReason is OTHER",
        ]
    );
}
