//! Alerter on a real SQLite file, with recorded channels and a clock that stands still.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use async_trait::async_trait;
use pagemill::actors::alerter::{Alerter, AlerterOptions, AlerterPorts};
use pagemill::actors::hint::{Beat, Drain, Idle, Leave};
use pagemill::actors::state::messages::*;
use pagemill::decide::alert::AlertRules;
use pagemill::domain::alert::{AlertEvent, Channel, Notification, ProviderHealth};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::halt::HaltReason;
use pagemill::domain::ids::{RunId, ScopeToken};
use pagemill::domain::time::Timestamp;
use pagemill::ports::alert_channel::{AlertChannel, ChannelError};
use pagemill::ports::clock::Clock;

use crate::kit::manual_clock::ManualClock;
use crate::kit::memory_tree::MemoryTree;
use crate::kit::notices;
use crate::kit::sandbox::CountingEntropy;
use crate::kit::state_world::{World, accepted, again, rejected, verdicts};

const HOUR: Duration = Duration::from_secs(3600);

/// What a channel does with a message.
enum Does {
    Refuses,
    /// Takes it, and its answer never comes.
    TakesInSilence,
}

/// A channel that remembers, and takes everything that no script forbids.
struct Recorder {
    channel: Channel,
    heard: RefCell<Vec<Notification>>,
    script: RefCell<VecDeque<Does>>,
}

impl Recorder {
    fn new(channel: Channel) -> Rc<Self> {
        Rc::new(Recorder {
            channel,
            heard: RefCell::default(),
            script: RefCell::default(),
        })
    }

    fn next(&self, does: Does) {
        self.script.borrow_mut().push_back(does);
    }

    /// What was heard since this was asked last: id, event and the number of the try.
    fn heard(&self) -> Vec<(String, AlertEvent, u32)> {
        let heard = self.heard.take().into_iter();
        heard
            .map(|said| (said.id, said.event, said.attempt))
            .collect()
    }
}

#[async_trait(?Send)]
impl AlertChannel for Recorder {
    fn channel(&self) -> Channel {
        self.channel
    }

    fn place(&self) -> String {
        "here".into()
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), ChannelError> {
        self.heard.borrow_mut().push(notification.clone());
        let does = self.script.borrow_mut().pop_front();
        match does {
            None => Ok(()),
            Some(Does::Refuses) => Err(ChannelError("answered 500".into())),
            Some(Does::TakesInSilence) => std::future::pending().await,
        }
    }
}

const RULES: AlertRules = AlertRules {
    consecutive_failures: 5,
    failure_percent: 0,
    failure_window: 100,
    nothing_accepted: Duration::ZERO,
    uncollected: Duration::ZERO,
    storage_percent: 0,
    storage_budget_bytes: 1 << 30,
    free_bytes: 0,
    provider: Duration::from_secs(300),
    slow_factor: 0,
    slow_age: HOUR,
};

struct Scene {
    world: World,
    clock: Rc<ManualClock>,
    entropy: Rc<CountingEntropy>,
    hook: Rc<Recorder>,
    other: Option<Rc<Recorder>>,
    alerter: Addr<Alerter>,
}

impl Scene {
    async fn new() -> Scene {
        Scene::with(None).await
    }

    async fn with(other: Option<Rc<Recorder>>) -> Scene {
        let world = World::new().await;
        let clock = Rc::new(ManualClock::new());
        // Later than everything that the worlds of these tests do.
        clock.advance(240 * HOUR);
        let entropy = Rc::new(CountingEntropy::default());
        let hook = Recorder::new(Channel::Webhook);
        let alerter = start(&world, &clock, &entropy, &hook, other.as_ref());
        Scene {
            world,
            clock,
            entropy,
            hook,
            other,
            alerter,
        }
    }

