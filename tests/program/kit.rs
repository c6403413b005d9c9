//! A world for the program: a dataset, a provider, and the binary as a child.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use pagemill::emulator::{Emulator, EmulatorOptions, FaultProfile, LedgerSnapshot};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The key that the emulators of these tests take, and no other, unless a test says so.
pub const KEY: &str = "planted-key-7f3a9c1e55d2";
/// Every fault, seldom.
pub const MILD: &str = include_str!("mild.yaml");
/// The longest that a child may take before its test fails.
const CHILD_DEADLINE: Duration = Duration::from_secs(1200);
/// The pause between two looks at a child.
const LOOK: Duration = Duration::from_millis(5);

const PROMPT: &str = "Transcribe {{ key }} {{ label.title }}.\
    {% if previous_context %} Before: {{ previous_context|tail(200) }}{% endif %}";
const CONTEXT: &str = "{{ previous.text }}";
const SETTINGS: &str = "\
execution: {max_retries: 8, max_releases: 1000}
batch:
  {poll_interval_seconds: 1, fill_wait_seconds: 0, in_doubt_settle_seconds: 2, in_doubt_lookups: 2,
   create_delay_min_seconds: 1, create_delay_max_seconds: 2, expired_pause_seconds: 1}
files: {uploads_per_second: 0, upload_retry_backoff_seconds: 1, retry_hint_max_seconds: 1}
model: {name: gemini-3.8-flash}
";

/// What a world is made of.
pub struct WorldOptions<'a> {
    pub books: usize,
    /// Pages of each book.
    pub pages: usize,
    pub latency_ms: u64,
    pub faults: &'a str,
    pub seed: u64,
    /// The only key that the emulator takes.
    pub key: &'a str,
    /// Whether it takes every other key as well, as one of the same project.
    pub any_key: bool,
    /// Settings on top of the usual short intervals, by dotted path.
    pub settings: &'a [(&'a str, &'a str)],
}

impl Default for WorldOptions<'_> {
    fn default() -> Self {
        WorldOptions {
            books: 1,
            pages: 1,
            latency_ms: 0,
            faults: "",
            seed: 1,
            key: KEY,
            any_key: false,
            settings: &[],
        }
    }
}

/// One page of the dataset.
#[derive(Debug, Clone)]
pub struct Page {
    pub key: String,
    pub book: usize,
    pub number: usize,
}

/// A dataset, a provider, and how to run the program on them.
pub struct World {
    pub pages: Vec<Page>,
    pub emulator: Emulator,
    env: BTreeMap<String, String>,
    folder: TempDir,
    /// A script for `sh` that ends by executing its arguments.
    pub wrapper: Option<String>,
}

impl World {
    pub fn new(options: &WorldOptions) -> World {
        let folder = tempfile::Builder::new()
            .prefix("pagemill-program-")
            .tempdir()
            .unwrap();
        let root = folder.path().join("project");
        let mut pages = Vec::new();
        for book in 0..options.books {
            for number in 1..=options.pages {
                pages.push(Page {
                    key: key(book, number),
                    book,
                    number,
                });
            }
        }
        for (name, text) in [
            ("prompts/page_ocr/v1.jinja", PROMPT),
            ("prompts/page_ocr/context.jinja", CONTEXT),
            ("schemas/page_ocr.v1.json", &schema().to_string()),
            ("pagemill.yaml", SETTINGS),
        ] {
            write(&root.join(name), text.as_bytes());
        }
        let emulator = EmulatorOptions {
            batch_latency: Duration::from_millis(options.latency_ms),
            faults: FaultProfile::from_yaml(options.faults).unwrap(),
            seed: options.seed,
            api_key: (!options.any_key).then(|| options.key.to_owned()),
            ..EmulatorOptions::default()
        };
        let emulator = wait_for(Emulator::start(emulator)).unwrap();
        let env = [
            ("GEMINI_API_KEY".to_owned(), options.key.to_owned()),
            ("GOOGLE_GEMINI_BASE_URL".to_owned(), emulator.base_url()),
        ];
        let mut world = World {
            pages,
            emulator,
            env: env.into(),
            folder,
            wrapper: None,
        };
        for (path, value) in options.settings {
            world.set(path, value);
        }
        for (place, page) in world.pages.iter().enumerate() {
            let title = json!({"title": format!("page {}", page.number)});
            write(&world.label(&page.key), title.to_string().as_bytes());
            write(&world.image(&page.key), &png(place as u32));
        }
        world
    }

