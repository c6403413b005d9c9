//! Collecting a result file: read in lines, indexed, judged, written durably; against bare loops
//! over the same bytes that leave the same files.

#[path = "kit/answers.rs"]
mod answers;
#[path = "kit/bare.rs"]
mod bare;
#[path = "kit/size.rs"]
mod size;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bare::BareLine;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use pagemill::actors::result_processor::JudgeRules;
use pagemill::actors::result_processor::index::Index;
use pagemill::actors::result_processor::judge::{Judged, Judgement, judge_lines};
use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::domain::attempt::RawLine;
use pagemill::domain::ids::RecordKey;
use pagemill::domain::layout::Layout;
use pagemill::ports::result_sink::ResultSink;
use pagemill::prompt::Validator;
use tempfile::TempDir;

/// Pages in one folder.
const BOOK_PAGES: u32 = 250;
/// As `results.writers` and `results.verdicts_per_commit` are by default.
const WRITERS: usize = 16;
const VERDICTS_TOGETHER: usize = 256;

struct World {
    folder: TempDir,
    lines: u32,
    validator: Arc<Validator>,
}

fn key(line: u32) -> RecordKey {
    let (book, page) = (line / BOOK_PAGES, line % BOOK_PAGES + 1);
    RecordKey::from(format!("Alabama:School {book:06}:1849:{page}"))
}

impl World {
    fn new(lines: u32) -> Self {
        let world = World {
            folder: tempfile::tempdir().unwrap(),
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

    /// An empty folder for outputs.
    fn outputs(&self) -> TempDir {
        TempDir::new_in(self.folder.path()).unwrap()
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
            let indexed = actix_rt::task::spawn_blocking(move || {
                for line in &lines {
                    let place = RawLine {
                        offset: line.offset,
                        bytes: line.bytes,
                    };
                    index.add(place, line.text.as_deref());
                }
                index
            });
            index = indexed.await.unwrap();
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
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
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

    /// Everything, in the order in which the processor does it.
    async fn collect(&self, files: &Filesystem) {
        let index = self.index(files).await;
        let mut written = 0;
        self.judge(files, &index, async |mut outputs| {
            while !outputs.is_empty() {
                let rest = outputs.split_off(outputs.len().min(VERDICTS_TOGETHER));
                for outcome in files
                    .write_outputs(std::mem::replace(&mut outputs, rest))
                    .await
                {
                    outcome.unwrap();
                    written += 1;
                }
            }
        })
        .await;
        assert_eq!(written, self.lines);
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
            fs::write(&part, bare.output()).unwrap();
            fs::rename(part, path).unwrap();
            line.clear();
        }
    }

    /// The floor with durability: as many threads as there are writers take line after line.
    fn bare_durable(&self, output_dir: &Path) {
        let lines = self.raw_lines();
        let mut made = BTreeSet::new();
        let paths: Vec<PathBuf> = lines
            .iter()
            .map(|line| {
                let bare = BareLine::read(line);
                World::target(output_dir, &bare.key, &mut made)
            })
            .collect();
        let next = AtomicUsize::new(0);
        let write = |line: &[u8], path: &Path| -> io::Result<()> {
            let part = path.with_extension("tmp");
            let mut file = File::create(&part)?;
            file.write_all(&BareLine::read(line).output())?;
            file.sync_all()?;
            fs::rename(part, path)
        };
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(line) = lines.get(at) else { break };
                        write(line, &paths[at]).unwrap();
                    }
                });
            }
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

/// Times `work` on an empty output folder each time; making and removing it does not count.
fn afresh(world: &World, times: u64, mut work: impl FnMut(&Path)) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..times {
        let outputs = world.outputs();
        let start = Instant::now();
        work(outputs.path());
        total += start.elapsed();
    }
    total
}

fn collecting(criterion: &mut Criterion) {
    let system = actix::System::new();
    let world = World::new(size::size("PAGEMILL_BENCH_LINES", 1_000));
    let mut group = criterion.benchmark_group("results");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(u64::from(world.lines)));
    group.bench_function("floor: bare loop, not durable", |bencher| {
        bencher.iter_custom(|times| afresh(&world, times, |outputs| world.bare(outputs)));
    });
    group.bench_function("floor: bare loop, durable, 16 threads", |bencher| {
        bencher.iter_custom(|times| afresh(&world, times, |outputs| world.bare_durable(outputs)));
    });
    group.bench_function("collect", |bencher| {
        bencher.iter_custom(|times| {
            afresh(&world, times, |outputs| {
                system.block_on(world.collect(&world.files(outputs)));
            })
        });
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
            afresh(&world, times, |folder| {
                let files = world.files(folder);
                for chunk in outputs.chunks(VERDICTS_TOGETHER) {
                    for outcome in system.block_on(files.write_outputs(chunk.to_vec())) {
                        outcome.unwrap();
                    }
                }
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
    targets = collecting
}
criterion_main!(benches);
