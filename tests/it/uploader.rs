//! Uploader between a recorded submitter and a recorded root, on a real SQLite file.

use std::time::Duration;

use actix::prelude::*;
use pagemill::actors::hint::{Drain, Idle, PagesRegistered, PagesUploaded, RoomAhead};
use pagemill::actors::state::messages::{EndBatch, ListWork, Resume, ResumedBy, Summarize};
use pagemill::actors::uploader::{Uploader, UploaderPeers};
use pagemill::domain::batch::BatchEvent;
use pagemill::domain::failure::{AccountFault, ErrorType, Next, Quota};
use pagemill::domain::halt::HaltReason;
use pagemill::domain::ids::{BatchId, RecordKey};
use pagemill::domain::image::ImageFault;
use pagemill::domain::page::{PageEvent, PageStage};

use crate::kit::fake_provider::Script;
use crate::kit::probe::{Probe, seen};
use crate::kit::sandbox::Sandbox;

pub struct Scene {
    pub sandbox: Sandbox,
    pub uploader: Addr<Uploader>,
    pub uploaded: Addr<Probe<PagesUploaded>>,
}

impl Scene {
    /// Lets the next upload be refused.
    fn refuse_upload(&self, next: Next) {
        let mut record = self.sandbox.provider.record.borrow_mut();
        record.uploads.push_back(Script::Refused(next));
    }

    /// Plans a batch of all uploaded pages.
    async fn plan_uploaded(&self, batch: &BatchId) -> Vec<RecordKey> {
        let stages = self.sandbox.stages().await;
        let members: Vec<RecordKey> = stages
            .into_iter()
            .filter(|(_key, stage)| *stage == PageStage::Uploaded)
            .map(|(key, _stage)| RecordKey::from(key))
            .collect();
        self.sandbox.plan_batch(batch, members.clone()).await;
        members
    }

    /// Plans a batch of all uploaded pages and withdraws it so late that their files are of no use any more.
    async fn withdraw_uploaded(&self) {
        let sandbox = &self.sandbox;
        let batch = BatchId::from("b-1");
        let members = self.plan_uploaded(&batch).await;
        let far = sandbox.now().plus(Duration::from_secs(100 * 3600));
        let pages = members
            .into_iter()
            .map(|key| (key, PageEvent::Released { at: far }))
            .collect();
        sandbox
            .ask(EndBatch {
                batch,
                event: BatchEvent::Withdrawn,
                pages,
                counted: true,
                batch_size_max: None,
                note: String::new(),
                at: sandbox.now(),
            })
            .await
            .unwrap();
    }

    pub async fn new(pages: u32, change: impl FnOnce(&mut Sandbox)) -> Self {
        let mut sandbox = Sandbox::new().await;
        change(&mut sandbox);
        sandbox.start_run().await;
        let keys: Vec<RecordKey> = (1..=pages)
            .map(|page| sandbox.tree.add("book", page * 10))
            .collect();
        sandbox.register(&keys).await;
        let uploaded = Probe::start_new();
        let peers = UploaderPeers {
            state: sandbox.state.clone(),
            uploaded: uploaded.clone().recipient(),
        };
        let uploader = Uploader::new(
            sandbox.plan.uploader.clone(),
            peers,
            sandbox.root(),
            sandbox.uploader_ports(),
        )
        .start();
        Scene {
            sandbox,
            uploader,
            uploaded,
        }
    }

    pub async fn work(&self) {
        self.uploader
            .send(PagesRegistered { count: 1 })
            .await
            .unwrap();
        self.uploader.send(Idle {}).await.unwrap();
    }

    pub async fn tick(&self) {
        self.uploader.send(self.sandbox.tick()).await.unwrap();
        self.uploader.send(Idle {}).await.unwrap();
    }

    pub async fn count(&self, wanted: PageStage) -> usize {
        self.sandbox
            .stages()
            .await
            .iter()
            .filter(|(_, stage)| *stage == wanted)
            .count()
    }
}

