//! Crash anywhere, start again: it ends as if nothing had happened.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use pagemill::actors::conductor::RunEnd;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::open::StateOptions;
use pagemill::domain::failure::{Next, Quota};
use pagemill::domain::time::Timestamp;

use super::clock::Dice;
use super::disk::Disk;
use super::gates::{CrashAt, Passage};
use super::intended;
use super::life::{Act, LifeEnd, Lived, Pilot, Rest, is_done};
use super::ports::{Fates, Outside};
use super::provider::{Fate, Row};
use super::watch::wait;
use super::world::{Settings, World};

/// What happens to one call, and nothing to any other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Script {
    /// The call, and which time it is made.
    call: (&'static str, u32),
    fate: Fate,
}

/// Everything goes well but what the script says.
#[derive(Default)]
pub struct Scripted {
    script: Option<Script>,
    counts: BTreeMap<&'static str, u32>,
}

impl Fates for Scripted {
    fn call(&mut self, call: &'static str, _: &str, _: Timestamp) -> Fate {
        let count = self.counts.entry(call).or_default();
        *count += 1;
        match &self.script {
            Some(script) if script.call == (call, *count) => script.fate.clone(),
            _ => Fate::Well,
        }
    }

    fn disk_fails(&mut self, _: &'static str) -> bool {
        false
    }

    fn fraction(&mut self) -> f64 {
        0.5
    }
}

/// A driver that lets everything happen in order, and ends every job well.
pub struct Calm;

impl Pilot for Calm {
    fn next(&mut self, rest: &Rest, outside: &Outside) -> Act {
        // A late answer comes when there is nothing else to wait for, and much later.
        let place = rest
            .waiting
            .iter()
            .position(|call| !call.starts_with("late"));
        if let Some(place) = place {
            return Act::Answer(place);
        }
        if !rest.waiting.is_empty() {
            outside.clock.advance(Duration::from_secs(400));
            return Act::Answer(0);
        }
        if rest.stopped {
            return Act::Nothing;
        }
        let running = outside.provider.borrow().running();
        if !running.is_empty() {
            for job in running {
                answer_well(outside, &job);
            }
            return Act::Pass(Duration::from_secs(30));
        }
        match &rest.work {
            Some(work) if is_done(work) => Act::Stop,
            _ => Act::Pass(Duration::from_secs(30)),
        }
    }
}

fn answer_well(outside: &Outside, job: &str) {
    let mut provider = outside.provider.borrow_mut();
    let lines = provider.jobs[job].lines.clone();
    let rows = lines
        .into_iter()
        .map(|line| (line.key, Row::Good))
        .collect();
    provider.end_with_rows(job, "BATCH_STATE_SUCCEEDED", rows, 0, false);
}

/// A book of three pages in a chain, and two books of one page each.
fn books(script: Option<Script>) -> World {
    let mut disk = Disk::new();
    for (book, pages) in [("a", 3), ("b", 1), ("c", 1)] {
        for page in 1..=pages {
            disk.add(book, page);
        }
    }
    let fates = Scripted {
        script,
        counts: BTreeMap::new(),
    };
    World::new(Settings::plain(), disk, Box::new(fates))
}

/// What is left in the end: rows without times, ids and how often something was tried, and the
/// outputs.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    rows: Vec<String>,
    outputs: Vec<String>,
    remote: Vec<String>,
}

impl Left {
    fn lines(&self) -> impl Iterator<Item = &String> {
        self.rows.iter().chain(&self.outputs).chain(&self.remote)
    }

    /// What is here and not there, and the other way round.
    fn differences(&self, other: &Left) -> Vec<String> {
        let (ours, theirs): (Vec<_>, Vec<_>) = (self.lines().collect(), other.lines().collect());
        let more = ours.iter().filter(|line| !theirs.contains(line));
        let less = theirs.iter().filter(|line| !ours.contains(line));
        more.map(|line| format!("+ {line}"))
            .chain(less.map(|line| format!("- {line}")))
            .collect()
    }
}

