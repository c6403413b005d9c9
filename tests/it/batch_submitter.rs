//! BatchSubmitter between a recorded poller and a recorded uploader, on a real SQLite file.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use pagemill::actors::batch_submitter::{
    BatchSubmitter, BatchSubmitterPeers, BatchSubmitterPorts, LineWriter,
};
use pagemill::actors::hint::{
    BatchSubmitted, Drain, Idle, Leave, PagesReleased, PagesUploaded, RoomAhead, Tick,
};
use pagemill::actors::state::messages::*;
use pagemill::decide::recover;
use pagemill::domain::batch::{AbandonCode, BatchEvent, BatchStage, BatchState};
use pagemill::domain::failure::{AccountFault, ErrorType, Next, Quota};
use pagemill::domain::halt::HaltReason;
use pagemill::domain::ids::RecordKey;
use pagemill::domain::page::{PageEvent, PageStage};
use pagemill::ports::batch_api::BatchApi;
use pagemill::ports::result_sink::ResultSink;

use crate::kit::fake_provider::Script;
use crate::kit::memory_tree::sha256;
use crate::kit::probe::{Probe, seen};
use crate::kit::sandbox::Sandbox;

pub struct Scene {
    pub sandbox: Sandbox,
    pub submitter: Addr<BatchSubmitter>,
    pub submitted: Addr<Probe<BatchSubmitted>>,
    pub released: Addr<Probe<PagesReleased>>,
    pub room: Addr<Probe<RoomAhead>>,
}

impl Scene {
    /// A submitter over so many uploaded pages of one book, none of which follows another.
    pub async fn new(pages: u32, change: impl FnOnce(&mut Sandbox)) -> Self {
        let mut sandbox = Sandbox::new().await;
        change(&mut sandbox);
        sandbox.start_run().await;
        let keys: Vec<RecordKey> = (1..=pages)
            .map(|page| sandbox.tree.add("book", page * 10))
            .collect();
        sandbox.register(&keys).await;
        sandbox.upload(u64::from(pages)).await;
        Scene::on(sandbox)
    }

    /// A submitter over whatever the sandbox holds.
    pub fn on(sandbox: Sandbox) -> Self {
        let (submitted, released) = (Probe::start_new(), Probe::start_new());
        let room = Probe::start_new();
        let peers = BatchSubmitterPeers {
            state: sandbox.state.clone(),
            submitted: submitted.clone().recipient(),
            released: released.clone().recipient(),
            room: room.clone().recipient(),
        };
        let ports = BatchSubmitterPorts {
            batches: sandbox.provider.clone(),
            source: sandbox.tree.clone(),
            sink: sandbox.tree.clone(),
            clock: sandbox.clock.clone(),
            entropy: sandbox.entropy.clone(),
            transfer: sandbox.transfer(),
        };
        let options = sandbox.plan.submitter.clone();
        let submitter =
            BatchSubmitter::new(options, peers, sandbox.root(), ports, writer(&sandbox)).start();
        Scene {
            sandbox,
            submitter,
            submitted,
            released,
            room,
        }
    }

    pub async fn idle(&self) {
        self.submitter.send(Idle {}).await.unwrap();
    }

    pub async fn work(&self) {
        self.submitter
            .send(PagesUploaded { count: 1 })
            .await
            .unwrap();
        self.idle().await;
    }

    pub async fn tick_after(&self, seconds: u64) {
        self.tick(seconds, false).await;
    }

    pub async fn tick(&self, seconds: u64, more_may_come: bool) {
        self.sandbox.clock.advance(Duration::from_secs(seconds));
        let now = self.sandbox.now();
        self.submitter
            .send(Tick { now, more_may_come })
            .await
            .unwrap();
        self.idle().await;
    }

    pub fn script(&self, scripts: impl IntoIterator<Item = Script>) {
        let mut record = self.sandbox.provider.record.borrow_mut();
        record.creates.extend(scripts);
    }

    pub fn creates(&self) -> usize {
        self.sandbox.provider.calls("create")
    }

    /// How often a lines file was uploaded.
    pub fn lines_uploads(&self) -> usize {
        self.sandbox.provider.calls("upload jsonl")
    }

