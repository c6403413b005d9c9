//! Copies of the database, another in its place, and emptying it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix::Actor;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::clearing::{self, LiveBatch, Trace};
use pagemill::actors::state::copy::{self, CopyError};
use pagemill::actors::state::messages::*;
use pagemill::actors::state::open::{OpenError, StateLock, StateOptions};
use pagemill::actors::state::read::open_as_it_is;
use pagemill::actors::state::replace::{replace, with_suffix};
use pagemill::domain::ids::{BatchId, OrderId};
use pagemill::domain::order::Signature;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::kit::notices;
use crate::kit::state_world::*;

/// A world with a batch at the provider and pages elsewhere.
async fn busy() -> World {
    let world = World::new().await;
    world.submit("b1", 1..=2).await;
    world.upload([3]).await;
    world.register([4, 5]).await;
    world
}

fn nothing(_done: u64, _of: u64) {}

/// Writes beside everybody else, as an operator's own tool might.
fn meddle(path: &Path, sql: &str) {
    let file = Connection::open(path).unwrap();
    file.execute_batch(sql).unwrap();
    file.close().unwrap();
}

fn number(path: &Path, sql: &str) -> i64 {
    let file = Connection::open(path).unwrap();
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A copy of a busy world, alone in a folder.
async fn copied() -> (TempDir, PathBuf) {
    let world = busy().await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy.db");
    copy::copy(&world.path, &to, &mut nothing).unwrap();
    (folder, to)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[actix::test]
async fn s2_56_a_copy_is_of_one_moment_whatever_is_written_meanwhile() {
    const ROW: &str = "INSERT INTO failure_counts (record_key, count, last_updated)
                       VALUES ('late' || random(), 1, '2026-11-22T00:00:00.000000Z')";
    let world = busy().await;
    // Large enough for several steps.
    meddle(
        &world.path,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
         INSERT INTO failure_counts (record_key, count, last_updated)
         SELECT printf('%01000d', i), 1, '2026-11-22T00:00:00.000000Z' FROM n",
    );
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("copy.db");
    let mut steps = 0;
    let census = copy::copy(&world.path, &to, &mut |done, of| {
        assert!(done <= of);
        steps += 1;
        meddle(&world.path, ROW);
    })
    .unwrap();
    assert!(steps > 2, "{steps}");
    assert_eq!(census.rows("failure_counts"), 12_000);
    assert_eq!(census.rows("pages"), 5);
    assert_eq!(
        census.stages,
        [("batched", 2), ("discovered", 2), ("uploaded", 1)]
            .map(|(stage, count)| (stage.to_owned(), count))
    );
    assert_eq!(census.batches, [("submitted".to_owned(), 1)]);
    assert_eq!(copy::examine(&to).unwrap(), census);
    let all = number(&world.path, "SELECT count(*) FROM failure_counts");
    assert_eq!(all, 12_000 + steps);
    // One file, whole by itself.
    assert_eq!(names(folder.path()), ["copy.db"]);
    // What is there is not written over.
    let again = copy::copy(&world.path, &to, &mut nothing);
    assert!(matches!(again, Err(CopyError::Disk { .. })), "{again:?}");
}

#[actix::test]
async fn what_is_wrong_with_a_copy_is_said() {
    let (_folder, path) = copied().await;
    let sane = fs::read(&path).unwrap();
    let fault_of = |sql: &str| {
        fs::write(&path, &sane).unwrap();
        meddle(&path, sql);
        copy::examine(&path).unwrap_err()
    };
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_x', 0)";
    assert!(matches!(fault_of(newer), CopyError::Newer { .. }));
    let dangling = fault_of("PRAGMA foreign_keys=OFF; DELETE FROM recipes");
    assert!(
        dangling
            .to_string()
            .contains("refers to one that is not there"),
        "{dangling}"
    );
    assert!(matches!(
        fault_of("DROP TABLE seaql_migrations"),
        CopyError::Foreign { .. }
    ));
    let mut torn = sane.clone();
    let middle = torn.len() / 2;
    torn[middle..middle + 4096].fill(0x5a);
    fs::write(&path, &torn).unwrap();
    let fault = copy::examine(&path).unwrap_err();
    assert!(matches!(fault, CopyError::Damaged { .. }), "{fault}");
    fs::write(&path, "no database").unwrap();
    let fault = copy::examine(&path).unwrap_err();
    assert!(matches!(fault, CopyError::Damaged { .. }), "{fault}");
    let nowhere = path.with_file_name("none.db");
    assert!(copy::examine(&nowhere).is_err());
    assert!(!nowhere.exists());
}

#[actix::test]
async fn the_former_database_is_kept_with_what_was_written_ahead() {
    let (folder, backup) = copied().await;
    let place = folder.path().join("state.db");
    let kept = folder.path().join("kept.db");
    // Nothing is there yet.
    let lock = StateLock::take(&place).unwrap();
    replace(&lock, &backup, &kept, &mut nothing).unwrap();
    assert!(!kept.exists());
    assert_eq!(
        copy::examine(&place).unwrap(),
        copy::examine(&backup).unwrap()
    );
    // One that a process was killed over: the newest rows are in the file beside it only.
    let writer = Connection::open(&place).unwrap();
    writer
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
             INSERT INTO failure_counts (record_key, count, last_updated)
             VALUES ('ahead', 1, '2026-11-22T00:00:00.000000Z')",
        )
        .unwrap();
    for suffix in ["", "-wal"] {
        let from = with_suffix(&place, suffix);
        fs::copy(from, with_suffix(&folder.path().join("killed"), suffix)).unwrap();
    }
    drop(writer);
    for suffix in ["", "-wal"] {
        let from = with_suffix(&folder.path().join("killed"), suffix);
        fs::rename(from, with_suffix(&place, suffix)).unwrap();
    }
    replace(&lock, &backup, &kept, &mut nothing).unwrap();
    let ahead = "SELECT count(*) FROM failure_counts WHERE record_key = 'ahead'";
    assert_eq!(number(&kept, ahead), 1);
    assert_eq!(number(&place, ahead), 0);
    // What was kept once is not written over.
    let again = replace(&lock, &backup, &kept, &mut nothing);
    assert!(again.is_err());
    assert_eq!(number(&place, ahead), 0);
    // A damaged one is kept as it is.
    fs::write(&place, "damaged").unwrap();
    let other = folder.path().join("other.db");
    replace(&lock, &backup, &other, &mut nothing).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"damaged");
    assert_eq!(
        copy::examine(&place).unwrap(),
        copy::examine(&backup).unwrap()
    );
    // Nor is anything replaced by what does not pass.
    fs::write(&backup, "damaged").unwrap();
    assert!(replace(&lock, &backup, &folder.path().join("more.db"), &mut nothing).is_err());
    assert!(copy::examine(&place).is_ok());
}

