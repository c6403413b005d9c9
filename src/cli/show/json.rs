//! The story of a page as JSON, with nothing left out.

use serde_json::{Value, json};

use super::answers;
use super::story::{Counters, Story};
use super::timeline;
use crate::actors::state::desk_story::{AttemptLine, EventLine, FailureEntry};
use crate::cli::explain::{facts::Look, sentence, with_style};
use crate::cli::screen::Screen;
use crate::domain::attempt::Tokens;
use crate::domain::time::Timestamp;

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

/// The JSON form.
pub async fn story(look: &Look<'_>, story: &Story) -> Value {
    let mut attempts = Vec::with_capacity(story.attempts.len());
    for attempt in &story.attempts {
        attempts.push(self::attempt(look, attempt).await);
    }
    let said = with_style(Screen::plain(u16::MAX), look.at, |style| {
        sentence(&story.why, style)
    });
    let events = story.events.iter().map(|line| event(story, line));
    json!({
        "version": super::JSON_VERSION,
        "at": look.at.to_string(),
        "key": story.sheet.key.as_str(),
        "title": story.title,
        "reason": story.why.code(),
        "sentence": said,
        "page": page(look, story),
        "image": image(story),
        "files": story.files.iter().map(|file| json!({
            "what": file.what,
            "place": file.place,
            "is_there": file.is_there,
            "attempt": file.attempt,
            "note": file.note,
        })).collect::<Vec<_>>(),
        "counters": counters(&story.counters),
        "events_total": story.events_total,
        "events": events.collect::<Vec<_>>(),
        "attempts": attempts,
        "failures": story.failures.iter().map(failure).collect::<Vec<_>>(),
        "recipe": story.recipe.as_ref().map(|recipe| json!({
            "recipe_hash": recipe.hash.as_str(),
            "prompt_name": recipe.prompt_name,
            "prompt_template": recipe.prompt_template,
            "context_template": recipe.context_template,
            "schema": parsed(&recipe.schema),
            "model": recipe.model,
            "generation_config": parsed(&recipe.generation_config),
        })),
    })
}

/// A text that should be JSON, as JSON where it is.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_other| Value::from(text))
}

fn page(look: &Look<'_>, story: &Story) -> Value {
    let sheet = &story.sheet;
    let names = look.settings.paths.layout.names().iter();
    let levels: serde_json::Map<String, Value> = names
        .cloned()
        .zip(sheet.levels.iter().map(|level| Value::from(level.as_str())))
        .collect();
    json!({
        "levels": levels,
        "number": sheet.number,
        "stage": sheet.stage.as_str(),
        "since": sheet.since.to_string(),
        "status": sheet.status,
        "priority": sheet.priority,
        "left_out": sheet.left_out,
        "window": sheet.window,
        "arrived_at": text(sheet.arrived_at),
        "scope": sheet.scope.as_ref().map(|scope| scope.as_str()),
        "run_id": sheet.run.as_ref().map(|run| run.as_str()),
        "recipe_hash": sheet.recipe.as_ref().map(|recipe| recipe.as_str()),
        "predecessor": sheet.predecessor.as_ref().map(|key| key.as_str()),
        "waits_for": sheet.waits_for.as_ref().map(|key| key.as_str()),
        "chain_ahead": sheet.chain_ahead,
        "not_before": text(sheet.not_before),
        "error": sheet.error.map(|error| error.as_str()),
        "failures": sheet.failures,
        "max_retries": look.settings.execution.max_retries,
        "upload_cycles": sheet.upload_cycles,
        "releases": sheet.releases,
        "batch_size_max": sheet.batch_size_max,
        "batch_id": sheet.batch.as_ref().map(|batch| batch.as_str()),
        "image_file": sheet.image_file.as_ref().map(|name| name.as_str()),
        "image_expires_at": text(sheet.image_expires_at),
        "uploaded_at": text(sheet.uploaded_at),
        "output_sha256": sheet.output.as_ref().map(|(sha256, _)| sha256.as_str()),
        "output_bytes": sheet.output.as_ref().map(|(_, bytes)| bytes),
        "created_at": sheet.created_at.to_string(),
        "updated_at": sheet.updated_at.to_string(),
    })
}

fn image(story: &Story) -> Value {
    let now = story.image.as_ref();
    json!({
        "now": now.ok().map(|(path, facts)| json!({
            "path": path.display().to_string(),
            "mime": facts.mime.as_str(),
            "bytes": facts.bytes,
            "width": facts.width,
            "height": facts.height,
            "sha256": facts.sha256.as_str(),
        })),
        "fault": now.err().map(ToString::to_string),
        "when_checked": story.sheet.image.as_ref().map(|image| json!({
            "mime": image.mime,
            "bytes": image.bytes,
            "width": image.width,
            "height": image.height,
            "sha256": image.sha256.as_str(),
        })),
    })
}

