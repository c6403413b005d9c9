//! Names of things: newtypes, so that one cannot be passed for another.

use std::fmt;
use std::sync::Arc;

/// Defines a name that is an immutable, cheaply cloned text.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes the text as it stands.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                $type(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
    };
}

name! {
    /// A page's name: the levels of the layout, encoded and joined by `:`. Made by
    /// [`crate::domain::layout::Layout`]; a key from elsewhere is only ever compared.
    RecordKey
}
name! {
    /// A batch of ours: the UUIDv7 of its submission. Also its token in the remote display name.
    BatchId
}
name! {
    /// An operator's order: a UUIDv7.
    OrderId
}
name! {
    /// One run of the pipeline: a UUIDv7, or what the operator gave.
    RunId
}
name! {
    /// The provider's name of a file or a batch, such as `files/abc` or `batches/xyz`.
    RemoteName
}
name! {
    /// The SHA-256 of a recipe, in lowercase hex.
    RecipeHash
}
name! {
    /// A short hash of an API key and its project label; says which account a row belongs to.
    KeyFingerprint
}
name! {
    /// A SHA-256 in lowercase hex.
    Sha256Hex
}
name! {
    /// How an image looked from outside when it was hashed. Who made it compares it; it says nothing else.
    ImageStamp
}
name! {
    /// A short hash of the filters of a run: pages chosen by the same filters share it.
    ScopeToken
}

impl BatchId {
    /// The unique remote display name of this batch: prefix, dash, id.
    pub fn display_name(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.as_str())
    }
}

impl RecordKey {
    /// The key of the book: all levels but the last, encoded as they are in the key.
    pub fn book(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(book, _page)| book)
    }

    /// The encoded last level.
    pub fn page(&self) -> &str {
        self.0
            .rsplit_once(':')
            .map_or(&*self.0, |(_book, page)| page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_splits_into_book_and_page() {
        let key = RecordKey::from("Alabama:Howard College:1849:14");
        assert_eq!(key.book(), "Alabama:Howard College:1849");
        assert_eq!(key.page(), "14");
        assert_eq!(RecordKey::from("7").book(), "");
    }
}
