//! One run from the first upload to the last answer, event by event.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use pagemill::decide::pack::{self, Candidate, Company, Limits, Packed, Timing};
use pagemill::domain::ids::RecordKey;
use pagemill::domain::time::Timestamp;

use super::{Books, Dice, Order, Scenario, books};

// As config/default.yaml has them.
const FILL_WAIT: Duration = Duration::from_secs(5);
const UPLOAD_AHEAD_BATCHES: usize = 2;
const UPLOADS_SIDE_BY_SIDE: usize = 16;
const POLL_INTERVAL: u64 = 30_000;

// What our own work is assumed to take, in milliseconds: nothing beside hours, but enough to come too late.
const UPLOAD: u64 = 500;
/// Lines file and create.
const SUBMIT: u64 = 3_000;
const VERDICTS: u64 = 100;
/// Verdicts that are recorded together.
const VERDICTS_TOGETHER: usize = 256;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Played {
    /// Milliseconds from the start to the last answer.
    pub makespan: u64,
    /// Requests sent, those that failed among them.
    pub requests: u64,
    /// What each job took, in the order in which they were made.
    pub latencies: Vec<u64>,
    /// What the jobs with the pages of each book took, all added up where pages wait for each other, the
    /// longest of them where they do not.
    pub chain_latency: Vec<u64>,
    /// Pages of each book.
    pub lengths: Vec<u32>,
    /// The most pages that were uploaded, or being uploaded, and in no batch.
    pub ahead: usize,
}

/// Plays a scenario to its end.
pub fn play(scenario: &Scenario, order: Order) -> Played {
    let books = books(scenario, order);
    let mut run = Run::new(scenario, order, &books);
    while let Some(Reverse((now, _, event))) = run.events.pop() {
        run.now = now;
        run.happen(event);
        run.claim();
        run.look();
    }
    assert!(run.is_over(), "pages are left and nothing happens");
    run.played
}

/// Whether one more page may be uploaded when so many are ahead: what `ClaimPages` does in SQL.
pub fn admits<U: PartialOrd>(
    ahead: usize,
    ahead_max: usize,
    page: U,
    least_urgent: Option<U>,
) -> bool {
    let is_better = least_urgent.is_some_and(|least_urgent| page > least_urgent);
    ahead < ahead_max || (is_better && ahead < 2 * ahead_max)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begin,
    Uploaded { page: u32 },
    Ended { job: usize },
    Recorded { job: usize, from: usize },
    Settled { job: usize },
    LookAgain,
}

