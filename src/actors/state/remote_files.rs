//! The ledger of our files in the provider's store.

use sea_orm::ActiveValue::Set;
use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait};
use serde::Deserialize;
use serde_json::{Value, json};

use entity::remote_files;

use super::messages::{
    DeleteOutcome, FilePurpose, HeldBytes, KnownFiles, LedgerFile, LedgerState, ListDeletable,
    RecordDeletions, StateError, StateResult, StoredFile,
};
use super::rows::{corrupt, instant, word};
use super::spread::{Cell, Spread};
use super::sql::{
    CHUNK_ROWS, execute, execute_exactly, json_list, listed, number, signed, text, texts, unsigned,
};
use super::{Apply, Rules};
use crate::domain::ids::{BatchId, ImageStamp, KeyFingerprint, RecordKey, RemoteName, Sha256Hex};
use crate::domain::time::Timestamp;

/// Bytes of ours that still count against the store: a file counts until it is gone or its time is
/// over, whatever we asked for.
pub(super) async fn held_bytes(conn: &impl ConnectionTrait, at: Timestamp) -> StateResult<u64> {
    number(conn, HELD_BYTES, [text(at)]).await
}

pub(super) const HELD_BYTES: &str = "
    SELECT sum(bytes) FROM remote_files
    WHERE state IN ('live','deleting','undeletable') AND expires_at > ?1";

/// Bytes that count now or will: files, and the results that live jobs are going to put beside them.
pub(super) async fn reserved_bytes(conn: &impl ConnectionTrait, at: Timestamp) -> StateResult<u64> {
    let expected = number(conn, EXPECTED_BYTES, []).await?;
    Ok(held_bytes(conn, at).await? + expected)
}

/// Until a results file is on our disk, a page's answer is taken for 8 KiB: a dense page of text with
/// what surrounds it in a line.
pub(super) const EXPECTED_BYTES: &str = "
    SELECT sum(coalesce(raw_bytes, record_count * 8192)) FROM submissions
    WHERE state IN ('submitting','in doubt','submitted','ready')";

/// Inserts the images of pages. A name that is known already is refused: two pages of one file
/// would be one text under two keys.
pub(super) async fn insert_images(
    tx: &DatabaseTransaction,
    images: &[(&RecordKey, &StoredFile, Option<&ImageStamp>)],
    at: Timestamp,
) -> StateResult<()> {
    for chunk in images.chunks(CHUNK_ROWS) {
        let names = chunk.iter().map(|(_key, file, _stamp)| file.name.as_str());
        refuse_known(tx, names).await?;
        let keys = json_list(chunk.iter().map(|(key, _file, _stamp)| key.as_str()));
        execute(tx, REPLACE_IMAGES, [keys, text(at)]).await?;
        let expiries: Vec<String> = chunk
            .iter()
            .map(|(_key, file, _stamp)| file.expires_at.to_string())
            .collect();
        let rows: Vec<[Cell<'_>; IMAGE_COLUMNS.len()]> = chunk
            .iter()
            .zip(&expiries)
            .map(|((key, file, stamp), expires_at)| image_cells(key, file, *stamp, expires_at))
            .collect();
        let spread = Spread::of(&rows, &[0, 1, 2, 3, 4, 5, 6, 7, 8], 3);
        let sql = format!(
            "INSERT INTO remote_files ({}, purpose, state, created_at, updated_at)
             SELECT {}, 'image', 'live', ?2, ?2 FROM jsonb_each(?1) AS c",
            IMAGE_COLUMNS.join(", "),
            spread.terms.join(", ")
        );
        execute_exactly(tx, &sql, spread.values([text(at)]), chunk.len()).await?;
    }
    Ok(())
}

/// A page has one image in the store; a former one is of no use any more.
pub(super) const REPLACE_IMAGES: &str = "
    UPDATE remote_files SET state = 'deleting', updated_at = ?2
    WHERE purpose = 'image' AND state = 'live'
      AND record_key IN (SELECT value FROM json_each(?1))";

/// The columns of an image that differ from one to the next, as far as they do.
const IMAGE_COLUMNS: [&str; 9] = [
    "name",
    "uri",
    "mime",
    "bytes",
    "sha256",
    "expires_at",
    "record_key",
    "key_fingerprint",
    "image_stamp",
];

/// The values of [`IMAGE_COLUMNS`].
fn image_cells<'a>(
    key: &'a RecordKey,
    file: &'a StoredFile,
    stamp: Option<&'a ImageStamp>,
    expires_at: &'a str,
) -> [Cell<'a>; IMAGE_COLUMNS.len()] {
    let StoredFile {
        name,
        uri,
        mime,
        bytes,
        sha256,
        key_fingerprint,
        expires_at: _,
    } = file;
    [
        name.as_str().into(),
        uri.into(),
        mime.into(),
        signed(*bytes).into(),
        sha256.as_str().into(),
        expires_at.into(),
        key.as_str().into(),
        key_fingerprint.as_str().into(),
        stamp.map(ImageStamp::as_str).into(),
    ]
}

