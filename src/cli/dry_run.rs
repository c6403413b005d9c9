//! `pagemill run --dry-run`: what a run would do, from the tree and the state as they are. Writes
//! nothing and opens no socket.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use serde_json::json;

use super::exit;
use crate::actors::scanner::{known_of, labels_of};
use crate::actors::state::open::OpenError;
use crate::actors::state::read;
use crate::adapters::filesystem::Filesystem;
use crate::decide::cost;
use crate::decide::scan::{self, Known, Label, LeftAlone};
use crate::domain::ids::RecordKey;
use crate::domain::page::PageStage;
use crate::domain::window::Window;
use crate::pipeline::from_settings;
use crate::ports::page_source::{BookListing, Found, PageSource};
use crate::prompt::Recipe;
use crate::report::words;
use crate::settings::Settings;

/// What was counted.
#[derive(Debug, Default)]
struct Counted {
    labels: u64,
    done: u64,
    to_adopt_or_run: u64,
    to_run: u64,
    runnable_now: u64,
    in_flight: u64,
    dead: u64,
    oddities: u64,
}

/// Runs the command; gives the exit code.
pub async fn run(
    settings: &Settings,
    window: Option<&Window>,
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let recipe = match from_settings::recipe(settings) {
        Ok(recipe) => recipe,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let state = match read::open_read_only(&settings.state.sqlite_file).await {
        Ok(state) => Some(state),
        Err(OpenError::Missing { .. }) => None,
        Err(fault) => return Err(fault.into()),
    };
    let counted = count(settings, window, state.as_ref()).await?;
    let worst = worst_nanos(settings, &recipe, counted.to_run)?;
    let batches = counted
        .to_run
        .div_ceil(settings.execution.batch_size_limit.max(1));
    if as_json {
        let plan = json!({
            "version": 1,
            "labels": counted.labels,
            "done": counted.done,
            "outputs_to_judge": counted.to_adopt_or_run,
            "in_flight": counted.in_flight,
            "dead": counted.dead,
            "to_run": counted.to_run,
            "runnable_now": counted.runnable_now,
            "batches_at_least": batches,
            "cost_usd_at_most": worst.map(|nanos| nanos as f64 / 1e9),
            "not_pages": counted.oddities,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?;
        return Ok(exit::DONE);
    }
    let line = |name: &str, count: u64| format!("{name:<26} {:>12}", words::count(count));
    writeln!(out, "{}", line("labels in scope", counted.labels))?;
    writeln!(out, "{}", line("done", counted.done))?;
    writeln!(
        out,
        "{}",
        line("outputs to be judged", counted.to_adopt_or_run)
    )?;
    writeln!(out, "{}", line("in flight", counted.in_flight))?;
    writeln!(out, "{}", line("dead", counted.dead))?;
    writeln!(out, "{}", line("to run", counted.to_run))?;
    writeln!(out, "{}", line("  of these at once", counted.runnable_now))?;
    writeln!(out, "{}", line("batches, at least", batches))?;
    match worst {
        Some(nanos) => writeln!(out, "{:<26} {:>12}", "cost, at most", words::dollars(nanos))?,
        None => writeln!(out, "{:<26} {:>12}", "cost, at most", "unknown")?,
    }
    if counted.oddities > 0 {
        writeln!(
            out,
            "{}",
            line("not pages (see --log-level debug)", counted.oddities)
        )?;
    }
    writeln!(out, "nothing was changed and nothing was sent")?;
    Ok(exit::DONE)
}

/// The most that this many pages can cost, where the model has a price and a limit.
pub(super) fn worst_nanos(
    settings: &Settings,
    recipe: &Recipe,
    pages: u64,
) -> anyhow::Result<Option<u64>> {
    let price = from_settings::price(settings, crate::adapters::system_clock::now())?;
    let input = settings.batch.tokens_per_image + recipe.prompt_template.len() as u64 / 4;
    let priced = price.as_ref().zip(settings.model.max_output_tokens());
    Ok(priced.map(|(price, output)| cost::reserve_nanos(price, pages * input, pages, output)))
}

impl Counted {
    fn book(&mut self, labels: &[Label], known: &[Known], rules: &scan::Rules) {
        let mut in_flight: HashSet<&RecordKey> = HashSet::new();
        let compared = scan::compare(labels, known, rules, |key, why| {
            tracing::debug!(page.key = key.as_str(), reason = %why, "page left alone");
            match why {
                LeftAlone::Done => self.done += 1,
                LeftAlone::InFlight(_) => {
                    in_flight.insert(key);
                }
                LeftAlone::Dead | LeftAlone::ImageNotUsable | LeftAlone::InReview => self.dead += 1,
                LeftAlone::WaitsFor(_) | LeftAlone::OutOfScope | LeftAlone::LeftOut => {}
            }
        });
        let judged: HashSet<&RecordKey> = compared.outputs_to_judge.iter().collect();
        let new = compared.register.iter().map(|place| &place.key);
        let again = compared.requeue.iter().map(|(key, _cause)| key);
        let waiting = known
            .iter()
            .filter(|page| page.stage == PageStage::Discovered)
            .map(|page| &page.key);
        let in_scope: HashMap<&RecordKey, u32> = labels
            .iter()
            .filter(|label| label.in_scope)
            .map(|label| (&label.key, label.number))
            .collect();
        let to_run: HashSet<&RecordKey> = new
            .chain(again)
            .chain(waiting)
            .filter(|key| in_scope.contains_key(key) && !judged.contains(key))
            .collect();
        let not_done: HashSet<u32> = to_run
            .union(&in_flight)
            .filter_map(|key| in_scope.get(key).copied())
            .collect();
        let waits = |key: &&&RecordKey| {
            let before = in_scope.get(**key).and_then(|number| number.checked_sub(1));
            rules.chained && before.is_some_and(|before| not_done.contains(&before))
        };
        self.labels += in_scope.len() as u64;
        self.to_adopt_or_run += judged.len() as u64;
        self.in_flight += in_flight.len() as u64;
        self.to_run += to_run.len() as u64;
        self.runnable_now += to_run.iter().filter(|key| !waits(key)).count() as u64;
    }
}

/// Which labels of a book arrived in the window; those that cannot be looked at did not.
async fn inside(tree: &Filesystem, book: &BookListing, window: &Window) -> Vec<bool> {
    let keys = book.labels.iter().map(|label| label.key.clone()).collect();
    let arrivals = tree.arrivals(keys).await;
    let inside = arrivals
        .iter()
        .map(|arrival| arrival.as_ref().is_ok_and(|at| window.holds(*at)));
    inside.collect()
}

async fn count(
    settings: &Settings,
    window: Option<&Window>,
    state: Option<&sea_orm::DatabaseConnection>,
) -> anyhow::Result<Counted> {
    let tree = from_settings::filesystem(settings);
    let scope = settings.scope();
    let rules = scan::Rules {
        scope: from_settings::windowed(settings.scope_token(), window),
        skip_dead: from_settings::skip_dead(settings),
        chained: settings.execution.context == crate::settings::Context::Chain,
    };
    let mut walk = tree.walk(&scope).await?;
    let mut counted = Counted::default();
    while let Some(chunk) = walk.next().await {
        for found in chunk {
            let book = match found {
                Found::Book(book) => book,
                Found::Oddity(oddity) => {
                    tracing::debug!(path = %oddity.path, reason = %oddity.kind, "not a page");
                    counted.oddities += 1;
                    continue;
                }
                // Only who says what books looked like before hears of this.
                Found::Unchanged(_book) => continue,
            };
            let in_window = match window {
                Some(window) => Some(inside(&tree, &book, window).await),
                None => None,
            };
            let layout = &settings.paths.layout;
            let labels = labels_of(&book, &scope, layout, in_window.as_deref());
            let known = match state {
                Some(state) => {
                    read::pages_of_books(state, std::slice::from_ref(&book.book)).await?
                }
                None => Vec::new(),
            };
            let known: Vec<scan::Known> = known.into_iter().map(known_of).collect();
            counted.book(&labels, &known, &rules);
        }
    }
    Ok(counted)
}