struct Run<'a> {
    scenario: &'a Scenario,
    order: Order,
    books: &'a Books,
    by_key: HashMap<&'a RecordKey, u32>,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    told: u64,
    runnable: BTreeSet<u32>,
    uploading: BTreeSet<u32>,
    /// When the upload begun last ends.
    uploads_end: u64,
    uploaded: BTreeSet<u32>,
    uploaded_at: BTreeSet<(u64, u32)>,
    since: HashMap<u32, u64>,
    validating: BTreeSet<u32>,
    live: usize,
    jobs: Vec<Vec<u32>>,
    tries: HashMap<u32, u64>,
    latency_dice: Dice,
    /// The next look at a batch that is held back: until then only a full one can change anything.
    looks_at: u64,
    held_since: Option<u64>,
    played: Played,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, order: Order, books: &'a Books) -> Self {
        let runnable = if scenario.chained {
            books.firsts.iter().copied().collect()
        } else {
            (0..books.pages.len() as u32).collect()
        };
        let by_key = (0_u32..).zip(&books.pages);
        Run {
            scenario,
            order,
            books,
            by_key: by_key.map(|(place, page)| (&page.key, place)).collect(),
            now: 0,
            events: BinaryHeap::from([Reverse((0, 0, Event::Begin))]),
            told: 0,
            runnable,
            uploading: BTreeSet::new(),
            uploads_end: 0,
            uploaded: BTreeSet::new(),
            uploaded_at: BTreeSet::new(),
            since: HashMap::new(),
            validating: BTreeSet::new(),
            live: 0,
            jobs: Vec::new(),
            tries: HashMap::new(),
            latency_dice: Dice::new(!scenario.seed),
            looks_at: 0,
            held_since: None,
            played: Played {
                lengths: books.lengths.clone(),
                chain_latency: vec![0; books.lengths.len()],
                ..Played::default()
            },
        }
    }

    fn is_over(&self) -> bool {
        self.runnable.is_empty()
            && self.uploading.is_empty()
            && self.uploaded.is_empty()
            && self.validating.is_empty()
            && self.live == 0
    }

    fn tell(&mut self, at: u64, event: Event) {
        self.told += 1;
        self.events.push(Reverse((at, self.told, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Begin | Event::LookAgain => {}
            Event::Uploaded { page } => {
                self.uploading.remove(&page);
                self.uploaded.insert(page);
                self.uploaded_at.insert((self.now, page));
                self.since.insert(page, self.now);
            }
            Event::Ended { job } => {
                self.validating.extend(&self.jobs[job]);
                self.tell(self.now + VERDICTS, Event::Recorded { job, from: 0 });
            }
            Event::Recorded { job, from } => self.record(job, from),
            Event::Settled { job: _ } => {
                self.live -= 1;
                self.played.makespan = self.played.makespan.max(self.now);
            }
        }
    }

    /// Verdicts on some members: their successors stop waiting, or they run again.
    fn record(&mut self, job: usize, from: usize) {
        let members = std::mem::take(&mut self.jobs[job]);
        let end = members.len().min(from + VERDICTS_TOGETHER);
        for page in &members[from..end] {
            self.validating.remove(page);
            if self.fails(*page) {
                self.runnable.insert(*page);
            } else if let Some(next) = self.books.pages[*page as usize].next
                && self.scenario.chained
            {
                self.runnable.insert(next);
            }
        }
        let next = if end < members.len() {
            Event::Recorded { job, from: end }
        } else {
            Event::Settled { job }
        };
        self.jobs[job] = members;
        self.tell(self.now + VERDICTS, next);
    }

    /// Whether the answer to this try of a page is of no use: the same in every order.
    fn fails(&mut self, page: u32) -> bool {
        let tries = self.tries.entry(page).or_default();
        *tries += 1;
        let known = &self.books.pages[page as usize];
        let place = (u64::from(known.book) << 32) + u64::from(known.chain_ahead);
        let mut dice = Dice::new(self.scenario.seed ^ (place << 8) ^ *tries);
        dice.number() % 100 < self.scenario.failed_percent
    }

    fn ahead(&self) -> usize {
        self.uploading.len() + self.uploaded.len()
    }

    /// Which pages may be uploaded now, as `ClaimPages` says it.
    fn claim(&mut self) {
        let ahead_max = UPLOAD_AHEAD_BATCHES * self.scenario.batch_size as usize;
        while self.uploading.len() < 2 * UPLOADS_SIDE_BY_SIDE {
            let Some(page) = self.runnable.first().copied() else {
                return;
            };
            let least_urgent = self.uploaded.last().copied();
            if !admits(
                self.ahead(),
                ahead_max,
                self.urgency(page),
                least_urgent.map(|page| self.urgency(page)),
            ) {
                return;
            }
            self.runnable.remove(&page);
            self.uploading.insert(page);
            let pause = UPLOAD / UPLOADS_SIDE_BY_SIDE as u64;
            self.uploads_end = (self.now + UPLOAD).max(self.uploads_end + pause);
            self.tell(self.uploads_end, Event::Uploaded { page });
            self.played.ahead = self.played.ahead.max(self.ahead());
        }
    }

    /// How many pages wait behind a page; nothing where nobody asks.
    fn urgency(&self, page: u32) -> u32 {
        match self.order {
            Order::LongestChain => self.books.pages[page as usize].chain_ahead,
            Order::Alphabetical => 0,
        }
    }

    /// As `MostUrgent` says it.
    fn most_urgent(&self) -> Option<u32> {
        let known = [self.runnable.first(), self.uploading.first()];
        let known = known.into_iter().flatten().map(|page| self.urgency(*page));
        // The page behind one that is being judged.
        let judged = self.validating.first().map(|page| self.urgency(*page));
        known
            .chain(judged.and_then(|urgency| urgency.checked_sub(1)))
            .max()
    }

    /// As the submitter looks.
    fn look(&mut self) {
        let limits = Limits {
            pages_max: self.scenario.batch_size,
            bytes_max: 1 << 40,
            tokens_max: None,
        };
        while self.live < self.scenario.live_max && !self.uploaded.is_empty() {
            let more_can_come = !(self.uploading.is_empty()
                && self.runnable.is_empty()
                && self.validating.is_empty());
            if self.now < self.looks_at && self.is_still_held(more_can_come) {
                return;
            }
            // Pages of one chain are never uploaded together, and only the count limits a batch here: none
            // but these are ever looked at.
            let candidates: Vec<Candidate> = self
                .uploaded
                .iter()
                .take(self.scenario.batch_size as usize + 1)
                .map(|page| self.candidate(*page))
                .collect();
            let packed = pack::pack(&candidates, limits).unwrap();
            let held_since = self.held_since.take().unwrap_or(self.now);
            let company = Company {
                more_can_come,
                better_can_come: self.better_can_come(&packed),
                newest: self.uploaded_at.last().map(|(at, _)| instant(*at)),
                held_since: instant(held_since),
            };
            match pack::timing(&packed, &company, FILL_WAIT, instant(self.now)) {
                Timing::Now => {
                    self.looks_at = 0;
                    self.send(&packed.members);
                }
                Timing::Wait { until } => {
                    self.held_since = Some(held_since);
                    self.look_again(until);
                    return;
                }
            }
        }
    }

    fn better_can_come(&self, packed: &Packed) -> bool {
        let members = packed.members.iter();
        let least_urgent = members.map(|key| self.urgency(self.by_key[key])).min();
        self.takes_last_place() && self.most_urgent() > least_urgent
    }

    /// Whether a look before the one that is due can only find what the last one found: pages that came
    /// make a batch wait longer, unless it is full and nothing better can come.
    fn is_still_held(&self, more_can_come: bool) -> bool {
        let last_member = self
            .uploaded
            .iter()
            .nth(self.scenario.batch_size as usize - 1);
        match last_member {
            None => more_can_come,
            Some(page) => {
                self.held_since.is_some()
                    && self.takes_last_place()
                    && self.most_urgent() > Some(self.urgency(*page))
            }
        }
    }

    fn takes_last_place(&self) -> bool {
        self.live + 1 == self.scenario.live_max && self.scenario.chained
    }

    fn look_again(&mut self, at: Timestamp) {
        let at = (at.as_micros() / 1000) as u64;
        if self.looks_at != at {
            self.looks_at = at;
            self.tell(at, Event::LookAgain);
        }
    }

    fn candidate(&self, page: u32) -> Candidate {
        let known = &self.books.pages[page as usize];
        Candidate {
            key: known.key.clone(),
            predecessor: known.predecessor.clone().filter(|_| self.scenario.chained),
            line_bytes: 6_000,
            tokens: 2_600,
            batch_size_max: None,
        }
    }

    fn send(&mut self, members: &[RecordKey]) {
        let pages: Vec<u32> = members.iter().map(|key| self.by_key[key]).collect();
        let latency = self.scenario.latency.drawn(self.latency_dice.fraction());
        for page in &pages {
            self.uploaded.remove(page);
            if let Some(at) = self.since.remove(page) {
                self.uploaded_at.remove(&(at, *page));
            }
            let chain =
                &mut self.played.chain_latency[self.books.pages[*page as usize].book as usize];
            *chain = if self.scenario.chained {
                *chain + latency
            } else {
                latency.max(*chain)
            };
        }
        self.live += 1;
        self.played.requests += pages.len() as u64;
        self.played.latencies.push(latency);
        let job = self.jobs.len();
        self.jobs.push(pages);
        // Looks come at their own pace: on the average half a pause after the end.
        let seen = self.now + SUBMIT + latency + POLL_INTERVAL / 2;
        self.tell(seen, Event::Ended { job });
    }
}

fn instant(millis: u64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_millis(millis))
}
