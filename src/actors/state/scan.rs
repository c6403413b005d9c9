//! What a look at the tree changes.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use serde::Deserialize;
use serde_json::json;

use super::messages::{
    ApplyScan, KnownPage, ListImageFaults, NewPage, PagesOfBooks, Rechained, RecordOddities,
    StateError, StateResult,
};
use super::orders::carry::standing_priorities;
use super::pages::{Cause, Pages};
use super::rows::word;
use super::spread::{Cell, Spread};
use super::sql::{
    CHUNK_ROWS, execute, execute_exactly, json_list, listed, optional_text, signed, small, text,
    texts,
};
use super::{Apply, Rules};
use crate::domain::failure::ErrorType;
use crate::domain::ids::{RecordKey, RunId, ScopeToken};
use crate::domain::page::{PageEvent, PageStage, SEEN};
use crate::domain::time::Timestamp;

impl Apply for ApplyScan {
    type Reply = ();

    /// Pages that go back come first, so that nobody is let past a page that is to run again.
    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        self.requeue(tx, rules).await?;
        self.register(tx, rules).await?;
        self.rescope(tx).await?;
        self.book(tx).await?;
        self.adopt(tx, rules).await?;
        self.skip(tx, rules).await?;
        self.rechain(tx, rules).await
    }
}

impl ApplyScan {
    fn cause(&self) -> Cause<'_> {
        Cause {
            run: Some(&self.run),
            batch: None,
        }
    }

    async fn requeue(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let changes = &self.changes.requeue;
        let mut pages = Pages::load(tx, changes.iter().map(|(key, _event)| key)).await?;
        for (key, event) in changes {
            pages.apply(key, event, &self.cause(), "")?;
        }
        pages.write(tx, rules, self.at).await?;
        Ok(())
    }

    async fn register(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let found = self.changes.register.iter();
        register(tx, rules, found, &self.run, &self.scope, self.at).await
    }

    async fn rescope(&self, tx: &DatabaseTransaction) -> StateResult<()> {
        let keys: BTreeSet<&RecordKey> = self.changes.rescope.iter().collect();
        let keys: Vec<&RecordKey> = keys.into_iter().collect();
        for chunk in keys.chunks(CHUNK_ROWS) {
            let list = json_list(chunk.iter().map(|key| key.as_str()));
            let values = [list, text(&self.scope), text(self.at)];
            execute_exactly(tx, RESCOPE, values, chunk.len()).await?;
        }
        Ok(())
    }

    /// Pages are booked to the window of the run that they came into.
    async fn book(&self, tx: &DatabaseTransaction) -> StateResult<()> {
        let Some((window, arrived)) = &self.changes.arrived else {
            return Ok(());
        };
        for chunk in arrived.chunks(CHUNK_ROWS) {
            let list = json_list(
                chunk
                    .iter()
                    .map(|(key, at)| json!([key.as_str(), at.to_string()])),
            );
            let values = [list, text(window), text(self.at)];
            execute_exactly(tx, BOOK, values, chunk.len()).await?;
        }
        Ok(())
    }

    async fn adopt(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let changes = &self.changes.adopt;
        let mut pages = Pages::load(tx, changes.iter().map(|output| &output.key)).await?;
        for output in changes {
            let event = PageEvent::Adopted {
                output: output.sha256.clone(),
            };
            let row = pages.apply(&output.key, &event, &self.cause(), "")?;
            row.output_bytes = Some(signed(output.bytes));
        }
        pages.write(tx, rules, self.at).await?;
        Ok(())
    }

    async fn skip(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let changes = &self.changes.label_vanished;
        let mut pages = Pages::load(tx, changes).await?;
        for key in changes {
            pages.apply(key, &PageEvent::LabelVanished, &self.cause(), "")?;
        }
        pages.write(tx, rules, self.at).await?;
        Ok(())
    }

    async fn rechain(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let mut changes: Vec<&Rechained> = self.changes.rechain.iter().collect();
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        changes.dedup_by(|a, b| a.key == b.key);
        for chunk in changes.chunks(CHUNK_ROWS) {
            let waited_for = chunk.iter().filter_map(|page| page.waits_for.as_ref());
            let open = passable(tx, rules, waited_for).await?;
            let list = json_list(chunk.iter().map(|page| {
                json!([
                    page.key.as_str(),
                    page.predecessor.as_ref().map(RecordKey::as_str),
                    still_waits(&page.key, page.waits_for.as_ref(), &open),
                    page.chain_ahead,
                ])
            }));
            execute_exactly(tx, RECHAIN, [list, text(self.at)], chunk.len()).await?;
        }
        Ok(())
    }
}

