//! Which uploaded pages go together into a batch, and why it stopped growing.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::domain::ids::RecordKey;
use crate::domain::time::Timestamp;

/// A page that waits for a batch, measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub key: RecordKey,
    pub predecessor: Option<RecordKey>,
    /// Bytes of its request line.
    pub line_bytes: u64,
    /// Estimated input tokens.
    pub tokens: u64,
    /// The largest batch it may be in, after one of its batches ended as a whole.
    pub batch_size_max: Option<u32>,
}

/// The limits of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub pages_max: u32,
    pub bytes_max: u64,
    pub tokens_max: Option<u64>,
}

/// Why a batch has the size it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It has as many pages as a batch may have.
    Count,
    /// The next page's line would not fit.
    Bytes,
    /// The next page's tokens would not fit.
    Tokens,
    /// A member may only be in a small batch.
    Suspects,
    /// There was nothing more.
    NoMore,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "batch_size_limit is reached",
            Self::Bytes => "batch.bytes_max would be passed",
            Self::Tokens => "batch.tokens_max would be passed",
            Self::Suspects => "pages whose last batch ended as a whole go in smaller ones",
            Self::NoMore => "no further page is ready",
        })
    }
}

/// A batch to plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    pub members: Vec<RecordKey>,
    pub line_bytes: u64,
    pub tokens: u64,
    pub stopped: Stopped,
}

impl Packed {
    /// Whether waiting could make it larger.
    pub fn can_grow(&self) -> bool {
        self.stopped == Stopped::NoMore
    }
}

/// Takes pages in the given order until a limit is met; a page that cannot join this batch (it is
/// too large for what is left, or continues a member's chain) is passed over, not lost: it stays
/// where it is. A single page is always taken, however large, so that it fails by its own name.
pub fn pack(candidates: &[Candidate], limits: Limits) -> Option<Packed> {
    let first = candidates.first()?;
    let suspects_only = first.batch_size_max.is_some();
    let mut members: Vec<&Candidate> = Vec::new();
    let mut taken: HashSet<&RecordKey> = HashSet::new();
    // Pages that a member comes right after.
    let mut followed: HashSet<&RecordKey> = HashSet::new();
    let (mut line_bytes, mut tokens) = (0_u64, 0_u64);
    let mut count_max = limits.pages_max.max(1);
    let mut stopped = Stopped::NoMore;
    for candidate in candidates {
        let of_one_chain = followed.contains(&candidate.key)
            || candidate
                .predecessor
                .as_ref()
                .is_some_and(|key| taken.contains(key));
        if of_one_chain || candidate.batch_size_max.is_some() != suspects_only {
            continue;
        }
        let own_max = candidate.batch_size_max.unwrap_or(count_max).max(1);
        if members.len() >= count_max.min(own_max) as usize {
            stopped = if suspects_only {
                Stopped::Suspects
            } else {
                Stopped::Count
            };
            break;
        }
        if !members.is_empty() {
            if line_bytes.saturating_add(candidate.line_bytes) > limits.bytes_max {
                stopped = Stopped::Bytes;
                continue;
            }
            let tokens_then = tokens.saturating_add(candidate.tokens);
            if limits
                .tokens_max
                .is_some_and(|tokens_max| tokens_then > tokens_max)
            {
                stopped = Stopped::Tokens;
                continue;
            }
        }
        count_max = count_max.min(own_max);
        line_bytes = line_bytes.saturating_add(candidate.line_bytes);
        tokens = tokens.saturating_add(candidate.tokens);
        taken.insert(&candidate.key);
        followed.extend(candidate.predecessor.as_ref());
        members.push(candidate);
    }
    if stopped == Stopped::NoMore && members.len() >= count_max as usize {
        stopped = if suspects_only {
            Stopped::Suspects
        } else {
            Stopped::Count
        };
    }
    let members = members
        .into_iter()
        .map(|member| member.key.clone())
        .collect();
    Some(Packed {
        members,
        line_bytes,
        tokens,
        stopped,
    })
}