#[actix::test]
async fn images_are_uploaded_and_told_of() {
    let scene = Scene::new(3, |_| {}).await;
    scene.work().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 3);
    let told: u64 = seen(&scene.uploaded)
        .await
        .iter()
        .map(|arrow| arrow.count)
        .sum();
    assert_eq!(told, 3);
    let summary = scene
        .sandbox
        .ask(Summarize {
            scope: None,
            at: scene.sandbox.now(),
        })
        .await
        .unwrap();
    assert_eq!(summary.remote_files, 3, "the ledger knows every file");
}

#[actix::test]
async fn uploads_never_run_far_ahead_of_what_can_be_sent() {
    let scene = Scene::new(20, |_| {}).await;
    scene.work().await;
    assert_eq!(
        scene.count(PageStage::Uploaded).await,
        8,
        "ahead_max of the sandbox"
    );
    assert_eq!(scene.sandbox.provider.calls("upload"), 8);
}

#[actix::test]
async fn pages_that_went_into_a_batch_make_room_for_others() {
    let scene = Scene::new(20, |_| {}).await;
    scene.work().await;
    let [first, second] = ["b-1", "b-2"].map(BatchId::from);
    scene.plan_uploaded(&first).await;
    scene.uploader.send(RoomAhead {}).await.unwrap();
    scene.uploader.send(Idle {}).await.unwrap();
    assert_eq!(scene.count(PageStage::Uploaded).await, 8);
    // A hint that is lost does no harm.
    scene.plan_uploaded(&second).await;
    scene.tick().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 4);
}

#[actix::test]
async fn room_that_is_made_while_all_places_are_taken_is_not_forgotten() {
    let scene = Scene::new(3, |sandbox| {
        sandbox.plan.uploader.concurrency = 4;
        sandbox.plan.uploader.ahead_max = 10;
    })
    .await;
    scene.work().await;
    let sandbox = &scene.sandbox;
    let keys: Vec<RecordKey> = (4..=20)
        .map(|page| sandbox.tree.add("book", page * 10))
        .collect();
    sandbox.register(&keys).await;
    let gate = sandbox.tree.disk.image_gate.write().await;
    // Seven of eight places are taken, so that another claim must wait.
    let hint = PagesRegistered { count: 17 };
    scene.uploader.send(hint).await.unwrap();
    while scene.count(PageStage::Uploading).await < 7 {
        actix_rt::task::yield_now().await;
    }
    scene.plan_uploaded(&BatchId::from("b-1")).await;
    scene.uploader.send(RoomAhead {}).await.unwrap();
    drop(gate);
    scene.uploader.send(Idle {}).await.unwrap();
    assert_eq!(scene.count(PageStage::Uploaded).await, 10);
}

#[actix::test]
async fn a_page_that_cannot_be_uploaded_makes_room_for_the_next() {
    let scene = Scene::new(2, |sandbox| sandbox.plan.uploader.ahead_max = 1).await;
    let bad = RecordKey::from("book:10");
    let fault = ImageFault::Unsupported("book/10.jpg".into());
    let images = &scene.sandbox.tree.images;
    images.borrow_mut().insert(bad, Err(fault));
    scene.work().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
}

#[actix::test]
async fn f40_an_unusable_image_fails_once_before_any_request_and_blocks_nobody() {
    let scene = Scene::new(2, |_| {}).await;
    let bad = RecordKey::from("book:10");
    let fault = ImageFault::Unsupported("book/10.jpg".into());
    scene
        .sandbox
        .tree
        .images
        .borrow_mut()
        .insert(bad.clone(), Err(fault));
    scene.work().await;
    scene.tick().await;
    assert_eq!(scene.sandbox.provider.calls("upload"), 1);
    assert_eq!(scene.count(PageStage::Dead).await, 1);
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
    let summary = scene
        .sandbox
        .ask(Summarize {
            scope: None,
            at: scene.sandbox.now(),
        })
        .await
        .unwrap();
    assert_eq!(summary.failures, [(ErrorType::Image, 1)]);
}

