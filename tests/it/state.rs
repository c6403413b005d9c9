//! StateActor's promises, on a real file.

use actix::Actor;
use futures_util::future::join_all;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::*;
use pagemill::actors::state::open::{OpenError, StateOptions};
use pagemill::domain::attempt::{Outcome, Tally, Verdict};
use pagemill::domain::batch::{AbandonCode, BatchEvent, BatchStage, BatchState};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::*;
use pagemill::domain::page::{Afterwards, PageEvent, PageStage, RequeueCause};

use crate::kit::state_world::*;

fn released(number: u32) -> (RecordKey, PageEvent) {
    (key(number), PageEvent::Released { at: at(800) })
}

fn expired() -> BatchEvent {
    BatchEvent::EndedEmpty {
        code: AbandonCode::Expired,
    }
}

// ---- runs and recovery ----

#[actix::test]
async fn a_known_run_is_continued_and_its_restarts_are_counted() {
    let world = World::new().await;
    assert_eq!(
        world.tell(start_run()).await,
        Ok(RunStarted {
            restarts: 1,
            first_run: format!("run-1 {}", at(0)),
        })
    );
    let finish = FinishRun {
        run: RunId::from("run-1"),
        status: RunStatus::Stopped,
        at: at(5),
    };
    world.tell(finish).await.unwrap();
    assert_eq!(world.one("SELECT status FROM runs").await, "stopped");
    assert_eq!(
        world.tell(start_run()).await,
        Ok(RunStarted {
            restarts: 2,
            first_run: format!("run-1 {}", at(0)),
        })
    );
    assert_eq!(world.one("SELECT status FROM runs").await, "processing");
    assert_eq!(world.one("SELECT count(*) FROM recipes").await, "1");
}

#[actix::test]
async fn a_recipe_never_changes_under_its_hash() {
    let world = World::new().await;
    let mut other = start_run();
    other.recipe.prompt_template = "Read it again".to_owned();
    let refused = world.tell(other).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    assert_eq!(world.one("SELECT restarts FROM runs").await, "0");
}

#[actix::test]
async fn an_unknown_run_cannot_finish() {
    let world = World::new().await;
    let finish = FinishRun {
        run: RunId::from("nobody"),
        status: RunStatus::Failed,
        at: at(1),
    };
    let refused = world.tell(finish).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
}

#[actix::test]
async fn what_a_process_left_in_the_middle_is_listed_and_recovered_all_or_none() {
    let world = World::new().await;
    world.plan("b1", [5]).await;
    world.register([1, 2]).await;
    world.tell(claim(10, 110)).await.unwrap();
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(120),
    };
    world.tell(begin).await.unwrap();
    let found = world.tell(ListInterrupted {}).await.unwrap();
    assert_eq!(found.uploading, keys([1, 2]));
    assert_eq!(found.submitting, vec![batch("b1")]);

    let deferred = PageEvent::UploadDeferred { until: None };
    let recovery = ApplyRecovery {
        pages: vec![(key(1), deferred.clone()), (key(5), deferred.clone())],
        batches: vec![],
        at: at(130),
    };
    let refused = world.tell(recovery).await;
    assert!(
        matches!(refused, Err(StateError::Illegal(_))),
        "{refused:?}"
    );
    assert_eq!(world.stage(1).await, "uploading");

    let recovery = ApplyRecovery {
        pages: vec![(key(1), deferred.clone()), (key(2), deferred)],
        batches: vec![(batch("b1"), BatchEvent::SubmitUnclear { at: at(130) })],
        at: at(130),
    };
    world.tell(recovery).await.unwrap();
    assert_eq!(world.stage(1).await, "discovered");
    assert_eq!(world.one("SELECT state FROM submissions").await, "in doubt");
    assert_eq!(
        world.tell(ListInterrupted {}).await,
        Ok(Interrupted::default())
    );
    world.assert_replay().await;
}

// ---- the work list ----

#[actix::test]
async fn f39_a_page_is_registered_once_however_often_it_is_found() {
    let world = World::new().await;
    world.register([3, 1, 2, 2]).await;
    world.register([1, 2, 3, 4]).await;
    assert_eq!(world.one("SELECT count(*) FROM pages").await, "4");
    assert_eq!(
        world
            .one("SELECT count(*) FROM page_events WHERE event = 'seen'")
            .await,
        "4"
    );
    let books = vec![key(1).book().to_owned()];
    let known = world.tell(PagesOfBooks { books }).await.unwrap();
    let found: Vec<&RecordKey> = known.iter().map(|page| &page.key).collect();
    assert_eq!(found, keys([1, 2, 3, 4]).iter().collect::<Vec<_>>());
    assert_eq!(known[1].stage, PageStage::Discovered);
    assert_eq!(known[1].predecessor, Some(key(1)));
    assert_eq!(known[1].scope, Some(ScopeToken::from("scope")));
    world.assert_replay().await;
}

#[actix::test]
async fn the_pages_of_a_book_are_its_own_however_alike_the_names_are() {
    let world = World::new().await;
    let named = |text: &str| NewPage {
        key: RecordKey::from(text),
        book: RecordKey::from(text).book().to_owned(),
        ..new_page(1, None)
    };
    let names = ["7", "12", "a:1", "a:2", "a:b:1", "a b:1", "a;:1", "b:1"];
    let changes = ScanChanges {
        register: names.into_iter().map(named).collect(),
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 1)).await.unwrap();
    for (books, expected) in [
        (vec!["a"], vec!["a:1", "a:2"]),
        (vec![""], vec!["12", "7"]),
        (vec!["b", "a:b", "b"], vec!["a:b:1", "b:1"]),
        (vec!["a;", "nothing"], vec!["a;:1"]),
        (vec![], vec![]),
    ] {
        let books = books.into_iter().map(str::to_owned).collect();
        let known = world.tell(PagesOfBooks { books }).await.unwrap();
        let found: Vec<&str> = known.iter().map(|page| page.key.as_str()).collect();
        assert_eq!(found, expected);
    }
}

#[actix::test]
async fn a_page_never_waits_for_one_that_is_done_or_for_itself() {
    let world = World::new().await;
    let adopt = |number| AdoptedOutput {
        key: key(number),
        sha256: sha("old"),
        bytes: 5,
    };
    let register = vec![
        new_page(1, None),
        new_page(2, Some(1)),
        new_page(3, Some(2)),
        new_page(4, Some(4)),
    ];
    let changes = ScanChanges {
        register,
        adopt: vec![adopt(1)],
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 1)).await.unwrap();
    let later = ScanChanges {
        register: vec![new_page(5, Some(1))],
        rechain: vec![Rechained {
            key: key(3),
            predecessor: Some(key(1)),
            waits_for: Some(key(1)),
            chain_ahead: 9,
        }],
        ..ScanChanges::default()
    };
    world.tell(scan(later, 2)).await.unwrap();
    let waiting = "SELECT record_key FROM pages WHERE waits_for IS NOT NULL";
    assert_eq!(world.ask(waiting).await, Vec::<String>::new());
    assert_eq!(world.stage(1).await, "completed");
    let chain = "SELECT predecessor||'|'||chain_ahead FROM pages WHERE page_number = 3";
    assert_eq!(world.one(chain).await, format!("{}|9", key(1)));
}

