//! The figures of reports: equal to what SQL counts, and booked so that days add up to the whole.

use pagemill::actors::state::figures::{batches_like, figures};
use pagemill::actors::state::messages::*;
use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::decide::report_due::ReportRules;
use pagemill::domain::failure::ErrorType;
use pagemill::domain::figures::{Figures, Subject, Sums};
use pagemill::domain::ids::*;
use pagemill::domain::layout::Layout;
use pagemill::domain::page::Afterwards;
use pagemill::domain::period::{Day, Period, PeriodKind, Stretch, Zone};
use pagemill::domain::time::Timestamp;
use pagemill::pipeline::period_report::Shape;
use pagemill::pipeline::upkeep::{Upkeep, UpkeepPlan};
use pagemill::ports::archive::StopWord;
use pagemill::report::Format;

use crate::kit::state_world::*;

async fn of(world: &World, subject: &Subject, zone: &str) -> Figures {
    let zone = Zone::parse(zone).unwrap();
    figures(&world.db, subject, &zone, 100).await.unwrap()
}

async fn everything(world: &World) -> Figures {
    of(world, &Subject::Time(Stretch::everything()), "UTC").await
}

/// The figures of so many days from one on, and what they add up to.
async fn days(world: &World, first: &str, count: i64, zone: &str) -> (Vec<u64>, Sums) {
    let mut requests = Vec::new();
    let mut sum = Sums::default();
    for day in 0..count {
        let day = Day::parse(first).unwrap().plus(day);
        let period = Period::of(PeriodKind::Day, day, Zone::parse(zone).unwrap());
        let found = of(world, &Subject::Time(period.stretch()), zone).await;
        let mut by_hour = Sums::default();
        found.by_part.iter().for_each(|part| by_hour.add(part));
        assert_eq!(by_hour, found.sums, "the hours of {day} add up to it");
        requests.push(found.sums.tally.submitted);
        sum.add(&found.sums);
    }
    (requests, sum)
}

async fn submitted_at(world: &World, name: &str, at: &str) {
    let sql = format!("UPDATE submissions SET submitted_at = '{at}' WHERE batch_id = '{name}'");
    world.meddle(&sql).await;
}

#[actix::test]
async fn s3_12_a_batch_belongs_to_the_day_of_its_submission_in_the_zone() {
    let world = World::new().await;
    // The last instant of the 25th in UTC and the first of the 26th; the same in Berlin, on whose
    // 26th the clocks go back.
    for (place, at) in [
        "2025-10-25T21:59:59.999999Z",
        "2025-10-25T22:00:00.000000Z",
        "2025-10-25T23:59:59.999999Z",
        "2025-10-26T00:00:00.000000Z",
        "2025-10-26T22:59:59.999999Z",
        "2025-10-26T23:00:00.000000Z",
    ]
    .into_iter()
    .enumerate()
    {
        let (name, first) = (format!("b{place}"), 10 * place as u32);
        world.submit(&name, first..=first + place as u32).await;
        submitted_at(&world, &name, at).await;
    }
    let whole = everything(&world).await;
    assert_eq!(whole.sums.tally.submitted, 21);
    assert_eq!(whole.sums.tally.open, 21);

    let (requests, sum) = days(&world, "2025-10-24", 5, "UTC").await;
    assert_eq!(requests, [0, 1 + 2 + 3, 4 + 5 + 6, 0, 0]);
    assert_eq!(sum, whole.sums);
    let (requests, sum) = days(&world, "2025-10-24", 5, "Europe/Berlin").await;
    assert_eq!(requests, [0, 1, 2 + 3 + 4 + 5, 6, 0]);
    assert_eq!(sum, whole.sums);
}

#[actix::test]
async fn s3_13_what_comes_late_is_booked_to_the_day_on_which_it_was_asked_for() {
    let world = World::new().await;
    world.submit("b1", [1, 2, 3]).await;
    submitted_at(&world, "b1", "2026-11-20T23:59:59.000000Z").await;
    world.ready("b1").await;
    world.tell(collect("b1")).await.unwrap();
    // Days pass before the answers are judged: all tests of this kit end on the 22nd.
    let judged = vec![
        accepted(1),
        accepted(2),
        rejected(3, ErrorType::Value, again()),
    ];
    world.tell(verdicts("b1", judged)).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    let (requests, sum) = days(&world, "2026-11-20", 3, "UTC").await;
    assert_eq!(requests, [3, 0, 0]);
    assert_eq!(sum, everything(&world).await.sums);
    let day = |day: &str| Period::of(PeriodKind::Day, Day::parse(day).unwrap(), Zone::utc());
    let asked = of(&world, &Subject::Time(day("2026-11-20").stretch()), "UTC").await;
    assert_eq!(asked.failed_total, 1);
    assert_eq!(asked.errors[0].error, ErrorType::Value);
    let judged = of(&world, &Subject::Time(day("2026-11-22").stretch()), "UTC").await;
    assert_eq!(judged.failed_total, 0);
    // Images are booked when they were carried up.
    assert_eq!((asked.images.files, judged.images.files), (0, 3));
}

