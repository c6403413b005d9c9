//! Poller between recorded neighbors, on a real SQLite file.

use std::time::Duration;

use actix::prelude::*;
use pagemill::actors::hint::{BatchSubmitted, Idle, PagesReleased, ResultsReady};
use pagemill::actors::poller::{Poller, PollerPeers};
use pagemill::actors::state::messages::*;
use pagemill::domain::batch::{BatchEvent, BatchStage};
use pagemill::domain::failure::Next;
use pagemill::domain::ids::{BatchId, RecordKey, Sha256Hex};
use pagemill::ports::batch_api::BatchApi;

use crate::kit::fake_provider::Script;
use crate::kit::probe::{Probe, seen};
use crate::kit::sandbox::Sandbox;

pub struct Scene {
    pub sandbox: Sandbox,
    pub poller: Addr<Poller>,
    pub ready: Addr<Probe<ResultsReady>>,
    pub released: Addr<Probe<PagesReleased>>,
    pub jobs: Vec<String>,
}

/// Brings one batch of the given pages to the state Submitted; gives the job's name.
pub async fn submitted(sandbox: &Sandbox, batch: &str, keys: &[RecordKey]) -> String {
    let batch_id = BatchId::from(batch);
    let at = sandbox.now();
    let mut members = keys.to_vec();
    members.sort();
    sandbox.plan_batch(&batch_id, members.clone()).await;
    let lines: String = members
        .iter()
        .map(|key| format!("{{\"key\":{:?}}}\n", key.as_str()))
        .collect();
    let path = sandbox.folder.path().join(format!("{batch}.lines"));
    std::fs::write(&path, &lines).unwrap();
    let sha256 = crate::kit::memory_tree::sha256(lines.as_bytes());
    sandbox
        .ask(RecordSpooled {
            batch: batch_id.clone(),
            sha256: sha256.clone(),
            bytes: lines.len() as u64,
            reserved_cost_nanos: None,
            included: members
                .iter()
                .map(|key| IncludedMember {
                    key: key.clone(),
                    prompt_sha256: Sha256Hex::from("0".repeat(64)),
                    context_sha256: None,
                    parameters: None,
                })
                .collect(),
            refused: Vec::new(),
            at,
        })
        .await
        .unwrap();
    let upload = pagemill::ports::file_api::Upload {
        display_name: format!("pagemill-{batch}"),
        mime: "jsonl".into(),
        path,
        bytes: lines.len() as u64,
        sha256,
        content: None,
    };
    let file = sandbox.transfer().send(&upload).await.unwrap();
    let name = file.name.clone();
    sandbox
        .ask(RecordJsonlUploaded {
            batch: batch_id.clone(),
            file,
            at,
        })
        .await
        .unwrap();
    sandbox
        .ask(BeginSubmit {
            batch: batch_id.clone(),
            at,
        })
        .await
        .unwrap();
    let job = sandbox
        .provider
        .create("gemini-test", &format!("pagemill-{batch}"), &name)
        .await
        .unwrap();
    let event = BatchEvent::SubmitAccepted {
        remote: job.name.clone(),
    };
    let note = String::new();
    sandbox
        .ask(RecordSubmit {
            batch: batch_id,
            event,
            note,
            at,
        })
        .await
        .unwrap();
    job.name.to_string()
}

impl Scene {
    /// A poller over batches of three pages each.
    pub async fn new(batches: usize) -> Self {
        let sandbox = Sandbox::new().await;
        sandbox.start_run().await;
        let mut jobs = Vec::new();
        for batch in 0..batches {
            let book = format!("book{batch}");
            let keys: Vec<RecordKey> = [10, 20, 30]
                .map(|page| sandbox.tree.add(&book, page))
                .to_vec();
            sandbox.register(&keys).await;
            sandbox.upload(3).await;
            jobs.push(submitted(&sandbox, &format!("b-{batch}"), &keys).await);
        }
        let (ready, released) = (Probe::start_new(), Probe::start_new());
        let peers = PollerPeers {
            state: sandbox.state.clone(),
            ready: ready.clone().recipient(),
            released: released.clone().recipient(),
        };
        let poller = Poller::new(
            sandbox.plan.poller.clone(),
            peers,
            sandbox.root(),
            sandbox.provider.clone(),
            sandbox.clock.clone(),
            sandbox.entropy.clone(),
        )
        .start();
        Scene {
            sandbox,
            poller,
            ready,
            released,
            jobs,
        }
    }

    pub async fn tick_after(&self, seconds: u64) {
        self.sandbox.clock.advance(Duration::from_secs(seconds));
        self.poller.send(self.sandbox.tick()).await.unwrap();
        self.poller.send(Idle {}).await.unwrap();
    }

