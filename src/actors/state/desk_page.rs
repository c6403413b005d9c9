//! One page, and what its turn depends on, as `pagemill explain` and `pagemill show` need it;
//! read-only. Every question here is answered from an index, however many pages there are.

use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult};

use entity::{pages, submissions};

use super::messages::{BatchRow, HaltRow, StateResult, Turnaround};
use super::questions::{LIVE_STAGES, batch_rows, list_batches};
use super::rows::{instant, maybe_instant, word};
use super::sql::{first, number, rows, signed, small, text, texts, unsigned};
use super::uploaded::UPLOADED_TOTAL;
use super::uploads::AHEAD;
use crate::domain::failure::ErrorType;
use crate::domain::halt::Standing;
use crate::domain::ids::{
    BatchId, RecipeHash, RecordKey, RemoteName, RunId, ScopeToken, Sha256Hex,
};
use crate::domain::pace::Pace;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// How many pages of a chain are followed.
const CHAIN_MAX: u64 = 20_000;
/// Live batches that are listed; no project has more.
const LIVE_LISTED: u64 = 10_000;

/// A page's row, and how it came to its stage.
#[derive(Debug, Clone, PartialEq)]
pub struct PageSheet {
    pub key: RecordKey,
    /// Decoded, the page included.
    pub levels: Vec<String>,
    pub number: u32,
    pub stage: PageStage,
    pub status: String,
    /// As an operator set it: 1 is high, -1 is low.
    pub priority: i64,
    /// An operator's reason to leave it out.
    pub left_out: Option<String>,
    /// The window that it is booked to, and when its label arrived.
    pub window: Option<String>,
    pub arrived_at: Option<Timestamp>,
    pub scope: Option<ScopeToken>,
    pub run: Option<RunId>,
    pub recipe: Option<RecipeHash>,
    pub predecessor: Option<RecordKey>,
    pub waits_for: Option<RecordKey>,
    pub chain_ahead: u32,
    pub not_before: Option<Timestamp>,
    pub error: Option<ErrorType>,
    pub upload_cycles: u32,
    pub releases: u32,
    pub batch_size_max: Option<u32>,
    pub batch: Option<BatchId>,
    pub image: Option<SentImage>,
    pub image_file: Option<RemoteName>,
    pub image_expires_at: Option<Timestamp>,
    pub uploaded_at: Option<Timestamp>,
    pub output: Option<(Sha256Hex, u64)>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When it came to its stage, and by which event.
    pub since: Timestamp,
    pub moved_by: String,
    /// Failures that count against it.
    pub failures: u64,
}

/// The image as it was when it was last checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentImage {
    pub mime: String,
    pub bytes: u64,
    pub width: u32,
    pub height: u32,
    pub sha256: Sha256Hex,
}

#[derive(FromQueryResult)]
struct MoveRow {
    at: String,
    event: String,
}

/// The newest event that changed a page's stage; notes and the like do not.
const LAST_MOVE: &str = "
    SELECT at, event FROM page_events
    WHERE record_key = ?1 AND from_stage IS NOT to_stage ORDER BY id DESC LIMIT 1";

/// The page of a key, if it is known.
pub async fn page(conn: &impl ConnectionTrait, key: &RecordKey) -> StateResult<Option<PageSheet>> {
    let Some(row) = pages::Entity::find_by_id(key.as_str()).one(conn).await? else {
        return Ok(None);
    };
    let moved: Option<MoveRow> = first(conn, LAST_MOVE, [text(key)]).await?;
    let failures = "SELECT count FROM failure_counts WHERE record_key = ?1";
    let failures = number(conn, failures, [text(key)]).await?;
    sheet(row, moved, failures).map(Some)
}

