//! The settings as typed: what was given, from where, before anything is checked.

use std::collections::BTreeMap;
use std::fmt;

use serde_yaml::Value;

use super::fault::Fault;
use super::generation::camel_case;
use super::keys::{self, Kind};
use super::table::KEYS;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    /// The environment variable of this name, from the process or from `.env`.
    Env(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    pub value: Value,
    pub origin: Origin,
}

/// Everything that was given, by dotted path; later layers replace earlier ones. An entry of a
/// mapping whose entries are merged has a path of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSettings {
    given: BTreeMap<String, Given>,
    pub faults: Vec<Fault>,
}

impl RawSettings {
    /// The defaults alone.
    pub fn defaults() -> Self {
        let mut raw = RawSettings {
            given: BTreeMap::new(),
            faults: Vec::new(),
        };
        for key in KEYS {
            raw.add_text(key.path, key.default, &Origin::Default);
        }
        raw
    }

    /// What was given at a path.
    pub fn get(&self, path: &str) -> Option<&Given> {
        self.given.get(path)
    }

    /// The entries of a mapping, by name.
    pub fn entries<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a Given)> {
        let prefix = format!("{path}.");
        self.given
            .iter()
            .filter_map(move |(path, given)| Some((path.strip_prefix(&prefix)?, given)))
    }

    /// Where each value comes from; entries of merged mappings by their own paths.
    pub fn origins(&self) -> BTreeMap<String, Origin> {
        let mut origins: BTreeMap<String, Origin> = KEYS
            .iter()
            .map(|key| (key.path.to_owned(), Origin::Default))
            .collect();
        let given = self
            .given
            .iter()
            .map(|(path, given)| (path.clone(), given.origin.clone()));
        origins.extend(given);
        origins
    }

    /// Adds a whole document.
    pub fn add_document(&mut self, document: Value, origin: &Origin) {
        match document {
            Value::Null => {}
            Value::Mapping(_) => self.add("", document, origin),
            _ => self.faults.push(Fault::new(
                "(document)",
                "is not a mapping of sections",
                "start with a section such as 'paths:'",
            )),
        }
    }

    /// Adds one value given as text, outside a document: by a flag or a variable.
    pub fn add_text(&mut self, path: &str, text: &str, origin: &Origin) {
        let is_plain = keys::find(path).is_some_and(|key| {
            matches!(
                key.kind,
                Kind::Text | Kind::Path | Kind::Word(_) | Kind::Bytes { .. }
            )
        });
        let parsed = serde_yaml::from_str::<Value>(text);
        let value = match parsed {
            Ok(Value::Null) => Value::Null,
            Ok(Value::String(text)) => Value::String(text),
            _ if is_plain => Value::String(text.to_owned()),
            Ok(value) => value,
            Err(_) => {
                self.faults.push(Fault::new(
                    path,
                    format!("the value from {origin} cannot be read as YAML"),
                    "write it as in the configuration file, on one line",
                ));
                return;
            }
        };
        self.add(path, value, origin);
    }

    /// Adds the value at a path, which may be a section, a setting, or an entry of a mapping.
    fn add(&mut self, path: &str, value: Value, origin: &Origin) {
        if let Some((key, entry)) = keys::find_map(path) {
            self.add_entry(key.path, key.kind, entry, value, origin);
        } else if let Some(key) = keys::find(path) {
            match value {
                Value::Null => self.reset(key.path),
                Value::Mapping(entries) if key.kind.is_map() => {
                    for (name, value) in entries {
                        if let Some(name) = self.name(path, &name) {
                            self.add_entry(path, key.kind, &name, value, origin);
                        }
                    }
                }
                value => self.put(path, value, origin),
            }
        } else if path.is_empty() || keys::is_section(path) {
            self.add_section(path, value, origin);
        } else {
            self.unknown(path);
        }
    }

    fn add_section(&mut self, path: &str, value: Value, origin: &Origin) {
        match value {
            Value::Null => {}
            Value::Mapping(entries) => {
                for (name, value) in entries {
                    let Some(name) = self.name(path, &name) else {
                        continue;
                    };
                    let below = if path.is_empty() {
                        name
                    } else {
                        format!("{path}.{name}")
                    };
                    self.add(&below, value, origin);
                }
            }
            _ => self.faults.push(Fault::new(
                path,
                format!("is {}, not a mapping", kind_of(&value)),
                format!("write its settings on lines of their own below '{path}:'"),
            )),
        }
    }

    fn add_entry(&mut self, map: &str, kind: Kind, entry: &str, value: Value, origin: &Origin) {
        let name = match kind {
            Kind::Generation => camel_case(entry),
            _ => entry.to_owned(),
        };
        let path = format!("{map}.{name}");
        let is_doubled = *origin == Origin::File
            && self
                .given
                .get(&path)
                .is_some_and(|given| given.origin == Origin::File);
        if is_doubled {
            self.faults.push(Fault::new(
                path,
                "stands twice, in snake_case and in camelCase",
                "keep one of them",
            ));
            return;
        }
        self.put(&path, value, origin);
    }

    fn put(&mut self, path: &str, value: Value, origin: &Origin) {
        let given = Given {
            value,
            origin: origin.clone(),
        };
        self.given.insert(path.to_owned(), given);
    }

    /// Takes a setting back to its default.
    fn reset(&mut self, path: &str) {
        let below = format!("{path}.");
        self.given
            .retain(|known, _| known != path && !known.starts_with(&below));
        if let Some(key) = keys::find(path).filter(|key| !key.default.is_empty()) {
            self.add_text(path, key.default, &Origin::Default);
        }
    }

    fn name(&mut self, path: &str, name: &Value) -> Option<String> {
        match name {
            Value::String(name) => Some(name.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.faults.push(Fault::new(
                    if path.is_empty() { "(document)" } else { path },
                    "has a key that is not a name",
                    "write names as plain text",
                ));
                None
            }
        }
    }

    fn unknown(&mut self, path: &str) {
        let name = path.rsplit('.').next().unwrap_or(path).to_lowercase();
        let is_secret =
            name.ends_with("key") || name.ends_with("secret") || name.ends_with("password");
        let fault = if is_secret && path.starts_with("alerts.") {
            Fault::new(
                path,
                "no secret belongs into the settings",
                "take it out and name the variable that holds it in alerts.webhook.secret_env",
            )
        } else if is_secret {
            Fault::new(
                path,
                "no secret belongs into the settings",
                "take it out and set the environment variable GEMINI_API_KEY",
            )
        } else {
            let remedy = keys::suggestion(path).map_or_else(
                || "see 'pagemill config schema' for all settings".to_owned(),
                |near| format!("did you mean '{near}'?"),
            );
            Fault::new(path, "there is no such setting", remedy)
        };
        self.faults.push(fault);
    }
}

/// What a YAML value is, in words.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}
