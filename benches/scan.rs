//! Looking at the tree: labels a second for the bare listing of both trees, for the walk of the
//! file system adapter, and for the whole scanner on a real database; and the rows that a first look
//! leaves, inserted raw.

#[path = "kit/deaf.rs"]
mod deaf;
#[path = "kit/race.rs"]
mod race;
#[path = "kit/size.rs"]
mod size;
#[path = "../tests/it/kit/state_world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod state_world;

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group};
use deaf::Deaf;
use pagemill::actors::hint::{Idle, Rescan};
use pagemill::actors::scanner::{Scanner, ScannerOptions, ScannerPeers};
use pagemill::actors::state::messages::Close;
use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::adapters::system_clock::SystemClock;
use pagemill::domain::ids::{RunId, ScopeToken};
use pagemill::domain::layout::Layout;
use pagemill::ports::page_source::{Found, PageSource, Scope};
use pagemill::prompt::Validator;
use race::{Took, Watch, race};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;
use tempfile::TempDir;

/// Pages in one folder.
const BOOK_PAGES: u32 = 250;

/// A tree of labels, perhaps with an output beside every second one.
struct Tree {
    folder: TempDir,
    pages: u32,
}

impl Tree {
    fn new(pages: u32, half_done: bool) -> Self {
        let tree = Tree {
            folder: tempfile::tempdir().unwrap(),
            pages,
        };
        for page in 0..pages {
            let book = format!("Alabama/School {:06}/1849", page / BOOK_PAGES);
            let name = format!("{}.json", page % BOOK_PAGES + 1);
            let put = |root: PathBuf, text: &str| {
                let folder = root.join(&book);
                if page % BOOK_PAGES < 2 {
                    fs::create_dir_all(&folder).unwrap();
                }
                fs::write(folder.join(&name), text).unwrap();
            };
            put(tree.labels(), "{}");
            if half_done && page % 2 == 0 {
                put(tree.outputs(), r#"{"text":"x"}"#);
            }
        }
        tree
    }

    /// Adds labels to the last books, one to each.
    fn add(&self, known: u32, more: u32) {
        for at in 0..more {
            let book = format!(
                "Alabama/School {:06}/1849",
                (at * 7) % (self.pages / BOOK_PAGES).max(1)
            );
            let name = format!("{}.json", 10_000 + known + at);
            fs::write(self.labels().join(book).join(name), "{}").unwrap();
        }
    }

    fn labels(&self) -> PathBuf {
        self.folder.path().join("labels")
    }

    fn outputs(&self) -> PathBuf {
        self.folder.path().join("outputs")
    }

    fn layout() -> Layout {
        Layout::parse("{state}/{school}/{year}/{page}").unwrap()
    }

    fn files(&self) -> Filesystem {
        Filesystem::new(FilesystemOptions {
            label_dir: self.labels(),
            image_dir: self.folder.path().join("images"),
            output_dir: self.outputs(),
            work_dir: self.folder.path().join("work"),
            layout: Tree::layout(),
            image_bytes_max: 1 << 20,
            line_bytes_max: 1 << 20,
            writers: 16,
            free_bytes_min: 0,
        })
    }
}

/// The floor: lists every folder of the labels and the folder of outputs beside it, and counts the
/// names that stand in both.
fn list(labels: &Path, outputs: &Path) -> (u32, u32) {
    let mut names = Vec::new();
    let (mut pages, mut done) = (0, 0);
    for entry in fs::read_dir(labels).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            let (below, done_below) = list(&entry.path(), &outputs.join(entry.file_name()));
            pages += below;
            done += done_below;
        } else {
            names.push(entry.file_name());
        }
    }
    if !names.is_empty() {
        names.sort_unstable();
        pages += u32::try_from(names.len()).unwrap();
        for entry in fs::read_dir(outputs).into_iter().flatten() {
            done += u32::from(names.binary_search(&entry.unwrap().file_name()).is_ok());
        }
    }
    (pages, done)
}

