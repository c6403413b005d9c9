//! The files of batches: raw results, reports, request lines; and what is left over.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Look;
use super::findings::{Finding, Findings, Repair};
use crate::actors::state::audit::{self, BatchFiles};
use crate::actors::state::messages::{RawFile, StateResult};
use crate::domain::batch::BatchStage;
use crate::domain::finding::FindingKind;
use crate::domain::ids::BatchId;
use crate::ports::file_audit::{FileAudit, FileFacts, Leftover};
use crate::ports::page_source::SourceError;

/// Batches that are looked at in one question.
const BATCHES_TOGETHER: u64 = 500;
/// How long a running pipeline may take from one step of a batch to the next one.
const STEP_MAX: Duration = Duration::from_secs(60);
/// How long a running pipeline may leave a temporary file untouched.
const TEMPORARY_MAX: Duration = Duration::from_secs(600);

/// Checks all files of batches; gives how many raw result files are there.
pub async fn check(look: &Look<'_>, findings: &mut Findings) -> StateResult<u64> {
    let mut raw_files = 0;
    let mut after = String::new();
    loop {
        let batches = audit::batch_files(look.connection, &after, BATCHES_TOGETHER).await?;
        let Some(last) = batches.last() else { break };
        after = last.batch.to_string();
        for batch in &batches {
            raw_files += u64::from(check_raw(look, batch, findings).await?);
            check_report(look, batch, findings).await;
        }
    }
    check_work_files(look, findings).await?;
    Ok(raw_files)
}

/// Says whether the raw results are there, and what is wrong with them.
async fn check_raw(
    look: &Look<'_>,
    batch: &BatchFiles,
    findings: &mut Findings,
) -> StateResult<bool> {
    let Some(raw) = &batch.raw else {
        return Ok(false);
    };
    let Some((kind, detail)) = raw_fault(look, batch, raw).await else {
        return Ok(true);
    };
    // Results that are fetched again replace the file first and the row then.
    let before = &batch.batch;
    let again = audit::batch_again(look.connection, before).await?;
    let again = again.filter(|again| again.raw.as_ref() != Some(raw));
    let (kind, detail) = match &again {
        None => (kind, detail),
        Some(batch) => match &batch.raw {
            None => return Ok(false),
            Some(raw) => match raw_fault(look, batch, raw).await {
                None => return Ok(true),
                Some(fault) => fault,
            },
        },
    };
    findings.tell(Finding {
        kind,
        thing: batch.batch.to_string(),
        detail,
        repair: None,
    });
    Ok(kind != FindingKind::RawMissing)
}

/// Looks at what the file holds, whether or not it is compressed by now.
async fn raw_fault(
    look: &Look<'_>,
    batch: &BatchFiles,
    raw: &RawFile,
) -> Option<(FindingKind, String)> {
    let recorded = Path::new(&raw.path);
    match look.files.raw_facts_of(recorded).await {
        Err(SourceError { path, message, .. }) => {
            let path = look.shown(Path::new(&path));
            Some((FindingKind::RawDamaged, format!("{path}: {message}")))
        }
        Ok(None) => {
            let path = look.shown(recorded);
            let detail = format!("there is no {path}; the batch is {}", batch.stage);
            Some((FindingKind::RawMissing, detail))
        }
        Ok(Some(FileFacts { bytes, .. })) if bytes != raw.bytes => Some((
            FindingKind::RawDamaged,
            format!("it has {bytes} bytes, recorded are {}", raw.bytes),
        )),
        Ok(Some(FileFacts { sha256, .. })) if sha256 != raw.sha256 => Some((
            FindingKind::RawDamaged,
            "its size is right, its content is not what was recorded".to_owned(),
        )),
        Ok(Some(_)) => None,
    }
}

