//! The manifests on our disk against the batches that the state knows.
//!
//! Those of closed batches are of no use any more. They are removed where a batch ends; what a crash
//! left of them is removed here, at the start and at the end of a run. One of a batch that is not
//! known stays: it is what a lost database is rebuilt from.

use std::collections::HashMap;
use std::rc::Rc;

use actix::Addr;

use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{StagesOfBatches, StateError};
use crate::domain::batch::BatchStage;
use crate::domain::ids::BatchId;
use crate::notices;
use crate::ports::result_sink::ResultSink;

/// Removes the manifests of closed batches; gives the batches that the state does not know.
pub(super) async fn tidy(
    sink: &Rc<dyn ResultSink>,
    state: &Addr<StateActor>,
) -> Result<Vec<BatchId>, StateError> {
    let kept = match sink.manifests().await {
        Ok(kept) => kept,
        Err(error) => {
            notices::LeftOnDisk { fault: &error }.emit();
            return Ok(Vec::new());
        }
    };
    if kept.is_empty() {
        return Ok(kept);
    }
    let question = StagesOfBatches {
        batches: kept.clone(),
    };
    let stages = answered(state.send(question).await)?;
    let stages: HashMap<BatchId, BatchStage> = stages.into_iter().collect();
    let mut unknown = Vec::new();
    for batch in kept {
        let removed = match stages.get(&batch) {
            Some(BatchStage::Settled | BatchStage::Abandoned) => sink.remove_manifest(&batch).await,
            Some(
                BatchStage::Planned
                | BatchStage::Submitting
                | BatchStage::InDoubt
                | BatchStage::Submitted
                | BatchStage::Ready,
            ) => Ok(()),
            None => {
                unknown.push(batch);
                Ok(())
            }
        };
        if let Err(error) = removed {
            notices::LeftOnDisk { fault: &error }.emit();
        }
    }
    Ok(unknown)
}
