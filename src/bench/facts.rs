//! What follows from the figures of a sweep: what limits each point, which settings to change first, and
//! how many pages a day to expect. The rules are in `decide`; here they are given their facts.

use std::time::Duration;

use serde::Serialize;

use super::knobs::{Knob, Point};
use super::measured::Measured;
use crate::decide::bottleneck::{self, Verdict};
use crate::decide::capacity::{self, Bound, Terms};
use crate::decide::suggest::{self, Suggestion, Tuned, Why};
use crate::decide::tuning::{self, Sample};
use crate::report::words;
use crate::settings::Settings;

/// Settings that are suggested, at most.
pub const SUGGESTIONS_MAX: usize = 3;

/// One point with its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub point: Point,
    /// What makes it differ from the base of its step.
    pub varied: Option<Knob>,
    /// 0 around the configuration's values; further ones around values that were found to be better.
    pub step: u32,
    /// Pages a second of every run.
    pub rates: Vec<f64>,
    /// The run in the middle.
    pub figures: Measured,
    pub limit: &'static str,
    pub limit_share: f64,
    pub limit_is_clear: bool,
    pub limit_reason: String,
}

impl Row {
    /// A row of so many runs of one point, of which there is one at least.
    pub fn new(point: Point, varied: Option<Knob>, step: u32, runs: &[Measured]) -> Option<Self> {
        let rates: Vec<f64> = runs.iter().map(Measured::pages_per_second).collect();
        let middle = tuning::median(&rates);
        let distance = |run: &&Measured| (run.pages_per_second() - middle).abs();
        let figures = runs
            .iter()
            .min_by(|left, right| distance(left).total_cmp(&distance(right)))?
            .clone();
        let Verdict {
            limit,
            share,
            is_clear,
            reason,
        } = bottleneck::verdict(&facts(&figures));
        Some(Row {
            point,
            varied,
            step,
            rates,
            figures,
            limit: limit.as_str(),
            limit_share: share,
            limit_is_clear: is_clear,
            limit_reason: reason,
        })
    }

    /// The pages a second that count for this point.
    pub fn rate(&self) -> f64 {
        tuning::median(&self.rates)
    }

    /// The row as one value of a knob.
    pub fn sample(&self, knob: Knob) -> Sample {
        Sample {
            value: self.point.get(knob),
            rates: self.rates.clone(),
        }
    }
}

/// The figures of a run as the rule wants them.
pub fn facts(figures: &Measured) -> bottleneck::Facts {
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let of_spot = |name: &str, part: fn(&super::measured::SpotFigures) -> f64| {
        figures
            .spot(name)
            .map_or(Duration::ZERO, |spot| time(part(spot)))
    };
    bottleneck::Facts {
        wall: time(figures.wall_seconds),
        cores: figures.cores,
        cpu: time(figures.cpu.total),
        actor_thread: time(figures.cpu.actor_thread),
        machine_busy: figures.machine_busy,
        database_busy: time(figures.database.busy_seconds),
        gate_busy: of_spot("upload rate gate", |spot| spot.busy_seconds),
        slots_full: of_spot("upload slot", |spot| spot.full_seconds),
        batches_full: time(figures.batches.full_seconds),
        collections_full: of_spot("collection slot", |spot| spot.full_seconds),
        provider_alone: time(figures.batches.provider_alone_seconds),
    }
}

/// How far runs of the same thing were apart, over all rows.
pub fn noise(rows: &[Row]) -> f64 {
    let samples: Vec<Sample> = rows
        .iter()
        .map(|row| row.sample(Knob::UploadConcurrency))
        .collect();
    tuning::noise(&samples)
}

/// A setting with another value than before, in a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuggestedSetting {
    pub setting: &'static str,
    pub from: u64,
    pub to: u64,
    pub because: String,
    pub mind: &'static str,
}

/// One limit of a day's pages, in a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DailyLimit {
    pub limit: &'static str,
    pub pages_per_day: u64,
    pub from: String,
}

/// What to expect of a day, and what it was worked out from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expectation {
    /// The smallest first: it binds.
    pub limits: Vec<DailyLimit>,
    pub turnaround_hours: f64,
    pub image_bytes: u64,
    pub page_tokens: u64,
    pub line_bytes: u64,
    /// What is not in the limits, in words.
    pub notes: Vec<String>,
}

