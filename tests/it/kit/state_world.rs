//! A real StateActor on a real file, and short ways to bring pages where a test wants them.

use std::path::PathBuf;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::*;
use pagemill::actors::state::open::StateOptions;
use pagemill::domain::attempt::{AnswerFacts, FailureDetail, Outcome, RawLine, Tokens, Verdict};
use pagemill::domain::batch::BatchEvent;
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::*;
use pagemill::domain::image::{ImageFacts, ImageType};
use pagemill::domain::page::{Afterwards, PageEvent, StoredImage};
use pagemill::domain::remote::{RemoteOutput, RemoteStats};
use pagemill::domain::time::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tempfile::TempDir;

/// The instant `seconds` after the start of the tests' world.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::parse("2026-11-22T00:00:00Z")
        .unwrap()
        .plus(Duration::from_secs(seconds))
}

pub const DAY: u64 = 86_400;

pub fn key(number: u32) -> RecordKey {
    RecordKey::from(format!("Alabama:Howard College:1849:{number}"))
}

pub fn keys(numbers: impl IntoIterator<Item = u32>) -> Vec<RecordKey> {
    numbers.into_iter().map(key).collect()
}

pub fn batch(name: &str) -> BatchId {
    BatchId::from(name)
}

pub fn sha(text: &str) -> Sha256Hex {
    Sha256Hex::from(format!("sha-{text}"))
}

pub fn recipe() -> RecipeRow {
    RecipeRow {
        hash: RecipeHash::from("recipe-1"),
        prompt_name: "page_ocr".to_owned(),
        prompt_template: "Read {{ key }}".to_owned(),
        context_template: None,
        schema: "{}".to_owned(),
        model: "gemini".to_owned(),
        generation_config: "{\"temperature\":0.1}".to_owned(),
    }
}

pub fn new_page(number: u32, waits_for: Option<u32>) -> NewPage {
    NewPage {
        key: key(number),
        book: key(number).book().to_owned(),
        levels: ["Alabama", "Howard College", "1849", &number.to_string()]
            .map(str::to_owned)
            .to_vec(),
        number,
        predecessor: number.checked_sub(1).filter(|n| *n > 0).map(key),
        waits_for: waits_for.map(key),
        chain_ahead: 0,
    }
}

pub fn scan(changes: ScanChanges, seconds: u64) -> ApplyScan {
    ApplyScan {
        run: RunId::from("run-1"),
        scope: ScopeToken::from("scope"),
        changes,
        at: at(seconds),
    }
}

pub fn claim(limit: u64, seconds: u64) -> ClaimPages {
    ClaimPages {
        run: RunId::from("run-1"),
        scope: ScopeToken::from("scope"),
        limit,
        ahead_max: 1_000_000,
        chained: true,
        usable_until: at(seconds + DAY),
        at: at(seconds),
    }
}

pub fn stored_file(name: &str, expires: u64) -> StoredFile {
    StoredFile {
        name: RemoteName::from(name),
        uri: format!("https://files.example/{name}"),
        mime: "image/jpeg".to_owned(),
        bytes: 1_000,
        sha256: sha(name),
        key_fingerprint: KeyFingerprint::from("key"),
        expires_at: at(expires),
    }
}

/// A successful upload of a page at an instant; the file lives two days.
pub fn uploaded(number: u32, seconds: u64) -> UploadRecord {
    uploaded_as(key(number), &format!("files/{number}-{seconds}"), seconds)
}

/// The same for a page of any name, with the name of its file.
pub fn uploaded_as(key: RecordKey, name: &str, seconds: u64) -> UploadRecord {
    let file = stored_file(name, seconds + 2 * DAY);
    UploadRecord {
        key,
        event: PageEvent::UploadStored {
            image: StoredImage {
                file: file.name.clone(),
                expires_at: file.expires_at,
            },
        },
        stored: Some((
            file,
            ImageFacts {
                mime: ImageType::Jpeg,
                bytes: 1_000,
                width: 10,
                height: 20,
                sha256: sha("image"),
                stamp: None,
            },
        )),
        failure: None,
        cycle_spent: false,
        note: String::new(),
    }
}

pub fn record_uploads(uploads: Vec<UploadRecord>, seconds: u64) -> RecordUploads {
    RecordUploads {
        run: RunId::from("run-1"),
        uploads,
        at: at(seconds),
    }
}

pub fn plan(name: &str, members: Vec<RecordKey>, seconds: u64) -> PlanBatch {
    PlanBatch {
        batch: batch(name),
        display_name: batch(name).display_name("pagemill"),
        run: RunId::from("run-1"),
        recipe: recipe().hash,
        model: "gemini".to_owned(),
        key_fingerprint: KeyFingerprint::from("key"),
        members,
        tokens: None,
        at: at(seconds),
    }
}

pub fn spooled(name: &str, numbers: impl IntoIterator<Item = u32>) -> RecordSpooled {
    RecordSpooled {
        batch: batch(name),
        sha256: sha("lines"),
        bytes: 500,
        reserved_cost_nanos: Some(77),
        included: keys(numbers)
            .into_iter()
            .map(|key| IncludedMember {
                key,
                prompt_sha256: sha("prompt"),
                context_sha256: None,
                parameters: None,
            })
            .collect(),
        refused: Vec::new(),
        at: at(200),
    }
}