#[actix::test]
async fn p1_a_requeued_page_keeps_its_former_output_in_its_history() {
    let world = World::new().await;
    world.register([1, 2]).await;
    let adopted = ScanChanges {
        adopt: vec![AdoptedOutput {
            key: key(1),
            sha256: sha("old"),
            bytes: 5,
        }],
        ..ScanChanges::default()
    };
    world.tell(scan(adopted, 1)).await.unwrap();
    let requeue = |number| {
        let cause = RequeueCause::OutputVanished;
        (key(number), PageEvent::Requeued { cause })
    };
    let lawless = ScanChanges {
        requeue: vec![requeue(1), requeue(2)],
        ..ScanChanges::default()
    };
    let refused = world.tell(scan(lawless, 2)).await;
    assert!(
        matches!(refused, Err(StateError::Illegal(_))),
        "{refused:?}"
    );
    assert_eq!(world.stage(1).await, "completed");
    let lawful = ScanChanges {
        requeue: vec![requeue(1)],
        ..ScanChanges::default()
    };
    world.tell(scan(lawful, 3)).await.unwrap();
    assert_eq!(world.stage(1).await, "discovered");
    let details = "SELECT details->>'output' FROM page_events WHERE event = 'requeued'";
    assert_eq!(world.one(details).await, "sha-old");
    world.assert_replay().await;
}

#[actix::test]
async fn a_vanished_label_skips_its_page_and_a_scope_moves_by_rescope_only() {
    let world = World::new().await;
    world.register([1, 2]).await;
    let changes = ScanChanges {
        label_vanished: keys([1]),
        rescope: keys([2]),
        ..ScanChanges::default()
    };
    let mut message = scan(changes, 1);
    message.scope = ScopeToken::from("other");
    world.tell(message).await.unwrap();
    assert_eq!(world.stage(1).await, "skipped");
    assert_eq!(
        world
            .ask("SELECT scope FROM pages ORDER BY record_key")
            .await,
        ["scope", "other"]
    );
    let unknown = ScanChanges {
        rescope: keys([9]),
        ..ScanChanges::default()
    };
    assert!(world.tell(scan(unknown, 2)).await.is_err());
    let unknown = ScanChanges {
        label_vanished: keys([9]),
        ..ScanChanges::default()
    };
    let refused = world.tell(scan(unknown, 2)).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
}

#[actix::test]
async fn oddities_are_replaced_as_a_whole() {
    let world = World::new().await;
    let oddity = |path: &str| OddityRow {
        path: path.to_owned(),
        kind: "not_a_number".to_owned(),
        detail: "x".to_owned(),
    };
    for paths in [vec!["a", "b"], vec!["c"]] {
        let message = RecordOddities {
            run: RunId::from("run-1"),
            oddities: paths.into_iter().map(oddity).collect(),
            at: at(1),
        };
        world.tell(message).await.unwrap();
    }
    assert_eq!(world.ask("SELECT path FROM scan_oddities").await, ["c"]);
}

// ---- uploads ----

#[actix::test]
async fn pages_are_claimed_best_first_and_only_when_due_and_in_scope() {
    let world = World::new().await;
    let mut far = new_page(4, None);
    far.chain_ahead = 3;
    let register = vec![
        new_page(1, None),
        new_page(2, None),
        new_page(3, Some(2)),
        far,
    ];
    let changes = ScanChanges {
        register,
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 0)).await.unwrap();
    world
        .meddle("UPDATE pages SET priority = 1 WHERE page_number = 2")
        .await;
    let mut elsewhere = claim(10, 1);
    elsewhere.scope = ScopeToken::from("other");
    assert_eq!(world.tell(elsewhere).await, Ok(Claimed::default()));
    let claimed = world.tell(claim(2, 1)).await.unwrap();
    let found: Vec<RecordKey> = claimed.pages.into_iter().map(|page| page.key).collect();
    assert_eq!(found, [key(2), key(4)]);
    let deferred = UploadRecord {
        event: PageEvent::UploadDeferred {
            until: Some(at(100)),
        },
        stored: None,
        cycle_spent: true,
        note: "the provider is busy".to_owned(),
        ..uploaded(2, 2)
    };
    world.tell(record_uploads(vec![deferred], 2)).await.unwrap();
    let claimed = world.tell(claim(10, 50)).await.unwrap();
    assert_eq!(claimed.pages.len(), 1);
    assert_eq!(claimed.pages[0].key, key(1));
    let mut unchained = claim(10, 100);
    unchained.chained = false;
    let claimed = world.tell(unchained).await.unwrap();
    let found: Vec<(RecordKey, u32)> = claimed
        .pages
        .into_iter()
        .map(|page| (page.key, page.upload_cycles))
        .collect();
    assert_eq!(found, [(key(2), 1), (key(3), 0)]);
    world.assert_replay().await;
}

#[actix::test]
async fn s2_21_pages_that_are_claimed_by_many_at_once_are_claimed_once() {
    let world = World::new().await;
    world.register(1..=40).await;
    let claims = (0..16).map(|_| world.tell(claim(3, 1)));
    let answers = join_all(claims).await;
    let claimed = answers.into_iter().flat_map(|claim| claim.unwrap().pages);
    let mut claimed: Vec<RecordKey> = claimed.map(|page| page.key).collect();
    assert_eq!(claimed.len(), 40);
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 40, "no page twice");
    assert_eq!(world.tell(claim(3, 1)).await, Ok(Claimed::default()));
}

#[actix::test]
async fn s2_11_each_step_of_a_page_brings_its_own_sentence_and_time() {
    let world = World::new().await;
    let now = "SELECT status || ' @ ' || updated_at FROM pages WHERE page_number = 1";
    let mut said = Vec::new();
    world.register([1]).await;
    said.push(world.one(now).await);
    world.tell(claim(1, 10)).await.unwrap();
    said.push(world.one(now).await);
    let upload = record_uploads(vec![uploaded(1, 20)], 20);
    world.tell(upload).await.unwrap();
    said.push(world.one(now).await);
    world.tell(plan("b1", keys([1]), 100)).await.unwrap();
    said.push(world.one(now).await);
    world.tell(spooled("b1", [1])).await.unwrap();
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(210),
    };
    world.tell(begin).await.unwrap();
    let remote = RemoteName::from("batches/b1");
    let accepted_there = BatchEvent::SubmitAccepted { remote };
    world
        .tell(record_submit("b1", accepted_there))
        .await
        .unwrap();
    world.ready("b1").await;
    world.tell(collect("b1")).await.unwrap();
    said.push(world.one(now).await);
    world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    said.push(world.one(now).await);
    let sentences = said.iter().map(|line| line.split(" @ ").next().unwrap());
    let mut sentences: Vec<&str> = sentences.collect();
    assert!(sentences.iter().all(|sentence| !sentence.is_empty()));
    let times = said.iter().map(|line| line.split(" @ ").nth(1).unwrap());
    let times: Vec<&str> = times.collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{said:?}");
    sentences.sort_unstable();
    sentences.dedup();
    assert_eq!(sentences.len(), 6, "{said:?}");
}

