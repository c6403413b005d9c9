//! What a sweep leaves behind: one JSON file with everything, one CSV table, one HTML page.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::{Expectation, Row, SuggestedSetting};
use super::html;
use super::knobs::{Knob, Point};
use super::measured::Measured;

/// The names of the files.
pub const JSON_FILE: &str = "bench.json";
pub const CSV_FILE: &str = "bench.csv";
pub const HTML_FILE: &str = "bench.html";
/// What the JSON file says it is from, by which its folder is known again.
pub const PROGRAM: &str = "pagemill bench";
/// The beginning of the name of the folder that a sweep works in.
pub const SCRATCH: &str = ".scratch-";

/// Everything that a sweep found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub version: u32,
    pub program: &'static str,
    pub program_version: &'static str,
    /// When the report was made, RFC 3339 in UTC.
    pub made_at: String,
    pub machine: Machine,
    /// Whether the real service was measured.
    pub is_live: bool,
    pub pages_per_run: u64,
    pub planned_runs: u64,
    /// Whether every planned point was measured.
    pub is_whole: bool,
    pub base: Point,
    /// Runs of the same thing were apart by this part of their median.
    pub noise: f64,
    pub headline: String,
    pub suggestions: Vec<SuggestedSetting>,
    pub expectation: Expectation,
    pub rows: Vec<Row>,
}

/// What it was measured on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cores: u32,
    /// What the processor calls itself; `None` where the system does not tell.
    pub processor: Option<String>,
    pub system: String,
    /// Where the database and the outputs of the runs were.
    pub folder: String,
    /// Whether the program was built for speed.
    pub is_optimized: bool,
}

impl Machine {
    /// This machine.
    pub fn here(folder: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let processor = named.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
        Machine {
            cores: super::point::cores(),
            processor: processor.filter(|name| !name.is_empty()),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            folder: folder.display().to_string(),
            is_optimized: !cfg!(debug_assertions),
        }
    }
}

/// A folder that the files of a sweep cannot go into.
#[derive(Debug, thiserror::Error)]
pub enum FolderFault {
    #[error("'{}' is not a folder: name another with --out", .0.display())]
    NotAFolder(PathBuf),
    #[error(
        "'{}' holds '{name}', which is not of a bench: name an empty folder, or one that does not exist, \
         with --out", .folder.display()
    )]
    NotOurs { folder: PathBuf, name: String },
    #[error(
        "'{}' holds '{name}': another bench is at work there, or one was killed. Remove it in the latter \
         case, or name another folder with --out", .folder.display()
    )]
    InUse { folder: PathBuf, name: String },
    #[error("cannot use '{}': {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Makes sure that a folder is empty, absent, or of an earlier sweep. Creates nothing.
pub fn check_folder(folder: &Path) -> Result<(), FolderFault> {
    let fault = |source| FolderFault::Io {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(FolderFault::NotAFolder(folder.to_owned()));
        }
        Err(error) => return Err(fault(error)),
    };
    let is_earlier = is_of_a_bench(&folder.join(JSON_FILE));
    for entry in entries {
        let name = entry.map_err(fault)?.file_name();
        let name = name.to_string_lossy().into_owned();
        let folder = folder.to_owned();
        if name.starts_with(SCRATCH) {
            return Err(FolderFault::InUse { folder, name });
        }
        let is_ours = [JSON_FILE, CSV_FILE, HTML_FILE].contains(&name.as_str());
        if !is_ours || !is_earlier {
            return Err(FolderFault::NotOurs { folder, name });
        }
    }
    Ok(())
}

fn is_of_a_bench(path: &Path) -> bool {
    let text = fs::read(path).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    value.get("program").and_then(serde_json::Value::as_str) == Some(PROGRAM)
}

/// Writes the three files; the page last, so that it is never newer than what it shows.
pub fn write(report: &Report, folder: &Path) -> Result<(), FolderFault> {
    let json = serde_json::to_string_pretty(report);
    let json = json.map_err(io::Error::other);
    let contents = [
        (JSON_FILE, json.map(|text| text + "\n")),
        (CSV_FILE, table(report)),
        (HTML_FILE, Ok(html::page(report))),
    ];
    for (name, content) in contents {
        let path = folder.join(name);
        let written = content.and_then(|content| replace(&path, &content));
        written.map_err(|source| FolderFault::Io { path, source })?;
    }
    Ok(())
}

