//! What is counted, and for whom.

use super::*;

/// Keeps a thread busy until the system has counted some time for it.
fn work() {
    let begun = cpu::of_thread();
    let mut sum = 0_u64;
    while cpu::of_thread().saturating_sub(begun) < Duration::from_millis(3) {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
}

fn of(meter: &Meter, stage: Stage) -> StageReading {
    meter.stages()[stage as usize]
}

#[test]
fn the_time_of_a_future_and_of_what_it_hands_over_is_its_stages() {
    let meter = Meter::new(|_spot| None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(watched(&meter, Stage::Uploader, async {
        work();
        let handed = tokio::task::spawn_blocking(carried(|| {
            work();
            // A thread of the thread.
            std::thread::scope(|scope| {
                scope.spawn(carried(work));
            });
        }));
        handed.await.unwrap();
    }));
    let least = Duration::from_millis(3);
    let uploader = of(&meter, Stage::Uploader);
    assert!(uploader.actor >= least, "{uploader:?}");
    assert!(uploader.pool >= least * 2, "{uploader:?}");
    let other = of(&meter, Stage::Poller);
    assert_eq!((other.actor, other.pool), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn without_a_meter_work_is_done_all_the_same() {
    assert_eq!(carried(|| 7)(), 7);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert_eq!(
        runtime.block_on(waiting(Spot::Judge, async { "done" })),
        "done"
    );
}

#[test]
fn stays_are_counted_while_they_last() {
    let meter = Meter::new(|spot| (spot == Spot::UploadSlot).then_some(2));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (open, wait) = tokio::sync::watch::channel(());
    let stay = || {
        let mut wait = wait.clone();
        waiting(Spot::UploadSlot, async move { wait.changed().await })
    };
    let seen = runtime.block_on(watched(&meter, Stage::Uploader, async {
        let (first, second, third) = (stay(), stay(), stay());
        let opening = async {
            let during = meter.spots()[Spot::UploadSlot as usize].1;
            open.send(()).unwrap();
            during
        };
        let (_, _, _, during) = tokio::join!(first, second, third, opening);
        during
    }));
    assert_eq!((seen.stays, seen.most, seen.limit), (3, 3, Some(2)));
    assert!(seen.stayed >= seen.busy && seen.busy >= seen.full);
    let after = meter.spots()[Spot::UploadSlot as usize].1;
    let still = meter.spots()[Spot::UploadSlot as usize].1;
    assert_eq!(after.stayed, still.stayed, "a stay did not end");
}

#[test]
fn the_names_of_stages_and_spots_stand_at_their_places() {
    for (place, stage) in Stage::ALL.into_iter().enumerate() {
        assert_eq!(stage as usize, place, "{}", stage.as_str());
    }
    for (place, spot) in Spot::ALL.into_iter().enumerate() {
        assert_eq!(spot as usize, place, "{}", spot.as_str());
    }
}
