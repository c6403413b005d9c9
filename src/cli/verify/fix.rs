//! `pagemill verify --fix`: asks, repairs, and looks again.

use std::io::{self, Write};

use actix::{Actor, Addr};
use anyhow::Context;

use super::findings::{Findings, Repair};
use super::{Look, Outcome, VerifyArgs, print, restore};
use crate::actors::activity::answered;
use crate::actors::result_processor::ReportFacts;
use crate::actors::state::StateActor;
use crate::actors::state::audit;
use crate::actors::state::messages::{Close, RecordReport, RepairState, StateError, StateRepair};
use crate::actors::state::open::{OpenError, StateOptions};
use crate::adapters::system_clock;
use crate::cli::{exit, screen};
use crate::domain::ids::{BatchId, RecordKey, Sha256Hex};
use crate::pipeline::{self, from_settings};
use crate::ports::file_audit::FileAudit;
use crate::ports::result_sink::ResultSink;
use crate::report;

/// Repairs of the state that share a transaction.
const REPAIRS_TOGETHER: usize = 500;
/// One repair may bring another thing to light; so often it is looked again.
const ROUNDS_MAX: u32 = 5;
/// Repairs that failed and are named.
const FAILED_NAMED_MAX: usize = 20;

/// What became of the repairs.
#[derive(Debug, Default)]
pub struct Repaired {
    pub done: u64,
    pub failed: u64,
    /// Why, for the first of them.
    pub reasons: Vec<String>,
}

/// Runs the command with the state locked; gives the exit code.
pub async fn run(look: &Look<'_>, args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let state = StateActor::open(StateOptions {
        path: look.settings.state.sqlite_file.clone(),
        unlock_behind_dead: from_settings::skip_dead(look.settings),
    })
    .await;
    let state = match state {
        Ok(state) => state.start(),
        Err(fault @ OpenError::InUse { .. }) => {
            eprintln!("{fault}");
            return Ok(exit::IN_USE);
        }
        Err(fault) => return Err(fault.into()),
    };
    let ended = with_lock(look, args, &state, out).await;
    answered(state.send(Close {}).await)?;
    ended
}

async fn with_lock(
    look: &Look<'_>,
    args: &VerifyArgs,
    state: &Addr<StateActor>,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let found = look.once(args).await?;
    let nothing_to_do = found.findings.repairs.is_empty();
    if nothing_to_do || args.dry_run {
        print::outcome(&found, args, out)?;
        return Ok(found.code());
    }
    if !args.yes {
        if args.json {
            print::outcome(&found, args, &mut io::stderr())?;
        } else {
            print::outcome(&found, args, out)?;
        }
        if !is_wanted(&found.findings)? {
            writeln!(out, "nothing was changed")?;
            return Ok(found.code());
        }
    }
    let (repaired, left) = rounds(look, args, state, &found.findings).await?;
    print::repaired(&found, &repaired, &left, args, out)?;
    Ok(left.code())
}

/// Asks on stderr, so that what is printed stays what it is.
fn is_wanted(findings: &Findings) -> io::Result<bool> {
    let again = findings
        .repairs
        .iter()
        .filter(|repair| repair.sends_again());
    let again = match again.count() {
        0 => String::new(),
        pages => format!(" (up to {pages} pages are sent, and paid for, again)"),
    };
    screen::confirmed(&format!(
        "repair {} findings{again}?",
        findings.repairable()
    ))
}

async fn rounds(
    look: &Look<'_>,
    args: &VerifyArgs,
    state: &Addr<StateActor>,
    found: &Findings,
) -> anyhow::Result<(Repaired, Outcome)> {
    let bench = Bench { look, state };
    let mut repaired = Repaired::default();
    bench.repair(&found.repairs, &mut repaired).await?;
    for _round in 1..ROUNDS_MAX {
        let left = look.once(args).await?;
        let done = repaired.done;
        // What failed once is not tried again: it is named, and left.
        if left.findings.repairs.is_empty() || repaired.failed > 0 {
            return Ok((repaired, left));
        }
        bench.repair(&left.findings.repairs, &mut repaired).await?;
        if repaired.done == done {
            return Ok((repaired, left));
        }
    }
    let left = look.once(args).await?;
    Ok((repaired, left))
}