async fn walk(files: &Filesystem) -> (u32, u32) {
    let scope = Scope {
        levels: vec![None; 4],
    };
    let mut walk = files.walk(&scope).await.unwrap();
    let (mut pages, mut done) = (0, 0);
    while let Some(chunk) = walk.next().await {
        for found in chunk {
            match found {
                Found::Book(book) => {
                    pages += book.labels.len();
                    done += book.outputs.len();
                }
                Found::Oddity(oddity) => panic!("{oddity:?}"),
                Found::Unchanged(book) => panic!("nobody said how {book} looked"),
            }
        }
    }
    (u32::try_from(pages).unwrap(), u32::try_from(done).unwrap())
}

/// The real scanner over the tree and an empty database.
struct Stage {
    world: state_world::World,
    scanner: Addr<Scanner>,
}

impl Stage {
    async fn new(tree: &Tree) -> Self {
        let world = state_world::World::new().await;
        Stage {
            scanner: Stage::scanner(&world, tree),
            world,
        }
    }

    /// A scanner that has seen nothing yet, on the same database.
    fn world_scanner(&self, tree: &Tree) -> Addr<Scanner> {
        Stage::scanner(&self.world, tree)
    }

    fn scanner(world: &state_world::World, tree: &Tree) -> Addr<Scanner> {
        let deaf = Deaf.start();
        let schema = json!({"type": "object", "required": ["text"]});
        let options = ScannerOptions {
            window: None,
            run: RunId::from("run-1"),
            scope: Scope {
                levels: vec![None; 4],
            },
            token: ScopeToken::from("scope"),
            layout: Tree::layout(),
            skip_dead: false,
            chained: true,
            validator: Arc::new(Validator::new(&schema).unwrap()),
        };
        let peers = ScannerPeers {
            state: world.state.clone(),
            registered: deaf.clone().recipient(),
            done: deaf.clone().recipient(),
        };
        let (source, clock) = (Rc::new(tree.files()), Rc::new(SystemClock));
        Scanner::new(options, peers, deaf::root(&deaf), source, clock).start()
    }

    async fn scan(&self) -> Duration {
        let start = Instant::now();
        self.scanner.send(Rescan {}).await.unwrap();
        self.scanner.send(Idle {}).await.unwrap();
        start.elapsed()
    }

    async fn end(self, tree: &Tree) {
        self.knows(tree.pages).await;
    }

    async fn knows(&self, pages: u32) {
        let known = self.world.one("SELECT count(*) FROM pages").await;
        assert_eq!(known, pages.to_string());
    }
}

/// The rows that a first look left in a database, and their raw insertion into an empty one.
struct Rows {
    pages: Vec<Vec<Value>>,
    events: Vec<Vec<Value>>,
}

impl Rows {
    const PAGES: &str = "record_key, book, levels, page_number, predecessor, waits_for, chain_ahead, \
        stage, status, scope, run_id, created_at, updated_at";
    const EVENTS: &str =
        "record_key, at, from_stage, to_stage, event, run_id, correlation_id, details";

    async fn of(tree: &Tree) -> Self {
        let stage = Stage::new(tree).await;
        stage.scan().await;
        let db = Connection::open(&stage.world.path).unwrap();
        let read = |columns: &str, table: &str, order: &str| {
            let sql = format!("SELECT {columns} FROM {table} ORDER BY {order}");
            let mut question = db.prepare(&sql).unwrap();
            let count = question.column_count();
            let rows = question.query_map([], |row| (0..count).map(|at| row.get(at)).collect());
            rows.unwrap().map(Result::unwrap).collect()
        };
        let rows = Rows {
            pages: read(Rows::PAGES, "pages", "record_key"),
            events: read(Rows::EVENTS, "page_events", "id"),
        };
        stage.end(tree).await;
        rows
    }

    /// One prepared statement a table, run for each row, all in one transaction.
    async fn insert(&self) -> Took {
        let world = state_world::World::new().await;
        world.tell(Close {}).await.unwrap();
        let mut db = Connection::open(&world.path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536;
             PRAGMA wal_autocheckpoint = 10000",
        )
        .unwrap();
        let watch = Watch::start();
        let transaction = db.transaction().unwrap();
        for (table, columns, rows) in [
            ("pages", Rows::PAGES, &self.pages),
            ("page_events", Rows::EVENTS, &self.events),
        ] {
            let places = vec!["?"; columns.split(',').count()].join(", ");
            let sql = format!("INSERT INTO {table} ({columns}) VALUES ({places})");
            let mut insert = transaction.prepare(&sql).unwrap();
            for row in rows {
                insert.execute(params_from_iter(row)).unwrap();
            }
        }
        transaction.commit().unwrap();
        watch.took()
    }
}

