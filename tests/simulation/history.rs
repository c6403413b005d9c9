//! One history: a small world with settings by the dice, a few lives in bad weather that end by a
//! crash or by an orderly stop, and a last one in good weather that must bring everything to its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use pagemill::actors::conductor::RunEnd;
use pagemill::domain::ids::RecordKey;

use super::clock::Dice;
use super::disk::Disk;
use super::gates::CrashAt;
use super::intended::{self, Confirmed};
use super::life::{Act, LifeEnd, Pilot, Rest, is_done};
use super::ports::Outside;
use super::provider::{Provider, Row};
use super::weather::{Sky, Weather};
use super::world::{HOUR, Settings, World};

/// What many histories did, added up.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub counts: BTreeMap<String, u64>,
}

impl Tally {
    pub fn add(&mut self, what: &str, count: u64) {
        if count > 0 {
            *self.counts.entry(what.to_owned()).or_default() += count;
        }
    }

    pub fn take_in(&mut self, other: &Tally) {
        for (what, count) in &other.counts {
            self.add(what, *count);
        }
    }
}

/// A history that is over.
pub struct Told {
    pub seed: u64,
    pub tally: Tally,
    /// What was wrong, if anything was.
    pub faults: Vec<String>,
    pub story: Vec<String>,
}

/// A page that makes every job fail that it is in.
type Poison = Option<RecordKey>;

/// Draws the settings of a history.
fn settings(dice: &mut Dice, poison: bool) -> Settings {
    Settings {
        chained: dice.permille(600),
        unlock_behind_dead: dice.permille(800),
        pages_max: dice.range(1, 4) as u32,
        live_max: dice.range(1, 3),
        fill_wait: dice.pick(&[Duration::ZERO, Duration::from_secs(40), HOUR]),
        max_retries: dice.range(0, 3) as u32,
        releases_max: if poison { 5 } else { dice.pick(&[2, 4, 10]) },
        budget: dice.pick(&[1 << 30, 1 << 30, 24_000]),
        ahead_max: dice.pick(&[2, 4, 20]),
        concurrency: dice.range(1, 4),
        attempts: dice.pick(&[1, 1, 1, 2]),
        retry_delay: dice.pick(&[Duration::ZERO, Duration::from_secs(60)]),
        verdicts_together: dice.range(1, 3),
    }
}

/// Draws a tree of three to ten pages.
fn tree(dice: &mut Dice) -> Disk {
    let mut disk = Disk::new();
    let mut left = dice.range(3, 10);
    for book in ["a", "b", "c", "d"] {
        let pages = if book == "d" {
            left
        } else {
            dice.range(0, left)
        };
        for page in 1..=pages {
            let key = disk.add(book, page as u32);
            if dice.permille(30) {
                disk.damage_image(&key);
            }
        }
        left -= pages;
    }
    disk
}

/// The driver in bad weather.
struct Wild {
    dice: Dice,
    sky: Rc<Sky>,
    poison: Poison,
    acts_left: usize,
}

