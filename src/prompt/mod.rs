//! Recipes: prompt text, schema, model and generation config, named by their hash.

mod recipe;
mod validator;

pub use recipe::{PromptError, Recipe, RecipeError, RecipeParts};
pub use validator::{SchemaFault, Validator};
