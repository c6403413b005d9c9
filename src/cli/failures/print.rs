//! The text form.

use std::io::{self, Write};
use std::path::Path;

use console::Style;
use sea_orm::ConnectionTrait;

use super::raw::{self, Raw};
use super::write::Exported;
use super::{ByLevel, Desk, OnePage, Shown};
use crate::actors::state::desk_failures::{FailureLine, GivenUp, Group};
use crate::cli::screen::{Columns, Screen, Side, cut, more, seconds};
use crate::report::words;

mod lists;

/// What a message is cut to in a list, in characters.
const MESSAGE_CHARACTERS: usize = 100;
/// What an answer is cut to, in characters.
const RAW_CHARACTERS: usize = 2_000;

/// Says on stderr what an export wrote.
pub fn exported(path: &Path, exported: &Exported) -> io::Result<()> {
    let rows = failures(exported.rows);
    let mut err = io::stderr().lock();
    if path != Path::new("-") {
        writeln!(err, "{rows} written to {}", path.display())?;
    }
    if exported.formulas > 0 {
        let cells = words::count(exported.formulas);
        writeln!(
            err,
            "{cells} cells begin as a formula does: for a spreadsheet, add --for-spreadsheets"
        )?;
    }
    Ok(())
}

fn failures(count: u64) -> String {
    match count {
        1 => "1 failure".to_owned(),
        count => format!("{} failures", words::count(count)),
    }
}

/// Prints everything that was asked for, one view after the other.
pub async fn all<C: ConnectionTrait>(
    desk: &Desk<'_, C>,
    shown: &Shown,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut gap = Gap { is_first: true };
    if desk.asked.shows_summary() {
        gap.leave(out)?;
        summary(desk, shown, out).await?;
    }
    if desk.asked.args.views.by_error_type {
        gap.leave(out)?;
        let types = &shown.totals.by_type;
        groups(desk.screen, "error type", types, types.len() as u64, out)?;
    }
    for ByLevel { level, groups, all } in &shown.by_level {
        gap.leave(out)?;
        self::groups(desk.screen, level, groups, *all, out)?;
    }
    if let Some(trend) = &shown.trend {
        gap.leave(out)?;
        lists::trend(desk.screen, trend, &shown.days, out)?;
    }
    if let Some(clusters) = &shown.clusters {
        gap.leave(out)?;
        lists::clusters(clusters, out)?;
    }
    if let Some(page) = &shown.page {
        gap.leave(out)?;
        one_page(desk, page, &shown.latest, out).await?;
    }
    if let Some(pages) = &shown.given_up
        && desk.asked.lists_given_up()
    {
        gap.leave(out)?;
        given_up(shown, pages, out)?;
    }
    Ok(())
}

/// An empty line between two views.
struct Gap {
    is_first: bool,
}

impl Gap {
    fn leave(&mut self, out: &mut impl Write) -> io::Result<()> {
        if std::mem::replace(&mut self.is_first, false) {
            return Ok(());
        }
        writeln!(out)
    }
}

async fn summary<C: ConnectionTrait>(
    desk: &Desk<'_, C>,
    shown: &Shown,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let totals = &shown.totals;
    if totals.total == 0 {
        writeln!(out, "no failures")?;
        return Ok(());
    }
    writeln!(
        out,
        "{} failures on {} pages; {} count against their page; {} pages dead, {} in review",
        words::count(totals.total),
        words::count(totals.pages),
        words::count(totals.counted),
        words::count(totals.dead),
        words::count(totals.review)
    )?;
    for group in &totals.by_type {
        let failures = words::count(group.failures);
        writeln!(out, "  {:<18} {failures:>10}", group.name)?;
    }
    if !shown.latest.is_empty() {
        writeln!(out, "newest:")?;
    }
    for line in &shown.latest {
        let words = format!(
            "{} {} ({} so far) {}",
            seconds(line.at),
            line.key,
            line.failures,
            line.error
        );
        write!(out, "  ")?;
        desk.screen.paragraph(2, &words, out)?;
        writeln!(out, "    {}", cut(&line.message, MESSAGE_CHARACTERS))?;
        raw_of(desk, line, out).await?;
    }
    let shown = shown.latest.len() as u64;
    more(
        shown,
        totals.total,
        "--limit N, or --export-csv FILE for all",
        out,
    )?;
    Ok(())
}

fn groups(
    screen: Screen,
    by: &str,
    groups: &[Group],
    all: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    if groups.is_empty() {
        return writeln!(out, "no failures");
    }
    let headings = [
        (by, Side::Left),
        ("failures", Side::Right),
        ("counted", Side::Right),
        ("pages", Side::Right),
    ];
    let mut columns = Columns::new(screen, &headings);
    for group in groups {
        columns.row(&[
            group.name.clone(),
            words::count(group.failures),
            words::count(group.counted),
            words::count(group.pages),
        ]);
    }
    columns.print(out)?;
    more(groups.len() as u64, all, "--limit N", out)
}

