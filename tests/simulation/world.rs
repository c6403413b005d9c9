//! A world to live in: a folder with a fresh database, a tree, a provider, and a plan.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Actor;
use actix_rt::System;
use pagemill::actors::batch_submitter::{BatchSubmitterOptions, Prices};
use pagemill::actors::brake::Brake;
use pagemill::actors::conductor::{ConductorOptions, Mode};
use pagemill::actors::ending::ReleaseRules;
use pagemill::actors::order_desk::OrderDeskOptions;
use pagemill::actors::poller::PollerOptions;
use pagemill::actors::result_processor::{JudgeRules, ResultProcessorOptions};
use pagemill::actors::scanner::ScannerOptions;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::Close;
use pagemill::actors::state::open::StateOptions;
use pagemill::actors::uploader::UploaderOptions;
use pagemill::actors::uploader::transfer::TransferOptions;
use pagemill::decide::brake::BrakeRules;
use pagemill::decide::pace::PaceRules;
use pagemill::decide::pack::Limits;
use pagemill::decide::retry::{CreateRules, UploadRules};
use pagemill::decide::steps::RetrySteps;
use pagemill::decide::storage;
use pagemill::domain::ids::{KeyFingerprint, RunId, ScopeToken, Sha256Hex};
use pagemill::domain::layout::Layout;
use pagemill::pipeline::Plan;
use pagemill::ports::page_source::Scope;
use pagemill::prompt::{Recipe, RecipeRequest};
use serde_json::json;

use super::disk::Disk;
use super::gates::CrashAt;
use super::intended;
use super::life::{Life, Lived, Pilot, folder};
use super::ports::{Fates, Outside};
use super::watch::{self, Watch};

/// The settings that a history may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    pub chained: bool,
    pub unlock_behind_dead: bool,
    pub pages_max: u32,
    pub live_max: usize,
    pub fill_wait: Duration,
    pub max_retries: u32,
    pub releases_max: u32,
    pub budget: u64,
    pub ahead_max: u64,
    pub concurrency: usize,
    pub attempts: u32,
    pub retry_delay: Duration,
    pub verdicts_together: usize,
}

pub const HOUR: Duration = Duration::from_secs(3600);

impl Settings {
    /// Those of the crash suite: whatever can be in one batch is in one batch.
    pub fn plain() -> Self {
        Settings {
            chained: true,
            unlock_behind_dead: true,
            pages_max: 4,
            live_max: 2,
            fill_wait: HOUR,
            max_retries: 2,
            releases_max: 10,
            budget: 1 << 30,
            ahead_max: 8,
            concurrency: 4,
            attempts: 1,
            retry_delay: Duration::ZERO,
            verdicts_together: 2,
        }
    }
}

/// A database without a row, made once.
fn fresh_database() -> &'static [u8] {
    static FRESH: OnceLock<Vec<u8>> = OnceLock::new();
    FRESH.get_or_init(|| {
        let folder = folder();
        let path = folder.path().join("state.db");
        let options = StateOptions {
            path: path.clone(),
            unlock_behind_dead: true,
        };
        System::new().block_on(async {
            let state = StateActor::open(options).await.unwrap().start();
            state.send(Close {}).await.unwrap().unwrap();
        });
        std::fs::read(path).unwrap()
    })
}

/// A world.
pub struct World {
    pub outside: Rc<Outside>,
    pub settings: Settings,
    pub plan: Plan,
    database: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    pub fn new(settings: Settings, disk: Disk, fates: Box<dyn Fates>) -> Self {
        let folder = folder();
        let database = folder.path().join("state.db");
        std::fs::write(&database, fresh_database()).unwrap();
        let limits = watch::Limits {
            max_retries: settings.max_retries,
            live_max: settings.live_max,
            budget: settings.budget,
        };
        let watch = Watch::on(&database, limits);
        let plan = plan(&settings, &disk.layout);
        World {
            outside: Outside::new(disk, fates, watch),
            settings,
            plan,
            database,
            _folder: folder,
        }
    }

    pub fn database(&self) -> &Path {
        &self.database
    }

    /// One life on this world.
    pub fn live(&self, crash_at: Option<CrashAt>, pilot: &mut dyn Pilot) -> Lived {
        let life = Life {
            outside: Rc::clone(&self.outside),
            database: self.database.clone(),
            plan: self.plan.clone(),
            unlock_behind_dead: self.settings.unlock_behind_dead,
            crash_at,
            acts_max: 5_000,
        };
        life.live(pilot)
    }

    /// Everything that was seen so far and must not be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.outside.watch.faults.borrow().clone();
        faults.extend(self.outside.provider.borrow().faults.clone());
        faults.extend(self.outside.disk.borrow().faults.clone());
        faults
    }
}

const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {"text": {"type": "string"}},
  "required": ["text"],
  "additionalProperties": false
}"#;

fn recipe(layout: &Layout) -> Arc<Recipe> {
    static RECIPE: OnceLock<Arc<Recipe>> = OnceLock::new();
    let recipe = RECIPE.get_or_init(|| {
        let generation_config = json!({"temperature": 0.1});
        let request = RecipeRequest {
            prompt_name: "page",
            template_file: "v1.jinja",
            context_file: Some("context.jinja"),
            schema_file: Path::new("schema.json"),
            layout,
            model: "gemini-test",
            generation_config: &generation_config,
        };
        let prompt = "Read {{ key }}: {{ label.title }}.{% if previous_context %} Before: \
                      {{ previous_context }}{% endif %}";
        let context = Some("{{ previous.text }}".to_owned());
        let assembled = Recipe::assemble(&request, prompt.to_owned(), context, SCHEMA.to_owned());
        Arc::new(assembled.unwrap())
    });
    Arc::clone(recipe)
}

