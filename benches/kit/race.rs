//! Floor and program in turns, as often as asked, and the middle of the ratios of the rounds: for sizes at
//! which criterion's ten samples would take an hour.

use std::fmt::{self, Display, Formatter};
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

/// The runs of a race, round by round.
pub struct Rounds {
    pub floor: Vec<Took>,
    pub ours: Vec<Took>,
}

/// Runs `floor` and `ours` in turns and prints their medians, per item, and the ratios of the rounds.
pub fn race(
    name: &str,
    items: u64,
    rounds: usize,
    mut floor: impl FnMut() -> Took,
    mut ours: impl FnMut() -> Took,
) -> Rounds {
    let mut all = Rounds {
        floor: Vec::new(),
        ours: Vec::new(),
    };
    for _ in 0..rounds {
        all.floor.push(floor());
        all.ours.push(ours());
    }
    println!("{name}: {items} items, medians of {rounds}");
    for (side, runs) in [("floor", &all.floor), ("ours", &all.ours)] {
        print_side(side, items, runs);
    }
    let time = all.ratios(|took| took.time);
    let turned: Vec<f64> = time.iter().map(|ratio| 1.0 / ratio).collect();
    println!(
        "  time: floor/ours {}, ours/floor {}; processor: ours/floor {}",
        Ratios::of(turned),
        Ratios::of(time),
        Ratios::of(all.ratios(|took| took.cpu)),
    );
    all
}

/// One side of a race, or another part of its floor: per item, the middle of some runs.
pub fn print_side(name: &str, items: u64, runs: &[Took]) {
    let took = median(runs);
    let each = |span: Duration| span.as_secs_f64() * 1e6 / items as f64;
    println!(
        "  {name:<10} {:>10.3} s  {:>8.1} us an item, {:>8.1} us of processor",
        took.time.as_secs_f64(),
        each(took.time),
        each(took.cpu),
    );
}

impl Rounds {
    /// What ours took for each unit that the floor took, in each round. The speed of a machine moves from one
    /// minute to the next; within a round it moves the least.
    pub fn ratios(&self, pick: fn(&Took) -> Duration) -> Vec<f64> {
        let pairs = self.floor.iter().zip(&self.ours);
        let ratios =
            pairs.map(|(floor, ours)| pick(ours).as_secs_f64() / pick(floor).as_secs_f64());
        ratios.collect()
    }
}

/// The middle of some ratios, the smallest and the largest.
pub struct Ratios {
    sorted: Vec<f64>,
}

impl Ratios {
    pub fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        Ratios { sorted: ratios }
    }
}

impl Display for Ratios {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Ratios { sorted } = self;
        let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
        write!(
            out,
            "{:.2} ({first:.2} to {last:.2})",
            sorted[sorted.len() / 2]
        )
    }
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
