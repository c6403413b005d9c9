//! The questions of `pagemill failures`: what they count, and that none of them looks at all pages.

use pagemill::actors::state::desk_failures::{self as desk, FailureFilter};
use pagemill::actors::state::page_walk::{PageChoice, PageWalk};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::RecordKey;
use pagemill::domain::page::{Afterwards, PageStage};
use pagemill::domain::selection::{LevelChoice, LevelFilter, Selection};
use pagemill::domain::time::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, Value};

use crate::kit::state_world::{World, accepted, again, batch, key, rejected, settle, verdicts};

/// A world with failures of two types: page 2 failed once and is dead of another, page 3 is in review.
async fn failed() -> World {
    let world = World::new().await;
    world.collect("b1", [1, 2, 3, 4]).await;
    let verdict = verdicts(
        "b1",
        vec![
            accepted(1),
            rejected(2, ErrorType::Validation, Afterwards::Dead),
            rejected(3, ErrorType::Recitation, Afterwards::Review),
            rejected(4, ErrorType::Validation, again()),
        ],
    );
    world.tell(verdict).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    world
}

fn one_of(name: &str, place: usize, values: &[&str]) -> LevelChoice {
    let names = values.iter().map(|value| (*value).to_owned()).collect();
    LevelChoice {
        name: name.to_owned(),
        place,
        filter: LevelFilter::OneOf(names),
    }
}

fn with(choices: Vec<LevelChoice>) -> FailureFilter {
    FailureFilter {
        selection: Selection {
            keys: Vec::new(),
            choices,
        },
        ..FailureFilter::default()
    }
}

/// A failure of any page, written as another program might.
async fn plant(world: &World, key: &str, error: &str, message: &str, at: &str) {
    world
        .meddle(&format!(
            "INSERT INTO failure_logs (record_key, batch_id, attempt_number, error_type,
                 error_message, error_traceback, counted, created_at)
             VALUES ('{key}', '', 1, '{error}', {message}, '', 1, '{at}')"
        ))
        .await;
}

#[actix::test]
async fn s1_34_totals_and_the_newest_failures_are_those_of_the_tables() {
    let world = failed().await;
    let all = FailureFilter::default();
    let totals = desk::totals(&world.db, &all).await.unwrap();
    assert_eq!((totals.total, totals.counted, totals.pages), (3, 3, 3));
    assert_eq!((totals.dead, totals.review), (1, 1));
    let types: Vec<(&str, u64)> = totals
        .by_type
        .iter()
        .map(|group| (group.name.as_str(), group.failures))
        .collect();
    assert_eq!(types, [("ValidationError", 2), ("Recitation", 1)]);

    let newest = desk::newest(&world.db, &all, 2).await.unwrap();
    let keys: Vec<&RecordKey> = newest.iter().map(|line| &line.key).collect();
    assert_eq!(keys, [&key(4), &key(3)]);
    assert_eq!(newest[0].batch, Some(batch("b1")));
    assert_eq!(newest[0].failures, 1);

    let validation = FailureFilter {
        error: Some(ErrorType::Validation),
        ..FailureFilter::default()
    };
    let totals = desk::totals(&world.db, &validation).await.unwrap();
    assert_eq!((totals.total, totals.dead, totals.review), (2, 1, 0));
    let given_up = FailureFilter {
        given_up: true,
        ..FailureFilter::default()
    };
    assert_eq!(desk::totals(&world.db, &given_up).await.unwrap().total, 2);
}

#[actix::test]
async fn s1_35_failures_are_grouped_and_chosen_by_any_level_of_their_key() {
    let world = failed().await;
    let now = "2026-11-22T00:00:00.000000Z";
    plant(&world, "Ohio:Lincoln \"x\":1850:1", "ApiError", "'a'", now).await;
    plant(&world, "Ohio:a%3Ab:1851:1", "ApiError", "'b'", now).await;
    // A level with an encoded character is looked up.
    world
        .meddle(
            "INSERT INTO pages (record_key, book, levels, page_number, stage, created_at, updated_at)
             VALUES ('Ohio:a%3Ab:1851:1', 'Ohio:a%3Ab:1851', '[\"Ohio\",\"a:b\",\"1851\",\"1\"]', 1,
                     'discovered', 'now', 'now')",
        )
        .await;
    let all = FailureFilter::default();
    let (states, count) = desk::by_level(&world.db, &all, 0, 10).await.unwrap();
    let named: Vec<(&str, u64, u64)> = states
        .iter()
        .map(|group| (group.name.as_str(), group.failures, group.pages))
        .collect();
    assert_eq!(named, [("Alabama", 3, 3), ("Ohio", 2, 2)]);
    assert_eq!(count, 2);
    let (schools, count) = desk::by_level(&world.db, &all, 1, 1).await.unwrap();
    assert_eq!((schools.len(), count), (1, 3));
    assert_eq!(schools[0].name, "Howard College");

    for (choices, expected) in [
        (vec![one_of("state", 0, &["Ohio"])], 2),
        (vec![one_of("school", 1, &["a:b"])], 1),
        (vec![one_of("school", 1, &["Lincoln \"x\"", "a:b"])], 2),
        (
            vec![
                one_of("state", 0, &["Ohio"]),
                LevelChoice {
                    name: "year".into(),
                    place: 2,
                    filter: LevelFilter::Range {
                        start: 1851,
                        end: i64::MAX,
                    },
                },
            ],
            1,
        ),
        (vec![one_of("state", 0, &["Texas"])], 0),
    ] {
        let filter = with(choices);
        let totals = desk::totals(&world.db, &filter).await.unwrap();
        assert_eq!(totals.total, expected, "{filter:?}");
    }
    let one = FailureFilter {
        selection: Selection::of_key(key(2)),
        ..FailureFilter::default()
    };
    assert_eq!(desk::totals(&world.db, &one).await.unwrap().total, 1);
}

