//! One world a test: a temporary folder, a real SQLite file, a clock that stands still, a fake
//! provider, a tree in memory, and any of the real stages between recorded neighbors.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use pagemill::actors::activity::Root;
use pagemill::actors::batch_submitter::{BatchSubmitterOptions, Prices};
use pagemill::actors::brake::Brake;
use pagemill::actors::conductor::{ConductorOptions, Mode};
use pagemill::actors::ending::ReleaseRules;
use pagemill::actors::hint::{Contact, StageGone, Tick, Trouble};
use pagemill::actors::order_desk::OrderDeskOptions;
use pagemill::actors::poller::PollerOptions;
use pagemill::actors::result_processor::{JudgeRules, ResultProcessorOptions};
use pagemill::actors::scanner::ScannerOptions;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::*;
use pagemill::actors::state::open::StateOptions;
use pagemill::actors::uploader::transfer::{Transfer, TransferOptions};
use pagemill::actors::uploader::{UploaderOptions, UploaderPorts};
use pagemill::decide::brake::BrakeRules;
use pagemill::decide::pace::PaceRules;
use pagemill::decide::pack::Limits;
use pagemill::decide::retry::{CreateRules, UploadRules};
use pagemill::decide::steps::RetrySteps;
use pagemill::domain::ids::*;
use pagemill::domain::layout::Layout;
use pagemill::domain::page::{PageEvent, PageStage, StoredImage};
use pagemill::domain::time::Timestamp;
use pagemill::pipeline::{Plan, World};
use pagemill::ports::clock::Clock;
use pagemill::ports::entropy::Entropy;
use pagemill::ports::page_source::{PageSource, Scope};
use pagemill::prompt::{Recipe, RecipeRequest};
use serde_json::json;

use super::fake_provider::FakeProvider;
use super::manual_clock::ManualClock;
use super::memory_tree::MemoryTree;
use super::probe::Probe;
use super::state_world::{ask, beside};

/// Ids in order, and no jitter.
#[derive(Default)]
pub struct CountingEntropy(Cell<u64>);

impl Entropy for CountingEntropy {
    fn unique_id(&self, _: Timestamp) -> String {
        self.0.set(self.0.get() + 1);
        format!("00000000-0000-7000-8000-{:012}", self.0.get())
    }

    fn fraction(&self) -> f64 {
        0.5
    }
}

/// A world of one's own.
pub struct Sandbox {
    pub folder: tempfile::TempDir,
    pub clock: Rc<ManualClock>,
    pub provider: Rc<FakeProvider>,
    pub tree: Rc<MemoryTree>,
    pub entropy: Rc<CountingEntropy>,
    pub state: Addr<StateActor>,
    pub plan: Plan,
    pub trouble: Addr<Probe<Trouble>>,
    pub contact: Addr<Probe<Contact>>,
    pub gone: Addr<Probe<StageGone>>,
    at_work: Rc<Cell<usize>>,
}

pub const HOUR: Duration = Duration::from_secs(3600);

/// How released pages are treated here.
pub const RELEASE: ReleaseRules = ReleaseRules {
    releases_max: 10,
    life_min: Duration::from_secs(26 * 3600),
    expired_pause: Duration::from_secs(600),
};

