//! Planning a batch, its members, and its lines file.

use std::collections::{BTreeSet, HashMap};

use sea_orm::ActiveValue::Set;
use sea_orm::{DatabaseTransaction, EntityTrait, FromQueryResult};
use serde::Deserialize;
use serde_json::json;

use entity::submissions;

use super::messages::{
    Counted, ForgetJsonl, ListMembers, ListToJudge, Member, PlanBatch, RecordJsonlUploaded,
    RecordSpooled, StateError, StateResult, ToJudge,
};
use super::pages::{Cause, Pages, mark_deleting};
use super::rows::{corrupt, instant, word};
use super::sql::{
    CHUNK_ROWS, Keyed, as_u64, execute_exactly, first, json_list, listed, listed_members, signed,
    small, text, texts,
};
use super::submits::{Moved, SHOW_BATCH, Submission, expect_batch};
use super::uploads::{Failure, record_failures};
use super::{Apply, Rules, remote_files};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, ImageStamp, RecordKey, Sha256Hex};
use crate::domain::page::{PageEvent, PageStage};

impl Apply for PlanBatch {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let members = self.checked_members(tx).await?;
        self.insert_batch(tx, members.len()).await?;
        let cause = Cause {
            run: Some(&self.run),
            batch: Some(&self.batch),
        };
        let event = PageEvent::Packed {
            batch: self.batch.clone(),
        };
        for chunk in members.chunks(CHUNK_ROWS) {
            let mut pages = Pages::load(tx, chunk.iter().copied()).await?;
            let mut images = Vec::with_capacity(chunk.len());
            for key in chunk {
                let row = pages.apply(key, &event, &cause, "")?;
                row.recipe_hash = Some(self.recipe.to_string());
                row.run_id = Some(self.run.to_string());
                images.push(json!([key.as_str(), row.image_file]));
            }
            pages.write(tx, rules, self.at).await?;
            let list = json_list(images);
            for sql in [INSERT_KEYS, INSERT_INFLIGHT, INSERT_ATTEMPTS] {
                let values = [list.clone(), text(&self.batch), text(self.at)];
                execute_exactly(tx, sql, values, chunk.len()).await?;
            }
        }
        Ok(())
    }
}

impl PlanBatch {
    /// The members, sorted, once it is sure that none is in another batch.
    async fn checked_members(&self, tx: &DatabaseTransaction) -> StateResult<Vec<&RecordKey>> {
        let members: BTreeSet<&RecordKey> = self.members.iter().collect();
        let members: Vec<&RecordKey> = members.into_iter().collect();
        if members.is_empty() || members.len() != self.members.len() {
            return Err(StateError::Conflict(format!(
                "batch '{}' must name each of its members once, and at least one",
                self.batch
            )));
        }
        for chunk in members.chunks(CHUNK_ROWS) {
            let list = json_list(chunk.iter().map(|key| key.as_str()));
            let taken = texts(tx, TAKEN, [list]).await?;
            if let Some(key) = taken.first() {
                return Err(StateError::Conflict(format!(
                    "page '{key}' is in another batch already"
                )));
            }
        }
        Ok(members)
    }

    async fn insert_batch(&self, tx: &DatabaseTransaction, members: usize) -> StateResult<()> {
        self.refuse_known(tx).await?;
        let at = self.at.to_string();
        let row = submissions::ActiveModel {
            batch_id: Set(self.batch.to_string()),
            display_name: Set(self.display_name.clone()),
            state: Set(BatchStage::Planned.as_str().to_owned()),
            run_id: Set(self.run.to_string()),
            recipe_hash: Set(self.recipe.to_string()),
            model: Set(self.model.clone()),
            key_fingerprint: Set(self.key_fingerprint.to_string()),
            record_count: Set(signed(as_u64(members))),
            tokens_estimated: Set(self.tokens.map(signed)),
            created_at: Set(at.clone()),
            updated_at: Set(at.clone()),
            ..Default::default()
        };
        let seen = [text(&self.batch), text(&at), text(&at), text("active")];
        let moved = Moved {
            before: None,
            after: BatchStage::Planned,
            event: "planned",
            note: "",
        };
        submissions::Entity::insert(row)
            .exec_without_returning(tx)
            .await?;
        execute_exactly(tx, SHOW_BATCH, seen, 1).await?;
        moved.record(tx, &self.batch, self.at).await
    }

