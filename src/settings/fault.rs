//! What is wrong with the settings, in words for the person who wrote them.

use std::fmt;

use super::secret::ApiKey;

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The dotted path of the setting, or the name of a file or variable.
    pub path: String,
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    pub fn new(
        path: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Fault {
            path: path.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.problem, self.remedy)
    }
}

/// Everything that is wrong; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    pub faults: Vec<Fault>,
}

impl SettingsError {
    /// Takes the faults, sorted by path, each once, with the key masked.
    pub fn new(mut faults: Vec<Fault>, key: Option<&ApiKey>) -> Self {
        if let Some(key) = key {
            for fault in &mut faults {
                fault.path = key.mask(&fault.path);
                fault.problem = key.mask(&fault.problem);
                fault.remedy = key.mask(&fault.remedy);
            }
        }
        faults.sort();
        faults.dedup();
        SettingsError { faults }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.faults.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(fault, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}
