//! Batches and pages that are known, brought to where their jobs, results, outputs and files are.

use sea_orm::ActiveValue::Set;
use sea_orm::DatabaseTransaction;
use serde_json::json;

use super::messages::{AdoptJob, AdoptOutputs, ForgetFiles, StateResult};
use super::pages::{Cause, Pages};
use super::sql::{execute, json_list, signed, text, texts};
use super::submits::Submission;
use super::{Apply, Rules, late};
use crate::domain::batch::{BatchEvent, BatchStage, BatchState};
use crate::domain::ids::{BatchId, RecordKey, RemoteName};
use crate::domain::late::LateWhy;
use crate::domain::manifest::JobFound;
use crate::domain::page::{PageEvent, PageStage};
use crate::domain::remote::RemoteBatchState;
use crate::domain::time::Timestamp;

/// The note of what is adopted.
pub(super) const NOTE: &str = "adopted by reconcile";
/// The name of a job that is gone, where only its results are left.
const NO_JOB: &str = "batches/not-known";

impl Apply for AdoptJob {
    type Reply = BatchState;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<BatchState> {
        advance(tx, &self.batch, &self.found, self.at).await
    }
}

/// Takes a batch, event by event, from where the database has it to where its job is.
pub(super) async fn advance(
    tx: &DatabaseTransaction,
    batch: &BatchId,
    found: &JobFound,
    at: Timestamp,
) -> StateResult<BatchState> {
    let (remote, extra) = match found {
        JobFound::Job { remote, extra } => (Some(remote.clone()), extra.as_slice()),
        JobFound::Results { remote } => {
            let remote = remote.clone();
            (Some(remote.unwrap_or_else(|| NO_JOB.into())), &[] as &[_])
        }
        JobFound::Doubt => (None, &[] as &[_]),
    };
    loop {
        let submission = Submission::load(tx, batch).await?;
        let mut change = submission.change(at);
        let event = match (submission.state.stage(), &remote) {
            (BatchStage::Planned, _) => {
                change.creates = Set(submission.row.creates + 1);
                BatchEvent::SubmitStarted
            }
            (BatchStage::Submitting, None) => BatchEvent::SubmitUnclear { at },
            (BatchStage::Submitting, Some(remote)) => {
                change.extra_jobs = Set(extra_jobs(extra));
                BatchEvent::SubmitAccepted {
                    remote: remote.clone(),
                }
            }
            (BatchStage::InDoubt, Some(remote)) => {
                change.extra_jobs = Set(extra_jobs(extra));
                BatchEvent::LookupFound {
                    remote: remote.clone(),
                }
            }
            (BatchStage::Submitted, _) if matches!(found, JobFound::Results { .. }) => {
                let ended = RemoteBatchState::Succeeded;
                change.remote_state = Set(Some(ended.as_str().to_owned()));
                change.terminal_seen_at = Set(Some(at.to_string()));
                BatchEvent::ResultsOffered
            }
            (
                BatchStage::InDoubt
                | BatchStage::Submitted
                | BatchStage::Ready
                | BatchStage::Settled
                | BatchStage::Abandoned,
                _,
            ) => return Ok(submission.state),
        };
        submission.record(tx, &event, NOTE, at, change).await?;
        for job in extra {
            late::watch(tx, job, batch, LateWhy::Extra, at).await?;
        }
    }
}

fn extra_jobs(extra: &[RemoteName]) -> String {
    let names: Vec<&str> = extra.iter().map(RemoteName::as_str).collect();
    json!(names).to_string()
}

impl Apply for AdoptOutputs {
    type Reply = u64;

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<u64> {
        let cause = Cause {
            run: None,
            batch: None,
        };
        let mut pages = Pages::load(tx, self.outputs.iter().map(|output| &output.key)).await?;
        let mut adopted = 0;
        for output in &self.outputs {
            let before = match pages.stage(&output.key)? {
                _ if pages.row(&output.key)?.batch_id.is_some() => continue,
                PageStage::Uploaded => Some(PageEvent::FileExpired),
                PageStage::Uploading => Some(PageEvent::UploadDeferred { until: None }),
                PageStage::Discovered | PageStage::Dead | PageStage::Review => None,
                PageStage::Skipped
                | PageStage::Batched
                | PageStage::Validating
                | PageStage::Completed => continue,
            };
            if let Some(event) = before {
                pages.apply(&output.key, &event, &cause, NOTE)?;
            }
            let event = PageEvent::Adopted {
                output: output.sha256.clone(),
            };
            let row = pages.apply(&output.key, &event, &cause, "")?;
            row.output_bytes = Some(signed(output.bytes));
            adopted += 1;
        }
        pages.write(tx, rules, self.at).await?;
        Ok(adopted)
    }
}

impl Apply for ForgetFiles {
    type Reply = u64;

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<u64> {
        let list = json_list(self.files.iter().map(RemoteName::as_str));
        let waiting = texts(
            tx,
            "SELECT record_key FROM pages WHERE stage = 'uploaded' AND batch_id IS NULL
             AND image_file IN (SELECT value FROM json_each(?1))",
            [list.clone()],
        )
        .await?;
        let keys: Vec<RecordKey> = waiting.into_iter().map(RecordKey::from).collect();
        let cause = Cause {
            run: None,
            batch: None,
        };
        let mut pages = Pages::load(tx, &keys).await?;
        for key in &keys {
            pages.apply(key, &PageEvent::FileExpired, &cause, NOTE)?;
        }
        pages.write(tx, rules, self.at).await?;
        // What a batch holds stays until the batch ends: its job has the last word.
        execute(
            tx,
            "UPDATE remote_files SET state = 'gone', not_before = NULL, updated_at = ?2
             WHERE name IN (SELECT value FROM json_each(?1)) AND state IN ('live','deleting')
               AND name NOT IN (SELECT image_file FROM pages WHERE image_file IS NOT NULL)
               AND name NOT IN (SELECT lines_file FROM submissions
                                WHERE lines_file IS NOT NULL
                                  AND state NOT IN ('settled','abandoned'))",
            [list, text(self.at)],
        )
        .await
    }
}
