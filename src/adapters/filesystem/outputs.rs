//! Writing many outputs at once: in parallel, one sync per folder.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::durable::{fault, folder_of, refusal, replace, sync_folder};
use super::inside::prepare;
use super::leftovers::{Swept, sweep_outputs};
use super::parallel::on_pool;
use super::source::FilesystemOptions;
use crate::domain::ids::{RecordKey, Sha256Hex};
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::Written;

/// Writes outputs and answers in their order.
pub(super) fn write_all(
    options: &FilesystemOptions,
    outputs: Vec<(RecordKey, Vec<u8>)>,
    swept: &Swept,
) -> Vec<Result<Written, SourceError>> {
    let count = outputs.len();
    let mut paths = Vec::with_capacity(count);
    let mut seen = HashSet::with_capacity(count);
    let mut folders = HashMap::new();
    for (key, _content) in &outputs {
        let path = target(options, key, &mut folders).and_then(|path| {
            if seen.insert(path.clone()) {
                Ok(path)
            } else {
                Err(refusal(&path, "two outputs for one page in one call"))
            }
        });
        paths.push(path);
    }
    sweep_outputs(swept, folders.keys().map(PathBuf::as_path));
    let paths = Arc::new(paths);
    let targets = Arc::clone(&paths);
    let mut written = on_pool(options.writers, count, move |at| {
        let path = targets[at].as_ref().map_err(Clone::clone)?;
        let content = &outputs[at].1;
        replace(path, content).map_err(|error| fault(path, &error))?;
        Ok(Written {
            sha256: Sha256Hex::new(hex::encode(Sha256::digest(content))),
            bytes: content.len() as u64,
        })
    });
    let touched: HashSet<&Path> = paths
        .iter()
        .zip(&written)
        .filter(|(_path, outcome)| outcome.is_ok())
        .filter_map(|(path, _outcome)| path.as_ref().ok().map(|path| folder_of(path)))
        .collect();
    let touched: Vec<PathBuf> = touched.into_iter().map(Path::to_path_buf).collect();
    let touched = Arc::new(touched);
    let to_sync = Arc::clone(&touched);
    let synced = on_pool(options.writers, touched.len(), move |at| {
        sync_folder(&to_sync[at]).map_err(|error| fault(&to_sync[at], &error))
    });
    // A rename that is not synced may not outlive a power cut: it does not count as written.
    for (folder, outcome) in touched.iter().zip(synced) {
        let Err(error) = outcome else { continue };
        for (path, outcome) in paths.iter().zip(&mut written) {
            if path.as_ref().is_ok_and(|path| folder_of(path) == *folder) {
                *outcome = Err(error.clone());
            }
        }
    }
    written
}

/// The path of an output, in a folder that exists and lies below the output folder.
fn target(
    options: &FilesystemOptions,
    key: &RecordKey,
    folders: &mut HashMap<PathBuf, Result<(), SourceError>>,
) -> Result<PathBuf, SourceError> {
    let root = &options.output_dir;
    let path = options
        .layout
        .path(root, key, "json")
        .map_err(|error| refusal(root, &error.to_string()))?;
    let folder = folder_of(&path).to_path_buf();
    folders
        .entry(folder)
        .or_insert_with_key(|folder| prepare(root, folder))
        .clone()?;
    Ok(path)
}
