//! Our bytes in the provider's store: counted, bounded, freed, and told from everybody else's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use pagemill::actors::conductor::RunEnd;
use pagemill::actors::hint::{Idle, PagesUploaded};
use pagemill::actors::state::messages::{HeldBytes, WorkLeft};
use pagemill::actors::uploader::{Uploader, UploaderPeers};
use pagemill::domain::failure::{Next, Quota};
use pagemill::domain::ids::RecordKey;
use pagemill::ports::file_api::{FileApi, Upload};

use crate::kit::fake_provider::{FakeProvider, Script};
use crate::kit::memory_tree::sha256;
use crate::kit::probe::Probe;
use crate::kit::sandbox::{HOUR, Sandbox};
use crate::pipeline::{answer_all, start, until_end};
use crate::result_processor::answer;

fn uploader(sandbox: &Sandbox) -> Addr<Uploader> {
    let uploaded: Addr<Probe<PagesUploaded>> = Probe::start_new();
    let peers = UploaderPeers {
        state: sandbox.state.clone(),
        uploaded: uploaded.recipient(),
    };
    let (options, ports) = (sandbox.plan.uploader.clone(), sandbox.uploader_ports());
    Uploader::new(options, peers, sandbox.root(), ports).start()
}

async fn tick(sandbox: &Sandbox, uploader: &Addr<Uploader>) {
    uploader.send(sandbox.tick()).await.unwrap();
    uploader.send(Idle {}).await.unwrap();
}

async fn registered(pages: u32) -> Sandbox {
    let sandbox = Sandbox::new().await;
    sandbox.start_run().await;
    let keys: Vec<RecordKey> = (1..=pages)
        .map(|page| sandbox.tree.add("book", page * 10))
        .collect();
    sandbox.register(&keys).await;
    sandbox
}

async fn held(sandbox: &Sandbox) -> u64 {
    let at = sandbox.now();
    sandbox.ask(HeldBytes { at }).await.unwrap()
}

/// A full store, as the provider says it.
fn storage_full() -> Script {
    Script::Refused(Next::Throttled {
        after: Some(Duration::MAX),
        quota: Quota::Storage,
    })
}

#[actix::test]
async fn f19_the_ledger_of_remote_bytes_survives_a_restart_and_still_bounds_uploads() {
    let mut sandbox = registered(6).await;
    // Sixteen bytes an image, and an eighth of the budget is not for images.
    sandbox.plan.uploader.storage_budget_bytes = 56;
    let first = uploader(&sandbox);
    tick(&sandbox, &first).await;
    assert_eq!(sandbox.provider.calls("upload"), 3);
    let before = held(&sandbox).await;
    assert_eq!(before, 48);
    first.send(pagemill::actors::hint::Leave {}).await.unwrap();
    let sandbox = sandbox.reopened().await;
    assert_eq!(held(&sandbox).await, before);
    // Pages that were claimed and not sent are claimed again, and find no room either.
    let pages = sandbox
        .sql("SELECT record_key FROM pages WHERE stage = 'uploading'")
        .await;
    let pages = pages.into_iter().map(|key| {
        let key = RecordKey::from(key);
        (key, pagemill::decide::recover::uploading())
    });
    let recovery = pagemill::actors::state::messages::ApplyRecovery {
        pages: pages.collect(),
        batches: Vec::new(),
        at: sandbox.now(),
    };
    sandbox.ask(recovery).await.unwrap();
    let second = uploader(&sandbox);
    tick(&sandbox, &second).await;
    assert_eq!(sandbox.provider.calls("upload"), 3);
}