async fn refuse_known<'a>(
    tx: &DatabaseTransaction,
    names: impl IntoIterator<Item = &'a str>,
) -> StateResult<()> {
    let known = texts(
        tx,
        "SELECT name FROM remote_files WHERE name IN (SELECT value FROM json_each(?1)) LIMIT 1",
        [json_list(names)],
    )
    .await?;
    match known.first() {
        None => Ok(()),
        Some(name) => Err(StateError::Conflict(format!(
            "remote file '{name}' is in the ledger already"
        ))),
    }
}

/// Inserts the lines file of a batch.
pub(super) async fn insert_lines(
    tx: &DatabaseTransaction,
    batch: &BatchId,
    file: &StoredFile,
    at: Timestamp,
) -> StateResult<()> {
    refuse_known(tx, [file.name.as_str()]).await?;
    let row = remote_files::ActiveModel {
        name: Set(file.name.to_string()),
        uri: Set(file.uri.clone()),
        purpose: Set(FilePurpose::Lines.as_str().to_owned()),
        mime: Set(file.mime.clone()),
        bytes: Set(signed(file.bytes)),
        sha256: Set(Some(file.sha256.to_string())),
        record_key: Set(None),
        batch_id: Set(Some(batch.to_string())),
        key_fingerprint: Set(file.key_fingerprint.to_string()),
        state: Set(LedgerState::Live.as_str().to_owned()),
        note: Set(String::new()),
        not_before: Set(None),
        created_at: Set(at.to_string()),
        updated_at: Set(at.to_string()),
        expires_at: Set(file.expires_at.to_string()),
        image_stamp: Set(None),
    };
    remote_files::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// The columns of [`STORED_FILES`], in their order.
#[derive(Deserialize)]
pub(super) struct StoredRow {
    name: String,
    uri: String,
    mime: String,
    bytes: i64,
    sha256: Option<String>,
    key_fingerprint: String,
    expires_at: String,
}

pub(super) const STORED_FILES: &str = "
    SELECT json_group_array(json_array(name, uri, mime, bytes, sha256, key_fingerprint, expires_at))
    FROM remote_files WHERE name IN (SELECT value FROM json_each(?1))";

/// A ledger row as a file that stages can use.
pub(super) fn stored_file(row: StoredRow) -> StateResult<StoredFile> {
    let thing = format!("remote file '{}'", row.name);
    let expires_at = instant(&thing, &row.expires_at)?;
    let sha256 = row
        .sha256
        .ok_or_else(|| corrupt(thing, "sha256 is missing"))?;
    Ok(StoredFile {
        name: RemoteName::from(row.name),
        uri: row.uri,
        mime: row.mime,
        bytes: unsigned(row.bytes),
        sha256: Sha256Hex::from(sha256),
        key_fingerprint: KeyFingerprint::from(row.key_fingerprint),
        expires_at,
    })
}

/// The columns of [`DELETABLE`], in their order.
#[derive(Deserialize)]
struct DeletableRow {
    name: String,
    purpose: String,
    key_fingerprint: String,
    created_at: String,
    job: Option<String>,
}

impl Apply for HeldBytes {
    type Reply = u64;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<u64> {
        reserved_bytes(tx, self.at).await
    }
}

impl Apply for ListDeletable {
    type Reply = Vec<LedgerFile>;
    const WRITES: bool = false;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        _rules: &Rules,
    ) -> StateResult<Vec<LedgerFile>> {
        let values = [text(self.at), signed(self.limit).into()];
        let mut found: Vec<DeletableRow> = listed(tx, DELETABLE, values).await?;
        found.sort_by(|a, b| (&a.created_at, &a.name).cmp(&(&b.created_at, &b.name)));
        let files = found.into_iter().map(|row| {
            let thing = format!("remote file '{}'", row.name);
            Ok(LedgerFile {
                purpose: word(&thing, &row.purpose, FilePurpose::parse)?,
                name: RemoteName::from(row.name),
                key_fingerprint: KeyFingerprint::from(row.key_fingerprint),
                job: row.job.map(RemoteName::from),
            })
        });
        files.collect()
    }
}

