//! Submissions: how one is loaded, moved by `domain::batch::next`, written with its history, and
//! what the create, the remote list and the job said.

use std::sync::LazyLock;

use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IdenStatic, Iterable,
    QueryFilter, Value,
};

use entity::{submission_events, submissions};

use super::messages::{
    BeginSubmit, MarkUnreachable, NoteResultsMissing, RecordLookup, RecordPoll, RecordSubmit,
    StateError, StateResult,
};
use super::pages::mark_deleting;
use super::rows::{batch_state, corrupt, maybe_instant, put_batch_state};
use super::sql::{execute, execute_exactly, listed, number, signed, text};
use super::tallies::{put_sums, put_tally, tally, token_sums};
use super::{Apply, Rules, late};
use crate::domain::batch::{BatchEvent, BatchStage, BatchState, next};
use crate::domain::ids::{BatchId, RunId};
use crate::domain::late::LateWhy;
use crate::domain::remote::{RemoteBatchState, RemoteOutput, RemoteStats};
use crate::domain::time::Timestamp;

/// A submission as it was read in this transaction.
pub(super) struct Submission {
    pub row: submissions::Model,
    pub state: BatchState,
}

impl Submission {
    pub(super) async fn load(tx: &DatabaseTransaction, batch: &BatchId) -> StateResult<Self> {
        let row = submission_rows(tx, "WHERE batch_id = ?1", [text(batch)])
            .await?
            .pop()
            .ok_or_else(|| missing(batch))?;
        let state = batch_state(&row)?;
        Ok(Submission { row, state })
    }

    pub(super) fn batch(&self) -> BatchId {
        BatchId::from(self.row.batch_id.as_str())
    }

    pub(super) fn run(&self) -> RunId {
        RunId::from(self.row.run_id.as_str())
    }

    /// The start of a change of this row.
    pub(super) fn change(&self, at: Timestamp) -> submissions::ActiveModel {
        submissions::ActiveModel {
            updated_at: Set(at.to_string()),
            ..Default::default()
        }
    }

    /// Refuses what makes sense in one state only.
    pub(super) fn expect(&self, stage: BatchStage) -> StateResult<()> {
        if self.state.stage() == stage {
            return Ok(());
        }
        Err(StateError::Conflict(format!(
            "batch '{}' is {}, not {stage}",
            self.row.batch_id,
            self.state.stage()
        )))
    }

    /// Writes a change, guarded by the state that was read.
    pub(super) async fn write(
        &self,
        tx: &DatabaseTransaction,
        change: submissions::ActiveModel,
    ) -> StateResult<()> {
        let done = submissions::Entity::update_many()
            .set(change)
            .filter(submissions::Column::BatchId.eq(self.row.batch_id.as_str()))
            .filter(submissions::Column::State.eq(self.row.state.as_str()))
            .exec(tx)
            .await?;
        if done.rows_affected == 1 {
            return Ok(());
        }
        Err(StateError::Conflict(format!(
            "batch '{}' is no longer {}",
            self.row.batch_id, self.row.state
        )))
    }

    /// Applies an event: the state, the batch as operators see it, and the history.
    pub(super) async fn step(
        &self,
        tx: &DatabaseTransaction,
        event: &BatchEvent,
        note: &str,
        at: Timestamp,
        mut change: submissions::ActiveModel,
    ) -> StateResult<BatchState> {
        let after = next(&self.state, event)?;
        put_batch_state(&mut change, &after, at);
        if !note.is_empty() {
            change.note = Set(note.to_owned());
        }
        let status = match after.stage() {
            BatchStage::Settled => "completed",
            BatchStage::Abandoned => "failed",
            BatchStage::Planned
            | BatchStage::Submitting
            | BatchStage::InDoubt
            | BatchStage::Submitted
            | BatchStage::Ready => "active",
        };
        let seen = [
            text(&self.row.batch_id),
            text(&self.row.created_at),
            text(at),
            text(status),
        ];
        let moved = Moved {
            before: Some(self.state.stage()),
            after: after.stage(),
            event: event.as_str(),
            note,
        };
        self.write(tx, change).await?;
        execute_exactly(tx, SHOW_BATCH, seen, 1).await?;
        moved.record(tx, &self.batch(), at).await?;
        Ok(after)
    }

    /// Applies an event that may end the batch, as long as that leaves no member open.
    pub(super) async fn record(
        &self,
        tx: &DatabaseTransaction,
        event: &BatchEvent,
        note: &str,
        at: Timestamp,
        mut change: submissions::ActiveModel,
    ) -> StateResult<BatchState> {
        match event {
            BatchEvent::Settled => {
                return Err(StateError::Conflict(
                    "a batch is settled by SettleBatch only".to_owned(),
                ));
            }
            BatchEvent::SubmitAccepted { .. } | BatchEvent::LookupFound { .. } => {
                change.submitted_at = Set(Some(at.to_string()));
            }
            // Each doubt is looked into afresh.
            BatchEvent::SubmitUnclear { .. } => {
                change.lookups = Set(0);
                change.last_lookup_at = Set(None);
            }
            _ => {}
        }
        let ends = next(&self.state, event)?.stage() == BatchStage::Abandoned;
        if ends {
            refuse_open(tx, &self.batch()).await?;
            put_tally(&mut change, &tally(tx, &self.batch()).await?);
            put_sums(&mut change, &token_sums(tx, &self.batch()).await?);
        }
        let after = self.step(tx, event, note, at, change).await?;
        if ends {
            self.release_members(tx, at).await?;
        }
        Ok(after)
    }

