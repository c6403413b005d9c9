//! `pagemill rekey`: another key of the same project takes over what was made under the one before.
//!
//! Jobs and files belong to the project behind a key. That the new key sees the same project is shown,
//! not believed: every job that is live must be there for it.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;
use serde_json::json;

use super::order::{self, CarefulArgs, Desk, SignedArgs};
use super::screen;
use super::{Common, exit};
use crate::actors::activity::answered;
use crate::actors::state::batch_desk;
use crate::actors::state::messages::{BatchRow, Close, TakeOverKeys};
use crate::adapters::os_entropy::OsEntropy;
use crate::adapters::system_clock;
use crate::domain::batch::BatchStage;
use crate::domain::ids::{KeyFingerprint, OrderId};
use crate::pipeline::from_settings;
use crate::ports::batch_api::BatchApi;
use crate::ports::entropy::Entropy;
use crate::report::words;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill rekey --dry-run                  look, and say what would be taken over
  pagemill rekey --reason 'the old key has expired'

Run it with the new key in GEMINI_API_KEY and no run under way. Each live job is looked at, which
costs nothing; where one is not there for the new key, nothing is changed: then the key is of another
project. Batches and files are under the new key from then on, and the next run collects them.

Exit codes: 0 done, or nothing to do; 1 the new key does not see the jobs; 5 a run is under way;
78 configuration.")]
pub struct RekeyArgs {
    #[command(flatten)]
    pub careful: CarefulArgs,
    #[command(flatten)]
    pub signed: SignedArgs,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// Live batches that are looked at, at most: there are never more by far.
const BATCHES_MAX: u64 = 10_000;

const LIVE: [BatchStage; 5] = [
    BatchStage::Planned,
    BatchStage::Submitting,
    BatchStage::InDoubt,
    BatchStage::Submitted,
    BatchStage::Ready,
];

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &RekeyArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let desk = match Desk::open(common).await? {
        Ok(desk) => desk,
        Err(code) => return Ok(code),
    };
    let signature = match order::signature(&args.signed) {
        Ok(signature) => signature,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let client = match from_settings::client(&desk.settings) {
        Ok(client) => client,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let ours = from_settings::fingerprint(&desk.settings);
    let (live, _total) = batch_desk::newest(&desk.connection, &LIVE, BATCHES_MAX).await?;
    let foreign: Vec<BatchRow> = live
        .into_iter()
        .filter(|row| row.key_fingerprint != ours)
        .collect();
    if foreign.is_empty() {
        tell(args, &ours, &[], "nothing to do", out)?;
        return Ok(exit::DONE);
    }
    if !are_seen(&client, &foreign).await {
        return Ok(exit::FAILED);
    }
    if args.careful.dry_run {
        tell(args, &ours, &foreign, "would take over", out)?;
        return Ok(exit::DONE);
    }
    let count = words::count(foreign.len() as u64);
    if !args.careful.yes && !screen::confirmed(&format!("take over {count} live batches?"))? {
        eprintln!("nothing was changed");
        return Ok(exit::FAILED);
    }
    let state = match super::run::open_state(&desk.settings).await {
        Ok(state) => state,
        Err(code) => return Ok(code),
    };
    let at = system_clock::now();
    let from: BTreeSet<KeyFingerprint> = foreign
        .iter()
        .map(|row| row.key_fingerprint.clone())
        .collect();
    let take_over = TakeOverKeys {
        id: OrderId::from(OsEntropy.unique_id(at)),
        from: from.into_iter().collect(),
        to: ours.clone(),
        signature,
        at,
    };
    let taken = answered(state.send(take_over).await);
    answered(state.send(Close {}).await)?;
    taken?;
    tell(args, &ours, &foreign, "taken over", out)?;
    Ok(exit::DONE)
}

/// Whether the new key sees every job of these batches; says which it does not see. Where no batch has
/// a job that could be looked at, nothing is shown.
async fn are_seen(client: &impl BatchApi, foreign: &[BatchRow]) -> bool {
    let mut seen = false;
    for row in foreign {
        let Some(remote) = &row.remote else { continue };
        match client.batch(remote).await {
            Ok(_job) => seen = true,
            Err(error) => {
                eprintln!(
                    "this key does not see {remote} of batch {}: {}; nothing was changed. With a key \
                     of another project its answers cannot be had",
                    row.batch, error.message
                );
                return false;
            }
        }
    }
    if !seen {
        eprintln!(
            "none of {} live batches has a job that could show whether this key is of the same \
             project; nothing was changed. To give them up: pagemill batches forget ID",
            foreign.len()
        );
    }
    seen
}

fn tell(
    args: &RekeyArgs,
    ours: &KeyFingerprint,
    foreign: &[BatchRow],
    did: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if args.json {
        let batches: Vec<&str> = foreign.iter().map(|row| row.batch.as_str()).collect();
        let shown = json!({
            "version": 1, "dry_run": args.careful.dry_run, "key_fingerprint": ours.as_str(),
            "batches": batches,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
        return Ok(());
    }
    if foreign.is_empty() {
        writeln!(
            out,
            "every live batch was made under this key ({ours}); {did}"
        )?;
        return Ok(());
    }
    writeln!(out, "{did} by the key {ours}:")?;
    for row in foreign {
        let pages = words::count(row.members);
        writeln!(out, "  {}  {pages} pages, {}", row.batch, row.state.stage())?;
    }
    Ok(())
}
