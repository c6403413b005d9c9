//! One submission, from a planned row to an answer of the provider.

use std::rc::Rc;

use super::lines::Built;
use super::{Desk, manifest};
use crate::actors::activity::answered;
use crate::actors::brake;
use crate::actors::ending::Ending;
use crate::actors::state::messages::{
    BatchRow, BeginSubmit, ForgetJsonl, HeldBytes, ListMembers, Member, RecordJsonlUploaded,
    RecordSpooled, RecordSubmit, StateError, StoredFile,
};
use crate::actors::uploader::transfer::TransferError;
use crate::decide::pace::PaceEvent;
use crate::decide::{retry, storage};
use crate::domain::batch::{AbandonCode, BatchEvent};
use crate::domain::failure::{ApiError, Next};
use crate::domain::ids::Sha256Hex;
use crate::domain::remote::RemoteBatch;
use crate::notices;
use crate::ports::file_api::Upload;

/// How far a submission came.
pub enum SubmissionEnd {
    /// The provider named the job.
    Submitted,
    /// The job may exist; the list will tell.
    Doubt,
    /// A definite no this time; the row says when to go on. With words when the account is at
    /// fault.
    Parked { account: Option<String> },
    /// Our own disk does not take or give what is needed; nothing was changed.
    Disk { reason: String },
    /// The batch will never be sent; so many pages are free again.
    Ended { released: u64 },
}

/// A submission that is being worked on.
pub struct Submission {
    desk: Rc<Desk>,
    row: BatchRow,
}

/// The content type of a lines file; the documented word, and the one seen to work.
const LINES_MIME: &str = "jsonl";

impl Submission {
    pub fn new(desk: Rc<Desk>, row: BatchRow) -> Self {
        Submission { desk, row }
    }

    /// Takes the batch as far as it goes now.
    pub async fn run(mut self) -> Result<SubmissionEnd, StateError> {
        let state = self.desk.peers.state.clone();
        let batch = self.row.batch.clone();
        let mut members = answered(
            state
                .send(ListMembers {
                    batch: batch.clone(),
                })
                .await,
        )?;
        let now = self.desk.ports.clock.now();
        let usable_until = now.plus(self.desk.options.life_min);
        if members
            .iter()
            .any(|member| member.file_expires_at <= usable_until)
        {
            let note = "a member's image has too little life left".to_owned();
            return self
                .end(BatchEvent::Withdrawn, AbandonCode::Withdrawn, members, note)
                .await;
        }
        let (sha256, bytes) = match self.lines_on_disk(&mut members).await? {
            Spooled::Ready(sha256, bytes) => (sha256, bytes),
            Spooled::Later(end) => return Ok(end),
        };
        // They may be many, and the manifest tells of each of them once more.
        drop(members);
        let file = match self.lines_in_store(sha256, bytes).await? {
            Ok(file) => file,
            Err(end) => return Ok(end),
        };
        if let Err(error) = manifest::keep(&self.desk, &batch).await? {
            let words = format!("the batch's manifest could not be written: {error}");
            return self.parked(words, false).await;
        }
        let at = self.desk.ports.clock.now();
        answered(
            state
                .send(BeginSubmit {
                    batch: batch.clone(),
                    at,
                })
                .await,
        )?;
        let created = self
            .desk
            .ports
            .batches
            .create(&self.row.model, &self.row.display_name, &file.name)
            .await;
        match created {
            Ok(remote) => self.accepted(remote).await,
            Err(error) => self.failed(error).await,
        }
    }

