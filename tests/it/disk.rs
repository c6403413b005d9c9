//! The whole pipeline on a disk that fails: full, read-only, not mounted, or bad in one file. Whatever
//! it is, pages wait, nothing is counted, nothing is bought twice, and the run ends well by itself.

use std::cell::Cell;
use std::rc::Rc;

use pagemill::actors::conductor::RunEnd;
use pagemill::actors::state::messages::WorkLeft;
use pagemill::domain::failure::Next;
use pagemill::domain::ids::RecordKey;

use crate::kit::fake_provider::{FakeProvider, Script};
use crate::kit::sandbox::{HOUR, Sandbox};
use crate::pipeline::{answer_all, start, until_end};

/// More beats than one disk fault is left alone.
const BEATS_OF_A_FAULT: u32 = 60;

async fn two_books() -> Sandbox {
    let sandbox = Sandbox::new().await;
    for book in ["a", "b"] {
        for page in 1..=3 {
            sandbox.tree.add(book, page);
        }
    }
    sandbox
}

/// Runs two books on a disk that is made to fail, and asserts that nothing shows of it at the end.
async fn run_on(make_it_fail: impl FnOnce(&Sandbox)) -> Sandbox {
    let sandbox = two_books().await;
    make_it_fail(&sandbox);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_as_if_nothing_had_happened(&sandbox, 6).await;
    sandbox
}

/// Every page is done at its first attempt, and no failure is known, counted or not.
async fn assert_as_if_nothing_had_happened(sandbox: &Sandbox, pages: usize) {
    let rows = |sql: &'static str| sandbox.sql(sql);
    let completed = format!("completed {pages}");
    let stages = "SELECT stage||' '||count(*) FROM pages GROUP BY stage";
    assert_eq!(rows(stages).await, [completed]);
    let once = "SELECT DISTINCT attempt_number||' '||outcome FROM attempts";
    assert_eq!(rows(once).await, ["1 accepted"]);
    let bought = format!("{pages}");
    assert_eq!(rows("SELECT count(*)||'' FROM attempts").await, [bought]);
    let none: [&str; 0] = [];
    assert_eq!(rows("SELECT record_key FROM failure_counts").await, none);
    let logs = "SELECT record_key||' '||error_message FROM failure_logs";
    assert_eq!(rows(logs).await, none);
    assert_eq!(sandbox.tree.outputs.borrow().len(), pages);
}

fn page(name: &str, times: u32) -> std::collections::BTreeMap<RecordKey, u32> {
    [(RecordKey::from(name), times)].into()
}

#[actix::test]
async fn f46_a_disk_that_takes_no_lines_file_holds_the_batch_back_and_changes_nothing_of_it() {
    let sandbox = run_on(|sandbox| sandbox.tree.disk.spools.set(5)).await;
    assert_eq!(sandbox.tree.disk.failures.get(), 5);
    let put_off = "SELECT event FROM submission_events WHERE event = 'submit_refused'";
    assert_eq!(sandbox.sql(put_off).await, Vec::<String>::new());
    assert_eq!(sandbox.provider.calls("create"), 3);
}

