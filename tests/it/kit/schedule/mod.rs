//! Schedules played with a clock of their own: the real rules of packing and waiting, and a provider
//! that takes hours. `benches/schedule.rs` prints what `tests/it/schedule.rs` holds.
//!
//! It is pure, because the bench plays tens of millions of pages, and the real actors get through hundreds a
//! second: what SQL does in the program (claiming, listing, who is next) is done here by ordered sets, and what
//! the other stages do is the time that they are assumed to take. `tests/it/schedule.rs` holds the real ones to it.

mod books;
mod bounds;
pub mod play;

pub use books::{Books, Lengths, books};
pub use bounds::bounds;
pub use play::{Played, play};

/// Milliseconds of an hour.
pub const HOUR: u64 = 3_600_000;

/// In which order pages are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The program's: the most pages behind it first, then by key.
    LongestChain,
    /// By key alone.
    Alphabetical,
}

/// How long a job takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// Always four hours.
    Constant,
    /// One to seven hours, each as likely as the others.
    Uniform,
    /// At least 1.6 hours, cut at 24: a Pareto law of shape 1.5, four hours in the mean.
    HeavyTail,
}

impl Latency {
    pub const ALL: [Latency; 3] = [Latency::Constant, Latency::Uniform, Latency::HeavyTail];

    pub fn name(self) -> &'static str {
        match self {
            Latency::Constant => "constant",
            Latency::Uniform => "uniform",
            Latency::HeavyTail => "heavy tail",
        }
    }

    /// What a draw of `0.0..1.0` comes to, in milliseconds.
    pub fn drawn(self, fraction: f64) -> u64 {
        let hours = match self {
            Latency::Constant => 4.0,
            Latency::Uniform => 1.0 + 6.0 * fraction,
            Latency::HeavyTail => (1.6 / (1.0 - fraction).powf(1.0 / 1.5)).min(24.0),
        };
        (hours * HOUR as f64) as u64
    }
}

/// What is to be done, and under which limits.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub lengths: Lengths,
    /// Whether a page waits for the one before it.
    pub chained: bool,
    pub batch_size: u32,
    pub live_max: usize,
    pub latency: Latency,
    /// Answers in a hundred that are of no use, so that the page is asked again.
    pub failed_percent: u64,
    pub seed: u64,
}

/// Numbers that follow from a seed alone (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0.0..1.0`.
    pub fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + (self.number() % u64::from(high - low + 1)) as u32
    }
}
