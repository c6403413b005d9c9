//! Deletions: what nobody needs any more leaves the provider's store.

use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use futures_util::StreamExt;

use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{
    DeleteOutcome, FilePurpose, LedgerFile, ListDeletable, RecordDeletions, StateError,
};
use crate::domain::failure::Next;
use crate::domain::ids::{KeyFingerprint, RemoteName};
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::file_api::FileApi;

/// One round of deletions.
pub(super) struct Deletion {
    pub state: Addr<StateActor>,
    pub files: Rc<dyn FileApi>,
    pub batches: Rc<dyn BatchApi>,
    pub at: Timestamp,
    pub limit: usize,
    /// Another key cannot delete, and what it is told of our files means nothing.
    pub key_fingerprint: KeyFingerprint,
}

/// What a round of deletions did.
pub(super) struct Deleted {
    pub asked: usize,
    /// Files that will not be asked for again.
    pub gone: usize,
    /// Files of these whose bytes are free.
    pub freed: usize,
}

/// Files that one round asks for, for each deletion that may run side by side.
const DELETIONS_A_PLACE: usize = 16;
/// How long a file that could not be deleted is left alone.
const DELETE_AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Deletion {
    pub(super) async fn run(self) -> Result<Deleted, StateError> {
        let limit = (self.limit * DELETIONS_A_PLACE) as u64;
        let due = answered(self.state.send(ListDeletable { limit, at: self.at }).await)?;
        let asked = due.len();
        if asked == 0 {
            return Ok(Deleted {
                asked: 0,
                gone: 0,
                freed: 0,
            });
        }
        let (files, batches, at) = (&self.files, &self.batches, self.at);
        let ours = &self.key_fingerprint;
        let outcomes: Vec<(RemoteName, DeleteOutcome)> = futures_util::stream::iter(due)
            .map(|file| async move { delete_one(files, batches, file, ours, at).await })
            .buffer_unordered(self.limit.max(1))
            .collect()
            .await;
        let count = |wanted: fn(&DeleteOutcome) -> bool| {
            let wanted = outcomes.iter().filter(|(_name, outcome)| wanted(outcome));
            wanted.count()
        };
        let gone = count(|outcome| !matches!(outcome, DeleteOutcome::Later { .. }));
        let freed =
            count(|outcome| matches!(outcome, DeleteOutcome::Deleted | DeleteOutcome::Gone));
        answered(
            self.state
                .send(RecordDeletions {
                    files: outcomes,
                    at,
                })
                .await,
        )?;
        Ok(Deleted { asked, gone, freed })
    }
}

async fn delete_one(
    files: &Rc<dyn FileApi>,
    batches: &Rc<dyn BatchApi>,
    file: LedgerFile,
    ours: &KeyFingerprint,
    at: Timestamp,
) -> (RemoteName, DeleteOutcome) {
    if file.key_fingerprint != *ours {
        let note = "it belongs to another key, and expires by itself".to_owned();
        return (file.name, DeleteOutcome::Undeletable { note });
    }
    // A results file cannot be deleted by itself; its job takes it along.
    let deleted = match (file.purpose, &file.job) {
        (FilePurpose::Results, Some(job)) => batches.delete_batch(job).await,
        _ => files.delete_file(&file.name).await,
    };
    let outcome = match deleted {
        Ok(()) => DeleteOutcome::Deleted,
        Err(error) => match error.next {
            Next::Missing => DeleteOutcome::Gone,
            Next::Refused => DeleteOutcome::Undeletable {
                note: error.message,
            },
            Next::Transient
            | Next::Throttled { .. }
            | Next::NotReady
            | Next::Account(_)
            | Next::Garbled
            | Next::Local => DeleteOutcome::Later {
                until: at.plus(DELETE_AGAIN_AFTER),
                note: error.message,
            },
        },
    };
    notices::FileDeleted {
        file: &file.name,
        outcome: &outcome,
    }
    .emit();
    (file.name, outcome)
}