    /// Lets go of the members and of the remote files, and gives the number of pages that may be
    /// sent again.
    pub(super) async fn release_members(
        &self,
        tx: &DatabaseTransaction,
        at: Timestamp,
    ) -> StateResult<u64> {
        let batch = &self.row.batch_id;
        let waiting = number(
            tx,
            "SELECT count(*) FROM batch_record_keys AS m JOIN pages AS p ON p.record_key = m.record_key
             WHERE m.batch_id = ?1 AND (p.stage = 'discovered' AND p.batch_id = ?1
                                        OR p.stage = 'uploaded')",
            [text(batch)],
        )
        .await?;
        for sql in [FREE_IMAGES, FREE_PAGES] {
            execute(tx, sql, [text(batch), text(at)]).await?;
        }
        let inflight = "DELETE FROM inflight_records WHERE batch_id = ?1";
        execute(tx, inflight, [text(batch)]).await?;
        let lines: Vec<String> = self.row.lines_file.iter().cloned().collect();
        mark_deleting(tx, &lines, at).await?;
        Ok(waiting)
    }
}

/// Refuses a batch that is not known.
pub(super) async fn expect_batch(conn: &impl ConnectionTrait, batch: &BatchId) -> StateResult<()> {
    let sql = "SELECT count(*) FROM submissions WHERE batch_id = ?1";
    if number(conn, sql, [text(batch)]).await? > 0 {
        return Ok(());
    }
    Err(missing(batch))
}

fn missing(batch: &BatchId) -> StateError {
    StateError::Missing(format!("batch '{batch}'"))
}

/// Reads submissions that a condition names, in no order. A row has some sixty columns, and reading each of
/// them by itself costs more than finding it.
pub(super) async fn submission_rows<const N: usize>(
    conn: &impl ConnectionTrait,
    condition: &str,
    values: [Value; N],
) -> StateResult<Vec<submissions::Model>> {
    listed(conn, &submissions_sql(condition), values).await
}

/// The question of [`submission_rows`].
pub(super) fn submissions_sql(condition: &str) -> String {
    static COLUMNS: LazyLock<String> = LazyLock::new(|| {
        let columns = submissions::Column::iter().map(|column| column.as_str().to_owned());
        columns.collect::<Vec<_>>().join(", ")
    });
    format!(
        "SELECT json_group_array(json_array({columns})) FROM (
             SELECT {columns} FROM submissions {condition})",
        columns = *COLUMNS
    )
}

/// A member's image goes, unless the page waits with it for its next batch.
pub(super) const FREE_IMAGES: &str = "
    UPDATE remote_files SET state = 'deleting', updated_at = ?2
    WHERE state = 'live' AND name IN (
        SELECT a.image_file FROM attempts AS a
        LEFT JOIN pages AS p ON p.record_key = a.record_key AND p.image_file = a.image_file
        WHERE a.batch_id = ?1 AND p.record_key IS NULL)";

pub(super) const FREE_PAGES: &str =
    "UPDATE pages SET batch_id = NULL, updated_at = ?2 WHERE batch_id = ?1";

/// The batch as operators see it.
pub(super) const SHOW_BATCH: &str = "
    INSERT INTO active_batches (batch_id, created_at, updated_at, status) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (batch_id) DO UPDATE SET updated_at = excluded.updated_at, status = excluded.status";

/// A line of a batch's history.
pub(super) struct Moved<'a> {
    pub before: Option<BatchStage>,
    pub after: BatchStage,
    pub event: &'a str,
    pub note: &'a str,
}

impl Moved<'_> {
    /// Writes the line.
    pub(super) async fn record(
        &self,
        tx: &DatabaseTransaction,
        batch: &BatchId,
        at: Timestamp,
    ) -> StateResult<()> {
        let line = submission_events::Entity::insert(submission_events::ActiveModel {
            batch_id: Set(batch.to_string()),
            at: Set(at.to_string()),
            from_state: Set(self.before.map(|stage| stage.as_str().to_owned())),
            to_state: Set(self.after.as_str().to_owned()),
            event: Set(self.event.to_owned()),
            note: Set(self.note.to_owned()),
            ..Default::default()
        });
        line.exec_without_returning(tx).await?;
        Ok(())
    }
}

/// Refuses to end a batch while a member has no outcome.
pub(super) async fn refuse_open(tx: &DatabaseTransaction, batch: &BatchId) -> StateResult<()> {
    let open = number(tx, OPEN_MEMBERS, [text(batch)]).await?;
    if open == 0 {
        return Ok(());
    }
    Err(StateError::StillOpen {
        batch: batch.clone(),
        open,
    })
}

