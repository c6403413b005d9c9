//! `pagemill demo`: the whole pipeline on a small dataset against the built-in emulator.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{Common, exit, progress, run};
use crate::demo::dataset::{self, Dataset};
use crate::emulator::{Emulator, EmulatorOptions};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill demo                  in a new temporary folder
  pagemill demo --dir tryout     in this one, which is left for you to look at
  cd tryout && pagemill status   every other command works there too")]
pub struct DemoArgs {
    /// Where to make the dataset; a new temporary folder when absent. It is left for you to look at
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// How long a job of the demo takes.
const BATCH_LATENCY: Duration = Duration::from_millis(400);
/// Lines of an output and of a report that are shown.
const LINES_SHOWN: usize = 14;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &DemoArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let folder = match &args.dir {
        // The settings are read from inside it, where a relative name would lead elsewhere.
        Some(folder) => std::path::absolute(folder)?,
        None => tempfile::Builder::new()
            .prefix("pagemill-demo-")
            .tempdir()?
            .keep(),
    };
    let dataset = match dataset::create(&folder) {
        Ok(dataset) => dataset,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    writeln!(
        out,
        "{} pages of two books in {}",
        dataset.pages,
        dataset.root.display()
    )?;
    writeln!(
        out,
        "the page {} will fail once, on purpose",
        dataset.failing_key
    )?;
    let emulator = Emulator::start(EmulatorOptions {
        batch_latency: BATCH_LATENCY,
        faults: super::emulator::profile(&dataset.faults_file)?,
        ..EmulatorOptions::default()
    })
    .await?;
    writeln!(out, "the provider is played at {}\n", emulator.base_url())?;
    let code = on_dataset(common, &dataset, &emulator, out).await?;
    show(&dataset, out)?;
    emulator.stop().await;
    writeln!(out, "\nlook around in {}", dataset.root.display())?;
    Ok(code)
}

async fn on_dataset(
    common: &Common,
    dataset: &Dataset,
    emulator: &Emulator,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    // The demo brings its own everything: the real key and address of this machine stay out of it.
    let sources = crate::settings::Sources {
        file: Some(dataset.config_file.clone()),
        env: [
            ("GEMINI_API_KEY".to_owned(), "demo-key".to_owned()),
            ("GOOGLE_GEMINI_BASE_URL".to_owned(), emulator.base_url()),
        ]
        .into(),
        flags: common.log_flags(),
        cwd: dataset.root.clone(),
    };
    let settings = match crate::settings::load(sources) {
        Ok(loaded) => loaded.settings,
        Err(faults) => {
            eprintln!("{faults}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let bars = progress::place();
    run::start_logging(&settings, bars.clone());
    run::on_settings(&settings, &run::RunArgs::default(), &bars, out).await
}

fn show(dataset: &Dataset, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "\nthe first output, {}:",
        dataset.first_output.display()
    )?;
    head(&dataset.first_output, out)?;
    let reports = dataset.root.join("data/reports");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&reports)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    names.sort();
    let failing = names.iter().find(|path| {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains("## Failed pages"))
    });
    if let Some(report) = failing.or(names.first()) {
        writeln!(
            out,
            "\nthe report of the batch with the failed page, {}:",
            report.display()
        )?;
        let text = std::fs::read_to_string(report)?;
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn head(path: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    for line in text.lines().take(LINES_SHOWN) {
        writeln!(out, "  {line}")?;
    }
    if text.lines().count() > LINES_SHOWN {
        writeln!(out, "  ...")?;
    }
    Ok(())
}
