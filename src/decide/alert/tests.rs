//! The rule as tables: figures in, kinds out.

use super::*;
use crate::domain::alert::Heartbeat;
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, RunId};

const HOUR: Duration = Duration::from_secs(3600);

const RULES: AlertRules = AlertRules {
    consecutive_failures: 5,
    failure_percent: 25,
    failure_window: 100,
    nothing_accepted: Duration::from_secs(30 * 3600),
    uncollected: Duration::from_secs(6 * 3600),
    storage_percent: 95,
    storage_budget_bytes: 1_000,
    free_bytes: 512,
    provider: Duration::from_secs(300),
    slow_factor: 2,
    slow_age: Duration::from_secs(24 * 3600),
};

/// Every limit taken away.
const NONE: AlertRules = AlertRules {
    consecutive_failures: 0,
    failure_percent: 0,
    failure_window: 1,
    nothing_accepted: Duration::ZERO,
    uncollected: Duration::ZERO,
    storage_percent: 0,
    storage_budget_bytes: 1_000,
    free_bytes: 0,
    provider: Duration::ZERO,
    slow_factor: 0,
    slow_age: Duration::ZERO,
};

fn now() -> Timestamp {
    Timestamp::parse("2026-11-21T10:00:00Z").unwrap()
}

fn around() -> Surroundings {
    Surroundings {
        now: now(),
        free_bytes: Some(1 << 30),
        provider: ProviderHealth::Answers,
    }
}

/// An alert that is open.
fn open_one(kind: AlertKind, subject: &str) -> Alert {
    Alert {
        id: "a".into(),
        kind,
        subject: subject.into(),
        message: "as it was".into(),
        since: now().minus(HOUR),
        fired_at: now().minus(HOUR),
        last_seen: now(),
        cleared_at: None,
        times: 1,
    }
}

fn with_open(mut vitals: Vitals, kind: AlertKind) -> Vitals {
    vitals.open.push(open_one(kind, ""));
    vitals
}

