//! The floor of growth: pages change their stage, each time with a line of history, by SQLite alone.
//!
//! The statements are prepared once a commit and run raw, a row at a time, on the pages that a claim would take. Each
//! hundred pages are a commit. What grows here grows with the tables: no message, no question, nothing that we decide.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior, params};

/// As often as a page changes its stage from the work list to its end.
const CHANGES: usize = 6;

/// Microseconds a page of each round, sorted. Each round takes pages that no round had before.
pub fn changes_alone(path: &Path, pages: u64, together: usize, rounds: usize) -> Vec<f64> {
    let mut db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 10000; PRAGMA cache_size = -10240; PRAGMA temp_store = MEMORY",
    )
    .unwrap();
    let keys = claimed_next(&db, pages * rounds as u64);
    assert!(!keys.is_empty(), "no page waits");
    let mut taken: Vec<f64> = keys
        .chunks(pages as usize)
        .map(|keys| {
            let since = Instant::now();
            for change in 0..CHANGES {
                for some in keys.chunks(together) {
                    change_stage(&mut db, some, change);
                }
            }
            since.elapsed().as_secs_f64() * 1e6 / keys.len() as f64
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    taken
}

/// The pages that are claimed next, the most urgent first.
fn claimed_next(db: &Connection, count: u64) -> Vec<String> {
    let question = "
        SELECT record_key FROM pages
        WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL AND scope = 'scope'
        ORDER BY priority DESC, chain_ahead DESC, record_key LIMIT ?1";
    let mut prepared = db.prepare(question).unwrap();
    let keys = prepared.query_map([i64::try_from(count).unwrap()], |row| row.get(0));
    keys.unwrap().map(Result::unwrap).collect()
}

/// There and back: the rules of the tables let a page that is being uploaded go back to the work list.
fn change_stage(db: &mut Connection, keys: &[String], change: usize) {
    let [from, to] = match change % 2 {
        0 => ["discovered", "uploading"],
        _ => ["uploading", "discovered"],
    };
    let at = format!("2026-01-01T00:00:{change:02}.000Z");
    let begun = db.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = begun.unwrap();
    let update = "UPDATE pages SET stage = ?2, updated_at = ?3 WHERE record_key = ?1";
    let insert = "INSERT INTO page_events (record_key, from_stage, to_stage, at, event)
                  VALUES (?1, ?2, ?3, ?4, 'floor')";
    let mut update = transaction.prepare(update).unwrap();
    let mut insert = transaction.prepare(insert).unwrap();
    for key in keys {
        assert_eq!(update.execute(params![key, to, at]).unwrap(), 1, "{key}");
        insert.execute(params![key, from, to, at]).unwrap();
    }
    drop((update, insert));
    transaction.commit().unwrap();
}
