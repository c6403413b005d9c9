//! ResultProcessor between a recorded scanner and a recorded uploader, on a real SQLite file.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use pagemill::actors::hint::{Idle, Leave, PagesReleased, PagesUnlocked, ResultsReady, StageGone};
use pagemill::actors::result_processor::{
    ReportFacts, ResultProcessor, ResultProcessorPeers, ResultProcessorPorts,
};
use pagemill::actors::state::messages::*;
use pagemill::domain::batch::{BatchEvent, BatchStage};
use pagemill::domain::failure::{AccountFault, ErrorType, Next};
use pagemill::domain::ids::{BatchId, RecordKey};
use pagemill::domain::remote::{RemoteOutput, RemoteStats};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::kit::fake_provider::Script;
use crate::kit::probe::{Probe, seen};
use crate::kit::sandbox::Sandbox;
use crate::kit::state_world::beside;
use crate::poller::submitted;

pub struct Scene {
    pub sandbox: Sandbox,
    processor: Addr<ResultProcessor>,
    unlocked: Addr<Probe<PagesUnlocked>>,
    pub released: Addr<Probe<PagesReleased>>,
    batches: usize,
}

impl Scene {
    /// A processor over so many registered pages of one book, none of which follows another.
    pub async fn new(pages: u32) -> Self {
        let sandbox = Sandbox::new().await;
        sandbox.start_run().await;
        let keys: Vec<RecordKey> = (1..=pages)
            .map(|page| sandbox.tree.add("book", page * 10))
            .collect();
        sandbox.register(&keys).await;
        Scene::on(sandbox)
    }

    /// A processor over whatever the sandbox holds.
    pub fn on(sandbox: Sandbox) -> Self {
        let (unlocked, released) = (Probe::start_new(), Probe::start_new());
        let peers = ResultProcessorPeers {
            state: sandbox.state.clone(),
            unlocked: unlocked.clone().recipient(),
            released: released.clone().recipient(),
        };
        let ports = ResultProcessorPorts {
            source: sandbox.tree.clone(),
            files: sandbox.provider.clone(),
            batches: sandbox.provider.clone(),
            sink: sandbox.tree.clone(),
            clock: sandbox.clock.clone(),
        };
        let report = |facts: &ReportFacts| {
            let tally = facts.settled.tally;
            format!("{} of {}", tally.succeeded, tally.submitted)
        };
        let processor = ResultProcessor::new(
            sandbox.plan.processor.clone(),
            peers,
            sandbox.root(),
            ports,
            Arc::clone(&sandbox.plan.validator),
            Rc::new(report),
        )
        .start();
        Scene {
            sandbox,
            processor,
            unlocked,
            released,
            batches: 0,
        }
    }

    /// Uploads what can be claimed, and brings it as one batch to the provider.
    pub async fn submit(&mut self) -> (BatchId, String) {
        let keys = self.sandbox.upload(100).await;
        let name = format!("b-{}", self.batches);
        self.batches += 1;
        let job = submitted(&self.sandbox, &name, &keys).await;
        (BatchId::from(name.as_str()), job)
    }

    /// The provider ends a job well, with a results file of these bytes, and the poller saw it.
    pub async fn offer(&self, batch: &BatchId, job: &str, results: Vec<u8>) {
        let stats = RemoteStats::default();
        self.offer_as("BATCH_STATE_SUCCEEDED", stats, batch, job, results)
            .await;
    }

    /// The same with another last word of the provider, and with its counts.
    pub async fn offer_as(
        &self,
        remote_state: &str,
        stats: RemoteStats,
        batch: &BatchId,
        job: &str,
        results: Vec<u8>,
    ) {
        self.sandbox.provider.succeed_with(job, results);
        let output = self.sandbox.provider.record.borrow().jobs[job]
            .results
            .clone();
        let poll = RecordPoll {
            batch: batch.clone(),
            remote_state: remote_state.into(),
            stats,
            output: output.map(RemoteOutput::File),
            event: Some(BatchEvent::ResultsOffered),
            ended_at: Some(self.sandbox.now()),
            note: String::new(),
            at: self.sandbox.now(),
        };
        self.sandbox.ask(poll).await.unwrap();
    }

