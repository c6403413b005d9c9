//! The loop that applies what is queued, and the thread that it has to itself.
//!
//! SQLite works where it is asked, so that nobody else may live on this thread: what waits for the disk here
//! holds up messages to the state, and nothing beside them.

use std::thread::{Builder, JoinHandle};

use sqlite::Mode;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::disk::DiskPatience;
use super::messages::{StateError, StateResult};
use super::open::Store;
use super::slow::{COMMIT, SlowLog};
use super::{Applied, Job, Kind, Rules};

/// The most messages that share one transaction.
const GROUP_MESSAGES_MAX: usize = 256;

/// How the thread is called, in as many letters as the system keeps.
pub const THREAD_NAME: &str = "pagemill-state";

/// The thread of a loop. It ends with this: what it is at is brought to its end, and nothing else is begun.
pub(super) struct OwnThread {
    stop: CancellationToken,
    /// Taken by the end.
    thread: Option<JoinHandle<()>>,
}

impl OwnThread {
    /// Starts a loop. Its pauses are those of the runtime it is started on, and so is what it logs to.
    pub(super) fn start(
        engine: Engine,
        jobs: mpsc::UnboundedReceiver<Box<dyn Job>>,
    ) -> std::io::Result<Self> {
        let stop = engine.stop.clone();
        let runtime = Handle::current();
        let log = tracing::dispatcher::get_default(Clone::clone);
        let life = move || {
            tracing::dispatcher::with_default(&log, || runtime.block_on(engine.serve(jobs)));
        };
        let thread = Builder::new().name(THREAD_NAME.to_owned()).spawn(life)?;
        Ok(OwnThread {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was told when it happened, and whoever waited for an answer has none.
            let _ = thread.join();
        }
    }
}

/// The loop's own state. Without a store everything is answered with `Closed`.
pub(super) struct Engine {
    store: Option<Store>,
    rules: Rules,
    pub(super) slow: SlowLog,
    /// Given when nobody can send anything any more.
    stop: CancellationToken,
}

impl Engine {
    pub(super) fn new(store: Store, rules: Rules) -> Self {
        Engine {
            store: Some(store),
            rules,
            slow: SlowLog::default(),
            stop: CancellationToken::new(),
        }
    }

    async fn serve(mut self, mut jobs: mpsc::UnboundedReceiver<Box<dyn Job>>) {
        let mut queued = Vec::with_capacity(GROUP_MESSAGES_MAX);
        loop {
            let taken = jobs.recv_many(&mut queued, GROUP_MESSAGES_MAX);
            let taken = self.stop.run_until_cancelled(taken).await;
            if taken.is_none_or(|taken| taken == 0) {
                break;
            }
            self.slow.taken(queued.len(), jobs.len());
            let mut group = Vec::with_capacity(queued.len());
            for job in queued.drain(..) {
                if job.kind() == Kind::Close {
                    self.commit(std::mem::take(&mut group)).await;
                    self.close(job).await;
                } else {
                    group.push(job);
                }
            }
            self.commit(group).await;
        }
    }

    async fn close(&mut self, job: Box<dyn Job>) {
        let failure = match self.store.take() {
            Some(mut store) => {
                if let Ok(owner) = store.owner().await {
                    self.slow.closing(owner.connection()).await;
                }
                store.close().await.err()
            }
            None => Some(StateError::Closed),
        };
        job.answer(failure);
    }

    /// Applies a group in one transaction and answers everybody.
    async fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        if group.is_empty() {
            return;
        }
        let failure = match &mut self.store {
            None => Some(StateError::Closed),
            Some(store) => {
                let applied = apply_group(store, &mut group, &self.rules, &mut self.slow);
                // In the end nobody waits for a disk any longer.
                let applied = self.stop.run_until_cancelled(applied).await;
                applied.unwrap_or(Err(StateError::Closed)).err()
            }
        };
        for job in group {
            job.answer(failure.clone());
        }
    }
}

/// Applies a group, as often as it takes: where the disk is at fault, everybody waits until it can
/// be written again, and nothing is half applied meanwhile.
async fn apply_group(
    store: &mut Store,
    group: &mut [Box<dyn Job>],
    rules: &Rules,
    slow: &mut SlowLog,
) -> StateResult<()> {
    let mut patience = DiskPatience::default();
    loop {
        let Err(error) = transact(store, group, rules, slow).await else {
            patience.over();
            return Ok(());
        };
        // Where a transaction ended by itself, the connection may count on one that is not there.
        // A new connection knows where it stands.
        store.let_go();
        let StateError::Disk(reason) = error else {
            return Err(error);
        };
        patience.wait(&reason).await;
    }
}

