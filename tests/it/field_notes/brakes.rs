//! F02, F04, F09, F13, F14, F16, F18, F24, F30: what stops submission, what is cut to find the page
//! at fault, and answers that come late, on whole runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use pagemill::actors::conductor::RunEnd;
use pagemill::actors::state::messages::*;
use pagemill::domain::batch::{AbandonCode, BatchEvent, BatchStage};
use pagemill::domain::failure::Next;
use pagemill::domain::halt::HaltReason;
use pagemill::domain::ids::{BatchId, RecordKey};
use pagemill::domain::page::PageEvent;

use super::runs::{pending, single_pages};
use crate::kit::fake_provider::{FakeProvider, Script};
use crate::kit::sandbox::{HOUR, Sandbox};
use crate::pipeline::{answer_all, assert_balance, stages, start, until_end};
use crate::poller::Scene;
use crate::result_processor::answer;

/// Answers every waiting job with lines that are no answers.
fn reject_all(provider: &FakeProvider) {
    for (job, keys) in pending(provider) {
        let lines: Vec<String> = keys
            .iter()
            .map(|key| format!("{{\"key\":{key:?},\"response\":{{\"candidates\":[]}}}}"))
            .collect();
        provider.succeed(&job, &lines);
    }
}

/// How many requests were sent to the provider.
async fn requests(sandbox: &Sandbox) -> u64 {
    let sent = "SELECT coalesce(sum(record_count), 0) || '' FROM submissions WHERE creates > 0";
    sandbox.sql(sent).await[0].parse().unwrap()
}

async fn halts(sandbox: &Sandbox) -> Vec<String> {
    let open = "SELECT reason FROM halts WHERE cleared_at IS NULL ORDER BY id";
    sandbox.sql(open).await
}

/// The next process on the same files, after an operator said to go on.
async fn resumed(sandbox: Sandbox) -> Sandbox {
    let sandbox = sandbox.on_same_folder().await;
    let order = Resume {
        reasons: None,
        by: ResumedBy::Operator,
        at: sandbox.now(),
    };
    assert_eq!(sandbox.ask(order).await.unwrap().len(), 1);
    sandbox
}

#[actix::test]
async fn f16_a_provider_that_rejects_everything_costs_one_pilot_and_the_halt_survives_a_restart() {
    let mut sandbox = single_pages(40).await;
    sandbox.plan.submitter.brake.rules.pilot_pages = 3;
    sandbox.plan.uploader.ahead_max = 40;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(reject_all)).await;
    let RunEnd::Halted { reason, .. } = end else {
        panic!("{end:?}");
    };
    assert_eq!(reason, HaltReason::Pilot);
    assert_eq!(requests(&sandbox).await, 3, "one pilot and nothing more");
    let sandbox = sandbox.on_same_folder().await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert!(matches!(end, RunEnd::Halted { .. }), "{end:?}");
    assert_eq!(
        requests(&sandbox).await,
        3,
        "a restart is no reason to go on"
    );
    let sandbox = resumed(sandbox).await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 40"]);
    assert_balance(&sandbox).await;
}

#[actix::test]
async fn f16_identical_failures_in_a_row_stop_submission_while_collection_goes_on() {
    let mut sandbox = single_pages(40).await;
    for options in [
        &mut sandbox.plan.submitter.brake,
        &mut sandbox.plan.poller.brake,
        &mut sandbox.plan.processor.brake,
    ] {
        options.rules.identical_max = 6;
    }
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(reject_all)).await;
    assert!(
        matches!(
            &end,
            RunEnd::Halted {
                reason: HaltReason::IdenticalFailures,
                ..
            }
        ),
        "{end:?}"
    );
    assert_eq!(halts(&sandbox).await, ["identical_failures"]);
    let spent = requests(&sandbox).await;
    assert!(
        spent <= 6 + 2 * 4,
        "{spent}: the limit and what was under way"
    );
    let open = "SELECT batch_id FROM submissions WHERE state IN ('submitted','ready','in doubt')";
    assert_eq!(
        sandbox.sql(open).await,
        Vec::<String>::new(),
        "all is collected"
    );
}

#[actix::test]
async fn f02_a_job_without_an_accepted_answer_stops_submission() {
    let mut sandbox = single_pages(12).await;
    sandbox.plan.processor.brake.rules.barren_max = 4;
    let running = start(&sandbox).await;
    let mixed = |provider: &FakeProvider| {
        // Different faults, so that no kind of them is met often in a row.
        for (job, keys) in pending(provider) {
            let lines: Vec<String> = keys
                .iter()
                .enumerate()
                .filter(|(place, _key)| place % 2 == 0)
                .map(|(_place, key)| format!("{{\"key\":{key:?},\"response\":{{}}}}"))
                .collect();
            provider.succeed(&job, &lines);
        }
    };
    let end = until_end(&sandbox, running, Box::new(mixed)).await;
    assert!(
        matches!(
            &end,
            RunEnd::Halted {
                reason: HaltReason::NothingAccepted,
                ..
            }
        ),
        "{end:?}"
    );
}