const ROWS: &str = "
    SELECT 'page ' || record_key || ' ' || stage || ' ' || coalesce(error, '-') || ' '
           || coalesce(output_sha256, '-') || ' ' || coalesce(output_bytes, 0) || ' '
           || coalesce(batch_id, 'free') || ' ' || coalesce(waits_for, 'waits for nobody')
           || ' ' || coalesce(image_file, 'no image') || ' ' || releases || ' ' || upload_cycles
      FROM pages
    UNION ALL SELECT 'batch of ' || (SELECT group_concat(record_key, ' ' ORDER BY record_key)
           FROM batch_record_keys AS m WHERE m.batch_id = s.batch_id)
           || ' is ' || state || ' ' || remote_state || ' ' || count_submitted || ' '
           || count_succeeded || ' ' || lines_total || ' ' || lines_foreign || ' ' || b.status
           || ' ' || (SELECT count(*) FROM reports AS r WHERE r.batch_id = s.batch_id) || ' reports'
      FROM submissions AS s JOIN active_batches AS b USING (batch_id)
    UNION ALL SELECT 'attempt ' || record_key || ' ' || attempt_number || ' ' || outcome || ' '
           || coalesce(context_sha256, 'no context') || ' ' || coalesce(finish_reason, '-')
      FROM attempts
    UNION ALL SELECT 'held ' || record_key FROM inflight_records
    UNION ALL SELECT 'failed ' || record_key || ' ' || count FROM failure_counts
    UNION ALL SELECT 'logged ' || record_key || ' ' || error_type FROM failure_logs WHERE counted = 1
    UNION ALL SELECT 'file ' || purpose || ' ' || state FROM remote_files
      WHERE state NOT IN ('deleted', 'gone')
    UNION ALL SELECT 'run ' || run_id || ' ' || status FROM runs
    UNION ALL SELECT 'odd ' || path FROM scan_oddities
    ORDER BY 1";

fn left(world: &World) -> Left {
    let outside = &world.outside;
    let (disk, provider) = (outside.disk.borrow(), outside.provider.borrow());
    let outputs = disk.outputs.iter();
    let files = provider.held(outside.clock.now());
    let jobs = provider.jobs.iter().filter(|(_, job)| !job.deleted);
    Left {
        rows: outside.watch.ask(ROWS),
        outputs: outputs
            .map(|(key, bytes)| format!("{key} {}", String::from_utf8_lossy(bytes)))
            .collect(),
        remote: files
            .map(|(name, _)| name.clone())
            .chain(jobs.map(|(name, _)| name.clone()))
            .collect(),
    }
}

fn assert_no_fault(world: &World, what: &str) {
    let faults = world.faults();
    assert!(
        faults.is_empty(),
        "{what}: {faults:#?}\n{}",
        world.outside.story.borrow().join("\n")
    );
}

/// Lives on until a run ends by itself, and tells how many lives that took.
fn live_to_the_end(world: &World, what: &str) {
    let lived = world.live(None, &mut Calm);
    assert!(
        matches!(lived.end, LifeEnd::Ended(RunEnd::Done(_))),
        "{what}: {:?}",
        lived.end
    );
    assert_no_fault(world, what);
}

/// Jobs that the provider made, by display name.
fn jobs_by_name(world: &World) -> BTreeMap<String, usize> {
    let mut jobs = BTreeMap::new();
    for job in world.outside.provider.borrow().jobs.values() {
        *jobs.entry(job.display_name.clone()).or_default() += 1;
    }
    jobs
}

fn undisturbed() -> (Lived, Left) {
    let world = books(None);
    let lived = world.live(None, &mut Calm);
    assert!(
        matches!(lived.end, LifeEnd::Ended(RunEnd::Done(_))),
        "{:?}",
        lived.end
    );
    assert_no_fault(&world, "undisturbed");
    // A commit goes by together with the next one only when this thread is held up in between.
    let watch = &world.outside.watch;
    assert!(
        watch.unseen.get() * 10 <= watch.commits.get(),
        "commits were missed"
    );
    (lived, left(&world))
}

/// What a passage is called in a message.
fn named(passage: &Passage) -> String {
    format!("'{}' number {}", passage.0, passage.1)
}

/// Dies at a passage, then lives on; everything must be as if it had not died. `double` dies a
/// second time, at this passage of the recovery. Tells whether it came to that passage: the last ones
/// of a name do not always come, for two threads may finish in either order.
fn check_crash(expected: &Left, at: &Passage, double: Option<u64>) -> bool {
    let what = format!("a crash at {} and then at {double:?}", named(at));
    let world = books(None);
    let lived = world.live(Some(CrashAt::Passage(at.clone())), &mut Calm);
    if let Some(number) = double {
        world.live(Some(CrashAt::Number(number)), &mut Calm);
    }
    live_to_the_end(&world, &what);
    assert_same(&world, &left(&world), expected, &what);
    assert_once(&world, &what);
    lived.end == LifeEnd::Crashed
}

fn assert_same(world: &World, found: &Left, expected: &Left, what: &str) {
    let differences = found.differences(expected);
    assert!(
        differences.is_empty(),
        "{what}:\n{}\n{}",
        differences.join("\n"),
        world.outside.story.borrow().join("\n")
    );
}

/// P3: one intent, one job. (That no create is sent while another may have arrived, the provider
/// itself watches.)
fn assert_once(world: &World, what: &str) {
    let jobs = jobs_by_name(world);
    assert_eq!(jobs.len(), 3, "{what}: {jobs:?}");
    assert!(jobs.values().all(|jobs| *jobs == 1), "{what}: {jobs:?}");
}

