//! `pagemill batches`: which batches there are, everything about one, and what an operator may do
//! about one that is stuck.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::order::{CarefulArgs, Desk, Giving, OrderArgs};
use super::screen::{self, Columns, Screen, Side};
use super::{Common, exit};
use crate::actors::state::batch_desk::{self, BatchStory};
use crate::actors::state::messages::BatchRow;
use crate::actors::state::orders;
use crate::adapters::system_clock;
use crate::domain::batch::{BatchStage, BatchState};
use crate::domain::ids::BatchId;
use crate::domain::order::Order;
use crate::domain::time::Timestamp;
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill batches list                    the live batches
  pagemill batches list --all --limit 50   the newest of all
  pagemill batches show 7445a0e16616       one of them: its job, its pages, its story
  pagemill batches cancel 7445a0e16616     ask the provider to stop its job; what is done is kept
  pagemill batches forget 7445a0e16616 --dry-run   what giving it up would do
  pagemill batches forget 7445a0e16616 --cancel-remote

A batch is named by its id, the beginning or the end of it, by its job
(batches/...), or by its display name.")]
pub struct BatchesArgs {
    #[command(subcommand)]
    pub command: BatchesCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum BatchesCommand {
    /// List batches, the newest first; without --all the live ones
    #[command(after_help = "\
Examples:
  pagemill batches list
  pagemill batches list --all --limit 50
  pagemill batches list --all --json | jq -r '.batches[].batch_id'")]
    List {
        /// The closed ones, too
        #[arg(long)]
        all: bool,
        /// How many are shown
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
        /// Print JSON (version 1) instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show one batch: its job, its pages and its story
    #[command(after_help = "\
Examples:
  pagemill batches show 7445a0e16616
  pagemill batches show batches/abc123 --keys 1000 --json")]
    Show {
        /// The batch: its id, the beginning or end of it, its job, or its display name
        #[arg(value_name = "ID")]
        id: String,
        /// How many of its pages are named
        #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=100_000))]
        keys: u64,
        /// Print JSON (version 1) instead of text
        #[arg(long)]
        json: bool,
    },
    /// Ask the provider to stop a batch's job; what it has done until then is collected
    #[command(after_help = "\
Examples:
  pagemill batches cancel 7445a0e16616 --reason 'wrong prompt'

The batch stays until the provider says that its job has ended; finished
answers are kept, and the other pages go back to the work list.")]
    Cancel {
        /// The batch: its id, the beginning or end of it, its job, or its display name
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        careful: CarefulArgs,
        #[command(flatten)]
        order: OrderArgs,
    },
    /// Give a batch up and free its pages, whatever the provider says of it
    #[command(after_help = "\
Examples:
  pagemill batches forget 7445a0e16616 --dry-run
  pagemill batches forget 7445a0e16616 --reason 'the job is dead' --cancel-remote

In one transaction the batch stops being active, its pages are in no batch any
more, and they are back on the work list. If its job ends well after all, its
answers are collected, and what was bought a second time meanwhile is counted
as paid twice.")]
    Forget {
        /// The batch: its id, the beginning or end of it, its job, or its display name
        #[arg(value_name = "ID")]
        id: String,
        /// Ask the provider to stop the job as well
        #[arg(long)]
        cancel_remote: bool,
        #[command(flatten)]
        careful: CarefulArgs,
        #[command(flatten)]
        order: OrderArgs,
    },
}

/// Steps of a batch that are shown.
const STEPS_SHOWN: u64 = 50;

const LIVE: [BatchStage; 5] = [
    BatchStage::Planned,
    BatchStage::Submitting,
    BatchStage::InDoubt,
    BatchStage::Submitted,
    BatchStage::Ready,
];

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &BatchesArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let desk = match Desk::open(common).await? {
        Ok(desk) => desk,
        Err(code) => return Ok(code),
    };
    match &args.command {
        BatchesCommand::List { all, limit, json } => {
            let states: &[BatchStage] = if *all { BatchStage::ALL } else { &LIVE };
            list(&desk, states, *limit, *json, out).await
        }
        BatchesCommand::Show { id, keys, json } => match find(&desk, id).await? {
            Ok(row) => show(&desk, &row, *keys, *json, out).await,
            Err(code) => Ok(code),
        },
        BatchesCommand::Cancel { id, careful, order } => {
            let make = |batch| Order::CancelBatch { batch };
            give(&desk, id, make, *careful, order, out).await
        }
        BatchesCommand::Forget {
            id,
            cancel_remote,
            careful,
            order,
        } => {
            let make = |batch| Order::ForgetBatch {
                batch,
                cancel_remote: *cancel_remote,
            };
            give(&desk, id, make, *careful, order, out).await
        }
    }
}

/// The batch that is meant, or the exit code when that is not clear.
async fn find(desk: &Desk, id: &str) -> anyhow::Result<Result<BatchRow, u8>> {
    let meant = batch_desk::meant(&desk.connection, id).await?;
    let [batch] = meant.as_slice() else {
        if meant.is_empty() {
            eprintln!("there is no batch '{id}': `pagemill batches list --all` names them");
        } else {
            let ids: Vec<&str> = meant.iter().map(BatchId::as_str).collect();
            eprintln!(
                "'{id}' may mean {} and more: write more of it",
                ids.join(", ")
            );
        }
        return Ok(Err(exit::FAILED));
    };
    let row = orders::batch(&desk.connection, batch).await?;
    Ok(row.ok_or(exit::FAILED))
}

async fn list(
    desk: &Desk,
    states: &[BatchStage],
    limit: u64,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let (found, total) = batch_desk::newest(&desk.connection, states, limit).await?;
    let now = system_clock::now();
    if json {
        let list: Vec<Value> = found.iter().map(as_json).collect();
        let shown = json!({"version": 1, "total": total, "batches": list});
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(exit::DONE);
    }
    if found.is_empty() {
        writeln!(out, "no batches")?;
        return Ok(exit::DONE);
    }
    print_list(&found, Screen::of_stdout(), now, out)?;
    screen::more(found.len() as u64, total, "--limit N", out)?;
    Ok(exit::DONE)
}

/// The width from which a list of batches shows the names of their jobs.
const WIDE: u16 = 120;

fn print_list(
    found: &[BatchRow],
    screen: Screen,
    now: Timestamp,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut headings = vec![
        ("batch", Side::Left),
        ("state", Side::Left),
        ("pages", Side::Right),
        ("age", Side::Right),
        ("provider says", Side::Left),
    ];
    let is_wide = screen.width >= WIDE;
    if is_wide {
        headings.push(("job", Side::Left));
    }
    let mut columns = Columns::new(screen, &headings);
    for row in found {
        let age = now.since(row.submitted_at.unwrap_or(row.created_at));
        let mut texts = vec![
            row.batch.to_string(),
            state_words(row),
            words::count(row.members),
            words::span(age),
            row.remote_state.clone().unwrap_or_default(),
        ];
        if is_wide {
            let job = row.remote.as_ref();
            texts.push(job.map(ToString::to_string).unwrap_or_default());
        }
        columns.row(&texts);
    }
    columns.keep_whole(0);
    columns.print(out)
}

fn state_words(row: &BatchRow) -> String {
    let state = match &row.state {
        BatchState::Abandoned { code } => format!("abandoned ({code})"),
        state => state.stage().to_string(),
    };
    match row.wish {
        Some(wish) if row.state.stage() != BatchStage::Abandoned => format!("{state}, to {wish}"),
        _ => state,
    }
}

async fn show(
    desk: &Desk,
    row: &BatchRow,
    keys_max: u64,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let story = batch_desk::story(&desk.connection, &row.batch, STEPS_SHOWN).await?;
    let (keys, total) = batch_desk::keys(&desk.connection, &row.batch, keys_max).await?;
    if json {
        let mut shown = as_json(row);
        shown["story"] = story_json(&story);
        shown["record_keys"] = json!(keys);
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(exit::DONE);
    }
    let (screen, now) = (Screen::of_stdout(), system_clock::now());
    print_row(row, &story, screen, now, out)?;
    writeln!(out, "story")?;
    for step in &story.steps {
        let note = if step.note.is_empty() {
            String::new()
        } else {
            format!(": {}", screen::one_line(&step.note))
        };
        let at = screen::seconds(step.at);
        writeln!(out, "  {at}  {} -> {}{note}", step.event, step.to)?;
    }
    writeln!(out, "pages")?;
    for key in &keys {
        writeln!(out, "  {}", screen::one_line(key))?;
    }
    screen::more(keys.len() as u64, total, "--keys N", out)?;
    Ok(exit::DONE)
}

fn print_row(
    row: &BatchRow,
    story: &BatchStory,
    screen: Screen,
    now: Timestamp,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let when = |at: Option<Timestamp>| at.map(|at| screen.when(at, now));
    let outcomes: Vec<String> = story
        .outcomes
        .iter()
        .map(|(outcome, count)| format!("{} {outcome}", words::count(*count)))
        .collect();
    let lines = [
        ("batch", Some(row.batch.to_string())),
        ("state", Some(state_words(row))),
        (
            "note",
            Some(story.note.clone()).filter(|note| !note.is_empty()),
        ),
        ("display name", Some(row.display_name.clone())),
        ("job", row.remote.as_ref().map(ToString::to_string)),
        ("provider says", row.remote_state.clone()),
        ("model", Some(row.model.clone())),
        ("run", story.run.as_ref().map(ToString::to_string)),
        ("pages", Some(words::count(row.members))),
        (
            "requests",
            Some(outcomes.join(", ")).filter(|text| !text.is_empty()),
        ),
        ("planned", when(Some(row.created_at))),
        ("submitted", when(row.submitted_at)),
        ("looked at", when(story.polled_at)),
        ("cancel sent", when(story.cancel_sent_at)),
        ("job ended", when(row.ended_at)),
        ("closed", when(story.closed_at)),
        ("creates sent", Some(words::count(u64::from(row.creates)))),
        (
            "tokens",
            Some(words::count(story.tokens_total)).filter(|_| story.tokens_total > 0),
        ),
        ("cost", Some(words::dollars(story.cost_nanos))),
        (
            "cost at most",
            story.reserved_cost_nanos.map(words::dollars),
        ),
        ("raw results", row.raw.as_ref().map(|raw| raw.path.clone())),
    ];
    for (name, text) in lines {
        if let Some(text) = text {
            writeln!(out, "{name:<14} {text}")?;
        }
    }
    Ok(())
}

/// A batch as JSON.
fn as_json(row: &BatchRow) -> Value {
    json!({
        "version": 1,
        "batch_id": row.batch.as_str(),
        "state": row.state.stage().as_str(),
        "abandon_code": match &row.state {
            BatchState::Abandoned { code } => Some(code.as_str()),
            _ => None,
        },
        "wish": row.wish.map(|wish| wish.as_str()),
        "display_name": row.display_name,
        "remote_name": row.remote.as_ref().map(|name| name.as_str()),
        "remote_state": row.remote_state,
        "model": row.model,
        "pages": row.members,
        "creates": row.creates,
        "created_at": row.created_at.to_string(),
        "submitted_at": row.submitted_at.map(|at| at.to_string()),
        "ended_at": row.ended_at.map(|at| at.to_string()),
        "unreachable_since": row.unreachable_since.map(|at| at.to_string()),
    })
}

fn story_json(story: &BatchStory) -> Value {
    let outcomes: serde_json::Map<String, Value> = story
        .outcomes
        .iter()
        .map(|(outcome, count)| (outcome.clone(), json!(count)))
        .collect();
    let steps: Vec<Value> = story
        .steps
        .iter()
        .map(|step| {
            json!({
                "at": step.at.to_string(), "from": step.from, "event": step.event,
                "to": step.to, "note": step.note,
            })
        })
        .collect();
    json!({
        "run_id": story.run.as_ref().map(|run| run.as_str()),
        "note": story.note,
        "closed_at": story.closed_at.map(|at| at.to_string()),
        "cancel_sent_at": story.cancel_sent_at.map(|at| at.to_string()),
        "outcomes": outcomes,
        "tokens_total": story.tokens_total,
        "cost_usd": story.cost_nanos as f64 / 1e9,
        "steps": steps,
    })
}

/// Says what becomes of the batch, asks, and gives the order.
async fn give(
    desk: &Desk,
    id: &str,
    make: impl FnOnce(BatchId) -> Order,
    careful: CarefulArgs,
    args: &OrderArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let row = match find(desk, id).await? {
        Ok(row) => row,
        Err(code) => return Ok(code),
    };
    let order = make(row.batch.clone());
    if let Some(refusal) = refusal(&order, &row) {
        eprintln!("{refusal}");
        return Ok(exit::FAILED);
    }
    if !args.json {
        let (screen, now) = (Screen::of_stdout(), system_clock::now());
        let story = batch_desk::story(&desk.connection, &row.batch, 0).await?;
        print_row(&row, &story, screen, now, out)?;
        writeln!(out, "{}", consequence(&order, &row))?;
    }
    let question = match &order {
        Order::CancelBatch { .. } => "ask the provider to stop this job?",
        _ => "give this batch up?",
    };
    let giving = Giving {
        desk,
        order,
        args,
        careful,
        question: Some(question),
    };
    giving.run(out).await
}

/// Why nothing of the kind can be done about this batch.
fn refusal(order: &Order, row: &BatchRow) -> Option<String> {
    let (batch, stage) = (&row.batch, row.state.stage());
    match (order, stage) {
        (_, BatchStage::Settled | BatchStage::Abandoned) => {
            Some(format!("batch {batch} is {stage}: there is nothing to end"))
        }
        (Order::CancelBatch { .. }, BatchStage::Ready) => Some(format!(
            "the job of batch {batch} has ended; its results are being collected"
        )),
        (
            Order::CancelBatch { .. },
            BatchStage::Planned | BatchStage::Submitting | BatchStage::InDoubt,
        ) => Some(format!(
            "batch {batch} is {stage}: the provider has named no job to stop. To give the batch up: \
             pagemill batches forget {batch}"
        )),
        _ => None,
    }
}

/// What the order means for the batch's pages and money.
fn consequence(order: &Order, row: &BatchRow) -> String {
    let pages = words::count(row.members);
    match order {
        Order::ForgetBatch { cancel_remote, .. } => {
            let job = match (&row.remote, cancel_remote, row.state.stage()) {
                (Some(_), true, BatchStage::Submitted) => {
                    "the provider is asked to stop its job; what it has done is billed"
                }
                (Some(_), _, _) => "its job goes on at the provider and is billed",
                (None, _, BatchStage::InDoubt | BatchStage::Submitting) => {
                    "it is not known whether its job exists; if it does, it is billed"
                }
                (None, _, _) => "it has no job",
            };
            format!("forgetting it frees {pages} pages, which are sent, and paid for, again; {job}")
        }
        _ => format!(
            "the provider is asked to stop its job; finished answers are kept, the rest of {pages} pages runs again"
        ),
    }
}
