//! Below what no schedule can be.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Played, Scenario};

/// Milliseconds that the work takes at the least.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// What the jobs with the pages of the longest chain took, one after the other; of several that are as
    /// long, the slowest. Without chains, the longest job.
    pub chain: u64,
    /// All requests, over the pages that may be with the provider at a time, times the mean of what
    /// the jobs took.
    pub capacity: u64,
    /// The same for the chain that had the slowest jobs, however long it is.
    pub slowest_chain: u64,
    /// As few jobs as can hold all requests, with the latencies drawn in this order, each begun as soon as one
    /// of so many places is free.
    pub places: u64,
}

impl Bounds {
    /// max(longest chain x latency, total work / capacity).
    pub fn plain(&self) -> u64 {
        self.chain.max(self.capacity)
    }

    /// What holds for the latencies as they were drawn: nothing that does not know them beforehand ends sooner.
    pub fn strong(&self) -> u64 {
        self.plain().max(self.slowest_chain).max(self.places)
    }
}

/// The bounds for what was played.
pub fn bounds(scenario: &Scenario, played: &Played) -> Bounds {
    let longest = played.lengths.iter().max().copied().unwrap_or(0);
    let chains = played.lengths.iter().zip(&played.chain_latency);
    let of_longest = chains
        .filter(|(length, _)| !scenario.chained || **length == longest)
        .map(|(_, latency)| *latency);
    let jobs = played.latencies.len().max(1) as f64;
    let mean = played.latencies.iter().sum::<u64>() as f64 / jobs;
    let places = f64::from(scenario.batch_size) * scenario.live_max as f64;
    Bounds {
        chain: of_longest.max().unwrap_or(0),
        capacity: (played.requests as f64 / places * mean) as u64,
        slowest_chain: played.chain_latency.iter().max().copied().unwrap_or(0),
        places: greedy(scenario, played),
    }
}

/// When the last of the fewest jobs ends that can hold all requests. A job that begins later than it
/// could makes none of those after it begin sooner, so nothing that meets these latencies in this
/// order ends before.
fn greedy(scenario: &Scenario, played: &Played) -> u64 {
    let jobs = played.requests.div_ceil(u64::from(scenario.batch_size)) as usize;
    let mut ends: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
    let mut last = 0;
    for latency in played.latencies.iter().take(jobs) {
        let begun = if ends.len() < scenario.live_max {
            0
        } else {
            ends.pop().map_or(0, |Reverse(end)| end)
        };
        last = last.max(begun + latency);
        ends.push(Reverse(begun + latency));
    }
    last
}