/// The races at the size that is asked for: walk, first look, and looks again.
fn racing(rounds: usize) {
    let system = actix::System::new();
    let tree = Tree::new(size::size("PAGEMILL_BENCH_LABELS", 20_000), false);
    let items = u64::from(tree.pages);
    let files = tree.files();
    let bare = || Took::whole(|| assert_eq!(list(&tree.labels(), &tree.outputs()).0, tree.pages));
    race("scan, walk", items, rounds, bare, || {
        Took::whole(|| assert_eq!(system.block_on(walk(&files)).0, tree.pages))
    });
    let rows = system.block_on(Rows::of(&tree));
    race(
        "scan, first look against the raw insertion of its rows",
        items,
        rounds,
        || system.block_on(rows.insert()),
        || {
            system.block_on(async {
                let stage = Stage::new(&tree).await;
                let watch = Watch::start();
                stage.scan().await;
                let took = watch.took();
                stage.end(&tree).await;
                took
            })
        },
    );
    system.block_on(looks_again(&tree, rounds));
}

/// Looks of a process that has looked before, each as a share of the first.
async fn looks_again(tree: &Tree, rounds: usize) {
    // Folders that changed a moment ago are looked at again in any case.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let stage = Stage::new(tree).await;
    let first = stage.scan().await;
    let mut same = Vec::new();
    for _ in 0..rounds {
        same.push(stage.scan().await);
    }
    let mut more = Vec::new();
    let mut known = tree.pages;
    for _ in 0..rounds {
        tree.add(known, 100);
        known += 100;
        more.push(stage.scan().await);
        stage.knows(known).await;
    }
    let restarted = Stage {
        scanner: stage.world_scanner(tree),
        world: stage.world,
    };
    let anew = restarted.scan().await;
    same.sort();
    more.sort();
    println!(
        "scan, looks again: {} labels, medians of {rounds}",
        tree.pages
    );
    println!("  first look {:.3} s", first.as_secs_f64());
    for (name, took) in [
        ("nothing changed", same[rounds / 2]),
        ("100 new labels", more[rounds / 2]),
        ("first look of another process, nothing new", anew),
    ] {
        let share = 100.0 * took.as_secs_f64() / first.as_secs_f64();
        println!(
            "  {name}: {:.4} s, {share:.1} % of the first",
            took.as_secs_f64()
        );
    }
}

fn scanning(criterion: &mut Criterion) {
    let system = actix::System::new();
    let tree = Tree::new(size::size("PAGEMILL_BENCH_LABELS", 20_000), true);
    let expected = (tree.pages, tree.pages.div_ceil(2));
    let mut group = criterion.benchmark_group("scan");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(u64::from(tree.pages)));
    group.bench_function("floor: read_dir", |bencher| {
        bencher.iter(|| assert_eq!(list(&tree.labels(), &tree.outputs()), expected));
    });
    group.bench_function("walk", |bencher| {
        let files = tree.files();
        bencher.iter(|| assert_eq!(system.block_on(walk(&files)), expected));
    });
    group.bench_function("scanner: all new, half of them done", |bencher| {
        bencher.iter_custom(|times| {
            system.block_on(async {
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    let stage = Stage::new(&tree).await;
                    total += stage.scan().await;
                    stage.end(&tree).await;
                }
                total
            })
        });
    });
    group.bench_function("scanner: nothing new", |bencher| {
        bencher.iter_custom(|times| {
            system.block_on(async {
                let stage = Stage::new(&tree).await;
                stage.scan().await;
                let mut total = Duration::ZERO;
                for _ in 0..times {
                    total += stage.scan().await;
                }
                stage.end(&tree).await;
                total
            })
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2));
    targets = scanning
}

fn main() {
    match race::rounds() {
        Some(rounds) => racing(rounds),
        None => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
