//! Tables as files: CSV as RFC 4180 has it, or one JSON object a line.
//!
//! Values are written as they are, so that what is read back is what was stored. A spreadsheet takes
//! a cell that begins like a formula for one; who opens the file in a spreadsheet asks for an
//! apostrophe in front of such cells, which changes them.

use std::io::{self, Write};

use csv::{QuoteStyle, Terminator};
use serde_json::{Map, Value};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines end with CR LF; the first one names the columns.
    Csv {
        for_spreadsheets: bool,
    },
    JsonLines,
}

/// One value. CSV knows no null: it is an empty cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Null,
    Text(String),
    Number(i64),
    /// 1 or 0 in CSV.
    Truth(bool),
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Cell::Number(number)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

/// Writes rows of the same columns, one by one.
pub struct RowWriter<W: Write> {
    to: To<W>,
    columns: &'static [&'static str],
    /// Rows written.
    pub rows: u64,
    /// Cells that begin like a formula, and were written as they are.
    pub formulas: u64,
}

enum To<W: Write> {
    Csv {
        writer: Box<csv::Writer<W>>,
        for_spreadsheets: bool,
    },
    Lines(W),
}

impl<W: Write> RowWriter<W> {
    /// Begins a table.
    pub fn new(form: Form, columns: &'static [&'static str], out: W) -> io::Result<Self> {
        let to = match form {
            Form::JsonLines => To::Lines(out),
            Form::Csv { for_spreadsheets } => {
                let mut writer = csv::WriterBuilder::new()
                    .terminator(Terminator::CRLF)
                    .quote_style(QuoteStyle::Necessary)
                    .from_writer(out);
                writer.write_record(columns).map_err(io_error)?;
                To::Csv {
                    writer: Box::new(writer),
                    for_spreadsheets,
                }
            }
        };
        Ok(RowWriter {
            to,
            columns,
            rows: 0,
            formulas: 0,
        })
    }

    /// Writes one row: a cell a column.
    pub fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        assert_eq!(cells.len(), self.columns.len(), "a row of another table");
        self.rows += 1;
        match &mut self.to {
            To::Lines(out) => {
                let names = self.columns.iter().map(|name| (*name).to_owned());
                let object: Map<String, Value> = names.zip(cells.into_iter().map(value)).collect();
                writeln!(out, "{}", Value::Object(object))
            }
            To::Csv {
                writer,
                for_spreadsheets,
            } => {
                for cell in cells {
                    let mut text = plain(cell);
                    if is_formula(&text) {
                        if *for_spreadsheets {
                            text.insert(0, '\'');
                        } else {
                            self.formulas += 1;
                        }
                    }
                    writer.write_field(text).map_err(io_error)?;
                }
                writer.write_record(None::<&[u8]>).map_err(io_error)
            }
        }
    }

    /// Ends the table.
    pub fn finish(self) -> io::Result<W> {
        match self.to {
            To::Lines(mut out) => {
                out.flush()?;
                Ok(out)
            }
            To::Csv { writer, .. } => {
                let ended = writer.into_inner();
                ended.map_err(|error| io::Error::new(error.error().kind(), error.to_string()))
            }
        }
    }
}

/// A number is no formula, whatever its sign.
fn is_formula(text: &str) -> bool {
    let begins = text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
    begins && text.parse::<f64>().is_err()
}

fn plain(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Text(text) => text,
        Cell::Number(number) => number.to_string(),
        Cell::Truth(truth) => i64::from(truth).to_string(),
    }
}

fn value(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => text.into(),
        Cell::Number(number) => number.into(),
        Cell::Truth(truth) => truth.into(),
    }
}

/// A closed pipe must stay one.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[&str] = &["key", "text", "count", "counted"];

    fn written(form: Form, texts: &[&str]) -> (Vec<u8>, u64) {
        let mut writer = RowWriter::new(form, COLUMNS, Vec::new()).unwrap();
        for text in texts {
            let cells = vec![
                "a:b".to_owned().into(),
                (*text).to_owned().into(),
                7_i64.into(),
                Cell::Truth(true),
            ];
            writer.row(cells).unwrap();
        }
        let formulas = writer.formulas;
        (writer.finish().unwrap(), formulas)
    }

    const TEXTS: [&str; 9] = [
        "plain",
        "",
        "two\nlines",
        "two\r\nlines\r",
        "\"quoted\", and, commas",
        "\"",
        "NUL \0 and Élève 学校 \u{fffd}",
        " spaces at the ends ",
        "=HYPERLINK(\"x\")",
    ];

    #[test]
    fn s1_37_csv_survives_newlines_quotes_and_commas() {
        let exact = Form::Csv {
            for_spreadsheets: false,
        };
        let (bytes, formulas) = written(exact, &TEXTS);
        assert_eq!(formulas, 1);
        assert!(bytes.starts_with(b"key,text,count,counted\r\na:b,plain,7,1\r\n"));
        assert!(bytes.ends_with(b"\r\n"));
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let read: Vec<String> = reader.records().map(|row| row.unwrap()[1].into()).collect();
        assert_eq!(read, TEXTS);
    }

    #[test]
    fn s1_37_json_lines_survive_the_same() {
        let (bytes, _formulas) = written(Form::JsonLines, &TEXTS);
        let text = String::from_utf8(bytes).unwrap();
        let read: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| row["text"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(read, TEXTS);
    }

    #[test]
    fn formulas_are_disarmed_on_request() {
        let safe = Form::Csv {
            for_spreadsheets: true,
        };
        let texts = ["=1+1", "-2", "+x", "@y", "\tz", "a=b", "-cmd|' /C calc'!A0"];
        let (bytes, formulas) = written(safe, &texts);
        assert_eq!(formulas, 0);
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let read: Vec<String> = reader.records().map(|row| row.unwrap()[1].into()).collect();
        let expected = [
            "'=1+1",
            "-2",
            "'+x",
            "'@y",
            "'\tz",
            "a=b",
            "'-cmd|' /C calc'!A0",
        ];
        assert_eq!(read, expected);
    }
}