    /// The keys of each job. Batches are submitted side by side, so jobs come in any order.
    pub fn jobs(&self) -> Vec<Vec<String>> {
        let jobs = self.sandbox.provider.jobs();
        let mut jobs: Vec<Vec<String>> = jobs
            .iter()
            .map(|job| self.sandbox.provider.keys(job))
            .collect();
        jobs.sort();
        jobs
    }

    /// The prompt of each line of a job.
    pub fn prompts(&self, job: usize) -> Vec<String> {
        let record = self.sandbox.provider.record.borrow();
        let job = record.jobs.values().nth(job).unwrap();
        let lines = job.lines.lines();
        lines
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let parts = line["request"]["contents"][0]["parts"].as_array().unwrap();
                let texts = parts.iter().filter_map(|part| part["text"].as_str());
                texts.collect::<String>()
            })
            .collect()
    }

    pub async fn batch_stages(&self) -> Vec<BatchStage> {
        let batches = self.sandbox.batches().await;
        batches.iter().map(|row| row.state.stage()).collect()
    }

    pub async fn count(&self, wanted: PageStage) -> usize {
        let stages = self.sandbox.stages().await;
        stages.iter().filter(|(_, stage)| *stage == wanted).count()
    }

    pub async fn failures(&self) -> Vec<(ErrorType, u64)> {
        let at = self.sandbox.now();
        let question = Summarize { scope: None, at };
        self.sandbox.ask(question).await.unwrap().failures
    }
}

fn writer(sandbox: &Sandbox) -> LineWriter {
    LineWriter::new(
        Arc::clone(&sandbox.plan.recipe),
        sandbox.plan.layout.clone(),
        sandbox.plan.chained,
        sandbox.plan.prices.clone(),
    )
}

#[actix::test]
async fn a_full_batch_is_sent_at_once_and_no_batch_is_over_its_limit() {
    let scene = Scene::new(9, |sandbox| sandbox.plan.submitter.live_max = 10).await;
    scene.work().await;
    let sizes: Vec<usize> = scene.jobs().iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 4], "the ninth page waits for company");
    assert_eq!(seen(&scene.submitted).await.len(), 2);
    assert_eq!(seen(&scene.room).await.len(), 2, "others may be uploaded");
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
}

#[actix::test]
async fn uploads_are_worth_a_look_once_they_can_fill_the_batch_that_waits() {
    let scene = Scene::new(2, |_| {}).await;
    let keys: Vec<RecordKey> = (3..=9)
        .map(|page| scene.sandbox.tree.add("book", page * 10))
        .collect();
    scene.sandbox.register(&keys).await;
    scene.work().await;
    assert_eq!(scene.creates(), 0, "two pages of four wait for company");
    scene.sandbox.upload(2).await;
    scene.work().await;
    assert_eq!(scene.creates(), 0, "one more cannot fill the batch");
    scene.work().await;
    assert_eq!(scene.jobs()[0].len(), 4);
    // A hint that is lost does no harm.
    scene.sandbox.upload(4).await;
    scene.tick(0, true).await;
    assert_eq!(scene.jobs().len(), 2);
}

#[actix::test]
async fn p8_no_job_is_created_before_its_manifest_is_on_disk() {
    let scene = Scene::new(2, |_| {}).await;
    scene.sandbox.tree.failing_manifests.set(1);
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 0);
    assert_eq!(scene.batch_stages().await, [BatchStage::Planned]);
    assert_eq!(scene.count(PageStage::Batched).await, 2);
    scene.tick_after(3600).await;
    assert_eq!(scene.creates(), 1);
    let batches = scene.sandbox.tree.manifests().await.unwrap();
    let text = scene.sandbox.tree.manifest(&batches[0]).await.unwrap();
    let kept = pagemill::wire::manifest::decode(&text).unwrap();
    assert!(kept.lines.unwrap().file.is_some());
    let keys: Vec<&str> = kept.members.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["book:10", "book:20"]);
    assert!(kept.members.iter().all(|one| one.prompt_sha256.is_some()));
}

#[actix::test]
async fn a_batch_that_will_never_be_sent_leaves_no_manifest() {
    let scene = Scene::new(2, |_| {}).await;
    scene.script([(); 9].map(|()| Script::Refused(Next::Refused)));
    scene.tick_after(0).await;
    for _ in 0..5 {
        scene.tick_after(3600).await;
    }
    assert!(scene.batch_stages().await.contains(&BatchStage::Abandoned));
    let batches = scene.sandbox.batches().await;
    let given_up = batches
        .iter()
        .filter(|row| row.state.stage() == BatchStage::Abandoned);
    let kept = scene.sandbox.tree.manifests().await.unwrap();
    for row in given_up {
        assert!(!kept.contains(&row.batch), "{}", row.batch);
    }
}

