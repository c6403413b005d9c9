//! How far the work is, and when it may be done: from what was measured, or not at all.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Tenths of a percent that are done; never 1,000 before all is, and 0 of nothing.
pub fn permille(done: u64, total: u64) -> u64 {
    if total == 0 {
        return 0;
    }
    let tenths = u128::from(done.min(total)) * 1_000 / u128::from(total);
    u64::try_from(tenths).unwrap_or(1_000)
}

/// How many of the sorted spans are shorter than this one, and of how many: of ten where there are
/// ten or more. Nothing where there is no history.
pub fn rank(span: Duration, sorted: &[Duration]) -> Option<(usize, usize)> {
    let shorter = sorted.partition_point(|earlier| *earlier < span);
    match sorted.len() {
        0 => None,
        few @ 1..10 => Some((shorter, few)),
        many => Some((shorter * 10 / many, 10)),
    }
}

/// What was measured, and what is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Pages that are still to be accepted.
    pub left: u64,
    /// Outputs accepted lately, in how many batches, and since the first of these was begun.
    pub accepted: u64,
    pub batches: u64,
    pub over: Duration,
    /// Pages of the longest chain still ahead; each waits for the one before. 1 without chains.
    pub chain: u64,
    /// What half and nine tenths of the jobs took at most.
    pub half: Option<Duration>,
    pub nine_tenths: Option<Duration>,
    /// Whether submission is halted.
    pub halted: bool,
}

/// Why nothing can be said of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    NothingFinished,
    Halted,
}

impl Unknown {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NothingFinished => "nothing was accepted in the last 24 hours",
            Self::Halted => "submission is halted",
        }
    }
}

/// What keeps the end from being sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many outputs a time are accepted.
    Throughput,
    /// One page of a chain after the other.
    Chain,
}

/// When everything may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub limit: Limit,
    pub span: Duration,
    /// The bounds of the error: by the spread of the throughput (one part in the root of the number
    /// of batches), and of the jobs' times. Open where one batch is all there is to judge by.
    pub least: Duration,
    pub most: Option<Duration>,
}

impl Estimate {
    /// The instant that the estimate names.
    pub fn at(&self, now: Timestamp) -> Timestamp {
        now.plus(self.span)
    }
}

/// Accepted outputs an hour.
pub fn hourly(accepted: u64, over: Duration) -> f64 {
    accepted as f64 * 3_600.0 / over.as_secs_f64().max(1.0)
}

/// The larger of what throughput and the longest chain ask for. Nothing left is done at once.
pub fn estimate(measured: &Measured) -> Result<Estimate, Unknown> {
    let Measured {
        left,
        accepted,
        batches,
        over,
        chain,
        half,
        nine_tenths,
        halted,
    } = *measured;
    if left == 0 {
        return Ok(Estimate {
            limit: Limit::Throughput,
            span: Duration::ZERO,
            least: Duration::ZERO,
            most: Some(Duration::ZERO),
        });
    }
    if halted {
        return Err(Unknown::Halted);
    }
    if accepted == 0 {
        return Err(Unknown::NothingFinished);
    }
    let spread = 1.0 / (batches.max(1) as f64).sqrt();
    let wanted = left as f64 / accepted as f64 * over.as_secs_f64().max(1.0);
    let links = chain.max(1) as f64;
    let half = links * half.unwrap_or_default().as_secs_f64();
    let long = links * nine_tenths.unwrap_or_default().as_secs_f64();
    let most = (spread < 1.0).then(|| seconds((wanted / (1.0 - spread)).max(long)));
    Ok(Estimate {
        limit: if half > wanted {
            Limit::Chain
        } else {
            Limit::Throughput
        },
        span: seconds(wanted.max(half)),
        least: seconds((wanted / (1.0 + spread)).max(half)),
        most,
    })
}

/// A span that can be shown; a century stands for ever.
fn seconds(seconds: f64) -> Duration {
    const CENTURY: f64 = 100.0 * 365.25 * 86_400.0;
    Duration::from_secs_f64(seconds.clamp(0.0, CENTURY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn s2_34_the_percentage_of_nothing_is_0_and_none_is_above_100() {
        assert_eq!(permille(0, 0), 0);
        assert_eq!(permille(5, 0), 0);
        assert_eq!(permille(0, 7), 0);
        assert_eq!(permille(7, 7), 1_000);
        assert_eq!(permille(9, 7), 1_000);
        assert_eq!(permille(999_999, 1_000_000), 999);
        assert_eq!(permille(u64::MAX - 1, u64::MAX), 999);
        assert_eq!(permille(1, 3), 333);
    }

    #[test]
    fn an_age_is_held_against_what_came_before() {
        let history: Vec<Duration> = (1..=20).map(Duration::from_secs).collect();
        assert_eq!(rank(Duration::from_secs(3), &[]), None);
        assert_eq!(rank(Duration::from_secs(3), &history[..5]), Some((2, 5)));
        assert_eq!(rank(Duration::from_secs(19), &history), Some((9, 10)));
        assert_eq!(rank(Duration::from_secs(99), &history), Some((10, 10)));
        assert_eq!(rank(Duration::from_secs(1), &history), Some((0, 10)));
    }

    fn measured() -> Measured {
        Measured {
            left: 1_000,
            accepted: 400,
            batches: 4,
            over: 2 * HOUR,
            chain: 1,
            half: Some(HOUR),
            nine_tenths: Some(2 * HOUR),
            halted: false,
        }
    }

    #[test]
    fn s2_35_the_end_is_unknown_until_something_is_finished() {
        let nothing = Measured {
            accepted: 0,
            ..measured()
        };
        assert_eq!(estimate(&nothing), Err(Unknown::NothingFinished));
        let halted = Measured {
            halted: true,
            ..measured()
        };
        assert_eq!(estimate(&halted), Err(Unknown::Halted));
        let done = Measured { left: 0, ..nothing };
        assert_eq!(estimate(&done).unwrap().span, Duration::ZERO);
    }

    #[test]
    fn s2_35_the_larger_of_throughput_and_chain_is_told_with_its_error() {
        let by_throughput = estimate(&measured()).unwrap();
        assert_eq!(by_throughput.limit, Limit::Throughput);
        assert_eq!(by_throughput.span, 5 * HOUR);
        assert_eq!(by_throughput.least, HOUR * 10 / 3);
        assert_eq!(by_throughput.most, Some(10 * HOUR));
        let by_chain = Measured {
            chain: 12,
            ..measured()
        };
        let by_chain = estimate(&by_chain).unwrap();
        assert_eq!(by_chain.limit, Limit::Chain);
        assert_eq!(by_chain.span, 12 * HOUR);
        assert_eq!(by_chain.least, 12 * HOUR);
        assert_eq!(by_chain.most, Some(24 * HOUR));
        let one_batch = Measured {
            batches: 1,
            ..measured()
        };
        assert_eq!(estimate(&one_batch).unwrap().most, None);
        let endless = Measured {
            left: u64::MAX,
            over: Duration::MAX,
            ..measured()
        };
        assert!(estimate(&endless).is_ok());
    }
}
