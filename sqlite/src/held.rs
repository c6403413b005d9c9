//! A connection of SQLite and the transaction that it is in.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{CachedStatement, Connection};
use sea_orm::{DbErr, ProxyExecResult, ProxyRow, RuntimeErr, Statement};

use super::owner::Mode;
use super::values::{Bound, value_of};

/// A connection that several hold.
pub(crate) struct Shared(Mutex<Held>);

pub(crate) struct Held {
    /// `None` once it is closed.
    db: Option<Connection>,
    /// How the next transaction begins.
    pub(crate) next: Mode,
    /// The transaction, and the savepoints in it; whether each of them did begin.
    parts: Vec<bool>,
    /// Why a transaction did not begin or end. SeaORM cannot be told at that moment: nothing is done until
    /// somebody was.
    fault: Option<DbErr>,
}

impl Shared {
    pub(crate) fn new(db: Connection) -> Self {
        Shared(Mutex::new(Held {
            db: Some(db),
            next: Mode::Read,
            parts: Vec::new(),
            fault: None,
        }))
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        // A panic in the middle of a call leaves a transaction, which is rolled back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Tells of a beginning or an end that went wrong.
    pub(crate) fn told(&mut self) -> Result<(), DbErr> {
        self.fault.take().map_or(Ok(()), Err)
    }

    pub(crate) fn close(&mut self) -> Result<(), DbErr> {
        match self.db.take().map(Connection::close) {
            Some(Err((_db, error))) => Err(refusal(error)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    pub(crate) fn begin(&mut self) {
        let begun = match (self.parts.len(), self.next) {
            (0, Mode::Read) => self.step("BEGIN"),
            (0, Mode::Write) => self.step("BEGIN IMMEDIATE"),
            (depth, _) => self.step(&format!("SAVEPOINT part_{depth}")),
        };
        self.parts.push(begun.is_ok());
        self.note(begun);
    }

    pub(crate) fn commit(&mut self) {
        // While it is still a part of them, so that it is seen where the whole has ended by itself.
        let ended = match self.parts.len() {
            0 | 1 => self.step("COMMIT"),
            depth => self.step(&format!("RELEASE part_{}", depth - 1)),
        };
        self.parts.pop();
        if ended.is_err() && self.parts.is_empty() {
            self.take_back_all();
        }
        self.note(ended);
    }

    pub(crate) fn rollback(&mut self) {
        let has_begun = self.parts.pop().unwrap_or(false);
        match self.parts.len() {
            0 => self.take_back_all(),
            depth if has_begun => {
                let ended = self.step(&format!("ROLLBACK TO part_{depth}; RELEASE part_{depth}"));
                self.note(ended);
            }
            _never_begun => {}
        }
    }

    /// SQLite ends some transactions by itself, where the disk is at fault.
    fn take_back_all(&mut self) {
        let Some(db) = &self.db else { return };
        if !db.is_autocommit() {
            let ended = db.execute_batch("ROLLBACK").map_err(refusal);
            self.note(ended);
        }
    }

    /// Keeps the first fault.
    fn note(&mut self, outcome: Result<(), DbErr>) {
        if let Err(fault) = outcome {
            self.fault.get_or_insert(fault);
        }
    }

    fn step(&self, sql: &str) -> Result<(), DbErr> {
        self.db()?.execute_batch(sql).map_err(refusal)
    }

    fn db(&self) -> Result<&Connection, DbErr> {
        match (&self.fault, &self.db) {
            (Some(fault), _) => Err(fault.clone()),
            (None, None) => Err(DbErr::Custom("the database is closed".to_owned())),
            // What followed would be durable at once, each by itself.
            (None, Some(db)) if self.parts.first() == Some(&true) && db.is_autocommit() => Err(
                DbErr::Custom("SQLite has ended the transaction by itself".to_owned()),
            ),
            (None, Some(db)) => Ok(db),
        }
    }

    /// All rows of a question.
    pub(crate) fn query(&mut self, asked: &Statement) -> Result<Vec<ProxyRow>, DbErr> {
        let mut statement = self.prepared(asked)?;
        let names = statement.column_names();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut found = statement.raw_query();
        let mut rows = Vec::new();
        while let Some(row) = found.next().map_err(refusal)? {
            let mut values = BTreeMap::new();
            for (place, name) in names.iter().enumerate() {
                let value = row.get_ref(place).map_err(refusal)?;
                values.insert(name.clone(), value_of(value)?);
            }
            if values.len() < names.len() {
                let words = format!("two columns have one name in: {}", asked.sql);
                return Err(DbErr::Query(RuntimeErr::Internal(words)));
            }
            rows.push(ProxyRow::new(values));
        }
        Ok(rows)
    }

    /// Makes a change, or several where there are no values.
    pub(crate) fn execute(&mut self, asked: &Statement) -> Result<ProxyExecResult, DbErr> {
        let before = self.db()?.total_changes();
        if asked.values.is_none() {
            self.step(&asked.sql)?;
            let changed = self.db()?.total_changes() - before;
            return Ok(ProxyExecResult::new(0, changed));
        }
        let mut statement = self.prepared(asked)?;
        let is_change = !statement.readonly();
        let mut found = statement.raw_query();
        // Some changes answer with rows.
        while found.next().map_err(refusal)?.is_some() {}
        drop(found);
        drop(statement);
        let changed = if is_change { self.db()?.changes() } else { 0 };
        Ok(ProxyExecResult::new(0, changed))
    }

    /// A statement with its values; one that was given none is asked with nulls, as for its plan.
    fn prepared(&self, asked: &Statement) -> Result<CachedStatement<'_>, DbErr> {
        let mut statement = self.db()?.prepare_cached(&asked.sql).map_err(refusal)?;
        let Some(values) = &asked.values else {
            return Ok(statement);
        };
        let (places, given) = (statement.parameter_count(), values.0.len());
        if given < places {
            let words = format!("{given} values for {places} places in: {}", asked.sql);
            return Err(DbErr::Query(RuntimeErr::Internal(words)));
        }
        // Whoever asks alike in several ways may give some of them more than they look at.
        for (at, value) in values.0.iter().take(places).enumerate() {
            let bound = statement.raw_bind_parameter(at + 1, Bound(value));
            bound.map_err(refusal)?;
        }
        Ok(statement)
    }
}

/// The words of a refusal, in the form that [`code_of`] reads.
pub(crate) fn refusal(error: rusqlite::Error) -> DbErr {
    let words = match &error {
        rusqlite::Error::SqliteFailure(failure, _words) => {
            format!("(code: {}) {error}", failure.extended_code)
        }
        other => other.to_string(),
    };
    DbErr::Query(RuntimeErr::Internal(words))
}

/// SQLite's extended result code of a refusal.
pub fn code_of(error: &DbErr) -> Option<u32> {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else {
        return None;
    };
    let RuntimeErr::Internal(words) = cause;
    let (code, _words) = words.strip_prefix("(code: ")?.split_once(')')?;
    code.parse().ok()
}
