//! Collecting a result file with the real ResultProcessor and the real database: read in lines, joined by
//! key, judged, validated, written durably, recorded, settled; against bare loops over the same bytes that
//! parse, validate and leave the same files, without a database.

#[path = "kit/answers.rs"]
mod answers;
#[path = "kit/bare.rs"]
mod bare;
#[path = "kit/deaf.rs"]
mod deaf;
#[path = "kit/durable.rs"]
mod durable;
#[path = "kit/race.rs"]
mod race;
#[path = "kit/size.rs"]
mod size;
#[path = "kit/state.rs"]
mod state;
#[path = "../tests/it/kit/state_world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod state_world;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bare::BareLine;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group};
use deaf::Deaf;
use durable::{SET_OUT, write_files};
use pagemill::actors::hint::{Idle, ResultsReady};
use pagemill::actors::result_processor::index::{self, Index};
use pagemill::actors::result_processor::judge::{Judged, Judgement, judge_lines};
use pagemill::actors::result_processor::{
    JudgeRules, ReportWriter, ResultProcessor, ResultProcessorOptions, ResultProcessorPeers,
    ResultProcessorPorts,
};
use pagemill::actors::state::messages::*;
use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::adapters::gemini::{CHUNK_BYTES, GeminiClient, GeminiOptions, SecretText};
use pagemill::adapters::system_clock::SystemClock;
use pagemill::demo::dataset;
use pagemill::domain::batch::BatchEvent;
use pagemill::domain::ids::{RecordKey, RemoteName};
use pagemill::domain::layout::Layout;
use pagemill::domain::page::PageStage;
use pagemill::pipeline::Plan;
use pagemill::pipeline::from_settings::RunRequest;
use pagemill::ports::result_sink::ResultSink;
use pagemill::prompt::Validator;
use pagemill::settings::{self, Sources};
use race::{Took, Watch, race};
use state::{open, stored, tell};
use state_world::{
    at, batch, claim, collect, plan, poll, record_submit, record_uploads, scan, sha, spooled,
    start_run,
};
use tempfile::TempDir;

/// Pages in one folder.
const BOOK_PAGES: u32 = 250;
/// As `results.writers` and `results.verdicts_per_commit` are by default.
const WRITERS: usize = 16;
const VERDICTS_TOGETHER: usize = 512;
/// Threads that judge.
const THREADS: usize = 2;

struct World {
    folder: TempDir,
    lines: u32,
    validator: Arc<Validator>,
    options: ResultProcessorOptions,
}

/// What the settings make of a processor by default. Images are not compared: there are none.
fn options(demo: &Path) -> ResultProcessorOptions {
    dataset::create(demo).unwrap();
    let sources = Sources {
        file: Some(demo.join("pagemill.yaml")),
        env: [("GEMINI_API_KEY".to_owned(), "bench-key".to_owned())].into(),
        flags: Default::default(),
        cwd: demo.to_owned(),
    };
    let settings = settings::load(sources).unwrap().settings;
    let plan = Plan::from_settings(&settings, RunRequest::default()).unwrap();
    ResultProcessorOptions {
        compare_images: false,
        ..plan.processor
    }
}

/// A client of a provider that nobody calls: the results are on disk already.
fn nobody() -> GeminiClient {
    GeminiClient::new(GeminiOptions {
        base_url: "http://127.0.0.1:9".to_owned(),
        version: "v1beta".to_owned(),
        api_key: SecretText::new("bench-key"),
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(1),
        chunk_bytes: CHUNK_BYTES,
        body_bytes_max: 1 << 20,
        resume_pause: Duration::from_secs(1),
    })
    .unwrap()
}

fn page(key: &RecordKey) -> NewPage {
    NewPage {
        key: key.clone(),
        book: key.book().to_owned(),
        levels: key.as_str().split(':').map(str::to_owned).collect(),
        number: key.page().parse().unwrap(),
        predecessor: None,
        waits_for: None,
        chain_ahead: 0,
    }
}

