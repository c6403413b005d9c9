//! The time from the start of a process to its first look at a job.

use std::time::{Duration, Instant};

use actix::SystemRunner;

use super::Size;
use super::answers::Answers;
use super::child::Tied;
use super::project::Project;
use super::provider::{Members, Provider};
use super::table::Table;
use super::tables::{Tables, add_events, ask, change};

const LIMIT_SECONDS: f64 = 2.0;
/// Starts of which the fastest and the middle one are told.
const STARTS: usize = 5;
/// A start that takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// On a state whose events grow, first without a tree of labels, in the end with one.
pub fn start(system: &SystemRunner, size: Size, table: &mut Table) {
    let pages = size.of("PAGEMILL_BENCH_SCALE_KNOWN", 1_000_000, 2_000);
    let events_max = size.of("PAGEMILL_BENCH_SCALE_EVENTS", 10_000_000, 20_000);
    let members = 100.min(pages / 2);
    let tables = Tables {
        completed: pages - members,
        live: 1,
        members,
        ..Tables::default()
    };
    let provider = Provider::start(Answers::of(6_000));
    provider.lets_jobs_end(false);
    let first = tables.first_of(0);
    let all = Members::Prepared {
        first,
        count: members,
    };
    provider.knows("batches/live0000", all);
    let project = Project::new(provider.address(), "execution: {context: none}\n", 0);
    system.block_on(project.fill(&tables));
    project.labels(first, first);
    project.outputs(1, 1);
    let mut there = 0;
    for events in [events_max / 100, events_max / 10, events_max] {
        system.block_on(add_events(&project.database(), events - there));
        there = events;
        let what = format!("start: {pages} pages, {events} events");
        starts(system, &project, &provider, &what, table);
    }
    project.labels(1, first - 1);
    project.outputs(2, tables.completed);
    let what = format!("start: the same with {pages} labels to look at");
    starts(system, &project, &provider, &what, table);
}

fn starts(
    system: &SystemRunner,
    project: &Project,
    provider: &Provider,
    what: &str,
    table: &mut Table,
) {
    let mut seconds: Vec<f64> = (0..STARTS)
        .map(|_| {
            // So that the job is due, whenever it was looked at last.
            let due = "UPDATE submissions SET polled_at = NULL WHERE state = 'submitted'";
            system.block_on(change(&project.database(), due));
            one_start(project, provider).as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    table.line(what, seconds[STARTS / 2], LIMIT_SECONDS, "s");
    let bytes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes = system.block_on(ask(&project.database(), bytes));
    table.note(&format!(
        "middle of {STARTS}; fastest {:.2} s, slowest {:.2} s; database {} MiB",
        seconds[0],
        seconds[STARTS - 1],
        bytes >> 20
    ));
}

fn one_start(project: &Project, provider: &Provider) -> Duration {
    provider.first_look();
    let since = Instant::now();
    let mut run = Tied::pagemill(project.path(), "run", &["run"], &project.env());
    let mut looked = None;
    let has_looked = run.until(PATIENCE, || {
        looked = provider.first_look();
        looked.is_some()
    });
    assert!(has_looked, "no look at a job: {}", project.last_words());
    looked.unwrap().duration_since(since)
}
