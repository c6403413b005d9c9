//! The same runs against the real service: a few pages of the project, copied, with its own prompt, schema
//! and model, and a state of their own.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::knobs::Point;
use super::point::PointOrder;
use super::project::Project;
use crate::domain::ids::RecordKey;
use crate::domain::image::ImageFault;
use crate::pipeline::from_settings;
use crate::ports::page_source::{Found, PageSource, SourceError};
use crate::settings::Settings;

/// Pages of one run that are paid for, at most and where nobody says it.
pub const PAGES_MAX: u64 = 1_000;
pub const PAGES: u64 = 20;
/// The pause between two beats, as in a run.
const BEAT_MS: u64 = 250;

/// Why pages of the project cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LiveFault {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the image of {key} cannot be sent: {fault}")]
    Image { key: RecordKey, fault: ImageFault },
    #[error("there is no page to measure with: {} holds no label in scope", .0.display())]
    NoPages(PathBuf),
    #[error("cannot write '{}': {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Copies the first pages of the project's scope into a folder.
pub async fn copy_pages(
    settings: &Settings,
    config_file: &Path,
    root: &Path,
    pages: u64,
) -> Result<Project, LiveFault> {
    let tree = from_settings::filesystem(settings);
    let keys = first_keys(settings, &tree, pages).await?;
    if keys.is_empty() {
        return Err(LiveFault::NoPages(settings.paths.label_source_dir.clone()));
    }
    let (labels, images) = (root.join("labels"), root.join("images"));
    let mut bytes = 0;
    for key in &keys {
        let text = tree.label(key).await?;
        let checked = tree.image(key).await;
        let (image, facts) = checked.map_err(|fault| LiveFault::Image {
            key: key.clone(),
            fault,
        })?;
        let extension = image.extension().and_then(|extension| extension.to_str());
        let place = |top: &Path, extension: &str| {
            let path = settings.paths.layout.path(top, key, extension);
            path.map_err(|fault| LiveFault::Io {
                path: top.to_owned(),
                source: io::Error::other(fault.to_string()),
            })
        };
        write(&place(&labels, "json")?, |path| fs::write(path, &text))?;
        let to = place(&images, extension.unwrap_or("jpg"))?;
        write(&to, |path| fs::copy(&image, path).map(|_bytes| ()))?;
        bytes += facts.bytes;
    }
    Ok(Project {
        labels,
        images,
        config_file: config_file.to_owned(),
        pages: keys.len() as u64,
        image_bytes: bytes / keys.len() as u64,
    })
}

async fn first_keys(
    settings: &Settings,
    tree: &impl PageSource,
    pages: u64,
) -> Result<Vec<RecordKey>, SourceError> {
    let scope = settings.scope();
    let mut walk = tree.walk(&scope).await?;
    let mut keys = Vec::new();
    while let Some(chunk) = walk.next().await {
        for found in chunk {
            if let Found::Book(book) = found {
                keys.extend(book.labels.into_iter().map(|page| page.key));
            }
        }
        if keys.len() as u64 >= pages {
            break;
        }
    }
    keys.truncate(usize::try_from(pages).unwrap_or(usize::MAX));
    Ok(keys)
}

fn write(path: &Path, work: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), LiveFault> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let done = fs::create_dir_all(folder).and_then(|()| work(path));
    done.map_err(|source| LiveFault::Io {
        path: path.to_owned(),
        source,
    })
}

/// A run of the copied pages with the project's own configuration. A page that fails is not asked about
/// again, so that no run costs more than was estimated.
pub fn order(settings: &Settings, point: &Point, project: &Project, folder: &Path) -> PointOrder {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let database = format!("sqlite://{}", folder.join("state.db").to_string_lossy());
    let flags: [(&str, String); 17] = [
        ("paths.label_source_dir", quoted(&project.labels)),
        ("paths.image_source_dir", quoted(&project.images)),
        ("paths.output_dir", quoted(&folder.join("outputs"))),
        ("paths.work_dir", quoted(&folder.join("work"))),
        ("state.url", serde_json::Value::from(database).to_string()),
        ("execution.context", "none".to_owned()),
        ("execution.max_retries", "0".to_owned()),
        ("execution.max_releases", "1".to_owned()),
        ("execution.batch_size_limit", point.batch_size.to_string()),
        (
            "execution.max_concurrent_batches",
            point.live_batches.to_string(),
        ),
        (
            "files.upload_concurrency",
            point.upload_concurrency.to_string(),
        ),
        (
            "files.uploads_per_second",
            point.uploads_per_second.to_string(),
        ),
        ("batch.keep_remote_jobs", "false".to_owned()),
        ("breaker.pilot_pages", "0".to_owned()),
        ("breaker.nothing_accepted", "0".to_owned()),
        ("breaker.accept_percent", "0".to_owned()),
        ("recovery.auto", "true".to_owned()),
    ];
    let poll = settings.batch.poll_interval.as_millis();
    PointOrder {
        config_file: Some(project.config_file.clone()),
        cwd: std::env::current_dir().unwrap_or_default(),
        flags: flags
            .into_iter()
            .map(|(path, text)| (path.to_owned(), text))
            .collect(),
        env: BTreeMap::new(),
        inherits_env: true,
        state_file: folder.join("state.db"),
        pages: project.pages,
        poll_ms: u64::try_from(poll).unwrap_or(u64::MAX),
        beat_ms: BEAT_MS,
    }
}
