//! The figures of a report. All of them are asked in one transaction, so that they fit each other.
//!
//! Closed batches carry their sums, so that most figures cost as much as there are batches. Two do
//! not: the sums by level and by try read each request of the batches concerned, and the stages
//! each of their pages.

use std::time::Duration;

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use serde_json::Value as Json;

use super::messages::StateResult;
use super::questions::{counts, stage_counts};
use super::rows::{maybe_instant, word};
use super::sql::{first, maybe_text, number, read_back, signed, texts, unsigned};
use crate::domain::figures::{Carried, Figures, LateSums, Subject};
use crate::domain::ids::{BatchId, RunId};
use crate::domain::page::PageStage;
use crate::domain::period::{Parts, Step, Stretch, Zone};

mod batches;
mod failures;
mod requests;

use batches::Book;

/// When a batch is booked. An index has these very words.
const BOOKED_AT: &str = "coalesce(submitted_at, created_at)";

/// A subject as a condition on `submissions`, with its two parameters.
struct Booked {
    condition: &'static str,
    /// The same for failures outside of batches.
    elsewhere: &'static str,
    values: [String; 2],
}

impl Booked {
    fn new(subject: &Subject) -> Self {
        match subject {
            Subject::Time(Stretch { from, until }) => Booked {
                condition: "coalesce(submitted_at, created_at) >= ?1
                            AND coalesce(submitted_at, created_at) < ?2",
                elsewhere: "+batch_id = '' AND created_at >= ?1 AND created_at < ?2",
                values: [from.to_string(), until.to_string()],
            },
            Subject::Batch(batch) => Booked {
                condition: "batch_id = ?1 AND ?2 = ''",
                elsewhere: "0",
                values: [batch.to_string(), String::new()],
            },
            Subject::Run(run) => Booked {
                condition: "run_id = ?1 AND ?2 = ''",
                elsewhere: "batch_id = '' AND run_id = ?1",
                values: [run.to_string(), String::new()],
            },
        }
    }

    fn values(&self) -> [Value; 2] {
        self.values.clone().map(Value::from)
    }

    /// The batches.
    fn batches(&self) -> String {
        format!("SELECT batch_id FROM submissions WHERE {}", self.condition)
    }

    /// The lines of `failure_logs`.
    fn failures(&self) -> String {
        let (batches, elsewhere) = (self.batches(), self.elsewhere);
        format!(
            "SELECT id FROM failure_logs WHERE batch_id IN ({batches})
             UNION ALL SELECT id FROM failure_logs WHERE {elsewhere}"
        )
    }
}

/// The figures of a subject; at most `failed_max` failed pages are named. To be asked within a
/// transaction.
pub async fn figures(
    conn: &impl ConnectionTrait,
    subject: &Subject,
    zone: &Zone,
    failed_max: u64,
) -> StateResult<Figures> {
    let booked = Booked::new(subject);
    let mut book = Book::new(parts(conn, subject, &booked, zone).await?);
    batches::read(conn, &booked, &mut book).await?;
    let (by_level, by_try) = requests::by_level_and_try(conn, &booked).await?;
    let (failed_total, failed_dead, failed_done) = failures::failed_counts(conn, &booked).await?;
    let images = carried(conn, subject, &booked, "image").await?;
    let lines = carried(conn, subject, &booked, "lines").await?;
    Ok(Figures {
        sums: book.sums,
        pages: pages(conn, subject, &booked).await?,
        errors: failures::errors(conn, &booked).await?,
        failed: failures::failed(conn, &booked, failed_max).await?,
        failed_total,
        failed_dead,
        failed_done,
        took: book.took(),
        by_recipe: batches::recipes(conn, &book).await?,
        batches: book.stages.into_iter().collect(),
        parts: book.parts,
        by_part: book.by_part,
        by_level,
        by_try,
        images,
        lines,
        results: book.results,
        late: late(conn, &booked).await?,
    })
}

/// The questions about a stretch of time whose cost must follow what was booked in it, each by its
/// name.
pub fn questions_of_time() -> Vec<(&'static str, String)> {
    let booked = Booked::new(&Subject::Time(Stretch::everything()));
    vec![
        ("batches", batches::question(&booked)),
        ("requests", requests::question(&booked)),
        ("failures", failures::question(&booked)),
        ("failed", failures::failed_question(&booked)),
        (
            "files",
            carried_question(&Subject::Time(Stretch::everything()), &booked, "image"),
        ),
        ("nothing", nothing_question(&booked)),
    ]
}

