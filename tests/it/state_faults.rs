//! What happens to the state when a write fails, a process dies, or the file is the wrong one.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, Context, Handler};
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::*;
use pagemill::actors::state::open::{OpenError, StateOptions, sqlite_path};
use pagemill::actors::state::read::{open_read_only, summarize};
use pagemill::domain::batch::{AbandonCode, BatchEvent};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::RunId;
use pagemill::domain::page::{PageEvent, PageStage};
use pagemill::meter::database::Book;
use sea_orm::ConnectionTrait;
use tempfile::TempDir;

use crate::kit::state_world::*;

/// Refuses every write of one kind to one table, until it is dropped.
async fn with_fault<T>(world: &World, table: &str, write: &str, act: impl AsyncFnOnce() -> T) -> T {
    world
        .meddle(&format!(
            "CREATE TRIGGER fault BEFORE {write} ON {table} BEGIN SELECT RAISE(ABORT, 'fault'); END"
        ))
        .await;
    let result = act().await;
    world.meddle("DROP TRIGGER fault").await;
    result
}

/// With the fault nothing at all is changed; without it the message does what it should.
async fn check_fault<M, R>(world: &World, table: &str, write: &str, message: M)
where
    M: actix::Message<Result = StateResult<R>> + Clone + Send + 'static,
    R: Send + std::fmt::Debug + 'static,
    StateActor: actix::Handler<M>,
    <StateActor as Actor>::Context: actix::dev::ToEnvelope<StateActor, M>,
{
    let before = world.everything().await;
    let answer = with_fault(world, table, write, async || world.tell(message).await).await;
    assert!(
        matches!(answer, Err(StateError::Db(_))),
        "{write} {table}: {answer:?}"
    );
    assert_eq!(world.everything().await, before, "{write} {table}");
}

#[actix::test]
async fn a_failed_write_of_a_scan_changes_nothing() {
    let world = World::new().await;
    world.register([1]).await;
    let changes = ScanChanges {
        register: vec![new_page(2, None), new_page(3, Some(1))],
        adopt: vec![AdoptedOutput {
            key: key(1),
            sha256: sha("old"),
            bytes: 1,
        }],
        ..ScanChanges::default()
    };
    for (table, write) in [
        ("pages", "INSERT"),
        ("pages", "UPDATE"),
        ("page_events", "INSERT"),
    ] {
        check_fault(&world, table, write, scan(changes.clone(), 1)).await;
    }
    world.tell(scan(changes, 1)).await.unwrap();
    world.assert_replay().await;
}

#[actix::test]
async fn a_failed_write_of_an_upload_changes_nothing() {
    let world = World::new().await;
    world.register([1, 2]).await;
    for (table, write) in [("pages", "UPDATE"), ("page_events", "INSERT")] {
        check_fault(&world, table, write, claim(10, 1)).await;
    }
    world.tell(claim(10, 1)).await.unwrap();
    let refused = UploadRecord {
        event: PageEvent::UploadRefused {
            error: ErrorType::Image,
        },
        stored: None,
        failure: Some((failure(ErrorType::Image), Counted::Yes)),
        ..uploaded(2, 2)
    };
    let uploads = record_uploads(vec![uploaded(1, 2), refused], 2);
    for (table, write) in [
        ("pages", "UPDATE"),
        ("page_events", "INSERT"),
        ("remote_files", "INSERT"),
        ("failure_logs", "INSERT"),
        ("failure_counts", "INSERT"),
    ] {
        check_fault(&world, table, write, uploads.clone()).await;
    }
    world.tell(uploads).await.unwrap();
}

#[actix::test]
async fn a_failed_write_of_a_plan_changes_nothing() {
    let world = World::new().await;
    world.upload([1, 2]).await;
    let plan = plan("b1", keys([1, 2]), 100);
    for (table, write) in [
        ("submissions", "INSERT"),
        ("submission_events", "INSERT"),
        ("active_batches", "INSERT"),
        ("batch_record_keys", "INSERT"),
        ("inflight_records", "INSERT"),
        ("attempts", "INSERT"),
        ("pages", "UPDATE"),
        ("page_events", "INSERT"),
    ] {
        check_fault(&world, table, write, plan.clone()).await;
    }
    world.tell(plan).await.unwrap();
    let mut message = spooled("b1", [1]);
    message.refused = vec![(key(2), failure(ErrorType::Validation))];
    for (table, write) in [
        ("submissions", "UPDATE"),
        ("attempts", "UPDATE"),
        ("attempts", "DELETE"),
        ("inflight_records", "DELETE"),
        ("batch_record_keys", "DELETE"),
        ("remote_files", "UPDATE"),
        ("failure_logs", "INSERT"),
        ("failure_counts", "INSERT"),
    ] {
        check_fault(&world, table, write, message.clone()).await;
    }
    world.tell(message).await.unwrap();
}

