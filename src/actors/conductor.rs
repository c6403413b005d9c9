//! Conductor: sends the time, watches the stages, and knows when a run is over.
//!
//! A stage that dies ends the run: start-up recovery is the only recovery there is, so every crash
//! exercises it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::activity::answered;
use super::disk_pause::DiskPause;
use super::hint::{Contact, Drain, Idle, Leave, Rescan, ScanDone, StageGone, Tick, Trouble};
use super::state::StateActor;
use super::state::messages::{ListWork, StateError, WorkLeft};
use crate::domain::halt::HaltReason;
use crate::domain::time::Timestamp;
use crate::notices;
use crate::ports::clock::Clock;

mod terms;

pub use terms::{ConductorOptions, Mode, RunEnd};

/// How long every call must have failed before an operator is told.
const TROUBLE_TOLD_AFTER: Duration = Duration::from_secs(30);

/// How long a run that is otherwise over goes on trying to delete remote files. What is left then is
/// deleted by the next run, or expires.
const DELETING_MAX: Duration = Duration::from_secs(120);

/// How long a run that is otherwise over goes on trying to look at the tree: long enough for a fault
/// that passes, short enough for somebody who waits to learn that a folder is not there.
const SCAN_AGAIN_MAX: Duration = Duration::from_secs(20);

/// The stages, as the root talks to them.
#[derive(Clone)]
pub struct Stages {
    pub rescan: Recipient<Rescan>,
    /// The stages that collect, in the order in which they are asked to before anything is sent.
    pub collectors: Vec<(Recipient<Tick>, Recipient<Idle>)>,
    pub ticks: Vec<Recipient<Tick>>,
    /// First to last, in the order in which work flows.
    pub drains: Vec<Recipient<Drain>>,
    pub leaves: Vec<Recipient<Leave>>,
}

/// Asks for the orderly end of the run.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Hands the conductor its stages and lets the run begin.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Begin {
    pub stages: Stages,
}

/// The root.
pub struct Conductor {
    options: ConductorOptions,
    state: Addr<StateActor>,
    clock: Rc<dyn Clock>,
    stages: Option<Stages>,
    finished: Option<oneshot::Sender<RunEnd>>,
    scanning: bool,
    scanned_at: Option<Timestamp>,
    /// Why the last look at the tree does not count, if so.
    scan_failed: Option<String>,
    /// Since when no look at the tree has counted.
    scan_failing_since: Option<Timestamp>,
    disk: DiskPause,
    checking: bool,
    ending: bool,
    last_contact: Option<Timestamp>,
    first_trouble: Option<(Timestamp, String)>,
    /// Whether the present trouble was told.
    trouble_told: bool,
    /// Since when there has been nothing left but remote files to delete.
    deleting_since: Option<Timestamp>,
    /// What all stages together have in flight.
    at_work: Rc<Cell<usize>>,
    /// Whether the provider was reached at all; for whoever cleans up after the run.
    contacted: Rc<Cell<bool>>,
    /// Beats in a row that found no stage at work.
    quiet_beats: u32,
}

/// Beats in a row that must find no stage at work before a run can be over: each beat makes every
/// stage look, so what is still at rest after two of them has nothing to do.
const QUIET_BEATS: u32 = 3;

impl Conductor {
    /// Makes a conductor that tells `finished` how the run ended.
    pub fn new(
        options: ConductorOptions,
        state: Addr<StateActor>,
        clock: Rc<dyn Clock>,
        at_work: Rc<Cell<usize>>,
        contacted: Rc<Cell<bool>>,
        finished: oneshot::Sender<RunEnd>,
    ) -> Self {
        Conductor {
            options,
            state,
            clock,
            stages: None,
            finished: Some(finished),
            scanning: false,
            scanned_at: None,
            scan_failed: None,
            scan_failing_since: None,
            disk: DiskPause::new("scanner"),
            checking: false,
            ending: false,
            last_contact: None,
            first_trouble: None,
            trouble_told: false,
            deleting_since: None,
            at_work,
            contacted,
            quiet_beats: 0,
        }
    }

    /// Brings home what an earlier process left with the provider; only then is anything sent.
    fn collect_first(&mut self, ctx: &mut Context<Self>) {
        let Some(stages) = &self.stages else {
            return;
        };
        let collectors = stages.collectors.clone();
        let clock = Rc::clone(&self.clock);
        let collected = async move {
            for (tick, idle) in collectors {
                let look = Tick {
                    now: clock.now(),
                    more_may_come: true,
                };
                // A stage that is gone says so itself.
                let _gone = tick.send(look).await;
                let _gone = idle.send(Idle {}).await;
            }
        };
        ctx.spawn(collected.into_actor(self).map(|(), conductor, ctx| {
            if !conductor.ending {
                conductor.rescan();
                conductor.beat(ctx);
            }
        }));
    }