async fn transact(
    store: &mut Store,
    group: &mut [Box<dyn Job>],
    rules: &Rules,
    slow: &mut SlowLog,
) -> StateResult<()> {
    let messages = group.len();
    let writes = group.iter().any(|job| job.kind() == Kind::Write);
    let mode = if writes { Mode::Write } else { Mode::Read };
    let begun = slow.start();
    let owner = store.owner().await?;
    let transaction = owner.begin(mode).await?;
    for job in group {
        let started = slow.start();
        if job.kind() == Kind::Read {
            job.apply(&transaction, rules).await?;
        } else if messages == 1 {
            // Alone, it needs no way back but that of the transaction: SQLite keeps a copy of each
            // page that changes behind a savepoint.
            if job.apply(&transaction, rules).await? == Applied::Refused {
                slow.stop(started, job.name(), 1);
                return Ok(owner.rollback(transaction).await?);
            }
        } else {
            let savepoint = owner.savepoint(&transaction).await?;
            match job.apply(&savepoint, rules).await? {
                Applied::Done => owner.commit(savepoint).await?,
                Applied::Refused => owner.rollback(savepoint).await?,
            }
        }
        slow.stop(started, job.name(), 1);
    }
    let started = slow.start();
    owner.commit(transaction).await?;
    slow.stop(started, COMMIT, messages);
    slow.transacted(begun, messages, writes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::{Future, pending};
    use std::pin::Pin;

    use sea_orm::DatabaseTransaction;
    use tempfile::TempDir;
    use tokio::sync::oneshot;

    use super::*;

    /// A message that never comes to an end, or to a bad one.
    struct Stuck {
        begun: Option<oneshot::Sender<()>>,
        panics: bool,
        answer: oneshot::Sender<Option<StateError>>,
    }

    impl Job for Stuck {
        fn kind(&self) -> Kind {
            Kind::Write
        }

        fn name(&self) -> &'static str {
            "Stuck"
        }

        fn apply<'a>(
            &'a mut self,
            _tx: &'a DatabaseTransaction,
            _rules: &'a Rules,
        ) -> Pin<Box<dyn Future<Output = StateResult<Applied>> + 'a>> {
            assert!(!self.panics, "a message that panics");
            if let Some(begun) = self.begun.take() {
                begun.send(()).unwrap();
            }
            Box::pin(pending())
        }

        fn answer(self: Box<Self>, failure: Option<StateError>) {
            self.answer.send(failure).unwrap();
        }
    }

    struct World {
        folder: TempDir,
        queue: mpsc::UnboundedSender<Box<dyn Job>>,
        thread: OwnThread,
    }

    impl World {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("s.db")).await.unwrap();
            let rules = Rules {
                unlock_behind_dead: false,
            };
            let (queue, jobs) = mpsc::unbounded_channel();
            let thread = OwnThread::start(Engine::new(store, rules), jobs).unwrap();
            World {
                folder,
                queue,
                thread,
            }
        }
    }

    #[actix::test]
    async fn the_end_waits_for_nothing_that_waits_and_lets_go_of_the_database() {
        let World {
            folder,
            queue,
            thread,
        } = World::new().await;
        let ((begun, has_begun), (answer, answered)) = (oneshot::channel(), oneshot::channel());
        let stuck = Stuck {
            begun: Some(begun),
            panics: false,
            answer,
        };
        queue.send(Box::new(stuck)).ok().unwrap();
        has_begun.await.unwrap();
        drop(thread);
        assert_eq!(answered.await.unwrap(), Some(StateError::Closed));
        assert!(queue.is_closed());
        assert!(Store::open(&folder.path().join("s.db")).await.is_ok());
    }

    #[actix::test]
    async fn a_message_that_panics_ends_the_thread_and_nobody_waits_for_ever() {
        let World { queue, thread, .. } = World::new().await;
        let (answer, answered) = oneshot::channel();
        let stuck = Stuck {
            begun: None,
            panics: true,
            answer,
        };
        queue.send(Box::new(stuck)).ok().unwrap();
        assert!(answered.await.is_err());
        queue.closed().await;
        drop(thread);
    }

    #[actix::test]
    async fn a_database_that_cannot_be_opened_again_is_the_disks_fault_and_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let mut store = Store::open(&path).await.unwrap();
        store.let_go();
        let aside = folder.path().join("aside.db");
        std::fs::rename(&path, &aside).unwrap();
        let refused = store.owner().await.err();
        assert!(matches!(refused, Some(StateError::Disk(_))), "{refused:?}");
        assert!(!path.exists());
        std::fs::rename(&aside, &path).unwrap();
        assert!(store.owner().await.is_ok());
        store.close().await.unwrap();
    }
}