    pub async fn collect(&self, batch: &BatchId) {
        let batch = batch.clone();
        self.processor.send(ResultsReady { batch }).await.unwrap();
        self.processor.send(Idle {}).await.unwrap();
    }

    pub async fn tick_after(&self, seconds: u64) {
        self.sandbox.clock.advance(Duration::from_secs(seconds));
        self.processor.send(self.sandbox.tick()).await.unwrap();
        self.processor.send(Idle {}).await.unwrap();
    }

    /// Submits everything, ends the job with these results, and collects it.
    pub async fn judge(&mut self, results: impl Into<Vec<u8>>) -> BatchId {
        let (batch, job) = self.submit().await;
        self.offer(&batch, &job, results.into()).await;
        self.collect(&batch).await;
        batch
    }

    pub async fn batch_stages(&self) -> Vec<BatchStage> {
        let batches = self.sandbox.batches().await;
        batches.iter().map(|row| row.state.stage()).collect()
    }

    pub async fn stages(&self) -> Vec<(String, &'static str)> {
        let stages = self.sandbox.stages().await.into_iter();
        stages.map(|(key, stage)| (key, stage.as_str())).collect()
    }

    pub fn output(&self, key: &str) -> Option<String> {
        let outputs = self.sandbox.tree.outputs.borrow();
        let bytes = outputs.get(&RecordKey::from(key))?;
        Some(String::from_utf8(bytes.clone()).unwrap())
    }

    /// Changes the database behind the state's back.
    pub async fn meddle(&self, sql: &str) {
        let db = beside(&self.sandbox.folder.path().join("state.db")).await;
        db.execute_unprepared(sql).await.unwrap();
    }

    /// What `failure_logs` says of a page: the error, and whether it counts.
    pub async fn failures(&self) -> Vec<String> {
        self.sandbox
            .sql(
                "SELECT record_key||' '||error_type||' '||
                 coalesce((SELECT count FROM failure_counts AS c WHERE c.record_key = l.record_key), 0)
                 FROM failure_logs AS l ORDER BY record_key, id",
            )
            .await
    }

    /// The lines of the newest batch as they were counted: all, foreign, unreadable, repeated.
    pub async fn line_counts(&self) -> String {
        let sql =
            "SELECT lines_total||' '||lines_foreign||' '||lines_unreadable||' '||lines_repeated
                   FROM submissions ORDER BY batch_id DESC LIMIT 1";
        self.sandbox.sql(sql).await.remove(0)
    }
}

/// A response with one candidate.
pub fn response(key: &str, text: Option<&str>, finish_reason: &str) -> Value {
    let parts: Vec<Value> = text.iter().map(|text| json!({"text": text})).collect();
    let candidate = json!({"content": {"parts": parts}, "finishReason": finish_reason});
    json!({"key": key, "response": {"candidates": [candidate]}})
}

/// A line with a good answer.
pub fn answer(key: &str, text: &str) -> String {
    let text = json!({"text": text}).to_string();
    response(key, Some(&text), "STOP").to_string()
}

/// A line whose answer is this text.
pub fn said(key: &str, text: &str) -> String {
    response(key, Some(text), "STOP").to_string()
}

pub fn lines(lines: &[String]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    lines.into_bytes()
}

#[actix::test]
async fn an_accepted_answer_is_written_readably_and_unchanged() {
    let mut scene = Scene::new(1).await;
    let text = "Ünïcödé 学校 \u{1f600} \"quoted\"\n<&>";
    scene.judge(lines(&[answer("book:10", text)])).await;
    assert_eq!(
        scene.output("book:10").unwrap(),
        "{\n  \"text\": \"Ünïcödé 学校 \u{1f600} \\\"quoted\\\"\\n<&>\"\n}\n"
    );
    assert_eq!(scene.stages().await, [("book:10".to_owned(), "completed")]);
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
}

