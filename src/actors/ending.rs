//! The end of a batch that has no results: what becomes of its members is the same whoever hears
//! of it.

use std::time::Duration;

use actix::Addr;
use futures_util::join;

use super::activity::answered;
use super::brake::Brake;
use super::state::StateActor;
use super::state::messages::{EndBatch, Member, StateError};
use crate::decide::pace::PaceEvent;
use crate::decide::release::{self, BatchEnd, ReleaseLimits, Released};
use crate::domain::batch::{AbandonCode, BatchEvent};
use crate::domain::ids::BatchId;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::notices;

/// What releasing pages is judged by.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseRules {
    pub releases_max: u32,
    /// What an image must have left to be used again.
    pub life_min: Duration,
    /// How long pages of an expired batch wait before they are sent again.
    pub expired_pause: Duration,
}

impl ReleaseRules {
    /// The same as they stand now.
    fn limits(&self, now: Timestamp) -> ReleaseLimits {
        ReleaseLimits {
            releases_max: self.releases_max,
            usable_until: now.plus(self.life_min),
            expired_pause: self.expired_pause,
            now,
        }
    }
}

/// A batch that ends without results.
pub(super) struct Ending {
    pub batch: BatchId,
    pub model: String,
    pub event: BatchEvent,
    pub code: AbandonCode,
    /// Whether the provider said that the same batch would fail again.
    pub for_good: bool,
    pub members: Vec<Member>,
    pub note: String,
}

impl Ending {
    /// Tells of it and records it; members without a verdict go back uncounted. Gives how many.
    pub(super) async fn record(
        self,
        state: &Addr<StateActor>,
        rules: ReleaseRules,
        brake: &Brake,
        now: Timestamp,
    ) -> Result<u64, StateError> {
        let Ending {
            batch,
            model,
            event,
            code,
            for_good,
            members,
            note,
        } = self;
        let open = [PageStage::Batched, PageStage::Validating];
        let open: Vec<Member> = members
            .into_iter()
            .filter(|member| member.stage.is_some_and(|stage| open.contains(&stage)))
            .collect();
        let end = BatchEnd {
            code,
            members: open.len() as u64,
            for_good,
        };
        let pages = open
            .into_iter()
            .map(|member| {
                let page = Released {
                    releases: member.releases,
                    whole_failures: member.whole_failures,
                    batch_size_max: member.batch_size_max,
                };
                (member.key, release::member(end, page, rules.limits(now)))
            })
            .collect();
        notices::BatchEnded {
            batch: &batch,
            code,
            message: &note,
        }
        .emit();
        let end = EndBatch {
            batch,
            event,
            pages,
            counted: release::counts(code),
            batch_size_max: release::batch_size_max(code, end.members),
            note,
            at: now,
        };
        let ended = PaceEvent::Ended(code);
        let pace = brake.adapted(state, &model, ended, now).await?;
        // Told in one go: nobody plans a batch of the former size from the pages that this one lets go.
        let (tally, kept) = join!(state.send(end), async {
            match pace {
                Some(pace) => answered(state.send(pace).await),
                None => Ok(()),
            }
        });
        let tally = answered(tally)?;
        kept?;
        brake.press(state, now).await?;
        Ok(tally.released)
    }
}
