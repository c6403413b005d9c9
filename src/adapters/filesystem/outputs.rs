//! Writing many outputs at once: in parallel, one sync per folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::durable::{fault, folder_of, refusal, replace, sync_folder};
use super::inside::prepare;
use super::leftovers::{Swept, sweep_outputs};
use super::source::FilesystemOptions;
use crate::domain::ids::{RecordKey, Sha256Hex};
use crate::meter::carried;
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::Written;

/// Writes outputs and answers in their order.
pub(super) fn write_all(
    options: &FilesystemOptions,
    outputs: &[(RecordKey, Vec<u8>)],
    swept: &Swept,
) -> Vec<Result<Written, SourceError>> {
    let mut paths = Vec::with_capacity(outputs.len());
    let mut seen = BTreeSet::new();
    let mut folders = BTreeMap::new();
    for (key, _content) in outputs {
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
    let mut written = in_parallel(options.writers, outputs.len(), |at| {
        let path = paths[at].as_ref().map_err(Clone::clone)?;
        let content = &outputs[at].1;
        replace(path, content).map_err(|error| fault(path, &error))?;
        Ok(Written {
            sha256: Sha256Hex::new(hex::encode(Sha256::digest(content))),
            bytes: content.len() as u64,
        })
    });
    let touched: BTreeSet<&Path> = paths
        .iter()
        .zip(&written)
        .filter(|(_path, outcome)| outcome.is_ok())
        .filter_map(|(path, _outcome)| path.as_ref().ok().map(|path| folder_of(path)))
        .collect();
    let touched: Vec<&Path> = touched.into_iter().collect();
    let synced = in_parallel(options.writers, touched.len(), |at| {
        sync_folder(touched[at]).map_err(|error| fault(touched[at], &error))
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
    folders: &mut BTreeMap<PathBuf, Result<(), SourceError>>,
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

/// Runs `work` for every index on up to `threads` threads; answers in the order of the indexes.
pub(super) fn in_parallel<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, SourceError> + Sync,
) -> Vec<Result<T, SourceError>> {
    let threads = threads.clamp(1, count.max(1));
    if threads == 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<T, SourceError>>>> =
        (0..count).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _thread in 0..threads {
            scope.spawn(carried(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(slot) = slots.get(at) else { break };
                    let outcome = work(at);
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(outcome);
                    }
                }
            }));
        }
    });
    slots
        .into_iter()
        .map(|slot| {
            slot.into_inner()
                .ok()
                .flatten()
                .unwrap_or_else(|| Err(refusal(Path::new(""), "the writer was cut off")))
        })
        .collect()
}