#[actix::test]
async fn s0_22_dead_pages_are_listed_with_their_last_reason() {
    let world = failed().await;
    let all = FailureFilter::default();
    let pages = desk::given_up_pages(&world.db, &all, 10).await.unwrap();
    let listed: Vec<(&str, &str, &str)> = pages
        .iter()
        .map(|page| {
            let message = page.message.as_deref().unwrap_or("");
            (page.key.as_str(), page.stage.as_str(), message)
        })
        .collect();
    let reason = "it is not what it should be";
    let expected = [
        ("Alabama:Howard College:1849:2", "dead", reason),
        ("Alabama:Howard College:1849:3", "review", reason),
    ];
    assert_eq!(listed, expected);
}

#[actix::test]
async fn s0_31_the_trend_counts_by_day_and_type_between_two_midnights() {
    let world = World::new().await;
    for (at, error) in [
        ("2026-11-20T23:59:59.999999Z", "ApiError"),
        ("2026-11-21T00:00:00.000000Z", "ApiError"),
        ("2026-11-21T23:59:59.999999Z", "Truncated"),
        ("2026-11-21T12:00:00.000000Z", "ApiError"),
        ("2026-11-22T00:00:00.000000Z", "ApiError"),
    ] {
        plant(&world, "Ohio:L:1:1", error, "'x'", at).await;
    }
    let midnight = |day: &str| Timestamp::parse(&format!("{day}T00:00:00Z")).ok();
    let one_day = FailureFilter {
        since: midnight("2026-11-21"),
        until: midnight("2026-11-22"),
        ..FailureFilter::default()
    };
    let trend = desk::trend(&world.db, &one_day).await.unwrap();
    let counts: Vec<(&str, &str, u64)> = trend
        .iter()
        .map(|count| (count.day.as_str(), count.error.as_str(), count.failures))
        .collect();
    let day = "2026-11-21";
    assert_eq!(counts, [(day, "ApiError", 2), (day, "Truncated", 1)]);
}

#[actix::test]
async fn s1_37_texts_that_are_not_utf_8_do_not_stop_a_list_or_an_export() {
    let world = World::new().await;
    let broken = "CAST(x'66ff6f' AS TEXT)";
    let now = "2026-11-22T00:00:00.000000Z";
    plant(&world, "Ohio:L:1:1", "ApiError", broken, now).await;
    let all = FailureFilter::default();
    let newest = desk::newest(&world.db, &all, 10).await.unwrap();
    assert_eq!(newest[0].message, "f\u{fffd}o");
    let rows = desk::logs_after(&world.db, &all, 0, 10).await.unwrap();
    assert_eq!(rows[0].error_message, "f\u{fffd}o");
    assert_eq!(rows[0].raw_response_text, None);
    assert!(
        desk::logs_after(&world.db, &all, rows[0].id, 10)
            .await
            .unwrap()
            .is_empty()
    );
    let said = desk::said_after(&world.db, &all, i64::MIN, 10)
        .await
        .unwrap();
    assert_eq!(said.len(), 1);
}

/// The keys that a walk gives, in their order.
async fn walked(world: &World, selection: &Selection, choices: &[PageChoice]) -> Vec<String> {
    let now = Timestamp::parse("2026-11-22T00:00:00Z").unwrap();
    let mut walk = PageWalk::new(selection, choices, now);
    let mut keys = Vec::new();
    loop {
        let pages = walk.next(&world.db).await.unwrap();
        if pages.is_empty() {
            return keys;
        }
        keys.extend(pages.into_iter().map(|page| page.record_key));
    }
}

