//! The report of one settled batch, in Markdown.

use std::fmt::Write as _;

use super::words;
use crate::domain::attempt::{Tally, Tokens};
use crate::domain::failure::ErrorType;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// What is told of a batch.
#[derive(Debug, Clone)]
pub struct Facts {
    pub batch: String,
    pub remote: Option<String>,
    pub display_name: String,
    pub model: String,
    pub remote_state: Option<String>,
    pub created_at: Timestamp,
    pub submitted_at: Option<Timestamp>,
    pub settled_at: Timestamp,
    pub tally: Tally,
    pub tokens: Tokens,
    pub lines: u64,
    pub foreign_lines: u64,
    pub unreadable_lines: u64,
    pub repeated_lines: u64,
    pub max_retries: u32,
    pub failed: Vec<FailedPage>,
}

/// A page that failed in the batch.
#[derive(Debug, Clone)]
pub struct FailedPage {
    pub key: String,
    pub error: ErrorType,
    pub message: String,
    /// Failures counted so far, this one included.
    pub failures: u32,
    pub stage: PageStage,
}

/// The longest message that a table cell shows, in characters; the whole one is in `failure_logs`.
const MESSAGE_CHARACTERS: usize = 200;

/// Writes the report.
pub fn markdown(facts: &Facts) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("# Batch {}\n", facts.batch));
    line(&mut text, format_args!("| | |\n|---|---|"));
    add_story(&mut text, facts);
    add_figures(&mut text, facts);
    if facts.failed.is_empty() {
        line(&mut text, format_args!("\nNo page failed."));
    } else {
        add_failed(&mut text, facts);
    }
    text
}

/// Adds a line. Writing to a string cannot fail; the result is of no interest.
fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    let _always = text.write_fmt(words);
    text.push('\n');
}

/// Which job it was, and when.
fn add_story(text: &mut String, facts: &Facts) {
    let remote = facts.remote.as_deref().unwrap_or("none");
    line(text, format_args!("| job | {remote} |"));
    line(
        text,
        format_args!("| display name | {} |", facts.display_name),
    );
    line(text, format_args!("| model | {} |", facts.model));
    let state = facts.remote_state.as_deref().unwrap_or("-");
    line(text, format_args!("| provider's state | {state} |"));
    line(text, format_args!("| planned | {} |", facts.created_at));
    let settled = facts.settled_at;
    if let Some(submitted) = facts.submitted_at {
        line(text, format_args!("| submitted | {submitted} |"));
        let took = words::span(settled.since(submitted));
        line(text, format_args!("| settled | {settled} ({took} later) |"));
    } else {
        line(text, format_args!("| settled | {settled} |"));
    }
}

/// How many pages ended how, and what the results held.
fn add_figures(text: &mut String, facts: &Facts) {
    let tally = &facts.tally;
    for (name, count) in [
        ("**requests**", tally.submitted),
        ("**succeeded**", tally.succeeded),
        ("**failed**", tally.failed + tally.missing),
        ("of these without an answer", tally.missing),
        ("given back uncounted", tally.released),
    ] {
        line(text, format_args!("| {name} | {} |", words::count(count)));
    }
    line(
        text,
        format_args!(
            "| result lines | {} ({} foreign, {} unreadable, {} repeated) |",
            words::count(facts.lines),
            words::count(facts.foreign_lines),
            words::count(facts.unreadable_lines),
            words::count(facts.repeated_lines)
        ),
    );
    line(
        text,
        format_args!(
            "| tokens | {} in, {} out, {} thoughts |",
            words::count(facts.tokens.prompt.unwrap_or(0)),
            words::count(facts.tokens.candidates.unwrap_or(0)),
            words::count(facts.tokens.thoughts.unwrap_or(0))
        ),
    );
}

/// The table of failed pages.
fn add_failed(text: &mut String, facts: &Facts) {
    line(
        text,
        format_args!(
            "\n## Failed pages\n\n| page | error | message | retries |\n|---|---|---|---|"
        ),
    );
    for page in &facts.failed {
        line(
            text,
            format_args!(
                "| {} | {} | {} | {} |",
                cell(&page.key),
                page.error,
                cell(&page.message),
                retries(page, facts.max_retries)
            ),
        );
    }
}

/// How far a page is through its retries.
pub fn retries(page: &FailedPage, max_retries: u32) -> String {
    if page.failures > max_retries {
        "maxed".to_owned()
    } else if page.stage == PageStage::Dead {
        "not sent again".to_owned()
    } else {
        format!("retry {} of {max_retries}", page.failures)
    }
}

/// Text that cannot break out of its table cell.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (position, character) in text.chars().enumerate() {
        if position == MESSAGE_CHARACTERS {
            safe.push('…');
            break;
        }
        match character {
            '|' => safe.push_str("\\|"),
            '<' => safe.push_str("&lt;"),
            '`' => safe.push('\''),
            _ if character.is_control() => safe.push(' '),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(failed: Vec<FailedPage>) -> Facts {
        Facts {
            batch: "b-1".into(),
            remote: Some("batches/x".into()),
            display_name: "pagemill-b-1".into(),
            model: "model".into(),
            remote_state: Some("SUCCEEDED".into()),
            created_at: Timestamp::EPOCH,
            submitted_at: Some(Timestamp::EPOCH),
            settled_at: Timestamp::from_micros(61_000_000),
            tally: Tally {
                submitted: 3,
                succeeded: 1,
                failed: 1,
                missing: 1,
                ..Tally::default()
            },
            tokens: Tokens {
                prompt: Some(1_500),
                ..Tokens::default()
            },
            lines: 2,
            foreign_lines: 0,
            unreadable_lines: 0,
            repeated_lines: 0,
            max_retries: 3,
            failed,
        }
    }

    fn failed(failures: u32, stage: PageStage) -> FailedPage {
        FailedPage {
            key: "Alabama:Lincoln:1849:4".into(),
            error: ErrorType::JsonDecode,
            message: "a | b\nc".into(),
            failures,
            stage,
        }
    }

    #[test]
    fn f06_a_report_names_totals_and_failed_pages() {
        let text = markdown(&facts(vec![failed(2, PageStage::Discovered)]));
        assert!(text.contains("| **requests** | 3 |"), "{text}");
        assert!(text.contains("| **failed** | 2 |"), "{text}");
        assert!(text.contains("(1 min 1 s later)"), "{text}");
        let row = "| Alabama:Lincoln:1849:4 | JSONDecodeError | a \\| b c | retry 2 of 3 |";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn retries_are_counted_as_people_count_them() {
        assert_eq!(retries(&failed(4, PageStage::Dead), 3), "maxed");
        assert_eq!(retries(&failed(1, PageStage::Dead), 3), "not sent again");
        assert_eq!(
            retries(&failed(1, PageStage::Discovered), 3),
            "retry 1 of 3"
        );
        assert!(markdown(&facts(Vec::new())).contains("No page failed."));
    }
}
