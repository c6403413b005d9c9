//! What happened to one page, in order: its events, attempts and failures; read-only.

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::messages::{StateError, StateResult};
use super::questions::counts;
use super::rows::{corrupt, instant, maybe_instant, word};
use super::selection::condition;
use super::sql::{json_list, rows, signed, small, text, texts, unsigned};
use crate::domain::attempt::{RawLine, Tokens};
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RecipeHash, RecordKey, RemoteName, Sha256Hex};
use crate::domain::selection::Selection;
use crate::domain::time::Timestamp;

/// Something that happened to a page. Its words are told as they stand: there may be ones that this
/// program does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct EventLine {
    pub at: Timestamp,
    pub from: Option<String>,
    pub to: String,
    pub event: String,
    pub run: Option<String>,
    pub batch: Option<String>,
    pub correlation: Option<String>,
    pub details: serde_json::Value,
}

#[derive(FromQueryResult)]
struct EventRow {
    at: String,
    from_stage: Option<String>,
    to_stage: String,
    event: String,
    run_id: Option<String>,
    batch_id: Option<String>,
    correlation_id: Option<String>,
    details: String,
}

const EVENTS: &str = "
    SELECT at, from_stage, to_stage, event, run_id, batch_id, correlation_id, details
    FROM page_events WHERE record_key = ?1 ORDER BY id DESC LIMIT ?2";

/// The newest events of a page, oldest first.
pub async fn events(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
    limit: u64,
) -> StateResult<Vec<EventLine>> {
    let found: Vec<EventRow> = rows(conn, EVENTS, [text(key), signed(limit).into()]).await?;
    let thing = format!("history of page '{key}'");
    let lines = found.into_iter().rev().map(|row| {
        let details = serde_json::from_str(&row.details)
            .map_err(|error| corrupt(&*thing, format!("details: {error}")))?;
        Ok(EventLine {
            at: instant(&thing, &row.at)?,
            from: row.from_stage,
            to: row.to_stage,
            event: row.event,
            run: row.run_id,
            batch: row.batch_id,
            correlation: row.correlation_id,
            details,
        })
    });
    lines.collect()
}

/// How often each event happened to a page.
pub async fn event_counts(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
) -> StateResult<Vec<(String, u64)>> {
    counts(conn, EVENT_COUNTS, [text(key)]).await
}

const EVENT_COUNTS: &str = "
    SELECT event AS word, count(*) AS count FROM page_events
    WHERE record_key = ?1 GROUP BY event ORDER BY 1";

/// One request for a page, with what became of its batch.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptLine {
    pub key: RecordKey,
    pub number: u32,
    pub batch: BatchId,
    pub batch_state: String,
    pub job: Option<RemoteName>,
    pub recipe: RecipeHash,
    pub model: String,
    pub outcome: String,
    pub error: Option<ErrorType>,
    pub message: Option<String>,
    /// The image as it was sent: its remote name, and what the ledger knows of it.
    pub image_file: RemoteName,
    pub image: Option<LedgerLine>,
    /// The lines file that the request stood in.
    pub lines_sha256: Option<Sha256Hex>,
    pub lines_file: Option<String>,
    pub prompt_sha256: Option<Sha256Hex>,
    pub context_sha256: Option<Sha256Hex>,
    /// What its parameters changed of the recipe's, as JSON.
    pub parameters: Option<String>,
    pub corrective_text: Option<String>,
    pub checks_failed: Option<String>,
    pub score: Option<f64>,
    pub finish_reason: Option<String>,
    pub model_version: Option<String>,
    pub tokens: Tokens,
    pub cost_nanos: Option<u64>,
    pub raw_path: Option<String>,
    pub raw_line: Option<RawLine>,
    pub report: Option<String>,
    pub created_at: Timestamp,
    pub submitted_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub decided_at: Option<Timestamp>,
}

/// A remote file as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    pub uri: String,
    pub mime: String,
    /// Empty where it is not known.
    pub sha256: String,
    pub state: String,
    pub bytes: u64,
    pub expires_at: Timestamp,
}

#[derive(FromQueryResult)]
struct AttemptRow {
    record_key: String,
    attempt_number: i64,
    batch_id: String,
    state: String,
    remote_name: Option<String>,
    recipe_hash: String,
    model: String,
    outcome: String,
    error_type: Option<String>,
    message: Option<String>,
    image_file: String,
    file_uri: Option<String>,
    file_mime: Option<String>,
    file_sha256: Option<String>,
    file_state: Option<String>,
    file_bytes: Option<i64>,
    file_expires_at: Option<String>,
    lines_sha256: Option<String>,
    lines_file: Option<String>,
    prompt_sha256: Option<String>,
    context_sha256: Option<String>,
    parameters: Option<String>,
    corrective_text: Option<String>,
    checks_failed: Option<String>,
    score: Option<f64>,
    finish_reason: Option<String>,
    model_version: Option<String>,
    tokens_prompt: Option<i64>,
    tokens_cached: Option<i64>,
    tokens_candidates: Option<i64>,
    tokens_thoughts: Option<i64>,
    tokens_total: Option<i64>,
    cost_nanos: Option<i64>,
    raw_path: Option<String>,
    raw_line_offset: Option<i64>,
    raw_line_bytes: Option<i64>,
    report: Option<String>,
    created_at: String,
    submitted_at: Option<String>,
    ended_at: Option<String>,
    decided_at: Option<String>,
}

