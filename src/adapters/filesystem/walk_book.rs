//! One book's folders: labels on the one side, outputs on the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::durable::is_temporary;
use super::source::FilesystemOptions;
use super::walk::{Entry, encoded, entries, kind, oddity, path_of, unreadable};
use crate::domain::layout::page_number;
use crate::ports::page_source::{BookListing, ListedPage, Oddity, OddityKind};

/// The longest page stem, in bytes: a temporary file's name is longer by 43 and must be possible.
const STEM_BYTES_MAX: usize = 200;

/// What the label folder of a book holds.
#[derive(Default)]
struct Labels {
    /// Stems by number; several when the number stands twice.
    by_number: BTreeMap<u32, Vec<String>>,
    oddities: Vec<Oddity>,
}

/// Lists a book, whatever the run's filters say of its pages: a page that is out of scope is still
/// there, and the rules tell the one from the other; `None` when its label folder or its output folder
/// cannot be listed, or when what makes it a book has no key.
pub(super) fn list(
    options: &FilesystemOptions,
    levels: &[String],
) -> (Option<BookListing>, Vec<Oddity>) {
    let Labels {
        by_number,
        mut oddities,
    } = match labels(options, levels) {
        Ok(labels) => labels,
        Err(error) => {
            let odd = oddity(unreadable(&error), levels, None, &error.to_string());
            return (None, vec![odd]);
        }
    };
    let borrowed: Vec<&str> = levels.iter().map(String::as_str).collect();
    let Ok(book) = options.layout.book_key(&borrowed) else {
        let odd = oddity(OddityKind::BadName, levels, None, "it has no key");
        return (None, vec![odd]);
    };
    let known: BTreeSet<String> = by_number.values().flatten().cloned().collect();
    let mut listing = BookListing {
        book,
        levels: levels.to_vec(),
        ..BookListing::default()
    };
    for (number, mut stems) in by_number {
        stems.sort_by_key(|stem| (stem.len(), stem.clone()));
        let mut stems = stems.into_iter();
        let Some(page) = stems.next() else { continue };
        for other in stems {
            let name = format!("{other}.json");
            let detail = format!("page {number} is {page}.json");
            oddities.push(oddity(
                OddityKind::SameNumber,
                levels,
                Some(name.as_ref()),
                &detail,
            ));
        }
        let mut all = borrowed.clone();
        all.push(&page);
        match options.layout.key(&all) {
            Ok(key) => listing.labels.push(ListedPage { number, key }),
            Err(error) => oddities.push(oddity(
                OddityKind::BadName,
                levels,
                Some(format!("{page}.json").as_ref()),
                &error.to_string(),
            )),
        }
    }
    match outputs(options, levels, &known, &mut listing, &mut oddities) {
        Ok(()) => (Some(listing), oddities),
        // Without its outputs every page of the book would look undone, and be paid for again; and
        // what cannot be listed could not be written either.
        Err(error) => {
            let detail = format!("its output folder: {error}");
            oddities.push(oddity(OddityKind::DiskFault, levels, None, &detail));
            (None, oddities)
        }
    }
}

fn labels(options: &FilesystemOptions, levels: &[String]) -> io::Result<Labels> {
    let mut labels = Labels::default();
    for entry in entries(&path_of(&options.label_dir, levels))? {
        let name = entry.file_name();
        let mut odd = |kind, detail: &str| {
            let odd = oddity(kind, levels, Some(&name), detail);
            labels.oddities.push(odd);
        };
        let Some(text) = name.to_str() else {
            odd(OddityKind::BadName, "not UTF-8");
            continue;
        };
        match kind(&entry) {
            Entry::File => {}
            Entry::Folder { .. } => {
                odd(OddityKind::WrongDepth, "a folder where pages are expected");
                continue;
            }
            Entry::Other => {
                odd(OddityKind::NotALabel, "neither a file nor a folder");
                continue;
            }
        }
        if is_temporary(text) {
            continue;
        }
        let Some(stem) = text.strip_suffix(".json") else {
            odd(OddityKind::NotALabel, "not a .json file");
            continue;
        };
        match page_number(stem) {
            _ if stem.len() > STEM_BYTES_MAX => odd(OddityKind::BadName, "too long"),
            Ok(number) => labels
                .by_number
                .entry(number)
                .or_default()
                .push(stem.to_owned()),
            Err(fault) => odd(OddityKind::NotANumber, &fault.to_string()),
        }
    }
    Ok(labels)
}

/// Lists the outputs beside the labels. A book without an output folder has none yet.
fn outputs(
    options: &FilesystemOptions,
    levels: &[String],
    known: &BTreeSet<String>,
    listing: &mut BookListing,
    oddities: &mut Vec<Oddity>,
) -> io::Result<()> {
    let entries = match entries(&path_of(&options.output_dir, levels)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
        let Some(stem) = stem.filter(|stem| page_number(stem).is_ok()) else {
            continue;
        };
        if !matches!(kind(&entry), Entry::File) {
            continue;
        }
        if !known.contains(stem) {
            let detail = "left as it is";
            oddities.push(oddity(
                OddityKind::OutputWithoutLabel,
                levels,
                Some(&name),
                detail,
            ));
        }
        listing.outputs.extend(encoded(&options.layout, stem));
    }
    listing.outputs.sort();
    Ok(())
}
