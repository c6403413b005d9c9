//! Alerter: looks at what an operator should know of, tells of it once, and brings it out.
//!
//! It stands beside the pipeline: nothing waits for it but the end of a run, and that not for long.
//! What it could not bring out is due again, also for the next process.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::{Either, join_all, select};
use tokio::sync::{Mutex, oneshot};

use super::activity::answered;
use super::hint::{Beat, Drain, Idle, Leave};
use super::state::StateActor;
use super::state::messages::{
    Delivery, DeliveryOutcome, ListDeliveries, ReadVitals, RecordAlerts, RecordDelivery, StateError,
};
use crate::decide::alert::{self, AlertRules, Surroundings};
use crate::decide::cadence;
use crate::domain::alert::{Channel, Incident, Notification, ProviderHealth, Vitals};
use crate::domain::ids::{RunId, ScopeToken};
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::alert_channel::AlertChannel;
use crate::ports::clock::Clock;
use crate::ports::entropy::Entropy;
use crate::ports::result_sink::ResultSink;

/// What an alerter is told at birth.
#[derive(Debug, Clone)]
pub struct AlerterOptions {
    pub run: RunId,
    pub scope: ScopeToken,
    /// Who speaks, for receivers that hear several.
    pub instance: String,
    pub rules: AlertRules,
    /// The pause between two looks.
    pub interval: Duration,
    /// The longest pause between two signs of life.
    pub heartbeat: Duration,
    /// Tries to bring a message out.
    pub attempts_max: u32,
    /// The first pause between two of them, and the longest.
    pub pause: Duration,
    pub pause_max: Duration,
    /// How long the end of a run waits for its last messages.
    pub last_words: Duration,
}

/// What an alerter needs from the world.
#[derive(Clone)]
pub struct AlerterPorts {
    pub channels: Vec<Rc<dyn AlertChannel>>,
    pub sink: Rc<dyn ResultSink>,
    pub clock: Rc<dyn Clock>,
    pub entropy: Rc<dyn Entropy>,
}

/// The actor.
pub struct Alerter {
    desk: Rc<Desk>,
    provider: ProviderHealth,
    looking: bool,
    looked_at: Option<Timestamp>,
    /// Channels that something is brought out on.
    busy: HashSet<Channel>,
    asked_at: Option<Timestamp>,
    draining: bool,
    in_flight: usize,
    quiet_waiters: Vec<oneshot::Sender<()>>,
}

/// What its work needs, whoever does it.
struct Desk {
    options: AlerterOptions,
    ports: AlerterPorts,
    state: Addr<StateActor>,
    /// When the last sign of life was recorded.
    signed_at: Cell<Option<Timestamp>>,
    /// One look at a time, and one message at a time on each channel.
    look: Mutex<()>,
    channels: Vec<(Rc<dyn AlertChannel>, Mutex<()>)>,
}

/// Messages that are listed in one question, and questions asked in a row.
const LISTED_MAX: u64 = 20;
const ROUNDS_MAX: u32 = 50;

impl Alerter {
    /// Makes an alerter; it works when it is told the time.
    pub fn new(options: AlerterOptions, state: Addr<StateActor>, ports: AlerterPorts) -> Self {
        let channels = ports.channels.iter();
        let desk = Desk {
            signed_at: Cell::new(None),
            look: Mutex::new(()),
            channels: channels
                .map(|channel| (Rc::clone(channel), Mutex::new(())))
                .collect(),
            options,
            ports,
            state,
        };
        Alerter {
            desk: Rc::new(desk),
            provider: ProviderHealth::Unknown,
            looking: false,
            looked_at: None,
            busy: HashSet::new(),
            asked_at: None,
            draining: false,
            in_flight: 0,
            quiet_waiters: Vec::new(),
        }
    }

    /// One piece of work is over. To be called after whatever follows from it has begun.
    fn end(&mut self) {
        self.in_flight -= 1;
        if self.in_flight == 0 {
            for waiter in self.quiet_waiters.drain(..) {
                // Whoever no longer waits does not need to know.
                let _gone = waiter.send(());
            }
        }
    }