fn sheet(row: pages::Model, moved: Option<MoveRow>, failures: u64) -> StateResult<PageSheet> {
    let thing = format!("page '{}'", row.record_key);
    let when = |text: &Option<String>| maybe_instant(&thing, text.as_deref());
    let levels: Vec<String> = serde_json::from_str(&row.levels)
        .map_err(|error| super::rows::corrupt(&*thing, format!("levels: {error}")))?;
    let error = row.error.as_deref();
    let since = moved.as_ref().map_or(&row.updated_at, |moved| &moved.at);
    let image = row.image_sha256.as_ref().map(|sha256| SentImage {
        mime: row.image_mime.clone().unwrap_or_default(),
        bytes: unsigned(row.image_bytes.unwrap_or(0)),
        width: small(row.image_width.unwrap_or(0)),
        height: small(row.image_height.unwrap_or(0)),
        sha256: Sha256Hex::from(sha256.as_str()),
    });
    Ok(PageSheet {
        levels,
        number: small(row.page_number),
        stage: word(&thing, &row.stage, PageStage::parse)?,
        priority: row.priority_set,
        arrived_at: when(&row.arrived_at)?,
        chain_ahead: small(row.chain_ahead),
        not_before: when(&row.not_before)?,
        error: error
            .map(|error| word(&thing, error, ErrorType::parse))
            .transpose()?,
        upload_cycles: small(row.upload_cycles),
        releases: small(row.releases),
        batch_size_max: row.batch_size_max.map(small),
        image,
        image_expires_at: when(&row.image_expires_at)?,
        uploaded_at: when(&row.uploaded_at)?,
        output: row
            .output_sha256
            .map(|sha256| (sha256.into(), unsigned(row.output_bytes.unwrap_or(0)))),
        created_at: instant(&thing, &row.created_at)?,
        updated_at: instant(&thing, &row.updated_at)?,
        since: instant(&thing, since)?,
        moved_by: moved.map(|moved| moved.event).unwrap_or_default(),
        failures,
        status: row.status,
        left_out: row.left_out,
        window: row.window_name,
        scope: row.scope.map(ScopeToken::from),
        run: row.run_id.map(RunId::from),
        recipe: row.recipe_hash.map(RecipeHash::from),
        predecessor: row.predecessor.map(RecordKey::from),
        waits_for: row.waits_for.map(RecordKey::from),
        batch: row.batch_id.map(BatchId::from),
        image_file: row.image_file.map(RemoteName::from),
        key: RecordKey::from(row.record_key),
    })
}

#[derive(FromQueryResult)]
struct HolderRow {
    record_key: String,
    steps: i64,
}

/// The page at the beginning of the chain in which a page waits, and how many pages stand between.
pub async fn holder(
    conn: &impl ConnectionTrait,
    key: &RecordKey,
) -> StateResult<Option<(RecordKey, u64)>> {
    let values = [text(key), signed(CHAIN_MAX).into()];
    let found: Option<HolderRow> = first(conn, HOLDER, values).await?;
    Ok(found.map(|row| (RecordKey::from(row.record_key), unsigned(row.steps - 1))))
}

const HOLDER: &str = "
    WITH RECURSIVE chain (record_key, steps) AS (
        SELECT waits_for, 1 FROM pages
        WHERE record_key = ?1 AND stage = 'discovered' AND waits_for IS NOT NULL
        UNION ALL
        SELECT p.waits_for, c.steps + 1 FROM chain AS c JOIN pages AS p ON p.record_key = c.record_key
        WHERE p.stage = 'discovered' AND p.waits_for IS NOT NULL AND c.steps < ?2)
    SELECT record_key, steps FROM chain ORDER BY steps DESC LIMIT 1";

/// A batch, open or closed.
pub async fn batch(conn: &impl ConnectionTrait, batch: &BatchId) -> StateResult<Option<BatchRow>> {
    let found = submissions::Entity::find_by_id(batch.as_str())
        .one(conn)
        .await?;
    let rows = batch_rows(conn, found.into_iter().collect()).await?;
    Ok(rows.into_iter().next())
}

/// What the turn of all pages depends on.
#[derive(Debug, Clone)]
pub struct Room {
    pub halts: Vec<HaltRow>,
    pub live: Vec<BatchRow>,
    /// Pages that are being uploaded or are uploaded.
    pub ahead: u64,
    /// Uploaded pages of the scope that may be sent, and when the first of them was uploaded.
    pub uploaded: u64,
    pub newest: Option<Timestamp>,
    pub held_bytes: u64,
    pub pace: Pace,
    pub standing: Standing,
    pub turnarounds: Vec<Turnaround>,
}

/// What is asked of a [`Room`].
#[derive(Debug, Clone)]
pub struct RoomOf<'a> {
    pub scope: &'a ScopeToken,
    pub model: &'a str,
    /// The recipe that is sent now, if it can be loaded.
    pub recipe: Option<&'a RecipeHash>,
    /// How many batches tell what a recipe is worth.
    pub pilot_batches: u64,
    /// Remote files that end before this are not sent.
    pub usable_until: Timestamp,
    pub at: Timestamp,
}

#[derive(FromQueryResult)]
struct WaitingRow {
    total: i64,
    newest: Option<String>,
}

/// Reads what the turn of all pages depends on.
pub async fn room(conn: &impl ConnectionTrait, of: &RoomOf<'_>) -> StateResult<Room> {
    let values = [text(of.scope), text(of.usable_until)];
    let waiting: Option<WaitingRow> = first(conn, UPLOADED_TOTAL, values).await?;
    let (uploaded, newest) = waiting.map_or((0, None), |row| (row.total, row.newest));
    let paces = super::paces::paces(conn).await?;
    let pace = paces.into_iter().find(|(model, _pace)| model == of.model);
    let standing = match of.recipe {
        Some(recipe) => super::halts::standing(conn, recipe, of.pilot_batches).await?,
        None => Standing::default(),
    };
    Ok(Room {
        halts: super::halts::open_halts(conn).await?,
        live: list_batches(conn, &LIVE_STAGES, LIVE_LISTED).await?,
        ahead: number(conn, AHEAD, []).await?,
        uploaded: unsigned(uploaded),
        newest: maybe_instant("the newest uploaded page", newest.as_deref())?,
        held_bytes: super::remote_files::reserved_bytes(conn, of.at).await?,
        pace: pace.map(|(_model, pace)| pace).unwrap_or_default(),
        standing,
        turnarounds: super::turnaround::turnarounds(conn, of.at).await?,
    })
}

