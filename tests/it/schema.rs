//! The tables: made and unmade by the migration, described by the entities, guarded by CHECKs, and
//! asked through indexes.

use std::collections::BTreeMap;

use actix::Actor;
use entity::prelude::*;
use migration::{Migrator, MigratorTrait};
use pagemill::actors::state;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::{Close, StateError};
use pagemill::actors::state::open::StateOptions;
use pagemill::actors::state::rows::{PageRow, batch_state};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::page::PageStage;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn,
};
use tempfile::TempDir;

use crate::kit::state_world::{World, ask, beside, made};

pub async fn migrated() -> (TempDir, DatabaseConnection) {
    let folder = TempDir::new().unwrap();
    let db = made(&folder.path().join("s.db")).await;
    Migrator::up(&db, None).await.unwrap();
    (folder, db)
}

async fn objects(db: &DatabaseConnection) -> Vec<String> {
    ask(
        db,
        "SELECT coalesce(sql, name) FROM sqlite_master
         WHERE name NOT LIKE 'seaql%' AND tbl_name NOT LIKE 'seaql%' AND name NOT LIKE 'sqlite%'
         ORDER BY 1",
    )
    .await
}

#[actix::test]
async fn the_migration_goes_up_down_and_up_again() {
    let (_folder, db) = migrated().await;
    let first = objects(&db).await;
    Migrator::down(&db, None).await.unwrap();
    assert_eq!(objects(&db).await, Vec::<String>::new());
    Migrator::up(&db, None).await.unwrap();
    assert_eq!(objects(&db).await, first);
    assert_eq!(
        ask(&db, "PRAGMA foreign_key_check").await,
        Vec::<String>::new()
    );
}

#[test]
fn migrations_stand_in_the_order_of_their_names() {
    let names: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(names, sorted);
}

#[actix::test]
async fn s3_42_a_database_of_an_older_program_opens_with_every_row_it_had() {
    // As many migrations as there were before operators had orders.
    const OLD: u32 = 3;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state.db");
    let db = made(&path).await;
    Migrator::up(&db, Some(OLD)).await.unwrap();
    for sql in [
        "INSERT INTO recipes VALUES ('r', 'page_ocr', 'Read it', NULL, '{}', 'gemini', '{}', 'then')",
        "INSERT INTO runs (run_id, status, recipe_hash, scope, config_snapshot, config_sha256,
             started_at, created_at, updated_at)
         VALUES ('old', 'stopped', 'r', 's', '', '', 'then', 'then', 'then')",
        "INSERT INTO pages (record_key, book, levels, page_number, stage, output_sha256,
             output_bytes, created_at, updated_at)
         VALUES ('a:1', 'a', '[\"a\",\"1\"]', 1, 'completed', 'sha', 1, 'then', 'then')",
        "INSERT INTO page_events (record_key, at, to_stage, event)
         VALUES ('a:1', 'then', 'discovered', 'seen')",
        "INSERT INTO failure_logs (record_key, batch_id, attempt_number, error_type,
             error_message, error_traceback, counted, created_at)
         VALUES ('a:1', '', 1, 'ApiError', 'm', 'm', 0, 'then')",
        "INSERT INTO halts (reason, message, times, since, updated_at)
         VALUES ('key', 'refused', 2, 'then', 'then')",
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    let held = async |db: &DatabaseConnection| {
        let mut held = Vec::new();
        for sql in [
            "SELECT prompt_template || model FROM recipes",
            "SELECT run_id || status || recipe_hash FROM runs",
            "SELECT record_key || stage || output_sha256 FROM pages",
            "SELECT record_key || event FROM page_events",
            "SELECT record_key || error_type FROM failure_logs",
            "SELECT reason || message || times FROM halts WHERE cleared_at IS NULL",
        ] {
            held.extend(ask(db, sql).await);
        }
        held
    };
    let before = held(&db).await;
    assert_eq!(before.len(), 6);
    db.close().await.unwrap();
    let options = StateOptions {
        path: path.clone(),
        unlock_behind_dead: false,
    };
    let state = StateActor::open(options).await.unwrap().start();
    let db = beside(&path).await;
    assert_eq!(held(&db).await, before);
    let versions = "SELECT count(*) || '' FROM seaql_migrations";
    let all = Migrator::migrations().len();
    assert_eq!(ask(&db, versions).await, [all.to_string()]);
    state.send(Close {}).await.unwrap().unwrap();
}

