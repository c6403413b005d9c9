//! What can go wrong with a page or a call, in words that are stored.

use std::time::Duration;

/// Defines a closed list of stable words.
macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$variant_doc])* $variant,)+ }

        impl $type {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [$type] = &[$($type::$variant,)+];

            /// The word that is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word,)+ }
            }

            /// The value of a stored word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Why a page has no accepted answer; `docs/failures.md` has a section for each.
    ErrorType {
        /// The text, or a label, is not JSON.
        JsonDecode => "JSONDecodeError",
        /// The JSON does not pass the schema, or a label lacks what the prompt names.
        Validation => "ValidationError",
        /// The answer has no usable text.
        Value => "ValueError",
        /// The batch ended without a line for the page.
        MissingResponse => "MissingResponse",
        /// Several different lines carry the page's key.
        AmbiguousResponse => "AmbiguousResponse",
        /// The provider answered with an error for this page.
        Api => "ApiError",
        /// The provider refused the content.
        ContentFiltered => "ContentFiltered",
        /// The provider stopped because the text resembles published text.
        Recitation => "Recitation",
        /// The answer stops before its end.
        Truncated => "Truncated",
        /// The answer repeats itself.
        Repetition => "Repetition",
        /// The image could not be brought to the provider.
        Upload => "UploadError",
        /// The image is missing or not usable.
        Image => "ImageError",
    }
}

/// May the call have changed something on the other side?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Certainly not.
    None,
    /// It cannot be told from the answer.
    Maybe,
}

/// What a failed call asks of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Try again later.
    Transient,
    /// Try again, not before the hint (already parsed without overflow, not yet clamped).
    Throttled {
        after: Option<Duration>,
        quota: Quota,
    },
    /// The same request will be refused again.
    Refused,
    /// A file is not ready for use yet.
    NotReady,
    /// The account is at fault: no other request would fare better.
    Account(AccountFault),
    /// The thing named does not exist for this key.
    Missing,
    /// The answer is not one that the protocol knows.
    Garbled,
    /// Our own disk or file is at fault; the provider was not to blame.
    Local,
}

/// What is wrong with the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountFault {
    /// The key is not valid, has expired, is missing, or is not allowed from here.
    Key,
    /// The project may not call this service, or not from this region.
    Permission,
    /// The account is not billed, or is suspended.
    Billing,
}

/// Which limit a throttled call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Requests or jobs per minute.
    Rate,
    /// Tokens that are enqueued in batch jobs: it is free again when one of them ends.
    Tokens,
    /// Counted by the day: waiting a minute does not help.
    Daily,
    /// A spending cap.
    Spend,
    /// Bytes in the file store: waiting does not help, deleting does.
    Storage,
}

impl Quota {
    /// The words for operators: each limit calls for something else.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "too many requests",
            Self::Tokens => "too many tokens in batch jobs",
            Self::Daily => "the quota of the day is used up",
            Self::Spend => "the spending cap is reached",
            Self::Storage => "the file store is full",
        }
    }
}

/// A failed call to the provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub effect: Effect,
    pub next: Next,
    /// The HTTP status, when there was an answer.
    pub http_status: Option<u16>,
    /// One line, with what was called and what came back; never the key.
    pub message: String,
}
