//! The names of images, by folder. Most pages are looked for beside their neighbors: a folder that is asked
//! about twice is listed once, which costs less than trying a dozen names for each of its pages.
//!
//! A listing is only ever believed while the folder stands as it stood, on a file system that keeps the time
//! of its last change, and only in what it names: who finds nothing in it looks at the folder itself.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::folder_stamp::{of_folder, seconds_now, stands_still};
use super::image::is_image_extension;
use super::image_stamp::keeps_times;
use crate::ports::page_source::FolderStamp;

/// Names that are kept of one folder; a larger one is not listed.
const NAMES_A_FOLDER: usize = 20_000;
/// Names that are kept of all folders, some 100 bytes each.
const NAMES: usize = 50_000;
/// Folders that are remembered, listed or not.
const FOLDERS: usize = 256;

/// What is known of image folders; shared by the threads that look for images.
#[derive(Debug, Default)]
pub(super) struct ImageFolders(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    folders: HashMap<PathBuf, Folder>,
    names: usize,
    /// Counts questions, to tell which folder was asked about last.
    asked: u64,
}

#[derive(Debug)]
struct Folder {
    asked: u64,
    listing: Option<Arc<Listing>>,
}

/// The images of a folder: the extensions, by stem.
#[derive(Debug)]
struct Listing {
    stamp: FolderStamp,
    extensions: HashMap<OsString, Vec<OsString>>,
    names: usize,
}

impl ImageFolders {
    /// The images of a stem, as far as the folder's listing names them; empty where that says nothing.
    pub(super) fn named(&self, stem: &Path) -> Vec<PathBuf> {
        self.named_at(stem, seconds_now())
    }

    fn named_at(&self, stem: &Path, now: i64) -> Vec<PathBuf> {
        let (Some(folder), Some(name)) = (stem.parent(), stem.file_name()) else {
            return Vec::new();
        };
        let Some(listing) = self.listing(folder, now) else {
            return Vec::new();
        };
        let extensions = listing.extensions.get(name);
        let paths = extensions.into_iter().flatten().map(|extension| {
            let mut file = name.to_owned();
            file.push(".");
            file.push(extension);
            folder.join(file)
        });
        paths.collect()
    }

    /// A listing that still holds, of a folder that was asked about before.
    fn listing(&self, folder: &Path, now: i64) -> Option<Arc<Listing>> {
        let former = self.ask(folder)?;
        let stamp = of_folder(folder).ok()?;
        if let Some(listing) = former.filter(|listing| listing.stamp == stamp) {
            return Some(listing);
        }
        if !stands_still(&stamp, now) {
            return None;
        }
        let listing = Arc::new(list(folder, stamp, NAMES_A_FOLDER).ok()?);
        self.keep(folder, &listing);
        Some(listing)
    }

    /// What is known of a folder; nothing at the first question.
    fn ask(&self, folder: &Path) -> Option<Option<Arc<Listing>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked += 1;
        let asked = known.asked;
        if let Some(found) = known.folders.get_mut(folder) {
            found.asked = asked;
            return Some(found.listing.clone());
        }
        let listing = None;
        known
            .folders
            .insert(folder.to_owned(), Folder { asked, listing });
        known.forget_some();
        None
    }

    fn keep(&self, folder: &Path, listing: &Arc<Listing>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = known.asked;
        let kept = Folder {
            asked,
            listing: Some(Arc::clone(listing)),
        };
        let former = known.folders.insert(folder.to_owned(), kept);
        let former = former.and_then(|folder| folder.listing);
        known.names -= former.map_or(0, |listing| listing.names);
        known.names += listing.names;
        known.forget_some();
    }
}

impl Known {
    /// Forgets the folders that were asked about longest ago, until the others are few enough.
    fn forget_some(&mut self) {
        while self.names > NAMES || self.folders.len() > FOLDERS {
            let oldest = self.folders.iter().min_by_key(|(_path, it)| it.asked);
            let Some(path) = oldest.map(|(path, _folder)| path.clone()) else {
                return;
            };
            let forgotten = self.folders.remove(&path);
            let listing = forgotten.and_then(|folder| folder.listing);
            self.names -= listing.map_or(0, |listing| listing.names);
        }
    }
}

