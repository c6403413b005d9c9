//! Manifests of batches that are closed are of no use any more. They are removed where a batch ends;
//! what a crash left of them is removed here, at the start and at the end of a run.

use std::rc::Rc;

use actix::Addr;

use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{ClosedBatches, StateError};
use crate::notices;
use crate::ports::result_sink::ResultSink;

/// Removes the manifests of closed batches. One of a batch that the state does not know stays: it is
/// what a lost database is rebuilt from.
pub(super) async fn tidy(
    sink: &Rc<dyn ResultSink>,
    state: &Addr<StateActor>,
) -> Result<(), StateError> {
    let batches = match sink.manifests().await {
        Ok(batches) => batches,
        Err(error) => {
            notices::LeftOnDisk { fault: &error }.emit();
            return Ok(());
        }
    };
    if batches.is_empty() {
        return Ok(());
    }
    for batch in answered(state.send(ClosedBatches { batches }).await)? {
        if let Err(error) = sink.remove_manifest(&batch).await {
            notices::LeftOnDisk { fault: &error }.emit();
        }
    }
    Ok(())
}
