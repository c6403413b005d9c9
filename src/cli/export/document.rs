//! One page as a document that a person reads: what it is, where it stands, what it took, what went
//! wrong, and where everything of it is found. It says nothing of when it was written, so that it
//! changes only when the page does.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::StateFormat;
use crate::actors::state::page_walk::{
    ErrorFacts, PageDetails, PageFacts, RecipeName, RequestFacts,
};
use crate::domain::ids::RecordKey;
use crate::domain::layout::KeyError;
use crate::settings::Paths;

/// The version of the documents; a field that changes its meaning changes this.
const VERSION: u32 = 1;

/// What documents are made from beside the rows of their pages.
pub struct Maker<'a> {
    pub paths: &'a Paths,
    pub recipes: HashMap<String, RecipeName>,
    pub format: StateFormat,
}

/// A document, and what an index says of it.
pub struct Document {
    pub text: Vec<u8>,
    pub sha256: String,
    /// Below the root of the export, with slashes.
    pub path: String,
}

/// The path of a page's document below the root of the export.
pub fn path_of(paths: &Paths, key: &RecordKey, format: StateFormat) -> Result<String, KeyError> {
    let path = paths
        .layout
        .path(Path::new("processed"), key, format.as_str())?;
    Ok(path.to_string_lossy().into_owned())
}

impl Maker<'_> {
    /// Makes the document of a page.
    pub fn document(&self, page: &PageFacts, details: &PageDetails) -> anyhow::Result<Document> {
        let key = RecordKey::from(page.record_key.as_str());
        let value = self.value(&key, page, details)?;
        let text = match self.format {
            StateFormat::Yaml => serde_yaml::to_string(&value)?,
            StateFormat::Json => serde_json::to_string_pretty(&value)? + "\n",
        };
        let text = text.into_bytes();
        Ok(Document {
            sha256: hex::encode(Sha256::digest(&text)),
            path: path_of(self.paths, &key, self.format)?,
            text,
        })
    }

    fn value(
        &self,
        key: &RecordKey,
        page: &PageFacts,
        details: &PageDetails,
    ) -> anyhow::Result<Value> {
        let names = self.paths.layout.names();
        let levels = self.paths.layout.levels(key)?;
        let requests = details.requests.get(&page.record_key);
        let requests = requests.map_or(&[][..], Vec::as_slice);
        let errors = details.errors.get(&page.record_key);
        let errors = errors.map_or(&[][..], Vec::as_slice);
        let judged = requests
            .iter()
            .filter(|request| ["accepted", "rejected"].contains(&request.outcome.as_str()));
        let batches = requests
            .iter()
            .filter_map(|request| request.remote_name.as_deref());
        let named: Map<String, Value> = names
            .iter()
            .cloned()
            .zip(levels.iter().map(|level| json!(level)))
            .collect();
        Ok(json!({
            "version": VERSION,
            "record_key": page.record_key,
            "title": title(names, &levels),
            "levels": named,
            "stage": page.stage,
            "status": page.status,
            "error": page.error,
            "waits_for": page.waits_for,
            "not_before": page.not_before,
            "priority": page.priority,
            "failures": page.failures,
            "discovered": page.created_at,
            "last_updated": page.updated_at,
            "attempts": {
                "upload": details.uploads.get(&page.record_key).copied().unwrap_or(0),
                "submit": requests.len(),
                "validate": judged.count(),
            },
            "files": self.files(key, page, requests)?,
            "image": {
                "mime": page.image_mime,
                "bytes": page.image_bytes,
                "width": page.image_width,
                "height": page.image_height,
                "sha256": page.image_sha256,
            },
            "output": {"sha256": page.output_sha256, "bytes": page.output_bytes},
            "recipe": self.recipe(page),
            "run": page.run_id,
            "external_ids": {
                "image_file": page.image_file,
                "image_expires_at": page.image_expires_at,
                "batches": batches.collect::<Vec<&str>>(),
            },
            "tokens": tokens(requests),
            "cost_usd": cost(requests.iter().filter_map(|request| request.cost_nanos).sum()),
            "requests": requests.iter().map(request_value).collect::<Vec<Value>>(),
            "error_history": errors.iter().map(error_value).collect::<Vec<Value>>(),
        }))
    }

    fn files(
        &self,
        key: &RecordKey,
        page: &PageFacts,
        requests: &[RequestFacts],
    ) -> Result<Value, KeyError> {
        let layout = &self.paths.layout;
        let shown = |root: &Path, extension: &str| {
            let path = layout.path(root, key, extension)?;
            Ok::<Value, KeyError>(path.to_string_lossy().into())
        };
        let output = match page.output_sha256 {
            Some(_) => shown(&self.paths.output_dir, "json")?,
            None => Value::Null,
        };
        let raw = requests
            .iter()
            .filter_map(|request| request.raw_path.as_deref());
        // The ending of an image is what is found on the disk.
        Ok(json!({
            "label": shown(&self.paths.label_source_dir, "json")?,
            "image": shown(&self.paths.image_source_dir, "*")?,
            "output": output,
            "raw_results": raw.collect::<Vec<&str>>(),
        }))
    }

    fn recipe(&self, page: &PageFacts) -> Value {
        let Some(hash) = &page.recipe_hash else {
            return Value::Null;
        };
        let name = self.recipes.get(hash);
        json!({
            "hash": hash,
            "prompt": name.map(|name| name.prompt_name.as_str()),
            "model": name.map(|name| name.model.as_str()),
        })
    }
}