#[actix::test]
async fn f46_too_little_free_space_holds_lines_and_downloads_back() {
    let sandbox = run_on(|sandbox| sandbox.tree.disk.room.set(9)).await;
    assert_eq!(sandbox.tree.disk.failures.get(), 9);
    // And once jobs are under way: what is offered waits at the provider.
    let sandbox = two_books().await;
    let running = start(&sandbox).await;
    let tree = Rc::clone(&sandbox.tree);
    let on_beat = move |provider: &FakeProvider| {
        if provider.calls("create") == 1 && provider.calls("poll") == 0 {
            tree.disk.room.set(4);
        }
        if tree.disk.room.get() > 0 {
            assert_eq!(provider.calls("download"), 0);
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_as_if_nothing_had_happened(&sandbox, 6).await;
}

#[actix::test]
async fn f46_a_full_disk_at_the_download_or_at_the_outputs_costs_no_page_anything() {
    let sandbox = run_on(|sandbox| {
        let fault = || Script::Refused(Next::Local);
        let mut record = sandbox.provider.record.borrow_mut();
        record.downloads.extend([fault(), fault(), fault()]);
        sandbox.tree.failing_writes.set(7);
    })
    .await;
    let calls = |kind| sandbox.provider.calls(kind);
    assert_eq!(
        calls("download"),
        3 + calls("create"),
        "each is fetched once"
    );
}

#[actix::test]
async fn f46_an_image_that_the_disk_does_not_give_holds_up_its_own_page_only() {
    let sandbox = run_on(|sandbox| {
        sandbox.tree.disk.images.replace(page("a:1", 4));
    })
    .await;
    let events = "SELECT count(*)||'' FROM page_events
                  WHERE record_key = 'a:1' AND event = 'upload_deferred'";
    assert_eq!(sandbox.sql(events).await, ["4"]);
    // Uploaded, not completed: the clock of this test does not wait for what comes after.
    let first = "SELECT record_key FROM page_events WHERE to_stage = 'uploaded' ORDER BY id";
    assert_eq!(sandbox.sql(first).await[0], "b:1");
}

#[actix::test]
async fn f46_an_upload_that_our_own_disk_breaks_is_not_the_pages_fault() {
    run_on(|sandbox| {
        let fault = || Script::Refused(Next::Local);
        let mut record = sandbox.provider.record.borrow_mut();
        record.uploads.extend((0..9).map(|_| fault()));
    })
    .await;
}

#[actix::test]
async fn f46_a_label_or_a_context_that_the_disk_does_not_give_is_not_the_pages_fault() {
    run_on(|sandbox| {
        sandbox.tree.disk.labels.replace(page("a:2", 5));
        sandbox.tree.disk.outputs.replace(page("b:1", 3));
    })
    .await;
}

/// Takes a folder away for a while, and gives it back.
fn for_a_while(gone: impl Fn(bool) + 'static) -> Box<dyn FnMut(&FakeProvider)> {
    gone(true);
    let beats = Cell::new(0);
    Box::new(move |provider| {
        beats.set(beats.get() + 1);
        gone(beats.get() < BEATS_OF_A_FAULT);
        answer_all(provider);
    })
}

#[actix::test]
async fn f46_a_vanished_image_mount_pauses_uploads_and_kills_no_page() {
    let sandbox = two_books().await;
    let tree = Rc::clone(&sandbox.tree);
    let on_beat = for_a_while(move |gone| tree.disk.no_images.set(gone));
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, on_beat).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_as_if_nothing_had_happened(&sandbox, 6).await;
    // Five minutes of the run's clock: pauses grow to a minute, and two pages can run.
    let failures = sandbox.tree.disk.failures.get();
    assert!((2..=40).contains(&failures), "{failures} looks");
}

#[actix::test]
async fn f46_a_vanished_label_mount_takes_no_page_off_the_work_list_and_what_is_paid_is_collected()
{
    let sandbox = two_books().await;
    let running = start(&sandbox).await;
    let provider = Rc::clone(&sandbox.provider);
    let stopper = running.stopper();
    let on_beat = move |provider: &FakeProvider| {
        if provider.calls("create") == 1 {
            stopper.stop();
        }
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert!(matches!(end, RunEnd::WorkLeft(_)), "{end:?}");
    let sandbox = sandbox.on_same_folder().await;
    answer_all(&provider);
    let tree = Rc::clone(&sandbox.tree);
    let collected_without = Rc::new(Cell::new(false));
    let seen = Rc::clone(&collected_without);
    let mut gone = for_a_while(move |gone| {
        tree.disk.no_labels.set(gone);
        seen.set(seen.get() || (gone && !tree.outputs.borrow().is_empty()));
    });
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(move |provider| gone(provider))).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert!(collected_without.get(), "results do not wait for labels");
    assert_as_if_nothing_had_happened(&sandbox, 6).await;
    let skipped = "SELECT record_key FROM page_events WHERE to_stage = 'skipped'";
    assert_eq!(sandbox.sql(skipped).await, Vec::<String>::new());
}

#[actix::test]
async fn f46_a_run_without_its_labels_ends_with_the_reason_when_nothing_else_is_left() {
    let sandbox = two_books().await;
    sandbox.tree.disk.no_labels.set(true);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    let RunEnd::NoLabels { message } = end else {
        panic!("{end:?}");
    };
    assert!(message.contains("is its file system mounted?"), "{message}");
}

#[actix::test]
async fn f46_f10_a_vanished_output_mount_makes_no_page_run_again() {
    let sandbox = run_on(|_| {}).await;
    let sandbox = sandbox.on_same_folder().await;
    sandbox.tree.disk.no_outputs.set(true);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    let RunEnd::NoLabels { message } = end else {
        panic!("{end:?}");
    };
    let expected = "6 pages are done, and there is no output";
    assert!(message.contains(expected), "{message}");
    let sandbox = sandbox.on_same_folder().await;
    assert_as_if_nothing_had_happened(&sandbox, 6).await;
    sandbox.tree.disk.no_outputs.set(false);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_as_if_nothing_had_happened(&sandbox, 6).await;
}

#[actix::test]
async fn f10_an_output_that_cannot_be_read_now_is_neither_replaced_nor_paid_for_again() {
    let sandbox = Sandbox::new().await;
    let (old, new) = (sandbox.tree.add("a", 1), sandbox.tree.add("b", 1));
    sandbox.tree.put_output(&old, r#"{"text": "from before"}"#);
    sandbox.tree.disk.outputs.replace(page("a:1", 2));
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(
        sandbox.tree.disk.failures.get(),
        2,
        "looked at again until it was given"
    );
    let stages = "SELECT stage||' '||count(*) FROM pages GROUP BY stage";
    assert_eq!(sandbox.sql(stages).await, ["completed 2"]);
    let outputs = sandbox.tree.outputs.take();
    assert_eq!(outputs[&old], br#"{"text": "from before"}"#);
    assert!(outputs.contains_key(&new));
    let asked = "SELECT record_key FROM attempts";
    assert_eq!(sandbox.sql(asked).await, ["b:1"]);
}

#[actix::test]
async fn f46_a_start_keeps_the_spool_files_of_batches_that_are_not_sent_and_no_others() {
    let mut sandbox = two_books().await;
    sandbox.plan.submitter.fill_wait = HOUR;
    sandbox.tree.disk.spools.set(u32::MAX);
    let running = start(&sandbox).await;
    let stopper = running.stopper();
    let tree = Rc::clone(&sandbox.tree);
    let on_beat = move |_: &FakeProvider| {
        if tree.disk.failures.get() > 0 {
            stopper.stop();
        }
    };
    until_end(&sandbox, running, Box::new(on_beat)).await;
    let sandbox = sandbox.on_same_folder().await;
    sandbox.tree.disk.spools.set(0);
    let planned = sandbox.batches().await;
    assert_eq!(planned.len(), 1);
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let kept = sandbox.tree.disk.kept.take();
    assert_eq!(kept, [vec![], vec![planned[0].batch.clone()]]);
    let left = std::fs::read_dir(sandbox.folder.path()).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let spools: Vec<String> = names.filter(|name| name.ends_with(".spool")).collect();
    assert_eq!(
        spools,
        Vec::<String>::new(),
        "removed when the job is acknowledged"
    );
}
