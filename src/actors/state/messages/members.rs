//! Members of a batch, as those who send them, judge them and write them down see them.

use crate::domain::ids::{ImageStamp, RecordKey, Sha256Hex};
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// A member of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub key: RecordKey,
    pub number: u32,
    /// The page's present stage, if it still belongs to this batch; else `None`.
    pub stage: Option<PageStage>,
    pub file_uri: String,
    pub file_mime: String,
    pub file_expires_at: Timestamp,
    /// The image as it was sent; unknown for files from before it was kept.
    pub image_sha256: Option<Sha256Hex>,
    pub predecessor: Option<RecordKey>,
    /// Whether the predecessor has an accepted output.
    pub predecessor_completed: bool,
    /// Which attempt this is, from 1.
    pub attempt_number: u32,
    /// Failures counted so far.
    pub failures: u32,
    pub releases: u32,
    /// Those of its releases whose batch failed, or was refused, as a whole.
    pub whole_failures: u32,
    /// Earlier answers that were cut.
    pub truncations: u32,
    /// Earlier answers that were refused or filtered, or repeated themselves.
    pub refusals: u32,
    /// The largest batch it may be in, after a batch of it failed as a whole.
    pub batch_size_max: Option<u32>,
}

/// A member whose answer is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToJudge {
    pub key: RecordKey,
    /// Whether it still belongs to this batch and has no verdict yet.
    pub is_open: bool,
    /// The image as it was sent; unknown for files from before it was kept.
    pub image_sha256: Option<Sha256Hex>,
    /// How its file looked then, where that was kept.
    pub image_stamp: Option<ImageStamp>,
    /// Failures counted so far.
    pub failures: u32,
    pub releases: u32,
}

/// A member as it stands in the lines file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludedMember {
    pub key: RecordKey,
    pub prompt_sha256: Sha256Hex,
    /// Hash of what the prompt saw of the page before; absent when it saw nothing.
    pub context_sha256: Option<Sha256Hex>,
    /// What its parameters change of the recipe's, as JSON; absent when nothing.
    pub parameters: Option<String>,
}
