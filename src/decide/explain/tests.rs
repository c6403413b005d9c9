//! Every reason, by the facts that lead to it.

use super::*;
use crate::domain::ids::RemoteName;

mod batches;

fn at(seconds: u64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs(seconds))
}

const NOW: u64 = 100_000;

fn key(number: u32) -> RecordKey {
    RecordKey::new(format!("Ohio:{number}"))
}

fn desk() -> Desk {
    Desk {
        now: at(NOW),
        running: true,
        chained: true,
        halts: Vec::new(),
        live_batches: 0,
        live_max: 2,
        ahead: 0,
        ahead_max: 10,
        held_bytes: 0,
        storage_budget_bytes: 1_000,
        uploaded: 1,
        batch_pages: 100,
        sent_at: None,
        trial: Trial::Proven,
        tokens: 0,
        tokens_max: None,
        life_min: Duration::from_secs(3_600),
    }
}

fn facts(number: u32, stage: PageStage, desk: &Desk) -> Facts<'_> {
    Facts {
        page: Known {
            key: key(number),
            stage,
            predecessor: None,
            waits_for: None,
            chain_ahead: 0,
            scope: None,
            dead_for: None,
            left_out: false,
        },
        since: at(1),
        moved_by: "seen".to_owned(),
        status: "STATUS".to_owned(),
        in_scope: true,
        has_label: true,
        has_output: false,
        image: ImageSeen::Usable { bytes: 10 },
        not_before: None,
        image_expires_at: None,
        failures: 4,
        max_retries: 3,
        batch: None,
        holder: None,
        desk,
    }
}

fn batch(state: BatchState) -> BatchFacts {
    BatchFacts {
        batch: BatchId::from("B"),
        state,
        submitted_at: Some(at(NOW - 600)),
        unreachable_since: None,
        lookups: 1,
        lookups_needed: 3,
        collected: true,
        usual: Some((Duration::from_secs(60), Duration::from_secs(900))),
    }
}

/// The sentence of an explanation, its instants as seconds.
fn told(why: &Explanation) -> String {
    let style = Style {
        when: &|at| format!("@{}", at.as_micros() / 1_000_000),
        span: &|span| format!("{}s", span.as_secs()),
        count: &|count| count.to_string(),
        bytes: &|bytes| format!("{bytes}B"),
    };
    let predicate = why.predicate(&style);
    if let Some(word) = why.left_alone() {
        assert!(predicate.contains(&word.to_string()), "{word}: {predicate}");
    }
    let remedy = why.remedy();
    format!(
        "{}: {predicate} | {} | {}",
        why.code(),
        remedy.words,
        remedy.command.join(" ")
    )
}

fn check(facts: &Facts<'_>, expected: &str) {
    assert_eq!(told(&explain(facts)), expected);
}

#[test]
fn pages_that_need_nothing_more_say_so() {
    let desk = desk();
    let with_output = |stage| Facts {
        has_output: true,
        ..facts(1, stage, &desk)
    };
    check(
        &with_output(PageStage::Completed),
        "done: is done, accepted @1 | to run it again | pagemill redo --key Ohio:1",
    );
    check(
        &facts(1, PageStage::Completed, &desk),
        "output_gone: was done, but its output is gone \
         | the next look at the tree puts it back on the work list | ",
    );
    check(
        &with_output(PageStage::Dead),
        "output_to_read: is not counted as done, but its output is there; it is read before \
         anything else happens | if it passes the schema the page is done, else it runs again | ",
    );
    check(
        &facts(1, PageStage::Uploading, &desk),
        "uploading: is in flight: uploading: its image is being uploaded, begun @1 |  | ",
    );
    check(
        &facts(1, PageStage::Validating, &desk),
        "judged: is in flight: validating: its answer is here and is being judged |  | ",
    );
}

#[test]
fn pages_that_need_a_person_say_what_to_type() {
    let desk = desk();
    check(
        &facts(1, PageStage::Dead, &desk),
        "dead: is dead: STATUS (4 failures, execution.max_retries is 3) \
         | to send it again | pagemill clear-failures --key Ohio:1",
    );
    check(
        &facts(1, PageStage::Review, &desk),
        "in_review: is in review: STATUS | put a right output in its place, or to send it again \
         | pagemill clear-failures --key Ohio:1",
    );
    let mut bad = facts(1, PageStage::Dead, &desk);
    bad.page.dead_for = Some(ErrorType::Image);
    check(
        &bad,
        "image_not_usable: had its image missing or not usable, and now it is usable \
         | the next look at the tree finds it | ",
    );
    bad.image = ImageSeen::Fault("no image".to_owned());
    let replace = "image_not_usable: has its image missing or not usable: no image \
                   | replace the image, and the next look at the tree finds it | ";
    check(&bad, replace);
    bad.page.stage = PageStage::Discovered;
    check(&bad, replace);
}

