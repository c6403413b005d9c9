//! OrderDesk: carries out what operators tell pagemill to do while it runs.
//!
//! An order is a row before it is anything else. Whoever gives one beside a running process writes
//! the row; this stage finds it. What a crash interrupts goes on at the next start where it stopped.

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::StreamExt;

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::disk_pause::DiskPause;
use super::hint::{PagesRegistered, Tick};
use super::state::StateActor;
use super::state::messages::{
    AgePriorities, CarryOut, CloseOrder, FindBatch, ListOpenOrders, NextOfOrder, StateError,
};
use super::wish::{Fulfilled, WishDesk};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, OrderId, RecordKey};
use crate::domain::order::{Effects, KeptOrder, Order, OrderState};
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::ResultSink;

/// Pages that one transaction changes for an order: others are served in between.
const PAGES_AT_ONCE: u64 = 2_000;
/// Outputs that are put away side by side.
const OUTPUTS_AT_ONCE: usize = 16;
/// How often pages of low priority are looked at for their age.
const AGING_PAUSE: Duration = Duration::from_secs(600);

/// Carries out orders; in a running process, or alone.
pub struct Clerk {
    pub wishes: WishDesk,
    pub sink: Rc<dyn ResultSink>,
    /// Whether stages are at work: then they do what is wanted of the batches that they work on.
    pub beside_stages: bool,
}

/// What one round came to.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Pages that something was done about.
    pub pages: u64,
    /// Why our disk keeps an output from becoming a revision; its order waits.
    pub held: Option<SourceError>,
}

/// How far an order about pages got.
enum Reached {
    /// It is closed; this many pages were in this round.
    End(u64),
    /// Our disk keeps it from going on now.
    Held(SourceError),
}

impl Clerk {
    fn state(&self) -> &Addr<StateActor> {
        &self.wishes.state
    }

    fn now(&self) -> Timestamp {
        self.wishes.clock.now()
    }

    /// Carries out every open order, as far as that can be done now. While the disk is left alone,
    /// orders that need it wait.
    pub async fn work_off(&self, leaves_disk: bool) -> Result<Round, StateError> {
        let mut round = Round::default();
        for kept in answered(self.state().send(ListOpenOrders {}).await)? {
            match &kept.order {
                Order::ForgetBatch { batch, .. } => self.forget(&kept, batch).await?,
                Order::CancelBatch { batch } => self.cancel(&kept, batch).await?,
                // It is done before it is kept.
                Order::Nuke { .. } | Order::Rekey { .. } => {}
                Order::Pause | Order::Resume => {
                    self.carry_out(&kept.id, Vec::new()).await?;
                }
                Order::Redo { .. } if leaves_disk || round.held.is_some() => {}
                Order::Redo { .. } => match self.pages(&kept, true).await? {
                    Reached::End(pages) => round.pages += pages,
                    Reached::Held(fault) => round.held = Some(fault),
                },
                Order::ClearFailures { .. }
                | Order::Skip { .. }
                | Order::Unskip { .. }
                | Order::Prioritize { .. }
                | Order::Note { .. } => {
                    if let Reached::End(pages) = self.pages(&kept, false).await? {
                        round.pages += pages;
                    }
                }
            }
        }
        Ok(round)
    }

    /// Carries out an order about pages, some at a time.
    async fn pages(&self, kept: &KeptOrder, retires: bool) -> Result<Reached, StateError> {
        let mut pages = 0;
        loop {
            let question = NextOfOrder {
                id: kept.id.clone(),
                limit: PAGES_AT_ONCE,
            };
            let keys = answered(self.state().send(question).await)?;
            if retires && let Err(fault) = self.retire(&keys).await {
                return Ok(Reached::Held(fault));
            }
            let over = keys.is_empty();
            pages += keys.len() as u64;
            let effects = self.carry_out(&kept.id, keys).await?;
            if over {
                notices::OrderDone {
                    order: &kept.id,
                    command: kept.order.kind(),
                    by: &kept.signature.by,
                    pages,
                    message: &effects.message,
                }
                .emit();
                return Ok(Reached::End(pages));
            }
        }
    }

    /// Outputs become revisions before their pages run again: a crash in between leaves pages whose
    /// output is gone, which run again as well. The first that the disk does not take ends it.
    async fn retire(&self, keys: &[RecordKey]) -> Result<(), SourceError> {
        let retired = keys.iter().map(|key| self.sink.retire_output(key));
        let mut retired = futures_util::stream::iter(retired).buffer_unordered(OUTPUTS_AT_ONCE);
        while let Some(outcome) = retired.next().await {
            match outcome {
                Err(fault) if !fault.missing => return Err(fault),
                _retired_or_gone => {}
            }
        }
        Ok(())
    }

    async fn carry_out(&self, id: &OrderId, keys: Vec<RecordKey>) -> Result<Effects, StateError> {
        let order = CarryOut {
            id: id.clone(),
            keys,
            at: self.now(),
        };
        answered(self.state().send(order).await)
    }

    async fn cancel(&self, kept: &KeptOrder, batch: &BatchId) -> Result<(), StateError> {
        if self.find(batch).await?.is_none() {
            return self
                .refuse(kept, format!("there is no batch {batch}"))
                .await;
        }
        self.carry_out(&kept.id, Vec::new()).await?;
        if !self.beside_stages
            && let Some(row) = self.find(batch).await?
            && let Fulfilled::Failed(error) = self.wishes.fulfill(&row).await?
        {
            notices::CancelFailed {
                batch,
                message: &error.message,
            }
            .emit();
        }
        Ok(())
    }

