//! The whole pipeline over pages that stand alone, against the emulator in a process of its own, which
//! takes no time to "think": pages a second from the scan to the last deletion. And uploads alone.
//!
//! The floor is a program without a state: bare uploads of images whose hash is known, the same other
//! requests, the same durable files, in a plain loop over batches. It cannot be stopped and started again,
//! retries nothing and judges nothing, and writes no row; what the pipeline takes beyond it is the price of
//! that. A race adds the rows, as SQLite alone writes them (`kit/way.rs`). Server and client share the
//! machine, in the floor as in the pipeline, but the processor time is that of the client alone.

#[path = "kit/bare.rs"]
mod bare;
#[path = "kit/durable.rs"]
mod durable;
#[path = "kit/provider.rs"]
mod provider;
#[path = "kit/race.rs"]
mod race;
#[path = "kit/size.rs"]
mod size;
#[path = "kit/state.rs"]
mod state;
#[path = "../tests/it/kit/state_world.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod state_world;
#[path = "kit/way.rs"]
#[expect(dead_code, reason = "only its floors are taken here")]
mod way;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Actor;
use bare::BareLine;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group};
use durable::{SET_OUT, write_files};
use futures_util::StreamExt;
use futures_util::stream;
use pagemill::actors::conductor::RunEnd;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::Summarize;
use pagemill::actors::state::open::StateOptions;
use pagemill::adapters::filesystem::{Filesystem, FilesystemOptions};
use pagemill::adapters::gemini::{CHUNK_BYTES, GeminiClient, GeminiOptions, SecretText};
use pagemill::adapters::system_clock;
use pagemill::demo::dataset;
use pagemill::domain::ids::{RecordKey, RemoteName, Sha256Hex};
use pagemill::domain::layout::Layout;
use pagemill::domain::page::PageStage;
use pagemill::domain::remote::{RemoteFile, RemoteOutput};
use pagemill::pipeline::from_settings::{self, RunRequest};
use pagemill::pipeline::{self, Plan};
use pagemill::ports::batch_api::BatchApi;
use pagemill::ports::file_api::{FileApi, Upload};
use pagemill::ports::page_source::PageSource;
use pagemill::settings::{self, Settings, Sources};
use pagemill::wire::file;
use pagemill::wire::request::{self, GenerationConfig, LineParts};
use provider::Provider;
use race::{Ratios, Took, Watch, race};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use way::{Answers, Way};

/// Pages in one folder.
const BOOK_PAGES: u32 = 250;
const CONCURRENCY: usize = 16;
const DELETIONS: usize = 8;
const WRITERS: usize = 16;
/// Between two looks at a job, in place of 30 s, which a run without latency would mostly wait for.
const POLL: Duration = Duration::from_millis(10);

/// Images that changed in the last minute are read twice; a second more is for the clock.
const REST: Duration = Duration::from_secs(62);

const IMAGE: &[u8] = include_bytes!("../assets/demo/pages/howard-1.jpg");
const LABEL: &[u8] = include_bytes!("../assets/demo/labels/howard-1.json");
const KEY: &str = "bench-key-of-no-account";
const MODEL: &str = "gemini-3.8-flash";

/// One page: key, and its path below each folder, without the extension.
struct Page {
    key: String,
    path: String,
}

/// A project of many pages with one small image.
struct Project {
    folder: TempDir,
    pages: Vec<Page>,
    /// Pages in one batch.
    together: usize,
    image: Vec<u8>,
    made: Instant,
}

