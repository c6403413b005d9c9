//! Processes a job when its time has come: checks its input, answers each request, and writes the
//! results line by line, so that memory does not grow with their size.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::dice::hash;
use super::errors::{inactive_file_text, missing_file_text};
use super::faults::{Fault, RowKind};
use super::files::{Content, DiskFile, FileState, StoredFile};
use super::jobs::{Cut, End, Fate, Input, Job, Outcome, Output, Phase};
use super::ledger::{CountedRow, JobCounts, UNSERVED};
use super::requests;
use super::rows::{self, Asked, Row};
use super::world::World;

/// Brings a job up to date: makes its answers if it is due. Waits for them for a while; a job whose
/// answers take longer is shown as running.
pub(super) async fn settle(world: &Arc<World>, job: &Arc<Job>) {
    const PATIENCE: Duration = Duration::from_secs(3);
    if job.outcome().is_some() || job.phase(Instant::now()) != Phase::Due {
        return;
    }
    if job.begin() {
        let (world, job) = (Arc::clone(world), Arc::clone(job));
        tokio::task::spawn_blocking(move || process(&world, &job));
    }
    let _in_time = tokio::time::timeout(PATIENCE, job.wait()).await;
}

/// Settles a job at its time even if nobody asks for it, because it is paid for either way.
pub(super) async fn settle_when_due(world: Arc<World>, job: Arc<Job>) {
    tokio::time::sleep_until(job.due().into()).await;
    settle(&world, &job).await;
}

/// Why a job cannot be answered.
enum Stop {
    /// It fails as a whole.
    Failed { code: i32, message: String },
    /// It was deleted, or the emulator stops.
    Abandoned,
    /// The emulator's own disk.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

fn process(world: &World, job: &Job) {
    let quota = "Enqueued token quota exceeded.";
    let failed = |code, message: &str| End::Failed {
        code,
        message: message.to_owned(),
    };
    let end = match (job.cut(), job.plan.fate) {
        (Some(Cut::BeforeStart), _) => Some(End::Cancelled),
        (Some(Cut::WhileRunning), _) | (None, Fate::Served | Fate::PartlyServed) => None,
        (None, Fate::OutOfQuota) => Some(failed(8, quota)),
        (None, Fate::Broken) => Some(failed(13, "Internal error encountered.")),
        (None, Fate::Expired) => Some(End::Expired),
        (None, Fate::Cancelled) => Some(End::Cancelled),
    };
    let outcome = match end {
        Some(end) => Outcome::without_results(end),
        None => match answer(world, job) {
            Ok(outcome) => outcome,
            Err(Stop::Failed { code, message }) => Outcome::without_results(failed(code, &message)),
            Err(Stop::Abandoned) => Outcome::without_results(End::Cancelled),
            Err(Stop::Io(error)) => {
                tracing::warn!(%error, "the emulator cannot process a batch");
                Outcome::without_results(failed(13, "Internal error encountered."))
            }
        },
    };
    world.ledger.job_ended(outcome.word());
    job.end(outcome);
}

/// Answers all requests of a job.
fn answer(world: &World, job: &Job) -> Result<Outcome, Stop> {
    check(world, job)?;
    let cut_off = job.cut().is_some() || job.plan.fate == Fate::PartlyServed;
    // Half of a cut-off job is served, so that both kinds of row are always there.
    let served_max = if cut_off { job.requests / 2 } else { u64::MAX };
    let into_file = matches!(job.input, Input::File(_)) && !job.plan.inline_output;
    let mut work = Work {
        world,
        job,
        sink: if into_file {
            Sink::file(world, job)?
        } else {
            Sink::Inline(Vec::new())
        },
        counts: JobCounts::default(),
        served: 0,
        served_max,
        succeeded: 0,
        failed: 0,
    };
    each(world, job, |_, entry| work.entry(&entry))?;
    if world.dice.hits(Fault::RowsUnknownKey, &job.display_name) {
        let body = json!({"code": 13, "message": "Internal error encountered."});
        let key = format!("unknown-{}", job.id);
        work.sink.push(
            Some(&key),
            None,
            &Row {
                field: "error",
                body,
            },
            false,
        )?;
    }
    let Work {
        sink,
        counts,
        succeeded,
        failed,
        ..
    } = work;
    let output = sink.close(world, job)?;
    world.ledger.answered(counts);
    let (ended, at) = (Timestamp::now(), Instant::now());
    Ok(Outcome {
        end: End::Succeeded,
        ended,
        at,
        succeeded,
        failed,
        output,
    })
}

/// Reads the whole input once before anything is answered: one bad line fails the job.
fn check(world: &World, job: &Job) -> Result<(), Stop> {
    let mut seen = 0_u64;
    each(world, job, |_, _| {
        seen += 1;
        Ok(())
    })?;
    if seen == 0 {
        return Err(Stop::Failed {
            code: 3,
            message: "The input file has no requests.".to_owned(),
        });
    }
    Ok(())
}

/// Calls `take` with the number and the content of each request of a job.
fn each(
    world: &World,
    job: &Job,
    mut take: impl FnMut(u64, Map<String, Value>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let id = match &job.input {
        Input::File(id) => id,
        Input::Inline(requests) => {
            let mut numbered = (1..).zip(requests);
            return numbered.try_for_each(|(number, request)| take(number, request.clone()));
        }
    };
    let missing = || Stop::Failed {
        code: 5,
        message: missing_file_text(id),
    };
    let file = world.files.find(id).ok_or_else(missing)?;
    let Some(mut reader) = file.open()? else {
        let message = format!("The File {id} of type {} holds no requests.", file.mime);
        return Err(Stop::Failed { code: 3, message });
    };
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if job.is_deleted() || world.stopping.load(Ordering::Relaxed) {
            return Err(Stop::Abandoned);
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let entry = requests::line(&line).map_err(|refusal| Stop::Failed {
            code: 3,
            message: format!("line {number} of files/{id}: {}", refusal.message()),
        })?;
        take(number, entry)?;
    }
    Ok(())
}

/// A job in the making.
struct Work<'a> {
    world: &'a World,
    job: &'a Job,
    sink: Sink,
    counts: JobCounts,
    served: u64,
    served_max: u64,
    succeeded: u64,
    failed: u64,
}

impl Work<'_> {
    fn entry(&mut self, entry: &Map<String, Value>) -> Result<(), Stop> {
        let asked = Asked::new(entry);
        let (kind, rows, image) = self.rows_for(&asked);
        for row in &rows {
            let spoiled = kind == RowKind::InvalidUtf8.name();
            self.sink
                .push(asked.key.as_deref(), asked.metadata.as_ref(), row, spoiled)?;
        }
        match rows.first() {
            Some(row) if row.succeeded() => self.succeeded += 1,
            _ => self.failed += 1,
        }
        let prompt = asked.prompt_hash();
        self.counts.push(CountedRow {
            key: asked.key,
            kind,
            prompt,
            image,
        });
        Ok(())
    }

