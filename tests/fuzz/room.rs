//! A folder to put inputs into, one for each thread, and the adapter that reads them.

use std::fs;
use std::path::PathBuf;

use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::domain::ids::RecordKey;
use pagemill::domain::image::{ImageFacts, ImageFault};
use pagemill::domain::layout::Layout;
use pagemill::ports::page_source::PageSource;
use pagemill::ports::result_sink::{RawText, ResultSink};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Short, so that many inputs are longer.
pub const LINE_BYTES_MAX: u64 = 300;
pub const IMAGE_BYTES_MAX: u64 = 1024 * 1024;
/// The key that must not be repeated.
pub const KEY: &str = "planted-key-7f3a9c1e55d2";

/// Folder, adapter and the runtime that its calls need.
pub struct Room {
    pub files: Filesystem,
    folder: TempDir,
    runtime: Runtime,
}

/// Works in this thread's room.
pub fn in_room<T>(work: impl FnOnce(&Room) -> T) -> T {
    thread_local! {
        static ROOM: Room = Room::new();
    }
    ROOM.with(work)
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::create_dir_all(root.join("image/a/b/c")).expect("a folder in a new one");
        fs::create_dir_all(root.join("project")).expect("a folder in a new one");
        Room {
            files: Filesystem::new(FilesystemOptions {
                free_bytes_min: 0,
                label_dir: root.join("label"),
                image_dir: root.join("image"),
                output_dir: root.join("output"),
                work_dir: root.join("work"),
                layout: Layout::parse("{state}/{school}/{year}/{page}").expect("a layout"),
                image_bytes_max: IMAGE_BYTES_MAX,
                line_bytes_max: LINE_BYTES_MAX,
                writers: 1,
            }),
            folder,
            runtime: Builder::new_current_thread()
                .build()
                .expect("a runtime without drivers"),
        }
    }

    /// Writes a file of the room.
    pub fn put(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, data).expect("a file of the room");
        path
    }

    /// A project's folder with these two files.
    pub fn configured(&self, file: &[u8], dot_env: &[u8]) -> PathBuf {
        self.put("project/pagemill.yaml", file);
        self.put("project/.env", dot_env);
        self.folder.path().join("project")
    }

    pub fn wait_for<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The lines of a raw result file.
    pub fn lines_of(&self, data: &[u8]) -> Vec<RawText> {
        let path = self.put("raw.jsonl", data);
        self.wait_for(async {
            let mut reader = self.files.open_raw(&path).await.expect("it is there");
            let mut lines: Vec<RawText> = Vec::new();
            while let Some(run) = reader.next_lines().await.expect("it can be read") {
                assert!(run.len() <= 512, "a run of {} lines", run.len());
                lines.extend(run);
            }
            for line in lines.iter().take(8) {
                let again = self.files.raw_line(&path, line.offset, line.bytes).await;
                assert_eq!(again.ok(), line.text, "a line read by its place");
            }
            lines
        })
    }

    /// What becomes of a page whose image these bytes are.
    pub fn image_of(&self, data: &[u8]) -> Result<(PathBuf, ImageFacts), ImageFault> {
        self.put("image/a/b/c/1.jpg", data);
        self.wait_for(self.files.image(&RecordKey::from("a:b:c:1")))
    }
}