/// The passages of the undisturbed run that a shard of the suite looks at. All of them are looked
/// at when `PAGEMILL_CRASH_ALL` is set; else of each name the first two and the last, and a part of
/// the others that a seed chooses.
fn chosen(passages: &[Passage], is_ours: impl Fn(&str) -> bool, share: u32) -> Vec<Passage> {
    let all = std::env::var_os("PAGEMILL_CRASH_ALL").is_some();
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for (name, count) in passages {
        last.insert(name, *count);
    }
    let mut dice = Dice::new(1);
    let ours = passages.iter().filter(|(name, _)| is_ours(name));
    let chosen = ours.filter(|(name, count)| {
        let drawn = dice.permille(share);
        all || *count <= 2 || *count == last[name.as_str()] || drawn
    });
    chosen.cloned().collect()
}

fn check_crashes(is_ours: impl Fn(&str) -> bool, share: u32) {
    let (lived, expected) = undisturbed();
    let chosen = chosen(&lived.passages, is_ours, share);
    assert!(!chosen.is_empty());
    let came = chosen
        .iter()
        .filter(|passage| check_crash(&expected, passage, None))
        .count();
    println!("{came} crashes at {} passages", chosen.len());
    assert!(came * 10 >= chosen.len() * 9, "{came} of {}", chosen.len());
}

/// The names of gates at which a create is at stake.
fn is_create(name: &str) -> bool {
    name.starts_with("create")
}

/// The names of gates at which outputs or results are at stake.
fn is_output(name: &str) -> bool {
    ["output", "download", "raw", "report", "spool"]
        .iter()
        .any(|start| name.starts_with(start))
}

#[test]
fn an_undisturbed_run_passes_every_gate_and_leaves_nothing_behind() {
    let (lived, left) = undisturbed();
    let names: BTreeSet<&str> = lived
        .passages
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    for call in CALLS {
        assert!(
            names.contains(&*format!("{call} before")),
            "{call}: {names:?}"
        );
        assert!(
            names.contains(&*format!("{call} after")),
            "{call}: {names:?}"
        );
    }
    assert_eq!(left.outputs.len(), 5);
    assert_eq!(left.remote, Vec::<String>::new());
}

#[test]
fn p12_a_crash_at_any_call_to_the_provider_ends_as_if_nothing_had_happened() {
    check_crashes(
        |name| name != "now" && !is_create(name) && !is_output(name),
        400,
    );
}

#[test]
fn f10_a_crash_around_any_file_of_ours_leaves_whole_outputs_and_the_same_end() {
    check_crashes(is_output, 400);
}

/// Every change of the state is told the time first, so a crash where the time is read is a crash
/// between two commits.
#[test]
fn f28_a_crash_between_any_two_commits_leaves_a_state_that_opens_and_goes_on() {
    check_crashes(|name| name == "now", 200);
}

#[test]
fn f12_a_crash_around_any_create_makes_no_second_job() {
    check_crashes(is_create, 1000);
}

#[test]
fn p12_a_second_crash_while_recovering_changes_nothing_either() {
    let (lived, expected) = undisturbed();
    let mut dice = Dice::new(2);
    for _ in 0..many(24) {
        let first = &lived.passages[dice.below(lived.passages.len())];
        let second = dice.range(1, 40) as u64;
        check_crash(&expected, first, Some(second));
    }
}

/// How often a sample is drawn.
fn many(usual: usize) -> usize {
    if std::env::var_os("PAGEMILL_CRASH_ALL").is_some() {
        usual * 20
    } else {
        usual
    }
}

/// The calls of an undisturbed run.
const CALLS: [&str; 8] = [
    "upload image",
    "upload lines",
    "create",
    "poll",
    "download",
    "delete file",
    "delete job",
    "list files",
];

/// Whether a call that is answered so may leave more behind than an undisturbed run: a file or a
/// job that nobody can know of until it expires.
fn may_leave(script: &Script) -> bool {
    script.fate == Fate::Doubled && script.call.0 == "create"
}

