//! The manifest of a batch as JSON: a file of ours, read again by later versions of this program.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
struct Batch<'a> {
    version: u32,
    batch_id: Cow<'a, str>,
    display_name: Cow<'a, str>,
    run: Cow<'a, str>,
    first_run: Cow<'a, str>,
    key_fingerprint: Cow<'a, str>,
    created_at: String,
    reserved_cost_nanos: Option<u64>,
    recipe: Recipe<'a>,
    lines: Option<Lines<'a>>,
    members: Members<'a>,
}

#[derive(Serialize, Deserialize)]
struct Recipe<'a> {
    hash: Cow<'a, str>,
    prompt_name: Cow<'a, str>,
    prompt_template: Cow<'a, str>,
    context_template: Option<Cow<'a, str>>,
    schema: Cow<'a, str>,
    model: Cow<'a, str>,
    generation_config: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Lines<'a> {
    sha256: Cow<'a, str>,
    bytes: u64,
    file: Option<File<'a>>,
}

#[derive(Serialize, Deserialize)]
struct File<'a> {
    name: Cow<'a, str>,
    uri: Cow<'a, str>,
    mime: Cow<'a, str>,
    bytes: u64,
    sha256: Cow<'a, str>,
    expires_at: String,
}

#[derive(Serialize, Deserialize)]
struct Member<'a> {
    key: Cow<'a, str>,
    attempt_number: u32,
    failures: Vec<Cow<'a, str>>,
    releases: u32,
    prompt_sha256: Option<Cow<'a, str>>,
    context_sha256: Option<Cow<'a, str>>,
    image: Option<File<'a>>,
}

/// The members of a batch. There may be many: those that are known are written from where they are,
/// one by one.
enum Members<'a> {
    Read(Vec<Member<'a>>),
    Known(&'a [ManifestMember]),
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Members::Read(members) => serializer.collect_seq(members),
            Members::Known(members) => serializer.collect_seq(members.iter().map(encode_member)),
        }
    }
}

impl<'de> Deserialize<'de> for Members<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Members::Read)
    }
}

/// About what a member takes, in bytes: a text that has room from the beginning need not move.
const MEMBER_BYTES: usize = 512;

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
        batch_id: batch.as_str().into(),
        display_name: display_name.into(),
        run: run.as_str().into(),
        first_run: first_run.into(),
        key_fingerprint: key_fingerprint.as_str().into(),
        created_at: created_at.to_string(),
        reserved_cost_nanos: *reserved_cost_nanos,
        recipe: Recipe {
            hash: recipe.hash.as_str().into(),
            prompt_name: (&recipe.prompt_name).into(),
            prompt_template: (&recipe.prompt_template).into(),
            context_template: recipe.context_template.as_deref().map(Cow::from),
            schema: (&recipe.schema).into(),
            model: (&recipe.model).into(),
            generation_config: (&recipe.generation_config).into(),
        },
        lines: lines.as_ref().map(|lines| Lines {
            sha256: lines.sha256.as_str().into(),
            bytes: lines.bytes,
            file: lines.file.as_ref().map(encode_file),
        }),
        members: Members::Known(members),
    };
    let mut text = Vec::with_capacity(members.len() * MEMBER_BYTES);
    serde_json::to_writer(&mut text, &form).expect("texts and numbers are always JSON");
    text
}

fn encode_member(member: &ManifestMember) -> Member<'_> {
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
        key: key.as_str().into(),
        attempt_number: *attempt_number,
        failures: failures.iter().map(|error| error.as_str().into()).collect(),
        releases: *releases,
        prompt_sha256: prompt_sha256.as_ref().map(|hash| hash.as_str().into()),
        context_sha256: context_sha256.as_ref().map(|hash| hash.as_str().into()),
        image: image.as_ref().map(encode_file),
    }
}

fn encode_file(file: &ManifestFile) -> File<'_> {
    let ManifestFile {
        name,
        uri,
        mime,
        bytes,
        sha256,
        expires_at,
    } = file;
    File {
        name: name.as_str().into(),
        uri: uri.into(),
        mime: mime.into(),
        bytes: *bytes,
        sha256: sha256.as_str().into(),
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
    let Members::Read(members) = form.members else {
        return Err(fault("its members were not read".to_owned()));
    };
    let members = members.into_iter().map(decode_member);
    let lines = form.lines.map(|lines| {
        Ok(ManifestLines {
            sha256: Sha256Hex::from(lines.sha256.as_ref()),
            bytes: lines.bytes,
            file: lines.file.map(decode_file).transpose()?,
        })
    });
    Ok(BatchManifest {
        batch: form.batch_id.as_ref().into(),
        display_name: form.display_name.into_owned(),
        run: form.run.as_ref().into(),
        first_run: form.first_run.into_owned(),
        key_fingerprint: form.key_fingerprint.as_ref().into(),
        recipe: ManifestRecipe {
            hash: form.recipe.hash.as_ref().into(),
            prompt_name: form.recipe.prompt_name.into_owned(),
            prompt_template: form.recipe.prompt_template.into_owned(),
            context_template: form.recipe.context_template.map(Cow::into_owned),
            schema: form.recipe.schema.into_owned(),
            model: form.recipe.model.into_owned(),
            generation_config: form.recipe.generation_config.into_owned(),
        },
        lines: lines.transpose().map_err(fault)?,
        reserved_cost_nanos: form.reserved_cost_nanos,
        members: members.collect::<Result<_, String>>().map_err(fault)?,
        created_at: instant(&form.created_at).map_err(fault)?,
    })
}

fn decode_member(member: Member<'_>) -> Result<ManifestMember, String> {
    let failures = member
        .failures
        .iter()
        .map(|word| ErrorType::parse(word).ok_or_else(|| format!("'{word}' is not an error type")));
    Ok(ManifestMember {
        failures: failures.collect::<Result<_, _>>()?,
        key: member.key.as_ref().into(),
        attempt_number: member.attempt_number,
        releases: member.releases,
        prompt_sha256: member.prompt_sha256.as_deref().map(Sha256Hex::from),
        context_sha256: member.context_sha256.as_deref().map(Sha256Hex::from),
        image: member.image.map(decode_file).transpose()?,
    })
}

fn decode_file(file: File<'_>) -> Result<ManifestFile, String> {
    Ok(ManifestFile {
        expires_at: instant(&file.expires_at)?,
        name: file.name.as_ref().into(),
        uri: file.uri.into_owned(),
        mime: file.mime.into_owned(),
        bytes: file.bytes,
        sha256: Sha256Hex::from(file.sha256.as_ref()),
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
