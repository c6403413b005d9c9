//! What `pagemill verify --fix` may tell the state, and what the state refuses.

use pagemill::actors::state::messages::{RepairState, StateError, StateRepair};
use pagemill::domain::ids::RemoteName;

use crate::kit::state_world::*;

fn repair(repairs: Vec<StateRepair>) -> RepairState {
    RepairState {
        repairs,
        at: at(900),
    }
}

async fn assert_refused(world: &World, repairs: Vec<StateRepair>) {
    let before = world.everything().await;
    let refused = world.tell(repair(repairs.clone())).await;
    let fits = matches!(
        refused,
        Err(StateError::Conflict(_) | StateError::Illegal(_) | StateError::Missing(_))
    );
    assert!(fits, "{repairs:?}: {refused:?}");
    assert_eq!(world.everything().await, before, "{repairs:?}");
}

#[actix::test]
async fn p2_a_repair_touches_nothing_that_a_live_batch_needs() {
    let world = World::new().await;
    world.submit("b-1", 1..=2).await;
    let image = world
        .one("SELECT image_file FROM pages WHERE stage = 'batched' ORDER BY record_key LIMIT 1")
        .await;
    let (page, live) = (key(1), batch("b-1"));
    let refused = [
        StateRepair::Requeue {
            key: page.clone(),
            recorded: sha("x"),
        },
        StateRepair::Adopt {
            key: page.clone(),
            sha256: sha("x"),
            bytes: 1,
        },
        StateRepair::AdoptChanged {
            key: page.clone(),
            sha256: sha("x"),
            bytes: 1,
        },
        StateRepair::Free {
            key: page.clone(),
            batch: live.clone(),
        },
        StateRepair::UploadAgain { key: page.clone() },
        StateRepair::DropInflight {
            key: page.clone(),
            batch: live.clone(),
        },
        StateRepair::AddInflight {
            key: key(7),
            batch: live,
        },
        StateRepair::ForgetRemote {
            name: RemoteName::from(image),
        },
    ];
    for one in refused {
        assert_refused(&world, vec![one]).await;
    }
}

#[actix::test]
async fn repairs_of_one_message_are_made_all_or_none() {
    let world = World::new().await;
    world.register(1..=2).await;
    world
        .meddle(&format!(
            "INSERT INTO failure_counts VALUES ('{}', 3, '{}')",
            key(1),
            at(1)
        ))
        .await;
    let recount = StateRepair::Recount { key: key(1) };
    let vanished = StateRepair::Requeue {
        key: key(2),
        recorded: sha("x"),
    };
    assert_refused(&world, vec![recount.clone(), vanished]).await;
    world.tell(repair(vec![recount])).await.unwrap();
    assert_eq!(world.one("SELECT count(*) FROM failure_counts").await, "0");
}

#[actix::test]
async fn f10_a_completed_page_is_requeued_only_for_the_output_that_was_looked_at() {
    let world = World::new().await;
    world.register([1]).await;
    let adopt = StateRepair::Adopt {
        key: key(1),
        sha256: sha("first"),
        bytes: 5,
    };
    world.tell(repair(vec![adopt])).await.unwrap();
    assert_eq!(world.stage(1).await, "completed");
    let requeue = |text: &str| StateRepair::Requeue {
        key: key(1),
        recorded: sha(text),
    };
    assert_refused(&world, vec![requeue("second")]).await;
    world.tell(repair(vec![requeue("first")])).await.unwrap();
    assert_eq!(world.stage(1).await, "discovered");
    world.assert_replay().await;
}
