//! Changes that belong to each other, sent to SQLite as one command.
//!
//! SQLite works on a thread of its own. Each command wakes it, and its answer wakes ours: for a change of a row or two
//! that costs more than the change.

use sea_orm::{DatabaseTransaction, Statement, Value, Values};

use super::messages::{StateError, StateResult};
use super::sql::{CHUNK_ROWS, as_u64, execute};

/// Changes on their way, each with the number of rows that it must touch.
#[derive(Default)]
pub(super) struct Together {
    sql: String,
    values: Vec<Value>,
    rows: usize,
}

impl Together {
    /// Adds a change that names its values `?1`, `?2` and so on. What is there already is sent before, where both are
    /// more than one command should carry.
    pub(super) async fn add(
        &mut self,
        tx: &DatabaseTransaction,
        sql: &str,
        values: Vec<Value>,
        rows: usize,
    ) -> StateResult<()> {
        if self.rows + rows > CHUNK_ROWS {
            std::mem::take(self).send(tx).await?;
        }
        self.push(sql, values);
        self.rows += rows;
        Ok(())
    }

    /// Adds a change of one row, as SeaORM has built it.
    pub(super) async fn add_built(
        &mut self,
        tx: &DatabaseTransaction,
        built: Statement,
    ) -> StateResult<()> {
        let Values(values) = built.values.unwrap_or(Values(Vec::new()));
        self.add(tx, &built.sql, values, 1).await
    }

    /// Adds a change of as many rows as there are to change.
    pub(super) fn push(&mut self, sql: &str, values: Vec<Value>) {
        spell_out(sql, values, &mut self.sql, &mut self.values);
    }

    /// Makes the changes, in their order, and gives the number of rows that they touched.
    pub(super) async fn execute(self, tx: &DatabaseTransaction) -> StateResult<u64> {
        execute(tx, &self.sql, self.values).await
    }

    /// Makes changes of which each says how many rows it touches.
    ///
    /// Everything that is written was read in the same transaction, so another number of rows is a fault
    /// of ours: better to stop than to go on from a state that is not what it seems.
    pub(super) async fn send(self, tx: &DatabaseTransaction) -> StateResult<()> {
        if self.sql.is_empty() {
            return Ok(());
        }
        let expected = self.rows;
        let touched = self.execute(tx).await?;
        if touched == as_u64(expected) {
            return Ok(());
        }
        Err(StateError::Conflict(format!(
            "changes were to touch {expected} rows together but touched {touched}"
        )))
    }
}

/// Appends a statement, a value for each place that names one. The driver counts places without a name over
/// all statements of a command, and those with a number in each: of these it may leave some without a value.
fn spell_out(sql: &str, given: Vec<Value>, text: &mut String, values: &mut Vec<Value>) {
    if !text.is_empty() {
        text.push_str("; ");
    }
    let mut parts = sql.split('?');
    text.extend(parts.next());
    let mut next = 0;
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = &part[..part.len() - rest.len()];
        let at = number.parse().map_or(next, |number: usize| number - 1);
        next = at + 1;
        values.push(given[at].clone());
        text.push('?');
        text.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_own_value() {
        let (mut text, mut values) = (String::new(), Vec::new());
        let some = |numbers: &[i64]| numbers.iter().map(|number| (*number).into()).collect();
        spell_out(
            "UPDATE a SET x = ?2, y = ?12 WHERE z = ?2",
            some(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            &mut text,
            &mut values,
        );
        spell_out(
            "INSERT INTO b VALUES (?, ?)",
            some(&[7, 8]),
            &mut text,
            &mut values,
        );
        spell_out("DELETE FROM c", Vec::new(), &mut text, &mut values);
        assert_eq!(
            text,
            "UPDATE a SET x = ?, y = ? WHERE z = ?; INSERT INTO b VALUES (?, ?); DELETE FROM c"
        );
        assert_eq!(values, some(&[2, 12, 2, 7, 8]));
    }
}
