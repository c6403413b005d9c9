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

/// What a batch that is packed might wait for.
#[derive(Debug, Clone, Copy)]
pub struct Company {
    /// Whether a page could still join without a batch having to end first.
    pub more_can_come: bool,
    /// Whether a page is on its way that is more urgent than a member, and this batch would take the
    /// last place among the live ones.
    pub better_can_come: bool,
    /// When the page that came last was uploaded.
    pub newest: Option<Timestamp>,
    /// Since when there is a place for the batch and it is held back.
    pub held_since: Timestamp,
}

/// Whether to send a batch that others could still join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    Now,
    /// Not before the instant, unless nothing can come any more, or it fills up and nothing better can.
    Wait {
        until: Timestamp,
    },
}

/// The longest that a batch waits in all while pages keep coming, unless one pause alone may be longer.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A batch that is not full waits for company, and one that would take the last place waits for
/// pages that more depends on: as long as pages come, none of them `fill_wait` after the one before.
///
/// A place is taken for hours, so that seconds are cheap: a batch that goes with the few pages that
/// came first leaves the others without a place, and the longest chain stands still for a whole
/// batch when its next page, still being uploaded, finds the last place taken.
pub fn timing(packed: &Packed, company: &Company, fill_wait: Duration, now: Timestamp) -> Timing {
    let can_grow = packed.can_grow() && company.more_can_come;
    if !can_grow && !company.better_can_come {
        return Timing::Now;
    }
    let begun = company.held_since;
    let last_news = company.newest.map_or(begun, |newest| newest.max(begun));
    let at_most = begun.plus(fill_wait.max(WAIT_MAX));
    let until = last_news.plus(fill_wait).min(at_most);
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

    const START: Timestamp = Timestamp::EPOCH;
    const WAIT: Duration = Duration::from_secs(5);

    fn after(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    /// Held back from the start, with this to come and the last page at an instant.
    fn company(more: bool, better: bool, newest: Timestamp) -> Company {
        Company {
            more_can_come: more,
            better_can_come: better,
            newest: Some(newest),
            held_since: START,
        }
    }

    fn check_timing(pages: usize, company: Company, seconds: u64, expected: Option<u64>) {
        let pages = &["a", "b", "c"].map(|name| page(name, 1))[..pages];
        let packed = pack(pages, LIMITS).unwrap();
        let expected = expected.map_or(Timing::Now, |until| Timing::Wait {
            until: after(until),
        });
        let found = timing(&packed, &company, WAIT, after(seconds));
        assert_eq!(found, expected, "{company:?} at {seconds} s");
    }

    #[test]
    fn a_small_batch_waits_only_while_company_can_come() {
        check_timing(1, company(true, false, START), 0, Some(5));
        check_timing(1, company(false, false, START), 0, None);
        check_timing(1, company(true, false, START), 5, None);
        check_timing(3, company(true, false, START), 0, None);
    }

    #[test]
    fn a_page_that_has_waited_for_a_place_still_waits_for_company() {
        let early = START.minus(Duration::from_secs(3600));
        check_timing(1, company(true, false, early), 0, Some(5));
        let unknown = Company {
            newest: None,
            ..company(true, false, START)
        };
        check_timing(1, unknown, 4, Some(5));
    }

    #[test]
    fn each_page_that_comes_lets_a_small_batch_wait_for_the_next_but_not_for_ever() {
        check_timing(2, company(true, false, after(4)), 8, Some(9));
        check_timing(2, company(true, false, after(299)), 299, Some(300));
        check_timing(2, company(true, false, after(299)), 300, None);
    }

    #[test]
    fn a_full_batch_leaves_the_last_place_to_better_pages_for_as_long() {
        check_timing(3, company(true, true, START), 0, Some(5));
        check_timing(3, company(false, true, after(3)), 7, Some(8));
        check_timing(3, company(true, true, START), 5, None);
    }

    #[test]
    fn a_long_pause_is_kept_whole() {
        let packed = pack(&[page("a", 1)], LIMITS).unwrap();
        let hour = Duration::from_secs(3600);
        let found = timing(&packed, &company(true, false, after(60)), hour, after(1000));
        let until = after(3600);
        assert_eq!(found, Timing::Wait { until });
    }
}
