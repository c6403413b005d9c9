//! The outputs, held against the pages: every done page has its file, whole and as it was
//! recorded; every file has its page.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;

use super::findings::{Finding, Findings, Repair};
use super::{Look, restore};
use crate::actors::blocking::sha256;
use crate::actors::state::audit::{self, CompletedPage, Standing};
use crate::actors::state::messages::{StateRepair, StateResult};
use crate::domain::finding::FindingKind;
use crate::domain::ids::{RecipeHash, RecordKey, Sha256Hex};
use crate::domain::page::PageStage;
use crate::ports::file_audit::{FileAudit, InOutputs};
use crate::ports::page_source::PageSource;
use crate::prompt::Validator;

/// Completed pages that are looked at in one question.
const PAGES_TOGETHER: u64 = 500;
/// Files that are read and judged side by side.
const JUDGED_TOGETHER: usize = 16;

/// Compiled schemas by recipe; there are few recipes.
type Schemas = HashMap<RecipeHash, Option<Arc<Validator>>>;

/// What a file is worth beside what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Judged {
    Fine,
    Missing,
    Unreadable(String),
    OffSchema(String),
    Changed { sha256: Sha256Hex, bytes: u64 },
    Broken(String),
}

/// What a file without a record is worth.
enum Worth {
    Gone,
    Unreadable(String),
    Valid { sha256: Sha256Hex, bytes: u64 },
    Invalid(String),
}

/// Checks all outputs; gives how many files there are at pages' places.
pub async fn check(look: &Look<'_>, findings: &mut Findings) -> StateResult<u64> {
    let walk = match look.files.walk_outputs().await {
        Ok(walk) => walk,
        Err(error) => {
            let thing = look.shown(Path::new(&error.path));
            findings.tell(finding(FindingKind::OutputUnreadable, thing, error.message));
            return Ok(0);
        }
    };
    let Some(mut walk) = walk else {
        return no_outputs(look, findings).await.map(|()| 0);
    };
    let mut outputs = 0;
    while let Some(chunk) = walk.next().await {
        let mut keys = Vec::new();
        for found in chunk {
            match found {
                InOutputs::Output(key) => keys.push(key),
                InOutputs::Temporary(leftover) => look.tell_temporary(leftover, findings),
                InOutputs::Unreadable(error) => {
                    let thing = look.shown(Path::new(&error.path));
                    let kind = FindingKind::OutputUnreadable;
                    findings.tell(finding(kind, thing, error.message));
                }
            }
        }
        outputs += keys.len() as u64;
        check_files(look, &keys, findings).await?;
    }
    check_completed(look, findings).await?;
    Ok(outputs)
}

/// An output folder that holds nothing at all is no proof that its pages are to be paid again: it
/// may not be mounted.
async fn no_outputs(look: &Look<'_>, findings: &mut Findings) -> StateResult<()> {
    let completed = audit::completed_pages(look.connection, "", 1).await?;
    if completed.is_empty() {
        return Ok(());
    }
    findings.tell(finding(
        FindingKind::OutputFolderEmpty,
        look.shown(&look.settings.paths.output_dir),
        "pages are done, and not one file is there".to_owned(),
    ));
    Ok(())
}

fn finding(kind: FindingKind, thing: String, detail: String) -> Finding {
    Finding {
        kind,
        thing,
        detail,
        repair: None,
    }
}

/// Files first, rows second: whatever the pipeline writes meanwhile, the row then knows of.
async fn check_files(
    look: &Look<'_>,
    keys: &[RecordKey],
    findings: &mut Findings,
) -> StateResult<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let standings = audit::standings(look.connection, keys).await?;
    let standings: HashMap<&RecordKey, &Standing> =
        standings.iter().map(|page| (&page.key, page)).collect();
    for key in keys {
        let standing = standings.get(key).copied();
        let of_pipeline = standing
            .is_some_and(|page| matches!(page.stage, PageStage::Completed | PageStage::Validating));
        if of_pipeline {
            continue;
        }
        let worth = worth(look, key).await;
        if let Some(found) = unrecorded(key, standing, worth) {
            findings.tell(found);
        }
    }
    Ok(())
}