#[actix::test]
async fn f10_p1_an_output_is_on_disk_before_its_page_counts_as_done() {
    let mut scene = Scene::new(1).await;
    let (batch, job) = scene.submit().await;
    let trigger = "CREATE TRIGGER fault BEFORE UPDATE ON attempts
                   BEGIN SELECT RAISE(ABORT, 'fault'); END";
    scene.meddle(trigger).await;
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    scene.collect(&batch).await;
    assert!(scene.output("book:10").is_some(), "written");
    assert_eq!(scene.stages().await, [("book:10".to_owned(), "validating")]);
    let gone: Vec<StageGone> = seen(&scene.sandbox.gone).await;
    assert_eq!(
        gone.len(),
        1,
        "a state that cannot be written ends the stage"
    );
    scene.meddle("DROP TRIGGER fault").await;
    let scene = Scene::on(scene.sandbox.reopened().await);
    scene.tick_after(0).await;
    assert_eq!(scene.stages().await, [("book:10".to_owned(), "completed")]);
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(scene.sandbox.provider.calls("download"), 1);
}

/// What becomes of one page by one answer.
struct Case {
    stage: &'static str,
    /// The logged failure, if any.
    error: Option<ErrorType>,
    /// The page's line, or lines, by its key.
    line: fn(&str) -> String,
}

fn case(stage: &'static str, error: Option<ErrorType>, line: fn(&str) -> String) -> Case {
    Case { stage, error, line }
}

