//! Inputs from strangers, thrown: a seed, changed a little or a lot. `fuzz/` hands the same bodies
//! to libFuzzer, which looks for new paths; these find what a few hundred throws can, on every
//! machine.

mod bodies;
mod seeds;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pagemill::actors::result_processor::index::{Entry, Index as LineIndex};
use pagemill::domain::attempt::RawLine;
use pagemill::domain::ids::RecordKey;
use pagemill::ports::result_sink::ResultSink;
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is counted for the whole process, so that one body works at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The most memory that a body may hold at once: what its buffers take, and so much for each byte
/// of its input. A tree of JSON values is many times its text.
const BASE_BYTES: usize = 8 * 1024 * 1024;
const BYTES_PER_BYTE: usize = 256;

/// One change of an input. Places are shares of its length.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Cut(Index),
    /// Everything from here on comes from another seed.
    Cross(Index, Index, Index),
    /// A piece stands there again.
    Repeat(Index, usize),
}

/// What a text of the kind at hand is made of: more telling than bytes at random.
const WORDS: [&str; 24] = [
    "\n",
    "\r\n",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\"key\":",
    "\"a\"",
    "null",
    "..",
    "/",
    "%",
    "%2F",
    "\0",
    "\u{feff}",
    "9999999999999999999",
    "-1",
    "AIza",
    "&a ",
    "*a",
    "<<: ",
];

