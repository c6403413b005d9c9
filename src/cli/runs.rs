//! `pagemill runs`: which runs there were, with which settings and recipe, and what came of them.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::screen::{Columns, Screen, Side, more};
use super::{Common, exit};
use crate::actors::state::desk_runs::{self, NAMED_MAX, Named, Run, Work};
use crate::actors::state::messages::RecipeRow;
use crate::actors::state::read;
use crate::adapters::system_clock;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill runs list              the last 20 runs
  pagemill runs show 01a202bd     one of them: its settings, its recipe, what it cost")]
pub struct RunsArgs {
    #[command(subcommand)]
    pub command: RunsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum RunsCommand {
    /// List the runs, the one that was at work last first
    List(ListArgs),
    /// Show a run: its settings, its recipe, what came of it and what it cost
    Show(ShowArgs),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill runs list              the last 20 runs
  pagemill runs list --limit 500
  pagemill runs list --json | jq -r '.runs[] | [.run_id, .status, .cost_usd] | @tsv'

Exit codes: 0 told; 1 there is no database; 78 configuration.")]
pub struct ListArgs {
    /// How many runs are listed
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub limit: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill runs show 01a202bd       the beginning of an id is enough where it fits one run
  pagemill runs show 01a202bd --json | jq -r .config

The settings are those that the run took up last, without the API key. A recipe
is the prompt, the schema, the model and its parameters; it never changes, and
its hash is its name.

Exit codes: 0 told; 1 there is no such run, or no database; 78 configuration.")]
pub struct ShowArgs {
    /// The id of the run, or the beginning of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The width from which a list of runs shows everything.
const WIDE: u16 = 120;
/// The version of the JSON form.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &RunsArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.loaded() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let connection = read::open_read_only(&loaded.settings.state.sqlite_file).await?;
    let at = system_clock::now();
    match &args.command {
        RunsCommand::List(args) => {
            let total = desk_runs::count(&connection).await?;
            let runs = desk_runs::list(&connection, args.limit).await?;
            if args.json {
                let runs: Vec<Value> = runs.iter().map(as_json).collect();
                let list = json!({"version": JSON_VERSION, "total": total, "runs": runs});
                writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
            } else {
                print_list(&runs, total, Screen::of_stdout(), at, out)?;
            }
        }
        RunsCommand::Show(args) => {
            let run = match desk_runs::named(&connection, &args.id).await? {
                Named::One(run) => *run,
                Named::None => {
                    eprintln!(
                        "there is no run '{}'; pagemill runs list names them",
                        args.id
                    );
                    return Ok(exit::FAILED);
                }
                Named::Several(ids) => {
                    eprintln!("{}", several(&args.id, &ids));
                    return Ok(exit::FAILED);
                }
            };
            let recipe = desk_runs::recipe(&connection, &run.recipe).await?;
            if args.json {
                let mut shown = as_json(&run);
                shown["version"] = JSON_VERSION.into();
                shown["config"] = run.config.as_str().into();
                shown["recipe"] = recipe.as_ref().map_or(Value::Null, recipe_json);
                writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
            } else {
                print_one(&run, recipe.as_ref(), Screen::of_stdout(), at, out)?;
            }
        }
    }
    Ok(exit::DONE)
}

fn several(word: &str, ids: &[crate::domain::ids::RunId]) -> String {
    let more = if ids.len() == NAMED_MAX { ", …" } else { "" };
    let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    format!(
        "several runs begin with '{word}': {}{more}; give more of the id",
        ids.join(", ")
    )
}

/// Pages of the run's scope that are done, of how many, as of its end.
fn done(run: &Run) -> Option<(u64, u64)> {
    let total: u64 = run.totals.iter().map(|(_stage, count)| count).sum();
    let done = run
        .totals
        .iter()
        .find(|(stage, _)| *stage == PageStage::Completed);
    (total > 0).then(|| (done.map_or(0, |(_, count)| *count), total))
}

fn print_list(
    runs: &[Run],
    total: u64,
    screen: Screen,
    at: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    if runs.is_empty() {
        return writeln!(out, "there is no run yet");
    }
    let narrow = [
        ("run", Side::Left),
        ("status", Side::Left),
        ("age", Side::Right),
        ("done", Side::Right),
        ("cost USD", Side::Right),
    ];
    let more_where_there_is_room = [
        ("took", Side::Right),
        ("restarts", Side::Right),
        ("batches", Side::Right),
        ("label", Side::Left),
    ];
    let is_wide = screen.width >= WIDE;
    let mut headings = narrow.to_vec();
    if is_wide {
        headings.extend(more_where_there_is_room);
    }
    let mut columns = Columns::new(screen, &headings);
    for run in runs {
        let mut texts = vec![
            run.run.to_string(),
            run.status.to_string(),
            largest_unit(&words::span(at.since(run.started_at))),
            words::count(run.work.succeeded),
            words::dollars(run.work.cost_nanos).replace(" USD", ""),
        ];
        if is_wide {
            let batches: u64 = run.work.batches.iter().map(|(_state, count)| count).sum();
            texts.push(took(run, at));
            texts.push(words::count(run.restarts));
            texts.push(words::count(batches));
            texts.push(run.label.clone().unwrap_or_default());
        }
        columns.row(&texts);
    }
    columns.keep_whole(0);
    columns.print(out)?;
    more(runs.len() as u64, total, "--limit N", out)
}

/// A span by its largest unit: 3 d.
fn largest_unit(span: &str) -> String {
    span.split(' ').take(2).collect::<Vec<&str>>().join(" ")
}

/// From the first start to the end, or up to now.
fn took(run: &Run, at: Timestamp) -> String {
    words::span(run.ended_at.unwrap_or(at).since(run.started_at))
}

fn print_one(
    run: &Run,
    recipe: Option<&RecipeRow>,
    screen: Screen,
    at: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    let work = &run.work;
    let mut row = |label: &str, text: &str| writeln!(out, "{label:<12}{text}");
    row("run", run.run.as_str())?;
    if let Some(label) = &run.label {
        row("label", label)?;
    }
    row("status", run.status.as_str())?;
    row("started", &screen.when(run.started_at, at))?;
    match run.ended_at {
        Some(ended) => row("ended", &screen.when(ended, at))?,
        None => row("last seen", &screen.when(run.updated_at, at))?,
    }
    row("took", &took(run, at))?;
    row("restarts", &words::count(run.restarts))?;
    row("scope", run.scope.as_str())?;
    if let Some(window) = &run.window {
        let ends = format!("{}: {} to {}", window.name, window.since, window.until);
        row("window", &ends)?;
    }
    row("config", run.config_sha256.as_str())?;
    row("recipe", run.recipe.as_str())?;
    if let Some((done, total)) = done(run) {
        let stages = run.totals.iter().filter(|(_stage, count)| *count > 0);
        let stages = stages.map(|(stage, count)| format!("{} {stage}", words::count(*count)));
        let stages: Vec<String> = stages.collect();
        let (done, total) = (words::count(done), words::count(total));
        row(
            "pages",
            &format!("{done} of {total} done at its end: {}", stages.join(", ")),
        )?;
    }
    print_work(work, &mut row)?;
    row("cost", &words::dollars(work.cost_nanos))?;
    if let Some(recipe) = recipe {
        print_recipe(recipe, out)?;
    }
    writeln!(out, "\nits settings, without secrets:")?;
    indented(&run.config, out)
}

/// What the batches of a run came to, a line each.
fn print_work(work: &Work, row: &mut impl FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
    let batches = work.batches.iter();
    let batches: Vec<String> = batches
        .map(|(state, count)| format!("{} {state}", words::count(*count)))
        .collect();
    let batches = match batches.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    row("batches", &batches)?;
    row(
        "requests",
        &format!(
            "{}: {} succeeded, {} failed ({} of these without an answer), {} given back uncounted",
            words::count(work.requests),
            words::count(work.succeeded),
            words::count(work.failed + work.missing),
            words::count(work.missing),
            words::count(work.released)
        ),
    )?;
    row(
        "tokens",
        &format!(
            "{} in, {} out, {} thoughts",
            words::count(work.tokens_prompt),
            words::count(work.tokens_candidates),
            words::count(work.tokens_thoughts)
        ),
    )
}

fn print_recipe(recipe: &RecipeRow, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:<12}{}", "model", recipe.model)?;
    writeln!(out, "{:<12}{}", "asked with", recipe.generation_config)?;
    writeln!(out, "\nits prompt, {}:", recipe.prompt_name)?;
    indented(&recipe.prompt_template, out)?;
    if let Some(context) = &recipe.context_template {
        writeln!(out, "\nwhat it is told of the page before:")?;
        indented(context, out)?;
    }
    writeln!(out, "\nits schema:")?;
    indented(&pretty(&recipe.schema), out)
}

/// JSON as people read it; what is none stays as it is.
fn pretty(text: &str) -> String {
    let read: Result<Value, _> = serde_json::from_str(text);
    read.and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_no_json| text.to_owned())
}

/// A text of several lines, its control characters taken out.
fn indented(text: &str, out: &mut impl Write) -> io::Result<()> {
    for line in text.lines() {
        let line = super::screen::one_line(line);
        writeln!(out, "{}", format!("  {line}").trim_end())?;
    }
    Ok(())
}

fn recipe_json(recipe: &RecipeRow) -> Value {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    json!({
        "hash": recipe.hash.as_str(),
        "prompt_name": recipe.prompt_name,
        "prompt_template": recipe.prompt_template,
        "context_template": recipe.context_template,
        "schema": parse(&recipe.schema),
        "model": recipe.model,
        "generation_config": parse(&recipe.generation_config),
    })
}

fn as_json(run: &Run) -> Value {
    let Run {
        run: id,
        label,
        status,
        restarts,
        scope,
        window,
        recipe,
        config: _,
        config_sha256,
        started_at,
        ended_at,
        updated_at,
        totals,
        work,
    } = run;
    let totals = totals
        .iter()
        .map(|(stage, count)| (stage.to_string(), json!(count)));
    let batches = work
        .batches
        .iter()
        .map(|(state, count)| (state.to_string(), json!(count)));
    let end = ended_at.unwrap_or(*updated_at);
    json!({
        "run_id": id.as_str(),
        "label": label,
        "status": status.as_str(),
        "restarts": restarts,
        "scope": scope.as_str(),
        "window": window.as_ref().map(|window| json!({
            "name": window.name,
            "since": window.since.to_string(),
            "until": window.until.to_string(),
        })),
        "recipe_hash": recipe.as_str(),
        "config_sha256": config_sha256.as_str(),
        "started_at": started_at.to_string(),
        "ended_at": ended_at.map(|at| at.to_string()),
        "updated_at": updated_at.to_string(),
        "seconds": end.since(*started_at).as_secs(),
        "totals": totals.collect::<Map<String, Value>>(),
        "batches": batches.collect::<Map<String, Value>>(),
        "requests": work.requests,
        "succeeded": work.succeeded,
        "failed": work.failed,
        "missing": work.missing,
        "released": work.released,
        "cost_usd": work.cost_nanos as f64 / 1e9,
        "tokens": {
            "prompt": work.tokens_prompt,
            "candidates": work.tokens_candidates,
            "thoughts": work.tokens_thoughts,
        },
    })
}