    fn look(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let interval = self.desk.options.interval;
        let due = self.looked_at.is_none_or(|at| now >= at.plus(interval));
        if !due || self.looking || self.draining {
            return;
        }
        self.looking = true;
        self.looked_at = Some(now);
        self.in_flight += 1;
        let (desk, provider) = (Rc::clone(&self.desk), self.provider.clone());
        let look = async move { desk.look(provider).await };
        ctx.spawn(look.into_actor(self).map(|changed, alerter, ctx| {
            alerter.looking = false;
            if changed {
                alerter.bring_out(ctx);
            }
            alerter.end();
        }));
    }

    fn bring_out_due(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let pause = self.desk.options.pause;
        if self.asked_at.is_none_or(|at| now >= at.plus(pause)) {
            self.asked_at = Some(now);
            self.bring_out(ctx);
        }
    }

    fn bring_out(&mut self, ctx: &mut Context<Self>) {
        if self.draining {
            return;
        }
        for place in 0..self.desk.channels.len() {
            let channel = self.desk.channels[place].0.channel();
            if !self.busy.insert(channel) {
                continue;
            }
            self.in_flight += 1;
            let desk = Rc::clone(&self.desk);
            let work = async move { desk.bring_out(place).await };
            ctx.spawn(work.into_actor(self).map(move |(), alerter, _| {
                alerter.busy.remove(&channel);
                alerter.end();
            }));
        }
    }
}

impl Desk {
    /// Looks, and records what changed; tells whether anything did.
    async fn look(&self, provider: ProviderHealth) -> bool {
        let _alone = self.look.lock().await;
        match self.try_look(provider).await {
            Ok(changed) => changed,
            Err(StateError::Closed) => false,
            Err(error) => {
                notices::AlertTrouble {
                    reason: &error.to_string(),
                }
                .emit();
                false
            }
        }
    }

    async fn try_look(&self, provider: ProviderHealth) -> Result<bool, StateError> {
        let now = self.ports.clock.now();
        let question = ReadVitals {
            scope: self.options.scope.clone(),
            window: self.options.rules.failure_window,
            at: now,
        };
        let vitals = answered(self.state.send(question).await)?;
        let around = Surroundings {
            now,
            free_bytes: self.ports.sink.free_bytes().await,
            provider,
        };
        let incidents = alert::incidents(&vitals, &around, &self.options.rules);
        let last = self.signed_at.get();
        let sign_due = last.is_none_or(|at| now >= at.plus(self.options.heartbeat));
        if !sign_due && !differs(&vitals, &incidents) {
            return Ok(false);
        }
        let with_ids = incidents
            .into_iter()
            .map(|incident| (self.ports.entropy.unique_id(now), incident));
        let record = RecordAlerts {
            run: self.options.run.clone(),
            incidents: with_ids.collect(),
            channels: self
                .channels
                .iter()
                .map(|(channel, _)| channel.channel())
                .collect(),
            barren_peak: vitals.barren_peak,
            busy_since: alert::busy_since(&vitals, now),
            at: now,
        };
        let changes = answered(self.state.send(record).await)?;
        self.signed_at.set(Some(now));
        for alert in &changes.fired {
            notices::AlertFired { alert }.emit();
        }
        for alert in &changes.cleared {
            notices::AlertCleared {
                alert,
                after: now.since(alert.since),
            }
            .emit();
        }
        Ok(!changes.fired.is_empty() || !changes.cleared.is_empty())
    }

    /// Brings out on one channel what is due, until nothing is.
    async fn bring_out(&self, place: usize) {
        let (channel, alone) = &self.channels[place];
        let _alone = alone.lock().await;
        for _round in 0..ROUNDS_MAX {
            match self.round(&**channel).await {
                Ok(0) | Err(StateError::Closed) => return,
                Ok(_some) => {}
                Err(error) => {
                    notices::AlertTrouble {
                        reason: &error.to_string(),
                    }
                    .emit();
                    return;
                }
            }
        }
    }

    /// Gives how many messages were tried.
    async fn round(&self, channel: &dyn AlertChannel) -> Result<usize, StateError> {
        let question = ListDeliveries {
            channels: vec![channel.channel()],
            limit: LISTED_MAX,
            at: self.ports.clock.now(),
        };
        let due = answered(self.state.send(question).await)?;
        let count = due.len();
        for delivery in due {
            self.deliver(channel, delivery).await?;
        }
        Ok(count)
    }

