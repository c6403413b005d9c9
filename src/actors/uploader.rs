//! Uploader: checks images, brings them to the provider's store, and deletes what nobody needs.
//!
//! Upload starts pass one gate (`governor`), tries are repeated by `tokio-retry`, and everything
//! that is known of a page stands in the state: a claim that dies with its process is void.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::disk_pause::DiskPause;
use super::hint::{PagesRegistered, PagesReleased, PagesUploaded, RoomAhead, Tick};
use super::state::StateActor;
use super::state::messages::{ClaimedPage, RecordUploads, UploadRecord};
use crate::decide::retry::UploadRules;
use crate::domain::ids::{KeyFingerprint, RunId, ScopeToken};
use crate::domain::image::{ImageFacts, ImageFault};
use crate::domain::time::Timestamp;
use crate::meter::{Spot, waiting};
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::file_api::{FileApi, Upload};
use crate::ports::page_source::{Content, PageSource};

mod claim;
mod deletion;
mod outcome;
mod pace;
pub mod transfer;
mod trouble;

use deletion::Deletion;
use transfer::{Transfer, TransferError};

/// What an uploader is told at birth.
#[derive(Clone)]
pub struct UploaderOptions {
    pub run: RunId,
    pub scope: ScopeToken,
    /// Whether pages wait for the page before.
    pub chained: bool,
    pub key_fingerprint: KeyFingerprint,
    pub display_name_prefix: String,
    /// Uploads that run side by side.
    pub concurrency: usize,
    /// Pages that may be uploading or waiting for a batch: never far ahead of what can be sent.
    pub ahead_max: u64,
    pub storage_budget_bytes: u64,
    /// A file with less life left than this is not used.
    pub life_min: Duration,
    pub rules: UploadRules,
    /// Deletions that run side by side.
    pub deletions_max: usize,
    /// The most pages this run may upload; absent for no limit.
    pub pages_max: Option<u64>,
    /// Whether nothing is begun before the first tick: start-up collects before it uploads.
    pub waits_for_tick: bool,
}

/// Whom an uploader talks to.
#[derive(Clone)]
pub struct UploaderPeers {
    pub state: Addr<StateActor>,
    pub uploaded: Recipient<PagesUploaded>,
}

/// What uploading needs from the world.
#[derive(Clone)]
pub struct UploaderPorts {
    pub source: Rc<dyn PageSource>,
    pub files: Rc<dyn FileApi>,
    pub batches: Rc<dyn BatchApi>,
    pub clock: Rc<dyn Clock>,
    pub entropy: Rc<dyn Entropy>,
    pub transfer: Rc<Transfer>,
}

/// The stage.
pub struct Uploader {
    options: UploaderOptions,
    peers: UploaderPeers,
    activity: Activity,
    ports: UploaderPorts,
    /// Whether work may begin at all.
    awake: bool,
    claiming: bool,
    claim_again: bool,
    /// Whether the last claim brought all that there was room for: until somebody says that there is more,
    /// or a page makes room by coming to another end than in the store, no record is worth another claim.
    claimed_all: bool,
    /// Claimed pages that wait for a place among the uploads.
    claimed: VecDeque<ClaimedPage>,
    /// Checked images that wait for room in the store.
    held: VecDeque<Checked>,
    uploading: usize,
    remote_bytes: u64,
    /// Whether files were deleted since `remote_bytes` was asked for.
    bytes_fell: bool,
    finished: Vec<UploadRecord>,
    /// Pages that came to an end since the last beat, and between the two before it.
    ended: usize,
    pace: usize,
    recording: bool,
    deleting: bool,
    paused_until: Option<Timestamp>,
    /// Pauses since the last success.
    pauses: u32,
    /// Pages that this process has claimed.
    taken: u64,
    last_success: Option<Timestamp>,
    /// Whether uploads pause because the provider's store is full: until its bytes fall, or time
    /// has passed.
    store_full: bool,
    disk: DiskPause,
    /// When the disk last gave an image.
    last_image: Option<Timestamp>,
}

/// A page whose image may be sent.
struct Checked {
    page: ClaimedPage,
    path: PathBuf,
    facts: ImageFacts,
    /// What was checked, as long as it is sent at once.
    content: Option<Content>,
    begun: Timestamp,
}

