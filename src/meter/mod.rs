//! What a run costs and waits for: processor time by stage, places where pages wait, the database.
//!
//! A [`Meter`] is plain counters. It is made by whoever wants to know, and reaches the stages with
//! the plan. [`watched`] is put around the future of an actor; from there the task carries the tally
//! of its stage to whatever it starts: [`carried`] brings it to another thread, [`waiting`] counts a
//! stay. Where no meter was put around anything, these two look once, find nothing and do nothing.
//!
//! **Invariant:** nothing here decides, and nothing that is measured reaches a row or a decision of
//! a run.

pub mod cpu;
pub mod database;
mod spot;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

pub use spot::SpotReading;
use spot::{SpotBook, Stay};

/// Whose processor time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Scanner,
    Uploader,
    BatchSubmitter,
    Poller,
    ResultProcessor,
    /// StateActor's mailbox; its messages are applied on the thread of the database.
    State,
}

impl Stage {
    /// Every stage, in the order of a page's way.
    pub const ALL: [Stage; 6] = [
        Stage::Scanner,
        Stage::Uploader,
        Stage::BatchSubmitter,
        Stage::Poller,
        Stage::ResultProcessor,
        Stage::State,
    ];

    /// The stage as it is called in figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Scanner => "scanner",
            Stage::Uploader => "uploader",
            Stage::BatchSubmitter => "batch submitter",
            Stage::Poller => "poller",
            Stage::ResultProcessor => "result processor",
            Stage::State => "state actor",
        }
    }
}

/// A place where pages, files or batches stay a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// A place among the uploads: the image's check, the gate, the call and its tries.
    UploadSlot,
    ImageCheck,
    /// In line before the gate that spaces upload starts.
    UploadGate,
    UploadCall,
    CreateCall,
    PollCall,
    /// A batch that is being collected, from its download to its settlement.
    Collection,
    DownloadCall,
    Judge,
    WriteOutputs,
    DeleteCall,
}

impl Spot {
    /// Every spot, in the order of a page's way.
    pub const ALL: [Spot; 11] = [
        Spot::UploadSlot,
        Spot::ImageCheck,
        Spot::UploadGate,
        Spot::UploadCall,
        Spot::CreateCall,
        Spot::PollCall,
        Spot::Collection,
        Spot::DownloadCall,
        Spot::Judge,
        Spot::WriteOutputs,
        Spot::DeleteCall,
    ];

    /// The spot as it is called in figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Spot::UploadSlot => "upload slot",
            Spot::ImageCheck => "image check",
            Spot::UploadGate => "upload rate gate",
            Spot::UploadCall => "upload call",
            Spot::CreateCall => "create call",
            Spot::PollCall => "poll call",
            Spot::Collection => "collection slot",
            Spot::DownloadCall => "download call",
            Spot::Judge => "judging",
            Spot::WriteOutputs => "writing outputs",
            Spot::DeleteCall => "delete call",
        }
    }
}

/// The processor time of one stage.
#[derive(Debug, Default)]
struct StageBook {
    /// On the thread that all actors share, in nanoseconds.
    actor_nanos: AtomicU64,
    /// On the threads that the stage gave work to, in nanoseconds.
    pool_nanos: AtomicU64,
}

/// The counters of one run.
#[derive(Debug)]
pub struct Meter {
    stages: [StageBook; Stage::ALL.len()],
    spots: [SpotBook; Spot::ALL.len()],
    pub database: Arc<database::Book>,
}

/// The processor time of a stage so far.
#[derive(Debug, Clone, Copy)]
pub struct StageReading {
    pub stage: Stage,
    /// On the thread that all actors share.
    pub actor: Duration,
    /// On other threads.
    pub pool: Duration,
}

impl Meter {
    /// A meter at zero. `limit` says how many fit into a spot, where it has a limit.
    pub fn new(limit: impl Fn(Spot) -> Option<usize>) -> Arc<Self> {
        Arc::new(Meter {
            stages: Default::default(),
            spots: Spot::ALL.map(|spot| SpotBook::new(limit(spot))),
            database: Arc::default(),
        })
    }

    /// The processor time of every stage so far.
    pub fn stages(&self) -> Vec<StageReading> {
        let nanos = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        let read = |stage: Stage| {
            let book = &self.stages[stage as usize];
            StageReading {
                stage,
                actor: nanos(&book.actor_nanos),
                pool: nanos(&book.pool_nanos),
            }
        };
        Stage::ALL.map(read).to_vec()
    }

    /// What was seen at every spot so far.
    pub fn spots(&self) -> Vec<(Spot, SpotReading)> {
        Spot::ALL
            .map(|spot| (spot, self.spots[spot as usize].read()))
            .to_vec()
    }
}

/// The meter and the stage that a task works for.
#[derive(Clone)]
struct Tally {
    meter: Arc<Meter>,
    stage: Stage,
}

impl Tally {
    fn book(&self) -> &StageBook {
        &self.meter.stages[self.stage as usize]
    }
}

tokio::task_local! {
    static TALLY: Tally;
}

/// A future whose processor time is counted for its stage, poll by poll.
pub struct Watched<F> {
    tally: Tally,
    inner: Pin<Box<F>>,
}

/// Counts the processor time of a future, and of what it hands to other threads, for a stage.
pub fn watched<F: Future>(meter: &Arc<Meter>, stage: Stage, future: F) -> Watched<F> {
    Watched {
        tally: Tally {
            meter: Arc::clone(meter),
            stage,
        },
        inner: Box::pin(future),
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let tally = self.tally.clone();
        let begun = cpu::of_thread();
        let inner = &mut self.inner;
        let polled = TALLY.sync_scope(tally.clone(), || inner.as_mut().poll(context));
        add(&tally.book().actor_nanos, begun);
        polled
    }
}

/// Adds what this thread has worked since `begun`.
fn add(counter: &AtomicU64, begun: Duration) {
    let spent = cpu::of_thread().saturating_sub(begun).as_nanos();
    counter.fetch_add(u64::try_from(spent).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The tally of the task that is running, if it has one.
fn tally() -> Option<Tally> {
    TALLY.try_with(Tally::clone).ok()
}

/// Work for another thread, counted for the stage that hands it over.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let tally = tally();
    move || match tally {
        None => work(),
        Some(tally) => {
            let begun = cpu::of_thread();
            let done = TALLY.sync_scope(tally.clone(), work);
            add(&tally.book().pool_nanos, begun);
            done
        }
    }
}

/// A stay at a spot, from the first poll of a future to its end.
pub async fn waiting<T>(spot: Spot, work: impl Future<Output = T>) -> T {
    let tally = tally();
    let _stay: Option<Stay<'_>> = tally
        .as_ref()
        .map(|tally| tally.meter.spots[spot as usize].enter());
    work.await
}

#[cfg(test)]
mod tests;
