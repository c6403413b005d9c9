//! What becomes of the pages of a batch that ended without a verdict on them.

use crate::domain::batch::AbandonCode;
use crate::domain::failure::ErrorType;
use crate::domain::page::PageEvent;
use crate::domain::time::Timestamp;

/// The event for one member that has no verdict. Being released is nobody's failure, but a page
/// whose batches keep ending that way must not go round for ever.
pub fn member(
    code: AbandonCode,
    releases_so_far: u32,
    releases_max: u32,
    usable_until: Timestamp,
) -> PageEvent {
    if counts(code) && is_spent(releases_so_far, releases_max) {
        PageEvent::ReleasesSpent {
            error: ErrorType::Api,
        }
    } else {
        PageEvent::Released { at: usable_until }
    }
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

    #[test]
    fn releases_end_some_day() {
        let at = Timestamp::EPOCH;
        let quota = member(AbandonCode::Quota, 999, 10, at);
        assert_eq!(quota, PageEvent::Released { at }, "P6: no page's fault");
        assert_eq!(
            member(AbandonCode::Expired, 9, 10, at),
            PageEvent::Released { at }
        );
        assert_eq!(
            member(AbandonCode::Expired, 10, 10, at),
            PageEvent::ReleasesSpent {
                error: ErrorType::Api
            }
        );
    }
}
