//! A database that is behind what happened: what it is told of batches, results and outputs that it
//! does not know.

use actix::Actor;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::*;
use pagemill::actors::state::open::StateOptions;
use pagemill::domain::batch::{BatchEvent, BatchStage};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::*;
use pagemill::domain::manifest::{BatchManifest, JobFound};

use crate::kit::state_world::*;

fn job(name: &str) -> JobFound {
    JobFound::Job {
        remote: RemoteName::from(name),
        extra: vec![],
    }
}

fn adopt(manifest: &BatchManifest, found: JobFound) -> AdoptBatch {
    let keys = manifest.members.iter().map(|member| &member.key);
    AdoptBatch {
        manifest: manifest.clone(),
        found,
        pages: keys
            .map(|key| new_page(key.page().parse().unwrap(), None))
            .collect(),
        scope: ScopeToken::from("scope"),
        key_fingerprint: KeyFingerprint::from("key"),
        config_snapshot: "{}".to_owned(),
        config_sha256: sha("config"),
        at: at(1_000),
    }
}

/// The manifest of a submitted batch in a database that is then lost.
async fn lost(name: &str, numbers: &[u32]) -> BatchManifest {
    let world = World::new().await;
    world.submit(name, numbers.to_vec()).await;
    let batch = batch(name);
    world.tell(DescribeBatch { batch }).await.unwrap()
}

