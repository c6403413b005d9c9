//! A recipe: what is asked of a page, compiled once and immutable.

use std::collections::HashSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as TemplateValue};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::ids::RecipeHash;

/// The template of the prompt, inside the environment.
const PROMPT: &str = "prompt";
/// The template of the context.
const CONTEXT: &str = "context";

/// What a recipe is made from.
#[derive(Debug, Clone)]
pub struct RecipeParts {
    pub prompt_name: String,
    pub prompt_template: String,
    pub context_template: Option<String>,
    /// The user's JSON Schema, as it stands in its file.
    pub schema_text: String,
    /// The schema in the provider's dialect.
    pub response_schema: Value,
    pub model: String,
    /// In the provider's spelling.
    pub generation_config: Value,
    /// The levels of the layout, which templates may name.
    pub levels: Vec<String>,
}

/// A recipe that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    #[error("template '{template}': {fault}")]
    Syntax {
        template: &'static str,
        fault: String,
    },
    #[error("template '{template}' names '{name}', which is not defined: {known} are")]
    Undefined {
        template: &'static str,
        name: String,
        known: String,
    },
    #[error("the schema is not JSON: {0}")]
    Schema(String),
}

/// A template that could not be rendered for one page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PromptError(pub String);

/// A recipe, ready to be used from any thread.
#[derive(Debug)]
pub struct Recipe {
    pub hash: RecipeHash,
    pub prompt_name: String,
    pub prompt_template: String,
    pub context_template: Option<String>,
    pub schema_text: String,
    pub schema: Value,
    pub response_schema: Value,
    pub model: String,
    pub generation_config: Value,
    templates: Environment<'static>,
}

impl Recipe {
    /// Compiles a recipe and checks that its templates name only what there will be.
    pub fn new(parts: RecipeParts) -> Result<Self, RecipeError> {
        let schema: Value = serde_json::from_str(&parts.schema_text)
            .map_err(|error| RecipeError::Schema(error.to_string()))?;
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_syntax(keep_last_newline());
        templates.add_filter("head", head);
        templates.add_filter("tail", tail);
        let levels = parts.levels.iter().map(String::as_str);
        let prompt_names: Vec<&str> = levels
            .clone()
            .chain(["key", "label", "previous_context"])
            .collect();
        let context_names: Vec<&str> = levels.chain(["key", "previous"]).collect();
        add(
            &mut templates,
            PROMPT,
            &parts.prompt_template,
            &prompt_names,
        )?;
        if let Some(context) = &parts.context_template {
            add(&mut templates, CONTEXT, context, &context_names)?;
        }
        let hash = hash(&parts);
        Ok(Recipe {
            hash,
            prompt_name: parts.prompt_name,
            prompt_template: parts.prompt_template,
            context_template: parts.context_template,
            schema_text: parts.schema_text,
            schema,
            response_schema: parts.response_schema,
            model: parts.model,
            generation_config: parts.generation_config,
            templates,
        })
    }

    /// What the prompt sees of the page before; nothing when there is no context template.
    pub fn render_context(
        &self,
        previous: &Value,
        key: &str,
        levels: &[(String, String)],
    ) -> Result<Option<String>, PromptError> {
        if self.context_template.is_none() {
            return Ok(None);
        }
        let mut names = level_values(levels);
        names.push(("key".to_owned(), TemplateValue::from(key)));
        names.push(("previous".to_owned(), TemplateValue::from(Serde(previous))));
        self.render(CONTEXT, names).map(Some)
    }

    /// The prompt of one page.
    pub fn render_prompt(
        &self,
        key: &str,
        levels: &[(String, String)],
        label: &Value,
        previous_context: Option<&str>,
    ) -> Result<String, PromptError> {
        let mut names = level_values(levels);
        names.push(("key".to_owned(), TemplateValue::from(key)));
        names.push(("label".to_owned(), TemplateValue::from(Serde(label))));
        names.push((
            "previous_context".to_owned(),
            previous_context.map_or_else(|| TemplateValue::from(()), TemplateValue::from),
        ));
        self.render(PROMPT, names)
    }

    /// The bytes that every request line carries beside its own prompt, about.
    pub fn request_bytes(&self) -> usize {
        self.response_schema.to_string().len() + self.generation_config.to_string().len()
    }

    fn render(
        &self,
        template: &'static str,
        names: Vec<(String, TemplateValue)>,
    ) -> Result<String, PromptError> {
        let template = self.templates.get_template(template).map_err(told)?;
        template
            .render(TemplateValue::from_pairs(names))
            .map_err(told)
    }
}

/// The usual syntax; a prompt keeps the newline that it ends with.
fn keep_last_newline() -> SyntaxConfig {
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
        .expect("the delimiters are the usual ones")
}

/// An error of a template in one line, with its place.
fn told(error: minijinja::Error) -> PromptError {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("template '{name}', line {line}: "),
        _ => String::new(),
    };
    let detail = error
        .detail()
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default();
    let words = match error.kind() {
        ErrorKind::UndefinedError => "something that is named is not defined".to_owned(),
        kind => kind.to_string(),
    };
    PromptError(format!("{place}{words}{detail}"))
}

