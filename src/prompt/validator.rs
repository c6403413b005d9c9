//! The schema as a judge of answers.

use serde_json::Value;

/// Faults of one answer that are told; more help nobody.
const FAULTS_MAX: usize = 20;
/// The longest description of one fault, in characters.
const FAULT_CHARACTERS: usize = 300;

/// A schema that cannot judge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a usable JSON Schema: {0}")]
pub struct SchemaFault(pub String);

/// A compiled JSON Schema. References outside of the schema are not followed: no file is read and
/// no network is asked.
pub struct Validator(jsonschema::Validator);

impl Validator {
    /// Compiles a schema.
    pub fn new(schema: &Value) -> Result<Self, SchemaFault> {
        jsonschema::options()
            .offline()
            .build(schema)
            .map(Validator)
            .map_err(|error| SchemaFault(error.to_string()))
    }

    /// Passes, or says where and why not.
    pub fn check(&self, instance: &Value) -> Result<(), Vec<String>> {
        if self.0.is_valid(instance) {
            return Ok(());
        }
        let faults = self.0.iter_errors(instance).take(FAULTS_MAX).map(|error| {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { "/" } else { &path };
            let words: String = error.to_string().chars().take(FAULT_CHARACTERS).collect();
            format!("at {place}: {words}")
        });
        Err(faults.collect())
    }
}