fn kinds(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Vec<AlertKind> {
    let found = incidents(vitals, around, rules);
    found.into_iter().map(|incident| incident.kind).collect()
}

/// Whether a fresh look fires, and whether one that is open stays.
fn check(kind: AlertKind, vitals: &Vitals, around: &Surroundings, fires: bool, stays: bool) {
    let expected = |is: bool| if is { vec![kind] } else { vec![] };
    assert_eq!(kinds(vitals, around, &RULES), expected(fires), "{vitals:?}");
    let open = with_open(vitals.clone(), kind);
    assert_eq!(kinds(&open, around, &RULES), expected(stays), "{open:?}");
    assert_eq!(
        kinds(vitals, around, &NONE),
        [],
        "{vitals:?} without limits"
    );
}

fn answers(barren: u64, barren_peak: u64) -> Vitals {
    Vitals {
        barren,
        barren_peak,
        ..Vitals::default()
    }
}

#[test]
fn nothing_is_wrong_with_an_empty_state() {
    assert_eq!(kinds(&Vitals::default(), &around(), &RULES), []);
}

#[test]
fn s2_43_the_fifth_failure_in_a_row_fires_and_a_success_clears() {
    let kind = AlertKind::ConsecutiveFailures;
    check(kind, &answers(4, 4), &around(), false, false);
    check(kind, &answers(5, 5), &around(), true, true);
    check(kind, &answers(9, 9), &around(), true, true);
    check(kind, &answers(0, 4), &around(), false, false);
    // A success came, and two failures after it.
    check(kind, &answers(2, 9), &around(), true, false);
}

#[test]
fn failures_in_a_row_that_are_over_before_a_look_are_told_all_the_same() {
    for barren in [0, 4] {
        let found = incidents(&answers(barren, 7), &around(), &RULES);
        assert!(found[0].over);
        assert!(found[0].message.starts_with("7 answers in a row"));
    }
    let found = incidents(&answers(6, 7), &around(), &RULES);
    assert!(!found[0].over);
    assert!(found[0].message.starts_with("6 answers in a row"));
}

fn rate(failed: u64, results: u64) -> Vitals {
    Vitals {
        results,
        accepted: results - failed,
        ..Vitals::default()
    }
}

#[test]
fn too_many_failures_in_the_window_fire_and_four_fifths_of_the_limit_clear() {
    let kind = AlertKind::FailureRate;
    check(kind, &rate(99, 99), &around(), false, false);
    check(kind, &rate(24, 100), &around(), false, true);
    check(kind, &rate(25, 100), &around(), true, true);
    check(kind, &rate(20, 100), &around(), false, true);
    check(kind, &rate(19, 100), &around(), false, false);
}

fn live(live_hours: Option<u64>, accepted_hours: Option<u64>) -> Vitals {
    let ago = |hours: u64| now().minus(HOUR * u32::try_from(hours).unwrap());
    Vitals {
        live: u64::from(live_hours.is_some()),
        live_since: live_hours.map(ago),
        accepted_at: accepted_hours.map(ago),
        ..Vitals::default()
    }
}

#[test]
fn nothing_accepted_is_counted_from_when_there_was_work() {
    let kind = AlertKind::NothingAccepted;
    check(kind, &live(None, None), &around(), false, false);
    check(kind, &live(Some(29), None), &around(), false, false);
    check(kind, &live(Some(30), None), &around(), true, true);
    check(kind, &live(Some(30), Some(29)), &around(), false, false);
    check(kind, &live(Some(2), Some(300)), &around(), false, false);
    check(kind, &live(None, Some(300)), &around(), false, false);

    let busy = |mut vitals: Vitals, silent_minutes: u64, busy_hours: u32| {
        vitals.heartbeat = Some(Heartbeat {
            run: RunId::from("r1"),
            at: now().minus(Duration::from_secs(60 * silent_minutes)),
            busy_since: Some(now().minus(HOUR * busy_hours)),
        });
        vitals
    };
    // One batch after the other brings nothing.
    check(
        kind,
        &busy(live(Some(2), Some(300)), 1, 31),
        &around(),
        true,
        true,
    );
    check(
        kind,
        &busy(live(Some(2), Some(29)), 1, 31),
        &around(),
        false,
        false,
    );
    // Nobody knows what was between then and now.
    check(
        kind,
        &busy(live(Some(2), Some(300)), 61, 31),
        &around(),
        false,
        false,
    );
    check(
        kind,
        &busy(live(None, Some(300)), 1, 31),
        &around(),
        false,
        false,
    );

    let mut runnable = live(None, Some(300));
    runnable.runnable = true;
    check(kind, &runnable, &around(), false, false);
    check(
        kind,
        &busy(runnable.clone(), 1, 29),
        &around(),
        false,
        false,
    );
    let mut runnable = busy(runnable, 1, 30);
    check(kind, &runnable, &around(), true, true);
    runnable.halts = vec![(HaltReason::Key, "refused".into(), now())];
    assert_eq!(kinds(&runnable, &around(), &RULES), [AlertKind::Halted]);
    // A pause is wanted, and forgotten after so long.
    runnable.halts[0].0 = HaltReason::Paused;
    check(kind, &runnable, &around(), true, true);
}

#[test]
fn work_goes_on_from_one_look_to_the_next() {
    let mut vitals = live(Some(2), None);
    assert_eq!(busy_since(&vitals, now()), Some(now()));
    let since = now().minus(HOUR);
    let beat = |busy_since| Heartbeat {
        run: RunId::from("r1"),
        at: now(),
        busy_since,
    };
    vitals.heartbeat = Some(beat(Some(since)));
    assert_eq!(busy_since(&vitals, now()), Some(since));
    vitals.heartbeat = Some(beat(None));
    assert_eq!(busy_since(&vitals, now()), Some(now()));
    assert_eq!(busy_since(&Vitals::default(), now()), None);
}

#[test]
fn results_that_are_long_due_fire_with_the_oldest_batch() {
    let due = |hours: u32| Vitals {
        uncollected: 3,
        uncollected_oldest: Some((BatchId::from("b1"), now().minus(HOUR * hours))),
        ..Vitals::default()
    };
    let kind = AlertKind::ResultsUncollected;
    check(kind, &due(5), &around(), false, false);
    check(kind, &due(6), &around(), true, true);
    let found = incidents(&due(7), &around(), &RULES);
    assert!(found[0].message.contains("batch b1 ended 7 h 0 min ago"));
    assert!(found[0].message.contains("2 more"), "{}", found[0].message);
    assert_eq!(found[0].since, now().minus(7 * HOUR));
}

#[test]
fn a_store_that_is_nearly_full_fires_and_five_hundredths_less_clear() {
    let kind = AlertKind::RemoteStorage;
    for (bytes, fires, stays) in [
        (0, false, false),
        (899, false, false),
        (900, false, true),
        (949, false, true),
        (950, true, true),
        (u64::MAX, true, true),
    ] {
        let vitals = Vitals {
            remote_bytes: bytes,
            ..Vitals::default()
        };
        check(kind, &vitals, &around(), fires, stays);
    }
}

#[test]
fn a_disk_that_is_nearly_full_fires_and_half_as_much_again_clears() {
    for (free, fires, stays) in [
        (Some(511), true, true),
        (Some(512), false, true),
        (Some(767), false, true),
        (Some(768), false, false),
        (None, false, true),
    ] {
        let disk = Surroundings {
            free_bytes: free,
            ..around()
        };
        let kind = AlertKind::LocalDisk;
        check(kind, &Vitals::default(), &disk, fires, stays);
    }
}

#[test]
fn every_open_halt_is_an_alert_of_its_own_with_its_remedy() {
    let vitals = Vitals {
        halts: vec![
            (HaltReason::Pilot, "1 of 20".into(), now()),
            (HaltReason::Key, "refused".into(), now().minus(HOUR)),
        ],
        ..Vitals::default()
    };
    let found = incidents(&vitals, &around(), &NONE);
    let subjects: Vec<&str> = found.iter().map(|one| one.subject.as_str()).collect();
    assert_eq!(subjects, ["key", "pilot"]);
    assert!(found[0].message.contains("GEMINI_API_KEY"));
    assert_eq!(found[0].since, now().minus(HOUR));
}

#[test]
fn a_provider_in_trouble_fires_after_its_time_and_an_answer_clears() {
    let trouble = |seconds: u64| Surroundings {
        provider: ProviderHealth::Trouble {
            since: now().minus(Duration::from_secs(seconds)),
            message: "no connection".into(),
        },
        ..around()
    };
    let kind = AlertKind::ProviderUnreachable;
    let none = Vitals::default();
    // One that is open has lasted since it was told, whatever this process has seen of it.
    check(kind, &none, &trouble(299), false, true);
    check(kind, &none, &trouble(300), true, true);
    check(kind, &none, &around(), false, false);
    let unknown = Surroundings {
        provider: ProviderHealth::Unknown,
        ..around()
    };
    check(kind, &none, &unknown, false, true);
}

#[test]
fn unreachable_batches_are_one_incident() {
    let vitals = Vitals {
        unreachable: vec![
            (BatchId::from("b2"), now()),
            (BatchId::from("b1"), now().minus(HOUR)),
        ],
        ..Vitals::default()
    };
    let found = incidents(&vitals, &around(), &NONE);
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("batch b1 (and 1 more)"));
}

