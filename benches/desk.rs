//! What an operator waits for: each command that only reads, as a process of its own, on a state of
//! a million pages in the middle of its work.
//!
//! The floor of each is bare SQL: a fresh connection that asks for the figures that the command
//! cannot do without, and no more. Every command that only shows is to answer within 200 ms.

#[path = "../tests/it/kit/large_state.rs"]
mod large_state;
#[path = "kit/size.rs"]
mod size;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use actix::Actor;
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use large_state::LargeState;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::Close;
use pagemill::actors::state::open::StateOptions;
use pagemill::actors::state::read::open_read_only;
use pagemill::adapters::system_clock;
use pagemill::settings::{self, Sources};
use sea_orm::{ConnectionTrait, Statement};
use tempfile::TempDir;

const SETTINGS: &str = "model: {name: gemini-3.8-flash}\n";
/// What every list of pages has to know of the whole.
const STAGES: &str = "SELECT stage, count(*) FROM pages GROUP BY stage";

/// Each command with its floor.
const COMMANDS: &[(&[&str], &[&str])] = &[
    (
        &["status"],
        &[
            STAGES,
            "SELECT state, count(*) FROM submissions GROUP BY state",
            "SELECT count(*) FROM pages INDEXED BY pages_blocked
             WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NOT NULL",
            "SELECT sum(cost_nanos) FROM submissions",
        ],
    ),
    (
        &["status", "--stage", "dead"],
        &[
            STAGES,
            "SELECT record_key, status FROM pages WHERE stage = 'dead' LIMIT 20",
        ],
    ),
    (
        &[
            "status",
            "--stage",
            "discovered",
            "--states",
            "Ohio",
            "--where",
            "year=1850..1851",
        ],
        &[
            STAGES,
            "SELECT record_key FROM pages
             WHERE record_key > 'Ohio:' AND record_key < 'Ohio;' AND levels->>'$[2]' = '1850'
               AND +stage = 'discovered' LIMIT 20",
        ],
    ),
    (
        &["status", "--incomplete"],
        &[
            STAGES,
            "SELECT record_key, status FROM pages
             WHERE stage IN ('uploading','uploaded','batched','validating') LIMIT 20",
        ],
    ),
    (
        &["runs", "list"],
        &["SELECT * FROM runs ORDER BY updated_at DESC LIMIT 20"],
    ),
    (
        &["runs", "show", "01a20000-0000-7000-8000-000000000500"],
        &[
            "SELECT * FROM runs WHERE run_id = '01a20000-0000-7000-8000-000000000500'",
            "SELECT state, count(*), sum(cost_nanos) FROM submissions
             WHERE run_id = '01a20000-0000-7000-8000-000000000500' GROUP BY state",
        ],
    ),
    (
        &["failures", "--summary"],
        &[
            "SELECT error_type, count(*) FROM failure_logs GROUP BY error_type",
            "SELECT count(DISTINCT record_key), sum(counted) FROM failure_logs",
            "SELECT * FROM failure_logs ORDER BY id DESC LIMIT 10",
        ],
    ),
    (
        &["failures", "--by-state", "--by-school"],
        &["SELECT record_key FROM failure_logs INDEXED BY failure_logs_record_key"],
    ),
    (
        &["failures", "--dead"],
        &["SELECT record_key, error FROM pages WHERE stage = 'dead' LIMIT 20"],
    ),
    (
        &["failures", "--trend"],
        &["SELECT substr(created_at, 1, 10), count(*) FROM failure_logs GROUP BY 1"],
    ),
    (&["failures", "--record-key", PAGE], &[LOGS_OF_PAGE]),
    (&["explain", PAGE], &[ONE_PAGE]),
    (&["show", PAGE], &[ONE_PAGE, EVENTS_OF_PAGE, LOGS_OF_PAGE]),
    (
        &["batches", "list", "--all"],
        &["SELECT * FROM submissions ORDER BY batch_id DESC LIMIT 20"],
    ),
    (
        &["batches", "show", "b0000100"],
        &["SELECT * FROM submissions WHERE batch_id = 'b0000100'"],
    ),
    (
        &["clear-failures", "--states", "Ohio", "--dry-run"],
        &[
            "SELECT stage, count(*) FROM pages WHERE record_key > 'Ohio:' AND record_key < 'Ohio;'
             AND stage IN ('dead','review') GROUP BY stage",
        ],
    ),
    (&["redo", "--key", PAGE, "--dry-run"], &[ONE_PAGE]),
    (
        &["orders"],
        &["SELECT * FROM orders ORDER BY order_id DESC LIMIT 20"],
    ),
    (
        &["alerts", "list"],
        &["SELECT * FROM alerts WHERE cleared_at IS NULL"],
    ),
];

