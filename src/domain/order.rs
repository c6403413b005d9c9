//! What an operator tells pagemill to do. An order is kept before it is carried out, with who gave
//! it and why, so that it survives a crash and can be answered for later.

use super::failure::words;
use super::ids::{BatchId, KeyFingerprint, OrderId, RecordKey};
use super::selection::Selection;
use super::time::Timestamp;

words! {
    /// The word of an order, as `orders.command` holds it.
    OrderKind {
        Pause => "pause",
        Resume => "resume",
        ClearFailures => "clear-failures",
        Redo => "redo",
        Skip => "skip",
        Unskip => "unskip",
        Prioritize => "priority",
        Note => "note",
        CancelBatch => "cancel batch",
        ForgetBatch => "forget batch",
        Nuke => "nuke",
        Rekey => "rekey",
    }
}

words! {
    /// How far an order has come.
    OrderState {
        Open => "open",
        Done => "done",
        /// It could not be carried out; its answer says why. Nothing was changed.
        Refused => "refused",
    }
}

words! {
    /// Which pages go first.
    Priority {
        High => "high",
        Normal => "normal",
        Low => "low",
    }
}

impl Priority {
    /// The number that `pages.priority` holds; larger goes first.
    pub fn rank(self) -> i64 {
        match self {
            Self::High => 1,
            Self::Normal => 0,
            Self::Low => -1,
        }
    }

    /// The priority of a stored number.
    pub fn of_rank(rank: i64) -> Self {
        match rank {
            1.. => Self::High,
            0 => Self::Normal,
            ..=-1 => Self::Low,
        }
    }
}

words! {
    /// What an operator wants of a batch; its owner among the stages sees to it.
    Wish {
        /// The provider is asked to stop the job; what it has done until then is collected.
        Cancel => "cancel",
        /// The batch is given up, and its pages are free.
        Forget => "forget",
        /// Both.
        CancelAndForget => "cancel and forget",
    }
}

impl Wish {
    /// Whether the provider is to be asked to stop the job.
    pub fn cancels(self) -> bool {
        matches!(self, Self::Cancel | Self::CancelAndForget)
    }

    /// Whether the batch is to be given up.
    pub fn forgets(self) -> bool {
        matches!(self, Self::Forget | Self::CancelAndForget)
    }
}

/// An order, with everything that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Nothing is uploaded or submitted until it is resumed.
    Pause,
    /// Ends a pause, and every other halt.
    Resume,
    /// Failure counts go, and dead pages go back to the work list.
    ClearFailures {
        which: Selection,
        /// Whether only counts of done pages go: nothing runs again then.
        done_only: bool,
    },
    /// Done pages run again; their outputs become revisions.
    Redo {
        which: Selection,
        /// Whether their failure counts go as well.
        reset_failures: bool,
    },
    /// Pages are left out.
    Skip { which: Selection },
    /// Pages that were left out go back to the work list.
    Unskip { which: Selection },
    /// Pages go before or after the others, those that come later included.
    Prioritize {
        which: Selection,
        priority: Priority,
    },
    /// A remark in a page's history.
    Note { key: RecordKey, text: String },
    /// The provider is asked to stop a batch's job.
    CancelBatch { batch: BatchId },
    /// A batch is given up.
    ForgetBatch {
        batch: BatchId,
        /// Whether the provider is asked to stop its job as well.
        cancel_remote: bool,
    },
    /// Everything that the database knew was deleted. Never given to a running process: it stands in
    /// the emptied database as the trace of what was done.
    Nuke { recreate_tables: bool },
    /// What was made under these keys is under another one of the same project from here on. Given where
    /// no process is at work; it stands as the trace of what was done.
    Rekey {
        from: Vec<KeyFingerprint>,
        to: KeyFingerprint,
    },
}

impl Order {
    /// Its word.
    pub fn kind(&self) -> OrderKind {
        match self {
            Self::Pause => OrderKind::Pause,
            Self::Resume => OrderKind::Resume,
            Self::ClearFailures { .. } => OrderKind::ClearFailures,
            Self::Redo { .. } => OrderKind::Redo,
            Self::Skip { .. } => OrderKind::Skip,
            Self::Unskip { .. } => OrderKind::Unskip,
            Self::Prioritize { .. } => OrderKind::Prioritize,
            Self::Note { .. } => OrderKind::Note,
            Self::CancelBatch { .. } => OrderKind::CancelBatch,
            Self::ForgetBatch { .. } => OrderKind::ForgetBatch,
            Self::Nuke { .. } => OrderKind::Nuke,
            Self::Rekey { .. } => OrderKind::Rekey,
        }
    }

    /// The pages that it is about, if it is about pages.
    pub fn which(&self) -> Option<Selection> {
        match self {
            Self::ClearFailures { which, .. }
            | Self::Redo { which, .. }
            | Self::Skip { which }
            | Self::Unskip { which }
            | Self::Prioritize { which, .. } => Some(which.clone()),
            Self::Note { key, text: _ } => Some(Selection::of_key(key.clone())),
            Self::Pause
            | Self::Resume
            | Self::CancelBatch { .. }
            | Self::ForgetBatch { .. }
            | Self::Nuke { .. }
            | Self::Rekey { .. } => None,
        }
    }
}

/// Who gave an order, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub by: String,
    /// Empty when nothing was said.
    pub reason: String,
}

/// What an order did, or would do: counts by words, in the order in which they are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    pub counts: Vec<(String, u64)>,
    /// Why it was refused, or what else there is to say.
    pub message: String,
}

impl Effects {
    /// Nothing but a message.
    pub fn said(message: impl Into<String>) -> Self {
        Effects {
            counts: Vec::new(),
            message: message.into(),
        }
    }

    /// Adds to a count; nothing is not told.
    pub fn add(&mut self, word: &str, count: u64) {
        if count == 0 {
            return;
        }
        match self.counts.iter_mut().find(|(known, _)| known == word) {
            Some((_word, sum)) => *sum += count,
            None => self.counts.push((word.to_owned(), count)),
        }
    }

    /// Adds all counts of another.
    pub fn add_all(&mut self, other: &Effects) {
        for (word, count) in &other.counts {
            self.add(word, *count);
        }
        if self.message.is_empty() {
            self.message.clone_from(&other.message);
        }
    }

    /// One of the counts.
    pub fn of(&self, word: &str) -> u64 {
        let mut counts = self.counts.iter();
        counts
            .find(|(known, _)| known == word)
            .map_or(0, |(_, count)| *count)
    }
}

/// An order as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOrder {
    pub id: OrderId,
    pub order: Order,
    pub signature: Signature,
    pub state: OrderState,
    pub effects: Effects,
    pub created_at: Timestamp,
    pub done_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_add_up_and_say_nothing_of_nothing() {
        let mut effects = Effects::default();
        effects.add("dead", 2);
        effects.add("in flight", 0);
        let mut more = Effects::said("a word");
        more.add("dead", 3);
        effects.add_all(&more);
        assert_eq!(effects.counts, [("dead".to_owned(), 5)]);
        assert_eq!((effects.of("dead"), effects.of("done")), (5, 0));
        assert_eq!(effects.message, "a word");
    }

    #[test]
    fn priorities_keep_their_rank() {
        for priority in Priority::ALL {
            assert_eq!(Priority::of_rank(priority.rank()), *priority);
        }
        assert!(Priority::High.rank() > Priority::Normal.rank());
        assert!(Priority::Normal.rank() > Priority::Low.rank());
    }
}
