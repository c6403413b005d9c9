//! One look at the state: what can be planned is planned, what is due or in doubt is found.

use std::collections::HashMap;

use futures_util::join;

use super::Desk;
use crate::actors::activity::answered;
use crate::actors::brake;
use crate::actors::hint::RoomAhead;
use crate::actors::state::messages::{
    BatchRow, HaltRow, ListBatches, ListHalts, ListStanding, ListUploaded, MoreCanCome, MostUrgent,
    PlanBatch, ReadPace, StateError, Uploaded,
};
use crate::decide::brake::Trial;
use crate::decide::pace as decide_pace;
use crate::decide::pack::{self, Candidate, Company, Limits, Packed, Timing};
use crate::domain::batch::{BatchStage, BatchState};
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, RecordKey};
use crate::domain::order::Wish;
use crate::domain::page::Urgency;
use crate::domain::time::Timestamp;
use crate::notices;

/// What one look at the state found to do.
pub(super) struct Found {
    pub due: Vec<BatchRow>,
    pub doubted: Vec<BatchRow>,
    /// Batches that an operator gave up before the provider had them.
    pub given_up: Vec<BatchRow>,
    /// Why nothing is submitted.
    pub halts: Vec<HaltRow>,
    /// Why pages could not be measured for a batch, if our own disk is at fault.
    pub disk: Option<String>,
    /// Pages without which the next batch is not full, where it waits for them.
    pub short: u64,
}

/// How a look for a batch to plan ended.
enum Planning {
    Planned,
    Nothing,
    /// A batch waits for company.
    Waits {
        short: u64,
    },
}

/// How many waiting pages are looked at for one batch, as a multiple of its page limit: pages that
/// cannot join one batch are passed over, not waited for.
const CANDIDATES_A_PAGE: u64 = 4;

/// More live batches than this are never looked at in one question.
const LIVE_LISTED: u64 = 10_000;

impl Desk {
    /// Plans what can be planned, then lists what is to be submitted and what is in doubt.
    pub(super) async fn look(&self, more_may_come: bool) -> Result<Found, StateError> {
        let mut disk = None;
        loop {
            // What is asked together is answered in one transaction, in this order.
            let (halts, live) = join!(self.peers.state.send(ListHalts {}), self.live());
            let (halts, live) = (answered(halts)?, live?);
            let places = self.live_max(&live).saturating_sub(live.len());
            let may_plan = places > 0 && halts.is_empty();
            if !may_plan {
                self.held_since.set(None);
            }
            let planning = if may_plan {
                self.plan(more_may_come, &live, places, &mut disk).await?
            } else {
                Planning::Nothing
            };
            let short = match planning {
                Planning::Planned => continue,
                Planning::Nothing => 0,
                Planning::Waits { short } => short,
            };
            return Ok(self.found(live, halts, disk, short));
        }
    }

    /// How many batches may be live: fewer when the oldest one has waited so long that those sent
    /// after it would expire together with it.
    fn live_max(&self, live: &[BatchRow]) -> usize {
        let now = self.ports.clock.now();
        let submitted = live
            .iter()
            .filter(|row| row.state.stage() == BatchStage::Submitted)
            .filter_map(|row| row.submitted_at)
            .min();
        let oldest = submitted.map(|at| now.since(at)).unwrap_or_default();
        let pace = &self.options.brake.pace;
        let live_max = decide_pace::live_max(oldest, self.options.live_max, pace);
        let told = self.told_live_max.replace(live_max);
        if live_max < self.options.live_max && told != live_max {
            notices::SlowedDown {
                oldest_hours: oldest.as_secs() / 3600,
                live_max,
            }
            .emit();
        }
        live_max
    }

    /// The recipe and the rows can make the lines again; the file is only in the way.
    pub(super) async fn remove_spool(&self, batch: &BatchId) {
        if let Err(error) = self.ports.sink.remove_spool(batch).await {
            notices::LeftOnDisk { fault: &error }.emit();
        }
    }

    /// Input tokens of all batches that the provider has.
    pub(super) async fn tokens_live(&self) -> Result<u64, StateError> {
        Ok(tokens_of(&self.live().await?))
    }

