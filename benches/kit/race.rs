//! Floor and program in turns, as often as asked, and the ratio of their medians: for sizes at which
//! criterion's ten samples would take an hour.

use std::iter::Sum;
use std::time::{Duration, Instant};

/// How often each side runs, from `PAGEMILL_BENCH_ROUNDS`; without it, criterion measures.
pub fn rounds() -> Option<usize> {
    let text = std::env::var("PAGEMILL_BENCH_ROUNDS").ok()?;
    let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
    Some(rounds.expect("PAGEMILL_BENCH_ROUNDS is a whole number from 1 on"))
}

/// What one run took: its own clock, and the processor time of this process meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    pub time: Duration,
    pub cpu: Duration,
}

impl Sum for Took {
    fn sum<I: Iterator<Item = Took>>(parts: I) -> Took {
        let none = Took {
            time: Duration::ZERO,
            cpu: Duration::ZERO,
        };
        parts.fold(none, |all, part| Took {
            time: all.time + part.time,
            cpu: all.cpu + part.cpu,
        })
    }
}

/// The clocks at the start of a run. What is made ready before and cleaned up after does not count.
pub struct Watch {
    since: Instant,
    cpu: Duration,
}

impl Watch {
    pub fn start() -> Self {
        Watch {
            cpu: cpu(),
            since: Instant::now(),
        }
    }

    pub fn took(&self) -> Took {
        Took {
            time: self.since.elapsed(),
            cpu: cpu() - self.cpu,
        }
    }
}

impl Took {
    /// Measures all of a run.
    #[allow(dead_code, reason = "some benches have runs with their own watch only")]
    pub fn whole(run: impl FnOnce()) -> Self {
        let watch = Watch::start();
        run();
        watch.took()
    }
}

/// Runs `floor` and `ours` in turns and prints their medians, per item and as ratios; gives the medians of
/// both.
pub fn race(
    name: &str,
    items: u64,
    rounds: usize,
    mut floor: impl FnMut() -> Took,
    mut ours: impl FnMut() -> Took,
) -> (Took, Took) {
    let (mut floors, mut all_ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        floors.push(floor());
        all_ours.push(ours());
    }
    let floor = median(&floors);
    let ours = median(&all_ours);
    let each = |span: Duration| span.as_secs_f64() * 1e6 / items as f64;
    println!(
        "{name}: {items} items, medians of {rounds}\n  \
         floor {:>10.3} s  {:>8.1} us an item, {:>8.1} us of processor\n  \
         ours  {:>10.3} s  {:>8.1} us an item, {:>8.1} us of processor\n  \
         time: floor/ours {:.2}, ours/floor {:.2}; processor: ours/floor {:.2}",
        floor.time.as_secs_f64(),
        each(floor.time),
        each(floor.cpu),
        ours.time.as_secs_f64(),
        each(ours.time),
        each(ours.cpu),
        floor.time.as_secs_f64() / ours.time.as_secs_f64(),
        ours.time.as_secs_f64() / floor.time.as_secs_f64(),
        ours.cpu.as_secs_f64() / floor.cpu.as_secs_f64(),
    );
    (floor, ours)
}

/// The middle of some runs, of time and of processor time each on its own.
pub fn median(runs: &[Took]) -> Took {
    let middle = |pick: fn(&Took) -> Duration| {
        let mut spans: Vec<Duration> = runs.iter().map(pick).collect();
        spans.sort();
        spans[spans.len() / 2]
    };
    Took {
        time: middle(|took| took.time),
        cpu: middle(|took| took.cpu),
    }
}

/// Processor time of this process so far, all threads, the system's share included.
pub fn cpu() -> Duration {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(usage.tv_sec).unwrap_or(0),
        u32::try_from(usage.tv_nsec).unwrap_or(0),
    )
}