    fn rescan(&mut self) {
        if let Some(stages) = &self.stages
            && !self.scanning
        {
            self.scanning = true;
            stages.rescan.do_send(Rescan {});
        }
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let at_work = self.scanning || self.at_work.get() > 0;
        self.quiet_beats = if at_work {
            0
        } else {
            self.quiet_beats.saturating_add(1)
        };
        if let Some(stages) = &self.stages {
            let more_may_come = self.scanning;
            for tick in &stages.ticks {
                tick.do_send(Tick { now, more_may_come });
            }
        }
        self.tell_trouble(now);
        let due = self
            .scanned_at
            .is_some_and(|at| now >= at.plus(self.options.scan_interval));
        let again = self.scan_failed.is_some() && !self.disk.holds(now);
        if again || (due && self.options.mode == Mode::Watch) {
            self.rescan();
        }
        // A stage at work answers the question by itself, and the question has a price.
        if self.quiet_beats > 0 || self.first_trouble.is_some() {
            self.check(ctx);
        }
        // Armed after the work, so that a slow beat is followed by a pause and not by a burst.
        ctx.run_later(self.options.beat, |conductor, ctx| {
            if !conductor.ending {
                conductor.beat(ctx);
            }
        });
    }

    /// A call that fails is nothing; calls that fail for long are worth a word.
    fn tell_trouble(&mut self, now: Timestamp) {
        if let Some((since, message)) = &self.first_trouble
            && !self.trouble_told
            && now.since(*since) >= TROUBLE_TOLD_AFTER
        {
            notices::ProviderTrouble { message }.emit();
            self.trouble_told = true;
        }
    }

    /// Asks whether there is anything left to do.
    fn check(&mut self, ctx: &mut Context<Self>) {
        if self.checking || self.scanning || self.ending || self.options.mode == Mode::Watch {
            return;
        }
        self.checking = true;
        let question = ListWork {
            scope: self.options.scope.clone(),
            chained: self.options.chained,
            at: self.clock.now(),
        };
        let asked = self.state.send(question).into_actor(self);
        ctx.spawn(asked.map(|reply, conductor, ctx| {
            conductor.checking = false;
            match answered(reply) {
                Ok(work) => conductor.weigh(work, ctx),
                Err(StateError::Closed) => {}
                Err(error) => conductor.end(
                    RunEnd::Failed {
                        stage: "state".into(),
                        reason: error.to_string(),
                    },
                    ctx,
                ),
            }
        }));
    }

    fn weigh(&mut self, work: WorkLeft, ctx: &mut Context<Self>) {
        if let Some(message) = self.unavailable(&work) {
            return self.end(RunEnd::Unavailable { message }, ctx);
        }
        if let Some(halt) = self.halted_for_good(&work) {
            return self.end(halt, ctx);
        }
        let only_deletions = work.deletable > 0 && self.all_else_done(&work);
        self.deleting_since = match self.deleting_since {
            _ if !only_deletions => None,
            None => Some(self.clock.now()),
            since => since,
        };
        let over = match self.options.mode {
            Mode::Watch => false,
            Mode::UntilDone => self.nothing_left(&work) && !self.may_look_again(),
            // Whatever is left waits for the provider or for time.
            Mode::Once => true,
        };
        if over && self.quiet_beats >= QUIET_BEATS {
            let runnable = work.runnable > 0 || work.due_at.is_some();
            let end = if self.nothing_left(&work) && !runnable {
                RunEnd::Done(work)
            } else {
                RunEnd::WorkLeft(work)
            };
            self.end(end, ctx);
        }
    }

    /// A halt that waits for an operator ends the run once nothing is left to collect.
    fn halted_for_good(&self, work: &WorkLeft) -> Option<RunEnd> {
        // Whoever pauses a run wants it to be there when it is resumed.
        let waits = |reason: HaltReason| !reason.ends_by_itself() && reason != HaltReason::Paused;
        let halt = work.halts.iter().find(|halt| waits(halt.reason))?;
        let under_way = work.uploading + work.validating + (work.live_batches - work.planned);
        let over = under_way == 0 && self.quiet_beats >= QUIET_BEATS;
        (over && !self.nothing_left(work)).then(|| RunEnd::Halted {
            reason: halt.reason,
            message: halt.message.clone(),
        })
    }

    /// Whether the tree, which could not be looked at, is given some time to come back.
    fn may_look_again(&self) -> bool {
        let since = self.scan_failing_since;
        since.is_some_and(|since| self.clock.now().since(since) < SCAN_AGAIN_MAX)
    }

    fn nothing_left(&self, work: &WorkLeft) -> bool {
        let deleted_long_enough = self
            .deleting_since
            .is_some_and(|since| self.clock.now().since(since) >= DELETING_MAX);
        self.all_else_done(work) && (work.deletable == 0 || deleted_long_enough)
    }