/// What is to be said of a file whose page does not count as done.
fn unrecorded(key: &RecordKey, standing: Option<&Standing>, worth: Worth) -> Option<Finding> {
    let of = |kind, detail, repair| {
        Some(Finding {
            kind,
            thing: key.to_string(),
            detail,
            repair,
        })
    };
    let (valid, said) = match worth {
        Worth::Gone => return None,
        Worth::Unreadable(message) => return of(FindingKind::OutputUnreadable, message, None),
        Worth::Valid { sha256, bytes } => (Some((sha256, bytes)), "its file is valid".to_owned()),
        Worth::Invalid(fault) => (None, fault),
    };
    let Some(page) = standing else {
        let detail = format!("the state does not know the page; {said}");
        return of(FindingKind::OutputWithoutPage, detail, None);
    };
    let detail = format!("the page is {}; {said}", page.stage);
    let at_rest = matches!(
        page.stage,
        PageStage::Discovered | PageStage::Dead | PageStage::Review | PageStage::Skipped
    );
    if !at_rest || page.held {
        return of(FindingKind::OutputInFlight, detail, None);
    }
    let key = key.clone();
    match valid {
        Some((sha256, bytes)) => {
            let repair = Repair::State(StateRepair::Adopt { key, sha256, bytes });
            of(FindingKind::OutputNotRecorded, detail, Some(repair))
        }
        None => {
            let repair = Repair::SetAside { key, then: None };
            of(FindingKind::OutputNotUsable, detail, Some(repair))
        }
    }
}

async fn worth(look: &Look<'_>, key: &RecordKey) -> Worth {
    let text = match look.files.output(key).await {
        Ok(text) => text,
        Err(error) if error.missing => return Worth::Gone,
        Err(error) => return Worth::Unreadable(error.message),
    };
    let current = Arc::clone(&look.schema);
    on_pool(move || match valid(&text, &[current]) {
        Ok(()) => Worth::Valid {
            sha256: sha256(&text),
            bytes: text.len() as u64,
        },
        Err(fault) => Worth::Invalid(fault),
    })
    .await
    .unwrap_or_else(Worth::Unreadable)
}

async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let done = actix_rt::task::spawn_blocking(work).await;
    done.map_err(|lost| format!("the check did not end: {lost}"))
}

/// JSON, and what one of the schemas asks for.
fn valid(text: &[u8], schemas: &[Arc<Validator>]) -> Result<(), String> {
    let value: serde_json::Value =
        serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    let mut first_fault = None;
    for schema in schemas {
        match schema.check(&value) {
            Ok(()) => return Ok(()),
            Err(faults) => {
                first_fault.get_or_insert_with(|| faults.first().cloned().unwrap_or_default());
            }
        }
    }
    match first_fault {
        None => Ok(()),
        Some(fault) => Err(format!("not what the schema asks for: {fault}")),
    }
}

/// Goes through the completed pages by key. What looks wrong is looked at once more, row and file.
async fn check_completed(look: &Look<'_>, findings: &mut Findings) -> StateResult<()> {
    let mut schemas = Schemas::new();
    let mut after = String::new();
    loop {
        let pages = audit::completed_pages(look.connection, &after, PAGES_TOGETHER).await?;
        let Some(last) = pages.last() else {
            return Ok(());
        };
        after = last.key.to_string();
        if let Some(today) = &look.recipe {
            tell_other_recipes(&pages, today, findings);
        }
        let suspects = suspects(look, pages, &mut schemas).await?;
        if suspects.is_empty() {
            continue;
        }
        let keys: Vec<RecordKey> = suspects.into_iter().map(|(page, _)| page.key).collect();
        let again = audit::completed_again(look.connection, &keys).await?;
        for (page, judged) in self::suspects(look, again, &mut schemas).await? {
            findings.tell(suspect(look, &page, judged).await);
        }
    }
}

/// Names the outputs that were made with another prompt, schema, model or parameters than today's.
fn tell_other_recipes(pages: &[CompletedPage], today: &RecipeHash, findings: &mut Findings) {
    for page in pages {
        if let Some(recipe) = page.recipe.as_ref().filter(|recipe| *recipe != today) {
            let detail = format!("made by recipe {recipe}");
            findings.tell(finding(
                FindingKind::OutputOfOtherRecipe,
                page.key.to_string(),
                detail,
            ));
        }
    }
}