/// Whether nothing at all is booked in a stretch of time.
pub async fn is_empty(conn: &impl ConnectionTrait, stretch: Stretch) -> StateResult<bool> {
    let booked = Booked::new(&Subject::Time(stretch));
    Ok(number(conn, &nothing_question(&booked), booked.values()).await? == 0)
}

fn nothing_question(booked: &Booked) -> String {
    format!(
        "SELECT EXISTS ({}) OR EXISTS (SELECT 1 FROM failure_logs WHERE {}) OR EXISTS (
             SELECT 1 FROM remote_files WHERE purpose IN ('image','lines')
               AND created_at >= ?1 AND created_at < ?2)",
        booked.batches(),
        booked.elsewhere
    )
}

/// The batches whose ids begin so, at most so many.
pub async fn batches_like(
    conn: &impl ConnectionTrait,
    prefix: &str,
    limit: u64,
) -> StateResult<Vec<String>> {
    let sql = "SELECT batch_id FROM submissions
               WHERE batch_id >= ?1 AND substr(batch_id, 1, length(?1)) = ?1
               ORDER BY batch_id LIMIT ?2";
    texts(conn, sql, [prefix.into(), signed(limit).into()]).await
}

/// The runs whose ids begin so, at most so many.
pub async fn runs_like(
    conn: &impl ConnectionTrait,
    prefix: &str,
    limit: u64,
) -> StateResult<Vec<String>> {
    let sql = "SELECT run_id FROM runs
               WHERE run_id >= ?1 AND substr(run_id, 1, length(?1)) = ?1
               ORDER BY run_id LIMIT ?2";
    texts(conn, sql, [prefix.into(), signed(limit).into()]).await
}

/// Which job a batch was, and when, in words.
pub async fn batch_story(
    conn: &impl ConnectionTrait,
    batch: &BatchId,
) -> StateResult<Vec<(&'static str, String)>> {
    let sql = "SELECT json_array(state, remote_name, display_name, model, remote_state, run_id,
                                 created_at, submitted_at, closed_at, note)
               FROM submissions WHERE batch_id = ?1";
    let names = [
        "state",
        "job",
        "display name",
        "model",
        "provider's state",
        "run",
        "planned",
        "submitted",
        "closed",
        "note",
    ];
    story(conn, sql, batch.as_str(), &names).await
}

/// What a run was, in words.
pub async fn run_story(
    conn: &impl ConnectionTrait,
    run: &RunId,
) -> StateResult<Vec<(&'static str, String)>> {
    let sql = "SELECT json_array(label, status, restarts, substr(recipe_hash, 1, 12),
                                 started_at, ended_at)
               FROM runs WHERE run_id = ?1";
    let names = ["label", "status", "restarts", "recipe", "started", "ended"];
    story(conn, sql, run.as_str(), &names).await
}

