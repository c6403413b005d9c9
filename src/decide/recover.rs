//! What an interrupted row becomes at start-up.

use crate::domain::batch::BatchEvent;
use crate::domain::page::PageEvent;
use crate::domain::time::Timestamp;

/// A page that its process left while uploading: the claim died with the process. The file, if
/// there is one, is ours by its display name and expires by itself.
pub fn uploading() -> PageEvent {
    PageEvent::UploadDeferred { until: None }
}

/// A batch that its process left while creating: the job may exist, so the list must be asked.
pub fn submitting(now: Timestamp) -> BatchEvent {
    BatchEvent::SubmitUnclear { at: now }
}