#[actix::test]
async fn a_failed_write_of_a_submission_changes_nothing() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(220),
    };
    for table in ["submissions", "active_batches"] {
        check_fault(&world, table, "UPDATE", begin.clone()).await;
    }
    check_fault(&world, "submission_events", "INSERT", begin.clone()).await;
    world.tell(begin).await.unwrap();
    let unclear = record_submit("b1", BatchEvent::SubmitUnclear { at: at(230) });
    check_fault(&world, "submission_events", "INSERT", unclear).await;
}

#[actix::test]
async fn a_failed_write_of_an_end_changes_nothing() {
    let world = World::new().await;
    world.submit("b1", [1, 2]).await;
    let event = BatchEvent::EndedEmpty {
        code: AbandonCode::Failed,
    };
    let spent = PageEvent::ReleasesSpent {
        error: ErrorType::Api,
    };
    let pages = vec![
        (key(1), PageEvent::Released { at: at(800) }),
        (key(2), spent),
    ];
    let end = end("b1", event, pages);
    for (table, write) in [
        ("submissions", "UPDATE"),
        ("active_batches", "UPDATE"),
        ("submission_events", "INSERT"),
        ("attempts", "UPDATE"),
        ("inflight_records", "DELETE"),
        ("remote_files", "UPDATE"),
        ("pages", "UPDATE"),
        ("page_events", "INSERT"),
    ] {
        check_fault(&world, table, write, end.clone()).await;
    }
    world.tell(end).await.unwrap();
}

#[actix::test]
async fn a_failed_write_of_verdicts_or_a_settlement_changes_nothing() {
    let world = World::new().await;
    world.submit("b1", [1, 2]).await;
    world.ready("b1").await;
    for (table, write) in [
        ("submissions", "UPDATE"),
        ("pages", "UPDATE"),
        ("page_events", "INSERT"),
    ] {
        check_fault(&world, table, write, collect("b1")).await;
    }
    world.tell(collect("b1")).await.unwrap();
    let judged = vec![accepted(1), rejected(2, ErrorType::Value, again())];
    let judged = verdicts("b1", judged);
    for (table, write) in [
        ("pages", "UPDATE"),
        ("page_events", "INSERT"),
        ("attempts", "UPDATE"),
        ("failure_logs", "INSERT"),
        ("failure_counts", "INSERT"),
    ] {
        check_fault(&world, table, write, judged.clone()).await;
    }
    world.tell(judged).await.unwrap();
    for (table, write) in [
        ("submissions", "UPDATE"),
        ("active_batches", "UPDATE"),
        ("submission_events", "INSERT"),
        ("inflight_records", "DELETE"),
        ("pages", "UPDATE"),
        ("remote_files", "UPDATE"),
        ("remote_files", "INSERT"),
    ] {
        check_fault(&world, table, write, settle("b1")).await;
    }
    world.tell(settle("b1")).await.unwrap();
    world.assert_replay().await;
}