    /// Writes the lines file unless it is there already. Members that it cannot hold leave.
    async fn lines_on_disk(&mut self, members: &mut Vec<Member>) -> Result<Spooled, StateError> {
        let sink = &self.desk.ports.sink;
        let path = sink.spool_path(&self.row.batch);
        if let Some((sha256, bytes)) = &self.row.lines
            && (self.lines_file_usable() || sink.has_spool(&path, *bytes).await)
        {
            return Ok(Spooled::Ready(sha256.clone(), *bytes));
        }
        let writer = Rc::clone(&self.desk.writer);
        let built = match sink.room().await {
            Ok(()) => {
                writer
                    .build(&self.row.batch, members, &self.desk.ports)
                    .await
            }
            Err(error) => Err(error),
        };
        let Built {
            sha256,
            bytes,
            included,
            refused,
            reserved_cost_nanos,
        } = match built {
            Ok(built) => built,
            Err(error) => {
                let reason = format!("the lines file of {}: {error}", self.row.batch);
                return Ok(Spooled::Later(SubmissionEnd::Disk { reason }));
            }
        };
        for (key, failure) in &refused {
            notices::PageNotPacked {
                key,
                message: &failure.message,
            }
            .emit();
        }
        let none_left = included.is_empty();
        members.retain(|member| refused.iter().all(|(key, _failure)| *key != member.key));
        let spooled = RecordSpooled {
            batch: self.row.batch.clone(),
            sha256: sha256.clone(),
            bytes,
            reserved_cost_nanos,
            included,
            refused,
            at: self.desk.ports.clock.now(),
        };
        answered(self.desk.peers.state.send(spooled).await)?;
        if none_left {
            let note = "no member can be put into a request".to_owned();
            let end = self
                .end(
                    BatchEvent::Withdrawn,
                    AbandonCode::Withdrawn,
                    Vec::new(),
                    note,
                )
                .await?;
            return Ok(Spooled::Later(end));
        }
        self.row.lines = Some((sha256.clone(), bytes));
        Ok(Spooled::Ready(sha256, bytes))
    }

    /// Whether the lines file in the store lives long enough for the job to read it.
    fn lines_file_usable(&self) -> bool {
        let needed_until = self
            .desk
            .ports
            .clock
            .now()
            .plus(self.desk.options.lines_life_min);
        self.row
            .lines_file
            .as_ref()
            .is_some_and(|file| file.expires_at > needed_until)
    }

    /// Uploads the lines file unless it is in the store with life enough.
    async fn lines_in_store(
        &self,
        sha256: Sha256Hex,
        bytes: u64,
    ) -> Result<Result<StoredFile, SubmissionEnd>, StateError> {
        let desk = &self.desk;
        let now = desk.ports.clock.now();
        if let Some(file) = &self.row.lines_file {
            if self.lines_file_usable() {
                return Ok(Ok(file.clone()));
            }
            let batch = self.row.batch.clone();
            answered(desk.peers.state.send(ForgetJsonl { batch, at: now }).await)?;
        }
        let held = answered(desk.peers.state.send(HeldBytes { at: now }).await)?;
        let held = held + desk.ports.transfer.reserved();
        if !storage::lines_fit(held, bytes, desk.options.storage_budget_bytes) {
            let words = format!(
                "the lines file ({bytes} bytes) waits for room in the provider's store, where {held} bytes are ours"
            );
            return self.parked(words, false).await.map(Err);
        }
        let upload = Upload {
            display_name: format!("{}-lines-{}", desk.options.file_name_prefix, self.row.batch),
            mime: LINES_MIME.to_owned(),
            path: desk.ports.sink.spool_path(&self.row.batch),
            bytes,
            sha256,
            content: None,
        };
        desk.ports.transfer.reserve(bytes);
        let sent = self.send_and_record(&upload).await;
        desk.ports.transfer.release(bytes);
        match sent? {
            Ok(file) => Ok(Ok(file)),
            Err(failed) if matches!(failed.last.next, Next::Local) => {
                let reason = failed.last.message;
                Ok(Err(SubmissionEnd::Disk { reason }))
            }
            Err(failed) => {
                let account = brake::heed(&desk.peers.state, &failed.last, now).await?;
                let words = format!("the lines file could not be uploaded: {}", failed.last);
                self.parked(words, account).await.map(Err)
            }
        }
    }

    async fn send_and_record(
        &self,
        upload: &Upload,
    ) -> Result<Result<StoredFile, TransferError>, StateError> {
        let file = match self.desk.ports.transfer.send(upload).await {
            Ok(file) => file,
            Err(failed) => return Ok(Err(failed)),
        };
        let record = RecordJsonlUploaded {
            batch: self.row.batch.clone(),
            file: file.clone(),
            at: self.desk.ports.clock.now(),
        };
        answered(self.desk.peers.state.send(record).await)?;
        Ok(Ok(file))
    }