#[actix::test]
async fn f31_every_kind_of_answer_gets_its_own_verdict() {
    use ErrorType as E;
    const GOOD: &str = "{\"text\": \"x\"}";
    let done = "completed";
    let again = "discovered";
    let cases = [
        case(done, None, |key| answer(key, "x")),
        case(done, None, |key| format!("{}\r", answer(key, "x"))),
        case(done, None, |key| format!("  {} ", answer(key, "x"))),
        case(done, None, |key| {
            said(key, &format!("```json\n{GOOD}\n```"))
        }),
        case(done, None, |key| {
            said(key, &format!("Here you are: {GOOD} I hope it helps."))
        }),
        case(again, Some(E::JsonDecode), |key| {
            said(key, "I cannot read this page.")
        }),
        case(again, Some(E::JsonDecode), |key| {
            said(key, &format!("{GOOD} or {GOOD}"))
        }),
        case(again, Some(E::JsonDecode), |key| {
            said(key, "{\"text\": \"cut")
        }),
        case(again, Some(E::Validation), |key| said(key, "{\"text\": 5}")),
        case(again, Some(E::Validation), |key| {
            said(key, "{\"text\": \"x\", \"more\": 1}")
        }),
        case(again, Some(E::Validation), |key| {
            said(key, "[{\"text\": \"x\"}]")
        }),
        case(again, Some(E::Truncated), |key| {
            response(key, Some(GOOD), "MAX_TOKENS").to_string()
        }),
        case(again, Some(E::Recitation), |key| {
            response(key, None, "RECITATION").to_string()
        }),
        case(again, Some(E::ContentFiltered), |key| {
            response(key, Some(GOOD), "SAFETY").to_string()
        }),
        case(again, Some(E::ContentFiltered), |key| {
            let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}});
            json!({"key": key, "response": blocked}).to_string()
        }),
        case(again, Some(E::Value), |key| {
            json!({"key": key, "response": {"candidates": []}}).to_string()
        }),
        case(again, Some(E::Value), |key| {
            json!({"key": key, "response": {}}).to_string()
        }),
        case(again, Some(E::Value), |key| {
            response(key, None, "STOP").to_string()
        }),
        case(again, Some(E::Value), |key| {
            response(key, Some(GOOD), "SOMETHING_NEW").to_string()
        }),
        case(again, Some(E::Api), |key| {
            json!({"key": key, "error": {"code": 13, "message": "internal"}}).to_string()
        }),
        case(again, None, |key| {
            json!({"key": key, "error": {"code": 1, "message": "cancelled"}}).to_string()
        }),
        case(again, None, |key| {
            json!({"key": key, "error": {"code": 8, "message": "quota"}}).to_string()
        }),
        case(again, Some(E::AmbiguousResponse), |key| {
            format!("{}\n{}", answer(key, "x"), answer(key, "y"))
        }),
        case(done, None, |key| {
            format!("{}\n{}", answer(key, "x"), answer(key, "x"))
        }),
        case(again, Some(E::MissingResponse), |_| String::new()),
    ];
    let mut scene = Scene::new(cases.len() as u32).await;
    let cases: Vec<(String, String, Case)> = (1..)
        .zip(cases)
        .map(|(at, case)| {
            let key = format!("book:{}", at * 10);
            let line = (case.line)(&key);
            (key, line, case)
        })
        .collect();
    let all: Vec<String> = cases.iter().map(|(_, line, _)| line.clone()).collect();
    let batch = scene.judge(lines(&all)).await;
    let stages = scene.stages().await;
    let failures = scene.failures().await;
    for (key, line, case) in &cases {
        let stage = stages.iter().find(|(found, _)| found == key).unwrap().1;
        assert_eq!(stage, case.stage, "{key}: {line}");
        let logged: Vec<&String> = failures
            .iter()
            .filter(|logged| logged.starts_with(&format!("{key} ")))
            .collect();
        let expected: Vec<String> = case.error.iter().map(|e| format!("{key} {e} 1")).collect();
        assert_eq!(logged, expected.iter().collect::<Vec<_>>(), "{line}");
        assert_eq!(scene.output(key).is_some(), stage == done, "{key}");
    }
    // P5: submitted = succeeded + failed + missing + released.
    let counts = "SELECT count_submitted||' '||count_succeeded||' '||count_failed||' '||
                  count_missing||' '||count_released FROM submissions";
    assert_eq!(scene.sandbox.sql(counts).await, ["25 6 16 1 2"]);
    assert_eq!(scene.sandbox.batches().await[0].batch, batch);
    assert_eq!(scene.line_counts().await, "26 0 0 1");
    assert_eq!(
        seen(&scene.released).await,
        [PagesReleased { count: 19 }],
        "17 rejected and 2 released pages can be sent again"
    );
}

#[actix::test]
async fn f24_p4_lines_that_are_nobodys_are_counted_and_believed_by_nobody() {
    let mut scene = Scene::new(2).await;
    let mut results = b"{\"key\": \"book:10\", \xff\xfe}\n".to_vec();
    results.extend_from_slice(b"not JSON\n\n   \n\r\n[1]\n");
    results.extend(lines(&[
        json!({"response": {"candidates": []}}).to_string(),
        json!({"key": 10, "response": {}}).to_string(),
        json!({"key": "book:10"}).to_string(),
        answer("book:11", "x"),
        answer(" book:10", "x"),
        answer("Book:10", "x"),
        answer("../../etc/passwd", "x"),
    ]));
    // The last line has no end.
    results.extend(answer("book:20", "mine").into_bytes());
    scene.judge(results).await;
    assert_eq!(scene.line_counts().await, "11 4 6 0");
    assert_eq!(scene.failures().await, ["book:10 MissingResponse 1"]);
    assert_eq!(
        scene.output("book:20").unwrap(),
        "{\n  \"text\": \"mine\"\n}\n"
    );
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 1);
}

#[actix::test]
async fn f15_an_empty_results_file_is_every_pages_missing_response() {
    let mut scene = Scene::new(3).await;
    scene.judge(Vec::new()).await;
    assert_eq!(scene.failures().await.len(), 3);
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
}