#[actix::test]
async fn a_small_batch_waits_while_company_may_come_and_no_longer_than_fill_wait() {
    let scene = Scene::new(2, |_| {}).await;
    scene.tick(0, true).await;
    scene.tick(4, true).await;
    assert_eq!(scene.creates(), 0);
    scene.tick(1, true).await;
    assert_eq!(scene.jobs(), [["book:10", "book:20"]]);
}

#[actix::test]
async fn a_small_batch_is_sent_at_once_when_nothing_can_come() {
    let scene = Scene::new(2, |_| {}).await;
    scene.tick_after(0).await;
    assert_eq!(scene.jobs(), [["book:10", "book:20"]]);
}

#[actix::test]
async fn a_small_batch_waits_for_a_page_that_is_still_being_uploaded() {
    let sandbox = Sandbox::new().await;
    sandbox.start_run().await;
    let keys = [10, 20].map(|page| sandbox.tree.add("book", page));
    sandbox.register(&keys).await;
    sandbox.upload(1).await;
    sandbox.claim(1).await;
    let scene = Scene::on(sandbox);
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 0);
    scene.tick_after(5).await;
    assert_eq!(scene.creates(), 1);
}

#[actix::test]
async fn f26_lines_stay_within_the_limit_of_bytes() {
    let scene = Scene::new(6, |sandbox| sandbox.plan.submitter.live_max = 10).await;
    let sandbox = scene.sandbox;
    scene.submitter.send(Leave {}).await.unwrap();
    let uploaded = ListUploaded {
        scope: sandbox.plan.scope.clone(),
        limit: 10,
        usable_until: sandbox.now(),
    };
    let pages = sandbox.ask(uploaded).await.unwrap().pages;
    let sizes = writer(&sandbox).measure(&pages, &*sandbox.tree).await;
    let mut sandbox = sandbox;
    // Two lines fit and a third does not.
    let line_bytes = sizes[0].as_ref().unwrap().line_bytes;
    let bytes_max = line_bytes * 2 + line_bytes / 2;
    sandbox.plan.submitter.limits.bytes_max = bytes_max;
    let scene = Scene::on(sandbox);
    scene.tick_after(0).await;
    let sizes: Vec<usize> = scene.jobs().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 2]);
    for job in scene.sandbox.provider.record.borrow().jobs.values() {
        assert!(job.lines.len() as u64 <= bytes_max);
    }
}

#[actix::test]
async fn two_pages_of_one_chain_never_share_a_batch() {
    let mut sandbox = Sandbox::new().await;
    sandbox.start_run().await;
    let keys = [1, 2, 3].map(|page| sandbox.tree.add("book", page));
    sandbox.register(&keys).await;
    // All of them are uploaded, as after a change from `none` to `chain`.
    sandbox.plan.chained = false;
    sandbox.upload(3).await;
    sandbox.plan.chained = true;
    let scene = Scene::on(sandbox);
    scene.tick_after(0).await;
    assert_eq!(
        scene.jobs(),
        [
            vec!["book:1".to_owned(), "book:3".to_owned()],
            vec!["book:2".to_owned()]
        ]
    );
}

#[actix::test]
async fn no_more_batches_are_live_than_allowed() {
    let scene = Scene::new(12, |_| {}).await;
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 2, "live_max of the sandbox");
    scene.tick_after(600).await;
    assert_eq!(scene.creates(), 2);
    let batch = scene.sandbox.batches().await.remove(0);
    let code = AbandonCode::Cancelled;
    let at = scene.sandbox.now();
    let far = at.plus(Duration::from_secs(100 * 3600));
    let question = ListMembers {
        batch: batch.batch.clone(),
    };
    let members = scene.sandbox.ask(question).await.unwrap();
    let pages = members
        .into_iter()
        .map(|member| (member.key, PageEvent::Released { at: far }))
        .collect();
    let end = EndBatch {
        batch: batch.batch,
        event: BatchEvent::EndedEmpty { code },
        pages,
        counted: true,
        batch_size_max: None,
        note: String::new(),
        at,
    };
    scene.sandbox.ask(end).await.unwrap();
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 3, "one went, one comes");
}