fn included(key: RecordKey) -> IncludedMember {
    IncludedMember {
        key,
        prompt_sha256: sha("prompt"),
        context_sha256: None,
        parameters: None,
    }
}

fn key(line: u32) -> RecordKey {
    let (book, page) = (line / BOOK_PAGES, line % BOOK_PAGES + 1);
    RecordKey::from(format!("Alabama:School {book:06}:1849:{page}"))
}

impl World {
    fn new(lines: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = World {
            options: options(&folder.path().join("demo")),
            folder,
            lines,
            validator: Arc::new(Validator::new(&answers::schema()).unwrap()),
        };
        let mut file = File::create(world.raw()).unwrap();
        for line in 0..lines {
            writeln!(file, "{}", answers::line(key(line).as_str(), line)).unwrap();
        }
        world
    }

    fn raw(&self) -> PathBuf {
        self.folder.path().join("raw.jsonl")
    }

    fn layout() -> Layout {
        Layout::parse("{state}/{school}/{year}/{page}").unwrap()
    }

    /// An empty folder for what one run writes. It stays until all runs are over: some file systems take
    /// longer to make files while they still remember many that were just removed.
    fn scratch(&self) -> PathBuf {
        TempDir::new_in(self.folder.path()).unwrap().keep()
    }

    fn files(&self, output_dir: &Path) -> Filesystem {
        Filesystem::new(FilesystemOptions {
            label_dir: self.folder.path().join("labels"),
            image_dir: self.folder.path().join("images"),
            output_dir: output_dir.to_owned(),
            work_dir: self.folder.path().join("work"),
            layout: World::layout(),
            image_bytes_max: 1 << 20,
            line_bytes_max: 1 << 20,
            writers: WRITERS,
            free_bytes_min: 0,
        })
    }

    /// The first pass: which line answers whom.
    async fn index(&self, files: &Filesystem) -> Index {
        let mut index = Index::new((0..self.lines).map(key));
        let mut reader = files.open_raw(&self.raw()).await.unwrap();
        while let Some(lines) = reader.next_lines().await.unwrap() {
            for entry in index::entries(lines, THREADS).await {
                index.add(entry);
            }
        }
        index
    }

    /// The second pass without writing: the accepted outputs, a run of lines at a time.
    async fn judge(
        &self,
        files: &Filesystem,
        index: &Index,
        mut each: impl AsyncFnMut(Vec<(RecordKey, Vec<u8>)>),
    ) {
        let rules = JudgeRules {
            max_retries: 3,
            retry_delay: Duration::ZERO,
            stored_response_bytes_max: 256 << 10,
            refuse_empty: true,
            echo_field: None,
            threads: THREADS,
        };
        let mut reader = files.open_raw(&self.raw()).await.unwrap();
        while let Some(lines) = reader.next_lines().await.unwrap() {
            let judged = judge_lines(lines, Arc::clone(&self.validator), rules.clone()).await;
            let outputs: Vec<(RecordKey, Vec<u8>)> = judged
                .into_iter()
                .filter(|judged| index.is_answer(&judged.key, judged.line.offset))
                .map(accepted)
                .collect();
            each(outputs).await;
        }
    }

    /// One collection by the real stage, on a copy of the prepared database, from the hint that results
    /// are there to the settled batch.
    async fn collect(&self) -> Took {
        let (outputs, path) = (self.scratch(), self.scratch().join("state.db"));
        fs::copy(self.ready(), &path).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let state = open(&path).await;
        let deaf = Deaf.start();
        let peers = ResultProcessorPeers {
            state: state.clone(),
            unlocked: deaf.clone().recipient(),
            released: deaf.clone().recipient(),
        };
        let files = Rc::new(self.files(&outputs));
        let provider = Rc::new(nobody());
        let ports = ResultProcessorPorts {
            source: files.clone(),
            files: provider.clone(),
            batches: provider,
            sink: files,
            clock: Rc::new(SystemClock),
        };
        let report: ReportWriter = Rc::new(|_facts| String::new());
        let validator = Arc::clone(&self.validator);
        let processor = ResultProcessor::new(
            self.options.clone(),
            peers,
            deaf::root(&deaf),
            ports,
            validator,
            report,
        )
        .start();
        let watch = Watch::start();
        let batch = batch("b1");
        processor.send(ResultsReady { batch }).await.unwrap();
        processor.send(Idle {}).await.unwrap();
        let took = watch.took();
        let question = Summarize {
            scope: None,
            at: at(0),
        };
        let summary = tell(&state, question).await;
        assert_eq!(
            summary.pages_in(PageStage::Completed),
            u64::from(self.lines)
        );
        tell(&state, Close {}).await;
        took
    }