#[actix::test]
async fn a_lock_that_is_held_is_not_taken() {
    let world = World::new().await;
    let refused = StateLock::take(&world.path).err().unwrap();
    let path = world.path.clone();
    assert_eq!(refused, OpenError::InUse { path });
}

const SHAPE: &str = "SELECT group_concat(sql, ';') FROM
    (SELECT coalesce(sql, name) AS sql FROM sqlite_master
     WHERE name NOT LIKE 'sqlite%' ORDER BY type, name)";

fn shape(path: &Path) -> String {
    let file = Connection::open(path).unwrap();
    file.query_row(SHAPE, [], |row| row.get(0)).unwrap()
}

#[actix::test]
async fn s1_23_what_would_be_cleared_is_told_and_then_is_cleared() {
    let (_folder, path) = copied().await;
    let db = open_as_it_is(&path).await.unwrap();
    let named = ["b1", "b2"].map(BatchId::from);
    let inventory = clearing::inventory(&db, &named).await.unwrap();
    db.close().await.unwrap();
    let [
        LiveBatch {
            batch,
            state,
            pages,
            ..
        },
    ] = &inventory.live[..]
    else {
        panic!("{:?}", inventory.live);
    };
    assert_eq!(
        (batch.as_str(), state.as_str(), *pages),
        ("b1", "submitted", 2)
    );
    assert_eq!(inventory.closed, []);
    assert!(inventory.remote_files > 0);
    let before = shape(&path);
    let lock = StateLock::take(&path).unwrap();
    let cleared = clearing::clear(&lock, false, &trace()).await.unwrap();
    assert_eq!(cleared, inventory.tables);
    let left = copy::examine(&path).unwrap();
    for (table, rows) in &left.tables {
        // What a new database has, and who emptied this one.
        let stays = ["seaql_migrations", "streaks", "orders"].contains(&table.as_str());
        assert_eq!(*rows == 0, !stays, "{table}");
    }
    assert_eq!(shape(&path), before);
    assert_eq!(number(&path, "SELECT count(*) FROM streaks"), 1);
    let traced = "SELECT count(*) FROM orders WHERE command = 'nuke' AND by_whom = 'ann'
                  AND reason = 'a rehearsal' AND answer->>'$.counts.\"rows deleted\"' > 0";
    assert_eq!(number(&path, traced), 1);
    drop(lock);
    let options = StateOptions {
        path: path.clone(),
        unlock_behind_dead: false,
    };
    let state = StateActor::open(options).await.unwrap().start();
    let run = state.send(start_run()).await.unwrap().unwrap();
    assert_eq!(run.restarts, 0);
}