#[actix::test]
async fn s4_37_more_pages_than_a_statement_has_parameters_move_in_one_message() {
    // What SQLite binds at most, and one more.
    const PAGES: u32 = 32_767;
    let world = World::new().await;
    world.register(1..=PAGES).await;
    let claimed = world.tell(claim(u64::from(PAGES), 1)).await.unwrap();
    assert_eq!(claimed.pages.len(), PAGES as usize);
    let moved = "SELECT count(*) FROM pages WHERE stage = 'uploading'";
    assert_eq!(world.one(moved).await, PAGES.to_string());
    let told = "SELECT count(*) FROM page_events WHERE event = 'upload_started'";
    assert_eq!(world.one(told).await, PAGES.to_string());
}

#[actix::test]
async fn p10_a_file_too_old_for_a_batch_is_sent_back_and_deleted() {
    let world = World::new().await;
    world.upload([1]).await;
    let mut late = claim(10, 30);
    late.limit = 0;
    late.usable_until = at(20 + 2 * DAY);
    let claimed = world.tell(late).await.unwrap();
    assert_eq!(claimed.remote_bytes, 1_000);
    assert_eq!(world.stage(1).await, "discovered");
    let listed = ListDeletable {
        limit: 10,
        at: at(40),
    };
    let files = world.tell(listed).await.unwrap();
    assert_eq!(files[0].name, RemoteName::from("files/1-20"));
    assert_eq!(files[0].purpose, FilePurpose::Image);
    let after = world.tell(claim(0, 20 + 2 * DAY)).await.unwrap();
    assert_eq!(after.remote_bytes, 0, "an expired file takes no room");
}

#[actix::test]
async fn an_upload_of_a_page_that_is_not_claimed_is_refused_with_all_beside_it() {
    let world = World::new().await;
    world.register([1, 2]).await;
    world.tell(claim(1, 1)).await.unwrap();
    let both = record_uploads(vec![uploaded(1, 2), uploaded(2, 2)], 2);
    let refused = world.tell(both).await;
    assert!(
        matches!(refused, Err(StateError::Illegal(_))),
        "{refused:?}"
    );
    assert_eq!(world.stage(1).await, "uploading");
    assert_eq!(world.one("SELECT count(*) FROM remote_files").await, "0");
    let mut headless = uploaded(1, 2);
    headless.stored = None;
    let refused = world.tell(record_uploads(vec![headless], 2)).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    let unknown = record_uploads(vec![uploaded(9, 2)], 2);
    let refused = world.tell(unknown).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
}

#[actix::test]
async fn only_failures_that_are_the_page_s_fault_are_counted() {
    let world = World::new().await;
    world.register([1, 2]).await;
    world.tell(claim(10, 1)).await.unwrap();
    let failed = |number, counted| UploadRecord {
        event: PageEvent::UploadRefused {
            error: ErrorType::Image,
        },
        stored: None,
        failure: Some((failure(ErrorType::Image), counted)),
        cycle_spent: true,
        note: "the image is empty".to_owned(),
        ..uploaded(number, 2)
    };
    let uploads = vec![failed(1, Counted::Yes), failed(2, Counted::No)];
    world.tell(record_uploads(uploads, 2)).await.unwrap();
    assert_eq!(
        world.ask("SELECT record_key FROM failure_counts").await,
        [key(1).as_str()]
    );
    assert_eq!(
        world
            .ask("SELECT counted FROM failure_logs ORDER BY record_key")
            .await,
        ["1", "0"]
    );
    let faults = ListImageFaults {
        scope: ScopeToken::from("scope"),
        after: Some(key(1)),
        limit: 10,
    };
    assert_eq!(world.tell(faults).await, Ok(keys([2])));
    assert_eq!(
        world
            .one("SELECT status FROM pages WHERE page_number = 1")
            .await,
        "the image is empty"
    );
}

#[actix::test]
async fn deletions_are_kept_as_rows_and_put_off_ones_wait() {
    let world = World::new().await;
    world.upload([1, 2, 3, 4]).await;
    let mut late = claim(0, 30);
    late.usable_until = at(3 * DAY);
    world.tell(late).await.unwrap();
    let name = |number: u32| RemoteName::from(format!("files/{number}-20"));
    let record = RecordDeletions {
        files: vec![
            (name(1), DeleteOutcome::Deleted),
            (name(2), DeleteOutcome::Gone),
            (
                name(3),
                DeleteOutcome::Undeletable {
                    note: "no".to_owned(),
                },
            ),
            (
                name(4),
                DeleteOutcome::Later {
                    until: at(100),
                    note: "busy".to_owned(),
                },
            ),
        ],
        at: at(40),
    };
    world.tell(record).await.unwrap();
    assert_eq!(
        world
            .ask("SELECT state FROM remote_files ORDER BY name")
            .await,
        ["deleted", "gone", "undeletable", "deleting"]
    );
    for (seconds, expected) in [(99, 0), (100, 1)] {
        let list = ListDeletable {
            limit: 10,
            at: at(seconds),
        };
        assert_eq!(world.tell(list).await.unwrap().len(), expected);
    }
    assert_eq!(world.tell(claim(0, 50)).await.unwrap().remote_bytes, 2_000);
    let unknown = RecordDeletions {
        files: vec![(RemoteName::from("files/other"), DeleteOutcome::Gone)],
        at: at(60),
    };
    let refused = world.tell(unknown).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
}

// ---- batches ----

#[actix::test]
async fn uploaded_pages_are_listed_with_how_many_wait_in_all() {
    let world = World::new().await;
    world.upload([1, 2, 3]).await;
    let list = |usable_until| ListUploaded {
        scope: ScopeToken::from("scope"),
        limit: 2,
        usable_until,
    };
    let found = world.tell(list(at(DAY))).await.unwrap();
    assert_eq!(found.total, 3);
    assert_eq!(found.newest, Some(at(20)));
    assert_eq!(found.pages.len(), 2);
    assert_eq!(found.pages[0].key, key(1));
    assert_eq!(found.pages[0].image_bytes, 1_000);
    assert_eq!(found.pages[0].expires_at, at(20 + 2 * DAY));
    assert_eq!(
        world.tell(list(at(20 + 2 * DAY))).await,
        Ok(Uploaded::default())
    );
}

#[actix::test]
async fn more_uploaded_pages_than_are_read_at_a_time_are_listed_once_each_and_in_order() {
    let world = World::new().await;
    world.upload(1..=2_500).await;
    for (limit, expected) in [(2_300, 2_300), (2_000, 2_000), (5_000, 2_500)] {
        let list = ListUploaded {
            scope: ScopeToken::from("scope"),
            limit,
            usable_until: at(DAY),
        };
        let found = world.tell(list).await.unwrap();
        assert_eq!(found.total, 2_500);
        let mut sorted = keys(1..=2_500);
        sorted.sort();
        sorted.truncate(expected);
        let listed: Vec<RecordKey> = found.pages.into_iter().map(|page| page.key).collect();
        assert_eq!(listed, sorted);
    }
}

