//! Why nothing is submitted: halts that outlive the process, and the figures that lead to them.

use super::failure::{AccountFault, Quota, words};

words! {
    /// The reason of a halt, as `halts.reason` holds it.
    HaltReason {
        /// The API key is not valid, has expired, or is not allowed here.
        Key => "key",
        /// The caller may not do this: project, service or region.
        Permission => "permission",
        /// The account is not billed, or is suspended.
        Billing => "billing",
        /// A spending cap is reached.
        SpendCap => "spend_cap",
        /// A quota that is counted by the day is used up.
        DailyQuota => "daily_quota",
        /// The same failure came too often in a row.
        IdenticalFailures => "identical_failures",
        /// Too few of the last results were accepted.
        AcceptRate => "accept_rate",
        /// A whole batch ended well and not one of its answers was accepted.
        NothingAccepted => "nothing_accepted",
        /// The first batch of a recipe did not do well enough for the rest to follow.
        Pilot => "pilot",
        /// An operator paused it.
        Paused => "paused",
    }
}

impl HaltReason {
    /// Whether it ends by itself once the provider takes a call again. The others wait for a person:
    /// what is wrong with the pages, the prompt or the schema does not change by waiting.
    pub fn ends_by_itself(self) -> bool {
        match self {
            Self::Key | Self::Permission | Self::Billing | Self::SpendCap | Self::DailyQuota => {
                true
            }
            Self::IdenticalFailures
            | Self::AcceptRate
            | Self::NothingAccepted
            | Self::Pilot
            | Self::Paused => false,
        }
    }

    /// What an operator can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Key => "put a valid key into GEMINI_API_KEY and start again",
            Self::Permission => "allow the Gemini API for the project of this key",
            Self::Billing => "settle the account's billing",
            Self::SpendCap => "raise the spending cap, or wait for the next period",
            Self::DailyQuota => "wait for the daily reset, or ask for more quota",
            Self::IdenticalFailures | Self::AcceptRate | Self::NothingAccepted | Self::Pilot => {
                "look at `pagemill failures`, mend the cause, then `pagemill resume`"
            }
            Self::Paused => "`pagemill resume` ends it",
        }
    }
}

impl From<AccountFault> for HaltReason {
    fn from(fault: AccountFault) -> Self {
        match fault {
            AccountFault::Key => Self::Key,
            AccountFault::Permission => Self::Permission,
            AccountFault::Billing => Self::Billing,
        }
    }
}

/// The halt that a spent quota calls for; the others are waited out without one.
pub fn of_quota(quota: Quota) -> Option<HaltReason> {
    match quota {
        Quota::Daily => Some(HaltReason::DailyQuota),
        Quota::Spend => Some(HaltReason::SpendCap),
        Quota::Rate | Quota::Tokens | Quota::Storage => None,
    }
}

/// How the last results were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The kind of the failures in a row, and how many there are.
    pub streak: (String, u64),
    /// Answers since the last accepted one.
    pub barren: u64,
    /// Answers in the window, and how many of them were accepted.
    pub results: u64,
    pub accepted: u64,
}

/// How a recipe has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Answers to its requests, and how many of them were accepted.
    pub results: u64,
    pub accepted: u64,
    /// Its batches that have not ended.
    pub live: u64,
}