/// The different names of the level below a prefix of keys, in the order of the keys. Each costs one
/// look into the index, however many pages stand below it.
pub async fn names_below(
    conn: &impl ConnectionTrait,
    prefix: &str,
    limit: u64,
) -> StateResult<Vec<String>> {
    // ';' is the character after ':'.
    let end = match prefix.strip_suffix(':') {
        Some(above) => format!("{above};"),
        None => "\u{10FFFF}".to_owned(),
    };
    let values = [prefix.into(), end.into(), signed(limit).into()];
    let found = texts(conn, NAMES_BELOW, values).await?;
    Ok(found)
}

const NAMES_BELOW: &str = "
    WITH RECURSIVE step (name) AS (
        SELECT min(record_key) FROM pages WHERE record_key > ?1 AND record_key < ?2
        UNION ALL
        SELECT (SELECT min(p.record_key) FROM pages AS p
                WHERE p.record_key < ?2 AND p.record_key >
                      ?1 || substr(substr(s.name, length(?1) + 1) || ':', 1,
                                   instr(substr(s.name, length(?1) + 1) || ':', ':') - 1) || ';')
        FROM step AS s WHERE s.name IS NOT NULL LIMIT ?3)
    SELECT substr(substr(name, length(?1) + 1) || ':', 1,
                  instr(substr(name, length(?1) + 1) || ':', ':') - 1)
    FROM step WHERE name IS NOT NULL";

/// Pages of a book that stand nearest to a number, nearest first.
pub async fn pages_near(
    conn: &impl ConnectionTrait,
    book: &str,
    number: u32,
    limit: u64,
) -> StateResult<Vec<RecordKey>> {
    let (from, to) = match book {
        "" => (String::new(), "\u{10FFFF}".to_owned()),
        book => (format!("{book}:"), format!("{book};")),
    };
    let values = [
        from.into(),
        to.into(),
        i64::from(number).into(),
        signed(limit).into(),
    ];
    let found = texts(conn, PAGES_NEAR, values).await?;
    Ok(found.into_iter().map(RecordKey::from).collect())
}

const PAGES_NEAR: &str = "
    SELECT record_key FROM pages WHERE record_key > ?1 AND record_key < ?2
    ORDER BY abs(page_number - ?3), page_number LIMIT ?4";

#[derive(FromQueryResult)]
struct RecipeLine {
    recipe_hash: String,
    prompt_name: String,
    prompt_template: String,
    context_template: Option<String>,
    schema: String,
    model: String,
    generation_config: String,
}

/// A recipe as it is kept.
pub async fn recipe(
    conn: &impl ConnectionTrait,
    hash: &RecipeHash,
) -> StateResult<Option<super::messages::RecipeRow>> {
    let sql = "SELECT recipe_hash, prompt_name, prompt_template, context_template, schema, model,
                      generation_config FROM recipes WHERE recipe_hash = ?1";
    let found: Vec<RecipeLine> = rows(conn, sql, [text(hash)]).await?;
    let row = found.into_iter().next();
    Ok(row.map(|row| super::messages::RecipeRow {
        hash: RecipeHash::from(row.recipe_hash),
        prompt_name: row.prompt_name,
        prompt_template: row.prompt_template,
        context_template: row.context_template,
        schema: row.schema,
        model: row.model,
        generation_config: row.generation_config,
    }))
}

#[derive(FromQueryResult)]
struct AddressRow {
    uri: String,
    mime: String,
}

/// Address and type of a remote file, if the ledger has it.
pub async fn address(
    conn: &impl ConnectionTrait,
    file: &RemoteName,
) -> StateResult<Option<(String, String)>> {
    let sql = "SELECT uri, mime FROM remote_files WHERE name = ?1";
    let found: Option<AddressRow> = first(conn, sql, [text(file)]).await?;
    Ok(found.map(|row| (row.uri, row.mime)))
}

/// The questions about one page, by name, so that a test can see how each is answered.
pub const QUESTIONS: &[(&str, &str)] = &[
    ("last move", LAST_MOVE),
    ("holder", HOLDER),
    ("names below", NAMES_BELOW),
    ("pages near", PAGES_NEAR),
    ("ahead", AHEAD),
    ("uploaded", UPLOADED_TOTAL),
];