#[actix::test]
async fn p2_no_page_is_in_two_batches() {
    let world = World::new().await;
    world.plan("b1", [1, 2]).await;
    world.upload([3]).await;
    let refused = world.tell(plan("b2", keys([2, 3]), 110)).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    assert_eq!(world.stage(3).await, "uploaded");
    assert_eq!(world.one("SELECT count(*) FROM submissions").await, "1");
    for members in [vec![], keys([3, 3])] {
        let refused = world.tell(plan("b2", members, 110)).await;
        assert!(
            matches!(refused, Err(StateError::Conflict(_))),
            "{refused:?}"
        );
    }
    let refused = world.tell(plan("b2", keys([9]), 110)).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
    let refused = world.tell(plan("b1", keys([3]), 110)).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    let mut unknown_recipe = plan("b2", keys([3]), 110);
    unknown_recipe.recipe = RecipeHash::from("nothing");
    let refused = world.tell(unknown_recipe).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
    let mut same_name = plan("b2", keys([3]), 110);
    same_name.display_name = batch("b1").display_name("pagemill");
    let refused = world.tell(same_name).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
}

#[actix::test]
async fn p2_a_rejected_page_is_held_until_its_batch_is_settled() {
    let world = World::new().await;
    world.collect("b1", [1, 2]).await;
    let first = verdicts("b1", vec![rejected(1, ErrorType::Validation, again())]);
    world.tell(first).await.unwrap();
    assert_eq!(world.stage(1).await, "discovered");
    assert_eq!(world.tell(claim(10, 610)).await.unwrap().pages, vec![]);
    assert_eq!(
        world.one("SELECT count(*) FROM inflight_records").await,
        "2"
    );
    world.tell(verdicts("b1", vec![accepted(2)])).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    assert_eq!(
        world.one("SELECT count(*) FROM inflight_records").await,
        "0"
    );
    let claimed = world.tell(claim(10, 710)).await.unwrap();
    assert_eq!(claimed.pages[0].key, key(1));
    assert_eq!(claimed.pages[0].failures, 1);
}

#[actix::test]
async fn a_member_that_cannot_be_spooled_leaves_the_batch_and_is_dead() {
    let world = World::with(true).await;
    let changes = ScanChanges {
        register: vec![new_page(1, None), new_page(2, None), new_page(3, Some(2))],
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 0)).await.unwrap();
    world.plan("b1", [1, 2]).await;
    let short = spooled("b1", [1]);
    let refused = world.tell(short).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    let mut message = spooled("b1", [1]);
    message.refused = vec![(key(2), failure(ErrorType::JsonDecode))];
    world.tell(message).await.unwrap();
    assert_eq!(world.stage(2).await, "dead");
    for table in ["batch_record_keys", "inflight_records", "attempts"] {
        let sql = format!("SELECT record_key FROM {table}");
        assert_eq!(world.ask(&sql).await, [key(1).as_str()], "{table}");
    }
    assert_eq!(world.one("SELECT count FROM failure_counts").await, "1");
    let log = "SELECT batch_id||'|'||attempt_number||'|'||prompt_name FROM failure_logs";
    assert_eq!(world.one(log).await, "b1|1|page_ocr");
    let file = "SELECT state FROM remote_files WHERE name = 'files/2-20'";
    assert_eq!(world.one(file).await, "deleting");
    let held = "SELECT count(*) FROM pages WHERE batch_id IS NOT NULL";
    assert_eq!(world.one(held).await, "1");
    assert_eq!(
        world
            .one("SELECT waits_for IS NULL FROM pages WHERE page_number = 3")
            .await,
        "1"
    );
    let row = "SELECT record_count||'|'||reserved_cost_nanos||'|'||lines_bytes FROM submissions";
    assert_eq!(world.one(row).await, "1|77|500");
    assert_eq!(
        world.one("SELECT prompt_sha256 FROM attempts").await,
        "sha-prompt"
    );
    world.assert_replay().await;
}

#[actix::test]
async fn members_are_listed_with_what_the_request_needs() {
    let world = World::new().await;
    world.collect("b1", [1, 2]).await;
    world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    let list = ListMembers { batch: batch("b1") };
    let members = world.tell(list.clone()).await.unwrap();
    assert_eq!(members[0].stage, Some(PageStage::Completed));
    assert_eq!(members[1].stage, Some(PageStage::Validating));
    assert_eq!(members[1].file_uri, "https://files.example/files/2-20");
    assert_eq!(members[1].file_expires_at, at(20 + 2 * DAY));
    assert_eq!(members[1].predecessor, Some(key(1)));
    assert!(members[1].predecessor_completed);
    assert!(!members[0].predecessor_completed);
    assert_eq!((members[1].attempt_number, members[1].failures), (1, 0));
    let to_judge = ListToJudge { batch: batch("b1") };
    let open = |members: Vec<ToJudge>| {
        members
            .into_iter()
            .map(|member| (member.key, member.is_open))
    };
    let listed = world.tell(to_judge.clone()).await.unwrap();
    assert_eq!(listed[1].image_sha256, members[1].image_sha256);
    assert!(open(listed).eq([(key(1), false), (key(2), true)]));
    world
        .tell(verdicts("b1", vec![rejected(2, ErrorType::Value, again())]))
        .await
        .unwrap();
    world.tell(settle("b1")).await.unwrap();
    let members = world.tell(list).await.unwrap();
    assert_eq!(members[1].stage, None, "it belongs to the batch no longer");
    let listed = world.tell(to_judge).await.unwrap();
    assert_eq!((listed[1].failures, listed[1].releases), (1, 0));
    assert!(open(listed).eq([(key(1), false), (key(2), false)]));
    let refused = world.tell(ListMembers { batch: batch("b9") }).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
}

#[actix::test]
async fn a_large_batch_is_listed_whole_whatever_is_missing_of_its_first_members() {
    const PAGES: u32 = 2_100;
    let world = World::new().await;
    world.plan("b1", 1..=PAGES).await;
    let list = ListMembers { batch: batch("b1") };
    let to_judge = ListToJudge { batch: batch("b1") };
    let describe = DescribeBatch { batch: batch("b1") };
    let members = world.tell(list.clone()).await.unwrap();
    assert_eq!(members.len(), PAGES as usize);
    assert!(members.is_sorted_by_key(|member| member.key.clone()));
    let same = |keys: Vec<RecordKey>| keys.iter().eq(members.iter().map(|member| &member.key));
    let judged = world.tell(to_judge.clone()).await.unwrap();
    assert!(same(judged.into_iter().map(|member| member.key).collect()));
    let described = world.tell(describe).await.unwrap().members;
    assert!(same(
        described.into_iter().map(|member| member.key).collect()
    ));
    // Nothing of ours does this; a hand at the database may.
    let lost = "UPDATE attempts SET image_file = 'files/lost' WHERE record_key IN (
                    SELECT record_key FROM batch_record_keys ORDER BY record_key LIMIT 1500)";
    world.ask(lost).await;
    assert_eq!(world.tell(list).await.unwrap(), members[1_500..]);
    assert_eq!(world.tell(to_judge).await.unwrap().len(), 600);
}

