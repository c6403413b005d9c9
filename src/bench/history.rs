//! What the history of a run says about waiting: how many pages were in each stage, and how long.
//!
//! Nothing of this costs the run anything: it is worked out when the run is over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::measured::{BatchFigures, StageFigures};
use crate::actors::state::timeline::{BatchLife, Step};
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// The stages that pages wait in, in the order of a page's way.
const WAITING: [PageStage; 5] = [
    PageStage::Discovered,
    PageStage::Uploading,
    PageStage::Uploaded,
    PageStage::Batched,
    PageStage::Validating,
];
/// The share of waits that is not longer than the figure that is told.
const MOST: f64 = 0.95;

/// One stay in a stage.
type Stay = (Timestamp, Timestamp);

/// The pages in each stage over the run, which took from `begin` to `end`.
pub fn stages(steps: &[Step], begin: Timestamp, end: Timestamp) -> Vec<StageFigures> {
    let stays = stays(steps, end);
    let wall = end.since(begin).as_secs_f64().max(f64::EPSILON);
    let figures = WAITING.iter().map(|stage| {
        let name = stage.to_string();
        let stays = stays.get(&name).map_or(&[][..], Vec::as_slice);
        let mut waits: Vec<f64> = stays
            .iter()
            .map(|(from, to)| to.since(*from).as_secs_f64())
            .collect();
        waits.sort_by(f64::total_cmp);
        let sum: f64 = waits.iter().sum();
        let place = (waits.len() as f64 * MOST).ceil() as usize;
        StageFigures {
            visits: waits.len() as u64,
            wait_mean_seconds: sum / (waits.len().max(1) as f64),
            wait_p95_seconds: waits
                .get(place.saturating_sub(1))
                .copied()
                .unwrap_or_default(),
            depth_mean: sum / wall,
            depth_max: most(stays),
            stage: name,
        }
    });
    figures.collect()
}

/// Every stay by the name of its stage. One that is not over ends with the run.
fn stays(steps: &[Step], end: Timestamp) -> BTreeMap<String, Vec<Stay>> {
    let mut stays: BTreeMap<String, Vec<Stay>> = BTreeMap::new();
    let mut now: BTreeMap<&str, (PageStage, Timestamp)> = BTreeMap::new();
    for step in steps {
        let before = now.insert(&step.page, (step.to, step.at));
        if let Some((stage, since)) = before {
            let stays = stays.entry(stage.to_string()).or_default();
            stays.push((since, step.at));
        }
    }
    for (stage, since) in now.into_values() {
        let stays = stays.entry(stage.to_string()).or_default();
        stays.push((since, end.max(since)));
    }
    stays
}

/// Every moment at which a stay begins or ends, in order, with what it changes. An end comes before a
/// begin of the same moment.
fn changes(stays: &[Stay]) -> Vec<(Timestamp, i64)> {
    let both = stays.iter().flat_map(|(from, to)| [(*from, 1), (*to, -1)]);
    let mut changes: Vec<(Timestamp, i64)> = both.collect();
    changes.sort();
    changes
}

/// The most stays at once.
fn most(stays: &[Stay]) -> u64 {
    let (mut now, mut most) = (0, 0);
    for (_at, change) in changes(stays) {
        now += change;
        most = most.max(now);
    }
    u64::try_from(most).unwrap_or(0)
}

/// The times in which there were at least so many stays at once.
fn spans(stays: &[Stay], least: u64) -> Vec<Stay> {
    let least = i64::try_from(least.max(1)).unwrap_or(i64::MAX);
    let (mut now, mut since, mut spans) = (0, None, Vec::new());
    for (at, change) in changes(stays) {
        now += change;
        match since {
            None if now >= least => since = Some(at),
            Some(from) if now < least => {
                spans.push((from, at));
                since = None;
            }
            _ => {}
        }
    }
    spans
}

fn length(spans: &[Stay]) -> f64 {
    spans
        .iter()
        .map(|(from, to)| to.since(*from).as_secs_f64())
        .sum()
}

/// What the batches of a run came to. `live_max` is how many might be live at once.
pub fn batches(lives: &[BatchLife], steps: &[Step], end: Timestamp, live_max: u64) -> BatchFigures {
    let count = lives.len() as u64;
    let pages: u64 = lives.iter().map(|life| life.pages).sum();
    let closed = |life: &BatchLife| life.closed_at.unwrap_or(end);
    let live: Vec<Stay> = lives
        .iter()
        .map(|life| (life.created_at, closed(life)))
        .collect();
    let running: Vec<Stay> = lives
        .iter()
        .filter_map(|life| Some((life.submitted_at?, life.ended_at.or(life.seen_at)?)))
        .collect();
    let collecting: Vec<Stay> = lives
        .iter()
        .filter_map(|life| Some((life.seen_at?, closed(life))))
        .collect();
    let unseen = lives
        .iter()
        .filter_map(|life| Some((life.ended_at?, life.seen_at?)));
    let per = |sum: u64, of: u64| sum as f64 / of.max(1) as f64;
    let sum = |figure: fn(&BatchLife) -> u64| lives.iter().map(figure).sum();
    BatchFigures {
        count,
        pages_mean: per(pages, count),
        live_max: most(&live),
        full_seconds: length(&spans(&live, live_max)),
        turnaround_mean_seconds: mean(&running),
        unseen_mean_seconds: mean(&unseen.collect::<Vec<Stay>>()),
        collecting_mean_seconds: mean(&collecting),
        provider_alone_seconds: alone(&running, &collecting, steps, end),
        line_bytes_mean: per(sum(|life| life.line_bytes), pages),
        page_tokens_mean: per(sum(|life| life.tokens_estimated), pages),
    }
}

