//! What operators are told: the figures are those of the tables, and no question walks a large one.

use pagemill::actors::state::desk_pages::list_stage;
use pagemill::actors::state::desk_runs::{self, Named};
use pagemill::actors::state::desk_status::{self, Desk, Terms};
use pagemill::actors::state::messages::*;
use pagemill::actors::state::{desk, read};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::*;
use pagemill::domain::page::{Afterwards, PageStage};
use pagemill::domain::selection::{LevelChoice, LevelFilter, Selection};
use sea_orm::DatabaseConnection;
use std::time::Duration;

use crate::kit::large_state::LargeState;
use crate::kit::state_world::*;
use crate::schema::{migrated, query_plan};

const SCOPE: &str = "scope";
/// When the large state was looked at.
const NOW: u64 = 40 * DAY;
/// The stages of what is neither on the work list nor at rest.
const MIDDLE: &str = "('uploading','uploaded','batched','validating')";

fn terms() -> Terms {
    Terms {
        scope: ScopeToken::from(SCOPE),
        chained: true,
        uncollected_after: Duration::from_secs(6 * 3_600),
    }
}

/// A hundred books in the middle of their work.
async fn large() -> World {
    let world = World::new().await;
    world.meddle("DELETE FROM runs; DELETE FROM recipes").await;
    let large = LargeState {
        pages: 20_000,
        batches: 60,
        events: 2,
        failures: 500,
        scope: SCOPE,
        now: at(NOW),
    };
    large.fill(&world.path).await;
    world
}

async fn look(world: &World) -> (Summary, Desk) {
    let summary = read::summarize(&world.db, None, at(NOW)).await.unwrap();
    let desk = desk_status::desk(&world.db, &terms(), at(NOW)).await;
    (summary, desk.unwrap())
}

async fn number(world: &World, sql: &str) -> u64 {
    world.one(sql).await.parse().unwrap()
}

/// A whole table is walked in a covering index only, and only to be counted; the small tables may
/// be walked as they are.
async fn assert_walks_nothing_large(db: &DatabaseConnection, name: &str, sql: &str) {
    const LARGE: [&str; 4] = ["pages", "page_events", "attempts", "batch_record_keys"];
    let plan = query_plan(db, sql).await;
    let from = |table: &str| {
        // A table or its alias; each statement names an alias of a large table once.
        let mut names = vec![table.to_owned()];
        let mut rest = sql;
        while let Some((_, after)) = rest.split_once(&format!("{table} AS ")) {
            let alias: String = after.chars().take_while(|c| c.is_alphanumeric()).collect();
            names.push(alias);
            rest = after;
        }
        names
    };
    for step in plan.lines() {
        assert!(!step.contains("AUTOMATIC"), "{name}:\n{plan}");
        let Some(scanned) = step.strip_prefix("SCAN ") else {
            continue;
        };
        let is_large = LARGE.iter().any(|table| {
            from(table)
                .iter()
                .any(|alias| scanned.split(' ').next() == Some(alias))
        });
        let in_an_index = scanned.contains("COVERING INDEX")
            // An index that holds nothing but what is asked for.
            || ["pages_faults", "pages_due", "pages_blocked", "pages_runnable"]
                .iter()
                .any(|index| scanned.contains(index))
            // From its end, and no further than to the first rows.
            || (scanned == "page_events" && sql.contains("ORDER BY id DESC"));
        assert!(!is_large || in_an_index, "{name}: {step}\n{plan}");
    }
    assert!(
        !plan.contains("TEMP B-TREE FOR ORDER BY") || !name.starts_with("pages of"),
        "{name} sorts a stage:\n{plan}"
    );
}

#[actix::test]
async fn s0_20_no_question_of_the_desk_walks_a_large_table() {
    let (_folder, db) = migrated().await;
    let questions = desk::questions();
    assert!(questions.len() > 20);
    for (name, sql) in questions {
        assert_walks_nothing_large(&db, name, &sql).await;
    }
}

#[actix::test]
#[should_panic(expected = "SCAN pages")]
async fn a_question_that_walks_the_pages_is_seen() {
    let (_folder, db) = migrated().await;
    let sql = "SELECT count(*) FROM pages WHERE status = ?1";
    assert_walks_nothing_large(&db, "bad", sql).await;
}

