//! Which points are measured: a star around the base by default, everything with everything on request.

use std::collections::BTreeMap;

use super::knobs::{Knob, Point};

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The values of the configuration.
    pub base: Point,
    /// The values that were given for a knob.
    pub given: BTreeMap<Knob, Vec<u64>>,
    /// Whether each value is measured with each value of the others.
    pub cross: bool,
    /// Pages of one run; chosen so that the sweep takes about two minutes when absent.
    pub pages: Option<u64>,
    /// Runs of each point.
    pub repeat: u64,
    /// Whether runs are paid for: then nothing is measured that was not asked for.
    pub is_live: bool,
}

/// One point to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedPoint {
    pub point: Point,
    /// What makes it differ from the base; several things, or none, when absent.
    pub varied: Option<Knob>,
}

/// The points of a sweep, the base first.
#[derive(Debug, Clone)]
pub struct SweepPlan {
    pub points: Vec<PlannedPoint>,
    /// The values that each knob is given, without that of the base.
    pub values: BTreeMap<Knob, Vec<u64>>,
    pub cross: bool,
    pub pages: u64,
    pub repeat: u64,
    /// Runs of the base, at least: the others are compared with it.
    pub base_runs_min: u64,
    pub is_live: bool,
}

/// A sweep that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    #[error("{points} points are more than {POINTS_MAX}: give fewer values, or leave out --cross")]
    TooManyPoints { points: usize },
    #[error(
        "{pages} pages in images of up to {image_kb} kB are {gigabytes} GB on the disk, more than \
         {DISK_GB_MAX}: choose fewer pages (--pages) or smaller images (--image-kb)"
    )]
    TooLarge {
        pages: u64,
        image_kb: u64,
        gigabytes: u64,
    },
}

/// Points of a sweep, at most.
pub const POINTS_MAX: usize = 200;
/// Billions of bytes of images that a sweep makes, at most.
pub const DISK_GB_MAX: u64 = 8;
/// The base is measured so many times at least, where that costs nothing.
pub const BASE_RUNS_MIN: u64 = 3;
/// The time that a sweep of its own choice may take, in seconds.
const SWEEP_SECONDS: f64 = 100.0;
/// Pages of a run that a sweep of its own choice may have, most first.
const PAGES: [u64; 8] = [2_000, 1_000, 600, 400, 300, 200, 100, 50];
/// What a run takes beside its pages, in seconds, and pages a second that it does at most; a guess for
/// the estimate alone.
const START_SECONDS: f64 = 1.0;
const PAGES_PER_SECOND: f64 = 250.0;

/// Makes the sweep that was asked for.
pub fn plan(ask: &Ask) -> Result<SweepPlan, PlanFault> {
    let mut base = ask.base;
    for (knob, given) in &ask.given {
        let is_ours = knob.setting().is_some() && given.len() > 1;
        let keeps = is_ours || given.contains(&base.get(*knob));
        if let (false, Some(first)) = (keeps, given.first()) {
            base = base.with(*knob, *first);
        }
    }
    let values = values(ask, &base);
    let points = if ask.cross {
        product(&base, &values)?
    } else {
        star(&base, &values, &Knob::ALL)
    };
    if points.len() > POINTS_MAX {
        let points = points.len();
        return Err(PlanFault::TooManyPoints { points });
    }
    let mut plan = SweepPlan {
        points,
        values,
        cross: ask.cross,
        pages: 0,
        repeat: ask.repeat,
        base_runs_min: if ask.is_live { 1 } else { BASE_RUNS_MIN },
        is_live: ask.is_live,
    };
    plan.pages = ask.pages.unwrap_or_else(|| {
        let fits = |pages: &u64| plan.with_pages(*pages).seconds() <= SWEEP_SECONDS;
        PAGES
            .into_iter()
            .find(fits)
            .unwrap_or(PAGES[PAGES.len() - 1])
    });
    fits_the_disk(&plan)?;
    Ok(plan)
}