/// Who may read and write a result; what the system takes away of it stays away.
const MODE: u32 = 0o666;

/// Writes a file under its final name at once.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(SCRATCH)
        .permissions(fs::Permissions::from_mode(MODE))
        .tempfile_in(folder)?;
    io::Write::write_all(&mut file, content.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// One row a point. Times are in seconds unless the name of the column says otherwise.
pub fn table(report: &Report) -> io::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = report.rows.first().map(cells).unwrap_or_default();
    writer.write_record(names.iter().map(|(name, _value)| name))?;
    for row in &report.rows {
        let values = cells(row).into_iter().map(|(_name, value)| value);
        writer.write_record(values)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// The cells of a row by the names of their columns.
fn cells(row: &Row) -> Vec<(String, String)> {
    let figures = &row.figures;
    let mut cells: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| cells.push((name.to_owned(), value));
    add("step", row.step.to_string());
    add("varied", row.varied.map_or("", Knob::as_str).to_owned());
    for knob in Knob::ALL {
        add(knob.as_str(), knob.shown(row.point.get(knob)));
    }
    add("runs", row.rates.len().to_string());
    add("pages", figures.pages.to_string());
    add("completed", figures.completed.to_string());
    add("pages_per_second", decimal(row.rate()));
    add(
        "megabytes_per_second",
        decimal(figures.megabytes_per_second()),
    );
    add("wall_seconds", decimal(figures.wall_seconds));
    add("limit", row.limit.to_owned());
    add("limit_share", decimal(row.limit_share));
    add("machine_busy", maybe(figures.machine_busy.map(decimal)));
    add("cpu_seconds", decimal(figures.cpu.total));
    add(
        "cpu_ms_per_page",
        decimal(figures.per_page_ms(figures.cpu.total)),
    );
    for (part, seconds) in figures.cpu.parts() {
        let name = format!("cpu_ms_per_page_{}", part.replace(' ', "_"));
        add(&name, decimal(figures.per_page_ms(seconds)));
    }
    add(
        "peak_memory_bytes",
        maybe(figures.peak_memory_bytes.map(|bytes| bytes.to_string())),
    );
    database_cells(figures, &mut add);
    for stage in &figures.stages {
        let name = |what: &str| format!("{}_{what}", stage.stage);
        add(&name("depth_mean"), decimal(stage.depth_mean));
        add(&name("depth_max"), stage.depth_max.to_string());
        add(&name("wait_mean_seconds"), decimal(stage.wait_mean_seconds));
        add(&name("wait_p95_seconds"), decimal(stage.wait_p95_seconds));
    }
    add("batches", figures.batches.count.to_string());
    add("live_batches_most", figures.batches.live_max.to_string());
    add(
        "turnaround_mean_seconds",
        decimal(figures.batches.turnaround_mean_seconds),
    );
    add(
        "collecting_mean_seconds",
        decimal(figures.batches.collecting_mean_seconds),
    );
    cells
}

fn database_cells(figures: &Measured, add: &mut impl FnMut(&str, String)) {
    let database = &figures.database;
    add("commits_per_second", decimal(figures.commits_per_second()));
    add(
        "rows_per_commit",
        maybe(figures.rows_per_commit().map(decimal)),
    );
    let messages = database.messages_committed as f64 / database.commits.max(1) as f64;
    add("messages_per_commit", decimal(messages));
    let busy = database.busy_seconds / figures.wall_seconds.max(f64::EPSILON);
    add("database_busy", decimal(busy));
    add("database_queue_mean", decimal(database.queue_mean));
    add("database_queue_max", database.queue_max.to_string());
    add("database_wait_mean_ms", decimal(database.waited_mean_ms));
    add("database_wait_max_ms", decimal(database.waited_max_ms));
}

fn decimal(figure: f64) -> String {
    format!("{figure:.3}")
}

/// A figure that is not known is empty.
fn maybe(figure: Option<String>) -> String {
    figure.unwrap_or_default()
}