    /// The database in which the only batch has its results on disk.
    fn ready(&self) -> PathBuf {
        self.folder.path().join("ready.db")
    }

    /// Brings all pages into one batch whose results are there.
    async fn prepare(&self) {
        let state = open(&self.ready()).await;
        tell(&state, start_run()).await;
        let keys: Vec<RecordKey> = (0..self.lines).map(key).collect();
        let register = keys.iter().map(page).collect();
        let changes = ScanChanges {
            register,
            ..ScanChanges::default()
        };
        tell(&state, scan(changes, 0)).await;
        let question = ClaimPages {
            chained: false,
            ..claim(u64::from(self.lines), 10)
        };
        tell(&state, question).await;
        let uploads = keys.iter().map(stored).collect();
        tell(&state, record_uploads(uploads, 20)).await;
        tell(&state, plan("b1", keys.clone(), 100)).await;
        let mut lines = spooled("b1", []);
        lines.included = keys.into_iter().map(included).collect();
        tell(&state, lines).await;
        let batch = batch("b1");
        tell(&state, BeginSubmit { batch, at: at(220) }).await;
        let remote = RemoteName::from("batches/b1");
        tell(
            &state,
            record_submit("b1", BatchEvent::SubmitAccepted { remote }),
        )
        .await;
        let offered = Some(BatchEvent::ResultsOffered);
        tell(&state, poll("b1", "BATCH_STATE_SUCCEEDED", offered)).await;
        let mut begin = collect("b1");
        begin.raw.path = self.raw().to_string_lossy().into_owned();
        begin.raw.bytes = fs::metadata(self.raw()).unwrap().len();
        tell(&state, begin).await;
        tell(&state, Close {}).await;
    }

    /// The answer as it would be written, once the schema holds.
    fn bare_output(&self, line: &BareLine<'_>) -> Vec<u8> {
        let (value, output) = line.parsed();
        assert_eq!(self.validator.check(&value), Ok(()));
        output
    }

    fn raw_lines(&self) -> Vec<Vec<u8>> {
        let file = BufReader::with_capacity(1 << 20, File::open(self.raw()).unwrap());
        file.split(b'\n').map(Result::unwrap).collect()
    }

    /// The path of an output, by the bench's own rule, in a folder that exists.
    fn target(output_dir: &Path, key: &str, made: &mut BTreeSet<PathBuf>) -> PathBuf {
        let mut path = output_dir.to_owned();
        path.extend(key.split(':'));
        path.set_extension("json");
        let folder = path.parent().unwrap().to_owned();
        if made.insert(folder.clone()) {
            fs::create_dir_all(folder).unwrap();
        }
        path
    }

    /// The floor without durability: one loop, one thread; a crash may leave nothing.
    fn bare(&self, output_dir: &Path) {
        let mut made = BTreeSet::new();
        let mut file = BufReader::with_capacity(1 << 20, File::open(self.raw()).unwrap());
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line).unwrap() > 0 {
            let bare = BareLine::read(&line);
            let path = World::target(output_dir, &bare.key, &mut made);
            let part = path.with_extension("tmp");
            fs::write(&part, self.bare_output(&bare)).unwrap();
            fs::rename(part, path).unwrap();
            line.clear();
        }
    }

    /// The floor with durability: as many threads as there are writers take up to so many lines at a time.
    fn bare_durable(&self, output_dir: &Path, together: usize) {
        let lines = self.raw_lines();
        let mut made = BTreeSet::new();
        let paths: Vec<PathBuf> = lines
            .iter()
            .map(|line| {
                let bare = BareLine::read(line);
                World::target(output_dir, &bare.key, &mut made)
            })
            .collect();
        write_files(lines.len(), WRITERS, together, |at| {
            let output = self.bare_output(&BareLine::read(&lines[at]));
            (paths[at].clone(), output)
        });
        for folder in made {
            File::open(folder).unwrap().sync_all().unwrap();
        }
    }
}

