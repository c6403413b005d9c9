//! One batch of pages from the work list to its settlement, message by message, on real files; and the
//! floor of each step.
//!
//! The floor of a step is SQLite alone: the very rows that the step inserted, changed and
//! deleted are written into the same database by statements that are prepared once and run raw, row
//! by row in the order of their keys, in one transaction with the same pragmas. An update sets only the
//! columns that change. No message, no JSON, no thread, no row that is read to be decided about.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::*;
use pagemill::domain::attempt::Verdict;
use pagemill::domain::batch::BatchEvent;
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::*;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tempfile::TempDir;

use crate::race::{Took, Watch};
use crate::state::{open, stored, tell};
use crate::state_world::*;

/// Pages in one book.
const BOOK_PAGES: u32 = 200;
/// As the uploader claims by default: twice its concurrency.
const CLAIMED_TOGETHER: usize = 32;
/// As `results.verdicts_per_commit` is by default.
const VERDICTS_TOGETHER: usize = 512;

fn page(index: u32) -> NewPage {
    let (book, number) = (index / BOOK_PAGES, index % BOOK_PAGES + 1);
    let book = format!("Alabama:School {book:06}:1849");
    let named = |number: u32| RecordKey::from(format!("{book}:{number:04}"));
    let former = (number > 1).then(|| named(number - 1));
    NewPage {
        key: named(number),
        levels: vec![
            "Alabama".to_owned(),
            format!("School {:06}", index / BOOK_PAGES),
            "1849".to_owned(),
            format!("{number:04}"),
        ],
        number,
        predecessor: former.clone(),
        waits_for: former,
        chain_ahead: BOOK_PAGES - number,
        book,
    }
}

fn claim_any(limit: usize) -> ClaimPages {
    ClaimPages {
        chained: false,
        ..claim(limit as u64, 10)
    }
}

/// One step of a batch's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Register,
    Claim,
    /// Records the uploads of all pages at once.
    Record,
    /// Claims and records as many as the uploader does at its default concurrency.
    UploadInSmallParts,
    Plan,
    /// Notes what was asked about each page.
    Spool,
    /// Notes that the answers are at hand.
    Collect,
    Judge,
    Settle,
    /// Notes that the images are deleted.
    Delete,
}

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Step::Register => "ApplyScan",
            Step::Claim => "ClaimPages, all at once",
            Step::Record => "RecordUploads, all at once",
            Step::UploadInSmallParts => "ClaimPages, RecordUploads, 32 together",
            Step::Plan => "PlanBatch",
            Step::Spool => "RecordSpooled",
            Step::Collect => "BeginCollect",
            Step::Judge => "RecordVerdicts, 512 together",
            Step::Settle => "SettleBatch",
            Step::Delete => "RecordDeletions",
        }
    }
}

