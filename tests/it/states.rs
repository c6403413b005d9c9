//! Both state machines, every pair of state and event, and the document that shows them.

use std::collections::BTreeSet;

use pagemill::domain::batch::{self, AbandonCode, BatchEvent, BatchStage, BatchState};
use pagemill::domain::failure::ErrorType;
use pagemill::domain::ids::{BatchId, RemoteName, Sha256Hex};
use pagemill::domain::page::{
    self, Afterwards, IllegalTransition, PageEvent, PageStage, PageState, RequeueCause, StoredImage,
};

use crate::kit::state_world::at;

/// From, event, to.
type Row = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const PAGE: &[Row] = &[
    ("discovered", "upload_started", "uploading"),
    ("discovered", "label_vanished", "skipped"),
    ("discovered", "left_out", "skipped"),
    ("uploaded", "left_out", "skipped"),
    ("dead", "left_out", "skipped"),
    ("review", "left_out", "skipped"),
    ("discovered", "adopted", "completed"),
    ("uploading", "upload_stored", "uploaded"),
    ("uploading", "upload_deferred", "discovered"),
    ("uploading", "upload_refused", "dead"),
    ("uploaded", "adopted", "completed"),
    ("uploaded", "file_expired", "discovered"),
    ("uploaded", "packed", "batched"),
    ("batched", "answer_at_hand", "validating"),
    ("batched", "pack_refused", "dead"),
    ("batched", "released", "uploaded"),
    ("batched", "released", "discovered"),
    ("batched", "batch_expired", "discovered"),
    ("batched", "isolated", "dead"),
    ("batched", "releases_spent", "dead"),
    ("validating", "accepted", "completed"),
    ("validating", "rejected", "discovered"),
    ("validating", "rejected", "dead"),
    ("validating", "rejected", "review"),
    ("validating", "released", "discovered"),
    ("validating", "releases_spent", "dead"),
    ("completed", "requeued", "discovered"),
    ("dead", "requeued", "discovered"),
    ("dead", "adopted", "completed"),
    ("review", "requeued", "discovered"),
    ("review", "adopted", "completed"),
    ("skipped", "requeued", "discovered"),
    ("skipped", "adopted", "completed"),
];

#[rustfmt::skip]
const BATCH: &[Row] = &[
    ("planned", "submit_started", "submitting"),
    ("planned", "submit_refused", "planned"),
    ("planned", "submit_impossible", "abandoned"),
    ("planned", "withdrawn", "abandoned"),
    ("planned", "forgotten", "abandoned"),
    ("submitting", "submit_accepted", "submitted"),
    ("submitting", "submit_refused", "planned"),
    ("submitting", "submit_impossible", "abandoned"),
    ("submitting", "submit_unclear", "in doubt"),
    ("in doubt", "lookup_found", "submitted"),
    ("in doubt", "lookup_absent", "planned"),
    ("in doubt", "forgotten", "abandoned"),
    ("submitted", "advanced", "submitted"),
    ("submitted", "results_offered", "ready"),
    ("submitted", "ended_empty", "abandoned"),
    ("submitted", "forgotten", "abandoned"),
    ("ready", "settled", "settled"),
    ("ready", "results_lost", "abandoned"),
    ("ready", "forgotten", "abandoned"),
];

fn image(expires: u64) -> StoredImage {
    StoredImage {
        file: RemoteName::from("files/1"),
        expires_at: at(expires),
    }
}

/// Every stage, in every form that `next` may treat differently.
fn page_states() -> Vec<PageState> {
    let batch = BatchId::from("b1");
    let error = ErrorType::Value;
    let output = Sha256Hex::from("old");
    vec![
        PageState::Discovered { not_before: None },
        PageState::Discovered {
            not_before: Some(at(9)),
        },
        PageState::Uploading,
        PageState::Uploaded { image: image(10) },
        PageState::Batched {
            batch: batch.clone(),
            image: image(10),
        },
        PageState::Batched {
            batch: batch.clone(),
            image: image(20),
        },
        PageState::Batched {
            batch: batch.clone(),
            image: image(30),
        },
        PageState::Validating { batch },
        PageState::Completed { output },
        PageState::Dead { error },
        PageState::Review { error },
        PageState::Skipped,
    ]
}

fn page_events() -> Vec<PageEvent> {
    let error = ErrorType::Image;
    let output = Sha256Hex::from("new");
    let rejected = |afterwards| PageEvent::Rejected { error, afterwards };
    let requeued = |cause| PageEvent::Requeued { cause };
    vec![
        PageEvent::UploadStarted,
        PageEvent::UploadStored { image: image(40) },
        PageEvent::UploadDeferred { until: None },
        PageEvent::UploadDeferred {
            until: Some(at(50)),
        },
        PageEvent::UploadRefused { error },
        PageEvent::FileExpired,
        PageEvent::Packed {
            batch: BatchId::from("b2"),
        },
        PageEvent::PackRefused { error },
        PageEvent::Released { at: at(20) },
        PageEvent::BatchExpired { until: at(50) },
        PageEvent::ReleasesSpent { error },
        PageEvent::Isolated { error },
        PageEvent::AnswerAtHand,
        PageEvent::Accepted {
            output: output.clone(),
        },
        rejected(Afterwards::Again { not_before: None }),
        rejected(Afterwards::Again {
            not_before: Some(at(60)),
        }),
        rejected(Afterwards::Dead),
        rejected(Afterwards::Review),
        PageEvent::Adopted { output },
        PageEvent::LabelVanished,
        PageEvent::LeftOut,
        requeued(RequeueCause::Operator),
        requeued(RequeueCause::OutputVanished),
        requeued(RequeueCause::ImageChanged),
        requeued(RequeueCause::LabelReturned),
    ]
}

