//! File resources and lists of them.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

pub use super::loose::DecodeError;
use super::loose::Object;
use crate::domain::ids::RemoteName;
use crate::domain::remote::{RemoteFile, RemoteFileState};

/// A page of a list, with the token of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// Reads a file resource, with or without the `file` wrapper that an upload's answer has.
pub fn file(body: &[u8]) -> Result<RemoteFile, DecodeError> {
    let outer = Object::parse("a file", body)?;
    match outer.object(&["file"]) {
        Some(inner) => resource(&inner),
        None => resource(&outer),
    }
}

/// Reads a page of a file list; both of its keys may be absent.
pub fn file_page(body: &[u8]) -> Result<Page<RemoteFile>, DecodeError> {
    let outer = Object::parse("a list of files", body)?;
    let items = outer
        .list(&["files"])
        .unwrap_or_default()
        .into_iter()
        .map(|raw| resource(&Object::open(raw).unwrap_or_default()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Page {
        items,
        next: next_page(&outer),
    })
}

pub(super) fn next_page(outer: &Object<'_>) -> Option<String> {
    outer
        .text(&["nextPageToken", "next_page_token"])
        .filter(|token| !token.is_empty())
}

fn resource(object: &Object<'_>) -> Result<RemoteFile, DecodeError> {
    let name = object
        .text(&["name"])
        .filter(|name| !name.is_empty())
        .ok_or_else(|| DecodeError {
            what: "a file",
            detail: "it has no name".to_owned(),
        })?;
    Ok(RemoteFile {
        name: RemoteName::new(name),
        uri: object.text(&["uri"]).unwrap_or_default(),
        display_name: object.text(&["displayName", "display_name"]),
        mime: object.text(&["mimeType", "mime_type"]),
        bytes: object.count(&["sizeBytes", "size_bytes"]),
        sha256: object
            .text(&["sha256Hash", "sha256_hash"])
            .and_then(|text| sha256_hex(&text)),
        created_at: object.instant(&["createTime", "create_time"]),
        expires_at: object.instant(&["expirationTime", "expiration_time"]),
        state: state(&object.text(&["state"]).unwrap_or_default()),
    })
}

fn state(word: &str) -> RemoteFileState {
    match word.to_ascii_uppercase().as_str() {
        "PROCESSING" | "STATE_PROCESSING" => RemoteFileState::Processing,
        "ACTIVE" | "STATE_ACTIVE" => RemoteFileState::Active,
        "FAILED" | "STATE_FAILED" => RemoteFileState::Failed,
        _ => RemoteFileState::Unknown(word.to_owned()),
    }
}

/// Brings a digest to lowercase hex: from hex, from base64 of hex (what the service sends), or
/// from base64 of the 32 bytes (what its documentation says). `None` when it is none of these.
fn sha256_hex(text: &str) -> Option<String> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let text = text.trim();
    if let Some(digest) = hex_digest(text.as_bytes()) {
        return Some(digest);
    }
    [&base64::alphabet::STANDARD, &base64::alphabet::URL_SAFE]
        .into_iter()
        .filter_map(|alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(text).ok())
        .find_map(|bytes| match bytes.len() {
            32 => Some(hex::encode(bytes)),
            _ => hex_digest(&bytes),
        })
}

fn hex_digest(text: &[u8]) -> Option<String> {
    let is_digest = text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit);
    is_digest.then(|| String::from_utf8_lossy(text).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "44837cd5615a454589e2ab8e116dd817355b194d64e9ca154c56b3ccdea8f34b";

    fn check_hash(text: &str, expected: Option<&str>) {
        assert_eq!(sha256_hex(text).as_deref(), expected, "{text}");
    }

    #[test]
    fn digests_are_read_in_every_form() {
        let bytes = hex::decode(HEX).unwrap();
        check_hash(HEX, Some(HEX));
        check_hash(&HEX.to_uppercase(), Some(HEX));
        check_hash(
            "NDQ4MzdjZDU2MTVhNDU0NTg5ZTJhYjhlMTE2ZGQ4MTczNTViMTk0ZDY0ZTljYTE1NGM1NmIzY2NkZWE4ZjM0Yg==",
            Some(HEX),
        );
        check_hash(&base64::prelude::BASE64_STANDARD.encode(&bytes), Some(HEX));
        check_hash(
            &base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(&bytes),
            Some(HEX),
        );
        check_hash("", None);
        check_hash("not a hash", None);
    }

    fn check_size(json: &str, expected: Option<u64>) {
        let body = format!(r#"{{"name":"files/a","sizeBytes":{json}}}"#);
        assert_eq!(file(body.as_bytes()).unwrap().bytes, expected, "{json}");
    }

    #[test]
    fn sizes_are_read_as_text_or_number() {
        check_size("\"73\"", Some(73));
        check_size("73", Some(73));
        check_size("null", None);
        check_size("-1", None);
        check_size("{}", None);
    }

    #[test]
    fn a_file_is_read_with_and_without_wrapper() {
        let bare = r#"{"name":"files/a","uri":"u","state":"ACTIVE","later":[1],
            "expirationTime":"2026-11-23T10:00:00.260456789Z"}"#;
        let plain = file(bare.as_bytes()).unwrap();
        let wrapped = file(format!(r#"{{"file":{bare}}}"#).as_bytes()).unwrap();
        assert_eq!(plain, wrapped);
        assert_eq!(plain.state, RemoteFileState::Active);
        assert_eq!(
            plain.expires_at.unwrap().to_string(),
            "2026-11-23T10:00:00.260456Z"
        );
        let odd = file(br#"{"name":"files/a","state":"TIRED"}"#).unwrap();
        assert_eq!(odd.state, RemoteFileState::Unknown("TIRED".into()));
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        for body in ["", "{}", "[]", "{\"file\":{}}", "<html>", "{\"name\":5}"] {
            assert!(file(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn both_keys_of_a_list_may_be_absent() {
        assert_eq!(
            file_page(b"{}").unwrap(),
            Page {
                items: Vec::new(),
                next: None
            }
        );
        let page = file_page(br#"{"files":[{"name":"files/a"}],"nextPageToken":"t"}"#).unwrap();
        assert_eq!((page.items.len(), page.next.as_deref()), (1, Some("t")));
    }
}
