//! What an environment is worth: the clock, the disk, and why the provider refused to answer.

use std::time::Duration;

use crate::domain::failure::{AccountFault, ApiError, Next, words};
use crate::domain::time::Timestamp;

words! {
    /// How a check ended.
    Verdict {
        Good => "ok",
        Warn => "warn",
        Fail => "FAIL",
    }
}

/// Hints and lifetimes are counted in minutes; clocks that differ by less do no harm.
const SKEW_WARN: Duration = Duration::from_secs(60);
const SKEW_FAIL: Duration = Duration::from_secs(300);

/// How far our clock is from another, and what that is worth.
pub fn clock_skew(ours: Timestamp, theirs: Timestamp) -> (Duration, Verdict) {
    let skew = ours.since(theirs).max(theirs.since(ours));
    let verdict = if skew > SKEW_FAIL {
        Verdict::Fail
    } else if skew > SKEW_WARN {
        Verdict::Warn
    } else {
        Verdict::Good
    };
    (skew, verdict)
}

/// What decides how much room batches take on our disk.
#[derive(Debug, Clone, Copy)]
pub struct BatchRoom {
    pub pages: u64,
    pub live: u64,
    pub line_bytes_max: u64,
    /// The most tokens of one answer, where they are limited.
    pub output_tokens_max: Option<u64>,
}

/// Bytes of a request line, generously: prompt, schema and a context.
const LINE_BYTES: u64 = 16 * 1024;
/// Bytes of text that a token makes, at most, where texts are not all symbols.
const TOKEN_BYTES: u64 = 4;
/// What surrounds an answer in a result line.
const AROUND_BYTES: u64 = 4 * 1024;
/// The longest answer of a model that is not told a limit.
const OUTPUT_TOKENS: u64 = 65_536;

impl BatchRoom {
    /// What one batch takes in the work folder (request lines, raw results with their escapes),
    /// and in the output folder.
    fn bytes(&self) -> (u64, u64) {
        let answer = self.output_tokens_max.unwrap_or(OUTPUT_TOKENS) * TOKEN_BYTES;
        let lines = self
            .line_bytes_max
            .min(self.pages.saturating_mul(LINE_BYTES));
        let raw = self.pages.saturating_mul(2 * answer + AROUND_BYTES);
        (lines.saturating_add(raw), self.pages.saturating_mul(answer))
    }

    /// What the work folder should have: for one batch, and for all that may live.
    pub fn work(&self) -> (u64, u64) {
        let (work, _output) = self.bytes();
        (work, work.saturating_mul(self.live.max(1)))
    }

    /// What the output folder should have: for one batch, and for all that may live.
    pub fn output(&self) -> (u64, u64) {
        let (_work, output) = self.bytes();
        (output, output.saturating_mul(self.live.max(1)))
    }
}

/// What free room is worth when one batch takes `one` and all that may live take `all`.
pub fn free_room(free: u64, (one, all): (u64, u64)) -> Verdict {
    if free < one {
        Verdict::Fail
    } else if free < all {
        Verdict::Warn
    } else {
        Verdict::Good
    }
}

words! {
    /// Why the provider refused to answer, in the kinds that want different things of an operator.
    Refusal {
        Key => "the key is not valid, or not allowed here",
        Permission => "the key may not do this",
        Billing => "billing is at fault",
        Place => "the provider does not serve this place",
        NoModel => "there is no such model",
        Throttled => "too many calls",
        Unreachable => "the provider cannot be reached",
        ProviderTrouble => "the provider has trouble",
        Refused => "the provider refused",
    }
}

impl Refusal {
    /// Reads a failed call.
    pub fn of(error: &ApiError) -> Refusal {
        let lower = error.message.to_ascii_lowercase();
        match (&error.next, error.http_status) {
            _ if lower.contains("location is not supported") => Refusal::Place,
            (Next::Account(AccountFault::Key), _) => Refusal::Key,
            (Next::Account(AccountFault::Permission), _) => Refusal::Permission,
            (Next::Account(AccountFault::Billing), _) => Refusal::Billing,
            (Next::Missing, _) => Refusal::NoModel,
            (Next::Transient | Next::Garbled, None) => Refusal::Unreachable,
            (Next::Transient | Next::Garbled, Some(_)) => Refusal::ProviderTrouble,
            (Next::Throttled { .. }, _) => Refusal::Throttled,
            (Next::Refused | Next::NotReady | Next::Local, _) => Refusal::Refused,
        }
    }

