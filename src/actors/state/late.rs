//! Jobs beside or after their batches: what was seen of them, and what their answers were worth.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};
use serde_json::Value;

use super::messages::{
    LateAnswer, LateJob, LateMember, LateTally, ListLate, ListLateMembers, ListTwins, RecordLate,
    RecordLateLook, StateError, StateResult, Twin, WatchJobs,
};
use super::pages::{Cause, Pages};
use super::results::answer_values;
use super::rows::{instant, maybe_instant, word};
use super::sql::{
    CHUNK_ROWS, as_u64, execute, execute_exactly, first, json_list, rows, signed, text, texts,
};
use super::submits::Submission;
use super::tallies::{put_sums, put_tally, tally, token_sums};
use super::{Apply, Rules};
use crate::domain::batch::BatchStage;
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RecordKey, RemoteName};
use crate::domain::late::{LateEvent, LateState, LateWhy};
use crate::domain::page::{PageEvent, PageStage};
use crate::domain::remote::RemoteOutput;
use crate::domain::time::Timestamp;

/// Begins to watch a job; one that is known already stays as it is.
pub(super) async fn watch(
    tx: &DatabaseTransaction,
    job: &RemoteName,
    batch: &BatchId,
    why: LateWhy,
    at: Timestamp,
) -> StateResult<u64> {
    execute(
        tx,
        "INSERT INTO late_jobs (remote_name, batch_id, why, state, found_at, updated_at)
         VALUES (?1, ?2, ?3, 'watched', ?4, ?4) ON CONFLICT (remote_name) DO NOTHING",
        [text(job), text(batch), text(why), text(at)],
    )
    .await
}

impl Apply for WatchJobs {
    type Reply = u64;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<u64> {
        let mut new = 0;
        for (job, batch) in &self.jobs {
            new += watch(tx, job, batch, LateWhy::Extra, self.at).await?;
        }
        Ok(new)
    }
}

#[derive(FromQueryResult)]
struct TwinRow {
    batch_id: String,
    display_name: String,
    remote_name: Option<String>,
}

impl Apply for ListTwins {
    type Reply = Vec<Twin>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<Twin>> {
        let found: Vec<TwinRow> = rows(
            tx,
            "SELECT batch_id, display_name, remote_name FROM submissions
             WHERE created_at > ?1 AND (creates > 1 AND remote_name IS NOT NULL
                                       OR creates > 0 AND state = 'abandoned' AND remote_name IS NULL)
             ORDER BY created_at",
            [text(self.since)],
        )
        .await?;
        let twins = found.into_iter().map(|row| Twin {
            batch: BatchId::from(row.batch_id),
            display_name: row.display_name,
            remote: row.remote_name.map(RemoteName::from),
        });
        Ok(twins.collect())
    }
}

#[derive(FromQueryResult)]
struct LateRow {
    remote_name: String,
    batch_id: String,
    why: String,
    state: String,
    output_kind: Option<String>,
    output_file: Option<String>,
    looks: i64,
    looked_at: Option<String>,
    found_at: String,
}

impl Apply for ListLate {
    type Reply = Vec<LateJob>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<LateJob>> {
        let found: Vec<LateRow> = rows(
            tx,
            "SELECT remote_name, batch_id, why, state, output_kind, output_file, looks, looked_at,
                    found_at
             FROM late_jobs WHERE state = ?1 ORDER BY looked_at, remote_name LIMIT ?2",
            [text(self.state), signed(self.limit).into()],
        )
        .await?;
        found.into_iter().map(late_job).collect()
    }
}

fn late_job(row: LateRow) -> StateResult<LateJob> {
    let thing = format!("late job '{}'", row.remote_name);
    Ok(LateJob {
        batch: BatchId::from(row.batch_id),
        why: word(&thing, &row.why, LateWhy::parse)?,
        state: word(&thing, &row.state, LateState::parse)?,
        output: match (row.output_kind.as_deref(), row.output_file) {
            (Some("inline"), _) => Some(RemoteOutput::Inline),
            (Some(_file), Some(name)) => Some(RemoteOutput::File(RemoteName::from(name))),
            _ => None,
        },
        looks: super::sql::small(row.looks),
        looked_at: maybe_instant(&thing, row.looked_at.as_deref())?,
        found_at: instant(&thing, &row.found_at)?,
        job: RemoteName::from(row.remote_name),
    })
}

async fn state_of(tx: &impl ConnectionTrait, job: &RemoteName) -> StateResult<LateState> {
    let sql = "SELECT state FROM late_jobs WHERE remote_name = ?1";
    let found = texts(tx, sql, [text(job)]).await?;
    let state = found
        .first()
        .ok_or_else(|| StateError::Missing(format!("late job '{job}'")))?;
    word(&format!("late job '{job}'"), state, LateState::parse)
}

