//! How many pages a day the limits in the configuration allow, each by itself: the smallest binds.

use std::time::Duration;

use super::storage;

/// What the limits are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What this machine was measured to do; absent where nothing was measured.
    pub pages_per_second: Option<f64>,
    /// `files.uploads_per_second`; 0 means no limit.
    pub uploads_per_second: u64,
    /// `execution.batch_size_limit`.
    pub batch_pages: u64,
    /// `batch.bytes_max`, and what one page takes of it.
    pub batch_bytes_max: u64,
    pub line_bytes: u64,
    /// `batch.tokens_max`, and what one page takes of it.
    pub batch_tokens_max: Option<u64>,
    pub page_tokens: u64,
    /// `execution.max_concurrent_batches`.
    pub live_batches: u64,
    /// `files.storage_budget_bytes`, and what one page takes of it until its batch ends.
    pub storage_bytes: u64,
    pub image_bytes: u64,
    /// `batch.enqueued_tokens_max`.
    pub enqueued_tokens_max: Option<u64>,
    /// From the making of a job to its end: an assumption.
    pub turnaround: Duration,
}

/// What limits the pages of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Machine,
    UploadRate,
    LiveBatches,
    Storage,
    EnqueuedTokens,
}

impl Limit {
    /// The limit as people call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Machine => "this machine",
            Limit::UploadRate => "upload rate",
            Limit::LiveBatches => "live batches",
            Limit::Storage => "storage at the provider",
            Limit::EnqueuedTokens => "enqueued tokens",
        }
    }
}

/// One limit, in pages a day, with the settings and figures that it follows from.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub limit: Limit,
    pub pages_per_day: u64,
    pub from: String,
}

/// A setting that, changed, lets more pages through.
#[derive(Debug, Clone, PartialEq)]
pub struct Lift {
    pub setting: &'static str,
    pub from: u64,
    pub to: u64,
    pub before: u64,
    pub after: u64,
    /// What binds afterwards.
    pub then: Limit,
}

/// A change that lets less than this more through is not worth the trouble.
const WORTH: f64 = 0.2;
const GIB: f64 = (1_u64 << 30) as f64;
const DAY_SECONDS: f64 = 86_400.0;
/// The largest values that the settings take: the provider's own limits.
const LIVE_BATCHES_MAX: u64 = 100;
const BATCH_PAGES_MAX: u64 = 50_000;
const UPLOADS_PER_SECOND_MAX: u64 = 1_000;
const STORAGE_BYTES_MAX: u64 = 20 << 30;

/// Every limit that there is, the smallest first.
pub fn bounds(terms: &Terms) -> Vec<Bound> {
    let mut bounds = vec![live_batches(terms), storage(terms)];
    if let Some(rate) = terms.pages_per_second {
        bounds.push(Bound {
            limit: Limit::Machine,
            pages_per_day: whole(rate * DAY_SECONDS),
            from: format!("{rate:.1} pages/s measured here"),
        });
    }
    if terms.uploads_per_second > 0 {
        // Every batch has a lines file, which passes the same gate.
        let pages = batch_pages(terms) as f64;
        let rate = terms.uploads_per_second as f64 * pages / (pages + 1.0);
        bounds.push(Bound {
            limit: Limit::UploadRate,
            pages_per_day: whole(rate * DAY_SECONDS),
            from: format!(
                "files.uploads_per_second {}, one upload in {} being a lines file",
                terms.uploads_per_second,
                batch_pages(terms) + 1
            ),
        });
    }
    if let Some(tokens) = terms.enqueued_tokens_max {
        let pages = tokens as f64 / terms.page_tokens.max(1) as f64;
        bounds.push(Bound {
            limit: Limit::EnqueuedTokens,
            pages_per_day: whole(pages * turns(terms)),
            from: format!(
                "batch.enqueued_tokens_max {tokens} at {} tokens a page",
                terms.page_tokens
            ),
        });
    }
    bounds.sort_by_key(|bound| bound.pages_per_day);
    bounds
}

/// The settings to change so that more pages go through, each after the ones before it, at most so
/// many. Ends where the limit is this machine, or the provider's.
pub fn lifts(terms: &Terms, at_most: usize) -> Vec<Lift> {
    let mut terms = terms.clone();
    let mut lifts: Vec<Lift> = Vec::new();
    while lifts.len() < at_most {
        let Some((setting, from, to, lifted)) = lifted(&terms) else {
            break;
        };
        let (before, after) = (bounds(&terms), bounds(&lifted));
        let least = before[0].pages_per_day as f64 * (1.0 + WORTH);
        if (after[0].pages_per_day as f64) < least {
            break;
        }
        lifts.push(Lift {
            setting,
            from,
            to,
            before: before[0].pages_per_day,
            after: after[0].pages_per_day,
            then: after[0].limit,
        });
        terms = lifted;
    }
    lifts
}

