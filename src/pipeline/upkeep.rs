//! What is done now and then beside the work: reports of days and weeks that are over, and raw
//! results and exports that are old enough to be compressed.
//!
//! It reads through a connection of its own, writes one small row at a time, and has no stage wait
//! for it. Whatever fails is told, and tried again at the next look.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::oneshot;

use super::period_report::{Shape, gather, of_period};
use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{
    ListOldLateRaw, ListOldRaw, OldRaw, PeriodReport, RawOwner, RecordPeriodReport, RecordRawPath,
    StateError,
};
use crate::actors::state::open::OpenError;
use crate::actors::state::{figures, read, upkeep};
use crate::decide::report_due::{ReportRules, due};
use crate::domain::period::{Period, PeriodKind};
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::archive::{Archive, Compression, StopWord};
use crate::ports::clock::Clock;
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::Written;
use crate::report::facts::document;
use crate::report::{Format, render};

/// What is kept up.
#[derive(Clone)]
pub struct UpkeepPlan {
    pub database: PathBuf,
    pub archive: Rc<dyn Archive>,
    pub reports: ReportRules,
    pub formats: Vec<Format>,
    pub shape: Shape,
    /// The age at which raw results, and exports if wanted, are compressed; `None`: never.
    pub compress_after: Option<Duration>,
    pub compress_exports: bool,
}

/// What a look did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    pub reports: u64,
    /// Raw results, and exports, that were compressed.
    pub raw: u64,
    pub exports: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Raw results that are not in their folder.
    pub missing: u64,
    /// Raw results that are not what was recorded.
    pub damaged: u64,
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Disk(#[from] SourceError),
}

/// How often the clock is looked at.
const BEAT: Duration = Duration::from_secs(30);
/// Failed pages that a report names.
const FAILED_NAMED: u64 = 200;
/// Rows that are asked for at a time.
const RAW_TOGETHER: u64 = 100;
/// Exports that one look compresses at most.
pub const EXPORTS_MAX: usize = 10_000;
/// How far back reports that were written are looked for, in days: as far as missing ones are
/// written, and some more.
pub const WRITTEN_BACK: i64 = 60;

/// The work beside the work.
pub struct Upkeep {
    plan: UpkeepPlan,
    state: Addr<StateActor>,
    stop: StopWord,
}

/// The upkeep of a run under way.
pub(super) struct Running {
    stop: StopWord,
    /// Ends the pause between two looks.
    wake: oneshot::Sender<()>,
    task: actix_rt::task::JoinHandle<()>,
}

impl Running {
    /// Begins to look, at once and then every hour and at every midnight.
    pub fn start(plan: UpkeepPlan, state: Addr<StateActor>, clock: Rc<dyn Clock>) -> Self {
        let (wake, mut woken) = oneshot::channel();
        let stop = StopWord::default();
        let upkeep = Upkeep {
            plan,
            state,
            stop: stop.clone(),
        };
        let task = actix_rt::spawn(async move {
            let mut next = Timestamp::EPOCH;
            loop {
                let now = clock.now();
                if now >= next {
                    next = upkeep.plan.reports.next_look(now);
                    if let Err(error) = upkeep.look(now).await {
                        let reason = error.to_string();
                        notices::UpkeepPutOff { reason: &reason }.emit();
                    }
                }
                tokio::select! {
                    _ = &mut woken => return,
                    () = actix_rt::time::sleep(BEAT) => {}
                }
            }
        });
        Running { stop, wake, task }
    }

    /// Ends it: what is being compressed is left as it was.
    pub async fn end(self) {
        self.stop.say();
        // When it has ended by itself, nobody listens.
        let _gone = self.wake.send(());
        let _ended = self.task.await;
    }
}

impl Upkeep {
    pub fn new(plan: UpkeepPlan, state: Addr<StateActor>, stop: StopWord) -> Self {
        Upkeep { plan, state, stop }
    }

    /// Does whatever is due.
    pub async fn look(&self, now: Timestamp) -> Result<Kept, UpkeepError> {
        let mut kept = Kept::default();
        self.write_reports(now, &mut kept).await?;
        if let Some(age) = self.plan.compress_after {
            self.compress(now.minus(age), now, &mut kept).await?;
        }
        if kept.raw + kept.exports > 0 {
            notices::Compressed {
                raw: kept.raw,
                exports: kept.exports,
                bytes_before: kept.bytes_before,
                bytes_after: kept.bytes_after,
            }
            .emit();
        }
        Ok(kept)
    }

