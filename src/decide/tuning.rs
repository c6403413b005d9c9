//! Which value of a setting made a measured run faster, and whether that is more than noise.

/// One value of a setting, and what was measured with it: pages a second, one figure a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub value: u64,
    pub rates: Vec<f64>,
}

impl Sample {
    /// The rate that counts.
    pub fn rate(&self) -> f64 {
        median(&self.rates)
    }
}

/// What to do with a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advice {
    /// This value made the run faster by more than noise.
    Change { to: u64, rate: f64 },
    /// None of the values did; the best of them had this rate.
    Leave { best: f64 },
}

/// Runs of one and the same thing differ by this at least, however few there were to show it.
const NOISE_MIN: f64 = 0.05;

/// The middle figure; the mean of the two in the middle where their number is even; 0 of none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// How far runs of the same thing were apart, as a part of their median: the widest of the samples,
/// and never less than 5 %.
pub fn noise(samples: &[Sample]) -> f64 {
    let spread = |sample: &Sample| {
        let rate = sample.rate();
        let most = sample.rates.iter().copied().fold(f64::MIN, f64::max);
        let least = sample.rates.iter().copied().fold(f64::MAX, f64::min);
        if rate > 0.0 && most > least {
            (most - least) / rate
        } else {
            0.0
        }
    };
    samples.iter().map(spread).fold(NOISE_MIN, f64::max)
}

/// What to do with a setting that was measured with other values than `base`. Of the values that are
/// as good as the best, the one nearest to today's is taken: more than is needed helps nobody.
pub fn advice(base: &Sample, tried: &[Sample], noise: f64) -> Advice {
    let best = tried.iter().map(Sample::rate).fold(0.0, f64::max);
    if best <= base.rate() * (1.0 + noise) {
        return Advice::Leave { best };
    }
    let good = tried.iter().filter(|sample| {
        let rate = sample.rate();
        rate >= best * (1.0 - noise) && rate > base.rate() * (1.0 + noise)
    });
    let nearest = good.min_by_key(|sample| distance(sample.value, base.value));
    nearest.map_or(Advice::Leave { best }, |sample| Advice::Change {
        to: sample.value,
        rate: sample.rate(),
    })
}

/// How far a value is from another; 0 means no limit, which is farther than any number.
fn distance(value: u64, from: u64) -> u64 {
    if value == 0 || from == 0 {
        return u64::MAX;
    }
    value.abs_diff(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: u64, rates: &[f64]) -> Sample {
        Sample {
            value,
            rates: rates.to_vec(),
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
    }

    #[test]
    fn noise_is_the_widest_spread_and_never_nothing() {
        assert_eq!(noise(&[]), NOISE_MIN);
        assert_eq!(noise(&[sample(1, &[100.0])]), NOISE_MIN);
        let samples = [sample(1, &[100.0, 100.0]), sample(2, &[90.0, 100.0, 110.0])];
        assert!((noise(&samples) - 0.2).abs() < 1e-9);
    }

    fn check(tried: &[(u64, f64)], expected: Option<u64>) {
        let base = sample(16, &[100.0]);
        let tried: Vec<Sample> = tried
            .iter()
            .map(|(value, rate)| sample(*value, &[*rate]))
            .collect();
        let to = match advice(&base, &tried, 0.1) {
            Advice::Change { to, .. } => Some(to),
            Advice::Leave { .. } => None,
        };
        assert_eq!(to, expected, "{tried:?}");
    }

    #[test]
    fn a_setting_is_changed_only_for_more_than_noise() {
        check(&[], None);
        check(&[(8, 90.0), (32, 109.0)], None);
        check(&[(8, 90.0), (32, 150.0)], Some(32));
        check(&[(8, 130.0), (32, 100.0)], Some(8));
    }

    #[test]
    fn of_values_that_are_as_good_the_nearest_is_taken() {
        check(&[(32, 195.0), (64, 200.0), (256, 205.0)], Some(32));
        check(&[(32, 120.0), (64, 200.0), (256, 205.0)], Some(64));
        // No limit at all is the last resort.
        check(&[(0, 205.0), (1000, 200.0)], Some(1000));
    }
}
