//! Which batches a stage is working on, and which it has just left.

use std::collections::HashSet;

use crate::domain::ids::BatchId;

/// Keeps one piece of work a batch, and keeps a stage from acting on what it was told of a batch
/// before its own last work on it ended: such a row is out of date.
#[derive(Debug, Default)]
pub struct Busy {
    working: HashSet<BatchId>,
    /// Batches whose work ended since the last question was asked.
    left: HashSet<BatchId>,
}

impl Busy {
    /// A question is being asked; whatever ends from here on makes its answer out of date.
    pub fn asking(&mut self) {
        self.left.clear();
    }

    /// Work on a batch begins. To be called only when [`Busy::is_free`].
    pub fn begin(&mut self, batch: BatchId) {
        self.working.insert(batch);
    }

    /// Work on a batch is over.
    pub fn end(&mut self, batch: &BatchId) {
        if self.working.remove(batch) {
            self.left.insert(batch.clone());
        }
    }

    /// Whether a row of the last answer may be acted on.
    pub fn is_free(&self, batch: &BatchId) -> bool {
        !self.working.contains(batch) && !self.left.contains(batch)
    }

    /// How many batches are worked on.
    pub fn len(&self) -> usize {
        self.working.len()
    }

    /// Whether no batch is worked on.
    pub fn is_empty(&self) -> bool {
        self.working.is_empty()
    }

    /// Whether some rows of the last answer are out of date, so that the question is to be asked
    /// again.
    pub fn is_outdated(&self) -> bool {
        !self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_from_before_the_end_of_its_work_is_not_acted_on() {
        let (one, other) = (BatchId::from("one"), BatchId::from("other"));
        let mut busy = Busy::default();
        busy.begin(one.clone());
        busy.asking();
        assert!(!busy.is_free(&one) && busy.is_free(&other));
        busy.end(&one);
        assert!(
            !busy.is_free(&one),
            "the answer under way does not know of the end"
        );
        assert!(busy.is_outdated());
        busy.asking();
        assert!(busy.is_free(&one) && !busy.is_outdated());
    }
}
