//! Orders in the state: kept, carried out piece by piece, in the history, and the same as announced.

use std::time::Duration;

use pagemill::actors::state::messages::*;
use pagemill::actors::state::orders::preview::preview;
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::{BatchId, OrderId, RecordKey};
use pagemill::domain::order::{Effects, Order, OrderState, Priority, Signature};
use pagemill::domain::page::Afterwards;
use pagemill::domain::selection::{LevelChoice, LevelFilter, Selection};

use crate::kit::state_world::*;

fn signature() -> Signature {
    Signature {
        by: "ann".to_owned(),
        reason: "because".to_owned(),
    }
}

fn pages(numbers: impl IntoIterator<Item = u32>) -> Selection {
    Selection {
        keys: keys(numbers),
        choices: Vec::new(),
    }
}

/// Pages whose number is in a range.
fn numbered(start: i64, end: i64) -> Selection {
    Selection {
        keys: Vec::new(),
        choices: vec![LevelChoice {
            name: "page".to_owned(),
            place: 3,
            filter: LevelFilter::Range { start, end },
        }],
    }
}

/// Gives an order and carries it out, `at_once` pages a time.
async fn obey(world: &World, name: &str, order: Order, at_once: u64) -> Effects {
    let id = OrderId::from(name);
    place(world, &id, order).await;
    finish(world, &id, at_once).await
}

async fn place(world: &World, id: &OrderId, order: Order) {
    let place = PlaceOrder {
        id: id.clone(),
        order,
        signature: signature(),
        at: at(100),
    };
    world.tell(place).await.unwrap();
}

async fn finish(world: &World, id: &OrderId, limit: u64) -> Effects {
    loop {
        let (id, question) = (id.clone(), id.clone());
        let next = NextOfOrder {
            id: question,
            limit,
        };
        let keys = world.tell(next).await.unwrap();
        let over = keys.is_empty();
        let carry = CarryOut {
            id,
            keys,
            at: at(101),
        };
        let effects = world.tell(carry).await.unwrap();
        if over {
            return effects;
        }
    }
}

/// What the preview announces is what carrying out does.
async fn obey_as_announced(world: &World, name: &str, order: Order) -> Effects {
    let announced = preview(&world.db, &order, 10).await.unwrap();
    let done = obey(world, name, order, 2).await;
    assert_eq!(announced.effects.counts, done.counts, "{name}");
    done
}

/// Pages 1 to 3 done, page 4 dead, page 5 waiting behind it with one failure.
async fn world_of_five() -> World {
    let world = World::with(true).await;
    world.collect("b1", [1, 2, 3, 4, 5]).await;
    let dead = rejected(4, ErrorType::Validation, Afterwards::Dead);
    let failed = rejected(5, ErrorType::Value, again());
    let judged = vec![accepted(1), accepted(2), accepted(3), dead, failed];
    world.tell(verdicts("b1", judged)).await.unwrap();
    world.tell(settle("b1")).await.unwrap();
    world
}

#[actix::test]
async fn s1_16_cleared_failures_send_dead_pages_again_and_leave_the_history() {
    let world = world_of_five().await;
    let which = numbered(1, 9);
    let done = obey_as_announced(
        &world,
        "o1",
        Order::ClearFailures {
            which,
            done_only: false,
        },
    )
    .await;
    assert_eq!(done.of("dead pages to run again"), 1);
    assert_eq!(done.of("failure counts cleared"), 2);
    assert_eq!(world.stage(4).await, "discovered");
    assert_eq!(world.one("SELECT count(*) FROM failure_counts").await, "0");
    assert_eq!(world.one("SELECT count(*) FROM failure_logs").await, "2");
    assert_eq!(
        world.one("SELECT sum(counted) FROM failure_logs").await,
        "0"
    );
    // Page 5 had been let past the dead page; now it waits for its output again.
    let waits = "SELECT record_key || ' ' || waits_for FROM pages WHERE waits_for IS NOT NULL";
    assert_eq!(world.ask(waits).await, [format!("{} {}", key(5), key(4))]);
    let signed = world
        .ask(
            "SELECT event || ' ' || (details->>'by') || ' ' || (details->>'why') || ' ' ||
                    (details->>'order') || ' ' || correlation_id
             FROM page_events WHERE details->>'order' IS NOT NULL ORDER BY record_key",
        )
        .await;
    let expected = [
        "requeued ann because o1 o1",
        "failures_cleared ann because o1 o1",
    ];
    assert_eq!(signed, expected);
    world.assert_replay().await;
}