#[actix::test]
async fn f21_a_broken_upload_is_tried_again_afresh() {
    let scene = Scene::new(1, |_| {}).await;
    let scripts = [Script::Refused(Next::Transient), Script::Lost, Script::Well];
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .uploads
        .extend(scripts);
    scene.work().await;
    assert_eq!(
        scene.sandbox.provider.calls("upload"),
        3,
        "the first try counts"
    );
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
}

#[actix::test]
async fn after_its_last_try_a_page_is_skipped_for_this_cycle_and_returns() {
    let scene = Scene::new(1, |_| {}).await;
    let scripts = (0..3).map(|_| Script::Refused(Next::Transient));
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .uploads
        .extend(scripts);
    scene.work().await;
    assert_eq!(scene.sandbox.provider.calls("upload"), 3);
    assert_eq!(scene.count(PageStage::Discovered).await, 1);
    scene.tick().await;
    assert_eq!(
        scene.sandbox.provider.calls("upload"),
        3,
        "not before its time"
    );
    scene.sandbox.clock.advance(Duration::from_secs(31));
    scene.tick().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
}

#[actix::test]
async fn p6_a_full_store_costs_no_page_anything() {
    let full = Next::Throttled {
        after: Some(Duration::MAX),
        quota: Quota::Storage,
    };
    let scene = Scene::new(1, |_| {}).await;
    for _ in 0..10 {
        scene.refuse_upload(full.clone());
        scene.tick().await;
        scene.sandbox.clock.advance(Duration::from_secs(121));
    }
    let uploads = scene.sandbox.provider.calls("upload");
    assert_eq!(uploads, 10, "one try a pause");
    scene.tick().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
}

#[actix::test]
async fn f17_a_refused_account_halts_uploads_and_costs_no_page_anything() {
    let scene = Scene::new(1, |_| {}).await;
    scene.refuse_upload(Next::Account(AccountFault::Billing));
    for _ in 0..10 {
        scene.tick().await;
        scene.sandbox.clock.advance(Duration::from_secs(3600));
    }
    assert_eq!(scene.sandbox.provider.calls("upload"), 1, "halted");
    let cycles = scene
        .sandbox
        .sql("SELECT CAST(upload_cycles AS TEXT) FROM pages");
    assert_eq!(cycles.await, ["0"]);
    let order = Resume {
        reasons: None,
        by: ResumedBy::Operator,
        at: scene.sandbox.now(),
    };
    let ended = scene.sandbox.ask(order).await.unwrap();
    assert_eq!(ended[0].reason, HaltReason::Billing);
    scene.tick().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
}

#[actix::test]
async fn f22_a_file_in_processing_is_waited_for() {
    let scene = Scene::new(1, |_| {}).await;
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .uploads
        .push_back(Script::Processing(3));
    scene
        .uploader
        .send(PagesRegistered { count: 1 })
        .await
        .unwrap();
    let idle = scene.uploader.send(Idle {});
    let steps = async {
        while scene.sandbox.provider.calls("file ") < 3 {
            scene.sandbox.clock.advance(Duration::from_secs(1));
            actix_rt::task::yield_now().await;
        }
    };
    let (idle, ()) = futures_util::join!(idle, steps);
    idle.unwrap();
    assert_eq!(scene.count(PageStage::Uploaded).await, 1);
}

#[actix::test]
async fn p10_the_storage_budget_holds_uploads_back_until_bytes_fall() {
    // An image of the sandbox is "image of book:N0", 16 bytes for the first nine pages.
    let scene = Scene::new(3, |sandbox| sandbox.plan.uploader.storage_budget_bytes = 40).await;
    scene.work().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 2);
    assert_eq!(scene.sandbox.provider.calls("upload"), 2);
    let sandbox = &scene.sandbox;
    scene.withdraw_uploaded().await;
    scene.tick().await;
    assert_eq!(
        sandbox.provider.calls("delete"),
        2,
        "what no batch needs is deleted"
    );
    assert!(sandbox.provider.calls("upload") > 2, "and makes room");
    let summary = sandbox
        .ask(Summarize {
            scope: None,
            at: sandbox.now(),
        })
        .await
        .unwrap();
    assert!(summary.remote_bytes <= 40, "{}", summary.remote_bytes);
}