/// The setting that lifts the smallest limit to the next one, with the terms that follow.
fn lifted(terms: &Terms) -> Option<(&'static str, u64, u64, Terms)> {
    let bounds = bounds(terms);
    let (least, next) = (bounds.first()?, bounds.get(1)?);
    let factor = next.pages_per_day as f64 / least.pages_per_day.max(1) as f64;
    let raised = |value: u64, most: u64| round_up(whole((value as f64 * factor).ceil())).min(most);
    let mut lifted = terms.clone();
    match least.limit {
        Limit::LiveBatches if terms.live_batches < LIVE_BATCHES_MAX => {
            lifted.live_batches = raised(terms.live_batches, LIVE_BATCHES_MAX);
            let (from, to) = (terms.live_batches, lifted.live_batches);
            Some(("execution.max_concurrent_batches", from, to, lifted))
        }
        // Where bytes or tokens end a batch before its pages do, more pages do not make it larger.
        Limit::LiveBatches if batch_pages(terms) == terms.batch_pages => {
            lifted.batch_pages = raised(terms.batch_pages, BATCH_PAGES_MAX);
            let (from, to) = (terms.batch_pages, lifted.batch_pages);
            Some(("execution.batch_size_limit", from, to, lifted))
        }
        Limit::UploadRate => {
            lifted.uploads_per_second = raised(terms.uploads_per_second, UPLOADS_PER_SECOND_MAX);
            let (from, to) = (terms.uploads_per_second, lifted.uploads_per_second);
            Some(("files.uploads_per_second", from, to, lifted))
        }
        Limit::Storage if terms.storage_bytes < STORAGE_BYTES_MAX => {
            lifted.storage_bytes = STORAGE_BYTES_MAX;
            let (from, to) = (terms.storage_bytes, lifted.storage_bytes);
            Some(("files.storage_budget_bytes", from, to, lifted))
        }
        Limit::LiveBatches | Limit::Storage | Limit::Machine | Limit::EnqueuedTokens => None,
    }
}

/// Pages of a full batch: the first of its limits ends it.
pub fn batch_pages(terms: &Terms) -> u64 {
    let bytes_max = terms
        .batch_bytes_max
        .min(storage::lines_bytes_max(terms.storage_bytes));
    let by_bytes = bytes_max / terms.line_bytes.max(1);
    let by_tokens = terms
        .batch_tokens_max
        .map_or(u64::MAX, |tokens| tokens / terms.page_tokens.max(1));
    terms.batch_pages.min(by_bytes).min(by_tokens).max(1)
}

fn live_batches(terms: &Terms) -> Bound {
    let pages = batch_pages(terms);
    Bound {
        limit: Limit::LiveBatches,
        pages_per_day: whole((terms.live_batches * pages) as f64 * turns(terms)),
        from: format!(
            "execution.max_concurrent_batches {} of {pages} pages each (execution.batch_size_limit \
             {})",
            terms.live_batches, terms.batch_pages
        ),
    }
}

fn storage(terms: &Terms) -> Bound {
    // What is left to images beside lines and results.
    let share = terms.storage_bytes - storage::lines_bytes_max(terms.storage_bytes);
    let pages = share as f64 / terms.image_bytes.max(1) as f64;
    Bound {
        limit: Limit::Storage,
        pages_per_day: whole(pages * turns(terms)),
        from: format!(
            "files.storage_budget_bytes {:.1} GiB, seven eighths of it for images of {} kB",
            terms.storage_bytes as f64 / GIB,
            terms.image_bytes / 1_000
        ),
    }
}

/// How often a day everything that is with the provider is replaced.
fn turns(terms: &Terms) -> f64 {
    DAY_SECONDS / terms.turnaround.as_secs_f64().max(1.0)
}

/// The next number that is 1, 2 or 5 with zeros behind it.
fn round_up(number: u64) -> u64 {
    let mut step: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let candidate = step.saturating_mul(factor);
            if candidate >= number {
                return candidate;
            }
        }
        step = step.saturating_mul(10);
    }
}

