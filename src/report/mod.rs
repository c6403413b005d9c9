//! Reports: facts in, text out. Nothing here asks for facts.

pub mod batch;
pub mod csv;
pub mod document;
pub mod facts;
pub mod html;
pub mod json;
pub mod markdown;
pub mod words;

use document::Document;

use crate::domain::failure::words as closed_list;

closed_list! {
    /// The form in which a report is written.
    Format {
        Markdown => "md",
        Html => "html",
        Json => "json",
        Csv => "csv",
    }
}

/// Writes a report in a form.
pub fn render(document: &Document, format: Format) -> String {
    match format {
        Format::Markdown => markdown::render(document),
        Format::Html => html::render(document),
        Format::Json => json::render(document),
        Format::Csv => csv::render(document),
    }
}

#[cfg(test)]
mod tests;
