//! Everything about one page, read once.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;

use super::ShowArgs;
use super::files::{self, FileLine};
use crate::actors::state::desk_page::{self, PageSheet};
use crate::actors::state::desk_story::{self, AttemptLine, EventLine, FailureEntry};
use crate::actors::state::messages::RecipeRow;
use crate::cli::explain::facts::Look;
use crate::decide::explain::Explanation;
use crate::domain::image::{ImageFacts, ImageFault};
use crate::ports::page_source::PageSource;

/// Attempts and failures that are shown; no page comes near it.
const ATTEMPTS_MAX: u64 = 1_000;

/// The whole story of a page.
pub struct Story {
    pub sheet: PageSheet,
    pub why: Explanation,
    /// As its label has it.
    pub title: Option<String>,
    pub image: Result<(PathBuf, ImageFacts), ImageFault>,
    pub files: Vec<FileLine>,
    pub counters: Counters,
    /// The newest, oldest first, and how many there are.
    pub events: Vec<EventLine>,
    pub events_total: u64,
    pub attempts: Vec<AttemptLine>,
    /// The number of each attempt, by its batch.
    numbers: HashMap<String, u32>,
    pub failures: Vec<FailureEntry>,
    /// The recipe that it was last asked by.
    pub recipe: Option<RecipeRow>,
}

impl Story {
    /// The number of the attempt that a batch was for this page.
    pub fn attempt_of(&self, batch: &str) -> Option<u32> {
        self.numbers.get(batch).copied()
    }
}

/// How often a page went through each stage, and what that took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub uploads: u64,
    pub submissions: u64,
    pub validations: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub tokens_thoughts: u64,
    pub cost_nanos: u64,
}

/// Reads the story of a page.
pub async fn gather(look: &Look<'_>, sheet: PageSheet, args: &ShowArgs) -> anyhow::Result<Story> {
    let (conn, key) = (look.connection, &sheet.key);
    let counts = desk_story::event_counts(conn, key).await?;
    let mut attempts = desk_story::attempts(conn, key, ATTEMPTS_MAX).await?;
    let mut failures = desk_story::failures(conn, key, ATTEMPTS_MAX).await?;
    let counters = counters(&sheet, &counts, &attempts);
    let numbers = attempts.iter();
    let numbers = numbers
        .map(|attempt| (attempt.batch.to_string(), attempt.number))
        .collect();
    if let Some(wanted) = args.attempt {
        attempts.retain(|attempt| attempt.number == wanted);
        failures.retain(|failure| failure.attempt_number == wanted);
    }
    let recipe = attempts.last().map(|attempt| attempt.recipe.clone());
    let recipe = match recipe.or_else(|| sheet.recipe.clone()) {
        Some(hash) => desk_page::recipe(conn, &hash).await?,
        None => None,
    };
    let image = look.files.image(key).await;
    Ok(Story {
        why: look.explain(&sheet).await?,
        title: title(look, &sheet).await,
        files: files::of_page(look, &sheet, &image, &attempts),
        image,
        counters,
        numbers,
        events: desk_story::events(conn, key, u64::from(args.events)).await?,
        events_total: counts.iter().map(|(_event, count)| count).sum(),
        attempts,
        failures,
        recipe,
        sheet,
    })
}

/// The title that the label gives the page.
async fn title(look: &Look<'_>, sheet: &PageSheet) -> Option<String> {
    let label = look.files.label(&sheet.key).await.ok()?;
    let label: Value = serde_json::from_slice(&label).ok()?;
    let title = label.get("title").or_else(|| label.get("name"))?;
    title.as_str().map(str::to_owned)
}

fn counters(sheet: &PageSheet, events: &[(String, u64)], attempts: &[AttemptLine]) -> Counters {
    let of = |words: &[&str]| -> u64 {
        let counted = events.iter().filter(|(event, _)| words.contains(&&**event));
        counted.map(|(_event, count)| count).sum()
    };
    let stored = of(&["upload_stored"]);
    let image_bytes = sheet.image.as_ref().map_or(0, |image| image.bytes);
    let mut counters = Counters {
        uploads: of(&["upload_started"]),
        validations: of(&["accepted", "rejected"]),
        bytes_up: stored * image_bytes,
        ..Counters::default()
    };
    for attempt in attempts {
        counters.submissions += u64::from(attempt.submitted_at.is_some());
        counters.bytes_down += attempt.raw_line.map_or(0, |line| line.bytes);
        counters.tokens_in += attempt.tokens.prompt.unwrap_or(0);
        counters.tokens_out += attempt.tokens.candidates.unwrap_or(0);
        counters.tokens_thoughts += attempt.tokens.thoughts.unwrap_or(0);
        counters.cost_nanos += attempt.cost_nanos.unwrap_or(0);
    }
    counters
}
