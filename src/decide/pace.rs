//! How much is sent at a time: batches become smaller when the service does not cope, and larger
//! again when it does; and the longer the oldest one waits, the fewer are sent after it.

use std::time::Duration;

use crate::domain::batch::AbandonCode;
use crate::domain::pace::Pace;

/// The limits between which the pace moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceRules {
    /// Pages in a batch: the setting, and the least that adapting goes down to.
    pub pages_max: u32,
    pub pages_min: u32,
    /// Batches without trouble after which they grow by a step.
    pub clean_batches: u32,
    /// Input tokens in all batches together, at most; no limit of our own when absent.
    pub tokens_max: Option<u64>,
    /// Tokens that adapting does not go below: a few full batches, or batches would shrink to nothing.
    pub tokens_min: u64,
    /// The age of the oldest batch from which half as many may run, and from which no more are sent.
    pub slow_after: Duration,
    pub stop_after: Duration,
}

/// What the pace follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaceEvent {
    /// A batch ended without results.
    Ended(AbandonCode),
    /// A batch was settled.
    Settled,
    /// A create was refused for too much, with so many tokens in batches already.
    Throttled { tokens_live: u64 },
    /// A create was taken.
    Taken,
}

/// The new pace, if the event changes it.
pub fn next(pace: &Pace, event: &PaceEvent, rules: &PaceRules) -> Option<Pace> {
    let after = match event {
        PaceEvent::Ended(code) => ended(pace, *code, rules),
        PaceEvent::Settled => settled(pace, rules),
        PaceEvent::Throttled { tokens_live } => throttled(pace, *tokens_live, rules),
        PaceEvent::Taken => taken(pace, rules),
    };
    (after != *pace).then_some(after)
}

/// Pages in a batch now.
pub fn pages_now(pace: &Pace, rules: &PaceRules) -> u32 {
    pace.pages_max
        .unwrap_or(rules.pages_max)
        .min(rules.pages_max)
}

/// Tokens that all batches together may have now.
pub fn tokens_now(pace: &Pace, rules: &PaceRules) -> Option<u64> {
    match (pace.tokens_max, rules.tokens_max) {
        (Some(adapted), Some(set)) => Some(adapted.min(set)),
        (adapted, set) => adapted.or(set),
    }
}

fn ended(pace: &Pace, code: AbandonCode, rules: &PaceRules) -> Pace {
    let too_much = matches!(
        code,
        AbandonCode::Expired | AbandonCode::Cancelled | AbandonCode::Refused
    );
    let now = pages_now(pace, rules);
    let half = (now / 2).max(rules.pages_min).min(rules.pages_max);
    if !too_much || half >= now {
        return Pace {
            clean: 0,
            ..pace.clone()
        };
    }
    Pace {
        pages_max: Some(half),
        clean: 0,
        reason: format!("a batch was {code}: at most {half} pages, half as many as before"),
        ..pace.clone()
    }
}

fn settled(pace: &Pace, rules: &PaceRules) -> Pace {
    let Some(now) = pace.pages_max else {
        return pace.clone();
    };
    let clean = pace.clean + 1;
    if clean < rules.clean_batches {
        return Pace {
            clean,
            ..pace.clone()
        };
    }
    let grown = now.saturating_add((now / 4).max(1));
    let pages_max = (grown < rules.pages_max).then_some(grown);
    let shown = pages_max.unwrap_or(rules.pages_max);
    Pace {
        pages_max,
        clean: 0,
        reason: format!("{clean} batches without trouble: at most {shown} pages"),
        ..pace.clone()
    }
}

fn throttled(pace: &Pace, tokens_live: u64, rules: &PaceRules) -> Pace {
    let fewer = (tokens_live / 5 * 4).max(rules.tokens_min);
    if fewer == 0 || pace.tokens_max.is_some_and(|max| max <= fewer) {
        return pace.clone();
    }
    Pace {
        tokens_max: Some(fewer),
        reason: format!(
            "a create was refused with {tokens_live} tokens in batches: at most {fewer}"
        ),
        ..pace.clone()
    }
}