    /// Refuses a batch that is there already, and one of a recipe or a run that is not.
    async fn refuse_known(&self, tx: &DatabaseTransaction) -> StateResult<()> {
        let values = [
            text(&self.batch),
            text(&self.display_name),
            text(&self.recipe),
            text(&self.run),
        ];
        let known: Option<KnownRow> = first(tx, KNOWN, values).await?;
        let known = known.ok_or_else(|| corrupt("what a plan names", "it has no row"))?;
        if known.batches > 0 {
            return Err(StateError::Conflict(format!(
                "batch '{}' is known",
                self.batch
            )));
        }
        if let Some(other) = known.namesake {
            return Err(StateError::Conflict(format!(
                "batch '{other}' has the display name '{}' already",
                self.display_name
            )));
        }
        if known.recipes == 0 {
            return Err(StateError::Missing(format!("recipe '{}'", self.recipe)));
        }
        if known.runs == 0 {
            return Err(StateError::Missing(format!("run '{}'", self.run)));
        }
        Ok(())
    }
}

/// Whether a plan is the first of its names, and whether there is what it names.
pub(super) const KNOWN: &str = "
    SELECT (SELECT count(*) FROM submissions WHERE batch_id = ?1) AS batches,
           (SELECT batch_id FROM submissions WHERE display_name = ?2) AS namesake,
           (SELECT count(*) FROM recipes WHERE recipe_hash = ?3) AS recipes,
           (SELECT count(*) FROM runs WHERE run_id = ?4) AS runs";

#[derive(FromQueryResult)]
struct KnownRow {
    batches: i64,
    namesake: Option<String>,
    recipes: i64,
    runs: i64,
}

/// Pages that a batch holds, by either of the two records of it.
pub(super) const TAKEN: &str = "
    SELECT record_key FROM inflight_records WHERE record_key IN (SELECT value FROM json_each(?1))
    UNION ALL
    SELECT record_key FROM pages
    WHERE record_key IN (SELECT value FROM json_each(?1)) AND batch_id IS NOT NULL
    ORDER BY 1 LIMIT 1";

const INSERT_KEYS: &str = "
    INSERT INTO batch_record_keys (batch_id, record_key, created_at)
    SELECT ?2, value->>0, ?3 FROM jsonb_each(?1)";

const INSERT_INFLIGHT: &str = "
    INSERT INTO inflight_records (record_key, batch_id, created_at)
    SELECT value->>0, ?2, ?3 FROM jsonb_each(?1)";

const INSERT_ATTEMPTS: &str = "
    INSERT INTO attempts (batch_id, record_key, attempt_number, outcome, image_file, created_at)
    SELECT ?2, j.value->>0,
           1 + coalesce((SELECT max(a.attempt_number) FROM attempts AS a
                         WHERE a.record_key = j.value->>0), 0),
           'pending', j.value->>1, ?3
    FROM jsonb_each(?1) AS j";

/// The columns of [`MEMBERS`], in their order.
#[derive(Deserialize)]
struct MemberRow {
    record_key: String,
    page_number: i64,
    held_stage: Option<String>,
    uri: String,
    mime: String,
    expires_at: String,
    image_sha256: Option<String>,
    predecessor: Option<String>,
    predecessor_stage: Option<String>,
    attempt_number: i64,
    failures: i64,
    releases: i64,
    batch_size_max: Option<i64>,
    truncations: i64,
    refusals: i64,
    whole_failures: i64,
}

impl Keyed for MemberRow {
    fn key(&self) -> &str {
        &self.record_key
    }
}

impl Apply for ListMembers {
    type Reply = Vec<Member>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<Member>> {
        expect_batch(tx, &self.batch).await?;
        listed_members(tx, MEMBERS, &self.batch, member).await
    }
}

/// Only a page that was asked before can have been cut, refused, or in a batch that failed.
pub(super) const MEMBERS: &str = "
    SELECT json_group_array(json_array(
        c.record_key, p.page_number, iif(p.batch_id = ?1, p.stage, NULL),
        f.uri, f.mime, f.expires_at, f.sha256, p.predecessor, q.stage,
        a.attempt_number, coalesce(n.count, 0), p.releases, p.batch_size_max,
        iif(a.attempt_number = 1, 0, (
            SELECT count(*) FROM attempts AS t WHERE t.record_key = c.record_key
                AND t.error_type = 'Truncated')),
        iif(a.attempt_number = 1, 0, (
            SELECT count(*) FROM attempts AS t WHERE t.record_key = c.record_key
                AND t.error_type IN ('Recitation','ContentFiltered','Repetition'))),
        iif(a.attempt_number = 1, 0, (
            SELECT count(*) FROM attempts AS t JOIN submissions AS s ON s.batch_id = t.batch_id
            WHERE t.record_key = c.record_key AND s.abandon_code IN ('failed','refused')))))
    FROM chunk AS c
    CROSS JOIN pages AS p ON p.record_key = c.record_key
    CROSS JOIN attempts AS a ON a.batch_id = ?1 AND a.record_key = c.record_key
    JOIN remote_files AS f ON f.name = a.image_file
    LEFT JOIN pages AS q ON q.record_key = p.predecessor
    LEFT JOIN failure_counts AS n ON n.record_key = c.record_key";

