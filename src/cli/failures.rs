//! `pagemill failures`: what went wrong, by type, by level and by day, with the answers at hand.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sea_orm::ConnectionTrait;

use super::rows::Form;
use super::screen::Screen;
use super::select::{SelectArgs, known_key};
use super::target::refuse_kept;
use super::{Common, exit};
use crate::actors::state::desk_failures::{
    self as desk, AttemptLine, DayCount, FailureFilter, FailureLine, FailureTotals, GivenUp, Group,
    PageLine,
};
use crate::actors::state::messages::StateResult;
use crate::actors::state::{audit, read};
use crate::adapters::system_clock;
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::layout::Layout;
use crate::domain::selection::Selection;
use crate::domain::time::Timestamp;
use crate::pipeline::from_settings;
use crate::settings::Settings;

mod clusters;
mod days;
mod json;
mod print;
mod raw;
mod write;

use clusters::Clusters;
use days::Days;

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill failures                            totals and the newest failures
  pagemill failures --by-state --by-school     where they happen
  pagemill failures --clusters                 which messages say the same
  pagemill failures --trend --since 2026-11-01  failures a day
  pagemill failures --record-key Ohio:Lincoln:1849:3 --raw
                                               one page, and what was answered
  pagemill failures --dead --states Ohio       pages not sent again, and why
  pagemill failures --export-csv failures.csv  everything, as a table

Exit codes: 0, also where there are failures; 1 failed; 2 usage; 78
configuration.")]
pub struct FailuresArgs {
    /// How many lines a list has at most [default: 10 failures, 20 of other lists]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub limit: Option<u64>,
    /// With the newest failures: show the answer, the error chain, and where the raw line is
    #[arg(long)]
    pub raw: bool,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub views: ViewArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub select: SelectArgs,
    #[command(flatten)]
    pub export: ExportArgs,
}

/// What is shown; several may be asked for at once.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is shown")]
pub struct ViewArgs {
    /// Totals by type and the newest failures; this is what is shown without any of these
    #[arg(long)]
    pub summary: bool,
    /// Failures by error type
    #[arg(long)]
    pub by_error_type: bool,
    /// Failures by the level `state`
    #[arg(long)]
    pub by_state: bool,
    /// Failures by the level `school`
    #[arg(long)]
    pub by_school: bool,
    /// Failures by any level of the layout
    #[arg(long, value_name = "LEVEL")]
    pub by: Vec<String>,
    /// Every failure and every request of one page
    #[arg(long, value_name = "KEY")]
    pub record_key: Option<String>,
    /// Failures a day (UTC) and type, of the last 30 days unless --since says more
    #[arg(long)]
    pub trend: bool,
    /// Groups of failures whose messages say the same; reads every message
    #[arg(long)]
    pub clusters: bool,
    /// Pages that are dead or in review, each with its last failure; beside another view or an
    /// export: only the failures of such pages
    #[arg(long)]
    pub dead: bool,
}

/// Which failures are meant, beside which pages.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which failures")]
pub struct FilterArgs {
    /// Only this error type
    #[arg(long, value_name = "TYPE", ignore_case = true, hide_possible_values = true,
          value_parser = error_types())]
    pub error_type: Option<ErrorType>,
    /// Only from this day on (UTC)
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub since: Option<String>,
    /// Only up to this day (UTC), which is included
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub until: Option<String>,
}

/// Where all failures that are meant are written to, as rows with every column of `failure_logs`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Export")]
pub struct ExportArgs {
    /// Write them as CSV (RFC 4180); - is standard output
    #[arg(long, value_name = "FILE")]
    pub export_csv: Option<PathBuf>,
    /// Write them as JSON, one object a line; - is standard output
    #[arg(long, value_name = "FILE")]
    pub export_jsonl: Option<PathBuf>,
    /// With --export-csv: put an apostrophe before cells that a spreadsheet would run as formulas
    #[arg(long, requires = "export_csv")]
    pub for_spreadsheets: bool,
}

fn error_types() -> impl TypedValueParser<Value = ErrorType> {
    let words = ErrorType::ALL.iter().map(|error| error.as_str());
    PossibleValuesParser::new(words.collect::<Vec<&str>>()).try_map(|word| {
        let known = ErrorType::ALL.iter().copied();
        let mut known = known.filter(|error| error.as_str().eq_ignore_ascii_case(&word));
        known.next().ok_or("no such error type")
    })
}

/// Flags that do not go together.
#[derive(Debug, thiserror::Error)]
enum UsageFault {
    #[error("--record-key names the page; leave out {0}")]
    KeyAndSelection(&'static str),
    #[error("the layout has no level '{level}'; its levels are {names}: use --by LEVEL")]
    NoLevel { level: String, names: String },
    #[error("an export to - has standard output for itself: leave out {0}, or name a file")]
    TwoOnStdout(&'static str),
    #[error(
        "--raw shows at most {RAW_MAX} failures: use --limit {RAW_MAX}, or --export-jsonl FILE for all"
    )]
    TooMuchRaw,
    #[error("--raw goes with --summary or --record-key, or with neither")]
    NothingRaw,
}