#[actix::test]
async fn a_forgotten_lines_file_is_deleted_and_can_be_uploaded_again() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    for name in ["files/lines-1", "files/lines-2"] {
        let sent = RecordJsonlUploaded {
            batch: batch("b1"),
            file: stored_file(name, DAY),
            at: at(210),
        };
        world.tell(sent).await.unwrap();
    }
    let forget = ForgetJsonl {
        batch: batch("b1"),
        at: at(220),
    };
    let states = "SELECT state FROM remote_files WHERE purpose = 'lines' ORDER BY name";
    assert_eq!(world.ask(states).await, ["deleting", "live"]);
    world.tell(forget.clone()).await.unwrap();
    assert_eq!(world.ask(states).await, ["deleting", "deleting"]);
    let planned = ListBatches {
        states: vec![BatchStage::Planned],
        limit: 10,
    };
    let rows = world.tell(planned).await.unwrap();
    assert_eq!(rows[0].lines_file, None);
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(230),
    };
    world.tell(begin).await.unwrap();
    let refused = world.tell(forget).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
}

#[actix::test]
async fn p3_a_create_is_counted_before_it_is_sent_and_doubt_forbids_another() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(220),
    };
    world.tell(begin.clone()).await.unwrap();
    let refused = world.tell(begin.clone()).await;
    assert!(
        matches!(refused, Err(StateError::Illegal(_))),
        "{refused:?}"
    );
    let unclear = BatchEvent::SubmitUnclear { at: at(230) };
    let state = world.tell(record_submit("b1", unclear)).await;
    assert_eq!(state, Ok(BatchState::InDoubt { since: at(230) }));
    let refused = world.tell(begin.clone()).await;
    assert!(
        matches!(refused, Err(StateError::Illegal(_))),
        "{refused:?}"
    );
    let look = |event, extra: &[&str]| RecordLookup {
        batch: batch("b1"),
        event,
        extra: extra.iter().map(|name| RemoteName::from(*name)).collect(),
        at: at(240),
    };
    world.tell(look(None, &["batches/2"])).await.unwrap();
    let in_doubt = ListBatches {
        states: vec![BatchStage::InDoubt],
        limit: 10,
    };
    let rows = world.tell(in_doubt).await.unwrap();
    assert_eq!((rows[0].creates, rows[0].lookups), (1, 1));
    assert_eq!(rows[0].last_lookup_at, Some(at(240)));
    let found = BatchEvent::LookupFound {
        remote: RemoteName::from("batches/1"),
    };
    let state = world
        .tell(look(Some(found), &["batches/2", "batches/3"]))
        .await;
    let remote = RemoteName::from("batches/1");
    assert_eq!(state, Ok(BatchState::Submitted { remote }));
    assert_eq!(
        world.one("SELECT extra_jobs FROM submissions").await,
        "[\"batches/2\",\"batches/3\"]"
    );
    let history = world
        .ask("SELECT event FROM submission_events ORDER BY id")
        .await;
    assert_eq!(
        history,
        [
            "planned",
            "submit_started",
            "submit_unclear",
            "lookup_found"
        ]
    );
}

#[actix::test]
async fn p9_a_look_records_what_the_provider_says_and_ends_nothing_by_itself() {
    let world = World::new().await;
    world.submit("b1", [1]).await;
    world
        .tell(poll("b1", "BATCH_STATE_TIRED", Some(BatchEvent::Advanced)))
        .await
        .unwrap();
    world
        .tell(poll("b1", "BATCH_STATE_EXPIRED", None))
        .await
        .unwrap();
    let submitted = ListBatches {
        states: vec![BatchStage::Submitted, BatchStage::Planned],
        limit: 10,
    };
    let rows = world.tell(submitted).await.unwrap();
    assert_eq!(rows[0].remote_state.as_deref(), Some("BATCH_STATE_EXPIRED"));
    assert_eq!(rows[0].terminal_seen_at, Some(at(400)));
    assert_eq!(rows[0].submitted_at, Some(at(300)));
    assert_eq!(rows[0].members, 1);
    assert_eq!(rows[0].lines, Some((sha("lines"), 500)));
    assert_eq!(
        rows[0].lines_file.as_ref().map(|file| file.name.as_str()),
        Some("files/lines-b1")
    );
    let refused = world.tell(poll("b1", "EXPIRED", Some(expired()))).await;
    assert!(
        matches!(refused, Err(StateError::StillOpen { open: 1, .. })),
        "{refused:?}"
    );
    let refused = world
        .tell(poll("b1", "DONE", Some(BatchEvent::Settled)))
        .await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    assert_eq!(
        world.one("SELECT status FROM active_batches").await,
        "active"
    );
}

#[actix::test]
async fn p6_a_batch_that_ends_empty_counts_a_release_but_no_failure() {
    let world = World::new().await;
    world.submit("b1", [1, 2, 3]).await;
    let refused = world
        .tell(end("b1", expired(), vec![released(1), released(2)]))
        .await;
    assert!(
        matches!(refused, Err(StateError::StillOpen { open: 1, .. })),
        "{refused:?}"
    );
    assert_eq!(world.stage(1).await, "batched");
    let gone = (key(2), PageEvent::Released { at: at(9 * DAY) });
    let spent = PageEvent::ReleasesSpent {
        error: ErrorType::MissingResponse,
    };
    let pages = vec![released(1), gone, (key(3), spent)];
    let tally = world.tell(end("b1", expired(), pages)).await.unwrap();
    assert_eq!((tally.submitted, tally.released, tally.open), (3, 3, 0));
    assert_eq!(world.stage(1).await, "uploaded");
    assert_eq!(world.stage(2).await, "discovered");
    assert_eq!(world.stage(3).await, "dead");
    assert_eq!(world.one("SELECT count(*) FROM failure_counts").await, "0");
    assert_eq!(
        world
            .ask("SELECT coalesce(batch_size_max, 0)||'|'||releases FROM pages ORDER BY 1")
            .await,
        ["0|1", "7|1", "7|1"]
    );
    let files = "SELECT name FROM remote_files WHERE state = 'deleting' ORDER BY name";
    assert_eq!(
        world.ask(files).await,
        ["files/2-20", "files/3-20", "files/lines-b1"]
    );
    assert_eq!(
        world.one("SELECT status FROM active_batches").await,
        "failed"
    );
    assert_eq!(
        world.one("SELECT count(*) FROM inflight_records").await,
        "0"
    );
    assert_eq!(
        world
            .one("SELECT count(*) FROM pages WHERE batch_id IS NOT NULL")
            .await,
        "0"
    );
    let listed = ListUploaded {
        scope: ScopeToken::from("scope"),
        limit: 10,
        usable_until: at(DAY),
    };
    let listed = world.tell(listed).await.unwrap();
    assert_eq!(listed.pages[0].batch_size_max, Some(7));
    assert_eq!(listed.pages[0].releases, 1);
    assert_eq!(listed.newest, Some(at(20)));
    world.assert_replay().await;
}

#[actix::test]
async fn an_end_takes_only_ends_and_only_its_own_members() {
    let world = World::new().await;
    world.submit("b1", [1]).await;
    world.upload([2]).await;
    let refused = world
        .tell(end("b1", BatchEvent::Advanced, vec![released(1)]))
        .await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    let refused = world
        .tell(end("b1", expired(), vec![released(1), released(2)]))
        .await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    let requeued = PageEvent::AnswerAtHand;
    let refused = world
        .tell(end("b1", expired(), vec![(key(1), requeued)]))
        .await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    let refused = world.tell(end("b9", expired(), vec![])).await;
    assert!(
        matches!(refused, Err(StateError::Missing(_))),
        "{refused:?}"
    );
    let refused = world
        .tell(end("b1", BatchEvent::Withdrawn, vec![released(1)]))
        .await;
    assert!(
        matches!(refused, Err(StateError::Illegal(_))),
        "{refused:?}"
    );
    assert_eq!(world.stage(1).await, "batched");
}

