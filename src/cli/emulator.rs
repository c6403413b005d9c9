//! `pagemill emulator`: the provider, played on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::exit;
use crate::bench::children::stdin_closed;
use crate::emulator::{Emulator, EmulatorOptions, FaultProfile};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill emulator                                   on 127.0.0.1:8787
  pagemill emulator --faults config/faults/storm.yaml --seed 7
  pagemill emulator --listen 127.0.0.1:0 --port-file port.txt

Then, in another terminal, with any key:
  GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:8787 GEMINI_API_KEY=any pagemill run")]
pub struct EmulatorArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8787", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Write the port into this file when ready
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Play the faults of this profile (YAML; see config/faults/)
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// How long a job takes, in milliseconds
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub batch_latency_ms: u64,
    /// Seed of the faults' dice: the same seed and requests meet the same faults [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// End when standard input is closed, as it is when whoever started this ends
    #[arg(long, hide = true)]
    pub while_stdin_open: bool,
}

/// Reads a fault profile.
pub fn profile(path: &Path) -> anyhow::Result<FaultProfile> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    FaultProfile::from_yaml(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// Serves until a signal ends it.
pub async fn run(args: &EmulatorArgs) -> anyhow::Result<u8> {
    let faults = match &args.faults {
        Some(path) => match profile(path) {
            Ok(faults) => faults,
            Err(fault) => {
                eprintln!("{fault}");
                return Ok(exit::CONFIGURATION);
            }
        },
        None => FaultProfile::none(),
    };
    let options = EmulatorOptions {
        listen: args.listen,
        batch_latency: Duration::from_millis(args.batch_latency_ms),
        faults,
        seed: args.seed.unwrap_or(0),
        ..EmulatorOptions::default()
    };
    let emulator = Emulator::start(options).await?;
    if let Some(path) = &args.port_file {
        emulator.write_port_file(path)?;
    }
    println!("the provider is played at {}", emulator.base_url());
    println!("point pagemill at it: api.base_url, or GOOGLE_GEMINI_BASE_URL; any key will do");
    if args.while_stdin_open {
        tokio::select! {
            () = super::run::signal() => {}
            () = stdin_closed() => {}
        }
    } else {
        super::run::signal().await;
    }
    emulator.stop().await;
    Ok(exit::DONE)
}
