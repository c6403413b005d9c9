//! What a page is asked: templates, schema and parameters, bound together as a recipe.
//!
//! A [`Recipe`] is immutable and named by the hash of all its parts, so an answer can always be
//! traced to what was asked. Undefined names are errors when a template is loaded, as far as they
//! can be told then, and when it is rendered; nothing half-rendered is ever sent.
//!
//! **Invariant:** nothing here reaches the network; a template sees the values it is given and no
//! file, and a schema refers to nothing outside itself.

mod recipe;
mod template;
mod validator;

use std::path::{Path, PathBuf};

pub use recipe::{Recipe, RecipeRequest};
pub use template::Templates;
pub use validator::Validator;

use crate::wire::schema::SchemaError;

/// Why a prompt or its schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    #[error("{path}: cannot be read ({detail})")]
    Unreadable { path: String, detail: String },
    #[error("{path}: not valid JSON ({detail})")]
    NotJson { path: String, detail: String },
    #[error("{path}: not a valid JSON Schema ({detail})")]
    NotASchema { path: String, detail: String },
    #[error("{path}: the schema has no form that the provider takes: {error}")]
    Irreducible { path: String, error: SchemaError },
    #[error("{template}{place}: {detail}")]
    Template {
        template: String,
        /// ` line 3`, or empty.
        place: String,
        detail: String,
    },
    #[error("{template}{place}: there is no '{name}' here; a template may use {known}{suggestion}")]
    UnknownName {
        template: String,
        place: String,
        name: String,
        known: String,
        suggestion: String,
    },
    #[error(
        "{path}: the schema does not require a text field '{field}' at its top, which results.echo_field names"
    )]
    NoEchoField { path: String, field: String },
    #[error("the recipe has no context template, but a context was asked for")]
    NoContextTemplate,
}

/// The folder of the prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// Takes the folder; nothing is read yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Registry { dir: dir.into() }
    }

    /// Reads, compiles and checks everything that a request names.
    pub fn load(&self, request: &RecipeRequest<'_>) -> Result<Recipe, PromptError> {
        let folder = self.dir.join(request.prompt_name);
        let prompt = read(&folder.join(request.template_file))?;
        let context = match request.context_file {
            Some(file) => Some(read(&folder.join(file))?),
            None => None,
        };
        let schema = read(request.schema_file)?;
        Recipe::assemble(request, prompt, context, schema)
    }
}

fn read(path: &Path) -> Result<String, PromptError> {
    std::fs::read_to_string(path).map_err(|error| PromptError::Unreadable {
        path: path.display().to_string(),
        detail: error.to_string(),
    })
}
