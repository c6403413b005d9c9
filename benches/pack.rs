//! Packing: candidates a second, against a bare loop that adds up sizes and copies keys.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pagemill::decide::pack::{Candidate, Limits, Packed, Stopped, pack};
use pagemill::domain::ids::RecordKey;

/// Pages in one book.
const BOOK_PAGES: u32 = 200;

#[derive(Clone, Copy)]
enum Chain {
    /// No page has a predecessor.
    None,
    /// Every page but a book's first has one, which is not a candidate: it is done.
    Done,
}

fn key(book: u32, page: u32) -> RecordKey {
    RecordKey::from(format!("Alabama:School {book:06}:1849:{page:04}"))
}

fn candidates(count: u32, chain: Chain) -> Vec<Candidate> {
    let of_page = |index: u32| {
        let (book, page) = match chain {
            Chain::None => (index / BOOK_PAGES, index % BOOK_PAGES + 1),
            // One page of each book is at its turn.
            Chain::Done => (index, index % BOOK_PAGES + 2),
        };
        let predecessor = match chain {
            Chain::None => None,
            Chain::Done => Some(key(book, page - 1)),
        };
        Candidate {
            key: key(book, page),
            predecessor,
            line_bytes: 6_000,
            tokens: 2_600,
            batch_size_max: None,
        }
    };
    (0..count).map(of_page).collect()
}

/// What every packing must do: look at each, add up, copy the keys.
fn bare(candidates: &[Candidate], limits: Limits) -> Packed {
    let mut packed = Packed {
        members: Vec::new(),
        line_bytes: 0,
        tokens: 0,
        stopped: Stopped::NoMore,
    };
    for candidate in candidates.iter().take(limits.pages_max as usize) {
        packed.line_bytes += candidate.line_bytes;
        packed.tokens += candidate.tokens;
        packed.members.push(candidate.key.clone());
    }
    packed
}

fn packing(criterion: &mut Criterion) {
    let usual = Limits {
        pages_max: 100,
        bytes_max: 1 << 30,
        tokens_max: None,
    };
    let largest = Limits {
        pages_max: 50_000,
        ..usual
    };
    let cases = [
        ("batch of 100", usual, Chain::None),
        ("one batch, alone", largest, Chain::None),
        ("one batch, chained", largest, Chain::Done),
    ];
    for (name, limits, chain) in cases {
        let mut group = criterion.benchmark_group(format!("pack/{name}"));
        for count in [100, 1_000, 10_000] {
            let candidates = candidates(count, chain);
            let expected = bare(&candidates, limits).members.len();
            assert_eq!(pack(&candidates, limits).unwrap().members.len(), expected);
            group.throughput(Throughput::Elements(expected as u64));
            group.bench_with_input(
                BenchmarkId::new("floor", count),
                &candidates,
                |bencher, candidates| bencher.iter(|| bare(black_box(candidates), limits)),
            );
            group.bench_with_input(
                BenchmarkId::new("pack", count),
                &candidates,
                |bencher, candidates| bencher.iter(|| pack(black_box(candidates), limits)),
            );
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = packing
}
criterion_main!(benches);