    pub async fn stage(&self, batch: usize) -> BatchStage {
        self.sandbox.batches().await[batch].state.stage()
    }
}

#[actix::test]
async fn each_job_is_looked_at_on_its_own_interval() {
    let scene = Scene::new(1).await;
    let batch = BatchId::from("b-0");
    scene.poller.send(BatchSubmitted { batch }).await.unwrap();
    scene.poller.send(Idle {}).await.unwrap();
    assert_eq!(
        scene.sandbox.provider.calls("poll"),
        0,
        "a new job gets its interval first"
    );
    scene.tick_after(29).await;
    assert_eq!(scene.sandbox.provider.calls("poll"), 0);
    scene.tick_after(2).await;
    assert_eq!(scene.sandbox.provider.calls("poll"), 1);
    scene.tick_after(1).await;
    assert_eq!(scene.sandbox.provider.calls("poll"), 1);
    scene.tick_after(30).await;
    assert_eq!(scene.sandbox.provider.calls("poll"), 2);
}

#[actix::test]
async fn f27_a_job_that_fails_to_answer_delays_no_other() {
    let scene = Scene::new(2).await;
    scene.tick_after(0).await;
    let refusal = Script::Refused(Next::Transient);
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .polls
        .push_back(refusal);
    scene.sandbox.provider.succeed(&scene.jobs[1], &[]);
    scene.tick_after(31).await;
    assert_eq!(scene.sandbox.provider.calls("poll"), 2);
    assert_eq!(
        seen(&scene.ready).await,
        [ResultsReady {
            batch: BatchId::from("b-1")
        }]
    );
    assert_eq!(
        scene.stage(0).await,
        BatchStage::Submitted,
        "a failed look ends nothing"
    );
}

#[actix::test]
async fn f13_p9_no_local_clock_ends_a_job() {
    let scene = Scene::new(1).await;
    for state in ["BATCH_STATE_RUNNING", "BATCH_STATE_SOMETHING_NEW"] {
        scene.sandbox.provider.end(&scene.jobs[0], state, None);
        for _ in 0..4 {
            scene.tick_after(72 * 3600).await;
        }
        assert_eq!(scene.stage(0).await, BatchStage::Submitted, "{state}");
    }
    assert_eq!(scene.sandbox.provider.calls("cancel"), 0);
    let missing = Script::Refused(Next::Missing);
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .polls
        .push_back(missing);
    scene.tick_after(3600).await;
    assert_eq!(
        scene.stage(0).await,
        BatchStage::Submitted,
        "not shown is not gone"
    );
}

#[actix::test]
async fn f27_p8_success_without_named_results_is_asked_again() {
    let scene = Scene::new(1).await;
    scene.tick_after(0).await;
    scene
        .sandbox
        .provider
        .end(&scene.jobs[0], "BATCH_STATE_SUCCEEDED", None);
    scene.tick_after(31).await;
    assert_eq!(scene.stage(0).await, BatchStage::Submitted);
    scene.sandbox.provider.succeed(&scene.jobs[0], &[]);
    scene.tick_after(31).await;
    assert_eq!(scene.stage(0).await, BatchStage::Ready);
}

#[actix::test]
async fn f08_p8_a_failed_job_with_results_gives_them_up() {
    let scene = Scene::new(1).await;
    scene.tick_after(0).await;
    scene.sandbox.provider.succeed(&scene.jobs[0], &[]);
    scene.sandbox.provider.end(
        &scene.jobs[0],
        "BATCH_STATE_CANCELLED",
        Some((13, "cancelled")),
    );
    scene.tick_after(31).await;
    assert_eq!(scene.stage(0).await, BatchStage::Ready);
}

#[actix::test]
async fn f18_an_expired_job_gives_its_pages_back_uncounted_in_halves_and_after_a_pause() {
    let scene = Scene::new(1).await;
    scene.tick_after(0).await;
    scene
        .sandbox
        .provider
        .end(&scene.jobs[0], "BATCH_STATE_EXPIRED", None);
    scene.tick_after(31).await;
    assert_eq!(scene.stage(0).await, BatchStage::Abandoned);
    assert_eq!(seen(&scene.released).await, [PagesReleased { count: 3 }]);
    let halves = "SELECT stage||' '||batch_size_max||' '||releases FROM pages";
    assert_eq!(scene.sandbox.sql(halves).await, ["discovered 2 1"; 3]);
    let counts = "SELECT record_key FROM failure_counts";
    assert_eq!(scene.sandbox.sql(counts).await, Vec::<String>::new());
    assert_eq!(scene.sandbox.claim(10).await, [], "not before the pause");
    scene.sandbox.clock.advance(Duration::from_secs(601));
    assert_eq!(scene.sandbox.claim(10).await.len(), 3);
}