pub fn record_submit(name: &str, event: BatchEvent) -> RecordSubmit {
    RecordSubmit {
        batch: batch(name),
        event,
        note: String::new(),
        at: at(300),
    }
}

pub fn poll(name: &str, remote_state: &str, event: Option<BatchEvent>) -> RecordPoll {
    RecordPoll {
        batch: batch(name),
        remote_state: remote_state.to_owned(),
        stats: RemoteStats::default(),
        output: Some(RemoteOutput::File(RemoteName::from(format!(
            "files/results-{name}"
        )))),
        event,
        ended_at: None,
        note: String::new(),
        at: at(400),
    }
}

pub fn collect(name: &str) -> BeginCollect {
    BeginCollect {
        batch: batch(name),
        raw: RawFile {
            path: format!("raw/{name}.jsonl"),
            bytes: 9_000,
            sha256: sha("raw"),
        },
        at: at(500),
    }
}

pub fn facts() -> AnswerFacts {
    AnswerFacts {
        finish_reason: Some("STOP".to_owned()),
        model_version: Some("gemini-001".to_owned()),
        tokens: Tokens {
            prompt: Some(100),
            cached: None,
            candidates: Some(20),
            thoughts: None,
            total: Some(120),
        },
        cost_nanos: Some(5),
        raw_line: Some(RawLine {
            offset: 10,
            bytes: 90,
        }),
    }
}

pub fn accepted(number: u32) -> Verdict {
    Verdict {
        key: key(number),
        facts: facts(),
        outcome: Outcome::Accepted {
            output: sha(&number.to_string()),
            bytes: 64,
        },
    }
}

pub fn failure(error: ErrorType) -> FailureDetail {
    FailureDetail {
        error,
        message: "it is not what it should be".to_owned(),
        chain: "not what it should be\nfor a reason".to_owned(),
        raw_text: Some("raw".to_owned()),
        extracted_text: Some("extracted".to_owned()),
        raw_json: Some("{}".to_owned()),
    }
}

pub fn rejected(number: u32, error: ErrorType, afterwards: Afterwards) -> Verdict {
    Verdict {
        key: key(number),
        facts: facts(),
        outcome: Outcome::Rejected {
            failure: Box::new(failure(error)),
            afterwards,
        },
    }
}

pub fn again() -> Afterwards {
    Afterwards::Again { not_before: None }
}

pub fn verdicts(name: &str, verdicts: Vec<Verdict>) -> RecordVerdicts {
    RecordVerdicts {
        batch: batch(name),
        verdicts,
        at: at(600),
    }
}

pub fn settle(name: &str) -> SettleBatch {
    SettleBatch {
        batch: batch(name),
        keep_remote: false,
        lines: LineCounts::default(),
        at: at(700),
    }
}

pub fn end(name: &str, event: BatchEvent, pages: Vec<(RecordKey, PageEvent)>) -> EndBatch {
    EndBatch {
        batch: batch(name),
        event,
        pages,
        counted: true,
        batch_size_max: Some(7),
        note: "the provider gave up".to_owned(),
        at: at(800),
    }
}

/// A StateActor at work.
pub struct World {
    /// Goes when the world does.
    _folder: TempDir,
    pub path: PathBuf,
    pub state: Addr<StateActor>,
    pub db: DatabaseConnection,
}

impl World {
    /// An empty database with a run.
    pub async fn new() -> World {
        World::with(false).await
    }

    pub async fn with(unlock_behind_dead: bool) -> World {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("data").join("state.db");
        let options = StateOptions {
            path: path.clone(),
            unlock_behind_dead,
        };
        let state = StateActor::open(options).await.unwrap().start();
        let db = beside(&path).await;
        let world = World {
            _folder: folder,
            path,
            state,
            db,
        };
        world.tell(start_run()).await.unwrap();
        world
    }

    /// Sends a message and waits for what the actor says.
    pub async fn tell<M, R>(&self, message: M) -> StateResult<R>
    where
        M: Message<Result = StateResult<R>> + Send + 'static,
        R: Send + 'static,
        StateActor: Handler<M>,
        <StateActor as Actor>::Context: ToEnvelope<StateActor, M>,
    {
        self.state.send(message).await.unwrap()
    }

    /// Registers pages that wait for nobody.
    pub async fn register(&self, numbers: impl IntoIterator<Item = u32>) {
        let register = numbers.into_iter().map(|n| new_page(n, None)).collect();
        let changes = ScanChanges {
            register,
            ..ScanChanges::default()
        };
        self.tell(scan(changes, 0)).await.unwrap();
    }

    /// Brings new pages to Uploaded.
    pub async fn upload(&self, numbers: impl IntoIterator<Item = u32> + Clone) {
        self.register(numbers.clone()).await;
        self.tell(claim(10_000, 10)).await.unwrap();
        let uploads = numbers.into_iter().map(|n| uploaded(n, 20)).collect();
        self.tell(record_uploads(uploads, 20)).await.unwrap();
    }