    /// The rows of one request, under the word that the ledger has for them.
    fn rows_for(&mut self, asked: &Asked) -> (&'static str, Vec<Row>, Option<[u8; 32]>) {
        if self.served >= self.served_max {
            return (UNSERVED, vec![Row::unserved()], None);
        }
        self.served += 1;
        let now = Instant::now();
        let mut first_file = None;
        for id in &asked.files {
            let Some(file) = self.world.files.find(id) else {
                return (
                    "file_missing",
                    vec![Row::file_missing(&missing_file_text(id))],
                    None,
                );
            };
            if file.state(now) != FileState::Active {
                return (
                    "file_inactive",
                    vec![Row::file_inactive(&inactive_file_text(id))],
                    None,
                );
            }
            first_file = first_file.or(file.digest);
        }
        let image = asked.image_hash(first_file);
        let thrown = self
            .world
            .dice
            .row(asked.key.as_deref().unwrap_or_default());
        let rows = rows::rows(asked, image, &self.job.model, thrown.kind, thrown.nth);
        (thrown.kind.map_or("ok", RowKind::name), rows, image)
    }
}

/// Where rows go.
enum Sink {
    Inline(Vec<Value>),
    File {
        writer: BufWriter<File>,
        path: PathBuf,
        lines: Vec<(u64, u64)>,
        end: u64,
    },
}

impl Sink {
    fn file(world: &World, job: &Job) -> Result<Self, Stop> {
        let path = world.folder.join(job.results_id());
        let writer = BufWriter::new(File::create_new(&path)?);
        Ok(Sink::File {
            writer,
            path,
            lines: Vec::new(),
            end: 0,
        })
    }

