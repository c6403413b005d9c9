//! What was found, as text of at most 80 columns and as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::findings::{Finding, OfKind, Repair};
use super::fix::Repaired;
use super::{Outcome, VerifyArgs};
use crate::domain::finding::{FindingKind, Severity};
use crate::report::words;

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;
/// Lines are broken before this many characters.
const WIDTH: usize = 80;
/// A single detail may quote an answer or a system's message; so much of it is shown.
const DETAIL_CHARACTERS: usize = 600;

/// Prints one look.
pub fn outcome(found: &Outcome, args: &VerifyArgs, out: &mut impl Write) -> io::Result<()> {
    if args.json {
        return print_json(&as_json(found), out);
    }
    looked(found, out)?;
    kinds(found, args, out)?;
    let repairable = found.findings.repairable();
    if repairable > 0 && !args.fix {
        let repairable = words::count(repairable);
        writeln!(
            out,
            "\nto repair {repairable} of them: pagemill verify --fix"
        )?;
    }
    if args.dry_run {
        writeln!(out, "\nnothing was changed")?;
    }
    Ok(())
}

/// Prints what became of a repair, and what is left.
pub fn repaired(
    found: &Outcome,
    repaired: &Repaired,
    left: &Outcome,
    args: &VerifyArgs,
    out: &mut impl Write,
) -> io::Result<()> {
    if args.json {
        let mut value = as_json(found);
        value["repaired"] = json!({
            "done": repaired.done,
            "failed": repaired.failed,
            "reasons": repaired.reasons,
        });
        value["left"] = as_json(left);
        return print_json(&value, out);
    }
    if args.yes {
        looked(found, out)?;
        kinds(found, args, out)?;
        writeln!(out)?;
    }
    writeln!(out, "repaired {}", words::count(repaired.done))?;
    if repaired.failed > 0 {
        let failed = words::count(repaired.failed);
        writeln!(out, "could not be repaired: {failed}")?;
        for reason in &repaired.reasons {
            wrapped("  ", reason, out)?;
        }
    }
    if left.findings.kinds.is_empty() {
        return writeln!(out, "nothing is left");
    }
    writeln!(out, "what is left:")?;
    kinds(left, args, out)
}

fn print_json(value: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(value)?)
}

fn looked(found: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let text = format!(
        "verified in {}: {} pages, {} events, {} batches, {} outputs, {} raw result files",
        words::span(found.took),
        words::count(found.looked.pages),
        words::count(found.looked.events),
        words::count(found.looked.batches),
        words::count(found.outputs),
        words::count(found.raw_files),
    );
    wrapped("", &text, out)?;
    let (wrong, notes) = (found.wrong(), found.findings.count(Severity::Note));
    let notes = match notes {
        0 => String::new(),
        notes => format!("; {} to note", words::count(notes)),
    };
    match wrong {
        0 => writeln!(out, "nothing is wrong{notes}"),
        1 => writeln!(out, "1 thing is wrong{notes}"),
        wrong => writeln!(out, "{} things are wrong{notes}", words::count(wrong)),
    }
}

/// Each kind with its first findings; what matters more comes first.
fn kinds(found: &Outcome, args: &VerifyArgs, out: &mut impl Write) -> io::Result<()> {
    for severity in [Severity::Wrong, Severity::Note] {
        for (kind, of_kind) in &found.findings.kinds {
            if kind.severity() == severity {
                of_one_kind(*kind, of_kind, args, out)?;
            }
        }
    }
    Ok(())
}

fn of_one_kind(
    kind: FindingKind,
    of_kind: &OfKind,
    args: &VerifyArgs,
    out: &mut impl Write,
) -> io::Result<()> {
    let count = words::count(of_kind.count);
    writeln!(out, "\n{:<5}  {kind}: {count}", kind.severity().as_str())?;
    for finding in &of_kind.named {
        let thing = plain(&finding.thing);
        if !thing.is_empty() {
            writeln!(out, "       {thing}")?;
        }
        wrapped("         ", &finding.detail, out)?;
    }
    let hidden = of_kind.count.saturating_sub(of_kind.named.len() as u64);
    if hidden > 0 {
        let hidden = words::count(hidden);
        let limit = args.limit;
        writeln!(out, "       and {hidden} more (--limit is {limit})")?;
    }
    for (way, count) in &of_kind.ways {
        let share = if *count < of_kind.count {
            format!(" ({} of them)", words::count(*count))
        } else {
            String::new()
        };
        wrapped("       ", &format!("--fix{share}: {way}"), out)?;
    }
    let mixed = of_kind.repairable < of_kind.count;
    if mixed {
        wrapped("       ", &format!("by hand: {}", kind.advice()), out)?;
    }
    Ok(())
}

/// Text without what would disturb a terminal.
fn plain(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    text.chars().map(shown).collect()
}

/// Breaks a text between words; a word that is longer than a line stays whole, to be copied.
fn wrapped(indent: &str, text: &str, out: &mut impl Write) -> io::Result<()> {
    let text: String = plain(text).chars().take(DETAIL_CHARACTERS).collect();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > WIDTH {
            writeln!(out, "{indent}{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.is_empty() {
        return Ok(());
    }
    writeln!(out, "{indent}{line}")
}

fn as_json(found: &Outcome) -> Value {
    let kinds: Vec<Value> = found
        .findings
        .kinds
        .iter()
        .map(|(kind, of_kind)| {
            let ways = of_kind.ways.iter();
            let ways = ways.map(|(way, count)| json!({"repair": way, "count": count}));
            json!({
                "kind": kind.as_str(),
                "severity": kind.severity().as_str(),
                "count": of_kind.count,
                "repairable": of_kind.repairable,
                "repairs": ways.collect::<Vec<Value>>(),
                "advice": kind.advice(),
            })
        })
        .collect();
    let findings: Vec<Value> = found
        .findings
        .kinds
        .values()
        .flat_map(|of_kind| &of_kind.named)
        .map(finding_json)
        .collect();
    json!({
        "version": JSON_VERSION,
        "looked_at": {
            "pages": found.looked.pages,
            "page_events": found.looked.events,
            "batches": found.looked.batches,
            "outputs": found.outputs,
            "raw_files": found.raw_files,
            "exported": found.exported,
        },
        "wrong": found.wrong(),
        "notes": found.findings.count(Severity::Note),
        "repairable": found.findings.repairable(),
        "kinds": kinds,
        "findings": findings,
    })
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.as_str(),
        "severity": finding.kind.severity().as_str(),
        "thing": finding.thing,
        "detail": finding.detail,
        "repair": finding.repair.as_ref().map(Repair::words),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_no_word_is() {
        let mut out = Vec::new();
        let long = "x".repeat(90);
        let text = format!("{} {long} end\u{1b}[31m", "word ".repeat(30));
        wrapped("    ", &text, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.lines()
                .all(|line| line.len() <= WIDTH || line.contains(&long))
        );
        assert!(text.lines().count() > 3, "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