const GONE: &str = "SELECT count(*) FROM remote_files WHERE state = 'deleted'";

#[actix::test]
async fn p10_bytes_that_fall_while_an_image_is_looked_at_are_room_for_it() {
    let scene = Scene::new(2, |sandbox| sandbox.plan.uploader.storage_budget_bytes = 40).await;
    scene.work().await;
    assert_eq!(scene.count(PageStage::Uploaded).await, 2);
    scene.withdraw_uploaded().await;
    let sandbox = &scene.sandbox;
    let gate = sandbox.tree.disk.image_gate.write().await;
    scene.uploader.send(sandbox.tick()).await.unwrap();
    while sandbox.sql(GONE).await != ["2"] {
        actix_rt::task::yield_now().await;
    }
    drop(gate);
    scene.uploader.send(Idle {}).await.unwrap();
    assert_eq!(sandbox.provider.calls("upload"), 4);
    assert_eq!(scene.count(PageStage::Uploaded).await, 2);
}

#[actix::test]
async fn a_file_that_cannot_be_deleted_now_is_deleted_later() {
    let scene = Scene::new(1, |_| {}).await;
    scene.work().await;
    scene.sandbox.clock.advance(Duration::from_secs(23 * 3600));
    let refusal = Script::Refused(Next::Transient);
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .deletes
        .push_back(refusal);
    scene.tick().await;
    assert_eq!(
        scene.sandbox.provider.calls("delete"),
        1,
        "too little life left: sent anew"
    );
    scene.tick().await;
    assert_eq!(scene.sandbox.provider.calls("delete"), 1);
    scene.sandbox.clock.advance(Duration::from_secs(31));
    scene.tick().await;
    assert_eq!(scene.sandbox.provider.calls("delete"), 2);
    let question = ListWork {
        scope: scene.sandbox.plan.scope.clone(),
        chained: true,
        at: scene.sandbox.now(),
    };
    assert_eq!(scene.sandbox.ask(question).await.unwrap().deletable, 0);
}

#[actix::test]
async fn f14_p9_another_keys_files_are_neither_deleted_nor_called_gone() {
    let scene = Scene::new(1, |_| {}).await;
    scene.work().await;
    let sandbox = scene.sandbox;
    // Too little life left: the file is to be deleted, and by now the key is another.
    sandbox.clock.advance(Duration::from_secs(23 * 3600));
    let mut options = sandbox.plan.uploader.clone();
    options.key_fingerprint = "another".into();
    options.pages_max = Some(0);
    let uploaded: Addr<Probe<PagesUploaded>> = Probe::start_new();
    let peers = UploaderPeers {
        state: sandbox.state.clone(),
        uploaded: uploaded.recipient(),
    };
    sandbox.claim(0).await;
    let other = Uploader::new(options, peers, sandbox.root(), sandbox.uploader_ports()).start();
    other.send(sandbox.tick()).await.unwrap();
    other.send(Idle {}).await.unwrap();
    assert_eq!(sandbox.provider.calls("delete"), 0);
    let states = sandbox.sql("SELECT state FROM remote_files").await;
    assert_eq!(states, ["undeletable"], "it still counts until it expires");
}

#[actix::test]
async fn p12_a_draining_uploader_takes_no_more() {
    let scene = Scene::new(20, |_| {}).await;
    scene.uploader.send(Drain {}).await.unwrap();
    scene.work().await;
    assert_eq!(scene.sandbox.provider.calls("upload"), 0);
}

#[actix::test]
async fn the_limit_of_a_run_is_kept() {
    let scene = Scene::new(6, |sandbox| sandbox.plan.uploader.pages_max = Some(2)).await;
    scene.work().await;
    scene.tick().await;
    assert_eq!(scene.sandbox.provider.calls("upload"), 2);
}
