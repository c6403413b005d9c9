//! Where a command may write what an operator asked for: nowhere that pagemill keeps things itself.

use std::path::{Path, PathBuf};

use crate::adapters::filesystem::export::lies_in;
use crate::settings::Settings;

/// A place that is not for this.
#[derive(Debug, thiserror::Error)]
pub enum TargetFault {
    #[error("{path} lies in {folder}, which is {role}: name a file elsewhere")]
    Kept {
        path: String,
        folder: String,
        role: &'static str,
    },
    #[error("{0} is the database, or belongs to it: name another file")]
    Database(String),
}

/// Refuses a path in the folders of labels, images and outputs, among what pagemill keeps in its
/// work folder, and the database itself.
pub fn refuse_kept(settings: &Settings, path: &Path) -> Result<(), TargetFault> {
    let paths = &settings.paths;
    let work = |name: &str| paths.work_dir.join(name);
    let kept: [(PathBuf, &'static str); 7] = [
        (paths.label_source_dir.clone(), "paths.label_source_dir"),
        (paths.image_source_dir.clone(), "paths.image_source_dir"),
        (paths.output_dir.clone(), "paths.output_dir"),
        (work("raw"), "where raw results are kept"),
        (work("spool"), "where requests are built"),
        (work("batches"), "where live batches are kept"),
        (work("revisions"), "where former outputs are kept"),
    ];
    for (folder, role) in kept {
        if lies_in(path, &[&folder]).is_some() {
            return Err(TargetFault::Kept {
                path: path.display().to_string(),
                folder: folder.display().to_string(),
                role,
            });
        }
    }
    let database = &settings.state.sqlite_file;
    let name = |path: &Path| path.file_name().map(|name| name.to_owned());
    let of_database = ["", "-wal", "-shm", ".lock"].iter().any(|ending| {
        let mut beside = database.clone().into_os_string();
        beside.push(ending);
        let beside = PathBuf::from(beside);
        let folder = database.parent().unwrap_or(Path::new("."));
        name(path) == name(&beside) && lies_in(path, &[folder]).is_some()
    });
    if of_database {
        return Err(TargetFault::Database(path.display().to_string()));
    }
    Ok(())
}