    /// What it is worth: what passes by itself is a warning.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Throttled | Self::ProviderTrouble => Verdict::Warn,
            Self::Key
            | Self::Permission
            | Self::Billing
            | Self::Place
            | Self::NoModel
            | Self::Unreachable
            | Self::Refused => Verdict::Fail,
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Key => {
                "look at the key's restrictions, or make a new one; set GEMINI_API_KEY, here or in .env"
            }
            Self::Permission => "allow the Generative Language API for the key's project",
            Self::Billing => "put the billing of the key's project in order",
            Self::Place => "run it where the provider is offered",
            Self::NoModel => "correct model.name; the provider's list of models has the names",
            Self::Throttled | Self::ProviderTrouble => "nothing, or look again in a minute",
            Self::Unreachable => "check the network, a proxy, and api.base_url",
            Self::Refused => "read its words; the configuration may name what it does not have",
        }
    }

    /// Whether the key is known to be good all the same.
    pub fn key_is_good(self) -> bool {
        self == Self::NoModel
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::{Effect, Quota};

    #[test]
    fn clocks_may_differ_by_a_minute() {
        let at = |seconds| Timestamp::EPOCH.plus(Duration::from_secs(seconds));
        let verdict = |ours, theirs| clock_skew(at(ours), at(theirs)).1;
        assert_eq!(verdict(1000, 1060), Verdict::Good);
        assert_eq!(verdict(1061, 1000), Verdict::Warn);
        assert_eq!(verdict(1000, 1300), Verdict::Warn);
        assert_eq!(verdict(1000, 1301), Verdict::Fail);
    }

    #[test]
    fn room_is_judged_by_what_batches_take() {
        let room = BatchRoom {
            pages: 100,
            live: 10,
            line_bytes_max: 1 << 30,
            output_tokens_max: Some(16_384),
        };
        let (one, all) = room.work();
        assert_eq!((one, all / one), (100 * (16_384 + 131_072 + 4_096), 10));
        assert_eq!(room.output().0, 100 * 65_536);
        assert_eq!(free_room(all, (one, all)), Verdict::Good);
        assert_eq!(free_room(all - 1, (one, all)), Verdict::Warn);
        assert_eq!(free_room(one - 1, (one, all)), Verdict::Fail);
    }

    fn check(next: Next, status: Option<u16>, message: &str, expected: Refusal) {
        let error = ApiError {
            effect: Effect::None,
            next,
            http_status: status,
            message: message.to_owned(),
        };
        assert_eq!(Refusal::of(&error), expected, "{message}");
    }

    #[test]
    fn refusals_are_told_apart() {
        let account = Next::Account;
        check(account(AccountFault::Key), Some(400), "", Refusal::Key);
        check(
            account(AccountFault::Billing),
            Some(403),
            "",
            Refusal::Billing,
        );
        let words = "HTTP 400: User location is not supported for the API use.";
        check(
            account(AccountFault::Permission),
            Some(400),
            words,
            Refusal::Place,
        );
        check(
            account(AccountFault::Permission),
            Some(403),
            "",
            Refusal::Permission,
        );
        check(Next::Missing, Some(404), "HTTP 404", Refusal::NoModel);
        check(Next::Transient, None, "no connection", Refusal::Unreachable);
        check(
            Next::Transient,
            Some(503),
            "HTTP 503",
            Refusal::ProviderTrouble,
        );
        let throttled = Next::Throttled {
            after: None,
            quota: Quota::Rate,
        };
        let words = "HTTP 429: check your plan and billing details";
        check(throttled, Some(429), words, Refusal::Throttled);
    }
}
