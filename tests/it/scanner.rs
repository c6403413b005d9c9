//! Scanner between a recorded uploader and a recorded root, on a real SQLite file.

use actix::prelude::*;
use pagemill::actors::hint::{Idle, PagesRegistered, PagesUnlocked, Rescan, ScanDone};
use pagemill::actors::scanner::{Scanner, ScannerPeers};
use pagemill::domain::ids::RecordKey;
use pagemill::domain::image::ImageFault;
use pagemill::domain::page::PageStage;

use crate::kit::probe::{Probe, seen};
use crate::kit::sandbox::Sandbox;

struct Scene {
    sandbox: Sandbox,
    scanner: Addr<Scanner>,
    registered: Addr<Probe<PagesRegistered>>,
    done: Addr<Probe<ScanDone>>,
}

impl Scene {
    async fn new() -> Self {
        Scene::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Sandbox)) -> Self {
        let mut sandbox = Sandbox::new().await;
        change(&mut sandbox);
        sandbox.start_run().await;
        let (registered, done) = (Probe::start_new(), Probe::start_new());
        let peers = ScannerPeers {
            state: sandbox.state.clone(),
            registered: registered.clone().recipient(),
            done: done.clone().recipient(),
        };
        let scanner = Scanner::new(
            sandbox.plan.scanner.clone(),
            peers,
            sandbox.root(),
            sandbox.tree.clone(),
            sandbox.clock.clone(),
        )
        .start();
        Scene {
            sandbox,
            scanner,
            registered,
            done,
        }
    }

    async fn scan(&self) -> u64 {
        self.scanner.send(Rescan {}).await.unwrap();
        self.scanner.send(Idle {}).await.unwrap();
        assert_eq!(
            seen(&self.done).await.len(),
            1,
            "one look, one word to the root"
        );
        seen(&self.registered)
            .await
            .iter()
            .map(|arrow| arrow.count)
            .sum()
    }
}

fn stages(found: &[(String, PageStage)]) -> Vec<(&str, &str)> {
    found
        .iter()
        .map(|(key, stage)| (key.as_str(), stage.as_str()))
        .collect()
}

#[actix::test]
async fn new_labels_are_registered_once_and_only_runnable_ones_can_be_claimed() {
    let scene = Scene::new().await;
    let tree = &scene.sandbox.tree;
    for (book, page) in [("a", 1), ("a", 2), ("b", 7), ("a", 10)] {
        tree.add(book, page);
    }
    assert_eq!(scene.scan().await, 4);
    assert_eq!(
        scene.scan().await,
        0,
        "a look at an unchanged tree changes nothing"
    );
    let claimed = scene.sandbox.claim(10).await;
    let claimed: Vec<&str> = claimed.iter().map(|key| key.as_str()).collect();
    assert_eq!(
        claimed,
        ["a:1", "a:10", "b:7"],
        "the longest chain first, ties by key"
    );
}