#[actix::test]
async fn s1_38_counts_of_done_pages_are_pruned_and_nothing_runs_again() {
    let world = world_of_five().await;
    // Page 5 succeeds in the end.
    world.tell(claim(10, 200)).await.unwrap();
    world
        .tell(record_uploads(vec![uploaded(5, 210)], 210))
        .await
        .unwrap();
    let adopt = AdoptOutputs {
        outputs: vec![AdoptedOutput {
            key: key(5),
            sha256: sha("found"),
            bytes: 7,
        }],
        at: at(220),
    };
    world.tell(adopt).await.unwrap();
    let order = Order::ClearFailures {
        which: Selection::default(),
        done_only: true,
    };
    let done = obey_as_announced(&world, "o1", order).await;
    assert_eq!(done.counts, [("failure counts cleared".to_owned(), 1)]);
    let left = world.ask("SELECT record_key FROM failure_counts").await;
    assert_eq!(left, [key(4).to_string()], "the dead page keeps its own");
    assert_eq!(world.stage(4).await, "dead");
    assert_eq!(world.stage(5).await, "completed");
    assert_eq!(world.one("SELECT count(*) FROM failure_logs").await, "2");
    world.assert_replay().await;
}

#[actix::test]
async fn redone_pages_wait_for_each_other_in_their_order() {
    let world = world_of_five().await;
    let order = Order::Redo {
        which: pages([1, 2, 3]),
        reset_failures: true,
    };
    let done = obey_as_announced(&world, "o1", order).await;
    assert_eq!(done.of("done pages to run again"), 3);
    let waiting = "SELECT record_key FROM pages WHERE waits_for IS NOT NULL ORDER BY 1";
    assert_eq!(
        world.ask(waiting).await,
        [key(2).to_string(), key(3).to_string()]
    );
    let claimed = world.tell(claim(10, 200)).await.unwrap();
    let claimed: Vec<RecordKey> = claimed.pages.into_iter().map(|page| page.key).collect();
    assert_eq!(claimed, [key(1), key(5)]);
    world.assert_replay().await;
}

#[actix::test]
async fn pages_that_are_left_out_hold_up_nobody_and_come_back_only_by_order() {
    let world = World::with(true).await;
    let chained = (1..=3).map(|number| new_page(number, number.checked_sub(1).filter(|n| *n > 0)));
    let changes = ScanChanges {
        register: chained.collect(),
        ..ScanChanges::default()
    };
    world.tell(scan(changes, 0)).await.unwrap();
    let which = pages([1]);
    let done = obey_as_announced(&world, "o1", Order::Skip { which }).await;
    assert_eq!(done.of("waiting pages left out"), 1);
    assert_eq!(world.stage(1).await, "skipped");
    let claimed = world.tell(claim(10, 200)).await.unwrap();
    assert_eq!(claimed.pages.len(), 1, "the page behind it may go");
    assert_eq!(claimed.pages[0].key, key(2));
    let status = world
        .one("SELECT status FROM pages WHERE stage = 'skipped'")
        .await;
    assert_eq!(status, "left out by ann: because");
    let which = pages([1, 2, 3]);
    let back = obey_as_announced(&world, "o2", Order::Unskip { which }).await;
    assert_eq!(back.of("left-out pages to run again"), 1);
    assert_eq!(world.one("SELECT count(left_out) FROM pages").await, "0");
    world.assert_replay().await;
}

#[actix::test]
async fn s4_14_high_goes_first_and_low_is_not_starved() {
    let world = World::new().await;
    world.register(1..=6).await;
    let prioritize = |which, priority| Order::Prioritize { which, priority };
    obey_as_announced(&world, "o1", prioritize(pages([5]), Priority::High)).await;
    obey_as_announced(&world, "o2", prioritize(pages([1, 2]), Priority::Low)).await;
    let order = async |limit, seconds| -> Vec<RecordKey> {
        let claimed = world.tell(claim(limit, seconds)).await.unwrap();
        claimed.pages.into_iter().map(|page| page.key).collect()
    };
    assert_eq!(order(2, 200).await, [key(5), key(3)]);
    // A day later the low ones count as normal, and go in their turn.
    let age = |before, seconds| AgePriorities {
        before: at(before),
        at: at(seconds),
    };
    assert_eq!(world.tell(age(50, 300)).await.unwrap(), 0, "not yet");
    assert_eq!(world.tell(age(101, DAY)).await.unwrap(), 2);
    assert_eq!(order(2, DAY).await, [key(1), key(2)]);
    let set = "SELECT priority || ' ' || priority_set FROM pages ORDER BY record_key LIMIT 2";
    assert_eq!(
        world.ask(set).await,
        ["0 -1", "0 -1"],
        "the operator's word stays"
    );
    world.assert_replay().await;
}