fn member(row: MemberRow) -> StateResult<Member> {
    let thing = format!("page '{}'", row.record_key);
    let stage = row.held_stage.as_deref();
    let completed = row.predecessor_stage.as_deref() == Some(PageStage::Completed.as_str());
    Ok(Member {
        number: small(row.page_number),
        stage: stage
            .map(|stage| word(&thing, stage, PageStage::parse))
            .transpose()?,
        file_uri: row.uri,
        file_mime: row.mime,
        file_expires_at: instant(&thing, &row.expires_at)?,
        image_sha256: known_hash(row.image_sha256),
        predecessor: row.predecessor.map(RecordKey::from),
        predecessor_completed: completed,
        attempt_number: small(row.attempt_number),
        failures: small(row.failures),
        releases: small(row.releases),
        // Releases begin anew when an operator sends the page again; so does this.
        whole_failures: small(row.whole_failures.min(row.releases)),
        truncations: small(row.truncations),
        refusals: small(row.refusals),
        batch_size_max: row.batch_size_max.map(small),
        key: RecordKey::from(row.record_key),
    })
}

/// The columns of [`TO_JUDGE`], in their order.
#[derive(Deserialize)]
struct ToJudgeRow {
    record_key: String,
    is_open: i64,
    image_sha256: Option<String>,
    image_stamp: Option<String>,
    failures: i64,
    releases: i64,
}

impl Keyed for ToJudgeRow {
    fn key(&self) -> &str {
        &self.record_key
    }
}

impl Apply for ListToJudge {
    type Reply = Vec<ToJudge>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<ToJudge>> {
        expect_batch(tx, &self.batch).await?;
        let wanted = |row: ToJudgeRow| {
            Ok(ToJudge {
                key: RecordKey::from(row.record_key),
                is_open: row.is_open != 0,
                image_sha256: known_hash(row.image_sha256),
                image_stamp: row.image_stamp.map(ImageStamp::from),
                failures: small(row.failures),
                releases: small(row.releases),
            })
        };
        listed_members(tx, TO_JUDGE, &self.batch, wanted).await
    }
}

pub(super) const TO_JUDGE: &str = "
    SELECT json_group_array(json_array(
        c.record_key, p.batch_id IS ?1 AND p.stage = 'validating', f.sha256, f.image_stamp,
        coalesce(n.count, 0), p.releases))
    FROM chunk AS c
    CROSS JOIN pages AS p ON p.record_key = c.record_key
    CROSS JOIN attempts AS a ON a.batch_id = ?1 AND a.record_key = c.record_key
    JOIN remote_files AS f ON f.name = a.image_file
    LEFT JOIN failure_counts AS n ON n.record_key = c.record_key";

/// The image of an adopted job may not be known: then there is nothing to compare with.
fn known_hash(hash: Option<String>) -> Option<Sha256Hex> {
    hash.filter(|hash| !hash.is_empty()).map(Sha256Hex::from)
}

impl Apply for RecordSpooled {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let submission = Submission::load(tx, &self.batch).await?;
        submission.expect(BatchStage::Planned)?;
        self.refuse_strangers(tx).await?;
        for chunk in self.included.chunks(CHUNK_ROWS) {
            let list = json_list(chunk.iter().map(|member| {
                json!([
                    member.key.as_str(),
                    member.prompt_sha256.as_str(),
                    member.context_sha256.as_ref().map(|hash| hash.as_str()),
                    member.parameters,
                ])
            }));
            execute_exactly(tx, NOTE_PROMPTS, [list, text(&self.batch)], chunk.len()).await?;
        }
        self.refuse_members(tx, rules, &submission).await?;
        let mut change = submission.change(self.at);
        change.lines_sha256 = Set(Some(self.sha256.to_string()));
        change.lines_bytes = Set(Some(signed(self.bytes)));
        change.reserved_cost_nanos = Set(self.reserved_cost_nanos.map(signed));
        change.record_count = Set(signed(as_u64(self.included.len())));
        submission.write(tx, change).await
    }
}

pub(super) const MEMBER_KEYS: &str = "
    SELECT json_group_array(record_key) FROM batch_record_keys WHERE batch_id = ?1";

impl RecordSpooled {
    /// Every member is either in the lines file or refused, and nobody else is.
    async fn refuse_strangers(&self, tx: &DatabaseTransaction) -> StateResult<()> {
        let mut members: Vec<String> = listed(tx, MEMBER_KEYS, [text(&self.batch)]).await?;
        members.sort_unstable();
        let included = self.included.iter().map(|member| member.key.as_str());
        let refused = self.refused.iter().map(|(key, _detail)| key.as_str());
        let mut named: Vec<&str> = included.chain(refused).collect();
        named.sort_unstable();
        if named == members {
            return Ok(());
        }
        Err(StateError::Conflict(format!(
            "the lines file of batch '{}' does not name each of its members once",
            self.batch
        )))
    }

