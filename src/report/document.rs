//! A report as its renderers see it: sections of named values, whatever they are about.

use std::time::Duration;

use super::words;

/// A report, ready to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub title: String,
    pub summary: String,
    pub about: Vec<(&'static str, String)>,
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name in machine-readable forms.
    pub name: &'static str,
    pub title: String,
    pub note: Option<String>,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Figures(Vec<Figure>),
    Table(Table),
}

/// One value with its name, and what people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    pub name: &'static str,
    pub label: &'static str,
    pub value: Value,
}

/// Rows of values; the first of each names its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Names and what people call them.
    pub columns: Vec<(&'static str, String)>,
    pub rows: Vec<Vec<Value>>,
}

/// A value of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Count(u64),
    Bytes(u64),
    /// Billionths of a US dollar.
    Money(u64),
    Span(Duration),
    Text(String),
    /// Nobody knows.
    Unknown,
}

impl Value {
    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Value::Count(count) => words::count(*count),
            Value::Bytes(bytes) => words::bytes(*bytes),
            Value::Money(nanos) => words::dollars(*nanos),
            Value::Span(span) => words::span(*span),
            Value::Text(text) => text.clone(),
            Value::Unknown => "-".to_owned(),
        }
    }

    /// For programs: digits, a point, nothing else; a text as it is; nothing for what is not known.
    pub fn plain(&self) -> String {
        match self {
            Value::Count(number) | Value::Bytes(number) => number.to_string(),
            Value::Money(nanos) => {
                let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            Value::Span(span) => span.as_secs().to_string(),
            Value::Text(text) => text.clone(),
            Value::Unknown => String::new(),
        }
    }

    /// What a plain value is counted in.
    pub fn unit(&self) -> &'static str {
        match self {
            Value::Bytes(_) => "bytes",
            Value::Money(_) => "USD",
            Value::Span(_) => "seconds",
            Value::Count(_) | Value::Text(_) | Value::Unknown => "",
        }
    }

    pub fn is_text(&self) -> bool {
        matches!(self, Value::Text(_))
    }
}

impl Section {
    /// Whether it holds nothing but zeros.
    pub fn is_empty(&self) -> bool {
        let is_nothing = |value: &Value| match value {
            Value::Count(number) | Value::Bytes(number) | Value::Money(number) => *number == 0,
            Value::Span(_) | Value::Text(_) => false,
            Value::Unknown => true,
        };
        match &self.body {
            Body::Figures(figures) => figures.iter().all(|figure| is_nothing(&figure.value)),
            Body::Table(table) => table.rows.is_empty(),
        }
    }
}