const ATTEMPT_COLUMNS: &str = "
    a.record_key, a.attempt_number, a.batch_id, s.state, s.remote_name, s.recipe_hash, s.model,
    a.outcome, a.error_type, a.message, a.image_file, f.uri AS file_uri, f.mime AS file_mime,
    f.sha256 AS file_sha256, f.state AS file_state, f.bytes AS file_bytes, f.expires_at AS file_expires_at,
    s.lines_sha256, s.lines_file, a.prompt_sha256, a.context_sha256, a.parameters,
    a.corrective_text, a.checks_failed, a.score, a.finish_reason, a.model_version,
    a.tokens_prompt, a.tokens_cached, a.tokens_candidates, a.tokens_thoughts, a.tokens_total,
    a.cost_nanos, s.raw_path, a.raw_line_offset, a.raw_line_bytes, r.name AS report,
    a.created_at, s.submitted_at, coalesce(s.ended_at, s.terminal_seen_at) AS ended_at,
    a.decided_at";

const ATTEMPT_JOINS: &str = "
    JOIN submissions AS s ON s.batch_id = a.batch_id
    LEFT JOIN remote_files AS f ON f.name = a.image_file
    LEFT JOIN reports AS r ON r.batch_id = a.batch_id";

fn attempts_sql() -> String {
    format!(
        "SELECT {ATTEMPT_COLUMNS} FROM attempts AS a {ATTEMPT_JOINS}
         WHERE a.record_key = ?1 ORDER BY a.attempt_number DESC, a.created_at DESC LIMIT ?2"
    )
}

/// The attempts of a page, oldest first; the newest where there are more than `limit`.
pub async fn attempts(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
    limit: u64,
) -> StateResult<Vec<AttemptLine>> {
    let found: Vec<AttemptRow> =
        rows(conn, &attempts_sql(), [text(key), signed(limit).into()]).await?;
    let lines: StateResult<Vec<AttemptLine>> = found.into_iter().rev().map(attempt).collect();
    lines
}

fn attempt(row: AttemptRow) -> StateResult<AttemptLine> {
    let thing = format!("attempt at page '{}'", row.record_key);
    let when = |text: &Option<String>| maybe_instant(&thing, text.as_deref());
    let error = row.error_type.as_deref();
    let count = |value: Option<i64>| value.map(unsigned);
    let image = match (row.file_uri, row.file_mime, row.file_expires_at) {
        (Some(uri), Some(mime), Some(expires_at)) => Some(LedgerLine {
            uri,
            mime,
            sha256: row.file_sha256.unwrap_or_default(),
            state: row.file_state.unwrap_or_default(),
            bytes: unsigned(row.file_bytes.unwrap_or(0)),
            expires_at: instant(&thing, &expires_at)?,
        }),
        _ => None,
    };
    let raw_line = row.raw_line_offset.zip(row.raw_line_bytes);
    Ok(AttemptLine {
        number: small(row.attempt_number),
        error: error
            .map(|error| word(&thing, error, ErrorType::parse))
            .transpose()?,
        image,
        tokens: Tokens {
            prompt: count(row.tokens_prompt),
            cached: count(row.tokens_cached),
            candidates: count(row.tokens_candidates),
            thoughts: count(row.tokens_thoughts),
            total: count(row.tokens_total),
        },
        cost_nanos: count(row.cost_nanos),
        raw_line: raw_line.map(|(offset, bytes)| RawLine {
            offset: unsigned(offset),
            bytes: unsigned(bytes),
        }),
        created_at: instant(&thing, &row.created_at)?,
        submitted_at: when(&row.submitted_at)?,
        ended_at: when(&row.ended_at)?,
        decided_at: when(&row.decided_at)?,
        key: RecordKey::from(row.record_key),
        batch: BatchId::from(row.batch_id),
        batch_state: row.state,
        job: row.remote_name.map(RemoteName::from),
        recipe: RecipeHash::from(row.recipe_hash),
        model: row.model,
        outcome: row.outcome,
        message: row.message,
        image_file: RemoteName::from(row.image_file),
        lines_sha256: row.lines_sha256.map(Sha256Hex::from),
        lines_file: row.lines_file,
        prompt_sha256: row.prompt_sha256.map(Sha256Hex::from),
        context_sha256: row.context_sha256.map(Sha256Hex::from),
        parameters: row.parameters,
        corrective_text: row.corrective_text,
        checks_failed: row.checks_failed,
        score: row.score,
        finish_reason: row.finish_reason,
        model_version: row.model_version,
        raw_path: row.raw_path,
        report: row.report,
    })
}

