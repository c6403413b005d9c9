//! From the lines of a result file to verdicts on record: judge, write, record.
//!
//! The three go on side by side for different runs of lines: judging needs the cores, writing waits for
//! the disk, recording for the state. The order of the lines does not matter to any of them; each page
//! has one answer, and an output is durable before its verdict is sent.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::join;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

use super::super::CollectionError;
use super::super::index::Index;
use super::super::judge::{self, Judged, Judgement};
use super::{Collection, chunks, priced};
use crate::actors::state::messages::ToJudge;
use crate::domain::attempt::{AnswerFacts, Outcome, Verdict};
use crate::domain::ids::RecordKey;
use crate::meter::{self, Spot};
use crate::ports::result_sink::RawReader;

/// Runs of answers that are written or recorded at a time, while the next one is judged. Each holds up to
/// `results.verdicts_per_commit` outputs in memory.
const RUNS_TOGETHER: usize = 3;
/// Judged runs that wait for that.
const RUNS_AHEAD: usize = 1;

/// The open members of a batch, by key.
type Open<'a> = HashMap<&'a RecordKey, &'a ToJudge>;

/// A run of answers that are written and recorded together.
type Run<'a> = Vec<(Judged, &'a ToJudge)>;

impl Collection {
    /// Reads the file again and judges each answer, a run of lines at a time.
    pub(super) async fn judge_lines(
        &self,
        path: &Path,
        index: &Index,
        members: &[ToJudge],
    ) -> Result<(), CollectionError> {
        let open: Open<'_> = members
            .iter()
            .filter(|member| member.is_open)
            .map(|member| (&member.key, member))
            .collect();
        let reader = self.shop.ports.sink.open_raw(path).await?;
        let (judged, runs) = mpsc::channel(RUNS_AHEAD);
        let judging = self.judge_runs(reader, index, &open, judged);
        let (read, recorded) = join!(judging, self.record_runs(runs));
        recorded.and(read)
    }

    /// Judges the answers of open members and hands them on in runs, until there are no more or nobody
    /// takes them.
    async fn judge_runs<'a>(
        &self,
        mut reader: Box<dyn RawReader>,
        index: &Index,
        open: &Open<'a>,
        judged: mpsc::Sender<Run<'a>>,
    ) -> Result<(), CollectionError> {
        let (validator, rules) = (&self.shop.validator, &self.shop.options.rules);
        while let Some(lines) = reader.next_lines().await? {
            let judging = judge::judge_lines(lines, Arc::clone(validator), rules.clone());
            let answers = meter::waiting(Spot::Judge, judging).await;
            // A page has one answer at one place, so that none comes twice.
            let answers = answers
                .into_iter()
                .filter(|judged| index.is_answer(&judged.key, judged.line.offset))
                .filter_map(|judged| {
                    let member = *open.get(&judged.key)?;
                    Some((judged, member))
                })
                .collect();
            for run in chunks(answers, self.shop.options.verdicts_together) {
                if judged.send(run).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes and records runs of answers. Once one fails, nothing new is begun; what is under way is
    /// brought to its end.
    async fn record_runs(&self, runs: mpsc::Receiver<Run<'_>>) -> Result<(), CollectionError> {
        let failed = Cell::new(false);
        let one = async |run| {
            if failed.get() {
                return Ok(());
            }
            let ended = self.write_and_record(self.without_stale(run).await).await;
            failed.set(failed.get() || ended.is_err());
            ended
        };
        let runs = stream::unfold(runs, async |mut runs| {
            let run = runs.recv().await?;
            Some((run, runs))
        });
        let ended = runs
            .take_while(|_run| std::future::ready(!failed.get()))
            .map(one)
            .buffer_unordered(RUNS_TOGETHER);
        let mut ended = std::pin::pin!(ended);
        let mut outcome = Ok(());
        while let Some(run) = ended.next().await {
            outcome = outcome.and(run);
        }
        outcome
    }

    /// Writes the accepted outputs of a run of answers, then records all its verdicts.
    async fn write_and_record(&self, run: Run<'_>) -> Result<(), CollectionError> {
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