impl Apply for RecordLateLook {
    type Reply = LateState;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<LateState> {
        let before = state_of(tx, &self.job).await?;
        let after = before.next(self.event)?;
        if after == LateState::Collected {
            return Err(StateError::Conflict(
                "a late job is collected by RecordLate only".to_owned(),
            ));
        }
        let (kind, file) = match &self.output {
            None => (None, None),
            Some(RemoteOutput::Inline) => (Some("inline".to_owned()), None),
            Some(RemoteOutput::File(name)) => (Some("file".to_owned()), Some(name.to_string())),
        };
        let values = [
            text(&self.job),
            text(before),
            text(after),
            self.remote_state.clone().into(),
            kind.into(),
            file.into(),
            text(&self.note),
            text(self.at),
        ];
        execute_exactly(tx, RECORD_LOOK, values, 1).await?;
        Ok(after)
    }
}

const RECORD_LOOK: &str = "
    UPDATE late_jobs SET
        state = ?3, remote_state = coalesce(?4, remote_state),
        output_kind = coalesce(?5, output_kind), output_file = coalesce(?6, output_file),
        note = ?7, looks = looks + 1, looked_at = ?8, updated_at = ?8
    WHERE remote_name = ?1 AND state = ?2";

#[derive(FromQueryResult)]
struct LateMemberRow {
    record_key: String,
    stage: String,
    output_sha256: Option<String>,
    outcome: String,
    own_stage: i64,
    image_sha256: Option<String>,
}

impl Apply for ListLateMembers {
    type Reply = Vec<LateMember>;
    const WRITES: bool = false;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        _rules: &Rules,
    ) -> StateResult<Vec<LateMember>> {
        late_members(tx, &self.batch).await
    }
}

async fn late_members(tx: &impl ConnectionTrait, batch: &BatchId) -> StateResult<Vec<LateMember>> {
    let found: Vec<LateMemberRow> = rows(
        tx,
        "SELECT m.record_key, p.stage, p.output_sha256, a.outcome,
                p.batch_id IS NOT NULL OR p.stage = 'uploading' AS own_stage,
                nullif(f.sha256, '') AS image_sha256
         FROM batch_record_keys AS m
         JOIN pages AS p ON p.record_key = m.record_key
         JOIN attempts AS a ON a.batch_id = m.batch_id AND a.record_key = m.record_key
         LEFT JOIN remote_files AS f ON f.name = a.image_file
         WHERE m.batch_id = ?1 ORDER BY m.record_key",
        [text(batch)],
    )
    .await?;
    let members = found.into_iter().map(|row| {
        let thing = format!("page '{}'", row.record_key);
        Ok(LateMember {
            stage: word(&thing, &row.stage, PageStage::parse)?,
            in_flight: row.own_stage != 0,
            output: row.output_sha256.map(crate::domain::ids::Sha256Hex::from),
            was_accepted: row.outcome == "accepted",
            image_sha256: row.image_sha256.map(crate::domain::ids::Sha256Hex::from),
            key: RecordKey::from(row.record_key),
        })
    });
    members.collect()
}

impl Apply for RecordLate {
    type Reply = LateTally;

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<LateTally> {
        let before = state_of(tx, &self.job).await?;
        let after = before.next(LateEvent::Collected)?;
        let submission = Submission::load(tx, &self.batch).await?;
        let members: HashMap<RecordKey, LateMember> = late_members(tx, &self.batch)
            .await?
            .into_iter()
            .map(|member| (member.key.clone(), member))
            .collect();
        let mut tally = LateTally::default();
        let mut taken: Vec<&LateAnswer> = Vec::new();
        let mut noted: Vec<&LateAnswer> = Vec::new();
        for answer in &self.answers {
            let Some(member) = members.get(&answer.key) else {
                continue;
            };
            tally.answers += 1;
            let Some((output, _bytes)) = &answer.output else {
                noted.push(answer);
                continue;
            };
            let own = member.output.as_ref() == Some(output) && !member.was_accepted;
            if member.may_take() {
                taken.push(answer);
            } else if member.in_flight {
                tally.in_flight += 1;
            } else if own && member.stage == PageStage::Completed {
                // An earlier try wrote this very output, and the scan adopted it.
                tally.accepted += 1;
                noted.push(answer);
            } else {
                tally.paid_twice += 1;
                noted.push(answer);
            }
        }
        if tally.in_flight > 0 {
            return Ok(tally);
        }
        tally.accepted += as_u64(taken.len());
        if !taken.is_empty() {
            super::halts::note_accepted(tx, self.at).await?;
        }
        self.take(tx, rules, &taken, &submission).await?;
        self.decide(tx, &taken, &noted).await?;
        self.finish(tx, before, after, &tally).await?;
        self.add_up(tx, &submission).await?;
        Ok(tally)
    }
}

