//! A plan from the settings: which option of which stage comes from where.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;

use super::period_report::Shape;
use super::upkeep::UpkeepPlan;
use super::{Plan, World, alarms};
use crate::actors::batch_submitter::{BatchSubmitterOptions, Prices};
use crate::actors::blocking::sha256;
use crate::actors::brake::Brake;
use crate::actors::conductor::{ConductorOptions, Mode};
use crate::actors::ending::ReleaseRules;
use crate::actors::order_desk::{Clerk, OrderDeskOptions};
use crate::actors::poller::PollerOptions;
use crate::actors::result_processor::{JudgeRules, ResultProcessorOptions};
use crate::actors::scanner::ScannerOptions;
use crate::actors::state::StateActor;
use crate::actors::uploader::UploaderOptions;
use crate::actors::uploader::transfer::TransferOptions;
use crate::actors::wish::WishDesk;
use crate::adapters::filesystem::{Filesystem, FilesystemOptions};
use crate::adapters::gemini::{CHUNK_BYTES, GeminiClient, GeminiOptions, OptionsError, SecretText};
use crate::adapters::os_entropy::OsEntropy;
use crate::adapters::system_clock::SystemClock;
use crate::adapters::webhook::WebhookFault;
use crate::decide::brake::BrakeRules;
use crate::decide::cost::{Date, Price};
use crate::decide::pace::PaceRules;
use crate::decide::pack::Limits;
use crate::decide::report_due::ReportRules;
use crate::decide::retry::{CreateRules, UploadRules};
use crate::decide::steps::RetrySteps;
use crate::decide::storage;
use crate::domain::ids::{KeyFingerprint, RunId, ScopeToken};
use crate::domain::time::Timestamp;
use crate::domain::window::Window;
use crate::ports::batch_api::BatchApi;
use crate::ports::entropy::Entropy;
use crate::prompt::{PromptError, Recipe, RecipeRequest, Registry};
use crate::report::Format;
use crate::settings::{Context, OnDeadPredecessor, Settings, SettingsError, prices};

/// What the operator asks of this run beside the settings.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// An id to continue, or to begin under; a fresh one when absent.
    pub run: Option<RunId>,
    pub label: Option<String>,
    pub mode: Option<Mode>,
    /// The most pages this run may claim.
    pub pages_max: Option<u64>,
    /// Which labels belong to it, by when they arrived; all without one.
    pub window: Option<Window>,
}

/// Settings that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Client(#[from] OptionsError),
    #[error(transparent)]
    Webhook(#[from] WebhookFault),
    #[error(
        "there is no API key: set GEMINI_API_KEY (or GOOGLE_API_KEY), or put it into .env beside the configuration"
    )]
    NoKey,
}

/// Looks at the files of the settings and builds the recipe.
pub fn recipe(settings: &Settings) -> Result<Recipe, PromptError> {
    let registry = Registry::new(&settings.prompt.registry_dir);
    let recipe = registry.load(&RecipeRequest {
        prompt_name: &settings.prompt.name,
        template_file: &settings.prompt.template_file,
        context_file: settings.prompt.context_file.as_deref(),
        schema_file: &settings.schema_file,
        layout: &settings.paths.layout,
        model: &settings.model.name,
        generation_config: &settings.model.generation_config,
    })?;
    if let Some(field) = &settings.results.echo_field {
        recipe.must_echo(field, &settings.schema_file)?;
    }
    Ok(recipe)
}

/// The price of the model on the day of `now`, if the price list knows one.
pub fn price(settings: &Settings, now: Timestamp) -> Result<Option<Price>, SettingsError> {
    let table = prices::load(settings.model.prices_file.as_deref())?;
    Ok(Date::of(now).and_then(|date| table.price(&settings.model.name, date)))
}

/// The folders of the settings, as the stages see them.
pub fn filesystem(settings: &Settings) -> Filesystem {
    let paths = &settings.paths;
    Filesystem::new(FilesystemOptions {
        label_dir: paths.label_source_dir.clone(),
        image_dir: paths.image_source_dir.clone(),
        output_dir: paths.output_dir.clone(),
        work_dir: paths.work_dir.clone(),
        layout: paths.layout.clone(),
        image_bytes_max: settings.files.image_bytes_max,
        line_bytes_max: settings.results.line_bytes_max,
        writers: settings.results.writers,
        free_bytes_min: paths.free_bytes_min,
    })
}

/// The pause before the first resume of a broken transfer.
const RESUME_PAUSE: Duration = Duration::from_millis(500);
/// The longest JSON answer that is read; a job with its results inside is the longest there is.
const BODY_BYTES_MAX: usize = 256 << 20;

