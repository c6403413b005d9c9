//! What is meant to happen. Whoever changes what the product does on purpose changes it here.

use std::time::Duration;

use pagemill::domain::time::Timestamp;

use super::provider::{Create, Provider, Row};

/// How long a doubt lasts at least before a job counts as absent, and how many complete readings
/// of the list that takes.
pub const SETTLE: Duration = Duration::from_secs(600);
pub const LOOKUPS: u32 = 3;

/// What an attempt's row says in the end: `accepted`, `released`, or the error that it is rejected
/// for.
pub fn outcome(row: Row) -> &'static str {
    match row {
        Row::Good | Row::Doubled => "accepted",
        Row::Missing | Row::BrokenUtf8 | Row::CutShort => "MissingResponse",
        Row::Conflict => "AmbiguousResponse",
        Row::Error(1 | 7 | 8 | 9 | 14) => "released",
        Row::Error(_) => "ApiError",
        Row::Recitation => "Recitation",
        Row::Blocked => "ContentFiltered",
        Row::MaxTokens => "Truncated",
        Row::NotJson => "JSONDecodeError",
        Row::AgainstSchema => "ValidationError",
        Row::Empty => "ValueError",
    }
}

/// P3: why this create must not have been sent, if it must not.
pub fn second_create(provider: &Provider, display_name: &str, now: Timestamp) -> Option<String> {
    let former = provider
        .creates
        .iter()
        .filter(|create| create.display_name == display_name);
    for create in former.filter(|create| !create.definite_no) {
        if now < create.at.plus(SETTLE) {
            return Some(format!(
                "P3 {display_name} was created again while in doubt"
            ));
        }
        let looks = provider.lists.iter().filter(|at| **at >= create.at).count();
        if looks < LOOKUPS as usize {
            return Some(format!(
                "P3 {display_name} was created again after {looks} looks"
            ));
        }
        if let Some(job) = was_shown(provider, create) {
            return Some(format!(
                "P3 {display_name} was created again, but the list showed {job}"
            ));
        }
    }
    None
}

/// A job of this create that a complete reading of the list showed.
fn was_shown<'a>(provider: &Provider, create: &'a Create) -> Option<&'a String> {
    create.made.iter().find(|name| {
        let job = &provider.jobs[*name];
        provider.lists.iter().any(|at| *at >= job.listed)
    })
}