    async fn deliver(
        &self,
        channel: &dyn AlertChannel,
        delivery: Delivery,
    ) -> Result<(), StateError> {
        let attempt = delivery.attempts.saturating_add(1);
        let notification = self.notification(&delivery, attempt);
        let tried = channel.deliver(&notification).await;
        let now = self.ports.clock.now();
        let outcome = match tried {
            Ok(()) => {
                notices::AlertDelivered {
                    id: &notification.id,
                    event: notification.event,
                    channel: channel.channel(),
                }
                .emit();
                DeliveryOutcome::Delivered
            }
            Err(error) => {
                let (pause, ceiling) = (self.options.pause, self.options.pause_max);
                let fraction = self.ports.entropy.fraction();
                let next = now.plus(cadence::backoff(pause, attempt, ceiling, fraction));
                let next_at = (attempt < self.options.attempts_max).then_some(next);
                notices::AlertNotDelivered {
                    id: &notification.id,
                    event: notification.event,
                    channel: channel.channel(),
                    attempt,
                    given_up: next_at.is_none(),
                    reason: &error.0,
                }
                .emit();
                DeliveryOutcome::Failed {
                    error: error.0,
                    next_at,
                }
            }
        };
        let record = RecordDelivery {
            alert: delivery.alert.id,
            channel: delivery.channel,
            event: delivery.event,
            outcome,
            at: now,
        };
        answered(self.state.send(record).await)
    }

    fn notification(&self, delivery: &Delivery, attempt: u32) -> Notification {
        let alert = delivery.alert.clone();
        Notification {
            id: alert.id,
            event: delivery.event,
            kind: alert.kind.to_string(),
            subject: alert.subject,
            message: alert.message,
            since: alert.since,
            fired_at: alert.fired_at,
            cleared_at: alert.cleared_at,
            instance: self.options.instance.clone(),
            at: self.ports.clock.now(),
            attempt,
        }
    }

    /// A last look, and what can be brought out at once.
    async fn finish(&self, provider: ProviderHealth) {
        self.look(provider).await;
        join_all((0..self.channels.len()).map(|place| self.bring_out(place))).await;
    }
}

/// Whether other things hold than those that are open.
fn differs(vitals: &Vitals, incidents: &[Incident]) -> bool {
    let held: HashSet<(_, &str)> = incidents
        .iter()
        .map(|incident| (incident.kind, incident.subject.as_str()))
        .collect();
    let open: HashSet<(_, &str)> = vitals
        .open
        .iter()
        .map(|alert| (alert.kind, alert.subject.as_str()))
        .collect();
    held != open
}

impl Actor for Alerter {
    type Context = Context<Self>;
}

impl Handler<Beat> for Alerter {
    type Result = ();

    fn handle(&mut self, beat: Beat, ctx: &mut Self::Context) {
        self.provider = beat.provider;
        self.look(beat.now, ctx);
        self.bring_out_due(beat.now, ctx);
    }
}

impl Handler<Idle> for Alerter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Idle, _: &mut Self::Context) -> Self::Result {
        let (sender, receiver) = oneshot::channel();
        if self.in_flight == 0 {
            let _gone = sender.send(());
        } else {
            self.quiet_waiters.push(sender);
        }
        Box::pin(async move {
            // A dropped sender means that the alerter is gone, which is quiet too.
            let _quiet = receiver.await;
        })
    }
}

impl Handler<Drain> for Alerter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let (desk, provider) = (Rc::clone(&self.desk), self.provider.clone());
        Box::pin(async move {
            let last_words = desk.options.last_words;
            let enough = desk.ports.clock.sleep(last_words);
            let finish = desk.finish(provider);
            futures_util::pin_mut!(finish, enough);
            match select(finish, enough).await {
                Either::Left(((), _)) => {}
                Either::Right(((), _)) => notices::AlertsLeft { after: last_words }.emit(),
            }
        })
    }
}

impl Handler<Leave> for Alerter {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
