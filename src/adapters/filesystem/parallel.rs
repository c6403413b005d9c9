//! The same work for many things, on several threads.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use super::durable::refusal;
use crate::meter::carried;
use crate::ports::page_source::SourceError;

/// What was done, by index; empty where a thread did not come to its end.
type Slots<T> = Vec<Mutex<Option<Result<T, SourceError>>>>;

/// Runs `work` for every index on up to `threads` new threads; answers in the order of the indexes.
pub(super) fn in_parallel<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, SourceError> + Sync,
) -> Vec<Result<T, SourceError>> {
    let threads = threads.clamp(1, count.max(1));
    if threads == 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let slots = slots(count);
    std::thread::scope(|scope| {
        for _thread in 0..threads {
            scope.spawn(carried(|| fill(&slots, &next, &work)));
        }
    });
    outcomes(&slots)
}

/// The same, by this thread and others of the pool it belongs to, which stay for the next time. Work that
/// nobody has begun when this one is done is not waited for: nothing is left of it.
pub(super) fn on_pool<T: Send + 'static>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, SourceError> + Send + Sync + 'static,
) -> Vec<Result<T, SourceError>> {
    let Ok(pool) = Handle::try_current() else {
        return in_parallel(1, count, work);
    };
    let shared = Arc::new((slots(count), AtomicUsize::new(0), work));
    let helpers: Vec<_> = (1..threads.min(count))
        .map(|_helper| {
            let shared = Arc::clone(&shared);
            pool.spawn_blocking(carried(move || fill(&shared.0, &shared.1, &shared.2)))
        })
        .collect();
    fill(&shared.0, &shared.1, &shared.2);
    for helper in helpers {
        // Of no effect on one that has begun.
        helper.abort();
        let _cut_off = pool.block_on(helper);
    }
    outcomes(&shared.0)
}

fn slots<T>(count: usize) -> Slots<T> {
    (0..count).map(|_| Mutex::new(None)).collect()
}

/// Takes one index after the other until there are no more.
fn fill<T>(slots: &Slots<T>, next: &AtomicUsize, work: &impl Fn(usize) -> Result<T, SourceError>) {
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = slots.get(at) else { break };
        let outcome = work(at);
        if let Ok(mut slot) = slot.lock() {
            *slot = Some(outcome);
        }
    }
}

fn outcomes<T>(slots: &Slots<T>) -> Vec<Result<T, SourceError>> {
    let taken = slots.iter().map(|slot| {
        let outcome = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| Err(refusal(Path::new(""), "the work on it was cut off")))
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    /// The numbers below a count, doubled; one of them is refused.
    fn doubled(at: usize) -> Result<usize, SourceError> {
        if at == 3 {
            return Err(refusal(Path::new("3"), "refused"));
        }
        Ok(2 * at)
    }

    fn check(outcomes: &[Result<usize, SourceError>], count: usize) {
        assert_eq!(outcomes.len(), count);
        for (at, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome, &doubled(at), "{at}");
        }
    }

    #[test]
    fn outcomes_come_in_the_order_of_the_indexes() {
        for count in [0, 1, 100] {
            for threads in [0, 1, 7] {
                check(&in_parallel(threads, count, doubled), count);
                // Without a pool, by this thread.
                check(&on_pool(threads, count, doubled), count);
            }
        }
    }

    #[actix::test]
    async fn the_pool_helps() {
        let met = tokio::task::spawn_blocking(|| {
            // Three of them at a time, or none comes further.
            let barrier = Barrier::new(3);
            on_pool(3, 9, move |_at| {
                barrier.wait();
                Ok(std::thread::current().id())
            })
        });
        let threads: HashSet<_> = met.await.unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(threads.len(), 3);
    }

    #[actix::test]
    async fn a_helper_that_dies_costs_what_it_was_at_and_nothing_else() {
        let outcomes = tokio::task::spawn_blocking(|| {
            let (mine, barrier) = (std::thread::current().id(), Barrier::new(2));
            on_pool(2, 10, move |at| {
                if at < 2 {
                    barrier.wait();
                }
                assert!(at >= 2 || std::thread::current().id() == mine, "dies");
                doubled(at)
            })
        });
        let outcomes = outcomes.await.unwrap();
        let lost: Vec<usize> = (0..10).filter(|&at| outcomes[at] != doubled(at)).collect();
        assert!(lost == [0] || lost == [1], "{outcomes:?}");
        let fault = outcomes[lost[0]].as_ref().unwrap_err();
        assert_eq!(fault.message, "the work on it was cut off");
    }
}