    /// Gives a setting by its variable.
    pub fn set(&mut self, path: &str, value: &str) {
        let name = format!("PAGEMILL__{}", path.to_uppercase().replace('.', "__"));
        self.env.insert(name, value.to_owned());
    }

    /// Sets or, with `None`, takes away a variable of the child.
    pub fn variable(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.env.insert(name.to_owned(), value.to_owned()),
            None => self.env.remove(name),
        };
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// Everything that the children wrote: the project and what they printed.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn label(&self, key: &str) -> PathBuf {
        self.place("dataset/label_to_curricular", key, "json")
    }

    pub fn image(&self, key: &str) -> PathBuf {
        self.place("dataset/raw_image_dataset", key, "png")
    }

    pub fn output(&self, key: &str) -> PathBuf {
        self.place("dataset/output_results", key, "json")
    }

    pub fn database(&self) -> PathBuf {
        self.root().join("data/gemini_batches.db")
    }

    fn place(&self, below: &str, key: &str, extension: &str) -> PathBuf {
        let levels = key.replace(':', "/");
        self.root()
            .join(below)
            .join(format!("{levels}.{extension}"))
    }

    pub fn ledger(&self) -> LedgerSnapshot {
        self.emulator.ledger()
    }

    /// Starts the program in the project's folder.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_in(&self.root(), arguments)
    }

    /// Starts the program in a folder.
    pub fn start_in(&self, cwd: &Path, arguments: &[&str]) -> Running {
        let printed = tempfile::Builder::new()
            .prefix("printed-")
            .tempdir_in(self.folder.path())
            .unwrap()
            .keep();
        let (out, err) = (printed.join("stdout"), printed.join("stderr"));
        let mut command = match &self.wrapper {
            None => Command::new(env!("CARGO_BIN_EXE_pagemill")),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_pagemill")]);
                shell
            }
        };
        command
            .args(arguments)
            .current_dir(cwd)
            .env_clear()
            .env("TMPDIR", self.folder.path())
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap());
        Running {
            child: command.spawn().unwrap(),
            out,
            err,
            started: Instant::now(),
        }
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).wait()
    }

    /// Runs the program to its end and asserts its exit code.
    pub fn run_to(&self, code: i32, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        ended.assert_code(code);
        ended
    }

    /// Opens the database for reading.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        rows(&self.database(), sql)
    }

    /// The first number that a query gives.
    pub fn number(&self, sql: &str) -> i64 {
        let rows = rows(&self.database(), sql);
        rows[0][0].parse().unwrap()
    }

    /// The keys that were answered by the model, in order.
    pub fn requested(&self) -> Vec<String> {
        self.ledger().requests_by_key.into_keys().collect()
    }
}

/// A child at work; killed when it is dropped.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    started: Instant,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Ended {
        match self.wait_at_most(CHILD_DEADLINE) {
            Some(ended) => ended,
            None => panic!("the child does not end: {}", tail(&read(&self.err))),
        }
    }

    /// Waits for the end, but not longer than this.
    pub fn wait_at_most(&mut self, most: Duration) -> Option<Ended> {
        let deadline = Instant::now() + most;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(Ended {
                    code: status.code(),
                    out: read(&self.out),
                    err: read(&self.err),
                });
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the child has logged one of these texts.
    pub fn wait_until_said(&mut self, texts: &[&str]) {
        let err = self.err.clone();
        self.wait_until(&format!("it says {texts:?}"), || {
            let said = read(&err);
            texts.iter().any(|text| said.contains(text))
        });
    }

    /// Waits until what the child has printed is what is wanted.
    pub fn wait_until_printed(&mut self, is_wanted: &dyn Fn(&str) -> bool) {
        let out = self.out.clone();
        self.wait_until("it prints what is wanted", || is_wanted(&read(&out)));
    }

    /// Waits until something is true, as long as the child lives.
    pub fn wait_until(&mut self, what: &str, is_true: impl Fn() -> bool) {
        while !is_true() {
            if let Some(ended) = self.wait_at_most(LOOK) {
                panic!("the child ended before {what}: {ended:?}");
            }
            let late = self.started.elapsed() > CHILD_DEADLINE;
            assert!(!late, "not {what}: {}", tail(&read(&self.err)));
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success(), "kill -s {name} {id}");
    }

    /// Ends it without a word, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Ended {
    /// Asserts the exit code.
    pub fn assert_code(&self, code: i32) {
        let Ended { code: is, out, err } = self;
        assert_eq!(*is, Some(code), "\n{out}\n{}", tail(err));
    }

    /// What was printed, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Asserts that stdout or stderr hold these texts.
    pub fn assert_says(&self, texts: &[&str]) {
        for text in texts {
            let said = self.out.contains(text) || self.err.contains(text);
            assert!(said, "'{text}' is not in\n{}\n{}", self.out, self.err);
        }
    }
}