    fn push(
        &mut self,
        key: Option<&str>,
        metadata: Option<&Value>,
        row: &Row,
        spoiled: bool,
    ) -> Result<(), Stop> {
        let key = key.map(|key| ("key".to_owned(), json!(key)));
        let body = (row.field.to_owned(), row.body.clone());
        match self {
            Sink::Inline(rows) => {
                let told = metadata
                    .cloned()
                    .or(key.map(|key| Value::Object(Map::from_iter([key]))));
                let told = told.map(|metadata| ("metadata".to_owned(), metadata));
                rows.push(Value::Object([body].into_iter().chain(told).collect()));
            }
            Sink::File {
                writer, lines, end, ..
            } => {
                let row = Value::Object(key.into_iter().chain([body]).collect());
                let mut line = row.to_string().into_bytes();
                if spoiled {
                    spoil(&mut line);
                }
                writer.write_all(&line)?;
                writer.write_all(b"\n")?;
                lines.push((*end, line.len() as u64));
                *end += line.len() as u64 + 1;
            }
        }
        Ok(())
    }

    fn close(self, world: &World, job: &Job) -> Result<Output, Stop> {
        let (writer, path, lines) = match self {
            Sink::Inline(mut rows) => {
                if world.dice.hits(Fault::RowsShuffled, &job.display_name) {
                    shuffle(&mut rows, &job.id);
                }
                return Ok(Output::Inline(rows));
            }
            Sink::File {
                writer,
                path,
                lines,
                ..
            } => (writer, path, lines),
        };
        writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let path = Layout::throw(world, job).apply(path, lines, &job.id)?;
        let now = Instant::now();
        let readable_in = job.plan.results_unreadable;
        let file = StoredFile {
            id: job.results_id(),
            version: job.version,
            display_name: String::new(),
            mime: "application/octet-stream".to_owned(),
            bytes: std::fs::metadata(&path)?.len(),
            bytes_told: None,
            digest: None,
            created: Timestamp::now(),
            expires: None,
            active_from: (!readable_in.is_zero()).then(|| now + readable_in),
            failed: false,
            generated: true,
            content: Content::Disk(DiskFile::new(path)),
        };
        let _kept = world.files.insert(file);
        // A job deleted meanwhile must not leave its results behind.
        if job.is_deleted() {
            world.files.remove(&job.results_id());
            return Err(Stop::Abandoned);
        }
        world.ledger.bytes_live(world.files.weight().bytes);
        Ok(Output::File)
    }
}

/// Puts a byte into a line that no UTF-8 text has.
fn spoil(line: &mut Vec<u8>) {
    let text = b"\"text\":\"";
    let found = line.windows(text.len()).position(|window| window == text);
    line.insert(found.map_or(1, |at| at + text.len()), 0xff);
}

/// How the lines of a results file are set.
struct Layout {
    shuffled: bool,
    crlf: bool,
    blank: bool,
    no_final_newline: bool,
}

impl Layout {
    fn throw(world: &World, job: &Job) -> Self {
        let hits = |fault| world.dice.hits(fault, &job.display_name);
        Layout {
            shuffled: hits(Fault::RowsShuffled),
            crlf: hits(Fault::LinesCrlf),
            blank: hits(Fault::LinesBlank),
            no_final_newline: hits(Fault::LinesNoFinalNewline),
        }
    }

    /// Sets the lines anew where the layout is not the plain one; gives the path of the result.
    fn apply(&self, path: PathBuf, mut lines: Vec<(u64, u64)>, seed: &str) -> io::Result<PathBuf> {
        let Layout {
            shuffled,
            crlf,
            blank,
            no_final_newline,
        } = *self;
        if !(shuffled || crlf || blank || no_final_newline) {
            return Ok(path);
        }
        if shuffled {
            shuffle(&mut lines, seed);
        }
        let source = DiskFile::new(path);
        let mut reader = BufReader::new(File::open(source.path())?);
        let target = source.path().with_extension("set");
        let mut writer = BufWriter::new(File::create_new(&target)?);
        let newline: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let count = lines.len();
        for (index, (start, length)) in lines.into_iter().enumerate() {
            if blank {
                writer.write_all(newline)?;
            }
            reader.seek(SeekFrom::Start(start))?;
            io::copy(&mut reader.by_ref().take(length), &mut writer)?;
            if !(no_final_newline && index + 1 == count) {
                writer.write_all(newline)?;
            }
        }
        writer.flush()?;
        Ok(target)
    }
}

/// Puts things in another order that depends on `seed` alone; two or more never stay as they were.
fn shuffle<T>(things: &mut [T], seed: &str) {
    for index in (1..things.len()).rev() {
        let other = hash(index as u64, "shuffle", seed, 0) % index as u64;
        things.swap(index, other as usize);
    }
}