#[actix::test]
async fn a_failed_write_of_a_run_or_a_recovery_changes_nothing() {
    let world = World::new().await;
    world.register([1]).await;
    world.tell(claim(1, 1)).await.unwrap();
    check_fault(&world, "runs", "UPDATE", start_run()).await;
    let mut other = start_run();
    other.run = RunId::from("run-2");
    other.recipe.hash = "recipe-2".into();
    for table in ["runs", "recipes"] {
        check_fault(&world, table, "INSERT", other.clone()).await;
    }
    let finish = FinishRun {
        run: RunId::from("run-1"),
        status: RunStatus::Completed,
        at: at(2),
    };
    check_fault(&world, "runs", "UPDATE", finish).await;
    let recovery = ApplyRecovery {
        pages: vec![(key(1), PageEvent::UploadDeferred { until: None })],
        batches: vec![],
        at: at(3),
    };
    for (table, write) in [("pages", "UPDATE"), ("page_events", "INSERT")] {
        check_fault(&world, table, write, recovery.clone()).await;
    }
    let oddities = RecordOddities {
        run: RunId::from("run-1"),
        oddities: vec![OddityRow {
            path: "x".to_owned(),
            kind: "y".to_owned(),
            detail: "z".to_owned(),
        }],
        at: at(4),
    };
    check_fault(&world, "scan_oddities", "INSERT", oddities.clone()).await;
    world.tell(oddities.clone()).await.unwrap();
    check_fault(&world, "scan_oddities", "DELETE", oddities).await;
}

#[actix::test]
async fn a_failed_write_about_a_lines_file_or_a_job_changes_nothing() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    let sent = RecordJsonlUploaded {
        batch: batch("b1"),
        file: stored_file("files/lines", DAY),
        at: at(210),
    };
    for (table, write) in [("remote_files", "INSERT"), ("submissions", "UPDATE")] {
        check_fault(&world, table, write, sent.clone()).await;
    }
    world.tell(sent).await.unwrap();
    let forget = ForgetJsonl {
        batch: batch("b1"),
        at: at(211),
    };
    for table in ["remote_files", "submissions"] {
        check_fault(&world, table, "UPDATE", forget.clone()).await;
    }
    world.tell(forget).await.unwrap();
    let deleted = RecordDeletions {
        files: vec![("files/lines".into(), DeleteOutcome::Deleted)],
        at: at(212),
    };
    check_fault(&world, "remote_files", "UPDATE", deleted).await;
    let report = RecordReport {
        batch: batch("b1"),
        name: "b1.md".to_owned(),
        markdown: "text".to_owned(),
        at: at(213),
    };
    check_fault(&world, "reports", "INSERT", report).await;
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(220),
    };
    world.tell(begin).await.unwrap();
    let unclear = BatchEvent::SubmitUnclear { at: at(230) };
    world.tell(record_submit("b1", unclear)).await.unwrap();
    let look = RecordLookup {
        batch: batch("b1"),
        event: Some(BatchEvent::LookupFound {
            remote: "batches/1".into(),
        }),
        extra: vec![],
        at: at(240),
    };
    for (table, write) in [("submissions", "UPDATE"), ("submission_events", "INSERT")] {
        check_fault(&world, table, write, look.clone()).await;
    }
    world.tell(look).await.unwrap();
    let offered = poll("b1", "SUCCEEDED", Some(BatchEvent::ResultsOffered));
    for (table, write) in [
        ("submissions", "UPDATE"),
        ("active_batches", "UPDATE"),
        ("submission_events", "INSERT"),
    ] {
        check_fault(&world, table, write, offered.clone()).await;
    }
}

#[actix::test]
async fn a_transaction_that_ends_by_itself_fails_its_whole_group_and_nothing_after() {
    let world = World::new().await;
    world
        .meddle(
            "CREATE TRIGGER fault BEFORE INSERT ON scan_oddities
             BEGIN SELECT RAISE(ROLLBACK, 'the disk is full'); END",
        )
        .await;
    let oddities = RecordOddities {
        run: RunId::from("run-1"),
        oddities: vec![OddityRow {
            path: "x".to_owned(),
            kind: "y".to_owned(),
            detail: "z".to_owned(),
        }],
        at: at(1),
    };
    world.tell(Close {}).await.unwrap();
    let book = Arc::new(Book::default());
    let state = StateActor::open(options(&world.path)).await.unwrap();
    let state = state.metered(Arc::clone(&book)).start();
    // While the first one waits for a lock of ours, the others come together.
    world.meddle("BEGIN IMMEDIATE").await;
    let first = actix_rt::spawn(state.send(start_run()));
    while book.read().takes < 1 {
        tokio::task::yield_now().await;
    }
    let (before, failed, after, ()) = futures_util::join!(
        state.send(start_run()),
        state.send(oddities.clone()),
        state.send(start_run()),
        async {
            for _turn in 0..100 {
                tokio::task::yield_now().await;
            }
            world.meddle("COMMIT").await;
        }
    );
    first.await.unwrap().unwrap().unwrap();
    let (before, failed, after) = (before.unwrap(), failed.unwrap(), after.unwrap());
    assert!(matches!(before, Err(StateError::Db(_))), "{before:?}");
    assert!(matches!(failed, Err(StateError::Db(_))), "{failed:?}");
    assert!(matches!(after, Err(StateError::Db(_))), "{after:?}");
    assert_eq!(
        state.send(start_run()).await.unwrap(),
        Ok(RunStarted {
            restarts: 2,
            first_run: format!("run-1 {}", at(0)),
        })
    );
    world.meddle("DROP TRIGGER fault").await;
    state.send(oddities).await.unwrap().unwrap();
    assert_eq!(world.one("SELECT restarts FROM runs").await, "2");
}

