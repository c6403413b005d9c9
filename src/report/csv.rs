//! A report as one CSV table, after RFC 4180: a line for each figure, so that a spreadsheet or a
//! database can take, filter and pivot it, whatever sections there are.

use super::document::{Body, Document, Value};

/// The columns. `row` is empty where a section has no rows.
const COLUMNS: [&str; 5] = ["section", "row", "figure", "value", "unit"];

/// Writes a report.
pub fn render(document: &Document) -> String {
    let mut builder = csv::WriterBuilder::new();
    builder.terminator(csv::Terminator::CRLF);
    let mut writer = builder.from_writer(Vec::new());
    let mut add = |fields: [&str; 5]| {
        writer
            .write_record(fields)
            .expect("five fields a line, in memory");
    };
    add(COLUMNS);
    add(["report", "", "title", &document.title, ""]);
    add(["report", "", "summary", &document.summary, ""]);
    for (name, value) in &document.about {
        add(["report", "", name, value, ""]);
    }
    let mut add_value = |section: &str, row: &str, name: &str, value: &Value| {
        add([section, row, name, &value.plain(), value.unit()]);
    };
    for section in &document.sections {
        match &section.body {
            Body::Figures(figures) => {
                for figure in figures {
                    add_value(section.name, "", figure.name, &figure.value);
                }
            }
            Body::Table(table) => {
                for row in &table.rows {
                    let named = row.first().map(Value::plain).unwrap_or_default();
                    let values = table.columns.iter().zip(row).skip(1);
                    for ((name, _label), value) in values {
                        add_value(section.name, &named, name, value);
                    }
                }
            }
        }
    }
    let bytes = writer
        .into_inner()
        .expect("writing to memory does not fail");
    String::from_utf8(bytes).expect("texts go in, and text comes out")
}
