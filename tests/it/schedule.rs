//! Schedules: what the rules of order, packing and waiting come to over a whole run, and that the
//! program follows them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use pagemill::actors::conductor::RunEnd;
use pagemill::actors::state::messages::*;
use pagemill::domain::ids::{RecordKey, ScopeToken};
use pagemill::domain::page::PageStage;

use crate::batch_submitter::Scene;
use crate::kit::fake_provider::FakeProvider;
use crate::kit::sandbox::{HOUR, Sandbox};
use crate::kit::schedule::play::admits;
use crate::kit::schedule::{Books, Dice, Latency, Lengths, Order, Scenario, books, bounds, play};
use crate::kit::state_world::{World, at, claim, plan, record_uploads, scan, uploaded_as};
use crate::pipeline::{answer_all, start, until_end};

const GIANT: Lengths = Lengths::FewLong {
    long: 1,
    long_pages: 60,
    short: 120,
};

/// The usual scenario: batches of ten, five of them live, a page after the other.
fn scenario(name: &'static str, lengths: Lengths) -> Scenario {
    Scenario {
        name,
        lengths,
        chained: true,
        batch_size: 10,
        live_max: 5,
        latency: Latency::Constant,
        failed_percent: 0,
        seed: 7,
    }
}

/// The makespan is near what no schedule can beat, and no longer than in alphabetical order.
fn check_schedule(scenario: &Scenario, ratio_max: f64) {
    let ours = play(scenario, Order::LongestChain);
    let bound = bounds(scenario, &ours);
    let ratio = ours.makespan as f64 / bound.plain() as f64;
    let (name, latency, seed) = (scenario.name, scenario.latency.name(), scenario.seed);
    let words = format!("{name}, latency {latency}, seed {seed}");
    assert!(ratio <= ratio_max, "{words}: {ratio:.3}");
    assert!(ours.makespan >= bound.strong(), "{words}: below {bound:?}");
    let alphabetical = play(scenario, Order::Alphabetical);
    assert!(ours.makespan <= alphabetical.makespan, "{words}");
    let ahead_max = 2 * 2 * scenario.batch_size as usize;
    assert!(ours.ahead <= ahead_max, "{words}: {} ahead", ours.ahead);
}

#[test]
fn the_makespan_is_within_a_twentieth_of_its_bound() {
    let equal = Lengths::Equal {
        books: 75,
        pages: 40,
    };
    let few_long = Lengths::FewLong {
        long: 5,
        long_pages: 50,
        short: 220,
    };
    let power_law = Lengths::PowerLaw {
        books: 200,
        high: 80,
    };
    let between = Lengths::Between {
        books: 30,
        low: 20,
        high: 60,
    };
    for scenario in [
        scenario("all equal", equal),
        scenario("few long among many short", few_long),
        scenario("power law", power_law),
        scenario("bound by its chains", between),
        Scenario {
            live_max: 2,
            ..scenario("one giant, two live", GIANT)
        },
        Scenario {
            live_max: 1,
            batch_size: 30,
            ..scenario("one giant, one live", GIANT)
        },
        Scenario {
            batch_size: 1,
            live_max: 50,
            ..scenario("batches of one", between)
        },
        Scenario {
            chained: false,
            ..scenario("not chained", equal)
        },
        Scenario {
            failed_percent: 1,
            ..scenario("one answer in a hundred fails", power_law)
        },
    ] {
        check_schedule(&scenario, 1.05);
    }
}

#[test]
fn a_longest_chain_never_stands_still_whatever_the_latency() {
    for latency in Latency::ALL {
        for seed in 1..=3 {
            let giant = Scenario {
                live_max: 2,
                latency,
                seed,
                ..scenario("one giant, two live", GIANT)
            };
            check_schedule(&giant, 1.05);
        }
    }
}

#[test]
fn pages_that_come_more_slowly_than_fill_wait_fill_batches_all_the_same() {
    let slow = Scenario {
        batch_size: 500,
        live_max: 1,
        ..scenario(
            "500 at a time",
            Lengths::Between {
                books: 700,
                low: 1,
                high: 12,
            },
        )
    };
    let played = play(&slow, Order::LongestChain);
    let fewest = played.requests.div_ceil(500) as usize;
    let jobs = played.latencies.len();
    assert!(jobs <= fewest.max(12) + 1, "{jobs} jobs, {fewest} would do");
}

// ---- the program does as the simulation does ----

/// The pages of a scenario as StateActor knows them, and as the simulation does.
struct Pair {
    world: World,
    books: Books,
    by_key: HashMap<RecordKey, u32>,
    runnable: BTreeSet<u32>,
    uploading: BTreeSet<u32>,
    uploaded: BTreeSet<u32>,
    /// Sent, and not answered.
    sent: Vec<u32>,
    /// The most pages that were ahead.
    most_ahead: usize,
    seconds: u64,
}

const AHEAD_MAX: usize = 6;