#[actix::test]
async fn s2_01_s2_05_s2_33_s4_17_the_figures_are_those_of_the_tables() {
    let world = large().await;
    let (summary, desk) = look(&world).await;
    let all: u64 = summary.pages.iter().map(|(_stage, count)| count).sum();
    assert_eq!(all, 20_000);
    assert_eq!(all, number(&world, "SELECT count(*) FROM pages").await);
    for (stage, count) in &summary.pages {
        let sql = format!("SELECT count(*) FROM pages WHERE stage = '{stage}'");
        assert_eq!(*count, number(&world, &sql).await, "{stage}");
    }
    for (state, count) in &summary.batches {
        let sql = format!("SELECT count(*) FROM submissions WHERE state = '{state}'");
        assert_eq!(*count, number(&world, &sql).await, "{state}");
    }
    for (error, count) in &summary.failures {
        let sql = format!("SELECT count(*) FROM failure_logs WHERE error_type = '{error}'");
        assert_eq!(*count, number(&world, &sql).await, "{error}");
    }
    // Each discovered page has one reason.
    let discovered = summary.pages_in(PageStage::Discovered);
    assert_eq!(discovered, desk.runnable + desk.blocked + desk.waiting);
    assert_eq!(desk.elsewhere, 0);
    assert_eq!(desk.blocked, summary.blocked);
    let counted = read::summarize_counted(&world.db, at(NOW), desk.blocked_in_all).await;
    assert_eq!(counted.unwrap(), summary);
    let free = "SELECT count(*) FROM pages
                WHERE stage = 'discovered' AND waits_for IS NULL AND not_before IS";
    assert_eq!(desk.runnable, number(&world, &format!("{free} NULL")).await);
    assert_eq!(
        desk.waiting,
        number(&world, &format!("{free} NOT NULL")).await
    );
    let first = world.one("SELECT min(not_before) FROM pages").await;
    assert_eq!(desk.earliest.unwrap().to_string(), first);
    // A dead page in each fiftieth book holds up the hundred behind it, and they each other.
    assert_eq!(desk.behind_fault, 2 * 100);
    let faults: u64 = desk.faults.iter().map(|(_, _, pages)| pages).sum();
    let at_fault = summary.pages_in(PageStage::Dead) + summary.pages_in(PageStage::Review);
    assert_eq!(faults, at_fault);
    assert_eq!(desk.chain, 60);
    assert_eq!(desk.retries, [(1, 500)]);
    // One every five minutes in a day, less the last hour; nine of ten answers each.
    assert_eq!(desk.throughput.batches, 50);
    assert_eq!(desk.throughput.accepted, 450);
    let jobs = &summary.turnarounds[0];
    assert_eq!((jobs.ended, jobs.spans.len()), (50, 50));
    assert_eq!(jobs.half, Some(Duration::from_secs(3_600)));
}

#[actix::test]
async fn pages_of_another_scope_are_told_apart() {
    let world = large().await;
    world
        .meddle("UPDATE pages SET scope = 'elsewhere' WHERE record_key < 'B'")
        .await;
    let (summary, desk) = look(&world).await;
    let elsewhere = "SELECT count(*) FROM pages WHERE stage = 'discovered' AND scope = 'elsewhere'";
    assert_eq!(desk.elsewhere, number(&world, elsewhere).await);
    let discovered = summary.pages_in(PageStage::Discovered);
    let here = desk.runnable + desk.blocked + desk.waiting;
    assert_eq!(discovered, here + desk.elsewhere);
    // Without chains nobody waits for the page before.
    let unchained = Terms {
        chained: false,
        ..terms()
    };
    let desk = desk_status::desk(&world.db, &unchained, at(NOW)).await;
    let desk = desk.unwrap();
    assert_eq!((desk.blocked, desk.behind_fault, desk.chain), (0, 0, 1));
    assert_eq!(desk.runnable + desk.waiting, here);
}