/// `Alabama, Howard College, 1849, page 14`.
fn title(names: &[String], levels: &[String]) -> String {
    let (folders, page) = levels.split_at(levels.len().saturating_sub(1));
    let mut parts = folders.to_vec();
    for (name, page) in names.iter().skip(folders.len()).zip(page) {
        parts.push(format!("{name} {page}"));
    }
    parts.join(", ")
}

fn tokens(requests: &[RequestFacts]) -> Value {
    let sum =
        |of: fn(&RequestFacts) -> Option<i64>| -> i64 { requests.iter().filter_map(of).sum() };
    json!({
        "prompt": sum(|request| request.tokens_prompt),
        "cached": sum(|request| request.tokens_cached),
        "candidates": sum(|request| request.tokens_candidates),
        "thoughts": sum(|request| request.tokens_thoughts),
        "total": sum(|request| request.tokens_total),
    })
}

/// US dollars from billionths of them.
fn cost(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

fn request_value(request: &RequestFacts) -> Value {
    json!({
        "batch_id": request.batch_id,
        "remote_name": request.remote_name,
        "attempt": request.attempt_number,
        "outcome": request.outcome,
        "error": request.error_type,
        "finish_reason": request.finish_reason,
        "model_version": request.model_version,
        "tokens_total": request.tokens_total,
        "cost_usd": request.cost_nanos.map(cost),
        "raw_line": request.raw_line_offset.zip(request.raw_line_bytes).map(|(offset, bytes)| {
            json!({"offset": offset, "bytes": bytes})
        }),
        "submitted": request.submitted_at,
        "decided": request.decided_at,
    })
}

fn error_value(error: &ErrorFacts) -> Value {
    json!({
        "at": error.created_at,
        "batch_id": (!error.batch_id.is_empty()).then_some(&error.batch_id),
        "attempt": error.attempt_number,
        "error": error.error_type,
        "message": error.message(),
        "counted": error.counted != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_10_a_page_has_a_title() {
        let words = |words: [&str; 3]| words.map(str::to_owned).to_vec();
        assert_eq!(
            title(
                &words(["state", "year", "page"]),
                &words(["Ohio", "1849", "14"])
            ),
            "Ohio, 1849, page 14"
        );
    }
}
