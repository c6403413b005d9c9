//! What is asked about the whole: the work that is left, the batches, the figures.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};

use entity::submissions;

use super::messages::{
    BatchRow, ListBatches, ListWork, RawFile, StateResult, StoredFile, Summarize, Summary, WorkLeft,
};
use super::remote_files::{STORED_FILES, StoredRow, stored_file};
use super::rows::{batch_output, batch_state, instant, maybe_instant, word};
use super::sql::{
    json_list, listed, maybe_text, number, optional_text, rows, signed, small, text, unsigned,
};
use super::submits::submission_rows;
use super::{Apply, Rules, halts, read};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, KeyFingerprint, RecipeHash, RemoteName, ScopeToken, Sha256Hex};
use crate::domain::order::Wish;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// Runnable pages are counted no further: what matters is whether there are any.
const RUNNABLE_COUNTED_MAX: u64 = 1_000;

/// The states of a batch that is not closed.
pub(super) const LIVE_STAGES: [BatchStage; 5] = [
    BatchStage::Planned,
    BatchStage::Submitting,
    BatchStage::InDoubt,
    BatchStage::Submitted,
    BatchStage::Ready,
];

impl Apply for ListBatches {
    type Reply = Vec<BatchRow>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<BatchRow>> {
        list_batches(tx, &self.states, self.limit).await
    }
}

/// Lists batches in these states, oldest first.
pub(super) async fn list_batches(
    conn: &impl ConnectionTrait,
    states: &[BatchStage],
    limit: u64,
) -> StateResult<Vec<BatchRow>> {
    let mut found = submission_rows(conn, &in_states(states), [signed(limit).into()]).await?;
    found.sort_by(|a, b| (&a.created_at, &a.batch_id).cmp(&(&b.created_at, &b.batch_id)));
    batch_rows(conn, found).await
}

/// The condition of submissions in these states, the oldest `?1` of them.
pub(super) fn in_states(states: &[BatchStage]) -> String {
    let words: Vec<String> = states.iter().map(|state| format!("'{state}'")).collect();
    format!(
        "WHERE state IN ({}) ORDER BY created_at, batch_id LIMIT ?1",
        words.join(", ")
    )
}

/// Submissions as stages see them.
pub(super) async fn batch_rows(
    conn: &impl ConnectionTrait,
    found: Vec<submissions::Model>,
) -> StateResult<Vec<BatchRow>> {
    let names: Vec<&str> = found
        .iter()
        .filter_map(|row| row.lines_file.as_deref())
        .collect();
    let mut files = HashMap::new();
    if !names.is_empty() {
        let rows: Vec<StoredRow> = listed(conn, STORED_FILES, [json_list(names)]).await?;
        for row in rows {
            let file = stored_file(row)?;
            files.insert(file.name.to_string(), file);
        }
    }
    found
        .into_iter()
        .map(|row| batch_row(row, &files))
        .collect()
}