#[actix::test]
async fn s4_47_a_walk_gives_every_chosen_page_once_and_in_order() {
    let world = World::new().await;
    world
        .meddle(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2999),
                  p(state, i) AS (SELECT 'S' || (i % 3), i FROM n)
             INSERT INTO pages (record_key, book, levels, page_number, stage, created_at, updated_at)
             SELECT state || ':N:1:' || i, state || ':N:1', json_array(state, 'N', '1', '' || i), i,
                    iif(i % 2, 'skipped', 'discovered'), 'x', 'x' FROM p",
        )
        .await;
    let all = world
        .ask("SELECT record_key FROM pages ORDER BY record_key")
        .await;
    let of = |state: &str| -> Vec<String> {
        let prefix = format!("{state}:");
        let keys = all.iter().filter(|key| key.starts_with(&prefix));
        keys.cloned().collect()
    };
    let everything = Selection::default();
    assert_eq!(walked(&world, &everything, &[]).await, all);
    let state = with(vec![one_of("state", 0, &["S1"])]).selection;
    assert_eq!(walked(&world, &state, &[]).await, of("S1"));
    let skipped = PageChoice::Stage(PageStage::Skipped);
    assert_eq!(walked(&world, &everything, &[skipped]).await.len(), 1_500);
    let both = [skipped, PageChoice::Ready];
    assert_eq!(walked(&world, &everything, &both).await, all);
    // Keys that are named come in any order, twice, and more than fit into one question.
    let mut named = of("S2");
    named.reverse();
    named.push(named[0].clone());
    let selection = Selection {
        keys: named.into_iter().map(RecordKey::from).collect(),
        choices: Vec::new(),
    };
    assert_eq!(walked(&world, &selection, &[]).await, of("S2"));

    let now = Timestamp::EPOCH;
    for selection in [&everything, &state, &selection] {
        let mut walk = PageWalk::new(selection, &[skipped], now);
        for _step in 0..2 {
            let (sql, values) = walk.statement(selection);
            let plan = query_plan(&world.db, &sql, &values).await;
            let by_key = plan.contains("sqlite_autoindex_pages_1");
            assert!(by_key, "{sql}\n{plan}");
            let sorts = plan.contains("TEMP B-TREE");
            assert!(!sorts, "{sql}\n{plan}");
            walk.next(&world.db).await.unwrap();
        }
    }
}

/// How SQLite answers a question, a step a line.
async fn query_plan(db: &DatabaseConnection, sql: &str, values: &[Value]) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let backend = db.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, values.to_vec());
    let rows = db.query_all_raw(statement).await.unwrap();
    let steps: Vec<String> = rows
        .iter()
        .map(|row| row.try_get::<String>("", "detail").unwrap())
        .collect();
    steps.join("\n")
}

#[actix::test]
async fn s0_20_no_question_about_failures_walks_the_pages_or_reads_the_answers() {
    let world = World::new().await;
    let of_state = with(vec![one_of("state", 0, &["Ohio"])]);
    let of_book = with(vec![
        one_of("state", 0, &["Ohio"]),
        one_of("school", 1, &["L"]),
        one_of("year", 2, &["1850"]),
    ]);
    let of_page = FailureFilter {
        selection: Selection::of_key(key(1)),
        ..FailureFilter::default()
    };
    let of_days = FailureFilter {
        since: Timestamp::parse("2026-11-22T00:00:00Z").ok(),
        error: Some(ErrorType::Api),
        ..FailureFilter::default()
    };
    let dead = FailureFilter {
        given_up: true,
        ..FailureFilter::default()
    };
    let filters = [
        FailureFilter::default(),
        of_state,
        of_book,
        of_page,
        of_days,
        dead,
    ];
    for filter in &filters {
        let by_place = desk::by_place(1);
        let covered = [
            desk::groups_statement(filter, "p.error_type"),
            desk::groups_statement(filter, &by_place),
            desk::trend_statement(filter),
        ];
        for (sql, values) in covered {
            let plan = plan_of(&world, &sql, values).await;
            assert!(
                plan.contains("COVERING INDEX failure_logs_by_"),
                "{filter:?}\n{plan}"
            );
        }
        for (sql, values) in [
            desk::newest_statement(filter),
            desk::given_up_statement(filter),
            desk::given_up_count_statement(filter),
        ] {
            plan_of(&world, &sql, values).await;
        }
    }
    let (sql, values) = desk::given_up_count_statement(&FailureFilter::default());
    let plan = plan_of(&world, &sql, values).await;
    assert!(plan.contains("COVERING INDEX pages_given_up"), "{plan}");
    let (sql, values) = desk::groups_statement(&filters[2], "p.error_type");
    let plan = plan_of(&world, &sql, values).await;
    assert!(plan.contains("record_key>? AND record_key<?"), "{plan}");
}

/// The plan of a statement, which does not walk the pages.
async fn plan_of(world: &World, sql: &str, values: [Value; 2]) -> String {
    let [selection, filter] = values;
    let plan = query_plan(&world.db, sql, &[selection, filter, 10.into()]).await;
    for step in plan.lines() {
        let walks_pages = step.starts_with("SCAN p") && !step.contains("pages_given_up")
            || step.starts_with("SCAN g")
            || step.starts_with("SCAN d");
        assert!(!walks_pages, "{sql}\n{plan}");
        assert!(!step.contains("AUTOMATIC"), "{sql}\n{plan}");
    }
    plan
}
