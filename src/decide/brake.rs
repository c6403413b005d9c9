//! When submission must stop by itself: the same failure again and again, too few accepted
//! answers, a first batch that does not do well. Stopping costs time; going on would cost money.

use std::time::Duration;

use super::cadence;
use crate::domain::halt::{HaltReason, Pulse, Standing};
use crate::domain::time::Timestamp;

/// The limits that end submission. A limit of 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrakeRules {
    /// Failures of one kind in a row.
    pub identical_max: u64,
    /// Answers in a row of which none was accepted.
    pub barren_max: u64,
    /// The share of accepted answers below which it is too low, in percent.
    pub accept_percent_min: u64,
    /// How many of the last answers are looked at for that share.
    pub window: u64,
    /// Pages in the first batch of a recipe; the rest waits for its answers.
    pub pilot_pages: u32,
    /// The share of accepted answers that lets the rest follow, in percent.
    pub pilot_percent_min: u64,
}

/// Whether submission must stop, and why, in words.
pub fn judge(pulse: &Pulse, rules: &BrakeRules) -> Option<(HaltReason, String)> {
    let (kind, count) = &pulse.streak;
    if rules.identical_max > 0 && *count >= rules.identical_max {
        let words = format!("{count} failures in a row are all '{kind}'");
        return Some((HaltReason::IdenticalFailures, words));
    }
    if rules.barren_max > 0 && pulse.barren >= rules.barren_max {
        let words = format!("none of the last {} answers was accepted", pulse.barren);
        return Some((HaltReason::NothingAccepted, words));
    }
    let enough = rules.window > 0 && pulse.results >= rules.window;
    if enough && is_below(pulse.accepted, pulse.results, rules.accept_percent_min) {
        let words = format!(
            "only {} of the last {} answers were accepted; {} % is the least",
            pulse.accepted, pulse.results, rules.accept_percent_min
        );
        return Some((HaltReason::AcceptRate, words));
    }
    None
}

fn is_below(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 < u128::from(whole) * u128::from(percent)
}

/// What may be planned with a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It has shown what it can do.
    Proven,
    /// One batch of at most so many pages.
    Pilot { pages_max: u32 },
    /// Nothing, until the pilot's answers are here.
    Wait,
    /// It does not do well enough.
    Failed { words: String },
}

/// Judges a recipe by its first answers.
pub fn trial(standing: &Standing, rules: &BrakeRules) -> Trial {
    let Standing {
        results,
        accepted,
        live,
    } = *standing;
    let does_well = results > 0 && !is_below(accepted, results, rules.pilot_percent_min);
    if rules.pilot_pages == 0 || does_well {
        return Trial::Proven;
    }
    if results >= u64::from(rules.pilot_pages) {
        let words = format!(
            "only {accepted} of the first {results} answers of this recipe were accepted; {} % \
             is the least",
            rules.pilot_percent_min
        );
        return Trial::Failed { words };
    }
    if live > 0 {
        return Trial::Wait;
    }
    Trial::Pilot {
        pages_max: rules.pilot_pages,
    }
}

/// The first pause before a halted provider is asked whether it takes calls again, and the longest.
const PROBE_PAUSE: Duration = Duration::from_secs(30);
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Midnight in California, when daily quotas are filled up, is never later than this hour of UTC.
const DAILY_RESET_HOUR: u64 = 8;
const DAY: u64 = 24 * 3600;

