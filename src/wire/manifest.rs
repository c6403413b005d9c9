//! The manifest of a batch as JSON: a file of ours, read again by later versions of this program.

use serde::{Deserialize, Serialize};

pub use super::loose::DecodeError;
use crate::domain::failure::ErrorType;
use crate::domain::ids::Sha256Hex;
use crate::domain::manifest::{
    BatchManifest, ManifestFile, ManifestLines, ManifestMember, ManifestRecipe,
};
use crate::domain::time::Timestamp;

/// The version of the form; a field that changes its meaning changes this.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Batch {
    version: u32,
    batch_id: String,
    display_name: String,
    run: String,
    first_run: String,
    key_fingerprint: String,
    created_at: String,
    reserved_cost_nanos: Option<u64>,
    recipe: Recipe,
    lines: Option<Lines>,
    members: Vec<Member>,
}

#[derive(Serialize, Deserialize)]
struct Recipe {
    hash: String,
    prompt_name: String,
    prompt_template: String,
    context_template: Option<String>,
    schema: String,
    model: String,
    generation_config: String,
}

#[derive(Serialize, Deserialize)]
struct Lines {
    sha256: String,
    bytes: u64,
    file: Option<File>,
}

#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    uri: String,
    mime: String,
    bytes: u64,
    sha256: String,
    expires_at: String,
}

#[derive(Serialize, Deserialize)]
struct Member {
    key: String,
    attempt_number: u32,
    failures: Vec<String>,
    releases: u32,
    prompt_sha256: Option<String>,
    context_sha256: Option<String>,
    image: Option<File>,
}

/// Writes a manifest.
pub fn encode(manifest: &BatchManifest) -> Vec<u8> {
    let BatchManifest {
        batch,
        display_name,
        run,
        first_run,
        key_fingerprint,
        recipe,
        lines,
        reserved_cost_nanos,
        members,
        created_at,
    } = manifest;
    let form = Batch {
        version: VERSION,
        batch_id: batch.to_string(),
        display_name: display_name.clone(),
        run: run.to_string(),
        first_run: first_run.clone(),
        key_fingerprint: key_fingerprint.to_string(),
        created_at: created_at.to_string(),
        reserved_cost_nanos: *reserved_cost_nanos,
        recipe: Recipe {
            hash: recipe.hash.to_string(),
            prompt_name: recipe.prompt_name.clone(),
            prompt_template: recipe.prompt_template.clone(),
            context_template: recipe.context_template.clone(),
            schema: recipe.schema.clone(),
            model: recipe.model.clone(),
            generation_config: recipe.generation_config.clone(),
        },
        lines: lines.as_ref().map(|lines| Lines {
            sha256: lines.sha256.to_string(),
            bytes: lines.bytes,
            file: lines.file.as_ref().map(encode_file),
        }),
        members: members.iter().map(encode_member).collect(),
    };
    serde_json::to_vec(&form).expect("texts and numbers are always JSON")
}

fn encode_member(member: &ManifestMember) -> Member {
    let ManifestMember {
        key,
        attempt_number,
        failures,
        releases,
        prompt_sha256,
        context_sha256,
        image,
    } = member;
    Member {
        key: key.to_string(),
        attempt_number: *attempt_number,
        failures: failures.iter().map(ToString::to_string).collect(),
        releases: *releases,
        prompt_sha256: prompt_sha256.as_ref().map(ToString::to_string),
        context_sha256: context_sha256.as_ref().map(ToString::to_string),
        image: image.as_ref().map(encode_file),
    }
}

fn encode_file(file: &ManifestFile) -> File {
    let ManifestFile {
        name,
        uri,
        mime,
        bytes,
        sha256,
        expires_at,
    } = file;
    File {
        name: name.to_string(),
        uri: uri.clone(),
        mime: mime.clone(),
        bytes: *bytes,
        sha256: sha256.to_string(),
        expires_at: expires_at.to_string(),
    }
}

