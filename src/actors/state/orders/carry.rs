//! Carrying out orders about pages, a few at a time.

use std::collections::BTreeSet;

use sea_orm::DatabaseTransaction;
use serde_json::{Value, json};

use super::preview::{COUNTS_CLEARED, effect_word};
use super::texts;
use crate::actors::state::Rules;
use crate::actors::state::messages::StateResult;
use crate::actors::state::pages::{Cause, Happened, Pages, insert_events, unlock};
use crate::actors::state::selection::condition;
use crate::actors::state::sql::{self, execute, json_list, text};
use crate::domain::ids::{OrderId, RecordKey, RunId};
use crate::domain::order::{Effects, Order, OrderKind, Priority, Signature};
use crate::domain::page::{PageEvent, PageStage, Remark, RequeueCause};
use crate::domain::time::Timestamp;

/// Nobody's run is behind an order: the page's own stands in its history.
const BY_OPERATOR: Cause<'static> = Cause {
    run: None,
    batch: None,
};

/// What carrying out needs.
pub(super) struct Carry<'a> {
    pub tx: &'a DatabaseTransaction,
    pub rules: &'a Rules,
    pub id: &'a OrderId,
    pub signature: &'a Signature,
    pub at: Timestamp,
}

impl Carry<'_> {
    /// Does what the order says with those of these pages that it still fits.
    pub async fn out(&self, order: &Order, keys: &[RecordKey]) -> StateResult<Effects> {
        match order {
            Order::ClearFailures { .. } => {
                let dead = [PageStage::Dead, PageStage::Review];
                let (mut effects, moved) = self.requeue(order, keys, &dead).await?;
                let moved: BTreeSet<&RecordKey> = moved.iter().collect();
                let stayed: Vec<RecordKey> = keys
                    .iter()
                    .filter(|key| !moved.contains(key))
                    .cloned()
                    .collect();
                let remarks = stayed.iter().map(|key| (key.as_str(), json!({})));
                self.remark(Remark::FailuresCleared, remarks.collect())
                    .await?;
                effects.add(COUNTS_CLEARED, self.clear_counts(keys).await?);
                Ok(effects)
            }
            Order::Redo { reset_failures, .. } => {
                let done = [PageStage::Completed];
                let (mut effects, moved) = self.requeue(order, keys, &done).await?;
                if *reset_failures {
                    effects.add(COUNTS_CLEARED, self.clear_counts(&moved).await?);
                }
                Ok(effects)
            }
            Order::Unskip { .. } => {
                let (effects, moved) = self.requeue(order, keys, &[PageStage::Skipped]).await?;
                self.set_left_out(&moved, None).await?;
                Ok(effects)
            }
            Order::Skip { .. } => self.leave_out(order, keys).await,
            Order::Prioritize { priority, .. } => self.prioritize(order, keys, *priority).await,
            Order::Note { key, text } => self.note(order, key, text).await,
            Order::Pause
            | Order::Resume
            | Order::CancelBatch { .. }
            | Order::ForgetBatch { .. }
            | Order::Nuke { .. }
            | Order::Rekey { .. } => Ok(Effects::default()),
        }
    }

    /// Pages of these stages go back to the work list, with all their tries before them; gives which.
    async fn requeue(
        &self,
        order: &Order,
        keys: &[RecordKey],
        stages: &[PageStage],
    ) -> StateResult<(Effects, Vec<RecordKey>)> {
        let mut effects = Effects::default();
        let mut moved = Vec::new();
        let mut pages = Pages::load(self.tx, keys).await?;
        let event = PageEvent::Requeued {
            cause: RequeueCause::Operator,
        };
        for key in keys {
            let stage = pages.stage(key)?;
            if !stages.contains(&stage) {
                continue;
            }
            let row = pages.apply(key, &event, &BY_OPERATOR, "")?;
            row.upload_cycles = 0;
            row.releases = 0;
            row.batch_size_max = None;
            effects.add(effect_word(order, stage).unwrap_or("pages"), 1);
            moved.push(key.clone());
        }
        pages.sign(&self.by(), self.id);
        pages.write(self.tx, self.rules, self.at).await?;
        self.chain_again(&moved).await?;
        Ok((effects, moved))
    }

    /// In the books of these pages, whoever has to wait for a page that runs again, waits.
    async fn chain_again(&self, keys: &[RecordKey]) -> StateResult<()> {
        let books: BTreeSet<&str> = keys.iter().map(RecordKey::book).collect();
        let values = [
            json_list(books),
            text(self.at),
            i64::from(self.rules.unlock_behind_dead).into(),
        ];
        execute(self.tx, CHAIN_AGAIN, values).await?;
        Ok(())
    }

    /// Forgets failures; their logs stay and count no more.
    async fn clear_counts(&self, keys: &[RecordKey]) -> StateResult<u64> {
        let list = || json_list(keys.iter().map(RecordKey::as_str));
        let cleared = execute(
            self.tx,
            "DELETE FROM failure_counts WHERE record_key IN (SELECT value FROM json_each(?1))",
            [list()],
        )
        .await?;
        execute(
            self.tx,
            "UPDATE failure_logs SET counted = 0
             WHERE record_key IN (SELECT value FROM json_each(?1)) AND counted <> 0",
            [list()],
        )
        .await?;
        Ok(cleared)
    }

    async fn leave_out(&self, order: &Order, keys: &[RecordKey]) -> StateResult<Effects> {
        let mut effects = Effects::default();
        let mut pages = Pages::load(self.tx, keys).await?;
        let mut left_out = Vec::new();
        for key in keys {
            let stage = pages.stage(key)?;
            let may_go = matches!(
                stage,
                PageStage::Discovered | PageStage::Uploaded | PageStage::Dead | PageStage::Review
            );
            if may_go {
                pages.apply(key, &PageEvent::LeftOut, &BY_OPERATOR, &self.said())?;
                effects.add(effect_word(order, stage).unwrap_or("pages"), 1);
                left_out.push(key.clone());
            }
        }
        pages.sign(&self.by(), self.id);
        pages.write(self.tx, self.rules, self.at).await?;
        self.set_left_out(&left_out, Some(&self.said())).await?;
        if self.rules.unlock_behind_dead {
            let keys: Vec<&str> = left_out.iter().map(RecordKey::as_str).collect();
            unlock(self.tx, &keys, self.at).await?;
        }
        Ok(effects)
    }

    async fn set_left_out(&self, keys: &[RecordKey], why: Option<&str>) -> StateResult<()> {
        let list = json_list(keys.iter().map(RecordKey::as_str));
        execute(
            self.tx,
            "UPDATE pages SET left_out = ?2, updated_at = ?3
             WHERE record_key IN (SELECT value FROM json_each(?1))",
            [list, why.map(str::to_owned).into(), text(self.at)],
        )
        .await?;
        Ok(())
    }

    async fn prioritize(
        &self,
        order: &Order,
        keys: &[RecordKey],
        priority: Priority,
    ) -> StateResult<Effects> {
        let details = json!({"priority": priority.as_str()});
        let remarks = keys.iter().map(|key| (key.as_str(), details.clone()));
        self.remark(Remark::Prioritized, remarks.collect()).await?;
        let list = json_list(keys.iter().map(RecordKey::as_str));
        let values = [list, priority.rank().into(), text(self.at)];
        let touched = execute(
            self.tx,
            "UPDATE pages SET priority = ?2, priority_set = ?2, priority_at = ?3, updated_at = ?3
             WHERE record_key IN (SELECT value FROM json_each(?1))",
            values,
        )
        .await?;
        let mut effects = Effects::default();
        let word = effect_word(order, PageStage::Discovered).unwrap_or("pages");
        effects.add(word, touched);
        Ok(effects)
    }

    async fn note(&self, order: &Order, key: &RecordKey, words: &str) -> StateResult<Effects> {
        let details = json!({"text": words});
        self.remark(Remark::Noted, vec![(key.as_str(), details)])
            .await?;
        let mut effects = Effects::default();
        let word = effect_word(order, PageStage::Discovered).unwrap_or("notes");
        effects.add(word, 1);
        Ok(effects)
    }

    /// Writes remarks into the history of pages, which stay where they are.
    async fn remark(&self, remark: Remark, pages: Vec<(&str, Value)>) -> StateResult<()> {
        let keys: Vec<RecordKey> = pages.iter().map(|(key, _)| RecordKey::from(*key)).collect();
        let loaded = Pages::load(self.tx, &keys).await?;
        let mut events = Vec::new();
        for ((_key, mut details), key) in pages.into_iter().zip(&keys) {
            let stage = loaded.stage(key)?;
            if let (Some(details), Value::Object(by)) = (details.as_object_mut(), self.by()) {
                details.extend(by);
            }
            events.push(Happened {
                key: key.clone(),
                from: stage,
                to: stage,
                event: remark.as_str(),
                run: loaded.row(key)?.run_id.as_deref().map(RunId::from),
                batch: None,
                order: Some(self.id.clone()),
                details: details.to_string().into(),
            });
        }
        insert_events(self.tx, &events, self.at).await
    }

    /// Who and why, for the history.
    fn by(&self) -> Value {
        json!({
            "by": self.signature.by,
            "why": self.signature.reason,
            "order": self.id.as_str(),
        })
    }

    /// Who and why, for people.
    fn said(&self) -> String {
        let Signature { by, reason } = self.signature;
        if reason.is_empty() {
            format!("left out by {by}")
        } else {
            format!("left out by {by}: {reason}")
        }
    }
}

