//! One type for each thing worth telling an operator, with one way to tell it.
//!
//! Info is the story of a run, not of every page. Never page contents, prompts, keys or bodies.

use std::time::Duration;

use crate::actors::state::messages::{DeleteOutcome, LineCounts, ResumedBy, RunStatus};
use crate::decide::pack::Stopped;
use crate::domain::alert::{Alert, AlertEvent, Channel};
use crate::domain::attempt::Tally;
use crate::domain::batch::{AbandonCode, BatchEvent};
use crate::domain::failure::ErrorType;
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, OrderId, RecordKey, RemoteName, RunId};
use crate::domain::image::ImageFault;
use crate::domain::order::OrderKind;
use crate::domain::period::PeriodKind;
use crate::domain::time::Timestamp;
use crate::ports::page_source::SourceError;

/// Defines notices: fields, level, words, and the fields as they are searched for.
macro_rules! notices {
    ($(
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? { $($field:ident: $type:ty),* $(,)? }
        $level:ident $words:literal { $($shown:tt)* }
    )+) => {
        $(
            $(#[$doc])*
            pub struct $name $(<$life>)? { $(pub $field: $type,)* }

            impl $(<$life>)? $name $(<$life>)? {
                /// Tells it.
                pub fn emit(self) {
                    let $name { $($field),* } = self;
                    tracing::$level!($($shown)*, $words);
                }
            }
        )+
    };
}

notices! {
    /// A process took up a run.
    RunBegun<'a> { run: &'a RunId, restarts: u32 }
    info "run taken up" { run.id = %run, restarts }

    /// A process let go of a run.
    RunEnded<'a> { run: &'a RunId, status: RunStatus }
    info "run let go of" { run.id = %run, run.status = %status }

    /// A look at the tree is over.
    ScanDone { pages: u64, oddities: u64 }
    info "labels scanned" { pages, oddities }

    /// An operator's order about pages is carried out.
    OrderDone<'a> { order: &'a OrderId, command: OrderKind, by: &'a str, pages: u64, message: &'a str }
    info "order carried out" { order.id = %order, command = %command, by, pages, note = message }

    /// The provider was asked to stop a job.
    CancelSent<'a> { batch: &'a BatchId, remote: &'a RemoteName }
    info "the provider was asked to stop a job; what it has done is collected" { batch.id = %batch, remote.name = %remote }

    /// The provider could not be asked to stop a job.
    CancelFailed<'a> { batch: &'a BatchId, message: &'a str }
    warn "the provider could not be asked to stop a job; it is asked again" { batch.id = %batch, reason = message }

    /// An output that is to be made again could not be put away.
    OutputNotRetired<'a> { fault: &'a SourceError }
    warn "an output could not become a revision; the order waits" { fault = %fault }

    /// A book whose outputs could not be seen or written.
    BookLeftAlone<'a> { path: &'a str, detail: &'a str }
    warn "the outputs of a book cannot be kept where they belong; the book is left alone" { path, reason = detail }

    /// An output that does not count.
    OutputNotUsable<'a> { key: &'a RecordKey, fault: &'a str }
    warn "output is not usable; the page runs again" { page.key = %key, fault }

    /// A done page whose output was deleted.
    OutputVanished<'a> { key: &'a RecordKey }
    info "output was deleted; the page runs again" { page.key = %key }

    /// An image that will not be sent.
    ImageRefused<'a> { key: &'a RecordKey, fault: &'a ImageFault }
    warn "image refused" { page.key = %key, fault = %fault }

    /// An image is in the store.
    ImageUploaded<'a> { key: &'a RecordKey, file: &'a RemoteName, bytes: u64 }
    debug "image uploaded" { page.key = %key, file = %file, bytes }

    /// An upload that used up its tries.
    UploadFailed<'a> { key: &'a RecordKey, message: &'a str }
    warn "upload failed" { page.key = %key, reason = message }

    /// A file that reached the store but is of no use; it expires by itself.
    FileLeftBehind<'a> { file: &'a RemoteName }
    warn "a remote file was left behind" { file = %file }

    /// Files of lost upload answers are gone.
    Swept { files: u64 }
    info "remote files that an upload had left behind are deleted" { files }

    /// The remote list of files could not be read to its end.
    SweepStopped<'a> { message: &'a str }
    warn "the remote list of files could not be read; what was left behind expires by itself" { reason = message }

    /// Uploads wait for room in the store.
    StoreFull { remote_bytes: u64, budget_bytes: u64 }
    info "uploads wait for room in the provider's store" { remote_bytes, budget_bytes }

    /// A remote file was deleted, or not.
    FileDeleted<'a> { file: &'a RemoteName, outcome: &'a DeleteOutcome }
    debug "remote file deleted" { file = %file, outcome = ?outcome }

    /// A batch is intended.
    BatchPlanned<'a> { batch: &'a BatchId, pages: usize, line_bytes: u64, stopped: Stopped }
    info "batch planned" { batch.id = %batch, pages, line_bytes, stopped = %stopped }

    /// A page that cannot be put into a request.
    PageNotPacked<'a> { key: &'a RecordKey, message: &'a str }
    warn "page cannot be put into a request" { page.key = %key, reason = message }

    /// The output that a page's prompt was to see is gone or cannot be read as a file.
    ContextMissing<'a> { key: &'a RecordKey, fault: &'a SourceError }
    warn "the output of the page before is gone; this page is asked without it" { page.key = %key, fault = %fault }

    /// The provider has a batch.
    BatchSubmitted<'a> { batch: &'a BatchId, remote: &'a RemoteName }
    info "batch submitted" { batch.id = %batch, batch.remote = %remote }

    /// A create without a job's name in its answer.
    CreateFailed<'a> { batch: &'a BatchId, event: &'a BatchEvent, message: &'a str }
    warn "create was not answered with a job" { batch.id = %batch, follows = event.as_str(), reason = message }

    /// A batch that is put off, as built as it is.
    BatchParked<'a> { batch: &'a BatchId, until: Timestamp, message: &'a str }
    warn "batch put off" { batch.id = %batch, until = %until, reason = message }

    /// The remote list could not be read to its end.
    LookupFailed<'a> { batches: usize, message: &'a str }
    warn "the remote list could not be read; batches stay in doubt" { batches, reason = message }

    /// A job whose create answer was lost is found.
    BatchAdopted<'a> { batch: &'a BatchId, remote: &'a RemoteName, extra: usize }
    info "batch found in the remote list and adopted" { batch.id = %batch, batch.remote = %remote, extra }

    /// A batch that certainly was not created.
    BatchAbsent<'a> { batch: &'a BatchId, lookups: u32 }
    info "batch is not in the remote list; it may be created again" { batch.id = %batch, lookups }

    /// A look at a job failed.
    PollFailed<'a> { batch: &'a BatchId, message: &'a str }
    warn "job could not be looked at; this says nothing about the job" { batch.id = %batch, reason = message }

    /// A job that this key cannot see.
    BatchUnreachable<'a> { batch: &'a BatchId, remote: &'a RemoteName, message: &'a str }
    error "the provider does not show this job to this key; it is asked for again, never sent again by itself" { batch.id = %batch, batch.remote = %remote, reason = message }

    /// A job that takes long.
    BatchSlow<'a> { batch: &'a BatchId, age: Duration }
    warn "batch is slow" { batch.id = %batch, age_hours = age.as_secs() / 3600 }

    /// A job that ended well and does not say where its results are.
    ResultsNotNamed<'a> { batch: &'a BatchId, for_span: Duration }
    error "job succeeded but names no results" { batch.id = %batch, for_seconds = for_span.as_secs() }

    /// A job offers results.
    ResultsOffered<'a> { batch: &'a BatchId, state: &'a str }
    info "results offered" { batch.id = %batch, batch.remote_state = state }

    /// A batch that ended without results.
    BatchEnded<'a> { batch: &'a BatchId, code: AbandonCode, message: &'a str }
    warn "batch ended without results; its pages go back uncounted" { batch.id = %batch, code = %code, reason = message }

    /// Results are on our disk.
    ResultsFetched<'a> { batch: &'a BatchId, bytes: u64 }
    info "results fetched" { batch.id = %batch, bytes }

    /// Results that are long due.
    ResultsUncollected<'a> { batch: &'a BatchId, age: Duration }
    error "the job ended hours ago and its results are not on the local disk; the provider may not keep them" { batch.id = %batch, age_hours = age.as_secs() / 3600 }

    /// A results file with fewer lines than the provider counts answers.
    ResultsShort<'a> { batch: &'a BatchId, lines: u64, promised: u64 }
    warn "the results have fewer lines than the provider counts; they are fetched once more" { batch.id = %batch, lines, promised }

    /// An answer about an image that is no longer there.
    ImageReplaced<'a> { key: &'a RecordKey }
    warn "the image was replaced after it was sent; the page runs again" { page.key = %key }

    /// Results could not be fetched.
    ResultsNotFetched<'a> { batch: &'a BatchId, message: &'a str }
    warn "results could not be fetched yet" { batch.id = %batch, reason = message }

    /// Our own disk holds a stage up; told once, and seldom again.
    DiskTrouble<'a> { stage: &'a str, reason: &'a str }
    error "the local disk fails; what it concerns waits, nothing is lost or counted, and it goes on by itself" { stage, reason }

    /// The disk that held a stage up works.
    DiskBack<'a> { stage: &'a str, after: Duration }
    info "the local disk works again" { stage, after_seconds = after.as_secs() }

    /// Files that a process which died had left in the work folder.
    LeftoversRemoved { files: u64 }
    info "files that an earlier process had left unfinished are removed" { files }

    /// A page's answer that is not usable.
    PageRejected<'a> { batch: &'a BatchId, key: &'a RecordKey, error: ErrorType, message: &'a str }
    warn "answer rejected" { batch.id = %batch, page.key = %key, error = %error, reason = message }

    /// Every page of a batch has its outcome.
    BatchSettled<'a> { batch: &'a BatchId, model: &'a str, took: Duration, tally: Tally, lines: LineCounts }
    info "batch settled" {
        batch.id = %batch,
        batch.model = model,
        took_seconds = took.as_secs(),
        submitted = tally.submitted,
        succeeded = tally.succeeded,
        failed = tally.failed,
        missing = tally.missing,
        released = tally.released,
        foreign_lines = lines.foreign,
        unreadable_lines = lines.unreadable,
        repeated_lines = lines.repeated
    }

    /// Nothing is submitted from here on.
    Halted<'a> { reason: HaltReason, message: &'a str, remedy: &'a str }
    error "submission is halted; collection goes on" { halt.reason = %reason, reason = message, remedy }

    /// Submission goes on.
    HaltEnded { reason: HaltReason, by: ResumedBy }
    info "submission goes on" { halt.reason = %reason, by = %by }

    /// A job of the same display name as a batch's own.
    ExtraJob<'a> { batch: &'a BatchId, job: &'a RemoteName, cancelled: bool }
    error "another job has the display name of this batch; what it has answered is collected" { batch.id = %batch, job = %job, cancelled }

    /// A job that was given up, or was one too many, brought answers after all.
    LateAnswers<'a> { batch: &'a BatchId, job: &'a RemoteName, answers: u64, accepted: u64, paid_twice: u64 }
    warn "answers came late" { batch.id = %batch, job = %job, answers, accepted, paid_twice }

    /// A look at such a job failed, or its answers could not be had yet.
    LateTrouble<'a> { job: &'a RemoteName, message: &'a str }
    warn "a job beside its batch could not be looked at or collected yet" { job = %job, reason = message }

    /// A job that the list shows as ended and that cannot be looked at.
    BatchUnretrievable<'a> { batch: &'a BatchId, remote: &'a RemoteName, state: &'a str }
    error "the list shows this job as ended, but it cannot be looked at; it is asked for again, never sent again by itself" { batch.id = %batch, batch.remote = %remote, batch.remote_state = state }

    /// Batches become smaller or larger.
    PaceChanged<'a> { model: &'a str, pages_max: Option<u32>, tokens_max: Option<u64>, reason: &'a str }
    info "pace changed" { model, pages_max, tokens_max, reason }

    /// Fewer batches are sent because the oldest one has waited so long.
    SlowedDown { oldest_hours: u64, live_max: usize }
    warn "the oldest batch has waited long; fewer batches are sent" { oldest_hours, live_max }

    /// A file of ours that could not be written or removed and is not needed.
    LeftOnDisk<'a> { fault: &'a SourceError }
    warn "a file could not be written or removed" { fault = %fault }

    /// The report of a day or a week was written.
    PeriodReported<'a> { kind: PeriodKind, name: &'a str, open: u64 }
    info "report written" { report.period = kind.as_str(), report.name = name, requests_open = open }

    /// Raw results and exports take less space now.
    Compressed { raw: u64, exports: u64, bytes_before: u64, bytes_after: u64 }
    info "old files are compressed" { raw, exports, bytes_before, bytes_after }

    /// Raw results that are not what was recorded.
    NotCompressed<'a> { path: &'a str, detail: &'a str }
    warn "raw results are not compressed; see pagemill verify" { path, detail }

    /// A report or a compression failed.
    UpkeepPutOff<'a> { reason: &'a str }
    warn "reports and compression are put off; they are tried again within the hour" { reason }

    /// The provider refuses us or is not there; told once until it answers again.
    ProviderTrouble<'a> { message: &'a str }
    warn "the provider has not answered as it should for a while; work goes on when it does" { reason = message }

    /// Something that an operator should know of, told once.
    AlertFired<'a> { alert: &'a Alert }
    warn "alert" { alert.id = alert.id, alert.kind = %alert.kind, alert.subject = alert.subject, reason = alert.message, since = %alert.since }

    /// It is over.
    AlertCleared<'a> { alert: &'a Alert, after: Duration }
    info "alert is over" { alert.id = alert.id, alert.kind = %alert.kind, alert.subject = alert.subject, after_seconds = after.as_secs() }

    /// Somebody was told of it.
    AlertDelivered<'a> { id: &'a str, event: AlertEvent, channel: Channel }
    debug "alert delivered" { alert.id = id, alert.event = %event, channel = %channel }

    /// Nobody could be told of it.
    AlertNotDelivered<'a> { id: &'a str, event: AlertEvent, channel: Channel, attempt: u32, given_up: bool, reason: &'a str }
    warn "alert could not be delivered" { alert.id = id, alert.event = %event, channel = %channel, attempt, given_up, reason }

    /// The run ends before everything was brought out.
    AlertsLeft { after: Duration }
    warn "not every alert could be delivered before the end; the next run goes on trying" { after_seconds = after.as_secs() }

    /// Alerts could not be looked at.
    AlertTrouble<'a> { reason: &'a str }
    error "alerts could not be looked at; the work goes on" { reason }

    /// The provider answers again.
    ProviderBack { after: Duration }
    info "the provider answers" { after_seconds = after.as_secs() }
}