/// The pages whose files are not as recorded, in their order.
async fn suspects(
    look: &Look<'_>,
    pages: Vec<CompletedPage>,
    schemas: &mut Schemas,
) -> StateResult<Vec<(CompletedPage, Judged)>> {
    for page in &pages {
        if let Some(recipe) = &page.recipe
            && !schemas.contains_key(recipe)
        {
            let text = audit::schema_of(look.connection, recipe).await?;
            let compiled = text
                .and_then(|text| serde_json::from_str(&text).ok())
                .and_then(|schema| Validator::new(&schema).ok())
                .map(Arc::new);
            schemas.insert(recipe.clone(), compiled);
        }
    }
    let schemas = &*schemas;
    let judgements = pages.into_iter().map(|page| async move {
        let own = page.recipe.as_ref().and_then(|recipe| schemas.get(recipe));
        let own = own.cloned().flatten();
        let judged = judge(look, &page, own).await;
        (page, judged)
    });
    let judged: Vec<(CompletedPage, Judged)> = futures_util::stream::iter(judgements)
        .buffered(JUDGED_TOGETHER)
        .filter(|(_page, judged)| std::future::ready(*judged != Judged::Fine))
        .collect()
        .await;
    Ok(judged)
}

/// An output may have been accepted under its recipe's schema, or adopted under a later one: either
/// is enough. Without a recipe the hash alone speaks for it.
async fn judge(look: &Look<'_>, page: &CompletedPage, own: Option<Arc<Validator>>) -> Judged {
    let text = match look.files.output(&page.key).await {
        Ok(text) => text,
        Err(error) if error.missing => return Judged::Missing,
        Err(error) => return Judged::Unreadable(error.message),
    };
    let recorded = page.output.clone();
    let has_recipe = own.is_some();
    let schemas: Vec<Arc<Validator>> = own.into_iter().chain([Arc::clone(&look.schema)]).collect();
    on_pool(move || {
        let found = sha256(&text);
        match (found == recorded, valid(&text, &schemas)) {
            (true, Err(fault)) if has_recipe => Judged::OffSchema(fault),
            (true, _) => Judged::Fine,
            (false, Ok(())) => Judged::Changed {
                sha256: found,
                bytes: text.len() as u64,
            },
            (false, Err(fault)) => Judged::Broken(fault),
        }
    })
    .await
    .unwrap_or_else(Judged::Unreadable)
}

/// What is to be said of a completed page whose file is not as recorded.
async fn suspect(look: &Look<'_>, page: &CompletedPage, judged: Judged) -> Finding {
    let key = page.key.clone();
    let (kind, detail, repair) = match judged {
        Judged::Fine => (FindingKind::OutputOffSchema, String::new(), None),
        Judged::Missing => (
            FindingKind::OutputMissing,
            format!("there is no {}", look.output_shown(&key)),
            Some(if look.restore {
                restored_or_again(look, page, false).await
            } else {
                Repair::State(requeue(page))
            }),
        ),
        Judged::Unreadable(message) => (FindingKind::OutputUnreadable, message, None),
        Judged::OffSchema(fault) => (FindingKind::OutputOffSchema, fault, None),
        Judged::Broken(fault) => (
            FindingKind::OutputBroken,
            fault,
            Some(restored_or_again(look, page, true).await),
        ),
        Judged::Changed { sha256, bytes } => {
            let detail = format!(
                "its hash is {}..., recorded is {}...",
                start_of(&sha256),
                start_of(&page.output)
            );
            let repair = StateRepair::AdoptChanged { key, sha256, bytes };
            let wanted = look.adopt_changed;
            let repair = wanted.then_some(Repair::State(repair));
            (FindingKind::OutputChanged, detail, repair)
        }
    };
    Finding {
        kind,
        thing: page.key.to_string(),
        detail,
        // What a live batch holds is left to it.
        repair: repair.filter(|_| !page.held),
    }
}

fn requeue(page: &CompletedPage) -> StateRepair {
    StateRepair::Requeue {
        key: page.key.clone(),
        recorded: page.output.clone(),
    }
}

/// What was paid for is not paid for again as long as the raw results have it.
async fn restored_or_again(look: &Look<'_>, page: &CompletedPage, has_file: bool) -> Repair {
    let (key, recorded) = (page.key.clone(), page.output.clone());
    if restore::output(look, &key, &recorded).await.is_some() {
        return Repair::Restore { key, recorded };
    }
    if has_file {
        let then = Some(requeue(page));
        Repair::SetAside { key, then }
    } else {
        Repair::State(requeue(page))
    }
}

/// Enough of a hash to tell it from another.
fn start_of(hash: &Sha256Hex) -> &str {
    let hash = hash.as_str();
    hash.get(..16).unwrap_or(hash)
}
