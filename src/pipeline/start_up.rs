//! Before the stages start: is this the right key, what did an earlier process leave, which run is
//! this.

use actix::Addr;

use super::{Plan, World};
use crate::actors::activity::answered;
use crate::actors::blocking::sha256;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{
    ApplyRecovery, BatchRow, CheckLive, Halt, ListBatches, ListInterrupted, RecipeRow, RunStarted,
    StartRun, StateError, Summarize,
};
use crate::decide::recover;
use crate::domain::batch::BatchStage;
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, KeyFingerprint};
use crate::domain::page::PageStage;
use crate::notices;
use crate::ports::clock::Clock;

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(
        "{batches} live batches were made with another API key or project (fingerprint {theirs}; \
         this one is {ours}): a key of another project cannot see them. Use the key that made \
         them, or finish them with it first; if this key is of the same project: pagemill rekey"
    )]
    OtherKey {
        batches: usize,
        theirs: String,
        ours: String,
    },
    #[error(
        "the state is not consistent, and nothing is sent on such ground: {first}. \
         See `pagemill verify`; its --fix repairs what is safe"
    )]
    Inconsistent { first: String },
    #[error(
        "{batches} batches were sent that this database does not know ({first} and so on): it was \
         lost, or put back from an old copy, and their pages would be paid for again. Bring it up \
         to date first: pagemill reconcile --apply"
    )]
    UnknownBatches { batches: usize, first: String },
}

/// How much of the owner's hash stands in the names of remote files.
const OWNER_CHARACTERS: usize = 12;

/// Files of one state are told from those of every other by the beginning of their names.
pub(super) fn file_prefix(prefix: &str, first_run: &str) -> String {
    let owner = sha256(first_run.as_bytes());
    format!("{prefix}-{}", &owner.as_str()[..OWNER_CHARACTERS])
}

/// Under another key live jobs look missing, and what is missing would be bought again.
pub(super) async fn refuse_other_keys(
    state: &Addr<StateActor>,
    ours: &KeyFingerprint,
) -> Result<(), StartError> {
    let states = vec![
        BatchStage::Submitting,
        BatchStage::InDoubt,
        BatchStage::Submitted,
        BatchStage::Ready,
    ];
    let question = ListBatches {
        states,
        limit: u64::from(u32::MAX),
    };
    let live = answered(state.send(question).await)?;
    let others: Vec<&BatchRow> = live
        .iter()
        .filter(|row| row.key_fingerprint != *ours)
        .collect();
    match others.first() {
        None => Ok(()),
        Some(row) => Err(StartError::OtherKey {
            batches: others.len(),
            theirs: row.key_fingerprint.to_string(),
            ours: ours.to_string(),
        }),
    }
}

/// What is in flight must be what the rows say, or pages would be bought twice.
pub(super) async fn refuse_inconsistent(state: &Addr<StateActor>) -> Result<(), StartError> {
    match answered(state.send(CheckLive {}).await)?.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(StartError::Inconsistent { first }),
    }
}

/// A database that does not know what was sent would send it again.
pub(super) fn refuse_unknown(unknown: &[BatchId]) -> Result<(), StartError> {
    match unknown.first() {
        None => Ok(()),
        Some(first) => Err(StartError::UnknownBatches {
            batches: unknown.len(),
            first: first.to_string(),
        }),
    }
}

/// Names an event for everything that an earlier process left in the middle, and applies them.
pub(super) async fn recover_state(
    state: &Addr<StateActor>,
    clock: &dyn Clock,
) -> Result<(), StateError> {
    let interrupted = answered(state.send(ListInterrupted {}).await)?;
    if interrupted.uploading.is_empty() && interrupted.submitting.is_empty() {
        return Ok(());
    }
    let at = clock.now();
    tracing::info!(
        uploading = interrupted.uploading.len(),
        submitting = interrupted.submitting.len(),
        "recovering what an earlier process left"
    );
    let pages = interrupted
        .uploading
        .into_iter()
        .map(|key| (key, recover::uploading()))
        .collect();
    let batches = interrupted
        .submitting
        .into_iter()
        .map(|batch| (batch, recover::submitting(at)))
        .collect();
    answered(state.send(ApplyRecovery { pages, batches, at }).await)
}

pub(super) async fn open_run(
    plan: &Plan,
    state: &Addr<StateActor>,
    clock: &dyn Clock,
) -> Result<RunStarted, StateError> {
    let recipe = &plan.recipe;
    let message = StartRun {
        run: plan.run.clone(),
        label: plan.run_label.clone(),
        recipe: RecipeRow {
            hash: recipe.hash.clone(),
            prompt_name: recipe.prompt_name.clone(),
            prompt_template: recipe.prompt_template.clone(),
            context_template: recipe.context_template.clone(),
            schema: recipe.schema_text.clone(),
            model: recipe.model.clone(),
            generation_config: recipe.generation_config.to_string(),
        },
        scope: plan.scope.clone(),
        window: plan.scanner.window.clone(),
        config_snapshot: plan.config_snapshot.clone(),
        config_sha256: plan.config_sha256.clone(),
        at: clock.now(),
    };
    answered(state.send(message).await)
}

/// Lets nothing be sent before an operator has had a look.
pub(super) async fn begin_paused(
    state: &Addr<StateActor>,
    clock: &dyn Clock,
) -> Result<(), StateError> {
    let halt = Halt {
        reason: HaltReason::Paused,
        message: "recovery.auto is off: have a look at `pagemill status`, then resume".to_owned(),
        at: clock.now(),
    };
    answered(state.send(halt).await).map(|_is_new| ())
}

/// Tidies the work folder, and tells the sink whether there should be outputs. What the disk does
/// not allow now is no reason not to start: the stages pause where it matters.
pub(super) async fn prepare_disk(
    world: &World,
    state: &Addr<StateActor>,
) -> Result<(), StateError> {
    let states = vec![
        BatchStage::Planned,
        BatchStage::Submitting,
        BatchStage::InDoubt,
    ];
    let question = ListBatches {
        states,
        limit: u64::from(u32::MAX),
    };
    let unsent = answered(state.send(question).await)?;
    let keep: Vec<BatchId> = unsent.into_iter().map(|row| row.batch).collect();
    match world.sink.remove_leftovers(&keep).await {
        Ok(0) => {}
        Ok(files) => notices::LeftoversRemoved { files }.emit(),
        Err(fault) => notices::LeftOnDisk { fault: &fault }.emit(),
    }
    // Counting pages has a price, and an output folder that holds something needs no count.
    if world.source.output_folder().await.is_err() {
        let question = Summarize {
            scope: None,
            at: world.clock.now(),
        };
        let summary = answered(state.send(question).await)?;
        if summary.pages_in(PageStage::Completed) > 0 {
            world.sink.expect_outputs();
        }
    }
    Ok(())
}
