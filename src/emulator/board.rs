//! All jobs of the project, in the order of their making.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::jobs::Job;

/// All jobs of the project.
#[derive(Default)]
pub(super) struct Jobs {
    board: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    by_age: BTreeMap<u64, Arc<Job>>,
    by_id: HashMap<String, u64>,
    sequence: u64,
}

/// A page of the list and the token of the next one.
pub(super) struct JobPage {
    pub(super) jobs: Vec<Arc<Job>>,
    pub(super) next: Option<u64>,
}

impl Jobs {
    /// Puts a job on the board.
    pub(super) fn insert(&self, job: Arc<Job>) {
        let mut board = self.lock();
        board.sequence += 1;
        let sequence = board.sequence;
        board.by_id.insert(job.id.clone(), sequence);
        board.by_age.insert(sequence, job);
    }

    /// Finds a job by its id.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Job>> {
        let board = self.lock();
        board
            .by_id
            .get(id)
            .and_then(|sequence| board.by_age.get(sequence))
            .cloned()
    }

    /// Takes a job off the board.
    pub(super) fn remove(&self, id: &str) -> Option<Arc<Job>> {
        let mut board = self.lock();
        let sequence = board.by_id.remove(id)?;
        board.by_age.remove(&sequence)
    }

    /// Lists the visible jobs, newest first, older than a token.
    pub(super) fn page(&self, before: Option<u64>, size: usize, now: Instant) -> JobPage {
        let board = self.lock();
        let older = board.by_age.range(..before.unwrap_or(u64::MAX)).rev();
        let visible = |job: &Job| job.is_listed(now);
        let mut visible = older.filter(|(_, job)| visible(job));
        let chosen: Vec<_> = visible.by_ref().take(size).collect();
        let next = visible
            .next()
            .and_then(|_| chosen.last())
            .map(|(sequence, _)| **sequence);
        JobPage {
            jobs: chosen.into_iter().map(|(_, job)| Arc::clone(job)).collect(),
            next,
        }
    }

    /// How many jobs have not ended.
    pub(super) fn live(&self) -> u64 {
        let board = self.lock();
        board
            .by_age
            .values()
            .filter(|job| job.outcome().is_none())
            .count() as u64
    }

    /// Forgets all jobs and stops their processing.
    pub(super) fn forget(&self) {
        let mut board = self.lock();
        board.by_age.values().for_each(|job| job.delete());
        *board = Board {
            sequence: board.sequence,
            ..Board::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
