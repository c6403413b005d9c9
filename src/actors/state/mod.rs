//! StateActor: the only owner of the database connection.
//!
//! What arrives is queued. One loop takes what is queued, applies it in one transaction with a
//! savepoint a message, commits, and only then answers (group commit). So changes never interleave,
//! a message that fails changes nothing, and a busy program pays for few commits. The loop has a thread
//! of its own (`engine.rs`), on which SQLite works as well.
//!
//! **Invariant:** nothing here decides, calls out or reads a clock. Every state comes from
//! `domain::page::next` or `domain::batch::next`, and every time from the message. (The stopwatch of
//! `slow.rs` tells how long something took; nothing but the log hears of it.)

pub mod alerts;
pub mod audit;
pub mod batch_desk;
pub mod clearing;
pub mod copy;
pub mod desk;
pub mod desk_failures;
pub mod desk_page;
pub mod desk_pages;
pub mod desk_runs;
pub mod desk_status;
pub mod desk_story;
pub mod figures;
pub mod messages;
pub mod open;
pub mod orders;
pub mod page_walk;
pub mod read;
pub mod replace;
pub mod rows;
pub mod selection;
pub mod timeline;
pub mod upkeep;
pub mod whereabouts;

mod adoption;
mod audit_live;
mod audit_pages;
mod audit_rows;
mod batches;
mod catching_up;
mod describe;
mod disk;
mod endings;
pub mod engine;
mod halts;
mod late;
mod meter;
mod paces;
mod page_words;
mod pages;
mod questions;
mod recurring;
mod remote_files;
mod repairs;
mod reports;
mod results;
mod runs;
mod scan;
mod slow;
mod spread;
mod sql;
mod submits;
mod tallies;
mod turnaround;
mod uploaded;
mod uploads;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use sea_orm::DatabaseTransaction;
use tokio::sync::{mpsc, oneshot};

use self::engine::{Engine, OwnThread};
use self::messages::{Close, StateError, StateResult};
use self::open::{OpenError, StateOptions, Store};
pub use self::recurring::{RECURRING, recurring_changes};
use crate::meter::database::Book;

/// Owns the database and applies messages to it.
pub struct StateActor {
    queue: mpsc::UnboundedSender<Box<dyn Job>>,
    /// What is to be started with the actor; taken by the start.
    idle: Option<(Engine, mpsc::UnboundedReceiver<Box<dyn Job>>)>,
    /// Where the loop runs, once it does.
    thread: Option<OwnThread>,
    meter: Option<Arc<Book>>,
}

impl StateActor {
    /// Locks, opens and migrates the database. `.start()` makes it work.
    pub async fn open(options: StateOptions) -> Result<Self, OpenError> {
        let rules = Rules {
            unlock_behind_dead: options.unlock_behind_dead,
        };
        let store = Store::open(&options.path).await?;
        let (queue, jobs) = mpsc::unbounded_channel();
        let engine = Engine::new(store, rules);
        Ok(StateActor {
            queue,
            idle: Some((engine, jobs)),
            thread: None,
            meter: None,
        })
    }

    /// Logs messages and commits that take this long; to be called before the start.
    pub fn log_slow(mut self, threshold: Duration) -> Self {
        if let Some((engine, _jobs)) = &mut self.idle {
            engine.slow.threshold = Some(threshold);
        }
        self
    }

    fn enqueue<R: 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<StateResult<R>>) -> Box<dyn Job>,
    ) -> ResponseFuture<StateResult<R>> {
        let (reply, answer) = oneshot::channel();
        // The loop lives as long as this actor; when it is gone, so is the state.
        if let Some(meter) = &self.meter {
            meter.queued();
        }
        let queued = self.queue.send(job(reply));
        Box::pin(async move {
            if queued.is_err() {
                return Err(StateError::Closed);
            }
            answer.await.unwrap_or(Err(StateError::Closed))
        })
    }
}

impl Actor for StateActor {
    type Context = Context<Self>;

    fn started(&mut self, _ctx: &mut Self::Context) {
        if let Some((engine, jobs)) = self.idle.take() {
            match OwnThread::start(engine, jobs) {
                Ok(thread) => self.thread = Some(thread),
                // Whatever is sent is answered with `Closed`.
                Err(error) => tracing::error!(%error, "the database has no thread to work on"),
            }
        }
    }
}