/// The driver in good weather.
struct Calm {
    poison: Poison,
    pause: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Wild {
    fn act_on_tree(&mut self, outside: &Outside) -> Option<Act> {
        let mut disk = outside.disk.borrow_mut();
        let keys: Vec<RecordKey> = disk.images.keys().cloned().collect();
        let key = keys[self.dice.below(keys.len())].clone();
        let words = match self.dice.below(4) {
            0 if disk.outputs.contains_key(&key) => {
                disk.take_output(&key);
                "an operator deletes the output of"
            }
            1 if disk.images[&key].damaged => {
                disk.replace_image(&key);
                "an operator mends the image of"
            }
            2 => {
                disk.damage_image(&key);
                "something damages the image of"
            }
            _ => "an operator looks at",
        };
        drop(disk);
        outside.tell(format!("{words} {key}"));
        self.dice.permille(700).then_some(Act::Rescan)
    }

    fn span(&mut self) -> Duration {
        let seconds = match self.dice.below(20) {
            0 => 13 * 3600,
            1 | 2 => 3_700,
            3..6 => 620,
            6..10 => 130,
            _ => 31,
        };
        Duration::from_secs(seconds)
    }
}

impl Pilot for Wild {
    fn next(&mut self, rest: &Rest, outside: &Outside) -> Act {
        if self.acts_left == 0 && !rest.stopped {
            return Act::Stop;
        }
        self.acts_left = self.acts_left.saturating_sub(1);
        if self.dice.permille(15)
            && let Some(act) = self.act_on_tree(outside)
        {
            return act;
        }
        if !rest.waiting.is_empty() && (rest.stopped || self.dice.permille(880)) {
            return Act::Answer(self.dice.below(rest.waiting.len()));
        }
        let mut provider = outside.provider.borrow_mut();
        let running = provider.running();
        if !running.is_empty() && self.dice.permille(550) {
            let job = running[self.dice.below(running.len())].clone();
            let words = end_job(&mut provider, &job, &mut self.dice, &self.poison, outside);
            drop(provider);
            outside.tell(format!("{job} ends: {words}"));
            return Act::Nothing;
        }
        drop(provider);
        // A run that has nothing to do is over; a crash may still be waiting for the next one.
        if rest.work.as_ref().is_some_and(is_done) && self.dice.permille(300) {
            return Act::Stop;
        }
        Act::Pass(self.span())
    }
}

impl Pilot for Calm {
    fn next(&mut self, rest: &Rest, outside: &Outside) -> Act {
        if !rest.waiting.is_empty() {
            self.pause = Duration::from_secs(31);
            return Act::Answer(0);
        }
        if rest.stopped {
            return Act::Nothing;
        }
        let mut provider = outside.provider.borrow_mut();
        for job in provider.running() {
            self.pause = Duration::from_secs(31);
            end_well(&mut provider, &job, &self.poison, outside);
        }
        drop(provider);
        match &rest.work {
            Some(work) if is_done(work) => Act::Stop,
            _ => {
                // Nothing moves but time: let more and more of it pass.
                let pause = self.pause;
                self.pause = (pause * 2).min(HOUR);
                Act::Pass(pause)
            }
        }
    }
}

/// The lines of a job whose images are still there, and those whose are not.
fn rows(
    provider: &Provider,
    job: &str,
    outside: &Outside,
    row: &mut dyn FnMut() -> Row,
) -> Vec<(String, Row)> {
    let now = outside.clock.now();
    let lines = &provider.jobs[job].lines;
    let kept = |file: &str| provider.held(now).any(|(name, _)| name == file);
    lines
        .iter()
        .map(|line| {
            let drawn = row();
            let row = if kept(&line.file) {
                drawn
            } else {
                Row::Error(9)
            };
            (line.key.clone(), row)
        })
        .collect()
}

/// Whether the job holds the poisonous page.
fn is_poisoned(provider: &Provider, job: &str, poison: &Poison) -> bool {
    let lines = &provider.jobs[job].lines;
    poison
        .as_ref()
        .is_some_and(|key| lines.iter().any(|line| line.key == key.as_str()))
}

fn end_well(provider: &mut Provider, job: &str, poison: &Poison, outside: &Outside) {
    if is_poisoned(provider, job, poison) {
        return provider.end_empty(job, "BATCH_STATE_FAILED", Some((3, "poison")));
    }
    let rows = rows(provider, job, outside, &mut || Row::Good);
    provider.end_with_rows(job, "BATCH_STATE_SUCCEEDED", rows, 0, false);
}

const BAD_ROWS: [Row; 16] = [
    Row::Missing,
    Row::Missing,
    Row::Doubled,
    Row::Conflict,
    Row::BrokenUtf8,
    Row::CutShort,
    Row::Error(3),
    Row::Error(13),
    Row::Error(8),
    Row::Error(14),
    Row::Recitation,
    Row::Blocked,
    Row::MaxTokens,
    Row::NotJson,
    Row::AgainstSchema,
    Row::Empty,
];

/// Ends a job by the dice; says how.
fn end_job(
    provider: &mut Provider,
    job: &str,
    dice: &mut Dice,
    poison: &Poison,
    outside: &Outside,
) -> &'static str {
    if is_poisoned(provider, job, poison) {
        provider.end_empty(job, "BATCH_STATE_FAILED", Some((3, "poison")));
        return "failed, for a page is poisonous";
    }
    let now = outside.clock.now();
    let bad = dice.pick(&[0, 100, 300, 700]);
    let mut drawn = dice.fork();
    let mut row = || {
        if drawn.permille(bad) {
            drawn.pick(&BAD_ROWS)
        } else {
            Row::Good
        }
    };
    let mut rows = rows(provider, job, outside, &mut row);
    for last in (1..rows.len()).rev() {
        rows.swap(last, dice.below(last + 1));
    }
    let strangers = if dice.permille(100) {
        dice.range(1, 3)
    } else {
        0
    };
    let inline = dice.permille(150);
    let (state, words) = match dice.below(20) {
        0 | 1 => {
            provider.end_empty(job, "BATCH_STATE_FAILED", Some((13, "scripted")));
            return "failed";
        }
        2 => {
            provider.end_empty(job, "BATCH_STATE_FAILED", Some((8, "quota")));
            return "failed for a spent quota";
        }
        3 | 4 => {
            provider.end_empty(job, "BATCH_STATE_EXPIRED", None);
            return "expired";
        }
        5 => {
            provider.end_empty(job, "BATCH_STATE_CANCELLED", None);
            return "cancelled";
        }
        6 => ("BATCH_STATE_EXPIRED", "expired with some results"),
        7 => ("BATCH_STATE_CANCELLED", "cancelled with some results"),
        8 => ("JOB_STATE_PARTIALLY_SUCCEEDED", "succeeded in part"),
        _ => ("BATCH_STATE_SUCCEEDED", "succeeded"),
    };
    provider.end_with_rows(job, state, rows, strangers, inline);
    let row = provider.jobs.get_mut(job).unwrap();
    if dice.permille(200) && intended::may_name_results_late(state) {
        row.named_late = !state.ends_with("SUCCEEDED");
        row.named = now.plus(Duration::from_secs(dice.range(30, 1_500) as u64));
    }
    if dice.permille(200) {
        row.fetchable = now.plus(Duration::from_secs(dice.range(30, 1_000) as u64));
    } else if dice.permille(30) {
        row.fetchable = now.plus(DAY * 10_000);
    }
    words
}

