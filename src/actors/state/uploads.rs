//! Claiming pages for upload, and what came of it.

use sea_orm::{DatabaseTransaction, FromQueryResult};
use serde::Deserialize;
use serde_json::json;

use super::messages::{
    ClaimPages, Claimed, ClaimedPage, Counted, RecordUploads, StateError, StateResult, UploadRecord,
};
use super::pages::{Cause, Pages};
use super::rows::corrupt;
use super::sql::{
    CHUNK_ROWS, execute, execute_exactly, first, json_list, listed, number, read_back, signed,
    small, text, unsigned,
};
use super::uploaded::{UrgencyRow, place};
use super::{Apply, Rules, halts, remote_files};
use crate::domain::attempt::FailureDetail;
use crate::domain::ids::{RecordKey, RunId};
use crate::domain::page::PageEvent;
use crate::domain::time::Timestamp;

/// The columns of [`CLAIMABLE`], in their order.
#[derive(Deserialize)]
struct ClaimRow {
    record_key: String,
    priority: i64,
    chain_ahead: i64,
    failures: i64,
}

impl Apply for ClaimPages {
    type Reply = Claimed;

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<Claimed> {
        let mut standing = self.standing(tx).await?;
        if !standing.expired.is_empty() {
            self.expire(tx, rules, &standing.expired).await?;
            standing = self.standing(tx).await?;
        }
        let sql = if self.chained {
            CLAIMABLE
        } else {
            CLAIMABLE_UNCHAINED
        };
        let limit = if standing.halted {
            0
        } else {
            self.admitted(tx, standing.ahead).await?
        };
        let mut found: Vec<ClaimRow> = if limit == 0 {
            Vec::new()
        } else {
            let values = [text(&self.scope), text(self.at), signed(limit).into()];
            listed(tx, sql, values).await?
        };
        found.sort_by(|a, b| a.place().cmp(&b.place()));
        let keys: Vec<RecordKey> = found
            .iter()
            .map(|row| RecordKey::from(row.record_key.as_str()))
            .collect();
        let mut pages = Pages::load(tx, &keys).await?;
        let mut claimed = Vec::with_capacity(keys.len());
        for (key, found) in keys.into_iter().zip(&found) {
            let row = pages.apply(&key, &PageEvent::UploadStarted, &self.cause(), "")?;
            row.run_id = Some(self.run.to_string());
            claimed.push(ClaimedPage {
                upload_cycles: small(row.upload_cycles),
                failures: small(found.failures),
                key,
            });
        }
        pages.write(tx, rules, self.at).await?;
        Ok(Claimed {
            pages: claimed,
            remote_bytes: standing.remote_bytes,
        })
    }
}

impl ClaimRow {
    fn place(&self) -> impl Ord + '_ {
        place(self.priority, self.chain_ahead, &self.record_key)
    }
}

impl ClaimPages {
    fn cause(&self) -> Cause<'_> {
        Cause {
            run: Some(&self.run),
            batch: None,
        }
    }

    /// How many pages, best first, may be uploaded now. With enough pages on their way, only those that
    /// more depends on than on one of the waiting ones: what was uploaded ahead must not keep the longest
    /// chain from its next batch. There are never more than twice as many as `ahead_max`.
    async fn admitted(&self, tx: &DatabaseTransaction, ahead: u64) -> StateResult<u64> {
        let places = |max: u64| max.saturating_sub(ahead).min(self.limit);
        let room = places(self.ahead_max);
        let most = places(self.ahead_max.saturating_mul(2));
        if room == self.limit || most == room || !self.chained {
            return Ok(room);
        }
        let least: Option<UrgencyRow> = first(tx, LEAST_URGENT, [text(&self.scope)]).await?;
        let Some(least) = least else {
            return Ok(room);
        };
        let values = [
            text(&self.scope),
            text(self.at),
            signed(most).into(),
            least.priority.into(),
            least.chain_ahead.into(),
        ];
        Ok(room.max(number(tx, MORE_URGENT, values).await?))
    }

    async fn standing(&self, tx: &DatabaseTransaction) -> StateResult<Standing> {
        let values = [text(self.at), text(self.usable_until)];
        let row: Option<StandingRow> = first(tx, &standing_sql(), values).await?;
        let row = row.ok_or_else(|| corrupt("what stands before a claim", "it has no row"))?;
        Ok(Standing {
            expired: read_back::<Vec<String>>(&row.expired)?
                .into_iter()
                .map(RecordKey::from)
                .collect(),
            halted: row.halts > 0,
            ahead: unsigned(row.ahead),
            remote_bytes: unsigned(row.held.unwrap_or(0)) + unsigned(row.expected.unwrap_or(0)),
        })
    }

    /// Sends back the pages whose remote file is too old to be used.
    async fn expire(
        &self,
        tx: &DatabaseTransaction,
        rules: &Rules,
        keys: &[RecordKey],
    ) -> StateResult<()> {
        let mut pages = Pages::load(tx, keys).await?;
        for key in keys {
            pages.apply(key, &PageEvent::FileExpired, &self.cause(), "")?;
        }
        pages.write(tx, rules, self.at).await?;
        Ok(())
    }
}

