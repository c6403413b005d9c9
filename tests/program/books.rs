//! The audit: what the program says it did, against what the provider says it saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::kit::{World, sha256};

/// The answers of the emulator that count against their page.
const COUNTED: [&str; 15] = [
    "error_13",
    "status_error",
    "no_candidates",
    "prompt_blocked",
    "max_tokens_empty",
    "truncated",
    "repetition",
    "recitation",
    "safety",
    "empty_parts",
    "missing",
    "duplicate_conflict",
    "invalid_schema",
    "invalid_json",
    "invalid_utf8",
];

/// What an audit takes for right beside the usual.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Pages that may have no output.
    pub dead: BTreeSet<String>,
}

impl Books {
    /// Compares files, database and the provider's ledger; panics with every difference.
    pub fn check(&self, world: &World) {
        let mut faults = Vec::new();
        self.check_outputs(world, &mut faults);
        self.check_stages(world, &mut faults);
        check_batches(world, &mut faults);
        check_events(world, &mut faults);
        self.check_remote_files(world, &mut faults);
        check_requests(world, &mut faults);
        check_failures(world, &mut faults);
        check_own_audit(world, &mut faults);
        assert!(
            faults.is_empty(),
            "{} faults:\n{}",
            faults.len(),
            faults.join("\n")
        );
    }

    /// One output for each label, about the page's own key and image.
    fn check_outputs(&self, world: &World, faults: &mut Vec<String>) {
        for page in &world.pages {
            let key = &page.key;
            let output = fs::read_to_string(world.output(key));
            if self.dead.contains(key) {
                if output.is_ok() {
                    faults.push(format!("{key} is dead and has an output"));
                }
                continue;
            }
            let Ok(output) = output else {
                faults.push(format!("{key} has no output"));
                continue;
            };
            let image = sha256(&fs::read(world.image(key)).unwrap());
            let expected = format!("text of {key} image {image}");
            let parsed: serde_json::Value = serde_json::from_str(&output).unwrap_or_default();
            if parsed["text"] != expected.as_str() {
                faults.push(format!("{key} has a wrong output: {output}"));
            }
        }
        let outputs = count_files(&world.root().join("dataset/output_results"));
        let expected = world.pages.len() - self.dead.len();
        if outputs != expected {
            faults.push(format!(
                "{outputs} files in the output folder, not {expected}"
            ));
        }
    }

    fn check_stages(&self, world: &World, faults: &mut Vec<String>) {
        let stages: BTreeMap<String, String> = pairs(world, "SELECT record_key, stage FROM pages");
        for page in &world.pages {
            let dead = self.dead.contains(&page.key);
            let expected = if dead { "dead" } else { "completed" };
            let stage = stages.get(&page.key).map_or("unknown", String::as_str);
            if stage != expected {
                faults.push(format!("{} is {stage}, not {expected}", page.key));
            }
        }
        if stages.len() != world.pages.len() {
            faults.push(format!("{} pages in the state", stages.len()));
        }
    }

    /// Nothing of ours is left at the provider: what the state knows of is deleted, and what it
    /// never heard of, because the answer to an upload was lost, is swept at the end.
    fn check_remote_files(&self, world: &World, faults: &mut Vec<String>) {
        let known = pairs(world, "SELECT name, state FROM remote_files");
        for (name, state) in &known {
            if !["deleted", "gone"].contains(&state.as_str()) {
                faults.push(format!("{name} is {state} in the state"));
            }
        }
        for file in world.ledger().files.iter().flatten() {
            faults.push(format!(
                "{} ({}) is left at the provider",
                file.name, file.display_name
            ));
        }
    }
}

