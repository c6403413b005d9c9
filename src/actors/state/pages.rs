//! Changing pages: many are loaded at once, moved in memory by `domain::page::next`, and written
//! back with their history in a few statements.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use serde_json::{Value, json};

use super::Rules;
use super::messages::{StateError, StateResult};
use super::rows::{PAGE_COLUMNS, PageRow, event_details, sentence};
use super::sql::{CHUNK_ROWS, execute, execute_exactly, json_list, rows, text};
use crate::domain::ids::{BatchId, OrderId, RecordKey, RunId};
use crate::domain::page::{PageEvent, PageStage, next};
use crate::domain::time::Timestamp;

/// On whose behalf pages change, for their history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    /// The run; without one, the page's own.
    pub run: Option<&'a RunId>,
    pub batch: Option<&'a BatchId>,
}

/// Pages in the middle of a change.
pub(super) struct Pages {
    loaded: BTreeMap<String, Loaded>,
    events: Vec<Value>,
    /// Images that their pages let go of.
    freed_files: Vec<String>,
}

struct Loaded {
    row: PageRow,
    was: PageStage,
    changed: bool,
}

impl Pages {
    /// Loads pages; every key must be known.
    pub(super) async fn load<'a>(
        tx: &DatabaseTransaction,
        keys: impl IntoIterator<Item = &'a RecordKey>,
    ) -> StateResult<Self> {
        let mut wanted: Vec<&str> = keys.into_iter().map(RecordKey::as_str).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut loaded = BTreeMap::new();
        for chunk in wanted.chunks(CHUNK_ROWS) {
            for row in load_rows(tx, chunk).await? {
                let was = row.page_stage()?;
                let entry = Loaded {
                    row,
                    was,
                    changed: false,
                };
                loaded.insert(entry.row.record_key.clone(), entry);
            }
        }
        if let Some(absent) = wanted.iter().find(|key| !loaded.contains_key(**key)) {
            return Err(StateError::Missing(format!("page '{absent}'")));
        }
        Ok(Pages {
            loaded,
            events: Vec::new(),
            freed_files: Vec::new(),
        })
    }

    /// The row of a loaded page, as it stands now.
    pub(super) fn row(&self, key: &RecordKey) -> StateResult<&PageRow> {
        self.loaded
            .get(key.as_str())
            .map(|entry| &entry.row)
            .ok_or_else(|| StateError::Missing(format!("page '{key}'")))
    }

    /// The stage of a loaded page, as it stands now.
    pub(super) fn stage(&self, key: &RecordKey) -> StateResult<PageStage> {
        self.row(key)?.page_stage()
    }

    /// Moves one page and notes its history. `status` may be empty: then the event says it all.
    pub(super) fn apply(
        &mut self,
        key: &RecordKey,
        event: &PageEvent,
        cause: &Cause<'_>,
        status: &str,
    ) -> StateResult<&mut PageRow> {
        let entry = self
            .loaded
            .get_mut(key.as_str())
            .ok_or_else(|| StateError::Missing(format!("page '{key}'")))?;
        let before = entry.row.state()?;
        let after = next(&before, event)?;
        let details = event_details(event, &entry.row);
        let image_before = entry.row.image_file.clone();
        entry.row.put(&after);
        entry.row.status = if status.is_empty() {
            sentence(event)
        } else {
            status.to_owned()
        };
        entry.changed = true;
        // A page that is being judged keeps its image until its batch is settled.
        let lets_go = entry.row.image_file.is_none() && !matches!(event, PageEvent::AnswerAtHand);
        if lets_go {
            self.freed_files.extend(image_before);
        }
        let run = cause.run.map(RunId::as_str).or(entry.row.run_id.as_deref());
        let batch = cause.batch.map(BatchId::as_str);
        self.events.push(json!([
            key.as_str(),
            before.stage().as_str(),
            after.stage().as_str(),
            event.as_str(),
            run,
            batch,
            batch.or(run),
            details.to_string(),
        ]));
        Ok(&mut entry.row)
    }

    /// Signs the history of what was applied so far: who gave the order, and why.
    pub(super) fn sign(&mut self, by: &Value, order: &OrderId) {
        for event in &mut self.events {
            let details = event.get(DETAILS).and_then(Value::as_str).unwrap_or("{}");
            let mut details: Value = serde_json::from_str(details).unwrap_or_else(|_| json!({}));
            if let (Some(details), Some(by)) = (details.as_object_mut(), by.as_object()) {
                details.extend(by.clone());
            }
            event[DETAILS] = details.to_string().into();
            event[CORRELATION] = order.as_str().into();
        }
    }

    /// Writes what changed and gives the number of pages that no longer wait for another.
    pub(super) async fn write(
        self,
        tx: &DatabaseTransaction,
        rules: &Rules,
        at: Timestamp,
    ) -> StateResult<u64> {
        let changed: Vec<&Loaded> = self.loaded.values().filter(|page| page.changed).collect();
        for chunk in changed.chunks(CHUNK_ROWS) {
            let list = json_list(chunk.iter().map(|page| page_values(page)));
            execute_exactly(tx, UPDATE_PAGES, [list, text(at)], chunk.len()).await?;
        }
        insert_events(tx, &self.events, at).await?;
        mark_deleting(tx, &self.freed_files, at).await?;
        let revived: Vec<&str> = changed
            .iter()
            .filter(|page| page.was == PageStage::Dead)
            .filter(|page| page.row.stage == PageStage::Completed.as_str())
            .map(|page| page.row.record_key.as_str())
            .collect();
        forgive(tx, &revived).await?;
        let opened: Vec<&str> = changed
            .iter()
            .filter(|page| rules.opens(page.was, &page.row.stage))
            .map(|page| page.row.record_key.as_str())
            .collect();
        unlock(tx, &opened, at).await
    }
}