/// A failure as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureEntry {
    pub attempt_number: u32,
    /// Absent outside of batches.
    pub batch: Option<BatchId>,
    pub error: ErrorType,
    pub message: String,
    /// The error chain, one cause a line.
    pub chain: String,
    pub raw_text: Option<String>,
    pub extracted_text: Option<String>,
    pub raw_json: Option<String>,
    pub counted: bool,
    pub at: Timestamp,
}

#[derive(FromQueryResult)]
struct FailureRow {
    attempt_number: i64,
    batch_id: String,
    error_type: String,
    error_message: String,
    error_traceback: String,
    raw_response_text: Option<String>,
    extracted_text: Option<String>,
    raw_response_json: Option<String>,
    counted: i64,
    created_at: String,
}

const FAILURES: &str = "
    SELECT attempt_number, batch_id, error_type, error_message, error_traceback, raw_response_text,
           extracted_text, raw_response_json, counted, created_at
    FROM failure_logs WHERE record_key = ?1 ORDER BY id DESC LIMIT ?2";

/// The newest failures of a page, oldest first.
pub async fn failures(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
    limit: u64,
) -> StateResult<Vec<FailureEntry>> {
    let found: Vec<FailureRow> = rows(conn, FAILURES, [text(key), signed(limit).into()]).await?;
    let thing = format!("failure of page '{key}'");
    let entries = found.into_iter().rev().map(|row| {
        Ok(FailureEntry {
            attempt_number: small(row.attempt_number),
            error: word(&thing, &row.error_type, ErrorType::parse)?,
            message: row.error_message,
            chain: row.error_traceback,
            raw_text: row.raw_response_text,
            extracted_text: row.extracted_text,
            raw_json: row.raw_response_json,
            counted: row.counted == 1,
            at: instant(&thing, &row.created_at)?,
            batch: (!row.batch_id.is_empty()).then(|| BatchId::from(row.batch_id)),
        })
    });
    entries.collect::<Result<Vec<FailureEntry>, StateError>>()
}

/// Which stored answers are to be judged once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The newest rejected answer of each page that is not done.
    Rejected,
    /// The newest accepted answer of each page that is done.
    Accepted,
}

impl Stored {
    /// The outcome that such an answer had.
    fn outcome(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Accepted => "accepted",
        }
    }
}

/// The pages of a selection that may have such an answer, in the order of their keys after `after`.
pub async fn pages_with_answers(
    conn: &impl ConnectionTrait,
    selection: &Selection,
    which: Stored,
    after: &str,
    limit: u64,
) -> StateResult<Vec<RecordKey>> {
    let chosen = condition(selection, 1);
    // Few pages fail: their counts lead to them without a look at all the others.
    let (from, of_stage) = match which {
        Stored::Rejected => (
            "failure_counts AS c CROSS JOIN pages AS p ON p.record_key = c.record_key",
            "c.record_key > ?2 AND p.stage <> 'completed'",
        ),
        Stored::Accepted => ("pages AS p", "p.record_key > ?2 AND p.stage = 'completed'"),
    };
    let sql = format!(
        "SELECT p.record_key FROM {from} WHERE {of_stage} AND {}
         ORDER BY p.record_key LIMIT ?3",
        chosen.sql
    );
    let values = [chosen.value, after.into(), signed(limit).into()];
    let found = texts(conn, &sql, values).await?;
    Ok(found.into_iter().map(RecordKey::from).collect())
}

/// The newest such answer of each of these pages that has one, in the order of the keys.
pub async fn answers(
    conn: &impl ConnectionTrait,
    keys: &[RecordKey],
    which: Stored,
) -> StateResult<Vec<AttemptLine>> {
    let list = json_list(keys.iter().map(RecordKey::as_str));
    let found: Vec<AttemptRow> = rows(conn, &answers_sql(), [list, which.outcome().into()]).await?;
    found.into_iter().map(attempt).collect()
}

fn answers_sql() -> String {
    format!(
        "SELECT {ATTEMPT_COLUMNS}
         FROM json_each(?1) AS k
         CROSS JOIN attempts AS a ON a.record_key = k.value AND a.outcome = ?2
         {ATTEMPT_JOINS}
         WHERE a.attempt_number = (SELECT max(m.attempt_number) FROM attempts AS m
                                   WHERE m.record_key = k.value AND m.outcome = ?2)
         ORDER BY a.record_key"
    )
}

/// The questions about one page, by name, so that a test can see how each is answered.
pub fn questions() -> Vec<(&'static str, String)> {
    vec![
        ("events", EVENTS.to_owned()),
        ("event counts", EVENT_COUNTS.to_owned()),
        ("attempts", attempts_sql()),
        ("failures", FAILURES.to_owned()),
        ("answers", answers_sql()),
    ]
}
