//! What a report tells, put together once and written by each of the renderers, so that all forms
//! of a report show the same figures.

use std::time::Duration;

use super::document::{Body, Document, Figure, Section, Table, Value};
use super::{batch, words};
use crate::domain::failure::ErrorType;
use crate::domain::figures::{Carried, FailedPage, Figures, Sums, TRIES_APART};
use crate::domain::page::PageStage;
use crate::domain::period::{Step, Zone};
use crate::domain::time::Timestamp;

/// What a report is made from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Such as `Day 2025-01-23`.
    pub title: String,
    /// What the report is about, in names and values, beyond its title.
    pub about: Vec<(&'static str, String)>,
    pub zone: Zone,
    pub made_at: Timestamp,
    /// The name of the top level; absent when there is none above the page.
    pub level: Option<String>,
    pub max_retries: u32,
    pub figures: Figures,
}

/// Levels that are shown; the others are added up.
const LEVELS_MAX: usize = 50;

/// Errors that say that the provider would not answer for what is on the page.
pub fn is_refusal(error: ErrorType) -> bool {
    match error {
        ErrorType::ContentFiltered | ErrorType::Recitation => true,
        ErrorType::JsonDecode
        | ErrorType::Validation
        | ErrorType::Value
        | ErrorType::MissingResponse
        | ErrorType::AmbiguousResponse
        | ErrorType::Api
        | ErrorType::Truncated
        | ErrorType::Repetition
        | ErrorType::Upload
        | ErrorType::Image => false,
    }
}

/// Puts a report together.
pub fn document(facts: &Facts) -> Document {
    let Facts {
        title,
        about,
        zone,
        made_at,
        level,
        max_retries,
        figures,
    } = facts;
    let mut about = about.clone();
    about.push(("made at", zone.show(*made_at)));
    let mut sections = vec![outcomes(&figures.sums)];
    sections.push(by_part(figures));
    sections.push(cost(&figures.sums));
    sections.push(tokens(&figures.sums));
    sections.push(errors(figures));
    let (refused, failed): (Vec<&FailedPage>, Vec<&FailedPage>) = figures
        .failed
        .iter()
        .partition(|page| is_refusal(page.error));
    let left_out = figures.failed_total - count(figures.failed.len());
    sections.push(failures(figures));
    sections.push(failed_pages(
        "failed_pages",
        "Failed pages",
        &failed,
        *max_retries,
        left_out,
    ));
    sections.push(failed_pages(
        "refused_pages",
        "Pages whose content was refused by the provider",
        &refused,
        *max_retries,
        0,
    ));
    sections.push(by_try(figures));
    sections.push(pages(figures));
    sections.push(batches(figures));
    sections.push(took(figures));
    if let Some(level) = level {
        sections.push(by_level(figures, level));
    }
    sections.push(by_recipe(figures));
    sections.push(carried(figures));
    sections.push(late(figures));
    // What has nothing to tell is left out, except what everybody looks for.
    let always = ["outcomes", "cost", "tokens", "failed_pages"];
    sections.retain(|section| always.contains(&section.name) || !section.is_empty());
    Document {
        title: title.clone(),
        summary: summary(&figures.sums),
        about,
        sections,
    }
}