/// Failures listed where nothing is said, and groups.
const LINES: u64 = 10;
const GROUPS: u64 = 20;
/// All failures of one page: it is dead long before it has so many.
const LINES_OF_PAGE: u64 = 1_000;
/// Answers that are shown.
const RAW_MAX: u64 = 100;

/// Everything that is shown.
#[derive(Debug, Default)]
pub struct Shown {
    totals: FailureTotals,
    latest: Vec<FailureLine>,
    by_level: Vec<ByLevel>,
    trend: Option<Vec<DayCount>>,
    days: Days,
    clusters: Option<Clusters>,
    page: Option<OnePage>,
    given_up: Option<Vec<GivenUp>>,
}

/// Failures by the names of one level.
#[derive(Debug)]
pub struct ByLevel {
    level: String,
    groups: Vec<Group>,
    /// How many groups there are.
    all: u64,
}

/// One page's failures.
#[derive(Debug)]
pub struct OnePage {
    key: RecordKey,
    page: Option<PageLine>,
    attempts: Vec<AttemptLine>,
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &FailuresArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match common.loaded() {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let settings = &loaded.settings;
    let asked = match Asked::new(args, settings) {
        Ok(asked) => asked,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let snapshot = audit::snapshot(&connection).await?;
    let exported = asked.export(&snapshot, out).await?;
    if asked.shows() {
        let shown = asked.look(&snapshot).await?;
        let desk = Desk {
            conn: &snapshot,
            files: &from_settings::filesystem(settings),
            asked: &asked,
            screen: Screen::of_stdout(),
        };
        if args.json {
            json::print(&desk, &shown, &exported, out).await?;
        } else {
            print::all(&desk, &shown, out).await?;
        }
    }
    audit::end_snapshot(snapshot).await?;
    connection.close().await?;
    Ok(exit::DONE)
}

/// What printing needs beside what is printed.
struct Desk<'a, C> {
    conn: &'a C,
    files: &'a crate::adapters::filesystem::Filesystem,
    asked: &'a Asked<'a>,
    screen: Screen,
}

/// An export that was made.
struct Made {
    path: PathBuf,
    form: &'static str,
    rows: u64,
}

/// The flags, understood.
struct Asked<'a> {
    args: &'a FailuresArgs,
    filter: FailureFilter,
    days: Days,
    /// The page that `--record-key` names.
    key: Option<RecordKey>,
    /// Levels and their places.
    levels: Vec<(String, usize)>,
    now: Timestamp,
}

impl<'a> Asked<'a> {
    fn new(args: &'a FailuresArgs, settings: &'a Settings) -> anyhow::Result<Self> {
        let layout = &settings.paths.layout;
        let FilterArgs {
            error_type,
            since,
            until,
        } = &args.filter;
        let days = Days::read(since.as_deref(), until.as_deref())?;
        let key = args.views.record_key.as_deref();
        let key = key.map(|key| known_key(layout, key)).transpose()?;
        let selection = match &key {
            Some(_key) if !args.select.is_empty() => {
                return Err(UsageFault::KeyAndSelection("the flags that choose pages").into());
            }
            Some(key) => Selection::of_key(key.clone()),
            None => args.select.selection(layout)?,
        };
        let asked = Asked {
            filter: FailureFilter {
                selection,
                error: *error_type,
                since: days.since(),
                until: days.until(),
                given_up: args.views.dead,
            },
            levels: levels(&args.views, layout)?,
            now: system_clock::now(),
            args,
            days,
            key,
        };
        asked.check_raw()?;
        asked.check_exports(settings)?;
        Ok(asked)
    }

    fn check_raw(&self) -> Result<(), UsageFault> {
        match () {
            () if !self.args.raw => Ok(()),
            () if self.args.limit.is_some_and(|limit| limit > RAW_MAX) => {
                Err(UsageFault::TooMuchRaw)
            }
            () if !self.shows_lines() => Err(UsageFault::NothingRaw),
            () => Ok(()),
        }
    }

    fn check_exports(&self, settings: &Settings) -> anyhow::Result<()> {
        let mut on_stdout = 0;
        for (path, _form, _word) in self.exports() {
            if path.as_os_str() == "-" {
                on_stdout += 1;
            } else {
                refuse_kept(settings, path)?;
            }
        }
        match on_stdout {
            0 => Ok(()),
            _ if self.args.json => Err(UsageFault::TwoOnStdout("--json").into()),
            _ if self.names_a_view() => Err(UsageFault::TwoOnStdout("what is to be shown").into()),
            1 => Ok(()),
            _ => Err(UsageFault::TwoOnStdout("the other one").into()),
        }
    }