/// The limits in the settings and the measured speed, in one.
pub fn terms(settings: &Settings, base: &Point, rows: &[Row], turnaround: Duration) -> Terms {
    let of_base = rows.first();
    // Images of another size and errors tell of another day.
    let alike = rows.iter().filter(|row| {
        row.point.image_kb == base.image_kb && row.point.error_permille == base.error_permille
    });
    let best = alike.map(Row::rate).reduce(f64::max);
    let mean = |figure: fn(&Measured) -> f64| of_base.map_or(0.0, |row| figure(&row.figures));
    let image_bytes = mean(|figures| figures.image_bytes as f64 / figures.pages.max(1) as f64);
    Terms {
        pages_per_second: best.filter(|rate| *rate > 0.0),
        uploads_per_second: base.uploads_per_second,
        batch_pages: base.batch_size,
        batch_bytes_max: settings.batch.bytes_max,
        line_bytes: mean(|figures| figures.batches.line_bytes_mean).ceil() as u64,
        batch_tokens_max: settings.batch.tokens_max,
        page_tokens: mean(|figures| figures.batches.page_tokens_mean).ceil() as u64,
        live_batches: base.live_batches,
        storage_bytes: settings.files.storage_budget_bytes,
        image_bytes: image_bytes.ceil() as u64,
        enqueued_tokens_max: settings.batch.enqueued_tokens_max,
        turnaround,
    }
}

/// What to expect of a day under these terms.
pub fn expectation(terms: &Terms, chained: bool) -> Expectation {
    let limits = capacity::bounds(terms).into_iter().map(|bound| {
        let Bound {
            limit,
            pages_per_day,
            from,
        } = bound;
        DailyLimit {
            limit: limit.as_str(),
            pages_per_day,
            from,
        }
    });
    let hours = terms.turnaround.as_secs_f64() / 3_600.0;
    let mut notes = vec![format!(
        "Assumed, not measured: a job takes {hours} h from its making to its end \
         (--turnaround-hours). The provider aims at 24 h and is often much faster."
    )];
    if chained {
        notes.push(format!(
            "With execution.context: chain a page waits for the one before it, so that a book goes on by \
             one page in each turnaround: at most {:.1} pages a day of each book, however many batches \
             may be live.",
            24.0 / hours
        ));
    }
    if terms.enqueued_tokens_max.is_none() {
        notes.push(
            "No limit of enqueued tokens is set (batch.enqueued_tokens_max); that of your tier may \
             bind before any of these."
                .to_owned(),
        );
    }
    Expectation {
        limits: limits.collect(),
        turnaround_hours: hours,
        image_bytes: terms.image_bytes,
        page_tokens: terms.page_tokens,
        line_bytes: terms.line_bytes,
        notes,
    }
}

/// The settings to change first.
pub fn suggestions(terms: &Terms, tuned: &[Tuned]) -> Vec<SuggestedSetting> {
    let lifts = capacity::lifts(terms, SUGGESTIONS_MAX);
    let first = suggest::first(&lifts, tuned, SUGGESTIONS_MAX);
    let settings = first.into_iter().map(|suggestion| {
        let Suggestion {
            setting,
            from,
            to,
            why,
            mind,
        } = suggestion;
        SuggestedSetting {
            setting,
            from,
            to,
            because: because(why),
            mind,
        }
    });
    settings.collect()
}

/// The figures that speak for a suggestion, as a sentence.
fn because(why: Why) -> String {
    match why {
        Why::Day {
            before,
            after,
            then,
        } => format!(
            "{} pages a day instead of {}; then the limit is {}",
            words::count(after),
            words::count(before),
            then.as_str()
        ),
        Why::Speed { before, after } => {
            format!("{after:.1} pages/s instead of {before:.1}, measured here")
        }
    }
}

impl SuggestedSetting {
    /// A value as people read it.
    pub fn shown(&self, value: u64) -> String {
        match self.setting {
            name if name.ends_with("_bytes") => words::bytes(value),
            "files.uploads_per_second" if value == 0 => "0 (no limit)".to_owned(),
            _ => words::count(value),
        }
    }
}
