//! The database against the provider, and against what our own disk still holds: what differs, and
//! the way back for a database that was lost or put back from an old copy.
//!
//! [`look`] only reads. [`apply`] changes the database and deletes files of ours; it never sends a
//! page.

mod apply;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sea_orm::DatabaseConnection;

use super::start_up::file_prefix;
use super::sweep::{PAGES_MAX, with_tries};
use super::{Plan, World};
use crate::actors::scanner::{known_of, labels_of};
use crate::actors::state::messages::{FilePurpose, StateError};
use crate::actors::state::{read, whereabouts};
use crate::decide::reconcile::{Difference, Facts, Kind, Known, compare};
use crate::domain::failure::{ApiError, Effect, Next};
use crate::domain::ids::{BatchId, RecordKey, RemoteName};
use crate::domain::manifest::BatchManifest;
use crate::domain::page::PageStage;
use crate::domain::remote::{RemoteBatch, RemoteFile};
use crate::ports::file_api::Listing;
use crate::ports::page_source::{Found, Scope, SourceError};
use crate::wire::manifest;

pub use apply::{Deed, apply};

/// Why nothing could be compared. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the provider's list could not be read to its end, so nothing can be said: {0}")]
    Provider(ApiError),
    #[error(transparent)]
    Disk(#[from] SourceError),
    #[error(
        "{batches} live batches were made with another API key or project (fingerprint {theirs}; \
         this one is {ours}): this key cannot see them. Use the key that made them"
    )]
    OtherKey {
        batches: u64,
        theirs: String,
        ours: String,
    },
}

/// What was found.
#[derive(Debug, Default)]
pub struct Picture {
    pub differences: Vec<Difference>,
    /// Of batches that the database does not know.
    pub manifests: BTreeMap<BatchId, BatchManifest>,
    /// Manifests that cannot be read.
    pub manifest_faults: Vec<String>,
    /// Jobs that the provider shows, whoever's they are.
    pub jobs: usize,
    pub files: usize,
    /// Files that carry a mark of ours and that nobody knows.
    pub orphans: Vec<RemoteName>,
    /// Files of the ledger that the provider does not have.
    pub gone: Vec<RemoteName>,
    /// Pages that are known, in no batch and not done, and have an output.
    pub outputs: Vec<RecordKey>,
    /// What the names of our files begin with.
    marks: BTreeSet<String>,
}

impl Picture {
    /// Whether anything differs that a run does not set right by itself.
    pub fn needs_care(&self) -> bool {
        self.differences.iter().any(|found| found.kind.needs_care())
            || !self.manifest_faults.is_empty()
            || !self.orphans.is_empty()
            || !self.gone.is_empty()
            || !self.outputs.is_empty()
    }
}

/// Compares without changing anything. Without a database everything is unknown to it.
pub async fn look(
    world: &World,
    plan: &Plan,
    database: Option<&DatabaseConnection>,
) -> Result<Picture, ReconcileError> {
    if let Some(database) = database {
        refuse_other_keys(plan, database).await?;
    }
    let mut picture = Picture::default();
    let known = match database {
        Some(database) => whereabouts::batches(database).await?,
        None => Vec::new(),
    };
    let mut manifests = manifests(world, &mut picture).await?;
    let jobs = all(async |page| world.batches.list(page).await).await?;
    let files = all(async |page| world.files.list_files(page).await).await?;
    (picture.jobs, picture.files) = (jobs.len(), files.len());
    for manifest in manifests.values() {
        let prefix = &plan.submitter.display_name_prefix;
        picture
            .marks
            .insert(file_prefix(prefix, &manifest.first_run));
    }
    let known_names: HashSet<&BatchId> = known.iter().map(|batch| &batch.batch).collect();
    let named: BTreeMap<BatchId, String> = manifests
        .iter()
        .map(|(batch, manifest)| (batch.clone(), manifest.display_name.clone()))
        .collect();
    manifests.retain(|batch, _manifest| !known_names.contains(batch));
    picture.manifests = manifests;
    let facts = Facts {
        prefix: plan.submitter.display_name_prefix.clone(),
        raw: raw_on_disk(world, &known, &named).await,
        manifests: named,
        known: known
            .into_iter()
            .map(|batch| Known {
                batch: batch.batch,
                display_name: batch.display_name,
                stage: batch.stage,
                remote: batch.remote,
            })
            .collect(),
        jobs,
    };
    picture.differences = really_so(world, compare(&facts)).await?;
    compare_files(plan, database, &files, &mut picture).await?;
    if let Some(database) = database {
        picture.outputs = uncounted_outputs(world, plan, database).await?;
    }
    Ok(picture)
}

async fn refuse_other_keys(
    plan: &Plan,
    database: &DatabaseConnection,
) -> Result<(), ReconcileError> {
    let ours = plan.uploader.key_fingerprint.as_str();
    let keys = read::keys_in_use(database).await?;
    match keys.into_iter().find(|(key, _batches)| key != ours) {
        None => Ok(()),
        Some((theirs, batches)) => Err(ReconcileError::OtherKey {
            batches,
            theirs,
            ours: ours.to_owned(),
        }),
    }
}

async fn manifests(
    world: &World,
    picture: &mut Picture,
) -> Result<BTreeMap<BatchId, BatchManifest>, ReconcileError> {
    let mut found = BTreeMap::new();
    for batch in world.sink.manifests().await? {
        let text = world.sink.manifest(&batch).await?;
        match manifest::decode(&text) {
            Ok(manifest) if manifest.batch == batch => {
                found.insert(batch, manifest);
            }
            Ok(other) => {
                let words = format!("the manifest of batch {batch} names batch {}", other.batch);
                picture.manifest_faults.push(words);
            }
            Err(error) => {
                let words = format!("the manifest of batch {batch} cannot be read: {error}");
                picture.manifest_faults.push(words);
            }
        }
    }
    Ok(found)
}