    /// Ends the alerter without a word, and begins another one on what it left.
    async fn restart(&mut self) {
        self.alerter.send(Leave {}).await.unwrap();
        let other = self.other.as_ref();
        self.alerter = start(&self.world, &self.clock, &self.entropy, &self.hook, other);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass, and waits until everything that follows is done.
    async fn after(&self, span: Duration, provider: ProviderHealth) {
        self.clock.advance(span);
        let now = self.now();
        self.alerter.send(Beat { now, provider }).await.unwrap();
        self.alerter.send(Idle {}).await.unwrap();
    }

    async fn look(&self) {
        self.after(Duration::from_secs(15), ProviderHealth::Answers)
            .await;
    }

    async fn open(&self) -> Vec<String> {
        let sql = "SELECT kind||' '||subject FROM alerts WHERE cleared_at IS NULL ORDER BY 1";
        self.world.ask(sql).await
    }

    /// Rejects pages of a batch, one message each.
    async fn fail(&self, batch: &str, numbers: std::ops::RangeInclusive<u32>) {
        for number in numbers {
            let verdict = rejected(number, ErrorType::Validation, again());
            self.world
                .tell(verdicts(batch, vec![verdict]))
                .await
                .unwrap();
        }
    }

    async fn halt(&self, reason: HaltReason) {
        let halt = Halt {
            reason,
            message: "refused".into(),
            at: self.now(),
        };
        self.world.tell(halt).await.unwrap();
    }

    async fn resume(&self) {
        let resume = Resume {
            reasons: None,
            by: ResumedBy::Operator,
            at: self.now(),
        };
        self.world.tell(resume).await.unwrap();
    }
}

fn start(
    world: &World,
    clock: &Rc<ManualClock>,
    entropy: &Rc<CountingEntropy>,
    hook: &Rc<Recorder>,
    other: Option<&Rc<Recorder>>,
) -> Addr<Alerter> {
    let options = AlerterOptions {
        run: RunId::from("run-1"),
        scope: ScopeToken::from("scope"),
        instance: "pagemill".into(),
        rules: RULES,
        interval: Duration::from_secs(15),
        heartbeat: Duration::from_secs(60),
        attempts_max: 3,
        pause: Duration::from_secs(5),
        pause_max: HOUR,
        last_words: Duration::from_secs(5),
    };
    let mut channels: Vec<Rc<dyn AlertChannel>> = vec![hook.clone()];
    channels.extend(other.map(|other| other.clone() as Rc<dyn AlertChannel>));
    let ports = AlerterPorts {
        channels,
        sink: Rc::new(MemoryTree::new(world.path.parent().unwrap().to_owned())),
        clock: clock.clone(),
        entropy: entropy.clone(),
    };
    Alerter::new(options, world.state.clone(), ports).start()
}

#[actix::test]
async fn s2_43_the_fifth_failure_in_a_row_is_told_once_and_a_success_ends_it() {
    let scene = Scene::new().await;
    notices::listen();
    scene.world.collect("b1", 1..=8).await;
    scene.fail("b1", 1..=4).await;
    scene.look().await;
    assert_eq!(scene.hook.heard(), []);
    scene.fail("b1", 5..=5).await;
    scene.look().await;
    let heard = scene.hook.heard();
    assert_eq!(heard.len(), 1);
    let id = heard[0].0.clone();
    assert_eq!(heard[0].1, AlertEvent::Fired);
    assert_eq!(scene.open().await, ["consecutive_failures "]);
    scene.fail("b1", 6..=7).await;
    scene.look().await;
    scene.look().await;
    assert_eq!(scene.hook.heard(), []);
    let good = verdicts("b1", vec![accepted(8)]);
    scene.world.tell(good).await.unwrap();
    scene.look().await;
    assert_eq!(scene.hook.heard(), [(id, AlertEvent::Cleared, 1)]);
    assert_eq!(scene.open().await, Vec::<String>::new());
    scene.look().await;
    assert_eq!(scene.hook.heard(), []);
    let told = notices::told("alert.kind=consecutive_failures");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("5 answers in a row were failures"),
        "{told:?}"
    );
}

#[actix::test]
async fn failures_in_a_row_between_two_looks_are_told_although_they_are_over() {
    let scene = Scene::new().await;
    scene.world.collect("b1", 1..=9).await;
    let mut all: Vec<_> = (1..=7)
        .map(|number| rejected(number, ErrorType::Truncated, again()))
        .collect();
    all.push(accepted(8));
    all.push(rejected(9, ErrorType::Truncated, again()));
    scene.world.tell(verdicts("b1", all)).await.unwrap();
    scene.look().await;
    let events: Vec<AlertEvent> = scene.hook.heard().iter().map(|heard| heard.1).collect();
    assert_eq!(events, [AlertEvent::Fired, AlertEvent::Cleared]);
    scene.look().await;
    assert_eq!(scene.hook.heard(), []);
    let streak = "SELECT barren||' '||barren_peak||' '||(accepted_at IS NOT NULL) FROM streaks";
    assert_eq!(scene.world.one(streak).await, "1 1 1");
}

#[actix::test]
async fn s2_44_a_message_that_is_refused_comes_again_under_its_id_until_it_is_taken() {
    let scene = Scene::new().await;
    scene.halt(HaltReason::Key).await;
    scene.hook.next(Does::Refuses);
    scene.look().await;
    let first = scene.hook.heard();
    assert_eq!(first.len(), 1);
    // Not before its pause is over.
    scene
        .after(Duration::from_secs(4), ProviderHealth::Answers)
        .await;
    assert_eq!(scene.hook.heard(), []);
    scene
        .after(Duration::from_secs(1), ProviderHealth::Answers)
        .await;
    let second = scene.hook.heard();
    assert_eq!(second, [(first[0].0.clone(), AlertEvent::Fired, 2)]);
    for _look in 0..10 {
        scene.look().await;
    }
    assert_eq!(scene.hook.heard(), [], "it was taken");
    let states = "SELECT attempts||' '||(delivered_at IS NOT NULL)||' '||coalesce(last_error, '-')
                  FROM alert_deliveries";
    assert_eq!(scene.world.ask(states).await, ["2 1 -"]);
}