#[actix::test]
async fn f12_p3_the_intent_is_committed_before_the_create_is_sent() {
    let scene = Scene::new(3, |_| {}).await;
    let found = Rc::new(RefCell::new(Vec::new()));
    let (state, log) = (scene.sandbox.state.clone(), Rc::clone(&found));
    let db = scene.sandbox.folder.path().join("state.db");
    scene.sandbox.provider.record.borrow_mut().on_create = Some(Rc::new(move |display_name| {
        let (state, log, db) = (state.clone(), Rc::clone(&log), db.clone());
        Box::pin(async move {
            let states = BatchStage::ALL.to_vec();
            let rows = state.send(ListBatches { states, limit: 9 }).await;
            let rows = rows.unwrap().unwrap();
            // Beside the actor: what another connection sees is committed.
            let beside = crate::kit::state_world::beside(&db).await;
            let sql = "SELECT state||' '||display_name||' '||creates FROM submissions";
            let committed = crate::kit::state_world::ask(&beside, sql).await;
            log.borrow_mut().push((display_name, rows, committed));
        })
    }));
    scene.tick_after(0).await;
    let found = found.take();
    let [(display_name, rows, committed)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(rows[0].state, BatchState::Submitting);
    assert_eq!(rows[0].display_name, *display_name);
    assert_eq!(rows[0].members, 3);
    assert_eq!(rows[0].creates, 1);
    assert!(rows[0].lines_file.is_some());
    assert_eq!(*committed, [format!("submitting {display_name} 1")]);
    assert_eq!(scene.batch_stages().await, [BatchStage::Submitted]);
}

#[actix::test]
async fn f12_p3_a_lost_create_answer_is_looked_up_and_adopted_and_never_creates_twice() {
    let scene = Scene::new(3, |_| {}).await;
    scene.script([Script::Lost]);
    scene.tick_after(0).await;
    for _ in 0..5 {
        scene.tick_after(600).await;
    }
    assert_eq!((scene.creates(), scene.jobs().len()), (1, 1));
    assert_eq!(scene.sandbox.provider.calls("list"), 1);
    let batch = scene.sandbox.batches().await.remove(0);
    let job = scene.sandbox.provider.jobs().remove(0);
    assert_eq!(batch.remote.unwrap().as_str(), job);
    assert_eq!(batch.state.stage(), BatchStage::Submitted);
    let spool = scene.sandbox.tree.spool_path(&batch.batch);
    assert!(
        !spool.exists(),
        "F46: the lines file goes once the job is known"
    );
    let told = BatchSubmitted { batch: batch.batch };
    assert_eq!(seen(&scene.submitted).await, [told]);
}

#[actix::test]
async fn f12_p3_the_list_is_searched_to_its_last_page() {
    let scene = Scene::new(1, |_| {}).await;
    scene.script([Script::Lost]);
    let provider = Rc::clone(&scene.sandbox.provider);
    provider.record.borrow_mut().list_page = Some(2);
    provider.record.borrow_mut().hidden = true;
    scene.tick_after(0).await;
    // Other people's jobs, made while ours was: the list shows the newest first.
    let name = provider.jobs().remove(0);
    let input = provider.record.borrow().jobs[&name].input.clone();
    for stranger in 0..5 {
        let name = format!("stranger-{stranger}");
        provider.create("gemini-test", &name, &input).await.unwrap();
    }
    provider.record.borrow_mut().hidden = false;
    scene.tick_after(200).await;
    assert_eq!(
        scene.sandbox.provider.words("list"),
        ["list first", "list first", "list 2", "list 4"]
    );
    let batch = scene.sandbox.batches().await.remove(0);
    assert_eq!(
        batch.remote.unwrap().as_str(),
        scene.sandbox.provider.jobs()[0]
    );
}

#[actix::test]
async fn f12_p3_a_job_that_the_list_never_shows_is_created_again_only_after_all_looks() {
    let scene = Scene::new(3, |_| {}).await;
    scene.sandbox.provider.record.borrow_mut().hidden = true;
    scene.script([Script::Lost]);
    scene.tick_after(0).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::InDoubt]);
    // settle is 600 s and lookups 3: looks are 200 s apart.
    for step in 1..=119 {
        scene.tick_after(5).await;
        assert_eq!(scene.creates(), 1, "after {} s", step * 5);
    }
    assert_eq!(scene.sandbox.provider.calls("list"), 3);
    scene.tick_after(5).await;
    assert_eq!(scene.creates(), 2);
    let names = scene.sandbox.provider.words("create");
    assert_eq!(names[0], names[1], "one intent, one name");
    assert_eq!(scene.lines_uploads(), 1);
    assert_eq!(scene.batch_stages().await, [BatchStage::Submitted]);
}

