//! Who carries out orders: the stage beside a run, and the clerk of a command that has the state.

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use pagemill::actors::hint::{Idle, PagesRegistered};
use pagemill::actors::order_desk::{Clerk, OrderDesk};
use pagemill::actors::state::messages::*;
use pagemill::actors::wish::WishDesk;
use pagemill::domain::batch::{BatchEvent, BatchStage};
use pagemill::domain::ids::{OrderId, RecordKey};
use pagemill::domain::order::{Order, Signature};
use pagemill::domain::selection::Selection;

use crate::kit::manual_clock::ManualClock;
use crate::kit::memory_tree::MemoryTree;
use crate::kit::probe::{Probe, seen};
use crate::kit::sandbox::{BRAKE, RELEASE, Sandbox};
use crate::kit::state_world::{World, at, batch, key, record_submit, sha, spooled, stored_file};

fn order(name: &str, order: Order) -> PlaceOrder {
    PlaceOrder {
        id: OrderId::from(name),
        order,
        signature: Signature {
            by: "ann".to_owned(),
            reason: String::new(),
        },
        at: at(100),
    }
}

fn only(keys: Vec<RecordKey>) -> Selection {
    Selection {
        keys,
        choices: Vec::new(),
    }
}

struct Scene {
    sandbox: Sandbox,
    desk: Addr<OrderDesk>,
    registered: Addr<Probe<PagesRegistered>>,
    keys: Vec<RecordKey>,
}

impl Scene {
    /// Pages that are done, and a desk.
    async fn of_done_pages(pages: u32) -> Scene {
        let sandbox = Sandbox::new().await;
        sandbox.start_run().await;
        let keys: Vec<RecordKey> = (1..=pages)
            .map(|page| sandbox.tree.add("book", page * 10))
            .collect();
        sandbox.register(&keys).await;
        let mut outputs = Vec::new();
        for key in &keys {
            sandbox.tree.put_output(key, "{}");
            outputs.push(AdoptedOutput {
                key: key.clone(),
                sha256: sha("{}"),
                bytes: 2,
            });
        }
        let adopt = AdoptOutputs {
            outputs,
            at: sandbox.now(),
        };
        sandbox.ask(adopt).await.unwrap();
        let registered = Probe::start_new();
        let clerk = Clerk {
            wishes: WishDesk {
                state: sandbox.state.clone(),
                batches: Some(sandbox.provider.clone()),
                clock: sandbox.clock.clone(),
                release: RELEASE,
                brake: BRAKE,
            },
            sink: sandbox.tree.clone(),
            beside_stages: true,
        };
        let desk = OrderDesk::new(
            sandbox.plan.order_desk.clone(),
            clerk,
            registered.clone().recipient(),
            sandbox.root(),
        )
        .start();
        Scene {
            sandbox,
            desk,
            registered,
            keys,
        }
    }

    /// Beats four times a second, as a conductor does.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.desk.send(self.sandbox.tick()).await.unwrap();
            self.desk.send(Idle {}).await.unwrap();
            self.sandbox.clock.advance(Duration::from_millis(250));
        }
    }

    async fn states(&self) -> Vec<String> {
        let states = "SELECT order_id||' '||state FROM orders ORDER BY order_id";
        self.sandbox.sql(states).await
    }
}

#[actix::test]
async fn f46_a_redo_on_a_disk_that_takes_no_revision_pauses_and_holds_up_no_other_order() {
    let scene = Scene::of_done_pages(40).await;
    let disk = &scene.sandbox.tree.disk;
    disk.retires.set(u32::MAX);
    let redo = Order::Redo {
        which: only(scene.keys.clone()),
        reset_failures: false,
    };
    scene.sandbox.ask(order("o1", redo)).await.unwrap();
    scene.pass(4).await;
    assert_eq!(disk.failures.get(), 1, "the first output ends the round");
    scene.sandbox.ask(order("o2", Order::Pause)).await.unwrap();
    scene.pass(1).await;
    assert_eq!(scene.states().await, ["o1 open", "o2 done"]);
    // Five seconds, ten, twenty, forty.
    scene.pass(70).await;
    assert_eq!(disk.failures.get(), 4);
    assert!(seen(&scene.registered).await.is_empty());
    assert_eq!(scene.sandbox.tree.outputs.borrow().len(), 40);
    disk.retires.set(0);
    scene.pass(60).await;
    assert_eq!(scene.states().await, ["o1 done", "o2 done"]);
    let told = seen(&scene.registered).await;
    assert_eq!(told.iter().map(|hint| hint.count).sum::<u64>(), 40);
    assert!(scene.sandbox.tree.outputs.borrow().is_empty());
}

#[actix::test]
async fn p3_a_batch_that_a_killed_process_was_sending_is_given_up_only_once_that_is_known() {
    let world = World::new().await;
    world.plan("b1", [1, 2]).await;
    world.tell(spooled("b1", [1, 2])).await.unwrap();
    let sent = RecordJsonlUploaded {
        batch: batch("b1"),
        file: stored_file("files/lines-b1", 200_000),
        at: at(210),
    };
    world.tell(sent).await.unwrap();
    let begin = BeginSubmit {
        batch: batch("b1"),
        at: at(220),
    };
    world.tell(begin).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clerk = Clerk {
        wishes: WishDesk {
            state: world.state.clone(),
            batches: None,
            clock: Rc::new(ManualClock::new()),
            release: RELEASE,
            brake: BRAKE,
        },
        sink: Rc::new(MemoryTree::new(folder.path().to_owned())),
        beside_stages: false,
    };
    let forget = Order::ForgetBatch {
        batch: batch("b1"),
        cancel_remote: false,
    };
    world.tell(order("o1", forget)).await.unwrap();
    let note = Order::Note {
        key: key(1),
        text: "seen".to_owned(),
    };
    world.tell(order("o2", note)).await.unwrap();
    let states = "SELECT order_id||' '||state FROM orders ORDER BY order_id";
    for _ in 0..2 {
        clerk.work_off(false).await.unwrap();
        assert_eq!(world.ask(states).await, ["o1 open", "o2 done"]);
    }
    assert_eq!(world.stage(1).await, "batched");
    let find = || FindBatch { batch: batch("b1") };
    let row = world.tell(find()).await.unwrap().unwrap();
    assert_eq!(row.state.stage(), BatchStage::Submitting);
    assert!(row.wish.is_some_and(|wish| wish.forgets()));

    let unclear = BatchEvent::SubmitUnclear { at: at(300) };
    world.tell(record_submit("b1", unclear)).await.unwrap();
    clerk.work_off(false).await.unwrap();
    assert_eq!(world.ask(states).await, ["o1 done", "o2 done"]);
    let row = world.tell(find()).await.unwrap().unwrap();
    assert_eq!(row.state.stage(), BatchStage::Abandoned);
    world.assert_replay().await;
}
