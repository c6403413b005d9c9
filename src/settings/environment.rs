//! Whether the folders that the settings name are there.

use std::path::Path;

use super::Settings;
use super::fault::Fault;

impl Settings {
    /// Looks at the folders, and for the secret that is named; gives every fault. Asked before a run, not at loading.
    pub fn check_environment(&self) -> Vec<Fault> {
        let paths = &self.paths;
        let mut faults = Vec::new();
        for (name, folder) in [
            ("paths.label_source_dir", &paths.label_source_dir),
            ("paths.image_source_dir", &paths.image_source_dir),
        ] {
            if let Err(problem) = list(folder) {
                faults.push(Fault::new(
                    name,
                    format!("{} {problem}", folder.display()),
                    "make the folder or correct the path; it is relative to the configuration file",
                ));
            }
        }
        for (name, folder) in [
            ("paths.output_dir", &paths.output_dir),
            ("paths.work_dir", &paths.work_dir),
        ] {
            // A link that leads nowhere is something as well: its disk may not be mounted.
            if folder.symlink_metadata().is_ok() && !folder.is_dir() {
                faults.push(Fault::new(
                    name,
                    format!("{} is not a folder", folder.display()),
                    "name a folder; it is made when it is needed",
                ));
            }
        }
        faults.extend(self.alerts.missing_secret());
        faults
    }
}

fn list(folder: &Path) -> Result<(), String> {
    match std::fs::read_dir(folder) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err("does not exist".to_owned())
        }
        Err(error) => Err(format!("cannot be listed: {error}")),
    }
}