pub(super) fn batch_row(
    row: submissions::Model,
    files: &HashMap<String, StoredFile>,
) -> StateResult<BatchRow> {
    let thing = format!("batch '{}'", row.batch_id);
    let when = |text: &Option<String>| maybe_instant(&thing, text.as_deref());
    let raw = match (&row.raw_path, row.raw_bytes, &row.raw_sha256) {
        (Some(path), Some(bytes), Some(sha256)) => Some(RawFile {
            path: path.clone(),
            bytes: unsigned(bytes),
            sha256: Sha256Hex::from(sha256.as_str()),
        }),
        _ => None,
    };
    let lines = match (&row.lines_sha256, row.lines_bytes) {
        (Some(sha256), Some(bytes)) => Some((Sha256Hex::from(sha256.as_str()), unsigned(bytes))),
        _ => None,
    };
    Ok(BatchRow {
        state: batch_state(&row)?,
        members: unsigned(row.record_count),
        lines,
        lines_file: row
            .lines_file
            .as_ref()
            .and_then(|name| files.get(name).cloned()),
        creates: small(row.creates),
        lookups: small(row.lookups),
        last_lookup_at: when(&row.last_lookup_at)?,
        output: batch_output(&row)?,
        raw,
        created_at: instant(&thing, &row.created_at)?,
        submitted_at: when(&row.submitted_at)?,
        ended_at: when(&row.ended_at)?,
        terminal_seen_at: when(&row.terminal_seen_at)?,
        unreachable_since: when(&row.unreachable_since)?,
        tokens: row.tokens_estimated.map(unsigned),
        wish: row
            .wish
            .as_deref()
            .map(|wish| word(&thing, wish, Wish::parse))
            .transpose()?,
        cancel_sent: row.cancel_sent_at.is_some(),
        batch: BatchId::from(row.batch_id),
        display_name: row.display_name,
        model: row.model,
        recipe: RecipeHash::from(row.recipe_hash),
        key_fingerprint: KeyFingerprint::from(row.key_fingerprint),
        remote: row.remote_name.map(RemoteName::from),
        answers_counted: match (row.remote_succeeded, row.remote_failed) {
            (None, None) => None,
            (good, bad) => Some(unsigned(good.unwrap_or(0).saturating_add(bad.unwrap_or(0)))),
        },
        remote_state: row.remote_state,
    })
}

#[derive(FromQueryResult)]
struct CountRow {
    word: String,
    count: i64,
}

/// Counts rows by a word.
pub(super) async fn counts<const N: usize>(
    conn: &impl ConnectionTrait,
    sql: &str,
    values: [sea_orm::Value; N],
) -> StateResult<Vec<(String, u64)>> {
    let found: Vec<CountRow> = rows(conn, sql, values).await?;
    Ok(found
        .into_iter()
        .map(|row| (row.word, unsigned(row.count)))
        .collect())
}

/// Counts pages by stage, zeros included, in the order of the stages.
pub(super) async fn stage_counts(
    conn: &impl ConnectionTrait,
    scope: Option<&ScopeToken>,
) -> StateResult<Vec<(PageStage, u64)>> {
    let found: HashMap<String, u64> = match scope {
        Some(scope) => counts(conn, STAGES_OF_SCOPE, [text(scope)]).await?,
        None => counts(conn, STAGES, []).await?,
    }
    .into_iter()
    .collect();
    let all = PageStage::ALL.iter().copied();
    Ok(all
        .map(|stage| (stage, found.get(stage.as_str()).copied().unwrap_or(0)))
        .collect())
}

pub(super) const STAGES: &str = "SELECT stage AS word, count(*) AS count FROM pages GROUP BY stage";

/// Naming the stages lets the index on stage and scope answer for one scope.
pub(super) const STAGES_OF_SCOPE: &str = "
    SELECT stage AS word, count(*) AS count FROM pages
    WHERE stage IN ('discovered','uploading','uploaded','batched','validating','completed',
                    'dead','review','skipped') AND scope = ?1
    GROUP BY stage";

impl Apply for ListWork {
    type Reply = WorkLeft;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<WorkLeft> {
        let found: HashMap<String, u64> = counts(tx, OPEN_STAGES, [text(&self.scope)])
            .await?
            .into_iter()
            .collect();
        let of = |stage: PageStage| found.get(stage.as_str()).copied().unwrap_or(0);
        let (runnable_sql, due_sql) = if self.chained {
            (RUNNABLE, NEXT_DUE)
        } else {
            (RUNNABLE_UNCHAINED, NEXT_DUE_UNCHAINED)
        };
        let values = || [text(&self.scope), text(self.at)];
        let runnable = number(tx, runnable_sql, values()).await?;
        let due_at = maybe_text(tx, due_sql, values()).await?;
        let blocked = if self.chained {
            number(tx, BLOCKED_OF_SCOPE, [text(&self.scope)]).await?
        } else {
            0
        };
        Ok(WorkLeft {
            uploading: of(PageStage::Uploading),
            uploaded: of(PageStage::Uploaded),
            batched: of(PageStage::Batched),
            validating: of(PageStage::Validating),
            live_batches: number(tx, LIVE_BATCHES, []).await?,
            planned: number(tx, PLANNED_BATCHES, []).await?,
            runnable: runnable.min(RUNNABLE_COUNTED_MAX),
            due_at: maybe_instant("the next page that is due", due_at.as_deref())?,
            deletable: number(tx, DELETABLE_COUNT, []).await?,
            dead: of(PageStage::Dead),
            review: of(PageStage::Review),
            blocked,
            halts: halts::open_halts(tx).await?,
        })
    }
}