fn batch_states() -> Vec<BatchState> {
    let remote = RemoteName::from("batches/1");
    let mut states = vec![
        BatchState::Planned { not_before: None },
        BatchState::Planned {
            not_before: Some(at(1)),
        },
        BatchState::Submitting,
        BatchState::InDoubt { since: at(2) },
        BatchState::Submitted {
            remote: remote.clone(),
        },
        BatchState::Ready { remote },
        BatchState::Settled,
    ];
    let codes = AbandonCode::ALL.iter();
    states.extend(codes.map(|code| BatchState::Abandoned { code: *code }));
    states
}

fn batch_events() -> Vec<BatchEvent> {
    let remote = RemoteName::from("batches/2");
    let mut events = vec![
        BatchEvent::SubmitStarted,
        BatchEvent::Withdrawn,
        BatchEvent::SubmitAccepted {
            remote: remote.clone(),
        },
        BatchEvent::SubmitRefused { until: at(3) },
        BatchEvent::SubmitImpossible,
        BatchEvent::SubmitUnclear { at: at(4) },
        BatchEvent::LookupFound { remote },
        BatchEvent::LookupAbsent { until: None },
        BatchEvent::LookupAbsent { until: Some(at(5)) },
        BatchEvent::Advanced,
        BatchEvent::ResultsOffered,
        BatchEvent::Settled,
        BatchEvent::ResultsLost,
        BatchEvent::Forgotten,
    ];
    let codes = AbandonCode::ALL.iter();
    events.extend(codes.map(|code| BatchEvent::EndedEmpty { code: *code }));
    events
}

/// The rows that the pairs give; refusals must name what was refused.
fn rows_of<S, E>(
    states: &[S],
    events: &[E],
    stage: impl Fn(&S) -> &'static str,
    word: impl Fn(&E) -> &'static str,
    next: impl Fn(&S, &E) -> Result<S, IllegalTransition>,
) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for state in states {
        for event in events {
            match next(state, event) {
                Ok(after) => {
                    rows.insert((stage(state), word(event), stage(&after)));
                }
                Err(refusal) => {
                    assert_eq!((refusal.state, refusal.event), (stage(state), word(event)));
                }
            }
        }
    }
    rows
}

fn page_table() -> BTreeSet<Row> {
    rows_of(
        &page_states(),
        &page_events(),
        |state| state.stage().as_str(),
        PageEvent::as_str,
        page::next,
    )
}

fn batch_table() -> BTreeSet<Row> {
    rows_of(
        &batch_states(),
        &batch_events(),
        |state| state.stage().as_str(),
        BatchEvent::as_str,
        batch::next,
    )
}

#[test]
fn every_pair_of_a_page_is_in_the_table_or_refused() {
    assert_eq!(page_table(), PAGE.iter().copied().collect());
    let stages: BTreeSet<&str> = page_states().iter().map(|s| s.stage().as_str()).collect();
    assert_eq!(stages.len(), PageStage::ALL.len());
    let events: BTreeSet<&str> = page_events().iter().map(PageEvent::as_str).collect();
    assert_eq!(events.len(), 18, "a new event needs its rows");
}

#[test]
fn every_pair_of_a_batch_is_in_the_table_or_refused() {
    assert_eq!(batch_table(), BATCH.iter().copied().collect());
    let stages: BTreeSet<&str> = batch_states().iter().map(|s| s.stage().as_str()).collect();
    assert_eq!(stages.len(), BatchStage::ALL.len());
    let events: BTreeSet<&str> = batch_events().iter().map(BatchEvent::as_str).collect();
    assert_eq!(events.len(), 14, "a new event needs its rows");
}

#[test]
fn states_carry_on_what_their_events_bring() {
    use PageEvent as E;
    use PageState as S;
    let check = |state: PageState, event: PageEvent, expected: PageState| {
        assert_eq!(page::next(&state, &event), Ok(expected), "{event:?}");
    };
    let batched = |expires| S::Batched {
        batch: BatchId::from("b1"),
        image: image(expires),
    };
    let waiting = S::Discovered {
        not_before: Some(at(50)),
    };
    let free = S::Discovered { not_before: None };
    let until = Some(at(50));
    check(S::Uploading, E::UploadDeferred { until }, waiting);
    check(waiting_now(), E::UploadStarted, S::Uploading);
    check(batched(20), E::Released { at: at(20) }, free.clone());
    let kept = S::Uploaded { image: image(21) };
    check(batched(21), E::Released { at: at(20) }, kept);
    let batch = BatchId::from("b1");
    check(batched(1), E::AnswerAtHand, S::Validating { batch });
    let cause = RequeueCause::Operator;
    check(S::Skipped, E::Requeued { cause }, free);
}

fn waiting_now() -> PageState {
    PageState::Discovered {
        not_before: Some(at(1)),
    }
}

/// The rows of the table below a heading of the document.
fn documented(heading: &str) -> BTreeSet<(String, String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_before, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut rows = BTreeSet::new();
    for line in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "from" || cells[0].starts_with("---") {
            continue;
        }
        let row = (
            cells[0].into(),
            cells[1].trim_matches('`').into(),
            cells[2].into(),
        );
        assert!(rows.insert(row), "twice: {line}");
    }
    rows
}

fn owned(rows: BTreeSet<Row>) -> BTreeSet<(String, String, String)> {
    rows.into_iter()
        .map(|(from, event, to)| (from.to_owned(), event.to_owned(), to.to_owned()))
        .collect()
}

#[test]
fn the_document_shows_what_the_code_does() {
    assert_eq!(documented("Page"), owned(page_table()));
    assert_eq!(documented("Batch"), owned(batch_table()));
}