fn check_slow(age_minutes: u64, ended: u64, most_minutes: u64, fires: bool) {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let vitals = Vitals {
        jobs: vec![JobTimes {
            model: "gemini".into(),
            live_oldest: Some(minutes(age_minutes)),
            ended,
            nine_tenths: (ended > 0).then(|| minutes(most_minutes)),
        }],
        ..Vitals::default()
    };
    let found = incidents(&vitals, &around(), &RULES);
    let what = format!("{age_minutes} min, {ended} ended within {most_minutes} min");
    assert_eq!(!found.is_empty(), fires, "{what}");
    assert_eq!(incidents(&vitals, &around(), &NONE), [], "{what}");
    for incident in found {
        assert_eq!(incident.subject, "gemini");
        assert_eq!(incident.since, now().minus(minutes(age_minutes)));
    }
}

#[test]
fn p9_a_batch_is_slow_against_its_models_history_and_is_only_told_of() {
    check_slow(599, 10, 300, false);
    check_slow(600, 10, 300, true);
    // Quick jobs do not make an hour slow, and too few do not count.
    check_slow(59, 10, 1, false);
    check_slow(60, 10, 1, true);
    check_slow(600, 4, 300, false);
    check_slow(24 * 60 - 1, 0, 0, false);
    check_slow(24 * 60, 4, 300, true);
}

fn check_pulse(open: bool, failed: bool, age_minutes: u64, live: u64, well: bool) {
    let facts = RunFacts {
        id: "r1".into(),
        open,
        failed,
        updated_at: now().minus(Duration::from_secs(86_400)),
        heartbeat: Some(now().minus(Duration::from_secs(60 * age_minutes))),
        live,
    };
    let found = pulse(&facts, now(), Duration::from_secs(300));
    assert_eq!(found == Pulse::Well, well, "{facts:?}: {found:?}");
}

#[test]
fn a_run_that_should_be_going_must_show_it() {
    check_pulse(true, false, 5, 0, true);
    check_pulse(true, false, 6, 0, false);
    check_pulse(true, false, 6, 2, false);
    check_pulse(false, false, 600, 0, true);
    check_pulse(false, false, 5, 2, true);
    check_pulse(false, false, 6, 2, false);
    check_pulse(false, true, 0, 0, false);
    let fresh = RunFacts {
        id: "r1".into(),
        open: true,
        failed: false,
        updated_at: now(),
        heartbeat: None,
        live: 0,
    };
    assert_eq!(pulse(&fresh, now(), HOUR), Pulse::Well);
}