#[actix::test]
async fn a_priority_of_a_part_of_the_tree_holds_for_pages_that_come_later() {
    let world = World::new().await;
    world.register([1]).await;
    let prioritize = |which, priority| Order::Prioritize { which, priority };
    obey(&world, "o1", prioritize(numbered(5, 7), Priority::Low), 10).await;
    obey(&world, "o2", prioritize(numbered(7, 9), Priority::High), 10).await;
    world.register([4, 5, 7]).await;
    let ranks = "SELECT page_number || ' ' || priority FROM pages ORDER BY page_number";
    assert_eq!(world.ask(ranks).await, ["1 0", "4 0", "5 -1", "7 1"]);
}

#[actix::test]
async fn an_order_that_was_interrupted_goes_on_where_it_stopped() {
    let world = World::new().await;
    world.register(1..=5).await;
    let id = OrderId::from("o1");
    let which = Selection::default();
    place(&world, &id, Order::Skip { which }).await;
    let next = |limit| NextOfOrder {
        id: id.clone(),
        limit,
    };
    let first = world.tell(next(2)).await.unwrap();
    let carry = CarryOut {
        id: id.clone(),
        keys: first,
        at: at(101),
    };
    world.tell(carry).await.unwrap();
    // Somebody put one of them back meanwhile; it is not this order's any more.
    obey(&world, "o2", Order::Unskip { which: pages([1]) }, 10).await;
    let open = world.tell(ListOpenOrders {}).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].effects.of("waiting pages left out"), 2);
    let done = finish(&world, &id, 2).await;
    assert_eq!(done.of("waiting pages left out"), 5);
    assert_eq!(world.stage(1).await, "discovered");
    assert!(world.tell(ListOpenOrders {}).await.unwrap().is_empty());
    let again = CarryOut {
        id,
        keys: Vec::new(),
        at: at(102),
    };
    assert!(matches!(
        world.tell(again).await,
        Err(StateError::Conflict(_))
    ));
    world.assert_replay().await;
}

#[actix::test]
async fn s2_23_notes_stand_in_the_history_and_change_nothing() {
    let world = world_of_five().await;
    let order = Order::Note {
        key: key(3),
        text: "torn \"here\"\nand there".to_owned(),
    };
    obey_as_announced(&world, "o1", order).await;
    assert_eq!(world.stage(3).await, "completed");
    let text = "SELECT details->>'text' FROM page_events WHERE event = 'noted'";
    assert_eq!(world.ask(text).await, ["torn \"here\"\nand there"]);
    world.assert_replay().await;
}

#[actix::test]
async fn a_batch_that_is_to_be_forgotten_is_marked_and_its_order_waits() {
    let world = World::new().await;
    world.submit("b1", [1, 2]).await;
    let id = OrderId::from("o1");
    let order = Order::ForgetBatch {
        batch: BatchId::from("b1"),
        cancel_remote: true,
    };
    place(&world, &id, order).await;
    let carry = CarryOut {
        id,
        keys: Vec::new(),
        at: at(101),
    };
    world.tell(carry).await.unwrap();
    let find = FindBatch {
        batch: BatchId::from("b1"),
    };
    let row = world.tell(find).await.unwrap().unwrap();
    assert!(
        row.wish
            .is_some_and(|wish| wish.forgets() && wish.cancels())
    );
    let open = world.tell(ListOpenOrders {}).await.unwrap();
    assert_eq!(open[0].state, OrderState::Open);
    assert!(open[0].created_at.plus(Duration::from_secs(1)) > at(100));
}

#[actix::test]
async fn levels_are_chosen_by_name_and_by_range() {
    let world = World::new().await;
    world.register(1..=5).await;
    let choose = |place, filter| LevelChoice {
        name: "level".to_owned(),
        place,
        filter,
    };
    let names =
        |names: &[&str]| LevelFilter::OneOf(names.iter().map(|name| (*name).to_owned()).collect());
    for (choices, expected) in [
        (vec![choose(0, names(&["Alabama"]))], 5),
        (vec![choose(0, names(&["Alabama", "Ohio"]))], 5),
        (vec![choose(0, names(&["Ohio"]))], 0),
        (
            vec![choose(0, names(&["Alabama'; DROP TABLE pages; --"]))],
            0,
        ),
        (
            vec![
                choose(0, names(&["Alabama"])),
                choose(3, names(&["2", "3"])),
            ],
            2,
        ),
        (
            vec![choose(
                3,
                LevelFilter::Range {
                    start: 2,
                    end: i64::MAX,
                },
            )],
            4,
        ),
        (
            vec![choose(
                1,
                LevelFilter::Range {
                    start: i64::MIN,
                    end: i64::MAX,
                },
            )],
            0,
        ),
    ] {
        let which = Selection {
            keys: Vec::new(),
            choices,
        };
        let order = Order::Skip { which };
        let found = preview(&world.db, &order, 100).await.unwrap();
        assert_eq!(found.first.len(), expected, "{order:?}");
    }
}
