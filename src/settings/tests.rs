//! Loading, from real folders, with an environment of the test's own.

mod alerts;
mod faults;
mod layers;
mod texts;

use std::fs;

use super::*;

/// A folder with what a configuration needs around it.
struct Place {
    folder: tempfile::TempDir,
    env: BTreeMap<String, String>,
    flags: Vec<(String, String)>,
}

impl Place {
    fn new(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pagemill.yaml"), yaml).unwrap();
        Place {
            folder,
            env: BTreeMap::new(),
            flags: Vec::new(),
        }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, path: &str, value: &str) -> Self {
        self.flags.push((path.to_owned(), value.to_owned()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn sources(&self) -> Sources {
        Sources {
            file: None,
            env: self.env.clone(),
            flags: self.flags.clone(),
            cwd: self.folder.path().to_path_buf(),
        }
    }

    fn load(&self) -> Result<Loaded, SettingsError> {
        load(self.sources())
    }

    fn settings(&self) -> Settings {
        self.load()
            .unwrap_or_else(|error| panic!("{error}"))
            .settings
    }

    /// The faults, each on its line.
    fn faults(&self) -> String {
        self.load().expect_err("must be at fault").to_string()
    }
}
