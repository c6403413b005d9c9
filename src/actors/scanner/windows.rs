//! The window of a run: which labels arrived in it, and which pages are booked to it.

use std::collections::HashSet;

use super::{Look, Seen};
use crate::actors::state::messages::ScanChanges;
use crate::domain::ids::RecordKey;
use crate::domain::time::Timestamp;
use crate::ports::page_source::BookListing;

impl Look {
    /// Which labels of a book arrived in the window of the run; without a window nobody asks.
    pub(super) async fn in_window(
        &self,
        book: &BookListing,
        arrived: &mut Vec<(RecordKey, Timestamp)>,
        unread: &mut HashSet<String>,
        seen: &mut Seen,
    ) -> Option<Vec<bool>> {
        let window = self.options.window.as_ref()?;
        let keys: Vec<RecordKey> = book.labels.iter().map(|label| label.key.clone()).collect();
        let found = self.source.arrivals(keys.clone()).await;
        let mut inside = Vec::with_capacity(found.len());
        for (key, arrival) in keys.into_iter().zip(found) {
            inside.push(match arrival {
                Ok(at) => {
                    let holds = window.holds(at);
                    if holds {
                        arrived.push((key, at));
                    }
                    holds
                }
                Err(error) if error.missing => false,
                Err(error) => {
                    seen.not_read(&key, &error, unread);
                    false
                }
            });
        }
        Some(inside)
    }

    /// The pages that come into this run with these changes, booked to its window.
    pub(super) fn booked(
        &self,
        changes: &ScanChanges,
        arrived: Vec<(RecordKey, Timestamp)>,
    ) -> Option<(String, Vec<(RecordKey, Timestamp)>)> {
        let window = self.options.window.as_ref()?;
        let coming: HashSet<&RecordKey> = changes
            .register
            .iter()
            .map(|page| &page.key)
            .chain(&changes.rescope)
            .collect();
        let booked: Vec<(RecordKey, Timestamp)> = arrived
            .into_iter()
            .filter(|(key, _at)| coming.contains(key))
            .collect();
        (!booked.is_empty()).then(|| (window.name.clone(), booked))
    }
}
