//! The orders about pages: `clear-failures`, `redo`, `skip`, `unskip`, `priority`, `note`.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::order::{CarefulArgs, Desk, Giving, OrderArgs, no_page};
use super::select::{SelectArgs, known_key};
use super::{Common, exit};
use crate::actors::state::read;
use crate::domain::order::{Order, Priority};
use crate::domain::selection::Selection;

/// The longest note, in bytes.
const NOTE_BYTES_MAX: usize = 16_384;

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill clear-failures --states California --dry-run      what would be done
  pagemill clear-failures --states California --schools LincolnHigh RooseveltHigh
  pagemill clear-failures --states California --year-start 2020 --year-end 2023
  pagemill clear-failures --where year=2020..2023 --reason 'new prompt'
  pagemill clear-failures --all --yes
  pagemill clear-failures --completed --all     forget the counts of pages that are done

Failure counts begin anew, and dead pages and pages in review go back to the
work list: the next run, or the one that is under way, sends them again. The
failures themselves stay in the log.")]
pub struct ClearFailuresArgs {
    /// Only the counts of pages that are done; nothing runs again
    #[arg(long)]
    pub completed: bool,
    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub careful: CarefulArgs,
    #[command(flatten)]
    pub order: OrderArgs,
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill redo --key 'Alabama:Howard College:1849:14' --reason 'wrong page on the scanner'
  pagemill redo --where school='Howard College' --where year=1849 --dry-run
  pagemill redo --states Alabama --reset-failures --yes

Done pages run again and are paid for again. Their outputs are kept as
revisions beside the database; deleting an output file has the same effect
without keeping it.")]
pub struct RedoArgs {
    #[command(flatten)]
    pub select: SelectArgs,
    /// Let their failure counts begin anew as well
    #[arg(long)]
    pub reset_failures: bool,
    #[command(flatten)]
    pub careful: CarefulArgs,
    #[command(flatten)]
    pub order: OrderArgs,
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill skip --key 'Alabama:Howard College:1849:1' --reason 'a blank cover'
  pagemill skip --where page=1 --dry-run
  pagemill unskip --where page=1

Pages that are done or on their way are left as they are. The pages behind a
page that is left out go on as they do behind a dead one
(execution.on_dead_predecessor).")]
pub struct SkipArgs {
    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub careful: CarefulArgs,
    #[command(flatten)]
    pub order: OrderArgs,
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill unskip --key 'Alabama:Howard College:1849:1'
  pagemill unskip --all

Pages that were left out with `pagemill skip` go back to the work list. Those
whose label is gone come back by themselves when it is there again.")]
pub struct UnskipArgs {
    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub careful: CarefulArgs,
    #[command(flatten)]
    pub order: OrderArgs,
}

/// A priority as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PriorityWord {
    High,
    Normal,
    Low,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill priority high --states Alabama --reason 'the exhibition opens in May'
  pagemill priority low --where year=1900..
  pagemill priority normal --all

Pages of higher priority are uploaded and sent first. A priority of a part of
the tree also holds for labels that come later. Pages of low priority count as
normal once they have waited for execution.low_priority_hours.")]
pub struct PriorityArgs {
    /// Whether they go before the others, among them, or after them
    #[arg(value_name = "PRIORITY")]
    pub priority: PriorityWord,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub order: OrderArgs,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill note 'Alabama:Howard College:1849:14' 'the lower half is torn off'
  pagemill note 'Ohio:Lincoln:1850:2' 'scanned twice' --by ann
  pagemill show 'Ohio:Lincoln:1850:2'       shows it, in the page's history")]
pub struct NoteArgs {
    /// The page
    #[arg(value_name = "KEY")]
    pub key: String,
    /// What is to be remembered
    #[arg(value_name = "TEXT")]
    pub text: String,
    #[command(flatten)]
    pub order: OrderArgs,
}

/// What is asked before pages are sent, and paid for, again.
const SEND_AGAIN: &str = "send these pages again?";

/// Runs `clear-failures`; gives the exit code.
pub async fn clear_failures(
    common: &Common,
    args: &ClearFailuresArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let done_only = args.completed;
    let make = |which| Order::ClearFailures { which, done_only };
    let question = Some(if done_only {
        "clear the failure counts of these done pages?"
    } else {
        "clear these failures, and send dead pages again?"
    });
    let parts = Parts {
        select: &args.select,
        careful: args.careful,
        order: &args.order,
        question,
    };
    parts.give(common, make, out).await
}

/// Runs `redo`; gives the exit code.
pub async fn redo(common: &Common, args: &RedoArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let reset_failures = args.reset_failures;
    let make = |which| Order::Redo {
        which,
        reset_failures,
    };
    let parts = Parts {
        select: &args.select,
        careful: args.careful,
        order: &args.order,
        question: Some(SEND_AGAIN),
    };
    parts.give(common, make, out).await
}

/// Runs `skip`; gives the exit code.
pub async fn skip(common: &Common, args: &SkipArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let parts = Parts {
        select: &args.select,
        careful: args.careful,
        order: &args.order,
        question: Some("leave these pages out?"),
    };
    parts.give(common, |which| Order::Skip { which }, out).await
}

/// Runs `unskip`; gives the exit code.
pub async fn unskip(
    common: &Common,
    args: &UnskipArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let parts = Parts {
        select: &args.select,
        careful: args.careful,
        order: &args.order,
        question: Some("put these pages back on the work list?"),
    };
    parts
        .give(common, |which| Order::Unskip { which }, out)
        .await
}

/// Runs `priority`; gives the exit code.
pub async fn priority(
    common: &Common,
    args: &PriorityArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let priority = match args.priority {
        PriorityWord::High => Priority::High,
        PriorityWord::Normal => Priority::Normal,
        PriorityWord::Low => Priority::Low,
    };
    let parts = Parts {
        select: &args.select,
        careful: CarefulArgs {
            dry_run: args.dry_run,
            yes: true,
        },
        order: &args.order,
        question: None,
    };
    let make = |which| Order::Prioritize { which, priority };
    parts.give(common, make, out).await
}

/// Runs `note`; gives the exit code.
pub async fn note(common: &Common, args: &NoteArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let desk = match Desk::open(common).await? {
        Ok(desk) => desk,
        Err(code) => return Ok(code),
    };
    let text = args.text.trim();
    if text.is_empty() || text.len() > NOTE_BYTES_MAX {
        eprintln!("a note has 1 to {NOTE_BYTES_MAX} bytes, not {}", text.len());
        return Ok(exit::USAGE);
    }
    let key = match known_key(&desk.settings.paths.layout, &args.key) {
        Ok(key) => key,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    if !read::knows_page(&desk.connection, &key).await? {
        return Ok(no_page(&desk.settings.state.sqlite_file, &args.key));
    }
    let giving = Giving {
        order: Order::Note {
            key,
            text: text.to_owned(),
        },
        args: &args.order,
        careful: CarefulArgs::default(),
        question: None,
        desk: &desk,
    };
    giving.run(out).await
}

/// What the orders about a choice of pages have in common.
struct Parts<'a> {
    select: &'a SelectArgs,
    careful: CarefulArgs,
    order: &'a OrderArgs,
    question: Option<&'static str>,
}

impl Parts<'_> {
    async fn give(
        &self,
        common: &Common,
        make: impl FnOnce(Selection) -> Order,
        out: &mut impl Write,
    ) -> anyhow::Result<u8> {
        let desk = match Desk::open(common).await? {
            Ok(desk) => desk,
            Err(code) => return Ok(code),
        };
        let which = match self.select.required(&desk.settings.paths.layout) {
            Ok(which) => which,
            Err(fault) => {
                eprintln!("{fault}");
                return Ok(exit::USAGE);
            }
        };
        let giving = Giving {
            order: make(which),
            args: self.order,
            careful: self.careful,
            question: self.question,
            desk: &desk,
        };
        giving.run(out).await
    }
}
