//! What grows with a project: memory, the time to start, the time of a page.
//!
//! Not a sample of many: each thing is done once (`start` some times) by a process of its own, and
//! held against what it must not exceed. `cargo bench --bench scale -- all` takes it at full size;
//! without a name everything is done with a few pages, to see that it works.

#[path = "scale/alone.rs"]
mod alone;
#[path = "scale/answers.rs"]
mod answers;
#[path = "scale/child.rs"]
mod child;
#[path = "scale/growth.rs"]
mod growth;
#[path = "scale/memory.rs"]
mod memory;
#[path = "scale/project.rs"]
mod project;
#[path = "scale/provider.rs"]
mod provider;
#[path = "scale/start.rs"]
mod start;
#[path = "kit/state.rs"]
#[expect(dead_code, reason = "growth has images of its own")]
mod state;
#[path = "../tests/it/kit/state_world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod state_world;
#[path = "scale/table.rs"]
mod table;
#[path = "scale/tables.rs"]
mod tables;

use actix::SystemRunner;
use table::Table;

/// What takes a row.
type Take = fn(&SystemRunner, Size, &mut Table);

/// The rows, each by its name.
const ROWS: [(&str, Take); 6] = [
    ("memory-pages", memory::pages),
    ("memory-known", memory::known),
    ("memory-results", memory::results),
    ("memory-jsonl", memory::lines),
    ("start", start::start),
    ("growth", growth::growth),
];

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As a large project has it.
    Full,
    /// Enough to see that it works.
    Few,
}

impl Size {
    /// `full`, or what `variable` says instead; `few` where nothing is measured.
    pub fn of(self, variable: &str, full: u64, few: u64) -> u64 {
        match (self, std::env::var(variable)) {
            (Size::Few, _) => few,
            (Size::Full, Err(_)) => full,
            (Size::Full, Ok(text)) => text
                .replace('_', "")
                .parse()
                .unwrap_or_else(|_| panic!("{variable} is '{text}', not a number")),
        }
    }
}

fn main() {
    child::become_tied();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let asked: Vec<_> = ROWS
        .iter()
        .filter(|(name, _)| named(name) || named("all"))
        .collect();
    let unknown = arguments.iter().find(|argument| {
        !argument.starts_with("--")
            && *argument != "all"
            && !ROWS.iter().any(|row| row.0 == **argument)
    });
    if let Some(unknown) = unknown {
        let names = ROWS.map(|(name, _)| name).join(", ");
        eprintln!("there is no '{unknown}'; there are {names}, and all");
        std::process::exit(2);
    }
    let (rows, size) = if asked.is_empty() {
        (ROWS.iter().collect(), Size::Few)
    } else {
        (asked, Size::Full)
    };
    let system = actix::System::new();
    let mut table = Table::new(size);
    for (_name, take) in rows {
        take(&system, size, &mut table);
    }
    table.finish();
}
