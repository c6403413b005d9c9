//! Collecting a batch: verdicts, settlement, the report.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult};
use serde_json::{Value, json};

use entity::remote_files;

use super::batches::attempt_numbers;
use super::messages::{
    BeginCollect, Counted, FailedPage, FilePurpose, LedgerState, RecordVerdicts, SettleBatch,
    Settled, StateError, StateResult, VerdictsRecorded,
};
use super::pages::{Cause, Pages};
use super::rows::word;
use super::spread::{Cell, Spread};
use super::sql::{CHUNK_ROWS, as_u64, execute_exactly, listed, rows, signed, small, text};
use super::submits::{Submission, refuse_open};
use super::tallies::{put_sums, put_tally, tally, token_sums};
use super::uploads::{Failure, record_failures};
use super::{Apply, Rules, halts};
use crate::domain::attempt::{AnswerFacts, FailureDetail, Outcome, RawLine, Tokens, Verdict};
use crate::domain::batch::{BatchEvent, BatchStage};
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::page::{PageEvent, PageStage};
use crate::domain::remote::RemoteOutput;
use crate::domain::time::Timestamp;

/// How long the provider keeps a file.
const REMOTE_FILE_LIFE: std::time::Duration = std::time::Duration::from_secs(48 * 60 * 60);

impl Apply for BeginCollect {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let submission = Submission::load(tx, &self.batch).await?;
        submission.expect(BatchStage::Ready)?;
        let run = submission.run();
        let cause = Cause {
            run: Some(&run),
            batch: Some(&self.batch),
        };
        loop {
            // Who is moved waits no longer, so that each question gives others.
            let some = [text(&self.batch), signed(as_u64(CHUNK_ROWS)).into()];
            let waiting: Vec<String> = listed(tx, WAITING, some).await?;
            let are_all = waiting.len() < CHUNK_ROWS;
            let keys: Vec<RecordKey> = waiting.into_iter().map(RecordKey::from).collect();
            let mut pages = Pages::load(tx, &keys).await?;
            for key in &keys {
                pages.apply(key, &PageEvent::AnswerAtHand, &cause, "")?;
            }
            pages.write(tx, rules, self.at).await?;
            if are_all {
                break;
            }
        }
        let mut change = submission.change(self.at);
        change.results_missing_since = Set(None);
        change.raw_path = Set(Some(self.raw.path.clone()));
        change.raw_bytes = Set(Some(signed(self.raw.bytes)));
        change.raw_sha256 = Set(Some(self.raw.sha256.to_string()));
        submission.write(tx, change).await
    }
}

/// Members whose answers are at hand now, some of them.
pub(super) const WAITING: &str = "
    SELECT json_group_array(record_key) FROM (
        SELECT record_key FROM pages WHERE batch_id = ?1 AND stage = 'batched' LIMIT ?2)";

impl Apply for RecordVerdicts {
    type Reply = VerdictsRecorded;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        rules: &Rules,
    ) -> StateResult<VerdictsRecorded> {
        let submission = Submission::load(tx, &self.batch).await?;
        let named = self.verdicts.iter().map(|verdict| &verdict.key);
        let numbers = attempt_numbers(tx, &self.batch, named).await?;
        // Keys from a result file are only ever compared: what is no member is passed over.
        let members: Vec<&Verdict> = self
            .verdicts
            .iter()
            .filter(|verdict| numbers.contains_key(verdict.key.as_str()))
            .collect();
        let mut pages = Pages::load(tx, members.iter().map(|verdict| &verdict.key)).await?;
        let mut attempts = Vec::new();
        let mut failures = Vec::new();
        let mut applied = Vec::new();
        let mut spent = Vec::new();
        for verdict in members {
            let row = pages.row(&verdict.key)?;
            let is_open = pages.stage(&verdict.key)? == PageStage::Validating
                && row.batch_id.as_deref() == Some(self.batch.as_str());
            if !is_open {
                continue;
            }
            self.judge(&mut pages, verdict, &submission)?;
            attempts.push(attempt_values(verdict));
            applied.push(verdict);
            match &verdict.outcome {
                Outcome::Rejected { failure, .. } => {
                    failures.push(self.failure(&verdict.key, failure, Counted::Yes, &numbers));
                }
                Outcome::ReleasesSpent { cause } => {
                    spent.push((&verdict.key, FailureDetail::of_provider(cause)));
                }
                Outcome::Accepted { .. } | Outcome::Released { .. } => {}
            }
        }
        let unlocked = pages.write(tx, rules, self.at).await?;
        halts::count_verdicts(tx, applied, self.at).await?;
        for chunk in attempts.chunks(CHUNK_ROWS) {
            let spread = Spread::of(chunk, &ANSWER_PLACES, 4);
            let sql = decide_attempts(&spread.terms);
            let values = spread.values([text(&self.batch), text(self.at)]);
            execute_exactly(tx, &sql, values, chunk.len()).await?;
        }
        for (key, detail) in &spent {
            failures.push(self.failure(key, detail, Counted::No, &numbers));
        }
        let recipe = Some(submission.row.recipe_hash.as_str());
        record_failures(tx, failures, recipe, Some(&submission.run()), self.at).await?;
        Ok(VerdictsRecorded {
            applied: super::sql::as_u64(attempts.len()),
            unlocked,
        })
    }
}

