//! A recipe: everything that decides what a page is asked, and its hash.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{PromptError, Templates, Validator};
use crate::domain::ids::RecipeHash;
use crate::domain::layout::Layout;
use crate::wire::schema::{Dropped, reduce};

/// Keeps a recipe's hash apart from those of another way of making it.
const DOMAIN: &str = "pagemill recipe 1";

/// What a recipe is made of, as plain values.
#[derive(Debug, Clone, Copy)]
pub struct RecipeRequest<'a> {
    /// The folder below the registry.
    pub prompt_name: &'a str,
    pub template_file: &'a str,
    /// Absent when pages stand alone.
    pub context_file: Option<&'a str>,
    pub schema_file: &'a Path,
    pub layout: &'a Layout,
    pub model: &'a str,
    /// An object in camelCase.
    pub generation_config: &'a Value,
}

/// Everything that decides what a page is asked. Never changes; another text is another recipe.
#[derive(Debug)]
pub struct Recipe {
    pub hash: RecipeHash,
    pub prompt_name: String,
    pub prompt_template: String,
    pub context_template: Option<String>,
    pub schema: Value,
    /// As it stands in the file.
    pub schema_text: String,
    /// The value of `generationConfig.responseSchema`.
    pub response_schema: Value,
    /// What [`Recipe::response_schema`] does not say; the validator still holds answers to it.
    pub dropped: Vec<Dropped>,
    /// The levels of nesting of the response schema.
    pub schema_depth: u32,
    pub model: String,
    pub generation_config: Value,
    pub validator: Arc<Validator>,
    templates: Templates,
}

impl Recipe {
    /// Compiles and checks texts that were read.
    pub fn assemble(
        request: &RecipeRequest<'_>,
        prompt_template: String,
        context_template: Option<String>,
        schema_text: String,
    ) -> Result<Recipe, PromptError> {
        let path = request.schema_file.display().to_string();
        let context = request.context_file.zip(context_template.as_deref());
        let templates = Templates::compile(
            (request.template_file, &prompt_template),
            context,
            request.layout.names(),
        )?;
        let schema: Value =
            serde_json::from_str(&schema_text).map_err(|error| PromptError::NotJson {
                path: path.clone(),
                detail: error.to_string(),
            })?;
        let validator = Validator::new(&schema).map_err(|detail| PromptError::NotASchema {
            path: path.clone(),
            detail,
        })?;
        let reduced = reduce(&schema).map_err(|error| PromptError::Irreducible { path, error })?;
        let hash = hash(
            &prompt_template,
            context_template.as_deref(),
            &schema_text,
            request.model,
            request.generation_config,
        );
        Ok(Recipe {
            hash,
            prompt_name: request.prompt_name.to_owned(),
            prompt_template,
            context_template,
            schema,
            schema_text,
            response_schema: reduced.schema,
            dropped: reduced.dropped,
            schema_depth: reduced.depth,
            model: request.model.to_owned(),
            generation_config: request.generation_config.clone(),
            validator: Arc::new(validator),
            templates,
        })
    }

    /// Refuses a schema by which an answer could not tell which page it is about: every page would
    /// fail, after it was paid for.
    pub fn must_echo(&self, field: &str, schema_file: &Path) -> Result<(), PromptError> {
        let is_text = self
            .response_schema
            .pointer(&format!("/properties/{field}/type"))
            .is_some_and(|kind| kind == "STRING");
        let is_required = self.response_schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|name| name == field));
        if is_text && is_required {
            return Ok(());
        }
        Err(PromptError::NoEchoField {
            path: schema_file.display().to_string(),
            field: field.to_owned(),
        })
    }

    /// Renders the text of a page's request. Levels are name and decoded value in the order of the
    /// layout; the last one, the page, is an integer to the template.
    pub fn render_prompt(
        &self,
        key: &str,
        levels: &[(String, String)],
        label: &Value,
        previous_context: Option<&str>,
    ) -> Result<String, PromptError> {
        self.templates.prompt(key, levels, label, previous_context)
    }

    /// Renders what the page at `key` is told of the result `previous` of the page before it.
    pub fn render_context(
        &self,
        previous: &Value,
        key: &str,
        levels: &[(String, String)],
    ) -> Result<String, PromptError> {
        self.templates.context(previous, key, levels)
    }
}