#[actix::test]
async fn outputs_from_before_the_first_run_are_adopted_without_being_sent() {
    let scene = Scene::new().await;
    let tree = &scene.sandbox.tree;
    let (good, cut, wrong) = (tree.add("a", 1), tree.add("a", 2), tree.add("a", 3));
    tree.put_output(&good, r#"{"text": "x"}"#);
    tree.put_output(&cut, r#"{"text": "x"#);
    tree.put_output(&wrong, r#"{"text": 5}"#);
    scene.scan().await;
    assert_eq!(
        stages(&scene.sandbox.stages().await),
        [
            ("a:1", "completed"),
            ("a:2", "discovered"),
            ("a:3", "discovered")
        ]
    );
    let summary = scene
        .sandbox
        .ask(pagemill::actors::state::messages::Summarize {
            scope: None,
            at: scene.sandbox.now(),
        })
        .await
        .unwrap();
    assert_eq!(summary.oddities, [("output not usable".to_owned(), 2)]);
}

#[actix::test]
async fn accepted_outputs_are_not_read_again() {
    let scene = Scene::new().await;
    let tree = &scene.sandbox.tree;
    let key = tree.add("a", 1);
    tree.put_output(&key, r#"{"text": "x"}"#);
    scene.scan().await;
    assert_eq!(tree.outputs_read.take().len(), 1);
    scene.scan().await;
    assert_eq!(tree.outputs_read.take().len(), 0);
}

#[actix::test]
async fn p1_deleting_an_output_makes_the_page_run_again() {
    let scene = Scene::new().await;
    let tree = &scene.sandbox.tree;
    let key = tree.add("a", 1);
    tree.add("a", 2);
    tree.put_output(&key, r#"{"text": "x"}"#);
    scene.scan().await;
    tree.outputs.borrow_mut().clear();
    assert!(scene.scan().await >= 1);
    assert_eq!(
        stages(&scene.sandbox.stages().await),
        [("a:1", "discovered"), ("a:2", "discovered")]
    );
    let claimed = scene.sandbox.claim(10).await;
    assert_eq!(claimed, [key], "the page behind it waits again");
}

#[actix::test]
async fn a_page_whose_label_is_gone_is_not_sent_and_comes_back_with_it() {
    let scene = Scene::new().await;
    let tree = &scene.sandbox.tree;
    let (gone, _stays) = (tree.add("a", 1), tree.add("b", 1));
    scene.scan().await;
    let label = tree.labels.borrow_mut().remove(&gone).unwrap();
    // The folder is still walked: another label of the book is there.
    tree.add("a", 5);
    scene.scan().await;
    let claimed = scene.sandbox.claim(10).await;
    assert!(!claimed.contains(&gone), "{claimed:?}");
    tree.labels.borrow_mut().insert(gone.clone(), label);
    scene.scan().await;
    assert_eq!(scene.sandbox.claim(10).await, [gone]);
}

#[actix::test]
async fn a_page_dead_for_its_image_runs_when_the_image_is_mended() {
    use pagemill::actors::state::messages::{Counted, RecordUploads, UploadRecord};
    use pagemill::domain::attempt::FailureDetail;
    use pagemill::domain::failure::ErrorType;
    use pagemill::domain::page::PageEvent;
    let scene = Scene::new().await;
    let sandbox = &scene.sandbox;
    let key = sandbox.tree.add("a", 1);
    let good = sandbox
        .tree
        .images
        .borrow_mut()
        .insert(key.clone(), Err(ImageFault::Empty("a/1.jpg".into())));
    scene.scan().await;
    sandbox.claim(1).await;
    let detail = FailureDetail {
        error: ErrorType::Image,
        message: "empty".into(),
        chain: "empty".into(),
        raw_text: None,
        extracted_text: None,
        raw_json: None,
    };
    let refused = UploadRecord {
        key: key.clone(),
        event: PageEvent::UploadRefused {
            error: ErrorType::Image,
        },
        stored: None,
        failure: Some((detail, Counted::Yes)),
        cycle_spent: false,
        note: "empty".into(),
    };
    let run = sandbox.plan.run.clone();
    sandbox
        .ask(RecordUploads {
            run,
            uploads: vec![refused],
            at: sandbox.now(),
        })
        .await
        .unwrap();
    scene.scan().await;
    assert_eq!(stages(&sandbox.stages().await), [("a:1", "dead")]);
    sandbox.tree.images.borrow_mut().insert(key, good.unwrap());
    assert_eq!(scene.scan().await, 1);
    assert_eq!(stages(&sandbox.stages().await), [("a:1", "discovered")]);
}

#[actix::test]
async fn only_books_whose_folders_changed_are_looked_at_again() {
    let scene = Scene::new().await;
    let tree = &scene.sandbox.tree;
    for (book, page) in [("a", 1), ("a", 2), ("b", 1), ("c", 1)] {
        tree.add(book, page);
    }
    let listed = || std::mem::take(&mut *tree.listed.borrow_mut());
    assert_eq!(scene.scan().await, 4);
    assert_eq!(listed(), ["a", "b", "c"]);
    assert_eq!(scene.scan().await, 0);
    assert_eq!(listed(), Vec::<String>::new());
    tree.add("b", 2);
    assert_eq!(scene.scan().await, 1);
    assert_eq!(
        scene.scan().await,
        0,
        "the page before has one behind it now"
    );
    assert_eq!(listed(), ["b", "b"]);
    // A page that is done is taken note of, and so is the loss of its output.
    let key = RecordKey::from("c:1");
    tree.put_output(&key, r#"{"text": "x"}"#);
    scene.scan().await;
    scene.scan().await;
    assert_eq!(listed(), ["c", "c"], "judged once, in order the next time");
    scene.scan().await;
    assert_eq!(listed(), Vec::<String>::new());
    tree.outputs.borrow_mut().remove(&key);
    assert_eq!(scene.scan().await, 1, "the output is gone");
    assert_eq!(listed(), ["c"]);
}

#[actix::test]
async fn every_few_looks_all_books_are_looked_at_in_case_a_file_system_keeps_no_times() {
    let scene = Scene::new().await;
    let tree = &scene.sandbox.tree;
    tree.add("a", 1);
    let mut looks = Vec::new();
    for _look in 0..25 {
        scene.scan().await;
        looks.push(std::mem::take(&mut *tree.listed.borrow_mut()).len());
    }
    let full: Vec<usize> = (0..25).filter(|at| looks[*at] == 1).collect();
    assert_eq!(full, [0, 10, 20]);
}

#[actix::test]
async fn unlocked_pages_are_passed_on_to_the_uploader_where_pages_wait_for_each_other() {
    for (chained, passed_on) in [(true, vec![PagesRegistered { count: 3 }]), (false, vec![])] {
        let scene = Scene::with(|sandbox| sandbox.plan.scanner.chained = chained).await;
        let unlocked = PagesUnlocked { count: 3 };
        scene.scanner.send(unlocked).await.unwrap();
        assert_eq!(seen(&scene.registered).await, passed_on);
    }
}
