//! Between what the tree and the state say and what the rules compare.

use std::collections::{HashMap, HashSet};

use crate::actors::state::messages::{KnownPage, NewPage, Rechained, ScanChanges};
use crate::decide::scan::{Comparison, Known, Label, Place};
use crate::domain::ids::RecordKey;
use crate::domain::layout::Layout;
use crate::domain::page::PageEvent;
use crate::ports::page_source::{BookListing, Scope};

/// The labels of a book as the rules see them. `in_window` says of each whether it arrived in the window
/// of the run, where there is one.
pub fn labels_of(
    book: &BookListing,
    scope: &Scope,
    layout: &Layout,
    in_window: Option<&[bool]>,
) -> Vec<Label> {
    let page_filter = scope
        .levels
        .get(layout.book_depth())
        .and_then(Option::as_ref);
    book.labels
        .iter()
        .enumerate()
        .map(|(place, label)| {
            let page = label.key.page();
            let arrived = in_window.is_none_or(|window| window.get(place) == Some(&true));
            Label {
                key: label.key.clone(),
                number: label.number,
                in_scope: arrived && page_filter.is_none_or(|filter| filter.admits(page)),
                has_output: book
                    .outputs
                    .binary_search_by(|output| output.as_str().cmp(page))
                    .is_ok(),
            }
        })
        .collect()
}

/// A known page as the rules see it.
pub fn known_of(page: KnownPage) -> Known {
    let KnownPage {
        key,
        number: _,
        stage,
        predecessor,
        waits_for,
        chain_ahead,
        scope,
        dead_for,
        left_out,
    } = page;
    Known {
        key,
        stage,
        predecessor,
        waits_for,
        chain_ahead,
        scope,
        dead_for,
        left_out,
    }
}

/// Known pages by their book.
pub(super) fn group_by_book(known: Vec<KnownPage>) -> HashMap<String, Vec<Known>> {
    let mut books: HashMap<String, Vec<Known>> = HashMap::new();
    for page in known {
        let book = page.key.book().to_owned();
        books.entry(book).or_default().push(known_of(page));
    }
    books
}

/// Takes what the rules found in one book over into the changes.
pub(super) fn add_changes(
    book: &BookListing,
    found: Comparison,
    changes: &mut ScanChanges,
    to_judge: &mut Vec<RecordKey>,
) {
    let Comparison {
        register,
        outputs_to_judge,
        requeue,
        label_vanished,
        rechain,
        rescope,
    } = found;
    changes
        .register
        .extend(register.into_iter().map(|place| new_page(book, place)));
    changes.requeue.extend(
        requeue
            .into_iter()
            .map(|(key, cause)| (key, PageEvent::Requeued { cause })),
    );
    changes.label_vanished.extend(label_vanished);
    changes.rechain.extend(rechain.into_iter().map(|place| {
        let Place {
            key,
            number: _,
            predecessor,
            waits_for,
            chain_ahead,
        } = place;
        Rechained {
            key,
            predecessor,
            waits_for,
            chain_ahead,
        }
    }));
    changes.rescope.extend(rescope);
    to_judge.extend(outputs_to_judge);
}

fn new_page(book: &BookListing, place: Place) -> NewPage {
    let Place {
        key,
        number,
        predecessor,
        waits_for,
        chain_ahead,
    } = place;
    let mut levels = book.levels.clone();
    levels.push(key.page().to_owned());
    NewPage {
        book: book.book.clone(),
        levels,
        key,
        number,
        predecessor,
        waits_for,
        chain_ahead,
    }
}

/// Takes the pages of some books out of the changes.
pub(super) fn leave_out(changes: &mut ScanChanges, books: &HashSet<String>) {
    if books.is_empty() {
        return;
    }
    let stays = |key: &RecordKey| !books.contains(key.book());
    let ScanChanges {
        register,
        adopt,
        requeue,
        label_vanished,
        rechain,
        rescope,
        arrived,
    } = changes;
    if let Some((_window, labels)) = arrived {
        labels.retain(|(key, _at)| stays(key));
    }
    register.retain(|page| stays(&page.key));
    adopt.retain(|output| stays(&output.key));
    requeue.retain(|(key, _event)| stays(key));
    label_vanished.retain(stays);
    rechain.retain(|page| stays(&page.key));
    rescope.retain(stays);
}
