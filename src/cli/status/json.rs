//! The figures as programs read them. Fields keep their meaning while the version stands.

use serde_json::{Map, Value, json};

use super::Facts;
use super::alarms::whole_seconds;
use super::text::longer_than;
use crate::actors::state::messages::{BatchRow, Summary, Turnaround};
use crate::decide::estimate::{self, Limit};
use crate::domain::batch::BatchStage;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// The version of the JSON form; a field that changes its meaning changes this.
pub(super) const JSON_VERSION: u32 = 1;

fn turnaround_json(turnaround: &Turnaround) -> Value {
    json!({
        "model": turnaround.model,
        "live": turnaround.live,
        "live_oldest_seconds": whole_seconds(turnaround.live_oldest),
        "ended": turnaround.ended,
        "p50_seconds": whole_seconds(turnaround.half),
        "p90_seconds": whole_seconds(turnaround.nine_tenths),
    })
}

fn live_json(row: &BatchRow, summary: &Summary, at: Timestamp) -> Value {
    let longer_than = longer_than(row, summary, at);
    let age = at.since(row.submitted_at.unwrap_or(row.created_at));
    json!({
        "batch_id": row.batch.as_str(),
        "remote_name": row.remote.as_ref().map(|name| name.as_str()),
        "state": row.state.stage().as_str(),
        "remote_state": row.remote_state,
        "pages": row.members,
        "created_at": row.created_at.to_string(),
        "submitted_at": row.submitted_at.map(|at| at.to_string()),
        "age_seconds": age.as_secs(),
        "longer_than": longer_than.map(|(shorter, of)| json!({"earlier": shorter, "of": of})),
    })
}

fn percent(summary: &Summary) -> f64 {
    let done = summary.pages_in(PageStage::Completed);
    estimate::permille(done, super::counted(summary)) as f64 / 10.0
}

/// The JSON form of a summary alone.
pub fn as_json(summary: &Summary, at: Timestamp) -> Value {
    let counts = |list: &[(String, u64)]| -> Map<String, Value> {
        let counts = list
            .iter()
            .map(|(word, count)| (word.clone(), json!(count)));
        counts.collect()
    };
    let pages = summary.pages.iter();
    let pages: Vec<_> = pages
        .map(|(stage, count)| (stage.to_string(), *count))
        .collect();
    let batches = BatchStage::ALL.iter().map(|stage| {
        let found = summary.batches.iter().find(|(known, _)| known == stage);
        (stage.to_string(), found.map_or(0, |(_, count)| *count))
    });
    let failures = summary.failures.iter();
    let failures: Vec<_> = failures
        .map(|(error, count)| (error.to_string(), *count))
        .collect();
    json!({
        "version": JSON_VERSION,
        "at": at.to_string(),
        "run": summary.run.as_ref().map(|(run, status, started)| json!({
            "id": run.as_str(), "status": status.as_str(), "started_at": started.to_string(),
        })),
        "pages": counts(&pages),
        "percent": percent(summary),
        "blocked": summary.blocked,
        "waiting": summary.waiting,
        "batches": counts(&batches.collect::<Vec<_>>()),
        "turnaround": summary.turnarounds.iter().map(turnaround_json).collect::<Vec<_>>(),
        "live": summary.live.iter().map(|row| live_json(row, summary, at)).collect::<Vec<_>>(),
        "halts": summary.halts.iter().map(super::super::resume::as_json).collect::<Vec<_>>(),
        "unreachable": summary.unreachable.iter().map(|(batch, since)| json!({
            "batch_id": batch.as_str(), "since": since.to_string(),
        })).collect::<Vec<_>>(),
        "paces": summary.paces.iter().map(|(model, pace)| json!({
            "model": model, "pages_max": pace.pages_max, "tokens_max": pace.tokens_max,
            "reason": pace.reason,
        })).collect::<Vec<_>>(),
        "late_jobs": summary.late_jobs,
        "paid_twice": summary.paid_twice,
        "remote_files": summary.remote_files,
        "remote_bytes": summary.remote_bytes,
        "failures": counts(&failures),
        "not_pages": counts(&summary.oddities),
        "cost_usd": summary.cost_nanos as f64 / 1e9,
        "tokens": {
            "prompt": summary.tokens.prompt,
            "cached": summary.tokens.cached,
            "candidates": summary.tokens.candidates,
            "thoughts": summary.tokens.thoughts,
            "total": summary.tokens.total,
        },
        "last_event_at": summary.last_event_at.map(|at| at.to_string()),
    })
}