#[actix::test]
async fn s2_20_s4_10_pages_are_listed_by_stage_and_by_part_of_the_tree() {
    let world = large().await;
    let listed = async |stage: PageStage, in_stage: u64, selection: &Selection, limit: u64| {
        let list = list_stage(&world.db, stage, in_stage, selection, limit).await;
        let list = list.unwrap().into_iter();
        list.map(|page| page.key.to_string()).collect::<Vec<_>>()
    };
    let select = "SELECT record_key FROM pages WHERE stage =";
    for stage in ["dead", "uploaded", "uploading"] {
        let expected = world
            .ask(&format!("{select} '{stage}' ORDER BY rowid"))
            .await;
        let stage = PageStage::parse(stage).unwrap();
        let all = listed(stage, 10, &Selection::default(), 100_000).await;
        assert_eq!(all, expected);
        let few = listed(stage, 10, &Selection::default(), 3).await;
        assert_eq!(few, expected[..expected.len().min(3)]);
    }
    let choice = |place, filter| LevelChoice {
        name: "level".to_owned(),
        place,
        filter,
    };
    let ohio = choice(0, LevelFilter::OneOf(vec!["Ohio".to_owned()]));
    let years = LevelFilter::Range {
        start: 1850,
        end: 1860,
    };
    let some = Selection {
        keys: Vec::new(),
        choices: vec![ohio, choice(2, years)],
    };
    let mut expected = world
        .ask(&format!(
            "{select} 'completed' AND record_key LIKE 'Ohio:%'
             AND levels->>'$[2]' BETWEEN '1850' AND '1860'"
        ))
        .await;
    assert!(!expected.is_empty());
    expected.sort_unstable();
    // Through the stage or through the tree: the same pages.
    for in_stage in [1, 1_000_000] {
        let mut found = listed(PageStage::Completed, in_stage, &some, 100_000).await;
        found.sort_unstable();
        assert_eq!(found, expected);
    }
    let one = Selection::of_key(RecordKey::from(expected[0].as_str()));
    assert_eq!(
        listed(PageStage::Completed, 1, &one, 9).await,
        expected[..1]
    );
    assert_eq!(listed(PageStage::Dead, 1, &one, 9).await, [""; 0]);
}

#[actix::test]
async fn s2_27_pages_in_the_middle_are_those_of_the_invariant() {
    let world = World::new().await;
    world.collect("b1", [1, 2]).await;
    world.submit("b2", [3]).await;
    world.upload([4]).await;
    world.register([5, 6]).await;
    world.tell(claim(1, 900)).await.unwrap();
    let invariant = format!("SELECT record_key FROM pages WHERE stage IN {MIDDLE} ORDER BY 1");
    let mut listed = Vec::new();
    for stage in PageStage::ALL {
        let sql = format!("SELECT 1 FROM pages WHERE stage = '{stage}' AND stage IN {MIDDLE}");
        if world.ask(&sql).await.is_empty() {
            continue;
        }
        let found = list_stage(&world.db, *stage, 9, &Selection::default(), 99).await;
        listed.extend(found.unwrap().into_iter().map(|page| page.key.to_string()));
    }
    listed.sort_unstable();
    assert_eq!(listed.len(), 5);
    assert_eq!(listed, world.ask(&invariant).await);
}

#[actix::test]
async fn s3_29_s4_21_the_time_in_each_stage_is_measured_from_the_history() {
    let world = World::new().await;
    world.collect("b1", [1, 2, 3]).await;
    let again = rejected(3, ErrorType::Validation, Afterwards::Dead);
    let judged = verdicts("b1", vec![accepted(1), accepted(2), again]);
    world.tell(judged).await.unwrap();
    let (_summary, desk) = look(&world).await;
    let stay = |stage: PageStage| {
        let found = desk.stays.iter().find(|stay| stay.stage == stage);
        found.map(|stay| (stay.stays, stay.half.as_secs_f64().round()))
    };
    // Claimed at 10, uploaded at 20, planned at 100, collected at 500, judged at 600.
    assert_eq!(stay(PageStage::Discovered), Some((3, 10.0)));
    assert_eq!(stay(PageStage::Uploading), Some((3, 10.0)));
    assert_eq!(stay(PageStage::Uploaded), Some((3, 80.0)));
    assert_eq!(stay(PageStage::Batched), Some((3, 400.0)));
    assert_eq!(stay(PageStage::Validating), Some((3, 100.0)));
    assert_eq!(stay(PageStage::Completed), None);
    // What moves no page ends no stay.
    world
        .meddle(
            "INSERT INTO page_events (record_key, at, from_stage, to_stage, event)
             SELECT record_key, '2026-11-25T00:00:00.000000Z', stage, stage, 'noted' FROM pages",
        )
        .await;
    let (_summary, noted) = look(&world).await;
    assert_eq!(noted.stays, desk.stays);
    // No stage ends before it begins.
    let backwards = "SELECT count(*) FROM page_events AS a JOIN page_events AS b
                     ON a.record_key = b.record_key AND a.id < b.id AND a.at > b.at";
    assert_eq!(number(&world, backwards).await, 0);
}

