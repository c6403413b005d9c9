//! The full schema, compiled once, to hold every answer to.

use std::fmt;

use serde_json::Value;

/// The most faults that are told of one answer.
pub const FAULTS_MAX: usize = 20;
/// The longest text of one fault, in characters; a fault may quote the answer.
const FAULT_CHARS_MAX: usize = 300;

/// A compiled JSON Schema. Shared between threads by `Arc`; compiling costs ten times a check.
///
/// The draft is the schema's own (`$schema`), else 2020-12. `format` is what the draft says: from
/// 2019-09 on it describes and does not refuse.
pub struct Validator(jsonschema::Validator);

impl Validator {
    /// Compiles a schema; a reference out of it is an error and is never followed.
    pub fn new(schema: &Value) -> Result<Self, String> {
        jsonschema::options()
            .offline()
            .build(schema)
            .map(Validator)
            .map_err(|error| cut(&format!("at '{}': {error}", error.instance_path())))
    }

    /// Tells what is wrong with an instance: `at /path: message`, at most 20 of them.
    pub fn check(&self, instance: &Value) -> Result<(), Vec<String>> {
        let faults: Vec<String> = self
            .0
            .iter_errors(instance)
            .take(FAULTS_MAX)
            .map(|error| {
                let path = error.instance_path().to_string();
                let path = if path.is_empty() { "/" } else { &path };
                cut(&format!("at {path}: {error}"))
            })
            .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(FAULT_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: &Value, instance: &Value, expected: &[&str]) {
        let found = Validator::new(schema)
            .unwrap()
            .check(instance)
            .err()
            .unwrap_or_default();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn faults_name_their_place() {
        let schema = json!({
            "type": "object",
            "properties": {"lines": {"type": "array", "items": {"type": "string", "minLength": 1}}},
            "required": ["lines"],
        });
        check(&schema, &json!({"lines": ["a"]}), &[]);
        check(
            &schema,
            &json!({"lines": ["a", 3, ""]}),
            &["at /lines/1: ", "at /lines/2: "],
        );
        check(&schema, &json!({}), &["at /: \"lines\" is a required"]);
        check(&schema, &json!([]), &["at /: "]);
    }

    #[test]
    fn s4_29_a_word_outside_its_list_is_told_with_the_list() {
        let schema = json!({"type": "object", "properties": {
            "kind": {"enum": ["map", "text"]}, "version": {"const": 1},
        }});
        check(&schema, &json!({"kind": "map", "version": 1}), &[]);
        check(
            &schema,
            &json!({"kind": "photo", "version": 2}),
            &[
                "at /kind: \"photo\" is not one of \"map\" or \"text\"",
                "at /version: 1 was expected",
            ],
        );
    }

    #[test]
    fn faults_are_bounded_in_number_and_length() {
        let schema = json!({"type": "array", "items": {"type": "integer"}});
        let instance = Value::Array(vec![json!("é".repeat(1_000)); 50]);
        let faults = Validator::new(&schema)
            .unwrap()
            .check(&instance)
            .unwrap_err();
        assert_eq!(faults.len(), FAULTS_MAX);
        assert!(
            faults
                .iter()
                .all(|fault| fault.chars().count() <= FAULT_CHARS_MAX + 3)
        );
    }

    #[test]
    fn a_schema_that_is_none_or_leads_away_is_refused() {
        assert!(Validator::new(&json!({"type": "text"})).is_err());
        assert!(Validator::new(&json!({"minLength": "long"})).is_err());
        assert!(Validator::new(&json!({"$ref": "https://example.com/a.json"})).is_err());
        assert!(Validator::new(&json!({"$ref": "file:///etc/passwd"})).is_err());
    }

    #[test]
    fn a_validator_may_go_anywhere() {
        fn goes_anywhere<T: Send + Sync + 'static>() {}
        goes_anywhere::<Validator>();
        goes_anywhere::<crate::prompt::Recipe>();
    }
}