async fn one_page<C: ConnectionTrait>(
    desk: &Desk<'_, C>,
    page: &OnePage,
    lines: &[FailureLine],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match &page.page {
        None => writeln!(out, "{}: the database knows no such page", page.key)?,
        Some(known) => {
            writeln!(out, "{}: {}, {}", page.key, known.stage, known.status)?;
            let counted = u64::try_from(known.failures).unwrap_or(0);
            let (logged, counted) = (failures(lines.len() as u64), words::count(counted));
            writeln!(out, "{logged} logged, {counted} counted against it")?;
        }
    }
    for line in lines.iter().rev() {
        let whence = match &line.batch {
            Some(batch) => format!("attempt {} in batch {batch}", line.attempt_number),
            None => format!("upload {}", line.attempt_number),
        };
        let counted = if line.counted { "" } else { ", not counted" };
        writeln!(
            out,
            "  {} {} {whence}{counted}",
            seconds(line.at),
            line.error
        )?;
        writeln!(out, "    {}", cut(&line.message, MESSAGE_CHARACTERS * 4))?;
        raw_of(desk, line, out).await?;
    }
    if page.attempts.is_empty() {
        return Ok(());
    }
    writeln!(out, "requests:")?;
    for attempt in &page.attempts {
        let reason = attempt.finish_reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        let error = attempt.error_type.as_deref();
        let error = error.map_or_else(String::new, |error| format!(" {error}"));
        writeln!(
            out,
            "  {} attempt {} in batch {}: {}{error}{reason}",
            attempt.created_at, attempt.attempt_number, attempt.batch_id, attempt.outcome
        )?;
    }
    Ok(())
}

fn given_up(shown: &Shown, pages: &[GivenUp], out: &mut impl Write) -> io::Result<()> {
    let (dead, review) = (shown.totals.dead, shown.totals.review);
    writeln!(
        out,
        "{} pages dead, {} in review",
        words::count(dead),
        words::count(review)
    )?;
    for page in pages {
        let error = page.error.map_or("", |error| error.as_str());
        let failures = words::count(page.failures);
        writeln!(
            out,
            "  {} {} {} ({failures} counted) {error}",
            seconds(page.at),
            page.key,
            page.stage
        )?;
        let reason = page.message.as_deref().unwrap_or(&page.status);
        writeln!(out, "    {}", cut(reason, MESSAGE_CHARACTERS))?;
    }
    more(pages.len() as u64, dead + review, "--limit N", out)
}

async fn raw_of<C: ConnectionTrait>(
    desk: &Desk<'_, C>,
    line: &FailureLine,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if !desk.asked.args.raw {
        return Ok(());
    }
    let message = &line.message;
    let Some(Raw { log, line }) = raw::of_line(desk, line).await? else {
        return Ok(());
    };
    let recipe = [&log.prompt_name, &log.model_name, &log.generation_config];
    let recipe: Vec<&str> = recipe.into_iter().flatten().map(String::as_str).collect();
    let text = log.raw_response_text.as_deref();
    let extracted = log.extracted_text.as_deref();
    let extracted = extracted.filter(|extracted| Some(*extracted) != text);
    block(desk.screen, "asked with", Some(&recipe.join(", ")), out)?;
    // The same for every failure of a recipe: it is shown where one page is looked at.
    let template = log.prompt_template.as_deref();
    let template = template.filter(|_template| desk.asked.key.is_some());
    block(desk.screen, "prompt template", template, out)?;
    let chain = Some(log.error_traceback.as_str()).filter(|chain| chain != message);
    block(desk.screen, "error chain", chain, out)?;
    block(desk.screen, "text of the answer", text, out)?;
    block(desk.screen, "text taken for JSON", extracted, out)?;
    block(
        desk.screen,
        "response",
        log.raw_response_json.as_deref(),
        out,
    )?;
    if let Some(place) = line {
        let gone = match &place.text {
            Some(_text) => "",
            None => ", which is not there any more",
        };
        let path = raw::shown(&place.path);
        let text = format!(
            "{path}{gone}: {} bytes from byte {}",
            place.bytes, place.offset
        );
        block(desk.screen, "raw line", Some(&text), out)?;
        if log.raw_response_json.is_none() {
            block(desk.screen, "response", place.text.as_deref(), out)?;
        }
    }
    Ok(())
}

/// A text under its name, line by line, cut to what a screen bears.
fn block(screen: Screen, name: &str, text: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Ok(());
    };
    writeln!(out, "    {}", screen.styled(name, Style::new().bold()))?;
    let short: String = text.chars().take(RAW_CHARACTERS).collect();
    for line in short.lines() {
        writeln!(out, "      {}", crate::cli::screen::one_line(line))?;
    }
    let left = text.chars().count().saturating_sub(RAW_CHARACTERS) as u64;
    if left > 0 {
        let left = words::count(left);
        writeln!(out, "      … and {left} more characters: --json has them")?;
    }
    Ok(())
}