fn taken(pace: &Pace, rules: &PaceRules) -> Pace {
    let Some(now) = pace.tokens_max else {
        return pace.clone();
    };
    let grown = now.saturating_add((now / 10).max(1));
    let tokens_max = match rules.tokens_max {
        Some(set) if grown >= set => None,
        _ => Some(grown),
    };
    Pace {
        tokens_max,
        reason: format!("a create was taken: at most {grown} tokens in batches"),
        ..pace.clone()
    }
}

/// How many batches may run while the oldest of them has run for `oldest`.
pub fn live_max(oldest: Duration, live_max: usize, rules: &PaceRules) -> usize {
    if oldest >= rules.stop_after {
        0
    } else if oldest >= rules.slow_after {
        live_max.div_ceil(2)
    } else {
        live_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: PaceRules = PaceRules {
        pages_max: 100,
        pages_min: 10,
        clean_batches: 2,
        tokens_max: None,
        tokens_min: 0,
        slow_after: Duration::from_secs(100),
        stop_after: Duration::from_secs(200),
    };

    fn walk(events: &[PaceEvent]) -> Pace {
        let mut pace = Pace::default();
        for event in events {
            if let Some(after) = next(&pace, event, &RULES) {
                pace = after;
            }
        }
        pace
    }

    #[test]
    fn f30_batches_halve_when_the_service_does_not_cope_and_grow_by_steps() {
        use AbandonCode as Code;
        use PaceEvent::{Ended, Settled};
        let pages = |events: &[PaceEvent]| walk(events).pages_max;
        assert_eq!(pages(&[Ended(Code::Expired)]), Some(50));
        assert_eq!(
            pages(&[Ended(Code::Cancelled), Ended(Code::Refused)]),
            Some(25)
        );
        let often = vec![Ended(Code::Expired); 9];
        assert_eq!(pages(&often), Some(10), "not below the least");
        assert_eq!(pages(&[Ended(Code::Failed), Ended(Code::Quota)]), None);
        assert_eq!(pages(&[Ended(Code::Expired), Settled]), Some(50));
        assert_eq!(pages(&[Ended(Code::Expired), Settled, Settled]), Some(62));
        let interrupted = [Ended(Code::Expired), Settled, Ended(Code::Failed), Settled];
        assert_eq!(pages(&interrupted), Some(50), "only in a row");
        let mut healed = vec![Ended(Code::Expired)];
        healed.extend(vec![Settled; 8]);
        assert_eq!(pages(&healed), None, "back at the setting");
        assert!(walk(&[Ended(Code::Expired)]).reason.contains("expired"));
    }

    #[test]
    fn f20_enqueued_tokens_go_down_on_a_refusal_and_slowly_up() {
        let throttled = |tokens_live| PaceEvent::Throttled { tokens_live };
        let tokens = |events: &[PaceEvent]| walk(events).tokens_max;
        assert_eq!(tokens(&[throttled(1_000)]), Some(800));
        assert_eq!(tokens(&[throttled(1_000), PaceEvent::Taken]), Some(880));
        assert_eq!(tokens(&[throttled(1_000), throttled(2_000)]), Some(800));
        assert_eq!(
            tokens(&[throttled(0)]),
            None,
            "nothing of ours was too much"
        );
        let wide = PaceRules {
            tokens_min: 900,
            ..RULES
        };
        let kept = next(&Pace::default(), &throttled(1_000), &wide);
        let kept = kept.and_then(|pace| pace.tokens_max);
        assert_eq!(kept, Some(900), "not below a few full batches");
        let set = PaceRules {
            tokens_max: Some(500),
            ..RULES
        };
        let pace = walk(&[throttled(1_000)]);
        assert_eq!(tokens_now(&pace, &set), Some(500));
        assert_eq!(tokens_now(&Pace::default(), &RULES), None);
    }

    #[test]
    fn f18_an_old_batch_slows_submission_down_and_then_stops_it() {
        let check = |seconds, expected| {
            let allowed = live_max(Duration::from_secs(seconds), 9, &RULES);
            assert_eq!(allowed, expected, "{seconds}");
        };
        check(0, 9);
        check(99, 9);
        check(100, 5);
        check(199, 5);
        check(200, 0);
    }
}
