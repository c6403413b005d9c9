use super::*;

fn label(number: u32, has_output: bool) -> Label {
    Label {
        key: key(number),
        number,
        in_scope: true,
        has_output,
    }
}

fn key(number: u32) -> RecordKey {
    RecordKey::new(format!("book:{number}"))
}

fn rules() -> Rules {
    Rules {
        scope: ScopeToken::from("scope"),
        skip_dead: true,
        chained: true,
    }
}

fn known(number: u32, stage: PageStage) -> Known {
    Known {
        key: key(number),
        stage,
        predecessor: None,
        waits_for: None,
        chain_ahead: 0,
        scope: Some(ScopeToken::from("scope")),
        dead_for: None,
        left_out: false,
    }
}

fn run(labels: &[Label], known: &[Known], rules: &Rules) -> (Comparison, Vec<String>) {
    let mut told = Vec::new();
    let found = compare(labels, known, rules, |key, why| {
        told.push(format!("{key} {why}"))
    });
    (found, told)
}

#[test]
fn new_pages_know_their_chain() {
    let labels = [1, 2, 3, 10, 11].map(|number| label(number, false));
    let (found, told) = run(&labels, &[], &rules());
    assert!(told.is_empty());
    let chain: Vec<(u32, Option<RecordKey>, u32)> = found
        .register
        .iter()
        .map(|place| (place.number, place.waits_for.clone(), place.chain_ahead))
        .collect();
    assert_eq!(
        chain,
        [
            (1, None, 2),
            (10, None, 1),
            (11, Some(key(10)), 0),
            (2, Some(key(1)), 1),
            (3, Some(key(2)), 0),
        ]
    );
}

#[test]
fn pages_that_stand_alone_are_all_as_urgent_as_each_other() {
    let labels = [1, 2, 3].map(|number| label(number, false));
    let alone = Rules {
        chained: false,
        ..rules()
    };
    let before = Known {
        predecessor: Some(key(1)),
        waits_for: Some(key(1)),
        chain_ahead: 1,
        ..known(2, PageStage::Discovered)
    };
    let (found, _told) = run(&labels, &[before], &alone);
    let urgent = |places: &[Place]| -> Vec<(u32, u32)> {
        let pairs = places.iter().map(|place| (place.number, place.chain_ahead));
        pairs.collect()
    };
    assert_eq!(urgent(&found.register), [(1, 0), (3, 0)]);
    assert_eq!(urgent(&found.rechain), [(2, 0)]);
    assert_eq!(
        found.rechain[0].waits_for,
        Some(key(1)),
        "should it be chained again"
    );
}

#[test]
fn known_pages_are_left_alone_with_a_reason() {
    let labels = [1, 2, 3, 5].map(|number| label(number, number == 1));
    let waiting = Known {
        waits_for: Some(key(2)),
        predecessor: Some(key(2)),
        ..known(3, PageStage::Discovered)
    };
    let state = [
        Known {
            chain_ahead: 2,
            ..known(1, PageStage::Completed)
        },
        Known {
            chain_ahead: 1,
            predecessor: Some(key(1)),
            ..known(2, PageStage::Batched)
        },
        waiting,
        known(5, PageStage::Dead),
    ];
    let (found, told) = run(&labels, &state, &rules());
    assert_eq!(found, Comparison::default());
    assert_eq!(
        told,
        [
            "book:1 done",
            "book:2 in flight: batched",
            "book:3 waits for page 2",
            "book:5 dead"
        ]
    );
}

#[test]
fn a_deleted_output_makes_its_page_run_again_and_the_next_one_wait() {
    let labels = [label(1, false), label(2, false)];
    let state = [
        Known {
            chain_ahead: 1,
            ..known(1, PageStage::Completed)
        },
        Known {
            predecessor: Some(key(1)),
            ..known(2, PageStage::Discovered)
        },
    ];
    let (found, _told) = run(&labels, &state, &rules());
    assert_eq!(found.requeue, [(key(1), RequeueCause::OutputVanished)]);
    assert_eq!(found.rechain.len(), 1);
    assert_eq!(found.rechain[0].waits_for, Some(key(1)));
}

#[test]
fn outputs_that_nobody_vouches_for_are_judged() {
    let labels = [1, 3, 5, 7].map(|number| label(number, true));
    let state = [
        known(3, PageStage::Discovered),
        known(5, PageStage::Dead),
        known(7, PageStage::Validating),
    ];
    let (found, told) = run(&labels, &state, &rules());
    assert_eq!(found.outputs_to_judge, [key(1), key(3), key(5)]);
    assert_eq!(told, ["book:7 in flight: validating"]);
}

#[test]
fn p7_a_dead_page_blocks_its_successor_only_on_request() {
    let labels = [label(1, false), label(2, false)];
    let state = [Known {
        chain_ahead: 1,
        ..known(1, PageStage::Dead)
    }];
    let (found, _told) = run(&labels, &state, &rules());
    assert_eq!(found.register[0].waits_for, None);
    let block = Rules {
        skip_dead: false,
        ..rules()
    };
    let (found, _told) = run(&labels, &state, &block);
    assert_eq!(found.register[0].waits_for, Some(key(1)));
}

#[test]
fn scope_and_vanished_labels() {
    let outside = Label {
        in_scope: false,
        ..label(1, false)
    };
    let other_scope = Known {
        scope: None,
        ..known(2, PageStage::Discovered)
    };
    let labels = [outside, label(2, false)];
    let (found, told) = run(
        &labels,
        &[other_scope, known(9, PageStage::Discovered)],
        &rules(),
    );
    assert_eq!(told, ["book:1 out of scope"]);
    assert_eq!(found.rescope, [key(2)]);
    assert_eq!(found.label_vanished, [key(9)]);
    assert!(found.register.is_empty());
}

#[test]
fn a_page_whose_label_is_back_runs() {
    let (found, _told) = run(
        &[label(2, false)],
        &[known(2, PageStage::Skipped)],
        &rules(),
    );
    assert_eq!(found.requeue, [(key(2), RequeueCause::LabelReturned)]);
}
