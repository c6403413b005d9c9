//! Whether an image is still the very file that was hashed, told without reading it.
//!
//! The system changes a file's time of change with every write, rename, link and change of its facts, and
//! nobody can set that time. So a file that has the same one is the same file with the same content, as long
//! as three things hold: the file system keeps such times itself; the file had been left alone for so long
//! when it was hashed that a later change cannot have the same time; and the system has run without a break,
//! since a crash can keep what was written and lose the time of it. Where one of them is not known to hold
//! there is no stamp, and the image is read.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::folder_stamp::seconds_now;
use super::image::{is_image_extension, stem};
use crate::domain::ids::{ImageStamp, RecordKey};
use crate::domain::layout::Layout;

/// A file that changed so short a time ago has no stamp yet. It is longer than a system keeps what was
/// written through a mapping of the file in memory (30 s and 5 s more by default): only the first write to a
/// page of the file in that time is seen as a change.
const REST_SECONDS: i64 = 60;

/// How much of the digest a stamp has: enough that no two are ever the same by chance.
const DIGEST_BYTES: usize = 16;

/// The stamp of a file that was read, by its facts before and after.
pub(super) fn of_read(path: &Path, file: &File, before: &Metadata) -> Option<ImageStamp> {
    of_read_at(path, file, before, seconds_now())
}

fn of_read_at(path: &Path, file: &File, before: &Metadata, now: i64) -> Option<ImageStamp> {
    let after = file.metadata().ok()?;
    let at_rest = after.ctime().saturating_add(REST_SECONDS) <= now;
    if !at_rest || !keeps_times(file) {
        return None;
    }
    let stamp = stamp(path, &after)?;
    (self::stamp(path, before)? == stamp).then_some(stamp)
}

/// Whether the image of a page is the file that a stamp was made of, and has not changed since.
pub(super) fn holds(root: &Path, layout: &Layout, key: &RecordKey, made: &ImageStamp) -> bool {
    let Some((extension, _digest)) = made.as_str().split_once(' ') else {
        return false;
    };
    let Ok(stem) = stem(root, layout, key) else {
        return false;
    };
    if !is_image_extension(extension.as_ref()) {
        return false;
    }
    let path = stem.with_extension(extension);
    let found = fs::metadata(&path).ok().filter(Metadata::is_file);
    found.is_some_and(|found| stamp(&path, &found).as_ref() == Some(made))
}

/// The extension, by which the file is found again, and a digest of all that changes with the file.
fn stamp(path: &Path, found: &Metadata) -> Option<ImageStamp> {
    let extension = path.extension()?.to_str()?;
    let facts = format!(
        "{} {} {} {} {}.{} {}.{}",
        boot()?,
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    );
    let digest = Sha256::digest(facts.as_bytes());
    let short = hex::encode(&digest[..DIGEST_BYTES]);
    Some(ImageStamp::new(format!("{extension} {short}")))
}

/// What this run of the system is called, where it has a name.
fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let name = || fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let name = BOOT.get_or_init(|| name().map(|name| name.trim().to_owned()));
    name.as_deref().filter(|name| !name.is_empty())
}

