//! Gates: every place at which a process touches the world. A gate can be the last thing that a
//! process does, and a call to the provider waits at one until the test says that it goes on.
//!
//! A crash at a gate means that nothing of the process happens any more: whoever comes to a gate
//! from then on waits for ever, and the driver, who is told at once, drops the process whole.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::{Notify, oneshot};

use super::watch;

/// One passage through a gate: the name, and which time it was, from 1.
pub type Passage = (String, u32);

/// Where a process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CrashAt {
    /// At this passage.
    Passage(Passage),
    /// At the passage of this number, whatever its name, from 1.
    Number(u64),
}

/// A call that waits for its turn.
struct Waiting {
    serial: u64,
    words: String,
    go: oneshot::Sender<()>,
}

/// The gates of one process.
#[derive(Default)]
pub struct Gates {
    crash_at: RefCell<Option<CrashAt>>,
    dead: Cell<bool>,
    counts: RefCell<BTreeMap<String, u32>>,
    passages: RefCell<Vec<Passage>>,
    waiting: RefCell<Vec<Waiting>>,
    serial: Cell<u64>,
    /// Tells the driver that the process is dead.
    died: Notify,
    /// Tells the driver that something passed.
    moved: Notify,
}

impl Gates {
    /// Gates of a process that ends where it is told to, if at all.
    pub fn new(crash_at: Option<CrashAt>) -> Rc<Self> {
        Rc::new(Gates {
            crash_at: RefCell::new(crash_at),
            ..Gates::default()
        })
    }

    /// Ends the process here.
    pub fn kill(&self) {
        self.dead.set(true);
        self.died.notify_one();
    }

    /// Ends when the process is dead.
    pub async fn died(&self) {
        while !self.dead.get() {
            self.died.notified().await;
        }
    }

    /// All passages so far, in order.
    pub fn passages(&self) -> Vec<Passage> {
        self.passages.borrow().clone()
    }

    /// How many passages there were so far; whatever a process does, it does it at a gate.
    pub fn passed(&self) -> u64 {
        self.passages.borrow().len() as u64
    }

    /// Ends when something passes.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Passes a gate without waiting, for calls that cannot. When the process dies here, what runs
    /// goes on until it waits for the first time, which is a crash a moment later.
    pub fn pass(&self, name: &str) {
        if self.dead.get() {
            return;
        }
        watch::look();
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(name.to_owned()).or_default();
        *count += 1;
        let passage = (name.to_owned(), *count);
        self.passages.borrow_mut().push(passage.clone());
        self.moved.notify_one();
        let dies = match &*self.crash_at.borrow() {
            None => false,
            Some(CrashAt::Passage(wanted)) => *wanted == passage,
            Some(CrashAt::Number(number)) => *number == self.passed(),
        };
        if dies {
            self.kill();
        }
    }

    /// Passes a gate, or ends there.
    pub async fn gate(&self, name: &str) {
        self.pass(name);
        self.end_if_dead().await;
    }

    /// Waits until the driver lets this call go on.
    pub async fn turn(&self, words: String) {
        let (go, gone) = oneshot::channel();
        self.serial.set(self.serial.get() + 1);
        self.waiting.borrow_mut().push(Waiting {
            serial: self.serial.get(),
            words,
            go,
        });
        self.moved.notify_one();
        let _released = gone.await;
        self.end_if_dead().await;
    }

    async fn end_if_dead(&self) {
        if self.dead.get() {
            std::future::pending::<()>().await;
        }
    }

    /// The calls that wait, oldest first.
    pub fn waiting(&self) -> Vec<String> {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|call| !call.go.is_closed());
        waiting.sort_by_key(|call| call.serial);
        waiting.iter().map(|call| call.words.clone()).collect()
    }

    /// Lets one of the waiting calls go on.
    pub fn release(&self, place: usize) {
        let call = self.waiting.borrow_mut().remove(place);
        // A call that was given up in the meantime needs no answer.
        let _gone = call.go.send(());
    }
}
