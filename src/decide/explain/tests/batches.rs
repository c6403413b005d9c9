//! Where the batch of a page stands.

use super::*;

fn check_batch(batch: BatchFacts, halted: bool, expected: &str) {
    let mut desk = desk();
    if halted {
        desk.halts = vec![(HaltReason::Pilot, String::new(), at(7))];
    }
    let page = Facts {
        batch: Some(batch),
        ..facts(1, PageStage::Batched, &desk)
    };
    let (code, expected) = expected.split_once(": ").unwrap();
    let expected = format!("{code}: is in flight: batched in batch B, {expected}");
    check(&page, &expected);
}

#[test]
fn pages_in_a_batch_say_where_it_stands() {
    let remote = RemoteName::from("batches/b");
    let planned = |not_before| batch(BatchState::Planned { not_before });
    check_batch(
        planned(None),
        false,
        "batch_planned: which is planned and is sent next |  | ",
    );
    check_batch(
        planned(Some(at(NOW + 1))),
        false,
        "batch_planned: which is planned and is sent @100001 |  | ",
    );
    check_batch(
        planned(None),
        true,
        "batch_planned: which is planned, but submission is halted for 'pilot' \
         | look at `pagemill failures`, mend the cause, and to go on | pagemill resume",
    );
    check_batch(
        batch(BatchState::Submitting),
        false,
        "batch_submitting: whose creation is under way |  | ",
    );
    check_batch(
        batch(BatchState::InDoubt { since: at(9) }),
        false,
        "batch_in_doubt: whose creation was not confirmed @9: the provider's list was \
         looked through 1 of 3 times for it | it is adopted if it is found, else created once more | ",
    );
    let submitted = || {
        batch(BatchState::Submitted {
            remote: remote.clone(),
        })
    };
    check_batch(
        submitted(),
        false,
        "with_provider: which is with the provider, sent @99400; half of this model's jobs took \
         60s, nine tenths 900s | its answer is collected when the job ends | ",
    );
    let late = BatchFacts {
        submitted_at: Some(at(NOW - 901)),
        ..submitted()
    };
    check_batch(
        late,
        false,
        "with_provider: which is with the provider, sent @99099; half of this model's jobs took \
         60s, nine tenths 900s, so it is late \
         | only the provider, or you, can end it | pagemill batches show B",
    );
    let first = BatchFacts {
        usual: None,
        ..submitted()
    };
    check_batch(
        first,
        false,
        "with_provider: which is with the provider, sent @99400; no job of this model has ended \
         yet | its answer is collected when the job ends | ",
    );
    let unreachable = BatchFacts {
        unreachable_since: Some(at(3)),
        ..submitted()
    };
    check_batch(
        unreachable,
        false,
        "batch_unreachable: which the provider does not show, first noticed @3; it is not sent again \
         | only the provider, or you, can end it | pagemill batches show B",
    );
    let fetching = BatchFacts {
        collected: false,
        ..batch(BatchState::Ready { remote })
    };
    check_batch(
        fetching,
        false,
        "batch_collecting: whose results are being fetched |  | ",
    );
    check_batch(
        batch(BatchState::Settled),
        false,
        "batch_closing: which is being closed |  | ",
    );
}
