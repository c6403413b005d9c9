//! The end of a batch that has no results: what becomes of its members is the same whoever hears
//! of it.

use std::time::Duration;

use actix::Addr;

use super::activity::answered;
use super::state::StateActor;
use super::state::messages::{EndBatch, Member, StateError};
use crate::decide::release;
use crate::domain::batch::{AbandonCode, BatchEvent};
use crate::domain::ids::BatchId;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::notices;

/// What releasing pages is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReleaseRules {
    pub releases_max: u32,
    /// What an image must have left to be used again.
    pub life_min: Duration,
}

/// A batch that ends without results.
pub(super) struct Ending {
    pub batch: BatchId,
    pub event: BatchEvent,
    pub code: AbandonCode,
    pub members: Vec<Member>,
    pub note: String,
}

impl Ending {
    /// Tells of it and records it; members without a verdict go back uncounted. Gives how many.
    pub(super) async fn record(
        self,
        state: &Addr<StateActor>,
        rules: ReleaseRules,
        now: Timestamp,
    ) -> Result<u64, StateError> {
        let Ending {
            batch,
            event,
            code,
            members,
            note,
        } = self;
        let usable_until = now.plus(rules.life_min);
        let batch_size_max = release::batch_size_max(code, members.len() as u64);
        let open = [PageStage::Batched, PageStage::Validating];
        let pages = members
            .into_iter()
            .filter(|member| member.stage.is_some_and(|stage| open.contains(&stage)))
            .map(|member| {
                let releases = member.releases;
                let event = release::member(code, releases, rules.releases_max, usable_until);
                (member.key, event)
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
            batch_size_max,
            note,
            at: now,
        };
        let tally = answered(state.send(end).await)?;
        Ok(tally.released)
    }
}
