//! What a further try of a page changes: after a cut answer there is room for more, after a refused
//! one the model is a little warmer. The same question would mostly get the same answer.

/// How far further tries may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySteps {
    /// Output tokens after a cut answer, in percent of the try before; 100 changes nothing.
    pub tokens_percent: u32,
    pub tokens_max: u64,
    /// What a refusal adds to the temperature, in hundredths.
    pub temperature_step: u32,
}

/// What the recipe asks every page with.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Asked {
    /// The model's own limit where it is absent, which nothing can raise.
    pub output_tokens_max: Option<u64>,
    pub temperature: Option<f64>,
}

/// What a page has gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// Answers that were cut.
    pub truncations: u32,
    /// Answers that were refused as recitation or filtered, or that repeated themselves.
    pub refusals: u32,
}

/// What differs from the recipe in the next try.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Changed {
    pub output_tokens_max: Option<u64>,
    pub temperature: Option<f64>,
}

/// The temperature of a model that is not told any, and the highest there is.
const TEMPERATURE_UNSET: f64 = 1.0;
const TEMPERATURE_MAX: f64 = 2.0;

/// The changes for the next try. Each refusal and each cut answer is one step, so no step is taken
/// twice for a page until it has reached its limit.
pub fn changed(asked: Asked, tried: Tried, steps: RetrySteps) -> Changed {
    Changed {
        output_tokens_max: asked
            .output_tokens_max
            .and_then(|asked| more_tokens(asked, tried.truncations, steps)),
        temperature: warmer(asked.temperature, tried.refusals, steps),
    }
}

fn more_tokens(asked: u64, truncations: u32, steps: RetrySteps) -> Option<u64> {
    let limit = steps.tokens_max.max(asked);
    let mut tokens = asked;
    for _cut in 0..truncations {
        let grown = u128::from(tokens) * u128::from(steps.tokens_percent) / 100;
        let before = tokens;
        tokens = u64::try_from(grown).unwrap_or(limit).clamp(asked, limit);
        if tokens == before || tokens == limit {
            break;
        }
    }
    (tokens > asked).then_some(tokens)
}

fn warmer(asked: Option<f64>, refusals: u32, steps: RetrySteps) -> Option<f64> {
    if refusals == 0 || steps.temperature_step == 0 {
        return None;
    }
    let before = asked.unwrap_or(TEMPERATURE_UNSET);
    let raised = before + f64::from(refusals) * f64::from(steps.temperature_step) / 100.0;
    let raised = ((raised * 100.0).round() / 100.0).min(TEMPERATURE_MAX);
    (raised > before).then_some(raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: RetrySteps = RetrySteps {
        tokens_percent: 200,
        tokens_max: 65_536,
        temperature_step: 20,
    };

    fn check_tokens(asked: Option<u64>, truncations: u32, expected: Option<u64>) {
        let asked = Asked {
            output_tokens_max: asked,
            temperature: None,
        };
        let tried = Tried {
            truncations,
            refusals: 0,
        };
        let changed = changed(asked, tried, STEPS);
        assert_eq!(changed.output_tokens_max, expected, "{asked:?} {tried:?}");
        assert_eq!(changed.temperature, None);
    }

    #[test]
    fn f05_each_cut_answer_doubles_the_room_of_the_next_up_to_a_limit() {
        check_tokens(Some(16_384), 0, None);
        check_tokens(Some(16_384), 1, Some(32_768));
        check_tokens(Some(16_384), 2, Some(65_536));
        check_tokens(Some(16_384), u32::MAX, Some(65_536));
        check_tokens(Some(60_000), 1, Some(65_536));
        check_tokens(Some(65_536), 1, None);
        check_tokens(Some(100_000), 3, None);
        check_tokens(Some(u64::MAX), 3, None);
        check_tokens(None, 3, None);
    }

    #[test]
    fn f05_a_growth_of_100_percent_changes_nothing() {
        let steps = RetrySteps {
            tokens_percent: 100,
            ..STEPS
        };
        assert_eq!(more_tokens(4_096, u32::MAX - 1, steps), None);
    }

    fn check_temperature(asked: Option<f64>, refusals: u32, expected: Option<f64>) {
        assert_eq!(warmer(asked, refusals, STEPS), expected, "{asked:?}");
    }

    #[test]
    fn f32_each_refusal_is_one_step_of_temperature_and_none_is_above_the_highest() {
        check_temperature(Some(0.1), 0, None);
        check_temperature(Some(0.1), 1, Some(0.3));
        check_temperature(Some(0.1), 2, Some(0.5));
        check_temperature(Some(1.9), 1, Some(2.0));
        check_temperature(Some(2.0), 1, None);
        check_temperature(None, 1, Some(1.2));
        check_temperature(Some(0.0), u32::MAX, Some(2.0));
    }

    #[test]
    fn f32_a_step_of_nothing_changes_nothing() {
        let steps = RetrySteps {
            temperature_step: 0,
            ..STEPS
        };
        assert_eq!(warmer(Some(0.1), 3, steps), None);
    }
}