/// Inserts pages as Discovered, with their history; known ones are left alone.
pub(super) async fn register<'a>(
    tx: &DatabaseTransaction,
    rules: &Rules,
    found: impl Iterator<Item = &'a NewPage>,
    run: &RunId,
    scope: &ScopeToken,
    at: Timestamp,
) -> StateResult<()> {
    let mut found: Vec<&'a NewPage> = found.collect();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup_by(|a, b| a.key == b.key);
    for chunk in found.chunks(CHUNK_ROWS) {
        let waited_for = chunk.iter().filter_map(|page| page.waits_for.as_ref());
        let open = passable(tx, rules, waited_for).await?;
        let levels: Vec<String> = chunk.iter().map(|page| levels_text(&page.levels)).collect();
        let cells: Vec<[Cell<'_>; 7]> = chunk
            .iter()
            .zip(&levels)
            .map(|(page, levels)| page_cells(page, levels, &open))
            .collect();
        let keys = json_list(chunk.iter().map(|page| page.key.as_str()));
        let seen = [keys, text(at), text(run), SEEN.into()];
        let noted = execute(tx, NOTE_SEEN, seen).await?;
        let spread = Spread::of(&cells, &[0, 1, 2, 3, 4, 5, 6], 5);
        let sql = format!("{INSERT_PAGES} {}", insert_from(&spread.terms));
        let values = spread.values([text(at), text(run), text(scope)]);
        let inserted = execute(tx, &sql, values).await?;
        if noted != inserted {
            return Err(StateError::Conflict(format!(
                "{inserted} pages were registered but {noted} noted"
            )));
        }
    }
    let keys: Vec<&str> = found.iter().map(|page| page.key.as_str()).collect();
    standing_priorities(tx, &keys, at).await
}

/// A new page as [`INSERT_PAGES`] takes it.
fn page_cells<'a>(page: &'a NewPage, levels: &'a str, open: &BTreeSet<String>) -> [Cell<'a>; 7] {
    [
        page.key.as_str().into(),
        (&page.book).into(),
        levels.into(),
        i64::from(page.number).into(),
        page.predecessor.as_ref().map(RecordKey::as_str).into(),
        still_waits(&page.key, page.waits_for.as_ref(), open).into(),
        i64::from(page.chain_ahead).into(),
    ]
}

fn levels_text(levels: &[String]) -> String {
    serde_json::json!(levels).to_string()
}

fn insert_from(terms: &[String]) -> String {
    format!(
        "SELECT {}, 'discovered', 'on the work list', ?4, ?3, ?2, ?2
         FROM jsonb_each(?1) AS c WHERE true ON CONFLICT (record_key) DO NOTHING",
        terms.join(", ")
    )
}

/// Those of the pages waited for that nobody has to wait for.
async fn passable<'a>(
    tx: &DatabaseTransaction,
    rules: &Rules,
    keys: impl Iterator<Item = &'a RecordKey>,
) -> StateResult<BTreeSet<String>> {
    let mut keys: Vec<&str> = keys.map(RecordKey::as_str).collect();
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    keys.sort_unstable();
    let also = if rules.unlock_behind_dead {
        PageStage::Dead
    } else {
        PageStage::Completed
    };
    let values = [
        json_list(keys),
        PageStage::Completed.as_str().into(),
        also.as_str().into(),
        i64::from(rules.unlock_behind_dead).into(),
    ];
    let open = texts(
        tx,
        "SELECT record_key FROM pages
         WHERE record_key IN (SELECT value FROM json_each(?1))
           AND (stage IN (?2, ?3) OR (stage = 'skipped' AND left_out IS NOT NULL AND ?4 = 1))",
        values,
    )
    .await?;
    Ok(open.into_iter().collect())
}

fn still_waits<'a>(
    key: &RecordKey,
    waits_for: Option<&'a RecordKey>,
    open: &BTreeSet<String>,
) -> Option<&'a str> {
    waits_for
        .filter(|other| *other != key && !open.contains(other.as_str()))
        .map(RecordKey::as_str)
}

/// Comes before [`INSERT_PAGES`]: what is not there yet is what will be inserted.
const NOTE_SEEN: &str = "
    INSERT INTO page_events
        (record_key, at, from_stage, to_stage, event, run_id, correlation_id, details)
    SELECT j.value, ?2, NULL, 'discovered', ?4, ?3, ?3, '{}'
    FROM json_each(?1) AS j
    WHERE NOT EXISTS (SELECT 1 FROM pages AS p WHERE p.record_key = j.value)";

const INSERT_PAGES: &str = "
    INSERT INTO pages
        (record_key, book, levels, page_number, predecessor, waits_for, chain_ahead,
         stage, status, scope, run_id, created_at, updated_at)";