/// Performs a step; the time begins when the messages are made.
async fn perform(
    step: Step,
    state: &Addr<StateActor>,
    pages: &[NewPage],
    answers: Answers,
) -> Duration {
    let keys: Vec<RecordKey> = pages.iter().map(|page| page.key.clone()).collect();
    let since;
    match step {
        Step::Register => {
            let changes = ScanChanges {
                register: pages.to_vec(),
                ..ScanChanges::default()
            };
            since = Instant::now();
            tell(state, scan(changes, 0)).await;
        }
        Step::Claim => {
            since = Instant::now();
            let claimed = tell(state, claim_any(keys.len())).await;
            assert_eq!(claimed.pages.len(), keys.len());
        }
        Step::Record => {
            let uploads = keys.iter().map(stored).collect();
            since = Instant::now();
            tell(state, record_uploads(uploads, 20)).await;
        }
        Step::UploadInSmallParts => {
            since = Instant::now();
            let mut done = 0;
            while done < keys.len() {
                let claimed = tell(state, claim_any(CLAIMED_TOGETHER)).await.pages;
                done += claimed.len();
                let uploads = claimed.iter().map(|page| stored(&page.key)).collect();
                tell(state, record_uploads(uploads, 20)).await;
            }
        }
        Step::Plan => {
            since = Instant::now();
            tell(state, plan("b1", keys, 100)).await;
        }
        Step::Spool => {
            let mut lines = spooled("b1", []);
            lines.included = keys.iter().map(included).collect();
            since = Instant::now();
            tell(state, lines).await;
        }
        Step::Collect => {
            since = Instant::now();
            tell(state, collect("b1")).await;
        }
        Step::Judge => {
            let verdict = |(place, key)| verdict(place, key, answers);
            let parts: Vec<RecordVerdicts> = keys
                .chunks(VERDICTS_TOGETHER)
                .map(|keys| verdicts("b1", keys.iter().enumerate().map(verdict).collect()))
                .collect();
            since = Instant::now();
            for part in parts {
                tell(state, part).await;
            }
        }
        Step::Settle => {
            since = Instant::now();
            tell(state, settle("b1")).await;
        }
        Step::Delete => {
            let (limit, at) = (u64::from(u32::MAX), at(800));
            let due = tell(state, ListDeletable { limit, at }).await;
            let deleted = |file: LedgerFile| (file.name, DeleteOutcome::Deleted);
            let files: Vec<_> = due.into_iter().map(deleted).collect();
            assert!(files.len() >= keys.len());
            since = Instant::now();
            tell(state, RecordDeletions { files, at }).await;
        }
    }
    since.elapsed()
}

/// How the pages are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    Good,
    /// Every tenth answer is no good.
    Mixed,
}

fn verdict(place: usize, key: &RecordKey, answers: Answers) -> Verdict {
    let mut verdict = if answers == Answers::Mixed && place % 10 == 9 {
        rejected(1, ErrorType::Validation, again())
    } else {
        accepted(1)
    };
    verdict.key = key.clone();
    verdict
}

fn included(key: &RecordKey) -> IncludedMember {
    IncludedMember {
        key: key.clone(),
        prompt_sha256: sha("prompt"),
        context_sha256: None,
        parameters: None,
    }
}

/// What lies between two steps and is not measured.
async fn prepare(step: Step, state: &Addr<StateActor>) {
    if step != Step::Collect {
        return;
    }
    let batch = batch("b1");
    tell(state, BeginSubmit { batch, at: at(220) }).await;
    let remote = RemoteName::from("batches/b1");
    let accept = BatchEvent::SubmitAccepted { remote };
    tell(state, record_submit("b1", accept)).await;
    let offered = Some(BatchEvent::ResultsOffered);
    tell(state, poll("b1", "BATCH_STATE_SUCCEEDED", offered)).await;
}

/// The databases before and after a step.
pub struct Stop {
    pub step: Step,
    before: PathBuf,
    floors: Vec<Rc<Floor>>,
}

/// Database files of the whole way.
pub struct Way {
    folder: TempDir,
    pages: Vec<NewPage>,
    answers: Answers,
    pub stops: Vec<Stop>,
}

impl Way {
    pub async fn new(count: u32, answers: Answers) -> Self {
        let mut way = Way {
            folder: tempfile::tempdir().unwrap(),
            pages: (0..count).map(page).collect(),
            answers,
            stops: Vec::new(),
        };
        let mut last = way.folder.path().join("start.db");
        let state = open(&last).await;
        tell(&state, start_run()).await;
        tell(&state, Close {}).await;
        let steps = [
            Step::Register,
            Step::Claim,
            Step::Record,
            Step::Plan,
            Step::Spool,
            Step::Collect,
            Step::Judge,
            Step::Settle,
            Step::Delete,
        ];
        for step in steps {
            let state = open(&last).await;
            prepare(step, &state).await;
            tell(&state, Close {}).await;
            let after = way.folder.path().join(format!("{step:?}.db"));
            fs::copy(&last, &after).unwrap();
            let state = open(&after).await;
            perform(step, &state, &way.pages, answers).await;
            tell(&state, Close {}).await;
            let floor = Rc::new(Floor::between(&last, &after).await);
            way.stops.push(Stop {
                step,
                before: last,
                floors: vec![floor],
            });
            last = after;
        }
        let (claim, record) = (&way.stops[1], &way.stops[2]);
        let small_parts = Stop {
            step: Step::UploadInSmallParts,
            before: claim.before.clone(),
            floors: [claim, record]
                .map(|stop| Rc::clone(&stop.floors[0]))
                .into(),
        };
        way.stops.insert(3, small_parts);
        way
    }

