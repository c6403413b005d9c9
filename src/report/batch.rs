//! The report of one settled batch, in Markdown.

use super::facts::{is_refusal, summary};
use super::markdown::{cell, line};
use super::words;
use crate::domain::attempt::{Tally, Tokens};
use crate::domain::failure::ErrorType;
use crate::domain::figures::Sums;
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
    let sums = Sums {
        tally: facts.tally,
        ..Sums::default()
    };
    line(&mut text, format_args!("{}\n", summary(&sums)));
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

/// The tables of failed pages: those whose content the provider refused stand apart, for nothing
/// is wrong with their answers.
fn add_failed(text: &mut String, facts: &Facts) {
    let (refused, failed): (Vec<&FailedPage>, Vec<&FailedPage>) =
        facts.failed.iter().partition(|page| is_refusal(page.error));
    for (title, pages) in [
        ("Failed pages", failed),
        ("Pages whose content was refused by the provider", refused),
    ] {
        if pages.is_empty() {
            continue;
        }
        line(
            text,
            format_args!("\n## {title}\n\n| page | error | message | retries |\n|---|---|---|---|"),
        );
        for page in pages {
            let retries = retries(page.failures, page.stage, facts.max_retries);
            line(
                text,
                format_args!(
                    "| {} | {} | {} | {retries} |",
                    cell(&page.key),
                    page.error,
                    cut_cell(&page.message),
                ),
            );
        }
    }
}

/// How far a page is through its retries.
pub fn retries(failures: u32, stage: PageStage, max_retries: u32) -> String {
    if failures > max_retries {
        "maxed".to_owned()
    } else if stage == PageStage::Dead {
        "not sent again".to_owned()
    } else {
        format!("retry {failures} of {max_retries}")
    }
}

/// A message, cut, within its table cell.
fn cut_cell(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_CHARACTERS) {
        Some((end, _next)) => format!("{}…", cell(&text[..end])),
        None => cell(text),
    }
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
    fn s1_28_retries_are_counted_as_people_count_them() {
        let check = |failures, stage, expected| assert_eq!(retries(failures, stage, 3), expected);
        check(4, PageStage::Dead, "maxed");
        check(1, PageStage::Dead, "not sent again");
        check(1, PageStage::Discovered, "retry 1 of 3");
        assert!(markdown(&facts(Vec::new())).contains("No page failed."));
    }

    #[test]
    fn s0_38_refused_content_stands_apart_from_answers_that_are_no_good() {
        let refused = FailedPage {
            key: "Alabama:Lincoln:1849:5".into(),
            error: ErrorType::ContentFiltered,
            ..failed(4, PageStage::Dead)
        };
        let text = markdown(&facts(vec![refused, failed(1, PageStage::Discovered)]));
        let (first, second) = text.split_once("refused by the provider").unwrap();
        assert!(first.contains("## Failed pages"), "{text}");
        assert!(first.contains("1849:4 | JSONDecodeError"), "{text}");
        assert!(second.contains("1849:5 | ContentFiltered"), "{text}");
        assert!(second.contains("| maxed |"), "{text}");
    }

    #[test]
    fn s1_26_the_first_line_says_how_many_succeeded_and_failed() {
        let text = markdown(&Facts {
            tally: Tally {
                submitted: 500,
                succeeded: 495,
                failed: 4,
                missing: 1,
                ..Tally::default()
            },
            ..facts(Vec::new())
        });
        let line = "Processed 500 records: 495 succeeded, 5 failed.";
        assert_eq!(text.lines().nth(2), Some(line));
    }
}
