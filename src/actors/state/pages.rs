//! Changing pages: many are loaded at once, moved in memory by `domain::page::next`, and written
//! back with their history in a few statements.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use serde_json::{Value, json};

use super::Rules;
use super::messages::{StateError, StateResult};
use super::page_words::{event_details, sentence};
use super::rows::{COLUMNS, PAGE_COLUMNS, PageRow};
use super::spread::{Cell, Spread};
use super::sql::{CHUNK_ROWS, execute, execute_exactly, json_list, listed, text};
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

/// One line of a page's history.
#[derive(Debug)]
pub(super) struct Happened {
    pub key: RecordKey,
    pub from: PageStage,
    pub to: PageStage,
    pub event: &'static str,
    pub run: Option<RunId>,
    pub batch: Option<BatchId>,
    /// The order that it is due to; without one, the batch or the run.
    pub order: Option<OrderId>,
    /// A JSON object.
    pub details: Cow<'static, str>,
}

/// Pages in the middle of a change.
pub(super) struct Pages {
    loaded: BTreeMap<String, Loaded>,
    events: Vec<Happened>,
    /// Images that their pages let go of.
    freed_files: Vec<String>,
}

struct Loaded {
    row: PageRow,
    /// The row as it was loaded, once it has changed.
    before: Option<Box<PageRow>>,
    was: PageStage,
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
                    before: None,
                    was,
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
        if entry.before.is_none() {
            entry.before = Some(Box::new(entry.row.clone()));
        }
        entry.row.put(&after);
        entry.row.status = if status.is_empty() {
            sentence(event)
        } else {
            status.to_owned()
        };
        // A page that is being judged keeps its image until its batch is settled.
        let lets_go = entry.row.image_file.is_none() && !matches!(event, PageEvent::AnswerAtHand);
        if lets_go {
            self.freed_files.extend(image_before);
        }
        let own_run = || entry.row.run_id.as_deref().map(RunId::from);
        self.events.push(Happened {
            key: key.clone(),
            from: before.stage(),
            to: after.stage(),
            event: event.as_str(),
            run: cause.run.cloned().or_else(own_run),
            batch: cause.batch.cloned(),
            order: None,
            details,
        });
        Ok(&mut entry.row)
    }

    /// Signs the history of what was applied so far: who gave the order, and why.
    pub(super) fn sign(&mut self, by: &Value, order: &OrderId) {
        for event in &mut self.events {
            let mut details: Value =
                serde_json::from_str(&event.details).unwrap_or_else(|_| json!({}));
            if let (Some(details), Some(by)) = (details.as_object_mut(), by.as_object()) {
                details.extend(by.clone());
            }
            event.details = details.to_string().into();
            event.order = Some(order.clone());
        }
    }

    /// Writes what changed and gives the number of pages that no longer wait for another.
    pub(super) async fn write(
        self,
        tx: &DatabaseTransaction,
        rules: &Rules,
        at: Timestamp,
    ) -> StateResult<u64> {
        let changed: Vec<&Loaded> = self
            .loaded
            .values()
            .filter(|page| page.before.is_some())
            .collect();
        update(tx, &changed, at).await?;
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

/// Writes history.
pub(super) async fn insert_events(
    tx: &DatabaseTransaction,
    events: &[Happened],
    at: Timestamp,
) -> StateResult<()> {
    for chunk in events.chunks(CHUNK_ROWS) {
        let rows: Vec<[Cell<'_>; 8]> = chunk.iter().map(Happened::cells).collect();
        let spread = Spread::of(&rows, &[0, 1, 2, 3, 4, 5, 6, 7], 3);
        let sql = format!(
            "INSERT INTO page_events
                 (at, record_key, from_stage, to_stage, event, run_id, batch_id, correlation_id,
                  details)
             SELECT ?2, {} FROM jsonb_each(?1) AS c",
            spread.terms.join(", ")
        );
        let values = spread.values([text(at)]);
        execute_exactly(tx, &sql, values, chunk.len()).await?;
    }
    Ok(())
}

impl Happened {
    /// The line as [`insert_events`] writes it.
    fn cells(&self) -> [Cell<'_>; 8] {
        let run = self.run.as_ref().map(RunId::as_str);
        let batch = self.batch.as_ref().map(BatchId::as_str);
        let order = self.order.as_ref().map(OrderId::as_str);
        [
            self.key.as_str().into(),
            self.from.as_str().into(),
            self.to.as_str().into(),
            self.event.into(),
            run.into(),
            batch.into(),
            order.or(batch).or(run).into(),
            Cell::Text(&self.details),
        ]
    }
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
        "SELECT json_group_array(json_array({PAGE_COLUMNS})) FROM pages AS p \
         WHERE p.record_key IN (SELECT value FROM json_each(?1))"
    );
    listed(tx, &sql, [json_list(keys.iter().copied())]).await
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

/// Writes the columns that changed. Pages that changed in the same columns are written together.
async fn update(tx: &DatabaseTransaction, changed: &[&Loaded], at: Timestamp) -> StateResult<()> {
    let mut alike: BTreeMap<(&str, Vec<usize>), Vec<[Cell<'_>; COLUMNS]>> = BTreeMap::new();
    for page in changed {
        let after = page.row.cells();
        let before = page.before.as_ref().map_or(after, |before| before.cells());
        let touched = (1..COLUMNS).filter(|at| before[*at] != after[*at]);
        let group = (page.was.as_str(), touched.collect());
        alike.entry(group).or_default().push(after);
    }
    for ((was, columns), rows) in &alike {
        for chunk in rows.chunks(CHUNK_ROWS) {
            let spread = Spread::of(chunk, columns, 4);
            let sql = update_sql(columns, &spread);
            let values = spread.values([text(at), text(was)]);
            execute_exactly(tx, &sql, values, chunk.len()).await?;
        }
    }
    Ok(())
}

/// The plus keeps SQLite from looking through all pages of the stage. Where all pages change alike, SQLite
/// need not set the new values aside.
fn update_sql(columns: &[usize], spread: &Spread) -> String {
    let assignments: String = columns
        .iter()
        .zip(&spread.terms)
        .map(|(column, term)| format!("{} = {term}, ", PageRow::COLUMNS[*column]))
        .collect();
    if spread.lists_keys_only() {
        return format!(
            "UPDATE pages SET {assignments}updated_at = ?2
             WHERE record_key IN (SELECT value->>0 FROM jsonb_each(?1)) AND +stage = ?3"
        );
    }
    format!(
        "UPDATE pages SET {assignments}updated_at = ?2 FROM jsonb_each(?1) AS c
         WHERE pages.record_key = c.value->>0 AND +pages.stage = ?3"
    )
}

/// The updates of pages of which every column changes: none of them alike, and all alike.
pub(super) fn updates_of_everything() -> [String; 2] {
    let columns: Vec<usize> = (1..COLUMNS).collect();
    let [mut one, mut other] = [[Cell::Null; COLUMNS]; 2];
    for at in 0..COLUMNS {
        (one[at], other[at]) = (Cell::Integer(1), Cell::Integer(2));
    }
    let apart = Spread::of(&[one, other], &columns, 4);
    let alike = Spread::of(&[one, one], &columns, 4);
    [&apart, &alike].map(|spread| update_sql(&columns, spread))
}