fn counters(counters: &Counters) -> Value {
    let Counters {
        uploads,
        submissions,
        validations,
        bytes_up,
        bytes_down,
        tokens_in,
        tokens_out,
        tokens_thoughts,
        cost_nanos,
    } = counters;
    json!({
        "uploads": uploads,
        "submissions": submissions,
        "validations": validations,
        "bytes_up": bytes_up,
        "bytes_down": bytes_down,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "tokens_thoughts": tokens_thoughts,
        "cost_usd": *cost_nanos as f64 / 1e9,
    })
}

fn event(story: &Story, line: &EventLine) -> Value {
    json!({
        "at": line.at.to_string(),
        "from": line.from,
        "to": line.to,
        "event": line.event,
        "words": timeline::words(line, |batch| story.attempt_of(batch)),
        "run_id": line.run,
        "batch_id": line.batch,
        "correlation_id": line.correlation,
        "details": line.details,
    })
}

fn tokens(tokens: &Tokens) -> Value {
    json!({
        "prompt": tokens.prompt,
        "cached": tokens.cached,
        "candidates": tokens.candidates,
        "thoughts": tokens.thoughts,
        "total": tokens.total,
    })
}

async fn attempt(look: &Look<'_>, attempt: &AttemptLine) -> Value {
    let raw = answers::raw_text(look, attempt).await;
    let answer = raw.as_ref().ok().and_then(|line| line.text.as_deref());
    let answer = answer.map(|text| parsed(&String::from_utf8_lossy(text)));
    let seconds = |from: Option<Timestamp>, to: Option<Timestamp>| {
        let span = from.zip(to).map(|(from, to)| to.since(from));
        span.map(|span| span.as_secs_f64())
    };
    json!({
        "number": attempt.number,
        "batch_id": attempt.batch.as_str(),
        "batch_state": attempt.batch_state,
        "remote_name": attempt.job.as_ref().map(|job| job.as_str()),
        "outcome": attempt.outcome,
        "error_type": attempt.error.map(|error| error.as_str()),
        "message": attempt.message,
        "recipe_hash": attempt.recipe.as_str(),
        "model": attempt.model,
        "model_version": attempt.model_version,
        "parameters": attempt.parameters.as_deref().map(parsed),
        "image_file": attempt.image_file.as_str(),
        "image_sha256": attempt.image.as_ref().map(|image| &image.sha256),
        "lines_sha256": attempt.lines_sha256.as_ref().map(|hash| hash.as_str()),
        "lines_file": attempt.lines_file,
        "prompt_sha256": attempt.prompt_sha256.as_ref().map(|hash| hash.as_str()),
        "context_sha256": attempt.context_sha256.as_ref().map(|hash| hash.as_str()),
        "corrective_text": attempt.corrective_text,
        "checks_failed": attempt.checks_failed.as_deref().map(parsed),
        "score": attempt.score,
        "finish_reason": attempt.finish_reason,
        "tokens": tokens(&attempt.tokens),
        "cost_usd": attempt.cost_nanos.map(|nanos| nanos as f64 / 1e9),
        "raw_path": attempt.raw_path,
        "raw_line_offset": attempt.raw_line.map(|line| line.offset),
        "raw_line_bytes": attempt.raw_line.map(|line| line.bytes),
        "raw": answer,
        "raw_fault": raw.err(),
        "report": attempt.report,
        "created_at": attempt.created_at.to_string(),
        "submitted_at": text(attempt.submitted_at),
        "ended_at": text(attempt.ended_at),
        "decided_at": text(attempt.decided_at),
        "queued_seconds": seconds(Some(attempt.created_at), attempt.submitted_at),
        "model_seconds": seconds(attempt.submitted_at, attempt.ended_at),
    })
}

fn failure(failure: &FailureEntry) -> Value {
    json!({
        "at": failure.at.to_string(),
        "attempt_number": failure.attempt_number,
        "batch_id": failure.batch.as_ref().map(|batch| batch.as_str()),
        "error_type": failure.error.as_str(),
        "message": failure.message,
        "chain": failure.chain.lines().collect::<Vec<_>>(),
        "raw_text": failure.raw_text,
        "extracted_text": failure.extracted_text,
        "raw_json": failure.raw_json,
        "counted": failure.counted,
    })
}
