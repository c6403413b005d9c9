//! What is kept of a batch outside of the database, so that its job is known again without it.

use super::failure::ErrorType;
use super::ids::{BatchId, KeyFingerprint, RecipeHash, RecordKey, RemoteName, RunId, Sha256Hex};
use super::time::Timestamp;

/// A batch, as far as it takes to adopt its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchManifest {
    pub batch: BatchId,
    pub display_name: String,
    pub run: RunId,
    /// Tells the database from every other: id and start of its first run. Names of remote files
    /// begin with a mark that is made from it.
    pub first_run: String,
    pub key_fingerprint: KeyFingerprint,
    pub recipe: ManifestRecipe,
    pub lines: Option<ManifestLines>,
    pub reserved_cost_nanos: Option<u64>,
    pub members: Vec<ManifestMember>,
    pub created_at: Timestamp,
}

/// The recipe of a batch, with its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecipe {
    pub hash: RecipeHash,
    pub prompt_name: String,
    pub prompt_template: String,
    pub context_template: Option<String>,
    pub schema: String,
    pub model: String,
    /// JSON.
    pub generation_config: String,
}

/// The lines file of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLines {
    pub sha256: Sha256Hex,
    pub bytes: u64,
    pub file: Option<ManifestFile>,
}

/// A file in the provider's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    pub name: RemoteName,
    pub uri: String,
    pub mime: String,
    pub bytes: u64,
    pub sha256: Sha256Hex,
    pub expires_at: Timestamp,
}

/// A page of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestMember {
    pub key: RecordKey,
    pub attempt_number: u32,
    /// Failures that were counted against the page before this batch, oldest first.
    pub failures: Vec<ErrorType>,
    pub releases: u32,
    pub prompt_sha256: Option<Sha256Hex>,
    pub context_sha256: Option<Sha256Hex>,
    /// Not known where a batch is told from its results alone.
    pub image: Option<ManifestFile>,
}

/// What there is of a batch that the database does not know, or not so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobFound {
    /// Its job, and further ones of the same display name.
    Job {
        remote: RemoteName,
        extra: Vec<RemoteName>,
    },
    /// No job that the list shows; one may exist all the same.
    Doubt,
    /// Its results, on our own disk.
    Results { remote: Option<RemoteName> },
}
