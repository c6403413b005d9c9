//! One book's folders: labels on the one side, outputs on the other.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use super::durable::{fault, is_temporary};
use super::folder_stamp;
use super::inside;
use super::source::FilesystemOptions;
use super::walk::{Entry, encoded, kind, oddity, path_of, unreadable};
use crate::domain::layout::page_number;
use crate::ports::page_source::{
    BookListing, BookStamp, BookStamps, ListedPage, Oddity, OddityKind, SourceError,
};

/// The longest page stem, in bytes: a temporary file's name is longer by 43 and must be possible.
const STEM_BYTES_MAX: usize = 200;

/// What the label folder of a book holds.
#[derive(Default)]
struct Labels {
    /// Numbers and stems; several stems when a number stands twice.
    stems: Vec<(u32, String)>,
    oddities: Vec<Oddity>,
    has_links: bool,
}

/// What the output folder of a book holds.
#[derive(Default)]
struct Outputs {
    /// The stems of files that are outputs by their names.
    stems: Vec<String>,
    has_links: bool,
}

/// What became of a look at a book.
pub(super) enum Look {
    /// It still looks as its stamp says.
    Unchanged(String),
    /// `None` when its label folder cannot be listed, its outputs cannot be seen, or when what makes it
    /// a book has no key.
    Listed(Option<BookListing>, Vec<Oddity>),
}

/// Lists a book unless it looks as before, whatever the run's filters say of its pages: a page that is
/// out of scope is still there, and the rules tell the one from the other. `now` in seconds since 1970.
pub(super) fn look(
    options: &FilesystemOptions,
    levels: &[String],
    stamps: &BookStamps,
    now: i64,
) -> Look {
    let borrowed: Vec<&str> = levels.iter().map(String::as_str).collect();
    let Ok(book) = options.layout.book_key(&borrowed) else {
        let odd = oddity(OddityKind::BadName, levels, None, "it has no key");
        return Look::Listed(None, vec![odd]);
    };
    // Before the listing: what changes meanwhile makes a stamp that is not this one.
    let stamp = folder_stamp::of_book(options, levels, now);
    if stamp.is_some() && stamps.get(&book) == stamp.as_ref() {
        return Look::Unchanged(book);
    }
    match list(options, levels, book, stamp) {
        Ok((listing, oddities)) => Look::Listed(Some(listing), oddities),
        Err(odd) => Look::Listed(None, vec![odd]),
    }
}

fn list(
    options: &FilesystemOptions,
    levels: &[String],
    book: String,
    stamp: Option<BookStamp>,
) -> Result<(BookListing, Vec<Oddity>), Oddity> {
    let labels = labels(options, levels)
        .map_err(|error| oddity(unreadable(&error), levels, None, &error.to_string()))?;
    // Pages that could not be written would be paid for, and pages that are done but cannot be seen
    // would be paid for again.
    let outputs =
        list_outputs(options, levels).map_err(|error| output_folder_odd(levels, &error))?;
    let Labels {
        stems,
        mut oddities,
        has_links,
    } = labels;
    add_strays(levels, &stems, &outputs, &mut oddities);
    let mut listing = BookListing {
        book,
        levels: levels.to_vec(),
        labels: Vec::with_capacity(stems.len()),
        outputs: outputs
            .stems
            .iter()
            .filter_map(|stem| encoded(&options.layout, stem))
            .collect(),
        stamp: None,
    };
    listing.outputs.sort_unstable();
    let mut last: Option<&(u32, String)> = None;
    for page in &stems {
        let (number, stem) = page;
        let name = || format!("{stem}.json");
        if let Some((_, first)) = last.filter(|(last, _)| last == number) {
            let detail = format!("page {number} is {first}.json");
            let odd = oddity(
                OddityKind::SameNumber,
                levels,
                Some(name().as_ref()),
                &detail,
            );
            oddities.push(odd);
            continue;
        }
        last = Some(page);
        match options.layout.page_key(&listing.book, stem) {
            Ok(key) => listing.labels.push(ListedPage {
                number: *number,
                key,
            }),
            Err(error) => oddities.push(oddity(
                OddityKind::BadName,
                levels,
                Some(name().as_ref()),
                &error.to_string(),
            )),
        }
    }
    let tells = oddities.is_empty() && !has_links && !outputs.has_links;
    listing.stamp = stamp.filter(|_| tells);
    Ok((listing, oddities))
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
    // An entry that cannot be read fails the whole, so that nothing goes missing.
    for entry in fs::read_dir(path_of(&options.label_dir, levels))? {
        let entry = entry?;
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
            Entry::File { is_link } => labels.has_links |= is_link,
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
            Ok(number) => labels.stems.push((number, stem.to_owned())),
            Err(fault) => odd(OddityKind::NotANumber, &fault.to_string()),
        }
    }
    labels
        .stems
        .sort_unstable_by(|(a, x), (b, y)| (a, x.len(), x).cmp(&(b, y.len(), y)));
    Ok(labels)
}

