//! What can be told on this machine: folders, room, database, prompt and schema.

use std::path::{Path, PathBuf};

use super::Findings;
use crate::actors::state::open::OpenError;
use crate::actors::state::read;
use crate::adapters::filesystem::place::{self, Lock};
use crate::decide::doctor::{BatchRoom, Verdict, free_room};
use crate::pipeline::from_settings;
use crate::ports::page_source::{Found, ListedPage, PageSource};
use crate::prompt::Recipe;
use crate::report::words;
use crate::settings::{Fault, Settings};

/// Whether the folders are there, apart from each other, and take files.
pub(super) fn folders(settings: &Settings, findings: &mut Findings) {
    let faults = settings.check_environment();
    for fault in &faults {
        findings.configuration("folders", Verdict::Fail, fault);
    }
    let paths = &settings.paths;
    let own = [
        ("paths.output_dir", &paths.output_dir),
        ("paths.work_dir", &paths.work_dir),
    ];
    for (name, folder) in own {
        if is_inside(folder, &paths.label_source_dir) {
            let fault = Fault::new(
                name,
                format!(
                    "{} leads into paths.label_source_dir, perhaps by a link",
                    folder.display()
                ),
                "give it a folder of its own",
            );
            findings.configuration("folders", Verdict::Fail, &fault);
        } else if folder.is_dir() {
            writable(name, folder, findings);
        } else if !folder.exists() {
            to_be_made(name, folder, findings);
        }
    }
    if faults.is_empty() {
        let read = "labels and images can be listed";
        findings.good("folders", read);
    }
}

/// Whether a folder, links followed, is another one or below it.
fn is_inside(inner: &Path, outer: &Path) -> bool {
    let real = |path: &Path| path.canonicalize();
    match (real(inner), real(outer)) {
        (Ok(inner), Ok(outer)) => inner.starts_with(outer),
        _ => false,
    }
}

fn writable(name: &str, folder: &Path, findings: &mut Findings) {
    let folder_shown = folder.display();
    match place::try_writing(folder) {
        Ok(()) => findings.good(
            "folders",
            format!("{name}: {folder_shown} takes files durably"),
        ),
        Err(error) => findings.fail(
            "folders",
            format!("{name}: {folder_shown} cannot be written: {error}"),
            "give this user the right to write there, or mount it writable",
        ),
    }
}

/// A folder that does not exist is made by the first run; nothing is made here.
fn to_be_made(name: &str, folder: &Path, findings: &mut Findings) {
    let shown = folder.display();
    match place::nearest(folder) {
        Ok(above) if place::may_write(&above) => findings.good(
            "folders",
            format!("{name}: {shown} does not exist yet; the first run makes it"),
        ),
        Ok(above) => findings.fail(
            "folders",
            format!(
                "{name}: {shown} does not exist, and {} cannot be written",
                above.display()
            ),
            "make the folder and give it to this user",
        ),
        Err(error) => findings.fail(
            "folders",
            format!("{name}: {shown} cannot be looked at: {error}"),
            "correct the path",
        ),
    }
}

/// Whether the disks have room for what batches bring.
pub(super) fn disk(settings: &Settings, findings: &mut Findings) {
    let room = BatchRoom {
        pages: settings.execution.batch_size_limit,
        live: settings.execution.max_concurrent_batches,
        line_bytes_max: settings.batch.bytes_max,
        output_tokens_max: settings.model.max_output_tokens(),
    };
    for (name, folder, needed) in [
        ("paths.work_dir", &settings.paths.work_dir, room.work()),
        (
            "paths.output_dir",
            &settings.paths.output_dir,
            room.output(),
        ),
    ] {
        let free = match place::free_bytes(folder) {
            Ok(free) => free,
            Err(error) => {
                let words = format!("{name}: free room cannot be told: {error}");
                findings.warn("disk", words, "look at it yourself");
                continue;
            }
        };
        let (one, all) = needed;
        let finding = format!(
            "{name}: {} free; a batch may take {}, all live ones {}",
            words::bytes(free),
            words::bytes(one),
            words::bytes(all)
        );
        let verdict = free_room(free, needed);
        let remedy = match verdict {
            Verdict::Good => "",
            Verdict::Warn | Verdict::Fail => {
                "make room, or lower execution.batch_size_limit or max_concurrent_batches"
            }
        };
        findings.judged("disk", verdict, finding, remedy);
    }
}

/// Whether the database can be worked with, and who does.
pub(super) async fn database(settings: &Settings, findings: &mut Findings) {
    let path = &settings.state.sqlite_file;
    let shown = path.display();
    if let Ok(Some(kind)) = place::network_file_system(path) {
        let words = format!("{shown} is on a network file system ({kind})");
        let remedy = "put it on a local disk: SQLite's locks and its WAL do not hold there";
        findings.fail("database", words, remedy);
    }
    match read::open_read_only(path).await {
        Ok(connection) => {
            match read::damage(&connection).await {
                Ok(None) => findings.good("database", format!("{shown} is whole and current")),
                Ok(Some(words)) => damaged(&words, findings),
                Err(error) => damaged(&error.to_string(), findings),
            }
            other_keys(settings, &connection, findings).await;
            // Nothing was changed; how the connection ends changes nothing either.
            let _closed = connection.close().await;
        }
        Err(OpenError::Missing { .. }) => findings.good(
            "database",
            format!("{shown} does not exist yet; the first run makes it"),
        ),
        Err(older @ OpenError::Older { .. }) => {
            findings.warn("database", older.to_string(), "");
        }
        Err(error) => findings.fail("database", error.to_string(), ""),
    }
    lock(path, findings);
}

