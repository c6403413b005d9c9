//! What a failed call means for the page or batch that it was made for.

use std::time::Duration;

use super::cadence;
use crate::domain::batch::BatchEvent;
use crate::domain::failure::{ApiError, Effect, ErrorType, Next, Quota};
use crate::domain::halt::{self, HaltReason};
use crate::domain::page::PageEvent;
use crate::domain::time::Timestamp;

/// Whether one more try within the same upload makes sense.
pub fn upload_try_again(error: &ApiError) -> bool {
    match &error.next {
        Next::Transient | Next::Garbled | Next::NotReady | Next::Missing => true,
        Next::Throttled { quota, .. } => *quota == Quota::Rate,
        Next::Refused | Next::Account(_) | Next::Local => false,
    }
}

/// The halt that a failed call asks for: the account is at fault, or a quota that waiting a while
/// does not refill.
pub fn halt(error: &ApiError) -> Option<HaltReason> {
    match &error.next {
        Next::Account(fault) => Some(HaltReason::from(*fault)),
        Next::Throttled { quota, .. } => halt::of_quota(*quota),
        Next::Transient
        | Next::Refused
        | Next::NotReady
        | Next::Missing
        | Next::Garbled
        | Next::Local => None,
    }
}

/// What an upload that has used up its tries means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadEnd {
    pub event: PageEvent,
    /// Whether this counts as a failed cycle of the page.
    pub cycle_spent: bool,
    /// Whether this is the page's fault.
    pub counted: bool,
    /// Whether uploads as such should pause, and for how long.
    pub pause: Option<Duration>,
}

/// The limits that upload failures are judged by.
#[derive(Debug, Clone, Copy)]
pub struct UploadRules {
    pub cycles_max: u32,
    /// The first pause between cycles; doubled for each further one.
    pub cycle_delay: Duration,
    pub cycle_delay_max: Duration,
}

/// How long uploads pause when the store is full or the account is refused: the first time, and at
/// most, when it happens again and again without a success in between.
const TROUBLE_PAUSE: Duration = Duration::from_secs(2);
const TROUBLE_PAUSE_MAX: Duration = Duration::from_secs(120);

/// What is known of uploads at large when one fails.
#[derive(Debug, Clone, Copy)]
pub struct UploadsAtLarge {
    /// Whether one succeeded since the failed one began: when none does, no page is at fault.
    pub others_succeed: bool,
    /// Pauses that were made since the last success.
    pub pauses: u32,
}

/// Judges the last error of an upload.
pub fn upload_failed(
    error: &ApiError,
    cycles_so_far: u32,
    at_large: UploadsAtLarge,
    rules: UploadRules,
    now: Timestamp,
) -> UploadEnd {
    let deferred = |delay: Duration| PageEvent::UploadDeferred {
        until: Some(now.plus(delay)),
    };
    let own_fault = match &error.next {
        // The page may go as soon as bytes fall, which may be before the pause ends.
        Next::Throttled {
            quota: Quota::Storage,
            ..
        } => return all_pause(at_large, None),
        Next::Throttled {
            quota: Quota::Daily | Quota::Spend,
            ..
        }
        | Next::Account(_) => return all_pause(at_large, Some(now)),
        Next::Local => {
            return UploadEnd {
                event: deferred(rules.cycle_delay),
                cycle_spent: false,
                counted: false,
                pause: None,
            };
        }
        Next::Refused => true,
        Next::Transient
        | Next::Throttled {
            quota: Quota::Rate | Quota::Tokens,
            ..
        }
        | Next::NotReady
        | Next::Missing
        | Next::Garbled => at_large.others_succeed,
    };
    if own_fault && cycles_so_far.saturating_add(1) >= rules.cycles_max {
        return UploadEnd {
            event: PageEvent::UploadRefused {
                error: ErrorType::Upload,
            },
            cycle_spent: true,
            counted: true,
            pause: None,
        };
    }
    let delay = cadence::backoff(
        rules.cycle_delay,
        cycles_so_far + 1,
        rules.cycle_delay_max,
        0.5,
    );
    UploadEnd {
        event: deferred(delay),
        cycle_spent: own_fault,
        counted: false,
        pause: None,
    }
}

