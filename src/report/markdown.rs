//! A report in Markdown.

use std::fmt::Write as _;

use super::document::{Body, Document, Section, Table, Value};

/// Writes a report.
pub fn render(document: &Document) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("# {}\n", cell(&document.title)));
    line(&mut text, format_args!("{}\n", document.summary));
    line(&mut text, format_args!("| | |\n|---|---|"));
    for (name, value) in &document.about {
        line(&mut text, format_args!("| {name} | {} |", cell(value)));
    }
    for section in &document.sections {
        add_section(&mut text, section);
    }
    text
}

/// Adds a line. Writing to a string cannot fail; the result is of no interest.
pub(super) fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    let _always = text.write_fmt(words);
    text.push('\n');
}

fn add_section(text: &mut String, section: &Section) {
    line(text, format_args!("\n## {}\n", cell(&section.title)));
    if let Some(note) = &section.note {
        line(text, format_args!("{note}\n"));
    }
    match &section.body {
        Body::Figures(figures) => {
            line(text, format_args!("| | |\n|---|---:|"));
            for figure in figures {
                let shown = figure.value.shown();
                line(
                    text,
                    format_args!("| {} | {} |", figure.label, cell(&shown)),
                );
            }
        }
        Body::Table(table) if table.rows.is_empty() => {}
        Body::Table(table) => add_table(text, table),
    }
}

fn add_table(text: &mut String, table: &Table) {
    let labels: Vec<String> = table.columns.iter().map(|(_, label)| cell(label)).collect();
    line(text, format_args!("| {} |", labels.join(" | ")));
    let first = table.rows.first();
    let sides = first.into_iter().flatten().map(|value| match value {
        Value::Text(_) => "---",
        _ => "---:",
    });
    line(
        text,
        format_args!("|{}|", sides.collect::<Vec<_>>().join("|")),
    );
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|value| cell(&value.shown())).collect();
        line(text, format_args!("| {} |", cells.join(" | ")));
    }
}

/// Text that is nothing but text, and cannot break out of its table cell. Brackets are those of
/// links and images, which may load what nobody asked for.
pub(super) fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // A backslash before a bar would take the bar's own away.
            '|' | '\\' | '[' | ']' => {
                safe.push('\\');
                safe.push(character);
            }
            '<' => safe.push_str("&lt;"),
            '`' => safe.push('\''),
            _ if character.is_control() => safe.push(' '),
            _ => safe.push(character),
        }
    }
    safe
}
