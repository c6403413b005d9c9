//! The story of a page as text.

use std::io::{self, Write};

use super::story::Story;
use super::{command, files, timeline};
use crate::actors::state::desk_story::{AttemptLine, FailureEntry};
use crate::cli::explain::facts::Look;
use crate::cli::explain::tell;
use crate::cli::screen::{Columns, Screen, Side, cut, one_line, seconds};
use crate::domain::attempt::Tokens;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::report::words;

/// From this width on an event stands on one line.
const WIDE: u16 = 110;
/// The width of the names of lines, and of files.
const NAME_WIDTH: usize = 11;
const FILE_WIDTH: usize = 15;
/// How much of an answer's text is shown with a failure, in characters.
const TEXT_CHARACTERS: usize = 300;
/// Causes of one failure that are shown.
const CAUSES: usize = 5;

/// Prints the text form.
pub fn story(
    look: &Look<'_>,
    story: &Story,
    screen: Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    tell(&story.why, screen, look.at, out)?;
    identity(look, story, screen, out)?;
    files(story, screen, out)?;
    events(look, story, screen, out)?;
    for attempt in &story.attempts {
        self::attempt(look, story, attempt, screen, out)?;
    }
    for failure in &story.failures {
        self::failure(look, story, failure, screen, out)?;
    }
    let key = &story.sheet.key;
    writeln!(out)?;
    writeln!(out, "{:<11} {}", "asked", command(key, &["--request"]))?;
    writeln!(out, "{:<11} {}", "answered", command(key, &["--raw"]))
}

/// A line with its name.
fn line(screen: Screen, name: &str, text: &str, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{name:<NAME_WIDTH$} ")?;
    screen.paragraph(NAME_WIDTH + 1, &one_line(text), out)
}

fn identity(
    look: &Look<'_>,
    story: &Story,
    screen: Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    let (sheet, now) = (&story.sheet, look.at);
    let names = look.settings.paths.layout.names().iter();
    let levels: Vec<String> = names
        .zip(&sheet.levels)
        .map(|(name, level)| format!("{name} {level}"))
        .collect();
    writeln!(out)?;
    if let Some(title) = &story.title {
        line(screen, "title", title, out)?;
    }
    line(screen, "page", &levels.join(", "), out)?;
    line(
        screen,
        "stage",
        &format!(
            "{}, {}",
            sheet.stage,
            screen.without_colors().when(sheet.since, now)
        ),
        out,
    )?;
    line(screen, "status", &sheet.status, out)?;
    line(
        screen,
        "known",
        &screen.without_colors().when(sheet.created_at, now),
        out,
    )?;
    if let Some(run) = &sheet.run {
        line(screen, "run", run.as_str(), out)?;
    }
    if let Some(window) = &sheet.window {
        line(screen, "window", window, out)?;
    }
    if sheet.priority != 0 {
        let priority = if sheet.priority > 0 { "high" } else { "low" };
        line(screen, "priority", priority, out)?;
    }
    chain(story, screen, out)?;
    if let Some(recipe) = &story.recipe {
        line(
            screen,
            "recipe",
            &format!(
                "{} {}, {}",
                recipe.prompt_name,
                short(recipe.hash.as_str()),
                recipe.model
            ),
            out,
        )?;
    }
    image(story, screen, out)?;
    counters(look, story, screen, out)
}

/// The pages before and behind it.
fn chain(story: &Story, screen: Screen, out: &mut impl Write) -> io::Result<()> {
    let sheet = &story.sheet;
    if let Some(before) = &sheet.predecessor {
        let waits = sheet.waits_for.as_ref() == Some(before);
        let note = if waits { ", waited for" } else { "" };
        line(screen, "page before", &format!("{before}{note}"), out)?;
    }
    if sheet.chain_ahead > 0 && sheet.stage != PageStage::Completed {
        let behind = words::count(u64::from(sheet.chain_ahead));
        line(
            screen,
            "behind it",
            &format!("{behind} pages can only run after it"),
            out,
        )?;
    }
    Ok(())
}

