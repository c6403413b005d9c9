//! What `pagemill verify --fix` repairs in the state. Each repair looks again whether it still
//! fits, goes through the state machine where a stage changes, and is in the page's history.

use sea_orm::DatabaseTransaction;

use super::messages::{RepairState, StateError, StateRepair, StateResult};
use super::pages::{Cause, Pages};
use super::sql::{execute, execute_exactly, maybe_text, signed, text};
use super::{Apply, Rules};
use crate::domain::ids::{BatchId, RecordKey, Sha256Hex};
use crate::domain::page::{PageEvent, PageStage, RequeueCause};
use crate::domain::time::Timestamp;

/// Nobody but the operator is behind a repair: the page's own run stands in its history.
const BY_OPERATOR: Cause<'static> = Cause {
    run: None,
    batch: None,
};

impl Apply for RepairState {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let bench = Bench {
            tx,
            rules,
            at: self.at,
        };
        for repair in &self.repairs {
            bench.repair(repair).await?;
        }
        Ok(())
    }
}

struct Bench<'a> {
    tx: &'a DatabaseTransaction,
    rules: &'a Rules,
    at: Timestamp,
}

impl Bench<'_> {
    async fn repair(&self, repair: &StateRepair) -> StateResult<()> {
        match repair {
            StateRepair::Requeue { key, recorded } => self.requeue(key, recorded).await,
            StateRepair::Adopt { key, sha256, bytes } => self.adopt(key, sha256, *bytes).await,
            StateRepair::AdoptChanged { key, sha256, bytes } => {
                self.adopt_changed(key, sha256, *bytes).await
            }
            StateRepair::Free { key, batch } => self.free(key, batch).await,
            StateRepair::UploadAgain { key } => self.upload_again(key).await,
            StateRepair::DropInflight { key, batch } => {
                self.refuse_live(batch).await?;
                let sql = "DELETE FROM inflight_records WHERE record_key = ?1 AND batch_id = ?2";
                execute_exactly(self.tx, sql, [text(key), text(batch)], 1).await
            }
            StateRepair::AddInflight { key, batch } => {
                let values = [text(key), text(batch), text(self.at)];
                execute_exactly(self.tx, ADD_INFLIGHT, values, 1).await
            }
            StateRepair::MirrorBatch { batch } => {
                let values = [text(batch), text(self.at)];
                execute_exactly(self.tx, MIRROR_BATCH, values, 1).await
            }
            StateRepair::Recount { key } => self.recount(key).await,
            StateRepair::ForgetRemote { name } => {
                let values = [text(name), text(self.at)];
                execute_exactly(self.tx, FORGET_REMOTE, values, 1).await
            }
        }
    }

    /// Loads one page that no live batch holds.
    async fn load(&self, key: &RecordKey) -> StateResult<Pages> {
        let pages = Pages::load(self.tx, [key]).await?;
        if let Some(batch) = &pages.row(key)?.batch_id {
            self.refuse_live(&BatchId::from(batch.as_str())).await?;
        }
        Ok(pages)
    }

    async fn refuse_live(&self, batch: &BatchId) -> StateResult<()> {
        let sql = "SELECT state FROM submissions WHERE batch_id = ?1
                   AND state NOT IN ('settled','abandoned')";
        match maybe_text(self.tx, sql, [text(batch)]).await? {
            None => Ok(()),
            Some(state) => Err(StateError::Conflict(format!(
                "batch '{batch}' is {state} and may need it"
            ))),
        }
    }

    async fn write(&self, pages: Pages) -> StateResult<()> {
        pages.write(self.tx, self.rules, self.at).await?;
        Ok(())
    }

    async fn requeue(&self, key: &RecordKey, recorded: &Sha256Hex) -> StateResult<()> {
        let mut pages = self.load(key).await?;
        expect_output(&pages, key, recorded)?;
        let cause = RequeueCause::OutputVanished;
        pages.apply(key, &PageEvent::Requeued { cause }, &BY_OPERATOR, "")?;
        self.write(pages).await
    }

    async fn adopt(&self, key: &RecordKey, sha256: &Sha256Hex, bytes: u64) -> StateResult<()> {
        let mut pages = self.load(key).await?;
        take_output(&mut pages, key, sha256, bytes)?;
        self.write(pages).await
    }

    /// Two events, so that the history says what happened to the former output.
    async fn adopt_changed(
        &self,
        key: &RecordKey,
        sha256: &Sha256Hex,
        bytes: u64,
    ) -> StateResult<()> {
        let mut pages = self.load(key).await?;
        let cause = RequeueCause::Operator;
        pages.apply(key, &PageEvent::Requeued { cause }, &BY_OPERATOR, "")?;
        take_output(&mut pages, key, sha256, bytes)?;
        self.write(pages).await
    }

    /// A page in the middle of a batch that is over is released by it; others only lose the hold.
    async fn free(&self, key: &RecordKey, batch: &BatchId) -> StateResult<()> {
        let mut pages = self.load(key).await?;
        if pages.row(key)?.batch_id.as_deref() != Some(batch.as_str()) {
            return Err(StateError::Conflict(format!(
                "page '{key}' is no longer held by batch '{batch}'"
            )));
        }
        let stage = pages.stage(key)?;
        if matches!(stage, PageStage::Batched | PageStage::Validating) {
            let cause = Cause {
                run: None,
                batch: Some(batch),
            };
            let event = PageEvent::Released { at: self.at };
            let row = pages.apply(key, &event, &cause, "its batch was over")?;
            row.batch_id = None;
            return self.write(pages).await;
        }
        let sql = "UPDATE pages SET batch_id = NULL, updated_at = ?2 WHERE record_key = ?1";
        execute_exactly(self.tx, sql, [text(key), text(self.at)], 1).await
    }

    async fn upload_again(&self, key: &RecordKey) -> StateResult<()> {
        let mut pages = self.load(key).await?;
        pages.apply(key, &PageEvent::FileExpired, &BY_OPERATOR, "")?;
        self.write(pages).await
    }

    async fn recount(&self, key: &RecordKey) -> StateResult<()> {
        execute(
            self.tx,
            "DELETE FROM failure_counts WHERE record_key = ?1",
            [text(key)],
        )
        .await?;
        execute(self.tx, RECOUNT, [text(key), text(self.at)]).await?;
        Ok(())
    }
}