#[actix::test]
async fn s2_44_a_crash_between_the_answer_and_its_record_sends_the_same_id_again() {
    let mut scene = Scene::new().await;
    scene.halt(HaltReason::Key).await;
    scene.hook.next(Does::TakesInSilence);
    scene.clock.advance(HOUR);
    let (now, provider) = (scene.now(), ProviderHealth::Answers);
    scene.alerter.do_send(Beat { now, provider });
    while scene.hook.heard.borrow().is_empty() {
        tokio::task::yield_now().await;
    }
    let first = scene.hook.heard();
    scene.restart().await;
    scene.look().await;
    let second = scene.hook.heard();
    assert_eq!(second, first, "the first try was never recorded");
    scene.restart().await;
    scene.look().await;
    assert_eq!(scene.hook.heard(), []);
    let sql = "SELECT count(*) FROM alerts";
    assert_eq!(scene.world.one(sql).await, "1");
}

#[actix::test]
async fn a_message_that_nobody_takes_is_given_up_and_its_end_is_told_after_it() {
    let scene = Scene::new().await;
    scene.halt(HaltReason::Pilot).await;
    scene.hook.next(Does::Refuses);
    scene.look().await;
    scene.resume().await;
    // The end is known, and waits for the beginning.
    scene.after(Duration::ZERO, ProviderHealth::Answers).await;
    scene.hook.next(Does::Refuses);
    scene.look().await;
    let events: Vec<(AlertEvent, u32)> = scene
        .hook
        .heard()
        .into_iter()
        .map(|heard| (heard.1, heard.2))
        .collect();
    assert_eq!(events, [(AlertEvent::Fired, 1), (AlertEvent::Fired, 2)]);
    scene.hook.next(Does::Refuses);
    scene.after(HOUR, ProviderHealth::Answers).await;
    let heard = scene.hook.heard();
    let events: Vec<(AlertEvent, u32)> = heard.iter().map(|heard| (heard.1, heard.2)).collect();
    assert_eq!(events, [(AlertEvent::Fired, 3), (AlertEvent::Cleared, 1)]);
    scene.after(240 * HOUR, ProviderHealth::Answers).await;
    assert_eq!(scene.hook.heard(), []);
    let given_up = "SELECT event||' '||attempts||' '||last_error FROM alert_deliveries
                    WHERE next_at IS NULL AND delivered_at IS NULL";
    assert_eq!(scene.world.ask(given_up).await, ["fired 3 answered 500"]);
}

#[actix::test]
async fn what_is_open_survives_a_restart_and_is_not_told_again() {
    let mut scene = Scene::new().await;
    scene.halt(HaltReason::Key).await;
    let since = scene.now();
    let trouble = ProviderHealth::Trouble {
        since,
        message: "no connection".into(),
    };
    scene.after(HOUR, trouble).await;
    assert_eq!(scene.hook.heard().len(), 2);
    scene.restart().await;
    // Before its first call the next process does not know the provider to be back.
    scene.after(HOUR, ProviderHealth::Unknown).await;
    assert_eq!(scene.hook.heard(), []);
    assert_eq!(scene.open().await, ["halted key", "provider_unreachable "]);
    scene.resume().await;
    scene.look().await;
    let events: Vec<AlertEvent> = scene.hook.heard().iter().map(|heard| heard.1).collect();
    assert_eq!(events, [AlertEvent::Cleared, AlertEvent::Cleared]);
    // The next halt is another incident.
    scene.halt(HaltReason::Key).await;
    scene.look().await;
    assert_eq!(scene.hook.heard().len(), 1);
    assert_eq!(scene.world.one("SELECT count(*) FROM alerts").await, "3");
}