fn check_batches(world: &World, faults: &mut Vec<String>) {
    for (what, sql) in [
        (
            "batches do not add up",
            "SELECT batch_id FROM submissions WHERE state = 'settled' AND count_submitted <>
             count_succeeded + count_failed + count_missing + count_released",
        ),
        (
            "batches do not count their own pages",
            "SELECT batch_id FROM submissions AS s WHERE state = 'settled' AND count_submitted <>
             (SELECT count(*) FROM attempts AS a WHERE a.batch_id = s.batch_id)",
        ),
        (
            "batches are open",
            "SELECT batch_id FROM submissions WHERE state NOT IN ('settled', 'abandoned')",
        ),
        (
            "batches are active",
            "SELECT batch_id FROM active_batches WHERE status = 'active'",
        ),
        (
            "pages are in flight",
            "SELECT record_key FROM inflight_records",
        ),
        (
            "pages were accepted twice",
            "SELECT record_key FROM attempts WHERE outcome = 'accepted' GROUP BY 1 HAVING count(*) > 1",
        ),
        (
            "attempts are pending",
            "SELECT record_key FROM attempts WHERE outcome = 'pending'",
        ),
    ] {
        let found: Vec<String> = world.rows(sql).into_iter().flatten().collect();
        if !found.is_empty() {
            faults.push(format!("{} {what}: {found:?}", found.len()));
        }
    }
    let ledger = world.ledger();
    let named: BTreeMap<String, String> =
        pairs(world, "SELECT display_name, creates FROM submissions");
    for (name, jobs) in &ledger.jobs_by_name {
        if *jobs > 1 {
            faults.push(format!("{name} was bought {jobs} times"));
        }
        if !named.contains_key(name) {
            faults.push(format!("{name} was bought and is in no row"));
        }
    }
    for name in ledger.creates_by_name.keys() {
        if !named.contains_key(name) {
            faults.push(format!("{name} was to be created and is in no row"));
        }
    }
    if ledger.jobs_live > 0 {
        faults.push(format!("{} jobs live", ledger.jobs_live));
    }
}

/// The events of each page lead from one to the next, end where the page is, and never put it into
/// a batch while it is in one.
fn check_events(world: &World, faults: &mut Vec<String>) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for row in world.rows("SELECT record_key, from_stage, to_stage FROM page_events ORDER BY id") {
        let [key, from, to] = row.try_into().unwrap();
        let before = last.get(&key).map_or("", String::as_str);
        if before != from {
            faults.push(format!("{key} was {before:?} and left {from:?}"));
        }
        last.insert(key, to);
    }
    let stages = pairs(world, "SELECT record_key, stage FROM pages");
    if stages != last {
        faults.push("the events, played again, do not give the pages".to_owned());
    }
    // Membership over time: a page enters a batch with an attempt, and leaves it when decided.
    let overlaps = world.rows(
        "SELECT a.record_key, a.batch_id, b.batch_id FROM attempts AS a
         JOIN attempts AS b ON b.record_key = a.record_key AND b.batch_id > a.batch_id
         WHERE a.created_at < b.decided_at AND b.created_at < a.decided_at",
    );
    for overlap in overlaps {
        faults.push(format!("in two live batches: {overlap:?}"));
    }
}

/// What was paid for is what the attempts say, page by page. An attempt of a batch that was given
/// up was not answered.
fn check_requests(world: &World, faults: &mut Vec<String>) {
    let attempts = pairs(
        world,
        "SELECT a.record_key, count(*) FROM attempts AS a
         JOIN submissions AS s ON s.batch_id = a.batch_id
         WHERE s.state = 'settled' GROUP BY 1",
    );
    let mut answered: BTreeMap<String, String> = BTreeMap::new();
    for (key, kinds) in world.ledger().answers_by_key {
        let answers: u64 = kinds.values().sum();
        answered.insert(key, answers.to_string());
    }
    differ("attempts and answers", &attempts, &answered, faults);
}

