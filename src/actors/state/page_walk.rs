//! Pages one after the other, by key, for who takes them all away: `pagemill export`.

use std::collections::{HashMap, VecDeque};

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::messages::StateResult;
use super::selection::condition;
use super::sql::{json_list, rows, signed, text, unsigned};
use crate::domain::page::PageStage;
use crate::domain::selection::Selection;
use crate::domain::time::Timestamp;

/// Pages that are given at once.
const TOGETHER: u64 = 500;

/// Pages of one stage, or those on the work list that have something in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageChoice {
    Stage(PageStage),
    /// On the work list, and nothing keeps it from being sent.
    Ready,
    /// On the work list, behind another page.
    Blocked,
    /// On the work list, but not before an instant.
    Waiting,
}

impl PageChoice {
    /// The words for pages on the work list, beside those of the stages.
    pub const OF_WORK_LIST: [(&'static str, PageChoice); 3] = [
        ("ready", PageChoice::Ready),
        ("blocked", PageChoice::Blocked),
        ("waiting", PageChoice::Waiting),
    ];

    fn condition(self) -> String {
        match self {
            Self::Stage(stage) => format!("p.stage = '{stage}'"),
            Self::Ready => "p.stage = 'discovered' AND p.batch_id IS NULL AND p.waits_for IS NULL
                            AND (p.not_before IS NULL OR p.not_before <= ?3)"
                .to_owned(),
            Self::Blocked => "p.stage = 'discovered' AND p.waits_for IS NOT NULL".to_owned(),
            Self::Waiting => "p.stage = 'discovered' AND p.waits_for IS NULL
                              AND p.not_before > ?3"
                .to_owned(),
        }
    }
}

/// A page as it is taken away.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct PageFacts {
    pub record_key: String,
    pub stage: String,
    pub status: String,
    pub priority: i64,
    /// Counted against it.
    pub failures: i64,
    /// Requests in batches.
    pub attempts: i64,
    pub error: Option<String>,
    pub waits_for: Option<String>,
    pub not_before: Option<String>,
    pub batch_id: Option<String>,
    pub run_id: Option<String>,
    pub recipe_hash: Option<String>,
    pub image_mime: Option<String>,
    pub image_bytes: Option<i64>,
    pub image_width: Option<i64>,
    pub image_height: Option<i64>,
    pub image_sha256: Option<String>,
    pub image_file: Option<String>,
    pub image_expires_at: Option<String>,
    pub output_sha256: Option<String>,
    pub output_bytes: Option<i64>,
    pub created_at: String,
    pub updated_at: String,
}

const COLUMNS: &str = "p.record_key, p.stage, p.status, p.priority,
    coalesce((SELECT c.count FROM failure_counts AS c WHERE c.record_key = p.record_key), 0)
        AS failures,
    (SELECT count(*) FROM attempts AS a WHERE a.record_key = p.record_key) AS attempts,
    p.error, p.waits_for, p.not_before, p.batch_id, p.run_id, p.recipe_hash, p.image_mime,
    p.image_bytes, p.image_width, p.image_height, p.image_sha256, p.image_file,
    p.image_expires_at, p.output_sha256, p.output_bytes, p.created_at, p.updated_at";

/// A walk over pages in the order of their keys. It keeps the place that it has come to, and is
/// given the connection for each step; in one transaction, it is one consistent look.
pub struct PageWalk {
    /// Keys that were named come in portions, everything else in one.
    left: VecDeque<Selection>,
    choices: Vec<PageChoice>,
    now: Timestamp,
    after: Option<String>,
}

impl PageWalk {
    /// A walk over the pages of a selection; `choices` may be empty: then every stage is meant.
    pub fn new(selection: &Selection, choices: &[PageChoice], now: Timestamp) -> Self {
        let mut keys = selection.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        let portions = keys.chunks(TOGETHER as usize).map(|keys| Selection {
            keys: keys.to_vec(),
            choices: selection.choices.clone(),
        });
        let mut left: VecDeque<Selection> = portions.collect();
        if left.is_empty() {
            left.push_back(selection.clone());
        }
        PageWalk {
            left,
            choices: choices.to_vec(),
            now,
            after: None,
        }
    }

    /// The next pages; none when the walk is over.
    pub async fn next(&mut self, conn: &impl ConnectionTrait) -> StateResult<Vec<PageFacts>> {
        while let Some(selection) = self.left.front() {
            let (sql, values) = self.statement(selection);
            let found: Vec<PageFacts> = rows(conn, &sql, values).await?;
            match found.last() {
                Some(last) => {
                    self.after = Some(last.record_key.clone());
                    return Ok(found);
                }
                None => {
                    self.left.pop_front();
                    self.after = None;
                }
            }
        }
        Ok(Vec::new())
    }