async fn check_report(look: &Look<'_>, batch: &BatchFiles, findings: &mut Findings) {
    // The report follows the settlement.
    let still_to_come = look.is_fresh(batch.updated_at, STEP_MAX);
    if batch.stage != BatchStage::Settled || still_to_come {
        return;
    }
    let detail = match &batch.report {
        None => "the batch is settled, and its report was never recorded".to_owned(),
        Some(name) if !look.files.has_report(name).await => {
            let path = look.settings.paths.work_dir.join("reports").join(name);
            format!("there is no {}", look.shown(&path))
        }
        Some(_) => return,
    };
    findings.tell(Finding {
        kind: FindingKind::ReportMissing,
        thing: batch.batch.to_string(),
        detail,
        repair: Some(Repair::WriteReport(batch.batch.clone())),
    });
}

/// Files first, rows second, as everywhere.
async fn check_work_files(look: &Look<'_>, findings: &mut Findings) -> StateResult<()> {
    let listed = match look.files.work_files().await {
        Ok(listed) => listed,
        Err(error) => {
            findings.tell(Finding {
                kind: FindingKind::OutputUnreadable,
                thing: look.shown(Path::new(&error.path)),
                detail: error.message,
                repair: None,
            });
            return Ok(());
        }
    };
    for leftover in listed.temporary {
        look.tell_temporary(leftover, findings);
    }
    for chunk in listed.spooled.chunks(BATCHES_TOGETHER as usize) {
        let ids: Vec<BatchId> = chunk.iter().map(|(batch, _)| batch.clone()).collect();
        let stages = audit::batch_stages(look.connection, &ids).await?;
        let stages: HashMap<BatchId, _> = stages
            .into_iter()
            .map(|known| (known.batch.clone(), known))
            .collect();
        for (batch, leftover) in chunk {
            let known = stages.get(batch);
            let detail = match known {
                None => "there is no such batch".to_owned(),
                Some(known) if known.needs_lines() => continue,
                // They are removed right after the step that makes them useless.
                Some(known) if look.is_fresh(known.stepped_at, STEP_MAX) => continue,
                Some(known) => format!("the batch is {}", known.stage),
            };
            findings.tell(Finding {
                kind: FindingKind::SpoolOrphan,
                thing: look.shown(&leftover.path),
                detail,
                repair: Some(Repair::Remove(leftover.path.clone())),
            });
        }
    }
    check_raw_names(look, &listed.raw, findings).await
}

/// Raw results are named after their batch; those of a job that came late, after the batch and the
/// job.
async fn check_raw_names(
    look: &Look<'_>,
    raw: &[(BatchId, PathBuf)],
    findings: &mut Findings,
) -> StateResult<()> {
    for chunk in raw.chunks(BATCHES_TOGETHER as usize) {
        let of_late_job = |name: &BatchId| {
            let (batch, _job) = name.as_str().rsplit_once('-')?;
            Some(BatchId::from(batch))
        };
        let names = chunk.iter().map(|(name, _path)| name);
        let ids: Vec<BatchId> = names
            .flat_map(|name| [Some(name.clone()), of_late_job(name)])
            .flatten()
            .collect();
        let known = audit::batch_stages(look.connection, &ids).await?;
        let is_known = |id: &BatchId| known.iter().any(|known| known.batch == *id);
        for (name, path) in chunk {
            if !is_known(name) && !of_late_job(name).is_some_and(|batch| is_known(&batch)) {
                findings.tell(Finding {
                    kind: FindingKind::RawWithoutBatch,
                    thing: look.shown(path),
                    detail: "the state does not know the batch that it is named after".to_owned(),
                    repair: None,
                });
            }
        }
    }
    Ok(())
}

impl Look<'_> {
    /// A temporary file that is still being written is none of ours to judge.
    pub fn tell_temporary(&self, leftover: Leftover, findings: &mut Findings) {
        if self.is_fresh(leftover.changed_at, TEMPORARY_MAX) {
            return;
        }
        findings.tell(Finding {
            kind: FindingKind::StaleTemporary,
            thing: self.shown(&leftover.path),
            detail: format!("last written to at {}", leftover.changed_at),
            repair: Some(Repair::Remove(leftover.path)),
        });
    }
}