/// Uploads as such are in trouble; the page waits with them where `page_waits_from` is given.
fn all_pause(at_large: UploadsAtLarge, page_waits_from: Option<Timestamp>) -> UploadEnd {
    let times = at_large.pauses.saturating_add(1);
    let pause = cadence::backoff(TROUBLE_PAUSE, times, TROUBLE_PAUSE_MAX, 0.5);
    UploadEnd {
        event: PageEvent::UploadDeferred {
            until: page_waits_from.map(|now| now.plus(pause)),
        },
        cycle_spent: false,
        counted: false,
        pause: Some(pause),
    }
}

/// What a failed create means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEnd {
    pub event: BatchEvent,
    /// Whether the lines file must be uploaded again before the next create.
    pub lines_lost: bool,
    /// The halt that follows, when the account and not the batch is at fault.
    pub halt: Option<HaltReason>,
    /// Whether fewer tokens should be enqueued from now on.
    pub throttled: bool,
}

/// The limits that failed creates are judged by.
#[derive(Debug, Clone, Copy)]
pub struct CreateRules {
    pub delay_min: Duration,
    pub delay_max: Duration,
    /// Creates after which a batch whose lines file the provider does not find is given up.
    pub missing_max: u32,
}

/// Judges the error of a create. Whatever may have made a job leads to doubt, never to another
/// create; `creates` counts the ones sent for this batch, this one included.
pub fn create_failed(
    error: &ApiError,
    creates: u32,
    rules: CreateRules,
    fraction: f64,
    now: Timestamp,
) -> CreateEnd {
    let end = |event| CreateEnd {
        event,
        lines_lost: false,
        halt: None,
        throttled: false,
    };
    if error.effect == Effect::Maybe {
        return end(BatchEvent::SubmitUnclear { at: now });
    }
    let later = |hint: Option<Duration>| {
        let delay = cadence::clamped_hint(hint, rules.delay_min, rules.delay_max);
        BatchEvent::SubmitRefused {
            until: now.plus(cadence::jittered(delay, fraction)),
        }
    };
    let grown = cadence::backoff(rules.delay_min, creates, rules.delay_max, 0.5);
    match &error.next {
        Next::Throttled { after, .. } => CreateEnd {
            halt: halt(error),
            throttled: true,
            ..end(later(Some(after.unwrap_or(grown))))
        },
        Next::Transient | Next::NotReady | Next::Local | Next::Garbled => end(later(Some(grown))),
        Next::Account(_) => CreateEnd {
            halt: halt(error),
            ..end(later(Some(grown)))
        },
        Next::Missing if creates < rules.missing_max => CreateEnd {
            lines_lost: true,
            ..end(later(None))
        },
        // The same request would be refused again; its halves may fare better.
        Next::Missing | Next::Refused => end(BatchEvent::SubmitImpossible),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::AccountFault;

    fn error(effect: Effect, next: Next) -> ApiError {
        ApiError {
            effect,
            next,
            http_status: None,
            message: "words".into(),
        }
    }

    const UPLOAD: UploadRules = UploadRules {
        cycles_max: 3,
        cycle_delay: Duration::from_secs(10),
        cycle_delay_max: Duration::from_secs(60),
    };

    fn check_upload(next: Next, cycles: u32, others: bool, spent: bool, dead: bool) {
        let failed = error(Effect::Maybe, next.clone());
        let at_large = UploadsAtLarge {
            others_succeed: others,
            pauses: 0,
        };
        let end = upload_failed(&failed, cycles, at_large, UPLOAD, Timestamp::EPOCH);
        let refused = matches!(end.event, PageEvent::UploadRefused { .. });
        assert_eq!(
            (end.cycle_spent, refused),
            (spent, dead),
            "{next:?} {cycles}"
        );
        assert_eq!(
            end.counted, dead,
            "only a dead upload is the page's failure"
        );
    }

    #[test]
    fn p6_only_a_page_of_its_own_trouble_is_charged() {
        check_upload(Next::Transient, 0, false, false, false);
        check_upload(Next::Transient, 9, false, false, false);
        check_upload(Next::Transient, 0, true, true, false);
        check_upload(Next::Transient, 2, true, true, true);
        check_upload(Next::Refused, 2, false, true, true);
        let key = Next::Account(AccountFault::Key);
        check_upload(key, 9, true, false, false);
        let full = Next::Throttled {
            after: Some(Duration::MAX),
            quota: Quota::Storage,
        };
        check_upload(full, 9, true, false, false);
        check_upload(Next::Local, 9, true, false, false);
    }

    fn check_pause(pauses: u32, seconds: u64) {
        let full = error(
            Effect::None,
            Next::Throttled {
                after: None,
                quota: Quota::Storage,
            },
        );
        let at_large = UploadsAtLarge {
            others_succeed: false,
            pauses,
        };
        let end = upload_failed(&full, 0, at_large, UPLOAD, Timestamp::EPOCH);
        assert_eq!(end.pause, Some(Duration::from_secs(seconds)), "{pauses}");
    }

    #[test]
    fn a_full_store_makes_uploads_pause_longer_and_longer() {
        check_pause(0, 2);
        check_pause(1, 4);
        check_pause(5, 64);
        check_pause(6, 120);
        check_pause(u32::MAX, 120);
    }

    const CREATE: CreateRules = CreateRules {
        delay_min: Duration::from_secs(30),
        delay_max: Duration::from_secs(3600),
        missing_max: 3,
    };

    fn check_create(effect: Effect, next: Next, creates: u32, expected: &str) {
        let end = create_failed(
            &error(effect, next.clone()),
            creates,
            CREATE,
            0.5,
            Timestamp::EPOCH,
        );
        assert_eq!(
            end.event.as_str(),
            expected,
            "{effect:?} {next:?} {creates}"
        );
    }

    #[test]
    fn p3_whatever_may_have_happened_is_doubt() {
        for next in [Next::Transient, Next::Refused, Next::Garbled, Next::Missing] {
            check_create(Effect::Maybe, next, 1, "submit_unclear");
        }
    }

    #[test]
    fn a_definite_no_parks_the_same_intent() {
        let throttled = Next::Throttled {
            after: Some(Duration::MAX),
            quota: Quota::Rate,
        };
        check_create(Effect::None, throttled, 99, "submit_refused");
        check_create(Effect::None, Next::NotReady, 99, "submit_refused");
        let billing = Next::Account(AccountFault::Billing);
        check_create(Effect::None, billing, 99, "submit_refused");
        check_create(Effect::None, Next::Transient, 99, "submit_refused");
        check_create(Effect::None, Next::Missing, 2, "submit_refused");
        check_create(Effect::None, Next::Missing, 3, "submit_impossible");
        check_create(Effect::None, Next::Refused, 1, "submit_impossible");
    }

    fn check_halt(next: Next, expected: Option<HaltReason>) {
        let failed = error(Effect::None, next);
        let end = create_failed(&failed, 1, CREATE, 0.5, Timestamp::EPOCH);
        assert_eq!(end.halt, expected, "{failed:?}");
        assert_eq!(end.event.as_str(), "submit_refused", "the intent stays");
    }

    #[test]
    fn f17_account_trouble_halts_and_a_full_minute_does_not() {
        let quota = |quota| Next::Throttled { after: None, quota };
        let account = Next::Account;
        check_halt(account(AccountFault::Key), Some(HaltReason::Key));
        check_halt(account(AccountFault::Billing), Some(HaltReason::Billing));
        check_halt(
            account(AccountFault::Permission),
            Some(HaltReason::Permission),
        );
        check_halt(quota(Quota::Daily), Some(HaltReason::DailyQuota));
        check_halt(quota(Quota::Spend), Some(HaltReason::SpendCap));
        check_halt(quota(Quota::Rate), None);
        check_halt(quota(Quota::Tokens), None);
        check_halt(quota(Quota::Storage), None);
        check_halt(Next::Transient, None);
    }

    #[test]
    fn f20_a_create_hint_is_held_between_half_a_minute_and_an_hour() {
        let absurd = Duration::from_secs(9_223_372_036_854_775_807);
        let throttled = Next::Throttled {
            after: Some(absurd),
            quota: Quota::Rate,
        };
        let end = create_failed(
            &error(Effect::None, throttled),
            1,
            CREATE,
            0.5,
            Timestamp::EPOCH,
        );
        let until = Timestamp::EPOCH.plus(CREATE.delay_max);
        assert_eq!(end.event, BatchEvent::SubmitRefused { until });
    }
}