/// The same rule as the scan's: a page waits for the one before it while that has no output to come
/// first; behind a dead or left-out page only where that is the policy.
pub(in crate::actors::state) const CHAIN_AGAIN: &str = "
    UPDATE pages SET waits_for = predecessor, updated_at = ?2
    WHERE record_key IN (
        SELECT p.record_key FROM json_each(?1) AS book_each CROSS JOIN pages AS p
        WHERE p.record_key >= CASE book_each.value WHEN '' THEN '' ELSE book_each.value || ':' END
          AND p.record_key < CASE book_each.value WHEN '' THEN ':' ELSE book_each.value || ';' END
          AND p.book = book_each.value AND +p.stage = 'discovered' AND +p.waits_for IS NULL
          AND p.predecessor IS NOT NULL
          AND EXISTS (SELECT 1 FROM pages AS q WHERE q.record_key = p.predecessor
                      AND (q.stage IN ('discovered','uploading','uploaded','batched','validating')
                           OR (?3 = 0 AND q.stage IN ('dead','review'))
                           OR (q.stage = 'skipped' AND (?3 = 0 OR q.left_out IS NULL)))))";

/// Priorities that were given to parts of the tree hold for pages that come later, too.
pub(in crate::actors::state) async fn standing_priorities(
    tx: &DatabaseTransaction,
    keys: &[&str],
    at: Timestamp,
) -> StateResult<()> {
    let given = sql::texts(
        tx,
        "SELECT arguments FROM orders WHERE command = 'priority' AND state = 'done'
         ORDER BY order_id",
        [],
    )
    .await?;
    for arguments in given {
        let order = texts::order("a priority", OrderKind::Prioritize, &arguments)?;
        let Order::Prioritize { which, priority } = order else {
            continue;
        };
        if !which.keys.is_empty() {
            continue;
        }
        let condition = condition(&which, 1);
        let sql = format!(
            "UPDATE pages AS p SET priority = ?2, priority_set = ?2, priority_at = ?3
             WHERE {} AND p.record_key IN (SELECT value FROM json_each(?4))",
            condition.sql
        );
        let values = [
            condition.value,
            priority.rank().into(),
            text(at),
            json_list(keys.iter().copied()),
        ];
        execute(tx, &sql, values).await?;
    }
    Ok(())
}
