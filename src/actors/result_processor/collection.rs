//! The collection of one batch: fetch, index, judge, write, record, settle, report.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::index::{self, Index};
use super::judge;
use super::{CollectionError, ReportFacts, Shop};
use crate::actors::activity::answered;
use crate::actors::ending::Ending;
use crate::actors::hint::PagesUnlocked;
use crate::actors::state::messages::{
    BatchRow, BeginCollect, LineCounts, ListMembers, ListToJudge, NoteResultsMissing, RawFile,
    RecordVerdicts, SettleBatch, Settled, ToJudge,
};
use crate::decide::pace::PaceEvent;
use crate::decide::release;
use crate::domain::attempt::{AnswerFacts, FailureDetail, Outcome, Verdict};
use crate::domain::batch::{AbandonCode, BatchEvent, BatchState};
use crate::domain::failure::{ApiError, Next};
use crate::domain::ids::RecordKey;
use crate::domain::remote::{RemoteBatchState, RemoteOutput};
use crate::notices;
use crate::ports::file_api::Collected;
use crate::ports::page_source::SourceError;

mod images;
mod judging;
mod whole;

/// The pause after a fetch that failed, as a share of the time that the results have been waited
/// for, and at most.
const PAUSE_SHARE: u32 = 10;
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// How a collection ended.
pub enum CollectionEnd {
    /// Every member has its outcome; so many pages are free.
    Settled { released: u64 },
    /// The results cannot be had now; worth another try after a pause. With words when the provider
    /// is at fault.
    NotYet {
        trouble: Option<String>,
        pause: Duration,
    },
}

/// A batch that is being collected.
pub struct Collection {
    shop: Rc<Shop>,
    row: BatchRow,
}

impl Collection {
    pub fn new(shop: Rc<Shop>, row: BatchRow) -> Self {
        Collection { shop, row }
    }

    /// Takes the batch to its settlement, from wherever an earlier process left it.
    pub async fn run(self) -> Result<CollectionEnd, CollectionError> {
        let raw = match self.raw_on_disk().await? {
            Ok(raw) => raw,
            Err(end) => return Ok(end),
        };
        let batch = self.row.batch.clone();
        let begin = BeginCollect {
            batch: batch.clone(),
            raw: raw.clone(),
            at: self.now(),
        };
        answered(self.shop.peers.state.send(begin).await)?;
        let members = answered(self.shop.peers.state.send(ListToJudge { batch }).await)?;
        let (path, index) = match self.whole_index(raw, &members).await? {
            Ok(whole) => whole,
            Err(end) => return Ok(end),
        };
        self.judge_lines(&path, &index, &members).await?;
        self.judge_unanswered(&index, &members).await?;
        let (settled, counts) = self.settle(index.counts).await?;
        let released = settled.released;
        self.forget_manifest().await;
        let brake = self.shop.options.brake;
        let (state, now) = (&self.shop.peers.state, self.now());
        brake.press(state, now).await?;
        let model = &self.row.model;
        brake.adapt(state, model, PaceEvent::Settled, now).await?;
        self.report(settled, counts).await?;
        Ok(CollectionEnd::Settled { released })
    }

    fn now(&self) -> crate::domain::time::Timestamp {
        self.shop.ports.clock.now()
    }

    /// Fetches the results unless they are on our disk, whole.
    async fn raw_on_disk(&self) -> Result<Result<RawFile, CollectionEnd>, CollectionError> {
        let path = self.shop.ports.sink.raw_path(&self.row.batch);
        if let Some(raw) = &self.row.raw
            && self
                .shop
                .ports
                .sink
                .has_raw(Path::new(&raw.path), raw.bytes)
                .await
        {
            return Ok(Ok(raw.clone()));
        }
        // The results are written whole before anything else is; where there is little room, they stay
        // with the provider.
        self.shop.ports.sink.room().await?;
        match self.fetch(path.clone()).await {
            Ok(Collected { bytes, sha256 }) => {
                notices::ResultsFetched {
                    batch: &self.row.batch,
                    bytes,
                }
                .emit();
                Ok(Ok(RawFile {
                    path: path.to_string_lossy().into_owned(),
                    bytes,
                    sha256,
                }))
            }
            Err(error) if matches!(error.next, Next::Local) => Err(disk_fault(&path, error)),
            Err(error) => self.not_fetched(error).await.map(Err),
        }
    }

