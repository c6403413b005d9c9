//! What the model says: JSON that follows the request's schema and tells which page it is about.
//!
//! Every free text holds the record key and the SHA-256 of the image asked about, so that a test
//! can prove that a page's output came from that page's image. Answers depend on nothing but the
//! request.

use serde_json::{Map, Number, Value, json};

use super::dice::hash;

/// What an answer must be about.
pub(super) struct Subject<'a> {
    /// The key of the request; empty when it has none.
    pub(super) key: &'a str,
    /// Lowercase hex SHA-256 of the image, or `none`.
    pub(super) image: &'a str,
    /// Tells apart two different answers to one request; 0 for the usual one.
    pub(super) variant: u64,
}

/// How deep an answer follows a schema before it stops at `null`.
const DEPTH_MAX: usize = 32;

/// Builds the text of an answer.
pub(super) fn text(subject: &Subject, schema: Option<&Value>, wants_json: bool) -> String {
    match schema {
        Some(schema) => value(subject, schema, "value", 0).to_string(),
        None if wants_json => json!({
            "key": subject.key,
            "image_sha256": subject.image,
            "text": subject.sentence("text"),
        })
        .to_string(),
        None => subject.sentence("text"),
    }
}

/// Spoils a valid answer so that it is still JSON but no longer follows the schema.
pub(super) fn break_schema(text: &str, schema: Option<&Value>) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(text) else {
        return json!({"unexpected": true}).to_string();
    };
    let required = schema
        .and_then(|schema| schema.get("required"))
        .and_then(Value::as_array);
    let first = required.and_then(|names| names.iter().find_map(Value::as_str));
    match first {
        Some(name) => {
            fields.shift_remove(name);
        }
        None => {
            for value in fields.values_mut() {
                *value = if value.is_object() {
                    json!("wrong")
                } else {
                    json!({"wrong": true})
                };
            }
        }
    }
    Value::Object(fields).to_string()
}

impl Subject<'_> {
    /// The free text of a field.
    fn sentence(&self, field: &str) -> String {
        let other = if self.variant == 0 {
            String::new()
        } else {
            format!(" ({})", self.variant)
        };
        format!("{field} of {} image {}{other}", self.key, self.image)
    }

    fn number(&self, field: &str) -> u64 {
        hash(self.variant, field, self.key, 0)
    }
}

fn value(subject: &Subject, schema: &Value, field: &str, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(choices) = schema
        .get("enum")
        .and_then(Value::as_array)
        .filter(|c| !c.is_empty())
    {
        let at = subject.number(field) % choices.len() as u64;
        return choices[at as usize].clone();
    }
    let choices = schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array);
    if let Some(choice) = choices.and_then(|choices| choices.iter().find(|c| type_of(c) != "null"))
    {
        return value(subject, choice, field, depth + 1);
    }
    match type_of(schema).as_str() {
        "object" => object(subject, schema, depth),
        "array" => array(subject, schema, field, depth),
        "integer" => integer(subject, schema, field),
        "number" => number(subject, schema, field),
        "boolean" => Value::Bool(subject.number(field).is_multiple_of(2)),
        "null" => Value::Null,
        _ => Value::String(string(subject, schema, field)),
    }
}

/// The type of a schema in lower case; guessed from its other words when it is not given.
fn type_of(schema: &Value) -> String {
    let named = match schema.get("type") {
        Some(Value::String(name)) => Some(name.to_lowercase()),
        Some(Value::Array(names)) => {
            let mut names = names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_lowercase);
            names.find(|name| name != "null")
        }
        _ => None,
    };
    named.unwrap_or_else(|| {
        let guessed = if schema.get("properties").is_some() {
            "object"
        } else if schema.get("items").is_some() {
            "array"
        } else {
            "string"
        };
        guessed.to_owned()
    })
}

fn object(subject: &Subject, schema: &Value, depth: usize) -> Value {
    let empty = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let ordering = schema.get("propertyOrdering").and_then(Value::as_array);
    let ordered = ordering.into_iter().flatten().filter_map(Value::as_str);
    let mut fields = Map::new();
    for name in ordered.chain(properties.keys().map(String::as_str)) {
        if let Some(schema) = properties.get(name).filter(|_| !fields.contains_key(name)) {
            fields.insert(name.to_owned(), value(subject, schema, name, depth + 1));
        }
    }
    Value::Object(fields)
}

fn array(subject: &Subject, schema: &Value, field: &str, depth: usize) -> Value {
    const USUAL_ITEMS: u64 = 2;
    let least = count(schema, "minItems").unwrap_or(0);
    let most = count(schema, "maxItems").unwrap_or(u64::MAX);
    let items = schema
        .get("items")
        .cloned()
        .unwrap_or_else(|| json!({"type": "string"}));
    let wanted = USUAL_ITEMS.clamp(least.min(most), most);
    let items = (1..=wanted).map(|at| value(subject, &items, &format!("{field} {at}"), depth + 1));
    Value::Array(items.collect())
}

