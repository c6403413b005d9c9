//! Prompts: what they are made from, and how they read.

use std::sync::Arc;

use super::lines::Refusal;
use crate::domain::attempt::FailureDetail;
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::layout::Layout;
use crate::meter::carried;
use crate::notices;
use crate::ports::page_source::{PageSource, SourceError};
use crate::prompt::Recipe;

/// What a prompt is made from.
pub(super) struct Material {
    key: RecordKey,
    levels: Vec<String>,
    label: Vec<u8>,
    /// The predecessor's accepted output.
    previous: Option<Vec<u8>>,
}

/// A prompt, and the context in it.
pub(super) struct Prompted {
    pub prompt: String,
    pub context: Option<String>,
}

/// Makes prompts by one recipe.
pub(super) struct Prompts<'w> {
    pub recipe: &'w Arc<Recipe>,
    pub layout: &'w Layout,
}

impl Prompts<'_> {
    /// Reads what the prompts of some pages are made from, each page with the one before if its prompt is to
    /// see that. One fails when the disk does, which is no fault of the page's.
    pub(super) async fn materials(
        &self,
        pages: &[(&RecordKey, Option<&RecordKey>)],
        source: &dyn PageSource,
    ) -> Vec<Result<Result<Material, Refusal>, SourceError>> {
        let keys: Vec<&RecordKey> = pages.iter().map(|(key, _before)| *key).collect();
        let labels = source.labels(&keys).await;
        let mut materials = Vec::with_capacity(pages.len());
        for ((key, predecessor), label) in pages.iter().zip(labels) {
            materials.push(self.material(key, label, *predecessor, source).await);
        }
        materials
    }

    async fn material(
        &self,
        key: &RecordKey,
        label: Result<Vec<u8>, SourceError>,
        predecessor: Option<&RecordKey>,
        source: &dyn PageSource,
    ) -> Result<Result<Material, Refusal>, SourceError> {
        let refused = |words: String| Ok(Err(not_packed(ErrorType::Validation, &words)));
        let levels = match self.layout.levels(key) {
            Ok(levels) => levels,
            Err(error) => return refused(error.to_string()),
        };
        let label = match label {
            Ok(label) => label,
            Err(error) if error.disk => return Err(error),
            Err(error) => return refused(format!("label: {error}")),
        };
        let previous = match predecessor {
            None => None,
            Some(before) => match source.output(before).await {
                Ok(output) => Some(output),
                Err(error) if error.disk => return Err(error),
                Err(error) => {
                    // Somebody took it away since it was accepted: no fault of this page.
                    notices::ContextMissing { key, fault: &error }.emit();
                    None
                }
            },
        };
        Ok(Ok(Material {
            key: key.clone(),
            levels,
            label,
            previous,
        }))
    }

    /// Renders prompts on the blocking pool, in order.
    pub(super) async fn rendered(
        &self,
        materials: Vec<Result<Material, Refusal>>,
    ) -> Vec<Result<Prompted, Refusal>> {
        let recipe = Arc::clone(self.recipe);
        let names = self.layout.names().to_vec();
        let count = materials.len();
        let rendered = actix_rt::task::spawn_blocking(carried(move || {
            materials
                .into_iter()
                .map(|material| material.and_then(|material| render(&recipe, &names, material)))
                .collect::<Vec<_>>()
        }));
        rendered.await.unwrap_or_else(|lost| {
            let failure = not_packed(ErrorType::Validation, &format!("rendering ended: {lost}"));
            (0..count).map(|_| Err(failure.clone())).collect()
        })
    }
}

fn render(recipe: &Recipe, names: &[String], material: Material) -> Result<Prompted, Refusal> {
    let Material {
        key,
        levels,
        label,
        previous,
    } = material;
    let label: serde_json::Value = serde_json::from_slice(&label).map_err(|error| {
        not_packed(
            ErrorType::JsonDecode,
            &format!("the label is not JSON: {error}"),
        )
    })?;
    let levels: Vec<(String, String)> = names.iter().cloned().zip(levels).collect();
    let key = key.as_str();
    let rendering = |error: crate::prompt::PromptError| {
        not_packed(
            ErrorType::Validation,
            &format!("the prompt cannot be rendered: {error}"),
        )
    };
    let context = match previous.filter(|_| recipe.context_template.is_some()) {
        None => None,
        Some(text) => {
            let previous: serde_json::Value = serde_json::from_slice(&text).map_err(|error| {
                let words = format!("the output of the page before is not JSON: {error}");
                not_packed(ErrorType::JsonDecode, &words)
            })?;
            Some(
                recipe
                    .render_context(&previous, key, &levels)
                    .map_err(rendering)?,
            )
        }
    };
    let prompt = recipe
        .render_prompt(key, &levels, &label, context.as_deref())
        .map_err(rendering)?;
    Ok(Prompted { prompt, context })
}

/// Why a page is not put into a request.
pub(super) fn not_packed(error: ErrorType, message: &str) -> Refusal {
    Box::new(FailureDetail {
        error,
        message: message.to_owned(),
        chain: message.to_owned(),
        raw_text: None,
        extracted_text: None,
        raw_json: None,
    })
}