fn change() -> impl Strategy<Value = Change> {
    let place = any::<Index>;
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        prop::sample::select(WORDS.as_slice()).prop_map(|word| word.as_bytes().to_vec()),
    ];
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (place(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (place(), 1..20_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        place().prop_map(Change::Cut),
        (place(), place(), place()).prop_map(|(at, seed, from)| Change::Cross(at, seed, from)),
        (place(), 1..200_usize).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

/// Where an index points in a list that may be empty.
fn place(index: &Index, length: usize) -> usize {
    index.index(length + 1)
}

fn changed(input: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    let length = input.len();
    match change {
        Change::Set(at, byte) => {
            if let Some(old) = input.get_mut(place(at, length)) {
                *old = *byte;
            }
        }
        Change::Insert(at, piece) => {
            let at = place(at, length);
            input.splice(at..at, piece.iter().copied());
        }
        Change::Remove(at, count) => {
            let at = place(at, length);
            input.drain(at..length.min(at + count));
        }
        Change::Cut(at) => input.truncate(place(at, length)),
        Change::Cross(at, seed, from) => {
            let other = &seeds[seed.index(seeds.len())];
            input.truncate(place(at, length));
            input.extend_from_slice(&other[place(from, other.len())..]);
        }
        Change::Repeat(at, count) => {
            let at = place(at, length);
            let piece = input[at..length.min(at + count)].to_vec();
            input.splice(at..at, piece);
        }
    }
}

fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec(change(), 0..8);
    let from_seed = (any::<Index>(), changes).prop_map(move |(seed, changes)| {
        let mut input = seeds[seed.index(seeds.len())].clone();
        for change in &changes {
            changed(&mut input, change, &seeds);
        }
        input
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..400);
    prop_oneof![9 => from_seed, 1 => bytes]
}

fn measured(body: fn(&[u8]), input: &[u8]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    body(input);
    let held = MEMORY.peak_usage().saturating_sub(before);
    let allowed = BASE_BYTES + BYTES_PER_BYTE * input.len();
    assert!(
        held <= allowed,
        "{held} bytes held for {} bytes",
        input.len()
    );
}

fn check(target: &str) {
    let (_name, body) = bodies::ALL
        .into_iter()
        .find(|(name, _body)| *name == target)
        .unwrap();
    let seeds = seeds::of(target);
    for seed in &seeds {
        measured(body, seed);
    }
    // The failure itself says which input it was; a seed file beside it would hold no more.
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let thrown = TestRunner::new(config).run(&inputs(seeds), |input| {
        measured(body, &input);
        Ok(())
    });
    if let Err(failure) = thrown {
        panic!("{target}: {failure}");
    }
}

#[test]
fn p4_f24_f34_no_line_of_a_result_file_answers_another_key() {
    check("result_file");
}

#[test]
fn f24_f34_no_result_line_panics_or_grows() {
    check("result_line");
}

#[test]
fn f34_no_answer_about_a_job_or_file_panics_or_changes_its_results() {
    check("operation");
}

#[test]
fn f38_no_error_is_read_as_proof_that_nothing_happened() {
    check("error");
}

#[test]
fn f38_no_retry_hint_overflows_or_leaves_our_bounds() {
    check("retry_hint");
}

#[test]
fn p13_f39_a_key_has_one_path_below_its_folder_or_none() {
    check("record_key");
}

#[test]
fn f39_a_layout_is_refused_or_means_what_it_says() {
    check("layout");
}

#[test]
fn p13_any_configuration_gives_settings_or_faults_without_the_key() {
    check("config");
}

#[test]
fn f40_no_bytes_are_taken_for_an_image_that_they_are_not() {
    check("image");
}

#[test]
fn p11_a_line_of_many_small_values_is_not_held_as_a_tree_of_them() {
    const COUNT: usize = 1_000_000;
    for (start, piece, end) in [
        (r#"{"key":"a","response":{"x":["#, "0,", "0]}}"),
        (r#"{"key":"a","response":{"candidates":["#, "0,", "0]}}"),
        (
            r#"{"key":"a","response":{"candidates":[{"content":{"parts":["#,
            "{},",
            "0]}}]}}",
        ),
        (r#"{"key":"a","response":["#, "[],", "0]}"),
        (
            r#"{"key":"a","response":{"usageMetadata":{"x":["#,
            "0,",
            "0]}}}",
        ),
        (
            r#"{"key":"a","metadata":{"x":["#,
            "0,",
            r#"0]},"response":{}}"#,
        ),
        (r#"{"key":"a","error":{"x":["#, "0,", "0]}}"),
    ] {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{start}{}{end}", piece.repeat(COUNT));
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        std::hint::black_box(pagemill::wire::response::row(line.as_bytes()));
        let held = MEMORY.peak_usage().saturating_sub(before);
        let times = held / line.len();
        assert!(times < 4, "{held} bytes, {times} times the line: {start}");
    }
}

/// What reading a result file and joining its lines to pages holds at once, in bytes.
fn held_for_results(lines: usize) -> usize {
    let text: String = (0..lines)
        .map(|number| {
            format!(
                r#"{{"key":"{}","response":{{"x":{number}}}}}{}"#,
                number % 5,
                "\n"
            )
        })
        .collect();
    bodies::room::in_room(|room| {
        let path = room.put("long.jsonl", text.as_bytes());
        drop(text);
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let mut index = LineIndex::new(["0", "1", "2", "3"].map(RecordKey::from));
        room.wait_for(async {
            let mut reader = room.files.open_raw(&path).await.unwrap();
            while let Some(run) = reader.next_lines().await.unwrap() {
                for line in run {
                    let (offset, bytes) = (line.offset, line.bytes);
                    let place = RawLine { offset, bytes };
                    index.add(Entry::read(place, line.text.as_deref()));
                }
            }
        });
        assert_eq!(index.counts.lines, lines as u64);
        MEMORY.peak_usage().saturating_sub(before)
    })
}

#[test]
fn a_longer_result_file_takes_no_more_memory() {
    const LINES: usize = 20_000;
    /// Far below what the longer file has more than the other.
    const MORE_MAX: usize = 2 * 1024 * 1024;
    let (short, long) = (held_for_results(LINES), held_for_results(8 * LINES));
    assert!(long <= short + MORE_MAX, "{short} and then {long} bytes");
}

/// With `PAGEMILL_FUZZ_CORPUS=fuzz/corpus`, writes the seeds where libFuzzer finds them.
#[test]
fn every_target_has_seeds() {
    for (target, _body) in bodies::ALL {
        let seeds = seeds::of(target);
        assert!(seeds.len() >= 5, "{target}");
        let Some(corpus) = std::env::var_os("PAGEMILL_FUZZ_CORPUS") else {
            continue;
        };
        let folder = Path::new(&corpus).join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}
