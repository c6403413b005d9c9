//! How long a whole run takes, in hours of a simulated clock: makespans of our order and of the
//! alphabetical one, against what no schedule can beat. Nothing is timed; the figures repeat exactly.

#[path = "../tests/it/kit/schedule/mod.rs"]
mod schedule;

use schedule::{HOUR, Latency, Lengths, Order, Scenario, bounds, play};

/// Runs with latencies drawn anew whose mean a line shows, where latency is not constant.
const DRAWS: u64 = 5;

/// Batches of 100, ten of them live, as the settings have it unless they say otherwise.
fn usual(name: &'static str, lengths: Lengths) -> Scenario {
    sized(name, lengths, 100, 10)
}

fn sized(name: &'static str, lengths: Lengths, batch_size: u32, live_max: usize) -> Scenario {
    Scenario {
        name,
        lengths,
        chained: true,
        batch_size,
        live_max,
        latency: Latency::Constant,
        failed_percent: 0,
        seed: 1,
    }
}

fn equal(books: u32, pages: u32) -> Lengths {
    Lengths::Equal { books, pages }
}

fn few_long(long: u32, long_pages: u32, short: u32) -> Lengths {
    Lengths::FewLong {
        long,
        long_pages,
        short,
    }
}

fn between(books: u32, low: u32, high: u32) -> Lengths {
    Lengths::Between { books, low, high }
}

fn power_law(books: u32) -> Lengths {
    Lengths::PowerLaw { books, high: 100 }
}

fn scenarios() -> Vec<Scenario> {
    let failing = |scenario| Scenario {
        failed_percent: 1,
        ..scenario
    };
    vec![
        usual("few long, many short", few_long(20, 60, 6_000)),
        usual("all equal", equal(1_500, 40)),
        usual("all equal, all live", equal(1_000, 60)),
        usual("power law", power_law(4_000)),
        usual("capacity-bound", equal(5_000, 20)),
        usual("chain-bound", between(300, 50, 100)),
        sized("one giant", few_long(1, 150, 1_200), 100, 1),
        sized("one giant", few_long(1, 150, 3_000), 100, 2),
        sized("one giant", few_long(1, 150, 15_000), 100, 10),
        sized("mixed", between(200, 1, 80), 1, 100),
        sized("mixed", between(150, 1, 80), 10, 10),
        sized("mixed", between(10_000, 1, 60), 100, 100),
        sized("mixed", between(1_500, 1, 80), 1_000, 1),
        sized("mixed", between(15_000, 1, 80), 1_000, 10),
        Scenario {
            chained: false,
            ..usual("unchained", equal(200, 200))
        },
        failing(usual("few long, 1 % fail", few_long(20, 60, 6_000))),
        failing(usual("power law, 1 % fail", power_law(4_000))),
        failing(sized(
            "one giant, 1 % fail",
            few_long(1, 150, 3_000),
            100,
            2,
        )),
    ]
}

/// One line of the table, in hours.
#[derive(Default)]
struct Line {
    chain: f64,
    capacity: f64,
    bound: f64,
    strong: f64,
    ours: f64,
    alphabetical: f64,
    alphabetical_bound: f64,
}

fn hours(millis: u64) -> f64 {
    millis as f64 / HOUR as f64
}

/// Plays a scenario so often, with the seeds from 1 on, and takes the means.
fn line(scenario: &Scenario, draws: u64) -> Line {
    let mut sum = Line::default();
    for seed in 1..=draws {
        let scenario = Scenario {
            seed,
            ..scenario.clone()
        };
        let ours = play(&scenario, Order::LongestChain);
        let bound = bounds(&scenario, &ours);
        let alphabetical = play(&scenario, Order::Alphabetical);
        let alphabetical_bound = bounds(&scenario, &alphabetical);
        let share = 1.0 / draws as f64;
        sum.chain += share * hours(bound.chain);
        sum.capacity += share * hours(bound.capacity);
        sum.bound += share * hours(bound.plain());
        sum.strong += share * hours(bound.strong());
        sum.ours += share * hours(ours.makespan);
        sum.alphabetical += share * hours(alphabetical.makespan);
        sum.alphabetical_bound += share * hours(alphabetical_bound.plain());
    }
    sum
}

fn print(scenario: &Scenario, latency: Latency, draws: u64) {
    let of = Scenario {
        latency,
        ..scenario.clone()
    };
    let Line {
        chain,
        capacity,
        bound,
        strong,
        ours,
        alphabetical,
        alphabetical_bound,
    } = line(&of, draws);
    let seeds = if draws == 1 {
        "1".to_owned()
    } else {
        format!("1-{draws}")
    };
    println!(
        "| {} | {} x {} | {} | {seeds} | {chain:.1} | {capacity:.1} | {bound:.1} | {ours:.1} | {:.3} | {strong:.1} | {:.3} | {alphabetical:.1} | {:.3} |",
        scenario.name,
        scenario.live_max,
        scenario.batch_size,
        latency.name(),
        ours / bound,
        ours / strong,
        alphabetical / alphabetical_bound,
    );
}

fn main() {
    println!(
        "| scenario | live x pages | latency | seeds | chain | capacity | bound | ours | ratio | strong bound | ratio | alphabetical | ratio |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    if !std::env::args().any(|argument| argument == "--bench") {
        let few = sized("mixed", between(15, 1, 8), 10, 2);
        print(&few, Latency::HeavyTail, 2);
        return;
    }
    for scenario in scenarios() {
        for latency in Latency::ALL {
            let draws = if latency == Latency::Constant {
                1
            } else {
                DRAWS
            };
            print(&scenario, latency, draws);
        }
    }
}
