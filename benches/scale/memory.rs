//! The most that a run holds resident at once, by what it works on.

use std::path::Path;
use std::time::{Duration, Instant};

use actix::SystemRunner;

use super::Size;
use super::answers::Answers;
use super::child::{Memory, Tied};
use super::project::Project;
use super::provider::{Members, Provider};
use super::table::Table;
use super::tables::{Tables, ask};

const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// More than any of these takes.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// What a result line has usually, in bytes.
const LINE_BYTES: u64 = 6 * 1024;
const GIBIBYTES_2: u64 = 2 << 30;
/// The exit code of a run that leaves work.
const WORK_LEFT: i32 = 75;

fn report(table: &mut Table, what: &str, memory: Memory, limit: f64) {
    table.line(what, memory.peak as f64 / MEBIBYTE, limit, "MiB");
    let own = memory.own as f64 / MEBIBYTE;
    table.note(&format!(
        "of it {own:.1} MiB its own, the rest mapped from files"
    ));
}

/// Runs to the end; gives its memory, and how long it took.
fn run(project: &Project, arguments: &[&str], codes: &[i32]) -> (Memory, Duration) {
    let arguments = [&["run"], arguments].concat();
    let since = Instant::now();
    let run = Tied::pagemill(project.path(), "run", &arguments, &project.env());
    let (status, memory) = run.end(PATIENCE);
    let took = since.elapsed();
    let is_expected = status.code().is_some_and(|code| codes.contains(&code));
    assert!(is_expected, "{status}: {}", project.last_words());
    (memory, took)
}

fn count(system: &SystemRunner, project: &Project, sql: &str) -> i64 {
    system.block_on(ask(&project.database(), sql))
}

/// A whole run, from labels to deleted files, against the emulator.
pub fn pages(system: &SystemRunner, size: Size, table: &mut Table) {
    let pages = size.of("PAGEMILL_BENCH_SCALE_PAGES", 100_000, 20);
    let (memory, took) = whole_run(system, pages);
    report(
        table,
        &format!("memory: run of {pages} pages"),
        memory,
        80.0,
    );
    let each = took.as_secs_f64() * 1e6 / pages as f64;
    let seconds = took.as_secs_f64();
    table.note(&format!("{seconds:.1} s, {each:.0} us a page"));
}

/// A run of so many new pages against the emulator.
pub fn whole_run(system: &SystemRunner, pages: u64) -> (Memory, Duration) {
    let place = tempfile::tempdir().unwrap();
    let (_emulator, address) = emulator(place.path());
    let settings = "execution: {context: none}\nbatch: {poll_interval_seconds: 1}\n\
                    files: {uploads_per_second: 0}\nbreaker: {pilot_pages: 0}\n";
    let project = Project::new(&address, settings, 0);
    project.labels(1, pages);
    project.images(1, pages);
    let outcome = run(&project, &[], &[0]);
    let done = "SELECT count(*) FROM pages WHERE stage = 'completed'";
    assert_eq!(count(system, &project, done), pages as i64);
    outcome
}

/// The emulator in a process of its own, with its address.
fn emulator(place: &Path) -> (Tied, String) {
    let arguments = ["emulator", "--listen", "127.0.0.1:0", "--port-file", "port"];
    let latency = ["--batch-latency-ms", "0"];
    let place_text = place.display().to_string();
    let mut emulator = Tied::pagemill(
        place,
        "emulator",
        &[&arguments[..], &latency].concat(),
        &[("TMPDIR", &place_text)],
    );
    let port = place.join("port");
    assert!(emulator.until(Duration::from_secs(30), || port.exists()));
    let port = std::fs::read_to_string(port).unwrap();
    (emulator, format!("http://127.0.0.1:{}", port.trim()))
}

