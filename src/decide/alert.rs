//! When an operator must be told, and when it is over. What clears by a figure clears further away
//! than where it fires, so that nothing flaps.

use std::time::Duration;

use crate::domain::alert::{Alert, AlertKind, Incident, JobTimes, ProviderHealth, Vitals};
use crate::domain::halt::HaltReason;
use crate::domain::time::Timestamp;

/// The limits that make an alert. A limit of 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertRules {
    /// Failures in a row.
    pub consecutive_failures: u64,
    /// The share of failures among the last answers, in percent, and how many of them are looked at.
    pub failure_percent: u64,
    pub failure_window: u64,
    /// How long nothing may be accepted while there is work.
    pub nothing_accepted: Duration,
    /// How long after its end the results of a job may be missing here.
    pub uncollected: Duration,
    /// The share of the storage budget, in percent, and the budget.
    pub storage_percent: u64,
    pub storage_budget_bytes: u64,
    /// Free space of the work folder's disk.
    pub free_bytes: u64,
    /// How long no call to the provider may work.
    pub provider: Duration,
    /// How many times as long as nine tenths of its model's jobs a job may take.
    pub slow_factor: u32,
    /// The age from which a job is slow where too few have ended to compare it with.
    pub slow_age: Duration,
}

/// What the rule is told beside the figures of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    pub now: Timestamp,
    /// Free space of the work folder's disk, where it could be told.
    pub free_bytes: Option<u64>,
    pub provider: ProviderHealth,
}

/// Ended jobs that are enough to compare a live one with.
const HISTORY_MIN: u64 = 5;
/// However quick the others were, a job is not slow before this.
const SLOW_AGE_MIN: Duration = Duration::from_secs(3600);

/// The incidents that hold now, sorted by kind and subject.
pub fn incidents(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Vec<Incident> {
    let mut found = Vec::new();
    found.extend(consecutive(vitals, around, rules));
    found.extend(failure_rate(vitals, around, rules));
    found.extend(nothing_accepted(vitals, around, rules));
    found.extend(uncollected(vitals, around, rules));
    found.extend(remote_storage(vitals, around, rules));
    found.extend(local_disk(vitals, around, rules));
    found.extend(halted(vitals));
    found.extend(provider(vitals, around, rules));
    found.extend(unreachable(vitals));
    found.extend(slow(vitals, around, rules));
    found.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
    found
}

fn open<'a>(vitals: &'a Vitals, kind: AlertKind, subject: &str) -> Option<&'a Alert> {
    let mut open = vitals.open.iter();
    open.find(|alert| alert.kind == kind && alert.subject == subject)
}

/// An incident of which there is only one; it began when it was first seen.
fn single(vitals: &Vitals, kind: AlertKind, message: String, now: Timestamp) -> Incident {
    Incident {
        kind,
        subject: String::new(),
        message,
        since: open(vitals, kind, "").map_or(now, |alert| alert.since),
        over: false,
    }
}