/// Lives one history.
pub fn live(seed: u64) -> Told {
    let mut dice = Dice::new(seed);
    let poisoned = dice.permille(120);
    let settings = settings(&mut dice, poisoned);
    let disk = tree(&mut dice);
    let keys: Vec<RecordKey> = disk.labels.keys().cloned().collect();
    let poison = poisoned.then(|| keys[dice.below(keys.len())].clone());
    let sky = Rc::new(Sky {
        calm: Cell::new(false),
        level: dice.pick(&[0, 50, 150, 350]),
        refused_until: Cell::new(None),
        dice: RefCell::new(dice.fork()),
    });
    let world = World::new(settings, disk, Box::new(Weather(Rc::clone(&sky))));
    {
        let mut provider = world.outside.provider.borrow_mut();
        provider.list_page = dice.range(0, 3);
        let lag = dice.pick(&[0, 0, 0, 100, 500, 2_000]);
        provider.list_lag = Duration::from_secs(lag);
    }
    world.outside.tell(format!(
        "seed {seed}: {:?}, poison {poison:?}",
        world.settings
    ));
    let mut history = History {
        world,
        dice,
        sky,
        poison,
        tally: Tally::default(),
        faults: Vec::new(),
    };
    let whole = catch_unwind(AssertUnwindSafe(|| history.run()));
    if let Err(panic) = whole {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| {
            panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
        });
        history
            .faults
            .push(format!("panic: {}", words.unwrap_or_default()));
        // Whatever the panic left borrowed is not looked at again.
    }
    history.faults.extend(history.world.faults());
    history.faults.sort();
    history.faults.dedup();
    history.count();
    Told {
        seed,
        tally: history.tally,
        faults: history.faults,
        story: history.world.outside.story.take(),
    }
}

