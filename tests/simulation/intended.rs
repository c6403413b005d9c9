//! What is meant to happen. Whoever changes what the product does on purpose changes it here.

use std::collections::BTreeMap;
use std::time::Duration;

use pagemill::domain::ids::RecordKey;
use pagemill::domain::time::Timestamp;

use super::provider::{Create, Job, Provider, Row};
use super::world::World;

/// How long a doubt lasts at least before a job counts as absent, and how many complete readings
/// of the list that takes.
pub const SETTLE: Duration = Duration::from_secs(600);
pub const LOOKUPS: u32 = 3;

/// Whether results that a job names only after its end are still looked for. A job that failed or
/// expired and names none is over.
pub fn may_name_results_late(state: &str) -> bool {
    ["SUCCEEDED", "CANCELLED", "FAILED", "EXPIRED"]
        .iter()
        .any(|word| state.ends_with(word))
}

/// What an attempt's row says in the end: `accepted`, `released`, or the error that it is rejected
/// for.
pub fn outcome(row: Row) -> &'static str {
    match row {
        Row::Good | Row::Doubled => "accepted",
        Row::Missing | Row::BrokenUtf8 | Row::CutShort => "MissingResponse",
        Row::Conflict => "AmbiguousResponse",
        Row::Error(1 | 7 | 8 | 9 | 14) => "released",
        Row::Error(_) => "ApiError",
        Row::Recitation => "Recitation",
        Row::Blocked => "ContentFiltered",
        Row::MaxTokens => "Truncated",
        Row::NotJson => "JSONDecodeError",
        Row::AgainstSchema => "ValidationError",
        Row::Empty => "ValueError",
    }
}

/// P3: why this create must not have been sent, if it must not.
pub fn second_create(provider: &Provider, display_name: &str, now: Timestamp) -> Option<String> {
    let former = provider
        .creates
        .iter()
        .filter(|create| create.display_name == display_name);
    for create in former.filter(|create| !create.definite_no) {
        if now < create.at.plus(SETTLE) {
            return Some(format!(
                "P3 {display_name} was created again while in doubt"
            ));
        }
        let looks = provider.lists.iter().filter(|at| **at >= create.at).count();
        if looks < LOOKUPS as usize {
            return Some(format!(
                "P3 {display_name} was created again after {looks} looks"
            ));
        }
        if let Some(job) = was_shown(provider, create) {
            return Some(format!(
                "P3 {display_name} was created again, but the list showed {job}"
            ));
        }
    }
    None
}

/// A job of this create that a complete reading of the list showed.
fn was_shown<'a>(provider: &Provider, create: &'a Create) -> Option<&'a String> {
    create.made.iter().find(|name| {
        let job = &provider.jobs[*name];
        provider.lists.iter().any(|at| *at >= job.listed)
    })
}

/// What the end of a history is found to be.
#[derive(Default)]
pub struct Confirmed {
    pub faults: Vec<String>,
    pub counts: BTreeMap<String, u64>,
}

impl Confirmed {
    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    fn fault(&mut self, words: String) {
        self.faults.push(words);
    }
}

/// Uploads of one page that must have failed before it is given up for them.
const UPLOAD_CYCLES: u64 = 3;

/// Compares the rows that are left with the book of the provider and with the tree.
/// `contacted` tells whether the last run reached the provider: one that has nothing to do does not
/// call it, not even to look for what an earlier one left behind.
pub fn confirm(world: &World, contacted: bool) -> Confirmed {
    let mut confirmed = Confirmed::default();
    confirm_batches(world, &mut confirmed);
    confirm_attempts(world, &mut confirmed);
    confirm_pages(world, &mut confirmed);
    if contacted {
        confirm_remote(world, &mut confirmed);
    }
    confirmed
}

/// The columns of a row that a question glued together.
fn columns<const N: usize>(row: &str) -> [&str; N] {
    let columns: Vec<&str> = row.split('|').collect();
    columns.try_into().unwrap_or_else(|_| panic!("{row}"))
}

/// P9: a batch ended as the provider said.
fn confirm_batches(world: &World, confirmed: &mut Confirmed) {
    let provider = world.outside.provider.borrow();
    let rows = world.outside.watch.ask(
        "SELECT display_name || '|' || state || '|' || coalesce(abandon_code, '') || '|'
                || coalesce(remote_name, '') || '|' || creates FROM submissions",
    );
    let watched = world.outside.watch.ask("SELECT remote_name FROM late_jobs");
    for row in &rows {
        let [display_name, state, code, remote, creates] = columns(row);
        confirmed.count(&format!("batch {state} {code}"));
        let job = provider.jobs.get(remote);
        let made = provider
            .jobs
            .values()
            .any(|job| job.display_name == display_name);
        let is = |word: &str| job.is_some_and(|job| job.state.ends_with(word));
        // What ended with nothing may name results later: then they are watched for.
        let watched = watched.iter().any(|name| name == remote);
        let empty = job.is_some_and(|job| job.output.is_none() || (job.named_late && watched));
        let right = match (state, code) {
            ("settled", _) => job.is_some_and(|job| job.output.is_some()),
            ("abandoned", "failed") => is("FAILED") && empty,
            ("abandoned", "quota") => {
                is("FAILED") && empty && job.unwrap().error.is_some_and(|(code, _)| code == 8)
            }
            ("abandoned", "expired") => is("EXPIRED") && empty,
            ("abandoned", "cancelled") => is("CANCELLED") && empty,
            ("abandoned", "results_lost") => job.is_some_and(never_fetchable),
            // Given up after a create that was taken for absent: its job may show up later.
            ("abandoned", "withdrawn") => !made || creates != "0",
            ("abandoned", "refused") => !made,
            _ => false,
        };
        if !right {
            confirmed.fault(format!(
                "P9 {row}: the provider's book says {:?}",
                job.map(|job| (job.state, job.error, &job.output))
            ));
        }
        let sent = provider
            .creates
            .iter()
            .filter(|create| create.display_name == display_name)
            .count();
        if sent as u64 > creates.parse::<u64>().unwrap() {
            confirmed.fault(format!("P3 {row}: {sent} creates were sent"));
        }
    }
}