#[actix::test]
async fn f19_a_full_store_lets_uploads_go_on_the_moment_that_bytes_fall() {
    let sandbox = registered(3).await;
    let keys = sandbox.upload(1).await;
    let uploads_before = sandbox.provider.calls("upload");
    let scripts = [storage_full(), storage_full()];
    sandbox.provider.record.borrow_mut().uploads.extend(scripts);
    let uploader = uploader(&sandbox);
    tick(&sandbox, &uploader).await;
    tick(&sandbox, &uploader).await;
    let refused = sandbox.provider.calls("upload") - uploads_before;
    assert_eq!(refused, 2, "and then the pause, for no time passes");
    // The first page's file is not needed any more, and nothing else happens.
    sandbox
        .sql(&format!(
            "SELECT '' FROM pages WHERE record_key = '{}'",
            keys[0].as_str()
        ))
        .await;
    let mark = "UPDATE remote_files SET state = 'deleting'";
    sandbox.execute(mark).await;
    tick(&sandbox, &uploader).await;
    let sent = sandbox.provider.calls("upload") - uploads_before;
    assert_eq!(sent, 4, "both pages go on at once");
    let none: [&str; 0] = [];
    let counted = "SELECT record_key FROM failure_counts";
    assert_eq!(sandbox.sql(counted).await, none);
    assert_eq!(
        sandbox
            .sql("SELECT ''||upload_cycles FROM pages WHERE upload_cycles > 0")
            .await,
        none
    );
}

#[actix::test]
async fn f19_a_refused_deletion_is_no_room_and_ends_no_pause() {
    let sandbox = registered(2).await;
    sandbox.upload(1).await;
    let uploads_before = sandbox.provider.calls("upload");
    {
        let mut record = sandbox.provider.record.borrow_mut();
        record.uploads.push_back(storage_full());
        record.deletes.push_back(Script::Refused(Next::Refused));
    }
    let uploader = uploader(&sandbox);
    tick(&sandbox, &uploader).await;
    sandbox
        .execute("UPDATE remote_files SET state = 'deleting'")
        .await;
    tick(&sandbox, &uploader).await;
    let states = "SELECT state FROM remote_files";
    assert_eq!(sandbox.sql(states).await, ["undeletable"]);
    tick(&sandbox, &uploader).await;
    assert_eq!(sandbox.provider.calls("upload") - uploads_before, 1);
}

#[actix::test]
async fn f19_results_that_cannot_be_deleted_are_known_and_count_until_they_expire() {
    let sandbox = Sandbox::new().await;
    sandbox.tree.add("a", 1);
    let refusal = Script::Refused(Next::Refused);
    sandbox
        .provider
        .record
        .borrow_mut()
        .batch_deletes
        .push_back(refusal);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    // The name of a results file is too long for a deletion: its job takes it along, or nothing does.
    assert_eq!(sandbox.provider.calls("delete_batch"), 1);
    assert_eq!(
        sandbox.provider.words("delete files/batch-"),
        Vec::<String>::new()
    );
    let sandbox = sandbox.on_same_folder().await;
    let undeletable = "SELECT purpose||' '||bytes FROM remote_files WHERE state = 'undeletable'";
    let found = sandbox.sql(undeletable).await;
    let bytes = held(&sandbox).await;
    assert!(bytes > 0);
    assert_eq!(found, [format!("results {bytes}")]);
    sandbox.clock.advance(47 * HOUR);
    assert_eq!(held(&sandbox).await, bytes);
    sandbox.clock.advance(2 * HOUR);
    assert_eq!(held(&sandbox).await, 0);
}

#[actix::test]
async fn f19_the_budget_holds_at_every_moment_with_lines_and_results_counted() {
    const BUDGET: u64 = 300_000;
    let mut sandbox = Sandbox::new().await;
    for page in 1..=40 {
        let key = sandbox.tree.add("book", page * 10);
        let image = vec![b'x'; 20_000];
        sandbox.tree.images.borrow_mut().insert(key, Ok(image));
    }
    sandbox.plan.uploader.storage_budget_bytes = BUDGET;
    sandbox.plan.submitter.storage_budget_bytes = BUDGET;
    sandbox.plan.submitter.limits.bytes_max = BUDGET / 8;
    sandbox.plan.submitter.live_max = 8;
    sandbox.plan.uploader.ahead_max = 100;
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    let on_beat = move |provider: &FakeProvider| {
        let jobs = provider.jobs();
        for name in jobs {
            if provider.record.borrow().jobs[&name].state == "BATCH_STATE_PENDING" {
                let long = "text ".repeat(100);
                let lines = provider
                    .keys(&name)
                    .into_iter()
                    .map(|key| answer(&key, &long));
                provider.succeed(&name, &lines.collect::<Vec<_>>());
            }
        }
        let record = provider.record.borrow();
        let files: u64 = record.files.values().map(|(upload, ..)| upload.bytes).sum();
        let results: usize = record.jobs.values().map(|job| job.results_text.len()).sum();
        seen.set(seen.get().max(files + results as u64));
    };
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let stages = "SELECT stage||' '||count(*) FROM pages GROUP BY stage";
    assert_eq!(sandbox.sql(stages).await, ["completed 40"]);
    assert!(
        (BUDGET / 2..=BUDGET).contains(&most.get()),
        "{}",
        most.get()
    );
}