    /// A copy of a database in a folder of its own, on disk before the time begins.
    fn copy(&self, database: &Path) -> (TempDir, PathBuf) {
        let folder = TempDir::new_in(self.folder.path()).unwrap();
        let path = folder.path().join("state.db");
        fs::copy(database, &path).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        (folder, path)
    }

    /// The time of a step by its messages.
    pub async fn through_the_actor(&self, stop: &Stop) -> Duration {
        let (_folder, path) = self.copy(&stop.before);
        let state = open(&path).await;
        let took = perform(stop.step, &state, &self.pages, self.answers).await;
        tell(&state, Close {}).await;
        took
    }

    /// What the rows of a step take without it.
    pub fn by_sqlite_alone(&self, stop: &Stop) -> Took {
        let (_folder, path) = self.copy(&stop.before);
        let mut db = raw_connection(&path);
        stop.floors.iter().map(|floor| floor.run(&mut db)).sum()
    }

    /// What the rows of all steps take, each once.
    #[allow(dead_code, reason = "not every bench takes all of them")]
    pub fn rows_alone(&self) -> Took {
        let steps = self.stops.iter();
        let steps = steps.filter(|stop| stop.step != Step::UploadInSmallParts);
        steps.map(|stop| self.by_sqlite_alone(stop)).sum()
    }
}

/// The changes of a step: statements, and the rows that each is run with.
struct Floor {
    changes: Vec<(String, Vec<Vec<rusqlite::types::Value>>)>,
}

impl Floor {
    async fn between(before: &Path, after: &Path) -> Self {
        let difference = after.with_extension("difference");
        // A connection that makes no file attaches none that is not there.
        File::create(&difference).unwrap();
        let db = connect(after).await;
        attach(&db, before, "old").await;
        attach(&db, &difference, "difference").await;
        let tables = ask(
            &db,
            "SELECT name FROM main.sqlite_master
             WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY rowid",
        )
        .await;
        let mut statements = Vec::new();
        for table in tables {
            statements.extend(Floor::of_table(&db, &table).await);
        }
        db.close().await.unwrap();
        let rows = rusqlite::Connection::open(&difference).unwrap();
        let changes = statements
            .into_iter()
            .map(|(statement, table, values)| (statement, Floor::rows(&rows, &table, &values)))
            .collect();
        Floor { changes }
    }