// Nothing tells SQLite how few pages are open, so the questions below name the partial index that
// holds just them.

pub(super) const OPEN_STAGES: &str = "
    SELECT stage AS word, count(*) AS count FROM pages
    WHERE stage IN ('uploading','uploaded','batched','validating','dead','review') AND scope = ?1
    GROUP BY stage";

pub(super) const RUNNABLE: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM pages INDEXED BY pages_runnable
        WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL AND scope = ?1
          AND (not_before IS NULL OR not_before <= ?2)
        LIMIT 1000)";

pub(super) const RUNNABLE_UNCHAINED: &str = "
    SELECT count(*) FROM (
        SELECT * FROM (SELECT 1 FROM pages INDEXED BY pages_runnable
            WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL AND scope = ?1
              AND (not_before IS NULL OR not_before <= ?2) LIMIT 1000)
        UNION ALL
        SELECT * FROM (SELECT 1 FROM pages INDEXED BY pages_blocked
            WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NOT NULL AND scope = ?1
              AND (not_before IS NULL OR not_before <= ?2) LIMIT 1000))";

pub(super) const NEXT_DUE: &str = "
    SELECT min(not_before) FROM pages INDEXED BY pages_due
    WHERE stage = 'discovered' AND batch_id IS NULL AND not_before IS NOT NULL AND scope = ?1
      AND not_before > ?2 AND waits_for IS NULL";

pub(super) const NEXT_DUE_UNCHAINED: &str = "
    SELECT min(not_before) FROM pages INDEXED BY pages_due
    WHERE stage = 'discovered' AND batch_id IS NULL AND not_before IS NOT NULL AND scope = ?1
      AND not_before > ?2";

pub(super) const BLOCKED_OF_SCOPE: &str = "
    SELECT count(*) FROM pages INDEXED BY pages_blocked
    WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NOT NULL AND scope = ?1";

pub(super) const LIVE_BATCHES: &str = "
    SELECT count(*) FROM submissions
    WHERE state IN ('planned','submitting','in doubt','submitted','ready')";

const PLANNED_BATCHES: &str = "SELECT count(*) FROM submissions WHERE state = 'planned'";

pub(super) const DELETABLE_COUNT: &str = "
    SELECT count(*) FROM remote_files WHERE state = 'deleting'";

impl Apply for Summarize {
    type Reply = Summary;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Summary> {
        read::summarize(tx, self.scope.as_ref(), self.at).await
    }
}

/// Counts Discovered pages that wait for another page, and those that wait for an instant.
pub(super) async fn waiting_counts(
    conn: &impl ConnectionTrait,
    scope: Option<&ScopeToken>,
    at: Timestamp,
) -> StateResult<(u64, u64)> {
    let blocked = number(conn, BLOCKED, [optional_text(scope)]).await?;
    Ok((blocked, waiting_count(conn, scope, at).await?))
}

/// Counts Discovered pages that wait for an instant.
pub(super) async fn waiting_count(
    conn: &impl ConnectionTrait,
    scope: Option<&ScopeToken>,
    at: Timestamp,
) -> StateResult<u64> {
    number(conn, WAITING, [optional_text(scope), text(at)]).await
}

pub(super) const BLOCKED: &str = "
    SELECT count(*) FROM pages INDEXED BY pages_blocked
    WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NOT NULL
      AND (?1 IS NULL OR scope = ?1)";

pub(super) const WAITING: &str = "
    SELECT count(*) FROM pages INDEXED BY pages_due
    WHERE stage = 'discovered' AND batch_id IS NULL AND not_before IS NOT NULL
      AND not_before > ?2 AND (?1 IS NULL OR scope = ?1)";