#[actix::test]
async fn f19_a_lines_file_waits_for_room_in_the_store_uncounted() {
    let mut sandbox = Sandbox::new().await;
    sandbox.tree.add("a", 1);
    sandbox.plan.submitter.storage_budget_bytes = 10;
    let running = start(&sandbox).await;
    let stopper = running.stopper();
    let beats = Cell::new(0);
    let on_beat = move |_: &FakeProvider| {
        beats.set(beats.get() + 1);
        if beats.get() == 60 {
            stopper.stop();
        }
    };
    until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(sandbox.provider.calls("upload jsonl"), 0);
    let mut sandbox = sandbox.on_same_folder().await;
    let notes = "SELECT DISTINCT state FROM submissions";
    assert_eq!(sandbox.sql(notes).await, ["planned"]);
    sandbox.plan.submitter.storage_budget_bytes = 1 << 20;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(
        sandbox.sql("SELECT outcome FROM attempts").await,
        ["accepted"]
    );
}

/// Puts files of others beside ours, with names that begin as ours do; gives their remote names.
async fn put_foreign(sandbox: &Sandbox, mark: &str) -> Vec<String> {
    let path = sandbox.folder.path().join("foreign");
    std::fs::write(&path, b"x").unwrap();
    let mut names = Vec::new();
    for display_name in [
        format!("{mark}ff-image-1"),
        format!("{mark}image-1"),
        format!("{mark}-imagery"),
        mark.to_owned(),
        format!("x{mark}-image-1"),
        "pagemill-000000000000-lines-1".to_owned(),
    ] {
        let upload = Upload {
            display_name,
            mime: "image/jpeg".into(),
            path: path.clone(),
            bytes: 1,
            sha256: sha256(b"x"),
            content: None,
        };
        names.push(
            sandbox
                .provider
                .upload(&upload)
                .await
                .unwrap()
                .name
                .to_string(),
        );
    }
    names
}

/// What the names of this state's files begin with.
async fn mark_of(sandbox: &Sandbox) -> String {
    let running = start(sandbox).await;
    let found = Rc::new(RefCell::new(None));
    let seen = Rc::clone(&found);
    let stopper = running.stopper();
    let on_beat = move |provider: &FakeProvider| {
        let record = provider.record.borrow();
        if let Some((upload, ..)) = record.files.values().next() {
            let name = upload.display_name.split("-image-").next().unwrap();
            *seen.borrow_mut() = Some(name.to_owned());
            stopper.stop();
        }
    };
    until_end(sandbox, running, Box::new(on_beat)).await;
    found.take().unwrap()
}

/// A run that ended, a world of foreign files, and four files that lost answers left.
async fn left_behind() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new().await;
    sandbox.tree.add("a", 1);
    let mark = mark_of(&sandbox).await;
    let sandbox = sandbox.on_same_folder().await;
    let foreign = put_foreign(&sandbox, &mark).await;
    for page in 2..=3 {
        sandbox.tree.add("b", page * 10);
    }
    let lost = [
        Script::Lost,
        Script::Lost,
        Script::Well,
        Script::Lost,
        Script::Lost,
    ];
    let mut record = sandbox.provider.record.borrow_mut();
    record.uploads.extend(lost);
    record.list_page = Some(2);
    drop(record);
    (sandbox, foreign)
}

fn files(sandbox: &Sandbox) -> Vec<String> {
    sandbox
        .provider
        .record
        .borrow()
        .files
        .keys()
        .cloned()
        .collect()
}

#[actix::test]
async fn f19_the_sweep_reads_every_page_of_the_list_and_touches_nobody_elses_files() {
    let (sandbox, foreign) = left_behind().await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(files(&sandbox), foreign);
    assert!(
        sandbox.provider.calls("files list") >= 5,
        "two files a page"
    );
}

