//! The file system adapter and what it reads.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use async_trait::async_trait;

use super::durable::{blocking, fault, gone, refusal};
use super::image_folders::ImageFolders;
use super::leftovers::Swept;
use super::{image, image_stamp, walk};
use crate::adapters::regular_file;
use crate::domain::ids::{ImageStamp, RecordKey};
use crate::domain::image::{ImageFacts, ImageFault};
use crate::domain::layout::Layout;
use crate::domain::time::Timestamp;
use crate::meter::carried;
use crate::ports::page_source::{BookStamps, Content, PageSource, Scope, SourceError, Walk};

/// The longest label or output that is read, in bytes.
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where things are.
#[derive(Debug, Clone)]
pub struct FilesystemOptions {
    pub label_dir: PathBuf,
    pub image_dir: PathBuf,
    pub output_dir: PathBuf,
    /// Spool, raw results, revisions and reports stand below it.
    pub work_dir: PathBuf,
    pub layout: Layout,
    /// The largest image that is sent, in bytes.
    pub image_bytes_max: u64,
    /// The longest line of a raw result that is read, in bytes.
    pub line_bytes_max: u64,
    /// How many threads write outputs; syncing profits from about 16.
    pub writers: usize,
    /// Free space that is left on the disk of the work folder, in bytes.
    pub free_bytes_min: u64,
}

/// Reads and writes the folders of one project.
#[derive(Debug, Clone)]
pub struct Filesystem {
    pub(super) options: Arc<FilesystemOptions>,
    /// Whether outputs are known to be there: from a walk, a write, or the state.
    pub(super) has_outputs: Arc<AtomicBool>,
    pub(super) swept: Arc<Swept>,
    image_folders: Arc<ImageFolders>,
}

impl Filesystem {
    /// Takes the folders as they are; touches nothing.
    pub fn new(options: FilesystemOptions) -> Self {
        Filesystem {
            options: Arc::new(options),
            has_outputs: Arc::default(),
            swept: Arc::default(),
            image_folders: Arc::default(),
        }
    }

    /// Texts below a folder, read one after the other in one go.
    async fn texts(&self, root: &Path, keys: &[&RecordKey]) -> Vec<Result<Vec<u8>, SourceError>> {
        let path = |key: &&RecordKey| {
            let path = self.options.layout.path(root, key, "json");
            path.map_err(|error| refusal(root, &error.to_string()))
        };
        let paths: Vec<_> = keys.iter().map(path).collect();
        let (place, root) = (root.to_path_buf(), root.to_path_buf());
        let read = blocking(&place, move || {
            // Where the whole folder is gone, no single file of it is missing.
            let text = |path: Result<PathBuf, SourceError>| {
                read_bounded(&path?, TEXT_BYTES_MAX).map_err(|error| gone(&root).unwrap_or(error))
            };
            Ok(paths.into_iter().map(text).collect())
        });
        read.await
            .unwrap_or_else(|lost: SourceError| vec![Err(lost); keys.len()])
    }

    async fn text(&self, root: &Path, key: &RecordKey) -> Result<Vec<u8>, SourceError> {
        let texts = self.texts(root, &[key]).await;
        let none = || Err(refusal(root, "the work on it was cut off"));
        texts.into_iter().next().unwrap_or_else(none)
    }
}

/// When a label was last changed.
fn arrival(options: &FilesystemOptions, key: &RecordKey) -> Result<Timestamp, SourceError> {
    let root = &options.label_dir;
    let path = options
        .layout
        .path(root, key, "json")
        .map_err(|error| refusal(root, &error.to_string()))?;
    let changed = fs::metadata(&path).and_then(|facts| facts.modified());
    let changed = changed.map_err(|error| gone(root).unwrap_or_else(|| fault(&path, &error)))?;
    let micros = match changed.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    Ok(Timestamp::from_micros(micros))
}