    /// Brings new pages into a planned batch.
    pub async fn plan(&self, name: &str, numbers: impl IntoIterator<Item = u32> + Clone) {
        self.upload(numbers.clone()).await;
        self.tell(plan(name, keys(numbers), 100)).await.unwrap();
    }

    /// Brings new pages into a submitted batch.
    pub async fn submit(&self, name: &str, numbers: impl IntoIterator<Item = u32> + Clone) {
        self.plan(name, numbers.clone()).await;
        self.tell(spooled(name, numbers)).await.unwrap();
        let lines = stored_file(&format!("files/lines-{name}"), 2 * DAY);
        let sent = RecordJsonlUploaded {
            batch: batch(name),
            file: lines,
            at: at(210),
        };
        self.tell(sent).await.unwrap();
        self.tell(BeginSubmit {
            batch: batch(name),
            at: at(220),
        })
        .await
        .unwrap();
        let accepted = BatchEvent::SubmitAccepted {
            remote: RemoteName::from(format!("batches/{name}")),
        };
        self.tell(record_submit(name, accepted)).await.unwrap();
    }

    /// Brings new pages to Validating.
    pub async fn collect(&self, name: &str, numbers: impl IntoIterator<Item = u32> + Clone) {
        self.submit(name, numbers).await;
        self.ready(name).await;
        self.tell(collect(name)).await.unwrap();
    }

    /// The provider offers the results of a submitted batch.
    pub async fn ready(&self, name: &str) {
        let offered = Some(BatchEvent::ResultsOffered);
        self.tell(poll(name, "BATCH_STATE_SUCCEEDED", offered))
            .await
            .unwrap();
    }

    /// What a question gives, a row a line, columns parted by bars.
    pub async fn ask(&self, sql: &str) -> Vec<String> {
        ask(&self.db, sql).await
    }

    /// The only value of the only row.
    pub async fn one(&self, sql: &str) -> String {
        let rows = self.ask(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.into_iter().next().unwrap()
    }

    /// The stage of a page.
    pub async fn stage(&self, number: u32) -> String {
        self.one(&format!(
            "SELECT stage FROM pages WHERE record_key = '{}'",
            key(number)
        ))
        .await
    }

    /// Changes the database behind the actor's back.
    pub async fn meddle(&self, sql: &str) {
        self.db.execute_unprepared(sql).await.unwrap();
    }

    /// Everything that stands in every table.
    pub async fn everything(&self) -> Vec<String> {
        let tables = self
            .ask(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY 1",
            )
            .await;
        let mut all = Vec::new();
        for table in tables {
            let columns = self
                .ask(&format!("SELECT name FROM pragma_table_info('{table}')"))
                .await;
            let shown: Vec<String> = columns.iter().map(|c| format!("quote({c})")).collect();
            let sql = format!(
                "SELECT {} FROM {table} ORDER BY rowid",
                shown.join("||'|'||")
            );
            let rows = self.ask(&sql).await;
            all.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
        }
        all
    }

    /// Every page's last event gives its stage, each event starts where the last one ended, and no
    /// page is without history.
    pub async fn assert_replay(&self) {
        let events = self
            .ask("SELECT record_key||'|'||coalesce(from_stage,'')||'|'||to_stage FROM page_events ORDER BY id")
            .await;
        let mut stages = std::collections::BTreeMap::new();
        for event in events {
            let parts: Vec<&str> = event.split('|').collect();
            let before = stages.insert(parts[0].to_owned(), parts[2].to_owned());
            assert_eq!(before.unwrap_or_default(), parts[1], "{event}");
        }
        let pages = self
            .ask("SELECT record_key||'|'||stage FROM pages ORDER BY record_key")
            .await;
        let replayed: Vec<String> = stages
            .into_iter()
            .map(|(key, stage)| format!("{key}|{stage}"))
            .collect();
        assert_eq!(replayed, pages);
    }
}

/// A second connection to the same file, as an operator's.
pub async fn beside(path: &std::path::Path) -> DatabaseConnection {
    sqlite::connect_to(path).await.unwrap()
}

/// A connection to a file that may have to be made first.
pub async fn made(path: &std::path::Path) -> DatabaseConnection {
    let options = sqlite::Options::new(path, sqlite::Access::Create);
    sqlite::connect(options).await.unwrap()
}

/// What a question of one text column gives.
pub async fn ask(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| {
            // A value of another type is told as if it were null.
            if let Ok(number) = row.try_get_by::<i64, _>(0) {
                number.to_string()
            } else {
                let text: Option<String> = row.try_get_by(0).unwrap();
                text.unwrap_or_default()
            }
        })
        .collect()
}

pub fn start_run() -> StartRun {
    StartRun {
        run: RunId::from("run-1"),
        label: Some("first".to_owned()),
        recipe: recipe(),
        window: None,
        scope: ScopeToken::from("scope"),
        config_snapshot: "model: gemini".to_owned(),
        config_sha256: sha("config"),
        at: at(0),
    }
}
