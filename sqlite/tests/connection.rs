//! What SeaORM is told by a connection of ours: values, faults, and how transactions end.

use std::path::PathBuf;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement, TransactionTrait, Value};
use sqlite::{Access, Mode, Options, Owner, code_of, connect, connect_to};
use tempfile::TempDir;

const READONLY: u32 = 8;
const BUSY: u32 = 5;
const CANTOPEN: u32 = 14;
const CONSTRAINT: u32 = 19;

/// A folder, and a path in it where nothing is yet.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    (folder, path)
}

/// A database with a table of parents and one of children.
async fn owner(path: &std::path::Path) -> Owner {
    let options = Options::new(path, Access::Create).pragma("journal_mode", "WAL");
    let impatient = Options {
        busy: Duration::ZERO,
        ..options
    };
    let owner = Owner::open(&impatient).await.unwrap();
    let tables = "CREATE TABLE IF NOT EXISTS parents (name TEXT PRIMARY KEY) STRICT;
         CREATE TABLE IF NOT EXISTS children (
             name TEXT NOT NULL REFERENCES parents (name) DEFERRABLE INITIALLY DEFERRED) STRICT";
    owner.connection().execute_unprepared(tables).await.unwrap();
    owner
}

fn asked(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(sea_orm::DbBackend::Sqlite, sql, values)
}