#[actix::test]
async fn f19_a_page_of_the_list_that_cannot_be_read_ends_the_sweep_and_loses_nothing() {
    let (sandbox, foreign) = left_behind().await;
    let refused = || Script::Refused(Next::Transient);
    let scripts = [Script::Well, Script::Well].into_iter();
    // As often as one call is tried.
    let scripts = scripts.chain((0..6).map(|_| refused()));
    sandbox
        .provider
        .record
        .borrow_mut()
        .file_lists
        .extend(scripts);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let left = files(&sandbox);
    assert!(foreign.iter().all(|name| left.contains(name)), "{left:?}");
    assert!(left.len() > foreign.len(), "what was not read is not swept");
    // The next run that finishes with the provider in reach sweeps the rest.
    let sandbox = sandbox.on_same_folder().await;
    sandbox.tree.add("c", 1);
    let running = start(&sandbox).await;
    until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(files(&sandbox), foreign);
}

#[actix::test]
async fn f23_a_file_with_too_little_life_when_its_batch_is_created_is_uploaded_again() {
    let mut sandbox = Sandbox::new().await;
    sandbox.tree.add("a", 1);
    // Files live 48 hours here: half an hour after its upload an image is too old.
    let life_min = 47 * HOUR + HOUR / 2;
    sandbox.plan.uploader.life_min = life_min;
    sandbox.plan.submitter.life_min = life_min;
    sandbox.plan.submitter.lines_life_min = life_min;
    let later = Next::Throttled {
        after: Some(HOUR),
        quota: Quota::Rate,
    };
    sandbox
        .provider
        .record
        .borrow_mut()
        .creates
        .push_back(Script::Refused(later));
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let events = "SELECT event FROM submission_events ORDER BY id";
    let events = sandbox.sql(events).await;
    assert!(events.contains(&"withdrawn".to_owned()), "{events:?}");
    assert_eq!(sandbox.provider.calls("upload image"), 2);
    assert_eq!(sandbox.provider.calls("create"), 2);
    let none: [&str; 0] = [];
    assert_eq!(
        sandbox.sql("SELECT record_key FROM failure_counts").await,
        none
    );
    let accepted = "SELECT outcome FROM attempts ORDER BY created_at DESC LIMIT 1";
    assert_eq!(sandbox.sql(accepted).await, ["accepted"]);
}

#[actix::test]
async fn f23_images_are_uploaded_in_the_order_of_their_submission_and_no_more_than_is_needed_next()
{
    let mut sandbox = Sandbox::new().await;
    for page in 1..=40 {
        sandbox.tree.add("book", page * 10);
    }
    sandbox.plan.uploader.concurrency = 1;
    sandbox.plan.uploader.ahead_max = 6;
    sandbox.plan.submitter.live_max = 1;
    let order = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let seen = Rc::clone(&order);
    let on_beat = move |provider: &FakeProvider| {
        let record = provider.record.borrow();
        let images = record
            .files
            .values()
            .filter(|(upload, ..)| upload.mime == "image/jpeg");
        let stored = images.clone().count();
        assert!(stored <= 4 + 6, "{stored} images beside one batch of four");
        let (uploaded, sent) = &mut *seen.borrow_mut();
        for (upload, ..) in images {
            let name = upload.path.file_name().unwrap().to_str().unwrap();
            let key = String::from_utf8(hex::decode(name).unwrap()).unwrap();
            if !uploaded.contains(&key) {
                uploaded.push(key);
            }
        }
        let jobs: Vec<String> = record.jobs.keys().cloned().collect();
        drop(record);
        for key in jobs.iter().flat_map(|job| provider.keys(job)) {
            if !sent.contains(&key) {
                sent.push(key);
            }
        }
        answer_all(provider);
    };
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let (uploaded, sent) = order.take();
    assert_eq!((uploaded.len(), sent.len()), (40, 40));
    // What is sent together is uploaded together; within a batch the order of lines is by key.
    for (uploaded, sent) in uploaded.chunks(4).zip(sent.chunks(4)) {
        let mut uploaded = uploaded.to_vec();
        let mut sent = sent.to_vec();
        uploaded.sort();
        sent.sort();
        assert_eq!(uploaded, sent);
    }
}