    async fn write_reports(&self, now: Timestamp, kept: &mut Kept) -> Result<(), UpkeepError> {
        let rules = &self.plan.reports;
        if rules.is_none() {
            return Ok(());
        }
        let connection = read::open_read_only(&self.plan.database).await?;
        let from = rules.zone.day_of(now).plus(-WRITTEN_BACK);
        let written = upkeep::written_reports(&connection, &rules.zone, from).await?;
        for period in due(rules, &written, now) {
            if self.stop.was_said() {
                break;
            }
            // A day on which nothing happened has no report.
            if figures::is_empty(&connection, period.stretch()).await? {
                continue;
            }
            let asked = of_period(&period, self.plan.shape.clone(), now);
            let facts = gather(&connection, asked, FAILED_NAMED).await?;
            let tally = facts.figures.sums.tally;
            let document = document(&facts);
            for format in &self.plan.formats {
                let text = render(&document, *format);
                let name = format!("{}.{format}", period.name());
                let folder = folder_of(period.kind);
                self.plan.archive.keep_report(folder, &name, &text).await?;
            }
            let markdown = render(&document, Format::Markdown);
            self.record(&period, tally.submitted, tally.open, markdown, now)
                .await?;
            kept.reports += 1;
        }
        Ok(connection.close().await.map_err(StateError::from)?)
    }

    async fn record(
        &self,
        period: &Period,
        requests: u64,
        open: u64,
        markdown: String,
        at: Timestamp,
    ) -> Result<(), UpkeepError> {
        let name = period.name();
        notices::PeriodReported {
            kind: period.kind,
            name: &name,
            open,
        }
        .emit();
        let report = PeriodReport {
            kind: period.kind,
            first: period.first,
            zone: period.zone.to_string(),
            name,
            requests,
            open,
            markdown,
        };
        let record = RecordPeriodReport { report, at };
        Ok(answered(self.state.send(record).await)?)
    }

    async fn compress(
        &self,
        before: Timestamp,
        now: Timestamp,
        kept: &mut Kept,
    ) -> Result<(), UpkeepError> {
        // A crash between recording the compressed file and removing the other leaves both.
        for path in self.plan.archive.doubled_raw().await? {
            self.plan.archive.remove_raw(&path).await?;
        }
        let mut after = None;
        while !self.stop.was_said() {
            let question = ListOldRaw {
                before,
                after: after.take(),
                limit: RAW_TOGETHER,
            };
            let old = answered(self.state.send(question).await)?;
            let Some(OldRaw {
                owner: RawOwner::Batch(last),
                closed_at,
                ..
            }) = old.last()
            else {
                break;
            };
            after = Some((*closed_at, last.clone()));
            self.compress_all(old, now, kept).await?;
        }
        let mut after = String::new();
        while !self.stop.was_said() {
            let question = ListOldLateRaw {
                before,
                after: std::mem::take(&mut after),
                limit: RAW_TOGETHER,
            };
            let old = answered(self.state.send(question).await)?;
            let Some(OldRaw {
                owner: RawOwner::LateJob(last),
                ..
            }) = old.last()
            else {
                break;
            };
            after = last.to_string();
            self.compress_all(old, now, kept).await?;
        }
        self.compress_exports(before, kept).await
    }

    async fn compress_all(
        &self,
        old: Vec<OldRaw>,
        now: Timestamp,
        kept: &mut Kept,
    ) -> Result<(), UpkeepError> {
        for OldRaw { owner, raw, .. } in old {
            let content = Written {
                sha256: raw.sha256,
                bytes: raw.bytes,
            };
            let recorded = PathBuf::from(&raw.path);
            let archive = &self.plan.archive;
            let done = archive.compress_raw(&recorded, &content, &self.stop).await;
            // One bad file keeps no other from its turn.
            let done = match done {
                Err(error) if !error.disk => Compression::Damaged {
                    detail: error.to_string(),
                },
                done => done?,
            };
            match done {
                Compression::Stopped => return Ok(()),
                Compression::Missing => kept.missing += 1,
                Compression::Damaged { detail } => {
                    kept.damaged += 1;
                    notices::NotCompressed {
                        path: &raw.path,
                        detail: &detail,
                    }
                    .emit();
                }
                Compression::Done { path, bytes } => {
                    let record = RecordRawPath {
                        owner,
                        from: raw.path,
                        to: path.to_string_lossy().into_owned(),
                        at: now,
                    };
                    answered(self.state.send(record).await)?;
                    archive.remove_raw(&path).await?;
                    kept.raw += 1;
                    kept.bytes_before += content.bytes;
                    kept.bytes_after += bytes;
                }
            }
        }
        Ok(())
    }

    async fn compress_exports(
        &self,
        before: Timestamp,
        kept: &mut Kept,
    ) -> Result<(), UpkeepError> {
        if !self.plan.compress_exports {
            return Ok(());
        }
        let archive = &self.plan.archive;
        for (path, bytes) in archive.old_exports(before, EXPORTS_MAX).await? {
            let Some(now) = archive.compress_export(&path, &self.stop).await? else {
                return Ok(());
            };
            kept.exports += 1;
            kept.bytes_before += bytes;
            kept.bytes_after += now;
        }
        Ok(())
    }
}

/// The folder of such reports, below that of all reports.
fn folder_of(kind: PeriodKind) -> &'static str {
    match kind {
        PeriodKind::Day => "daily",
        PeriodKind::Week => "weekly",
    }
}