    async fn fetch(&self, path: PathBuf) -> Result<Collected, ApiError> {
        let ports = &self.shop.ports;
        match (&self.row.output, &self.row.state) {
            (Some(RemoteOutput::File(name)), _) => ports.files.download(name, path).await,
            (Some(RemoteOutput::Inline), BatchState::Ready { remote }) => {
                ports.batches.save_inline(remote, path).await
            }
            (output, state) => Err(ApiError {
                effect: crate::domain::failure::Effect::None,
                next: Next::Garbled,
                http_status: None,
                message: format!("nothing to fetch: {output:?} in {state:?}"),
            }),
        }
    }

    /// Results that are named but not there yet may still come; some day they are lost.
    async fn not_fetched(&self, error: ApiError) -> Result<CollectionEnd, CollectionError> {
        notices::ResultsNotFetched {
            batch: &self.row.batch,
            message: &error.message,
        }
        .emit();
        let expected = matches!(error.next, Next::Missing);
        let ended_at = self.row.terminal_seen_at.unwrap_or(self.row.created_at);
        // How long they were really looked for in vain, and not how long nobody looked.
        let since = if expected {
            let (batch, at) = (self.row.batch.clone(), self.now());
            let note = NoteResultsMissing { batch, at };
            answered(self.shop.peers.state.send(note).await)?
        } else {
            ended_at
        };
        let waited = self.now().since(since);
        if !expected || waited < self.shop.options.results_wait {
            let floor = self.shop.options.again_after;
            return Ok(CollectionEnd::NotYet {
                trouble: (!expected).then_some(error.message),
                pause: (waited / PAUSE_SHARE).clamp(floor, PAUSE_MAX.max(floor)),
            });
        }
        let batch = self.row.batch.clone();
        let members = answered(
            self.shop
                .peers
                .state
                .send(ListMembers {
                    batch: batch.clone(),
                })
                .await,
        )?;
        let ending = Ending {
            batch,
            model: self.row.model.clone(),
            event: BatchEvent::ResultsLost,
            code: AbandonCode::ResultsLost,
            for_good: false,
            members,
            note: format!(
                "results lost {} h after the job ended: {}",
                self.now()
                    .since(self.row.ended_at.unwrap_or(ended_at))
                    .as_secs()
                    / 3600,
                error.message
            ),
        };
        let options = &self.shop.options;
        let (release, brake) = (options.release, options.brake);
        let state = &self.shop.peers.state;
        let released = ending.record(state, release, &brake, self.now()).await?;
        Ok(CollectionEnd::Settled { released })
    }

    /// What others are to blame for costs the page nothing, but it does not go round for ever.
    fn released(&self, member: &ToJudge, cause: String, counted: bool) -> Outcome {
        let releases_max = self.shop.options.release.releases_max;
        if counted && release::is_spent(member.releases, releases_max) {
            Outcome::ReleasesSpent { cause }
        } else {
            Outcome::Released { cause, counted }
        }
    }

    fn rejected(
        &self,
        key: RecordKey,
        facts: AnswerFacts,
        failure: FailureDetail,
        failures: u32,
    ) -> Verdict {
        let afterwards = self.shop.options.rules.afterwards(failures, self.now());
        notices::PageRejected {
            batch: &self.row.batch,
            key: &key,
            error: failure.error,
            message: &failure.message,
        }
        .emit();
        Verdict {
            key,
            facts,
            outcome: Outcome::Rejected {
                failure: Box::new(failure),
                afterwards,
            },
        }
    }

    async fn record(&self, verdicts: Vec<Verdict>) -> Result<(), CollectionError> {
        if verdicts.is_empty() {
            return Ok(());
        }
        let (batch, at) = (self.row.batch.clone(), self.now());
        let record = RecordVerdicts {
            batch,
            verdicts,
            at,
        };
        let recorded = answered(self.shop.peers.state.send(record).await)?;
        if recorded.unlocked > 0 {
            self.shop.peers.unlocked.do_send(PagesUnlocked {
                count: recorded.unlocked,
            });
        }
        Ok(())
    }