impl RecordLate {
    async fn take(
        &self,
        tx: &DatabaseTransaction,
        rules: &Rules,
        taken: &[&LateAnswer],
        submission: &Submission,
    ) -> StateResult<()> {
        let run = submission.run();
        let cause = Cause {
            run: Some(&run),
            batch: Some(&self.batch),
        };
        let mut pages = Pages::load(tx, taken.iter().map(|answer| &answer.key)).await?;
        for answer in taken {
            let Some((output, bytes)) = &answer.output else {
                continue;
            };
            let event = PageEvent::Adopted {
                output: output.clone(),
            };
            let status = "done; its answer came late";
            let row = pages.apply(&answer.key, &event, &cause, status)?;
            row.output_bytes = Some(signed(*bytes));
            row.releases = 0;
            row.batch_size_max = None;
        }
        pages.write(tx, rules, self.at).await?;
        Ok(())
    }

    /// Attempts that were released get what their answers say; others keep what they have.
    async fn decide(
        &self,
        tx: &DatabaseTransaction,
        taken: &[&LateAnswer],
        noted: &[&LateAnswer],
    ) -> StateResult<()> {
        let accepted = taken.iter().map(|answer| (answer, "accepted"));
        let others = noted.iter().map(|answer| (answer, "released"));
        let values: Vec<Value> = accepted
            .chain(others)
            .map(|(answer, outcome)| {
                answer_values(
                    &answer.key,
                    outcome,
                    None::<ErrorType>,
                    Some(answer.words.as_str()).filter(|words| !words.is_empty()),
                    &answer.facts,
                )
            })
            .collect();
        for chunk in values.chunks(CHUNK_ROWS) {
            let list = json_list(chunk.iter().cloned());
            let values = [list, text(&self.batch), text(self.at)];
            execute(tx, DECIDE_LATE, values).await?;
        }
        Ok(())
    }

    async fn finish(
        &self,
        tx: &DatabaseTransaction,
        before: LateState,
        after: LateState,
        tally: &LateTally,
    ) -> StateResult<()> {
        let tokens: u64 = self
            .answers
            .iter()
            .filter_map(|answer| answer.facts.tokens.total)
            .sum();
        let cost: u64 = self
            .answers
            .iter()
            .filter_map(|answer| answer.facts.cost_nanos)
            .sum();
        let values = [
            text(&self.job),
            text(before),
            text(after),
            text(&self.raw.path),
            signed(self.raw.bytes).into(),
            text(&self.raw.sha256),
            signed(tally.answers).into(),
            signed(tally.accepted).into(),
            signed(tally.paid_twice).into(),
            signed(tokens).into(),
            signed(cost).into(),
            text(self.at),
        ];
        execute_exactly(tx, FINISH_LATE, values, 1).await
    }

    /// The counts of a batch that has ended follow its attempts.
    async fn add_up(&self, tx: &DatabaseTransaction, submission: &Submission) -> StateResult<()> {
        let closed = [BatchStage::Settled, BatchStage::Abandoned];
        if !closed.contains(&submission.state.stage()) {
            return Ok(());
        }
        let mut change = submission.change(self.at);
        put_tally(&mut change, &tally(tx, &self.batch).await?);
        put_sums(&mut change, &token_sums(tx, &self.batch).await?);
        submission.write(tx, change).await
    }
}

/// Only what was released is decided anew. The plus keeps SQLite from walking the whole list once for
/// every member.
const DECIDE_LATE: &str = "
    UPDATE attempts SET
        outcome = c.value->>1, error_type = c.value->>2, message = coalesce(c.value->>3, message),
        finish_reason = c.value->>4, model_version = c.value->>5, tokens_prompt = c.value->>6,
        tokens_cached = c.value->>7, tokens_candidates = c.value->>8,
        tokens_thoughts = c.value->>9, tokens_total = c.value->>10, cost_nanos = c.value->>11,
        decided_at = ?3
    FROM jsonb_each(?1) AS c
    WHERE attempts.record_key = c.value->>0 AND +attempts.batch_id = ?2
      AND attempts.outcome = 'released'";

const FINISH_LATE: &str = "
    UPDATE late_jobs SET
        state = ?3, raw_path = ?4, raw_bytes = ?5, raw_sha256 = ?6, answers = ?7, accepted = ?8,
        paid_twice = ?9, tokens_total = ?10, cost_nanos = ?11, updated_at = ?12
    WHERE remote_name = ?1 AND state = ?2";

#[derive(FromQueryResult)]
struct LateSumsRow {
    open: i64,
    paid_twice: i64,
}

/// How many late jobs are open, and how many answers were paid twice.
pub(super) async fn late_sums(conn: &impl ConnectionTrait) -> StateResult<(u64, u64)> {
    let row: Option<LateSumsRow> = first(
        conn,
        "SELECT count(*) FILTER (WHERE state IN ('watched','offered')) AS open,
                coalesce(sum(paid_twice), 0) AS paid_twice FROM late_jobs",
        [],
    )
    .await?;
    Ok(row.map_or((0, 0), |row| {
        (
            super::sql::unsigned(row.open),
            super::sql::unsigned(row.paid_twice),
        )
    }))
}