#[actix::test]
async fn p8_what_a_manifest_tells_is_there_again_in_an_empty_database() {
    let manifest = lost("b1", &[1, 2]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let options = StateOptions {
        path: path.clone(),
        unlock_behind_dead: false,
    };
    let state = StateActor::open(options).await.unwrap().start();
    let adopted = state.send(adopt(&manifest, job("batches/b1"))).await;
    let expected = AdoptedBatch {
        members: 2,
        refused: vec![],
    };
    assert_eq!(adopted.unwrap(), Ok(expected));
    let question = DescribeBatch { batch: batch("b1") };
    let mut again = state.send(question).await.unwrap().unwrap();
    again.created_at = manifest.created_at;
    assert_eq!(again, manifest);
    let db = beside(&path).await;
    let one = async |sql: &str| ask(&db, sql).await.remove(0);
    let sql = "SELECT state || '|' || remote_name || '|' || creates FROM submissions";
    assert_eq!(one(sql).await, "submitted|batches/b1|1");
    let sql = "SELECT count(*) FROM inflight_records JOIN pages USING (record_key, batch_id)
               WHERE stage = 'batched' AND scope = 'scope'";
    assert_eq!(one(sql).await, "2");
    let sql = "SELECT group_concat(event) FROM
               (SELECT event FROM page_events WHERE record_key LIKE '%:1' ORDER BY id)";
    assert_eq!(one(sql).await, "seen,upload_started,upload_stored,packed");
    // The mark in the names of remote files comes from here.
    let run = state.send(start_run()).await.unwrap().unwrap();
    assert_eq!(run.first_run, manifest.first_run);
}

#[actix::test]
async fn p2_pages_that_are_done_or_elsewhere_stay_out_and_the_others_come_in() {
    let manifest = lost("b1", &[1, 2, 3]).await;
    let world = World::new().await;
    world.collect("b0", [1]).await;
    world.tell(verdicts("b0", vec![accepted(1)])).await.unwrap();
    world.tell(settle("b0")).await.unwrap();
    world.submit("b2", [2]).await;
    let adopted = world.tell(adopt(&manifest, job("batches/b1"))).await;
    let AdoptedBatch { members, refused } = adopted.unwrap();
    assert_eq!(members, 1);
    let refused: Vec<String> = refused
        .iter()
        .map(|(key, why)| format!("{}: {why}", key.page()))
        .collect();
    assert_eq!(refused, ["1: it is done already", "2: batch 'b2' has it"]);
    let of_three = "SELECT batch_id FROM pages WHERE record_key LIKE '%:3'";
    assert_eq!(world.one(of_three).await, "b1");
    let members = "SELECT record_count FROM submissions WHERE batch_id = 'b1'";
    assert_eq!(world.one(members).await, "1");
    world.assert_replay().await;
}

#[actix::test]
async fn a_batch_of_which_no_page_is_free_stays_out() {
    let manifest = lost("b1", &[1]).await;
    let world = World::new().await;
    world.submit("b2", [1]).await;
    let adopted = world.tell(adopt(&manifest, job("batches/b1"))).await;
    assert_eq!(adopted.unwrap().members, 0);
    let batches = "SELECT group_concat(batch_id) FROM submissions";
    assert_eq!(world.one(batches).await, "b2");
    world.assert_replay().await;
}

#[actix::test]
async fn a_batch_that_is_known_is_not_adopted_again() {
    let manifest = lost("b1", &[1]).await;
    let world = World::new().await;
    world.submit("b1", [9]).await;
    let before = world.everything().await;
    let refused = world.tell(adopt(&manifest, job("batches/b1"))).await;
    let is_conflict = matches!(refused, Err(StateError::Conflict(_)));
    assert!(is_conflict, "{refused:?}");
    assert_eq!(world.everything().await, before);
}

#[actix::test]
async fn pages_are_brought_in_from_wherever_an_old_copy_has_them() {
    let manifest = lost("b1", &[1, 2, 3, 4]).await;
    let world = World::new().await;
    // 1 waits with the very file, 2 with another one, 3 is being uploaded, 4 is dead.
    world.upload([1]).await;
    world.register([2, 3, 4]).await;
    world.tell(claim(10, 30)).await.unwrap();
    let mut dead = uploaded(4, 40);
    dead.event = pagemill::domain::page::PageEvent::UploadRefused {
        error: ErrorType::Image,
    };
    dead.stored = None;
    let uploads = record_uploads(vec![uploaded(2, 40), dead], 40);
    world.tell(uploads).await.unwrap();
    let adopted = world.tell(adopt(&manifest, job("batches/b1"))).await;
    assert_eq!(adopted.unwrap().members, 4);
    let batched = "SELECT count(*) FROM pages WHERE stage = 'batched' AND batch_id = 'b1'";
    assert_eq!(world.one(batched).await, "4");
    let files =
        "SELECT name || '|' || state FROM remote_files WHERE purpose = 'image' ORDER BY name";
    let expected = [
        "files/1-20|live",
        "files/2-20|live",
        "files/2-40|deleting",
        "files/3-20|live",
        "files/4-20|live",
    ];
    assert_eq!(world.ask(files).await, expected);
    world.assert_replay().await;
}

#[actix::test]
async fn p6_failures_that_were_counted_are_counted_again_and_once() {
    let before = World::new().await;
    before.collect("b0", [1]).await;
    let failed = rejected(1, ErrorType::Truncated, again());
    before.tell(verdicts("b0", vec![failed])).await.unwrap();
    before.tell(settle("b0")).await.unwrap();
    before.tell(claim(10, 900)).await.unwrap();
    let uploads = record_uploads(vec![uploaded(1, 900)], 900);
    before.tell(uploads).await.unwrap();
    before.tell(plan("b1", keys([1]), 910)).await.unwrap();
    let question = DescribeBatch { batch: batch("b1") };
    let manifest = before.tell(question).await.unwrap();
    assert_eq!(manifest.members[0].failures, [ErrorType::Truncated]);
    assert_eq!(manifest.members[0].attempt_number, 2);

    let world = World::new().await;
    world.tell(adopt(&manifest, JobFound::Doubt)).await.unwrap();
    let count = "SELECT count FROM failure_counts";
    assert_eq!(world.one(count).await, "1");
    let logs = "SELECT error_type || '|' || counted FROM failure_logs";
    assert_eq!(world.ask(logs).await, ["Truncated|1"]);
    assert_eq!(world.one("SELECT attempt_number FROM attempts").await, "2");
    assert_eq!(world.one("SELECT state FROM submissions").await, "in doubt");

    // Where the copy has counted it already, nothing is added.
    let known = World::new().await;
    known.collect("b0", [1]).await;
    let failed = rejected(1, ErrorType::Truncated, again());
    known.tell(verdicts("b0", vec![failed])).await.unwrap();
    known.tell(settle("b0")).await.unwrap();
    known.tell(adopt(&manifest, JobFound::Doubt)).await.unwrap();
    assert_eq!(known.one(count).await, "1");
}

#[actix::test]
async fn without_images_a_batch_is_adopted_and_nothing_is_taken_for_being_there() {
    let mut manifest = lost("b1", &[1]).await;
    manifest.lines = None;
    manifest.members[0].image = None;
    let world = World::new().await;
    let found = JobFound::Results { remote: None };
    world.tell(adopt(&manifest, found)).await.unwrap();
    assert_eq!(world.one("SELECT state FROM submissions").await, "ready");
    assert_eq!(world.one("SELECT state FROM remote_files").await, "gone");
    let members = ListMembers { batch: batch("b1") };
    assert_eq!(world.tell(members).await.unwrap().len(), 1);
    world.tell(collect("b1")).await.unwrap();
    world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    assert_eq!(world.stage(1).await, "completed");
    world.assert_replay().await;
}

#[actix::test]
async fn f12_a_known_batch_is_brought_to_its_job_from_wherever_it_is() {
    let doubt = Some(BatchEvent::SubmitUnclear { at: at(300) });
    for (begun, event) in [(false, None), (true, None), (true, doubt)] {
        let world = World::new().await;
        world.plan("b1", [1]).await;
        if begun {
            let (batch, at) = (batch("b1"), at(220));
            world.tell(BeginSubmit { batch, at }).await.unwrap();
        }
        if let Some(event) = event {
            world.tell(record_submit("b1", event)).await.unwrap();
        }
        let found = JobFound::Job {
            remote: RemoteName::from("batches/old"),
            extra: vec![RemoteName::from("batches/new")],
        };
        let adopt = AdoptJob {
            batch: batch("b1"),
            found,
            at: at(400),
        };
        let after = world.tell(adopt.clone()).await.unwrap();
        assert_eq!(after.stage(), BatchStage::Submitted);
        let row = "SELECT remote_name || '|' || extra_jobs || '|' || creates FROM submissions";
        let expected = "batches/old|[\"batches/new\"]|1";
        assert_eq!(world.one(row).await, expected);
        // A second time changes nothing.
        let before = world.everything().await;
        world.tell(adopt).await.unwrap();
        assert_eq!(world.everything().await, before);
    }
}

#[actix::test]
async fn results_on_our_disk_make_a_batch_ready_and_a_closed_one_stays_closed() {
    let world = World::new().await;
    world.submit("b1", [1]).await;
    let adopt = AdoptJob {
        batch: batch("b1"),
        found: JobFound::Results { remote: None },
        at: at(400),
    };
    let after = world.tell(adopt.clone()).await.unwrap();
    assert_eq!(after.stage(), BatchStage::Ready);
    // The job that was known stays the job.
    let remote = "SELECT remote_name FROM submissions";
    assert_eq!(world.one(remote).await, "batches/b1");
    world.tell(collect("b1")).await.unwrap();
    world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    let closed = world.tell(adopt).await.unwrap();
    assert_eq!(closed.stage(), BatchStage::Settled);
    let batches = vec![batch("b1"), batch("b2")];
    let stages = world.tell(StagesOfBatches { batches }).await;
    assert_eq!(stages, Ok(vec![(batch("b1"), BatchStage::Settled)]));
}

#[actix::test]
async fn outputs_count_wherever_their_pages_wait_but_not_in_a_batch() {
    let world = World::new().await;
    world.upload([1]).await;
    world.register([2, 3]).await;
    world.submit("b1", [4]).await;
    // 3 is being uploaded.
    let outputs = [1, 2, 3, 4].map(|number| AdoptedOutput {
        key: key(number),
        sha256: sha("output"),
        bytes: 9,
    });
    let adopt = AdoptOutputs {
        outputs: outputs.to_vec(),
        at: at(500),
    };
    assert_eq!(world.tell(adopt.clone()).await, Ok(3));
    assert_eq!(world.tell(adopt).await, Ok(0));
    for number in [1, 2, 3] {
        assert_eq!(world.stage(number).await, "completed");
    }
    assert_eq!(world.stage(4).await, "batched");
    let file = "SELECT state FROM remote_files WHERE record_key LIKE '%:1'";
    assert_eq!(world.one(file).await, "deleting");
    world.assert_replay().await;
}

#[actix::test]
async fn a_page_whose_file_is_gone_is_uploaded_again_and_a_batch_keeps_what_it_has() {
    let world = World::new().await;
    world.submit("b1", [2]).await;
    world.upload([1]).await;
    let files = ["files/1-20", "files/2-20", "files/lines-b1"];
    let forget = ForgetFiles {
        files: files.map(RemoteName::from).to_vec(),
        at: at(500),
    };
    assert_eq!(world.tell(forget).await, Ok(1));
    assert_eq!(world.stage(1).await, "discovered");
    assert_eq!(world.stage(2).await, "batched");
    let states = "SELECT name || '|' || state FROM remote_files ORDER BY name";
    let expected = ["files/1-20|gone", "files/2-20|live", "files/lines-b1|live"];
    assert_eq!(world.ask(states).await, expected);
    world.assert_replay().await;
}