/// Lists the outputs beside the labels. A book without an output folder has none yet.
fn list_outputs(options: &FilesystemOptions, levels: &[String]) -> Result<Outputs, SourceError> {
    let folder = path_of(&options.output_dir, levels);
    if !inside::has(&options.output_dir, &folder)? {
        return Ok(Outputs::default());
    }
    match outputs(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Outputs::default()),
        listed => listed.map_err(|error| fault(&folder, &error)),
    }
}

fn outputs(folder: &Path) -> io::Result<Outputs> {
    let mut outputs = Outputs::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(mut name) = entry.file_name().into_string() else {
            continue;
        };
        let Some(stem) = name.strip_suffix(".json") else {
            continue;
        };
        let length = stem.len();
        if page_number(stem).is_err() {
            continue;
        }
        if let Entry::File { is_link } = kind(&entry) {
            outputs.has_links |= is_link;
            name.truncate(length);
            outputs.stems.push(name);
        } else {
            // A link to nowhere may lead to a file some day.
            outputs.has_links = true;
        }
    }
    Ok(outputs)
}

/// Notes outputs that have no label.
fn add_strays(
    levels: &[String],
    labels: &[(u32, String)],
    outputs: &Outputs,
    oddities: &mut Vec<Oddity>,
) {
    if outputs.stems.is_empty() {
        return;
    }
    let known: HashSet<&str> = labels.iter().map(|(_, stem)| stem.as_str()).collect();
    for stem in &outputs.stems {
        if !known.contains(stem.as_str()) {
            let name = format!("{stem}.json");
            oddities.push(oddity(
                OddityKind::OutputWithoutLabel,
                levels,
                Some(name.as_ref()),
                "left as it is",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::layout::Layout;

    /// A tree with one book of one page, and a moment at which its folders have stood still.
    fn tree() -> (tempfile::TempDir, FilesystemOptions, Vec<String>, i64) {
        let folder = tempfile::tempdir().unwrap();
        let below = |name: &str| folder.path().join(name);
        let options = FilesystemOptions {
            label_dir: below("labels"),
            image_dir: below("images"),
            output_dir: below("outputs"),
            work_dir: below("work"),
            layout: Layout::parse("{book}/{page}").unwrap(),
            image_bytes_max: 1,
            line_bytes_max: 1,
            writers: 1,
            free_bytes_min: 0,
        };
        fs::create_dir_all(below("labels/a")).unwrap();
        fs::write(below("labels/a/1.json"), "{}").unwrap();
        let later = folder_stamp::seconds_now() + 60;
        (folder, options, vec!["a".to_owned()], later)
    }

    fn listed(look: Look) -> BookListing {
        match look {
            Look::Listed(Some(listing), oddities) if oddities.is_empty() => listing,
            Look::Listed(listing, oddities) => panic!("{listing:?} {oddities:?}"),
            Look::Unchanged(book) => panic!("{book} is unchanged"),
        }
    }

    #[test]
    fn a_book_is_listed_again_when_a_label_or_an_output_comes_or_goes() {
        let (folder, options, levels, later) = tree();
        let first = listed(look(&options, &levels, &BookStamps::new(), later));
        let mut stamps = BookStamps::from([("a".to_owned(), first.stamp.unwrap())]);
        let mut next = |expected: usize| {
            let listing = listed(look(&options, &levels, &stamps, later));
            assert_eq!(listing.labels.len() + listing.outputs.len(), expected);
            stamps.insert("a".to_owned(), listing.stamp.unwrap());
            let again = look(&options, &levels, &stamps, later);
            assert!(matches!(again, Look::Unchanged(book) if book == "a"));
        };
        fs::write(folder.path().join("labels/a/2.json"), "{}").unwrap();
        next(2);
        fs::create_dir_all(folder.path().join("outputs/a")).unwrap();
        next(2);
        fs::write(folder.path().join("outputs/a/2.json"), "{}").unwrap();
        next(3);
        fs::remove_file(folder.path().join("outputs/a/2.json")).unwrap();
        next(2);
    }

    #[test]
    fn what_changed_a_moment_ago_or_holds_a_link_or_something_odd_is_never_taken_for_unchanged() {
        let (folder, options, levels, later) = tree();
        let at = |now| listed(look(&options, &levels, &BookStamps::new(), now)).stamp;
        assert_eq!(at(folder_stamp::seconds_now()), None);
        assert!(at(later).is_some());
        let link = folder.path().join("labels/a/2.json");
        std::os::unix::fs::symlink(folder.path().join("labels/a/1.json"), &link).unwrap();
        assert_eq!(at(later), None, "what a link leads to may change");
        fs::remove_file(link).unwrap();
        fs::write(folder.path().join("labels/a/notes.txt"), "").unwrap();
        let Look::Listed(Some(odd), _) = look(&options, &levels, &BookStamps::new(), later) else {
            panic!("a stray file hides no book");
        };
        assert_eq!(odd.stamp, None, "oddities are told of at every look");
    }
}
