//! Checks that are more than a kind and a range.

use std::path::{Component, Path, PathBuf};

use super::super::Settings;
use super::super::fault::Fault;

/// What is wrong and what to do.
type Complaint = (String, &'static str);

/// The path of a `sqlite://` address.
pub fn sqlite_path(url: &str) -> Result<&str, Complaint> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let problem = "PostgreSQL is not supported by this version".to_owned();
        return Err((problem, "use sqlite:// and a path"));
    }
    let Some(path) = url.strip_prefix("sqlite://") else {
        let remedy = "write sqlite:// and a path, such as sqlite://data/gemini_batches.db";
        return Err((
            "is not an address of a database that is supported".to_owned(),
            remedy,
        ));
    };
    if path.is_empty() || path.ends_with('/') {
        return Err((
            "names no file".to_owned(),
            "add a file, such as data/gemini_batches.db",
        ));
    }
    if path.starts_with(":memory:") {
        let problem = "a database in memory forgets what was paid for".to_owned();
        return Err((problem, "name a file"));
    }
    if path.contains(['?', '#']) {
        let problem = "takes no options; pagemill sets them".to_owned();
        return Err((problem, "end it after the path"));
    }
    Ok(path)
}

/// Checks an address of the provider; never repeats it, for it could carry a secret.
pub fn base_url(url: &str) -> Result<(), Complaint> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err((
            "does not start with https:// or http://".to_owned(),
            "write the whole address",
        ));
    };
    if rest.contains('@') {
        let problem = "carries a user or a password".to_owned();
        return Err((problem, "take it out; the API key is the only secret"));
    }
    if rest.contains(['?', '#']) {
        return Err((
            "carries a query or a fragment".to_owned(),
            "end it before them",
        ));
    }
    let host = host(url);
    if host.is_empty() || rest.contains(char::is_whitespace) {
        return Err((
            "names no host".to_owned(),
            "write it like http://127.0.0.1:8787",
        ));
    }
    Ok(())
}

pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    if let Some(inner) = authority.strip_prefix('[') {
        return inner.split(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

/// Whether an address stays on this machine.
pub fn is_loopback(url: &str) -> bool {
    let host = host(url);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The path without `.` and `..`, by its text alone: links are not followed.
pub fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                let can_go_up = matches!(out.components().next_back(), Some(Component::Normal(_)));
                if can_go_up {
                    out.pop();
                } else if !out.has_root() {
                    out.push("..");
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// Checks settings against each other.
pub fn between_settings(settings: &Settings, faults: &mut Vec<Fault>) {
    folders(settings, faults);
    let batch = &settings.batch;
    if batch.create_delay_min > batch.create_delay_max {
        faults.push(Fault::new(
            "batch.create_delay_max_seconds",
            "is below batch.create_delay_min_seconds",
            "raise it or lower the other",
        ));
    }
    if batch.slow_after > batch.stop_after {
        faults.push(Fault::new(
            "batch.stop_after_hours",
            "is below batch.slow_after_hours",
            "raise it or lower the other",
        ));
    }
    if settings.files.image_bytes_max > settings.files.storage_budget_bytes {
        faults.push(Fault::new(
            "files.image_bytes_max",
            "is above files.storage_budget_bytes, so such an image could never be uploaded",
            "lower it or raise the other",
        ));
    }
    if batch
        .tokens_max
        .is_some_and(|max| max < batch.tokens_per_image)
    {
        faults.push(Fault::new(
            "batch.tokens_max",
            "is below batch.tokens_per_image, so no page would fit into a batch",
            "raise it",
        ));
    }
}

/// No tree of ours may stand where another is scanned or written.
fn folders(settings: &Settings, faults: &mut Vec<Fault>) {
    let paths = &settings.paths;
    let label = ("paths.label_source_dir", paths.label_source_dir.as_path());
    let image = ("paths.image_source_dir", paths.image_source_dir.as_path());
    let output = ("paths.output_dir", paths.output_dir.as_path());
    let work = ("paths.work_dir", paths.work_dir.as_path());
    let given = |folder: &Path| !folder.as_os_str().is_empty();
    for (inner, outer) in [
        (image, label),
        (output, label),
        (work, label),
        (output, image),
        (work, output),
        (label, output),
        (work, image),
    ] {
        if !given(inner.1) || !given(outer.1) {
            continue;
        }
        // Told already, the other way round.
        let is_told = inner == label && inner.1 == outer.1;
        let problem = if is_told {
            continue;
        } else if inner.1 == outer.1 {
            format!("is the same folder as {}", outer.0)
        } else if inner.1.starts_with(outer.1) && is_harmful(inner.0, outer.0) {
            format!("is inside {}", outer.0)
        } else {
            continue;
        };
        faults.push(Fault::new(inner.0, problem, "give it a folder of its own"));
    }
    let database = &settings.state.sqlite_file;
    for (name, folder) in [label, image, output] {
        if given(folder) && given(database) && database.starts_with(folder) {
            faults.push(Fault::new(
                "state.url",
                format!("puts the database inside {name}"),
                "put it into paths.work_dir",
            ));
        }
    }
}

/// What stands in the label tree is scanned; a label in the output tree could be written over.
/// The image tree and the depths of the output tree are only read and written by exact path.
fn is_harmful(inner: &str, outer: &str) -> bool {
    outer == "paths.label_source_dir" || inner == "paths.label_source_dir"
}