#[actix::test]
async fn f04_nothing_follows_the_first_job_of_a_recipe_before_its_answers_are_here() {
    let mut sandbox = single_pages(12).await;
    sandbox.plan.submitter.brake.rules.pilot_pages = 2;
    sandbox.plan.uploader.ahead_max = 12;
    let running = start(&sandbox).await;
    let beats = Rc::new(Cell::new(0));
    let sizes: Rc<RefCell<Vec<usize>>> = Rc::default();
    let seen = Rc::clone(&sizes);
    let late = move |provider: &FakeProvider| {
        beats.set(beats.get() + 1);
        let waiting = pending(provider);
        if beats.get() < 60 {
            assert!(waiting.len() <= 1, "the pilot is alone");
            return;
        }
        for (_job, keys) in &waiting {
            seen.borrow_mut().push(keys.len());
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(late)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(sizes.borrow()[0], 2);
    assert!(sizes.borrow()[1..].contains(&4), "then batches are full");
}

#[actix::test]
async fn f24_a_poison_page_is_cut_out_with_at_most_log2_n_further_failures() {
    let mut sandbox = single_pages(8).await;
    sandbox.plan.submitter.limits.pages_max = 8;
    sandbox.plan.submitter.fill_wait = HOUR;
    sandbox.plan.uploader.ahead_max = 16;
    let poison = sandbox
        .tree
        .labels
        .borrow()
        .keys()
        .nth(5)
        .unwrap()
        .to_string();
    let failed = Rc::new(Cell::new(0));
    let count = Rc::clone(&failed);
    let bad = poison.clone();
    let running = start(&sandbox).await;
    let poisoned = move |provider: &FakeProvider| {
        for (job, keys) in pending(provider) {
            if keys.contains(&bad) {
                count.set(count.get() + 1);
                let words = Some((3, "Request contains an invalid argument."));
                provider.end(&job, "BATCH_STATE_FAILED", words);
            }
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(poisoned)).await;
    assert!(matches!(end, RunEnd::Done(_)), "{end:?}");
    assert_eq!(stages(&sandbox).await, ["completed 7", "dead 1"]);
    assert_eq!(failed.get(), 1 + 3, "8, 4, 2 and 1 pages");
    assert_eq!(
        sandbox.provider.calls("create"),
        1 + 2 * 3,
        "each half once"
    );
    let log = "SELECT record_key || ': ' || error_type || ': ' || error_message FROM failure_logs";
    let words = "ApiError: code 3: Request contains an invalid argument.";
    assert_eq!(sandbox.sql(log).await, [format!("{poison}: {words}")]);
    assert_balance(&sandbox).await;
}

#[actix::test]
async fn f24_a_create_that_is_refused_for_one_page_ends_with_that_page_alone() {
    let mut sandbox = single_pages(4).await;
    sandbox.plan.submitter.fill_wait = HOUR;
    sandbox.provider.record.borrow_mut().creates.extend([
        Script::Refused(Next::Refused),
        Script::Refused(Next::Refused),
    ]);
    // The first half is refused as well, and then its first page.
    let third = Script::Refused(Next::Refused);
    let running = start(&sandbox).await;
    let refusals = RefCell::new(Some(third));
    let on_beat = move |provider: &FakeProvider| {
        if provider.calls("create") >= 2
            && let Some(third) = refusals.borrow_mut().take()
        {
            provider.record.borrow_mut().creates.push_back(Script::Well);
            provider.record.borrow_mut().creates.push_back(third);
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert!(matches!(end, RunEnd::Done(_)), "{end:?}");
    assert_eq!(stages(&sandbox).await, ["completed 3", "dead 1"]);
    let refused = "SELECT count(*) || '' FROM submissions WHERE abandon_code = 'refused'";
    assert_eq!(sandbox.sql(refused).await, ["3"], "4, 2 and 1 pages");
}

#[actix::test]
async fn f01_a_late_answer_about_a_replaced_image_is_not_accepted() {
    let scene = Scene::new(1).await;
    let sandbox = scene.sandbox;
    let batch = sandbox.batches().await[0].batch.clone();
    forget(&sandbox, &batch).await;
    let keys = sandbox.provider.keys(&scene.jobs[0]);
    let lines: Vec<String> = keys.iter().map(|key| answer(key, "late")).collect();
    sandbox.provider.succeed(&scene.jobs[0], &lines);
    let replaced = RecordKey::from(keys[0].as_str());
    let image = Ok(b"another scan".to_vec());
    sandbox.tree.images.borrow_mut().insert(replaced, image);
    scene
        .poller
        .send(pagemill::actors::hint::Leave {})
        .await
        .unwrap();
    let sandbox = sandbox.reopened().await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(answer_all)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let row = "SELECT answers || ' ' || accepted || ' ' || paid_twice FROM late_jobs";
    assert_eq!(sandbox.sql(row).await, ["3 2 0"]);
    assert_eq!(stages(&sandbox).await, ["completed 3"]);
    let asked = sandbox.sql("SELECT record_key FROM attempts GROUP BY 1 HAVING count(*) > 1");
    assert_eq!(
        asked.await,
        [keys[0].clone()],
        "the others were not asked again"
    );
}

/// An operator forgets the batch, as the playbook does with one that is stuck.
async fn forget(sandbox: &Sandbox, batch: &BatchId) {
    let at = sandbox.now();
    let members = sandbox
        .ask(ListMembers {
            batch: batch.clone(),
        })
        .await
        .unwrap();
    let release = |member: Member| (member.key, PageEvent::Released { at });
    sandbox
        .ask(EndBatch {
            batch: batch.clone(),
            event: BatchEvent::Forgotten,
            pages: members.into_iter().map(release).collect(),
            batch_size_max: None,
            counted: false,
            note: "stuck".into(),
            at,
        })
        .await
        .unwrap();
}

#[actix::test]
async fn f13_answers_of_a_job_that_was_given_up_complete_its_pages_without_a_second_job() {
    let scene = Scene::new(1).await;
    let batch = BatchId::from("b-0");
    let sandbox = scene.sandbox;
    let batches = sandbox.batches().await;
    let batch = batches.first().map_or(batch, |row| row.batch.clone());
    forget(&sandbox, &batch).await;
    let keys = sandbox.provider.keys(&scene.jobs[0]);
    let lines: Vec<String> = keys.iter().map(|key| answer(key, "late")).collect();
    sandbox.provider.succeed(&scene.jobs[0], &lines);
    for stage in [&scene.poller] {
        stage.send(pagemill::actors::hint::Leave {}).await.unwrap();
    }
    let sandbox = sandbox.reopened().await;
    let running = start(&sandbox).await;
    let end = until_end(&sandbox, running, Box::new(|_| {})).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 3"]);
    assert_eq!(
        sandbox.provider.calls("create"),
        1,
        "nothing was bought twice"
    );
    let row = "SELECT state || ' ' || accepted || ' ' || paid_twice FROM late_jobs";
    assert_eq!(sandbox.sql(row).await, ["collected 3 0"]);
    let code = "SELECT abandon_code || ' ' || count_succeeded FROM submissions";
    assert_eq!(
        sandbox.sql(code).await,
        [format!("{} 3", AbandonCode::Forgotten)]
    );
}

#[actix::test]
async fn f13_a_second_answer_leaves_the_first_accepted_one_and_is_told_as_paid_twice() {
    let scene = Scene::new(1).await;
    let sandbox = scene.sandbox;
    let batch = sandbox.batches().await[0].batch.clone();
    forget(&sandbox, &batch).await;
    scene
        .poller
        .send(pagemill::actors::hint::Leave {})
        .await
        .unwrap();
    let sandbox = sandbox.reopened().await;
    let first = scene.jobs[0].clone();
    let running = start(&sandbox).await;
    let slow = first.clone();
    // Its pages are sent again; the first job answers once the second one has.
    let on_beat = move |provider: &FakeProvider| {
        for (job, keys) in pending(provider) {
            if job != slow {
                let lines: Vec<String> = keys.iter().map(|key| answer(key, "second")).collect();
                provider.succeed(&job, &lines);
            }
        }
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 3"]);
    let outputs = sandbox.tree.outputs.borrow().clone();
    let keys = sandbox.provider.keys(&first);
    let lines: Vec<String> = keys.iter().map(|key| answer(key, "first")).collect();
    sandbox.provider.succeed(&first, &lines);
    let sandbox = sandbox.on_same_folder().await;
    let running = start(&sandbox).await;
    until_end(&sandbox, running, Box::new(|_| {})).await;
    let row = "SELECT state || ' ' || accepted || ' ' || paid_twice FROM late_jobs";
    assert_eq!(sandbox.sql(row).await, ["collected 0 3"]);
    assert_eq!(
        *sandbox.tree.outputs.borrow(),
        outputs,
        "F10: nothing is replaced"
    );
    let summary = sandbox.on_same_folder().await;
    let question = Summarize {
        scope: None,
        at: summary.now(),
    };
    assert_eq!(summary.ask(question).await.unwrap().paid_twice, 3);
}

#[actix::test]
async fn f14_a_job_that_its_own_key_cannot_see_is_shown_as_unreachable_until_it_is_back() {
    let scene = Scene::new(1).await;
    let script = Script::Refused(Next::Missing);
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .polls
        .push_back(script);
    scene.tick_after(0).await;
    scene.tick_after(31).await;
    let question = Summarize {
        scope: None,
        at: scene.sandbox.now(),
    };
    let summary = scene.sandbox.ask(question.clone()).await.unwrap();
    assert_eq!(summary.unreachable.len(), 1);
    assert_eq!(
        scene.sandbox.batches().await[0].state.stage(),
        BatchStage::Submitted
    );
    scene.tick_after(61).await;
    let summary = scene.sandbox.ask(question).await.unwrap();
    assert_eq!(summary.unreachable, [], "it was seen again");
    assert_eq!(scene.sandbox.provider.calls("create"), 1);
}

#[actix::test]
async fn f09_a_job_that_cannot_be_looked_at_is_collected_from_what_the_list_shows() {
    let scene = Scene::new(1).await;
    let polls = (0..40).map(|_| Script::Refused(Next::Transient));
    scene
        .sandbox
        .provider
        .record
        .borrow_mut()
        .polls
        .extend(polls);
    scene.sandbox.provider.succeed(&scene.jobs[0], &[]);
    scene.tick_after(0).await;
    for _ in 0..5 {
        scene.tick_after(301).await;
        assert_eq!(scene.sandbox.provider.calls("list"), 0, "a look may fail");
        assert_eq!(
            scene.sandbox.batches().await[0].state.stage(),
            BatchStage::Submitted
        );
    }
    scene.tick_after(301).await;
    assert_eq!(scene.sandbox.provider.calls("list"), 1);
    assert_eq!(
        scene.sandbox.batches().await[0].state.stage(),
        BatchStage::Ready
    );
}

#[actix::test]
async fn f30_batches_halve_after_an_expiry_and_the_reason_is_kept() {
    let mut sandbox = single_pages(12).await;
    sandbox.plan.submitter.brake.pace.pages_max = 4;
    sandbox.plan.poller.brake.pace.pages_max = 4;
    sandbox.plan.processor.brake.pace.pages_max = 4;
    let running = start(&sandbox).await;
    let first = Cell::new(true);
    let on_beat = move |provider: &FakeProvider| {
        for (job, _keys) in pending(provider) {
            if first.replace(false) {
                provider.end(&job, "BATCH_STATE_EXPIRED", None);
            }
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let pace = "SELECT reason FROM paces";
    let reasons = sandbox.sql(pace).await;
    assert_eq!(reasons.len(), 1);
    let small = "SELECT count(*) || '' FROM submissions
                 WHERE state = 'settled' AND record_count > 2 AND created_at >
                       (SELECT closed_at FROM submissions WHERE state = 'abandoned')
                   AND created_at < (SELECT min(closed_at) FROM submissions WHERE state = 'settled')";
    assert_eq!(sandbox.sql(small).await, ["0"], "{reasons:?}");
    assert_eq!(stages(&sandbox).await, ["completed 12"]);
}

#[actix::test]
async fn f18_no_batch_is_sent_after_one_that_waits_too_long() {
    let mut sandbox = single_pages(12).await;
    let pace = &mut sandbox.plan.submitter.brake.pace;
    pace.slow_after = Duration::from_secs(100);
    pace.stop_after = Duration::from_secs(100);
    // Far longer than the other span, however slowly this machine sends the first one.
    sandbox.plan.submitter.fill_wait = Duration::from_secs(1_000);
    sandbox.plan.submitter.limits.pages_max = 12;
    sandbox.plan.uploader.ahead_max = 4;
    let running = start(&sandbox).await;
    let beats = Cell::new(0);
    let on_beat = move |provider: &FakeProvider| {
        beats.set(beats.get() + 1);
        let jobs = provider.jobs().len();
        if beats.get() < 500 {
            assert!(jobs <= 1, "the first one has waited for 100 seconds");
        } else {
            answer_all(provider);
        }
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    assert_eq!(stages(&sandbox).await, ["completed 12"]);
}
