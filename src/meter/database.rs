//! What the database is asked, how long it works, and how long messages wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Messages of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    pub messages: u64,
    /// The time that applying them took.
    pub took: Duration,
}

/// What was counted so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatabaseReading {
    /// Times that the queue was taken.
    pub takes: u64,
    /// Messages that were taken.
    pub messages: u64,
    /// The longest queue that a take found.
    pub queue_max: usize,
    /// What all takes found together.
    pub queue_sum: u64,
    /// How long messages waited to be taken, together, and the longest.
    pub waited: Duration,
    pub waited_max: Duration,
    /// Transactions that could change something.
    pub commits: u64,
    /// The messages in them.
    pub messages_committed: u64,
    /// Transactions that only read.
    pub reads: u64,
    /// From the begin of transactions to their end, and the part of it that was the commit itself.
    pub busy: Duration,
    pub committing: Duration,
    /// Rows inserted, changed or deleted; known when the database is closed.
    pub rows_changed: Option<u64>,
    pub asked: BTreeMap<&'static str, Asked>,
}

#[derive(Debug, Default)]
struct Seen {
    reading: DatabaseReading,
    /// When each message of the queue came, oldest first.
    arrivals: VecDeque<Instant>,
}

/// The book of one database.
#[derive(Debug, Default)]
pub struct Book(Mutex<Seen>);

impl Book {
    /// A message joins the queue.
    pub fn queued(&self) {
        self.seen().arrivals.push_back(Instant::now());
    }

    /// The oldest `count` messages are taken from the queue; `left` stay in it.
    pub fn taken(&self, count: usize, left: usize) {
        let now = Instant::now();
        let mut seen = self.seen();
        let Seen { reading, arrivals } = &mut *seen;
        reading.takes += 1;
        reading.messages += count as u64;
        reading.queue_max = reading.queue_max.max(count + left);
        reading.queue_sum += (count + left) as u64;
        for arrived in arrivals.drain(..count.min(arrivals.len())) {
            let waited = now.duration_since(arrived);
            reading.waited += waited;
            reading.waited_max = reading.waited_max.max(waited);
        }
    }

    /// A message was applied.
    pub fn applied(&self, name: &'static str, took: Duration) {
        let mut seen = self.seen();
        let asked = seen.reading.asked.entry(name).or_default();
        asked.messages += 1;
        asked.took += took;
    }

    /// The commit of a transaction took so long.
    pub fn committed(&self, took: Duration) {
        self.seen().reading.committing += took;
    }

    /// A whole transaction is over.
    pub fn transacted(&self, messages: usize, could_change: bool, took: Duration) {
        let reading = &mut self.seen().reading;
        reading.busy += took;
        if could_change {
            reading.commits += 1;
            reading.messages_committed += messages as u64;
        } else {
            reading.reads += 1;
        }
    }

    /// The database is about to be closed; so many rows were changed.
    pub fn closing(&self, rows_changed: u64) {
        self.seen().reading.rows_changed = Some(rows_changed);
    }

    /// What was counted so far.
    pub fn read(&self) -> DatabaseReading {
        self.seen().reading.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Counters are whole at any time; a panic of another thread does not spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_take_counts_what_it_finds_and_what_it_leaves() {
        let book = Book::default();
        for _message in 0..5 {
            book.queued();
        }
        book.taken(3, 2);
        book.taken(2, 0);
        let reading = book.read();
        assert_eq!((reading.takes, reading.messages), (2, 5));
        assert_eq!((reading.queue_max, reading.queue_sum), (5, 7));
        assert!(reading.waited >= reading.waited_max);
    }

    #[test]
    fn only_transactions_that_could_change_something_are_commits() {
        let book = Book::default();
        let took = Duration::from_millis(2);
        book.transacted(7, true, took);
        book.transacted(1, false, took);
        book.applied("ClaimPages", took);
        book.applied("ClaimPages", took);
        book.closing(42);
        let reading = book.read();
        assert_eq!((reading.commits, reading.messages_committed), (1, 7));
        assert_eq!(reading.reads, 1);
        assert_eq!(reading.busy, took * 2);
        assert_eq!(reading.rows_changed, Some(42));
        let asked = reading.asked["ClaimPages"];
        assert_eq!((asked.messages, asked.took), (2, took * 2));
    }
}