/// Throws that a seed decides.
pub struct Random(u64);

impl Random {
    /// Takes the seed of the environment, or a fresh one, and prints it.
    pub fn new(what: &str) -> Random {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let fresh = now.unwrap().as_nanos() as u64 % 1_000_000_007;
        let seed = number_of("PAGEMILL_TEST_SEED").unwrap_or(fresh);
        eprintln!("{what}: PAGEMILL_TEST_SEED={seed}");
        Random(seed)
    }

    pub fn seed(&self) -> u64 {
        self.0
    }

    /// A number from `from` up to, and not including, `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        from + (mixed ^ (mixed >> 31)) % (to - from)
    }
}

/// A whole number of the environment.
pub fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

/// The key of a page: four states, a school for each book.
pub fn key(book: usize, number: usize) -> String {
    format!("S{}:School {book}:{}:{number}", book % 4, 1849 + book % 4)
}

/// The prompt that a page is sent with, by the hash that the ledger keeps.
pub fn prompt_sha256(key: &str, context: Option<&str>) -> String {
    let number = key.rsplit(':').next().unwrap();
    let mut prompt = format!("Transcribe {key} page {number}.");
    if let Some(context) = context {
        let letters: Vec<char> = context.chars().collect();
        let last = letters[letters.len().saturating_sub(200)..].iter();
        prompt.push_str(" Before: ");
        prompt.extend(last);
    }
    sha256(prompt.as_bytes())
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The schema of the answers.
fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"text": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["text"],
        "additionalProperties": false,
    })
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

fn tail(text: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Runs a future to its end on this thread.
pub fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// What a query gives, every column as text; `NULL` is empty.
pub fn rows(database: &Path, sql: &str) -> Vec<Vec<String>> {
    use rusqlite::{Connection, OpenFlags};
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut asked = db.prepare(sql).unwrap();
    let columns = asked.column_count();
    let found = asked.query_map([], |row| {
        let texts = (0..columns).map(|at| row.get_ref(at).map(text));
        texts.collect::<Result<Vec<String>, _>>()
    });
    found.unwrap().map(Result::unwrap).collect()
}

fn text(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef::{Blob, Integer, Null, Real, Text};
    match value {
        Null => String::new(),
        Integer(number) => number.to_string(),
        Real(number) => number.to_string(),
        Text(text) | Blob(text) => String::from_utf8(text.to_vec()).unwrap(),
    }
}

/// A small PNG, different for every number.
pub fn png(number: u32) -> Vec<u8> {
    const SIDE: u32 = 8;
    let mut raw = Vec::new();
    for _row in 0..SIDE {
        raw.push(0);
        raw.extend(number.to_be_bytes());
        raw.extend(number.to_be_bytes());
    }
    let mut header = Vec::new();
    header.extend(SIDE.to_be_bytes());
    header.extend(SIDE.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", zlib(&raw)), (b"IEND", vec![])] {
        file.extend((data.len() as u32).to_be_bytes());
        let body = [kind.as_slice(), &data].concat();
        file.extend(&body);
        file.extend(crc32(&body).to_be_bytes());
    }
    file
}

/// One stored block: nothing is compressed.
fn zlib(raw: &[u8]) -> Vec<u8> {
    let length = raw.len() as u16;
    let mut file = vec![0x78, 0x01, 0x01];
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(raw);
    let (low, high) = raw.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65521;
        (low, (high + low) % 65521)
    });
    file.extend(((high << 16) | low).to_be_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    !crc
}
