//! `pagemill config`: is the configuration right, what is in force, what may stand in it.

mod origin;

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::screen::Screen;
use crate::decide::cost::Date;
use crate::domain::ids::RecipeHash;
use crate::pipeline::from_settings;
use crate::settings::{Fault, Settings, Sources, json_schema, load, prices};
use crate::wire::schema::Dropped;

/// The exit code of a configuration that is at fault.
pub const EXIT_CONFIGURATION: u8 = 78;
/// Nesting of a schema beyond which the provider has been seen to refuse it.
const SCHEMA_DEPTH_WARN: u32 = 5;

/// Looks at the configuration.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  pagemill config check           say what is wrong, all at once
  pagemill config show            the settings in force, as YAML
  pagemill config show --origin   one a line, with where it comes from
  pagemill config schema          a JSON Schema of the file, for editors")]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to look at.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ConfigCommand {
    /// Tell everything that is wrong with the configuration, its prompt and its schema
    #[command(after_help = "\
Examples:
  pagemill config check
  pagemill --config other.yaml config check --json

Exit codes: 0 valid, perhaps with warnings; 78 at fault.")]
    Check {
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print the settings in force, without the key
    #[command(after_help = "\
Examples:
  pagemill config show                     as YAML, which can be used as a file
  pagemill config show --origin            with where each value comes from
  PAGEMILL__EXECUTION__MAX_RETRIES=5 pagemill config show --origin --json

A flag goes before the environment, that before the file, and that before the
default.")]
    Show {
        /// Print one setting a line, with where it comes from
        #[arg(long)]
        origin: bool,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print a JSON Schema of the configuration file, for editors
    #[command(after_help = "\
Examples:
  pagemill config schema >pagemill.schema.json")]
    Schema,
}

/// What `config check` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The configuration file; none when there was none to read.
    pub file: Option<PathBuf>,
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
    /// What the provider is not told of the schema.
    pub dropped: Vec<Dropped>,
    /// Of prompt, schema and model together; none when one of them is at fault.
    pub recipe: Option<RecipeHash>,
}

impl Findings {
    /// The exit code that says whether there are faults.
    pub fn exit_code(&self) -> u8 {
        if self.faults.is_empty() {
            0
        } else {
            EXIT_CONFIGURATION
        }
    }
}

/// Runs the command; gives the exit code. `today` decides which price holds.
pub fn run(
    args: &ConfigArgs,
    sources: Sources,
    today: Option<Date>,
    out: &mut dyn Write,
) -> io::Result<u8> {
    match args.command {
        ConfigCommand::Check { json } => {
            let findings = check(sources, today);
            if json {
                writeln!(out, "{:#}", findings_json(&findings))?;
            } else {
                print_findings(&findings, out)?;
            }
            Ok(findings.exit_code())
        }
        ConfigCommand::Show { origin, json } => show(sources, origin, json, out),
        ConfigCommand::Schema => {
            writeln!(out, "{:#}", json_schema())?;
            Ok(0)
        }
    }
}

/// Looks at everything that the configuration leads to and that is on this machine.
pub fn check(sources: Sources, today: Option<Date>) -> Findings {
    let loaded = match load(sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            return Findings {
                faults: error.faults,
                ..Findings::default()
            };
        }
    };
    let settings = &loaded.settings;
    let mut findings = Findings {
        file: loaded.file,
        faults: settings.check_environment(),
        warnings: settings.warnings(),
        ..Findings::default()
    };
    if settings.api_key.is_none() {
        findings.warnings.push(Fault::new(
            "GEMINI_API_KEY",
            "is not set, so nothing can be sent",
            "set it, or write it into .env beside the configuration file",
        ));
    }
    check_price(settings, today, &mut findings);
    check_recipe(settings, &mut findings);
    findings
}