/// Where an event's row holds what it is correlated by, and its details.
const CORRELATION: usize = 6;
const DETAILS: usize = 7;

/// Writes history, each event as [`INSERT_EVENTS`] reads it.
pub(super) async fn insert_events(
    tx: &DatabaseTransaction,
    events: &[Value],
    at: Timestamp,
) -> StateResult<()> {
    for chunk in events.chunks(CHUNK_ROWS) {
        let list = json_list(chunk.iter().cloned());
        execute_exactly(tx, INSERT_EVENTS, [list, text(at)], chunk.len()).await?;
    }
    Ok(())
}

impl Rules {
    /// Whether pages that wait for one may run once it moved so.
    fn opens(&self, was: PageStage, now: &str) -> bool {
        let completed = was != PageStage::Completed && now == PageStage::Completed.as_str();
        let died = was != PageStage::Dead && now == PageStage::Dead.as_str();
        completed || (died && self.unlock_behind_dead)
    }
}

async fn load_rows(tx: &DatabaseTransaction, keys: &[&str]) -> StateResult<Vec<PageRow>> {
    let sql = format!(
        "SELECT {PAGE_COLUMNS} FROM pages AS p \
         WHERE p.record_key IN (SELECT value FROM json_each(?1))"
    );
    rows(tx, &sql, [json_list(keys.iter().copied())]).await
}

/// A dead page that has an output after all has all its retries again, should it ever be asked for
/// once more. The logs of its failures stay.
async fn forgive(tx: &DatabaseTransaction, keys: &[&str]) -> StateResult<()> {
    for chunk in keys.chunks(CHUNK_ROWS) {
        for sql in [FORGET_COUNTS, UNCOUNT_LOGS] {
            execute(tx, sql, [json_list(chunk.iter().copied())]).await?;
        }
    }
    Ok(())
}

const FORGET_COUNTS: &str = "
    DELETE FROM failure_counts WHERE record_key IN (SELECT value FROM json_each(?1))";

const UNCOUNT_LOGS: &str = "
    UPDATE failure_logs SET counted = 0
    WHERE record_key IN (SELECT value FROM json_each(?1)) AND counted <> 0";

/// Frees the pages that wait for one of these.
pub(super) async fn unlock(
    tx: &DatabaseTransaction,
    keys: &[&str],
    at: Timestamp,
) -> StateResult<u64> {
    let mut unlocked = 0;
    for chunk in keys.chunks(CHUNK_ROWS) {
        let list = json_list(chunk.iter().copied());
        unlocked += execute(tx, UNLOCK, [list, text(at)]).await?;
    }
    Ok(unlocked)
}

pub(super) const UNLOCK: &str = "
    UPDATE pages SET waits_for = NULL, updated_at = ?2
    WHERE waits_for IN (SELECT value FROM json_each(?1))";

/// Marks remote files that nobody needs any more.
pub(super) async fn mark_deleting(
    tx: &impl ConnectionTrait,
    names: &[String],
    at: Timestamp,
) -> StateResult<()> {
    for chunk in names.chunks(CHUNK_ROWS) {
        let list = json_list(chunk.iter().map(String::as_str));
        execute(tx, MARK_DELETING, [list, text(at)]).await?;
    }
    Ok(())
}

pub(super) const MARK_DELETING: &str = "
    UPDATE remote_files SET state = 'deleting', updated_at = ?2
    WHERE name IN (SELECT value FROM json_each(?1)) AND state = 'live'";

/// The values of one page, in the order in which [`UPDATE_PAGES`] reads them.
fn page_values(page: &Loaded) -> Value {
    let PageRow {
        record_key,
        stage,
        status,
        not_before,
        error,
        upload_cycles,
        releases,
        batch_size_max,
        batch_id,
        run_id,
        recipe_hash,
        image_mime,
        image_bytes,
        image_sha256,
        image_width,
        image_height,
        image_file,
        image_expires_at,
        uploaded_at,
        output_sha256,
        output_bytes,
    } = &page.row;
    json!([
        record_key,
        page.was.as_str(),
        stage,
        status,
        not_before,
        error,
        upload_cycles,
        releases,
        batch_size_max,
        batch_id,
        run_id,
        recipe_hash,
        image_mime,
        image_bytes,
        image_sha256,
        image_width,
        image_height,
        image_file,
        image_expires_at,
        uploaded_at,
        output_sha256,
        output_bytes,
    ])
}

pub(super) const UPDATE_PAGES: &str = "
    UPDATE pages SET
        stage = c.value->>2, status = c.value->>3, not_before = c.value->>4, error = c.value->>5,
        upload_cycles = c.value->>6, releases = c.value->>7, batch_size_max = c.value->>8,
        batch_id = c.value->>9, run_id = c.value->>10, recipe_hash = c.value->>11,
        image_mime = c.value->>12, image_bytes = c.value->>13, image_sha256 = c.value->>14,
        image_width = c.value->>15, image_height = c.value->>16, image_file = c.value->>17,
        image_expires_at = c.value->>18, uploaded_at = c.value->>19,
        output_sha256 = c.value->>20, output_bytes = c.value->>21, updated_at = ?2
    FROM jsonb_each(?1) AS c
    WHERE pages.record_key = c.value->>0 AND pages.stage = c.value->>1";

const INSERT_EVENTS: &str = "
    INSERT INTO page_events
        (record_key, at, from_stage, to_stage, event, run_id, batch_id, correlation_id, details)
    SELECT value->>0, ?2, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
    FROM jsonb_each(?1)";
