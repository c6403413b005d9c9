//! The manifest of a batch: what is kept on our disk before its job can exist, so that the job is
//! known again when the database is lost.

use super::Desk;
use crate::actors::activity::answered;
use crate::actors::state::messages::{DescribeBatch, StateError};
use crate::domain::ids::BatchId;
use crate::notices;
use crate::ports::page_source::SourceError;
use crate::wire::manifest;

/// Writes the manifest of a batch, durably.
pub(super) async fn keep(
    desk: &Desk,
    batch: &BatchId,
) -> Result<Result<(), SourceError>, StateError> {
    let batch = batch.clone();
    let question = DescribeBatch {
        batch: batch.clone(),
    };
    let described = answered(desk.peers.state.send(question).await)?;
    let text = manifest::encode(&described);
    Ok(desk.ports.sink.write_manifest(&batch, text).await)
}

/// Removes the manifest of a batch that never had a job, or has none any more.
pub(super) async fn forget(desk: &Desk, batch: &BatchId) {
    if let Err(error) = desk.ports.sink.remove_manifest(batch).await {
        notices::LeftOnDisk { fault: &error }.emit();
    }
}