/// When the provider is asked again after the `times`-th time, last at `last`.
pub fn probe_at(reason: HaltReason, times: u32, last: Timestamp) -> Timestamp {
    if reason == HaltReason::DailyQuota {
        let of_day = last.since(Timestamp::EPOCH).as_secs() % DAY;
        let reset = DAILY_RESET_HOUR * 3600;
        let wait = if of_day < reset {
            reset - of_day
        } else {
            DAY - of_day + reset
        };
        return last.plus(Duration::from_secs(wait));
    }
    last.plus(cadence::backoff(PROBE_PAUSE, times, PROBE_PAUSE_MAX, 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BrakeRules = BrakeRules {
        identical_max: 20,
        barren_max: 50,
        accept_percent_min: 5,
        window: 200,
        pilot_pages: 20,
        pilot_percent_min: 10,
    };

    fn check(kind: &str, count: u64, barren: u64, of: (u64, u64), expected: Option<HaltReason>) {
        let pulse = Pulse {
            streak: (kind.to_owned(), count),
            barren,
            accepted: of.0,
            results: of.1,
        };
        let found = judge(&pulse, &RULES).map(|(reason, _words)| reason);
        assert_eq!(found, expected, "{pulse:?}");
    }

    #[test]
    fn f16_identical_failures_or_too_few_accepted_answers_stop_submission() {
        check("", 0, 0, (0, 0), None);
        check("Truncated", 19, 19, (0, 19), None);
        check(
            "Truncated",
            20,
            20,
            (0, 20),
            Some(HaltReason::IdenticalFailures),
        );
        check("Truncated", 2, 49, (9, 100), None);
        check(
            "Truncated",
            2,
            50,
            (9, 100),
            Some(HaltReason::NothingAccepted),
        );
        check("Truncated", 2, 2, (10, 200), None);
        check("Truncated", 2, 2, (9, 200), Some(HaltReason::AcceptRate));
        check("Truncated", 2, 2, (0, 199), None);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let none = BrakeRules {
            identical_max: 0,
            barren_max: 0,
            accept_percent_min: 0,
            window: 0,
            pilot_pages: 0,
            pilot_percent_min: 100,
        };
        let pulse = Pulse {
            streak: ("Truncated".into(), u64::MAX),
            barren: u64::MAX,
            results: u64::MAX,
            accepted: 0,
        };
        assert_eq!(judge(&pulse, &none), None);
        assert_eq!(trial(&Standing::default(), &none), Trial::Proven);
    }

    fn check_trial(accepted: u64, results: u64, live: u64, expected: &str) {
        let standing = Standing {
            results,
            accepted,
            live,
        };
        let found = match trial(&standing, &RULES) {
            Trial::Proven => "proven",
            Trial::Pilot { pages_max } => {
                assert_eq!(pages_max, 20);
                "pilot"
            }
            Trial::Wait => "wait",
            Trial::Failed { .. } => "failed",
        };
        assert_eq!(found, expected, "{standing:?}");
    }

    #[test]
    fn f04_the_first_batch_of_a_recipe_is_a_pilot_and_the_rest_waits_for_it() {
        check_trial(0, 0, 0, "pilot");
        check_trial(0, 0, 1, "wait");
        check_trial(1, 1, 0, "proven");
        check_trial(0, 1, 0, "pilot");
        check_trial(0, 19, 1, "wait");
        check_trial(1, 20, 0, "failed");
        check_trial(2, 20, 3, "proven");
    }

    fn check_probe(reason: HaltReason, times: u32, last: &str, expected: &str) {
        let last = Timestamp::parse(last).unwrap();
        let expected = Timestamp::parse(expected).unwrap();
        assert_eq!(probe_at(reason, times, last), expected, "{reason} {times}");
    }

    #[test]
    fn f38_a_daily_quota_waits_for_its_reset_and_the_rest_ever_longer() {
        let daily = HaltReason::DailyQuota;
        check_probe(daily, 1, "2026-11-21T10:00:00Z", "2026-11-22T08:00:00Z");
        check_probe(daily, 9, "2026-11-21T07:59:59Z", "2026-11-21T08:00:00Z");
        check_probe(daily, 1, "2026-11-21T08:00:00Z", "2026-11-22T08:00:00Z");
        let key = HaltReason::Key;
        check_probe(key, 1, "2026-11-21T10:00:00Z", "2026-11-21T10:00:30Z");
        check_probe(key, 2, "2026-11-21T10:00:00Z", "2026-11-21T10:01:00Z");
        check_probe(key, 99, "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z");
    }
}
