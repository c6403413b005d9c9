//! One look at one job, and what follows from it.

use std::rc::Rc;

use actix::Addr;

use super::PollerOptions;
use crate::actors::activity::answered;
use crate::actors::brake;
use crate::actors::ending::Ending;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{
    BatchRow, ListMembers, MarkUnreachable, RecordPoll, StateError,
};
use crate::actors::wish::{self, Fulfilled, WishDesk};
use crate::decide::poll::{self, Seen};
use crate::domain::batch::{AbandonCode, BatchEvent};
use crate::domain::failure::{ApiError, Next};
use crate::domain::ids::RemoteName;
use crate::domain::remote::RemoteBatch;
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;

/// Failed looks in a row after which the list is asked what it shows of the job.
const FAILURES_BEFORE_LIST: u32 = 5;
/// More pages than this of a remote listing are not read for one job.
const LIST_PAGES_MAX: usize = 200;

/// What one look led to.
pub(super) enum Looked {
    Again,
    Ready,
    Ended { released: u64 },
    Failed(ApiError),
}

/// One look at one job.
pub(super) struct Look {
    pub state: Addr<StateActor>,
    pub batches: Rc<dyn BatchApi>,
    pub clock: Rc<dyn Clock>,
    pub options: PollerOptions,
    /// Looks at it that failed in a row.
    pub failures: u32,
    pub row: BatchRow,
    pub remote: RemoteName,
}

impl Look {
    pub async fn run(self) -> Result<Looked, StateError> {
        if wish::is_pending(&self.row) {
            match self.wishes().fulfill(&self.row).await? {
                Fulfilled::LivesOn => {}
                Fulfilled::Forgotten { released } => return Ok(Looked::Ended { released }),
                Fulfilled::Failed(error) => {
                    notices::CancelFailed {
                        batch: &self.row.batch,
                        message: &error.message,
                    }
                    .emit();
                    return Ok(Looked::Failed(error));
                }
            }
        }
        let remote = match self.batches.batch(&self.remote).await {
            Ok(remote) => remote,
            Err(error) => match self.not_seen(&error).await? {
                Some(listed) => listed,
                None => return Ok(Looked::Failed(error)),
            },
        };
        let seen = poll::seen(&remote);
        let now = self.clock.now();
        match &seen {
            Seen::Nothing {
                code,
                words,
                for_good,
            } => {
                let (code, words, for_good) = (*code, words.clone(), *for_good);
                self.record(&remote, BatchEvent::Advanced, now).await?;
                self.end(code, words, for_good, now).await
            }
            Seen::StillRunning => {
                self.record(&remote, seen.event(), now).await?;
                Ok(Looked::Again)
            }
            Seen::ResultsNotNamed => {
                let since = self.row.terminal_seen_at.unwrap_or(now);
                if now.since(since) >= self.options.results_wait {
                    notices::ResultsNotNamed {
                        batch: &self.row.batch,
                        for_span: now.since(since),
                    }
                    .emit();
                }
                self.record(&remote, seen.event(), now).await?;
                Ok(Looked::Again)
            }
            Seen::Results => {
                self.record(&remote, seen.event(), now).await?;
                notices::ResultsOffered {
                    batch: &self.row.batch,
                    state: remote.state.as_str(),
                }
                .emit();
                Ok(Looked::Ready)
            }
        }
    }

    fn wishes(&self) -> WishDesk {
        WishDesk {
            state: self.state.clone(),
            batches: Some(Rc::clone(&self.batches)),
            clock: Rc::clone(&self.clock),
            release: self.options.release,
            brake: self.options.brake,
        }
    }

    /// A look that failed says nothing about the job. A job that cannot be looked at for long may
    /// still stand in the list, with all that is needed to collect it.
    async fn not_seen(&self, error: &ApiError) -> Result<Option<RemoteBatch>, StateError> {
        let now = self.clock.now();
        brake::heed(&self.state, error, now).await?;
        if matches!(error.next, Next::Missing) {
            // Under the key that made it a job does not vanish; alarm, and keep asking.
            if self.row.unreachable_since.is_none() {
                notices::BatchUnreachable {
                    batch: &self.row.batch,
                    remote: &self.remote,
                    message: &error.message,
                }
                .emit();
            }
            let mark = MarkUnreachable {
                batch: self.row.batch.clone(),
                note: error.message.clone(),
                at: now,
            };
            answered(self.state.send(mark).await)?;
        }
        let may_be_too_large = matches!(error.next, Next::Transient | Next::Garbled);
        if !may_be_too_large || self.failures < FAILURES_BEFORE_LIST {
            return Ok(None);
        }
        let listed = self.listed().await;
        if let Some(job) = &listed
            && job.state.is_terminal()
            && job.output.is_none()
        {
            notices::BatchUnretrievable {
                batch: &self.row.batch,
                remote: &self.remote,
                state: job.state.as_str(),
            }
            .emit();
        }
        Ok(listed.filter(|job| job.output.is_some()))
    }

    /// The job as the list shows it, if it does.
    async fn listed(&self) -> Option<RemoteBatch> {
        let mut page: Option<String> = None;
        for _ in 0..LIST_PAGES_MAX {
            let listing = self.batches.list(page.as_deref()).await.ok()?;
            let found = listing
                .items
                .into_iter()
                .find(|job| job.name == self.remote);
            if found.is_some() || listing.next.is_none() {
                return found;
            }
            page = listing.next;
        }
        None
    }

    async fn record(
        &self,
        remote: &RemoteBatch,
        event: BatchEvent,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let record = RecordPoll {
            batch: self.row.batch.clone(),
            remote_state: remote.state.as_str().to_owned(),
            stats: remote.stats,
            output: remote.output.clone(),
            event: Some(event),
            ended_at: remote.ended_at,
            note: remote
                .error
                .as_ref()
                .map(|error| error.message.clone())
                .unwrap_or_default(),
            at,
        };
        answered(self.state.send(record).await).map(|_state| ())
    }

    /// The provider ended the job and has nothing: its pages go back uncounted.
    async fn end(
        &self,
        code: AbandonCode,
        words: String,
        for_good: bool,
        now: Timestamp,
    ) -> Result<Looked, StateError> {
        let batch = self.row.batch.clone();
        let members = answered(
            self.state
                .send(ListMembers {
                    batch: batch.clone(),
                })
                .await,
        )?;
        let ending = Ending {
            batch,
            model: self.row.model.clone(),
            event: BatchEvent::EndedEmpty { code },
            code,
            for_good,
            members,
            note: words,
        };
        let (release, brake) = (self.options.release, self.options.brake);
        let released = ending.record(&self.state, release, &brake, now).await?;
        Ok(Looked::Ended { released })
    }
}