/// What counted against a page is what the emulator spoiled, page by page. Two kinds may not show:
/// a job with its results inside holds no bad byte, and a line that is missing from a job that was
/// cut off was never served. What a batch did that failed as a whole is not in the answers: such a
/// failure counts once, against a page that was alone in it, and that page is dead.
fn check_failures(world: &World, faults: &mut Vec<String>) {
    const MAY_NOT_SHOW: [&str; 2] = ["invalid_utf8", "missing"];
    let counted = pairs(
        world,
        "SELECT record_key, count(*) FROM failure_logs
         WHERE counted = 1 AND error_type NOT IN ('UploadError', 'ImageError')
           AND batch_id NOT IN (SELECT batch_id FROM submissions WHERE state = 'abandoned')
         GROUP BY 1",
    );
    let ledger = world.ledger();
    let played = &ledger.faults_played;
    let odd_job = ["job_inline_output", "job_unserved_rows"]
        .iter()
        .any(|name| played.contains_key(*name));
    for page in &world.pages {
        let kinds = ledger.answers_by_key.get(&page.key);
        let sum = |names: &[&str]| -> u64 {
            let kinds = kinds.into_iter().flatten();
            let meant = kinds.filter(|(kind, _)| names.contains(&kind.as_str()));
            meant.map(|(_, count)| count).sum()
        };
        let most = sum(&COUNTED);
        let least = if odd_job {
            most - sum(&MAY_NOT_SHOW)
        } else {
            most
        };
        let count = counted
            .get(&page.key)
            .map_or(0, |count| count.parse().unwrap());
        if !(least..=most).contains(&count) {
            let key = &page.key;
            let logged = world.rows(&format!(
                "SELECT batch_id, error_type, counted, error_message FROM failure_logs
                 WHERE record_key = '{}' ORDER BY id",
                key.replace('\'', "''")
            ));
            faults.push(format!(
                "{key} has {count} failures for the answers {kinds:?}: {logged:#?}"
            ));
        }
    }
    let spared = world.rows(
        "SELECT l.record_key, l.batch_id FROM failure_logs AS l
         JOIN submissions AS s ON s.batch_id = l.batch_id AND s.state = 'abandoned'
         WHERE l.counted = 1 AND NOT EXISTS (SELECT 1 FROM page_events AS e
             WHERE e.record_key = l.record_key AND e.batch_id = l.batch_id
             AND e.event = 'isolated' AND e.to_stage = 'dead')",
    );
    for page in spared {
        faults.push(format!(
            "a failed batch counts against {page:?}, which it did not isolate"
        ));
    }
    let doubled = world.rows(
        "SELECT record_key, batch_id FROM failure_logs WHERE batch_id <> ''
         GROUP BY 1, 2 HAVING count(*) > 1",
    );
    for twice in doubled {
        faults.push(format!("a failure counts twice: {twice:?}"));
    }
}

/// The program's own audit finds nothing but what a killed process may leave on our disk.
fn check_own_audit(world: &World, faults: &mut Vec<String>) {
    const LEFT_BY_A_KILL: [&str; 3] = [
        "report missing",
        "spool file of no planned batch",
        "stale temporary file",
    ];
    let found = world.run(&["verify", "--json"]).json();
    for kind in found["kinds"].as_array().unwrap() {
        if !LEFT_BY_A_KILL.contains(&kind["kind"].as_str().unwrap()) {
            faults.push(format!(
                "pagemill verify finds {kind}: {}",
                found["findings"]
            ));
        }
    }
}

fn differ(
    what: &str,
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
    faults: &mut Vec<String>,
) {
    let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for key in keys {
        let (our, their) = (ours.get(key), theirs.get(key));
        if our != their {
            faults.push(format!("{what} of {key} differ: {our:?}, {their:?}"));
        }
    }
}

fn pairs(world: &World, sql: &str) -> BTreeMap<String, String> {
    let rows = world.rows(sql).into_iter();
    rows.map(|row| {
        let [left, right] = row.try_into().unwrap();
        (left, right)
    })
    .collect()
}

fn count_files(folder: &std::path::Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { count_files(&path) } else { 1 }
        })
        .sum()
}
