//! Which line of a result file answers which member: an exact match of keys, or nothing.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::actors::state::messages::LineCounts;
use crate::domain::attempt::RawLine;
use crate::domain::ids::RecordKey;
use crate::wire::response::{self, Row};

/// What the file holds for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// One answer, however often it is repeated to the letter.
    One { line: RawLine, digest: [u8; 32] },
    /// Different lines under one key: none of them is believed.
    Conflict { lines: u64 },
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

    /// Takes note of a line. `text` is absent when the line is over the limit of length.
    pub fn add(&mut self, line: RawLine, text: Option<&[u8]>) {
        if text.is_some_and(|text| text.trim_ascii().is_empty()) {
            return;
        }
        self.counts.lines += 1;
        let Some(text) = text else {
            self.counts.unreadable += 1;
            return;
        };
        let Row::Answer { key, .. } = response::row(text) else {
            self.counts.unreadable += 1;
            return;
        };
        let Some(slot) = self.slots.get_mut(&RecordKey::new(key)) else {
            self.counts.foreign += 1;
            return;
        };
        let digest: [u8; 32] = Sha256::digest(text.trim_ascii()).into();
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
            index.add(RawLine { offset, bytes }, Some(line.as_bytes()));
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