fn check_price(settings: &Settings, today: Option<Date>, findings: &mut Findings) {
    let table = match prices::load(settings.model.prices_file.as_deref()) {
        Ok(table) => table,
        Err(error) => {
            findings.faults.extend(error.faults);
            return;
        }
    };
    let price = today.and_then(|today| table.price(&settings.model.name, today));
    if price.is_none() {
        findings.warnings.push(Fault::new(
            "model.name",
            format!(
                "no price of {} is known, so costs cannot be told",
                settings.model.name
            ),
            "check the name, or give a price list in model.prices_file",
        ));
    }
}

fn check_recipe(settings: &Settings, findings: &mut Findings) {
    use crate::prompt::PromptError as E;
    let recipe = match from_settings::recipe(settings) {
        Ok(recipe) => recipe,
        Err(error) => {
            let message = error.to_string();
            let path = match &error {
                E::NotJson { .. } | E::NotASchema { .. } | E::Irreducible { .. } => "schema.file",
                E::NoEchoField { .. } => "results.echo_field",
                E::Unreadable { path, .. }
                    if settings.schema_file.display().to_string() == *path =>
                {
                    "schema.file"
                }
                _ => "prompt",
            };
            findings
                .faults
                .push(Fault::new(path, message, "correct the file or the setting"));
            return;
        }
    };
    if recipe.schema_depth > SCHEMA_DEPTH_WARN {
        findings.warnings.push(Fault::new(
            "schema.file",
            format!(
                "nests {} levels deep; the provider may refuse it",
                recipe.schema_depth
            ),
            "flatten it if batches fail at once with code 400",
        ));
    }
    findings.dropped = recipe.dropped;
    findings.recipe = Some(recipe.hash);
}

fn print_findings(findings: &Findings, out: &mut dyn Write) -> io::Result<()> {
    match &findings.file {
        Some(file) => writeln!(out, "file: {}", file.display())?,
        None if findings.faults.is_empty() => writeln!(out, "file: none, all defaults")?,
        None => {}
    }
    for fault in &findings.faults {
        writeln!(out, "fault: {fault}")?;
    }
    for warning in &findings.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    if !findings.dropped.is_empty() {
        writeln!(
            out,
            "The provider is not told these parts of the schema; pagemill enforces them:"
        )?;
        for dropped in &findings.dropped {
            writeln!(out, "  {}/{}", dropped.pointer, dropped.keyword)?;
        }
    }
    if let Some(recipe) = &findings.recipe {
        writeln!(out, "prompt and schema: good, recipe {}", short(recipe))?;
    }
    match findings.faults.len() {
        0 => writeln!(out, "configuration is valid"),
        1 => writeln!(out, "configuration has 1 fault"),
        many => writeln!(out, "configuration has {many} faults"),
    }
}

/// Enough of a hash for people.
fn short(recipe: &RecipeHash) -> &str {
    recipe.as_str().get(..12).unwrap_or(recipe.as_str())
}

fn findings_json(findings: &Findings) -> Value {
    let faults = |faults: &[Fault]| -> Vec<Value> {
        let one = |fault: &Fault| json!({"path": fault.path, "problem": fault.problem, "remedy": fault.remedy});
        faults.iter().map(one).collect()
    };
    let dropped: Vec<Value> = findings
        .dropped
        .iter()
        .map(|dropped| json!({"pointer": dropped.pointer, "keyword": dropped.keyword}))
        .collect();
    json!({
        "valid": findings.faults.is_empty(),
        "file": findings.file.as_ref().map(|file| file.display().to_string()),
        "faults": faults(&findings.faults),
        "warnings": faults(&findings.warnings),
        "schema_dropped": dropped,
        "recipe": findings.recipe.as_ref().map(RecipeHash::as_str),
    })
}

fn show(sources: Sources, with_origin: bool, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match load(sources.clone()) {
        Ok(loaded) => loaded,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(EXIT_CONFIGURATION);
        }
    };
    if with_origin {
        origin::show(&loaded, &sources, json, Screen::of_stdout(), out)?;
        return Ok(0);
    }
    let snapshot = loaded.settings.snapshot_yaml();
    if json {
        let value: Value = serde_yaml::from_str(&snapshot).unwrap_or(Value::Null);
        writeln!(out, "{value:#}")?;
    } else {
        write!(out, "{snapshot}")?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