    /// The limits of the next batch: a recipe that has not shown what it can do gets a small first
    /// one. `None` when nothing may be planned now.
    async fn limits(&self, live: &[BatchRow]) -> Result<Option<Limits>, StateError> {
        let Some(limits) = self.paced(live).await? else {
            return Ok(None);
        };
        if self.proven.get() {
            return Ok(Some(limits));
        }
        let rules = &self.options.brake.rules;
        let question = ListStanding {
            recipe: self.writer.recipe_hash().clone(),
            batches: u64::from(rules.pilot_pages).max(1),
        };
        let standing = answered(self.peers.state.send(question).await)?;
        match crate::decide::brake::trial(&standing, rules) {
            Trial::Proven => {
                self.proven.set(true);
                Ok(Some(limits))
            }
            Trial::Pilot { pages_max } => Ok(Some(Limits {
                pages_max: limits.pages_max.min(pages_max),
                ..limits
            })),
            Trial::Wait => Ok(None),
            Trial::Failed { words } => {
                let now = self.ports.clock.now();
                brake::halt(&self.peers.state, HaltReason::Pilot, words, now).await?;
                Ok(None)
            }
        }
    }

    /// The limits as they were adapted to what the service takes; `None` when it has enough.
    async fn paced(&self, live: &[BatchRow]) -> Result<Option<Limits>, StateError> {
        let limits = self.options.limits;
        let rules = &self.options.brake.pace;
        let question = ReadPace {
            model: self.writer.model().to_owned(),
        };
        let pace = answered(self.peers.state.send(question).await)?;
        let pages_max = limits.pages_max.min(decide_pace::pages_now(&pace, rules));
        let mut tokens_max = limits.tokens_max;
        if let Some(all) = decide_pace::tokens_now(&pace, rules) {
            let left = all.saturating_sub(tokens_of(live));
            // With nothing on its way one batch may go, however small the limit has become.
            if left == 0 && !live.is_empty() {
                return Ok(None);
            }
            tokens_max = Some(tokens_max.map_or(left, |max| max.min(left)));
        }
        Ok(Some(Limits {
            pages_max,
            tokens_max,
            ..limits
        }))
    }

    async fn live(&self) -> Result<Vec<BatchRow>, StateError> {
        let states = vec![
            BatchStage::Planned,
            BatchStage::Submitting,
            BatchStage::InDoubt,
            BatchStage::Submitted,
            BatchStage::Ready,
        ];
        let limit = LIVE_LISTED;
        answered(self.peers.state.send(ListBatches { states, limit }).await)
    }

    fn found(
        &self,
        live: Vec<BatchRow>,
        halts: Vec<HaltRow>,
        disk: Option<String>,
        short: u64,
    ) -> Found {
        let now = self.ports.clock.now();
        let mut found = Found {
            due: Vec::new(),
            doubted: Vec::new(),
            given_up: Vec::new(),
            halts,
            disk,
            short,
        };
        let halted = !found.halts.is_empty();
        for row in live {
            match &row.state {
                BatchState::Planned { .. } | BatchState::InDoubt { .. }
                    if row.wish.is_some_and(Wish::forgets) =>
                {
                    found.given_up.push(row);
                }
                BatchState::Planned { not_before } => {
                    if !halted && not_before.is_none_or(|at| at <= now) {
                        found.due.push(row);
                    }
                }
                BatchState::InDoubt { .. } => {
                    if self.lookup_due(&row, now) {
                        found.doubted.push(row);
                    }
                }
                BatchState::Submitting
                | BatchState::Submitted { .. }
                | BatchState::Ready { .. }
                | BatchState::Settled
                | BatchState::Abandoned { .. } => {}
            }
        }
        found
    }

    /// Looks are spread evenly over the time that a doubt lasts.
    fn lookup_due(&self, row: &BatchRow, now: Timestamp) -> bool {
        let pause = self.options.settle / self.options.lookups.max(1);
        row.last_lookup_at
            .is_none_or(|last| now >= last.plus(pause))
    }

