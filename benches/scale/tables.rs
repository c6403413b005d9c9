//! Databases of any size, made by set-based SQL.

use std::path::Path;

use pagemill::adapters::system_clock;
use sea_orm::{ConnectionTrait, DatabaseConnection};

/// Pages in one book.
pub const BOOK_PAGES: u64 = 250;

/// The levels of page `number`, which begins with 1. Keys ascend with the numbers.
pub fn levels_of(number: u64) -> [String; 4] {
    let (book, page) = ((number - 1) / BOOK_PAGES, (number - 1) % BOOK_PAGES + 1);
    let school = format!("School {book:06}");
    [
        "Alabama".to_owned(),
        school,
        "1849".to_owned(),
        format!("{page:04}"),
    ]
}

/// The key of page `number`.
pub fn key_of(number: u64) -> String {
    levels_of(number).join(":")
}

/// What stands in a prepared database. The pages come in this order.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Pages that are done, each with one attempt, in batches of a hundred that are settled.
    pub completed: u64,
    /// Events of each page.
    pub events: u64,
    /// Batches with the provider, and the pages of each.
    pub live: u64,
    pub members: u64,
    /// Pages whose image is uploaded.
    pub uploaded: u64,
    /// Pages on the work list.
    pub discovered: u64,
    /// Whether a page is the more urgent the more pages follow it in its book, as where they are chained.
    pub chained: bool,
    pub scope: String,
    pub key_fingerprint: String,
    pub image_sha256: String,
    pub image_bytes: u64,
}

impl Tables {
    /// All pages.
    pub fn pages(&self) -> u64 {
        self.completed + self.live * self.members + self.uploaded + self.discovered
    }

    /// The first page of a live batch, by the batch's number from 0.
    pub fn first_of(&self, batch: u64) -> u64 {
        self.completed + batch * self.members + 1
    }

    /// Fills the migrated database at `path`.
    pub async fn fill(&self, path: &Path) {
        let Tables {
            completed,
            events,
            live,
            members,
            uploaded,
            discovered: _,
            chained,
            scope,
            key_fingerprint,
            image_sha256,
            image_bytes,
        } = self;
        let (now, pages) = (system_clock::now(), self.pages());
        let db = quick(path).await;
        let size = format!(
            "CREATE TEMP TABLE size AS SELECT {pages} AS pages, {completed} AS completed,
             {events} AS events, {live} AS live, {members} AS members, {uploaded} AS uploaded,
             {BOOK_PAGES} AS book_pages, {chained} AS chained, '{scope}' AS scope, '{key_fingerprint}' AS fingerprint,
             '{image_sha256}' AS image, {image_bytes} AS image_bytes, '{now}' AS now"
        );
        for sql in ["BEGIN", &size, include_str!("tables.sql"), "COMMIT"] {
            db.execute_unprepared(sql).await.unwrap();
        }
        db.close().await.unwrap();
    }
}

/// Adds so many events, the same to each page as far as they go.
pub async fn add_events(path: &Path, events: u64) {
    let sql = format!(
        "INSERT INTO page_events (record_key, at, from_stage, to_stage, event)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {events})
         SELECT record_key, updated_at, 'discovered', 'discovered', 'requeued' FROM n, pages
         LIMIT {events}"
    );
    change(path, &sql).await;
}

/// Changes a database that nobody else works on.
pub async fn change(path: &Path, sql: &str) {
    let db = quick(path).await;
    for sql in ["BEGIN", sql, "COMMIT"] {
        db.execute_unprepared(sql).await.unwrap();
    }
    db.close().await.unwrap();
}

/// A number from a database that nobody writes to.
pub async fn ask(path: &Path, sql: &str) -> i64 {
    let db = quick(path).await;
    let statement = sea_orm::Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    db.close().await.unwrap();
    row.try_get_by_index(0).unwrap()
}

/// A connection that takes no care: what it makes can be made again.
async fn quick(path: &Path) -> DatabaseConnection {
    let options = sqlite::Options::new(path, sqlite::Access::Write)
        .pragma("synchronous", "OFF")
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-400000");
    sqlite::connect(options).await.unwrap()
}
