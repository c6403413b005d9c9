//! A report as one HTML file: no script, nothing from elsewhere, for the screen, the phone and
//! paper.

use std::fmt::Write as _;

use super::document::{Body, Document, Figure, Section, Table, Value};

/// How reports look: light, dark and on paper.
pub(crate) const STYLE: &str = include_str!("report.css");

/// Rows of a table that fit a phone only when each becomes a card.
const WIDE_TEXTS: &[&str] = &["failed_pages", "refused_pages"];

/// Writes a report.
pub fn render(document: &Document) -> String {
    let mut text = String::new();
    let title = escaped(&document.title);
    add(
        &mut text,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>"
        ),
    );
    add(&mut text, format_args!("<header>\n<h1>{title}</h1>"));
    let summary = escaped(&document.summary);
    add(
        &mut text,
        format_args!("<p class=\"summary\">{summary}</p>"),
    );
    add(&mut text, format_args!("<dl class=\"about\">"));
    for (name, value) in &document.about {
        let value = escaped(value);
        add(
            &mut text,
            format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"),
        );
    }
    add(&mut text, format_args!("</dl>\n</header>"));
    for section in &document.sections {
        add_section(&mut text, section);
    }
    add(&mut text, format_args!("</main>\n</body>\n</html>"));
    text
}

/// Adds a line. Writing to a string cannot fail; the result is of no interest.
pub(crate) fn add(text: &mut String, words: std::fmt::Arguments<'_>) {
    let _always = text.write_fmt(words);
    text.push('\n');
}

/// Text that is nothing but text, in elements and in quoted attributes.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ if character.is_control() => safe.push(' '),
            _ => safe.push(character),
        }
    }
    safe
}

fn add_section(text: &mut String, section: &Section) {
    let (name, title) = (section.name, escaped(&section.title));
    add(
        text,
        format_args!("<section id=\"{name}\">\n<h2>{title}</h2>"),
    );
    match &section.body {
        Body::Figures(figures) => {
            if name == "outcomes" {
                add_share(text, figures);
            }
            add_figures(text, figures);
        }
        Body::Table(table) => {
            match name {
                "by_time" => add_columns(text, table),
                "errors" => add_bars(text, table),
                _ => {}
            }
            if !table.rows.is_empty() {
                add_table(text, section, table);
            }
        }
    }
    if let Some(note) = &section.note {
        add(
            text,
            format_args!("<p class=\"note\">{}</p>", escaped(note)),
        );
    }
    add(text, format_args!("</section>"));
}

fn add_figures(text: &mut String, figures: &[Figure]) {
    add(text, format_args!("<dl class=\"figures\">"));
    for figure in figures {
        let (name, label) = (figure.name, escaped(figure.label));
        let shown = escaped(&figure.value.shown());
        add(
            text,
            format_args!("<div><dt>{label}</dt><dd data-figure=\"{name}\">{shown}</dd></div>"),
        );
    }
    add(text, format_args!("</dl>"));
}

fn add_table(text: &mut String, section: &Section, table: &Table) {
    let title = escaped(&section.title);
    let class = if WIDE_TEXTS.contains(&section.name) {
        "cards"
    } else {
        "scroll"
    };
    add(
        text,
        format_args!(
            "<div class=\"{class}\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">\n<table>"
        ),
    );
    let first = table.rows.first().map_or(&[][..], Vec::as_slice);
    add(text, format_args!("<thead>\n<tr>"));
    for ((_name, label), value) in table.columns.iter().zip(first) {
        let (label, class) = (escaped(label), side(value));
        add(text, format_args!("<th scope=\"col\"{class}>{label}</th>"));
    }
    add(text, format_args!("</tr>\n</thead>\n<tbody>"));
    for row in &table.rows {
        let is_nothing = row.len() > 2 && row.iter().skip(1).all(|value| number(value) == 0);
        let is_nothing = is_nothing && row.iter().skip(1).all(|value| !value.is_text());
        let class = if is_nothing { " class=\"nothing\"" } else { "" };
        add(text, format_args!("<tr{class}>"));
        for ((name, label), value) in table.columns.iter().zip(row) {
            let (shown, label, class) = (escaped(&value.shown()), escaped(label), side(value));
            add(
                text,
                format_args!(
                    "<td data-figure=\"{name}\" data-label=\"{label}\"{class}>{shown}</td>"
                ),
            );
        }
        add(text, format_args!("</tr>"));
    }
    add(text, format_args!("</tbody>\n</table>\n</div>"));
}

fn side(value: &Value) -> &'static str {
    if value.is_text() {
        ""
    } else {
        " class=\"number\""
    }
}

/// Succeeded, failed, everything else: what charts tell apart.
const KINDS: [(&str, &str); 3] = [
    ("good", "succeeded"),
    ("bad", "failed"),
    ("other", "given back or open"),
];