/// The columns that an entity names, with what keys it.
fn described<E: EntityTrait>() -> (String, BTreeMap<String, bool>) {
    let mut columns: BTreeMap<String, bool> = E::Column::iter()
        .map(|column| (column.as_str().to_owned(), false))
        .collect();
    for key in E::PrimaryKey::iter() {
        columns.insert(key.into_column().as_str().to_owned(), true);
    }
    (E::default().table_name().to_owned(), columns)
}

#[actix::test]
async fn entities_name_every_migrated_column_and_key() {
    let (_folder, db) = migrated().await;
    let entities = BTreeMap::from([
        described::<ActiveBatches>(),
        described::<AlertDeliveries>(),
        described::<Alerts>(),
        described::<Attempts>(),
        described::<BatchRecordKeys>(),
        described::<FailureCounts>(),
        described::<FailureLogs>(),
        described::<Halts>(),
        described::<Heartbeats>(),
        described::<InflightRecords>(),
        described::<LateJobs>(),
        described::<Orders>(),
        described::<Paces>(),
        described::<PageEvents>(),
        described::<Pages>(),
        described::<PeriodReports>(),
        described::<Recipes>(),
        described::<RemoteFiles>(),
        described::<Reports>(),
        described::<Runs>(),
        described::<ScanOddities>(),
        described::<Streaks>(),
        described::<SubmissionEvents>(),
        described::<Submissions>(),
    ]);
    let tables = ask(
        &db,
        "SELECT name FROM sqlite_master
         WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'seaql%' ORDER BY 1",
    )
    .await;
    assert_eq!(entities.keys().cloned().collect::<Vec<_>>(), tables);
    for (table, columns) in entities {
        let sql =
            format!("SELECT name||'|'||(pk > 0) FROM pragma_table_info('{table}') ORDER BY name");
        let named: Vec<String> = columns
            .iter()
            .map(|(name, key)| format!("{name}|{}", i64::from(*key)))
            .collect();
        assert_eq!(named, ask(&db, &sql).await, "{table}");
    }
}

#[actix::test]
async fn entities_read_what_the_tables_hold() {
    let world = World::new().await;
    world.collect("b1", [1, 2]).await;
    let db = &world.db;
    assert_eq!(Pages::find().all(db).await.unwrap().len(), 2);
    assert_eq!(Attempts::find().all(db).await.unwrap().len(), 2);
    assert_eq!(PageEvents::find().all(db).await.unwrap().len(), 10);
    assert_eq!(RemoteFiles::find().all(db).await.unwrap().len(), 3);
    assert_eq!(SubmissionEvents::find().all(db).await.unwrap().len(), 4);
    assert_eq!(Runs::find().all(db).await.unwrap().len(), 1);
    assert_eq!(ask(db, "SELECT record_key FROM v_inflight").await.len(), 2);
    assert_eq!(
        ask(db, "SELECT batch_id FROM v_active_batches").await,
        ["b1"]
    );
    assert_eq!(ask(db, "SELECT record_key FROM v_failures").await.len(), 0);
}

