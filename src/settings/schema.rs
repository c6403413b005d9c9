//! The configuration's own JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, sections};
use super::table::KEYS;

/// A JSON Schema (draft 2020-12) of the configuration file.
pub fn json_schema() -> Value {
    let mut properties = Map::new();
    for section in sections() {
        let mut settings = Map::new();
        for key in KEYS {
            let Some(name) = key
                .path
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            place(&mut settings, name, setting(key));
        }
        properties.insert(section.to_owned(), section_of(settings));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pagemill configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn section_of(properties: Map<String, Value>) -> Value {
    json!({
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Puts a setting where its name says, which may be in a section below.
fn place(properties: &mut Map<String, Value>, name: &str, body: Value) {
    match name.split_once('.') {
        None => {
            properties.insert(name.to_owned(), body);
        }
        Some((section, rest)) => {
            let below = properties
                .entry(section)
                .or_insert_with(|| section_of(Map::new()));
            if let Some(Value::Object(inner)) = below.get_mut("properties") {
                place(inner, rest, body);
            }
        }
    }
}

fn setting(key: &Key) -> Value {
    let filter = json!([
        {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 1},
        {"type": ["string", "integer"]},
        {
            "type": "object",
            "properties": {"start": {"type": "integer"}, "end": {"type": "integer"}},
            "additionalProperties": false,
        },
        {"type": "null"},
    ]);
    let mut body = match key.kind {
        Kind::Text | Kind::Path => json!({"type": ["string", "null"], "minLength": 1}),
        Kind::Bool => json!({"type": ["boolean", "null"]}),
        Kind::Integer { min, max } => {
            json!({"type": ["integer", "null"], "minimum": min, "maximum": max})
        }
        Kind::Bytes { min, max } => json!({
            "type": ["integer", "string", "null"],
            "minimum": min,
            "maximum": max,
            "pattern": "^[0-9_]+(\\.[0-9]+)? *([kKMGT]i?)?[bB]?$",
        }),
        Kind::Word(words) => {
            let mut words: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            words.push(Value::Null);
            json!({"enum": words})
        }
        Kind::Texts => json!({
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
        }),
        Kind::Words(words) => json!({
            "type": ["array", "null"],
            "items": {"enum": words},
            "minItems": 1,
            "uniqueItems": true,
        }),
        Kind::Filter => json!({"anyOf": filter}),
        Kind::FilterMap => {
            json!({"type": ["object", "null"], "additionalProperties": {"anyOf": filter}})
        }
        Kind::Generation => json!({"type": ["object", "null"]}),
    };
    body["description"] = json!(key.doc);
    let default = serde_yaml::from_str::<Value>(key.default).unwrap_or(Value::Null);
    if !default.is_null() {
        body["default"] = default;
    }
    body
}
