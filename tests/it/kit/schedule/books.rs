//! The books of a scenario, and the order in which their pages are taken.

use pagemill::domain::ids::RecordKey;

use super::{Dice, Order, Scenario};

/// How long the chains are.
#[derive(Debug, Clone, Copy)]
pub enum Lengths {
    /// `books` chains of `pages` each.
    Equal { books: u32, pages: u32 },
    /// `long` chains of `long_pages`, and `short` ones of 5 to 15.
    FewLong {
        long: u32,
        long_pages: u32,
        short: u32,
    },
    /// Chains of `low` to `high` pages.
    Between { books: u32, low: u32, high: u32 },
    /// Chains of at least 5 pages, of a Pareto law of shape 1.2 cut at `high`.
    PowerLaw { books: u32, high: u32 },
}

impl Lengths {
    fn drawn(self, dice: &mut Dice) -> Vec<u32> {
        match self {
            Lengths::Equal { books, pages } => vec![pages; books as usize],
            Lengths::FewLong {
                long,
                long_pages,
                short,
            } => {
                let mut lengths = vec![long_pages; long as usize];
                lengths.extend((0..short).map(|_| dice.between(5, 15)));
                lengths
            }
            Lengths::Between { books, low, high } => {
                (0..books).map(|_| dice.between(low, high)).collect()
            }
            Lengths::PowerLaw { books, high } => (0..books)
                .map(|_| {
                    let drawn = 5.0 / (1.0 - dice.fraction()).powf(1.0 / 1.2);
                    (drawn as u32).min(high)
                })
                .collect(),
        }
    }
}

/// A page's place in the order is its number here.
#[derive(Debug)]
pub struct Books {
    pub pages: Vec<Page>,
    /// Pages of each book, by the book's number.
    pub lengths: Vec<u32>,
    /// The first page of each book.
    pub firsts: Vec<u32>,
}

#[derive(Debug)]
pub struct Page {
    pub key: RecordKey,
    pub book: u32,
    /// How many pages can only run after this one.
    pub chain_ahead: u32,
    /// The page after it, by its place in the order.
    pub next: Option<u32>,
    pub predecessor: Option<RecordKey>,
}

/// The books of a scenario, in an order. Which book is long has nothing to do with its name.
pub fn books(scenario: &Scenario, order: Order) -> Books {
    let mut dice = Dice::new(scenario.seed);
    let mut lengths = scenario.lengths.drawn(&mut dice);
    for at in (1..lengths.len()).rev() {
        lengths.swap(at, dice.between(0, at as u32) as usize);
    }
    let mut pages = Vec::new();
    for (book, length) in (0_u32..).zip(&lengths) {
        for number in 1..=*length {
            pages.push(Page {
                key: key(book, number),
                book,
                chain_ahead: length - number,
                next: None,
                predecessor: (number > 1).then(|| key(book, number - 1)),
            });
        }
    }
    pages.sort_by(|a, b| match order {
        Order::LongestChain => (b.chain_ahead, &a.key).cmp(&(a.chain_ahead, &b.key)),
        Order::Alphabetical => a.key.cmp(&b.key),
    });
    link(pages, lengths)
}

fn link(mut pages: Vec<Page>, lengths: Vec<u32>) -> Books {
    let mut places: Vec<Vec<u32>> = lengths
        .iter()
        .map(|length| vec![0; *length as usize])
        .collect();
    for (place, page) in (0_u32..).zip(&pages) {
        let chain = &mut places[page.book as usize];
        let last = chain.len() - 1;
        chain[last - page.chain_ahead as usize] = place;
    }
    for chain in &places {
        for pair in chain.windows(2) {
            pages[pair[0] as usize].next = Some(pair[1]);
        }
    }
    Books {
        firsts: places.iter().map(|chain| chain[0]).collect(),
        pages,
        lengths,
    }
}

fn key(book: u32, number: u32) -> RecordKey {
    RecordKey::from(format!("State:School {book:06}:1849:{number:04}"))
}