pub(super) const RESCOPE: &str = "
    UPDATE pages SET scope = ?2, updated_at = ?3
    WHERE record_key IN (SELECT value FROM json_each(?1))";

pub(super) const BOOK: &str = "
    UPDATE pages SET window_name = ?2, arrived_at = c.value->>1, updated_at = ?3
    FROM jsonb_each(?1) AS c
    WHERE pages.record_key = c.value->>0";

pub(super) const RECHAIN: &str = "
    UPDATE pages SET predecessor = c.value->>1, waits_for = c.value->>2,
                     chain_ahead = c.value->>3, updated_at = ?2
    FROM jsonb_each(?1) AS c
    WHERE pages.record_key = c.value->>0";

impl Apply for RecordOddities {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        execute(tx, "DELETE FROM scan_oddities", []).await?;
        for chunk in self.oddities.chunks(CHUNK_ROWS) {
            let list = json_list(
                chunk
                    .iter()
                    .map(|oddity| json!([oddity.path, oddity.kind, oddity.detail])),
            );
            execute_exactly(
                tx,
                "INSERT INTO scan_oddities (run_id, path, kind, detail, created_at)
                 SELECT ?2, value->>0, value->>1, value->>2, ?3 FROM jsonb_each(?1)",
                [list, text(&self.run), text(self.at)],
                chunk.len(),
            )
            .await?;
        }
        Ok(())
    }
}

/// The columns of [`PAGES_OF_BOOKS`], in their order.
#[derive(Deserialize)]
struct KnownRow {
    record_key: String,
    page_number: i64,
    stage: String,
    predecessor: Option<String>,
    waits_for: Option<String>,
    chain_ahead: i64,
    scope: Option<String>,
    error: Option<String>,
    left_out: i64,
}

impl Apply for PagesOfBooks {
    type Reply = Vec<KnownPage>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<KnownPage>> {
        pages_of_books(tx, &self.books).await
    }
}

/// The known pages of some books, in no order that anything rests on.
pub(super) async fn pages_of_books(
    conn: &impl ConnectionTrait,
    books: &[String],
) -> StateResult<Vec<KnownPage>> {
    let books: BTreeSet<&String> = books.iter().collect();
    let names = json_list(books.iter().map(|book| book.as_str()));
    let found: Vec<KnownRow> = listed(conn, PAGES_OF_BOOKS, [names]).await?;
    found.into_iter().map(known_page).collect()
}

/// A book's keys begin with its own key and a colon, so the key's index finds them; `;` is what
/// follows the colon. A layout of one level has a single book without a name.
pub(super) const PAGES_OF_BOOKS: &str = "
    SELECT json_group_array(json_array(
               p.record_key, p.page_number, p.stage, p.predecessor, p.waits_for, p.chain_ahead,
               p.scope, p.error, p.left_out IS NOT NULL))
    FROM json_each(?1) AS b CROSS JOIN pages AS p
    WHERE p.record_key >= CASE b.value WHEN '' THEN '' ELSE b.value || ':' END
      AND p.record_key < CASE b.value WHEN '' THEN ':' ELSE b.value || ';' END
      AND p.book = b.value";

fn known_page(row: KnownRow) -> StateResult<KnownPage> {
    let thing = format!("page '{}'", row.record_key);
    let stage = word(&thing, &row.stage, PageStage::parse)?;
    let dead_for = match (stage, &row.error) {
        (PageStage::Dead, Some(error)) => Some(word(&thing, error, ErrorType::parse)?),
        _ => None,
    };
    Ok(KnownPage {
        key: RecordKey::from(row.record_key),
        number: small(row.page_number),
        stage,
        predecessor: row.predecessor.map(RecordKey::from),
        waits_for: row.waits_for.map(RecordKey::from),
        chain_ahead: small(row.chain_ahead),
        scope: row.scope.map(ScopeToken::from),
        dead_for,
        left_out: row.left_out == 1,
    })
}

impl Apply for ListImageFaults {
    type Reply = Vec<RecordKey>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<RecordKey>> {
        let values = [
            text(&self.scope),
            optional_text(self.after.as_ref()),
            signed(self.limit).into(),
        ];
        let keys = texts(tx, IMAGE_FAULTS, values).await?;
        Ok(keys.into_iter().map(RecordKey::from).collect())
    }
}

pub(super) const IMAGE_FAULTS: &str = "
    SELECT record_key FROM pages
    WHERE stage = 'dead' AND error = 'ImageError' AND scope = ?1 AND record_key > coalesce(?2, '')
    ORDER BY record_key LIMIT ?3";
