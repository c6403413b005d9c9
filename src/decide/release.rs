//! What becomes of the pages of a batch that ended without a verdict on them.

use std::time::Duration;

use crate::domain::batch::AbandonCode;
use crate::domain::failure::ErrorType;
use crate::domain::page::PageEvent;
use crate::domain::time::Timestamp;

/// How a batch ended, as far as it decides what becomes of its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEnd {
    pub code: AbandonCode,
    /// Members that had no verdict.
    pub members: u64,
    /// Whether the provider said that the same batch would fail again.
    pub for_good: bool,
}

/// What is known of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Its batches that ended without a verdict so far, this one not counted.
    pub releases: u32,
    /// Those of them that failed, or were refused, as a whole.
    pub whole_failures: u32,
    /// The largest batch it may be in, after one of its batches failed as a whole.
    pub batch_size_max: Option<u32>,
}

/// The limits that releases are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseLimits {
    pub releases_max: u32,
    /// An image that lives until then may be used again.
    pub usable_until: Timestamp,
    /// How long pages of an expired batch wait.
    pub expired_pause: Duration,
    pub now: Timestamp,
}

/// Whole failures after which a page that is alone counts as the reason of them, though the provider
/// did not say that they are for good.
const FAILED_ALONE_MAX: u32 = 3;

/// The event for one member that has no verdict. Being released is nobody's failure, but a page
/// whose batches keep ending that way must not go round for ever.
pub fn member(end: BatchEnd, page: Released, limits: ReleaseLimits) -> PageEvent {
    let error = ErrorType::Api;
    if is_isolated(end, page) {
        PageEvent::Isolated { error }
    } else if counts(end.code) && is_spent(page.releases, limits.releases_max) {
        PageEvent::ReleasesSpent { error }
    } else if end.code == AbandonCode::Expired {
        let until = limits.now.plus(limits.expired_pause);
        PageEvent::BatchExpired { until }
    } else {
        PageEvent::Released {
            at: limits.usable_until,
        }
    }
}

/// Whether the page alone is what its batch failed for. Halving has brought it there, or it was
/// alone from the beginning; a failure that may be the provider's own is tried again first.
fn is_isolated(end: BatchEnd, page: Released) -> bool {
    let failed = matches!(end.code, AbandonCode::Failed | AbandonCode::Refused);
    let halved = page.batch_size_max == Some(1) && page.whole_failures >= FAILED_ALONE_MAX;
    failed && end.members == 1 && (end.for_good || halved)
}

/// Whether a page that is to be released once more has been released too often.
pub fn is_spent(releases_so_far: u32, releases_max: u32) -> bool {
    releases_so_far >= releases_max
}

/// Whether an end counts against the releases of its pages. A spent quota says nothing about them: it
/// is waited out, however long that takes.
pub fn counts(code: AbandonCode) -> bool {
    code != AbandonCode::Quota
}

/// The largest batch that the released pages may be in next: half of the one that expired or
/// failed, so that what is too large becomes small enough and what is poisonous ends up alone.
pub fn batch_size_max(code: AbandonCode, members: u64) -> Option<u32> {
    match code {
        AbandonCode::Expired | AbandonCode::Failed | AbandonCode::Refused => Some(
            u32::try_from(members.div_ceil(2))
                .unwrap_or(u32::MAX)
                .max(1),
        ),
        AbandonCode::Withdrawn
        | AbandonCode::Cancelled
        | AbandonCode::Quota
        | AbandonCode::ResultsLost
        | AbandonCode::Forgotten => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_come_back_from_what_expired_or_failed() {
        assert_eq!(batch_size_max(AbandonCode::Expired, 100), Some(50));
        assert_eq!(batch_size_max(AbandonCode::Failed, 5), Some(3));
        assert_eq!(batch_size_max(AbandonCode::Expired, 1), Some(1));
        assert_eq!(batch_size_max(AbandonCode::Cancelled, 100), None);
    }

    const LIMITS: ReleaseLimits = ReleaseLimits {
        releases_max: 10,
        usable_until: Timestamp::EPOCH,
        expired_pause: Duration::from_secs(600),
        now: Timestamp::EPOCH,
    };

    fn check(code: AbandonCode, members: u64, releases: u32, size_max: Option<u32>, event: &str) {
        let end = BatchEnd {
            code,
            members,
            for_good: code == AbandonCode::Refused,
        };
        let page = Released {
            releases,
            whole_failures: releases,
            batch_size_max: size_max,
        };
        let found = member(end, page, LIMITS);
        assert_eq!(found.as_str(), event, "{end:?} {page:?}");
    }

    #[test]
    fn f24_requests_that_were_not_served_do_not_make_a_page_the_poison() {
        let end = BatchEnd {
            code: AbandonCode::Failed,
            members: 1,
            for_good: false,
        };
        let unserved = Released {
            releases: 6,
            whole_failures: 2,
            batch_size_max: Some(1),
        };
        assert_eq!(member(end, unserved, LIMITS).as_str(), "released");
    }

    #[test]
    fn f15_releases_end_some_day() {
        check(AbandonCode::Cancelled, 4, 9, None, "released");
        check(AbandonCode::Cancelled, 4, 10, None, "releases_spent");
        check(AbandonCode::Expired, 4, 10, None, "releases_spent");
        check(AbandonCode::Quota, 4, 999, None, "released");
    }

    #[test]
    fn f18_pages_of_an_expired_batch_wait_before_they_go_again() {
        check(AbandonCode::Expired, 4, 0, None, "batch_expired");
        check(AbandonCode::Expired, 1, 5, Some(1), "batch_expired");
    }

    #[test]
    fn f24_only_a_page_that_fails_alone_is_the_poison() {
        check(AbandonCode::Refused, 2, 0, None, "released");
        check(AbandonCode::Refused, 1, 0, None, "isolated");
        check(AbandonCode::Failed, 2, 5, Some(2), "released");
        check(AbandonCode::Failed, 1, 0, None, "released");
        check(AbandonCode::Failed, 1, 2, Some(1), "released");
        check(AbandonCode::Failed, 1, 3, Some(1), "isolated");
        check(AbandonCode::Cancelled, 1, 3, Some(1), "released");
    }
}
