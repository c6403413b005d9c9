//! The API key: the one thing that may never be shown.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::domain::ids::KeyFingerprint;

/// Keeps the fingerprint apart from any other hash of the same key.
const DOMAIN: &str = "pagemill key fingerprint 1";
/// Shorter texts would mask harmless words; no real key is this short.
const MASKABLE_BYTES_MIN: usize = 8;

/// The provider's API key. It prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes a key without the space around it; says what is wrong without showing it.
    pub fn new(text: &str) -> Result<ApiKey, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("holds a space or a character that no key has".to_owned());
        }
        Ok(ApiKey(text.to_owned()))
    }

    /// The key itself, for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A name for the account behind the key, from which the key cannot be told.
    pub fn fingerprint(&self, project_label: Option<&str>) -> KeyFingerprint {
        let mut hash = Sha256::new();
        for part in [DOMAIN, &self.0, project_label.unwrap_or("")] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hex::encode(hash.finalize());
        KeyFingerprint::new(&digest[..16])
    }

    /// Whether a text holds the key. A text of a few letters that somebody calls a key is in many.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.len() >= MASKABLE_BYTES_MIN && text.contains(&self.0)
    }

    /// The text with every occurrence of the key replaced.
    pub fn mask(&self, text: &str) -> String {
        if self.is_in(text) {
            text.replace(&self.0, "***")
        } else {
            text.to_owned()
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What stands in the place of an address's path.
pub const MASK: &str = "***";

/// A text that shows itself nowhere: the webhook's address and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    pub fn new(text: impl Into<String>) -> Self {
        Hidden(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether another text holds it. A text of a few letters is in many.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.len() >= MASKABLE_BYTES_MIN && text.contains(&self.0)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// An address without what may let somebody in: users, paths and queries.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return MASK.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let is_bare = authority == host && matches!(&rest[authority.len()..], "" | "/");
    if is_bare {
        url.to_owned()
    } else {
        format!("{scheme}://{host}/{MASK}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_shows_itself() {
        let key = ApiKey::new(" planted-key-0123456789 ").unwrap();
        assert_eq!(format!("{key} {key:?}"), "*** ***");
        assert_eq!(key.expose(), "planted-key-0123456789");
        assert_eq!(key.mask("a planted-key-0123456789 b"), "a *** b");
        assert!(!ApiKey::new("has space-4711").unwrap_err().contains("4711"));
        assert!(ApiKey::new("  ").is_err());
    }

    #[test]
    fn only_the_host_of_an_address_is_shown() {
        let check = |url: &str, expected: &str| assert_eq!(shown_url(url), expected, "{url}");
        check("https://a.example/T0/secret", "https://a.example/***");
        check("https://u:p@a.example:8443", "https://a.example:8443/***");
        check("https://a.example?token=1", "https://a.example/***");
        check("https://u:p@w@a.example/", "https://a.example/***");
        check("https://a.example/", "https://a.example/");
        check("secret", "***");
        assert_eq!(format!("{:?}", Hidden::new("secret")), "***");
    }

    #[test]
    fn f14_a_fingerprint_follows_key_and_label() {
        let key = ApiKey::new("planted-key-0123456789").unwrap();
        let other = ApiKey::new("planted-key-9876543210").unwrap();
        assert_eq!(key.fingerprint(None), key.fingerprint(None));
        assert_eq!(key.fingerprint(None).as_str().len(), 16);
        assert_ne!(key.fingerprint(None), other.fingerprint(None));
        assert_ne!(key.fingerprint(None), key.fingerprint(Some("a")));
        assert_ne!(key.fingerprint(Some("b")), key.fingerprint(Some("a")));
    }
}