#[actix::test]
async fn p3_a_list_that_cannot_be_read_proves_nothing() {
    let scene = Scene::new(3, |_| {}).await;
    scene.script([Script::Lost]);
    let refusals = (0..20).map(|_| Script::Refused(Next::Transient));
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .lists
        .extend(refusals);
    for _ in 0..20 {
        scene.tick_after(600).await;
    }
    assert_eq!(scene.creates(), 1);
    assert_eq!(scene.batch_stages().await, [BatchStage::InDoubt]);
    assert!(!seen(&scene.sandbox.trouble).await.is_empty());
    scene.tick_after(600).await;
    assert_eq!(scene.batch_stages().await, [BatchStage::Submitted]);
    assert_eq!(scene.creates(), 1);
}

#[actix::test]
async fn f20_a_refused_create_parks_the_batch_as_it_is_built() {
    let absurd = Next::Throttled {
        after: Some(Duration::MAX),
        quota: Quota::Rate,
    };
    for (next, delay) in [(absurd, 3600), (Next::NotReady, 30), (Next::Transient, 30)] {
        let scene = Scene::new(3, |_| {}).await;
        scene.script([Script::Refused(next.clone())]);
        scene.tick_after(0).await;
        assert_eq!(scene.batch_stages().await, [BatchStage::Planned]);
        assert_eq!(scene.count(PageStage::Batched).await, 3);
        scene.tick_after(delay - 1).await;
        assert_eq!(scene.creates(), 1, "not before its time: {next:?}");
        scene.tick_after(1).await;
        let names = scene.sandbox.provider.words("create");
        assert_eq!(names.len(), 2, "{next:?}");
        assert_eq!(names[0], names[1]);
        assert_eq!(scene.lines_uploads(), 1, "the lines file is still there");
        assert_eq!(scene.batch_stages().await, [BatchStage::Submitted]);
        assert_eq!(scene.failures().await, [], "no page is charged: {next:?}");
        assert_eq!(seen(&scene.sandbox.trouble).await, []);
    }
}

#[actix::test]
async fn f17_account_trouble_halts_submission_until_the_provider_takes_calls_again() {
    let scene = Scene::new(3, |_| {}).await;
    scene.script([Script::Refused(Next::Account(AccountFault::Key))]);
    scene.tick_after(0).await;
    assert_eq!(
        scene.batch_stages().await,
        [BatchStage::Planned],
        "the same intent"
    );
    let halts = scene.sandbox.ask(ListHalts {}).await.unwrap();
    let reasons: Vec<HaltReason> = halts.iter().map(|halt| halt.reason).collect();
    assert_eq!(reasons, [HaltReason::Key]);
    // An hour of a bad key: the provider is asked at growing pauses, and nothing is sent.
    let refused = || Script::Refused(Next::Account(AccountFault::Key));
    let lists = || scene.sandbox.provider.calls("list");
    scene.sandbox.provider.record.borrow_mut().lists = (0..99).map(|_| refused()).collect();
    for _ in 0..60 {
        scene.tick_after(60).await;
    }
    assert_eq!(scene.creates(), 1);
    assert!((4..=8).contains(&lists()), "{} probes in an hour", lists());
    scene.sandbox.provider.record.borrow_mut().lists.clear();
    scene.tick_after(3600).await;
    scene.tick_after(1).await;
    assert_eq!(scene.sandbox.ask(ListHalts {}).await.unwrap(), []);
    assert_eq!(scene.batch_stages().await, [BatchStage::Submitted]);
    assert_eq!(scene.creates(), 2);
    assert_eq!(scene.failures().await, [], "no attempt is consumed");
    assert_eq!(scene.lines_uploads(), 1);
}

