//! A project in a temporary folder.

use std::fs;
use std::path::PathBuf;

use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::domain::ids::RecordKey;
use pagemill::domain::layout::Layout;
use tempfile::TempDir;

pub const LINE_BYTES_MAX: u64 = 1024 * 1024;
pub const IMAGE_BYTES_MAX: u64 = 64 * 1024;

pub struct World {
    pub folder: TempDir,
    pub files: Filesystem,
}

impl World {
    pub fn new() -> Self {
        Self::with_layout("{state}/{school}/{year}/{page}")
    }

    pub fn with_free_bytes_min(free_bytes_min: u64) -> Self {
        Self::with("{page}", free_bytes_min)
    }

    pub fn with_layout(layout: &str) -> Self {
        Self::with(layout, 0)
    }

    fn with(layout: &str, free_bytes_min: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("labels")).unwrap();
        let files = Filesystem::new(FilesystemOptions {
            label_dir: folder.path().join("labels"),
            image_dir: folder.path().join("images"),
            output_dir: folder.path().join("outputs"),
            work_dir: folder.path().join("work"),
            layout: Layout::parse(layout).unwrap(),
            image_bytes_max: IMAGE_BYTES_MAX,
            line_bytes_max: LINE_BYTES_MAX,
            writers: 4,
            free_bytes_min,
        });
        World { folder, files }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Writes a file, and the folders above it.
    pub fn put(&self, below: &str, content: &[u8]) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Every file below a folder, relative to it, sorted.
    pub fn tree(&self, below: &str) -> Vec<String> {
        let root = self.path(below);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let below = path.strip_prefix(&root).unwrap();
                    found.push(below.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }
}

pub fn key(text: &str) -> RecordKey {
    RecordKey::from(text)
}