/// What a claim has to know before it takes a page.
struct Standing {
    /// Pages whose remote file is too old to be used.
    expired: Vec<RecordKey>,
    halted: bool,
    /// Pages that are on their way to a batch already.
    ahead: u64,
    remote_bytes: u64,
}

#[derive(FromQueryResult)]
struct StandingRow {
    expired: String,
    halts: i64,
    ahead: i64,
    held: Option<i64>,
    expected: Option<i64>,
}

/// All that a claim has to know, as one question: each question is a way to SQLite's thread and back.
pub(super) fn standing_sql() -> String {
    format!(
        "SELECT ({EXPIRED}) AS expired, ({}) AS halts, ({AHEAD}) AS ahead, ({}) AS held,
                ({}) AS expected",
        halts::COUNT_OPEN,
        remote_files::HELD_BYTES,
        remote_files::EXPECTED_BYTES
    )
}

pub(super) const AHEAD: &str = "
    SELECT (SELECT count(*) FROM pages WHERE stage = 'uploading')
         + (SELECT count(*) FROM pages INDEXED BY pages_uploaded
            WHERE stage = 'uploaded' AND batch_id IS NULL)";

/// Of the pages that wait for a batch, the one that is taken last.
pub(super) const LEAST_URGENT: &str = "
    SELECT priority, chain_ahead FROM pages INDEXED BY pages_uploaded
    WHERE stage = 'uploaded' AND batch_id IS NULL AND scope = ?1
    ORDER BY priority, chain_ahead, record_key DESC LIMIT 1";

/// Of the pages that may be claimed, how many come before one of such an urgency; at most `?3`.
pub(super) const MORE_URGENT: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM pages INDEXED BY pages_runnable
        WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL AND scope = ?1
          AND (not_before IS NULL OR not_before <= ?2)
          AND (priority, chain_ahead) > (?4, ?5)
        LIMIT ?3)";

pub(super) const EXPIRED: &str = "
    SELECT json_group_array(record_key) FROM pages INDEXED BY pages_expiring
    WHERE stage = 'uploaded' AND batch_id IS NULL AND image_expires_at <= ?2";

/// The inner question is answered from the index alone; only what is claimed is looked up.
pub(super) const CLAIMABLE: &str = "
    SELECT json_group_array(json_array(
        c.record_key, c.priority, c.chain_ahead, coalesce(f.count, 0)))
    FROM (SELECT record_key, priority, chain_ahead FROM pages INDEXED BY pages_runnable
          WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL AND scope = ?1
            AND (not_before IS NULL OR not_before <= ?2)
          ORDER BY priority DESC, chain_ahead DESC, record_key LIMIT ?3) AS c
    LEFT JOIN failure_counts AS f ON f.record_key = c.record_key";

/// Two ordered halves, each from its own index.
pub(super) const CLAIMABLE_UNCHAINED: &str = "
    SELECT json_group_array(json_array(
        c.record_key, c.priority, c.chain_ahead, coalesce(f.count, 0)))
    FROM (SELECT * FROM (
              SELECT record_key, priority, chain_ahead FROM pages INDEXED BY pages_runnable
              WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL AND scope = ?1
                AND (not_before IS NULL OR not_before <= ?2)
              ORDER BY priority DESC, chain_ahead DESC, record_key LIMIT ?3)
          UNION ALL
          SELECT * FROM (
              SELECT record_key, priority, chain_ahead FROM pages INDEXED BY pages_blocked
              WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NOT NULL
                AND scope = ?1 AND (not_before IS NULL OR not_before <= ?2)
              ORDER BY priority DESC, chain_ahead DESC, record_key LIMIT ?3)
          ORDER BY priority DESC, chain_ahead DESC, record_key LIMIT ?3) AS c
    LEFT JOIN failure_counts AS f ON f.record_key = c.record_key";

