//! What a bench can vary: four settings, and three things that the world decides.

use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// One thing that is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    UploadConcurrency,
    UploadsPerSecond,
    BatchSize,
    LiveBatches,
    ImageKb,
    LatencyMs,
    /// In thousandths.
    ErrorRate,
}

impl Knob {
    /// Every knob, settings first.
    pub const ALL: [Knob; 7] = [
        Knob::UploadsPerSecond,
        Knob::UploadConcurrency,
        Knob::LiveBatches,
        Knob::BatchSize,
        Knob::ImageKb,
        Knob::LatencyMs,
        Knob::ErrorRate,
    ];

    /// The word for it in tables, files and flags.
    pub fn as_str(self) -> &'static str {
        match self {
            Knob::UploadConcurrency => "upload_concurrency",
            Knob::UploadsPerSecond => "uploads_per_second",
            Knob::BatchSize => "batch_size",
            Knob::LiveBatches => "live_batches",
            Knob::ImageKb => "image_kb",
            Knob::LatencyMs => "latency_ms",
            Knob::ErrorRate => "error_rate",
        }
    }

    /// What it is, with its unit, for the axis of a plot.
    pub fn label(self) -> &'static str {
        match self {
            Knob::UploadConcurrency => "uploads at the same time",
            Knob::UploadsPerSecond => "uploads started per second, at most (0: no limit)",
            Knob::BatchSize => "pages in a batch, at most",
            Knob::LiveBatches => "batches at the provider at the same time, at most",
            Knob::ImageKb => "size of an image, in kB",
            Knob::LatencyMs => "time that a job takes at the provider, in ms",
            Knob::ErrorRate => "part of calls and answers that fail",
        }
    }

    /// The path of the setting behind it; what the world decides has none.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Knob::UploadConcurrency => Some("files.upload_concurrency"),
            Knob::UploadsPerSecond => Some("files.uploads_per_second"),
            Knob::BatchSize => Some("execution.batch_size_limit"),
            Knob::LiveBatches => Some("execution.max_concurrent_batches"),
            Knob::ImageKb | Knob::LatencyMs | Knob::ErrorRate => None,
        }
    }

    /// The least and the largest value; those of settings are the settings' own.
    pub fn range(self) -> (u64, u64) {
        match self {
            Knob::UploadConcurrency => (1, 256),
            Knob::UploadsPerSecond => (0, 1_000),
            Knob::BatchSize => (1, 50_000),
            Knob::LiveBatches => (1, 100),
            Knob::ImageKb => (1, 20_000),
            Knob::LatencyMs => (0, 600_000),
            Knob::ErrorRate => (0, 500),
        }
    }

    /// A value as people write it.
    pub fn shown(self, value: u64) -> String {
        match self {
            Knob::ErrorRate => format!("{}", value as f64 / PER_ONE),
            _ => value.to_string(),
        }
    }

    /// Reads a value; says what is wrong with it.
    pub fn parse(self, text: &str) -> Result<u64, String> {
        let (least, most) = self.range();
        let parsed = match self {
            Knob::ErrorRate => text
                .parse::<f64>()
                .ok()
                .filter(|rate| rate.is_finite() && *rate >= 0.0)
                .map(|rate| (rate * PER_ONE).round() as u64),
            _ => text.parse::<u64>().ok(),
        };
        let value = parsed.filter(|value| (least..=most).contains(value));
        value.ok_or_else(|| {
            let (least, most) = (self.shown(least), self.shown(most));
            format!("'{text}' is no value from {least} to {most}")
        })
    }
}

/// Thousandths in a whole.
const PER_ONE: f64 = 1_000.0;

/// One combination of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    pub upload_concurrency: u64,
    pub uploads_per_second: u64,
    pub batch_size: u64,
    pub live_batches: u64,
    pub image_kb: u64,
    pub latency_ms: u64,
    /// In thousandths.
    pub error_permille: u64,
}

impl Point {
    /// The settings' own values, in a world of middling pages and a provider that takes half a second.
    pub fn of(settings: &Settings) -> Self {
        Point {
            upload_concurrency: settings.files.upload_concurrency as u64,
            uploads_per_second: u64::from(settings.files.uploads_per_second),
            batch_size: settings.execution.batch_size_limit,
            live_batches: settings.execution.max_concurrent_batches,
            image_kb: 200,
            latency_ms: 500,
            error_permille: 0,
        }
    }

    /// The value of a knob.
    pub fn get(&self, knob: Knob) -> u64 {
        match knob {
            Knob::UploadConcurrency => self.upload_concurrency,
            Knob::UploadsPerSecond => self.uploads_per_second,
            Knob::BatchSize => self.batch_size,
            Knob::LiveBatches => self.live_batches,
            Knob::ImageKb => self.image_kb,
            Knob::LatencyMs => self.latency_ms,
            Knob::ErrorRate => self.error_permille,
        }
    }

    /// The same with another value of a knob.
    pub fn with(mut self, knob: Knob, value: u64) -> Self {
        let place = match knob {
            Knob::UploadConcurrency => &mut self.upload_concurrency,
            Knob::UploadsPerSecond => &mut self.uploads_per_second,
            Knob::BatchSize => &mut self.batch_size,
            Knob::LiveBatches => &mut self.live_batches,
            Knob::ImageKb => &mut self.image_kb,
            Knob::LatencyMs => &mut self.latency_ms,
            Knob::ErrorRate => &mut self.error_permille,
        };
        *place = value;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::keys::Kind;
    use crate::settings::table::KEYS;

    #[test]
    fn the_ranges_of_settings_are_the_settings_own() {
        for knob in Knob::ALL {
            let Some(path) = knob.setting() else { continue };
            let key = KEYS.iter().find(|key| key.path == path).unwrap();
            let Kind::Integer { min, max } = key.kind else {
                panic!("{path} is no number");
            };
            assert_eq!(knob.range(), (min, max), "{path}");
        }
    }

    #[test]
    fn values_are_read_within_their_ranges() {
        assert_eq!(Knob::UploadConcurrency.parse("16"), Ok(16));
        assert_eq!(Knob::ErrorRate.parse("0.05"), Ok(50));
        assert_eq!(Knob::ErrorRate.shown(50), "0.05");
        for (knob, text) in [
            (Knob::UploadConcurrency, "0"),
            (Knob::UploadConcurrency, "257"),
            (Knob::UploadConcurrency, "many"),
            (Knob::ErrorRate, "0.51"),
            (Knob::ErrorRate, "-0.1"),
            (Knob::ErrorRate, "NaN"),
            (Knob::LatencyMs, "1.5"),
        ] {
            let fault = knob.parse(text).unwrap_err();
            assert!(fault.contains(text), "{fault}");
        }
    }

    #[test]
    fn a_point_keeps_what_it_is_given() {
        let point = Point {
            upload_concurrency: 0,
            uploads_per_second: 0,
            batch_size: 0,
            live_batches: 0,
            image_kb: 0,
            latency_ms: 0,
            error_permille: 0,
        };
        for knob in Knob::ALL {
            let changed = point.with(knob, 7);
            assert_eq!(changed.get(knob), 7);
            let others = Knob::ALL.into_iter().filter(|other| *other != knob);
            assert!(
                others
                    .map(|other| changed.get(other))
                    .all(|value| value == 0)
            );
        }
    }
}