    /// The statement of the next step; public for the test of its plan.
    pub fn statement(&self, selection: &Selection) -> (String, [sea_orm::Value; 4]) {
        let mut selected = condition(selection, 1);
        if self.after.is_some() {
            // Two lower ends would leave SQLite to choose one, and it may choose the first page.
            let lower = "p.record_key >=";
            selected.sql = selected.sql.replace(lower, "+p.record_key >=");
        }
        let stages: Vec<String> = self
            .choices
            .iter()
            .map(|choice| format!("({})", choice.condition()))
            .collect();
        let stages = if stages.is_empty() {
            "true".to_owned()
        } else {
            stages.join(" OR ")
        };
        let after = match &self.after {
            Some(_key) => "p.record_key > ?2",
            None => "?2 IS NOT NULL",
        };
        // The plus keeps SQLite on the keys: they come in order, and nothing is sorted.
        let stages = stages.replace("p.stage", "+p.stage");
        let sql = format!(
            "SELECT {COLUMNS} FROM pages AS p
             WHERE {after} AND {} AND ({stages}) AND ?3 IS NOT NULL
             ORDER BY p.record_key LIMIT ?4",
            selected.sql
        );
        let after = self.after.clone().unwrap_or_default();
        let values = [
            selected.value,
            after.into(),
            text(self.now),
            signed(TOGETHER).into(),
        ];
        (sql, values)
    }
}

/// One request for a page.
#[derive(Debug, Clone, PartialEq, FromQueryResult)]
pub struct RequestFacts {
    pub record_key: String,
    pub batch_id: String,
    pub remote_name: Option<String>,
    pub attempt_number: i64,
    pub outcome: String,
    pub error_type: Option<String>,
    pub finish_reason: Option<String>,
    pub model_version: Option<String>,
    pub tokens_prompt: Option<i64>,
    pub tokens_cached: Option<i64>,
    pub tokens_candidates: Option<i64>,
    pub tokens_thoughts: Option<i64>,
    pub tokens_total: Option<i64>,
    pub cost_nanos: Option<i64>,
    pub raw_path: Option<String>,
    pub raw_line_offset: Option<i64>,
    pub raw_line_bytes: Option<i64>,
    pub submitted_at: Option<String>,
    pub decided_at: Option<String>,
}

const REQUESTS: &str = "
    SELECT a.record_key, a.batch_id, s.remote_name, a.attempt_number, a.outcome, a.error_type,
           a.finish_reason, a.model_version, a.tokens_prompt, a.tokens_cached,
           a.tokens_candidates, a.tokens_thoughts, a.tokens_total, a.cost_nanos, s.raw_path,
           a.raw_line_offset, a.raw_line_bytes, s.submitted_at, a.decided_at
    FROM attempts AS a JOIN submissions AS s ON s.batch_id = a.batch_id
    WHERE a.record_key IN (SELECT value FROM json_each(?1))
    ORDER BY a.record_key, a.attempt_number, a.created_at, a.batch_id";

/// One failure of a page, without its answer.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ErrorFacts {
    pub record_key: String,
    pub batch_id: String,
    pub attempt_number: i64,
    pub error_type: String,
    pub error_message: Vec<u8>,
    pub counted: i64,
    pub created_at: String,
}

impl ErrorFacts {
    /// The message; what is not UTF-8 in it shows as U+FFFD.
    pub fn message(&self) -> String {
        String::from_utf8_lossy(&self.error_message).into_owned()
    }
}

const ERRORS: &str = "
    SELECT record_key, batch_id, attempt_number, error_type,
           CAST(error_message AS BLOB) AS error_message, counted, created_at
    FROM failure_logs WHERE record_key IN (SELECT value FROM json_each(?1))
    ORDER BY record_key, id";

#[derive(FromQueryResult)]
struct UploadsRow {
    record_key: String,
    uploads: i64,
}

const UPLOADS: &str = "
    SELECT record_key, count(*) AS uploads FROM page_events
    WHERE record_key IN (SELECT value FROM json_each(?1)) AND event = 'upload_started'
    GROUP BY record_key";

/// What belongs to some pages, by key.
#[derive(Debug, Clone, Default)]
pub struct PageDetails {
    pub requests: HashMap<String, Vec<RequestFacts>>,
    pub errors: HashMap<String, Vec<ErrorFacts>>,
    /// How often its upload was begun.
    pub uploads: HashMap<String, u64>,
}

/// Everything that belongs to some pages.
pub async fn details(conn: &impl ConnectionTrait, pages: &[PageFacts]) -> StateResult<PageDetails> {
    let list = json_list(pages.iter().map(|page| page.record_key.as_str()));
    let mut details = PageDetails::default();
    let requests: Vec<RequestFacts> = rows(conn, REQUESTS, [list.clone()]).await?;
    for request in requests {
        let of_page = details.requests.entry(request.record_key.clone());
        of_page.or_default().push(request);
    }
    let errors: Vec<ErrorFacts> = rows(conn, ERRORS, [list.clone()]).await?;
    for error in errors {
        let of_page = details.errors.entry(error.record_key.clone());
        of_page.or_default().push(error);
    }
    let uploads: Vec<UploadsRow> = rows(conn, UPLOADS, [list]).await?;
    for row in uploads {
        details
            .uploads
            .insert(row.record_key, unsigned(row.uploads));
    }
    Ok(details)
}

/// What a recipe is called.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct RecipeName {
    pub recipe_hash: String,
    pub prompt_name: String,
    pub model: String,
}

/// All recipes by their hash; there are few.
pub async fn recipes(conn: &impl ConnectionTrait) -> StateResult<HashMap<String, RecipeName>> {
    let sql = "SELECT recipe_hash, prompt_name, model FROM recipes";
    let found: Vec<RecipeName> = rows(conn, sql, []).await?;
    let named = found.into_iter();
    Ok(named
        .map(|recipe| (recipe.recipe_hash.clone(), recipe))
        .collect())
}
