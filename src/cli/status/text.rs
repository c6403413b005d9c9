//! The figures as people read them.

use std::io::{self, Write};

use console::measure_text_width;

use super::super::screen::{Columns, Screen, Side, more};
use super::{Facts, View, alarms, counted, held};
use crate::actors::state::desk_status::Desk;
use crate::actors::state::messages::{BatchRow, Summary, Turnaround};
use crate::decide::estimate::{self, Limit};
use crate::domain::batch::{BatchStage, BatchState};
use crate::domain::failure::ErrorType;
use crate::domain::page::PageStage;
use crate::report::words;

/// Where texts begin, behind their labels.
const INDENT: usize = 9;
/// Live batches that are shown; JSON has more.
const LIVE_SHOWN: usize = 10;

/// A label and a text behind it, wrapped at blanks so that it fits the screen.
pub(super) fn line(
    screen: Screen,
    label: &str,
    text: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    labelled(screen, &format!("{label:<INDENT$}"), text, out)
}

/// The same with a label that is as wide as it is to be and may carry colors.
pub(super) fn labelled(
    screen: Screen,
    label: &str,
    text: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    let room = usize::from(screen.width).saturating_sub(INDENT).max(20);
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        let length = measure_text_width(last) + 1 + measure_text_width(word);
        if last.is_empty() {
            last.push_str(word);
        } else if length <= room {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    for (place, part) in lines.iter().enumerate() {
        let before = if place == 0 {
            label.to_owned()
        } else {
            " ".repeat(INDENT)
        };
        writeln!(out, "{}", format!("{before}{part}").trim_end())?;
    }
    Ok(())
}

/// Prints everything there is to show.
pub(super) fn print(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let View {
        summary,
        facts,
        screen,
        at,
    } = *view;
    print_run(view, out)?;
    print_progress(view, out)?;
    // What asks for somebody comes before what a low terminal may cut off.
    alarms::print_alarms(view, out)?;
    print_stages(view, out)?;
    let batches = summary.batches.iter();
    print_list(
        screen,
        "batches",
        batches.map(|(stage, count)| (stage, count)),
        out,
    )?;
    print_live(view, out)?;
    for turnaround in &summary.turnarounds {
        line(screen, "jobs", &turnaround_text(turnaround), out)?;
    }
    if let Some(facts) = facts {
        if let Some(text) = queue_text(facts) {
            line(screen, "queue", &text, out)?;
        }
        if let Some(text) = retries_text(facts) {
            line(screen, "retries", &text, out)?;
        }
    }
    print_resources(view, out)?;
    print_list(
        screen,
        "failures",
        summary.failures.iter().map(|(error, count)| (error, count)),
        out,
    )?;
    print_list(
        screen,
        "not pages",
        summary.oddities.iter().map(|(kind, count)| (kind, count)),
        out,
    )?;
    if let Some(last) = summary.last_event_at {
        line(screen, "last", &screen.when(last, at), out)?;
    }
    Ok(())
}

fn print_run(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let (screen, at) = (view.screen, view.at);
    let Some((run, status, started)) = &view.summary.run else {
        return Ok(());
    };
    let mut text = format!("{run}, {status}, started {}", screen.when(*started, at));
    if let Some(latest) = view.facts.and_then(|facts| facts.desk.run.as_ref()) {
        if let Some(window) = &latest.window {
            text.push_str(&format!(", window {window}"));
        }
        if latest.restarts > 0 {
            text.push_str(&format!(", taken up again {} times", latest.restarts));
        }
        if let Some(label) = &latest.label {
            text.push_str(&format!(", '{label}'"));
        }
    }
    line(screen, "run", &text, out)
}

/// How much is done, and when all may be.
fn print_progress(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let (summary, screen) = (view.summary, view.screen);
    let done = summary.pages_in(PageStage::Completed);
    let total = counted(summary);
    let percent = estimate::permille(done, total);
    let mut text = format!(
        "{} of {} done ({}.{} %)",
        words::count(done),
        words::count(total),
        percent / 10,
        percent % 10
    );
    let skipped = summary.pages_in(PageStage::Skipped);
    if skipped > 0 {
        text.push_str(&format!("; {} skipped not counted", words::count(skipped)));
    }
    line(screen, "pages", &text, out)?;
    match view.facts {
        Some(facts) if facts.measured.left > 0 => {
            line(screen, "eta", &eta_text(facts, screen), out)
        }
        _ => Ok(()),
    }
}

fn eta_text(facts: &Facts, screen: Screen) -> String {
    let measured = &facts.measured;
    let eta = match &facts.eta {
        Ok(eta) => eta,
        Err(why) => return format!("unknown: {}", why.as_str()),
    };
    let (least, most) = (words::span(eta.least), eta.most.map(words::span));
    let between = match most {
        None => format!(", at least {least}"),
        Some(most) if most == least => String::new(),
        Some(most) => format!(", between {least} and {most}"),
    };
    let limit = match eta.limit {
        Limit::Throughput => format!(
            "{} outputs an hour, measured over {} and {}",
            words::count(estimate::hourly(measured.accepted, measured.over).round() as u64),
            words::span(measured.over),
            of(measured.batches, "batches")
        ),
        Limit::Chain => format!(
            "the longest chain has {} pages ahead, each of which takes {}",
            words::count(measured.chain),
            words::span(measured.half.unwrap_or_default())
        ),
    };
    format!(
        "{}{between}: {limit}",
        screen.when(eta.at(facts.at), facts.at)
    )
}

/// A row for each stage that has pages.
fn print_stages(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let headings = [
        ("  stage", Side::Left),
        ("pages", Side::Right),
        ("usual stay", Side::Right),
        ("why", Side::Left),
    ];
    let mut columns = Columns::new(view.screen, &headings);
    for (stage, count) in view
        .summary
        .pages
        .iter()
        .filter(|(_stage, count)| *count > 0)
    {
        let stays = view.facts.map(|facts| facts.desk.stays.as_slice());
        let stay = stays.and_then(|stays| stays.iter().find(|stay| stay.stage == *stage));
        columns.row(&[
            format!("  {stage}"),
            words::count(*count),
            stay.map_or_else(String::new, |stay| words::span(stay.half)),
            why(view, *stage),
        ]);
    }
    if columns.is_empty() {
        return Ok(());
    }
    columns.print(out)
}

fn why(view: &View<'_>, stage: PageStage) -> String {
    let desk = view.facts.map(|facts| &facts.desk);
    match (stage, desk) {
        (PageStage::Discovered, Some(desk)) => why_discovered(view, desk),
        (PageStage::Discovered, None) => why_undone(view.summary),
        (PageStage::Dead | PageStage::Review, Some(desk)) => {
            let faults = desk.faults.iter().filter(|(of, ..)| *of == stage);
            let faults = faults.map(|(_, error, pages)| match error {
                ErrorType::Image => format!("{} image missing or not usable", words::count(*pages)),
                _ => format!("{} {error}", words::count(*pages)),
            });
            faults.collect::<Vec<String>>().join(", ")
        }
        (PageStage::Uploaded, _) => "wait for a batch".to_owned(),
        (PageStage::Skipped, _) => "left out".to_owned(),
        _ => String::new(),
    }
}

fn why_discovered(view: &View<'_>, desk: &Desk) -> String {
    let mut parts = Vec::new();
    let mut part = |pages: u64, words: &str| {
        if pages > 0 {
            parts.push(format!("{} {words}", words::count(pages)));
        }
    };
    part(desk.runnable, "ready");
    let behind = match desk.behind_fault {
        0 => String::new(),
        pages => format!(
            " ({} of them behind a page that is dead or in review)",
            words::count(pages)
        ),
    };
    part(desk.blocked, &format!("wait for the page before{behind}"));
    let first = desk.earliest.map_or_else(String::new, |earliest| {
        format!(", the first in {}", words::span(earliest.since(view.at)))
    });
    part(desk.waiting, &format!("wait for their time{first}"));
    part(
        held(view.summary, desk),
        "held by their batch until it is settled",
    );
    part(desk.elsewhere, "outside today's scope");
    parts.join("; ")
}

fn why_undone(summary: &Summary) -> String {
    let mut parts = Vec::new();
    if summary.blocked > 0 {
        let pages = words::count(summary.blocked);
        parts.push(format!("{pages} wait for the page before"));
    }
    if summary.waiting > 0 {
        let pages = words::count(summary.waiting);
        parts.push(format!("{pages} wait for their time"));
    }
    parts.join("; ")
}

/// A row for each live batch.
fn print_live(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let live = &view.summary.live;
    if live.is_empty() {
        return Ok(());
    }
    let headings = [
        ("  batch", Side::Left),
        ("state", Side::Left),
        ("pages", Side::Right),
        ("age", Side::Left),
        ("provider says", Side::Left),
    ];
    let mut columns = Columns::new(view.screen, &headings);
    for row in live.iter().take(LIVE_SHOWN) {
        let said = row.remote_state.as_deref().unwrap_or("-");
        columns.row(&[
            format!("  {}", row.batch),
            row.state.stage().to_string(),
            words::count(row.members),
            age_text(row, view),
            said.trim_start_matches("BATCH_STATE_").to_owned(),
        ]);
    }
    columns.print(out)?;
    let all: u64 = view
        .summary
        .batches
        .iter()
        .filter(|(stage, _)| is_live(*stage))
        .map(|(_, count)| count)
        .sum();
    let shown = u64::try_from(live.len().min(LIVE_SHOWN)).unwrap_or(all);
    more(shown, all, "pagemill status --json", out)
}

fn is_live(stage: BatchStage) -> bool {
    !matches!(stage, BatchStage::Settled | BatchStage::Abandoned)
}

/// The age of a live batch, held against the jobs of its model that ended.
fn age_text(row: &BatchRow, view: &View<'_>) -> String {
    let age = view.at.since(row.submitted_at.unwrap_or(row.created_at));
    let text = words::span(age);
    match longer_than(row, view.summary, view.at) {
        None | Some((0, _)) => text,
        Some((shorter, of)) => format!("{text}, longer than {shorter} of {of} earlier ones"),
    }
}

/// Than how many of how many earlier jobs of its model a job that runs is older.
pub(super) fn longer_than(
    row: &BatchRow,
    summary: &Summary,
    at: crate::domain::time::Timestamp,
) -> Option<(usize, usize)> {
    if !matches!(row.state, BatchState::Submitted { .. }) || row.terminal_seen_at.is_some() {
        return None;
    }
    let jobs = summary
        .turnarounds
        .iter()
        .find(|jobs| jobs.model == row.model)?;
    estimate::rank(at.since(row.submitted_at?), &jobs.spans)
}

fn turnaround_text(turnaround: &Turnaround) -> String {
    let Turnaround {
        model,
        live,
        live_oldest,
        ended,
        half,
        nine_tenths,
        spans: _,
    } = turnaround;
    let mut parts = Vec::new();
    if let (Some(half), Some(most)) = (half, nine_tenths) {
        parts.push(format!(
            "{} ended, half within {}, nine tenths within {}",
            words::count(*ended as u64),
            words::span(*half),
            words::span(*most)
        ));
    }
    if let Some(oldest) = live_oldest {
        parts.push(format!("{live} live, the oldest {}", words::span(*oldest)));
    }
    format!("{model}: {}", parts.join("; "))
}

/// A count of pages, batches or files; one of them is no plural.
fn of(count: u64, what: &str) -> String {
    let one = match what {
        "batches" => "batch",
        several => several.trim_end_matches('s'),
    };
    format!(
        "{} {}",
        words::count(count),
        if count == 1 { one } else { what }
    )
}

/// What waits at each step of the way; nothing where nothing waits.
fn queue_text(facts: &Facts) -> Option<String> {
    let queue = super::json::queue(facts);
    let waiting = queue.iter().filter(|(_name, count)| *count > 0);
    let parts = waiting.map(|(name, count)| {
        let (what, rest) = name.split_once('_').unwrap_or((name, ""));
        format!("{} {}", of(*count, what), rest.replace('_', " "))
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How many pages are on which of their retries; nothing where none has failed.
fn retries_text(facts: &Facts) -> Option<String> {
    let max = facts.limits.max_retries;
    let mut spent = 0;
    let mut parts = Vec::new();
    for (failures, pages) in &facts.desk.retries {
        if *failures > max {
            spent += pages;
        } else {
            parts.push(format!(
                "{} on retry {failures} of {max}",
                words::count(*pages)
            ));
        }
    }
    if spent > 0 {
        parts.push(format!("{} maxed", words::count(spent)));
    }
    let total: u64 = facts.desk.retries.iter().map(|(_, pages)| pages).sum();
    (total > 0).then(|| {
        format!(
            "{} {} failed so far: {}",
            words::count(total),
            if total == 1 { "page has" } else { "pages have" },
            parts.join(", ")
        )
    })
}

/// What is held at the provider, and what was paid for.
fn print_resources(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let summary = view.summary;
    let budget = view.facts.map_or_else(String::new, |facts| {
        format!(" of {}", words::bytes(facts.limits.storage_budget_bytes))
    });
    let remote = format!(
        "{}{budget} in {}",
        words::bytes(summary.remote_bytes),
        of(summary.remote_files, "files")
    );
    line(view.screen, "remote", &remote, out)?;
    let tokens = &summary.tokens;
    let cost = format!(
        "{} ({} tokens in, {} out, {} thoughts)",
        words::dollars(summary.cost_nanos),
        words::count(tokens.prompt.unwrap_or(0)),
        words::count(tokens.candidates.unwrap_or(0)),
        words::count(tokens.thoughts.unwrap_or(0))
    );
    line(view.screen, "cost", &cost, out)
}

/// Words with their counts; no line when there are none.
fn print_list<'a, W: std::fmt::Display + 'a>(
    screen: Screen,
    label: &str,
    counted: impl Iterator<Item = (&'a W, &'a u64)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let counted: Vec<String> = counted
        .map(|(word, count)| format!("{} {word}", words::count(*count)))
        .collect();
    if counted.is_empty() {
        return Ok(());
    }
    let label = format!("{label:<8} ");
    labelled(screen, &label, &counted.join(", "), out)
}