#[actix::test]
async fn a_create_whose_lines_file_is_gone_uploads_it_again() {
    let scene = Scene::new(3, |_| {}).await;
    scene.script([Script::Refused(Next::Missing)]);
    scene.tick_after(0).await;
    scene.tick_after(30).await;
    assert_eq!((scene.creates(), scene.lines_uploads()), (2, 2));
    assert_eq!(scene.jobs(), [["book:10", "book:20", "book:30"]]);
}

#[actix::test]
async fn f24_a_definite_refusal_ends_the_batch_and_frees_its_pages_in_halves() {
    let scene = Scene::new(4, |_| {}).await;
    scene.script([Script::Refused(Next::Refused)]);
    scene.tick_after(0).await;
    scene.tick_after(1).await;
    assert_eq!(
        scene.batch_stages().await,
        [
            BatchStage::Abandoned,
            BatchStage::Submitted,
            BatchStage::Submitted
        ]
    );
    assert_eq!(seen(&scene.released).await, [PagesReleased { count: 4 }]);
    let sizes: Vec<usize> = scene.jobs().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2]);
    assert_eq!(scene.failures().await, []);
}

#[actix::test]
async fn a_batch_that_is_refused_at_once_after_it_lost_a_page_ends_well() {
    let scene = Scene::new(3, |_| {}).await;
    let label = b"{\"title\": ".to_vec();
    let key = RecordKey::from("book:20");
    scene.sandbox.tree.labels.borrow_mut().insert(key, label);
    scene.script([Script::Refused(Next::Refused)]);
    scene.tick_after(0).await;
    assert_eq!(seen(&scene.released).await, [PagesReleased { count: 2 }]);
    assert_eq!(scene.count(PageStage::Dead).await, 1);
    assert!(scene.submitter.connected(), "the stage lives on");
}

#[actix::test]
async fn f12_p3_a_crash_while_creating_leads_to_a_look_and_not_to_a_second_create() {
    for lost in [false, true] {
        let scene = Scene::new(3, |_| {}).await;
        // The process ends while the create is on the wire: before it arrives, or after.
        let (began, mut beginnings) = tokio::sync::mpsc::unbounded_channel();
        let provider = Rc::downgrade(&scene.sandbox.provider);
        let on_create: crate::kit::fake_provider::OnCreate = Rc::new(move |display_name| {
            let (began, provider) = (began.clone(), provider.clone());
            Box::pin(async move {
                if lost {
                    provider.upgrade().unwrap().make_job(&display_name);
                }
                began.send(()).unwrap();
                std::future::pending::<()>().await;
            })
        });
        scene.sandbox.provider.record.borrow_mut().on_create = Some(on_create);
        scene.submitter.send(scene.sandbox.tick()).await.unwrap();
        beginnings.recv().await.unwrap();
        scene.submitter.send(Leave {}).await.unwrap();
        let sandbox = scene.sandbox.reopened().await;
        sandbox.provider.record.borrow_mut().on_create = None;
        let before = sandbox.provider.calls("create");
        assert_eq!(sandbox.batches().await[0].state, BatchState::Submitting);
        let interrupted = sandbox.ask(ListInterrupted {}).await.unwrap();
        let at = sandbox.now();
        let batches = interrupted
            .submitting
            .into_iter()
            .map(|batch| (batch, recover::submitting(at)))
            .collect();
        let recovery = ApplyRecovery {
            pages: vec![],
            batches,
            at,
        };
        sandbox.ask(recovery).await.unwrap();
        let scene = Scene::on(sandbox);
        scene.tick_after(0).await;
        assert_eq!(scene.sandbox.provider.calls("list"), 1);
        assert_eq!(scene.creates(), before, "no create without enough looks");
        let expected = if lost {
            BatchStage::Submitted
        } else {
            BatchStage::InDoubt
        };
        assert_eq!(scene.batch_stages().await, [expected]);
        for _ in 0..4 {
            scene.tick_after(200).await;
        }
        assert_eq!(scene.jobs().len(), 1, "one job in the end: {lost}");
        assert_eq!(scene.batch_stages().await, [BatchStage::Submitted]);
    }
}

