//! Runs, and what a process that died left in the middle.

use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use entity::{recipes, runs};

use super::messages::{
    ApplyRecovery, FinishRun, Interrupted, ListInterrupted, RecipeRow, RunStarted, RunStatus,
    StartRun, StateError, StateResult,
};
use super::pages::{Cause, Pages};
use super::sql::{execute, maybe_text, small, text, texts};
use super::submits::Submission;
use super::{Apply, Rules, questions};
use crate::domain::ids::{BatchId, RecordKey};
use crate::domain::page::PageStage;

pub(super) const FIRST_RUN: &str = "
    SELECT run_id || ' ' || started_at FROM runs ORDER BY created_at, run_id LIMIT 1";

impl Apply for StartRun {
    type Reply = RunStarted;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<RunStarted> {
        let at = self.at.to_string();
        store_recipe(tx, &self.recipe, &at).await?;
        let known = runs::Entity::find_by_id(self.run.as_str()).one(tx).await?;
        if let Some(known) = &known {
            self.refuse_another(known)?;
        }
        execute(tx, STOP_OTHERS, [text(&self.run)]).await?;
        let restarts = known.as_ref().map_or(0, |run| run.restarts + 1);
        let row = runs::ActiveModel {
            run_id: Set(self.run.to_string()),
            label: Set(self.label.clone()),
            status: Set(RunStatus::Processing.as_str().to_owned()),
            recipe_hash: Set(self.recipe.hash.to_string()),
            scope: Set(self.scope.to_string()),
            window_since: Set(self.window.as_ref().map(|window| window.since.to_string())),
            window_until: Set(self.window.as_ref().map(|window| window.until.to_string())),
            window_name: Set(self.window.as_ref().map(|window| window.name.clone())),
            config_snapshot: Set(self.config_snapshot.clone()),
            config_sha256: Set(self.config_sha256.to_string()),
            restarts: Set(restarts),
            ended_at: Set(None),
            updated_at: Set(at.clone()),
            ..Default::default()
        };
        if known.is_some() {
            runs::Entity::update(row).exec(tx).await?;
        } else {
            let row = runs::ActiveModel {
                totals: Set("{}".to_owned()),
                started_at: Set(at.clone()),
                created_at: Set(at),
                ..row
            };
            runs::Entity::insert(row).exec_without_returning(tx).await?;
        }
        let first_run = maybe_text(tx, FIRST_RUN, []).await?.unwrap_or_default();
        Ok(RunStarted {
            restarts: small(restarts),
            first_run,
        })
    }
}

/// Whoever begins a run owns the state: a process that was at work on another run is gone, and left no
/// word.
const STOP_OTHERS: &str = "
    UPDATE runs SET status = 'stopped', ended_at = updated_at
    WHERE status IN ('initializing','processing') AND run_id <> ?1";

impl StartRun {
    /// A run is continued as it was begun, or not at all.
    fn refuse_another(&self, known: &runs::Model) -> StateResult<()> {
        let refuse = |what, theirs: &str| {
            Err(StateError::OtherRun {
                run: self.run.clone(),
                what,
                theirs: theirs.to_owned(),
            })
        };
        if known.recipe_hash != self.recipe.hash.as_str() {
            return refuse("recipe", &known.recipe_hash);
        }
        let window = self.window.as_ref().map(|window| window.name.as_str());
        if known.window_name.as_deref() != window {
            return refuse("window", known.window_name.as_deref().unwrap_or("none"));
        }
        Ok(())
    }
}

/// A recipe never changes: its hash is its name.
pub(super) async fn store_recipe(
    tx: &DatabaseTransaction,
    recipe: &RecipeRow,
    at: &str,
) -> StateResult<()> {
    let RecipeRow {
        hash,
        prompt_name,
        prompt_template,
        context_template,
        schema,
        model,
        generation_config,
    } = recipe;
    let known = recipes::Entity::find_by_id(hash.as_str()).one(tx).await?;
    if let Some(known) = known {
        let same = known.prompt_name == *prompt_name
            && known.prompt_template == *prompt_template
            && known.context_template == *context_template
            && known.schema == *schema
            && known.model == *model
            && known.generation_config == *generation_config;
        if same {
            return Ok(());
        }
        return Err(StateError::Conflict(format!(
            "recipe '{hash}' is known with other texts"
        )));
    }
    let row = recipes::ActiveModel {
        recipe_hash: Set(hash.to_string()),
        prompt_name: Set(prompt_name.clone()),
        prompt_template: Set(prompt_template.clone()),
        context_template: Set(context_template.clone()),
        schema: Set(schema.clone()),
        model: Set(model.clone()),
        generation_config: Set(generation_config.clone()),
        created_at: Set(at.to_owned()),
    };
    recipes::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

impl Apply for FinishRun {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let run = runs::Entity::find_by_id(self.run.as_str()).one(tx).await?;
        let run = run.ok_or_else(|| StateError::Missing(format!("run '{}'", self.run)))?;
        let scope = run.scope.as_str().into();
        let totals = questions::stage_counts(tx, Some(&scope)).await?;
        let totals: serde_json::Map<String, serde_json::Value> = totals
            .into_iter()
            .map(|(stage, count)| (stage.as_str().to_owned(), count.into()))
            .collect();
        let is_open = matches!(self.status, RunStatus::Initializing | RunStatus::Processing);
        let change = runs::ActiveModel {
            status: Set(self.status.as_str().to_owned()),
            totals: Set(serde_json::Value::Object(totals).to_string()),
            ended_at: Set((!is_open).then(|| self.at.to_string())),
            updated_at: Set(self.at.to_string()),
            ..Default::default()
        };
        runs::Entity::update_many()
            .set(change)
            .filter(runs::Column::RunId.eq(self.run.as_str()))
            .exec(tx)
            .await?;
        Ok(())
    }
}

impl Apply for ListInterrupted {
    type Reply = Interrupted;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Interrupted> {
        let uploading = texts(
            tx,
            "SELECT record_key FROM pages WHERE stage = ?1 ORDER BY record_key",
            [PageStage::Uploading.as_str().into()],
        )
        .await?;
        let submitting = texts(
            tx,
            "SELECT batch_id FROM submissions WHERE state = 'submitting' ORDER BY created_at, batch_id",
            [],
        )
        .await?;
        Ok(Interrupted {
            uploading: uploading.into_iter().map(RecordKey::from).collect(),
            submitting: submitting.into_iter().map(BatchId::from).collect(),
        })
    }
}

impl Apply for ApplyRecovery {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<()> {
        let mut pages = Pages::load(tx, self.pages.iter().map(|(key, _event)| key)).await?;
        let cause = Cause {
            run: None,
            batch: None,
        };
        for (key, event) in &self.pages {
            pages.apply(key, event, &cause, "")?;
        }
        pages.write(tx, rules, self.at).await?;
        for (batch, event) in &self.batches {
            let submission = Submission::load(tx, batch).await?;
            let change = submission.change(self.at);
            let note = "found in the middle at the start";
            submission.record(tx, event, note, self.at, change).await?;
        }
        Ok(())
    }
}
