//! Looking at the tree: labels a second for the bare listing of both trees, for the walk of the
//! file system adapter, and for the whole scanner on a real database.

#[path = "kit/deaf.rs"]
mod deaf;
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
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use deaf::Deaf;
use pagemill::actors::hint::{Idle, Rescan};
use pagemill::actors::scanner::{Scanner, ScannerOptions, ScannerPeers};
use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::adapters::system_clock::SystemClock;
use pagemill::domain::ids::{RunId, ScopeToken};
use pagemill::domain::layout::Layout;
use pagemill::ports::page_source::{Found, PageSource, Scope};
use pagemill::prompt::Validator;
use serde_json::json;
use tempfile::TempDir;

/// Pages in one folder.
const BOOK_PAGES: u32 = 250;

/// A tree of labels, and an output beside every second one.
struct Tree {
    folder: TempDir,
    pages: u32,
}

impl Tree {
    fn new(pages: u32) -> Self {
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
            if page % 2 == 0 {
                put(tree.outputs(), r#"{"text":"x"}"#);
            }
        }
        tree
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
        let scanner = Scanner::new(options, peers, deaf::root(&deaf), source, clock).start();
        Stage { world, scanner }
    }

    async fn scan(&self) -> Duration {
        let start = Instant::now();
        self.scanner.send(Rescan {}).await.unwrap();
        self.scanner.send(Idle {}).await.unwrap();
        start.elapsed()
    }

    async fn end(self, tree: &Tree) {
        let known = self.world.one("SELECT count(*) FROM pages").await;
        assert_eq!(known, tree.pages.to_string());
    }
}

fn scanning(criterion: &mut Criterion) {
    let system = actix::System::new();
    let tree = Tree::new(size::size("PAGEMILL_BENCH_LABELS", 20_000));
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
criterion_main!(benches);