impl Project {
    /// Pages with an image of at least so many bytes, each of them the same file under another name.
    fn new(count: u32, image_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        dataset::create(&folder.path().join("demo")).unwrap();
        let pages: Vec<Page> = (0..count)
            .map(|index| {
                let (book, page) = (index / BOOK_PAGES, index % BOOK_PAGES + 1);
                Page {
                    key: format!("Alabama:School {book:06}:1849:{page}"),
                    path: format!("Alabama/School {book:06}/1849/{page}"),
                }
            })
            .collect();
        // What stands behind the end of a JPEG does no harm.
        let mut image = IMAGE.to_vec();
        image.resize(image_bytes.max(image.len()), 0);
        let mut project = Project {
            folder,
            pages,
            // As the settings have it by default.
            together: size::size("PAGEMILL_BENCH_BATCH_PAGES", 100) as usize,
            image,
            made: Instant::now(),
        };
        let one = project.folder.path().join("one.jpg");
        fs::write(&one, &project.image).unwrap();
        for (at, page) in project.pages.iter().enumerate() {
            let label = project.path("labels", page, "json");
            let image = project.image(page);
            for path in [&label, &image] {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            fs::write(label, LABEL).unwrap();
            // A file may have some 65,000 names.
            let one = one.with_file_name(format!("one-{}.jpg", at / 10_000));
            if at % 10_000 == 0 {
                fs::write(&one, &project.image).unwrap();
            }
            fs::hard_link(one, image).unwrap();
        }
        project.made = Instant::now();
        project
    }

    fn path(&self, below: &str, page: &Page, extension: &str) -> PathBuf {
        let root = self.folder.path().join(below);
        root.join(format!("{}.{extension}", page.path))
    }

    fn image(&self, page: &Page) -> PathBuf {
        self.path("images", page, "jpg")
    }

    fn files(&self) -> Filesystem {
        let folder = self.folder.path();
        Filesystem::new(FilesystemOptions {
            label_dir: folder.join("labels"),
            image_dir: folder.join("images"),
            output_dir: folder.join("outputs"),
            work_dir: folder.join("work"),
            layout: Layout::parse("{state}/{school}/{year}/{page}").unwrap(),
            image_bytes_max: 20 << 20,
            line_bytes_max: 1 << 20,
            writers: WRITERS,
            free_bytes_min: 0,
        })
    }

    /// A folder for what one run leaves behind. It stays until all runs are over: some file systems take
    /// longer to make files while they still remember many that were just removed.
    fn scratch(&self) -> PathBuf {
        TempDir::new_in(self.folder.path()).unwrap().keep()
    }

    /// Waits until the images have not changed for a while, as images of a real project have not.
    fn rest(&self) {
        std::thread::sleep(REST.saturating_sub(self.made.elapsed()));
    }

    fn settings(&self, provider: &Provider, scratch: &Path) -> Settings {
        let demo = self.folder.path().join("demo");
        let at = |path: &Path| format!("'{}'", path.display());
        let flags = [
            (
                "paths.label_source_dir",
                at(&self.folder.path().join("labels")),
            ),
            (
                "paths.image_source_dir",
                at(&self.folder.path().join("images")),
            ),
            ("paths.output_dir", at(&scratch.join("outputs"))),
            ("paths.work_dir", at(&scratch.join("work"))),
            ("execution.batch_size_limit", self.together.to_string()),
            ("execution.max_concurrent_batches", "10".to_owned()),
            ("execution.context", "none".to_owned()),
            ("batch.fill_wait_seconds", "5".to_owned()),
            ("files.uploads_per_second", "0".to_owned()),
        ];
        let sources = Sources {
            file: Some(demo.join("pagemill.yaml")),
            env: [
                ("GEMINI_API_KEY".to_owned(), KEY.to_owned()),
                ("GOOGLE_GEMINI_BASE_URL".to_owned(), provider.base_url()),
            ]
            .into(),
            flags: flags
                .into_iter()
                .map(|(path, text)| (path.to_owned(), text))
                .collect(),
            cwd: demo,
        };
        settings::load(sources).unwrap().settings
    }
}

fn client(provider: &Provider) -> GeminiClient {
    GeminiClient::new(GeminiOptions {
        base_url: provider.base_url(),
        version: "v1beta".to_owned(),
        api_key: SecretText::new(KEY),
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(120),
        chunk_bytes: CHUNK_BYTES,
        body_bytes_max: 256 << 20,
        resume_pause: Duration::from_millis(500),
    })
    .unwrap()
}

/// One run of the real pipeline, from its start to its end.
async fn run(project: &Project) -> Took {
    let provider = Provider::start();
    let scratch = project.scratch();
    let settings = project.settings(&provider, &scratch);
    let mut plan = Plan::from_settings(&settings, RunRequest::default()).unwrap();
    plan.poller.interval = POLL;
    let world = from_settings::world(&settings).unwrap();
    let state = StateActor::open(StateOptions {
        path: scratch.join("state.db"),
        unlock_behind_dead: true,
    })
    .await
    .unwrap()
    .start();
    let question = Summarize {
        scope: None,
        at: system_clock::now(),
    };
    let watch = Watch::start();
    let running = pipeline::start(world, plan, state.clone()).await.unwrap();
    let (took, end, summary) = running
        .finished(|end| async move {
            let took = watch.took();
            (took, end, state.send(question).await.unwrap().unwrap())
        })
        .await;
    assert!(matches!(end, RunEnd::Done(_)), "{end:?}");
    let completed = summary
        .pages
        .iter()
        .find(|(stage, _)| *stage == PageStage::Completed)
        .map_or(0, |(_, count)| *count);
    assert_eq!(completed, project.pages.len() as u64);
    took
}

/// Counts the files below a folder.
fn walk(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let counts = entries.map(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => walk(&entry.path()),
        _file => 1,
    });
    counts.sum()
}