/// The sentence that stands at the top.
pub fn summary(sums: &Sums) -> String {
    let tally = &sums.tally;
    let failed = tally.failed + tally.missing;
    let mut sentence = format!(
        "Processed {} {}: {} succeeded, {} failed.",
        words::count(tally.succeeded + failed),
        if tally.succeeded + failed == 1 {
            "record"
        } else {
            "records"
        },
        words::count(tally.succeeded),
        words::count(failed)
    );
    let mut others = Vec::new();
    if tally.released > 0 {
        others.push(format!(
            "{} given back uncounted",
            words::count(tally.released)
        ));
    }
    if tally.open > 0 {
        others.push(format!("{} still open", words::count(tally.open)));
    }
    if !others.is_empty() {
        sentence.push_str(&format!(" Beside them {}.", others.join(", ")));
    }
    sentence
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn figure(name: &'static str, label: &'static str, value: Value) -> Figure {
    Figure { name, label, value }
}

fn section(name: &'static str, title: &str, note: Option<&str>, body: Body) -> Section {
    Section {
        name,
        title: title.to_owned(),
        note: note.map(str::to_owned),
        body,
    }
}

fn table(columns: &[(&'static str, &str)], rows: Vec<Vec<Value>>) -> Body {
    let columns = columns.iter();
    Body::Table(Table {
        columns: columns
            .map(|(name, label)| (*name, (*label).to_owned()))
            .collect(),
        rows,
    })
}

fn outcomes(sums: &Sums) -> Section {
    let tally = &sums.tally;
    let figures = vec![
        figure("requests", "requests", Value::Count(tally.submitted)),
        figure("succeeded", "succeeded", Value::Count(tally.succeeded)),
        figure("failed", "failed", Value::Count(tally.failed)),
        figure("missing", "without an answer", Value::Count(tally.missing)),
        figure(
            "released",
            "given back uncounted",
            Value::Count(tally.released),
        ),
        figure("open", "still open", Value::Count(tally.open)),
    ];
    section(
        "outcomes",
        "Requests",
        Some("A request is one page in one batch."),
        Body::Figures(figures),
    )
}

/// The columns of sums, without the name of the row.
const SUM_COLUMNS: [(&str, &str); 7] = [
    ("requests", "requests"),
    ("succeeded", "succeeded"),
    ("failed", "failed"),
    ("released", "given back"),
    ("open", "open"),
    ("tokens", "tokens"),
    ("cost", "cost"),
];

/// The values of [`SUM_COLUMNS`]: what has no answer counts as failed.
fn sum_values(sums: &Sums) -> Vec<Value> {
    let tally = &sums.tally;
    vec![
        Value::Count(tally.submitted),
        Value::Count(tally.succeeded),
        Value::Count(tally.failed + tally.missing),
        Value::Count(tally.released),
        Value::Count(tally.open),
        Value::Count(sums.tokens.total.unwrap_or(0)),
        Value::Money(sums.cost_nanos),
    ]
}

fn sums_table(
    named: &[(&'static str, &str)],
    rows: impl Iterator<Item = (Vec<Value>, Sums)>,
) -> Body {
    let columns: Vec<(&'static str, &str)> = named.iter().chain(&SUM_COLUMNS).copied().collect();
    let rows = rows.map(|(mut values, sums)| {
        values.extend(sum_values(&sums));
        values
    });
    table(&columns, rows.collect())
}

fn by_part(figures: &Figures) -> Section {
    let (name, title) = match figures.parts.step {
        Step::Hour => ("hour", "By hour of submission"),
        Step::Day => ("day", "By day of submission"),
        Step::Month => ("month", "By month of submission"),
    };
    let parts = figures.parts.parts.iter().zip(&figures.by_part);
    let rows = parts.map(|((part, _stretch), sums)| {
        let named = vec![Value::Text(part.clone()), Value::Count(sums.batches)];
        (named, *sums)
    });
    let body = sums_table(&[(name, name), ("batches", "batches")], rows);
    let note =
        "Everything about a batch is booked to the time of its submission, late answers too.";
    section("by_time", title, Some(note), body)
}

fn cost(sums: &Sums) -> Section {
    let per_page = match sums.tally.succeeded {
        0 => Value::Unknown,
        succeeded => Value::Money(sums.cost_nanos / succeeded),
    };
    let figures = vec![
        figure("cost", "cost", Value::Money(sums.cost_nanos)),
        figure("cost_per_page", "cost of a succeeded page", per_page),
    ];
    let note = "Computed from the tokens and the price list; it is no bill.";
    section("cost", "Cost", Some(note), Body::Figures(figures))
}

fn tokens(sums: &Sums) -> Section {
    let tokens = &sums.tokens;
    let known = |count: Option<u64>| Value::Count(count.unwrap_or(0));
    let figures = vec![
        figure("prompt", "in", known(tokens.prompt)),
        figure("cached", "of these cached", known(tokens.cached)),
        figure("candidates", "out", known(tokens.candidates)),
        figure("thoughts", "thoughts", known(tokens.thoughts)),
        figure("total", "in all", known(tokens.total)),
    ];
    section("tokens", "Tokens", None, Body::Figures(figures))
}

fn errors(figures: &Figures) -> Section {
    let rows = figures.errors.iter().map(|count| {
        vec![
            Value::Text(count.error.to_string()),
            Value::Count(count.counted + count.uncounted),
            Value::Count(count.counted),
            Value::Count(count.uncounted),
        ]
    });
    let columns = [
        ("error", "error"),
        ("failures", "failures"),
        ("counted", "counted"),
        ("uncounted", "not the page's fault"),
    ];
    section(
        "errors",
        "Failures by type",
        None,
        table(&columns, rows.collect()),
    )
}

fn failures(figures: &Figures) -> Section {
    let Figures {
        failed_total,
        failed_dead,
        failed_done,
        ..
    } = figures;
    let again = failed_total.saturating_sub(failed_dead + failed_done);
    let body = Body::Figures(vec![
        figure("pages", "pages that failed", Value::Count(*failed_total)),
        figure("done", "of these done since", Value::Count(*failed_done)),
        figure("again", "tried again", Value::Count(again)),
        figure("given_up", "not sent again", Value::Count(*failed_dead)),
    ]);
    section("failures", "What became of failed pages", None, body)
}

/// The longest message that is shown, in characters; the whole one is in `failure_logs`.
const MESSAGE_CHARACTERS: usize = 200;

fn failed_pages(
    name: &'static str,
    title: &str,
    pages: &[&FailedPage],
    max_retries: u32,
    left_out: u64,
) -> Section {
    let rows = pages.iter().map(|page| {
        vec![
            Value::Text(page.key.to_string()),
            Value::Text(page.error.to_string()),
            Value::Text(cut(&page.message)),
            Value::Text(standing(page, max_retries)),
        ]
    });
    let columns = [
        ("page", "page"),
        ("error", "error"),
        ("message", "message"),
        ("standing", "retries"),
    ];
    let left_out = (left_out > 0).then(|| {
        let left_out = words::count(left_out);
        format!("{left_out} more are not shown; see pagemill failures, or use --limit.")
    });
    let none = pages.is_empty().then_some("No page failed.");
    let note = left_out.as_deref().or(none);
    section(name, title, note, table(&columns, rows.collect()))
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARACTERS) {
        Some((end, _next)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// How far a failed page is.
pub fn standing(page: &FailedPage, max_retries: u32) -> String {
    match page.stage {
        None => "no longer known".to_owned(),
        Some(PageStage::Completed) => "done since".to_owned(),
        Some(PageStage::Skipped) => "skipped".to_owned(),
        Some(stage) if page.failures == 0 && stage != PageStage::Dead => "runs again".to_owned(),
        Some(stage) => batch::retries(page.failures, stage, max_retries),
    }
}

fn by_try(figures: &Figures) -> Section {
    let rows = figures.by_try.iter().map(|(number, sums)| {
        let name = match *number {
            number if number >= TRIES_APART => format!("{number} or more"),
            number => number.to_string(),
        };
        (vec![Value::Text(name)], *sums)
    });
    let body = sums_table(&[("try", "try")], rows);
    section("by_try", "Retries: requests by try", None, body)
}

fn pages(figures: &Figures) -> Section {
    let rows = figures.pages.iter().map(|(stage, count)| {
        let name = Value::Text(stage.as_str().to_owned());
        vec![name, Value::Count(*count)]
    });
    let columns = [("stage", "stage"), ("pages", "pages")];
    let note = "Where the pages concerned stand now.";
    let body = table(&columns, rows.collect());
    section("pages", "Pages by stage", Some(note), body)
}

fn batches(figures: &Figures) -> Section {
    let rows = figures.batches.iter().map(|(stage, count)| {
        let name = Value::Text(stage.as_str().to_owned());
        vec![name, Value::Count(*count)]
    });
    let columns = [("state", "state"), ("batches", "batches")];
    section("batches", "Batches", None, table(&columns, rows.collect()))
}

fn took(figures: &Figures) -> Section {
    let took = &figures.took;
    let known = |span: Option<Duration>| span.map_or(Value::Unknown, Value::Span);
    let body = Body::Figures(vec![
        figure("ended", "jobs that ended", Value::Count(took.ended)),
        figure("shortest", "the shortest took", known(took.shortest)),
        figure("half", "half within", known(took.half)),
        figure("nine_tenths", "nine tenths within", known(took.nine_tenths)),
        figure("longest", "the longest took", known(took.longest)),
    ]);
    let note = "From a job's submission to its end.";
    section("turnaround", "Turnaround of batches", Some(note), body)
}

fn by_level(figures: &Figures, level: &str) -> Section {
    let mut levels = figures.by_level.clone();
    if levels.len() > LEVELS_MAX {
        let mut others = Sums::default();
        for (_level, sums) in levels.drain(LEVELS_MAX..) {
            others.add(&sums);
        }
        levels.push(("(all others)".to_owned(), others));
    }
    let rows = levels.into_iter();
    let rows = rows.map(|(name, sums)| (vec![Value::Text(name)], sums));
    let body = sums_table(&[("level", level)], rows);
    section("by_level", &format!("By {level}"), None, body)
}

fn by_recipe(figures: &Figures) -> Section {
    let rows = figures.by_recipe.iter().map(|recipe| {
        let hash: String = recipe.recipe.as_str().chars().take(12).collect();
        let named = vec![
            Value::Text(hash),
            Value::Text(recipe.prompt_name.clone()),
            Value::Text(recipe.model.clone()),
            Value::Count(recipe.sums.batches),
        ];
        (named, recipe.sums)
    });
    let named = [
        ("recipe", "recipe"),
        ("prompt", "prompt"),
        ("model", "model"),
        ("batches", "batches"),
    ];
    section("by_recipe", "By recipe", None, sums_table(&named, rows))
}

fn carried(figures: &Figures) -> Section {
    let row = |name: &str, carried: &Carried| {
        vec![
            Value::Text(name.to_owned()),
            Value::Count(carried.files),
            Value::Bytes(carried.bytes),
        ]
    };
    let rows = vec![
        row("images up", &figures.images),
        row("request lines up", &figures.lines),
        row("results down", &figures.results),
    ];
    let is_nothing = rows.iter().all(|row| row[1] == Value::Count(0));
    let rows = if is_nothing { Vec::new() } else { rows };
    let columns = [("what", "what"), ("files", "files"), ("bytes", "bytes")];
    section("transfer", "Files up and down", None, table(&columns, rows))
}

fn late(figures: &Figures) -> Section {
    let late = &figures.late;
    let body = Body::Figures(vec![
        figure(
            "answers",
            "answers that came late",
            Value::Count(late.answers),
        ),
        figure("accepted", "of these taken", Value::Count(late.accepted)),
        figure(
            "paid_twice",
            "of these paid a second time",
            Value::Count(late.paid_twice),
        ),
    ]);
    section("late", "Late answers", None, body)
}
