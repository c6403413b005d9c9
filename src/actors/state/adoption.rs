//! A database that is behind what happened: lost, or put back from an old copy. Batches that it does
//! not know are brought in, by lawful events only, so that the history tells.

use sea_orm::ActiveValue::Set;
use sea_orm::{DatabaseTransaction, EntityTrait};
use serde_json::{Value, json};

use entity::runs;

use super::batches::NOTE_PROMPTS;
use super::catching_up::{NOTE, advance};
use super::messages::{
    AdoptBatch, AdoptedBatch, Counted, PlanBatch, RecipeRow, RunStatus, StateResult,
};
use super::pages::{Cause, Pages};
use super::rows::instant;
use super::sql::{CHUNK_ROWS, as_u64, execute_exactly, json_list, maybe_text, signed, text, texts};
use super::submits::Submission;
use super::uploads::{Failure, record_failures};
use super::{Apply, Rules, scan};
use crate::domain::attempt::FailureDetail;
use crate::domain::ids::{BatchId, RecordKey, RemoteName, RunId, Sha256Hex};
use crate::domain::manifest::{ManifestFile, ManifestMember};
use crate::domain::page::{PageEvent, PageStage, RequeueCause, StoredImage};
use crate::domain::time::Timestamp;

impl Apply for AdoptBatch {
    type Reply = AdoptedBatch;

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<AdoptedBatch> {
        let manifest = &self.manifest;
        self.insert_runs(tx).await?;
        let members = manifest.members.iter();
        let pages = self.pages.iter();
        scan::register(tx, rules, pages, &manifest.run, &self.scope, self.at).await?;
        let images: Vec<(&ManifestMember, ManifestFile)> = members
            .enumerate()
            .map(|(place, member)| (member, self.image_of(place, member)))
            .collect();
        let (free, refused) = self.bring_to_uploaded(tx, rules, &images).await?;
        if free.is_empty() {
            // Nothing was moved; the rows of pages that were not known are right all the same.
            return Ok(AdoptedBatch {
                members: 0,
                refused,
            });
        }
        let plan = PlanBatch {
            batch: manifest.batch.clone(),
            display_name: manifest.display_name.clone(),
            run: manifest.run.clone(),
            recipe: manifest.recipe.hash.clone(),
            model: manifest.recipe.model.clone(),
            key_fingerprint: self.key_fingerprint.clone(),
            members: free.iter().map(|member| member.key.clone()).collect(),
            tokens: None,
            at: self.at,
        };
        plan.apply(tx, rules).await?;
        self.restore(tx, &free).await?;
        advance(tx, &manifest.batch, &self.found, self.at).await?;
        Ok(AdoptedBatch {
            members: as_u64(free.len()),
            refused,
        })
    }
}

impl AdoptBatch {
    /// The first run decides how files of this database are named: where there is none yet, the
    /// manifest's becomes it again.
    async fn insert_runs(&self, tx: &DatabaseTransaction) -> StateResult<()> {
        let manifest = &self.manifest;
        let recipe = &manifest.recipe;
        let row = RecipeRow {
            hash: recipe.hash.clone(),
            prompt_name: recipe.prompt_name.clone(),
            prompt_template: recipe.prompt_template.clone(),
            context_template: recipe.context_template.clone(),
            schema: recipe.schema.clone(),
            model: recipe.model.clone(),
            generation_config: recipe.generation_config.clone(),
        };
        super::runs::store_recipe(tx, &row, &self.at.to_string()).await?;
        let known = maybe_text(tx, super::runs::FIRST_RUN, []).await?;
        if known.is_none()
            && let Some((run, started)) = manifest.first_run.split_once(' ')
        {
            let started = instant("the first run of a manifest", started)?;
            self.insert_run(tx, &RunId::from(run), started).await?;
        }
        let run = runs::Entity::find_by_id(manifest.run.as_str());
        match run.one(tx).await? {
            Some(_known) => Ok(()),
            None => self.insert_run(tx, &manifest.run, self.at).await,
        }
    }

    async fn insert_run(
        &self,
        tx: &DatabaseTransaction,
        run: &RunId,
        at: Timestamp,
    ) -> StateResult<()> {
        let row = runs::ActiveModel {
            window_since: Set(None),
            window_until: Set(None),
            window_name: Set(None),
            run_id: Set(run.to_string()),
            label: Set(Some(NOTE.to_owned())),
            status: Set(RunStatus::Stopped.as_str().to_owned()),
            recipe_hash: Set(self.manifest.recipe.hash.to_string()),
            scope: Set(self.scope.to_string()),
            config_snapshot: Set(self.config_snapshot.clone()),
            config_sha256: Set(self.config_sha256.to_string()),
            restarts: Set(0),
            totals: Set("{}".to_owned()),
            started_at: Set(at.to_string()),
            ended_at: Set(Some(self.at.to_string())),
            created_at: Set(at.to_string()),
            updated_at: Set(self.at.to_string()),
        };
        runs::Entity::insert(row).exec_without_returning(tx).await?;
        Ok(())
    }

