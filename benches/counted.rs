//! Three hot functions on fixed input, for `.ci/counted.sh`, which counts their instructions.
//!
//! `counted NAME` does one of them once: `line_parse`, `key_join` or `pack`. Nothing is timed here. All input
//! is made before the counted function is entered and dropped after it, so that its instructions are
//! its own.

#[path = "kit/answers.rs"]
mod answers;

use std::hint::black_box;

use pagemill::actors::result_processor::index::{Entry, Index};
use pagemill::actors::result_processor::judge::json_in;
use pagemill::decide::pack::{Candidate, Limits, Packed, pack};
use pagemill::decide::verdict::{self, Reading};
use pagemill::domain::attempt::RawLine;
use pagemill::domain::ids::RecordKey;
use pagemill::prompt::Validator;
use pagemill::wire::response::{self, Row};
use serde_json::{Value, json};

const LINES_PARSED: u32 = 20;
const LINES_JOINED: u32 = 10_000;
const CANDIDATES: u32 = 1_000;

fn key(page: u32) -> RecordKey {
    RecordKey::from(format!(
        "Alabama:School {:06}:1849:{:04}",
        page / 200,
        page % 200 + 1
    ))
}

/// Result lines of 5 KB, from bytes to the JSON of the answer.
#[inline(never)]
fn counted_line_parse(lines: &[String]) -> Vec<Value> {
    let parsed = lines.iter().map(|line| {
        let Row::Answer { key: _, body } = response::row(line.as_bytes()) else {
            panic!("the bench's own lines are answers");
        };
        let Reading::Text(text) = verdict::read(&body) else {
            panic!("the bench's own answers have a text");
        };
        let (_json, value) = json_in(text).expect("the bench's own texts hold JSON");
        value.expect("the bench's own JSON is whole")
    });
    parsed.collect()
}

/// Short result lines, so that it is the join that counts: each taken into the index, each asked for.
#[inline(never)]
fn counted_key_join(mut index: Index, lines: &[(RecordKey, RawLine, String)]) -> usize {
    for (_, line, text) in lines {
        index.add(Entry::read(*line, Some(text.as_bytes())));
    }
    let answers = lines.iter();
    answers
        .filter(|(key, line, _)| index.is_answer(key, line.offset))
        .count()
}

/// Candidates that each follow a page that is done, into one batch.
#[inline(never)]
fn counted_pack(candidates: &[Candidate], limits: Limits) -> Option<Packed> {
    pack(candidates, limits)
}

fn line_parse() -> u32 {
    let lines: Vec<String> = (0..LINES_PARSED)
        .map(|page| answers::line(key(page).as_str(), page))
        .collect();
    let parsed = counted_line_parse(black_box(&lines));
    assert_eq!(parsed.len(), lines.len());
    let validator = Validator::new(&answers::schema()).expect("the bench's own schema is one");
    assert!(parsed.iter().all(|answer| validator.check(answer).is_ok()));
    LINES_PARSED
}

fn key_join() -> u32 {
    let mut offset = 0;
    // Another order than the keys have, as result files come.
    let pages = (0..LINES_JOINED).map(|page| page * 7_919 % LINES_JOINED);
    let lines: Vec<(RecordKey, RawLine, String)> = pages
        .map(|page| {
            let text = json!({"key": key(page).as_str(), "response": {}}).to_string();
            let bytes = text.len() as u64;
            let line = RawLine { offset, bytes };
            offset += bytes + 1;
            (key(page), line, text)
        })
        .collect();
    let index = Index::new((0..LINES_JOINED).map(key));
    assert_eq!(counted_key_join(index, black_box(&lines)), lines.len());
    LINES_JOINED
}

fn one_batch() -> u32 {
    let candidates: Vec<Candidate> = (0..CANDIDATES)
        .map(|book| Candidate {
            key: key(book * 200 + book % 199 + 1),
            predecessor: Some(key(book * 200 + book % 199)),
            line_bytes: 6_000,
            tokens: 2_600,
            batch_size_max: None,
        })
        .collect();
    let limits = Limits {
        pages_max: CANDIDATES,
        bytes_max: 1 << 30,
        tokens_max: None,
    };
    let packed = counted_pack(black_box(&candidates), limits);
    assert!(packed.is_some_and(|packed| packed.members.len() == candidates.len()));
    CANDIDATES
}

/// A counted function: how it is called, and what it does, with how many items.
type Counted = (&'static str, fn() -> u32);

const FUNCTIONS: [Counted; 3] = [
    ("line_parse", line_parse),
    ("key_join", key_join),
    ("pack", one_batch),
];

/// Says each function that was run, and its items. Without a name, as under cargo, all of them are.
fn main() {
    let named = std::env::args()
        .nth(1)
        .filter(|name| !name.starts_with('-'));
    for (name, run) in FUNCTIONS {
        if named.as_deref().is_none_or(|wanted| wanted == name) {
            println!("{name} {}", run());
        }
    }
}