pub(super) const DELETABLE: &str = "
    SELECT json_group_array(json_array(
        f.name, f.purpose, f.key_fingerprint, f.created_at, s.remote_name))
    FROM (SELECT name, purpose, key_fingerprint, batch_id, created_at FROM remote_files
          WHERE state = 'deleting' AND (not_before IS NULL OR not_before <= ?1)
          ORDER BY created_at, name LIMIT ?2) AS f
    LEFT JOIN submissions AS s ON s.batch_id = f.batch_id";

impl Apply for KnownFiles {
    type Reply = Vec<RemoteName>;
    const WRITES: bool = false;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        _rules: &Rules,
    ) -> StateResult<Vec<RemoteName>> {
        let names = json_list(self.names.iter().map(|name| name.as_str()));
        let known = texts(tx, KNOWN, [names]).await?;
        Ok(known.into_iter().map(RemoteName::from).collect())
    }
}

pub(super) const KNOWN: &str = "
    SELECT name FROM remote_files
    WHERE name IN (SELECT value FROM json_each(?1)) AND state IN ('live','deleting')";

impl Apply for RecordDeletions {
    type Reply = ();

    /// A row that is no longer `deleting` says already what became of its file: it is passed over,
    /// so that an answer that comes twice does no harm.
    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        for chunk in self.files.chunks(CHUNK_ROWS) {
            let names: Vec<&str> = chunk.iter().map(|(name, _)| name.as_str()).collect();
            let list = json_list(names.iter().copied());
            let known = number(
                tx,
                "SELECT count(*) FROM remote_files WHERE name IN (SELECT value FROM json_each(?1))",
                [list],
            )
            .await?;
            let distinct: std::collections::BTreeSet<&str> = names.into_iter().collect();
            if known != super::sql::as_u64(distinct.len()) {
                return Err(StateError::Missing(
                    "such remote file in the ledger".to_owned(),
                ));
            }
            let list = json_list(
                chunk
                    .iter()
                    .map(|(name, outcome)| outcome_values(name, outcome)),
            );
            execute(tx, END_FILES, [list, text(self.at)]).await?;
        }
        Ok(())
    }
}

pub(super) const END_FILES: &str = "
    UPDATE remote_files SET state = c.value->>1, note = c.value->>2, not_before = c.value->>3,
                            updated_at = ?2
    FROM jsonb_each(?1) AS c
    WHERE remote_files.name = c.value->>0 AND remote_files.state = 'deleting'";

fn outcome_values(name: &RemoteName, outcome: &DeleteOutcome) -> Value {
    let (state, note, not_before) = match outcome {
        DeleteOutcome::Deleted => (LedgerState::Deleted, "", None),
        DeleteOutcome::Gone => (LedgerState::Gone, "", None),
        DeleteOutcome::Undeletable { note } => (LedgerState::Undeletable, note.as_str(), None),
        DeleteOutcome::Later { until, note } => (
            LedgerState::Deleting,
            note.as_str(),
            Some(until.to_string()),
        ),
    };
    json!([name.as_str(), state.as_str(), note, not_before])
}