#[actix::test]
async fn s2_05_figures_are_what_sql_counts() {
    let world = World::new().await;
    world.collect("b1", [1, 2, 3, 4]).await;
    let dead = Afterwards::Dead;
    let judged = vec![
        accepted(1),
        accepted(2),
        rejected(3, ErrorType::Validation, again()),
        rejected(4, ErrorType::ContentFiltered, dead),
    ];
    world.tell(verdicts("b1", judged)).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    world.submit("b2", [11, 12]).await;
    let whole = everything(&world).await;
    let count = |sql: &str| {
        let sql = sql.to_owned();
        let world = &world;
        async move { world.one(&sql).await.parse::<u64>().unwrap() }
    };
    let tally = whole.sums.tally;
    let where_is =
        |outcome: &str| format!("SELECT count(*) FROM attempts WHERE outcome = '{outcome}'");
    assert_eq!(
        tally.submitted,
        count("SELECT count(*) FROM attempts").await
    );
    assert_eq!(tally.succeeded, count(&where_is("accepted")).await);
    assert_eq!(tally.failed, count(&where_is("rejected")).await);
    assert_eq!(tally.open, count(&where_is("pending")).await);
    let tokens = count("SELECT sum(tokens_total) FROM attempts").await;
    assert_eq!(whole.sums.tokens.total, Some(tokens));
    let cost = count("SELECT sum(cost_nanos) FROM attempts").await;
    assert_eq!(whole.sums.cost_nanos, cost);
    let pages: u64 = whole.pages.iter().map(|(_stage, count)| count).sum();
    assert_eq!(pages, count("SELECT count(*) FROM pages").await);
    let failures: u64 = whole.errors.iter().map(|e| e.counted + e.uncounted).sum();
    assert_eq!(failures, count("SELECT count(*) FROM failure_logs").await);
    // Pages that are not sent again stand first.
    let failed: Vec<&str> = whole.failed.iter().map(|page| page.key.as_str()).collect();
    assert_eq!(failed, [key(4).as_str(), key(3).as_str()]);
    assert_eq!((whole.failed_dead, whole.failed_done), (1, 0));
    for by in [
        whole
            .by_level
            .iter()
            .map(|(_, sums)| *sums)
            .collect::<Vec<Sums>>(),
        whole.by_try.iter().map(|(_, sums)| *sums).collect(),
        whole.by_recipe.iter().map(|recipe| recipe.sums).collect(),
        whole.by_part.clone(),
    ] {
        let mut sum = Sums::default();
        by.iter().for_each(|part| sum.add(part));
        sum.batches = whole.sums.batches;
        assert_eq!(sum, whole.sums);
    }
    assert_eq!(whole.by_level[0].0, "Alabama");

    let of_batch = of(&world, &Subject::Batch(batch("b1")), "UTC").await;
    assert_eq!(of_batch.sums.tally.submitted, 4);
    assert_eq!(of_batch.failed_total, 2);
    assert_eq!(of_batch.images.files, 4);
    let of_run = of(&world, &Subject::Run(RunId::from("run-1")), "UTC").await;
    assert_eq!(of_run.sums, whole.sums);
    assert_eq!(of_run.failed, whole.failed);
    let nobody = of(&world, &Subject::Run(RunId::from("run-2")), "UTC").await;
    assert_eq!(nobody.sums, Sums::default());
}

#[actix::test]
async fn failures_that_no_batch_has_seen_are_booked_when_they_happened() {
    let world = World::new().await;
    world.register([1]).await;
    world.tell(claim(10, 10)).await.unwrap();
    let refused = UploadRecord {
        key: key(1),
        event: pagemill::domain::page::PageEvent::UploadRefused {
            error: ErrorType::Image,
        },
        stored: None,
        failure: Some((failure(ErrorType::Image), Counted::Yes)),
        cycle_spent: false,
        note: String::new(),
    };
    world.tell(record_uploads(vec![refused], 20)).await.unwrap();
    let day = |text: &str| {
        let day = Day::parse(text).unwrap();
        Subject::Time(Period::of(PeriodKind::Day, day, Zone::utc()).stretch())
    };
    assert_eq!(of(&world, &day("2026-11-22"), "UTC").await.failed_total, 1);
    assert_eq!(of(&world, &day("2026-11-21"), "UTC").await.failed_total, 0);
    assert_eq!(everything(&world).await.failed_total, 1);
    let of_run = of(&world, &Subject::Run(RunId::from("run-1")), "UTC").await;
    assert_eq!(of_run.failed_total, 1);
}