    fn exports(&self) -> Vec<(&PathBuf, Form, &'static str)> {
        let ExportArgs {
            export_csv,
            export_jsonl,
            for_spreadsheets,
        } = &self.args.export;
        let csv = Form::Csv {
            for_spreadsheets: *for_spreadsheets,
        };
        let csv = export_csv.iter().map(|path| (path, csv, "csv"));
        let lines = export_jsonl.iter();
        let lines = lines.map(|path| (path, Form::JsonLines, "jsonl"));
        csv.chain(lines).collect()
    }

    /// Whether a view is asked for by name; `--dead` is one only where there is no other.
    fn names_a_view(&self) -> bool {
        let ViewArgs {
            summary,
            by_error_type,
            by_state,
            by_school,
            by,
            record_key,
            trend,
            clusters,
            dead: _,
        } = &self.args.views;
        let flags = [summary, by_error_type, by_state, by_school, trend, clusters];
        flags.into_iter().any(|flag| *flag) || !by.is_empty() || record_key.is_some()
    }

    fn lists_given_up(&self) -> bool {
        self.args.views.dead && !self.names_a_view() && self.exports().is_empty()
    }

    /// Whether anything but an export is to be shown.
    fn shows(&self) -> bool {
        self.names_a_view() || self.exports().is_empty() || self.args.json
    }

    fn shows_summary(&self) -> bool {
        let nothing_else = !self.names_a_view() && !self.lists_given_up();
        self.args.views.summary || (nothing_else && self.exports().is_empty())
    }

    /// Whether single failures are shown.
    fn shows_lines(&self) -> bool {
        self.shows_summary() || self.key.is_some()
    }

    fn lines_max(&self) -> u64 {
        let usual = match &self.key {
            Some(_page) if !self.args.raw => LINES_OF_PAGE,
            Some(_page) => RAW_MAX,
            None => LINES,
        };
        self.args.limit.unwrap_or(usual)
    }

    fn groups_max(&self) -> u64 {
        self.args.limit.unwrap_or(GROUPS)
    }

    async fn export(
        &self,
        conn: &impl ConnectionTrait,
        out: &mut impl Write,
    ) -> anyhow::Result<Vec<Made>> {
        let mut made = Vec::new();
        for (path, form, word) in self.exports() {
            let exported = write::export(conn, &self.filter, form, path, out).await?;
            print::exported(path, &exported)?;
            made.push(Made {
                path: path.clone(),
                form: word,
                rows: exported.rows,
            });
        }
        Ok(made)
    }

    async fn look(&self, conn: &impl ConnectionTrait) -> StateResult<Shown> {
        let views = &self.args.views;
        let filter = &self.filter;
        let mut shown = Shown {
            totals: desk::totals(conn, filter).await?,
            days: self.days,
            ..Shown::default()
        };
        if self.shows_lines() || self.args.json {
            shown.latest = desk::newest(conn, filter, self.lines_max()).await?;
        }
        for (level, place) in &self.levels {
            let (groups, all) = desk::by_level(conn, filter, *place, self.groups_max()).await?;
            let level = level.clone();
            shown.by_level.push(ByLevel { level, groups, all });
        }
        if views.trend {
            shown.days = self.days.closed(self.now);
            let filter = FailureFilter {
                since: shown.days.since(),
                until: shown.days.until(),
                ..filter.clone()
            };
            shown.trend = Some(desk::trend(conn, &filter).await?);
        }
        if views.clusters {
            shown.clusters = Some(clusters::clusters(conn, filter, self.groups_max()).await?);
        }
        if let Some(key) = &self.key {
            shown.page = Some(OnePage {
                page: desk::page_of(conn, key).await?,
                attempts: desk::attempts_of(conn, key).await?,
                key: key.clone(),
            });
        }
        if views.dead {
            let given_up = desk::given_up_pages(conn, filter, self.groups_max()).await?;
            shown.given_up = Some(given_up);
        }
        Ok(shown)
    }
}

/// The levels that failures are to be grouped by, each once, with their places in the layout.
fn levels(views: &ViewArgs, layout: &Layout) -> Result<Vec<(String, usize)>, UsageFault> {
    let mut asked = Vec::new();
    if views.by_state {
        asked.push("state");
    }
    if views.by_school {
        asked.push("school");
    }
    asked.extend(views.by.iter().map(String::as_str));
    let mut found: Vec<(String, usize)> = Vec::new();
    for level in asked {
        let names = layout.names();
        let place = names.iter().position(|name| name == level);
        let place = place.ok_or_else(|| UsageFault::NoLevel {
            level: level.to_owned(),
            names: names.join(", "),
        })?;
        if !found.iter().any(|(_level, known)| *known == place) {
            found.push((level.to_owned(), place));
        }
    }
    Ok(found)
}
