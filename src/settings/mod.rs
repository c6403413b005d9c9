//! What the operator wants, from defaults, file, environment and flags: checked, total, typed.
//!
//! [`load`] reads everything and reports every fault at once. `raw` is what was typed, [`Settings`]
//! is what is meant; [`table`] is the only list of paths, defaults and ranges. Whether the folders
//! and files exist is asked by [`Settings::check_environment`], for much can be done without them.
//!
//! **Invariant:** the API key is in [`Settings::api_key`] and nowhere else; it is in no message,
//! no snapshot and not in the process's own environment unless it was there before.

mod alerts;
mod build;
pub mod bytes;
mod environment;
mod fault;
mod generation;
pub mod keys;
mod load;
pub mod prices;
mod raw;
mod schema;
mod scope;
mod secret;
mod snapshot;
pub mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use alerts::{Alerts, Webhook};
pub use fault::{Fault, SettingsError};
pub use load::{Loaded, Sources, config_file, load};
pub use raw::Origin;
pub use schema::json_schema;
pub use secret::{ApiKey, Hidden};

use crate::domain::ids::ScopeToken;
use crate::domain::layout::Layout;
use crate::domain::period::Zone;
use crate::ports::page_source::Scope;

/// Every setting, checked. Paths are absolute if the working folder was.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub paths: Paths,
    pub execution: Execution,
    pub model: Model,
    pub prompt: Prompt,
    pub schema_file: PathBuf,
    pub batch: Batch,
    pub breaker: Breaker,
    pub files: Files,
    pub results: Results,
    pub alerts: Alerts,
    pub report: Report,
    /// The age of a closed batch at which its raw results are compressed; 0 means never.
    pub compress_after: Duration,
    pub compress_exports: bool,
    pub state: State,
    pub api: Api,
    /// Time that work in flight has after a stop signal.
    pub shutdown_grace: Duration,
    pub log: Log,
    /// From `GEMINI_API_KEY` or `GOOGLE_API_KEY`; much can be done without.
    pub api_key: Option<ApiKey>,
    scope: Scope,
    /// What was given, for the snapshot.
    effective: BTreeMap<String, serde_yaml::Value>,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub label_source_dir: PathBuf,
    pub image_source_dir: PathBuf,
    pub output_dir: PathBuf,
    pub work_dir: PathBuf,
    pub layout: Layout,
    /// Free space that is left on the disk of the work folder.
    pub free_bytes_min: u64,
}

/// Whether a page sees the result of the page before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    Chain,
    None,
}

/// What becomes of a page whose predecessor is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDeadPredecessor {
    SkipContext,
    Block,
}

/// How pages are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    pub max_retries: u32,
    /// Pages.
    pub batch_size_limit: u64,
    pub max_concurrent_batches: u64,
    pub context: Context,
    pub on_dead_predecessor: OnDeadPredecessor,
    pub dry_run: bool,
    pub scan_interval: Duration,
    pub max_releases: u32,
    pub provider_unavailable: Duration,
    pub retry_delay: Duration,
    pub truncated_tokens_percent: u32,
    pub truncated_tokens_max: u64,
    /// In hundredths.
    pub refused_temperature_step: u32,
    /// None: for ever.
    pub low_priority_max: Option<Duration>,
    /// Whether a run goes on by itself when it starts.
    pub recovers_by_itself: bool,
}

/// The model and what it is told beside the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Without `models/`.
    pub name: String,
    /// An object with names in camelCase.
    pub generation_config: serde_json::Value,
    /// The built-in price list when absent.
    pub prices_file: Option<PathBuf>,
}

impl Model {
    /// The most tokens of an answer, thoughts included.
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.generation_config.get("maxOutputTokens")?.as_u64()
    }
}

/// Which prompt is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub registry_dir: PathBuf,
    pub name: String,
    pub template_file: String,
    /// Absent when pages stand alone.
    pub context_file: Option<String>,
}

/// How batches are made and watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub poll_interval: Duration,
    pub display_name_prefix: String,
    pub fill_wait: Duration,
    pub bytes_max: u64,
    pub tokens_max: Option<u64>,
    pub tokens_per_image: u64,
    pub in_doubt_settle: Duration,
    pub in_doubt_lookups: u32,
    pub create_delay_min: Duration,
    pub create_delay_max: Duration,
    pub polls_in_flight: usize,
    pub results_wait: Duration,
    pub results_lost: Duration,
    pub keep_remote_jobs: bool,
    pub slow_warn: Duration,
    pub slow_after: Duration,
    pub stop_after: Duration,
    pub expired_pause: Duration,
    pub size_min: u32,
    pub grow_after: u32,
    pub enqueued_tokens_max: Option<u64>,
    pub late_look: Duration,
}

/// When submission stops by itself. A limit of 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    pub identical_failures: u64,
    pub nothing_accepted: u64,
    pub accept_percent: u64,
    pub window: u64,
    pub pilot_pages: u32,
    pub pilot_accept_percent: u64,
}

/// How images are brought to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub upload_retry_attempts: u32,
    pub upload_retry_backoff: Duration,
    pub upload_cycles_max: u32,
    pub upload_concurrency: usize,
    /// 0: no limit.
    pub uploads_per_second: u32,
    pub uploads_burst: u32,
    pub storage_budget_bytes: u64,
    pub image_bytes_max: u64,
    pub min_life: Duration,
    pub upload_ahead_batches: u64,
    pub retry_hint_max: Duration,
    pub active_wait: Duration,
    pub deletes_in_flight: usize,
}

/// How results are taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    pub line_bytes_max: u64,
    pub stored_response_bytes_max: u64,
    pub writers: usize,
    pub verdicts_per_commit: usize,
    pub downloads_in_flight: usize,
    pub refuse_empty: bool,
    pub echo_field: Option<String>,
    pub compare_images: bool,
    pub uncollected_alarm: Duration,
}

/// Reports that are written by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub daily: bool,
    pub weekly: bool,
    pub formats: Vec<&'static str>,
    pub zone: Zone,
}

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// As it was given.
    pub url: String,
    pub sqlite_file: PathBuf,
}

/// How the provider is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Without a slash at its end.
    pub base_url: String,
    pub version: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub project: Option<String>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Human,
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
    /// How long the database may take before it is logged; absent: never.
    pub slow_query: Option<Duration>,
}

impl Settings {
    /// The part of the tree that the filters leave.
    pub fn scope(&self) -> Scope {
        self.scope.clone()
    }

    /// The short name of [`Settings::scope`].
    pub fn scope_token(&self) -> ScopeToken {
        scope::token(&self.paths.layout, &self.scope)
    }

    /// What is allowed but has cost others money or time.
    pub fn warnings(&self) -> Vec<Fault> {
        let empty = serde_json::Map::new();
        let config = self.model.generation_config.as_object().unwrap_or(&empty);
        let mut warnings = generation::warnings(config);
        if self.api.base_url.starts_with("http://") && !build::is_loopback(&self.api.base_url) {
            warnings.push(Fault::new(
                "api.base_url",
                "sends the API key over the network unencrypted",
                "use https:// unless this is a rehearsal with a made-up key",
            ));
        }
        warnings.extend(self.alerts.warning());
        warnings
    }
}