/// A brake that no test touches by accident: no pilot, and limits beyond a few pages.
pub const BRAKE: Brake = Brake {
    rules: BrakeRules {
        identical_max: 100,
        barren_max: 200,
        accept_percent_min: 5,
        window: 1_000,
        pilot_pages: 0,
        pilot_percent_min: 10,
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

impl Sandbox {
    /// A fresh world.
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::on(folder).await
    }

    /// A world on a folder that an earlier one left.
    pub async fn on(folder: tempfile::TempDir) -> Self {
        let clock = Rc::new(ManualClock::new());
        let tree = Rc::new(MemoryTree::new(folder.path().to_owned()));
        let state = StateActor::open(StateOptions {
            path: folder.path().join("state.db"),
            unlock_behind_dead: true,
        })
        .await
        .unwrap()
        .start();
        let plan = plan(&tree);
        Sandbox {
            provider: Rc::new(FakeProvider::new(Rc::clone(&clock))),
            entropy: Rc::default(),
            trouble: Probe::start_new(),
            contact: Probe::start_new(),
            gone: Probe::start_new(),
            at_work: Rc::default(),
            folder,
            clock,
            tree,
            state,
            plan,
        }
    }

    /// The world after the end of a process: what is on disk and what the provider has is still
    /// there, and nothing else is. Whatever was started on this sandbox must be gone.
    pub async fn reopened(self) -> Self {
        self.ask(Close {}).await.unwrap();
        self.on_same_folder().await
    }

    /// The same after a run, which closed the state itself.
    pub async fn on_same_folder(self) -> Self {
        let Sandbox {
            folder,
            clock,
            provider,
            tree,
            entropy,
            state: _,
            plan,
            trouble: _,
            contact: _,
            gone: _,
            at_work: _,
        } = self;
        let fresh = Self::on(folder).await;
        Sandbox {
            clock,
            provider,
            tree,
            entropy,
            plan,
            ..fresh
        }
    }

    /// What a question of one text column gives, asked beside the state.
    pub async fn sql(&self, question: &str) -> Vec<String> {
        let db = beside(&self.folder.path().join("state.db")).await;
        ask(&db, question).await
    }

    /// Changes rows beside the state, as no stage does.
    pub async fn execute(&self, sql: &str) {
        use sea_orm::ConnectionTrait;
        let db = beside(&self.folder.path().join("state.db")).await;
        db.execute_unprepared(sql).await.unwrap();
    }

    /// The line to a root that only remembers.
    pub fn root(&self) -> Root {
        Root {
            gone: self.gone.clone().recipient(),
            trouble: self.trouble.clone().recipient(),
            contact: self.contact.clone().recipient(),
            at_work: Rc::clone(&self.at_work),
        }
    }

    /// The ports of this world.
    pub fn world(&self) -> World {
        World {
            files: self.provider.clone(),
            batches: self.provider.clone(),
            source: self.tree.clone(),
            sink: self.tree.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            channels: Vec::new(),
        }
    }

    pub fn transfer(&self) -> Rc<Transfer> {
        let clock: Rc<dyn Clock> = self.clock.clone();
        Rc::new(Transfer::new(
            self.plan.transfer.clone(),
            self.provider.clone(),
            clock,
        ))
    }

    pub fn uploader_ports(&self) -> UploaderPorts {
        UploaderPorts {
            source: self.tree.clone(),
            files: self.provider.clone(),
            batches: self.provider.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            transfer: self.transfer(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn tick(&self) -> Tick {
        Tick {
            now: self.now(),
            more_may_come: false,
        }
    }

    /// Asks the state, and expects an answer.
    pub async fn ask<M>(&self, message: M) -> M::Result
    where
        M: Message + Send + 'static,
        M::Result: Send,
        StateActor: Handler<M>,
    {
        self.state
            .send(message)
            .await
            .expect("the state lives as long as its test")
    }

    /// Opens the run that everything is recorded under.
    pub async fn start_run(&self) {
        let recipe = &self.plan.recipe;
        self.ask(StartRun {
            run: self.plan.run.clone(),
            label: None,
            recipe: RecipeRow {
                hash: recipe.hash.clone(),
                prompt_name: recipe.prompt_name.clone(),
                prompt_template: recipe.prompt_template.clone(),
                context_template: recipe.context_template.clone(),
                schema: recipe.schema_text.clone(),
                model: recipe.model.clone(),
                generation_config: recipe.generation_config.to_string(),
            },
            window: None,
            scope: self.plan.scope.clone(),
            config_snapshot: "{}".into(),
            config_sha256: self.plan.config_sha256.clone(),
            at: self.now(),
        })
        .await
        .unwrap();
    }

    /// Puts pages on the work list, in the order of a chain each book.
    pub async fn register(&self, keys: &[RecordKey]) {
        let mut register: Vec<NewPage> = Vec::new();
        for key in keys {
            let levels = self.tree.layout.levels(key).unwrap();
            let number: u32 = key.page().parse().unwrap();
            let before = number
                .checked_sub(1)
                .map(|before| RecordKey::new(format!("{}:{before}", key.book())))
                .filter(|before| keys.contains(before));
            register.push(NewPage {
                key: key.clone(),
                book: key.book().to_owned(),
                levels,
                number,
                predecessor: before.clone(),
                waits_for: before,
                chain_ahead: 0,
            });
        }
        let changes = ScanChanges {
            register,
            ..ScanChanges::default()
        };
        let (run, scope) = (self.plan.run.clone(), self.plan.scope.clone());
        self.ask(ApplyScan {
            run,
            scope,
            changes,
            at: self.now(),
        })
        .await
        .unwrap();
    }

    /// Claims pages as an uploader does.
    pub async fn claim(&self, limit: u64) -> Vec<RecordKey> {
        let claimed = self
            .ask(ClaimPages {
                run: self.plan.run.clone(),
                scope: self.plan.scope.clone(),
                limit,
                ahead_max: 1_000,
                chained: self.plan.chained,
                usable_until: self.now().plus(self.plan.uploader.life_min),
                at: self.now(),
            })
            .await
            .unwrap();
        claimed.pages.into_iter().map(|page| page.key).collect()
    }

    /// Brings claimable pages to the stage Uploaded, with files that the provider has.
    pub async fn upload(&self, limit: u64) -> Vec<RecordKey> {
        use pagemill::ports::file_api::{FileApi, Upload};
        let keys = self.claim(limit).await;
        let mut uploads = Vec::new();
        for key in &keys {
            let (path, facts) = self.tree.image(key).await.unwrap();
            let upload = Upload {
                display_name: format!("test-{key}"),
                mime: "image/jpeg".into(),
                path,
                bytes: facts.bytes,
                sha256: facts.sha256.clone(),
                content: None,
            };
            let file = self.provider.upload(&upload).await.unwrap();
            let expires_at = file.expires_at.unwrap();
            uploads.push(UploadRecord {
                key: key.clone(),
                event: PageEvent::UploadStored {
                    image: StoredImage {
                        file: file.name.clone(),
                        expires_at,
                    },
                },
                stored: Some((
                    StoredFile {
                        name: file.name,
                        uri: file.uri,
                        mime: "image/jpeg".into(),
                        bytes: facts.bytes,
                        sha256: facts.sha256.clone(),
                        key_fingerprint: self.plan.uploader.key_fingerprint.clone(),
                        expires_at,
                    },
                    facts,
                )),
                failure: None,
                cycle_spent: false,
                note: String::new(),
            });
        }
        let run = self.plan.run.clone();
        self.ask(RecordUploads {
            run,
            uploads,
            at: self.now(),
        })
        .await
        .unwrap();
        keys
    }

    /// Commits the intent of a batch of uploaded pages.
    pub async fn plan_batch(&self, batch: &BatchId, members: Vec<RecordKey>) {
        self.ask(PlanBatch {
            batch: batch.clone(),
            display_name: format!("pagemill-{batch}"),
            run: self.plan.run.clone(),
            recipe: self.plan.recipe.hash.clone(),
            model: "gemini-test".into(),
            key_fingerprint: self.plan.uploader.key_fingerprint.clone(),
            members,
            tokens: None,
            at: self.now(),
        })
        .await
        .unwrap();
    }

    /// The stage of every page, by key.
    pub async fn stages(&self) -> Vec<(String, PageStage)> {
        let books: std::collections::BTreeSet<String> = self
            .tree
            .labels
            .borrow()
            .keys()
            .map(|key| key.book().to_owned())
            .collect();
        let books = books.into_iter().collect();
        let pages = self.ask(PagesOfBooks { books }).await.unwrap();
        pages
            .into_iter()
            .map(|page| (page.key.to_string(), page.stage))
            .collect()
    }

    /// All batches, oldest first.
    pub async fn batches(&self) -> Vec<BatchRow> {
        let states = pagemill::domain::batch::BatchStage::ALL.to_vec();
        self.ask(ListBatches {
            states,
            limit: 1_000,
        })
        .await
        .unwrap()
    }
}

/// A schema with one required text.
pub const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {"text": {"type": "string"}},
  "required": ["text"],
  "additionalProperties": false
}"#;

/// The recipe of these tests, with the parameters that a test wants.
pub fn recipe(layout: &Layout, generation_config: &serde_json::Value) -> Recipe {
    let request = RecipeRequest {
        prompt_name: "page",
        template_file: "v1.jinja",
        context_file: Some("context.jinja"),
        schema_file: Path::new("schema.json"),
        layout,
        model: "gemini-test",
        generation_config,
    };
    let prompt = "Read {{ key }}: {{ label.title }}.{% if previous_context %} Before: \
                  {{ previous_context }}{% endif %}";
    let context = Some("{{ previous.text }}".to_owned());
    Recipe::assemble(&request, prompt.to_owned(), context, SCHEMA.to_owned()).unwrap()
}

/// Options for every stage, small enough to reason about.
fn plan(tree: &MemoryTree) -> Plan {
    let recipe = recipe(&tree.layout, &json!({"temperature": 0.1}));
    let validator = Arc::clone(&recipe.validator);
    let run = RunId::from("run-1");
    let scope = ScopeToken::from("scope-1");
    let key_fingerprint = KeyFingerprint::from("fingerprint");
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
        layout: tree.layout.clone(),
        chained: true,
        recipe: Arc::new(recipe),
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
            chained: true,
            mode: Mode::UntilDone,
            beat: Duration::from_millis(5),
            scan_interval: Duration::from_secs(60),
            unavailable_max: Duration::from_secs(1800),
            pages_max: None,
        },
        scanner: ScannerOptions {
            window: None,
            run: run.clone(),
            scope: Scope {
                levels: vec![None, None],
            },
            token: scope.clone(),
            layout: tree.layout.clone(),
            skip_dead: true,
            chained: true,
            validator,
        },
        transfer: TransferOptions {
            attempts: 3,
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
            chained: true,
            key_fingerprint: key_fingerprint.clone(),
            display_name_prefix: "pagemill".into(),
            concurrency: 4,
            ahead_max: 8,
            storage_budget_bytes: 1 << 30,
            life_min: 26 * HOUR,
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
            chained: true,
            key_fingerprint,
            display_name_prefix: "pagemill".into(),
            file_name_prefix: "pagemill".into(),
            limits: Limits {
                pages_max: 4,
                bytes_max: 1 << 20,
                tokens_max: None,
            },
            live_max: 2,
            fill_wait: Duration::from_secs(5),
            storage_budget_bytes: 1 << 30,
            life_min: 26 * HOUR,
            lines_life_min: 26 * HOUR,
            create: CreateRules {
                delay_min: Duration::from_secs(30),
                delay_max: HOUR,
                missing_max: 3,
            },
            settle: Duration::from_secs(600),
            lookups: 3,
            release: RELEASE,
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
            release: RELEASE,
            brake: BRAKE,
        },
        processor: ResultProcessorOptions {
            rules: JudgeRules {
                max_retries: 2,
                retry_delay: Duration::ZERO,
                stored_response_bytes_max: 1 << 16,
                refuse_empty: true,
                echo_field: None,
                threads: 2,
            },
            collections_max: 2,
            verdicts_together: 3,
            results_wait: Duration::from_secs(1800),
            again_after: Duration::from_secs(30),
            keep_remote: false,
            compare_images: true,
            uncollected_alarm: 6 * HOUR,
            release: RELEASE,
            brake: BRAKE,
            price: None,
        },
        alerter: None,
    }
}