    /// The values that a statement is run with, a row of them for each of its runs.
    fn rows(
        db: &rusqlite::Connection,
        table: &str,
        columns: &[String],
    ) -> Vec<Vec<rusqlite::types::Value>> {
        let sql = format!("SELECT {} FROM {table} ORDER BY rowid", columns.join(", "));
        let mut question = db.prepare(&sql).unwrap();
        let rows = question.query_map([], |row| (0..columns.len()).map(|at| row.get(at)).collect());
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The statements of one table, each with the table and the columns that its values are in.
    async fn of_table(db: &DatabaseConnection, table: &str) -> Vec<(String, String, Vec<String>)> {
        let columns = ask(
            db,
            &format!("SELECT name FROM pragma_table_info('{table}')"),
        )
        .await;
        let keys = ask(
            db,
            &format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0"),
        )
        .await;
        let same = |a: &str, b: &str| each(&keys, " AND ", |k| format!("{a}.{k} = {b}.{k}"));
        let all = columns.join(", ");
        let mut statements = Vec::new();
        let inserted = format!(
            "SELECT {all} FROM main.{table} AS n
             WHERE NOT EXISTS (SELECT 1 FROM old.{table} AS o WHERE {})",
            same("o", "n")
        );
        if kept(db, &format!("{table}_inserted"), &inserted).await {
            let places = vec!["?"; columns.len()].join(", ");
            statements.push((
                format!("INSERT INTO {table} ({all}) VALUES ({places})"),
                format!("{table}_inserted"),
                columns.clone(),
            ));
        }
        let moved = each(&columns, " OR ", |c| format!("o.{c} IS NOT n.{c}"));
        let both = format!(
            "main.{table} AS n JOIN old.{table} AS o ON {}",
            same("o", "n")
        );
        let changed = format!(
            "SELECT {} FROM {both} WHERE {moved}",
            each(&columns, ", ", |c| { format!("n.{c} AS {c}") })
        );
        if kept(db, &format!("{table}_changed"), &changed).await {
            let mut touched = Vec::new();
            for column in &columns {
                let moves =
                    format!("SELECT count(*) FROM {both} WHERE o.{column} IS NOT n.{column}");
                if ask(db, &moves).await != ["0"] {
                    touched.push(column.clone());
                }
            }
            let set = each(&touched, ", ", |c| format!("{c} = ?"));
            let key = each(&keys, " AND ", |k| format!("{k} = ?"));
            touched.extend(keys.iter().cloned());
            statements.push((
                format!("UPDATE {table} SET {set} WHERE {key}"),
                format!("{table}_changed"),
                touched,
            ));
        }
        let deleted = format!(
            "SELECT {all} FROM old.{table} AS o
             WHERE NOT EXISTS (SELECT 1 FROM main.{table} AS n WHERE {})",
            same("o", "n")
        );
        if kept(db, &format!("{table}_deleted"), &deleted).await {
            let key = each(&keys, " AND ", |k| format!("{k} = ?"));
            statements.push((
                format!("DELETE FROM {table} WHERE {key}"),
                format!("{table}_deleted"),
                keys,
            ));
        }
        statements
    }

    fn run(&self, db: &mut rusqlite::Connection) -> Took {
        let watch = Watch::start();
        let transaction = db
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .unwrap();
        transaction
            .execute_batch("PRAGMA defer_foreign_keys = ON")
            .unwrap();
        for (statement, rows) in &self.changes {
            let mut prepared = transaction.prepare(statement).unwrap();
            for row in rows {
                let done = prepared.execute(rusqlite::params_from_iter(row)).unwrap();
                assert_eq!(done, 1, "{statement}");
            }
        }
        transaction.commit().unwrap();
        watch.took()
    }
}

/// A connection without any layer, with the pragmas that StateActor's has.
fn raw_connection(path: &Path) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 10000; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY",
    )
    .unwrap();
    db
}

fn each(names: &[String], between: &str, show: impl Fn(&str) -> String) -> String {
    let shown: Vec<String> = names.iter().map(|name| show(name)).collect();
    shown.join(between)
}

/// Keeps what a question gives as a table of the difference; says whether there was anything.
async fn kept(db: &DatabaseConnection, table: &str, question: &str) -> bool {
    let sql = format!("CREATE TABLE difference.{table} AS {question}");
    db.execute_unprepared(&sql).await.unwrap();
    let count = format!("SELECT count(*) FROM difference.{table}");
    ask(db, &count).await != ["0"]
}

async fn attach(db: &DatabaseConnection, path: &Path, name: &str) {
    let sql = format!("ATTACH DATABASE '{}' AS {name}", path.display());
    db.execute_unprepared(&sql).await.unwrap();
}

/// One connection that can attach other files.
async fn connect(path: &Path) -> DatabaseConnection {
    let options = sqlite::Options::new(path, sqlite::Access::Write).pragma("journal_mode", "WAL");
    sqlite::connect(options).await.unwrap()
}