/// Reads a manifest.
pub fn decode(text: &[u8]) -> Result<BatchManifest, DecodeError> {
    let fault = |detail: String| DecodeError {
        what: "a batch manifest",
        detail,
    };
    let head: Head = serde_json::from_slice(text).map_err(|error| fault(error.to_string()))?;
    if head.version != VERSION {
        let detail = format!("its version is {}, not {VERSION}", head.version);
        return Err(fault(detail));
    }
    let form: Batch = serde_json::from_slice(text).map_err(|error| fault(error.to_string()))?;
    let members = form.members.into_iter().map(decode_member);
    let lines = form.lines.map(|lines| {
        Ok(ManifestLines {
            sha256: Sha256Hex::from(lines.sha256),
            bytes: lines.bytes,
            file: lines.file.map(decode_file).transpose()?,
        })
    });
    Ok(BatchManifest {
        batch: form.batch_id.into(),
        display_name: form.display_name,
        run: form.run.into(),
        first_run: form.first_run,
        key_fingerprint: form.key_fingerprint.into(),
        recipe: ManifestRecipe {
            hash: form.recipe.hash.into(),
            prompt_name: form.recipe.prompt_name,
            prompt_template: form.recipe.prompt_template,
            context_template: form.recipe.context_template,
            schema: form.recipe.schema,
            model: form.recipe.model,
            generation_config: form.recipe.generation_config,
        },
        lines: lines.transpose().map_err(fault)?,
        reserved_cost_nanos: form.reserved_cost_nanos,
        members: members.collect::<Result<_, String>>().map_err(fault)?,
        created_at: instant(&form.created_at).map_err(fault)?,
    })
}

fn decode_member(member: Member) -> Result<ManifestMember, String> {
    let failures = member
        .failures
        .iter()
        .map(|word| ErrorType::parse(word).ok_or_else(|| format!("'{word}' is not an error type")));
    Ok(ManifestMember {
        failures: failures.collect::<Result<_, _>>()?,
        key: member.key.into(),
        attempt_number: member.attempt_number,
        releases: member.releases,
        prompt_sha256: member.prompt_sha256.map(Sha256Hex::from),
        context_sha256: member.context_sha256.map(Sha256Hex::from),
        image: member.image.map(decode_file).transpose()?,
    })
}

fn decode_file(file: File) -> Result<ManifestFile, String> {
    Ok(ManifestFile {
        expires_at: instant(&file.expires_at)?,
        name: file.name.into(),
        uri: file.uri,
        mime: file.mime,
        bytes: file.bytes,
        sha256: Sha256Hex::from(file.sha256),
    })
}

fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::RemoteName;

    fn manifest() -> BatchManifest {
        let file = |name: &str| ManifestFile {
            name: RemoteName::from(name),
            uri: format!("https://example.com/{name}"),
            mime: "image/png".to_owned(),
            bytes: 7,
            sha256: "ab".into(),
            expires_at: Timestamp::EPOCH,
        };
        BatchManifest {
            batch: "01".into(),
            display_name: "pagemill-01".to_owned(),
            run: "r".into(),
            first_run: "r 1970".to_owned(),
            key_fingerprint: "f".into(),
            recipe: ManifestRecipe {
                hash: "h".into(),
                prompt_name: "p".to_owned(),
                prompt_template: "{{ key }}".to_owned(),
                context_template: None,
                schema: "{}".to_owned(),
                model: "gemini-3.8-flash".to_owned(),
                generation_config: "{}".to_owned(),
            },
            lines: Some(ManifestLines {
                sha256: "cd".into(),
                bytes: 9,
                file: Some(file("files/lines")),
            }),
            reserved_cost_nanos: Some(5),
            members: vec![ManifestMember {
                key: "A:1".into(),
                attempt_number: 2,
                failures: vec![ErrorType::Truncated],
                releases: 1,
                prompt_sha256: Some("ef".into()),
                context_sha256: None,
                image: Some(file("files/a")),
            }],
            created_at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_manifest_comes_back_as_it_was() {
        assert_eq!(decode(&encode(&manifest())).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_of_another_version_or_a_broken_one_is_refused() {
        let text = String::from_utf8(encode(&manifest())).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":2");
        let refused = decode(newer.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("its version is 2"), "{refused}");
        assert!(decode(&text.as_bytes()[..text.len() - 1]).is_err());
        assert!(decode(text.replace("Truncated", "Tired").as_bytes()).is_err());
        assert!(decode(text.replace("1970-01-01T", "1970-01-01").as_bytes()).is_err());
    }
}