/// The values of one row, which is given as a JSON array, with their names; what is null or empty is left
/// out.
async fn story(
    conn: &impl ConnectionTrait,
    sql: &str,
    id: &str,
    names: &[&'static str],
) -> StateResult<Vec<(&'static str, String)>> {
    let values: Vec<Json> = match maybe_text(conn, sql, [id.into()]).await? {
        Some(list) => read_back(&list)?,
        None => Vec::new(),
    };
    let values = values.into_iter().map(|value| match value {
        Json::String(text) => Some(text),
        Json::Number(number) => Some(number.to_string()),
        _nothing => None,
    });
    let named = names.iter().copied().zip(values);
    let known = named.filter_map(|(name, value)| Some((name, value?)));
    Ok(known.filter(|(_name, value)| !value.is_empty()).collect())
}

#[derive(FromQueryResult)]
struct EndsRow {
    first: Option<String>,
    last: Option<String>,
}

/// A period is cut as it is; everything else from its first batch to its last one.
async fn parts(
    conn: &impl ConnectionTrait,
    subject: &Subject,
    booked: &Booked,
    zone: &Zone,
) -> StateResult<Parts> {
    let whole = match subject {
        Subject::Time(stretch) if *stretch != Stretch::everything() => {
            return Ok(Parts::of(*stretch, zone));
        }
        Subject::Time(_) => "1".to_owned(),
        Subject::Batch(_) | Subject::Run(_) => booked.condition.to_owned(),
    };
    // Two questions, since only one end of an index can be looked up at a time.
    let mut ends = EndsRow {
        first: None,
        last: None,
    };
    for (end, order) in [(&mut ends.first, "ASC"), (&mut ends.last, "DESC")] {
        let sql = format!(
            "SELECT {BOOKED_AT} FROM submissions WHERE {whole} ORDER BY {BOOKED_AT} {order} LIMIT 1"
        );
        *end = if whole == "1" {
            maybe_text(conn, &sql, []).await?
        } else {
            maybe_text(conn, &sql, booked.values()).await?
        };
    }
    let thing = "a submission";
    let first = maybe_instant(thing, ends.first.as_deref())?;
    let last = maybe_instant(thing, ends.last.as_deref())?;
    Ok(match (first, last) {
        (Some(from), Some(last)) => {
            let until = last.plus(Duration::from_micros(1));
            Parts::of(Stretch { from, until }, zone)
        }
        _ => Parts {
            step: Step::Day,
            parts: Vec::new(),
        },
    })
}

/// The whole state tells of all its pages, everything else of those that it asked for.
async fn pages(
    conn: &impl ConnectionTrait,
    subject: &Subject,
    booked: &Booked,
) -> StateResult<Vec<(PageStage, u64)>> {
    if *subject == Subject::Time(Stretch::everything()) {
        let mut all = stage_counts(conn, None).await?;
        all.retain(|(_stage, count)| *count > 0);
        return Ok(all);
    }
    let sql = format!(
        "SELECT stage AS word, count(*) AS count FROM pages WHERE record_key IN (
             SELECT record_key FROM attempts WHERE batch_id IN ({})) GROUP BY stage",
        booked.batches()
    );
    let mut found = Vec::new();
    for (stage, count) in counts(conn, &sql, booked.values()).await? {
        found.push((word("pages", &stage, PageStage::parse)?, count));
    }
    found.sort_unstable();
    Ok(found)
}

#[derive(FromQueryResult)]
struct CarriedRow {
    files: i64,
    bytes: Option<i64>,
}

/// What was carried to the provider: in a stretch of time by when it was, else by whom it was for.
async fn carried(
    conn: &impl ConnectionTrait,
    subject: &Subject,
    booked: &Booked,
    purpose: &str,
) -> StateResult<Carried> {
    let sql = carried_question(subject, booked, purpose);
    let [one, two] = booked.values();
    let found: Option<CarriedRow> = first(conn, &sql, [one, two, purpose.into()]).await?;
    Ok(found.map_or(Carried::default(), |row| Carried {
        files: unsigned(row.files),
        bytes: unsigned(row.bytes.unwrap_or(0)),
    }))
}

fn carried_question(subject: &Subject, booked: &Booked, purpose: &str) -> String {
    let which = match (subject, purpose) {
        (Subject::Time(_), _) => {
            "purpose IN ('image','lines') AND created_at >= ?1 AND created_at < ?2".to_owned()
        }
        (_, "image") => format!(
            "name IN (SELECT image_file FROM attempts WHERE batch_id IN ({}))",
            booked.batches()
        ),
        (_, _lines) => format!("batch_id IN ({})", booked.batches()),
    };
    format!(
        "SELECT count(*) AS files, sum(bytes) AS bytes FROM remote_files
         WHERE {which} AND purpose = ?3"
    )
}

#[derive(FromQueryResult)]
struct LateRow {
    answers: Option<i64>,
    accepted: Option<i64>,
    paid_twice: Option<i64>,
}

async fn late(conn: &impl ConnectionTrait, booked: &Booked) -> StateResult<LateSums> {
    let sql = format!(
        "SELECT sum(answers) AS answers, sum(accepted) AS accepted, sum(paid_twice) AS paid_twice
         FROM late_jobs WHERE batch_id IN ({})",
        booked.batches()
    );
    let found: Option<LateRow> = first(conn, &sql, booked.values()).await?;
    let sum = |column: Option<i64>| unsigned(column.unwrap_or(0));
    Ok(found.map_or(LateSums::default(), |row| LateSums {
        answers: sum(row.answers),
        accepted: sum(row.accepted),
        paid_twice: sum(row.paid_twice),
    }))
}
