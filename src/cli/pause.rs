//! `pagemill pause`: nothing new is uploaded or submitted; what was sent is collected.

use std::io::Write;

use clap::Args;

use super::Common;
use super::order::{CarefulArgs, Desk, Giving, OrderArgs};
use crate::domain::order::Order;

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill pause --reason 'the budget is being talked about'
  pagemill status             says that it is paused, since when, and by whom
  pagemill resume             goes on

A run that is under way goes on collecting and waits to be resumed; one that is
started while it is paused begins paused. With `run --once` the run ends as
usual, with exit code 75.")]
pub struct PauseArgs {
    #[command(flatten)]
    pub order: OrderArgs,
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &PauseArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let desk = match Desk::open(common).await? {
        Ok(desk) => desk,
        Err(code) => return Ok(code),
    };
    let giving = Giving {
        order: Order::Pause,
        args: &args.order,
        careful: CarefulArgs::default(),
        question: None,
        desk: &desk,
    };
    giving.run(out).await
}