/// A figure without its fraction; one that is too large is the largest there is.
fn whole(figure: f64) -> u64 {
    figure as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults of the settings, with pages of 200 kB.
    fn defaults() -> Terms {
        Terms {
            pages_per_second: Some(300.0),
            uploads_per_second: 50,
            batch_pages: 100,
            batch_bytes_max: 1 << 30,
            line_bytes: 5_000,
            batch_tokens_max: None,
            page_tokens: 2_000,
            live_batches: 10,
            storage_bytes: 18 << 30,
            image_bytes: 200_000,
            enqueued_tokens_max: None,
            turnaround: Duration::from_secs(86_400),
        }
    }

    fn first(terms: &Terms) -> (Limit, u64) {
        let bounds = bounds(terms);
        (bounds[0].limit, bounds[0].pages_per_day)
    }

    #[test]
    fn each_limit_binds_when_it_is_the_smallest() {
        assert_eq!(first(&defaults()), (Limit::LiveBatches, 1_000));
        let quick = Terms {
            turnaround: Duration::from_secs(60),
            ..defaults()
        };
        assert_eq!(first(&quick), (Limit::LiveBatches, 1_440_000));
        let many = Terms {
            live_batches: 100,
            batch_pages: 10_000,
            ..defaults()
        };
        assert_eq!(first(&many), (Limit::Storage, 84_557));
        let small = Terms {
            image_bytes: 1_000,
            turnaround: Duration::from_secs(3_600),
            ..many
        };
        assert_eq!(first(&small), (Limit::UploadRate, 4_319_568));
        let slow = Terms {
            pages_per_second: Some(2.0),
            ..small.clone()
        };
        assert_eq!(first(&slow), (Limit::Machine, 172_800));
        let poor = Terms {
            enqueued_tokens_max: Some(3_000_000),
            ..small
        };
        assert_eq!(first(&poor), (Limit::EnqueuedTokens, 36_000));
    }

    #[test]
    fn a_limit_that_is_not_set_is_none() {
        let free = Terms {
            uploads_per_second: 0,
            pages_per_second: None,
            ..defaults()
        };
        let limits: Vec<Limit> = bounds(&free).iter().map(|bound| bound.limit).collect();
        assert_eq!(limits, [Limit::LiveBatches, Limit::Storage]);
    }

    #[test]
    fn bytes_and_tokens_end_a_batch_before_its_pages_do() {
        let terms = Terms {
            batch_pages: 50_000,
            ..defaults()
        };
        assert_eq!(batch_pages(&terms), 50_000);
        let bytes = Terms {
            batch_bytes_max: 1_000_000,
            ..terms.clone()
        };
        assert_eq!(batch_pages(&bytes), 200);
        let tokens = Terms {
            batch_tokens_max: Some(100_000),
            ..terms
        };
        assert_eq!(batch_pages(&tokens), 50);
    }

    fn lifts_of(terms: &Terms) -> Vec<(&'static str, u64, u64)> {
        let lifts = lifts(terms, 3).into_iter();
        lifts
            .map(|lift| (lift.setting, lift.from, lift.to))
            .collect()
    }

    #[test]
    fn the_first_settings_to_change_lift_what_binds() {
        let lifts = lifts(&defaults(), 3);
        assert_eq!(
            lifts_of(&defaults()),
            [
                ("execution.max_concurrent_batches", 10, 100),
                ("execution.batch_size_limit", 100, 1_000),
            ]
        );
        let half = Terms {
            storage_bytes: 9 << 30,
            live_batches: 100,
            batch_pages: 10_000,
            ..defaults()
        };
        let last = lifts_of(&half).pop();
        assert_eq!(
            last,
            Some(("files.storage_budget_bytes", 9 << 30, 20 << 30))
        );
        assert!(lifts.windows(2).all(|pair| pair[0].after == pair[1].before));
        assert!(lifts.iter().all(|lift| lift.after > lift.before));
    }

    #[test]
    fn nothing_is_lifted_that_is_not_ours_to_lift() {
        let machine = Terms {
            pages_per_second: Some(0.001),
            ..defaults()
        };
        assert_eq!(lifts(&machine, 3), []);
        let full = Terms {
            live_batches: 100,
            batch_pages: 50_000,
            storage_bytes: 20 << 30,
            ..defaults()
        };
        assert_eq!(first(&full).0, Limit::Storage);
        assert_eq!(lifts(&full, 3), []);
        let bytes = Terms {
            live_batches: 100,
            batch_pages: 50_000,
            batch_bytes_max: 1 << 20,
            image_bytes: 1_000,
            ..defaults()
        };
        assert_eq!(first(&bytes).0, Limit::LiveBatches);
        assert_eq!(lifts(&bytes, 3), []);
    }

    #[test]
    fn suggested_numbers_are_round() {
        for (number, expected) in [(1, 1), (3, 5), (11, 20), (846, 1_000), (5_001, 10_000)] {
            assert_eq!(round_up(number), expected);
        }
    }
}