#[test]
fn pages_that_were_left_out_say_by_whom() {
    let desk = desk();
    let mut page = facts(1, PageStage::Skipped, &desk);
    page.page.left_out = true;
    check(
        &page,
        "left_out: is left out by an operator: STATUS | to let it run | pagemill unskip --key Ohio:1",
    );
    page.page.left_out = false;
    check(
        &page,
        "label_back: was left out, but its label is back \
         | the next look at the tree puts it back on the work list | ",
    );
    page.has_label = false;
    check(
        &page,
        "label_gone: is left out, because its label is gone \
         | put its label back, and the next look takes it up | ",
    );
    let mut outside = facts(1, PageStage::Discovered, &desk);
    outside.in_scope = false;
    check(
        &outside,
        "out_of_scope: is out of scope: the filters of this configuration leave it out \
         | run without these filters, or with ones that admit it | ",
    );
}

#[test]
fn s1_31_a_page_names_the_one_that_really_holds_it_up() {
    let desk = desk();
    let mut page = facts(5, PageStage::Discovered, &desk);
    page.page.waits_for = Some(key(4));
    check(
        &page,
        "waits_for_page: waits for page 4 | it runs when that page is done | ",
    );
    page.holder = Some((0, Box::new(facts(4, PageStage::Dead, &desk))));
    check(
        &page,
        "waits_for_page: waits for page 4, which is dead: STATUS (4 failures, \
         execution.max_retries is 3) | to send it again | pagemill clear-failures --key Ohio:4",
    );
    let mut sent = facts(2, PageStage::Batched, &desk);
    sent.batch = Some(batch(BatchState::Ready {
        remote: RemoteName::from("batches/b"),
    }));
    page.holder = Some((1, Box::new(sent)));
    check(
        &page,
        "waits_for_page: waits for page 4, which is held up by page 2, which is in flight: \
         batched in batch B, whose results are being collected |  | ",
    );
    let alone = Desk {
        chained: false,
        ..desk.clone()
    };
    page.desk = &alone;
    check(
        &page,
        "next_in_line: waits for its upload: nothing keeps it but its turn |  | ",
    );
}

#[test]
fn pages_that_wait_say_until_when_and_for_what() {
    let desk = desk();
    let mut page = facts(1, PageStage::Discovered, &desk);
    page.not_before = Some(at(NOW + 5));
    for (event, words) in [
        ("upload_deferred", "its upload failed and is put off"),
        ("rejected", "it pauses after its failure"),
        ("batch_expired", "its batch expired"),
        ("requeued", "so it was told"),
    ] {
        page.moved_by = event.to_owned();
        let expected =
            format!("waits_until: waits, and goes on @100005: {words} | then it runs by itself | ");
        check(&page, &expected);
    }
    page.not_before = Some(at(NOW - 5));
    page.batch = Some(batch(BatchState::Settled));
    check(
        &page,
        "held_by_batch: is on the work list, but held by batch B, which is being closed |  | ",
    );
}

fn check_upload(change: impl Fn(&mut Desk), expected: &str) {
    let mut desk = desk();
    change(&mut desk);
    let page = facts(1, PageStage::Discovered, &desk);
    check(&page, expected);
}