pub(super) const OPEN_MEMBERS: &str =
    "SELECT count(*) FROM pages WHERE batch_id = ?1 AND stage IN ('batched','validating')";

impl Apply for BeginSubmit {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let submission = Submission::load(tx, &self.batch).await?;
        let mut change = submission.change(self.at);
        change.creates = Set(submission.row.creates + 1);
        submission
            .step(tx, &BatchEvent::SubmitStarted, "", self.at, change)
            .await?;
        Ok(())
    }
}

impl Apply for RecordSubmit {
    type Reply = BatchState;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<BatchState> {
        let submission = Submission::load(tx, &self.batch).await?;
        let change = submission.change(self.at);
        submission
            .record(tx, &self.event, &self.note, self.at, change)
            .await
    }
}

impl Apply for RecordLookup {
    type Reply = BatchState;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<BatchState> {
        let submission = Submission::load(tx, &self.batch).await?;
        submission.expect(BatchStage::InDoubt)?;
        let mut change = submission.change(self.at);
        change.lookups = Set(submission.row.lookups + 1);
        change.last_lookup_at = Set(Some(self.at.to_string()));
        if !self.extra.is_empty() {
            let known = serde_json::from_str(&submission.row.extra_jobs);
            let mut jobs: std::collections::BTreeSet<String> = known
                .map_err(|error| corrupt(format!("batch '{}'", self.batch), error.to_string()))?;
            jobs.extend(self.extra.iter().map(ToString::to_string));
            change.extra_jobs = Set(serde_json::json!(jobs).to_string());
            for job in &self.extra {
                late::watch(tx, job, &self.batch, LateWhy::Extra, self.at).await?;
            }
        }
        match &self.event {
            Some(event) => submission.record(tx, event, "", self.at, change).await,
            None => {
                submission.write(tx, change).await?;
                Ok(submission.state)
            }
        }
    }
}

impl Apply for RecordPoll {
    type Reply = BatchState;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<BatchState> {
        let submission = Submission::load(tx, &self.batch).await?;
        let mut change = submission.change(self.at);
        change.polled_at = Set(Some(self.at.to_string()));
        change.unreachable_since = Set(None);
        change.remote_state = Set(Some(self.remote_state.clone()));
        let RemoteStats {
            requests,
            pending,
            succeeded,
            failed,
        } = self.stats;
        change.remote_requests = Set(requests.map(signed));
        change.remote_pending = Set(pending.map(signed));
        change.remote_succeeded = Set(succeeded.map(signed));
        change.remote_failed = Set(failed.map(signed));
        match &self.output {
            None => {}
            Some(RemoteOutput::Inline) => {
                change.output_kind = Set(Some("inline".to_owned()));
                change.output_file = Set(None);
            }
            Some(RemoteOutput::File(name)) => {
                change.output_kind = Set(Some("file".to_owned()));
                change.output_file = Set(Some(name.to_string()));
            }
        }
        if let Some(ended_at) = self.ended_at {
            change.ended_at = Set(Some(ended_at.to_string()));
        }
        let is_terminal = RemoteBatchState::parse(&self.remote_state).is_terminal();
        if is_terminal && submission.row.terminal_seen_at.is_none() {
            change.terminal_seen_at = Set(Some(self.at.to_string()));
        }
        match &self.event {
            // Nothing moved: a look every half minute for two days is no history.
            None | Some(BatchEvent::Advanced) => {
                let after = match &self.event {
                    Some(event) => next(&submission.state, event)?,
                    None => submission.state.clone(),
                };
                if !self.note.is_empty() {
                    change.note = Set(self.note.clone());
                }
                submission.write(tx, change).await?;
                Ok(after)
            }
            Some(event) => {
                submission
                    .record(tx, event, &self.note, self.at, change)
                    .await
            }
        }
    }
}

impl Apply for NoteResultsMissing {
    type Reply = Timestamp;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Timestamp> {
        let submission = Submission::load(tx, &self.batch).await?;
        submission.expect(BatchStage::Ready)?;
        let known = submission.row.results_missing_since.as_deref();
        if let Some(since) = maybe_instant("missing results", known)? {
            return Ok(since);
        }
        let mut change = submission.change(self.at);
        change.results_missing_since = Set(Some(self.at.to_string()));
        submission.write(tx, change).await?;
        Ok(self.at)
    }
}

impl Apply for MarkUnreachable {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let submission = Submission::load(tx, &self.batch).await?;
        submission.expect(BatchStage::Submitted)?;
        if submission.row.unreachable_since.is_some() {
            return Ok(());
        }
        let mut change = submission.change(self.at);
        change.unreachable_since = Set(Some(self.at.to_string()));
        submission.write(tx, change).await?;
        let stage = BatchStage::Submitted;
        let moved = Moved {
            before: Some(stage),
            after: stage,
            event: "unreachable",
            note: &self.note,
        };
        moved.record(tx, &self.batch, self.at).await
    }
}