/// Lists a folder that had this stamp before. A listing that could not be relied on, or would be too long,
/// names nothing.
fn list(folder: &Path, stamp: FolderStamp, names_max: usize) -> io::Result<Listing> {
    let nothing = Listing {
        stamp,
        extensions: HashMap::new(),
        names: 0,
    };
    if !keeps_times(&File::open(folder)?) {
        return Ok(nothing);
    }
    let mut extensions: HashMap<OsString, Vec<OsString>> = HashMap::new();
    let mut names = 0;
    for entry in fs::read_dir(folder)? {
        let name = PathBuf::from(entry?.file_name());
        let (Some(stem), Some(extension)) = (name.file_stem(), name.extension()) else {
            continue;
        };
        if !is_image_extension(extension) || !in_one_case(extension) {
            continue;
        }
        names += 1;
        if names > names_max {
            return Ok(nothing);
        }
        let known = extensions.entry(stem.to_owned()).or_default();
        known.push(extension.to_owned());
    }
    if of_folder(folder)? != stamp {
        return Ok(nothing);
    }
    Ok(Listing {
        stamp,
        extensions,
        names,
    })
}

/// Extensions in mixed case count only where there is no other image.
fn in_one_case(extension: &OsStr) -> bool {
    extension.to_ascii_lowercase() == extension || extension.to_ascii_uppercase() == extension
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        folder: tempfile::TempDir,
        folders: ImageFolders,
    }

    impl World {
        fn new(names: &[&str]) -> Self {
            let world = World {
                folder: tempfile::tempdir().unwrap(),
                folders: ImageFolders::default(),
            };
            for name in names {
                world.put(name);
            }
            world
        }

        fn put(&self, name: &str) {
            fs::write(self.folder.path().join(name), b"").unwrap();
        }

        /// What a listing names for a stem, long after the folder's last change.
        fn named(&self, stem: &str) -> Vec<String> {
            let stem = self.folder.path().join(stem);
            let mut named: Vec<String> = self
                .folders
                .named_at(&stem, seconds_now() + 10)
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect();
            named.sort();
            named
        }
    }

    #[test]
    fn a_folder_is_listed_at_the_second_question() {
        let world = World::new(&["1.jpg", "2.PNG", "2.jpg", "3.Jpg", "4.txt", "5"]);
        assert!(world.named("1").is_empty());
        assert_eq!(world.named("1"), ["1.jpg"]);
        assert_eq!(world.named("2"), ["2.PNG", "2.jpg"]);
        for stem in ["3", "4", "5", "6"] {
            assert!(world.named(stem).is_empty(), "{stem}");
        }
    }

    #[test]
    fn a_listing_is_not_believed_once_the_folder_changed() {
        let world = World::new(&["1.jpg"]);
        let folder = world.folder.path();
        world.named("1");
        assert_eq!(world.named("1"), ["1.jpg"]);
        rest_a_tick(&world);
        fs::rename(folder.join("1.jpg"), folder.join("1.png")).unwrap();
        let stem = folder.join("1");
        assert!(world.folders.named_at(&stem, seconds_now()).is_empty());
        assert_eq!(world.named("1"), ["1.png"]);
        rest_a_tick(&world);
        fs::remove_file(folder.join("1.png")).unwrap();
        assert!(world.named("1").is_empty());
        rest_a_tick(&world);
        world.put("1.jpg");
        assert_eq!(world.named("1"), ["1.jpg"]);
        rest_a_tick(&world);
        world.put("1.webp");
        assert_eq!(world.named("1"), ["1.jpg", "1.webp"]);
    }

    /// Times of change come in steps of some milliseconds. In a run, a folder is listed seconds after them.
    fn rest_a_tick(world: &World) {
        let before = of_folder(world.folder.path()).unwrap().changed;
        let probe = tempfile::tempdir().unwrap();
        while {
            fs::write(probe.path().join("probe"), b"").unwrap();
            fs::remove_file(probe.path().join("probe")).unwrap();
            of_folder(probe.path()).unwrap().changed <= before
        } {}
    }

    #[test]
    fn too_many_names_are_not_kept() {
        let world = World::new(&["1.jpg", "2.jpg", "3.jpg"]);
        let stamp = of_folder(world.folder.path()).unwrap();
        let listed = |max| list(world.folder.path(), stamp, max).unwrap().names;
        assert_eq!((listed(3), listed(2)), (3, 0));
        let stem = |folder: usize| PathBuf::from(format!("/nowhere/{folder}/1"));
        for folder in 0..3 * FOLDERS {
            world.folders.named(&stem(folder));
        }
        let known = world.folders.0.lock().unwrap();
        assert_eq!(known.folders.len(), FOLDERS);
        let last = stem(3 * FOLDERS - 1);
        assert!(known.folders.contains_key(last.parent().unwrap()));
    }
}
