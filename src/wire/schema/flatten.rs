//! References and `allOf`, written out.

use serde_json::{Map, Value};

use super::{Reducer, SchemaError};

/// Keywords that say nothing about an answer; they vanish without being listed.
pub(super) const PLUMBING: [&str; 12] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
    "$vocabulary",
    "examples",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// Keywords that the reduction itself deals with.
pub(super) const HANDLED: [&str; 14] = [
    "type",
    "title",
    "description",
    "nullable",
    "enum",
    "const",
    "format",
    "properties",
    "required",
    "items",
    "prefixItems",
    "anyOf",
    "oneOf",
    "$ref",
];

impl Reducer<'_> {
    /// Follows `$ref` and merges `allOf`; gives the place that pointers below start from.
    pub(super) fn flatten(
        &mut self,
        schema: &Value,
        pointer: &str,
    ) -> Result<(Map<String, Value>, String), SchemaError> {
        let Value::Object(schema) = schema else {
            let pointer = pointer.to_owned();
            return Err(match schema {
                Value::Bool(_) => SchemaError::NoType { pointer },
                _ => SchemaError::NotASchema { pointer },
            });
        };
        let mut own = schema.clone();
        let reference = own.shift_remove("$ref");
        let parts = own.shift_remove("allOf");
        let mut place = pointer.to_owned();
        if let Some(reference) = reference {
            let (target, at) = self.resolve(&reference, pointer)?;
            self.references.push(at.clone());
            let (target, at) = self.flatten(&target, &at)?;
            let says_more = own.keys().any(|key| !is_annotation(key));
            if !says_more && parts.is_none() {
                place = at;
            }
            merge(&mut own, target, pointer)?;
        }
        if let Some(parts) = parts {
            let Value::Array(parts) = parts else {
                return Err(SchemaError::NotASchema {
                    pointer: format!("{pointer}/allOf"),
                });
            };
            for (position, part) in parts.iter().enumerate() {
                let below = format!("{pointer}/allOf/{position}");
                let mark = self.references.len();
                let (part, _) = self.flatten(part, &below)?;
                self.references.truncate(mark);
                merge(&mut own, part, pointer)?;
            }
        }
        Ok((own, place))
    }

    /// What a reference leads to, and its JSON pointer.
    fn resolve(&self, reference: &Value, pointer: &str) -> Result<(Value, String), SchemaError> {
        let text = reference.as_str().unwrap_or_default();
        let unknown = || SchemaError::UnknownReference {
            pointer: pointer.to_owned(),
            reference: text.to_owned(),
        };
        let at = text.strip_prefix('#').ok_or_else(unknown)?;
        let at = percent_decoded(at).ok_or_else(unknown)?;
        if self.references.contains(&at) {
            return Err(SchemaError::Recursive {
                pointer: pointer.to_owned(),
                reference: text.to_owned(),
            });
        }
        let target = self.root.pointer(&at).ok_or_else(unknown)?;
        Ok((target.clone(), at))
    }
}

fn is_annotation(keyword: &str) -> bool {
    ["title", "description"].contains(&keyword) || PLUMBING.contains(&keyword)
}

/// Adds what `part` says to `base`, which wins where both describe.
fn merge(
    base: &mut Map<String, Value>,
    part: Map<String, Value>,
    pointer: &str,
) -> Result<(), SchemaError> {
    let conflict = |keyword: String| SchemaError::Conflict {
        pointer: pointer.to_owned(),
        keyword,
    };
    for (keyword, value) in part {
        let Some(present) = base.get_mut(&keyword) else {
            base.insert(keyword, value);
            continue;
        };
        match (keyword.as_str(), present, value) {
            (_, present, value) if *present == value => {}
            ("properties", Value::Object(present), Value::Object(more)) => {
                for (name, property) in more {
                    match present.get(&name) {
                        Some(known) if *known != property => return Err(conflict(name)),
                        Some(_) => {}
                        None => drop(present.insert(name, property)),
                    }
                }
            }
            ("required", Value::Array(present), Value::Array(more)) => {
                for name in more {
                    if !present.contains(&name) {
                        present.push(name);
                    }
                }
            }
            (word, _, _) if is_annotation(word) || !HANDLED.contains(&word) => {}
            _ => return Err(conflict(keyword)),
        }
    }
    Ok(())
}

/// A name as a part of a JSON pointer.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).ok()
}
