//! One book's folders: labels on the one side, outputs on the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirEntry;
use std::io;

use super::durable::{fault, is_temporary};
use super::inside;
use super::source::FilesystemOptions;
use super::walk::{Entry, encoded, entries, kind, oddity, path_of, unreadable};
use crate::domain::layout::page_number;
use crate::ports::page_source::{BookListing, ListedPage, Oddity, OddityKind, SourceError};

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
/// there, and the rules tell the one from the other; `None` when its label folder cannot be listed,
/// its outputs cannot be seen, or when what makes it a book has no key.
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
    let outputs = match list_outputs(options, levels) {
        Ok(outputs) => outputs,
        Err(error) => {
            // Pages that could not be written would be paid for, and pages that are done but cannot
            // be seen would be paid for again.
            return (None, vec![output_folder_odd(levels, &error)]);
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
    add_outputs(
        options,
        levels,
        outputs,
        &known,
        &mut listing,
        &mut oddities,
    );
    (Some(listing), oddities)
}

/// A disk that fails may work again; a link that leads out stays where it is.
fn output_folder_odd(levels: &[String], error: &SourceError) -> Oddity {
    let kind = if error.disk {
        OddityKind::DiskFault
    } else {
        OddityKind::OutputFolder
    };
    oddity(kind, levels, None, &format!("its output folder: {error}"))
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
fn list_outputs(
    options: &FilesystemOptions,
    levels: &[String],
) -> Result<Vec<DirEntry>, SourceError> {
    let folder = path_of(&options.output_dir, levels);
    if !inside::has(&options.output_dir, &folder)? {
        return Ok(Vec::new());
    }
    match entries(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|error| fault(&folder, &error)),
    }
}

fn add_outputs(
    options: &FilesystemOptions,
    levels: &[String],
    entries: Vec<DirEntry>,
    known: &BTreeSet<String>,
    listing: &mut BookListing,
    oddities: &mut Vec<Oddity>,
) {
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
}