    /// Members without a line, or with lines that contradict each other.
    async fn judge_unanswered(
        &self,
        index: &Index,
        members: &[ToJudge],
    ) -> Result<(), CollectionError> {
        let unanswered: std::collections::HashMap<RecordKey, Option<u64>> =
            index.unanswered().into_iter().collect();
        let cut_short =
            self.row.remote_state.as_deref().filter(|state| {
                !matches!(RemoteBatchState::parse(state), RemoteBatchState::Succeeded)
            });
        let verdicts: Vec<Verdict> = members
            .iter()
            .filter_map(|member| {
                let conflict = *unanswered.get(&member.key)?;
                Some(match cut_short.filter(|_| conflict.is_none()) {
                    // The job ended before it came to this page: nobody's fault here.
                    Some(state) => Verdict {
                        key: member.key.clone(),
                        facts: AnswerFacts::default(),
                        outcome: self.released(
                            member,
                            format!("not served before the job was {state}"),
                            true,
                        ),
                    },
                    None => self.rejected(
                        member.key.clone(),
                        AnswerFacts::default(),
                        judge::unanswered(conflict),
                        member.failures,
                    ),
                })
            })
            .collect();
        for run in chunks(verdicts, self.shop.options.verdicts_together) {
            self.record(run).await?;
        }
        Ok(())
    }

    async fn settle(&self, lines: LineCounts) -> Result<(Settled, LineCounts), CollectionError> {
        let settle = SettleBatch {
            batch: self.row.batch.clone(),
            lines,
            keep_remote: self.shop.options.keep_remote,
            at: self.now(),
        };
        let settled = answered(self.shop.peers.state.send(settle).await)?;
        let row = &self.row;
        let ended_at = row.ended_at.or(row.terminal_seen_at);
        let submitted_at = row.submitted_at.unwrap_or(row.created_at);
        notices::BatchSettled {
            batch: &self.row.batch,
            model: &row.model,
            took: ended_at.unwrap_or_else(|| self.now()).since(submitted_at),
            tally: settled.tally,
            lines,
        }
        .emit();
        Ok((settled, lines))
    }

    /// Nothing of a settled batch is left to be found again.
    async fn forget_manifest(&self) {
        let sink = &self.shop.ports.sink;
        if let Err(error) = sink.remove_manifest(&self.row.batch).await {
            notices::LeftOnDisk { fault: &error }.emit();
        }
    }

    async fn report(&self, settled: Settled, lines: LineCounts) -> Result<(), CollectionError> {
        let facts = ReportFacts {
            batch: self.row.clone(),
            settled,
            lines,
            max_retries: self.shop.options.rules.max_retries,
            at: self.now(),
        };
        self.shop.write_report(&facts).await?;
        Ok(())
    }
}

/// Reads a raw result file once to see which line answers whom.
pub(super) async fn index_of(
    shop: &Shop,
    path: &Path,
    keys: impl IntoIterator<Item = RecordKey>,
) -> Result<Index, CollectionError> {
    let mut index = Index::new(keys);
    let threads = shop.options.rules.threads;
    let mut reader = shop.ports.sink.open_raw(path).await?;
    while let Some(lines) = reader.next_lines().await? {
        for entry in index::entries(lines, threads).await {
            index.add(entry);
        }
    }
    Ok(index)
}

/// What the tokens of an answer cost, where the price is known.
pub(super) fn priced(shop: &Shop, facts: AnswerFacts) -> AnswerFacts {
    let price = shop.options.price.as_ref();
    let cost_nanos = price.map(|price| crate::decide::cost::cost_nanos(price, &facts.tokens));
    AnswerFacts {
        cost_nanos,
        ..facts
    }
}

/// A download that our own disk stopped.
fn disk_fault(path: &Path, error: ApiError) -> CollectionError {
    CollectionError::Disk(SourceError {
        path: path.to_string_lossy().into_owned(),
        message: error.message,
        missing: false,
        disk: true,
    })
}

/// Splits a list into runs of at most `size`.
fn chunks<T>(items: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut runs = Vec::with_capacity(items.len().div_ceil(size.max(1)));
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        runs.push(items.by_ref().take(size.max(1)).collect());
    }
    runs
}
