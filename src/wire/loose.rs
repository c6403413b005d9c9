//! Reading JSON whose shape varies: objects are opened one level at a time, every name may have
//! two spellings, and a value of an unexpected type counts as absent.
//!
//! What is not opened is not built: a job with large results inside is looked at without holding
//! a tree of them. Passing over a value does not recurse, so depth cannot overflow the stack.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::time::Timestamp;

/// An answer of the provider that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {detail}")]
pub struct DecodeError {
    /// What was expected.
    pub what: &'static str,
    pub detail: String,
}

/// A JSON object, opened one level.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// Opens a text that should be a JSON object.
    pub(super) fn parse(what: &'static str, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes)
            .map(Object)
            .map_err(|error| DecodeError {
                what,
                detail: error.to_string(),
            })
    }

    /// Opens a value; `None` when it is no object.
    pub(super) fn open(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok().map(Object)
    }

    /// The first of these names that has a value other than null.
    pub(super) fn raw(&self, names: &[&str]) -> Option<&'a RawValue> {
        names
            .iter()
            .filter_map(|name| self.0.get(*name).copied())
            .find(|raw| raw.get() != "null")
    }

    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        serde_json::from_str(self.raw(names)?.get()).ok()
    }

    pub(super) fn object(&self, names: &[&str]) -> Option<Object<'a>> {
        Object::open(self.raw(names)?)
    }

    pub(super) fn list(&self, names: &[&str]) -> Option<Vec<&'a RawValue>> {
        serde_json::from_str(self.raw(names)?.get()).ok()
    }

    /// Shows the items of a list one by one; gives whether there is a list.
    pub(super) fn each(&self, names: &[&str], show: impl FnMut(&'a RawValue)) -> bool {
        let Some(raw) = self.raw(names) else {
            return false;
        };
        serde_json::Deserializer::from_str(raw.get())
            .deserialize_seq(Each { show })
            .is_ok()
    }

    pub(super) fn is_true(&self, names: &[&str]) -> bool {
        self.raw(names).is_some_and(|raw| raw.get() == "true")
    }

    /// A whole number, bare or as a string.
    pub(super) fn integer(&self, names: &[&str]) -> Option<i128> {
        let raw = self.raw(names)?;
        let quoted: Option<String> = serde_json::from_str(raw.get()).ok();
        quoted.as_deref().unwrap_or(raw.get()).trim().parse().ok()
    }

    /// A count, bare or as a string.
    pub(super) fn count(&self, names: &[&str]) -> Option<u64> {
        u64::try_from(self.integer(names)?).ok()
    }

    /// An RFC 3339 instant.
    pub(super) fn instant(&self, names: &[&str]) -> Option<Timestamp> {
        Timestamp::parse(&self.text(names)?).ok()
    }
}

/// Visits a list without holding it: a list of small values is much longer than its text.
struct Each<F> {
    show: F,
}

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, words: &mut fmt::Formatter<'_>) -> fmt::Result {
        words.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.show)(item);
        }
        Ok(())
    }
}

/// The start of a text, at most `bytes_max` bytes, cut between characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