/// The SHA-256 of all parts, each with its length before it, so that no text can slip from one
/// part into the next. The order of names in the parameters does not matter.
fn hash(
    prompt: &str,
    context: Option<&str>,
    schema: &str,
    model: &str,
    generation_config: &Value,
) -> RecipeHash {
    let mut hash = Sha256::new();
    let mut feed = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    feed(DOMAIN);
    feed(prompt);
    feed(if context.is_some() {
        "context"
    } else {
        "no context"
    });
    feed(context.unwrap_or_default());
    feed(schema);
    feed(model);
    feed(&sorted(generation_config).to_string());
    RecipeHash::new(hex::encode(hash.finalize()))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            let entries = entries
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)));
            Value::Object(entries.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prompt::Registry;

    const SCHEMA: &str =
        r#"{"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}}"#;

    fn assemble(parts: [&str; 4], config: &Value) -> Recipe {
        let layout = Layout::parse("{page}").unwrap();
        let [prompt, context, schema, model] = parts;
        let request = RecipeRequest {
            prompt_name: "page_ocr",
            template_file: "v1.jinja",
            context_file: (!context.is_empty()).then_some("context.jinja"),
            schema_file: Path::new("schema.json"),
            layout: &layout,
            model,
            generation_config: config,
        };
        let context = (!context.is_empty()).then(|| context.to_owned());
        Recipe::assemble(&request, prompt.to_owned(), context, schema.to_owned()).unwrap()
    }

    #[test]
    fn the_hash_is_stable() {
        let config = json!({"temperature": 0.1, "maxOutputTokens": 16384});
        let recipe = assemble(["p", "c", SCHEMA, "gemini-3.8-flash"], &config);
        let again = json!({"maxOutputTokens": 16384, "temperature": 0.1});
        let same = assemble(["p", "c", SCHEMA, "gemini-3.8-flash"], &again);
        assert_eq!(recipe.hash, same.hash);
        assert_eq!(
            recipe.hash.as_str(),
            "fbcaf507c84823f57ef10411c631c16f5618a88b8abfa780cf6707a55a8721cc"
        );
    }

    #[test]
    fn the_hash_follows_every_part() {
        let config = json!({"temperature": 0.1});
        let wider = format!("{SCHEMA} ");
        let mut hashes: Vec<String> = [
            ["p", "c", SCHEMA, "m"],
            ["q", "c", SCHEMA, "m"],
            ["pc", "", SCHEMA, "m"],
            ["p", "", SCHEMA, "m"],
            ["p", "d", SCHEMA, "m"],
            ["p", "c", &wider, "m"],
            ["p", "c", SCHEMA, "n"],
        ]
        .iter()
        .map(|parts| assemble(*parts, &config).hash.to_string())
        .collect();
        let other = json!({"temperature": 0.2});
        hashes.push(assemble(["p", "c", SCHEMA, "m"], &other).hash.to_string());
        let count = hashes.len();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }

    #[test]
    fn a_recipe_is_read_from_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let prompts = folder.path().join("prompts/page_ocr");
        std::fs::create_dir_all(&prompts).unwrap();
        let schema = folder.path().join("schema.json");
        let layout = Layout::parse("{book}/{page}").unwrap();
        let config = json!({});
        let request = RecipeRequest {
            prompt_name: "page_ocr",
            template_file: "v1.jinja",
            context_file: Some("context.jinja"),
            schema_file: &schema,
            layout: &layout,
            model: "m",
            generation_config: &config,
        };
        let registry = Registry::new(folder.path().join("prompts"));
        let missing = |file: &str| {
            let error = registry.load(&request).unwrap_err().to_string();
            assert!(
                error.contains(file) && error.contains("cannot be read"),
                "{error}"
            );
        };
        missing("v1.jinja");
        std::fs::write(prompts.join("v1.jinja"), "Page {{ page }} of {{ book }}.").unwrap();
        missing("context.jinja");
        std::fs::write(prompts.join("context.jinja"), "{{ previous.text }}").unwrap();
        missing("schema.json");
        std::fs::write(&schema, "{").unwrap();
        assert!(matches!(
            registry.load(&request),
            Err(PromptError::NotJson { .. })
        ));
        std::fs::write(&schema, r#"{"type": 3}"#).unwrap();
        assert!(matches!(
            registry.load(&request),
            Err(PromptError::NotASchema { .. })
        ));
        std::fs::write(&schema, "{}").unwrap();
        assert!(matches!(
            registry.load(&request),
            Err(PromptError::Irreducible { .. })
        ));
        std::fs::write(&schema, SCHEMA).unwrap();

        let recipe = registry.load(&request).unwrap();
        let levels = [
            ("book".to_owned(), "A".to_owned()),
            ("page".to_owned(), "007".to_owned()),
        ];
        let prompt = recipe
            .render_prompt("A:007", &levels, &json!({}), None)
            .unwrap();
        assert_eq!(prompt, "Page 7 of A.");
        let context = recipe
            .render_context(&json!({"text": "t"}), "A:007", &levels)
            .unwrap();
        assert_eq!(context, "t");
        assert_eq!(recipe.dropped.len(), 1);
        assert_eq!(recipe.response_schema["type"], "OBJECT");
        assert!(recipe.validator.check(&json!({"text": ""})).is_err());
    }
}