/// The provider over HTTP. Opens no connection.
pub fn client(settings: &Settings) -> Result<GeminiClient, PlanError> {
    let key = settings.api_key.as_ref().ok_or(PlanError::NoKey)?;
    Ok(GeminiClient::new(GeminiOptions {
        base_url: settings.api.base_url.clone(),
        version: settings.api.version.clone(),
        api_key: SecretText::new(key.expose()),
        connect_timeout: settings.api.connect_timeout,
        request_timeout: settings.api.request_timeout,
        chunk_bytes: CHUNK_BYTES,
        body_bytes_max: BODY_BYTES_MAX,
        resume_pause: RESUME_PAUSE,
    })?)
}

/// What the key and the project of these settings are known by.
pub fn fingerprint(settings: &Settings) -> KeyFingerprint {
    let project = settings.api.project.as_deref();
    let key = settings.api_key.as_ref();
    key.map_or_else(
        || KeyFingerprint::from("none"),
        |key| key.fingerprint(project),
    )
}

/// The real world: the provider over HTTP, the folders, the clock, randomness.
pub fn world(settings: &Settings) -> Result<World, PlanError> {
    let client = Rc::new(client(settings)?);
    let tree = Rc::new(filesystem(settings));
    Ok(World {
        files: client.clone(),
        batches: client,
        source: tree.clone(),
        sink: tree,
        clock: Rc::new(SystemClock),
        entropy: Rc::new(OsEntropy),
        channels: alarms::channels(settings)?,
    })
}

/// What several stages are told alike.
struct Shared {
    run: RunId,
    scope: ScopeToken,
    chained: bool,
    key_fingerprint: KeyFingerprint,
    price: Option<Price>,
}

/// How long a file in processing is left alone between two looks.
const ACTIVE_POLL: Duration = Duration::from_secs(2);
/// The life of a remote file when the provider does not say.
const ASSUMED_LIFE: Duration = Duration::from_secs(48 * 3600);
/// The pause between two beats of the root.
const BEAT: Duration = Duration::from_millis(250);
/// The longest pause between two upload cycles of one page.
const CYCLE_DELAY_MAX: Duration = Duration::from_secs(3600);
/// The shortest of them.
const CYCLE_DELAY: Duration = Duration::from_secs(10);
/// The longest pause between two looks at a job that cannot be looked at.
const POLL_PAUSE_MAX: Duration = Duration::from_secs(600);
/// Creates after which a batch whose lines file the provider does not find is given up.
const CREATES_WITHOUT_FILE_MAX: u32 = 3;
/// Submissions that are built and sent side by side.
const SUBMISSIONS_MAX: usize = 4;
/// The pause after a collection that our disk or the provider stopped.
const COLLECT_AGAIN: Duration = Duration::from_secs(5);

impl Plan {
    /// Makes the plan of one run.
    pub fn from_settings(settings: &Settings, request: RunRequest) -> Result<Plan, PlanError> {
        use crate::ports::clock::Clock;
        let now = SystemClock.now();
        let recipe = Arc::new(recipe(settings)?);
        let shared = Shared {
            run: request
                .run
                .clone()
                .unwrap_or_else(|| RunId::from(OsEntropy.unique_id(now))),
            scope: windowed(settings.scope_token(), request.window.as_ref()),
            chained: settings.execution.context == Context::Chain,
            key_fingerprint: fingerprint(settings),
            price: price(settings, now)?,
        };
        let snapshot = settings.snapshot_yaml();
        Ok(Plan {
            run: shared.run.clone(),
            run_label: request.label.clone(),
            scope: shared.scope.clone(),
            config_sha256: sha256(snapshot.as_bytes()),
            config_snapshot: snapshot,
            layout: settings.paths.layout.clone(),
            chained: shared.chained,
            validator: Arc::clone(&recipe.validator),
            prices: prices_of_lines(settings, shared.price.clone()),
            conductor: conductor(settings, &shared, &request),
            scanner: scanner(settings, &shared, &recipe, request.window.clone()),
            transfer: transfer(settings, &shared),
            uploader: uploader(settings, &shared, &request),
            submitter: submitter(settings, &shared),
            poller: poller(settings),
            processor: processor(settings, &shared),
            alerter: Some(alarms::options(settings, &shared.run, &shared.scope)),
            order_desk: OrderDeskOptions {
                low_priority_max: settings.execution.low_priority_max,
            },
            begins_paused: !settings.execution.recovers_by_itself,
            upkeep: Some(upkeep(settings)),
            meter: None,
            recipe,
        })
    }
}

