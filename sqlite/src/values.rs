//! Values on their way between SeaORM and SQLite.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use sea_orm::{DbErr, Value};

/// A value of SeaORM's, of the kinds that SQLite has.
pub(crate) struct Bound<'a>(pub &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.0 {
            Value::String(text) => text.as_deref().map(|text| ValueRef::Text(text.as_bytes())),
            Value::Bytes(bytes) => bytes.as_deref().map(ValueRef::Blob),
            Value::Double(number) => number.map(ValueRef::Real),
            Value::Float(number) => number.map(|number| ValueRef::Real(number.into())),
            other => whole(other)?.map(ValueRef::Integer),
        };
        Ok(ToSqlOutput::Borrowed(value.unwrap_or(ValueRef::Null)))
    }
}

/// The whole number that a value is; `None` where it is null.
fn whole(value: &Value) -> rusqlite::Result<Option<i64>> {
    Ok(match value {
        Value::BigInt(number) => *number,
        Value::Int(number) => number.map(i64::from),
        Value::SmallInt(number) => number.map(i64::from),
        Value::TinyInt(number) => number.map(i64::from),
        Value::Unsigned(number) => number.map(i64::from),
        Value::SmallUnsigned(number) => number.map(i64::from),
        Value::TinyUnsigned(number) => number.map(i64::from),
        Value::Bool(yes) => yes.map(i64::from),
        Value::BigUnsigned(number) => match number.map(i64::try_from) {
            None => None,
            Some(Ok(number)) => Some(number),
            Some(Err(error)) => {
                return Err(rusqlite::Error::ToSqlConversionFailure(error.into()));
            }
        },
        other => {
            let words = format!("SQLite has no column for a value like {other:?}");
            return Err(rusqlite::Error::ToSqlConversionFailure(words.into()));
        }
    })
}

/// A value of SQLite's as SeaORM has it.
pub(crate) fn value_of(value: ValueRef<'_>) -> Result<Value, DbErr> {
    Ok(match value {
        // Whatever the column is: null has no type.
        ValueRef::Null => Value::String(None),
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text)
                .map_err(|error| DbErr::Type(format!("a text in the database: {error}")))?;
            text.into()
        }
        ValueRef::Blob(bytes) => bytes.into(),
    })
}
