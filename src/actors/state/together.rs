//! Changes that belong to each other, sent to SQLite as one command.
//!
//! SQLite works on a thread of its own. Each command wakes it, and its answer wakes ours: for a change of a row
//! or two that costs more than the change.

use sea_orm::{DatabaseTransaction, Statement, Value, Values};

use super::messages::{StateError, StateResult};
use super::sql::{CHUNK_ROWS, as_u64, execute};

/// Changes on their way, and how many rows those touch that say so.
#[derive(Default)]
pub(super) struct Together {
    sql: String,
    values: Vec<Value>,
    rows: usize,
}

impl Together {
    /// Adds a change that names its values `?1`, `?2` and so on, and touches so many rows. What is there
    /// already is sent before, where both are more than one command should carry.
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

    /// Adds a change of as many rows as there are to change; nobody counts the rows of changes beside it.
    pub(super) fn push(&mut self, sql: &str, values: Vec<Value>) {
        spell_out(sql, values, &mut self.sql, &mut self.values);
    }

    /// Makes the changes, in their order, however many rows they touch; gives how many it were.
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
    use sea_orm::{ConnectionTrait, Database, TransactionTrait};

    use super::*;
    use crate::actors::state::sql::number;

    const INSERT: &str = "INSERT INTO t SELECT ?2 + value FROM generated WHERE value <= ?1";

    /// A table to write to, and the numbers up to 2,000.
    async fn transaction() -> DatabaseTransaction {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        let tx = db.begin().await.unwrap();
        let sql = "CREATE TABLE t (x INTEGER PRIMARY KEY);
                   CREATE TABLE generated AS WITH RECURSIVE n(value) AS
                       (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 2000) SELECT value FROM n";
        tx.execute_unprepared(sql).await.unwrap();
        tx
    }

    async fn written(tx: &DatabaseTransaction) -> u64 {
        number(tx, "SELECT count(*) FROM t", []).await.unwrap()
    }

    fn some(count: i64, after: i64) -> Vec<Value> {
        vec![count.into(), after.into()]
    }

    #[actix::test]
    async fn changes_are_made_together_and_too_many_of_them_one_after_the_other() {
        let tx = transaction().await;
        let mut together = Together::default();
        together.add(&tx, INSERT, some(600, 0), 600).await.unwrap();
        together
            .add(&tx, INSERT, some(400, 1_000), 400)
            .await
            .unwrap();
        assert_eq!(written(&tx).await, 0);
        together
            .add(&tx, INSERT, some(1_500, 2_000), 1_500)
            .await
            .unwrap();
        assert_eq!(written(&tx).await, 1_000);
        together.send(&tx).await.unwrap();
        assert_eq!(written(&tx).await, 2_500);
    }

    #[actix::test]
    async fn a_change_of_more_or_fewer_rows_than_it_says_is_refused() {
        for told in [2, 4] {
            let tx = transaction().await;
            let mut together = Together::default();
            together.add(&tx, INSERT, some(10, 0), 10).await.unwrap();
            together.add(&tx, INSERT, some(3, 100), told).await.unwrap();
            let refused = together.send(&tx).await.unwrap_err();
            let expected = format!("to touch {} rows together but touched 13", 10 + told);
            assert!(refused.to_string().contains(&expected), "{refused}");
        }
    }

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
