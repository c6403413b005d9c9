//! Every file of a page, found from its key, and whether it is there.

use std::path::{Path, PathBuf};

use crate::actors::state::desk_page::PageSheet;
use crate::actors::state::desk_story::AttemptLine;
use crate::cli::explain::facts::Look;
use crate::domain::image::{ImageFacts, ImageFault};
use crate::ports::result_sink::ResultSink;

/// Revisions of one page that are named.
const REVISIONS_MAX: usize = 100;

/// A file of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLine {
    /// `label`, `image`, `remote image`, `request lines`, `raw result`, `output`, `revision`,
    /// `report`, `manifest`.
    pub what: &'static str,
    /// A path, or the provider's name.
    pub place: String,
    /// Whether a local file is there; the provider is not asked.
    pub is_there: Option<bool>,
    pub attempt: Option<u32>,
    pub note: String,
}

/// A path as it is shown: below the folder that the process works in where it can be.
pub fn shown(path: &Path) -> String {
    let base = crate::cli::cwd();
    path.strip_prefix(&base)
        .unwrap_or(path)
        .display()
        .to_string()
}

fn local(what: &'static str, path: &Path, note: String) -> FileLine {
    FileLine {
        what,
        place: shown(path),
        is_there: Some(path.is_file()),
        attempt: None,
        note,
    }
}

/// The files of a page, in the order in which they come to be.
pub fn of_page(
    look: &Look<'_>,
    sheet: &PageSheet,
    image: &Result<(PathBuf, ImageFacts), ImageFault>,
    attempts: &[AttemptLine],
) -> Vec<FileLine> {
    let mut found = Vec::new();
    if let Some(path) = look.label(&sheet.key) {
        found.push(local("label", &path, String::new()));
    }
    found.push(match image {
        Ok((path, _facts)) => local("image", path, String::new()),
        Err(fault) => FileLine {
            what: "image",
            place: "-".to_owned(),
            is_there: Some(false),
            attempt: None,
            note: fault.to_string(),
        },
    });
    if let Some(name) = &sheet.image_file
        && attempts.iter().all(|attempt| attempt.image_file != *name)
    {
        found.push(FileLine {
            what: "remote image",
            place: name.to_string(),
            is_there: None,
            attempt: None,
            note: "waits for a batch".to_owned(),
        });
    }
    for attempt in attempts {
        of_attempt(look, attempt, &mut found);
    }
    if let Some(path) = look.output(&sheet.key) {
        found.push(local("output", &path, String::new()));
        let revisions = look.settings.paths.work_dir.join("revisions");
        let layout = &look.settings.paths.layout;
        if let Ok(beside) = layout.path(&revisions, &sheet.key, "json") {
            found.extend(self::revisions(&beside));
        }
    }
    found
}

fn of_attempt(look: &Look<'_>, attempt: &AttemptLine, found: &mut Vec<FileLine>) {
    let of = |what, place: String, is_there, note: String| FileLine {
        what,
        place,
        is_there,
        attempt: Some(attempt.number),
        note,
    };
    let ledger = attempt.image.as_ref();
    let note = ledger.map_or_else(|| "not in the ledger".to_owned(), |file| file.state.clone());
    found.push(of(
        "remote image",
        attempt.image_file.to_string(),
        None,
        note,
    ));
    let spool = look.files.spool_path(&attempt.batch);
    let is_open = ["planned", "submitting", "in doubt"].contains(&attempt.batch_state.as_str());
    let note = match (&attempt.lines_file, is_open) {
        (Some(name), _) => format!("sent as {name}"),
        (None, true) => "not sent yet".to_owned(),
        (None, false) => "sent; no longer kept".to_owned(),
    };
    found.push(of(
        "request lines",
        shown(&spool),
        Some(spool.is_file()),
        note,
    ));
    let manifest = look.settings.paths.work_dir.join("batches");
    let manifest = manifest.join(format!("{}.json", attempt.batch));
    if manifest.is_file() {
        found.push(of("manifest", shown(&manifest), Some(true), String::new()));
    }
    if let Some(path) = &attempt.raw_path {
        let path = raw_place(look, attempt, Path::new(path));
        let note = attempt.raw_line.map_or_else(
            || "without a line for this page".to_owned(),
            |line| format!("at byte {}, {} bytes", line.offset, line.bytes),
        );
        found.push(of("raw result", shown(&path), Some(path.is_file()), note));
    }
    if let Some(report) = &attempt.report {
        let path = look.settings.paths.work_dir.join("reports").join(report);
        found.push(of(
            "report",
            shown(&path),
            Some(path.is_file()),
            String::new(),
        ));
    }
}

/// Where the raw results are: as recorded, or where this project keeps them; compressed or not.
fn raw_place(look: &Look<'_>, attempt: &AttemptLine, recorded: &Path) -> PathBuf {
    let here = look.files.raw_path(&attempt.batch);
    let compressed = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".zst");
        PathBuf::from(name)
    };
    let places = [
        recorded.to_path_buf(),
        compressed(recorded),
        here.clone(),
        compressed(&here),
    ];
    let there = places.into_iter().find(|path| path.is_file());
    there.unwrap_or_else(|| recorded.to_path_buf())
}

/// The kept outputs of a page, oldest first: `{page}.{seconds}.{hash}.json`.
fn revisions(beside: &Path) -> Vec<FileLine> {
    let (Some(folder), Some(stem)) = (beside.parent(), beside.file_stem()) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let prefix = format!("{}.", stem.to_string_lossy());
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with(&prefix) && name.ends_with(".json"))
        .collect();
    names.sort();
    let newest = names.len().saturating_sub(REVISIONS_MAX);
    let kept = names.into_iter().skip(newest);
    kept.map(|name| local("revision", &folder.join(name), String::new()))
        .collect()
}