impl Apply for RecordUploads {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let cause = Cause {
            run: Some(&self.run),
            batch: None,
        };
        let mut pages = Pages::load(tx, self.uploads.iter().map(|upload| &upload.key)).await?;
        let mut images = Vec::new();
        let mut failures = Vec::new();
        for upload in &self.uploads {
            refuse_mismatch(upload)?;
            let row = pages.apply(&upload.key, &upload.event, &cause, &upload.note)?;
            if let Some((file, facts)) = &upload.stored {
                row.put_facts(facts);
                row.uploaded_at = Some(self.at.to_string());
                row.upload_cycles = 0;
                images.push((&upload.key, file, facts.stamp.as_ref()));
            } else if upload.cycle_spent {
                row.upload_cycles += 1;
            }
            if let Some((detail, counted)) = &upload.failure {
                failures.push(Failure {
                    key: &upload.key,
                    batch: "",
                    attempt_number: row.upload_cycles,
                    detail,
                    counted: *counted,
                });
            }
        }
        images.sort_by_key(|(key, _file, _stamp)| *key);
        remote_files::insert_images(tx, &images, self.at).await?;
        pages.write(tx, rules, self.at).await?;
        record_failures(tx, failures, None, Some(&self.run), self.at).await
    }
}

/// Only the three ends of an upload are taken here, and a stored image brings its file.
fn refuse_mismatch(upload: &UploadRecord) -> StateResult<()> {
    let fits = match (&upload.event, &upload.stored) {
        (PageEvent::UploadStored { image }, Some((file, _facts))) => {
            image.file == file.name && image.expires_at == file.expires_at
        }
        (PageEvent::UploadDeferred { .. } | PageEvent::UploadRefused { .. }, None) => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(StateError::Conflict(format!(
        "event '{}' of page '{}' does not fit the file that came with it",
        upload.event.as_str(),
        upload.key
    )))
}

/// One failure to be kept.
pub(super) struct Failure<'a> {
    pub key: &'a RecordKey,
    /// Empty outside of batches.
    pub batch: &'a str,
    /// The attempt, or the upload cycle outside of batches.
    pub attempt_number: i64,
    pub detail: &'a FailureDetail,
    pub counted: Counted,
}

/// Keeps failures, with the texts of the recipe that they happened under, and counts those that
/// are the page's fault.
pub(super) async fn record_failures(
    tx: &DatabaseTransaction,
    mut failures: Vec<Failure<'_>>,
    recipe: Option<&str>,
    run: Option<&RunId>,
    at: Timestamp,
) -> StateResult<()> {
    failures.sort_by(|a, b| a.key.cmp(b.key));
    for chunk in failures.chunks(CHUNK_ROWS) {
        let list = json_list(chunk.iter().map(|failure| {
            let detail = failure.detail;
            json!([
                failure.key.as_str(),
                failure.batch,
                failure.attempt_number,
                detail.error.as_str(),
                detail.message,
                detail.chain,
                detail.raw_text,
                detail.extracted_text,
                detail.raw_json,
                i64::from(failure.counted == Counted::Yes),
            ])
        }));
        let values = [
            list,
            text(at),
            recipe.map(str::to_owned).into(),
            run.map(|run| run.as_str().to_owned()).into(),
        ];
        execute_exactly(tx, INSERT_FAILURES, values, chunk.len()).await?;
        let counted = json_list(
            chunk
                .iter()
                .filter(|failure| failure.counted == Counted::Yes)
                .map(|failure| failure.key.as_str()),
        );
        execute(tx, COUNT_FAILURES, [counted, text(at)]).await?;
    }
    Ok(())
}

const INSERT_FAILURES: &str = "
    INSERT INTO failure_logs
        (record_key, batch_id, attempt_number, error_type, error_message, error_traceback,
         raw_response_text, extracted_text, raw_response_json, counted, run_id, created_at,
         model_name, prompt_name, prompt_template, generation_config)
    SELECT j.value->>0, j.value->>1, j.value->>2, j.value->>3, j.value->>4, j.value->>5,
           j.value->>6, j.value->>7, j.value->>8, j.value->>9, ?4, ?2,
           r.model, r.prompt_name, r.prompt_template,
           iif(a.parameters IS NULL, r.generation_config,
               json_patch(r.generation_config, a.parameters))
    FROM jsonb_each(?1) AS j LEFT JOIN recipes AS r ON r.recipe_hash = ?3
    LEFT JOIN attempts AS a ON a.batch_id = j.value->>1 AND a.record_key = j.value->>0";

const COUNT_FAILURES: &str = "
    INSERT INTO failure_counts (record_key, count, last_updated)
    SELECT value, 1, ?2 FROM json_each(?1) WHERE true
    ON CONFLICT (record_key) DO UPDATE
        SET count = failure_counts.count + 1, last_updated = excluded.last_updated";