fn integer(subject: &Subject, schema: &Value, field: &str) -> Value {
    const USUAL_MAX: i64 = 99;
    let least = bound(schema, "minimum").map(|least| least.ceil() as i64);
    let most = bound(schema, "maximum").map(|most| most.floor() as i64);
    let least = least.unwrap_or_else(|| most.map_or(1, |most| most.min(1)));
    let most = most
        .unwrap_or_else(|| least.saturating_add(USUAL_MAX))
        .max(least);
    let span = most.abs_diff(least).saturating_add(1);
    let offset = (subject.number(field) % span).min(i64::MAX.unsigned_abs());
    Value::Number(Number::from(least.saturating_add_unsigned(offset)))
}

fn number(subject: &Subject, schema: &Value, field: &str) -> Value {
    const STEPS: u64 = 1000;
    let least = bound(schema, "minimum");
    let most = bound(schema, "maximum");
    let least = least.unwrap_or_else(|| most.map_or(0.0, |most| most - 1.0));
    let most = most.unwrap_or(least + 1.0).max(least);
    let step = (subject.number(field) % STEPS) as f64 / STEPS as f64;
    Number::from_f64(least + (most - least) * step).map_or(Value::Null, Value::Number)
}

fn string(subject: &Subject, schema: &Value, field: &str) -> String {
    let sentence = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => return "1849-09-01T00:00:00Z".to_owned(),
        Some("date") => return "1849-09-01".to_owned(),
        Some("time") => return "09:00:00Z".to_owned(),
        _ => subject.sentence(field),
    };
    let least = count(schema, "minLength").unwrap_or(0);
    let most = count(schema, "maxLength").unwrap_or(u64::MAX);
    let padded = sentence.chars().chain(std::iter::repeat('.'));
    let length = (sentence.chars().count() as u64).clamp(least.min(most), most);
    padded
        .take(usize::try_from(length).unwrap_or(usize::MAX))
        .collect()
}

/// A count of a schema, which the API writes as a number or, being an int64, as a text.
fn count(schema: &Value, name: &str) -> Option<u64> {
    let value = schema.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn bound(schema: &Value, name: &str) -> Option<f64> {
    let value = schema.get(name)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "0f1e";

    fn answer(schema: &Value) -> Value {
        let subject = Subject {
            key: "book:7",
            image: IMAGE,
            variant: 0,
        };
        serde_json::from_str(&text(&subject, Some(schema), true)).unwrap()
    }

    /// The same schema as JSON Schema, so that an independent reader can judge.
    fn as_json_schema(schema: &Value) -> Value {
        match schema {
            Value::Object(fields) => {
                let read = fields
                    .iter()
                    .filter(|(name, _)| *name != "propertyOrdering");
                let mut read: Map<String, Value> = read
                    .map(|(name, value)| (name.clone(), as_json_schema(value)))
                    .collect();
                if let Some(Value::String(name)) = read.get("type").cloned() {
                    read.insert("type".to_owned(), json!(name.to_lowercase()));
                }
                Value::Object(read)
            }
            Value::Array(items) => items.iter().map(as_json_schema).collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn answers_follow_the_schema() {
        for schema in [
            json!({"type": "OBJECT", "properties": {
                "title": {"type": "STRING"},
                "kind": {"type": "STRING", "enum": ["a", "b"]},
                "year": {"type": "INTEGER", "minimum": 1800, "maximum": 1900},
                "ratio": {"type": "NUMBER", "minimum": -2, "maximum": -1},
                "when": {"type": "STRING", "format": "date-time"},
                "rows": {"type": "ARRAY", "minItems": 3, "maxItems": 4, "items": {
                    "type": "OBJECT", "properties": {"cell": {"type": "STRING", "nullable": true}}, "required": ["cell"]}},
                "short": {"type": "STRING", "maxLength": 5},
                "long": {"type": "STRING", "minLength": 200},
                "either": {"anyOf": [{"type": "NULL"}, {"type": "BOOLEAN"}]}},
                "required": ["title", "kind", "year", "ratio", "when", "rows", "short", "long", "either"]}),
            json!({"type": "array", "items": {"type": "integer", "maximum": -5}, "maxItems": 1}),
            json!({"type": "STRING"}),
        ] {
            let answer = answer(&schema);
            let judge = jsonschema::validator_for(&as_json_schema(&schema)).unwrap();
            assert!(judge.is_valid(&answer), "{schema}\n{answer}");
            let broken = break_schema(&answer.to_string(), Some(&schema));
            let broken: Value = serde_json::from_str(&broken).unwrap();
            assert!(!judge.is_valid(&broken), "{schema}\n{broken}");
        }
    }

    #[test]
    fn every_free_text_names_the_key_and_the_image() {
        let schema = json!({"type": "OBJECT", "properties": {
            "title": {"type": "STRING"}, "rows": {"type": "ARRAY", "items": {"type": "STRING"}}}});
        let answer = answer(&schema);
        assert_eq!(answer["title"], "title of book:7 image 0f1e");
        assert_eq!(answer["rows"][1], "rows 2 of book:7 image 0f1e");
    }

    #[test]
    fn properties_stand_in_the_order_asked_for() {
        let schema = json!({"type": "OBJECT", "propertyOrdering": ["b", "a"],
            "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}}});
        let names: Vec<String> = answer(&schema)
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(names, ["b", "a"]);
    }
}
