//! How many pages share a message to the state. A message is a commit, and a commit has its price: where
//! uploads are quick, many pages share one; where they are slow, nobody waits for company.

use super::Uploader;

/// The most pages that are claimed at a time, beyond twice the uploads that run side by side.
const CLAIMS_MAX: usize = 256;
/// Ends that are recorded together where uploads are quick.
const RECORDED_TOGETHER: usize = 128;

impl Uploader {
    /// Pages that may be claimed at a time. Where uploads are quick, many: each claim is a commit.
    pub(super) fn claims_max(&self) -> usize {
        self.pace.min(CLAIMS_MAX).max(2 * self.options.concurrency)
    }

    /// Whether enough pages came to an end to be worth a commit. Those that are few wait for the others
    /// that end within this beat, and at most until the next.
    pub(super) fn worth_recording(&self) -> bool {
        self.uploading == 0 || self.finished.len() >= (self.pace / 4).min(RECORDED_TOGETHER)
    }
}