impl RecordVerdicts {
    fn judge(
        &self,
        pages: &mut Pages,
        verdict: &Verdict,
        submission: &Submission,
    ) -> StateResult<()> {
        let run = submission.run();
        let cause = Cause {
            run: Some(&run),
            batch: Some(&self.batch),
        };
        match &verdict.outcome {
            Outcome::Accepted { output, bytes } => {
                let event = PageEvent::Accepted {
                    output: output.clone(),
                };
                let row = pages.apply(&verdict.key, &event, &cause, "")?;
                row.output_bytes = Some(signed(*bytes));
                row.releases = 0;
                row.batch_size_max = None;
            }
            Outcome::Rejected {
                failure,
                afterwards,
            } => {
                let event = PageEvent::Rejected {
                    error: failure.error,
                    afterwards: afterwards.clone(),
                };
                let row = pages.apply(&verdict.key, &event, &cause, "")?;
                row.releases = 0;
                row.batch_size_max = None;
            }
            Outcome::Released {
                cause: why,
                counted,
            } => {
                let event = PageEvent::Released { at: self.at };
                let row = pages.apply(&verdict.key, &event, &cause, why)?;
                row.releases += i64::from(*counted);
            }
            Outcome::ReleasesSpent { cause: why } => {
                let error = ErrorType::Api;
                let event = PageEvent::ReleasesSpent { error };
                let row = pages.apply(&verdict.key, &event, &cause, why)?;
                row.releases += 1;
            }
        }
        Ok(())
    }

    fn failure<'a>(
        &'a self,
        key: &'a RecordKey,
        detail: &'a FailureDetail,
        counted: Counted,
        numbers: &HashMap<String, i64>,
    ) -> Failure<'a> {
        Failure {
            key,
            batch: self.batch.as_str(),
            attempt_number: numbers.get(key.as_str()).copied().unwrap_or(0),
            detail,
            counted,
        }
    }
}

/// The values of one decided attempt, in the order of [`ANSWER_COLUMNS`].
fn attempt_values(verdict: &Verdict) -> [Cell<'_>; 14] {
    let (outcome, error, message) = match &verdict.outcome {
        Outcome::Accepted { .. } => ("accepted", None, None),
        Outcome::Rejected { failure, .. } => (
            "rejected",
            Some(failure.error),
            Some(failure.message.as_str()),
        ),
        Outcome::Released { cause, .. } | Outcome::ReleasesSpent { cause } => {
            ("released", None, Some(cause.as_str()))
        }
    };
    answer_cells(&verdict.key, outcome, error, message, &verdict.facts)
}

/// The columns of an attempt that tell of its answer; the key comes first.
const ANSWER_COLUMNS: [&str; 14] = [
    "record_key",
    "outcome",
    "error_type",
    "message",
    "finish_reason",
    "model_version",
    "tokens_prompt",
    "tokens_cached",
    "tokens_candidates",
    "tokens_thoughts",
    "tokens_total",
    "cost_nanos",
    "raw_line_offset",
    "raw_line_bytes",
];
/// Their places but for the key's.
const ANSWER_PLACES: [usize; 13] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];

/// The values of one answer, in the order of [`ANSWER_COLUMNS`].
fn answer_cells<'a>(
    key: &'a RecordKey,
    outcome: &'a str,
    error: Option<ErrorType>,
    message: Option<&'a str>,
    facts: &'a AnswerFacts,
) -> [Cell<'a>; 14] {
    let AnswerFacts {
        finish_reason,
        model_version,
        tokens,
        cost_nanos,
        raw_line,
    } = facts;
    let Tokens {
        prompt,
        cached,
        candidates,
        thoughts,
        total,
    } = *tokens;
    let place = raw_line.map(|RawLine { offset, bytes }| (signed(offset), signed(bytes)));
    [
        key.as_str().into(),
        outcome.into(),
        error.map(ErrorType::as_str).into(),
        message.into(),
        finish_reason.as_ref().into(),
        model_version.as_ref().into(),
        prompt.map(signed).into(),
        cached.map(signed).into(),
        candidates.map(signed).into(),
        thoughts.map(signed).into(),
        total.map(signed).into(),
        cost_nanos.map(signed).into(),
        place.map(|(offset, _bytes)| offset).into(),
        place.map(|(_offset, bytes)| bytes).into(),
    ]
}

/// The same as a row of JSON.
pub(super) fn answer_values(
    key: &RecordKey,
    outcome: &str,
    error: Option<ErrorType>,
    message: Option<&str>,
    facts: &AnswerFacts,
) -> Value {
    json!(answer_cells(key, outcome, error, message, facts))
}

/// The plus keeps SQLite from walking the whole list once for every member.
fn decide_attempts(terms: &[String]) -> String {
    let assignments: String = ANSWER_PLACES
        .iter()
        .zip(terms)
        .map(|(place, term)| format!("{} = {term}, ", ANSWER_COLUMNS[*place]))
        .collect();
    format!(
        "UPDATE attempts SET {assignments}decided_at = ?3 FROM jsonb_each(?1) AS c
         WHERE attempts.record_key = c.value->>0 AND +attempts.batch_id = ?2
           AND attempts.outcome = 'pending'"
    )
}

