//! One file to the provider's store, with tries, pauses and the wait until it may be used.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use tokio_retry::RetryIf;
use tokio_retry::strategy::{ExponentialBackoff, jitter};

use crate::actors::state::messages::StoredFile;
use crate::decide::{cadence, retry};
use crate::domain::failure::{ApiError, Effect, Next};
use crate::domain::ids::{KeyFingerprint, RemoteName};
use crate::domain::remote::{RemoteFile, RemoteFileState};
use crate::meter::{Spot, waiting};
use crate::ports::clock::Clock;
use crate::ports::file_api::{FileApi, Upload};

/// How files are sent.
#[derive(Debug, Clone)]
pub struct TransferOptions {
    /// Tries for one upload, the first one counted.
    pub attempts: u32,
    /// The pause before the second try; doubled for each further one, with jitter.
    pub backoff: Duration,
    /// The longest pause that a server's hint is followed for.
    pub hint_max: Duration,
    /// Upload starts a second; `None` for no limit.
    pub starts_per_second: Option<NonZeroU32>,
    /// Starts that may follow each other at once.
    pub burst: NonZeroU32,
    /// How long a file may stay in processing.
    pub active_wait: Duration,
    /// How often a file in processing is looked at.
    pub active_poll: Duration,
    /// The life that a file has when the provider does not say.
    pub assumed_life: Duration,
    pub key_fingerprint: KeyFingerprint,
}

/// A transfer that was given up.
#[derive(Debug, Clone)]
pub struct TransferError {
    /// What ended the last try.
    pub last: ApiError,
    pub tries: u32,
    /// A file that reached the store but may not be used.
    pub orphan: Option<RemoteName>,
}

/// Brings files to the store; shared by whoever uploads, so that one gate sees every start.
pub struct Transfer {
    options: TransferOptions,
    files: Rc<dyn FileApi>,
    clock: Rc<dyn Clock>,
    gate: Option<Gate>,
    /// Bytes of files that are being sent and are not in the state's ledger yet.
    reserved: Cell<u64>,
}

/// Lets upload starts pass at the configured rate. Those who wait stand in one line, and only the
/// first of them asks the limiter: many waiters on one limiter fall short of its rate.
struct Gate {
    line: tokio::sync::Mutex<()>,
    limiter: DefaultDirectRateLimiter,
}

impl Gate {
    async fn pass(&self) {
        let _turn = self.line.lock().await;
        self.limiter.until_ready().await;
    }
}

impl Transfer {
    /// Makes the one transfer of a process.
    pub fn new(options: TransferOptions, files: Rc<dyn FileApi>, clock: Rc<dyn Clock>) -> Self {
        let gate = options.starts_per_second.map(|rate| Gate {
            line: tokio::sync::Mutex::new(()),
            limiter: RateLimiter::direct(Quota::per_second(rate).allow_burst(options.burst)),
        });
        Transfer {
            options,
            files,
            clock,
            gate,
            reserved: Cell::new(0),
        }
    }

    /// Counts a file that is about to be sent, until it is recorded or given up.
    pub fn reserve(&self, bytes: u64) {
        self.reserved.set(self.reserved.get() + bytes);
    }

    /// The file is in the ledger, or never will be.
    pub fn release(&self, bytes: u64) {
        let before = self.reserved.get();
        let left = before.checked_sub(bytes);
        self.reserved
            .set(left.expect("what is released was reserved"));
    }

    /// Bytes of all files under way, whoever sends them.
    pub fn reserved(&self) -> u64 {
        self.reserved.get()
    }

    /// Sends one file until it may be used, or the tries are spent.
    pub async fn send(&self, upload: &Upload) -> Result<StoredFile, TransferError> {
        let tries = RefCell::new(0_u32);
        let orphan = RefCell::new(None);
        let retries = self.options.attempts.saturating_sub(1) as usize;
        let pauses = backoff(self.options.backoff).map(jitter).take(retries);
        let sent = RetryIf::start(
            pauses,
            || {
                *tries.borrow_mut() += 1;
                self.one_try(upload, &orphan)
            },
            retry::upload_try_again,
        )
        .await;
        sent.map_err(|last| TransferError {
            last,
            tries: tries.into_inner(),
            orphan: orphan.into_inner(),
        })
    }

    async fn one_try(
        &self,
        upload: &Upload,
        orphan: &RefCell<Option<RemoteName>>,
    ) -> Result<StoredFile, ApiError> {
        if let Some(gate) = &self.gate {
            waiting(Spot::UploadGate, gate.pass()).await;
        }
        let uploaded = match self.files.upload(upload).await {
            Ok(file) => file,
            Err(error) => {
                self.follow_hint(&error).await;
                return Err(error);
            }
        };
        *orphan.borrow_mut() = Some(uploaded.name.clone());
        let active = self.until_active(uploaded).await?;
        *orphan.borrow_mut() = None;
        Ok(self.stored(upload, active))
    }

    /// Waits as long as the server asks, within our ceiling, before the next try's own pause.
    async fn follow_hint(&self, error: &ApiError) {
        let hint = match &error.next {
            Next::Throttled {
                after: Some(after), ..
            } if retry::upload_try_again(error) => *after,
            _ => return,
        };
        self.clock
            .sleep(cadence::clamped_hint(
                Some(hint),
                Duration::ZERO,
                self.options.hint_max,
            ))
            .await;
    }

    async fn until_active(&self, mut file: RemoteFile) -> Result<RemoteFile, ApiError> {
        let give_up = self.clock.now().plus(self.options.active_wait);
        loop {
            match &file.state {
                RemoteFileState::Active => return Ok(file),
                RemoteFileState::Failed => {
                    return Err(refused(format!(
                        "the provider could not process {}",
                        file.name
                    )));
                }
                RemoteFileState::Processing | RemoteFileState::Unknown(_) => {}
            }
            if self.clock.now() >= give_up {
                return Err(ApiError {
                    effect: Effect::Maybe,
                    next: Next::NotReady,
                    http_status: None,
                    message: format!("{} is still being processed", file.name),
                });
            }
            self.clock.sleep(self.options.active_poll).await;
            match self.files.file(&file.name).await {
                Ok(seen) => file = seen,
                Err(error) if matches!(error.next, Next::Transient | Next::Throttled { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn stored(&self, upload: &Upload, file: RemoteFile) -> StoredFile {
        let expires_at = file
            .expires_at
            .unwrap_or_else(|| self.clock.now().plus(self.options.assumed_life));
        StoredFile {
            name: file.name,
            uri: file.uri,
            mime: upload.mime.clone(),
            bytes: upload.bytes,
            sha256: upload.sha256.clone(),
            key_fingerprint: self.options.key_fingerprint.clone(),
            expires_at,
        }
    }
}

fn backoff(first: Duration) -> impl Iterator<Item = Duration> {
    let millis = u64::try_from(first.as_millis()).unwrap_or(u64::MAX);
    // The strategy raises its base to the power of the try; base 2 with a factor doubles.
    ExponentialBackoff::from_millis(2)
        .factor((millis / 2).max(1))
        .max_delay(BACKOFF_MAX)
}

/// The longest pause between two tries of one upload.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

fn refused(message: String) -> ApiError {
    ApiError {
        effect: Effect::Maybe,
        next: Next::Refused,
        http_status: None,
        message,
    }
}