impl Pair {
    async fn new(scenario: &Scenario) -> Pair {
        let world = World::new().await;
        let books = books(scenario, Order::LongestChain);
        let places = (0_u32..).zip(&books.pages);
        let by_key = places.map(|(place, page)| (page.key.clone(), place));
        let by_key: HashMap<RecordKey, u32> = by_key.collect();
        let register = books.pages.iter().map(|page| NewPage {
            key: page.key.clone(),
            book: page.key.book().to_owned(),
            levels: page.key.as_str().split(':').map(str::to_owned).collect(),
            number: page.key.page().parse().unwrap(),
            predecessor: page.predecessor.clone(),
            waits_for: page.predecessor.clone(),
            chain_ahead: page.chain_ahead,
        });
        let mut register: Vec<NewPage> = register.collect();
        register.sort_by(|a, b| a.key.cmp(&b.key));
        let changes = ScanChanges {
            register,
            ..ScanChanges::default()
        };
        world.tell(scan(changes, 0)).await.unwrap();
        Pair {
            world,
            runnable: books.firsts.iter().copied().collect(),
            books,
            by_key,
            uploading: BTreeSet::new(),
            uploaded: BTreeSet::new(),
            sent: Vec::new(),
            most_ahead: 0,
            seconds: 1,
        }
    }

    fn urgency(&self, page: u32) -> u32 {
        self.books.pages[page as usize].chain_ahead
    }

    fn expected_claim(&self, limit: usize) -> Vec<u32> {
        let least_urgent = self.uploaded.last().map(|page| self.urgency(*page));
        let ahead = self.uploading.len() + self.uploaded.len();
        let pages = (ahead..).zip(&self.runnable).take(limit);
        let admitted = pages
            .take_while(|(ahead, page)| {
                admits(*ahead, AHEAD_MAX, self.urgency(**page), least_urgent)
            })
            .map(|(_, page)| *page);
        admitted.collect()
    }

    async fn claim(&mut self, limit: usize) {
        let question = ClaimPages {
            ahead_max: AHEAD_MAX as u64,
            ..claim(limit as u64, self.seconds)
        };
        let claimed = self.world.tell(question).await.unwrap().pages;
        let claimed: Vec<u32> = claimed.iter().map(|page| self.by_key[&page.key]).collect();
        assert_eq!(claimed, self.expected_claim(limit));
        for page in claimed {
            self.runnable.remove(&page);
            self.uploading.insert(page);
        }
        let ahead = self.uploading.len() + self.uploaded.len();
        self.most_ahead = self.most_ahead.max(ahead);
    }

    async fn upload(&mut self) {
        let uploads = self.uploading.iter().map(|page| {
            let key = self.books.pages[*page as usize].key.clone();
            uploaded_as(key, &format!("files/{page}-{}", self.seconds), self.seconds)
        });
        let message = record_uploads(uploads.collect(), self.seconds);
        self.world.tell(message).await.unwrap();
        self.uploaded.append(&mut self.uploading);
    }

    /// The best pages go into a batch.
    async fn send(&mut self, pages: usize) {
        let question = ListUploaded {
            scope: ScopeToken::from("scope"),
            limit: pages as u64,
            usable_until: at(self.seconds),
        };
        let listed = self.world.tell(question).await.unwrap().pages;
        let listed: Vec<RecordKey> = listed.into_iter().map(|page| page.key).collect();
        let places: Vec<u32> = listed.iter().map(|key| self.by_key[key]).collect();
        let expected: Vec<u32> = self.uploaded.iter().take(pages).copied().collect();
        assert_eq!(places, expected);
        if places.is_empty() {
            return;
        }
        let mut members = listed;
        members.sort();
        let name = format!("batch-{:04}", self.seconds);
        let message = plan(&name, members, self.seconds);
        self.world.tell(message).await.unwrap();
        for page in places {
            self.uploaded.remove(&page);
            self.sent.push(page);
        }
    }

    /// The pages behind those that were sent stop waiting.
    async fn answer(&mut self) {
        for page in std::mem::take(&mut self.sent) {
            let known = &self.books.pages[page as usize];
            let key = known.key.as_str().to_owned();
            self.runnable.extend(known.next);
            let unlock = format!("UPDATE pages SET waits_for = NULL WHERE waits_for = '{key}'");
            self.world.meddle(&unlock).await;
        }
    }

    async fn check_most_urgent(&self) {
        let question = MostUrgent {
            scope: ScopeToken::from("scope"),
            at: at(self.seconds),
        };
        let found = self.world.tell(question).await.unwrap();
        let coming = self.runnable.iter().chain(&self.uploading);
        let expected = coming.map(|page| self.urgency(*page)).max();
        assert_eq!(found.map(|urgency| urgency.chain_ahead), expected);
    }

    fn is_over(&self) -> bool {
        let waiting = [&self.runnable, &self.uploading, &self.uploaded];
        waiting.iter().all(|pages| pages.is_empty()) && self.sent.is_empty()
    }
}