/// What the floor asks about every page.
struct Question {
    prompt: String,
    config: GenerationConfig,
}

/// The same work by hand.
async fn by_hand(project: &Project, question: &Question) -> Took {
    let provider = Provider::start();
    let client = client(&provider);
    let bare = reqwest::Client::new();
    let start = format!("{}/upload/v1beta/files", provider.base_url());
    let scratch = project.scratch();
    let watch = Watch::start();
    let labels = walk(&project.folder.path().join("labels"));
    assert_eq!(labels, project.pages.len());
    for (number, pages) in project.pages.chunks(project.together).enumerate() {
        let images: Vec<(&Page, RemoteFile)> = stream::iter(pages)
            .map(|page| {
                let image = fs::read(project.image(page)).unwrap();
                // Each answer names the image that it is about by its hash.
                let _hash = black_box(Sha256::digest(&image));
                let sent = bare_upload(&bare, &start, image);
                async move { (page, sent.await) }
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for page in pages {
            // Prompts are made from labels.
            black_box(fs::read(project.path("labels", page, "json")).unwrap());
        }
        let lines_path = scratch.join(format!("{number}.jsonl"));
        let lines = send_lines(&client, &images, question, &lines_path).await;
        let raw = scratch.join(format!("{number}.raw.jsonl"));
        let job = collect(&client, number, &lines.name, raw.clone()).await;
        let outputs = scratch.join("outputs");
        let written = actix_rt::task::spawn_blocking(move || write_outputs(&raw, &outputs));
        assert_eq!(written.await.unwrap(), pages.len());
        client.delete_batch(&job).await.unwrap();
        let names = images.iter().map(|(_, file)| &file.name);
        stream::iter(names.chain([&lines.name]))
            .map(|name| client.delete_file(name))
            .buffer_unordered(DELETIONS)
            .for_each(|deleted| async { deleted.unwrap() })
            .await;
    }
    watch.took()
}

/// Writes the lines file durably and uploads it.
async fn send_lines(
    client: &GeminiClient,
    images: &[(&Page, RemoteFile)],
    question: &Question,
    path: &Path,
) -> RemoteFile {
    let mut lines = Vec::new();
    for (page, file) in images {
        let parts = LineParts {
            key: &page.key,
            file_uri: &file.uri,
            mime: "image/jpeg",
            prompt: &question.prompt,
            generation_config: &question.config,
        };
        lines.extend(request::line(&parts).unwrap());
    }
    let mut file = File::create(path).unwrap();
    file.write_all(&lines).unwrap();
    file.sync_all().unwrap();
    let upload = Upload {
        display_name: "bench-lines".to_owned(),
        mime: "application/jsonl".to_owned(),
        path: path.to_owned(),
        bytes: lines.len() as u64,
        sha256: Sha256Hex::new(hex::encode(Sha256::digest(&lines))),
        content: None,
    };
    client.upload(&upload).await.unwrap()
}

/// Creates a job, waits for its end and fetches its results.
async fn collect(
    client: &GeminiClient,
    number: usize,
    lines: &RemoteName,
    raw: PathBuf,
) -> RemoteName {
    let name = format!("bench-{number}");
    let mut job = client.create(MODEL, &name, lines).await.unwrap();
    while !job.state.is_terminal() {
        actix_rt::time::sleep(POLL).await;
        job = client.batch(&job.name).await.unwrap();
    }
    let Some(RemoteOutput::File(results)) = &job.output else {
        panic!("no results: {job:?}");
    };
    client.download(results, raw).await.unwrap();
    job.name
}

/// Parses every line and writes its answer durably; says how many there were.
fn write_outputs(raw: &Path, outputs: &Path) -> usize {
    let text = fs::read(raw).unwrap();
    let lines: Vec<&[u8]> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    write_files(lines.len(), WRITERS, SET_OUT, |at| {
        let bare = BareLine::read(lines[at]);
        let mut path = outputs.to_owned();
        path.extend(bare.key.split(':'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        (path.with_extension("json"), bare.parsed().1)
    });
    lines.len()
}

/// How much of what the Uploader does comes before an upload.
#[derive(Clone, Copy)]
enum Before {
    /// The file is read, as the floor does.
    Read,
    /// The image is found, read, checked and hashed.
    Check,
}

/// Uploads by the client of the pipeline, which checks every answer.
async fn uploads(project: &Project, before: Before) -> Took {
    let provider = Provider::start();
    let client = client(&provider);
    let files = project.files();
    let sha256 = Sha256Hex::new(hex::encode(Sha256::digest(&project.image)));
    let watch = Watch::start();
    stream::iter(&project.pages)
        .map(|page| {
            let (client, files, sha256) = (&client, &files, &sha256);
            async move {
                let (path, sha256, content) = match before {
                    Before::Read => {
                        let path = project.image(page);
                        let content = Some(Arc::new(fs::read(&path).unwrap()));
                        (path, sha256.clone(), content)
                    }
                    Before::Check => {
                        let key = RecordKey::from(page.key.as_str());
                        let (path, facts, content) = files.image_to_send(&key).await.unwrap();
                        (path, facts.sha256, content)
                    }
                };
                let upload = Upload {
                    display_name: format!("bench-{}", page.key.len()),
                    mime: "image/jpeg".to_owned(),
                    path,
                    bytes: project.image.len() as u64,
                    sha256,
                    content,
                };
                client.upload(&upload).await
            }
        })
        .buffer_unordered(CONCURRENCY)
        .for_each(|uploaded| async {
            uploaded.unwrap();
        })
        .await;
    watch.took()
}

/// Uploads by reqwest alone: read, start, send, read the answer.
async fn bare_uploads(project: &Project) -> Took {
    let provider = Provider::start();
    let client = reqwest::Client::new();
    let start = format!("{}/upload/v1beta/files", provider.base_url());
    let watch = Watch::start();
    stream::iter(&project.pages)
        .map(|page| bare_upload(&client, &start, fs::read(project.image(page)).unwrap()))
        .buffer_unordered(CONCURRENCY)
        .for_each(|_file| async {})
        .await;
    watch.took()
}

async fn bare_upload(client: &reqwest::Client, start: &str, image: Vec<u8>) -> RemoteFile {
    let begun = client
        .post(start)
        .header("x-goog-api-key", KEY)
        .header("content-type", "application/json")
        .header("X-Goog-Upload-Protocol", "resumable")
        .header("X-Goog-Upload-Command", "start")
        .header("X-Goog-Upload-Header-Content-Length", image.len())
        .header("X-Goog-Upload-Header-Content-Type", "image/jpeg")
        .body(request::upload_start(
            "bench",
            "image/jpeg",
            image.len() as u64,
        ))
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    let address = begun.headers()["X-Goog-Upload-URL"].to_str().unwrap();
    let sent = client
        .post(address)
        .header("x-goog-api-key", KEY)
        .header("X-Goog-Upload-Command", "upload, finalize")
        .header("X-Goog-Upload-Offset", "0")
        .body(image)
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap();
    file::file(&sent.bytes().await.unwrap()).unwrap()
}

/// What the floor asks about every page.
fn question() -> Question {
    let config = json!({"temperature": 0.1, "maxOutputTokens": 16384});
    let schema = json!({
        "type": "OBJECT",
        "properties": {"title": {"type": "STRING"}, "text": {"type": "STRING"}},
    });
    Question {
        prompt: include_str!("../assets/demo/prompts/v1.jinja").to_owned(),
        config: GenerationConfig::new(&config, &schema).unwrap(),
    }
}

/// Pages and bytes of an image that are asked for.
fn project() -> Project {
    let bytes = size::size("PAGEMILL_BENCH_IMAGE_BYTES", 38_000);
    Project::new(size::size("PAGEMILL_BENCH_PAGES", 500), bytes as usize)
}

/// The races at the size that is asked for: uploads, and the whole pipeline.
fn racing(rounds: usize) {
    let system = actix::System::new();
    let project = project();
    let question = question();
    let items = project.pages.len() as u64;
    let bare = || system.block_on(bare_uploads(&project));
    for (name, before) in [
        ("uploads, read and sent by the client", Before::Read),
        (
            "uploads, found, checked, hashed and sent by the client",
            Before::Check,
        ),
    ] {
        race(name, items, rounds, bare, || {
            system.block_on(uploads(&project, before))
        });
    }
    // The rows of as many pages, in one batch.
    let pages = u32::try_from(project.pages.len()).unwrap();
    let way = system.block_on(Way::new(pages, Answers::Good));
    let mut rows = Vec::new();
    project.rest();
    let mut all = race(
        "pipeline, the whole against a plain loop without rows or checks",
        items,
        rounds,
        || {
            rows.push(way.rows_alone());
            system.block_on(by_hand(&project, &question))
        },
        || system.block_on(run(&project)),
    );
    race::print_side("rows alone", items, &rows);
    for (floor, rows) in all.floor.iter_mut().zip(rows) {
        *floor = [*floor, rows].into_iter().sum();
    }
    let ratios = Ratios::of(all.ratios(|took| took.cpu));
    println!("  processor: ours/(floor + rows) {ratios}");
}

fn running(criterion: &mut Criterion) {
    let system = actix::System::new();
    let project = project();
    let question = question();
    macro_rules! bench {
        ($group:ident, $name:literal, $once:expr) => {
            $group.bench_function($name, |bencher| {
                bencher.iter_custom(|times| {
                    system.block_on(async {
                        let mut total = Duration::ZERO;
                        for _ in 0..times {
                            total += $once.await.time;
                        }
                        total
                    })
                });
            });
        };
    }
    let elements = Throughput::Elements(project.pages.len() as u64);
    let mut group = criterion.benchmark_group("uploads");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(elements.clone());
    bench!(group, "floor: reqwest", bare_uploads(&project));
    bench!(group, "client", uploads(&project, Before::Read));
    bench!(group, "check and client", uploads(&project, Before::Check));
    group.finish();
    let mut group = criterion.benchmark_group("pipeline");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(elements);
    bench!(group, "floor: by hand", by_hand(&project, &question));
    bench!(group, "run", run(&project));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(2));
    targets = running
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