fn accepted(judged: Judged) -> (RecordKey, Vec<u8>) {
    match judged.judgement {
        Judgement::Accepted { output } => (judged.key, output),
        other => panic!("the bench's own answers are accepted: {other:?}"),
    }
}

/// Measures `work` on an empty output folder, the making of which does not count.
fn afresh(world: &World, work: impl FnOnce(&Path)) -> Took {
    let outputs = world.scratch();
    Took::whole(|| work(&outputs))
}

/// The time of so many runs.
fn total(times: u64, mut run: impl FnMut() -> Took) -> Duration {
    (0..times).map(|_| run().time).sum()
}

/// The floors with durability, and how many files a thread writes before it syncs the first of them.
const DURABLE: [(&str, usize); 2] = [
    ("floor: 16 threads, some files set out together", SET_OUT),
    ("floor: 16 threads, a sync after each file", 1),
];

/// The contract's race, as often as was asked for.
fn racing(rounds: usize) {
    let system = actix::System::new();
    let world = World::new(size::size("PAGEMILL_BENCH_LINES", 1_000));
    system.block_on(world.prepare());
    let items = u64::from(world.lines);
    let durable = |together| afresh(&world, |outputs| world.bare_durable(outputs, together));
    let plain = || afresh(&world, |outputs| world.bare(outputs));
    let ours = || system.block_on(world.collect());
    for (name, together) in DURABLE {
        let name = format!("results, {name}");
        race(&name, items, rounds, || durable(together), ours);
    }
    race(
        "results, floor: not durable, one thread",
        items,
        rounds,
        plain,
        ours,
    );
}

fn collecting(criterion: &mut Criterion) {
    let system = actix::System::new();
    let world = World::new(size::size("PAGEMILL_BENCH_LINES", 1_000));
    system.block_on(world.prepare());
    let mut group = criterion.benchmark_group("results");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(u64::from(world.lines)));
    group.bench_function("floor: not durable, one thread", |bencher| {
        bencher.iter_custom(|times| total(times, || afresh(&world, |outputs| world.bare(outputs))));
    });
    for (name, together) in DURABLE {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                total(times, || {
                    afresh(&world, |outputs| world.bare_durable(outputs, together))
                })
            });
        });
    }
    group.bench_function("collect", |bencher| {
        bencher.iter_custom(|times| total(times, || system.block_on(world.collect())));
    });
    let files = world.files(world.folder.path());
    group.bench_function("part: read", |bencher| {
        bencher.iter(|| {
            system.block_on(async {
                let mut reader = files.open_raw(&world.raw()).await.unwrap();
                while reader.next_lines().await.unwrap().is_some() {}
            });
        });
    });
    group.bench_function("part: read and index", |bencher| {
        bencher.iter(|| system.block_on(world.index(&files)));
    });
    let index = system.block_on(world.index(&files));
    group.bench_function("part: read and judge", |bencher| {
        bencher.iter(|| system.block_on(world.judge(&files, &index, async |_| {})));
    });
    group.bench_function("part: write", |bencher| {
        let mut outputs = Vec::new();
        system.block_on(world.judge(&files, &index, async |more| outputs.extend(more)));
        bencher.iter_custom(|times| {
            let write = |folder: &Path| {
                let files = world.files(folder);
                for chunk in outputs.chunks(VERDICTS_TOGETHER) {
                    for outcome in system.block_on(files.write_outputs(chunk.to_vec())) {
                        outcome.unwrap();
                    }
                }
            };
            total(times, || afresh(&world, write))
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
    targets = collecting
}

fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing else installs one in this program");
    match race::rounds() {
        Some(rounds) => racing(rounds),
        None => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