    /// Whether nothing is left but remote files to delete.
    fn all_else_done(&self, work: &WorkLeft) -> bool {
        let sent = work.uploading + work.uploaded + work.batched + work.validating;
        let more = work.runnable > 0 || work.due_at.is_some();
        let may_send_more = more && self.options.pages_max.is_none();
        sent == 0 && work.live_batches == 0 && !may_send_more
    }

    fn unavailable(&self, work: &WorkLeft) -> Option<String> {
        let (since, message) = self.first_trouble.as_ref()?;
        let since = self
            .last_contact
            .map_or(*since, |contact| contact.max(*since));
        let too_long = self.clock.now().since(since) >= self.options.unavailable_max;
        let waiting_for_it = work.live_batches > 0 || work.runnable > 0 || work.due_at.is_some();
        let ends = self.options.mode != Mode::Watch;
        (too_long && waiting_for_it && ends).then(|| message.clone())
    }

    /// Drains the stages in the order in which work flows, then reports.
    fn end(&mut self, end: RunEnd, ctx: &mut Context<Self>) {
        if self.ending {
            return;
        }
        self.ending = true;
        // What was not looked at is not known to be done.
        let end = match (end, self.scan_failed.take()) {
            (RunEnd::Done(_), Some(message)) => RunEnd::NoLabels { message },
            (end, _) => end,
        };
        let stages = self.stages.take();
        let drained = async move {
            if let Some(Stages {
                rescan: _,
                collectors: _,
                ticks: _,
                drains,
                leaves,
            }) = stages
            {
                for drain in drains {
                    // A stage that is gone has nothing in flight either.
                    let _gone = drain.send(Drain {}).await;
                }
                for leave in leaves {
                    let _gone = leave.send(Leave {}).await;
                }
            }
            end
        };
        ctx.spawn(drained.into_actor(self).map(|end, conductor, ctx| {
            if let Some(finished) = conductor.finished.take() {
                let _nobody_waits = finished.send(end);
            }
            ctx.stop();
        }));
    }
}

impl Actor for Conductor {
    type Context = Context<Self>;
}

impl Handler<Begin> for Conductor {
    type Result = ();

    fn handle(&mut self, begin: Begin, ctx: &mut Self::Context) {
        self.stages = Some(begin.stages);
        self.collect_first(ctx);
    }
}

impl Handler<Stop> for Conductor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        if self.ending {
            return;
        }
        let question = ListWork {
            scope: self.options.scope.clone(),
            chained: self.options.chained,
            at: self.clock.now(),
        };
        let asked = self.state.send(question).into_actor(self);
        ctx.spawn(asked.map(|reply, conductor, ctx| {
            let work = answered(reply).unwrap_or_default();
            let end = if conductor.scanned_at.is_some() && conductor.nothing_left(&work) {
                RunEnd::Done(work)
            } else {
                RunEnd::WorkLeft(work)
            };
            conductor.end(end, ctx);
        }));
    }
}

impl Handler<ScanDone> for Conductor {
    type Result = ();

    fn handle(&mut self, done: ScanDone, _: &mut Self::Context) {
        self.scanning = false;
        let now = self.clock.now();
        self.scanned_at = Some(now);
        notices::ScanDone {
            pages: done.pages,
            oddities: done.oddities,
        }
        .emit();
        // The others go on meanwhile: what is paid for is collected, whatever the tree looks like.
        if let Some(message) = &done.failed {
            self.disk.begin(message, now);
        } else {
            self.disk.over(now);
        }
        let failing_since = self.scan_failing_since.unwrap_or(now);
        self.scan_failing_since = done.failed.as_ref().map(|_| failing_since);
        self.scan_failed = done.failed;
    }
}

impl Handler<Trouble> for Conductor {
    type Result = ();

    fn handle(&mut self, trouble: Trouble, _: &mut Self::Context) {
        let now = self.clock.now();
        match &mut self.first_trouble {
            Some((_since, message)) => *message = trouble.message,
            none => *none = Some((now, trouble.message)),
        }
    }
}

impl Handler<Contact> for Conductor {
    type Result = ();

    fn handle(&mut self, _: Contact, _: &mut Self::Context) {
        let now = self.clock.now();
        self.last_contact = Some(now);
        self.contacted.set(true);
        let trouble = self.first_trouble.take();
        if let Some((since, _message)) = trouble.filter(|_| std::mem::take(&mut self.trouble_told))
        {
            notices::ProviderBack {
                after: now.since(since),
            }
            .emit();
        }
    }
}

impl Handler<StageGone> for Conductor {
    type Result = ();

    fn handle(&mut self, gone: StageGone, ctx: &mut Self::Context) {
        if self.ending {
            return;
        }
        let reason = gone
            .reason
            .unwrap_or_else(|| "it stopped without a word".to_owned());
        self.end(
            RunEnd::Failed {
                stage: gone.stage.to_owned(),
                reason,
            },
            ctx,
        );
    }
}
