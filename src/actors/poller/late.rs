//! One look at a job beside or after its batch.

use std::rc::Rc;
use std::time::Duration;

use actix::Addr;

use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{LateJob, RecordLateLook, StateError};
use crate::decide::poll::{self, Seen};
use crate::domain::failure::Next;
use crate::domain::ids::BatchId;
use crate::domain::late::LateEvent;
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;

/// Looks that must not find the job before it counts as gone.
const LOOKS_MIN: u32 = 3;

/// What one look led to.
pub(super) enum LateLooked {
    Offered { batch: BatchId },
    Nothing,
    Failed,
}

/// One look at one job.
pub(super) struct LateLook {
    pub state: Addr<StateActor>,
    pub batches: Rc<dyn BatchApi>,
    pub clock: Rc<dyn Clock>,
    /// How long a job that ended may take to name results.
    pub patience: Duration,
    pub job: LateJob,
}

impl LateLook {
    pub async fn run(self) -> Result<LateLooked, StateError> {
        let looked = self.batches.batch(&self.job.job).await;
        let mut record = RecordLateLook {
            job: self.job.job.clone(),
            remote_state: None,
            output: None,
            event: LateEvent::Looked,
            note: String::new(),
            at: self.clock.now(),
        };
        let answered_well = looked.is_ok();
        match looked {
            Ok(remote) => {
                record.event = match poll::seen(&remote) {
                    Seen::StillRunning | Seen::ResultsNotNamed => LateEvent::Looked,
                    Seen::Results => LateEvent::ResultsOffered,
                    Seen::Nothing { words, .. } => {
                        record.note = words;
                        if record.at.since(self.job.found_at) < self.patience {
                            LateEvent::Looked
                        } else {
                            LateEvent::EndedEmpty
                        }
                    }
                };
                record.remote_state = Some(remote.state.as_str().to_owned());
                record.output = remote.output;
            }
            Err(error) => {
                if matches!(error.next, Next::Missing) && self.job.looks + 1 >= LOOKS_MIN {
                    record.event = LateEvent::Vanished;
                }
                notices::LateTrouble {
                    job: &self.job.job,
                    message: &error.message,
                }
                .emit();
                record.note = error.message;
            }
        }
        let event = record.event;
        answered(self.state.send(record).await)?;
        Ok(match event {
            LateEvent::ResultsOffered => LateLooked::Offered {
                batch: self.job.batch,
            },
            _ if answered_well => LateLooked::Nothing,
            _ => LateLooked::Failed,
        })
    }
}