    async fn refuse_members(
        &self,
        tx: &DatabaseTransaction,
        rules: &Rules,
        submission: &Submission,
    ) -> StateResult<()> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let run = submission.run();
        let cause = Cause {
            run: Some(&run),
            batch: Some(&self.batch),
        };
        let mut pages = Pages::load(tx, self.refused.iter().map(|(key, _detail)| key)).await?;
        let keys = self.refused.iter().map(|(key, _detail)| key);
        let numbers = attempt_numbers(tx, &self.batch, keys).await?;
        let mut failures = Vec::with_capacity(self.refused.len());
        for (key, detail) in &self.refused {
            let event = PageEvent::PackRefused {
                error: detail.error,
            };
            let row = pages.apply(key, &event, &cause, &detail.message)?;
            row.batch_id = None;
            failures.push(Failure {
                key,
                batch: self.batch.as_str(),
                attempt_number: numbers.get(key.as_str()).copied().unwrap_or(0),
                detail,
                counted: Counted::Yes,
            });
        }
        pages.write(tx, rules, self.at).await?;
        let recipe = Some(submission.row.recipe_hash.as_str());
        record_failures(tx, failures, recipe, Some(&run), self.at).await?;
        let list = json_list(self.refused.iter().map(|(key, _detail)| key.as_str()));
        for table in ["attempts", "inflight_records", "batch_record_keys"] {
            let sql = format!(
                "DELETE FROM {table}
                 WHERE batch_id = ?2 AND record_key IN (SELECT value FROM json_each(?1))"
            );
            let values = [list.clone(), text(&self.batch)];
            execute_exactly(tx, &sql, values, self.refused.len()).await?;
        }
        Ok(())
    }
}

/// The plus keeps SQLite from walking the whole list once for every member.
pub(super) const NOTE_PROMPTS: &str = "
    UPDATE attempts SET prompt_sha256 = c.value->>1, context_sha256 = c.value->>2,
        parameters = c.value->>3
    FROM jsonb_each(?1) AS c
    WHERE attempts.record_key = c.value->>0 AND +attempts.batch_id = ?2
      AND attempts.outcome = 'pending'";

/// The columns of [`ATTEMPT_NUMBERS`], in their order.
#[derive(Deserialize)]
struct NumberRow {
    record_key: String,
    attempt_number: i64,
}

/// The numbers of these members' attempts in a batch; who is no member has none.
pub(super) async fn attempt_numbers<'a>(
    tx: &DatabaseTransaction,
    batch: &BatchId,
    keys: impl IntoIterator<Item = &'a RecordKey>,
) -> StateResult<HashMap<String, i64>> {
    let keys: BTreeSet<&str> = keys.into_iter().map(RecordKey::as_str).collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    let mut numbers = HashMap::with_capacity(keys.len());
    for chunk in keys.chunks(CHUNK_ROWS) {
        let values = [json_list(chunk.iter().copied()), text(batch)];
        let found: Vec<NumberRow> = listed(tx, ATTEMPT_NUMBERS, values).await?;
        numbers.extend(
            found
                .into_iter()
                .map(|row| (row.record_key, row.attempt_number)),
        );
    }
    Ok(numbers)
}

pub(super) const ATTEMPT_NUMBERS: &str = "
    SELECT json_group_array(json_array(record_key, attempt_number)) FROM attempts
    WHERE batch_id = ?2 AND record_key IN (SELECT value FROM json_each(?1))";

impl Apply for RecordJsonlUploaded {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let submission = Submission::load(tx, &self.batch).await?;
        submission.expect(BatchStage::Planned)?;
        let former: Vec<String> = submission.row.lines_file.iter().cloned().collect();
        mark_deleting(tx, &former, self.at).await?;
        remote_files::insert_lines(tx, &self.batch, &self.file, self.at).await?;
        let mut change = submission.change(self.at);
        change.lines_file = Set(Some(self.file.name.to_string()));
        submission.write(tx, change).await
    }
}

impl Apply for ForgetJsonl {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let submission = Submission::load(tx, &self.batch).await?;
        // Later than that, a job may be reading the file.
        submission.expect(BatchStage::Planned)?;
        let lines: Vec<String> = submission.row.lines_file.iter().cloned().collect();
        mark_deleting(tx, &lines, self.at).await?;
        let mut change = submission.change(self.at);
        change.lines_file = Set(None);
        submission.write(tx, change).await
    }
}
