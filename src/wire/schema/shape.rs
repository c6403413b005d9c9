//! Which types a schema admits.

use serde_json::{Map, Value, json};

use super::SchemaError;

/// The types of JSON but null, and their words in the dialect.
pub(super) const TYPES: [(&str, &str); 6] = [
    ("object", "OBJECT"),
    ("array", "ARRAY"),
    ("string", "STRING"),
    ("integer", "INTEGER"),
    ("number", "NUMBER"),
    ("boolean", "BOOLEAN"),
];

/// What a schema says about types before they are written down.
pub(super) struct Shape {
    /// Lower case, without null.
    pub(super) types: Vec<&'static str>,
    pub(super) nullable: bool,
}

/// Reads which types a schema admits, from `type`, else from what else it says.
pub(super) fn shape(schema: &Map<String, Value>, pointer: &str) -> Result<Shape, SchemaError> {
    let words: Option<Vec<&Value>> = match schema.get("type") {
        None => None,
        Some(Value::Array(words)) => Some(words.iter().collect()),
        Some(word) => Some(vec![word]),
    };
    let values: Option<Vec<&Value>> = match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    };
    let null_value = values
        .as_ref()
        .is_none_or(|values| values.iter().any(|v| v.is_null()));
    let mut types = Vec::new();
    let mut nullable = schema.get("nullable") == Some(&Value::Bool(true));
    if let Some(words) = words {
        for word in words {
            let word = word.as_str().unwrap_or("?");
            let known = TYPES.iter().find(|(name, _)| *name == word);
            match known {
                Some((name, _)) if !types.contains(name) => types.push(*name),
                Some(_) => {}
                None if word == "null" => nullable |= null_value,
                None => {
                    let (pointer, word) = (pointer.to_owned(), word.to_owned());
                    return Err(SchemaError::UnknownType { pointer, word });
                }
            }
        }
        let is_only_null = types.is_empty();
        if is_only_null {
            return Err(SchemaError::NoType {
                pointer: pointer.to_owned(),
            });
        }
    } else if let Some(values) = values {
        nullable |= null_value;
        for kind in values.into_iter().filter_map(kind_of) {
            if !types.contains(&kind) {
                types.push(kind);
            }
        }
    } else if schema.contains_key("properties") {
        types.push("object");
    } else if schema.contains_key("items") || schema.contains_key("prefixItems") {
        types.push("array");
    }
    if types.contains(&"number") {
        types.retain(|kind| *kind != "integer");
    }
    Ok(Shape { types, nullable })
}

fn kind_of(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some("boolean"),
        Value::Number(number) if number.is_f64() => Some("number"),
        Value::Number(_) => Some("integer"),
        Value::String(_) => Some("string"),
        Value::Array(_) => Some("array"),
        Value::Object(_) => Some("object"),
    }
}

pub(super) fn is_null_schema(schema: &Value) -> bool {
    let says_null = schema.get("type") == Some(&json!("null"))
        || schema.get("type") == Some(&json!(["null"]))
        || schema.get("enum") == Some(&json!([null]));
    says_null || schema.get("const").is_some_and(Value::is_null)
}
