//! When to do something again.

use std::time::Duration;

/// `base`, moved by up to a tenth to either side, so that many batches do not fall into step.
/// `fraction` is a random number in `0.0..1.0`.
pub fn jittered(base: Duration, fraction: f64) -> Duration {
    base.mul_f64(0.9 + 0.2 * fraction.clamp(0.0, 1.0))
}

/// The pause after `failures` failures in a row: `base` doubled for each after the first, at most
/// `ceiling`, moved by jitter.
pub fn backoff(base: Duration, failures: u32, ceiling: Duration, fraction: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let grown = base.saturating_mul(1_u32 << doublings);
    jittered(grown.min(ceiling), fraction)
}

/// A server's hint, held between our own bounds; without one, `floor`.
pub fn clamped_hint(hint: Option<Duration>, floor: Duration, ceiling: Duration) -> Duration {
    hint.unwrap_or(floor).clamp(floor, ceiling.max(floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn jitter_stays_within_a_tenth() {
        assert_eq!(jittered(10 * SECOND, 0.5), 10 * SECOND);
        assert_eq!(jittered(10 * SECOND, 0.0), 9 * SECOND);
        assert_eq!(jittered(10 * SECOND, 7.0), 11 * SECOND);
    }

    fn check_backoff(failures: u32, expected_seconds: u64) {
        let pause = backoff(2 * SECOND, failures, 60 * SECOND, 0.5);
        assert_eq!(
            pause,
            Duration::from_secs(expected_seconds),
            "after {failures}"
        );
    }

    #[test]
    fn backoff_doubles_up_to_its_ceiling() {
        check_backoff(0, 2);
        check_backoff(1, 2);
        check_backoff(2, 4);
        check_backoff(5, 32);
        check_backoff(6, 60);
        check_backoff(u32::MAX, 60);
    }

    #[test]
    fn f38_absurd_hints_are_held_within_bounds() {
        let (floor, ceiling) = (30 * SECOND, 3600 * SECOND);
        assert_eq!(clamped_hint(None, floor, ceiling), floor);
        assert_eq!(clamped_hint(Some(SECOND), floor, ceiling), floor);
        assert_eq!(clamped_hint(Some(Duration::MAX), floor, ceiling), ceiling);
        assert_eq!(clamped_hint(Some(90 * SECOND), floor, ceiling), 90 * SECOND);
    }
}