/// The decision of attempts of which no two answers share anything.
pub(super) fn decide_all_apart() -> String {
    let terms: Vec<String> = ANSWER_PLACES
        .iter()
        .map(|place| format!("c.value->>{place}"))
        .collect();
    decide_attempts(&terms)
}

impl Apply for SettleBatch {
    type Reply = Settled;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Settled> {
        let submission = Submission::load(tx, &self.batch).await?;
        submission.expect(BatchStage::Ready)?;
        refuse_open(tx, &self.batch).await?;
        let tally = tally(tx, &self.batch).await?;
        let decided = tally.succeeded + tally.failed + tally.missing + tally.released;
        if tally.open != 0 || tally.submitted != decided {
            return Err(StateError::Conflict(format!(
                "the outcomes of batch '{}' do not add up: {tally:?}",
                self.batch
            )));
        }
        let failed = failed_pages(tx, &self.batch).await?;
        let sums = token_sums(tx, &self.batch).await?;
        let mut change = submission.change(self.at);
        put_tally(&mut change, &tally);
        put_sums(&mut change, &sums);
        change.lines_total = Set(Some(signed(self.lines.lines)));
        change.lines_foreign = Set(Some(signed(self.lines.foreign)));
        change.lines_unreadable = Set(Some(signed(self.lines.unreadable)));
        change.lines_repeated = Set(Some(signed(self.lines.repeated)));
        submission
            .step(tx, &BatchEvent::Settled, "", self.at, change)
            .await?;
        let released = submission.release_members(tx, self.at).await?;
        note_results_file(tx, &submission, self.keep_remote, self.at).await?;
        Ok(Settled {
            tally,
            failed,
            released,
            tokens: sums.tokens(),
        })
    }
}

#[derive(FromQueryResult)]
struct FailedRow {
    record_key: String,
    error_type: String,
    message: String,
    failures: i64,
    stage: String,
}

pub(super) async fn failed_pages(
    tx: &impl ConnectionTrait,
    batch: &crate::domain::ids::BatchId,
) -> StateResult<Vec<FailedPage>> {
    let found: Vec<FailedRow> = rows(
        tx,
        "SELECT a.record_key, a.error_type, coalesce(a.message, '') AS message,
                coalesce(c.count, 0) AS failures, p.stage
         FROM attempts AS a
         JOIN pages AS p ON p.record_key = a.record_key
         LEFT JOIN failure_counts AS c ON c.record_key = a.record_key
         WHERE a.batch_id = ?1 AND a.outcome = 'rejected' ORDER BY a.record_key",
        [text(batch)],
    )
    .await?;
    let failed = found.into_iter().map(|row| {
        let thing = format!("page '{}'", row.record_key);
        Ok(FailedPage {
            error: word(&thing, &row.error_type, ErrorType::parse)?,
            message: row.message,
            failures: small(row.failures),
            stage: word(&thing, &row.stage, PageStage::parse)?,
            key: RecordKey::from(row.record_key),
        })
    });
    failed.collect()
}

/// The provider's results file counts like any other. It cannot be deleted by itself, only with
/// its job; where the job is kept, it counts until it expires.
async fn note_results_file(
    tx: &DatabaseTransaction,
    submission: &Submission,
    keep_remote: bool,
    at: Timestamp,
) -> StateResult<()> {
    let Some(RemoteOutput::File(name)) = super::rows::batch_output(&submission.row)? else {
        return Ok(());
    };
    let thing = format!("batch '{}'", submission.row.batch_id);
    let ended_at = submission.row.ended_at.as_deref();
    let ended_at = super::rows::maybe_instant(&thing, ended_at)?.unwrap_or(at);
    let (state, note) = if keep_remote {
        (LedgerState::Undeletable, "the job is kept")
    } else {
        (LedgerState::Deleting, "")
    };
    let row = remote_files::ActiveModel {
        name: Set(name.to_string()),
        uri: Set(name.to_string()),
        purpose: Set(FilePurpose::Results.as_str().to_owned()),
        mime: Set("application/jsonl".to_owned()),
        bytes: Set(submission.row.raw_bytes.unwrap_or(0)),
        sha256: Set(submission.row.raw_sha256.clone()),
        record_key: Set(None),
        batch_id: Set(Some(submission.row.batch_id.clone())),
        key_fingerprint: Set(submission.row.key_fingerprint.clone()),
        state: Set(state.as_str().to_owned()),
        note: Set(note.to_owned()),
        not_before: Set(None),
        created_at: Set(ended_at.to_string()),
        updated_at: Set(at.to_string()),
        expires_at: Set(ended_at.plus(REMOTE_FILE_LIFE).to_string()),
        image_stamp: Set(None),
    };
    remote_files::Entity::insert(row)
        .on_conflict_do_nothing_on([remote_files::Column::Name])
        .exec_without_returning(tx)
        .await?;
    Ok(())
}
