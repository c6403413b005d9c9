//! The JSON form, version 1.

use std::collections::BTreeMap;
use std::io::Write;

use sea_orm::ConnectionTrait;
use serde_json::{Map, Value, json};

use super::clusters::Clusters;
use super::raw::{self, Raw, RawPlace};
use super::{ByLevel, Desk, Made, OnePage, Shown};
use crate::actors::state::desk_failures::{DayCount, FailureLine, GivenUp, Group};

/// The version of the JSON form; a field that changes its meaning changes this.
const JSON_VERSION: u32 = 1;

/// Prints everything that was looked at.
pub async fn print<C: ConnectionTrait>(
    desk: &Desk<'_, C>,
    shown: &Shown,
    exported: &[Made],
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let totals = &shown.totals;
    let mut latest = Vec::new();
    for line in &shown.latest {
        let mut value = line_json(line);
        if desk.asked.args.raw
            && let Some(raw) = raw::of_line(desk, line).await?
        {
            value["raw"] = raw_json(&raw);
        }
        latest.push(value);
    }
    let by_type = |figure: fn(&Group) -> u64| -> Map<String, Value> {
        let groups = totals.by_type.iter();
        groups
            .map(|group| (group.name.clone(), json!(figure(group))))
            .collect()
    };
    let mut value = json!({
        "version": JSON_VERSION,
        "total": totals.total,
        "counted": totals.counted,
        "pages": totals.pages,
        "dead": totals.dead,
        "review": totals.review,
        "by_type": by_type(|group| group.failures),
        "counted_by_type": by_type(|group| group.counted),
        "pages_by_type": by_type(|group| group.pages),
        "latest": latest,
    });
    if !shown.by_level.is_empty() {
        value["by_level"] = shown.by_level.iter().map(by_level_json).collect();
    }
    if let Some(trend) = &shown.trend {
        let (since, until) = shown.days.ends();
        value["trend"] = json!({"since": since, "until": until, "days": trend_json(trend)});
    }
    if let Some(clusters) = &shown.clusters {
        value["clusters"] = clusters_json(clusters);
    }
    if let Some(page) = &shown.page {
        value["page"] = page_json(page);
    }
    if let Some(given_up) = &shown.given_up {
        value["given_up"] = given_up.iter().map(given_up_json).collect();
    }
    if !exported.is_empty() {
        let made = exported.iter().map(|made| {
            json!({
                "path": made.path.display().to_string(),
                "format": made.form,
                "failures": made.rows,
            })
        });
        value["exported"] = made.collect();
    }
    writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?;
    Ok(())
}

fn line_json(line: &FailureLine) -> Value {
    json!({
        "id": line.id,
        "record_key": line.key.as_str(),
        "batch_id": line.batch.as_ref().map(|batch| batch.as_str()),
        "attempt_number": line.attempt_number,
        "error_type": line.error.as_str(),
        "error_message": line.message,
        "counted": line.counted,
        "failures": line.failures,
        "stage": line.stage.map(|stage| stage.as_str()),
        "created_at": line.at.to_string(),
    })
}

fn raw_json(raw: &Raw) -> Value {
    let Raw { log, line } = raw;
    json!({
        "error_traceback": log.error_traceback,
        "raw_response_text": log.raw_response_text,
        "extracted_text": log.extracted_text,
        "raw_response_json": log.raw_response_json,
        "model_name": log.model_name,
        "prompt_name": log.prompt_name,
        "prompt_template": log.prompt_template,
        "generation_config": log.generation_config,
        "raw_line": line.as_ref().map(place_json),
    })
}

fn place_json(place: &RawPlace) -> Value {
    json!({
        "path": place.path.display().to_string(),
        "offset": place.offset,
        "bytes": place.bytes,
        "text": place.text,
    })
}

fn by_level_json(by: &ByLevel) -> Value {
    let groups = by.groups.iter().map(|group| {
        json!({
            "name": group.name,
            "failures": group.failures,
            "counted": group.counted,
            "pages": group.pages,
        })
    });
    json!({"level": by.level, "groups_in_all": by.all, "groups": groups.collect::<Vec<Value>>()})
}

fn trend_json(trend: &[DayCount]) -> Vec<Value> {
    let mut days: BTreeMap<&str, Vec<&DayCount>> = BTreeMap::new();
    for count in trend {
        days.entry(&count.day).or_default().push(count);
    }
    let day = |(day, counts): (&str, Vec<&DayCount>)| {
        let by_type = counts.iter();
        let by_type: Map<String, Value> = by_type
            .map(|count| (count.error.to_string(), json!(count.failures)))
            .collect();
        json!({
            "day": day,
            "failures": counts.iter().map(|count| count.failures).sum::<u64>(),
            "counted": counts.iter().map(|count| count.counted).sum::<u64>(),
            "by_type": by_type,
        })
    };
    days.into_iter().map(day).collect()
}

fn clusters_json(clusters: &Clusters) -> Value {
    let groups = clusters.clusters.iter().map(|cluster| {
        json!({
            "error_type": cluster.error.as_str(),
            "signature": cluster.signature,
            "failures": cluster.failures,
            "pages": cluster.pages,
            "first_at": cluster.first_at.map(|at| at.to_string()),
            "last_at": cluster.last_at.map(|at| at.to_string()),
            "example": {
                "id": cluster.example.id,
                "record_key": cluster.example.key.as_str(),
                "error_message": cluster.example.message,
            },
        })
    });
    json!({
        "groups_in_all": clusters.all,
        "not_grouped": clusters.beyond,
        "groups": groups.collect::<Vec<Value>>(),
    })
}

fn page_json(page: &OnePage) -> Value {
    let attempts = page.attempts.iter().map(|attempt| {
        json!({
            "batch_id": attempt.batch_id,
            "attempt_number": attempt.attempt_number,
            "outcome": attempt.outcome,
            "error_type": attempt.error_type,
            "message": attempt.message,
            "finish_reason": attempt.finish_reason,
            "raw_path": attempt.raw_path,
            "raw_line_offset": attempt.raw_line_offset,
            "raw_line_bytes": attempt.raw_line_bytes,
            "created_at": attempt.created_at,
            "decided_at": attempt.decided_at,
        })
    });
    json!({
        "record_key": page.key.as_str(),
        "stage": page.page.as_ref().map(|page| page.stage.as_str()),
        "status": page.page.as_ref().map(|page| page.status.as_str()),
        "failures": page.page.as_ref().map(|page| page.failures),
        "attempts": attempts.collect::<Vec<Value>>(),
    })
}

fn given_up_json(page: &GivenUp) -> Value {
    json!({
        "record_key": page.key.as_str(),
        "stage": page.stage.as_str(),
        "error_type": page.error.map(|error| error.as_str()),
        "status": page.status,
        "failures": page.failures,
        "error_message": page.message,
        "updated_at": page.at.to_string(),
    })
}