#[actix::test]
async fn a_failure_is_kept_with_everything_that_a_person_needs() {
    let mut scene = Scene::new(1).await;
    let line = said("book:10", "So: {\"text\": 5} Done.");
    scene.judge(lines(std::slice::from_ref(&line))).await;
    let kept = |column: &str| format!("SELECT {column} FROM failure_logs");
    for (column, expected) in [
        ("record_key", "book:10"),
        ("batch_id", "b-0"),
        ("attempt_number||''", "1"),
        ("error_type", "ValidationError"),
        ("raw_response_text", "So: {\"text\": 5} Done."),
        ("extracted_text", "{\"text\": 5}"),
        ("raw_response_json", line.as_str()),
        ("model_name", "gemini-test"),
        ("prompt_name", "page"),
        ("generation_config", "{\"temperature\":0.1}"),
        ("created_at", "2026-11-21T10:00:00Z"),
    ] {
        let found = scene.sandbox.sql(&kept(column)).await;
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with(expected.trim_end_matches('Z')),
            "{column}: {found:?}"
        );
    }
    let found = scene.sandbox.sql(&kept("error_message")).await.remove(0);
    assert!(
        found.contains("text"),
        "the message names the field: {found}"
    );
    let template = scene.sandbox.sql(&kept("prompt_template")).await.remove(0);
    assert!(template.starts_with("Read {{ key }}"), "{template}");
    let place = "SELECT raw_line_offset||' '||raw_line_bytes FROM attempts";
    assert_eq!(
        scene.sandbox.sql(place).await,
        [format!("0 {}", line.len())]
    );
}

#[actix::test]
async fn f27_p6_a_results_file_that_is_processed_twice_counts_once() {
    let mut scene = Scene::new(3).await;
    let (batch, job) = scene.submit().await;
    let results = lines(&[answer("book:10", "x"), said("book:20", "no JSON")]);
    scene.offer(&batch, &job, results).await;
    // The process ends when all verdicts are recorded and the batch is not settled yet.
    let trigger = "CREATE TRIGGER fault BEFORE UPDATE ON submissions WHEN NEW.state = 'settled'
                   BEGIN SELECT RAISE(ABORT, 'fault'); END";
    scene.meddle(trigger).await;
    scene.collect(&batch).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Ready]);
    let once = ["book:20 JSONDecodeError 1", "book:30 MissingResponse 1"];
    assert_eq!(scene.failures().await, once);
    scene.meddle("DROP TRIGGER fault").await;
    let scene = Scene::on(scene.sandbox.reopened().await);
    scene.tick_after(0).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(scene.failures().await, once);
    assert_eq!(scene.sandbox.provider.calls("download"), 1, "it is on disk");
    let counts = "SELECT count_submitted||' '||count_succeeded||' '||count_failed||' '||
                  count_missing||' '||count_released FROM submissions";
    assert_eq!(scene.sandbox.sql(counts).await, ["3 1 1 1 0"]);
    scene.tick_after(60).await;
    assert_eq!(
        scene.failures().await,
        once,
        "a settled batch is left alone"
    );
}

#[actix::test]
async fn f26_p8_results_whose_copy_on_disk_is_not_whole_are_fetched_again() {
    let mut scene = Scene::new(1).await;
    let (batch, job) = scene.submit().await;
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    scene.sandbox.tree.failing_writes.set(1);
    scene.collect(&batch).await;
    let raw = scene.sandbox.batches().await.remove(0).raw.unwrap();
    std::fs::write(&raw.path, "half").unwrap();
    scene.tick_after(30).await;
    assert_eq!(scene.sandbox.provider.calls("download"), 2);
    assert_eq!(scene.stages().await, [("book:10".to_owned(), "completed")]);
}

