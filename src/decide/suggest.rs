//! The settings to change first, each with the figure that speaks for it: those that lift what limits
//! the pages of a day come before those that only made a measured run faster.

use super::capacity::{Lift, Limit};

/// A setting that made measured runs faster, after the ones before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    pub setting: &'static str,
    pub from: u64,
    pub to: u64,
    /// Pages a second before and after.
    pub before: f64,
    pub after: f64,
}

/// The figures that speak for a suggestion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// Pages a day, by the limits in the settings, and what limits them then.
    Day {
        before: u64,
        after: u64,
        then: Limit,
    },
    /// Pages a second, as measured.
    Speed { before: f64, after: f64 },
}

/// One suggestion.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    pub setting: &'static str,
    pub from: u64,
    pub to: u64,
    pub why: Why,
    /// What to mind before it is changed; empty where there is nothing.
    pub mind: &'static str,
}

/// The first settings to change, at most so many; none where nothing helps.
pub fn first(lifts: &[Lift], tuned: &[Tuned], at_most: usize) -> Vec<Suggestion> {
    let lifted = lifts.iter().map(|lift| Suggestion {
        setting: lift.setting,
        from: lift.from,
        to: lift.to,
        why: Why::Day {
            before: lift.before,
            after: lift.after,
            then: lift.then,
        },
        mind: mind(lift.setting),
    });
    let faster = tuned.iter().map(|tuned| Suggestion {
        setting: tuned.setting,
        from: tuned.from,
        to: tuned.to,
        why: Why::Speed {
            before: tuned.before,
            after: tuned.after,
        },
        mind: mind(tuned.setting),
    });
    let mut suggestions: Vec<Suggestion> = Vec::new();
    for suggestion in lifted.chain(faster) {
        let is_new = suggestions
            .iter()
            .all(|earlier| earlier.setting != suggestion.setting);
        if is_new && suggestions.len() < at_most {
            suggestions.push(suggestion);
        }
    }
    suggestions
}

fn mind(setting: &str) -> &'static str {
    match setting {
        "files.uploads_per_second" | "files.upload_concurrency" => {
            "the real service may refuse more; watch for 429 in the log"
        }
        "execution.max_concurrent_batches" => "100 is the provider's own limit",
        "execution.batch_size_limit" => {
            "a batch that expires or fails comes back whole; larger ones cost more time then"
        }
        "files.storage_budget_bytes" => "20 GiB is the provider's own limit for a project",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lift(setting: &'static str) -> Lift {
        Lift {
            setting,
            from: 10,
            to: 100,
            before: 1_000,
            after: 10_000,
            then: Limit::Storage,
        }
    }

    fn tuned(setting: &'static str) -> Tuned {
        Tuned {
            setting,
            from: 50,
            to: 200,
            before: 48.0,
            after: 190.0,
        }
    }

    #[test]
    fn what_binds_the_day_comes_before_what_makes_a_run_faster_and_nothing_comes_twice() {
        let lifts = [lift("execution.max_concurrent_batches")];
        let speed = [
            tuned("files.uploads_per_second"),
            tuned("execution.max_concurrent_batches"),
            tuned("files.upload_concurrency"),
            tuned("execution.batch_size_limit"),
        ];
        let first = first(&lifts, &speed, 3);
        let settings: Vec<&str> = first.iter().map(|suggestion| suggestion.setting).collect();
        assert_eq!(
            settings,
            [
                "execution.max_concurrent_batches",
                "files.uploads_per_second",
                "files.upload_concurrency"
            ]
        );
        assert!(
            matches!(first[0].why, Why::Day { after: 10_000, .. }),
            "{first:?}"
        );
        assert!(
            matches!(first[1].why, Why::Speed { after: 190.0, .. }),
            "{first:?}"
        );
        assert!(first.iter().all(|suggestion| !suggestion.mind.is_empty()));
    }

    #[test]
    fn nothing_is_suggested_where_nothing_helps() {
        assert_eq!(first(&[], &[], 3), []);
    }
}
