//! `pagemill verify`: the state held against itself and against the files, and what of it can be
//! mended without losing or paying anything unasked.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sea_orm::DatabaseConnection;

use super::{Common, exit};
use crate::actors::state::audit::{self, Looked};
use crate::actors::state::read;
use crate::adapters::filesystem::Filesystem;
use crate::adapters::system_clock;
use crate::domain::finding::Severity;
use crate::domain::ids::{RecipeHash, RecordKey};
use crate::domain::time::Timestamp;
use crate::pipeline::from_settings;
use crate::prompt::Validator;
use crate::settings::Settings;

mod exports;
mod files;
pub mod findings;
mod fix;
mod outputs;
mod print;
mod restore;
mod windows;

use findings::Findings;

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill verify                    say what is wrong; changes nothing, also beside a run
  pagemill verify --fix --dry-run    say what would be repaired, and how
  pagemill verify --fix              repair what is safe, after asking
  pagemill verify --fix --restore    bring lost outputs back without paying again
  pagemill verify --recipes          name the outputs that another recipe made
  pagemill verify --json | jq '.kinds[] | {kind, count}'

Exit codes: 0 nothing is wrong (notes may be left); 1 something is; 5 --fix
beside a run.")]
pub struct VerifyArgs {
    /// Repair what is safe; refused while a pagemill works on this state
    #[arg(long)]
    pub fix: bool,
    /// With --fix: say what would be repaired, and change nothing
    #[arg(long, requires = "fix")]
    pub dry_run: bool,
    /// With --fix: do not ask
    #[arg(long, requires = "fix")]
    pub yes: bool,
    /// With --fix: record outputs that were changed by hand, and are valid, as they are
    #[arg(long, requires = "fix")]
    pub adopt_changed: bool,
    /// With --fix: write missing outputs again from the raw results, where these have them, instead
    /// of sending their pages again
    #[arg(long, requires = "fix")]
    pub restore: bool,
    /// Also name the outputs that another recipe made: another prompt, schema, model or parameters
    #[arg(long)]
    pub recipes: bool,
    /// How many findings of each kind are shown
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub limit: u32,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// Everything that one look needs.
pub struct Look<'a> {
    settings: &'a Settings,
    connection: &'a DatabaseConnection,
    files: &'a Filesystem,
    /// What outputs are held to today.
    schema: Arc<Validator>,
    /// Today's recipe, where outputs of others are asked for.
    recipe: Option<RecipeHash>,
    /// Whether nobody else can be at work on the state.
    locked: bool,
    adopt_changed: bool,
    restore: bool,
    at: Timestamp,
}

/// What one look looked at, and what it found.
pub struct Outcome {
    looked: Looked,
    outputs: u64,
    raw_files: u64,
    exported: u64,
    took: Duration,
    findings: Findings,
}

impl Outcome {
    fn wrong(&self) -> u64 {
        self.findings.count(Severity::Wrong)
    }

    fn code(&self) -> u8 {
        if self.wrong() == 0 {
            exit::DONE
        } else {
            exit::FAILED
        }
    }
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.loaded() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let settings = &loaded.settings;
    let recipe = match from_settings::recipe(settings) {
        Ok(recipe) => recipe,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    // Refuses what is not there, or not in today's shape: nothing here creates or changes one.
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let look = Look {
        settings,
        connection: &connection,
        files: &from_settings::filesystem(settings),
        schema: Arc::clone(&recipe.validator),
        recipe: args.recipes.then(|| recipe.hash.clone()),
        locked: args.fix,
        adopt_changed: args.adopt_changed,
        restore: args.restore,
        at: system_clock::now(),
    };
    let code = if args.fix {
        fix::run(&look, args, out).await
    } else {
        let outcome = look.once(args).await?;
        print::outcome(&outcome, args, out)?;
        Ok(outcome.code())
    };
    connection.close().await?;
    code
}

impl Look<'_> {
    /// Looks at everything once.
    async fn once(&self, args: &VerifyArgs) -> anyhow::Result<Outcome> {
        let mut findings = Findings::new(usize::try_from(args.limit).unwrap_or(usize::MAX));
        let began = system_clock::now();
        let snapshot = audit::snapshot(self.connection).await?;
        let max_retries = self.settings.execution.max_retries;
        let looked = audit::check_state(&snapshot, max_retries, &mut |found| {
            findings.tell_state(found);
        })
        .await?;
        audit::end_snapshot(snapshot).await?;
        let outputs = outputs::check(self, &mut findings).await?;
        let raw_files = files::check(self, &mut findings).await?;
        windows::check(self, &mut findings).await?;
        let exported = exports::check(self, &mut findings).await?;
        Ok(Outcome {
            looked,
            outputs,
            raw_files,
            exported,
            took: system_clock::now().since(began),
            findings,
        })
    }

    /// Whether a running pipeline may be about to explain something that happened at `at`.
    fn is_fresh(&self, at: Timestamp, span: Duration) -> bool {
        !self.locked && self.at.since(at) < span
    }

    /// A path as it is shown: below the folder of the project where it can be.
    fn shown(&self, path: &Path) -> String {
        let base = super::cwd();
        let shown = path.strip_prefix(&base).unwrap_or(path);
        shown.display().to_string()
    }

    /// The path of a page's output, as it is shown.
    fn output_shown(&self, key: &RecordKey) -> String {
        let paths = &self.settings.paths;
        let path: PathBuf = paths
            .layout
            .path(&paths.output_dir, key, "json")
            .unwrap_or_else(|_no_path| paths.output_dir.clone());
        self.shown(&path)
    }
}