/// Reads a remote list page by page to its end; a part of it proves nothing.
async fn all<T>(
    page_of: impl AsyncFn(Option<&str>) -> Result<Listing<T>, ApiError>,
) -> Result<Vec<T>, ReconcileError> {
    let mut items = Vec::new();
    let mut page: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let listed = with_tries(|| page_of(page.as_deref())).await;
        let listing = listed.map_err(ReconcileError::Provider)?;
        items.extend(listing.items);
        page = listing.next;
        if page.is_none() {
            return Ok(items);
        }
    }
    Err(ReconcileError::Provider(ApiError {
        effect: Effect::None,
        next: Next::Garbled,
        http_status: None,
        message: format!("it has more than {PAGES_MAX} pages"),
    }))
}

async fn raw_on_disk(
    world: &World,
    known: &[whereabouts::LocalBatch],
    manifests: &BTreeMap<BatchId, String>,
) -> BTreeSet<BatchId> {
    use crate::domain::batch::BatchStage;
    let is_open = |batch: &&whereabouts::LocalBatch| {
        !matches!(batch.stage, BatchStage::Settled | BatchStage::Abandoned)
    };
    let open = known.iter().filter(is_open).map(|batch| &batch.batch);
    let mut found = BTreeSet::new();
    for batch in open.chain(manifests.keys()) {
        // What cannot be looked at is as good as not there.
        if world.sink.is_raw_here(batch).await {
            found.insert(batch.clone());
        }
    }
    found
}

/// The list may be late: a job that it does not show is asked for by its name.
async fn really_so(
    world: &World,
    differences: Vec<Difference>,
) -> Result<Vec<Difference>, ReconcileError> {
    let mut so = Vec::with_capacity(differences.len());
    for difference in differences {
        if let Kind::Unreachable { remote } = &difference.kind {
            match with_tries(|| world.batches.batch(remote)).await {
                Ok(_shown) => continue,
                Err(error) if error.next == Next::Missing => {}
                Err(error) => return Err(ReconcileError::Provider(error)),
            }
        }
        so.push(difference);
    }
    Ok(so)
}

async fn compare_files(
    plan: &Plan,
    database: Option<&DatabaseConnection>,
    files: &[RemoteFile],
    picture: &mut Picture,
) -> Result<(), ReconcileError> {
    let mut ledger = Vec::new();
    if let Some(database) = database {
        ledger = whereabouts::files(database, crate::adapters::system_clock::now()).await?;
        if let Some(first_run) = whereabouts::first_run(database).await? {
            let prefix = &plan.submitter.display_name_prefix;
            picture.marks.insert(file_prefix(prefix, &first_run));
        }
    }
    let shown: HashSet<&RemoteName> = files.iter().map(|file| &file.name).collect();
    // Files that a job made are not in the list.
    picture.gone = ledger
        .iter()
        .filter(|file| file.purpose != FilePurpose::Results && !shown.contains(&file.name))
        .map(|file| file.name.clone())
        .collect();
    let images = picture.manifests.values().flat_map(|manifest| {
        let images = manifest
            .members
            .iter()
            .filter_map(|member| member.image.as_ref());
        let lines = manifest
            .lines
            .iter()
            .filter_map(|lines| lines.file.as_ref());
        images.chain(lines)
    });
    let known: HashSet<&RemoteName> = ledger
        .iter()
        .map(|file| &file.name)
        .chain(images.map(|file| &file.name))
        .collect();
    let is_ours = |file: &&RemoteFile| {
        let name = file.display_name.as_deref().unwrap_or_default();
        picture
            .marks
            .iter()
            .any(|mark| name.starts_with(mark.as_str()))
    };
    let orphans = files
        .iter()
        .filter(|file| is_ours(file) && !known.contains(&file.name));
    picture.orphans = orphans.map(|file| file.name.clone()).collect();
    Ok(())
}

/// Pages that the database would send although their outputs are there.
async fn uncounted_outputs(
    world: &World,
    plan: &Plan,
    database: &DatabaseConnection,
) -> Result<Vec<RecordKey>, ReconcileError> {
    let scope = everything(plan);
    let mut walk = world.source.walk(&scope).await?;
    let mut uncounted = Vec::new();
    while let Some(chunk) = walk.next().await {
        for found in chunk {
            let Found::Book(book) = found else { continue };
            if book.outputs.is_empty() {
                continue;
            }
            let with_output: HashSet<RecordKey> = labels_of(&book, &scope, &plan.layout, None)
                .into_iter()
                .filter(|label| label.has_output)
                .map(|label| label.key)
                .collect();
            let names = std::slice::from_ref(&book.book);
            let known = read::pages_of_books(database, names).await?;
            let open = known.into_iter().map(known_of).filter(|page| {
                matches!(
                    page.stage,
                    PageStage::Discovered | PageStage::Uploading | PageStage::Uploaded
                )
            });
            uncounted.extend(
                open.map(|page| page.key)
                    .filter(|key| with_output.contains(key)),
            );
        }
    }
    Ok(uncounted)
}

/// The whole tree, whatever the filters leave of it.
fn everything(plan: &Plan) -> Scope {
    Scope {
        levels: vec![None; plan.layout.names().len()],
    }
}

/// A job among those that the provider was asked about one by one.
async fn job(world: &World, remote: &RemoteName) -> Result<RemoteBatch, ReconcileError> {
    let looked = with_tries(|| world.batches.batch(remote)).await;
    looked.map_err(ReconcileError::Provider)
}
