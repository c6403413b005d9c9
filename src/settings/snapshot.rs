//! The settings as YAML, for the record of a run: everything that was in force, and no secret.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::Settings;
use super::keys::sections;
use super::raw::RawSettings;
use super::table::KEYS;

/// What is in force, by dotted path, in whatever form it was given.
pub fn effective(raw: &RawSettings) -> BTreeMap<String, Value> {
    let mut effective = BTreeMap::new();
    for key in KEYS {
        let value = if key.kind.is_map() {
            let entries = raw
                .entries(key.path)
                .filter(|(_, given)| !given.value.is_null());
            let entries =
                entries.map(|(name, given)| (Value::String(name.to_owned()), given.value.clone()));
            Value::Mapping(entries.collect())
        } else {
            raw.get(key.path)
                .map_or(Value::Null, |given| given.value.clone())
        };
        effective.insert(key.path.to_owned(), value);
    }
    effective
}

impl Settings {
    /// Every setting as YAML that can be read again. The key is not a setting, and would be masked
    /// wherever someone had written it.
    pub fn snapshot_yaml(&self) -> String {
        let mut document = Mapping::new();
        for section in sections() {
            let mut body = Mapping::new();
            for key in KEYS {
                let Some(name) = key
                    .path
                    .strip_prefix(section)
                    .and_then(|rest| rest.strip_prefix('.'))
                else {
                    continue;
                };
                let value = self.effective.get(key.path).cloned().unwrap_or_default();
                body.insert(Value::String(name.to_owned()), value);
            }
            document.insert(Value::String(section.to_owned()), Value::Mapping(body));
        }
        let text = serde_yaml::to_string(&document).unwrap_or_default();
        match &self.api_key {
            Some(key) => key.mask(&text),
            None => text,
        }
    }
}
