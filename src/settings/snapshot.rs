//! The settings as YAML, for the record of a run: everything that was in force, and no secret.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use super::Settings;
use super::keys::sections;
use super::raw::RawSettings;
use super::secret::shown_url;
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
            let given = raw
                .get(key.path)
                .map_or(Value::Null, |given| given.value.clone());
            // The path of such an address lets whoever knows it in.
            match given {
                Value::String(url) if key.path == "alerts.webhook.url" => {
                    Value::String(shown_url(&url))
                }
                given => given,
            }
        };
        effective.insert(key.path.to_owned(), value);
    }
    effective
}

/// Puts a value where its name says, which may be in a section below.
fn place(body: &mut Mapping, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            body.insert(Value::String(name.to_owned()), value);
        }
        Some((section, rest)) => {
            let below = body
                .entry(Value::String(section.to_owned()))
                .or_insert_with(|| Value::Mapping(Mapping::new()));
            if let Value::Mapping(inner) = below {
                place(inner, rest, value);
            }
        }
    }
}

impl Settings {
    /// Every setting as YAML that can be read again. The key is not a setting, and a setting that
    /// holds it is refused at loading. Of the webhook's address only the host is shown.
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
                place(&mut body, name, self.effective_value(key.path));
            }
            document.insert(Value::String(section.to_owned()), Value::Mapping(body));
        }
        serde_yaml::to_string(&document).unwrap_or_default()
    }

    /// Every setting with its value; entries of merged mappings each by their own path.
    pub fn effective_values(&self) -> Vec<(String, serde_json::Value)> {
        let mut values = Vec::new();
        for key in KEYS {
            match serde_json::to_value(self.effective_value(key.path)).unwrap_or_default() {
                serde_json::Value::Object(entries) if key.kind.is_map() && !entries.is_empty() => {
                    for (name, value) in entries {
                        values.push((format!("{}.{name}", key.path), value));
                    }
                }
                value => values.push((key.path.to_owned(), value)),
            }
        }
        values
    }

    /// What is in force at a path.
    fn effective_value(&self, path: &str) -> Value {
        self.effective.get(path).cloned().unwrap_or_default()
    }
}
