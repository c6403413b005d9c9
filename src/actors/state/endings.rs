//! The end of a batch without results.

use sea_orm::DatabaseTransaction;

use super::batches::attempt_numbers;
use super::messages::{Counted, EndBatch, StateError, StateResult};
use super::pages::{Cause, Pages};
use super::sql::{CHUNK_ROWS, execute_exactly, json_list, text};
use super::submits::Submission;
use super::tallies::tally;
use super::uploads::{Failure, record_failures};
use super::{Apply, Rules, halts, late};
use crate::domain::attempt::{FailureDetail, Tally};
use crate::domain::batch::{AbandonCode, BatchState, next};
use crate::domain::ids::{RecordKey, RemoteName};
use crate::domain::late::LateWhy;
use crate::domain::page::{PageEvent, PageStage};

impl Apply for EndBatch {
    type Reply = Tally;

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<Tally> {
        let submission = Submission::load(tx, &self.batch).await?;
        let after = next(&submission.state, &self.event)?;
        let BatchState::Abandoned { code } = after else {
            return Err(StateError::Conflict(format!(
                "event '{}' does not end batch '{}'",
                self.event.as_str(),
                self.batch
            )));
        };
        self.release_pages(tx, rules, &submission).await?;
        let change = submission.change(self.at);
        submission
            .record(tx, &self.event, &self.note, self.at, change)
            .await?;
        halts::count_ended(tx, code, self.at).await?;
        self.watch_job(tx, &submission, code).await?;
        tally(tx, &self.batch).await
    }
}

impl EndBatch {
    async fn release_pages(
        &self,
        tx: &DatabaseTransaction,
        rules: &Rules,
        submission: &Submission,
    ) -> StateResult<()> {
        let run = submission.run();
        let cause = Cause {
            run: Some(&run),
            batch: Some(&self.batch),
        };
        let mut released: Vec<&RecordKey> = Vec::new();
        let mut isolated: Vec<&RecordKey> = Vec::new();
        let mut dead: Vec<(&RecordKey, Counted)> = Vec::new();
        for chunk in self.pages.chunks(CHUNK_ROWS) {
            let mut pages = Pages::load(tx, chunk.iter().map(|(key, _event)| key)).await?;
            for (key, event) in chunk {
                let held = pages.row(key)?.batch_id.as_deref() == Some(self.batch.as_str());
                let status = match event {
                    _ if !held => return Err(self.unfit(key, event)),
                    PageEvent::Released { .. } => {
                        released.push(key);
                        self.note.as_str()
                    }
                    PageEvent::BatchExpired { .. } => {
                        released.push(key);
                        ""
                    }
                    PageEvent::ReleasesSpent { .. } => {
                        released.push(key);
                        dead.push((key, Counted::No));
                        self.note.as_str()
                    }
                    PageEvent::Isolated { .. } => {
                        isolated.push(key);
                        dead.push((key, Counted::Yes));
                        self.note.as_str()
                    }
                    _ => return Err(self.unfit(key, event)),
                };
                let row = pages.apply(key, event, &cause, status)?;
                row.releases += i64::from(self.counted);
                if row.stage != PageStage::Dead.as_str() {
                    row.batch_size_max = self.batch_size_max.map(i64::from);
                }
            }
            pages.write(tx, rules, self.at).await?;
        }
        self.decide_attempts(tx, RELEASE_ATTEMPTS, &released)
            .await?;
        self.decide_attempts(tx, REJECT_ATTEMPTS, &isolated).await?;
        let numbers = attempt_numbers(tx, &self.batch, dead.iter().map(|(key, _)| *key)).await?;
        let detail = FailureDetail::of_provider(&self.note);
        let failures = dead
            .iter()
            .map(|(key, counted)| Failure {
                key,
                batch: self.batch.as_str(),
                attempt_number: numbers.get(key.as_str()).copied().unwrap_or(0),
                detail: &detail,
                counted: *counted,
            })
            .collect();
        let recipe = Some(submission.row.recipe_hash.as_str());
        record_failures(tx, failures, recipe, Some(&run), self.at).await
    }

    fn unfit(&self, key: &RecordKey, event: &PageEvent) -> StateError {
        StateError::Conflict(format!(
            "event '{}' of page '{key}' cannot end batch '{}'",
            event.as_str(),
            self.batch
        ))
    }

    async fn decide_attempts(
        &self,
        tx: &DatabaseTransaction,
        sql: &str,
        keys: &[&RecordKey],
    ) -> StateResult<()> {
        let list = json_list(keys.iter().map(|key| key.as_str()));
        let values = [list, text(&self.batch), text(self.at), text(&self.note)];
        execute_exactly(tx, sql, values, keys.len()).await
    }

    /// A job that names no results may do so later, whatever its last word was.
    async fn watch_job(
        &self,
        tx: &DatabaseTransaction,
        submission: &Submission,
        code: AbandonCode,
    ) -> StateResult<()> {
        let may_come = match code {
            AbandonCode::Forgotten
            | AbandonCode::ResultsLost
            | AbandonCode::Cancelled
            | AbandonCode::Failed
            | AbandonCode::Quota
            | AbandonCode::Expired => true,
            AbandonCode::Withdrawn | AbandonCode::Refused => false,
        };
        if let Some(job) = submission.row.remote_name.as_deref().filter(|_| may_come) {
            let job = RemoteName::from(job);
            late::watch(tx, &job, &self.batch, LateWhy::Ended, self.at).await?;
        }
        Ok(())
    }
}

const RELEASE_ATTEMPTS: &str = "
    UPDATE attempts SET outcome = 'released', message = ?4, decided_at = ?3
    WHERE batch_id = ?2 AND record_key IN (SELECT value FROM json_each(?1)) AND outcome = 'pending'";

const REJECT_ATTEMPTS: &str = "
    UPDATE attempts SET outcome = 'rejected', error_type = 'ApiError', message = ?4, decided_at = ?3
    WHERE batch_id = ?2 AND record_key IN (SELECT value FROM json_each(?1)) AND outcome = 'pending'";