fn image(story: &Story, screen: Screen, out: &mut impl Write) -> io::Result<()> {
    let (path, facts) = match &story.image {
        Ok(found) => found,
        Err(fault) => return line(screen, "image", &fault.to_string(), out),
    };
    let text = format!(
        "{}, {}, {} x {} pixels",
        facts.mime.as_str(),
        words::bytes(facts.bytes),
        facts.width,
        facts.height
    );
    line(screen, "image", &text, out)?;
    line(screen, "", &files::shown(path), out)?;
    line(screen, "sha256", facts.sha256.as_str(), out)?;
    let sent = story.sheet.image.as_ref();
    if sent.is_some_and(|sent| sent.sha256 != facts.sha256) {
        line(screen, "", "it is another one than was sent", out)?;
    }
    Ok(())
}

fn counters(
    look: &Look<'_>,
    story: &Story,
    screen: Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    let (counters, failures) = (&story.counters, story.sheet.failures);
    let counted = |number: u64, one: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{} {one}{plural}", words::count(number))
    };
    let retries = u64::from(look.settings.execution.max_retries);
    let text = [
        counted(counters.uploads, "upload"),
        counted(counters.submissions, "submission"),
        counted(counters.validations, "validation"),
        format!(
            "{} counted with {} allowed",
            counted(failures, "failure"),
            counted(retries, "retry").replace("retrys", "retries")
        ),
    ];
    line(screen, "counters", &text.join(", "), out)?;
    let used = format!(
        "{} tokens in, {} out, {} thoughts; {}; {} up, {} down",
        words::count(counters.tokens_in),
        words::count(counters.tokens_out),
        words::count(counters.tokens_thoughts),
        words::dollars(counters.cost_nanos),
        words::bytes(counters.bytes_up),
        words::bytes(counters.bytes_down)
    );
    line(screen, "used", &used, out)
}

fn files(story: &Story, screen: Screen, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    for file in &story.files {
        let attempt = file.attempt.map(|number| format!(" {number}"));
        let there = match file.is_there {
            Some(true) => "",
            Some(false) if file.what == "request lines" => "",
            Some(false) => "MISSING",
            None => "",
        };
        let mut notes: Vec<&str> = vec![there, &file.note];
        notes.retain(|note| !note.is_empty());
        let note = match notes.is_empty() {
            true => String::new(),
            false => format!(" ({})", one_line(&notes.join(", "))),
        };
        let note = if file.is_there == Some(false) && !there.is_empty() {
            screen.alarm(&note)
        } else {
            screen.faint(&note)
        };
        let name = format!("{}{}", file.what, attempt.unwrap_or_default());
        write!(out, "{name:<FILE_WIDTH$} ")?;
        let text = format!("{}{note}", one_line(&file.place));
        screen.paragraph(FILE_WIDTH + 1, &text, out)?;
    }
    Ok(())
}

fn events(look: &Look<'_>, story: &Story, screen: Screen, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let shown = story.events.len() as u64;
    if story.events_total > shown {
        let earlier = words::count(story.events_total - shown);
        let all = story.events_total.to_string();
        let see = command(&story.sheet.key, &["--events", &all]);
        writeln!(out, "… {earlier} earlier events: {see}")?;
    }
    let mut run = None;
    let mut rows = Vec::with_capacity(story.events.len());
    for event in &story.events {
        let mut said = timeline::words(event, |batch| story.attempt_of(batch));
        if event.run.is_some() && event.run != run {
            run.clone_from(&event.run);
            said.push_str(&format!(" [run {}]", run.as_deref().unwrap_or_default()));
        }
        let path = match &event.from {
            Some(from) if *from == event.to => event.to.clone(),
            Some(from) => format!("{from} -> {}", event.to),
            None => format!("-> {}", event.to),
        };
        let ago = format!("{} ago", words::span(look.at.since(event.at)));
        rows.push([seconds(event.at), ago, path, said]);
    }
    if screen.width >= WIDE {
        let left = |name| (name, Side::Left);
        let headings = ["when", "ago", "stage", "what happened"].map(left);
        let mut table = Columns::new(screen, &headings);
        rows.iter().for_each(|row| table.row(row));
        return table.print(out);
    }
    for [at, ago, path, said] in rows {
        writeln!(out, "{at}  {ago:<17} {path}")?;
        write!(out, "    ")?;
        screen.paragraph(4, &one_line(&said), out)?;
    }
    Ok(())
}