/// A brake that a few pages cannot touch: no pilot, and limits beyond them. Halts come from the account
/// alone.
const BRAKE: Brake = Brake {
    rules: BrakeRules {
        identical_max: 0,
        barren_max: 0,
        accept_percent_min: 0,
        window: 0,
        pilot_pages: 0,
        pilot_percent_min: 0,
    },
    pace: PaceRules {
        pages_max: u32::MAX,
        pages_min: 1,
        clean_batches: 3,
        tokens_max: None,
        tokens_min: 0,
        slow_after: Duration::from_secs(240 * 3600),
        stop_after: Duration::from_secs(360 * 3600),
    },
};

fn plan(settings: &Settings, layout: &Layout) -> Plan {
    let recipe = recipe(layout);
    let validator = Arc::clone(&recipe.validator);
    let run = RunId::from("run-1");
    let scope = ScopeToken::from("scope-1");
    let key_fingerprint = KeyFingerprint::from("fingerprint");
    let life_min = 26 * HOUR;
    let release = ReleaseRules {
        releases_max: settings.releases_max,
        life_min,
        expired_pause: Duration::from_secs(600),
    };
    Plan {
        order_desk: OrderDeskOptions {
            low_priority_max: Some(Duration::from_secs(24 * 3600)),
        },
        begins_paused: false,
        meter: None,
        upkeep: None,
        run: run.clone(),
        run_label: None,
        scope: scope.clone(),
        config_snapshot: "{}".into(),
        config_sha256: Sha256Hex::from("0".repeat(64)),
        layout: layout.clone(),
        chained: settings.chained,
        recipe: Arc::clone(&recipe),
        validator: Arc::clone(&validator),
        prices: Prices {
            price: None,
            tokens_per_image: 1_120,
            output_tokens_max: None,
            steps: RetrySteps {
                tokens_percent: 200,
                tokens_max: 65_536,
                temperature_step: 20,
            },
        },
        conductor: ConductorOptions {
            scope: scope.clone(),
            chained: settings.chained,
            mode: Mode::UntilDone,
            // The driver sends the time by hand.
            beat: 24 * HOUR,
            scan_interval: HOUR,
            unavailable_max: 24 * HOUR,
            pages_max: None,
        },
        scanner: ScannerOptions {
            window: None,
            run: run.clone(),
            scope: Scope {
                levels: vec![None, None],
            },
            token: scope.clone(),
            layout: layout.clone(),
            skip_dead: settings.unlock_behind_dead,
            chained: settings.chained,
            validator,
        },
        transfer: TransferOptions {
            attempts: settings.attempts,
            backoff: Duration::from_millis(1),
            hint_max: Duration::from_secs(300),
            starts_per_second: None,
            burst: NonZeroU32::MIN,
            active_wait: Duration::from_secs(300),
            active_poll: Duration::from_secs(1),
            assumed_life: 48 * HOUR,
            key_fingerprint: key_fingerprint.clone(),
        },
        uploader: UploaderOptions {
            run: run.clone(),
            scope: scope.clone(),
            chained: settings.chained,
            key_fingerprint: key_fingerprint.clone(),
            display_name_prefix: "pagemill".into(),
            concurrency: settings.concurrency,
            ahead_max: settings.ahead_max,
            storage_budget_bytes: settings.budget,
            life_min,
            rules: UploadRules {
                cycles_max: 3,
                cycle_delay: Duration::from_secs(30),
                cycle_delay_max: HOUR,
            },
            deletions_max: 4,
            pages_max: None,
            waits_for_tick: false,
        },
        submitter: BatchSubmitterOptions {
            run,
            scope,
            chained: settings.chained,
            key_fingerprint,
            display_name_prefix: "pagemill".into(),
            file_name_prefix: "pagemill".into(),
            limits: Limits {
                pages_max: settings.pages_max,
                bytes_max: storage::lines_bytes_max(settings.budget).min(1 << 20),
                tokens_max: None,
            },
            live_max: settings.live_max,
            fill_wait: settings.fill_wait,
            storage_budget_bytes: settings.budget,
            life_min,
            lines_life_min: life_min,
            create: CreateRules {
                delay_min: Duration::from_secs(30),
                delay_max: HOUR,
                missing_max: 3,
            },
            settle: intended::SETTLE,
            lookups: intended::LOOKUPS,
            release,
            brake: BRAKE,
            submissions_max: 4,
        },
        poller: PollerOptions {
            interval: Duration::from_secs(30),
            interval_max: Duration::from_secs(300),
            polls_max: 4,
            results_wait: Duration::from_secs(1800),
            slow_warn: 24 * HOUR,
            late_interval: HOUR,
            release,
            brake: BRAKE,
        },
        processor: ResultProcessorOptions {
            rules: JudgeRules {
                max_retries: settings.max_retries,
                retry_delay: settings.retry_delay,
                stored_response_bytes_max: 1 << 16,
                threads: 1,
                refuse_empty: true,
                echo_field: None,
            },
            collections_max: 2,
            verdicts_together: settings.verdicts_together,
            results_wait: Duration::from_secs(1800),
            again_after: Duration::from_secs(30),
            keep_remote: false,
            // An answer about an image that was replaced is what its image says it is.
            compare_images: false,
            uncollected_alarm: 6 * HOUR,
            release,
            brake: BRAKE,
            price: None,
        },
        alerter: None,
    }
}