// ---- results ----

#[actix::test]
async fn collecting_needs_offered_results_and_is_idempotent() {
    let world = World::new().await;
    world.submit("b1", [1, 2]).await;
    let refused = world.tell(collect("b1")).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    world.ready("b1").await;
    world.tell(collect("b1")).await.unwrap();
    world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    world.tell(collect("b1")).await.unwrap();
    assert_eq!(world.stage(1).await, "completed");
    assert_eq!(world.stage(2).await, "validating");
    let ready = ListBatches {
        states: vec![BatchStage::Ready],
        limit: 1,
    };
    let rows = world.tell(ready).await.unwrap();
    assert_eq!(rows[0].raw, Some(collect("b1").raw));
}

#[actix::test]
async fn p6_processing_a_result_file_twice_counts_nothing_twice() {
    let world = World::new().await;
    world.collect("b1", [1, 2]).await;
    let stranger = Verdict {
        key: RecordKey::from("never:seen:1"),
        ..accepted(1)
    };
    let all = vec![
        accepted(1),
        rejected(2, ErrorType::Validation, again()),
        rejected(2, ErrorType::Truncated, Afterwards::Dead),
        stranger,
    ];
    let done = world.tell(verdicts("b1", all.clone())).await.unwrap();
    assert_eq!(done.applied, 2);
    let before = world.everything().await;
    let done = world.tell(verdicts("b1", all)).await.unwrap();
    assert_eq!(done, VerdictsRecorded::default());
    assert_eq!(world.everything().await, before);
    assert_eq!(world.one("SELECT count FROM failure_counts").await, "1");
    let log = "SELECT error_type||'|'||attempt_number||'|'||model_name||'|'||generation_config||'|'
                      ||raw_response_text||'|'||error_traceback FROM failure_logs";
    assert_eq!(
        world.one(log).await,
        "ValidationError|1|gemini|{\"temperature\":0.1}|raw|not what it should be\nfor a reason"
    );
    world.assert_replay().await;
}

#[actix::test]
async fn a_second_attempt_has_the_next_number_and_a_verdict_clears_the_releases() {
    let world = World::new().await;
    world.submit("b1", [1]).await;
    world
        .tell(end("b1", expired(), vec![released(1)]))
        .await
        .unwrap();
    world.tell(plan("b2", keys([1]), 900)).await.unwrap();
    let members = world
        .tell(ListMembers { batch: batch("b2") })
        .await
        .unwrap();
    assert_eq!((members[0].attempt_number, members[0].releases), (2, 1));
    world.tell(spooled("b2", [1])).await.unwrap();
    let begin = BeginSubmit {
        batch: batch("b2"),
        at: at(910),
    };
    world.tell(begin).await.unwrap();
    let remote = RemoteName::from("batches/b2");
    world
        .tell(record_submit("b2", BatchEvent::SubmitAccepted { remote }))
        .await
        .unwrap();
    world.ready("b2").await;
    world.tell(collect("b2")).await.unwrap();
    world.tell(verdicts("b2", vec![accepted(1)])).await.unwrap();
    assert_eq!(
        world
            .one("SELECT releases||'|'||coalesce(batch_size_max, 'none') FROM pages")
            .await,
        "0|none"
    );
}

#[actix::test]
async fn f02_p5_a_batch_settles_only_when_every_member_has_an_outcome() {
    let world = World::new().await;
    world.collect("b1", [1, 2, 3, 4]).await;
    world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    let refused = world.tell(settle("b1")).await;
    assert!(
        matches!(refused, Err(StateError::StillOpen { open: 3, .. })),
        "{refused:?}"
    );
    let rest = vec![
        rejected(2, ErrorType::Validation, again()),
        rejected(3, ErrorType::MissingResponse, Afterwards::Dead),
        Verdict {
            outcome: Outcome::Released {
                cause: "the provider was overloaded".to_owned(),
                counted: true,
            },
            ..accepted(4)
        },
    ];
    world.tell(verdicts("b1", rest)).await.unwrap();
    let settled = world.tell(settle("b1")).await.unwrap();
    let expected = Tally {
        submitted: 4,
        succeeded: 1,
        failed: 1,
        missing: 1,
        released: 1,
        open: 0,
    };
    assert_eq!(settled.tally, expected);
    assert_eq!(settled.released, 2);
    assert_eq!(settled.tokens.total, Some(480));
    let failed: Vec<(RecordKey, u32, PageStage)> = settled
        .failed
        .into_iter()
        .map(|page| (page.key, page.failures, page.stage))
        .collect();
    assert_eq!(
        failed,
        [
            (key(2), 1, PageStage::Discovered),
            (key(3), 1, PageStage::Dead)
        ]
    );
    assert_eq!(
        world.one("SELECT status FROM active_batches").await,
        "completed"
    );
    let counts =
        "SELECT count_submitted||count_succeeded||count_failed||count_missing||count_released
                  FROM submissions";
    assert_eq!(world.one(counts).await, "41111");
    let results =
        "SELECT state||'|'||bytes||'|'||expires_at FROM remote_files WHERE purpose = 'results'";
    assert_eq!(
        world.one(results).await,
        format!("deleting|9000|{}", at(700 + 2 * DAY))
    );
    let live = "SELECT count(*) FROM remote_files WHERE state = 'live'";
    assert_eq!(world.one(live).await, "0");
    let refused = world.tell(settle("b1")).await;
    assert!(
        matches!(refused, Err(StateError::Conflict(_))),
        "{refused:?}"
    );
    let late = world.tell(verdicts("b1", vec![accepted(2)])).await;
    assert_eq!(late, Ok(VerdictsRecorded::default()));
    world.assert_replay().await;
}

#[actix::test]
async fn an_accepted_page_lets_its_successor_run() {
    let world = World::new().await;
    world.collect("b1", [1]).await;
    let changes = ScanChanges {
        register: vec![new_page(2, Some(1)), new_page(3, Some(2))],
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 550)).await.unwrap();
    let done = world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    assert_eq!((done.applied, done.unlocked), (1, 1));
    let claimed = world.tell(claim(10, 610)).await.unwrap();
    assert_eq!(claimed.pages.len(), 1);
    assert_eq!(claimed.pages[0].key, key(2));
}

#[actix::test]
async fn p7_a_dead_page_lets_its_successor_run_only_when_told_so() {
    for (unlock_behind_dead, unlocked) in [(false, 0), (true, 1)] {
        let world = World::with(unlock_behind_dead).await;
        world.collect("b1", [1]).await;
        let changes = ScanChanges {
            register: vec![new_page(2, Some(1))],
            ..ScanChanges::default()
        };
        world.tell(scan(changes, 550)).await.unwrap();
        let dead = rejected(1, ErrorType::Recitation, Afterwards::Dead);
        let done = world.tell(verdicts("b1", vec![dead])).await.unwrap();
        assert_eq!(done.unlocked, unlocked);
        let work = ListWork {
            scope: ScopeToken::from("scope"),
            chained: true,
            at: at(610),
        };
        let work = world.tell(work).await.unwrap();
        assert_eq!((work.runnable, work.blocked), (unlocked, 1 - unlocked));
        assert_eq!(work.dead, 1);
    }
}