fn trace() -> Trace {
    Trace {
        id: OrderId::from("o1"),
        signature: Signature {
            by: "ann".to_owned(),
            reason: "a rehearsal".to_owned(),
        },
        at: at(500),
    }
}

#[actix::test]
async fn s1_24_tables_made_anew_are_those_of_a_new_database() {
    let fresh = World::new().await;
    let (_folder, path) = copied().await;
    meddle(
        &path,
        "CREATE TABLE mine (x); CREATE VIEW seen AS SELECT * FROM pages",
    );
    let lock = StateLock::take(&path).unwrap();
    clearing::clear(&lock, true, &trace()).await.unwrap();
    assert_eq!(shape(&path), shape(&fresh.path));
    let version = "SELECT count(*) FROM seaql_migrations";
    assert_eq!(number(&path, version), number(&fresh.path, version));
    let rows = copy::examine(&path).unwrap();
    assert_eq!(
        rows.rows("pages") + rows.rows("page_events") + rows.rows("runs"),
        0
    );
}

#[actix::test]
async fn what_is_not_ours_is_not_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    meddle(
        &path,
        "CREATE TABLE precious (x); INSERT INTO precious VALUES (1)",
    );
    let lock = StateLock::take(&path).unwrap();
    assert!(clearing::clear(&lock, true, &trace()).await.is_err());
    assert_eq!(number(&path, "SELECT count(*) FROM precious"), 1);
}

#[actix::test]
async fn s4_41_slow_messages_are_logged_by_name() {
    notices::listen();
    let open = async |threshold| {
        let folder = tempfile::tempdir().unwrap();
        let options = StateOptions {
            path: folder.path().join("state.db"),
            unlock_behind_dead: false,
        };
        let state = StateActor::open(options).await.unwrap();
        let state = state.log_slow(threshold).start();
        state.send(start_run()).await.unwrap().unwrap();
        state.send(ListInterrupted {}).await.unwrap().unwrap();
        state.send(Close {}).await.unwrap().unwrap();
    };
    open(Duration::from_secs(3_600)).await;
    // No other test has a threshold.
    let slow = || notices::told_by_states("the database took long");
    assert_eq!(slow(), Vec::<String>::new());
    open(Duration::from_nanos(1)).await;
    let told = slow();
    for name in ["StartRun", "commit", "ListInterrupted"] {
        let found = told
            .iter()
            .find(|line| line.contains(&format!("what=\"{name}\"")));
        assert!(
            found.is_some_and(|line| line.contains("milliseconds=")),
            "{name}: {told:?}"
        );
    }
    assert!(told.iter().any(|line| line.contains("times=4")), "{told:?}");
}