/// Where repairs are made.
struct Bench<'a, 'b> {
    look: &'a Look<'b>,
    state: &'a Addr<StateActor>,
}

impl Bench<'_, '_> {
    async fn repair(&self, repairs: &[Repair], repaired: &mut Repaired) -> anyhow::Result<()> {
        for chunk in repairs.chunks(REPAIRS_TOGETHER) {
            let mut of_state = Vec::new();
            for repair in chunk {
                match self.of_files(repair).await {
                    Ok(then) if then.is_some() => of_state.extend(then),
                    Ok(_done) => repaired.done += 1,
                    Err(error) => repaired.fail(&error),
                }
            }
            self.of_state(of_state, repaired).await?;
        }
        Ok(())
    }

    /// Does what is to be done with files, and gives what the state is to be told afterwards. A
    /// crash in between leaves less to repair, never something lost.
    async fn of_files(&self, repair: &Repair) -> anyhow::Result<Option<StateRepair>> {
        let files = self.look.files;
        match repair {
            Repair::State(repair) => Ok(Some(repair.clone())),
            Repair::SetAside { key, then } => {
                files.retire_output(key).await?;
                Ok(then.clone())
            }
            Repair::Restore { key, recorded } => {
                self.restore(key, recorded).await?;
                Ok(None)
            }
            Repair::Remove(path) => {
                files.remove_leftover(path).await?;
                Ok(None)
            }
            Repair::WriteReport(batch) => {
                self.write_report(batch).await?;
                Ok(None)
            }
        }
    }

    /// All at once; where one of them does not fit any more, one by one.
    async fn of_state(
        &self,
        repairs: Vec<StateRepair>,
        repaired: &mut Repaired,
    ) -> Result<(), StateError> {
        if repairs.is_empty() {
            return Ok(());
        }
        let count = repairs.len() as u64;
        match self.tell_state(repairs.clone()).await {
            Ok(()) => {
                repaired.done += count;
                return Ok(());
            }
            Err(error @ (StateError::Db(_) | StateError::Closed)) => return Err(error),
            Err(_one_does_not_fit) => {}
        }
        for repair in repairs {
            match self.tell_state(vec![repair]).await {
                Ok(()) => repaired.done += 1,
                Err(error @ (StateError::Db(_) | StateError::Closed)) => return Err(error),
                Err(error) => repaired.fail(&error.into()),
            }
        }
        Ok(())
    }

    async fn tell_state(&self, repairs: Vec<StateRepair>) -> Result<(), StateError> {
        let at = system_clock::now();
        answered(self.state.send(RepairState { repairs, at }).await)
    }

    async fn restore(&self, key: &RecordKey, recorded: &Sha256Hex) -> anyhow::Result<()> {
        let output = restore::output(self.look, key, recorded).await;
        let output = output.with_context(|| {
            format!("the raw results do not have the output of page '{key}' any more")
        })?;
        self.look.files.retire_output(key).await?;
        let written = self
            .look
            .files
            .write_outputs(vec![(key.clone(), output)])
            .await;
        for outcome in written {
            outcome?;
        }
        Ok(())
    }

    /// The recorded report again, or one made from the rows.
    async fn write_report(&self, batch: &BatchId) -> anyhow::Result<()> {
        let rows = audit::report_rows(self.look.connection, batch).await?;
        let is_recorded = rows.recorded.is_some();
        let (name, markdown) = rows.recorded.clone().unwrap_or_else(|| {
            let facts = pipeline::report_facts(&ReportFacts {
                batch: rows.row,
                settled: rows.settled,
                lines: rows.lines,
                max_retries: self.look.settings.execution.max_retries,
                at: rows.settled_at,
            });
            (format!("{batch}.md"), report::batch::markdown(&facts))
        });
        self.look.files.write_report(&name, &markdown).await?;
        if !is_recorded {
            let record = RecordReport {
                batch: batch.clone(),
                name,
                markdown,
                at: system_clock::now(),
            };
            answered(self.state.send(record).await)?;
        }
        Ok(())
    }
}

impl Repaired {
    fn fail(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        if self.reasons.len() < FAILED_NAMED_MAX {
            self.reasons.push(format!("{error:#}"));
        }
    }
}
