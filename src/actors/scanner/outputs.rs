//! Outputs that the state and the disk do not agree about: gone, or not vouched for.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::Look;
use super::seen::Seen;
use crate::actors::blocking;
use crate::actors::state::messages::{AdoptedOutput, OddityRow};
use crate::domain::ids::{RecordKey, Sha256Hex};
use crate::domain::page::{PageEvent, RequeueCause};
use crate::meter::carried;
use crate::notices;
use crate::ports::page_source::SourceError;

/// Outputs of one chunk that are read and judged side by side.
const JUDGED_TOGETHER: usize = 16;

impl Look {
    /// Keeps the pages whose output is missing now. The folder was listed before the state was
    /// asked, and an output that was accepted in between must not be paid for again.
    pub(super) async fn really_gone(
        &self,
        candidates: Vec<(RecordKey, PageEvent)>,
        unread: &mut HashSet<String>,
        seen: &mut Seen,
    ) -> Vec<(RecordKey, PageEvent)> {
        let mut gone = Vec::new();
        for (key, event) in candidates {
            let cause = RequeueCause::OutputVanished;
            if event != (PageEvent::Requeued { cause }) {
                gone.push((key, event));
                continue;
            }
            match self.source.output(&key).await {
                Err(error) if error.missing => {
                    notices::OutputVanished { key: &key }.emit();
                    gone.push((key, event));
                }
                Ok(_there) => {}
                Err(error) if error.disk => seen.not_read(&key, &error, unread),
                Err(error) => {
                    notices::OutputNotUsable {
                        key: &key,
                        fault: &error.to_string(),
                    }
                    .emit();
                }
            }
        }
        gone
    }

    /// Reads outputs that the state does not vouch for; gives those that parse and pass the schema
    /// and reports the others, whose pages run again.
    pub(super) async fn judge(
        &self,
        keys: Vec<RecordKey>,
        unread: &mut HashSet<String>,
        seen: &mut Seen,
    ) -> Vec<AdoptedOutput> {
        let judgements = keys.into_iter().map(|key| async move {
            let judged = self.judge_one(&key).await;
            (key, judged)
        });
        let mut judgements = stream::iter(judgements).buffer_unordered(JUDGED_TOGETHER);
        let mut adopted = Vec::new();
        while let Some((key, judged)) = judgements.next().await {
            match judged {
                Ok(Ok((sha256, bytes))) => adopted.push(AdoptedOutput { key, sha256, bytes }),
                Err(error) => seen.not_read(&key, &error, unread),
                Ok(Err(fault)) => {
                    notices::OutputNotUsable {
                        key: &key,
                        fault: &fault,
                    }
                    .emit();
                    seen.note_row(OddityRow {
                        path: key.to_string(),
                        kind: "output not usable".to_owned(),
                        detail: fault,
                    });
                }
            }
        }
        adopted.sort_by(|a, b| a.key.cmp(&b.key));
        adopted
    }

    /// Reads and checks one output; fails when the disk does.
    async fn judge_one(
        &self,
        key: &RecordKey,
    ) -> Result<Result<(Sha256Hex, u64), String>, SourceError> {
        let text = match self.source.output(key).await {
            Ok(text) => text,
            Err(error) if error.disk => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let validator = Arc::clone(&self.options.validator);
        let judged = actix_rt::task::spawn_blocking(carried(move || {
            let value: serde_json::Value =
                serde_json::from_slice(&text).map_err(|error| format!("not JSON: {error}"))?;
            validator
                .check(&value)
                .map_err(|faults| faults.join("; "))?;
            Ok((blocking::sha256(&text), text.len() as u64))
        }));
        Ok(judged
            .await
            .unwrap_or_else(|lost| Err(format!("the check did not end: {lost}"))))
    }
}