    async fn find(
        &self,
        batch: &BatchId,
    ) -> Result<Option<super::state::messages::BatchRow>, StateError> {
        let batch = batch.clone();
        answered(self.state().send(FindBatch { batch }).await)
    }

    /// Gives a batch up, or leaves that to whoever works on it.
    async fn forget(&self, kept: &KeptOrder, batch: &BatchId) -> Result<(), StateError> {
        let Some(row) = self.find(batch).await? else {
            let words = format!("there is no batch {batch}");
            return self.refuse(kept, words).await;
        };
        match row.state.stage() {
            BatchStage::Settled => {
                let words = format!("batch {batch} is settled: its results are collected");
                return self.refuse(kept, words).await;
            }
            BatchStage::Abandoned if row.wish.is_none() => {
                let words = format!("batch {batch} is abandoned already");
                return self.refuse(kept, words).await;
            }
            BatchStage::Abandoned => return self.given_up(kept).await,
            BatchStage::Planned
            | BatchStage::Submitting
            | BatchStage::InDoubt
            | BatchStage::Submitted
            | BatchStage::Ready => {}
        }
        if row.wish.is_none_or(|wish| !wish.forgets()) {
            self.carry_out(&kept.id, Vec::new()).await?;
        }
        // Whether the provider has a batch whose process was killed while it was sent must be found out
        // first: that is the start of the next run, which honours the wish then.
        if self.beside_stages || row.state.stage() == BatchStage::Submitting {
            return Ok(());
        }
        let Some(row) = self.find(batch).await? else {
            return Ok(());
        };
        match self.wishes.fulfill(&row).await? {
            Fulfilled::Forgotten { .. } => self.given_up(kept).await,
            Fulfilled::LivesOn => Ok(()),
            Fulfilled::Failed(error) => {
                notices::CancelFailed {
                    batch,
                    message: &error.message,
                }
                .emit();
                Ok(())
            }
        }
    }

    async fn given_up(&self, kept: &KeptOrder) -> Result<(), StateError> {
        let mut effects = Effects::default();
        effects.add("batches given up", 1);
        self.close(kept, OrderState::Done, effects).await
    }

    async fn refuse(&self, kept: &KeptOrder, words: String) -> Result<(), StateError> {
        self.close(kept, OrderState::Refused, Effects::said(words))
            .await
    }

    async fn close(
        &self,
        kept: &KeptOrder,
        state: OrderState,
        effects: Effects,
    ) -> Result<(), StateError> {
        let close = CloseOrder {
            id: kept.id.clone(),
            state,
            effects,
            at: self.now(),
        };
        answered(self.state().send(close).await)
    }
}

/// What a desk is told at birth.
#[derive(Debug, Clone)]
pub struct OrderDeskOptions {
    /// How long pages of low priority wait until they count as normal; none: for ever.
    pub low_priority_max: Option<Duration>,
}

/// The stage.
pub struct OrderDesk {
    clerk: Rc<Clerk>,
    options: OrderDeskOptions,
    registered: Recipient<PagesRegistered>,
    activity: Activity,
    working: bool,
    aged_at: Option<Timestamp>,
    disk: DiskPause,
}

impl OrderDesk {
    /// Makes a desk; it looks for orders when time passes.
    pub fn new(
        options: OrderDeskOptions,
        clerk: Clerk,
        registered: Recipient<PagesRegistered>,
        root: Root,
    ) -> Self {
        OrderDesk {
            clerk: Rc::new(clerk),
            options,
            registered,
            activity: Activity::new("order desk", root),
            working: false,
            aged_at: None,
            disk: DiskPause::new("order desk"),
        }
    }

    fn look(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        if self.working || !self.activity.may_take() {
            return;
        }
        self.working = true;
        self.activity.begin();
        let clerk = Rc::clone(&self.clerk);
        let aging = self.aging_due(now);
        let leaves_disk = self.disk.holds(now);
        let work = async move {
            let mut round = clerk.work_off(leaves_disk).await?;
            if let Some(before) = aging {
                let age = AgePriorities { before, at: now };
                round.pages += answered(clerk.state().send(age).await)?;
            }
            Ok(round)
        };
        ctx.spawn(
            work.into_actor(self)
                .map(move |done: Result<Round, StateError>, stage, ctx| {
                    stage.working = false;
                    match done {
                        Err(error) => stage.activity.fail(error, ctx),
                        Ok(round) => stage.worked(round, leaves_disk),
                    }
                    stage.activity.end();
                }),
        );
    }

    fn worked(&mut self, round: Round, left_disk: bool) {
        let now = self.clerk.now();
        if let Some(fault) = &round.held {
            self.disk.begin(&fault.to_string(), now);
        } else if !left_disk {
            self.disk.over(now);
        }
        if round.pages > 0 {
            self.registered
                .do_send(PagesRegistered { count: round.pages });
        }
    }

    /// The instant since which a page of low priority must have waited, when it is time to look.
    fn aging_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        let max = self.options.low_priority_max?;
        let due = self
            .aged_at
            .is_none_or(|at| now.since(at) >= AGING_PAUSE.min(max));
        if !due {
            return None;
        }
        self.aged_at = Some(now);
        Some(now.minus(max))
    }
}

impl Actor for OrderDesk {
    type Context = Context<Self>;
}

impl Handler<Tick> for OrderDesk {
    type Result = ();

    fn handle(&mut self, tick: Tick, ctx: &mut Self::Context) {
        self.look(tick.now, ctx);
    }
}

impl Stage for OrderDesk {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }
}

stage_handlers!(OrderDesk);
