//! What earlier looks of this process say of books: one whose folders have not changed since it was
//! found in order is not listed and not compared again.
//!
//! Only pages whose label or output comes or goes need the scanner; what else happens to a page, StateActor
//! sees to. The memory dies with the process, and every few looks it is not used, for a file system may not
//! keep the times of its folders.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ports::page_source::{BookStamp, BookStamps};

/// One look in so many lists every book.
const FULL_LOOK_EVERY: u32 = 10;

/// A book that was found in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    /// How its folders looked then.
    pub stamp: BookStamp,
    /// Its pages in scope.
    pub pages: u64,
}

/// Books that were found in order at the last look.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Looks since the last full one, which counts.
    looks: u32,
    books: HashMap<String, Settled>,
}

impl Memory {
    /// What a look found in order.
    pub fn after(looks: u32, books: Vec<(String, Settled)>) -> Self {
        Memory {
            looks,
            books: books.into_iter().collect(),
        }
    }

    /// The memory for the next look: empty when that is to be a full one.
    pub fn before_look(mut self) -> Self {
        if self.looks >= FULL_LOOK_EVERY {
            self = Memory::default();
        }
        self.looks += 1;
        self
    }

    /// Looks since the last full one, which counts.
    pub fn looks(&self) -> u32 {
        self.looks
    }

    /// How the books looked, for the walk.
    pub fn stamps(&self) -> Arc<BookStamps> {
        let stamps = self.books.iter();
        Arc::new(
            stamps
                .map(|(book, settled)| (book.clone(), settled.stamp))
                .collect(),
        )
    }

    /// What is known of a book.
    pub fn of(&self, book: &str) -> Option<Settled> {
        self.books.get(book).copied()
    }

    /// Has a book looked at again.
    pub fn forget(&mut self, book: &str) {
        self.books.remove(book);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::page_source::FolderStamp;

    fn memory() -> Memory {
        let labels = FolderStamp {
            device: 1,
            inode: 2,
            changed: (3, 4),
        };
        let stamp = BookStamp {
            labels,
            outputs: None,
        };
        Memory::after(0, vec![("a:b".to_owned(), Settled { stamp, pages: 7 })])
    }

    #[test]
    fn a_book_in_order_is_remembered_until_it_is_to_be_looked_at() {
        let mut memory = memory();
        assert_eq!(memory.stamps().len(), 1);
        assert_eq!(memory.of("a:b").map(|settled| settled.pages), Some(7));
        memory.forget("a:b");
        assert!(memory.stamps().is_empty());
    }

    #[test]
    fn every_few_looks_nothing_is_remembered() {
        let mut memory = Memory::after(1, memory().books.into_iter().collect());
        let mut with_memory = 0;
        loop {
            memory = memory.before_look();
            if memory.stamps().is_empty() {
                break;
            }
            with_memory += 1;
        }
        assert_eq!(with_memory, FULL_LOOK_EVERY - 1);
    }
}
