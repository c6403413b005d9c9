//! A state in the middle of a large work, made by SQL alone; the benches make it with a million
//! pages.

use std::path::Path;

use pagemill::domain::time::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection};

/// How large it is.
pub struct LargeState<'a> {
    pub pages: u32,
    /// Ten of them are live.
    pub batches: u32,
    /// Of each page.
    pub events: u32,
    pub failures: u32,
    pub scope: &'a str,
    pub now: Timestamp,
}

impl LargeState<'_> {
    /// Fills the migrated database at `path`.
    pub async fn fill(&self, path: &Path) {
        let LargeState {
            pages,
            batches,
            events,
            failures,
            scope,
            now,
        } = self;
        let db = quick(path).await;
        let size = format!(
            "CREATE TEMP TABLE size AS SELECT {pages} AS pages, {batches} AS batches,
             {events} AS events, {failures} AS failures, '{scope}' AS scope, '{now}' AS now"
        );
        for sql in ["BEGIN", &size, include_str!("large_state.sql"), "COMMIT"] {
            db.execute_unprepared(sql).await.unwrap();
        }
        db.close().await.unwrap();
    }
}

/// A connection that takes no care: what it makes can be made again.
async fn quick(path: &Path) -> DatabaseConnection {
    let options = sqlite::Options::new(path, sqlite::Access::Write)
        .pragma("synchronous", "OFF")
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-400000");
    sqlite::connect(options).await.unwrap()
}