#[actix::test]
async fn s2_31_a_page_whose_answer_failed_is_not_ready_before_its_delay() {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.processor.rules.retry_delay = Duration::from_secs(300);
    sandbox.start_run().await;
    let keys = [sandbox.tree.add("book", 10)];
    sandbox.register(&keys).await;
    let mut scene = Scene::on(sandbox);
    scene.judge(lines(&[said("book:10", "no JSON")])).await;
    assert_eq!(scene.stages().await, [("book:10".to_owned(), "discovered")]);
    scene.sandbox.clock.advance(Duration::from_secs(299));
    assert_eq!(scene.sandbox.claim(10).await, []);
    scene.sandbox.clock.advance(Duration::from_secs(1));
    assert_eq!(scene.sandbox.claim(10).await.len(), 1);
}

#[actix::test]
async fn p7_a_page_over_its_retries_is_dead_and_not_sent_again() {
    let mut scene = Scene::new(1).await;
    for failures in 1..=3 {
        scene.judge(lines(&[said("book:10", "no JSON")])).await;
        let count = "SELECT count||'' FROM failure_counts";
        assert_eq!(scene.sandbox.sql(count).await, [failures.to_string()]);
        let stage = if failures <= 2 { "discovered" } else { "dead" };
        assert_eq!(scene.stages().await, [("book:10".to_owned(), stage)]);
    }
    assert_eq!(scene.sandbox.claim(10).await, []);
    let attempts = "SELECT attempt_number||' '||outcome FROM attempts ORDER BY 1";
    assert_eq!(
        scene.sandbox.sql(attempts).await,
        ["1 rejected", "2 rejected", "3 rejected"]
    );
}

#[actix::test]
async fn a_page_whose_rows_always_fail_for_others_reasons_does_not_go_round_for_ever() {
    let scene = Scene::new(1).await;
    let gone = json!({"key": "book:10", "error": {"code": 7, "message": "file"}}).to_string();
    let releases_max = scene.sandbox.plan.processor.release.releases_max;
    let mut rounds = 0;
    while scene.stages().await[0].1 != "dead" {
        assert!(rounds <= releases_max, "released {rounds} times");
        let keys = [RecordKey::from("book:10")];
        scene.sandbox.upload(1).await;
        let name = format!("r-{rounds}");
        let job = submitted(&scene.sandbox, &name, &keys).await;
        let batch = BatchId::from(name.as_str());
        scene
            .offer(&batch, &job, lines(std::slice::from_ref(&gone)))
            .await;
        scene.collect(&batch).await;
        rounds += 1;
    }
    assert_eq!(rounds, releases_max + 1);
    let counts = scene
        .sandbox
        .sql("SELECT count||'' FROM failure_counts")
        .await;
    assert_eq!(counts, Vec::<String>::new(), "P6: never the page's fault");
}

#[actix::test]
async fn a_full_disk_stops_the_collection_charges_nobody_and_is_got_over() {
    let mut scene = Scene::new(5).await;
    let (batch, job) = scene.submit().await;
    let keys = ["book:10", "book:20", "book:30", "book:40", "book:50"];
    let results = lines(&keys.map(|key| answer(key, key)));
    scene.offer(&batch, &job, results).await;
    scene.sandbox.tree.failing_writes.set(2);
    scene.collect(&batch).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Ready]);
    let validating = scene.stages().await;
    assert!(
        validating.iter().all(|(_, stage)| *stage == "validating"),
        "{validating:?}"
    );
    assert_eq!(scene.failures().await, Vec::<String>::new());
    scene.tick_after(29).await;
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 0, "not at once");
    scene.tick_after(1).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 5);
    assert_eq!(scene.sandbox.provider.calls("download"), 1);
    assert_eq!(scene.failures().await, Vec::<String>::new());
}

#[actix::test]
async fn a_disk_that_takes_one_of_two_outputs_costs_neither() {
    let mut scene = Scene::new(2).await;
    let (batch, job) = scene.submit().await;
    let results = lines(&["book:10", "book:20"].map(|key| answer(key, key)));
    scene.offer(&batch, &job, results).await;
    scene.sandbox.tree.failing_writes.set(1);
    scene.collect(&batch).await;
    let stages: Vec<&str> = scene
        .stages()
        .await
        .iter()
        .map(|(_, stage)| *stage)
        .collect();
    assert_eq!(stages, ["validating", "completed"]);
    scene.tick_after(30).await;
    assert_eq!(
        scene.output("book:10").unwrap(),
        "{\n  \"text\": \"book:10\"\n}\n"
    );
    assert_eq!(scene.batch_stages().await, [BatchStage::Settled]);
}

