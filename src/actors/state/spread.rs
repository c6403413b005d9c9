//! Rows for one statement: what all of them share is bound once, and the rest travels as one JSON
//! parameter.
//!
//! Most changes say the same of every page: the same stage, the same batch, the same sentence. SQLite
//! would otherwise look each of these up in the JSON, row by row and column by column.

use sea_orm::Value;
use serde::ser::{Serialize, SerializeSeq, Serializer};

/// A value of a column, borrowed from where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Cell::Text(text)
    }
}

impl<'a> From<&'a String> for Cell<'a> {
    fn from(text: &'a String) -> Self {
        Cell::Text(text)
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Cell::Integer(number)
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

impl From<Cell<'_>> for Value {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Null => Value::String(None),
            Cell::Text(text) => text.into(),
            Cell::Integer(number) => number.into(),
        }
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Null => serializer.serialize_unit(),
            Cell::Text(text) => serializer.serialize_str(text),
            Cell::Integer(number) => serializer.serialize_i64(*number),
        }
    }
}

/// The parameters of a statement over some rows, and the terms by which it names their columns.
#[derive(Debug, PartialEq)]
pub(super) struct Spread {
    /// A JSON array with an array a row: the first parameter of the statement, read as
    /// `jsonb_each(?1) AS c`.
    pub list: Value,
    /// What all rows share: the parameters from `first` on.
    pub shared: Vec<Value>,
    /// For each column that was asked for, how the statement names it.
    pub terms: Vec<String>,
    listed: usize,
}

impl Spread {
    /// Spreads the `columns` of `rows`, by their places in the rows. The column at place 0 names the row
    /// and always stands in the list, as `c.value->>0`.
    pub(super) fn of<'a, R: AsRef<[Cell<'a>]>>(
        rows: &[R],
        columns: &[usize],
        first: usize,
    ) -> Spread {
        let mut listed = vec![0];
        let mut shared = Vec::new();
        let mut terms = Vec::with_capacity(columns.len());
        for &column in columns {
            terms.push(if column == 0 {
                "c.value->>0".to_owned()
            } else if let Some(cell) = common(rows, column) {
                shared.push(cell.into());
                format!("?{}", first + shared.len() - 1)
            } else {
                listed.push(column);
                format!("c.value->>{}", listed.len() - 1)
            });
        }
        let list = List {
            rows,
            listed: &listed,
        };
        Spread {
            list: list.to_json().into(),
            shared,
            terms,
            listed: listed.len(),
        }
    }

    /// Whether rows differ in nothing but their names.
    pub(super) fn lists_keys_only(&self) -> bool {
        self.listed == 1
    }

    /// All parameters of a statement that has `own` between the list and what is shared.
    pub(super) fn values(self, own: impl IntoIterator<Item = Value>) -> Vec<Value> {
        let mut values = vec![self.list];
        values.extend(own);
        values.extend(self.shared);
        values
    }
}

/// The value that a column has in every row, if it has only one.
fn common<'a, R: AsRef<[Cell<'a>]>>(rows: &[R], column: usize) -> Option<Cell<'a>> {
    let mut cells = rows.iter().map(|row| row.as_ref()[column]);
    let first = cells.next()?;
    cells.all(|cell| cell == first).then_some(first)
}

/// Rows on their way into JSON, with some of their columns.
struct List<'r, R> {
    rows: &'r [R],
    listed: &'r [usize],
}

impl<'a, R: AsRef<[Cell<'a>]>> List<'_, R> {
    fn to_json(&self) -> String {
        // Texts and numbers in an array: nothing in it can fail to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl<'a, R: AsRef<[Cell<'a>]>> Serialize for List<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|row| Listed {
            row: row.as_ref(),
            listed: self.listed,
        }))
    }
}

struct Listed<'r, 'a> {
    row: &'r [Cell<'a>],
    listed: &'r [usize],
}

impl Serialize for Listed<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut cells = serializer.serialize_seq(Some(self.listed.len()))?;
        for &column in self.listed {
            cells.serialize_element(&self.row[column])?;
        }
        cells.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_bound_once_and_the_rest_is_listed() {
        let rows = [
            [
                Cell::from("a"),
                "same".into(),
                7.into(),
                Cell::Null,
                1.into(),
            ],
            [
                Cell::from("b"),
                "same".into(),
                8.into(),
                Cell::Null,
                1.into(),
            ],
        ];
        let spread = Spread::of(&rows, &[1, 2, 3, 4], 3);
        assert_eq!(spread.list, r#"[["a",7],["b",8]]"#.into());
        assert_eq!(spread.terms, ["?3", "c.value->>1", "?4", "?5"]);
        let values = spread.values(["now".into()]);
        assert_eq!(
            values[1..],
            [
                "now".into(),
                "same".into(),
                Value::String(None),
                1_i64.into()
            ]
        );
    }

    #[test]
    fn a_single_row_has_only_its_name_in_the_list() {
        let spread = Spread::of(&[[Cell::from("a\"b"), Cell::Integer(-1)]], &[0, 1], 2);
        assert_eq!(spread.list, r#"[["a\"b"]]"#.into());
        assert_eq!(spread.terms, ["c.value->>0", "?2"]);
        assert_eq!(spread.shared, [Value::from(-1_i64)]);
    }
}