/// Whether the file system of a file or folder is one that keeps the times of change itself. Those over a network, in user space
/// or over others may not.
#[cfg(target_os = "linux")]
pub(super) fn keeps_times(file: &File) -> bool {
    // ext2 to ext4, XFS, Btrfs, F2FS, tmpfs, from the kernel's magic numbers.
    const KINDS: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];
    // The field's width and sign differ between machines; the numbers have 32 bits.
    let kind = rustix::fs::fstatfs(file).map(|facts| facts.f_type as u64 & 0xffff_ffff);
    kind.is_ok_and(|kind| KINDS.contains(&kind))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn keeps_times(_file: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::domain::layout::Layout;

    const CONTENT: &[u8] = b"an image, as far as a stamp can tell";

    struct World {
        folder: tempfile::TempDir,
        layout: Layout,
        key: RecordKey,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::parse("{book}/{page}").unwrap();
            fs::create_dir(folder.path().join("b")).unwrap();
            fs::write(folder.path().join("b/1.jpg"), CONTENT).unwrap();
            World {
                folder,
                layout,
                key: RecordKey::from("b:1"),
            }
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("b/1.jpg")
        }

        /// The stamp of the image, as if it was read so many seconds from now.
        fn stamp(&self, later: i64) -> Option<ImageStamp> {
            let file = File::open(self.path()).unwrap();
            let before = file.metadata().unwrap();
            of_read_at(&self.path(), &file, &before, seconds_now() + later)
        }

        fn holds(&self, stamp: &ImageStamp) -> bool {
            holds(self.folder.path(), &self.layout, &self.key, stamp)
        }
    }

    #[test]
    fn f01_a_file_that_changed_a_moment_ago_has_no_stamp() {
        let world = World::new();
        assert_eq!(world.stamp(REST_SECONDS - 30), None);
        let stamp = world.stamp(REST_SECONDS + 1).unwrap();
        assert!(world.holds(&stamp));
    }

    #[test]
    fn f01_a_file_that_changes_while_it_is_read_has_no_stamp() {
        let world = World::new();
        let file = File::open(world.path()).unwrap();
        let before = file.metadata().unwrap();
        rest_a_tick(&world);
        fs::write(world.path(), CONTENT).unwrap();
        let now = seconds_now() + REST_SECONDS + 1;
        assert_eq!(of_read_at(&world.path(), &file, &before, now), None);
    }

    #[test]
    fn f01_whatever_happens_to_a_file_its_stamp_no_longer_holds() {
        type Change = fn(&World);
        let changes: [(&str, Change); 8] = [
            ("written again, the same", |world| {
                fs::write(world.path(), CONTENT).unwrap();
            }),
            ("written again, its times put back", |world| {
                let times = fs::metadata(world.path()).unwrap();
                fs::write(world.path(), CONTENT.to_ascii_uppercase()).unwrap();
                let file = File::options().write(true).open(world.path()).unwrap();
                let times = fs::FileTimes::new()
                    .set_modified(times.modified().unwrap())
                    .set_accessed(times.accessed().unwrap());
                file.set_times(times).unwrap();
            }),
            ("another one renamed over it", |world| {
                let other = world.folder.path().join("other");
                fs::write(&other, CONTENT).unwrap();
                fs::rename(other, world.path()).unwrap();
            }),
            ("taken away and back", |world| {
                let aside = world.folder.path().join("aside");
                fs::rename(world.path(), &aside).unwrap();
                fs::rename(aside, world.path()).unwrap();
            }),
            ("linked", |world| {
                fs::hard_link(world.path(), world.folder.path().join("linked")).unwrap();
            }),
            ("closed to others", |world| {
                let closed = fs::Permissions::from_mode(0o600);
                fs::set_permissions(world.path(), closed).unwrap();
            }),
            ("removed", |world| fs::remove_file(world.path()).unwrap()),
            ("another kind", |world| {
                fs::rename(world.path(), world.path().with_extension("png")).unwrap();
            }),
        ];
        for (name, change) in changes {
            let world = World::new();
            let stamp = world.stamp(REST_SECONDS + 1).unwrap();
            assert!(world.holds(&stamp), "{name}");
            rest_a_tick(&world);
            change(&world);
            assert!(!world.holds(&stamp), "{name}");
        }
    }

    /// Times of change come in steps of some milliseconds. In a run, a stamp is made a minute after them.
    fn rest_a_tick(world: &World) {
        let changed = |path: &Path| {
            let found = fs::metadata(path).unwrap();
            (found.ctime(), found.ctime_nsec())
        };
        let before = changed(&world.path());
        let probe = world.folder.path().join("probe");
        while {
            fs::write(&probe, b"").unwrap();
            changed(&probe) <= before
        } {}
    }

    #[test]
    fn a_stamp_that_is_none_holds_for_nothing() {
        let world = World::new();
        let made = world.stamp(REST_SECONDS + 1).unwrap();
        let digest = made.as_str().split_once(' ').unwrap().1;
        for odd in [
            "",
            "jpg",
            digest,
            &format!("JPG {digest}"),
            &format!("../b/1.jpg {digest}"),
            &format!("json {digest}"),
            "jpg 0",
        ] {
            assert!(!world.holds(&ImageStamp::from(odd)), "{odd}");
        }
        let other = RecordKey::from("b:2");
        assert!(!holds(world.folder.path(), &world.layout, &other, &made));
    }
}