fn never_fetchable(job: &Job) -> bool {
    job.fetchable.since(job.created) > Duration::from_secs(365 * 24 * 3600)
}

/// P4, P6, P8: each attempt ended as the results say, row by row.
fn confirm_attempts(world: &World, confirmed: &mut Confirmed) {
    let provider = world.outside.provider.borrow();
    let rows = world.outside.watch.ask(
        "SELECT a.record_key || '|' || s.state || '|' || coalesce(s.remote_name, '') || '|'
                || a.outcome || '|' || coalesce(a.error_type, '') || '|'
                || (coalesce(s.abandon_code, '') IN ('failed','refused') AND s.count_submitted = 1)
         FROM attempts AS a JOIN submissions AS s USING (batch_id)",
    );
    for row in &rows {
        let [key, state, remote, outcome, error, alone] = columns(row);
        let said = if error.is_empty() { outcome } else { error };
        confirmed.count(&format!("attempt {said}"));
        let row_of = |job: &Job| job.rows.get(key).copied().unwrap_or(Row::Missing);
        let expected = match (state, provider.jobs.get(remote)) {
            ("settled", Some(job)) => {
                let said = self::outcome(row_of(job));
                // What a job that was cut short did not come to is nobody's failure.
                let cut_short = !job.state.ends_with("SUCCEEDED");
                if cut_short && said == "MissingResponse" {
                    "released"
                } else {
                    said
                }
            }
            // An answer that came after the end is worth what it says, if it was needed still.
            ("abandoned", Some(job)) if said == "accepted" => self::outcome(row_of(job)),
            // Alone in a batch that failed as a whole, a page is what it failed for.
            _ if alone == "1" && said == "ApiError" => "ApiError",
            _ => "released",
        };
        if said != expected {
            confirmed.fault(format!("P8 {row}: the results say {expected}"));
        }
    }
}

/// Every page is done, or dead for a reason that can be shown.
fn confirm_pages(world: &World, confirmed: &mut Confirmed) {
    let disk = world.outside.disk.borrow();
    let rows = world.outside.watch.ask(
        "SELECT p.record_key || '|' || p.stage || '|' || coalesce(p.error, '') || '|'
                || coalesce(c.count, 0) || '|' || coalesce(p.waits_for, '') || '|'
                || (SELECT count(*) FROM attempts AS a
                    WHERE a.record_key = p.record_key AND a.outcome = 'released')
         FROM pages AS p LEFT JOIN failure_counts AS c ON c.record_key = p.record_key",
    );
    let uploads = world.outside.failed_uploads.borrow();
    // A page that was alone in a batch that the provider did not take or failed as a whole.
    let alone = world.outside.watch.ask(
        "SELECT min(m.record_key) FROM submissions AS s JOIN batch_record_keys AS m USING (batch_id)
         WHERE s.abandon_code IN ('failed','refused') GROUP BY s.batch_id HAVING count(*) = 1",
    );
    for row in &rows {
        let [key, stage, error, failures, waits_for, released] = columns(row);
        let key = RecordKey::from(key);
        let failures: u32 = failures.parse().unwrap();
        let released: u32 = released.parse().unwrap();
        confirmed.count(&format!("page {stage} {error}"));
        let spent = failures > world.settings.max_retries;
        let right = match (stage, error) {
            ("completed", _) => disk.outputs.contains_key(&key),
            ("dead", "ImageError") => disk.images[&key].was_damaged,
            ("dead", "UploadError") => uploads.get(&key).copied().unwrap_or(0) >= UPLOAD_CYCLES,
            ("dead", "ApiError") => {
                let alone = alone.iter().any(|page| *page == key.as_str());
                spent || alone || released > world.settings.releases_max
            }
            ("dead", _) => spent,
            ("discovered", _) => !waits_for.is_empty() && !world.settings.unlock_behind_dead,
            _ => false,
        };
        if !right {
            confirmed.fault(format!("P5 {row}: nothing explains it"));
        }
    }
}

/// Nothing of ours stays with the provider but jobs that had nothing for us, and second jobs that
/// the network made of one create.
fn confirm_remote(world: &World, confirmed: &mut Confirmed) {
    let provider = world.outside.provider.borrow();
    for (name, file) in provider.held(world.outside.clock.now()) {
        confirmed.fault(format!("P10 {name} ({}) was left", file.display_name));
    }
    // A job that carries its results in itself holds no file, and is left to the provider.
    let adopted = world.outside.watch.ask(
        "SELECT remote_name FROM submissions WHERE state = 'settled' AND output_kind = 'file'",
    );
    for name in &adopted {
        if !provider.jobs[name].deleted {
            confirmed.fault(format!("P10 {name} was left"));
        }
    }
}
