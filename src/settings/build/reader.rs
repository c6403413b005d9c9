//! Reads one value at a time, held to its kind and range; a value that is not what it should be
//! is noted as a fault and replaced by the default, so that no second fault follows from the first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml::Value;

use super::super::fault::Fault;
use super::super::keys::{self, Kind, closest};
use super::super::raw::{RawSettings, kind_of};
use super::super::{bytes, scope};
use crate::ports::page_source::LevelFilter;

pub struct Reader<'a> {
    raw: &'a RawSettings,
    base: &'a Path,
    pub faults: Vec<Fault>,
    #[cfg(test)]
    read: std::collections::BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub fn new(raw: &'a RawSettings, base: &'a Path) -> Self {
        Reader {
            raw,
            base,
            faults: Vec::new(),
            #[cfg(test)]
            read: std::collections::BTreeSet::new(),
        }
    }

    pub fn fault(&mut self, path: &str, problem: String, remedy: &str) {
        self.faults.push(Fault::new(path, problem, remedy));
    }

    /// What was given, or nothing for an optional setting.
    fn value(&mut self, path: &str) -> Option<&'a Value> {
        #[cfg(test)]
        self.read.insert(path.to_owned());
        self.raw.get(path).map(|given| &given.value)
    }

    fn wrong(&mut self, path: &str, value: &Value, wanted: &str) {
        self.fault(
            path,
            format!("is {}", kind_of(value)),
            &format!("write {wanted}"),
        );
    }

    pub fn optional_text(&mut self, path: &str) -> Option<String> {
        let value = self.value(path)?;
        match value {
            Value::String(text) if text.trim().is_empty() => {
                self.fault(
                    path,
                    "is empty".to_owned(),
                    "give it a value, or take the line out",
                );
                None
            }
            Value::String(text) => Some(text.clone()),
            Value::Mapping(_) => {
                self.wrong(path, value, "a text, in quotes because of its braces");
                None
            }
            _ => {
                self.wrong(
                    path,
                    value,
                    "a text, in quotes if it looks like something else",
                );
                None
            }
        }
    }

    pub fn text(&mut self, path: &str) -> String {
        let given = self.optional_text(path);
        given.unwrap_or_else(|| default(path).as_str().unwrap_or_default().to_owned())
    }

    pub fn bool(&mut self, path: &str) -> bool {
        let value = self.value(path).unwrap_or(&Value::Null);
        value.as_bool().unwrap_or_else(|| {
            self.wrong(path, value, "true or false");
            false
        })
    }

    pub fn optional_integer(&mut self, path: &str) -> Option<u64> {
        let value = self.value(path)?;
        let (min, max) = match keys::find(path).map(|key| key.kind) {
            Some(Kind::Integer { min, max }) => (min, max),
            _ => (0, u64::MAX),
        };
        match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                let problem = match value {
                    Value::Number(number) => format!("{number} is out of range"),
                    _ => format!("is {}, not a number", kind_of(value)),
                };
                self.fault(
                    path,
                    problem,
                    &format!("write a whole number from {min} to {max}"),
                );
                default(path).as_u64()
            }
        }
    }

    pub fn integer(&mut self, path: &str) -> u64 {
        self.optional_integer(path).unwrap_or_default()
    }

    /// A number whose range ends below 2^32.
    pub fn small(&mut self, path: &str) -> u32 {
        u32::try_from(self.integer(path)).unwrap_or(u32::MAX)
    }

    /// A number of things.
    pub fn count(&mut self, path: &str) -> usize {
        usize::try_from(self.integer(path)).unwrap_or(usize::MAX)
    }

    pub fn seconds(&mut self, path: &str) -> Duration {
        Duration::from_secs(self.integer(path))
    }

    pub fn bytes(&mut self, path: &str) -> u64 {
        let value = self.value(path).unwrap_or(&Value::Null);
        let (min, max) = match keys::find(path).map(|key| key.kind) {
            Some(Kind::Bytes { min, max }) => (min, max),
            _ => (0, u64::MAX),
        };
        let read = match value {
            Value::String(text) => {
                bytes::parse(text).map_err(|problem| format!("'{text}': {problem}"))
            }
            Value::Number(number) => number
                .as_u64()
                .ok_or_else(|| format!("{number} is not a whole number of bytes")),
            other => Err(format!("is {}, not a size", kind_of(other))),
        };
        let read = read.and_then(|size| match (min..=max).contains(&size) {
            true => Ok(size),
            false => Err(format!("{} is out of range", bytes::show(size))),
        });
        read.unwrap_or_else(|problem| {
            let remedy = format!(
                "write a size from {} to {}",
                bytes::show(min),
                bytes::show(max)
            );
            self.fault(path, problem, &remedy);
            default(path)
                .as_str()
                .and_then(|text| bytes::parse(text).ok())
                .unwrap_or(min)
        })
    }

    pub fn word(&mut self, path: &str) -> &'static str {
        let words: &'static [&'static str] = match keys::find(path).map(|key| key.kind) {
            Some(Kind::Word(words)) => words,
            _ => &[""],
        };
        let value = self.value(path).unwrap_or(&Value::Null);
        let text = value.as_str().unwrap_or_default();
        let known = words.iter().find(|word| **word == text);
        known.unwrap_or_else(|| {
            let problem = match value {
                Value::String(text) => format!("'{text}' is not one of {}", words.join(", ")),
                other => format!("is {}, not one of {}", kind_of(other), words.join(", ")),
            };
            let remedy = closest(text, words.iter().copied()).map_or_else(
                || "choose one of them".to_owned(),
                |near| format!("did you mean '{near}'?"),
            );
            self.fault(path, problem, &remedy);
            &words[0]
        })
    }

    /// Some of the words of a setting, in the order in which they were given.
    pub fn words(&mut self, path: &str) -> Vec<&'static str> {
        let known: &'static [&'static str] = match keys::find(path).map(|key| key.kind) {
            Some(Kind::Words(words)) => words,
            _ => &[],
        };
        let value = self.value(path).unwrap_or(&Value::Null);
        let remedy = format!("write a list such as [{}]", known.join(", "));
        let Some(list) = value.as_sequence() else {
            let problem = format!("is {}, not a list", kind_of(value));
            self.fault(path, problem, &remedy);
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in list {
            let text = item.as_str().unwrap_or_default();
            let word = known.iter().copied().find(|word| *word == text);
            match word.filter(|word| !found.contains(word)) {
                Some(word) => found.push(word),
                None => {
                    let shown = item
                        .as_str()
                        .map_or_else(|| kind_of(item).to_owned(), |text| format!("'{text}'"));
                    let problem = if word.is_some() {
                        format!("names {shown} twice")
                    } else {
                        format!("{shown} is not one of {}", known.join(", "))
                    };
                    self.fault(path, problem, &remedy);
                }
            }
        }
        if list.is_empty() {
            self.fault(path, "is an empty list".to_owned(), &remedy);
        }
        found
    }

    pub fn optional_path(&mut self, path: &str) -> Option<PathBuf> {
        let text = self.optional_text(path)?;
        if text == "~" || text.starts_with("~/") {
            let problem = "starts with '~', which only a shell understands".to_owned();
            self.fault(path, problem, "write the folder out");
        }
        if text.contains('\0') {
            self.fault(path, "holds a NUL character".to_owned(), "take it out");
        }
        Some(self.absolute(Path::new(&text)))
    }

    pub fn path(&mut self, path: &str) -> PathBuf {
        self.optional_path(path).unwrap_or_default()
    }

    /// A path below the folder of the configuration file, without `.` and `..`.
    pub fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        super::checks::normalized(&self.base.join(path))
    }

    /// One name without folders.
    pub fn file_name(&mut self, path: &str) -> String {
        let text = self.text(path);
        if text == "." || text == ".." || text.contains(['/', '\\', '\0']) {
            let problem = format!("'{text}' is not a single name");
            self.fault(
                path,
                problem,
                "name it without folders; registry_dir says where it is",
            );
        }
        text
    }

    /// A list of texts, none of them empty; empty when it is absent.
    pub fn texts(&mut self, path: &str) -> Vec<String> {
        let Some(value) = self.value(path) else {
            return Vec::new();
        };
        let items = value.as_sequence().filter(|items| !items.is_empty());
        let texts: Option<Vec<String>> = items.and_then(|items| {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect()
        });
        let is_good = |texts: &Vec<String>| {
            texts
                .iter()
                .all(|text| !text.is_empty() && !text.contains('\0'))
        };
        texts.filter(is_good).unwrap_or_else(|| {
            self.fault(
                path,
                "is not a list of texts".to_owned(),
                "write it like [/usr/local/bin/notify, --urgent]",
            );
            Vec::new()
        })
    }

    pub fn filter(&mut self, path: &str) -> Option<LevelFilter> {
        let value = self.value(path)?;
        scope::read_filter(path, value)
            .map_err(|fault| self.faults.push(fault))
            .ok()
    }

    pub fn filter_map(&mut self, path: &str) -> Vec<(String, LevelFilter)> {
        let mut filters = Vec::new();
        for (level, value) in self.entries(path) {
            match scope::read_filter(&format!("{path}.{level}"), &value) {
                _ if value.is_null() => {}
                Ok(filter) => filters.push((level, filter)),
                Err(fault) => self.faults.push(fault),
            }
        }
        filters
    }

    /// The entries of a mapping whose entries are merged.
    pub fn entries(&mut self, path: &str) -> Vec<(String, Value)> {
        if let Some(value) = self.value(path) {
            self.wrong(path, value, "a mapping");
        }
        let entries = self.raw.entries(path);
        entries
            .map(|(name, given)| (name.to_owned(), given.value.clone()))
            .collect()
    }

    /// Holds the list of settings to what is read from it.
    #[cfg(test)]
    pub fn assert_all_read(&self) {
        let listed: std::collections::BTreeSet<String> = super::super::table::KEYS
            .iter()
            .map(|key| key.path.to_owned())
            .collect();
        assert_eq!(
            self.read, listed,
            "a setting is listed but not read, or read but not listed"
        );
    }
}

/// The default of a setting; null for an optional one.
fn default(path: &str) -> Value {
    let text = keys::find(path).map_or("", |key| key.default);
    serde_yaml::from_str(text).unwrap_or_default()
}