    /// Plans one batch if there is one to plan.
    async fn plan(
        &self,
        more_may_come: bool,
        live: &[BatchRow],
        places: usize,
        disk: &mut Option<String>,
    ) -> Result<Planning, StateError> {
        let now = self.ports.clock.now();
        let held_since = self.held_since.take().unwrap_or(now);
        let waiting = ListUploaded {
            scope: self.options.scope.clone(),
            limit: u64::from(self.options.limits.pages_max) * CANDIDATES_A_PAGE,
            usable_until: now.plus(self.options.life_min),
        };
        // Asked before the list is: what can no longer come by now stands in the list.
        let (more_can_come, most_urgent, uploaded) = join!(
            self.more_can_come(more_may_come),
            self.most_urgent(places),
            self.peers.state.send(waiting),
        );
        let (more_can_come, most_urgent) = (more_can_come?, most_urgent?);
        let uploaded = answered(uploaded)?;
        if uploaded.pages.is_empty() {
            return Ok(Planning::Nothing);
        }
        let Some(limits) = self.limits(live).await? else {
            return Ok(Planning::Nothing);
        };
        let newest = uploaded.newest;
        let urgencies = urgencies(&uploaded);
        let mut not_given = None;
        let Some(packed) = self.pack(uploaded, limits, &mut not_given).await else {
            *disk = not_given;
            return Ok(Planning::Nothing);
        };
        let least_urgent = packed
            .members
            .iter()
            .filter_map(|key| urgencies.get(key))
            .min();
        let company = Company {
            more_can_come,
            better_can_come: most_urgent.as_ref() > least_urgent,
            newest,
            held_since,
        };
        match pack::timing(&packed, &company, self.options.fill_wait, now) {
            Timing::Now => {}
            Timing::Wait { until } => {
                self.held_since.set(Some(held_since));
                tracing::debug!(pages = packed.members.len(), until = %until, "batch waits for pages");
                let full = u64::from(limits.pages_max);
                let short = full.saturating_sub(packed.members.len() as u64);
                return Ok(Planning::Waits { short });
            }
        }
        self.commit(packed, now).await
    }

    /// Commits the intent of a batch.
    async fn commit(&self, packed: Packed, now: Timestamp) -> Result<Planning, StateError> {
        let batch = BatchId::from(self.ports.entropy.unique_id(now));
        notices::BatchPlanned {
            batch: &batch,
            pages: packed.members.len(),
            line_bytes: packed.line_bytes,
            stopped: packed.stopped,
        }
        .emit();
        let mut members = packed.members;
        members.sort();
        let plan = PlanBatch {
            display_name: batch.display_name(&self.options.display_name_prefix),
            batch,
            run: self.options.run.clone(),
            recipe: self.writer.recipe_hash().clone(),
            model: self.writer.model().to_owned(),
            key_fingerprint: self.options.key_fingerprint.clone(),
            members,
            tokens: Some(packed.tokens),
            at: now,
        };
        match answered(self.peers.state.send(plan).await) {
            Ok(()) => {
                self.peers.room.do_send(RoomAhead {});
                Ok(Planning::Planned)
            }
            // A page moved between the question and the plan: nothing was changed, and the next look
            // sees how it stands now.
            Err(StateError::Illegal(moved)) => {
                tracing::debug!(reason = %moved, "a page moved while its batch was planned");
                Ok(Planning::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    async fn pack(
        &self,
        uploaded: Uploaded,
        limits: Limits,
        disk: &mut Option<String>,
    ) -> Option<Packed> {
        let sizes = self
            .writer
            .measure(&uploaded.pages, &*self.ports.source)
            .await;
        let candidates: Vec<Candidate> = uploaded
            .pages
            .into_iter()
            .zip(sizes)
            .filter_map(|(page, size)| {
                // A page whose label the disk does not give now joins a later batch.
                let size = size.map_err(|error| *disk = Some(error.to_string())).ok()?;
                Some(Candidate {
                    key: page.key,
                    // Pages that stand alone may stand together.
                    predecessor: page.predecessor.filter(|_| self.options.chained),
                    line_bytes: size.line_bytes,
                    tokens: size.tokens,
                    batch_size_max: page.batch_size_max,
                })
            })
            .collect();
        pack::pack(&candidates, limits)
    }

    /// The most urgent page on its way to a batch, where the next batch takes the last place and pages
    /// wait for each other: elsewhere nothing is lost by a batch that goes before it comes.
    async fn most_urgent(&self, places: usize) -> Result<Option<Urgency>, StateError> {
        if places > 1 || !self.options.chained {
            return Ok(None);
        }
        let question = MostUrgent {
            scope: self.options.scope.clone(),
            at: self.ports.clock.now(),
        };
        answered(self.peers.state.send(question).await)
    }

    /// Whether a page could still join without a batch having to end first.
    async fn more_can_come(&self, more_may_come: bool) -> Result<bool, StateError> {
        if more_may_come {
            return Ok(true);
        }
        let question = MoreCanCome {
            scope: self.options.scope.clone(),
            chained: self.options.chained,
            at: self.ports.clock.now(),
        };
        answered(self.peers.state.send(question).await)
    }
}

fn urgencies(uploaded: &Uploaded) -> HashMap<RecordKey, Urgency> {
    let pages = uploaded.pages.iter();
    pages.map(|page| (page.key.clone(), page.urgency)).collect()
}

fn tokens_of(live: &[BatchRow]) -> u64 {
    let sent = live
        .iter()
        .filter(|row| row.state.stage() != BatchStage::Ready);
    sent.filter_map(|row| row.tokens).sum()
}