/// Only a success makes the number of failures in a row smaller, so that falling below the limit
/// means that there was one.
fn consecutive(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Option<Incident> {
    let kind = AlertKind::ConsecutiveFailures;
    let max = rules.consecutive_failures;
    let over = vitals.barren < max;
    let was_told = open(vitals, kind, "").is_some();
    let count = if over {
        vitals.barren_peak
    } else {
        vitals.barren
    };
    (max > 0 && count >= max && !(over && was_told)).then(|| {
        let message = format!("{count} answers in a row were failures; see `pagemill failures`");
        Incident {
            over,
            ..single(vitals, kind, message, around.now)
        }
    })
}

fn failure_rate(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Option<Incident> {
    let kind = AlertKind::FailureRate;
    if rules.failure_percent == 0 || vitals.results < rules.failure_window.max(1) {
        return None;
    }
    let failed = vitals.results.saturating_sub(vitals.accepted);
    // Four fifths of the limit end it.
    let fifths = if open(vitals, kind, "").is_some() {
        4
    } else {
        5
    };
    let share = u128::from(failed) * 100 * 5;
    let limit = u128::from(vitals.results) * u128::from(rules.failure_percent) * fifths;
    (share >= limit && failed > 0).then(|| {
        let message = format!(
            "{failed} of the last {} answers were failures ({} % is the limit); see `pagemill \
             failures`",
            vitals.results, rules.failure_percent
        );
        single(vitals, kind, message, around.now)
    })
}

/// What keeps submission back without anybody wanting it. A pause that an operator ordered is no
/// surprise; one that was forgotten shows in that nothing is accepted.
fn unwanted_halts(vitals: &Vitals) -> impl Iterator<Item = &(HaltReason, String, Timestamp)> {
    let halts = vitals.halts.iter();
    halts.filter(|(reason, ..)| *reason != HaltReason::Paused)
}

/// After a longer silence nobody knows whether there was work all the time.
const SILENCE_MAX: Duration = Duration::from_secs(3600);

/// Since when there has been work without a pause; absent when there is none. What is with the
/// provider is work; what could be sent is, where nothing keeps it back.
pub fn busy_since(vitals: &Vitals, now: Timestamp) -> Option<Timestamp> {
    let may_send = vitals.runnable && unwanted_halts(vitals).next().is_none();
    if vitals.live == 0 && !may_send {
        return None;
    }
    let heartbeat = vitals.heartbeat.as_ref();
    let recent = heartbeat.filter(|beat| now.since(beat.at) <= SILENCE_MAX);
    Some(recent.and_then(|beat| beat.busy_since).unwrap_or(now))
}

fn nothing_accepted(
    vitals: &Vitals,
    around: &Surroundings,
    rules: &AlertRules,
) -> Option<Incident> {
    let busy_since = busy_since(vitals, around.now)?;
    let from = vitals
        .live_since
        .map_or(busy_since, |at| at.min(busy_since));
    let since = vitals.accepted_at.map_or(from, |at| at.max(from));
    let span = around.now.since(since);
    (rules.nothing_accepted > Duration::ZERO && span >= rules.nothing_accepted).then(|| Incident {
        kind: AlertKind::NothingAccepted,
        subject: String::new(),
        message: format!(
            "nothing was accepted for {} although there is work; {} batches are live",
            hours(span),
            vitals.live
        ),
        since,
        over: false,
    })
}

fn uncollected(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Option<Incident> {
    let (batch, ended_at) = vitals.uncollected_oldest.as_ref()?;
    let age = around.now.since(*ended_at);
    let is_old = rules.uncollected > Duration::ZERO && age >= rules.uncollected;
    is_old.then(|| {
        let others = match vitals.uncollected {
            0 | 1 => String::new(),
            many => format!(" (and {} more have ended)", many - 1),
        };
        Incident {
            kind: AlertKind::ResultsUncollected,
            subject: String::new(),
            message: format!(
                "batch {batch} ended {} ago and its results are not on the local disk{others}; \
                 the provider may not keep them",
                hours(age)
            ),
            since: *ended_at,
            over: false,
        }
    })
}

fn remote_storage(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Option<Incident> {
    let kind = AlertKind::RemoteStorage;
    let is_open = open(vitals, kind, "").is_some();
    // Five hundredths below the limit end it.
    let percent = rules
        .storage_percent
        .saturating_sub(if is_open { 5 } else { 0 });
    let used = u128::from(vitals.remote_bytes) * 100;
    let limit = u128::from(rules.storage_budget_bytes) * u128::from(percent);
    (rules.storage_percent > 0 && used > 0 && used >= limit).then(|| {
        let message = format!(
            "{} of the {} of files.storage_budget_bytes are in use at the provider; uploads wait \
             for room",
            mebibytes(vitals.remote_bytes),
            mebibytes(rules.storage_budget_bytes)
        );
        single(vitals, kind, message, around.now)
    })
}

fn local_disk(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Option<Incident> {
    let kind = AlertKind::LocalDisk;
    let is_open = open(vitals, kind, "").is_some();
    // Half as much again ends it. What cannot be told says nothing either way.
    let limit = if is_open {
        rules.free_bytes.saturating_add(rules.free_bytes / 2)
    } else {
        rules.free_bytes
    };
    let free = match around.free_bytes {
        Some(free) => free,
        None if is_open => 0,
        None => return None,
    };
    (free < limit).then(|| {
        let words = around.free_bytes.map_or_else(
            || "how much is free on the disk of paths.work_dir cannot be told".to_owned(),
            |free| format!("{} are free on the disk of paths.work_dir", mebibytes(free)),
        );
        let message = format!(
            "{words}; below paths.free_bytes_min no request is written and no result fetched"
        );
        single(vitals, kind, message, around.now)
    })
}

fn halted(vitals: &Vitals) -> Vec<Incident> {
    unwanted_halts(vitals)
        .map(|(reason, words, since)| Incident {
            kind: AlertKind::Halted,
            subject: reason.to_string(),
            message: format!("submission is halted: {words}; {}", reason.remedy()),
            since: *since,
            over: false,
        })
        .collect()
}

fn provider(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Option<Incident> {
    let kind = AlertKind::ProviderUnreachable;
    let known = open(vitals, kind, "");
    match (&around.provider, known) {
        (ProviderHealth::Trouble { since, message }, _) => {
            let since = known.map_or(*since, |alert| alert.since);
            let span = around.now.since(since);
            let holds = rules.provider > Duration::ZERO && span >= rules.provider;
            holds.then(|| Incident {
                kind,
                subject: String::new(),
                message: format!(
                    "no call to the provider has worked for {}: {message}",
                    hours(span)
                ),
                since,
                over: false,
            })
        }
        // Before the first call it is not known to be over.
        (ProviderHealth::Unknown, Some(alert)) => Some(Incident {
            kind,
            subject: String::new(),
            message: alert.message.clone(),
            since: alert.since,
            over: false,
        }),
        (ProviderHealth::Unknown, None) | (ProviderHealth::Answers, _) => None,
    }
}

fn unreachable(vitals: &Vitals) -> Option<Incident> {
    let (batch, since) = vitals.unreachable.iter().min_by_key(|(_, since)| *since)?;
    let others = match vitals.unreachable.len() {
        1 => String::new(),
        many => format!(" (and {} more)", many - 1),
    };
    Some(Incident {
        kind: AlertKind::BatchUnreachable,
        subject: String::new(),
        message: format!(
            "the provider does not show batch {batch}{others} to the key that made it; it is asked \
             for again, never sent again by itself"
        ),
        since: *since,
        over: false,
    })
}

fn slow(vitals: &Vitals, around: &Surroundings, rules: &AlertRules) -> Vec<Incident> {
    let jobs = vitals.jobs.iter();
    jobs.filter_map(|job| slow_model(job, around, rules))
        .collect()
}

fn slow_model(job: &JobTimes, around: &Surroundings, rules: &AlertRules) -> Option<Incident> {
    let age = job.live_oldest?;
    let history = job.nine_tenths.filter(|_| job.ended >= HISTORY_MIN);
    let (limit, words) = match history {
        Some(span) => (
            span.saturating_mul(rules.slow_factor).max(SLOW_AGE_MIN),
            format!("nine tenths of {} took at most {}", job.ended, hours(span)),
        ),
        None => (
            rules.slow_age,
            "too few have ended to compare it with".to_owned(),
        ),
    };
    (rules.slow_factor > 0 && age >= limit).then(|| Incident {
        kind: AlertKind::BatchSlow,
        subject: job.model.clone(),
        message: format!(
            "the oldest batch of {} has been running for {} ({words}); it is waited for",
            job.model,
            hours(age)
        ),
        since: around.now.minus(age),
        over: false,
    })
}

/// How healthy the run itself is, as far as its signs of life tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing is to be done, or it is being done.
    Well,
    /// A run should be going and is not, or does not show it.
    Silent { words: String },
}

/// How the last run stands, in the words of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    pub id: String,
    /// Whether nobody noted its end.
    pub open: bool,
    pub failed: bool,
    /// When its row was last written.
    pub updated_at: Timestamp,
    pub heartbeat: Option<Timestamp>,
    /// Batches that have not ended.
    pub live: u64,
}

/// Judges the signs of life of the last run: one whose end nobody noted must show them, and so must
/// somebody while batches are with the provider.
pub fn pulse(run: &RunFacts, now: Timestamp, age_max: Duration) -> Pulse {
    let last = run
        .heartbeat
        .map_or(run.updated_at, |at| at.max(run.updated_at));
    let age = now.since(last);
    let id = &run.id;
    let words = if run.open && age > age_max {
        format!(
            "run {id} has given no sign of life for {}: it was killed or hangs; start `pagemill \
             run` again",
            hours(age)
        )
    } else if run.failed {
        format!(
            "run {id} failed {} ago; start `pagemill run` again",
            hours(age)
        )
    } else if run.live > 0 && age > age_max {
        let live = match run.live {
            1 => "1 batch is live".to_owned(),
            many => format!("{many} batches are live"),
        };
        format!(
            "{live} and nobody has worked on them for {}; start `pagemill run` again",
            hours(age)
        )
    } else {
        return Pulse::Well;
    };
    Pulse::Silent { words }
}

/// A span in its two largest units; this room knows no report.
fn hours(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests;