fn damaged(words: &str, findings: &mut Findings) {
    let remedy = "put back a good copy or move it away, then pagemill reconcile --apply";
    findings.fail("database", format!("it is damaged: {words}"), remedy);
}

async fn other_keys(
    settings: &Settings,
    connection: &sea_orm::DatabaseConnection,
    findings: &mut Findings,
) {
    let project = settings.api.project.as_deref();
    let key = settings.api_key.as_ref();
    let Some(ours) = key.map(|key| key.fingerprint(project)) else {
        return;
    };
    match read::keys_in_use(connection).await {
        Ok(keys) => {
            let others = keys.iter().filter(|(key, _count)| key != ours.as_str());
            for (theirs, batches) in others {
                findings.fail(
                    "other keys",
                    format!("{batches} live batches were made under the key {theirs}, not {ours}"),
                    "use the key that made them until they are settled",
                );
            }
        }
        Err(error) => findings.fail("other keys", error.to_string(), ""),
    }
}

fn lock(database: &Path, findings: &mut Findings) {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    match place::lock(&PathBuf::from(name)) {
        Ok(Lock::Free) => findings.good("lock", "free: no pagemill works on this database"),
        Ok(Lock::Held(process)) => {
            let who = process.map_or("another process".to_owned(), |id| format!("process {id}"));
            findings.good("lock", format!("held by {who}, which is at work"));
        }
        Err(error) => findings.warn(
            "lock",
            format!("cannot be looked at: {error}"),
            "give this user the right to read it",
        ),
    }
}

/// Whether prompt and schema load, and the first label makes a prompt.
pub(super) async fn prompt(settings: &Settings, findings: &mut Findings) {
    let recipe = match from_settings::recipe(settings) {
        Ok(recipe) => recipe,
        Err(error) => {
            let fault = Fault::new(
                "prompt",
                error.to_string(),
                "correct the file or the setting",
            );
            findings.configuration("prompt", Verdict::Fail, &fault);
            return;
        }
    };
    findings.good("prompt", format!("{} loads", recipe.prompt_name));
    let dropped: Vec<String> = recipe
        .dropped
        .iter()
        .map(|dropped| format!("{}/{}", dropped.pointer, dropped.keyword))
        .collect();
    let words = match dropped.len() {
        0 => "the provider is told all of it".to_owned(),
        _ => format!(
            "the provider is not told {}; pagemill enforces it",
            dropped.join(", ")
        ),
    };
    findings.good("schema", words);
    first_page(settings, &recipe, findings).await;
}

async fn first_page(settings: &Settings, recipe: &Recipe, findings: &mut Findings) {
    let tree = from_settings::filesystem(settings);
    let remedy = "check paths.label_source_dir, paths.layout and filters";
    let page = match first_label(settings, &tree).await {
        Ok(Some(page)) => page,
        Ok(None) => {
            findings.warn("first page", "there is no label in scope", remedy);
            return;
        }
        // Told with the folders.
        Err(_unreadable) => return,
    };
    match rendered(settings, recipe, &tree, &page).await {
        Ok(()) => findings.good("first page", format!("{} makes a prompt", page.key)),
        Err(words) => findings.fail(
            "first page",
            format!("{} makes no prompt: {words}", page.key),
            "correct the label or the template",
        ),
    }
    match tree.image(&page.key).await {
        Ok((path, facts)) => {
            let (path, bytes) = (path.display(), words::bytes(facts.bytes));
            findings.good("first page", format!("{path} is an image of {bytes}"));
        }
        Err(fault) => findings.warn(
            "first page",
            format!("{} has no usable image: {fault}", page.key),
            "check paths.image_source_dir",
        ),
    }
}

async fn first_label(
    settings: &Settings,
    tree: &dyn PageSource,
) -> Result<Option<ListedPage>, crate::ports::page_source::SourceError> {
    let mut walk = tree.walk(&settings.scope()).await?;
    while let Some(chunk) = walk.next().await {
        for found in chunk {
            if let Found::Book(book) = found
                && let Some(page) = book.labels.into_iter().next()
            {
                return Ok(Some(page));
            }
        }
    }
    Ok(None)
}

async fn rendered(
    settings: &Settings,
    recipe: &Recipe,
    tree: &dyn PageSource,
    page: &ListedPage,
) -> Result<(), String> {
    let layout = &settings.paths.layout;
    let label = tree.label(&page.key).await.map_err(|e| e.to_string())?;
    let label: serde_json::Value =
        serde_json::from_slice(&label).map_err(|error| format!("not JSON: {error}"))?;
    let levels = layout.levels(&page.key).map_err(|e| e.to_string())?;
    let levels: Vec<(String, String)> = layout.names().iter().cloned().zip(levels).collect();
    let prompt = recipe.render_prompt(page.key.as_str(), &levels, &label, None);
    prompt.map(|_text| ()).map_err(|error| error.to_string())
}
