//! Which line of a result file answers which member: an exact match of keys, or nothing.

use std::collections::HashMap;

use twox_hash::XxHash3_128;

use crate::actors::blocking::in_shares;
use crate::actors::state::messages::LineCounts;
use crate::domain::attempt::RawLine;
use crate::domain::ids::RecordKey;
use crate::ports::result_sink::RawText;
use crate::wire::response;

/// What the file holds for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// One answer, however often it is repeated to the letter.
    One { line: RawLine, digest: u128 },
    /// Different lines under one key: none of them is believed.
    Conflict { lines: u64 },
}

/// What a line says about whom, with everything about it that an index keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing stands in the line.
    Blank,
    /// No row of an answer, or longer than a line may be.
    Unreadable,
    Answer {
        key: RecordKey,
        line: RawLine,
        /// A hash of the line, to tell a repeat from another answer. Nobody makes lines with collisions in
        /// mind, so it need not be a slow one.
        digest: u128,
    },
}

impl Entry {
    /// Reads a line. `text` is absent when the line is over the limit of length.
    pub fn read(line: RawLine, text: Option<&[u8]>) -> Self {
        let Some(text) = text else {
            return Entry::Unreadable;
        };
        let text = text.trim_ascii();
        if text.is_empty() {
            return Entry::Blank;
        }
        match response::answered_key(text) {
            Some(key) => Entry::Answer {
                key: RecordKey::new(key),
                line,
                digest: XxHash3_128::oneshot(text),
            },
            None => Entry::Unreadable,
        }
    }
}

/// Reads a run of lines on the blocking pool, on as many threads.
pub async fn entries(lines: Vec<RawText>, threads: usize) -> Vec<Entry> {
    in_shares(lines, threads, |line| {
        let place = RawLine {
            offset: line.offset,
            bytes: line.bytes,
        };
        Entry::read(place, line.text.as_deref())
    })
    .await
}

/// The lines of a result file by member. Its size depends on the members, not on the file.
#[derive(Debug)]
pub struct Index {
    slots: HashMap<RecordKey, Option<Slot>>,
    pub counts: LineCounts,
}

impl Index {
    /// An empty index over the members of a batch.
    pub fn new(members: impl IntoIterator<Item = RecordKey>) -> Self {
        Index {
            slots: members.into_iter().map(|key| (key, None)).collect(),
            counts: LineCounts::default(),
        }
    }

    /// Takes note of a line.
    pub fn add(&mut self, entry: Entry) {
        let (key, line, digest) = match entry {
            Entry::Blank => return,
            Entry::Unreadable => {
                self.counts.lines += 1;
                self.counts.unreadable += 1;
                return;
            }
            Entry::Answer { key, line, digest } => (key, line, digest),
        };
        self.counts.lines += 1;
        let Some(slot) = self.slots.get_mut(&key) else {
            self.counts.foreign += 1;
            return;
        };
        let after = match slot.take() {
            None => Slot::One { line, digest },
            Some(Slot::One {
                line: first,
                digest: known,
            }) if known == digest => {
                self.counts.repeated += 1;
                Slot::One {
                    line: first,
                    digest: known,
                }
            }
            Some(Slot::One { .. }) => Slot::Conflict { lines: 2 },
            Some(Slot::Conflict { lines }) => Slot::Conflict { lines: lines + 1 },
        };
        *slot = Some(after);
    }

    /// Whether the line that begins at `offset` is the answer for `key`.
    pub fn is_answer(&self, key: &RecordKey, offset: u64) -> bool {
        matches!(self.slots.get(key), Some(Some(Slot::One { line, .. })) if line.offset == offset)
    }

    /// Members that no line answers, with what stands in the way.
    pub fn unanswered(&self) -> Vec<(RecordKey, Option<u64>)> {
        let mut unanswered: Vec<(RecordKey, Option<u64>)> = self
            .slots
            .iter()
            .filter_map(|(key, slot)| match slot {
                None => Some((key.clone(), None)),
                Some(Slot::Conflict { lines }) => Some((key.clone(), Some(*lines))),
                Some(Slot::One { .. }) => None,
            })
            .collect();
        unanswered.sort();
        unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(lines: &[&str]) -> Index {
        let mut index = Index::new(["a", "b", "c"].map(RecordKey::from));
        let mut offset = 0;
        for line in lines {
            let bytes = line.len() as u64;
            index.add(Entry::read(
                RawLine { offset, bytes },
                Some(line.as_bytes()),
            ));
            offset += bytes + 1;
        }
        index
    }

    fn answer(key: &str, text: &str) -> String {
        format!(
            r#"{{"key":"{key}","response":{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}},"finishReason":"STOP"}}]}}}}"#
        )
    }

    #[test]
    fn f01_p4_a_line_belongs_to_its_own_key_wherever_it_stands() {
        let (a, b) = (answer("a", "1"), answer("b", "2"));
        let index = index(&[&b, "", &a]);
        assert!(index.is_answer(&RecordKey::from("b"), 0));
        assert!(index.is_answer(&RecordKey::from("a"), b.len() as u64 + 2));
        assert!(!index.is_answer(&RecordKey::from("a"), 0));
        assert_eq!(index.unanswered(), [(RecordKey::from("c"), None)]);
        assert_eq!(index.counts.lines, 2);
    }

    #[test]
    fn f01_p4_repeats_are_one_answer_and_contradictions_are_none() {
        let (a, other, b) = (answer("a", "1"), answer("a", "2"), answer("b", "2"));
        let index = index(&[&b, &a, &b, &other, &a]);
        assert!(index.is_answer(&RecordKey::from("b"), 0));
        assert_eq!(
            index.unanswered(),
            [
                (RecordKey::from("a"), Some(3)),
                (RecordKey::from("c"), None)
            ]
        );
        assert_eq!(index.counts.repeated, 1);
    }

    #[test]
    fn f01_p4_foreign_and_unreadable_lines_are_counted_and_guessed_at_by_nobody() {
        let index = index(&[
            &answer("A", "1"),
            &answer(" a", "1"),
            "{",
            "[]",
            r#"{"x":1}"#,
            "7",
        ]);
        assert_eq!(index.unanswered().len(), 3);
        assert_eq!((index.counts.foreign, index.counts.unreadable), (2, 4));
    }
}