fn expect_output(pages: &Pages, key: &RecordKey, recorded: &Sha256Hex) -> StateResult<()> {
    if pages.row(key)?.output_sha256.as_deref() == Some(recorded.as_str()) {
        return Ok(());
    }
    Err(StateError::Conflict(format!(
        "page '{key}' has another output by now"
    )))
}

fn take_output(
    pages: &mut Pages,
    key: &RecordKey,
    sha256: &Sha256Hex,
    bytes: u64,
) -> StateResult<()> {
    let event = PageEvent::Adopted {
        output: sha256.clone(),
    };
    let row = pages.apply(key, &event, &BY_OPERATOR, "")?;
    row.output_bytes = Some(signed(bytes));
    Ok(())
}

/// Only for a page that the live batch holds.
const ADD_INFLIGHT: &str = "
    INSERT INTO inflight_records (record_key, batch_id, created_at)
    SELECT p.record_key, p.batch_id, ?3 FROM pages AS p
    JOIN submissions AS s ON s.batch_id = p.batch_id
    WHERE p.record_key = ?1 AND p.batch_id = ?2 AND s.state NOT IN ('settled','abandoned')";

const MIRROR_BATCH: &str = "
    INSERT INTO active_batches (batch_id, created_at, updated_at, status)
    SELECT batch_id, created_at, ?2,
           CASE state WHEN 'settled' THEN 'completed' WHEN 'abandoned' THEN 'failed'
                      ELSE 'active' END
    FROM submissions WHERE batch_id = ?1
    ON CONFLICT (batch_id) DO UPDATE
        SET status = excluded.status, updated_at = excluded.updated_at";

const RECOUNT: &str = "
    INSERT INTO failure_counts (record_key, count, last_updated)
    SELECT record_key, sum(counted), ?2 FROM failure_logs
    WHERE record_key = ?1 GROUP BY record_key HAVING sum(counted) > 0";

/// Looks again whether nobody needs it.
const FORGET_REMOTE: &str = "
    UPDATE remote_files SET state = 'deleting', updated_at = ?2
    WHERE name = ?1 AND state = 'live'
      AND NOT EXISTS (SELECT 1 FROM pages AS p WHERE p.record_key = remote_files.record_key
                      AND p.image_file = remote_files.name)
      AND NOT EXISTS (SELECT 1 FROM attempts AS a JOIN submissions AS s ON s.batch_id = a.batch_id
                      WHERE a.record_key = remote_files.record_key
                        AND a.image_file = remote_files.name
                        AND s.state NOT IN ('settled','abandoned'))
      AND NOT EXISTS (SELECT 1 FROM submissions AS s WHERE s.lines_file = remote_files.name
                      AND s.state NOT IN ('settled','abandoned'))";
