//! Pages that wait for a batch, and whether others may still join them.

use std::cmp::Reverse;

use sea_orm::{DatabaseTransaction, FromQueryResult};
use serde::Deserialize;

use super::messages::{ListUploaded, MoreCanCome, MostUrgent, StateResult, Uploaded, UploadedPage};
use super::rows::{instant, maybe_instant};
use super::sql::{CHUNK_ROWS, as_u64, first, listed, number, signed, small, text, unsigned};
use super::{Apply, Rules};
use crate::domain::ids::RecordKey;
use crate::domain::page::{PageStage, Urgency};

/// How much depends on a page.
#[derive(FromQueryResult)]
pub(super) struct UrgencyRow {
    pub priority: i64,
    pub chain_ahead: i64,
}

/// Where a page stands among those that wait: the most urgent first.
pub(super) fn place(priority: i64, chain_ahead: i64, record_key: &str) -> impl Ord + '_ {
    (Reverse(priority), Reverse(chain_ahead), record_key)
}

/// The columns of [`UPLOADED`], in their order.
#[derive(Deserialize)]
struct UploadedRow {
    record_key: String,
    predecessor: Option<String>,
    predecessor_stage: Option<String>,
    priority: i64,
    chain_ahead: i64,
    image_bytes: Option<i64>,
    image_expires_at: String,
    batch_size_max: Option<i64>,
    releases: i64,
}

impl UploadedRow {
    fn place(&self) -> impl Ord + '_ {
        place(self.priority, self.chain_ahead, &self.record_key)
    }
}

#[derive(FromQueryResult)]
struct WaitingRow {
    total: i64,
    newest: Option<String>,
}

impl Apply for ListUploaded {
    type Reply = Uploaded;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Uploaded> {
        let (scope, usable_until) = (text(&self.scope), text(self.usable_until));
        let mut pages = Vec::new();
        // Some at a time, so that their text is never held whole.
        while as_u64(pages.len()) < self.limit {
            let before = as_u64(pages.len());
            let some = (self.limit - before).min(as_u64(CHUNK_ROWS));
            let values = [
                scope.clone(),
                usable_until.clone(),
                signed(some).into(),
                signed(before).into(),
            ];
            let mut found: Vec<UploadedRow> = listed(tx, UPLOADED, values).await?;
            let are_all = as_u64(found.len()) < some;
            found.sort_by(|a, b| a.place().cmp(&b.place()));
            for row in found {
                pages.push(uploaded_page(row)?);
            }
            if are_all {
                break;
            }
        }
        let waiting: Option<WaitingRow> = first(tx, UPLOADED_TOTAL, [scope, usable_until]).await?;
        let (total, newest) = waiting.map_or((0, None), |row| (row.total, row.newest));
        Ok(Uploaded {
            pages,
            total: unsigned(total),
            newest: maybe_instant("the newest uploaded page", newest.as_deref())?,
        })
    }
}

pub(super) const UPLOADED: &str = "
    SELECT json_group_array(json_array(
        w.record_key, w.predecessor, q.stage, w.priority, w.chain_ahead, w.image_bytes,
        w.image_expires_at, w.batch_size_max, w.releases))
    FROM (SELECT * FROM pages INDEXED BY pages_uploaded
          WHERE stage = 'uploaded' AND batch_id IS NULL AND scope = ?1 AND image_expires_at > ?2
          ORDER BY priority DESC, chain_ahead DESC, record_key LIMIT ?3 OFFSET ?4) AS w
    LEFT JOIN pages AS q ON q.record_key = w.predecessor";

pub(super) const UPLOADED_TOTAL: &str = "
    SELECT count(*) AS total, max(uploaded_at) AS newest FROM pages INDEXED BY pages_uploaded
    WHERE stage = 'uploaded' AND batch_id IS NULL AND scope = ?1 AND image_expires_at > ?2";

impl Apply for MostUrgent {
    type Reply = Option<Urgency>;
    const WRITES: bool = false;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        _rules: &Rules,
    ) -> StateResult<Option<Urgency>> {
        let values = [text(&self.scope), text(self.at)];
        let found: Option<UrgencyRow> = first(tx, MOST_URGENT, values).await?;
        Ok(found.map(|row| Urgency {
            priority: row.priority,
            chain_ahead: small(row.chain_ahead),
        }))
    }
}

/// What is runnable, being uploaded, or unlocked by an answer that is being judged. A page that runs
/// again is as urgent as it was, but whether it does is not known yet.
pub(super) const MOST_URGENT: &str = "
    SELECT priority, chain_ahead FROM (
        SELECT * FROM (
            SELECT priority, chain_ahead FROM pages INDEXED BY pages_runnable
            WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL AND scope = ?1
              AND (not_before IS NULL OR not_before <= ?2)
            ORDER BY priority DESC, chain_ahead DESC, record_key LIMIT 1)
        UNION ALL
        SELECT priority, chain_ahead FROM pages INDEXED BY pages_stage
        WHERE stage = 'uploading' AND scope = ?1
        UNION ALL
        SELECT priority, chain_ahead - 1 FROM pages INDEXED BY pages_stage
        WHERE stage = 'validating' AND scope = ?1 AND chain_ahead > 0)
    ORDER BY priority DESC, chain_ahead DESC LIMIT 1";

impl Apply for MoreCanCome {
    type Reply = bool;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<bool> {
        let values = [text(&self.scope), text(self.at)];
        Ok(number(tx, &can_come(self.chained), values).await? > 0)
    }
}

/// A page that is being uploaded, one that may be, or one whose judgment may let another go. Where no page
/// waits for another, those that would may be uploaded too.
pub(super) fn can_come(chained: bool) -> String {
    let runnable = |index: &str, waits: &str| {
        format!(
            "OR EXISTS (
                 SELECT 1 FROM pages INDEXED BY {index}
                 WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for {waits}
                   AND scope = ?1 AND (not_before IS NULL OR not_before <= ?2))"
        )
    };
    let blocked = if chained {
        String::new()
    } else {
        runnable("pages_blocked", "IS NOT NULL")
    };
    format!(
        "SELECT EXISTS (SELECT 1 FROM pages WHERE stage = 'uploading' AND scope = ?1)
             OR EXISTS (SELECT 1 FROM pages WHERE stage = 'validating' AND scope = ?1)
             {} {blocked}",
        runnable("pages_runnable", "IS NULL")
    )
}

fn uploaded_page(row: UploadedRow) -> StateResult<UploadedPage> {
    let thing = format!("page '{}'", row.record_key);
    let before = row.predecessor_stage.as_deref();
    Ok(UploadedPage {
        predecessor_completed: before == Some(PageStage::Completed.as_str()),
        predecessor: row.predecessor.map(RecordKey::from),
        urgency: Urgency {
            priority: row.priority,
            chain_ahead: small(row.chain_ahead),
        },
        image_bytes: unsigned(row.image_bytes.unwrap_or(0)),
        expires_at: instant(&thing, &row.image_expires_at)?,
        batch_size_max: row.batch_size_max.map(small),
        releases: small(row.releases),
        key: RecordKey::from(row.record_key),
    })
}