    async fn accepted(self, remote: RemoteBatch) -> Result<SubmissionEnd, StateError> {
        notices::BatchSubmitted {
            batch: &self.row.batch,
            remote: &remote.name,
        }
        .emit();
        self.record(
            BatchEvent::SubmitAccepted {
                remote: remote.name,
            },
            String::new(),
        )
        .await?;
        self.adapt(PaceEvent::Taken).await?;
        self.desk.remove_spool(&self.row.batch).await;
        Ok(SubmissionEnd::Submitted)
    }

    async fn adapt(&self, event: PaceEvent) -> Result<(), StateError> {
        let desk = &self.desk;
        let now = desk.ports.clock.now();
        let (brake, model) = (desk.options.brake, &self.row.model);
        brake.adapt(&desk.peers.state, model, event, now).await
    }

    async fn failed(self, error: ApiError) -> Result<SubmissionEnd, StateError> {
        let desk = Rc::clone(&self.desk);
        let now = desk.ports.clock.now();
        let creates = self.row.creates + 1;
        let fraction = desk.ports.entropy.fraction();
        let end = retry::create_failed(&error, creates, desk.options.create, fraction, now);
        notices::CreateFailed {
            batch: &self.row.batch,
            event: &end.event,
            message: &error.message,
        }
        .emit();
        if matches!(end.event, BatchEvent::SubmitImpossible) {
            let batch = self.row.batch.clone();
            let members = answered(desk.peers.state.send(ListMembers { batch }).await)?;
            return self
                .end(end.event, AbandonCode::Refused, members, error.message)
                .await;
        }
        let account = match end.halt {
            Some(reason) => {
                let words = error.message.clone();
                brake::halt(&desk.peers.state, reason, words.clone(), now).await?;
                Some(words)
            }
            None => None,
        };
        if end.throttled {
            let tokens_live = desk.tokens_live().await?;
            let throttled = PaceEvent::Throttled { tokens_live };
            self.adapt(throttled).await?;
        }
        let doubt = matches!(end.event, BatchEvent::SubmitUnclear { .. });
        self.record(end.event, error.message).await?;
        if end.lines_lost {
            let batch = self.row.batch.clone();
            answered(desk.peers.state.send(ForgetJsonl { batch, at: now }).await)?;
        }
        Ok(if doubt {
            SubmissionEnd::Doubt
        } else {
            SubmissionEnd::Parked { account }
        })
    }

    async fn record(&self, event: BatchEvent, note: String) -> Result<(), StateError> {
        let batch = self.row.batch.clone();
        let at = self.desk.ports.clock.now();
        let record = RecordSubmit {
            batch,
            event,
            note,
            at,
        };
        answered(self.desk.peers.state.send(record).await).map(|_state| ())
    }

    /// Puts the batch off: it stays planned, as built as it is.
    async fn parked(&self, words: String, account: bool) -> Result<SubmissionEnd, StateError> {
        let until = self
            .desk
            .ports
            .clock
            .now()
            .plus(self.desk.options.create.delay_min);
        notices::BatchParked {
            batch: &self.row.batch,
            until,
            message: &words,
        }
        .emit();
        let account = account.then(|| words.clone());
        self.record(BatchEvent::SubmitRefused { until }, words)
            .await?;
        Ok(SubmissionEnd::Parked { account })
    }

    /// Ends the batch; members that are still in it go back uncounted.
    async fn end(
        &self,
        event: BatchEvent,
        code: AbandonCode,
        members: Vec<Member>,
        note: String,
    ) -> Result<SubmissionEnd, StateError> {
        let now = self.desk.ports.clock.now();
        let ending = Ending {
            batch: self.row.batch.clone(),
            model: self.row.model.clone(),
            event,
            // What the provider refuses once it refuses again.
            for_good: code == AbandonCode::Refused,
            code,
            members,
            note,
        };
        let options = &self.desk.options;
        let (release, brake) = (options.release, options.brake);
        let state = &self.desk.peers.state;
        let released = ending.record(state, release, &brake, now).await?;
        self.desk.remove_spool(&self.row.batch).await;
        manifest::forget(&self.desk, &self.row.batch).await;
        Ok(SubmissionEnd::Ended { released })
    }
}

/// Whether the lines file is there.
enum Spooled {
    Ready(Sha256Hex, u64),
    Later(SubmissionEnd),
}
