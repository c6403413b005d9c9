//! Writing many outputs at once: in parallel, one sync per folder.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::durable::{Begun, fault, folder_of, refusal, sync_folder};
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
    let together = together(options.writers, count);
    let written = on_pool(options.writers, count.div_ceil(together), move |group| {
        let first = group * together;
        let last = (first + together).min(count);
        Ok(write_some(&targets[first..last], &outputs[first..last]))
    });
    let mut written: Vec<Result<Written, SourceError>> = written
        .into_iter()
        .flat_map(|group| group.unwrap_or_else(|error| vec![Err(error); together]))
        .take(count)
        .collect();
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

/// Files that one call has open at a time. The system allows a process a thousand by default, and three runs
/// of outputs may be written at once.
const OPEN_MAX: usize = 192;

/// How many files a writer sets out before it syncs them: as many as may be open, and no more than leave every
/// writer something to do.
fn together(writers: usize, count: usize) -> usize {
    let writers = writers.max(1);
    (OPEN_MAX / writers).min(count.div_ceil(writers)).max(1)
}

/// Writes some outputs, then makes them durable one by one.
fn write_some(
    targets: &[Result<PathBuf, SourceError>],
    outputs: &[(RecordKey, Vec<u8>)],
) -> Vec<Result<Written, SourceError>> {
    let begun: Vec<_> = targets
        .iter()
        .zip(outputs)
        .map(|(target, (_key, content))| {
            let path = target.as_ref().map_err(Clone::clone)?;
            let begun = Begun::write(path, content).map_err(|error| fault(path, &error))?;
            let written = Written {
                sha256: Sha256Hex::new(hex::encode(Sha256::digest(content))),
                bytes: content.len() as u64,
            };
            Ok((path, begun.set_out(), written))
        })
        .collect();
    let finished = begun.into_iter().map(|begun| {
        let (path, begun, written) = begun?;
        begun.finish().map_err(|error| fault(path, &error))?;
        Ok(written)
    });
    finished.collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_writer_is_idle_and_not_too_many_files_are_open() {
        for (writers, count, expected) in [
            (16, 512, 12),
            (16, 100, 7),
            (16, 16, 1),
            (16, 3, 1),
            (1, 1_000, 192),
            (64, 10_000, 3),
            (1_000, 10_000, 1),
            (0, 5, 5),
        ] {
            assert_eq!(together(writers, count), expected, "{writers} {count}");
        }
    }
}