/// What waits at each step of the way, by the step's name.
pub(super) fn queue(facts: &Facts) -> [(&'static str, u64); 7] {
    let batches = |wanted: BatchStage| {
        let found = facts
            .summary
            .batches
            .iter()
            .find(|(stage, _)| *stage == wanted);
        found.map_or(0, |(_stage, count)| *count)
    };
    [
        ("pages_to_upload", facts.desk.runnable),
        ("pages_to_pack", facts.summary.pages_in(PageStage::Uploaded)),
        ("batches_to_submit", batches(BatchStage::Planned)),
        (
            "batches_at_the_provider",
            batches(BatchStage::Submitting)
                + batches(BatchStage::InDoubt)
                + batches(BatchStage::Submitted),
        ),
        ("batches_to_collect", batches(BatchStage::Ready)),
        (
            "pages_to_judge",
            facts.summary.pages_in(PageStage::Validating),
        ),
        ("files_to_delete", facts.desk.deletable),
    ]
}

fn eta_json(facts: &Facts) -> Value {
    let measured = &facts.measured;
    let eta = facts.eta.as_ref();
    json!({
        "known": eta.is_ok(),
        "unknown_because": eta.err().map(|why| why.as_str()),
        "at": eta.ok().map(|eta| eta.at(facts.at).to_string()),
        "seconds": eta.ok().map(|eta| eta.span.as_secs()),
        "least_seconds": eta.ok().map(|eta| eta.least.as_secs()),
        "most_seconds": whole_seconds(eta.ok().and_then(|eta| eta.most)),
        "limited_by": eta.ok().map(|eta| match eta.limit {
            Limit::Throughput => "throughput",
            Limit::Chain => "chain",
        }),
        "pages_left": measured.left,
        "accepted": measured.accepted,
        "batches": measured.batches,
        "over_seconds": measured.over.as_secs(),
        "chain": measured.chain,
        "p50_seconds": whole_seconds(measured.half),
    })
}

fn reasons_json(facts: &Facts) -> Value {
    let desk = &facts.desk;
    let faults = desk.faults.iter().map(|(stage, error, pages)| {
        json!({"stage": stage.as_str(), "error_type": error.as_str(), "pages": pages})
    });
    json!({
        "ready": desk.runnable,
        "wait_for_the_page_before": desk.blocked,
        "behind_a_fault": desk.behind_fault,
        "wait_for_their_time": desk.waiting,
        "earliest": desk.earliest.map(|at| at.to_string()),
        "held_by_their_batch": super::held(&facts.summary, desk),
        "outside_the_scope": desk.elsewhere,
        "faults": faults.collect::<Vec<_>>(),
    })
}

/// The JSON form of everything: the summary's fields, and what the desk adds.
pub(super) fn of_facts(facts: &Facts) -> Value {
    let desk = &facts.desk;
    let mut whole = as_json(&facts.summary, facts.at);
    let last = facts.summary.last_event_at.map(|at| at.to_string());
    whole["run"] = desk.run.as_ref().map_or(Value::Null, |run| {
        json!({
            "id": run.run.as_str(),
            "label": run.label,
            "status": run.status.as_str(),
            "started_at": run.started_at.to_string(),
            "ended_at": run.ended_at.map(|at| at.to_string()),
            "restarts": run.restarts,
            "window": run.window,
            "last_checkpoint": last,
        })
    });
    whole["eta"] = eta_json(facts);
    whole["reasons"] = reasons_json(facts);
    let queue = super::json::queue(facts).map(|(name, count)| (name.to_owned(), json!(count)));
    whole["queue"] = Value::Object(queue.into_iter().collect());
    whole["max_retries"] = facts.limits.max_retries.into();
    let retries = desk.retries.iter();
    let retries = retries.map(|(failures, pages)| json!({"failures": failures, "pages": pages}));
    whole["retries"] = retries.collect::<Vec<_>>().into();
    whole["remote_bytes_budget"] = facts.limits.storage_budget_bytes.into();
    let uncollected = desk.uncollected.iter();
    let uncollected = uncollected
        .map(|(batch, since)| json!({"batch_id": batch.as_str(), "since": since.to_string()}));
    whole["alerts"] = crate::cli::alarms::as_json(&facts.alerts);
    whole["uncollected"] = uncollected.collect::<Vec<_>>().into();
    let stays = desk.stays.iter().map(|stay| {
        json!({
            "stage": stay.stage.as_str(),
            "stays": stay.stays,
            "p50_seconds": stay.half.as_secs_f64(),
            "p90_seconds": stay.nine_tenths.as_secs_f64(),
        })
    });
    whole["stays"] = stays.collect::<Vec<_>>().into();
    whole
}
