//! What holds uploads up, and what it means: no room in the provider's store, our own disk, an image
//! that cannot be sent, an upload that failed.

use std::time::Duration;

use actix::prelude::*;

use super::deletion::Deleted;
use super::{Checked, ClaimedPage, Uploader, outcome};
use crate::decide::retry::{self, UploadsAtLarge};
use crate::decide::storage;
use crate::domain::failure::{ApiError, Next, Quota};
use crate::domain::ids::RecordKey;
use crate::domain::image::ImageFault;
use crate::domain::time::Timestamp;
use crate::notices;

/// How long a page waits whose image alone the disk does not give.
const IMAGE_AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Uploader {
    pub(super) fn paused(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| now < until) || self.disk.holds(now)
    }

    /// Files have left the provider's store: what waited for their bytes goes on at once.
    pub(super) fn deleted(&mut self, deleted: &Deleted, ctx: &mut Context<Self>) {
        let &Deleted { asked, gone, freed } = deleted;
        let goes_on = freed > 0 && std::mem::take(&mut self.store_full);
        if goes_on {
            self.paused_until = None;
        }
        if gone > 0 {
            self.bytes_fell = true;
            self.activity.contact();
            if goes_on || !self.held.is_empty() {
                self.claim(ctx);
            }
        }
        if asked > 0 && gone == asked {
            self.delete(ctx);
        }
    }

    pub(super) fn fits(&self, checked: &Checked) -> bool {
        let held = self.remote_bytes + self.ports.transfer.reserved();
        let budget = self.options.storage_budget_bytes;
        storage::image_fits(held, checked.facts.bytes, budget)
    }

    /// Whether an upload may begin before those that wait.
    pub(super) fn may_begin(&self, checked: &Checked) -> bool {
        self.held.is_empty() && self.fits(checked) && !self.paused(self.ports.clock.now())
    }

    /// Keeps an image until there is room in the provider's store, or the pause is over.
    pub(super) fn hold(&mut self, mut checked: Checked) {
        // It may wait for long; the file is read again when its time comes.
        checked.content = None;
        if self.held.is_empty() && !self.fits(&checked) {
            notices::StoreFull {
                remote_bytes: self.remote_bytes,
                budget_bytes: self.options.storage_budget_bytes,
            }
            .emit();
        }
        self.held.push_back(checked);
    }

    pub(super) fn disk_works(&mut self) {
        let now = self.ports.clock.now();
        self.last_image = Some(now);
        self.disk.over(now);
    }

    /// Our own disk did not give an image. The page waits; where no other image was given since,
    /// the whole stage does.
    pub(super) fn disk_failed(&mut self, key: RecordKey, reason: &str, begun: Timestamp) {
        let now = self.ports.clock.now();
        let others_are_read = self.last_image.is_some_and(|at| at >= begun);
        let until = if others_are_read {
            self.disk.note(reason, now);
            now.plus(IMAGE_AGAIN_AFTER)
        } else {
            self.disk.begin(reason, now)
        };
        self.finished.push(outcome::disk_failed(key, until, reason));
    }

    pub(super) fn image_refused(
        &mut self,
        page: ClaimedPage,
        fault: &ImageFault,
        ctx: &mut Context<Self>,
    ) {
        notices::ImageRefused {
            key: &page.key,
            fault,
        }
        .emit();
        self.finished.push(outcome::image_refused(page.key, fault));
        self.record(ctx);
    }

    pub(super) fn upload_failed(
        &mut self,
        page: ClaimedPage,
        last: &ApiError,
        tries: u32,
        begun: Timestamp,
    ) {
        if matches!(last.next, Next::Local) {
            return self.disk_failed(page.key, &last.message, begun);
        }
        let now = self.ports.clock.now();
        let others_succeed = self.last_success.is_some_and(|at| at >= begun);
        let at_large = UploadsAtLarge {
            others_succeed,
            pauses: self.pauses,
        };
        let rules = self.options.rules;
        let end = retry::upload_failed(last, page.upload_cycles, at_large, rules, now);
        if let Some(pause) = end.pause {
            // Uploads that failed together make one pause.
            if !self.paused(now) {
                self.pauses = self.pauses.saturating_add(1);
            }
            self.paused_until = Some(now.plus(pause));
        }
        let storage = Quota::Storage;
        self.store_full |= matches!(last.next, Next::Throttled { quota, .. } if quota == storage);
        self.activity.trouble(last.message.clone());
        let message = format!("upload failed after {tries} tries: {last}");
        notices::UploadFailed {
            key: &page.key,
            message: &message,
        }
        .emit();
        self.finished.push(outcome::failed(page.key, end, message));
    }
}