impl Uploader {
    /// Makes an uploader; it works when it is told that there may be work.
    pub fn new(
        options: UploaderOptions,
        peers: UploaderPeers,
        root: Root,
        ports: UploaderPorts,
    ) -> Self {
        Uploader {
            awake: !options.waits_for_tick,
            options,
            peers,
            activity: Activity::new("uploader", root),
            ports,
            claiming: false,
            claim_again: false,
            claimed_all: false,
            claimed: VecDeque::new(),
            held: VecDeque::new(),
            uploading: 0,
            remote_bytes: 0,
            bytes_fell: false,
            finished: Vec::new(),
            ended: 0,
            pace: 0,
            recording: false,
            deleting: false,
            paused_until: None,
            pauses: 0,
            taken: 0,
            last_success: None,
            store_full: false,
            disk: DiskPause::new("uploader"),
            last_image: None,
        }
    }

    /// A name of ours for a remote file: ASCII, unique, and with nothing of the page in it.
    fn display_name(&self) -> String {
        let id = self.ports.entropy.unique_id(self.ports.clock.now());
        format!("{}-image-{id}", self.options.display_name_prefix)
    }

    /// Starts as many uploads as there are places and room.
    fn fill(&mut self, ctx: &mut Context<Self>) {
        let now = self.ports.clock.now();
        while self.uploading < self.options.concurrency && !self.paused(now) {
            if let Some(checked) = self.held.pop_front() {
                if !self.fits(&checked) {
                    self.held.push_front(checked);
                    return;
                }
                self.begin_upload(checked, ctx);
            } else if let Some(page) = self.claimed.pop_front() {
                self.begin_check(page, ctx);
            } else {
                return;
            }
        }
    }

    fn begin_check(&mut self, page: ClaimedPage, ctx: &mut Context<Self>) {
        self.uploading += 1;
        self.activity.begin();
        let source = Rc::clone(&self.ports.source);
        let begun = self.ports.clock.now();
        let check = async move {
            let looking = waiting(Spot::ImageCheck, source.image_to_send(&page.key));
            let image = waiting(Spot::UploadSlot, looking).await;
            (page, image)
        };
        ctx.spawn(
            check
                .into_actor(self)
                .map(move |(page, image), stage, ctx| {
                    stage.uploading -= 1;
                    match image {
                        Err(ImageFault::Disk { path, detail }) => {
                            let reason = format!("{path}: {detail}");
                            stage.disk_failed(page.key, &reason, begun);
                            stage.record(ctx);
                        }
                        Err(fault) => stage.image_refused(page, &fault, ctx),
                        Ok((path, facts, content)) => {
                            stage.disk_works();
                            let checked = Checked {
                                page,
                                path,
                                facts,
                                content,
                                begun,
                            };
                            if stage.may_begin(&checked) {
                                stage.begin_upload(checked, ctx);
                            } else {
                                stage.hold(checked);
                                if stage.bytes_fell {
                                    stage.claim(ctx);
                                }
                            }
                        }
                    }
                    stage.fill(ctx);
                    stage.activity.end();
                }),
        );
    }

    fn begin_upload(&mut self, mut checked: Checked, ctx: &mut Context<Self>) {
        self.uploading += 1;
        self.ports.transfer.reserve(checked.facts.bytes);
        self.activity.begin();
        let upload = Upload {
            display_name: self.display_name(),
            mime: checked.facts.mime.as_str().to_owned(),
            path: checked.path.clone(),
            bytes: checked.facts.bytes,
            sha256: checked.facts.sha256.clone(),
            content: checked.content.take(),
        };
        let transfer = Rc::clone(&self.ports.transfer);
        let (state, clock) = (self.peers.state.clone(), Rc::clone(&self.ports.clock));
        let send = async move { outcome::send(&transfer, &upload, &state, &*clock).await };
        ctx.spawn(send.into_actor(self).map(move |sent, stage, ctx| {
            stage.uploading -= 1;
            match sent {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(sent) => stage.upload_done(checked, sent),
            }
            stage.ended += 1;
            if stage.worth_recording() {
                stage.record(ctx);
            }
            stage.fill(ctx);
            stage.activity.end();
        }));
    }