/// The values of every knob that is varied, without that of the base.
fn values(ask: &Ask, base: &Point) -> BTreeMap<Knob, Vec<u64>> {
    let choose = !ask.is_live && ask.given.values().all(|given| given.len() < 2);
    let mut values = BTreeMap::new();
    for knob in Knob::ALL {
        let now = base.get(knob);
        let mut found = match ask.given.get(&knob) {
            Some(given) => given.clone(),
            None if choose => around(knob, now),
            None => Vec::new(),
        };
        found.sort_unstable();
        found.dedup();
        found.retain(|value| *value != now);
        if !found.is_empty() {
            values.insert(knob, found);
        }
    }
    values
}

/// What a knob is varied to when nobody says it.
fn around(knob: Knob, now: u64) -> Vec<u64> {
    let (least, most) = knob.range();
    let values = match knob {
        Knob::UploadsPerSecond if now == 0 => vec![50, 200],
        Knob::UploadsPerSecond => vec![now * 4, 0],
        Knob::UploadConcurrency | Knob::LiveBatches | Knob::BatchSize => vec![now / 4, now * 4],
        Knob::ImageKb => vec![now / 5, now * 5],
        Knob::LatencyMs => vec![0, now.max(250) * 4],
        Knob::ErrorRate => vec![50],
    };
    values
        .into_iter()
        .map(|value| value.clamp(least, most))
        .collect()
}

/// The base, and each value of each of these knobs with everything else as in the base.
pub fn star(base: &Point, values: &BTreeMap<Knob, Vec<u64>>, knobs: &[Knob]) -> Vec<PlannedPoint> {
    let mut points = vec![PlannedPoint {
        point: *base,
        varied: None,
    }];
    for knob in knobs {
        let values = values.get(knob).into_iter().flatten();
        points.extend(values.map(|value| PlannedPoint {
            point: base.with(*knob, *value),
            varied: Some(*knob),
        }));
    }
    points
}

/// The base, and every other combination.
fn product(
    base: &Point,
    values: &BTreeMap<Knob, Vec<u64>>,
) -> Result<Vec<PlannedPoint>, PlanFault> {
    let count = values.values().fold(1_usize, |count, values| {
        count.saturating_mul(values.len() + 1)
    });
    if count > POINTS_MAX {
        return Err(PlanFault::TooManyPoints { points: count });
    }
    let mut points = vec![*base];
    for (knob, values) in values {
        let before = points.clone();
        for value in values {
            points.extend(before.iter().map(|point| point.with(*knob, *value)));
        }
    }
    let planned = points.into_iter().map(|point| {
        let differs = |knob: &Knob| point.get(*knob) != base.get(*knob);
        let mut knobs = Knob::ALL.into_iter().filter(differs);
        let varied = knobs.next().filter(|_first| knobs.next().is_none());
        PlannedPoint { point, varied }
    });
    Ok(planned.collect())
}

fn fits_the_disk(plan: &SweepPlan) -> Result<(), PlanFault> {
    let mut sizes: Vec<u64> = plan
        .points
        .iter()
        .map(|planned| planned.point.image_kb)
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    // Each size has its own images.
    let kilobytes = sizes.iter().sum::<u64>().saturating_mul(plan.pages);
    let gigabytes = kilobytes.div_ceil(1_000_000);
    if gigabytes > DISK_GB_MAX {
        return Err(PlanFault::TooLarge {
            pages: plan.pages,
            image_kb: sizes.last().copied().unwrap_or(0),
            gigabytes,
        });
    }
    Ok(())
}

impl SweepPlan {
    /// The values of the configuration, or what was given in their place.
    pub fn base(&self) -> Point {
        self.points[0].point
    }

    fn with_pages(&self, pages: u64) -> SweepPlan {
        SweepPlan {
            pages,
            ..self.clone()
        }
    }

    /// How often a point is measured.
    pub fn runs_of(&self, planned: &PlannedPoint) -> u64 {
        if planned.point == self.base() {
            self.repeat.max(self.base_runs_min)
        } else {
            self.repeat
        }
    }

    /// Every run of every point.
    pub fn runs(&self) -> u64 {
        self.points
            .iter()
            .map(|planned| self.runs_of(planned))
            .sum()
    }

    /// About how long the sweep takes: a guess, for whoever decides whether to wait.
    pub fn seconds(&self) -> f64 {
        let runs = self.points.iter();
        runs.map(|planned| seconds(&planned.point, self.pages) * self.runs_of(planned) as f64)
            .sum()
    }
}

