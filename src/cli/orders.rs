//! `pagemill orders`: what operators told pagemill to do, when, why, and what came of it.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::Common;
use super::exit;
use super::order::{Desk, as_json};
use super::screen::{Columns, Screen, Side, seconds};
use crate::actors::state::orders;
use crate::domain::order::{KeptOrder, OrderState};
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill orders                  the newest orders: who, when, what, why, and what came of it
  pagemill orders --limit 500 --json")]
pub struct OrdersArgs {
    /// How many of the newest are shown
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub limit: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &OrdersArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let desk = match Desk::open(common).await? {
        Ok(desk) => desk,
        Err(code) => return Ok(code),
    };
    let found = orders::latest(&desk.connection, args.limit).await?;
    if args.json {
        let list: Vec<serde_json::Value> = found.iter().map(as_json).collect();
        let shown = json!({"version": 1, "orders": list});
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(exit::DONE);
    }
    if found.is_empty() {
        writeln!(out, "no orders were given")?;
        return Ok(exit::DONE);
    }
    let headings = [
        ("when", Side::Left),
        ("by", Side::Left),
        ("order", Side::Left),
        ("state", Side::Left),
        ("what came of it", Side::Left),
        ("why", Side::Left),
    ];
    let mut columns = Columns::new(Screen::of_stdout(), &headings);
    for kept in &found {
        columns.row(&[
            seconds(kept.created_at),
            kept.signature.by.clone(),
            subject(kept),
            kept.state.to_string(),
            came_of(kept),
            kept.signature.reason.clone(),
        ]);
    }
    columns.print(out)?;
    Ok(exit::DONE)
}

fn subject(kept: &KeptOrder) -> String {
    match kept.order.which() {
        Some(which) => format!("{}: {which}", kept.order.kind()),
        None => kept.order.kind().to_string(),
    }
}

fn came_of(kept: &KeptOrder) -> String {
    if kept.state == OrderState::Open {
        return String::new();
    }
    let mut parts: Vec<String> = kept
        .effects
        .counts
        .iter()
        .map(|(word, count)| format!("{} {word}", words::count(*count)))
        .collect();
    if !kept.effects.message.is_empty() {
        parts.push(kept.effects.message.clone());
    }
    parts.join(", ")
}