/// One call is answered in another way; the process dies at the next gate, or lives.
fn check_answer(expected: &Left, script: Script, dies: bool) {
    let what = format!(
        "{script:?}, and then {}",
        if dies { "a crash" } else { "on" }
    );
    let mut crash_at = None;
    if dies {
        let world = books(Some(script.clone()));
        let lived = world.live(None, &mut Calm);
        let answered = (format!("{} after", script.call.0), script.call.1);
        let place = lived
            .passages
            .iter()
            .position(|passage| *passage == answered);
        // The gate after the answer is the next one; the passages before it are the same again.
        let next = place
            .and_then(|place| lived.passages.get(place + 1))
            .cloned();
        let Some(next) = next else {
            return;
        };
        crash_at = Some(CrashAt::Passage(next));
    }
    let world = books(Some(script.clone()));
    if dies {
        world.live(crash_at, &mut Calm);
        live_to_the_end(&world, &what);
    } else {
        live_to_the_end(&world, &what);
    }
    let mut after = left(&world);
    if may_leave(&script) {
        after.remote.clear();
    }
    assert_same(&world, &after, expected, &what);
    if !may_leave(&script) {
        assert_once(&world, &what);
    }
}

fn check_answers(fate: Fate) {
    let (lived, expected) = undisturbed();
    let all = std::env::var_os("PAGEMILL_CRASH_ALL").is_some();
    for call in CALLS {
        let after = format!("{call} after");
        let times = lived
            .passages
            .iter()
            .filter(|(name, _)| *name == after)
            .count() as u32;
        for time in (1..=times).filter(|time| all || *time == 1 || *time == times) {
            for dies in [false, true] {
                let script = Script {
                    call: (call, time),
                    fate: fate.clone(),
                };
                check_answer(&expected, script, dies);
            }
        }
    }
}

#[test]
fn f12_any_answer_may_be_lost_and_a_crash_may_follow() {
    check_answers(Fate::Lost);
}

#[test]
fn p12_any_call_may_be_refused_once_and_a_crash_may_follow() {
    check_answers(Fate::Refused(Next::Throttled {
        after: None,
        quota: Quota::Rate,
    }));
}

#[test]
fn p12_any_answer_may_be_late_and_a_crash_may_follow() {
    check_answers(Fate::Late);
}

#[test]
fn p12_any_call_may_arrive_twice_and_a_crash_may_follow() {
    check_answers(Fate::Doubled);
}

#[test]
fn p12_a_crash_between_a_settlement_and_its_report_loses_no_report() {
    let world = books(None);
    let crash_at = CrashAt::Passage(("report before".to_owned(), 1));
    world.live(Some(crash_at), &mut Calm);
    live_to_the_end(&world, "a late report");
    assert_eq!(world.outside.disk.borrow().reports.len(), 3);
    let reports = "SELECT count(*) FROM reports";
    assert_eq!(world.outside.watch.ask_number(reports), 3);
}

/// The list shows a job only after this time; the create's answer is lost with its process.
fn hidden_for(lag: Duration) -> World {
    let world = books(None);
    world.outside.provider.borrow_mut().list_lag = lag;
    let crash_at = CrashAt::Passage(("create after".to_owned(), 1));
    let lived = world.live(Some(crash_at), &mut Calm);
    assert_eq!(lived.end, LifeEnd::Crashed);
    live_to_the_end(&world, &format!("{lag:?}"));
    world
}

#[test]
fn f12_a_job_that_the_list_shows_late_is_adopted_as_long_as_the_doubt_lasts() {
    let world = hidden_for(intended::SETTLE / 2);
    assert_once(&world, "shown in time");
}

#[test]
fn f12_a_job_that_the_list_hides_is_made_again_only_when_the_doubt_is_settled() {
    let world = hidden_for(10 * intended::SETTLE);
    let provider = world.outside.provider.borrow();
    let first = provider.creates[0].at;
    let again = provider
        .creates
        .iter()
        .skip(1)
        .find(|create| create.display_name == provider.creates[0].display_name);
    let waited = again.expect("it is made again").at.since(first);
    assert!(waited >= intended::SETTLE, "{waited:?}");
    assert!(provider.lists.len() >= intended::LOOKUPS as usize);
}

#[test]
fn f28_a_second_process_is_refused_while_the_first_lives() {
    let world = books(None);
    let refused = Rc::new(RefCell::new(None));
    let mut pilot = Intruder {
        database: world.database().to_owned(),
        refused: Rc::clone(&refused),
    };
    world.live(None, &mut pilot);
    let words = refused.borrow().clone().expect("it tried");
    assert!(words.contains("in use by another pagemill"), "{words}");
}

/// Tries to open the state of a living process, once.
struct Intruder {
    database: PathBuf,
    refused: Rc<RefCell<Option<String>>>,
}

impl Pilot for Intruder {
    fn next(&mut self, rest: &Rest, outside: &Outside) -> Act {
        let mut refused = self.refused.borrow_mut();
        if refused.is_none() {
            let options = StateOptions {
                path: self.database.clone(),
                unlock_behind_dead: true,
            };
            let opened = wait(StateActor::open(options));
            *refused = Some(
                opened
                    .err()
                    .map_or_else(String::new, |error| error.to_string()),
            );
        }
        Calm.next(rest, outside)
    }
}