fn attempt(
    look: &Look<'_>,
    story: &Story,
    attempt: &AttemptLine,
    screen: Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    let number = attempt.number.to_string();
    writeln!(out)?;
    let outcome = match (attempt.error, &attempt.message) {
        (Some(error), _) => screen.alarm(&format!("{} for {error}", attempt.outcome)),
        (None, Some(message)) => format!("{}: {}", attempt.outcome, one_line(message)),
        (None, None) => attempt.outcome.clone(),
    };
    writeln!(out, "{:<11} {outcome}", format!("attempt {number}"))?;
    line(
        screen,
        "  batch",
        &format!("{} ({})", attempt.batch, attempt.batch_state),
        out,
    )?;
    if let Some(job) = &attempt.job {
        line(screen, "  job", job.as_str(), out)?;
    }
    line(screen, "  times", &times(attempt, look.at, screen), out)?;
    let mut asked = format!("recipe {}", short(attempt.recipe.as_str()));
    if let Some(prompt) = &attempt.prompt_sha256 {
        asked.push_str(&format!(", prompt {}", short(prompt.as_str())));
    }
    if let Some(context) = &attempt.context_sha256 {
        asked.push_str(&format!(", context {}", short(context.as_str())));
    }
    line(screen, "  asked", &asked, out)?;
    line(
        screen,
        "",
        &command(&story.sheet.key, &["--request", "--attempt", &number]),
        out,
    )?;
    let noted = [
        ("  changed", attempt.parameters.clone()),
        ("  corrective", attempt.corrective_text.clone()),
        ("  checks", attempt.checks_failed.clone()),
        ("  score", attempt.score.map(|score| score.to_string())),
    ];
    for (name, text) in noted {
        if let Some(text) = text {
            line(screen, name, &cut(&text, TEXT_CHARACTERS), out)?;
        }
    }
    if attempt.finish_reason.is_some() || attempt.tokens != Tokens::default() {
        line(screen, "  answer", &answer(attempt), out)?;
    }
    Ok(())
}

/// How long it waited, and how long the provider took.
fn times(attempt: &AttemptLine, now: Timestamp, screen: Screen) -> String {
    let Some(submitted_at) = attempt.submitted_at else {
        return format!(
            "planned {}, not sent",
            screen.without_colors().when(attempt.created_at, now)
        );
    };
    let sent = screen.without_colors().when(submitted_at, now);
    match attempt.ended_at {
        Some(ended_at) => {
            let took = words::span(ended_at.since(submitted_at));
            format!("sent {sent}, ended after {took}")
        }
        None => format!("sent {sent}"),
    }
}

fn answer(attempt: &AttemptLine) -> String {
    let count = |tokens: Option<u64>| words::count(tokens.unwrap_or(0));
    let tokens = &attempt.tokens;
    let cost = attempt
        .cost_nanos
        .map_or_else(|| "cost unknown".to_owned(), words::dollars);
    format!(
        "{}, {}; {} tokens in ({} cached), {} out, {} thoughts; {cost}",
        attempt
            .finish_reason
            .as_deref()
            .unwrap_or("no finish reason"),
        attempt.model_version.as_deref().unwrap_or("model unknown"),
        count(tokens.prompt),
        count(tokens.cached),
        count(tokens.candidates),
        count(tokens.thoughts)
    )
}

fn failure(
    look: &Look<'_>,
    story: &Story,
    failure: &FailureEntry,
    screen: Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out)?;
    let of = match failure.attempt_number {
        0 => "before it was sent".to_owned(),
        number => format!("attempt {number}"),
    };
    let counted = if failure.counted {
        "counted"
    } else {
        "not counted"
    };
    let when = screen.without_colors().when(failure.at, look.at);
    let error = screen.alarm(failure.error.as_str());
    writeln!(out, "{:<11} {error}, {of}, {counted}, {when}", "failure")?;
    let causes: Vec<&str> = failure.chain.lines().collect();
    if causes.first() != Some(&failure.message.as_str()) {
        line(screen, "  message", &failure.message, out)?;
    }
    for cause in causes.iter().take(CAUSES) {
        line(screen, "  because", cause, out)?;
    }
    if causes.len() > CAUSES {
        let more = words::count((causes.len() - CAUSES) as u64);
        let see = command(&story.sheet.key, &["--json"]);
        line(screen, "", &format!("… and {more} more: {see}"), out)?;
    }
    if let Some(text) = failure
        .extracted_text
        .as_ref()
        .or(failure.raw_text.as_ref())
    {
        line(screen, "  text", &cut(text, TEXT_CHARACTERS), out)?;
    }
    Ok(())
}

/// Letters of a hash that are enough to tell it from others.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