#[actix::test]
async fn p7_every_way_to_die_lets_the_successor_run_when_told_so() {
    let world = World::with(true).await;
    let waiting = "SELECT count(*) FROM pages WHERE waits_for IS NOT NULL";
    world.submit("b1", [10]).await;
    let register = vec![
        new_page(11, Some(10)),
        new_page(20, None),
        new_page(21, Some(20)),
    ];
    let changes = ScanChanges {
        register,
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 1)).await.unwrap();
    assert_eq!(world.one(waiting).await, "2");
    let spent = PageEvent::ReleasesSpent {
        error: ErrorType::MissingResponse,
    };
    world
        .tell(end("b1", expired(), vec![(key(10), spent)]))
        .await
        .unwrap();
    assert_eq!(world.one(waiting).await, "1");
    world.tell(claim(10, 810)).await.unwrap();
    let refused = UploadRecord {
        event: PageEvent::UploadRefused {
            error: ErrorType::Image,
        },
        stored: None,
        ..uploaded(20, 820)
    };
    world
        .tell(record_uploads(vec![refused], 820))
        .await
        .unwrap();
    assert_eq!(world.one(waiting).await, "0");
    let late = ScanChanges {
        register: vec![new_page(22, Some(20))],
        ..ScanChanges::default()
    };
    world.tell(scan(late, 830)).await.unwrap();
    assert_eq!(world.one(waiting).await, "0", "found only after it died");
}

#[actix::test]
async fn p5_lost_results_release_what_has_no_verdict_and_keep_what_has_one() {
    let world = World::new().await;
    world.collect("b1", [1, 2, 3]).await;
    let judged = vec![accepted(1), rejected(2, ErrorType::Value, again())];
    world.tell(verdicts("b1", judged)).await.unwrap();
    let lost = BatchEvent::ResultsLost;
    let tally = world
        .tell(end("b1", lost, vec![released(3)]))
        .await
        .unwrap();
    assert_eq!((tally.succeeded, tally.failed, tally.released), (1, 1, 1));
    assert_eq!(world.stage(1).await, "completed");
    assert_eq!(world.stage(3).await, "discovered");
    assert_eq!(
        world.one("SELECT count(*) FROM inflight_records").await,
        "0"
    );
    let kept = "SELECT cost_nanos||'|'||count_released||'|'||abandon_code FROM submissions";
    assert_eq!(world.one(kept).await, "10|1|results_lost");
    world.assert_replay().await;
}

#[actix::test]
async fn a_batch_without_members_can_be_ended_by_what_the_create_says() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    let refused = world
        .tell(record_submit("b1", BatchEvent::SubmitImpossible))
        .await;
    assert!(
        matches!(refused, Err(StateError::StillOpen { .. })),
        "{refused:?}"
    );
    let mut message = spooled("b1", []);
    message.refused = vec![(key(1), failure(ErrorType::Validation))];
    world.tell(message).await.unwrap();
    let state = world.tell(record_submit("b1", BatchEvent::Withdrawn)).await;
    let code = AbandonCode::Withdrawn;
    assert_eq!(state, Ok(BatchState::Abandoned { code }));
    assert_eq!(
        world.one("SELECT status FROM active_batches").await,
        "failed"
    );
}

/// Sends each of many messages in an order that looks random and is always the same; most are
/// lawless by then. Whatever they do, the sums hold and the history tells the whole story.
#[actix::test]
async fn f06_p5_pages_add_up_after_every_message_in_any_order() {
    let world = World::new().await;
    world.register(1..=6).await;
    let mut seed: u64 = 7;
    let mut die = |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % sides
    };
    let mut planned = 0;
    for step in 0..1_000 {
        let seconds = 1_000 + step;
        let number = u32::try_from(die(6)).unwrap() + 1;
        let live = planned - die(2).min(planned);
        let name = format!("b{live}");
        let remote = RemoteName::from(format!("batches/{name}"));
        match die(12) {
            0 => drop(world.tell(claim(2, seconds)).await),
            1 | 2 => {
                let upload = record_uploads(vec![uploaded(number, seconds)], seconds);
                drop(world.tell(upload).await);
            }
            3 => {
                let members = keys([number, number % 6 + 1]);
                let plan = plan(&format!("b{}", planned + 1), members, seconds);
                if world.tell(plan).await.is_ok() {
                    planned += 1;
                }
            }
            4 => {
                let begin = BeginSubmit {
                    batch: batch(&name),
                    at: at(seconds),
                };
                drop(world.tell(begin).await);
                let accepted = BatchEvent::SubmitAccepted { remote };
                drop(world.tell(record_submit(&name, accepted)).await);
            }
            5 => {
                let offered = Some(BatchEvent::ResultsOffered);
                drop(world.tell(poll(&name, "SUCCEEDED", offered)).await);
            }
            6 => drop(world.tell(collect(&name)).await),
            7 => drop(world.tell(verdicts(&name, vec![accepted(number)])).await),
            8 => {
                let failed = rejected(number, ErrorType::Value, again());
                drop(world.tell(verdicts(&name, vec![failed])).await);
            }
            9 => drop(world.tell(settle(&name)).await),
            10 => {
                let pages = vec![released(number), released(number % 6 + 1)];
                drop(world.tell(end(&name, expired(), pages)).await);
            }
            _ => {
                let cause = RequeueCause::Operator;
                let changes = ScanChanges {
                    requeue: vec![(key(number), PageEvent::Requeued { cause })],
                    ..ScanChanges::default()
                };
                drop(world.tell(scan(changes, seconds)).await);
            }
        }
        assert_eq!(
            world.one("SELECT count(*) FROM pages").await,
            "6",
            "step {step}"
        );
        let strays = "SELECT count(*) FROM pages AS p LEFT JOIN inflight_records AS i
                      ON i.record_key = p.record_key AND i.batch_id = p.batch_id
                      WHERE (p.batch_id IS NULL) <> (i.batch_id IS NULL)";
        assert_eq!(world.one(strays).await, "0", "P2 at step {step}");
        let twice =
            "SELECT count(*) FROM failure_logs GROUP BY record_key, batch_id HAVING count(*) > 1";
        assert!(world.ask(twice).await.is_empty(), "P6 at step {step}");
    }
    world.assert_replay().await;
    let ended = "SELECT count(*) FROM submissions WHERE state IN ('settled', 'abandoned')";
    let ended: u64 = world.one(ended).await.parse().unwrap();
    assert!(
        ended > 5,
        "the walk went nowhere: {ended} of {planned} batches ended"
    );
    let settled = "SELECT count(*) FROM submissions WHERE state = 'settled'";
    assert_ne!(world.one(settled).await, "0");
}

#[actix::test]
async fn a_report_is_kept_once_a_batch() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    for text in ["first", "second"] {
        let report = RecordReport {
            batch: batch("b1"),
            name: "b1.md".to_owned(),
            markdown: text.to_owned(),
            at: at(1),
        };
        world.tell(report).await.unwrap();
    }
    assert_eq!(world.one("SELECT markdown FROM reports").await, "second");
}

// ---- questions ----