#[test]
fn pages_that_wait_for_their_upload_say_what_is_in_the_way() {
    check_upload(
        |_| {},
        "next_in_line: waits for its upload: nothing keeps it but its turn |  | ",
    );
    check_upload(
        |desk| desk.running = false,
        "no_process: waits for its upload: no pagemill is at work on this state \
         | to start one | pagemill run",
    );
    check_upload(
        |desk| desk.ahead = 10,
        "enough_ahead: waits for its upload: 10 pages are on their way to a batch, and \
         files.upload_ahead_batches allows 10 | it is taken when a batch has left | ",
    );
    check_upload(
        |desk| desk.held_bytes = 870,
        "store_full: waits for its upload: 870B are held at the provider, and \
         files.storage_budget_bytes is 1000B | room comes when batches end | ",
    );
    check_upload(
        |desk| desk.halts = vec![(HaltReason::Pilot, "WORDS".to_owned(), at(7))],
        "halted: waits for its upload: submission is halted for 'pilot', WORDS, begun @7 \
         | look at `pagemill failures`, mend the cause, and to go on | pagemill resume",
    );
    check_upload(
        |desk| desk.halts = vec![(HaltReason::Key, "WORDS".to_owned(), at(7))],
        "halted: waits for its upload: submission is halted for 'key', WORDS, begun @7 \
         | put a valid key into GEMINI_API_KEY and start again | ",
    );
}

fn check_packing(change: impl Fn(&mut Desk), expires_at: Option<Timestamp>, expected: &str) {
    let mut desk = desk();
    change(&mut desk);
    let page = Facts {
        image_expires_at: expires_at,
        ..facts(1, PageStage::Uploaded, &desk)
    };
    let (code, expected) = expected.split_once(": ").unwrap();
    let expected = format!("{code}: is in flight: uploaded, and waits for a batch: {expected}");
    check(&page, &expected);
}

#[test]
fn pages_that_wait_for_a_batch_say_what_is_in_the_way() {
    check_packing(
        |_| {},
        None,
        "next_in_line: nothing keeps it but its turn |  | ",
    );
    check_packing(
        |desk| desk.running = false,
        None,
        "no_process: no pagemill is at work on this state | to start one | pagemill run",
    );
    check_packing(
        |_| {},
        Some(at(NOW + 3_600)),
        "file_too_old: its remote file, which ends @103600, is too old for one and is uploaded \
         again |  | ",
    );
    check_packing(
        |desk| desk.live_batches = 2,
        Some(at(NOW + 3_601)),
        "live_batches: 2 batches are live, and no more than 2 may be now \
         | it follows when one of them ends | ",
    );
    check_packing(
        |desk| desk.trial = Trial::Wait,
        None,
        "pilot: the first batch of its recipe is out, and the rest waits for its answers \
         | it follows when they are good | ",
    );
    check_packing(
        |desk| (desk.live_batches, desk.tokens, desk.tokens_max) = (1, 9, Some(9)),
        None,
        "tokens: the live batches hold 9 tokens, and no more than 9 may be in them \
         | it follows when a batch ends | ",
    );
    check_packing(
        |desk| desk.sent_at = Some(at(NOW + 9)),
        None,
        "batch_filling: it has 1 of 100 pages, may still grow, and is sent as it is @100009 |  | ",
    );
}

#[test]
fn where_nobody_is_at_work_the_remedy_is_a_run() {
    let desk = Desk {
        running: false,
        ..desk()
    };
    check(
        &facts(1, PageStage::Uploading, &desk),
        "uploading: is in flight: uploading: its image is being uploaded, begun @1 \
         | nothing is at work on it until you start | pagemill run",
    );
    check(
        &facts(1, PageStage::Dead, &desk),
        "dead: is dead: STATUS (4 failures, execution.max_retries is 3) \
         | to send it again | pagemill clear-failures --key Ohio:1",
    );
}

#[test]
fn keys_that_are_not_known_are_looked_for_on_disk() {
    let stranger = Stranger {
        has_label: false,
        has_output: false,
        has_image: false,
        in_scope: true,
        running: true,
    };
    let check = |stranger, expected: &str| {
        assert_eq!(told(&explain_stranger(&key(1), stranger)), expected);
    };
    let missing = "is not known, and there is";
    let put = "| a page is known by its label: put one there | ";
    check(
        stranger,
        &format!("not_known: {missing} no label, no image and no output for it {put}"),
    );
    check(
        Stranger {
            has_image: true,
            ..stranger
        },
        &format!("not_known: {missing} an image, but no label for it {put}"),
    );
    check(
        Stranger {
            has_label: true,
            running: false,
            ..stranger
        },
        "not_scanned: is not known yet: its label is there, and the next look at the tree takes \
         it up | nothing is at work on it until you start | pagemill run",
    );
    check(
        Stranger {
            has_label: true,
            in_scope: false,
            ..stranger
        },
        "out_of_scope: is out of scope: the filters of this configuration leave it out \
         | run without these filters, or with ones that admit it | ",
    );
}
