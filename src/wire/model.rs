//! Model resources.

pub use super::loose::DecodeError;
use super::loose::Object;
use crate::domain::remote::RemoteModel;

/// Reads a model resource.
pub fn model(body: &[u8]) -> Result<RemoteModel, DecodeError> {
    let object = Object::parse("a model", body)?;
    let name = object
        .text(&["name"])
        .filter(|name| !name.is_empty())
        .ok_or_else(|| DecodeError {
            what: "a model",
            detail: "it has no name".to_owned(),
        })?;
    let methods = object.list(&["supportedGenerationMethods", "supported_generation_methods"]);
    let methods = methods.unwrap_or_default().into_iter();
    Ok(RemoteModel {
        name,
        methods: methods
            .filter_map(|raw| serde_json::from_str(raw.get()).ok())
            .collect(),
        output_tokens_max: object.count(&["outputTokenLimit", "output_token_limit"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_read_whatever_it_lacks() {
        let full = br#"{"name": "models/gemini-3.8-flash", "outputTokenLimit": "65536",
            "supportedGenerationMethods": ["generateContent", 7, "batchGenerateContent"]}"#;
        let read = model(full).unwrap();
        assert_eq!(read.name, "models/gemini-3.8-flash");
        assert_eq!(read.methods, ["generateContent", "batchGenerateContent"]);
        assert_eq!(read.output_tokens_max, Some(65_536));
        let bare = model(br#"{"name": "models/x"}"#).unwrap();
        assert!(bare.methods.is_empty() && bare.output_tokens_max.is_none());
        assert!(model(b"{}").is_err() && model(b"<html>").is_err());
    }
}