#[actix::test]
async fn the_work_left_and_the_summary_tell_what_there_is() {
    let world = World::new().await;
    world.submit("b1", [1]).await;
    let changes = ScanChanges {
        register: vec![new_page(2, Some(1)), new_page(3, None), new_page(4, None)],
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 310)).await.unwrap();
    world.tell(claim(1, 320)).await.unwrap();
    let deferred = UploadRecord {
        event: PageEvent::UploadDeferred {
            until: Some(at(1_000)),
        },
        stored: None,
        ..uploaded(3, 330)
    };
    world
        .tell(record_uploads(vec![deferred], 330))
        .await
        .unwrap();
    let ask = |chained, seconds| ListWork {
        scope: ScopeToken::from("scope"),
        chained,
        at: at(seconds),
    };
    let work = world.tell(ask(true, 340)).await.unwrap();
    let expected = WorkLeft {
        batched: 1,
        live_batches: 1,
        runnable: 1,
        due_at: Some(at(1_000)),
        blocked: 1,
        ..WorkLeft::default()
    };
    assert_eq!(work, expected);
    let work = world.tell(ask(false, 1_000)).await.unwrap();
    assert_eq!((work.runnable, work.blocked, work.due_at), (3, 0, None));

    let summary = Summarize {
        scope: Some(ScopeToken::from("scope")),
        at: at(340),
    };
    let summary = world.tell(summary).await.unwrap();
    let total: u64 = summary.pages.iter().map(|(_stage, count)| count).sum();
    assert_eq!((summary.pages.len(), total), (9, 4));
    assert_eq!((summary.blocked, summary.waiting), (1, 1));
    assert_eq!(summary.batches, [(BatchStage::Submitted, 1)]);
    assert_eq!(summary.live.len(), 1);
    assert_eq!((summary.remote_files, summary.remote_bytes), (2, 2_000));
    assert_eq!(summary.last_event_at, Some(at(330)));
    let run = Some((RunId::from("run-1"), RunStatus::Processing, at(0)));
    assert_eq!(summary.run, run);
}

#[actix::test]
async fn a_page_can_still_come_as_long_as_one_is_runnable_under_way_or_being_judged() {
    let world = World::new().await;
    let ask = async |chained, seconds| {
        let question = MoreCanCome {
            scope: ScopeToken::from("scope"),
            chained,
            at: at(seconds),
        };
        world.tell(question).await.unwrap()
    };
    assert!(!ask(false, 0).await, "there is no page");
    world.submit("b1", [1]).await;
    assert!(!ask(true, 310).await, "none but in a batch");
    let behind = ScanChanges {
        register: vec![new_page(2, Some(1))],
        ..ScanChanges::default()
    };
    world.tell(scan(behind, 310)).await.unwrap();
    assert!(!ask(true, 310).await, "it waits for the batch to end");
    assert!(ask(false, 310).await, "where none waits for another");
    world.ready("b1").await;
    world.tell(collect("b1")).await.unwrap();
    assert!(ask(true, 500).await, "the first one is being judged");
    let put_off = Afterwards::Again {
        not_before: Some(at(100_000)),
    };
    let rejection = rejected(1, ErrorType::Recitation, put_off);
    world.tell(verdicts("b1", vec![rejection])).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    assert!(!ask(true, 610).await, "it is put off");
    assert!(ask(true, 100_000).await, "until it is due");
    world.tell(claim(1, 100_000)).await.unwrap();
    assert!(ask(true, 100_000).await, "it is being uploaded");
}

#[actix::test]
async fn the_summary_adds_up_closed_and_open_batches() {
    let world = World::new().await;
    world.collect("b1", [1]).await;
    world.tell(verdicts("b1", vec![accepted(1)])).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    world.collect("b2", [2]).await;
    let failed = rejected(2, ErrorType::Repetition, again());
    world.tell(verdicts("b2", vec![failed])).await.unwrap();
    let ask = Summarize {
        scope: None,
        at: at(900),
    };
    let summary = world.tell(ask).await.unwrap();
    assert_eq!(summary.cost_nanos, 10);
    assert_eq!(summary.tokens.total, Some(240));
    assert_eq!(summary.failures, [(ErrorType::Repetition, 1)]);
}

// ---- the actor ----

#[actix::test]
async fn f28_changes_never_interleave() {
    let world = World::new().await;
    let sends = (0..50).map(|_| world.tell(start_run()));
    let answers = join_all(sends).await;
    let mut restarts: Vec<u32> = answers
        .into_iter()
        .map(|run| run.unwrap().restarts)
        .collect();
    restarts.sort_unstable();
    assert_eq!(restarts, (1..=50).collect::<Vec<u32>>());
    assert_eq!(world.one("SELECT restarts FROM runs").await, "50");
}

#[actix::test]
async fn a_message_that_fails_leaves_its_neighbors_in_the_group_alone() {
    let world = World::new().await;
    world.upload([1, 2]).await;
    let sends = vec![
        world.tell(plan("b1", keys([1]), 100)),
        world.tell(plan("b2", keys([1, 2]), 100)),
        world.tell(plan("b3", keys([2]), 100)),
    ];
    let answers = join_all(sends).await;
    assert_eq!(answers[0], Ok(()));
    assert!(matches!(answers[1], Err(StateError::Conflict(_))));
    assert_eq!(answers[2], Ok(()));
    assert_eq!(
        world
            .ask("SELECT batch_id FROM submissions ORDER BY 1")
            .await,
        ["b1", "b3"]
    );
    world.assert_replay().await;
}

#[actix::test]
async fn a_caller_that_goes_away_stops_nobody() {
    let world = World::new().await;
    for _ in 0..10 {
        drop(world.state.send(start_run()));
        world.state.do_send(start_run());
    }
    let restarts = world.tell(start_run()).await.unwrap().restarts;
    assert!(restarts >= 11, "{restarts}");
}

#[actix::test]
async fn after_close_everything_is_refused() {
    let world = World::new().await;
    let last = join_all(vec![world.tell(start_run())]);
    let (last, closed, late) =
        futures_util::join!(last, world.tell(Close {}), world.tell(ListInterrupted {}));
    assert_eq!(
        last,
        [Ok(RunStarted {
            restarts: 1,
            first_run: format!("run-1 {}", at(0)),
        })]
    );
    assert_eq!(closed, Ok(()));
    assert_eq!(late, Err(StateError::Closed));
    assert_eq!(world.tell(start_run()).await, Err(StateError::Closed));
    assert_eq!(world.tell(Close {}).await, Err(StateError::Closed));
    let options = StateOptions {
        path: world.path.clone(),
        unlock_behind_dead: false,
    };
    let state = StateActor::open(options).await.unwrap().start();
    let run = state.send(start_run()).await.unwrap().unwrap();
    assert_eq!(run.restarts, 2);
}

#[actix::test]
async fn a_second_open_is_refused_while_the_first_lives() {
    let world = World::new().await;
    let options = StateOptions {
        path: world.path.clone(),
        unlock_behind_dead: false,
    };
    let refused = StateActor::open(options).await.err().unwrap();
    let path = world.path.clone();
    assert_eq!(refused, OpenError::InUse { path });
    assert!(
        refused
            .to_string()
            .contains(&world.path.display().to_string())
    );
}