/// Whether to send a batch that could still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    Now,
    /// Not before the instant, unless it fills up.
    Wait {
        until: Timestamp,
    },
}

/// A small batch waits for company, but not for long, and not when none can come.
pub fn timing(
    packed: &Packed,
    oldest: Option<Timestamp>,
    fill_wait: Duration,
    more_can_come: bool,
    now: Timestamp,
) -> Timing {
    if !packed.can_grow() || !more_can_come {
        return Timing::Now;
    }
    let until = oldest.unwrap_or(now).plus(fill_wait);
    if now >= until {
        Timing::Now
    } else {
        Timing::Wait { until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str, line_bytes: u64) -> Candidate {
        Candidate {
            key: RecordKey::from(name),
            predecessor: None,
            line_bytes,
            tokens: line_bytes,
            batch_size_max: None,
        }
    }

    const LIMITS: Limits = Limits {
        pages_max: 3,
        bytes_max: 100,
        tokens_max: None,
    };

    fn check(candidates: &[Candidate], limits: Limits, expected: &[&str], stopped: Stopped) {
        let packed = pack(candidates, limits).unwrap();
        let members: Vec<&str> = packed.members.iter().map(RecordKey::as_str).collect();
        assert_eq!((members.as_slice(), packed.stopped), (expected, stopped));
    }

    #[test]
    fn f26_limits_stop_a_batch_and_say_so() {
        let four = ["a", "b", "c", "d"].map(|name| page(name, 10));
        check(&four, LIMITS, &["a", "b", "c"], Stopped::Count);
        check(&four[..3], LIMITS, &["a", "b", "c"], Stopped::Count);
        check(&four[..2], LIMITS, &["a", "b"], Stopped::NoMore);
        let large = [page("a", 60), page("b", 60), page("c", 30)];
        check(&large, LIMITS, &["a", "c"], Stopped::Bytes);
        let tokens = Limits {
            tokens_max: Some(15),
            ..LIMITS
        };
        check(&four, tokens, &["a"], Stopped::Tokens);
        check(&[page("huge", 1000)], LIMITS, &["huge"], Stopped::NoMore);
        assert_eq!(pack(&[], LIMITS), None);
    }

    #[test]
    fn two_pages_of_one_chain_never_share_a_batch() {
        let follower = Candidate {
            predecessor: Some(RecordKey::from("a")),
            ..page("b", 1)
        };
        check(
            &[page("a", 1), follower.clone(), page("c", 1)],
            LIMITS,
            &["a", "c"],
            Stopped::NoMore,
        );
        check(&[follower, page("a", 1)], LIMITS, &["b"], Stopped::NoMore);
    }

    #[test]
    fn suspects_travel_in_small_company_of_their_own() {
        let suspect = |name| Candidate {
            batch_size_max: Some(2),
            ..page(name, 1)
        };
        let mixed = [suspect("a"), page("b", 1), suspect("c"), suspect("d")];
        check(&mixed, LIMITS, &["a", "c"], Stopped::Suspects);
        let later = [page("b", 1), suspect("a"), page("c", 1)];
        check(&later, LIMITS, &["b", "c"], Stopped::NoMore);
        let alone = Candidate {
            batch_size_max: Some(1),
            ..page("x", 1)
        };
        check(&[suspect("a"), alone], LIMITS, &["a"], Stopped::Suspects);
    }

    #[test]
    fn a_small_batch_waits_only_while_company_can_come() {
        let small = pack(&[page("a", 1)], LIMITS).unwrap();
        let start = Timestamp::EPOCH;
        let wait = Duration::from_secs(5);
        let until = start.plus(wait);
        assert_eq!(
            timing(&small, Some(start), wait, true, start),
            Timing::Wait { until }
        );
        assert_eq!(timing(&small, Some(start), wait, false, start), Timing::Now);
        assert_eq!(timing(&small, Some(start), wait, true, until), Timing::Now);
        let full = pack(&["a", "b", "c"].map(|name| page(name, 1)), LIMITS).unwrap();
        assert_eq!(timing(&full, Some(start), wait, true, start), Timing::Now);
    }
}