fn mean(stays: &[Stay]) -> f64 {
    length(stays) / (stays.len().max(1) as f64)
}

/// How long jobs ran while no page was being uploaded and no batch collected.
fn alone(running: &[Stay], collecting: &[Stay], steps: &[Step], end: Timestamp) -> f64 {
    let mut ours = stays(steps, end)
        .remove(&PageStage::Uploading.to_string())
        .unwrap_or_default();
    ours.extend_from_slice(collecting);
    let (running, ours) = (spans(running, 1), spans(&ours, 1));
    let mut both = Duration::ZERO;
    for (from, to) in &running {
        for (ours_from, ours_to) in &ours {
            let (from, to) = (*from.max(ours_from), *to.min(ours_to));
            if from < to {
                both += to.since(from);
            }
        }
    }
    (length(&running) - both.as_secs_f64()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn step(page: &str, to: PageStage, seconds: i64) -> Step {
        Step {
            page: page.to_owned(),
            to,
            at: at(seconds),
        }
    }

    /// Two pages: the second comes a second later and waits longer for its upload.
    fn two_pages() -> Vec<Step> {
        vec![
            step("a", PageStage::Discovered, 0),
            step("b", PageStage::Discovered, 1),
            step("a", PageStage::Uploading, 2),
            step("a", PageStage::Uploaded, 4),
            step("b", PageStage::Uploading, 4),
            step("b", PageStage::Uploaded, 5),
            step("a", PageStage::Completed, 8),
        ]
    }

    #[test]
    fn waits_and_depths_are_those_of_the_history() {
        let figures = stages(&two_pages(), at(0), at(10));
        let of = |stage: PageStage| {
            let name = stage.to_string();
            figures.iter().find(|figure| figure.stage == name).unwrap()
        };
        let discovered = of(PageStage::Discovered);
        assert_eq!((discovered.visits, discovered.depth_max), (2, 2));
        assert_eq!(discovered.wait_mean_seconds, 2.5);
        assert_eq!(discovered.wait_p95_seconds, 3.0);
        assert_eq!(discovered.depth_mean, 0.5);
        // One is uploaded in the moment in which the other begins.
        assert_eq!(of(PageStage::Uploading).depth_max, 1);
        // The second page is still there when the run ends.
        assert_eq!(of(PageStage::Uploaded).wait_mean_seconds, 4.5);
        assert_eq!(of(PageStage::Batched).visits, 0);
    }

    fn life(created: i64, ended: i64, closed: i64) -> BatchLife {
        BatchLife {
            job: None,
            pages: 10,
            line_bytes: 5_000,
            tokens_estimated: 20_000,
            cost_nanos: 0,
            created_at: at(created),
            submitted_at: Some(at(created)),
            ended_at: Some(at(ended)),
            seen_at: Some(at(ended + 1)),
            closed_at: Some(at(closed)),
        }
    }

    #[test]
    fn batches_are_full_and_the_provider_alone_for_as_long_as_they_were() {
        let lives = [life(4, 10, 14), life(6, 20, 22)];
        let figures = batches(&lives, &two_pages(), at(30), 2);
        assert_eq!((figures.count, figures.live_max), (2, 2));
        assert_eq!(figures.pages_mean, 10.0);
        assert_eq!(figures.full_seconds, 8.0);
        assert_eq!(figures.turnaround_mean_seconds, 10.0);
        assert_eq!(figures.unseen_mean_seconds, 1.0);
        assert_eq!(figures.collecting_mean_seconds, 2.0);
        assert_eq!(
            (figures.line_bytes_mean, figures.page_tokens_mean),
            (500.0, 2_000.0)
        );
        // Jobs run from 4 to 20; until 5 a page is uploaded, and from 11 to 14 a batch is collected.
        assert_eq!(figures.provider_alone_seconds, 12.0);
    }

    #[test]
    fn a_run_without_pages_has_figures_too() {
        let figures = stages(&[], at(0), at(0));
        assert!(figures.iter().all(|figure| figure.depth_max == 0));
        assert_eq!(batches(&[], &[], at(0), 1).count, 0);
    }
}
