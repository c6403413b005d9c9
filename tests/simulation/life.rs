//! The life of one process on a world: from opening the state to the end of its run, or to a crash.
//!
//! The driver acts only when the process has come to rest: one call is answered, or time passes, or
//! the world changes; then it waits until nothing moves any more.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Addr};
use actix_rt::System;
use pagemill::actors::conductor::RunEnd;
use pagemill::actors::hint::{Rescan, Tick};
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::{KnownFiles, ListWork, WorkLeft};
use pagemill::actors::state::open::StateOptions;
use pagemill::pipeline::{self, Plan, Running, StageAddresses, Stopper};

use super::gates::{CrashAt, Gates, Passage};
use super::ports::{Outside, Ports};
use super::watch;

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Lets the waiting call of this place go on.
    Answer(usize),
    /// Lets time pass, and tells every stage.
    Pass(Duration),
    /// Lets the scanner look at the tree.
    Rescan,
    /// Asks for the orderly end.
    Stop,
    /// Looks again: the world was changed.
    Nothing,
}

/// What the driver sees when the process is at rest.
pub struct Rest {
    /// The calls that wait, oldest first.
    pub waiting: Vec<String>,
    /// What is left to do; known only when no call waits.
    pub work: Option<WorkLeft>,
    pub stopped: bool,
}

/// Decides what happens next.
pub trait Pilot {
    fn next(&mut self, rest: &Rest, outside: &Outside) -> Act;
}

/// How a life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeEnd {
    Crashed,
    Ended(RunEnd),
}

/// A life that is over.
pub struct Lived {
    pub end: LifeEnd,
    pub passages: Vec<Passage>,
}

/// A life to be lived.
pub struct Life {
    pub outside: Rc<Outside>,
    pub database: PathBuf,
    pub plan: Plan,
    pub unlock_behind_dead: bool,
    pub crash_at: Option<CrashAt>,
    /// Acts after which a life that has not ended counts as stalled.
    pub acts_max: usize,
}

/// Rounds that must pass without a passage or a commit before a process counts as at rest: no stage
/// asks so many questions in a row.
const QUIET_ROUNDS: u32 = 3;

impl Life {
    /// Lives it in a runtime of its own, which is dropped with all that is in it at the end.
    pub fn live(self, pilot: &mut dyn Pilot) -> Lived {
        let gates = Gates::new(self.crash_at.clone());
        let watched = Rc::clone(&self.outside.watch);
        watched.begin(&self.outside);
        let system = System::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(1)
                .on_thread_park(watch::look)
                .build()
                .unwrap()
        });
        let end = system.block_on(async {
            tokio::select! {
                biased;
                () = gates.died() => LifeEnd::Crashed,
                end = self.run(&gates, pilot) => end,
            }
        });
        // Whatever is still moving may not move on.
        if end == LifeEnd::Crashed {
            gates.kill();
        }
        // The pool of the state wants to be in a runtime even when it is dropped.
        let runtime = system.runtime().tokio_runtime().handle().clone();
        let entered = runtime.enter();
        drop(system);
        drop(entered);
        watched.look();
        watch::Watch::end();
        Lived {
            end,
            passages: gates.passages(),
        }
    }

    async fn run(&self, gates: &Rc<Gates>, pilot: &mut dyn Pilot) -> LifeEnd {
        let state = self.open().await;
        let attempts = self.plan.transfer.attempts;
        let ports = Ports::new(Rc::clone(gates), Rc::clone(&self.outside), attempts);
        let started = pipeline::start(ports.world(), self.plan.clone(), state.clone()).await;
        let running = started.unwrap_or_else(|error| panic!("the run does not start: {error}"));
        let driver = Driver {
            stages: running.stages.clone(),
            stopper: running.stopper(),
            ended: Rc::default(),
            state,
            ports,
            plan: &self.plan,
        };
        driver.drive(running, pilot, self.acts_max).await
    }

    async fn open(&self) -> Addr<StateActor> {
        let options = StateOptions {
            path: self.database.clone(),
            unlock_behind_dead: self.unlock_behind_dead,
        };
        StateActor::open(options)
            .await
            .unwrap_or_else(|error| panic!("what a dead process left cannot be opened: {error}"))
            .start()
    }
}

struct Driver<'a> {
    stages: StageAddresses,
    stopper: Stopper,
    ended: Rc<RefCell<Option<RunEnd>>>,
    state: Addr<StateActor>,
    ports: Rc<Ports>,
    plan: &'a Plan,
}

impl Driver<'_> {
    async fn drive(self, running: Running, pilot: &mut dyn Pilot, acts_max: usize) -> LifeEnd {
        let ended = Rc::clone(&self.ended);
        actix_rt::spawn(async move {
            let end = running.finished(|end| async { end }).await;
            *ended.borrow_mut() = Some(end);
        });
        let mut stopped = false;
        for _ in 0..acts_max {
            self.settle().await;
            let ended = self.ended.borrow_mut().take();
            if let Some(end) = ended {
                return LifeEnd::Ended(end);
            }
            let waiting = self.ports.gates.waiting();
            let work = if waiting.is_empty() && !stopped {
                Some(self.work().await)
            } else {
                None
            };
            let rest = Rest {
                waiting,
                work,
                stopped,
            };
            let act = pilot.next(&rest, &self.ports.outside);
            let passed = self.ports.gates.passed();
            self.ports.outside.tell(format!("[{passed}] {act:?}"));
            match act {
                Act::Answer(place) => self.ports.gates.release(place),
                Act::Pass(span) => self.pass(span),
                Act::Rescan => self.stages.scanner.do_send(Rescan {}),
                Act::Stop => {
                    self.stopper.stop();
                    stopped = true;
                }
                Act::Nothing => {}
            }
        }
        panic!("the run stalls: {:?}", self.ports.gates.waiting());
    }

    fn pass(&self, span: Duration) {
        let clock = &self.ports.outside.clock;
        clock.advance(span);
        let tick = Tick {
            now: clock.now(),
            more_may_come: false,
        };
        self.stages.processor.do_send(tick.clone());
        self.stages.poller.do_send(tick.clone());
        self.stages.submitter.do_send(tick.clone());
        self.stages.uploader.do_send(tick);
    }

    async fn work(&self) -> WorkLeft {
        let question = ListWork {
            scope: self.plan.scope.clone(),
            chained: self.plan.conductor.chained,
            at: self.ports.outside.clock.now(),
        };
        let answer = self.state.send(question).await;
        answer.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// How much happened so far: passages and commits.
    fn moves(&self) -> u64 {
        watch::look();
        self.ports.gates.passed() + self.ports.outside.watch.commits.get()
    }

    /// Waits until nothing moves but by an act of ours. Each round passes through the queue of the
    /// state and through the blocking pool, behind whatever was under way.
    async fn settle(&self) {
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            let before = self.moves();
            while self.ports.retries_due.get() > 0 {
                self.ports.gates.moved().await;
            }
            let nothing = KnownFiles { names: Vec::new() };
            // A state that is closed has nothing under way.
            let _closed = self.state.send(nothing).await;
            let _done = actix_rt::task::spawn_blocking(|| ()).await;
            tokio::task::yield_now().await;
            quiet = if self.moves() == before { quiet + 1 } else { 0 };
        }
    }
}

/// Whether nothing is left to do.
pub fn is_done(work: &WorkLeft) -> bool {
    let sent = work.uploading + work.uploaded + work.batched + work.validating;
    sent == 0
        && work.live_batches == 0
        && work.runnable == 0
        && work.due_at.is_none()
        && work.deletable == 0
}

/// A folder for one world: in memory where there is such a place.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.unwrap()
}