#[async_trait(?Send)]
impl PageSource for Filesystem {
    async fn walk(&self, scope: &Scope) -> Result<Box<dyn Walk>, SourceError> {
        self.walk_changed(scope, Arc::default()).await
    }

    async fn walk_changed(
        &self,
        scope: &Scope,
        stamps: Arc<BookStamps>,
    ) -> Result<Box<dyn Walk>, SourceError> {
        let (options, scope) = (Arc::clone(&self.options), scope.clone());
        walk::start(options, scope, stamps, Arc::clone(&self.has_outputs)).await
    }

    async fn arrivals(&self, keys: Vec<RecordKey>) -> Vec<Result<Timestamp, SourceError>> {
        let options = Arc::clone(&self.options);
        let root = options.label_dir.clone();
        let count = keys.len();
        let looked = blocking(&root, move || {
            let arrivals = keys.iter().map(|key| arrival(&options, key));
            Ok(arrivals.collect())
        });
        looked
            .await
            .unwrap_or_else(|lost: SourceError| vec![Err(lost); count])
    }

    async fn label(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError> {
        self.text(&self.options.label_dir, key).await
    }

    async fn labels(&self, keys: &[&RecordKey]) -> Vec<Result<Vec<u8>, SourceError>> {
        self.texts(&self.options.label_dir, keys).await
    }

    async fn output(&self, key: &RecordKey) -> Result<Vec<u8>, SourceError> {
        self.text(&self.options.output_dir, key).await
    }

    async fn label_folder_is_empty(&self) -> bool {
        let root = self.options.label_dir.clone();
        let place = root.clone();
        let looked = blocking(&place, move || {
            let mut entries = std::fs::read_dir(&root).map_err(|error| fault(&root, &error))?;
            Ok(entries.next().is_none())
        });
        looked.await.unwrap_or(false)
    }

    async fn output_folder(&self) -> Result<(), SourceError> {
        let root = self.options.output_dir.clone();
        blocking(&root.clone(), move || gone(&root).map_or(Ok(()), Err)).await
    }

    async fn image(&self, key: &RecordKey) -> Result<(PathBuf, ImageFacts), ImageFault> {
        let (path, facts, _content) = self.image_to_send(key).await?;
        Ok((path, facts))
    }

    async fn untouched(&self, images: Vec<(RecordKey, ImageStamp)>) -> Vec<bool> {
        let options = Arc::clone(&self.options);
        let count = images.len();
        let looked = tokio::task::spawn_blocking(carried(move || {
            let holds = |(key, stamp): &(RecordKey, ImageStamp)| {
                image_stamp::holds(&options.image_dir, &options.layout, key, stamp)
            };
            images.iter().map(holds).collect()
        }));
        looked.await.unwrap_or_else(|_cut_off| vec![false; count])
    }

    async fn image_to_send(
        &self,
        key: &RecordKey,
    ) -> Result<(PathBuf, ImageFacts, Option<Content>), ImageFault> {
        let (options, folders) = (Arc::clone(&self.options), Arc::clone(&self.image_folders));
        let key = key.clone();
        let root = options.image_dir.display().to_string();
        tokio::task::spawn_blocking(carried(move || {
            image::find_and_check(
                &folders,
                (&options.image_dir, &options.layout),
                &key,
                options.image_bytes_max,
            )
        }))
        .await
        .unwrap_or_else(|_| {
            Err(ImageFault::Disk {
                path: root,
                detail: "the work on the image was cut off".to_owned(),
            })
        })
    }
}

/// Reads a regular file of at most `bytes_max` bytes; a pipe would block, a device never end.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, SourceError> {
    let (file, found) = regular_file::open(path).map_err(|error| fault(path, &error))?;
    let mut content = Vec::with_capacity(found.len().min(bytes_max) as usize);
    file.take(bytes_max + 1)
        .read_to_end(&mut content)
        .map_err(|error| fault(path, &error))?;
    if content.len() as u64 > bytes_max {
        return Err(refusal(path, &format!("longer than {bytes_max} bytes")));
    }
    Ok(content)
}
