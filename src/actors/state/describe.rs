//! A batch as its manifest tells of it: everything that it takes to adopt its job elsewhere.

use std::collections::HashMap;

use sea_orm::{DatabaseTransaction, EntityTrait, FromQueryResult};
use serde::Deserialize;

use entity::{recipes, submissions};

use super::messages::{DescribeBatch, StagesOfBatches, StateError, StateResult};
use super::rows::{instant, word};
use super::sql::{
    Keyed, as_u64, first, json_list, listed_members, maybe_text, rows, small, text, unsigned,
};
use super::submits::Submission;
use super::{Apply, Rules};
use crate::domain::batch::BatchStage;
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RecordKey, Sha256Hex};
use crate::domain::manifest::{
    BatchManifest, ManifestFile, ManifestLines, ManifestMember, ManifestRecipe,
};

/// The columns of [`DESCRIBED`], in their order.
#[derive(Deserialize, FromQueryResult)]
struct DescribedRow {
    record_key: String,
    attempt_number: i64,
    releases: i64,
    prompt_sha256: Option<String>,
    context_sha256: Option<String>,
    name: String,
    uri: String,
    mime: String,
    bytes: i64,
    sha256: Option<String>,
    expires_at: String,
}

impl Keyed for DescribedRow {
    fn key(&self) -> &str {
        &self.record_key
    }
}

pub(super) const DESCRIBED: &str = "
    SELECT json_group_array(json_array(
        a.record_key, a.attempt_number, p.releases, a.prompt_sha256, a.context_sha256,
        f.name, f.uri, f.mime, f.bytes, f.sha256, f.expires_at))
    FROM chunk AS c
    CROSS JOIN attempts AS a ON a.batch_id = ?1 AND a.record_key = c.record_key
    CROSS JOIN pages AS p ON p.record_key = a.record_key
    JOIN remote_files AS f ON f.name = a.image_file";

const LINES_FILE: &str = "
    SELECT name AS record_key, 1 AS attempt_number, 0 AS releases, NULL AS prompt_sha256,
           NULL AS context_sha256, name, uri, mime, bytes, sha256, expires_at
    FROM remote_files WHERE name = ?1";

#[derive(FromQueryResult)]
struct CountedRow {
    record_key: String,
    error_type: String,
    count: i64,
}

const COUNTED: &str = "
    SELECT l.record_key, l.error_type, c.count FROM failure_logs AS l
    JOIN attempts AS a ON a.record_key = l.record_key
    JOIN failure_counts AS c ON c.record_key = l.record_key
    WHERE a.batch_id = ?1 AND l.counted = 1 ORDER BY l.id";

impl Apply for DescribeBatch {
    type Reply = BatchManifest;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<BatchManifest> {
        let Submission { row, .. } = Submission::load(tx, &self.batch).await?;
        let recipe = recipes::Entity::find_by_id(row.recipe_hash.as_str())
            .one(tx)
            .await?
            .ok_or_else(|| StateError::Missing(format!("recipe '{}'", row.recipe_hash)))?;
        let mut failures: HashMap<String, Vec<ErrorType>> = HashMap::new();
        let counted: Vec<CountedRow> = rows(tx, COUNTED, [text(&self.batch)]).await?;
        for CountedRow {
            record_key,
            error_type,
            count,
        } in counted
        {
            let error = word(&record_key, &error_type, ErrorType::parse)?;
            let of_page = failures.entry(record_key).or_default();
            of_page.push(error);
            // An operator may have cleared older ones.
            if as_u64(of_page.len()) > unsigned(count) {
                of_page.remove(0);
            }
        }
        let members = listed_members(tx, DESCRIBED, &self.batch, |row: DescribedRow| {
            let failures = failures.get(&row.record_key).cloned().unwrap_or_default();
            described(row, failures)
        });
        let members = members.await?;
        let thing = format!("batch '{}'", self.batch);
        Ok(BatchManifest {
            members,
            lines: described_lines(tx, &row).await?,
            first_run: maybe_text(tx, super::runs::FIRST_RUN, [])
                .await?
                .unwrap_or_default(),
            recipe: ManifestRecipe {
                hash: recipe.recipe_hash.into(),
                prompt_name: recipe.prompt_name,
                prompt_template: recipe.prompt_template,
                context_template: recipe.context_template,
                schema: recipe.schema,
                model: recipe.model,
                generation_config: recipe.generation_config,
            },
            created_at: instant(&thing, &row.created_at)?,
            reserved_cost_nanos: row.reserved_cost_nanos.map(unsigned),
            batch: self.batch.clone(),
            display_name: row.display_name,
            run: row.run_id.into(),
            key_fingerprint: row.key_fingerprint.into(),
        })
    }
}

async fn described_lines(
    tx: &DatabaseTransaction,
    row: &submissions::Model,
) -> StateResult<Option<ManifestLines>> {
    let (Some(sha256), Some(bytes)) = (&row.lines_sha256, row.lines_bytes) else {
        return Ok(None);
    };
    let file: Option<DescribedRow> = match &row.lines_file {
        Some(name) => first(tx, LINES_FILE, [text(name)]).await?,
        None => None,
    };
    Ok(Some(ManifestLines {
        sha256: Sha256Hex::from(sha256.as_str()),
        bytes: unsigned(bytes),
        file: file.map(described_file).transpose()?,
    }))
}

fn described(row: DescribedRow, failures: Vec<ErrorType>) -> StateResult<ManifestMember> {
    Ok(ManifestMember {
        key: RecordKey::from(row.record_key.as_str()),
        attempt_number: small(row.attempt_number),
        failures,
        releases: small(row.releases),
        prompt_sha256: row.prompt_sha256.clone().map(Sha256Hex::from),
        context_sha256: row.context_sha256.clone().map(Sha256Hex::from),
        image: Some(described_file(row)?),
    })
}

fn described_file(row: DescribedRow) -> StateResult<ManifestFile> {
    let thing = format!("remote file '{}'", row.name);
    Ok(ManifestFile {
        expires_at: instant(&thing, &row.expires_at)?,
        name: row.name.into(),
        uri: row.uri,
        mime: row.mime,
        bytes: unsigned(row.bytes),
        sha256: Sha256Hex::from(row.sha256.unwrap_or_default()),
    })
}

#[derive(FromQueryResult)]
struct StageRow {
    batch_id: String,
    state: String,
}

impl Apply for StagesOfBatches {
    type Reply = Vec<(BatchId, BatchStage)>;
    const WRITES: bool = false;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        _rules: &Rules,
    ) -> StateResult<Vec<(BatchId, BatchStage)>> {
        let list = json_list(self.batches.iter().map(BatchId::as_str));
        let sql = "SELECT batch_id, state FROM submissions
                   WHERE batch_id IN (SELECT value FROM json_each(?1)) ORDER BY batch_id";
        let found: Vec<StageRow> = rows(tx, sql, [list]).await?;
        let stages = found.into_iter().map(|row| {
            let thing = format!("batch '{}'", row.batch_id);
            let stage = word(&thing, &row.state, BatchStage::parse)?;
            Ok((BatchId::from(row.batch_id), stage))
        });
        stages.collect()
    }
}