    fn upload_done(
        &mut self,
        checked: Checked,
        sent: Result<super::state::messages::StoredFile, TransferError>,
    ) {
        let Checked {
            page,
            path: _,
            facts,
            content: _,
            begun,
        } = checked;
        match sent {
            Ok(file) => {
                let now = self.ports.clock.now();
                self.last_success = Some(now);
                self.pauses = 0;
                self.store_full = false;
                self.activity.contact();
                notices::ImageUploaded {
                    key: &page.key,
                    file: &file.name,
                    bytes: file.bytes,
                }
                .emit();
                self.finished.push(outcome::stored(page.key, file, facts));
            }
            Err(TransferError {
                last,
                tries,
                orphan,
            }) => {
                self.ports.transfer.release(facts.bytes);
                self.upload_failed(page, &last, tries, begun);
                if let Some(name) = orphan {
                    notices::FileLeftBehind { file: &name }.emit();
                }
            }
        }
    }

    /// Tells the state what is finished, one message at a time, many pages a message.
    fn record(&mut self, ctx: &mut Context<Self>) {
        if self.recording || self.claiming || self.finished.is_empty() {
            return;
        }
        self.recording = true;
        self.activity.begin();
        let uploads = std::mem::take(&mut self.finished);
        let stored = uploads.iter().filter_map(|upload| upload.stored.as_ref());
        let count = stored.clone().count() as u64;
        let bytes: u64 = stored.map(|(file, _facts)| file.bytes).sum();
        let makes_room = count < uploads.len() as u64;
        let (run, at) = (self.options.run.clone(), self.ports.clock.now());
        let told = self
            .peers
            .state
            .send(RecordUploads { run, uploads, at })
            .into_actor(self);
        ctx.spawn(told.map(move |reply, stage, ctx| {
            stage.recording = false;
            match answered(reply) {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(()) => {
                    stage.ports.transfer.release(bytes);
                    stage.remote_bytes += bytes;
                    stage.peers.uploaded.do_send(PagesUploaded { count });
                    if stage.worth_recording() {
                        stage.record(ctx);
                    }
                    if makes_room || !stage.claimed_all || stage.claim_again {
                        stage.claim(ctx);
                    }
                }
            }
            stage.activity.end();
        }));
    }

    /// Deletes remote files that nobody needs any more.
    fn delete(&mut self, ctx: &mut Context<Self>) {
        if self.deleting {
            return;
        }
        self.deleting = true;
        self.activity.begin();
        let deletion = Deletion {
            state: self.peers.state.clone(),
            files: Rc::clone(&self.ports.files),
            batches: Rc::clone(&self.ports.batches),
            at: self.ports.clock.now(),
            limit: self.options.deletions_max,
            key_fingerprint: self.options.key_fingerprint.clone(),
        };
        ctx.spawn(deletion.run().into_actor(self).map(|deleted, stage, ctx| {
            stage.deleting = false;
            match deleted {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(deleted) => stage.deleted(&deleted, ctx),
            }
            stage.activity.end();
        }));
    }
}

impl Actor for Uploader {
    type Context = Context<Self>;
}

impl Handler<PagesRegistered> for Uploader {
    type Result = ();

    fn handle(&mut self, _: PagesRegistered, ctx: &mut Self::Context) {
        self.claim_more(ctx);
    }
}

impl Handler<PagesReleased> for Uploader {
    type Result = ();

    fn handle(&mut self, released: PagesReleased, ctx: &mut Self::Context) {
        if released.count > 0 {
            self.claim_more(ctx);
        }
        self.delete(ctx);
    }
}

impl Handler<RoomAhead> for Uploader {
    type Result = ();

    fn handle(&mut self, _: RoomAhead, ctx: &mut Self::Context) {
        self.claim_more(ctx);
    }
}

impl Handler<Tick> for Uploader {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        self.awake = true;
        self.pace = std::mem::take(&mut self.ended);
        self.record(ctx);
        self.claim_more(ctx);
        if self.activity.may_take() {
            // What a pause held back begins with the first beat after it.
            self.fill(ctx);
            self.delete(ctx);
        }
    }
}

impl Stage for Uploader {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }

    /// Pages that are claimed and have no upload go back at the next start.
    fn let_go(&mut self) {
        self.claimed.clear();
        self.held.clear();
    }
}

stage_handlers!(Uploader);
