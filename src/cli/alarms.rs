//! How alerts look, wherever they are shown.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::screen::{Screen, one_line, seconds};
use crate::domain::alert::{Alert, AlertKind};
use crate::domain::time::Timestamp;
use crate::report::words;

/// The open alerts as lines of `pagemill status`. Halts have lines of their own there.
pub fn print(
    alerts: &[Alert],
    screen: Screen,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    for alert in alerts {
        if alert.kind == AlertKind::Halted {
            continue;
        }
        print_one(
            alert.kind,
            &alert.subject,
            alert.since,
            &alert.message,
            screen,
            now,
            out,
        )?;
    }
    Ok(())
}

/// The place of a line's words: behind its first one.
const INDENT: usize = 9;

/// What is wrong, and for how long: on one line, or wrapped on a terminal.
pub fn print_one(
    kind: AlertKind,
    subject: &str,
    since: Timestamp,
    message: &str,
    screen: Screen,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    let text = format!(
        "{} for {} (since {}): {}",
        name(kind, subject),
        words::span(now.since(since)),
        seconds(since),
        one_line(message)
    );
    print_words("ALERT", &text, screen, out)
}

/// A line that begins with a word to be seen.
pub fn print_words(
    label: &str,
    text: &str,
    screen: Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    let width = if screen.is_terminal {
        usize::from(screen.width).saturating_sub(INDENT)
    } else {
        usize::MAX
    };
    let lines = wrapped(text, width);
    let blank = " ".repeat(INDENT.saturating_sub(label.len()));
    write!(out, "{}{blank}", screen.alarm(label))?;
    writeln!(out, "{}", lines.join(&format!("\n{}", " ".repeat(INDENT))))
}

/// A text in lines of at most so many characters, parted at its blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// An alert as it is called: its kind, and which one.
pub fn name(kind: AlertKind, subject: &str) -> String {
    if subject.is_empty() {
        kind.to_string()
    } else {
        format!("{kind} ({})", one_line(subject))
    }
}

/// The open alerts as JSON.
pub fn as_json(alerts: &[Alert]) -> Value {
    alerts.iter().map(one_as_json).collect()
}

/// One alert as JSON, the same wherever it is shown.
pub fn one_as_json(alert: &Alert) -> Value {
    json!({
        "id": alert.id,
        "kind": alert.kind.as_str(),
        "subject": alert.subject,
        "message": alert.message,
        "since": alert.since.to_string(),
        "fired_at": alert.fired_at.to_string(),
        "last_seen": alert.last_seen.to_string(),
        "cleared_at": alert.cleared_at.map(|at| at.to_string()),
        "times": alert.times,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(width: u16, is_terminal: bool) -> String {
        let screen = Screen {
            is_terminal,
            ..Screen::plain(width)
        };
        let since = Timestamp::parse("2026-11-22T09:00:00Z").unwrap();
        let now = Timestamp::parse("2026-11-22T10:01:00Z").unwrap();
        let message = "the oldest batch has been running for an hour\nand more; it is waited for";
        let mut text = Vec::new();
        let kind = AlertKind::BatchSlow;
        print_one(kind, "gemini", since, message, screen, now, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn an_alert_is_one_line_and_fits_a_terminal() {
        let line = "ALERT    batch_slow (gemini) for 1 h 1 min (since 2026-11-22T09:00:00Z): the \
                    oldest batch has been running for an hour and more; it is waited for\n";
        assert_eq!(printed(80, false), line);
        let wrapped = printed(80, true);
        assert_eq!(wrapped.lines().count(), 2);
        assert!(wrapped.lines().all(|line| line.chars().count() <= 80));
        let joined: Vec<&str> = wrapped.split_whitespace().collect();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(joined, words);
    }
}