#[actix::test]
async fn a_row_that_cannot_be_is_named_and_nothing_is_done() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    world.register([2]).await;
    world
        .meddle(
            "PRAGMA ignore_check_constraints = ON;
             UPDATE pages SET not_before = 'soon' WHERE page_number = 2;
             UPDATE submissions SET state = 'lost';",
        )
        .await;
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(220),
    };
    let answer = world.tell(begin).await;
    assert!(
        matches!(&answer, Err(StateError::CorruptRow { thing, .. }) if thing == "batch 'b1'"),
        "{answer:?}"
    );
    let gone = ScanChanges {
        label_vanished: keys([2]),
        ..ScanChanges::default()
    };
    let answer = world.tell(scan(gone, 1)).await;
    assert!(
        matches!(answer, Err(StateError::CorruptRow { .. })),
        "{answer:?}"
    );
}

// ---- opening ----

fn options(path: &std::path::Path) -> StateOptions {
    StateOptions {
        path: path.to_owned(),
        unlock_behind_dead: false,
    }
}

async fn start(path: &std::path::Path) -> Addr<StateActor> {
    StateActor::open(options(path)).await.unwrap().start()
}

/// The sentence with which a path is refused; the file is the same afterwards.
async fn refusal(path: &std::path::Path) -> OpenError {
    let before = std::fs::read(path).unwrap();
    let error = StateActor::open(options(path)).await.err().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), before);
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
    error
}

/// Ends an actor at once, as a crash would: what it was doing is dropped where it stands.
struct Kill;

impl actix::Message for Kill {
    type Result = ();
}

impl Handler<Kill> for StateActor {
    type Result = ();

    fn handle(&mut self, _kill: Kill, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[actix::test]
async fn a_crash_loses_nothing_that_was_answered_and_leaves_no_half_change() {
    let world = World::new().await;
    world.submit("b1", [1, 2]).await;
    let register = (100..600).map(|number| new_page(number, None)).collect();
    let changes = ScanChanges {
        register,
        ..ScanChanges::default()
    };
    let cut_off = world.state.send(scan(changes.clone(), 310));
    let killed = world.state.send(Kill);
    let (cut_off, killed) = futures_util::join!(cut_off, killed);
    killed.unwrap();

    let state = start(&world.path).await;
    let pages = world.one("SELECT count(*) FROM pages").await;
    let was_answered = matches!(cut_off, Ok(Ok(())));
    let is_half = pages != "502" && (was_answered || pages != "2");
    assert!(!is_half, "{pages} {cut_off:?}");
    world.assert_replay().await;
    assert_eq!(world.stage(1).await, "batched");
    assert_eq!(
        world.one("SELECT state FROM submissions").await,
        "submitted"
    );
    state.send(scan(changes, 310)).await.unwrap().unwrap();
    assert_eq!(world.one("SELECT count(*) FROM pages").await, "502");
}

const HOLD: &str = "PAGEMILL_TEST_HOLD";

/// Not a promise by itself: the process that the next test starts and kills.
#[actix::test]
async fn a_process_that_holds_the_state() {
    let Some(path) = std::env::var_os(HOLD) else {
        return;
    };
    let _state = start(&PathBuf::from(path)).await;
    println!("holding");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[actix::test]
async fn f28_a_second_process_is_refused_and_a_killed_one_blocks_nobody() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "state_faults::a_process_that_holds_the_state",
        ])
        .env(HOLD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let held = lines
        .map_while(Result::ok)
        .any(|line| line.contains("holding"));
    assert!(held, "the other process did not open the state");
    let refused = StateActor::open(options(&path)).await.err().unwrap();
    assert_eq!(refused, OpenError::InUse { path: path.clone() });
    holder.kill().unwrap();
    holder.wait().unwrap();
    start(&path).await;
}

#[actix::test]
async fn p2_a_database_behind_a_link_has_the_same_lock() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    let link = folder.path().join("link.db");
    let _held = start(&path).await;
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let refused = refusal(&link).await;
    assert_eq!(refused, OpenError::InUse { path: link });
}