fn add(
    templates: &mut Environment<'static>,
    name: &'static str,
    text: &str,
    known: &[&str],
) -> Result<(), RecipeError> {
    templates
        .add_template_owned(name, text.to_owned())
        .map_err(|error| RecipeError::Syntax {
            template: name,
            fault: told(error).0,
        })?;
    let template = templates
        .get_template(name)
        .map_err(|error| RecipeError::Syntax {
            template: name,
            fault: told(error).0,
        })?;
    let globals: HashSet<&str> = templates.globals().map(|(name, _value)| name).collect();
    let mut unknown: Vec<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|variable| !known.contains(&variable.as_str()))
        .filter(|variable| !globals.contains(variable.as_str()))
        .collect();
    unknown.sort();
    match unknown.into_iter().next() {
        None => Ok(()),
        Some(variable) => Err(RecipeError::Undefined {
            template: name,
            name: variable,
            known: known.join(", "),
        }),
    }
}

/// The levels as templates see them: texts, but the page as the number it is.
fn level_values(levels: &[(String, String)]) -> Vec<(String, TemplateValue)> {
    let last = levels.len().saturating_sub(1);
    levels
        .iter()
        .enumerate()
        .map(|(position, (name, text))| {
            let value = match text.parse::<u32>() {
                Ok(number) if position == last => TemplateValue::from(number),
                _ => TemplateValue::from(text.as_str()),
            };
            (name.clone(), value)
        })
        .collect()
}

/// The first `count` characters.
fn head(text: &str, count: usize) -> String {
    text.chars().take(count).collect()
}

/// The last `count` characters.
fn tail(text: &str, count: usize) -> String {
    let characters = text.chars().count();
    text.chars()
        .skip(characters.saturating_sub(count))
        .collect()
}

/// Names a recipe by everything that makes its answers: each part with its length before it, so
/// that no two recipes run together.
fn hash(parts: &RecipeParts) -> RecipeHash {
    let mut digest = Sha256::new();
    let generation_config = parts.generation_config.to_string();
    let context = parts.context_template.as_deref();
    let texts = [
        Some(parts.prompt_template.as_str()),
        context,
        Some(parts.schema_text.as_str()),
        Some(parts.model.as_str()),
        Some(generation_config.as_str()),
    ];
    for text in texts {
        match text {
            Some(text) => {
                digest.update((text.len() as u64 + 1).to_le_bytes());
                digest.update(text.as_bytes());
            }
            None => digest.update(0_u64.to_le_bytes()),
        }
    }
    RecipeHash::from(hex::encode(digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts(prompt: &str, context: Option<&str>) -> RecipeParts {
        RecipeParts {
            prompt_name: "page".into(),
            prompt_template: prompt.into(),
            context_template: context.map(str::to_owned),
            schema_text: "{}".into(),
            response_schema: json!({}),
            model: "model".into(),
            generation_config: json!({"temperature": 0.1}),
            levels: vec!["state".into(), "page".into()],
        }
    }

    fn levels() -> Vec<(String, String)> {
        vec![
            ("state".into(), "1849".into()),
            ("page".into(), "007".into()),
        ]
    }

    fn check(prompt: &str, expected: &str) {
        let recipe = Recipe::new(parts(prompt, None)).unwrap();
        let label = json!({"title": "Ünïcode"});
        let rendered = recipe
            .render_prompt("k:7", &levels(), &label, Some("öab"))
            .unwrap();
        assert_eq!(rendered, expected, "{prompt}");
    }

    #[test]
    fn prompts_see_what_they_are_promised() {
        check("{{ key }} {{ state }} {{ page + 1 }}", "k:7 1849 8");
        check("{{ label.title }} {{ label.title|head(2) }}", "Ünïcode Ün");
        check(
            "{{ previous_context|tail(2) }}{{ previous_context|tail(9) }}",
            "aböab",
        );
        check("{% for n in range(2) %}{{ n }}{% endfor %}", "01");
        check("a\n", "a\n");
    }

    #[test]
    fn undefined_names_are_refused_before_anything_is_sent() {
        let refused = Recipe::new(parts("{{ stat }}", None)).unwrap_err();
        assert!(refused.to_string().contains("'stat'"), "{refused}");
        assert!(Recipe::new(parts("{{ previous }}", None)).is_err());
        assert!(Recipe::new(parts("x", Some("{{ label }}"))).is_err());
        assert!(Recipe::new(parts("{% if %}", None)).is_err());
        let recipe = Recipe::new(parts("line\n{{ label.missing }}", None)).unwrap();
        let error = recipe
            .render_prompt("k", &levels(), &json!({}), None)
            .unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn context_is_made_from_the_page_before() {
        let recipe = Recipe::new(parts("x", Some("{{ previous.text|tail(3) }}"))).unwrap();
        let context = recipe
            .render_context(&json!({"text": "abcdef"}), "k", &levels())
            .unwrap();
        assert_eq!(context.as_deref(), Some("def"));
        let without = Recipe::new(parts("x", None)).unwrap();
        assert_eq!(
            without.render_context(&json!({}), "k", &levels()).unwrap(),
            None
        );
    }

    #[test]
    fn a_recipe_is_named_by_all_that_makes_its_answers() {
        let hash = |change: &dyn Fn(&mut RecipeParts)| {
            let mut parts = parts("p", Some("c"));
            change(&mut parts);
            hash(&parts)
        };
        let base = hash(&|_| {});
        assert_eq!(base, hash(&|parts| parts.prompt_name = "other".into()));
        let changed = [
            hash(&|parts| parts.prompt_template = "pc".into()),
            hash(&|parts| parts.context_template = None),
            hash(&|parts| parts.context_template = Some(String::new())),
            hash(&|parts| parts.schema_text = "{ }".into()),
            hash(&|parts| parts.model = "m".into()),
            hash(&|parts| parts.generation_config = json!({})),
        ];
        for (position, one) in changed.iter().enumerate() {
            assert_ne!(*one, base);
            assert!(!changed[..position].contains(one));
        }
    }
}