/// A row that is right for its stage.
fn page_row(stage: PageStage) -> PageRow {
    let has_image = matches!(stage, PageStage::Uploaded | PageStage::Batched);
    let in_batch = matches!(stage, PageStage::Batched | PageStage::Validating);
    let has_error = matches!(stage, PageStage::Dead | PageStage::Review);
    let completed = stage == PageStage::Completed;
    let time = || "2026-11-22T00:00:00.000000Z".to_owned();
    PageRow {
        record_key: "a:1".to_owned(),
        stage: stage.as_str().to_owned(),
        status: String::new(),
        not_before: None,
        error: has_error.then(|| ErrorType::Image.as_str().to_owned()),
        upload_cycles: 0,
        releases: 0,
        batch_size_max: None,
        batch_id: in_batch.then(|| "b1".to_owned()),
        run_id: None,
        recipe_hash: None,
        image_mime: None,
        image_bytes: None,
        image_sha256: None,
        image_width: None,
        image_height: None,
        image_file: has_image.then(|| "files/1".to_owned()),
        image_expires_at: has_image.then(time),
        uploaded_at: has_image.then(time),
        output_sha256: completed.then(|| "sha".to_owned()),
        output_bytes: completed.then_some(1),
    }
}

fn quoted(value: &Option<String>) -> String {
    value
        .as_ref()
        .map_or("NULL".to_owned(), |text| format!("'{text}'"))
}

/// Whether the table takes the row.
async fn table_takes(db: &DatabaseConnection, row: &PageRow) -> bool {
    let sql = format!(
        "INSERT INTO pages (record_key, book, levels, page_number, stage, not_before, error,
             batch_id, image_file, image_expires_at, uploaded_at, output_sha256, output_bytes,
             created_at, updated_at)
         VALUES ('{}', 'a', '[]', 1, '{}', {}, {}, {}, {}, {}, {}, {}, {}, '', '')",
        row.record_key,
        row.stage,
        quoted(&row.not_before),
        quoted(&row.error),
        quoted(&row.batch_id),
        quoted(&row.image_file),
        quoted(&row.image_expires_at),
        quoted(&row.uploaded_at),
        quoted(&row.output_sha256),
        row.output_bytes
            .map_or("NULL".to_owned(), |bytes| bytes.to_string()),
    );
    let taken = db.execute_unprepared(&sql).await.is_ok();
    db.execute_unprepared("DELETE FROM pages").await.unwrap();
    taken
}