#[actix::test]
async fn p13_a_lock_that_is_a_link_is_not_followed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    let theirs = folder.path().join("theirs");
    std::os::unix::fs::symlink(&theirs, folder.path().join("state.db.lock")).unwrap();
    let error = StateActor::open(options(&path)).await.err().unwrap();
    assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
    assert!(
        error.to_string().contains("is a link; remove it"),
        "{error}"
    );
    assert!(!theirs.exists() && !path.exists());
}

#[actix::test]
async fn a_file_that_is_no_database_is_refused_unchanged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, "key,value\n1,2\n").unwrap();
    let error = refusal(&path).await;
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[actix::test]
async fn a_damaged_database_is_refused_unchanged() {
    let world = World::new().await;
    world.register(1..500).await;
    world.tell(Close {}).await.unwrap();
    world.db.close_by_ref().await.unwrap();
    let mut bytes = std::fs::read(&world.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0x5a);
    std::fs::write(&world.path, bytes).unwrap();
    let error = refusal(&world.path).await;
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    let error = open_read_only(&world.path).await.err().unwrap();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[actix::test]
async fn a_database_of_another_program_is_refused_unchanged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    let db = made(&path).await;
    db.execute_unprepared("CREATE TABLE songs (title TEXT)")
        .await
        .unwrap();
    db.close_by_ref().await.unwrap();
    let error = refusal(&path).await;
    assert_eq!(error, OpenError::Foreign { path });
}

#[actix::test]
async fn a_database_of_a_newer_program_is_refused_unchanged() {
    let world = World::new().await;
    world.tell(Close {}).await.unwrap();
    let newer = "INSERT INTO seaql_migrations VALUES ('m20991231_000001_later', 1)";
    world.meddle(newer).await;
    world.db.close_by_ref().await.unwrap();
    let error = refusal(&world.path).await;
    let (path, version) = (world.path.clone(), "m20991231_000001_later".to_owned());
    assert_eq!(error, OpenError::Newer { path, version });
}

#[actix::test]
async fn f28_readers_work_beside_the_process_that_writes_and_cannot_write() {
    let world = World::new().await;
    world.register([1, 2]).await;
    let db = open_read_only(&world.path).await.unwrap();
    let summary = summarize(&db, None, at(1)).await.unwrap();
    assert_eq!(summary.pages[0], (PageStage::Discovered, 2));
    world.register([3]).await;
    let summary = summarize(&db, None, at(1)).await.unwrap();
    assert_eq!(summary.pages[0], (PageStage::Discovered, 3));
    assert!(db.execute_unprepared("DELETE FROM pages").await.is_err());
}

#[actix::test]
async fn there_is_nothing_to_read_before_the_first_run() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    let error = open_read_only(&path).await.err().unwrap();
    assert_eq!(error, OpenError::Missing { path: path.clone() });
    assert!(!path.exists(), "reading makes no file");
}

#[test]
fn addresses_name_files() {
    let base = PathBuf::from("/srv/run");
    let check = |url: &str, expected: Option<&str>| {
        let path = sqlite_path(url, &base).ok();
        assert_eq!(path, expected.map(PathBuf::from), "{url}");
    };
    check("sqlite://data/state.db", Some("/srv/run/data/state.db"));
    check("sqlite:///var/state.db", Some("/var/state.db"));
    check("sqlite:state.db?mode=rwc", Some("/srv/run/state.db"));
    check("sqlite://", None);
    check("sqlite::memory:", None);
    check("postgres://host/db", None);
}