#[actix::test]
async fn s3_03_s3_04_s3_22_s4_19_runs_are_counted_kept_and_found_by_the_beginning_of_their_id() {
    let world = World::new().await;
    world.submit("b1", [1, 2]).await;
    let mut second = start_run();
    second.run = RunId::from("run-2");
    second.at = at(1_000);
    world.tell(second).await.unwrap();
    let mut again = start_run();
    again.at = at(2_000);
    world.tell(again).await.unwrap();
    let finish = FinishRun {
        run: RunId::from("run-1"),
        status: RunStatus::Stopped,
        at: at(3_000),
    };
    world.tell(finish).await.unwrap();
    let runs = desk_runs::list(&world.db, 10).await.unwrap();
    assert_eq!(desk_runs::count(&world.db).await, Ok(2));
    let [first, second] = runs.as_slice() else {
        panic!("{runs:?}");
    };
    assert_eq!((first.run.as_str(), first.restarts), ("run-1", 1));
    assert_eq!((first.started_at, first.ended_at), (at(0), Some(at(3_000))));
    assert_eq!(first.status, RunStatus::Stopped);
    assert_eq!(first.config, "model: gemini");
    assert_eq!((first.work.requests, first.work.batches.len()), (2, 1));
    let total: u64 = first.totals.iter().map(|(_stage, count)| count).sum();
    assert_eq!(total, 2);
    assert_eq!((second.run.as_str(), second.restarts), ("run-2", 0));
    // Its process left no word, and was gone when the other run was taken up again.
    assert_eq!(
        (second.status, second.ended_at),
        (RunStatus::Stopped, Some(at(1_000)))
    );
    let recipe = desk_runs::recipe(&world.db, &first.recipe).await.unwrap();
    assert_eq!(recipe, Some(crate::kit::state_world::recipe()));
    let named = async |word: &str| desk_runs::named(&world.db, word).await.unwrap();
    assert!(matches!(named("run-2").await, Named::One(run) if run.run.as_str() == "run-2"));
    let several = Named::Several(vec![RunId::from("run-1"), RunId::from("run-2")]);
    assert_eq!(named("run").await, several);
    assert_eq!(named("r%n").await, Named::None);
    assert_eq!(named("").await, Named::None);
    // An id that another begins with is itself.
    world
        .meddle(
            "INSERT INTO runs (run_id, label, status, recipe_hash, scope, config_snapshot,
                 config_sha256, restarts, totals, started_at, ended_at, created_at, updated_at)
             SELECT 'run-22', label, status, recipe_hash, scope,
                 config_snapshot, config_sha256, restarts, totals, started_at, ended_at,
                 created_at, updated_at FROM runs WHERE run_id = 'run-2'",
        )
        .await;
    assert!(matches!(named("run-2").await, Named::One(run) if run.run.as_str() == "run-2"));
}

#[actix::test]
async fn results_that_nobody_fetched_are_an_alarm_after_their_time() {
    let world = World::new().await;
    world.submit("b1", [1]).await;
    world.ready("b1").await;
    let uncollected = async |seconds: u64| {
        let desk = desk_status::desk(&world.db, &terms(), at(seconds)).await;
        desk.unwrap().uncollected
    };
    assert_eq!(uncollected(400 + 6 * 3_600 - 1).await, []);
    let since = vec![(batch("b1"), at(400))];
    assert_eq!(uncollected(400 + 6 * 3_600).await, since);
    world.tell(collect("b1")).await.unwrap();
    assert_eq!(uncollected(400 + 6 * 3_600).await, []);
}
