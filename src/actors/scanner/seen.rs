//! What a look at the tree, or at a part of it, found.

use std::collections::HashSet;

use super::memory::Settled;
use crate::actors::state::messages::OddityRow;
use crate::domain::ids::RecordKey;
use crate::notices;
use crate::ports::page_source::{Oddity, OddityKind, SourceError};

/// Oddities that are kept by name; beyond it they are only counted.
const ODDITIES_KEPT: usize = 100_000;

/// What one look at the tree found.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub pages: u64,
    pub oddities: Vec<OddityRow>,
    pub oddities_beyond: u64,
    /// Books that need no second look until their folders change.
    pub settled: Vec<(String, Settled)>,
    /// Why this look does not count, if so: the tree is to be looked at again.
    pub failed: Option<String>,
}

impl Seen {
    pub fn note(&mut self, oddity: &Oddity) {
        if oddity.kind == OddityKind::OutputFolder {
            notices::BookLeftAlone {
                path: &oddity.path,
                detail: &oddity.detail,
            }
            .emit();
        }
        tracing::debug!(path = %oddity.path, reason = %oddity.kind, "not a page");
        if oddity.kind == OddityKind::DiskFault {
            let reason = || format!("{}: {}", oddity.path, oddity.detail);
            self.failed.get_or_insert_with(reason);
        }
        self.note_row(OddityRow {
            path: oddity.path.clone(),
            kind: oddity.kind.as_str().to_owned(),
            detail: oddity.detail.clone(),
        });
    }

    /// An output that the disk does not give: its book waits for the next look.
    pub fn not_read(&mut self, key: &RecordKey, error: &SourceError, unread: &mut HashSet<String>) {
        unread.insert(key.book().to_owned());
        self.failed.get_or_insert_with(|| error.to_string());
    }

    pub fn take_in(&mut self, other: Seen) {
        self.failed = self.failed.take().or(other.failed);
        self.pages += other.pages;
        self.settled.extend(other.settled);
        self.oddities_beyond += other.oddities_beyond;
        for row in other.oddities {
            self.note_row(row);
        }
    }

    pub fn note_row(&mut self, row: OddityRow) {
        if self.oddities.len() < ODDITIES_KEPT {
            self.oddities.push(row);
        } else {
            self.oddities_beyond += 1;
        }
    }
}