#[actix::test]
async fn f24_a_page_that_cannot_be_asked_about_is_refused_by_name_and_the_rest_is_sent() {
    let scene = Scene::new(4, |_| {}).await;
    for (page, label) in [("book:10", "{\"title\": "), ("book:30", "{\"other\": 1}")] {
        let key = RecordKey::from(page);
        let label = label.as_bytes().to_vec();
        scene.sandbox.tree.labels.borrow_mut().insert(key, label);
    }
    scene.tick_after(0).await;
    assert_eq!(scene.jobs(), [["book:20", "book:40"]]);
    let failures = scene
        .sandbox
        .sql("SELECT record_key||' '||error_type FROM failure_logs ORDER BY record_key")
        .await;
    assert_eq!(
        failures,
        ["book:10 JSONDecodeError", "book:30 ValidationError"]
    );
    assert_eq!(scene.count(PageStage::Dead).await, 2);
    assert_eq!(scene.count(PageStage::Batched).await, 2);
}

#[actix::test]
async fn a_batch_of_which_no_page_can_be_asked_about_is_never_created() {
    let scene = Scene::new(2, |_| {}).await;
    for label in scene.sandbox.tree.labels.borrow_mut().values_mut() {
        *label = b"not JSON".to_vec();
    }
    scene.tick_after(0).await;
    assert_eq!((scene.creates(), scene.lines_uploads()), (0, 0));
    assert_eq!(scene.batch_stages().await, [BatchStage::Abandoned]);
    assert_eq!(scene.count(PageStage::Dead).await, 2);
}

#[actix::test]
async fn p10_a_page_whose_file_has_too_little_life_left_is_withdrawn_and_goes_back() {
    let scene = Scene::new(3, |_| {}).await;
    scene.script([Script::Refused(Next::NotReady)]);
    scene.tick_after(0).await;
    // Files live 48 h and need 26.
    scene.tick_after(23 * 3600).await;
    assert_eq!(scene.creates(), 1, "a batch on dying files is not created");
    assert_eq!(scene.batch_stages().await, [BatchStage::Abandoned]);
    assert_eq!(seen(&scene.released).await, [PagesReleased { count: 3 }]);
    assert_eq!(scene.count(PageStage::Discovered).await, 3);
    assert_eq!(scene.failures().await, []);
    scene.sandbox.upload(3).await;
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 2);
}

/// A book of two pages, of which the first is done, and the second is uploaded.
async fn second_page(chained: bool) -> Scene {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.chained = chained;
    sandbox.plan.submitter.chained = chained;
    sandbox.start_run().await;
    let keys = [1, 2].map(|page| sandbox.tree.add("book", page));
    sandbox.register(&keys).await;
    let output = "{\"text\": \"the words before\"}";
    sandbox.tree.put_output(&keys[0], output);
    let adopt = vec![AdoptedOutput {
        key: keys[0].clone(),
        sha256: sha256(output.as_bytes()),
        bytes: output.len() as u64,
    }];
    let scan = ApplyScan {
        run: sandbox.plan.run.clone(),
        scope: sandbox.plan.scope.clone(),
        changes: ScanChanges {
            adopt,
            ..ScanChanges::default()
        },
        at: sandbox.now(),
    };
    sandbox.ask(scan).await.unwrap();
    assert_eq!(sandbox.upload(2).await, keys[1..]);
    Scene::on(sandbox)
}

#[actix::test]
async fn a_page_is_asked_about_with_the_accepted_output_of_the_page_before() {
    let scene = second_page(true).await;
    scene.tick_after(0).await;
    assert_eq!(
        scene.prompts(0),
        ["Read book:2: page 2. Before: the words before"]
    );
    let contexts = "SELECT count(*) FROM attempts WHERE context_sha256 IS NOT NULL";
    assert_eq!(scene.sandbox.sql(contexts).await, ["1"]);
}

#[actix::test]
async fn without_chains_no_page_hears_of_another() {
    let scene = second_page(false).await;
    scene.tick_after(0).await;
    assert_eq!(scene.prompts(0), ["Read book:2: page 2."]);
    let contexts = "SELECT count(*) FROM attempts WHERE context_sha256 IS NOT NULL";
    assert_eq!(scene.sandbox.sql(contexts).await, ["0"]);
}

#[actix::test]
async fn p12_a_draining_submitter_takes_no_more() {
    let scene = Scene::new(4, |_| {}).await;
    scene.submitter.send(Drain {}).await.unwrap();
    scene.work().await;
    assert_eq!(scene.creates(), 0);
    assert_eq!(scene.count(PageStage::Uploaded).await, 4);
}