/// What request lines are measured and changed by.
pub fn prices_of_lines(settings: &Settings, price: Option<Price>) -> Prices {
    let execution = &settings.execution;
    Prices {
        price,
        tokens_per_image: settings.batch.tokens_per_image,
        output_tokens_max: settings.model.max_output_tokens(),
        steps: RetrySteps {
            tokens_percent: execution.truncated_tokens_percent,
            tokens_max: execution.truncated_tokens_max,
            temperature_step: execution.refused_temperature_step,
        },
    }
}

/// What is done beside the work.
pub fn upkeep(settings: &Settings) -> UpkeepPlan {
    let report = &settings.report;
    let formats = report.formats.iter();
    UpkeepPlan {
        database: settings.state.sqlite_file.clone(),
        archive: Rc::new(filesystem(settings)),
        reports: ReportRules {
            daily: report.daily,
            weekly: report.weekly,
            zone: report.zone.clone(),
        },
        formats: formats.filter_map(|word| Format::parse(word)).collect(),
        shape: Shape::of(settings),
        compress_after: (!settings.compress_after.is_zero()).then_some(settings.compress_after),
        compress_exports: settings.compress_exports,
    }
}

fn conductor(settings: &Settings, shared: &Shared, request: &RunRequest) -> ConductorOptions {
    ConductorOptions {
        scope: shared.scope.clone(),
        chained: shared.chained,
        mode: request.mode.unwrap_or(Mode::UntilDone),
        beat: BEAT,
        scan_interval: settings.execution.scan_interval,
        unavailable_max: settings.execution.provider_unavailable,
        pages_max: request.pages_max,
    }
}

/// A run with a window works on the pages that were booked to it and on no others.
pub fn windowed(scope: ScopeToken, window: Option<&Window>) -> ScopeToken {
    match window {
        None => scope,
        Some(window) => {
            let both = format!("{scope} {} {}", window.since, window.until);
            ScopeToken::new(&sha256(both.as_bytes()).as_str()[..scope.as_str().len()])
        }
    }
}

fn scanner(
    settings: &Settings,
    shared: &Shared,
    recipe: &Recipe,
    window: Option<Window>,
) -> ScannerOptions {
    ScannerOptions {
        window,
        run: shared.run.clone(),
        scope: settings.scope(),
        token: shared.scope.clone(),
        layout: settings.paths.layout.clone(),
        skip_dead: skip_dead(settings),
        chained: shared.chained,
        validator: Arc::clone(&recipe.validator),
    }
}

/// Whether a page may run without the context of a dead predecessor.
pub fn skip_dead(settings: &Settings) -> bool {
    settings.execution.on_dead_predecessor == OnDeadPredecessor::SkipContext
}

fn transfer(settings: &Settings, shared: &Shared) -> TransferOptions {
    let files = &settings.files;
    TransferOptions {
        attempts: files.upload_retry_attempts,
        backoff: files.upload_retry_backoff,
        hint_max: files.retry_hint_max,
        starts_per_second: NonZeroU32::new(files.uploads_per_second),
        burst: NonZeroU32::new(files.uploads_burst).unwrap_or(NonZeroU32::MIN),
        active_wait: files.active_wait,
        active_poll: ACTIVE_POLL,
        assumed_life: ASSUMED_LIFE,
        key_fingerprint: shared.key_fingerprint.clone(),
    }
}

fn uploader(settings: &Settings, shared: &Shared, request: &RunRequest) -> UploaderOptions {
    let files = &settings.files;
    let ahead = files
        .upload_ahead_batches
        .saturating_mul(settings.execution.batch_size_limit);
    UploaderOptions {
        run: shared.run.clone(),
        scope: shared.scope.clone(),
        chained: shared.chained,
        key_fingerprint: shared.key_fingerprint.clone(),
        display_name_prefix: settings.batch.display_name_prefix.clone(),
        concurrency: files.upload_concurrency,
        ahead_max: ahead.max(1),
        storage_budget_bytes: files.storage_budget_bytes,
        life_min: files.min_life,
        rules: UploadRules {
            cycles_max: files.upload_cycles_max,
            cycle_delay: CYCLE_DELAY,
            cycle_delay_max: CYCLE_DELAY_MAX,
        },
        deletions_max: files.deletes_in_flight,
        pages_max: request.pages_max,
        waits_for_tick: true,
    }
}