#[actix::test]
async fn f07_p6_results_that_are_not_there_are_looked_for_and_lost_only_after_their_wait() {
    let mut scene = Scene::new(2).await;
    let (batch, job) = scene.submit().await;
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    let missing = (0..100).map(|_| Script::Refused(Next::Missing));
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .downloads
        .extend(missing);
    scene.collect(&batch).await;
    for _ in 0..59 {
        scene.tick_after(30).await;
        assert_eq!(scene.batch_stages().await, [BatchStage::Ready]);
    }
    let asked = scene.sandbox.provider.calls("download");
    assert!(
        (15..40).contains(&asked),
        "again and again, less and less often: {asked}"
    );
    scene.tick_after(200).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Abandoned]);
    assert_eq!(scene.failures().await, Vec::<String>::new());
    let stages: Vec<&str> = scene
        .stages()
        .await
        .iter()
        .map(|(_, stage)| *stage)
        .collect();
    assert_eq!(stages, ["uploaded", "uploaded"]);
    assert_eq!(seen(&scene.released).await, [PagesReleased { count: 2 }]);
}

#[actix::test]
async fn p8_results_that_come_late_are_collected() {
    let mut scene = Scene::new(1).await;
    let (batch, job) = scene.submit().await;
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    let refusals = [
        Next::Missing,
        Next::Transient,
        Next::Account(AccountFault::Key),
    ];
    let refusals = refusals.map(Script::Refused);
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .downloads
        .extend(refusals);
    scene.collect(&batch).await;
    // Far beyond the wait for results: only a file that is not there can be lost.
    scene.tick_after(4_000).await;
    scene.tick_after(4_000).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Ready]);
    assert_eq!(seen(&scene.sandbox.trouble).await.len(), 2);
    scene.tick_after(600).await;
    assert_eq!(scene.stages().await, [("book:10".to_owned(), "completed")]);
}

#[actix::test]
async fn the_page_after_an_accepted_one_is_unlocked() {
    let sandbox = Sandbox::new().await;
    sandbox.start_run().await;
    let keys = [1, 2].map(|page| sandbox.tree.add("book", page));
    sandbox.register(&keys).await;
    let mut scene = Scene::on(sandbox);
    scene.judge(lines(&[answer("book:1", "x")])).await;
    assert_eq!(seen(&scene.unlocked).await, [PagesUnlocked { count: 1 }]);
    assert_eq!(scene.sandbox.claim(10).await, keys[1..]);
}

#[actix::test]
async fn a_settled_batch_leaves_a_report_on_disk_and_in_the_state() {
    let mut scene = Scene::new(2).await;
    scene.judge(lines(&[answer("book:10", "x")])).await;
    let reports = scene.sandbox.tree.reports.borrow().clone();
    assert_eq!(reports["b-0.md"], "1 of 2");
    let kept = scene
        .sandbox
        .sql("SELECT name||': '||markdown FROM reports")
        .await;
    assert_eq!(kept, ["b-0.md: 1 of 2"]);
}

#[actix::test]
async fn p12_a_processor_that_drains_takes_no_more() {
    let mut scene = Scene::new(1).await;
    let (batch, job) = scene.submit().await;
    scene
        .offer(&batch, &job, lines(&[answer("book:10", "x")]))
        .await;
    let drain = pagemill::actors::hint::Drain {};
    scene.processor.send(drain).await.unwrap();
    scene.collect(&batch).await;
    assert_eq!(scene.sandbox.provider.calls("download"), 0);
    scene.processor.send(Leave {}).await.unwrap();
}