impl<M, R> Handler<M> for StateActor
where
    M: Apply<Reply = R> + Message<Result = StateResult<R>>,
    R: Send + 'static,
{
    type Result = ResponseFuture<StateResult<R>>;

    fn handle(&mut self, message: M, _ctx: &mut Self::Context) -> Self::Result {
        self.enqueue(|reply| {
            Box::new(Pending {
                message,
                result: None,
                reply,
            })
        })
    }
}

impl Handler<Close> for StateActor {
    type Result = ResponseFuture<StateResult<()>>;

    fn handle(&mut self, _message: Close, _ctx: &mut Self::Context) -> Self::Result {
        self.enqueue(|reply| Box::new(Closing { reply }))
    }
}

/// What the settings say about how changes are applied.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether pages behind a dead one may run.
    pub unlock_behind_dead: bool,
}

/// A message that the database answers.
///
/// The futures stay on the thread of the loop.
trait Apply: Send + 'static {
    type Reply: Send + 'static;
    /// Whether it may change anything.
    const WRITES: bool = true;

    /// Applies the message inside its savepoint. After an error the savepoint is rolled back.
    fn apply(
        &self,
        tx: &DatabaseTransaction,
        rules: &Rules,
    ) -> impl Future<Output = StateResult<Self::Reply>>;
}

/// How a queued message is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Close,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    Done,
    /// Nothing is to be kept of it; its sender hears why.
    Refused,
}

/// A queued message, whatever its type.
trait Job: Send {
    fn kind(&self) -> Kind;

    /// The name of the message.
    fn name(&self) -> &'static str;

    /// Applies the message and keeps its result, which another application replaces. Fails only
    /// when the disk is at fault: then no message is.
    fn apply<'a>(
        &'a mut self,
        tx: &'a DatabaseTransaction,
        rules: &'a Rules,
    ) -> Pin<Box<dyn Future<Output = StateResult<Applied>> + 'a>>;

    /// Answers the sender: with `failure`, or with the kept result.
    fn answer(self: Box<Self>, failure: Option<StateError>);
}

struct Pending<M, R> {
    message: M,
    result: Option<StateResult<R>>,
    reply: oneshot::Sender<StateResult<R>>,
}

impl<M, R> Job for Pending<M, R>
where
    M: Apply<Reply = R> + Send,
    R: Send + 'static,
{
    fn kind(&self) -> Kind {
        if M::WRITES { Kind::Write } else { Kind::Read }
    }

    fn name(&self) -> &'static str {
        slow::name_of::<M>()
    }

    fn apply<'a>(
        &'a mut self,
        tx: &'a DatabaseTransaction,
        rules: &'a Rules,
    ) -> Pin<Box<dyn Future<Output = StateResult<Applied>> + 'a>> {
        Box::pin(async move {
            let result = self.message.apply(tx, rules).await;
            if let Err(StateError::Disk(fault)) = result {
                return Err(StateError::Disk(fault));
            }
            let applied = if result.is_ok() {
                Applied::Done
            } else {
                Applied::Refused
            };
            self.result = Some(result);
            Ok(applied)
        })
    }

    fn answer(self: Box<Self>, failure: Option<StateError>) {
        let result = match (failure, self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => result,
            (None, None) => Err(StateError::Closed),
        };
        // A sender that went away does not need its answer; the change stands.
        let _ = self.reply.send(result);
    }
}

struct Closing {
    reply: oneshot::Sender<StateResult<()>>,
}

impl Job for Closing {
    fn kind(&self) -> Kind {
        Kind::Close
    }

    fn name(&self) -> &'static str {
        slow::name_of::<Close>()
    }

    fn apply<'a>(
        &'a mut self,
        _tx: &'a DatabaseTransaction,
        _rules: &'a Rules,
    ) -> Pin<Box<dyn Future<Output = StateResult<Applied>> + 'a>> {
        Box::pin(async { Ok(Applied::Done) })
    }

    fn answer(self: Box<Self>, failure: Option<StateError>) {
        let _ = self.reply.send(failure.map_or(Ok(()), Err));
    }
}
