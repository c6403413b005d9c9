//! From the lines of a result file to verdicts on record: judge, write, record.
//!
//! The three go on side by side for different runs of lines: judging needs the cores, writing waits for
//! the disk, recording for the state. The order of the lines does not matter to any of them; each page
//! has one answer, and an output is durable before its verdict is sent.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};

use super::super::CollectionError;
use super::super::index::Index;
use super::super::judge::{self, Judged, Judgement};
use super::{Collection, chunks, priced};
use crate::actors::state::messages::Member;
use crate::domain::attempt::{AnswerFacts, Outcome, Verdict};
use crate::domain::ids::RecordKey;
use crate::domain::page::PageStage;
use crate::meter::{self, Spot};
use crate::ports::result_sink::RawReader;

/// Runs of answers that are written or recorded at a time, while the next one is judged. Each holds up to
/// `results.verdicts_per_commit` outputs in memory.
const RUNS_TOGETHER: usize = 2;

/// The open members of a batch, by key.
type Open<'a> = HashMap<&'a RecordKey, &'a Member>;

impl Collection {
    /// Reads the file again and judges each answer, a run of lines at a time.
    pub(super) async fn judge_lines(
        &self,
        path: &Path,
        index: &Index,
        members: &[Member],
    ) -> Result<(), CollectionError> {
        let open: Open<'_> = members
            .iter()
            .filter(|member| member.stage == Some(PageStage::Validating))
            .map(|member| (&member.key, member))
            .collect();
        let reader = self.shop.ports.sink.open_raw(path).await?;
        // Once a run fails, nothing new is begun; what is under way is brought to its end.
        let failed = Cell::new(false);
        let one = async |run: Result<Vec<(Judged, &Member)>, CollectionError>| {
            if failed.get() {
                return Ok(());
            }
            let ended = match run {
                Ok(run) => self.write_and_record(self.without_stale(run).await).await,
                Err(error) => Err(error),
            };
            failed.set(failed.get() || ended.is_err());
            ended
        };
        let runs = self
            .judged_runs(reader, index, &open)
            .take_while(|_run| std::future::ready(!failed.get()))
            .map(one)
            .buffer_unordered(RUNS_TOGETHER);
        let mut runs = std::pin::pin!(runs);
        let mut outcome = Ok(());
        while let Some(ended) = runs.next().await {
            outcome = outcome.and(ended);
        }
        outcome
    }

    /// The answers of open members, judged, in runs that are written and recorded together.
    fn judged_runs<'a>(
        &'a self,
        reader: Box<dyn RawReader>,
        index: &'a Index,
        open: &'a Open<'a>,
    ) -> impl Stream<Item = Result<Vec<(Judged, &'a Member)>, CollectionError>> + 'a {
        let reads = stream::unfold(Some(reader), move |reader| async move {
            let mut reader = reader?;
            match reader.next_lines().await {
                Ok(None) => None,
                Ok(Some(lines)) => {
                    let (validator, rules) = (&self.shop.validator, &self.shop.options.rules);
                    let judging = judge::judge_lines(lines, Arc::clone(validator), rules.clone());
                    let judged = meter::waiting(Spot::Judge, judging).await;
                    Some((Ok(judged), Some(reader)))
                }
                Err(error) => Some((Err(CollectionError::from(error)), None)),
            }
        });
        let runs = reads.map(move |read| match read {
            Err(error) => vec![Err(error)],
            Ok(judged) => {
                let mut seen = HashSet::new();
                let answers = judged
                    .into_iter()
                    .filter(|judged| index.is_answer(&judged.key, judged.line.offset))
                    .filter_map(|judged| {
                        let member = *open.get(&judged.key)?;
                        seen.insert(judged.key.clone()).then_some((judged, member))
                    })
                    .collect();
                let together = self.shop.options.verdicts_together;
                chunks(answers, together).into_iter().map(Ok).collect()
            }
        });
        runs.map(stream::iter).flatten()
    }

    /// Writes the accepted outputs of a run of answers, then records all its verdicts.
    async fn write_and_record(&self, run: Vec<(Judged, &Member)>) -> Result<(), CollectionError> {
        let mut outputs = Vec::new();
        let mut waiting = Vec::new();
        let mut verdicts = Vec::with_capacity(run.len());
        for (judged, member) in run {
            let Judged {
                key,
                line,
                facts,
                judgement,
            } = judged;
            let facts = priced(
                &self.shop,
                AnswerFacts {
                    raw_line: Some(line),
                    ..facts
                },
            );
            match judgement {
                Judgement::Accepted { output } => {
                    outputs.push((key.clone(), output));
                    waiting.push((key, facts));
                }
                Judgement::Rejected(failure) => {
                    verdicts.push(self.rejected(key, facts, *failure, member.failures));
                }
                Judgement::Released { cause, counted } => {
                    let outcome = self.released(member, cause, counted);
                    verdicts.push(Verdict {
                        key,
                        facts,
                        outcome,
                    });
                }
            }
        }
        let writing = self.shop.ports.sink.write_outputs(outputs);
        let written = meter::waiting(Spot::WriteOutputs, writing).await;
        let mut disk_fault = None;
        for ((key, facts), written) in waiting.into_iter().zip(written) {
            match written {
                Ok(written) => verdicts.push(Verdict {
                    key,
                    facts,
                    outcome: Outcome::Accepted {
                        output: written.sha256,
                        bytes: written.bytes,
                    },
                }),
                Err(error) => disk_fault = Some(error),
            }
        }
        self.record(verdicts).await?;
        match disk_fault {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}