fn seconds(point: &Point, pages: u64) -> f64 {
    let rate = match point.uploads_per_second {
        0 => PAGES_PER_SECOND,
        rate => PAGES_PER_SECOND.min(rate as f64),
    };
    let rounds = pages.div_ceil(point.batch_size * point.live_batches);
    let waits = rounds as f64 * point.latency_ms as f64 / 1_000.0;
    START_SECONDS + pages as f64 / rate + waits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(given: &[(Knob, &[u64])]) -> Ask {
        Ask {
            base: Point {
                upload_concurrency: 16,
                uploads_per_second: 50,
                batch_size: 100,
                live_batches: 10,
                image_kb: 200,
                latency_ms: 500,
                error_permille: 0,
            },
            given: given
                .iter()
                .map(|(knob, values)| (*knob, values.to_vec()))
                .collect(),
            cross: false,
            pages: None,
            repeat: 1,
            is_live: false,
        }
    }

    #[test]
    fn without_a_wish_every_knob_is_varied_alone_within_two_minutes() {
        let plan = plan(&ask(&[])).unwrap();
        for knob in Knob::ALL {
            let points: Vec<&PlannedPoint> = plan
                .points
                .iter()
                .filter(|planned| planned.varied == Some(knob))
                .collect();
            assert!(!points.is_empty(), "{knob:?}");
            for planned in points {
                let others = Knob::ALL.into_iter().filter(|other| *other != knob);
                let mut same =
                    others.map(|other| planned.point.get(other) == plan.base().get(other));
                assert!(same.all(|same| same), "{planned:?}");
                assert_ne!(planned.point.get(knob), plan.base().get(knob));
            }
        }
        assert!(plan.seconds() <= 120.0, "{}", plan.seconds());
        assert!(plan.pages >= 50);
        assert_eq!(plan.runs_of(&plan.points[0]), BASE_RUNS_MIN);
        assert_eq!(plan.runs(), plan.points.len() as u64 - 1 + BASE_RUNS_MIN);
    }

    #[test]
    fn one_value_moves_the_base_and_several_make_a_sweep_of_that_knob() {
        let moved = plan(&ask(&[(Knob::LatencyMs, &[4_000])])).unwrap();
        assert_eq!(moved.base().latency_ms, 4_000);
        assert!(moved.values.contains_key(&Knob::UploadConcurrency));
        let swept = plan(&ask(&[(Knob::UploadConcurrency, &[64, 4, 64])])).unwrap();
        assert_eq!(swept.base().upload_concurrency, 16);
        assert_eq!(
            swept.values,
            [(Knob::UploadConcurrency, vec![4, 64])].into()
        );
        let world = plan(&ask(&[(Knob::ImageKb, &[40, 1_000])])).unwrap();
        assert_eq!(world.base().image_kb, 40);
        assert_eq!(world.points.len(), 2);
    }

    #[test]
    fn everything_with_everything_is_bounded() {
        let mut small = ask(&[
            (Knob::UploadConcurrency, &[4, 64]),
            (Knob::LiveBatches, &[2, 10]),
        ]);
        small.cross = true;
        let planned = plan(&small).unwrap();
        assert_eq!(planned.points.len(), 6);
        let base = planned.base();
        assert_eq!(planned.points[0].point, base);
        let alone = planned
            .points
            .iter()
            .filter(|planned| planned.varied.is_some());
        assert_eq!(alone.count(), 3);
        let many: Vec<u64> = (1..=100).collect();
        let mut large = ask(&[(Knob::UploadConcurrency, &many), (Knob::LiveBatches, &many)]);
        large.cross = true;
        let fault = plan(&large).unwrap_err();
        assert_eq!(fault, PlanFault::TooManyPoints { points: 10_000 });
        large.cross = false;
        assert!(plan(&large).is_ok());
    }

    #[test]
    fn more_images_than_a_disk_should_take_are_refused() {
        let mut large = ask(&[(Knob::ImageKb, &[20_000])]);
        large.pages = Some(2_000);
        let fault = plan(&large).unwrap_err();
        assert!(matches!(fault, PlanFault::TooLarge { .. }), "{fault}");
    }
}
