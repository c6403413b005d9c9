//! Rows a second through StateActor on a real file: one batch of pages from the work list to its
//! settlement, message by message (`kit/way.rs`), against SQLite alone.

#[path = "kit/race.rs"]
#[expect(dead_code, reason = "its races are for other benches")]
mod race;
#[path = "kit/size.rs"]
mod size;
#[path = "kit/state.rs"]
mod state;
#[path = "../tests/it/kit/state_world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod state_world;
#[path = "kit/way.rs"]
#[expect(dead_code, reason = "other benches use the rest")]
mod way;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use way::{Answers, Way};

fn recording(criterion: &mut Criterion) {
    let system = actix::System::new();
    let count = size::size("PAGEMILL_BENCH_ROWS", 5_000);
    let way = system.block_on(Way::new(count, Answers::Mixed));
    for stop in &way.stops {
        let mut group = criterion.benchmark_group(format!("state/{:?}", stop.step));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function("floor: prepared statements", |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| way.by_sqlite_alone(stop).time).sum());
        });
        group.bench_function(stop.step.name(), |bencher| {
            bencher.iter_custom(|times| {
                system.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..times {
                        total += way.through_the_actor(stop).await;
                    }
                    total
                })
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(2));
    targets = recording
}
criterion_main!(benches);