fn submitter(settings: &Settings, shared: &Shared) -> BatchSubmitterOptions {
    let batch = &settings.batch;
    BatchSubmitterOptions {
        run: shared.run.clone(),
        scope: shared.scope.clone(),
        chained: shared.chained,
        key_fingerprint: shared.key_fingerprint.clone(),
        display_name_prefix: batch.display_name_prefix.clone(),
        file_name_prefix: batch.display_name_prefix.clone(),
        limits: Limits {
            pages_max: u32::try_from(settings.execution.batch_size_limit).unwrap_or(u32::MAX),
            bytes_max: batch.bytes_max.min(storage::lines_bytes_max(
                settings.files.storage_budget_bytes,
            )),
            tokens_max: batch.tokens_max,
        },
        live_max: usize::try_from(settings.execution.max_concurrent_batches).unwrap_or(usize::MAX),
        fill_wait: batch.fill_wait,
        storage_budget_bytes: settings.files.storage_budget_bytes,
        life_min: settings.files.min_life,
        lines_life_min: settings.files.min_life,
        create: CreateRules {
            delay_min: batch.create_delay_min,
            delay_max: batch.create_delay_max,
            missing_max: CREATES_WITHOUT_FILE_MAX,
        },
        settle: batch.in_doubt_settle,
        lookups: batch.in_doubt_lookups,
        release: release(settings),
        brake: brake(settings),
        submissions_max: SUBMISSIONS_MAX,
    }
}

fn poller(settings: &Settings) -> PollerOptions {
    let batch = &settings.batch;
    PollerOptions {
        interval: batch.poll_interval,
        interval_max: POLL_PAUSE_MAX.max(batch.poll_interval),
        polls_max: batch.polls_in_flight,
        results_wait: batch.results_wait,
        slow_warn: batch.slow_warn,
        late_interval: batch.late_look,
        release: release(settings),
        brake: brake(settings),
    }
}

/// Who carries out orders where no run is under way. Without a key the provider is not asked for
/// anything: what needs it waits for the next run.
pub fn clerk(settings: &Settings, state: Addr<StateActor>) -> Clerk {
    let batches = client(settings).ok().map(|client| {
        let client: Rc<dyn BatchApi> = Rc::new(client);
        client
    });
    Clerk {
        wishes: WishDesk {
            state,
            batches,
            clock: Rc::new(SystemClock),
            release: release(settings),
            brake: brake(settings),
        },
        sink: Rc::new(filesystem(settings)),
        beside_stages: false,
    }
}

fn release(settings: &Settings) -> ReleaseRules {
    ReleaseRules {
        releases_max: settings.execution.max_releases,
        life_min: settings.files.min_life,
        expired_pause: settings.batch.expired_pause,
    }
}

/// What stops or slows submission.
pub fn brake(settings: &Settings) -> Brake {
    let (batch, breaker) = (&settings.batch, &settings.breaker);
    let pages_max = u32::try_from(settings.execution.batch_size_limit).unwrap_or(u32::MAX);
    Brake {
        rules: BrakeRules {
            identical_max: breaker.identical_failures,
            barren_max: breaker.nothing_accepted,
            accept_percent_min: breaker.accept_percent,
            window: breaker.window,
            pilot_pages: breaker.pilot_pages,
            pilot_percent_min: breaker.pilot_accept_percent,
        },
        pace: PaceRules {
            pages_max,
            pages_min: batch.size_min.min(pages_max),
            clean_batches: batch.grow_after,
            tokens_max: batch.enqueued_tokens_max,
            tokens_min: 2 * u64::from(pages_max) * batch.tokens_per_image,
            slow_after: batch.slow_after,
            stop_after: batch.stop_after,
        },
    }
}

/// What answers are judged by, beside the schema.
pub fn judge_rules(settings: &Settings) -> JudgeRules {
    let results = &settings.results;
    JudgeRules {
        max_retries: settings.execution.max_retries,
        retry_delay: settings.execution.retry_delay,
        stored_response_bytes_max: usize::try_from(results.stored_response_bytes_max)
            .unwrap_or(usize::MAX),
        refuse_empty: results.refuse_empty,
        echo_field: results.echo_field.clone(),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}

fn processor(settings: &Settings, shared: &Shared) -> ResultProcessorOptions {
    let results = &settings.results;
    ResultProcessorOptions {
        rules: judge_rules(settings),
        collections_max: results.downloads_in_flight,
        verdicts_together: results.verdicts_per_commit,
        results_wait: settings.batch.results_lost,
        again_after: COLLECT_AGAIN,
        keep_remote: settings.batch.keep_remote_jobs,
        compare_images: results.compare_images,
        uncollected_alarm: results.uncollected_alarm,
        release: release(settings),
        brake: brake(settings),
        price: shared.price.clone(),
    }
}
