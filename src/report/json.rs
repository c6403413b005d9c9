//! A report as JSON. A field that changes its meaning changes the version.

use serde_json::{Map, Value as Json, json};

use super::document::{Body, Document, Value};

/// The version of the form.
pub const VERSION: u32 = 1;

/// Writes a report.
pub fn render(document: &Document) -> String {
    let about: Map<String, Json> = document
        .about
        .iter()
        .map(|(name, value)| (name.replace(' ', "_"), json!(value)))
        .collect();
    let sections: Map<String, Json> = document
        .sections
        .iter()
        .map(|section| (section.name.to_owned(), body(&section.body)))
        .collect();
    let mut text = serde_json::to_string_pretty(&json!({
        "version": VERSION,
        "title": document.title,
        "summary": document.summary,
        "about": about,
        "units": {"cost": "USD", "bytes": "bytes", "turnaround": "seconds"},
        "sections": sections,
    }))
    .expect("a JSON value can be written");
    text.push('\n');
    text
}

/// Figures become an object, tables a list of objects.
fn body(body: &Body) -> Json {
    match body {
        Body::Figures(figures) => figures
            .iter()
            .map(|figure| (figure.name.to_owned(), value(&figure.value)))
            .collect::<Map<String, Json>>()
            .into(),
        Body::Table(table) => table
            .rows
            .iter()
            .map(|row| {
                let named = table.columns.iter().zip(row);
                let row: Map<String, Json> = named
                    .map(|((name, _label), cell)| ((*name).to_owned(), value(cell)))
                    .collect();
                Json::from(row)
            })
            .collect::<Vec<Json>>()
            .into(),
    }
}

fn value(value: &Value) -> Json {
    match value {
        Value::Count(number) | Value::Bytes(number) => json!(number),
        Value::Money(nanos) => json!(*nanos as f64 / 1e9),
        Value::Span(span) => json!(span.as_secs()),
        Value::Text(text) => json!(text),
        Value::Unknown => Json::Null,
    }
}