/// One bar: which share of the requests ended how.
fn add_share(text: &mut String, figures: &[Figure]) {
    let of = |wanted: &str| {
        let found = figures.iter().find(|figure| figure.name == wanted);
        found.map_or(0, |figure| number(&figure.value))
    };
    let kinds = [
        of("succeeded"),
        of("failed") + of("missing"),
        of("released") + of("open"),
    ];
    let all: u64 = kinds.iter().sum();
    if all == 0 {
        return;
    }
    add(
        text,
        format_args!(
            "<figure>\n<svg class=\"share\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" \
             role=\"img\" aria-label=\"How the requests ended\">"
        ),
    );
    let mut from = 0.0;
    for ((class, words), count) in KINDS.iter().zip(kinds) {
        let width = count as f64 * 100.0 / all as f64;
        add(
            text,
            format_args!(
                "<rect class=\"{class}\" x=\"{from:.3}\" width=\"{width:.3}\" height=\"1\">\
                 <title>{words}: {}</title></rect>",
                Value::Count(count).shown()
            ),
        );
        from += width;
    }
    add(text, format_args!("</svg>"));
    add_legend(text);
    add(text, format_args!("</figure>"));
}

fn add_legend(text: &mut String) {
    let keys = KINDS.map(|(class, words)| {
        format!(
            "<li><svg viewBox=\"0 0 1 1\"><rect class=\"{class}\" width=\"1\" height=\"1\"/></svg>\
             {words}</li>"
        )
    });
    add(
        text,
        format_args!("<ul class=\"legend\">{}</ul>", keys.concat()),
    );
}

/// Stacked columns over time. The labels stand beside the drawing, so that they keep their size
/// however wide it is.
fn add_columns(text: &mut String, table: &Table) {
    let place = |wanted: &str| table.columns.iter().position(|(name, _)| *name == wanted);
    let of = |row: &[Value], wanted| {
        let value = place(wanted).and_then(|place| row.get(place));
        value.map_or(0, number)
    };
    let columns: Vec<(String, [u64; 3])> = table
        .rows
        .iter()
        .map(|row| {
            let name = row.first().map(Value::shown).unwrap_or_default();
            let (good, bad) = (of(row, "succeeded"), of(row, "failed"));
            let other = of(row, "requests").saturating_sub(good + bad);
            (name, [good, bad, other])
        })
        .collect();
    let most = columns.iter().map(|(_, kinds)| kinds.iter().sum()).max();
    let most: u64 = most.unwrap_or(0);
    if most == 0 || columns.len() < 2 {
        return;
    }
    add(
        text,
        format_args!(
            "<figure>\n<p class=\"axis\">{} requests</p>\n<svg class=\"columns\" \
             viewBox=\"0 0 {} 100\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"Requests over time\">",
            Value::Count(most).shown(),
            columns.len()
        ),
    );
    for (position, (name, kinds)) in columns.iter().enumerate() {
        let words = KINDS.iter().zip(kinds).filter(|(_, count)| **count > 0);
        let words: Vec<String> = words
            .map(|((_, words), count)| format!("{} {words}", Value::Count(*count).shown()))
            .collect();
        let title = escaped(&format!("{name}: {}", words.join(", ")));
        add(text, format_args!("<g><title>{title}</title>"));
        let mut bottom = 100.0;
        for ((class, _words), count) in KINDS.iter().zip(kinds) {
            let height = *count as f64 * 100.0 / most as f64;
            bottom -= height;
            if *count > 0 {
                add(
                    text,
                    format_args!(
                        "<rect class=\"{class}\" x=\"{position}.1\" y=\"{bottom:.3}\" \
                         width=\"0.8\" height=\"{height:.3}\"/>"
                    ),
                );
            }
        }
        add(text, format_args!("</g>"));
    }
    let middle = &columns[columns.len() / 2].0;
    let ends = [&columns[0].0, middle, &columns[columns.len() - 1].0];
    let ends = ends.map(|name| format!("<span>{}</span>", escaped(name)));
    add(
        text,
        format_args!("</svg>\n<p class=\"axis ends\">{}</p>", ends.concat()),
    );
    add_legend(text);
    add(text, format_args!("</figure>"));
}

/// A bar for each row, as long as its second value.
fn add_bars(text: &mut String, table: &Table) {
    let rows = table.rows.iter();
    let rows: Vec<(String, u64)> = rows
        .filter_map(|row| Some((row.first()?.shown(), number(row.get(1)?))))
        .collect();
    let most = rows.iter().map(|(_name, count)| *count).max().unwrap_or(0);
    if most == 0 {
        return;
    }
    add(text, format_args!("<figure class=\"bars\">"));
    for (name, count) in rows {
        let width = count as f64 * 100.0 / most as f64;
        let (name, shown) = (escaped(&name), Value::Count(count).shown());
        add(
            text,
            format_args!(
                "<span>{name}</span><svg viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" \
                 aria-hidden=\"true\"><rect class=\"bad\" width=\"{width:.3}\" height=\"1\"/></svg>\
                 <span>{shown}</span>"
            ),
        );
    }
    add(text, format_args!("</figure>"));
}

fn number(value: &Value) -> u64 {
    match value {
        Value::Count(number) | Value::Bytes(number) | Value::Money(number) => *number,
        Value::Span(_) | Value::Text(_) | Value::Unknown => 0,
    }
}