    /// The member's image, or a name for one that is not known and counts as gone.
    fn image_of(&self, place: usize, member: &ManifestMember) -> ManifestFile {
        member.image.clone().unwrap_or_else(|| ManifestFile {
            name: RemoteName::new(format!("files/not-known-{}-{place}", self.manifest.batch)),
            uri: String::new(),
            mime: String::new(),
            bytes: 0,
            sha256: Sha256Hex::from(""),
            expires_at: self.at,
        })
    }

    /// Brings every member that is free to Uploaded with its image; says of the others why not.
    async fn bring_to_uploaded<'m>(
        &self,
        tx: &DatabaseTransaction,
        rules: &Rules,
        images: &[(&'m ManifestMember, ManifestFile)],
    ) -> StateResult<(Vec<&'m ManifestMember>, Vec<(RecordKey, String)>)> {
        let cause = Cause {
            run: Some(&self.manifest.run),
            batch: None,
        };
        let keys: Vec<&RecordKey> = images.iter().map(|(member, _)| &member.key).collect();
        let list = json_list(keys.iter().map(|key| key.as_str()));
        let sql = "SELECT record_key FROM pages
                   WHERE record_key IN (SELECT value FROM json_each(?1))";
        let known = texts(tx, sql, [list]).await?;
        let known: std::collections::HashSet<String> = known.into_iter().collect();
        let here = |key: &&&RecordKey| known.contains(key.as_str());
        let mut pages = Pages::load(tx, keys.iter().filter(here).copied()).await?;
        let mut free = Vec::new();
        let mut refused = Vec::new();
        let mut files = Vec::new();
        for (member, image) in images {
            let why = match known.contains(member.key.as_str()) {
                false => Some("it is no page of this layout".to_owned()),
                true => held(pages.row(&member.key)?, &self.manifest.batch),
            };
            if let Some(why) = why {
                refused.push((member.key.clone(), why));
                continue;
            }
            self.step(&mut pages, member, image, &cause)?;
            files.push(image_values(member, image, &self.key_fingerprint));
            free.push(*member);
        }
        for chunk in files.chunks(CHUNK_ROWS) {
            let list = json_list(chunk.iter().cloned());
            execute_exactly(tx, RESTORE_IMAGES, [list, text(self.at)], chunk.len()).await?;
        }
        pages.write(tx, rules, self.at).await?;
        Ok((free, refused))
    }

    fn step(
        &self,
        pages: &mut Pages,
        member: &ManifestMember,
        image: &ManifestFile,
        cause: &Cause<'_>,
    ) -> StateResult<()> {
        let key = &member.key;
        let stored = StoredImage {
            file: image.name.clone(),
            expires_at: image.expires_at,
        };
        let row = pages.row(key)?;
        let has_it = row.image_file.as_deref() == Some(image.name.as_str());
        let before: &[PageEvent] = match pages.stage(key)? {
            PageStage::Uploaded if has_it => return Ok(()),
            PageStage::Uploaded => &[PageEvent::FileExpired],
            PageStage::Uploading => &[PageEvent::UploadDeferred { until: None }],
            PageStage::Dead | PageStage::Review | PageStage::Skipped => &[PageEvent::Requeued {
                cause: RequeueCause::Operator,
            }],
            PageStage::Discovered
            | PageStage::Batched
            | PageStage::Validating
            | PageStage::Completed => &[],
        };
        for event in before {
            pages.apply(key, event, cause, NOTE)?;
        }
        pages.apply(key, &PageEvent::UploadStarted, cause, NOTE)?;
        let row = pages.apply(key, &PageEvent::UploadStored { image: stored }, cause, NOTE)?;
        row.uploaded_at = Some(self.at.to_string());
        row.releases = i64::from(member.releases);
        if member.image.is_some() {
            row.image_mime = Some(image.mime.clone());
            row.image_bytes = Some(signed(image.bytes));
            row.image_sha256 = Some(image.sha256.to_string());
        }
        Ok(())
    }

    /// What the manifest knows beside the batch itself: prompts, attempts, failures, lines.
    async fn restore(
        &self,
        tx: &DatabaseTransaction,
        members: &[&ManifestMember],
    ) -> StateResult<()> {
        let batch = &self.manifest.batch;
        for chunk in members.chunks(CHUNK_ROWS) {
            let prompts = json_list(chunk.iter().map(|member| {
                let (prompt, context) = (&member.prompt_sha256, &member.context_sha256);
                let hash = |hash: &Option<Sha256Hex>| hash.as_ref().map(ToString::to_string);
                json!([
                    member.key.as_str(),
                    hash(prompt),
                    hash(context),
                    member.attempt_number
                ])
            }));
            let values = [prompts.clone(), text(batch)];
            execute_exactly(tx, NOTE_PROMPTS, values.clone(), chunk.len()).await?;
            execute_exactly(tx, NUMBER_ATTEMPTS, values, chunk.len()).await?;
        }
        self.restore_failures(tx, members).await?;
        let submission = Submission::load(tx, batch).await?;
        let mut change = submission.change(self.at);
        change.reserved_cost_nanos = Set(self.manifest.reserved_cost_nanos.map(signed));
        if let Some(lines) = &self.manifest.lines {
            change.lines_sha256 = Set(Some(lines.sha256.to_string()));
            change.lines_bytes = Set(Some(signed(lines.bytes)));
            if let Some(file) = &lines.file {
                let fingerprint = self.key_fingerprint.as_str();
                let row = json!([
                    file.name.as_str(),
                    file.uri,
                    file.mime,
                    signed(file.bytes),
                    file.sha256.as_str(),
                    file.expires_at.to_string(),
                    batch.as_str(),
                    fingerprint,
                ]);
                execute_exactly(tx, RESTORE_LINES, [json_list([row]), text(self.at)], 1).await?;
                change.lines_file = Set(Some(file.name.to_string()));
            }
        }
        submission.write(tx, change).await
    }

    /// Brings the counted failures of the members up to what they were.
    async fn restore_failures(
        &self,
        tx: &DatabaseTransaction,
        members: &[&ManifestMember],
    ) -> StateResult<()> {
        let mut details = Vec::new();
        for member in members.iter().filter(|member| !member.failures.is_empty()) {
            let sql =
                "SELECT coalesce((SELECT count FROM failure_counts WHERE record_key = ?1), 0)";
            let known = super::sql::number(tx, sql, [text(&member.key)]).await?;
            let known = usize::try_from(known).unwrap_or(usize::MAX);
            for error in member.failures.iter().skip(known) {
                let message = "counted before the database was lost".to_owned();
                let detail = FailureDetail {
                    error: *error,
                    chain: message.clone(),
                    message,
                    raw_text: None,
                    extracted_text: None,
                    raw_json: None,
                };
                details.push((&member.key, detail));
            }
        }
        let failures = details.iter().map(|(key, detail)| Failure {
            key,
            batch: "",
            attempt_number: 0,
            detail,
            counted: Counted::Yes,
        });
        let run = &self.manifest.run;
        record_failures(tx, failures.collect(), None, Some(run), self.at).await
    }
}

/// Why a page cannot be a member: it is done, or another batch has it.
fn held(row: &super::rows::PageRow, batch: &BatchId) -> Option<String> {
    if row.stage == PageStage::Completed.as_str() {
        return Some("it is done already".to_owned());
    }
    let other = row.batch_id.as_deref()?;
    (other != batch.as_str()).then(|| format!("batch '{other}' has it"))
}

fn image_values(
    member: &ManifestMember,
    file: &ManifestFile,
    fingerprint: &crate::domain::ids::KeyFingerprint,
) -> Value {
    let state = if member.image.is_some() {
        "live"
    } else {
        "gone"
    };
    json!([
        file.name.as_str(),
        file.uri,
        file.mime,
        signed(file.bytes),
        file.sha256.as_str(),
        file.expires_at.to_string(),
        member.key.as_str(),
        fingerprint.as_str(),
        state,
    ])
}

/// A file that the ledger has given up is in use all the same.
const RESTORE_IMAGES: &str = "
    INSERT INTO remote_files
        (name, uri, mime, bytes, sha256, expires_at, record_key, key_fingerprint, state, purpose,
         created_at, updated_at)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6,
           value->>7, value->>8, 'image', ?2, ?2
    FROM jsonb_each(?1) WHERE true
    ON CONFLICT (name) DO UPDATE
        SET state = excluded.state, note = '', not_before = NULL, updated_at = excluded.updated_at";

const RESTORE_LINES: &str = "
    INSERT INTO remote_files
        (name, uri, mime, bytes, sha256, expires_at, batch_id, key_fingerprint, state, purpose,
         created_at, updated_at)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6,
           value->>7, 'live', 'lines', ?2, ?2
    FROM jsonb_each(?1) WHERE true
    ON CONFLICT (name) DO UPDATE
        SET state = 'live', note = '', not_before = NULL, updated_at = excluded.updated_at";

const NUMBER_ATTEMPTS: &str = "
    UPDATE attempts SET attempt_number = max(attempt_number, c.value->>3)
    FROM jsonb_each(?1) AS c
    WHERE attempts.record_key = c.value->>0 AND +attempts.batch_id = ?2";