struct History {
    world: World,
    dice: Dice,
    sky: Rc<Sky>,
    poison: Poison,
    tally: Tally,
    faults: Vec<String>,
}

impl History {
    fn run(&mut self) {
        for _ in 0..self.dice.pick(&[1, 1, 2, 2, 3]) {
            self.wild_life();
            if !self.world.faults().is_empty() || !self.faults.is_empty() {
                return;
            }
        }
        self.sky.calm.set(true);
        let contacted = self.calm_life();
        let Confirmed { faults, counts } = intended::confirm(&self.world, contacted);
        self.faults.extend(faults);
        for (what, count) in counts {
            self.tally.add(&what, count);
        }
    }

    fn wild_life(&mut self) {
        let crash_at = self.dice.permille(800).then(|| {
            let number = self.dice.range(1, 260) as u64;
            CrashAt::Number(number)
        });
        let mut pilot = Wild {
            dice: self.dice.fork(),
            sky: Rc::clone(&self.sky),
            poison: self.poison.clone(),
            acts_left: self.dice.range(15, 65),
        };
        let lived = self.world.live(crash_at, &mut pilot);
        self.sky.refused_until.set(pilot.sky.refused_until.get());
        self.world
            .outside
            .tell(format!("the process is over: {:?}", lived.end));
        self.tally.add("passages", lived.passages.len() as u64);
        match lived.end {
            LifeEnd::Crashed => self.tally.add("crashes", 1),
            LifeEnd::Ended(RunEnd::Done(_) | RunEnd::WorkLeft(_)) => {
                self.tally.add("orderly ends", 1);
            }
            LifeEnd::Ended(other) => self.faults.push(format!("the run ended by {other:?}")),
        }
        let away = self.dice.pick(&[0, 1, 40, 700, 4_000]);
        self.world.outside.clock.advance(Duration::from_secs(away));
    }

    /// The last life; tells whether the provider was reached in it.
    fn calm_life(&mut self) -> bool {
        self.world
            .outside
            .tell("from here on everything goes well".to_owned());
        let mut pilot = Calm {
            poison: self.poison.clone(),
            pause: Duration::from_secs(31),
        };
        let lived = self.world.live(None, &mut pilot);
        self.tally.add("passages", lived.passages.len() as u64);
        if !matches!(lived.end, LifeEnd::Ended(RunEnd::Done(_))) {
            self.faults
                .push(format!("the last run ended by {:?}", lived.end));
        }
        let reached = |name: &str| name.ends_with(" after") && !name.starts_with("list files");
        let calls = ["upload", "create", "poll", "delete"];
        let is_call = |name: &str| calls.iter().any(|call| name.starts_with(call));
        lived
            .passages
            .iter()
            .any(|(name, _)| reached(name) && is_call(name))
    }

    fn count(&mut self) {
        let outside = &self.world.outside;
        let tally = &mut self.tally;
        tally.add("histories", 1);
        tally.add("commits looked at", outside.watch.commits.get());
        tally.add(
            "commits seen only with the next one",
            outside.watch.unseen.get(),
        );
        for (what, count) in outside.troubles.borrow().iter() {
            tally.add(&format!("fault: {what}"), *count);
        }
        let provider = outside.provider.borrow();
        tally.add("creates sent", provider.creates.len() as u64);
        tally.add("jobs made", provider.jobs.len() as u64);
        tally.add("lists read to their end", provider.lists.len() as u64);
        tally.add("uploads", provider.uploads);
    }
}