/// What is kept up in a world, with daily reports of Berlin.
fn upkeep(world: &World, folder: &std::path::Path) -> Upkeep {
    let layout = Layout::parse("{state}/{school}/{year}/{page}").unwrap();
    let files = Filesystem::new(FilesystemOptions {
        label_dir: folder.join("labels"),
        image_dir: folder.join("images"),
        output_dir: folder.join("outputs"),
        work_dir: folder.to_path_buf(),
        layout,
        image_bytes_max: 1,
        line_bytes_max: 1,
        writers: 1,
        free_bytes_min: 0,
    });
    let plan = UpkeepPlan {
        database: world.path.clone(),
        archive: std::rc::Rc::new(files),
        reports: ReportRules {
            daily: true,
            weekly: false,
            zone: Zone::parse("Europe/Berlin").unwrap(),
        },
        formats: vec![Format::Markdown, Format::Json],
        shape: Shape {
            level: Some("state".to_owned()),
            max_retries: 3,
        },
        compress_after: None,
        compress_exports: false,
    };
    Upkeep::new(plan, world.state.clone(), StopWord::default())
}

#[actix::test]
async fn s2_40_a_day_is_reported_when_its_midnight_has_passed_and_again_when_its_answers_came() {
    let world = World::new().await;
    world.collect("b1", [1, 2]).await;
    // In Berlin that is the 21st, and the 21st is over at 23:00 in UTC.
    submitted_at(&world, "b1", "2026-11-21T22:30:00.000000Z").await;
    let created = "UPDATE remote_files SET created_at = '2026-11-21T22:00:00.000000Z'";
    world.meddle(created).await;
    let folder = tempfile::tempdir().unwrap();
    let upkeep = upkeep(&world, folder.path());
    let path = folder.path().join("reports/daily/2026-11-21.md");
    let look = |at: &'static str| {
        let upkeep = &upkeep;
        async move {
            upkeep
                .look(Timestamp::parse(at).unwrap())
                .await
                .unwrap()
                .reports
        }
    };
    assert_eq!(look("2026-11-21T22:59:59.999999Z").await, 0);
    assert!(!path.exists());
    assert_eq!(look("2026-11-21T23:00:00Z").await, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("Beside them 2 still open."), "{text}");
    // Not again at once, and again when there may be more to tell.
    assert_eq!(look("2026-11-21T23:59:59Z").await, 0);
    let judged = vec![accepted(1), rejected(2, ErrorType::Value, again())];
    world.tell(verdicts("b1", judged)).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    assert_eq!(look("2026-11-22T00:00:00Z").await, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("Processed 2 records: 1 succeeded, 1 failed."),
        "{text}"
    );
    assert!(path.with_extension("json").exists());
    // Nothing is open any more: that is its last form. Weeks without work leave no reports.
    assert_eq!(look("2026-11-30T00:00:00Z").await, 0);
    let written = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(written, 2);
    let row =
        "SELECT first_day||' '||requests||' '||requests_open||' '||created_at FROM period_reports";
    assert_eq!(
        world.one(row).await,
        "2026-11-21 2 0 2026-11-21T23:00:00.000000Z"
    );
}

#[actix::test]
async fn questions_about_a_day_read_what_is_booked_in_it_and_no_more() {
    let world = World::new().await;
    for (name, sql) in pagemill::actors::state::figures::questions_of_time() {
        let sql = format!("EXPLAIN QUERY PLAN {sql}");
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
        let steps = sea_orm::ConnectionTrait::query_all_raw(&world.db, statement);
        for step in steps.await.unwrap() {
            let step = step.try_get::<String>("", "detail").unwrap();
            // A list that was made by the steps before, or nothing at all.
            let is_small = ["SCAN n", "SCAN CONSTANT ROW"].contains(&step.as_str());
            assert!(!step.starts_with("SCAN") || is_small, "{name}: {step}");
            assert!(!step.contains("AUTOMATIC"), "{name}: {step}");
        }
    }
}

#[actix::test]
async fn ids_are_found_by_their_beginning_whatever_stands_in_it() {
    let world = World::new().await;
    world.plan("01a-1", [1]).await;
    world.plan("01a-2", [2]).await;
    world.plan("01b", [3]).await;
    let alike = |prefix: &'static str| {
        let world = &world;
        async move { batches_like(&world.db, prefix, 2).await.unwrap() }
    };
    assert_eq!(alike("01a").await, ["01a-1", "01a-2"]);
    assert_eq!(alike("01b").await, ["01b"]);
    assert_eq!(alike("%").await, Vec::<String>::new());
    assert_eq!(alike("").await.len(), 2);
}