async fn count(db: &impl ConnectionTrait, table: &str) -> i64 {
    let question = asked(&format!("SELECT count(*) AS n FROM {table}"), []);
    let row = db.query_one_raw(question).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

async fn add(db: &impl ConnectionTrait, table: &str, name: &str) -> Result<u64, DbErr> {
    let change = asked(&format!("INSERT INTO {table} VALUES (?)"), [name.into()]);
    Ok(db.execute_raw(change).await?.rows_affected())
}

fn primary(error: &DbErr) -> Option<u32> {
    code_of(error).map(|code| code & 0xff)
}

#[tokio::test]
async fn values_come_back_as_they_were_given() {
    let (_folder, path) = place();
    let connection = connect(Options::new(&path, Access::Create)).await.unwrap();
    let given: [Value; 5] = [
        "t\u{e9}xt".into(),
        i64::MIN.into(),
        0.5.into(),
        vec![0_u8, 255].into(),
        Value::String(None),
    ];
    let question = asked("SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e", given);
    let row = connection.query_one_raw(question).await.unwrap().unwrap();
    assert_eq!(row.try_get::<String>("", "a").unwrap(), "t\u{e9}xt");
    assert_eq!(row.try_get::<i64>("", "b").unwrap(), i64::MIN);
    assert_eq!(row.try_get::<f64>("", "c").unwrap(), 0.5);
    assert_eq!(row.try_get::<Vec<u8>>("", "d").unwrap(), [0, 255]);
    assert_eq!(row.try_get::<Option<i64>>("", "e").unwrap(), None);
    assert!(row.try_get::<String>("", "e").is_err());
}

#[tokio::test]
async fn every_kind_of_whole_number_is_one_of_sqlites() {
    let (_folder, path) = place();
    let connection = connect(Options::new(&path, Access::Create)).await.unwrap();
    let seven: [Value; 8] = [
        7_i8.into(),
        7_i16.into(),
        7_i32.into(),
        7_i64.into(),
        7_u8.into(),
        7_u16.into(),
        7_u32.into(),
        7_u64.into(),
    ];
    for value in seven.into_iter().chain([true.into()]) {
        let expected = if value == true.into() { 1 } else { 7 };
        let question = asked("SELECT ? AS a", [value.clone()]);
        let row = connection.query_one_raw(question).await.unwrap().unwrap();
        assert_eq!(row.try_get::<i64>("", "a").unwrap(), expected, "{value:?}");
    }
}

#[tokio::test]
async fn a_number_that_sqlite_cannot_hold_and_a_place_without_a_value_are_refused() {
    let (_folder, path) = place();
    let connection = connect(Options::new(&path, Access::Create)).await.unwrap();
    let too_large = asked("SELECT ? AS a", [u64::MAX.into()]);
    assert!(connection.query_one_raw(too_large).await.is_err());
    let too_few = asked("SELECT ?1 AS a, ?2 AS b", [1_i64.into()]);
    let error = connection.query_one_raw(too_few).await.unwrap_err();
    let words = "1 values for 2 places in: SELECT ?1 AS a, ?2 AS b";
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn columns_that_could_not_be_told_apart_are_refused() {
    let (_folder, path) = place();
    let connection = connect(Options::new(&path, Access::Create)).await.unwrap();
    let error = connection.query_one_raw(asked("SELECT 1 AS a, 2 AS a", []));
    let error = error.await.unwrap_err().to_string();
    assert!(
        error.contains("two columns have one name in: SELECT 1 AS a, 2 AS a"),
        "{error}"
    );
}

#[tokio::test]
async fn rows_that_a_change_touches_are_counted_and_none_for_a_question() {
    let (_folder, path) = place();
    let owner = owner(&path).await;
    let db = owner.connection();
    let two = asked("INSERT INTO parents VALUES (?1), (?1 || ?1)", ["a".into()]);
    assert_eq!(db.execute_raw(two).await.unwrap().rows_affected(), 2);
    let question = asked("SELECT ?1, name FROM parents", ["a".into()]);
    assert_eq!(db.execute_raw(question).await.unwrap().rows_affected(), 0);
    let both = "INSERT INTO parents VALUES ('b'); DELETE FROM parents";
    let done = db.execute_unprepared(both).await.unwrap();
    assert_eq!(done.rows_affected(), 4);
}

#[tokio::test]
async fn a_commit_that_fails_is_told_and_leaves_nothing() {
    let (_folder, path) = place();
    let owner = owner(&path).await;
    let transaction = owner.begin(Mode::Write).await.unwrap();
    add(&transaction, "parents", "a").await.unwrap();
    add(&transaction, "children", "nobody's").await.unwrap();
    let error = owner.commit(transaction).await.unwrap_err();
    assert_eq!(primary(&error), Some(CONSTRAINT), "{error}");
    assert_eq!(count(owner.connection(), "parents").await, 0);
    // And the next one is as good as any.
    let transaction = owner.begin(Mode::Write).await.unwrap();
    add(&transaction, "parents", "a").await.unwrap();
    owner.commit(transaction).await.unwrap();
    assert_eq!(count(owner.connection(), "parents").await, 1);
}

#[tokio::test]
async fn nothing_is_changed_behind_a_transaction_that_has_ended_by_itself() {
    let (_folder, path) = place();
    let owner = owner(&path).await;
    let transaction = owner.begin(Mode::Write).await.unwrap();
    add(&transaction, "parents", "a").await.unwrap();
    // As a full disk does.
    let ended = "INSERT OR ROLLBACK INTO parents VALUES ('a')";
    assert!(transaction.execute_unprepared(ended).await.is_err());
    let error = add(&transaction, "parents", "b").await.unwrap_err();
    assert!(
        error.to_string().contains("ended the transaction"),
        "{error}"
    );
    let savepoint = owner.savepoint(&transaction).await;
    assert!(savepoint.is_err());
    assert!(owner.commit(transaction).await.is_err());
    assert_eq!(count(owner.connection(), "parents").await, 0);
    // And the next one is as good as any.
    let transaction = owner.begin(Mode::Write).await.unwrap();
    add(&transaction, "parents", "a").await.unwrap();
    owner.commit(transaction).await.unwrap();
    assert_eq!(count(owner.connection(), "parents").await, 1);
}

#[tokio::test]
async fn a_commit_aside_that_fails_is_told_by_whatever_is_asked_next() {
    let (_folder, path) = place();
    owner(&path).await.close().unwrap();
    let connection = connect_to(&path).await.unwrap();
    let transaction = connection.begin().await.unwrap();
    add(&transaction, "children", "nobody's").await.unwrap();
    transaction.commit().await.unwrap();
    let error = add(&connection, "parents", "a").await.unwrap_err();
    assert_eq!(primary(&error), Some(CONSTRAINT), "{error}");
    assert_eq!(add(&connection, "parents", "a").await.unwrap(), 1);
    assert_eq!(count(&connection, "children").await, 0);
}

#[tokio::test]
async fn what_is_dropped_or_taken_back_is_gone_and_the_rest_stays() {
    let (_folder, path) = place();
    let owner = owner(&path).await;
    let transaction = owner.begin(Mode::Write).await.unwrap();
    add(&transaction, "parents", "a").await.unwrap();
    for is_kept in [true, false] {
        let savepoint = owner.savepoint(&transaction).await.unwrap();
        add(&savepoint, "parents", &is_kept.to_string())
            .await
            .unwrap();
        if is_kept {
            owner.commit(savepoint).await.unwrap();
        } else {
            owner.rollback(savepoint).await.unwrap();
        }
    }
    drop(owner.savepoint(&transaction).await.unwrap());
    owner.commit(transaction).await.unwrap();
    assert_eq!(count(owner.connection(), "parents").await, 2);
    let transaction = owner.begin(Mode::Write).await.unwrap();
    add(&transaction, "parents", "b").await.unwrap();
    drop(transaction);
    assert_eq!(count(owner.connection(), "parents").await, 2);
}

#[tokio::test]
async fn who_means_to_write_begins_only_when_nobody_else_writes() {
    let (_folder, path) = place();
    let (one, other) = (owner(&path).await, owner(&path).await);
    let transaction = one.begin(Mode::Write).await.unwrap();
    let error = other.begin(Mode::Write).await.unwrap_err();
    assert_eq!(primary(&error), Some(BUSY), "{error}");
    let reading = other.begin(Mode::Read).await.unwrap();
    assert_eq!(count(&reading, "parents").await, 0);
    other.rollback(reading).await.unwrap();
    one.commit(transaction).await.unwrap();
    let transaction = other.begin(Mode::Write).await.unwrap();
    other.commit(transaction).await.unwrap();
}

#[tokio::test]
async fn a_database_is_made_only_where_that_was_asked_for_and_written_only_where_that_is_allowed() {
    let (_folder, path) = place();
    for access in [Access::Read, Access::Write] {
        let error = connect(Options::new(&path, access)).await.unwrap_err();
        assert_eq!(primary(&error), Some(CANTOPEN), "{error}");
        assert!(!path.exists());
    }
    owner(&path).await.close().unwrap();
    let reading: DatabaseConnection = connect(Options::new(&path, Access::Read)).await.unwrap();
    let error = add(&reading, "parents", "a").await.unwrap_err();
    assert_eq!(primary(&error), Some(READONLY), "{error}");
    assert_eq!(count(&reading, "parents").await, 0);
}