#[actix::test]
async fn a_channel_that_hangs_holds_up_neither_the_other_nor_the_looks_nor_the_end() {
    let other = Recorder::new(Channel::Command);
    let scene = Scene::with(Some(other.clone())).await;
    scene.halt(HaltReason::Key).await;
    scene.hook.next(Does::TakesInSilence);
    scene.clock.advance(HOUR);
    let (now, provider) = (scene.now(), ProviderHealth::Answers);
    scene.alerter.do_send(Beat { now, provider });
    while scene.hook.heard.borrow().is_empty() || other.heard.borrow().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(other.heard().len(), 1);
    scene.halt(HaltReason::Billing).await;
    scene.clock.advance(HOUR);
    let (now, provider) = (scene.now(), ProviderHealth::Answers);
    scene.alerter.do_send(Beat { now, provider });
    while other.heard.borrow().is_empty() {
        tokio::task::yield_now().await;
    }
    scene.halt(HaltReason::Permission).await;
    let drained = scene.alerter.send(Drain {});
    let mut drained = std::pin::pin!(drained);
    while other.heard.borrow().len() < 2 {
        tokio::select! {
            biased;
            _early = &mut drained => panic!("the hanging channel was not waited for"),
            () = tokio::task::yield_now() => {}
        }
    }
    scene.clock.advance(Duration::from_secs(5));
    drained.await.unwrap();
    assert_eq!(scene.open().await.len(), 3);
}

#[actix::test]
async fn the_end_of_a_run_tells_of_what_ended_it() {
    let scene = Scene::new().await;
    scene.look().await;
    scene.halt(HaltReason::IdenticalFailures).await;
    scene.alerter.send(Drain {}).await.unwrap();
    assert_eq!(scene.hook.heard().len(), 1);
    // Nothing is begun any more.
    scene.resume().await;
    scene.look().await;
    assert_eq!(scene.hook.heard(), []);
}

#[actix::test]
async fn a_run_shows_a_sign_of_life_each_minute_and_writes_nothing_else() {
    let scene = Scene::new().await;
    let sign = "SELECT run_id||' '||at FROM heartbeats";
    scene.look().await;
    let first = scene.now();
    assert_eq!(scene.world.one(sign).await, format!("run-1 {first}"));
    let before = scene.world.everything().await;
    for _look in 0..3 {
        scene.look().await;
    }
    assert_eq!(scene.world.everything().await, before);
    scene.look().await;
    let now = scene.now();
    assert_eq!(scene.world.one(sign).await, format!("run-1 {now}"));
}

#[actix::test]
async fn without_channels_an_alert_is_kept_and_due_nowhere() {
    let scene = Scene::new().await;
    scene.halt(HaltReason::Key).await;
    let vitals = ReadVitals {
        scope: ScopeToken::from("scope"),
        window: 10,
        at: scene.now(),
    };
    let vitals = scene.world.tell(vitals).await.unwrap();
    assert_eq!(vitals.halts.len(), 1);
    let incident = pagemill::domain::alert::Incident {
        kind: pagemill::domain::alert::AlertKind::Halted,
        subject: "key".into(),
        message: "refused".into(),
        since: scene.now(),
        over: false,
    };
    let record = |incidents| RecordAlerts {
        run: RunId::from("run-1"),
        incidents,
        channels: Vec::new(),
        barren_peak: 0,
        busy_since: None,
        at: scene.now(),
    };
    let fired = record(vec![("id-1".to_owned(), incident.clone())]);
    assert_eq!(scene.world.tell(fired).await.unwrap().fired.len(), 1);
    let again = record(vec![("id-2".to_owned(), incident)]);
    let changes = scene.world.tell(again).await.unwrap();
    assert_eq!(changes, AlertChanges::default());
    let cleared = scene.world.tell(record(Vec::new())).await.unwrap().cleared;
    assert_eq!(cleared[0].id, "id-1");
    let rows = "SELECT alert_id||' '||times||' '||(cleared_at IS NOT NULL) FROM alerts";
    assert_eq!(scene.world.ask(rows).await, ["id-1 2 1"]);
    let due = scene
        .world
        .ask("SELECT alert_id FROM alert_deliveries")
        .await;
    assert_eq!(due, Vec::<String>::new());
}

#[actix::test]
async fn work_that_goes_on_is_remembered_over_looks_and_restarts_and_forgotten_with_its_end() {
    let mut scene = Scene::new().await;
    let busy = "SELECT coalesce(busy_since, 'no work') FROM heartbeats";
    scene.look().await;
    assert_eq!(scene.world.one(busy).await, "no work");
    scene.world.collect("b1", [1]).await;
    let minute = Duration::from_secs(60);
    scene.after(minute, ProviderHealth::Answers).await;
    let begin = scene.now().to_string();
    scene.restart().await;
    scene.after(minute, ProviderHealth::Answers).await;
    assert_eq!(scene.world.one(busy).await, begin);
    let good = verdicts("b1", vec![accepted(1)]);
    scene.world.tell(good).await.unwrap();
    let settle = crate::kit::state_world::settle("b1");
    scene.world.tell(settle).await.unwrap();
    scene.after(minute, ProviderHealth::Answers).await;
    assert_eq!(scene.world.one(busy).await, "no work");
}