/// A state with fewer pages lacks what is asked for by name: its 700th page and its 100th batch.
const PAGES_MIN: u32 = 8_000;

/// A page in the middle of the state, and what is known of it.
const PAGE: &str = "Ohio:School 000003:1852:0100";
const ONE_PAGE: &str = "SELECT * FROM pages WHERE record_key = 'Ohio:School 000003:1852:0100'";
const EVENTS_OF_PAGE: &str =
    "SELECT * FROM page_events WHERE record_key = 'Ohio:School 000003:1852:0100' ORDER BY id";
const LOGS_OF_PAGE: &str =
    "SELECT * FROM failure_logs WHERE record_key = 'Ohio:School 000003:1852:0100' ORDER BY id";

/// A project with a large state.
struct Project {
    folder: TempDir,
    database: PathBuf,
}

impl Project {
    async fn new(pages: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pagemill.yaml"), SETTINGS).unwrap();
        let loaded = settings::load(Sources {
            file: None,
            env: std::collections::BTreeMap::new(),
            flags: Vec::new(),
            cwd: folder.path().to_owned(),
        });
        let settings = loaded.unwrap().settings;
        let database = settings.state.sqlite_file.clone();
        let options = StateOptions {
            path: database.clone(),
            unlock_behind_dead: true,
        };
        let state = StateActor::open(options).await.unwrap().start();
        state.send(Close {}).await.unwrap().unwrap();
        let scope = settings.scope_token();
        let large = LargeState {
            pages,
            batches: pages / 100 + 20,
            events: 2,
            failures: pages / 20,
            scope: scope.as_str(),
            now: system_clock::now(),
        };
        large.fill(&database).await;
        Project { folder, database }
    }

    /// The whole program, from its start to its end.
    fn command(&self, arguments: &[&str]) -> Duration {
        let since = Instant::now();
        let ended = Command::new(env!("CARGO_BIN_EXE_pagemill"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("PAGEMILL_CONFIG")
            .stdout(Stdio::null())
            .status();
        let took = since.elapsed();
        assert!(ended.unwrap().success(), "{arguments:?}");
        took
    }
}

/// Bare SQL over a connection of its own.
async fn floor(database: &Path, statements: &[&str]) -> Duration {
    let since = Instant::now();
    let db = open_read_only(database).await.unwrap();
    for sql in statements {
        let statement = Statement::from_string(db.get_database_backend(), *sql);
        db.query_all_raw(statement).await.unwrap();
    }
    let took = since.elapsed();
    db.close().await.unwrap();
    took
}

fn answering(criterion: &mut Criterion) {
    let system = actix::System::new();
    let pages = size::size("PAGEMILL_BENCH_STATE_PAGES", 1_000_000).max(PAGES_MIN);
    let project = system.block_on(Project::new(pages));
    for (arguments, statements) in COMMANDS {
        let mut group = criterion.benchmark_group(format!("desk/{}", arguments.join(" ")));
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function("floor: bare SQL", |bencher| {
            bencher.iter_custom(|times| {
                let each =
                    (0..times).map(|_| system.block_on(floor(&project.database, statements)));
                each.sum()
            });
        });
        group.bench_function("pagemill", |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| project.command(arguments)).sum());
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(1));
    targets = answering
}
criterion_main!(benches);