#[actix::test]
async fn the_program_claims_and_lists_pages_as_the_simulation_does() {
    let lengths = Lengths::Between {
        books: 14,
        low: 1,
        high: 12,
    };
    let mut most_ahead = 0;
    for seed in 1..=4 {
        println!("seed {seed}");
        let scenario = Scenario {
            seed,
            ..scenario("a few books", lengths)
        };
        let mut pair = Pair::new(&scenario).await;
        let mut dice = Dice::new(seed);
        while !pair.is_over() {
            match dice.between(0, 4) {
                0..=1 => pair.claim(dice.between(1, 6) as usize).await,
                2 => pair.upload().await,
                3 => pair.send(dice.between(1, 4) as usize).await,
                _ => pair.answer().await,
            }
            pair.check_most_urgent().await;
            pair.seconds += 1;
        }
        most_ahead = most_ahead.max(pair.most_ahead);
    }
    assert!(most_ahead > AHEAD_MAX, "no page went ahead of the others");
    assert!(most_ahead <= 2 * AHEAD_MAX, "{most_ahead} pages ahead");
}

#[actix::test]
async fn the_page_behind_one_that_is_judged_counts_as_on_its_way() {
    let world = World::new().await;
    world.collect("one", [1]).await;
    let question = || MostUrgent {
        scope: ScopeToken::from("scope"),
        at: at(1_000),
    };
    assert_eq!(world.tell(question()).await, Ok(None));
    world
        .meddle("UPDATE pages SET chain_ahead = 5, priority = 1")
        .await;
    let found = world.tell(question()).await.unwrap().unwrap();
    assert_eq!((found.priority, found.chain_ahead), (1, 4));
}

/// Four single pages that are uploaded, and one that can be, with a chain behind it; so many batches
/// may be live.
async fn four_and_a_chain(live_max: usize) -> Scene {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.submitter.live_max = live_max;
    sandbox.start_run().await;
    let keys: Vec<RecordKey> = (1..=5)
        .map(|book| sandbox.tree.add(&format!("book{book}"), 1))
        .collect();
    sandbox.register(&keys).await;
    sandbox.upload(4).await;
    sandbox
        .execute("UPDATE pages SET chain_ahead = 9 WHERE record_key = 'book5:1'")
        .await;
    Scene::on(sandbox)
}

#[actix::test]
async fn the_last_place_is_left_to_a_page_that_more_depends_on() {
    let scene = four_and_a_chain(1).await;
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 0);
    scene.sandbox.upload(1).await;
    scene.work().await;
    let jobs = scene.jobs();
    assert_eq!(jobs, [["book1:1", "book2:1", "book3:1", "book5:1"]]);
}

#[actix::test]
async fn a_page_that_does_not_come_keeps_the_last_place_for_no_longer_than_fill_wait() {
    let scene = four_and_a_chain(1).await;
    scene.tick_after(0).await;
    scene.tick_after(4).await;
    assert_eq!(scene.creates(), 0);
    scene.tick_after(1).await;
    assert_eq!(scene.creates(), 1);
    assert_eq!(scene.count(PageStage::Discovered).await, 1);
}

#[actix::test]
async fn a_place_that_is_not_the_last_one_is_left_to_nobody() {
    let scene = four_and_a_chain(2).await;
    scene.tick_after(0).await;
    assert_eq!(scene.creates(), 1);
}

/// One book of eight pages among twenty single pages, and one batch of four at a time: the whole
/// pipeline asks for a page of the long book each time, because nothing else is as long.
#[actix::test]
async fn each_batch_of_a_run_takes_the_longest_chain_one_page_further() {
    let mut sandbox = Sandbox::new().await;
    sandbox.plan.submitter.fill_wait = HOUR;
    sandbox.plan.submitter.live_max = 1;
    sandbox.plan.uploader.ahead_max = 8;
    for page in 1..=8 {
        sandbox.tree.add("long", page);
    }
    for book in 1..=20 {
        sandbox.tree.add(&format!("a{book:02}"), 1);
    }
    let running = start(&sandbox).await;
    let jobs: Rc<RefCell<Vec<Vec<String>>>> = Rc::default();
    let seen = Rc::clone(&jobs);
    let on_beat = move |provider: &FakeProvider| {
        for job in provider.jobs() {
            let keys = provider.keys(&job);
            if !seen.borrow().contains(&keys) {
                seen.borrow_mut().push(keys);
            }
        }
        answer_all(provider);
    };
    let end = until_end(&sandbox, running, Box::new(on_beat)).await;
    assert_eq!(end, RunEnd::Done(WorkLeft::default()));
    let jobs = jobs.take();
    assert!(jobs.len() <= 8, "eight pages of one chain: {jobs:?}");
    for (job, page) in jobs.iter().zip(1..=8) {
        assert!(job.contains(&format!("long:{page}")), "{jobs:?}");
    }
}