#[actix::test]
async fn checks_and_rows_refuse_the_same_pages() {
    let (_folder, db) = migrated().await;
    let flip = |value: &mut Option<String>| {
        *value = match value {
            Some(_) => None,
            None => Some("2026-11-22T00:00:00.000000Z".to_owned()),
        };
    };
    type Change<'a> = (&'a str, Box<dyn Fn(&mut PageRow) + 'a>);
    let changes: Vec<Change<'_>> = vec![
        ("nothing", Box::new(|_row| {})),
        ("not_before", Box::new(|row| flip(&mut row.not_before))),
        ("batch_id", Box::new(|row| flip(&mut row.batch_id))),
        ("image_file", Box::new(|row| flip(&mut row.image_file))),
        ("expiry", Box::new(|row| flip(&mut row.image_expires_at))),
        ("uploaded_at", Box::new(|row| flip(&mut row.uploaded_at))),
        ("output", Box::new(|row| flip(&mut row.output_sha256))),
        (
            "output_bytes",
            Box::new(|row| {
                row.output_bytes = match row.output_bytes {
                    Some(_) => None,
                    None => Some(1),
                };
            }),
        ),
        ("no error", Box::new(|row| row.error = None)),
        (
            "an error",
            Box::new(|row| row.error = Some("ApiError".to_owned())),
        ),
        (
            "another error",
            Box::new(|row| row.error = Some("Bad luck".to_owned())),
        ),
        ("stage", Box::new(|row| row.stage = "resting".to_owned())),
    ];
    let mut refused = 0;
    for stage in PageStage::ALL {
        for (name, change) in &changes {
            let mut row = page_row(*stage);
            change(&mut row);
            let read = row.state();
            let taken = table_takes(&db, &row).await;
            assert_eq!(read.is_ok(), taken, "{stage} with {name} changed: {read:?}");
            match read {
                Ok(state) => {
                    let mut again = row.clone();
                    again.put(&state);
                    assert_eq!(again, row, "{stage} with {name} changed");
                }
                Err(StateError::CorruptRow { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[actix::test]
async fn checks_and_rows_refuse_the_same_submissions() {
    let world = World::new().await;
    world.plan("b1", [1]).await;
    let lawless = [
        "state = 'lost'",
        "state = 'in doubt'",
        "state = 'submitted'",
        "state = 'ready'",
        "state = 'abandoned', closed_at = 'now'",
        "state = 'abandoned', abandon_code = 'bored', closed_at = 'now'",
        "state = 'submitting', not_before = '2026-11-22T00:00:00.000000Z'",
        "in_doubt_since = '2026-11-22T00:00:00.000000Z'",
        "abandon_code = 'failed'",
    ];
    for change in lawless {
        let sql = format!("UPDATE submissions SET {change}");
        assert!(world.db.execute_unprepared(&sql).await.is_err(), "{change}");
        world.meddle("PRAGMA ignore_check_constraints = ON").await;
        world.meddle("SAVEPOINT s").await;
        let transaction = world.db.execute_unprepared(&sql).await;
        assert!(transaction.is_ok(), "{change}");
        let row = Submissions::find().one(&world.db).await.unwrap().unwrap();
        let read = batch_state(&row);
        assert!(
            matches!(read, Err(StateError::CorruptRow { .. })),
            "{change}: {read:?}"
        );
        world.meddle("ROLLBACK TO s; RELEASE s").await;
        world.meddle("PRAGMA ignore_check_constraints = OFF").await;
    }
    let settled = "UPDATE submissions SET state = 'settled', remote_name = 'x', closed_at = 'now',
                   count_submitted = 3, count_succeeded = 1, count_failed = 1, count_missing = 0,
                   count_released = 0";
    assert!(world.db.execute_unprepared(settled).await.is_err(), "P5");
}

#[actix::test]
async fn s4_03_columns_of_json_take_nothing_else() {
    let world = World::new().await;
    world.collect("b1", [1]).await;
    for (table, column) in [
        ("recipes", "generation_config"),
        ("runs", "totals"),
        ("pages", "levels"),
        ("page_events", "details"),
        ("submissions", "extra_jobs"),
        ("attempts", "parameters"),
    ] {
        let set = |value: &str| format!("UPDATE {table} SET {column} = '{value}'");
        let refused = world.db.execute_unprepared(&set("{a")).await;
        let fault = refused.unwrap_err().to_string();
        assert!(fault.contains("CHECK constraint"), "{table}: {fault}");
        let taken = world.db.execute_unprepared(&set("{\"a\": 1}")).await;
        assert!(taken.is_ok(), "{table}: {taken:?}");
        let read = format!("SELECT {column}->>'a' FROM {table}");
        assert!(!ask(&world.db, &read).await.is_empty(), "{table}");
    }
}

#[actix::test]
async fn words_of_the_tables_are_the_words_of_the_domain() {
    let (_folder, db) = migrated().await;
    let tables = objects(&db).await.join("\n");
    for error in ErrorType::ALL {
        assert!(tables.contains(&format!("'{error}'")), "{error}");
    }
    for stage in pagemill::domain::batch::BatchStage::ALL {
        assert!(tables.contains(&format!("'{stage}'")), "{stage}");
    }
    for code in pagemill::domain::batch::AbandonCode::ALL {
        assert!(tables.contains(&format!("'{code}'")), "{code}");
    }
    for state in pagemill::actors::state::messages::LedgerState::ALL {
        assert!(tables.contains(&format!("'{state}'")), "{state}");
    }
    for status in pagemill::actors::state::messages::RunStatus::ALL {
        assert!(tables.contains(&format!("'{status}'")), "{status}");
    }
    for kind in pagemill::domain::alert::AlertKind::ALL {
        assert!(tables.contains(&format!("'{kind}'")), "{kind}");
    }
    for channel in pagemill::domain::alert::Channel::ALL {
        assert!(tables.contains(&format!("'{channel}'")), "{channel}");
    }
}

/// How SQLite answers a question, a step a line.
pub async fn query_plan(db: &DatabaseConnection, sql: &str) -> String {
    let statement = sea_orm::Statement::from_string(
        db.get_database_backend(),
        format!("EXPLAIN QUERY PLAN {sql}"),
    );
    let rows = db.query_all_raw(statement).await.unwrap();
    let steps: Vec<String> = rows
        .iter()
        .map(|row| row.try_get::<String>("", "detail").unwrap())
        .collect();
    steps.join("\n")
}

#[actix::test]
async fn no_recurring_question_scans_the_pages() {
    let (_folder, db) = migrated().await;
    let fixed = state::RECURRING.iter();
    let fixed = fixed.map(|(name, sql)| (*name, (*sql).to_owned()));
    for (name, sql) in fixed.chain(state::recurring_changes()) {
        let plan = query_plan(&db, &sql).await;

        for (place, step) in plan.lines().enumerate() {
            // What is walked from end to end may be a list of ours, once; a few rows that were
            // found by an index; or an index that holds only what is asked for.
            let walks_a_list =
                step.contains("VIRTUAL TABLE") && (place == 0 || step.contains("_each"));
            let walks_few = ["SCAN c", "SCAN w", "SCAN f", "SCAN chunk"].contains(&step)
                || step.starts_with("SCAN (")
                || step.contains("CONSTANT ROW")
                || step.ends_with("INDEX remote_files_deleting")
                || step.ends_with("INDEX alerts_open")
                || step.ends_with("INDEX halts_open")
                || step.ends_with("INDEX pages_uploaded")
                || step.ends_with("INDEX orders_open")
                || step.ends_with("INDEX sqlite_autoindex_inflight_records_1");
            let scans_a_table = step.starts_with("SCAN") && !walks_a_list && !walks_few;
            assert!(!scans_a_table, "{name}:\n{plan}");
            assert!(!step.contains("AUTOMATIC"), "{name}:\n{plan}");
        }
        // What is being uploaded or judged is read itself, and limited.
        let reads_few = name == "most urgent";
        let is_partial = reads_few
            || !plan.contains("pages_stage")
            || plan.contains("COVERING INDEX pages_stage");
        assert!(
            is_partial,
            "{name} reads more pages than it asks for:\n{plan}"
        );
        let sorts_pages = plan.contains("TEMP B-TREE FOR ORDER BY")
            && ["claim", "list uploaded", "list deletable"].contains(&name);
        assert!(!sorts_pages, "{name}:\n{plan}");
    }
}

#[actix::test]
async fn no_question_about_one_page_scans_a_table() {
    use pagemill::actors::state::{desk_page, desk_story};
    let (_folder, db) = migrated().await;
    let fixed = desk_page::QUESTIONS.iter();
    let fixed = fixed.map(|(name, sql)| (*name, (*sql).to_owned()));
    for (name, sql) in fixed.chain(desk_story::questions()) {
        let plan = query_plan(&db, &sql).await;
        for step in plan.lines().filter(|step| step.starts_with("SCAN")) {
            // A list of ours, the rows that a walk has found so far, or an index that holds only
            // the pages that wait.
            let is_few = [
                "SCAN k VIRTUAL TABLE",
                "SCAN chain",
                "SCAN c",
                "SCAN s",
                "SCAN step",
            ]
            .iter()
            .any(|few| step.starts_with(few))
                || step.ends_with("INDEX pages_uploaded")
                || step.contains("CONSTANT ROW");
            assert!(is_few, "{name}:\n{plan}");
        }
        assert!(!plan.contains("AUTOMATIC"), "{name}:\n{plan}");
    }
}
