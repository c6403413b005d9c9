//! What an operator wants of a batch, done by whoever works on the batch: so it never meets work
//! that is under way.

use std::rc::Rc;

use actix::Addr;

use super::activity::answered;
use super::brake::Brake;
use super::ending::{Ending, ReleaseRules};
use super::state::StateActor;
use super::state::messages::{BatchRow, ListMembers, RecordCancelSent, StateError};
use crate::domain::batch::{AbandonCode, BatchEvent, BatchState};
use crate::domain::failure::{ApiError, Next};
use crate::domain::order::Wish;
use crate::notices;
use crate::ports::batch_api::BatchApi;
use crate::ports::clock::Clock;

/// What the history says of a batch that was given up.
const GIVEN_UP: &str = "an operator gave it up";

/// What came of a wish.
pub enum Fulfilled {
    /// The batch lives on; the provider was asked to stop its job where that was wanted.
    LivesOn,
    /// The batch is given up.
    Forgotten { released: u64 },
    /// The provider was not to be asked; the wish stands.
    Failed(ApiError),
}

/// What fulfilling a wish needs.
pub struct WishDesk {
    pub state: Addr<StateActor>,
    /// Without it nothing is asked of the provider, and what needs that waits.
    pub batches: Option<Rc<dyn BatchApi>>,
    pub clock: Rc<dyn Clock>,
    pub release: ReleaseRules,
    pub brake: Brake,
}

/// Whether something is still to be done about a batch.
pub fn is_pending(row: &BatchRow) -> bool {
    row.wish
        .is_some_and(|wish| wish.forgets() || is_to_be_asked(row, wish))
}

/// Whether the provider is still to be asked to stop the job.
fn is_to_be_asked(row: &BatchRow, wish: Wish) -> bool {
    wish.cancels() && !row.cancel_sent && matches!(row.state, BatchState::Submitted { .. })
}

impl WishDesk {
    /// Does what is wanted of a batch: first the provider is asked, then the batch is given up.
    pub async fn fulfill(&self, row: &BatchRow) -> Result<Fulfilled, StateError> {
        let Some(wish) = row.wish else {
            return Ok(Fulfilled::LivesOn);
        };
        if let BatchState::Submitted { remote } = &row.state
            && is_to_be_asked(row, wish)
            && let Some(batches) = &self.batches
        {
            match batches.cancel(remote).await {
                Ok(()) => {}
                // A job that is not there needs no stopping; the look at it says so by itself.
                Err(error) if matches!(error.next, Next::Missing) => {}
                Err(error) => return Ok(Fulfilled::Failed(error)),
            }
            notices::CancelSent {
                batch: &row.batch,
                remote,
            }
            .emit();
            let sent = RecordCancelSent {
                batch: row.batch.clone(),
                at: self.clock.now(),
            };
            answered(self.state.send(sent).await)?;
        }
        if !wish.forgets() {
            return Ok(Fulfilled::LivesOn);
        }
        self.forget(row).await
    }

    async fn forget(&self, row: &BatchRow) -> Result<Fulfilled, StateError> {
        let batch = row.batch.clone();
        let question = ListMembers {
            batch: batch.clone(),
        };
        let members = answered(self.state.send(question).await)?;
        let ending = Ending {
            batch,
            model: row.model.clone(),
            event: BatchEvent::Forgotten,
            code: AbandonCode::Forgotten,
            for_good: false,
            members,
            note: GIVEN_UP.to_owned(),
        };
        let now = self.clock.now();
        let released = ending.record(&self.state, self.release, &self.brake, now);
        Ok(Fulfilled::Forgotten {
            released: released.await?,
        })
    }
}
