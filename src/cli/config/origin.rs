//! Where each setting comes from, so that whoever wonders can go and change it there.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::screen::{Columns, Screen, Side};
use crate::settings::{Loaded, Origin, Sources};

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;
/// Where the key may stand; the first one that is set holds.
const KEY_VARIABLES: [&str; 2] = ["GEMINI_API_KEY", "GOOGLE_API_KEY"];

/// One setting in force.
struct Row {
    path: String,
    value: Value,
    origin: String,
    /// Where in the file, when it is from there and the place can be told.
    line: Option<usize>,
}

/// Shows every setting with its origin; the key only by whether it is there.
pub(super) fn show(
    loaded: &Loaded,
    sources: &Sources,
    as_json: bool,
    screen: Screen,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows = rows(loaded, sources);
    if as_json {
        return print_json(loaded, &rows, out);
    }
    if let Some(file) = &loaded.file {
        writeln!(out, "file: {}", file.display())?;
    }
    let headings = [
        ("setting", Side::Left),
        ("value", Side::Left),
        ("from", Side::Left),
    ];
    let mut columns = Columns::new(screen, &headings);
    columns.whole(0);
    for row in &rows {
        let from = match row.line {
            Some(line) => format!("{} line {line}", row.origin),
            None => row.origin.clone(),
        };
        columns.row(&[row.path.clone(), typed(&row.value), from]);
    }
    let mut text = Vec::new();
    columns.print(&mut text)?;
    out.write_all(&text)
}

/// A value as it would stand in the file; nothing for one that is not given.
fn typed(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn rows(loaded: &Loaded, sources: &Sources) -> Vec<Row> {
    let file = loaded.file.as_deref();
    let text = file.and_then(|file| fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let settings = loaded.settings.effective_values().into_iter();
    let mut rows: Vec<Row> = settings
        .map(|(path, value)| {
            let origin = loaded.origins.get(&path);
            let line = match origin {
                Some(Origin::File) => line_of(&lines, &path),
                _ => None,
            };
            Row {
                origin: origin.map_or(String::new(), |origin| words(origin, &path, sources)),
                line,
                path,
                value,
            }
        })
        .collect();
    rows.push(key_row(loaded, sources));
    rows
}

/// The key is no setting, and nobody needs to see it: only that it is there.
fn key_row(loaded: &Loaded, sources: &Sources) -> Row {
    let is_set = |name: &&&str| {
        let text = sources.env.get(**name);
        text.is_some_and(|text| !text.trim().is_empty())
    };
    let (value, origin) = match (&loaded.settings.api_key, KEY_VARIABLES.iter().find(is_set)) {
        (None, _) => (Value::Null, "not set".to_owned()),
        (Some(_key), Some(name)) => (json!("********"), format!("env {name}")),
        (Some(_key), None) => (json!("********"), ".env".to_owned()),
    };
    Row {
        path: "GEMINI_API_KEY".to_owned(),
        value,
        origin,
        line: None,
    }
}

/// An origin, with the flag's name and with `.env` told from the environment of the process.
fn words(origin: &Origin, path: &str, sources: &Sources) -> String {
    match origin {
        Origin::Env(name) if !sources.env.contains_key(name) => format!(".env {name}"),
        Origin::Flag => match path {
            "log.format" => "flag --log-format".to_owned(),
            "log.level" => "flag --log-level".to_owned(),
            _ => origin.to_string(),
        },
        Origin::Default | Origin::File | Origin::Env(_) => origin.to_string(),
    }
}

/// The line on which a setting is given, from 1: that of the innermost name of its path that stands
/// at the beginning of a line, or within braces on the line of the name before it.
fn line_of(lines: &[&str], path: &str) -> Option<usize> {
    let mut names: Vec<&str> = path.split('.').collect();
    // A name in camelCase may be written in snake_case.
    let snake: String = names
        .pop()?
        .chars()
        .fold(String::new(), |mut text, letter| {
            if letter.is_ascii_uppercase() {
                text.push('_');
            }
            text.push(letter.to_ascii_lowercase());
            text
        });
    let last = path.rsplit('.').next()?;
    let mut found = None;
    let mut at = 0;
    let mut indent = None;
    for name in names.into_iter().chain([last]) {
        let spelled = if name == last {
            vec![last, snake.as_str()]
        } else {
            vec![name]
        };
        match below(lines, at, indent, &spelled) {
            Some((line, depth)) => {
                found = Some(line);
                (at, indent) = (line, Some(depth));
            }
            // Written in braces, behind the name before it.
            None => return found,
        }
    }
    found
}

/// The first line from `from` on that begins with one of these names and stands deeper than
/// `indent`, before one that does not.
fn below(
    lines: &[&str],
    from: usize,
    indent: Option<usize>,
    names: &[&str],
) -> Option<(usize, usize)> {
    for (line, text) in (from + 1..).zip(lines.iter().skip(from)) {
        let bare = text.trim_start();
        let depth = text.len() - bare.len();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let is_inside = indent.is_none_or(|indent| depth > indent);
        if !is_inside {
            return None;
        }
        let bare = bare.trim_start_matches(['"', '\'']);
        let is_it = |name: &&str| {
            let rest = bare.strip_prefix(*name);
            rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':'))
        };
        if names.iter().any(is_it) && (indent.is_some() || depth == 0) {
            return Some((line, depth));
        }
    }
    None
}

fn print_json(loaded: &Loaded, rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let settings: serde_json::Map<String, Value> = rows
        .iter()
        .map(|row| {
            let shown = json!({"value": row.value, "origin": row.origin, "line": row.line});
            (row.path.clone(), shown)
        })
        .collect();
    let file = loaded.file.as_deref().map(Path::display);
    let shown = json!({
        "version": JSON_VERSION,
        "file": file.map(|file| file.to_string()),
        "settings": settings,
    });
    writeln!(out, "{shown:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_blocks_and_braces() {
        let text = "# execution: {max_retries: 9}\npaths:\n  work_dir: data   # here\n  \"layout\": x\n\n\
                    execution: {max_retries: 3,\n  batch_size_limit: 2}\nmodel:\n  generation_config:\n    \
                    # cooler\n    max_output_tokens: 5\n    topP: 1\nfiles:\n  where: 1\n";
        let lines: Vec<&str> = text.lines().collect();
        for (path, line) in [
            ("paths.work_dir", Some(3)),
            ("paths.layout", Some(4)),
            ("execution.max_retries", Some(6)),
            ("execution.batch_size_limit", Some(7)),
            ("model.generation_config.maxOutputTokens", Some(11)),
            ("model.generation_config.topP", Some(12)),
            ("files.where", Some(14)),
            ("batch.size_min", None),
        ] {
            assert_eq!(line_of(&lines, path), line, "{path}");
        }
    }
}