/// A run on a state of a million pages of which some are with the provider and some still to be
/// sent; it looks at the whole tree, collects what was sent, and sends the rest.
pub fn known(system: &SystemRunner, size: Size, table: &mut Table) {
    let pages = size.of("PAGEMILL_BENCH_SCALE_KNOWN", 1_000_000, 2_000);
    let in_flight = size.of("PAGEMILL_BENCH_SCALE_IN_FLIGHT", 10_000, 40);
    let new = in_flight / 2;
    let live = 100.min(in_flight / 2);
    let tables = Tables {
        completed: pages - in_flight - new,
        events: 5,
        live,
        members: in_flight / live,
        discovered: new,
        ..Tables::default()
    };
    let provider = Provider::start(Answers::of(LINE_BYTES));
    for batch in 0..live {
        let (first, count) = (tables.first_of(batch), tables.members);
        provider.knows(
            &format!("batches/live{batch:04}"),
            Members::Prepared { first, count },
        );
    }
    let settings = "execution: {context: none, max_concurrent_batches: 100}\n\
                    batch: {poll_interval_seconds: 1}\n\
                    files: {uploads_per_second: 0}\nbreaker: {pilot_pages: 0}\n";
    let project = Project::new(provider.address(), settings, 0);
    system.block_on(project.fill(&tables));
    project.labels(1, tables.pages());
    project.outputs(1, tables.completed);
    project.images(tables.completed + 1, tables.pages());
    let (memory, took) = run(&project, &[], &[0]);
    let done = "SELECT count(*) FROM pages WHERE stage = 'completed'";
    assert_eq!(count(system, &project, done), tables.pages() as i64);
    let what = format!("memory: {pages} pages known, {in_flight} in flight");
    report(table, &what, memory, 250.0);
    let seconds = took.as_secs_f64();
    table.note(&format!(
        "{seconds:.1} s, with {new} pages sent and the whole tree looked at"
    ));
}

/// One batch whose result file is as large as may be: as many lines as the settings allow in a
/// batch, and once more with lines of the usual length.
pub fn results(system: &SystemRunner, size: Size, table: &mut Table) {
    let bytes = size.of("PAGEMILL_BENCH_SCALE_RESULT_BYTES", GIBIBYTES_2, 400_000);
    let pages_max = size.of("PAGEMILL_BENCH_SCALE_BATCH_PAGES", 50_000, 20);
    for members in [pages_max, bytes.div_ceil(LINE_BYTES)] {
        let answers = Answers::of(bytes / members);
        let provider = Provider::start(answers);
        let tables = Tables {
            live: 1,
            members,
            events: 4,
            ..Tables::default()
        };
        let all = Members::Prepared {
            first: 1,
            count: members,
        };
        provider.knows("batches/live0000", all);
        let project = Project::new(provider.address(), "execution: {context: none}\n", 0);
        system.block_on(project.fill(&tables));
        project.labels(1, members);
        project.images(1, members);
        let (memory, took) = run(&project, &["--once"], &[0, WORK_LEFT]);
        let done = "SELECT count(*) FROM pages WHERE stage = 'completed'";
        assert_eq!(count(system, &project, done), members as i64);
        let raw = count(system, &project, "SELECT raw_bytes FROM submissions");
        let raw = raw as f64 / MEBIBYTE;
        let what = format!("memory: results of {raw:.0} MiB, {members} lines");
        report(table, &what, memory, 120.0);
        table.note(&format!("{:.1} s", took.as_secs_f64()));
    }
}

/// One batch whose lines file is as large as the provider takes: as many pages as the settings
/// allow in a batch, each with a long prompt.
pub fn lines(system: &SystemRunner, size: Size, table: &mut Table) {
    let pages = size.of("PAGEMILL_BENCH_SCALE_LINES_PAGES", 48_000, 20);
    let bytes = size.of("PAGEMILL_BENCH_SCALE_LINES_BYTES", 1_990_000_000, 400_000);
    let provider = Provider::start(Answers::of(LINE_BYTES));
    provider.lets_jobs_end(false);
    let settings = "execution: {context: none, batch_size_limit: 50000}\n\
                    batch: {bytes_max: 2GB, fill_wait_seconds: 0}\nbreaker: {pilot_pages: 0}\n";
    // A line is its prompt and some 3,000 bytes: the schema, the key, the file.
    let prompt = (bytes / pages).saturating_sub(3_000) as usize;
    let project = Project::new(provider.address(), settings, prompt);
    let tables = Tables {
        uploaded: pages,
        events: 3,
        ..Tables::default()
    };
    system.block_on(project.fill(&tables));
    project.labels(1, pages);
    project.images(1, pages);
    let (memory, took) = run(&project, &["--once"], &[WORK_LEFT]);
    let sent = "SELECT count(*) FROM pages WHERE stage = 'batched'";
    assert_eq!(count(system, &project, sent), pages as i64);
    assert_eq!(
        count(system, &project, "SELECT count(*) FROM submissions"),
        1
    );
    let lines = count(system, &project, "SELECT lines_bytes FROM submissions");
    assert_eq!(provider.uploaded(), lines as u64);
    let mebibytes = lines as f64 / MEBIBYTE;
    let what = format!("memory: lines file of {mebibytes:.0} MiB, {pages} lines");
    report(table, &what, memory, 120.0);
    table.note(&format!("{:.1} s", took.as_secs_f64()));
}
