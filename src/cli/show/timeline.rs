//! What happened to a page, event by event, in words.

use serde_json::Value;

use crate::actors::state::desk_story::EventLine;
use crate::cli::screen::{one_line, seconds};
use crate::domain::page::SEEN;
use crate::domain::time::Timestamp;

/// Letters of a hash that are enough to tell it from others.
const HASH_LETTERS: usize = 12;

/// One event in words, with who brought it about and why, where that is known. `attempt_of` knows the
/// number of the attempt that a batch was.
pub fn words(event: &EventLine, attempt_of: impl Fn(&str) -> Option<u32>) -> String {
    let text = |name: &str| event.details.get(name).and_then(Value::as_str);
    let mut said = known(event, attempt_of).unwrap_or_else(|| event.event.replace('_', " "));
    if let Some(by) = text("by") {
        said.push_str(&format!(" by {by}"));
    }
    let words = ["text", "why"].into_iter().filter_map(text);
    for words in words.filter(|words| !words.is_empty()) {
        said.push_str(&format!(": {words}"));
    }
    one_line(&said)
}

/// An event that this program knows, in its words.
fn known(event: &EventLine, attempt_of: impl Fn(&str) -> Option<u32>) -> Option<String> {
    let details = &event.details;
    let text = |name: &str| details.get(name).and_then(Value::as_str);
    let error = || text("error").unwrap_or("an error").to_owned();
    let until = |name: &str| text(name).map_or_else(|| "later".to_owned(), instant);
    let hash = |name: &str| short(text(name).unwrap_or_default());
    let batch = || match event.batch.as_deref().or_else(|| text("batch")) {
        Some(batch) => match attempt_of(batch) {
            Some(number) => format!("attempt {number}"),
            None => format!("batch {batch}"),
        },
        None => "its batch".to_owned(),
    };
    Some(match event.event.as_str() {
        SEEN => "taken up from its label".to_owned(),
        "upload_started" => "upload begun".to_owned(),
        "upload_stored" => format!(
            "uploaded as {}, kept until {}",
            text("file").unwrap_or("a file"),
            until("expires_at")
        ),
        "upload_deferred" => format!("upload failed, put off until {}", until("until")),
        "upload_refused" => format!("image refused: {}", error()),
        "file_expired" => "remote file too old; to be uploaded again".to_owned(),
        "packed" => format!("packed: {}", batch()),
        "pack_refused" => format!("cannot be put into a request: {}", error()),
        "released" => format!("given back by {} without a verdict", batch()),
        "batch_expired" => format!("{} expired; waits until {}", batch(), until("until")),
        "releases_spent" => format!("given back too often: {}", error()),
        "isolated" => format!(
            "alone in a batch that the provider does not take: {}",
            error()
        ),
        "answer_at_hand" => format!("answer of {} is here", batch()),
        "accepted" => format!("answer of {} accepted, sha256 {}", batch(), hash("output")),
        "rejected" => rejected(&batch(), &error(), text("afterwards"), text("not_before")),
        "adopted" => format!("output found on disk and taken, sha256 {}", hash("output")),
        "label_vanished" => "left out: its label is gone".to_owned(),
        "requeued" => format!("back on the work list: {}", cause(text("cause"))),
        "left_out" => "left out".to_owned(),
        _ => return other(event),
    })
}

fn instant(text: &str) -> String {
    Timestamp::parse(text).map_or_else(|_other| text.to_owned(), seconds)
}

fn short(hash: &str) -> String {
    hash.chars().take(HASH_LETTERS).collect()
}

fn rejected(batch: &str, error: &str, then: Option<&str>, not_before: Option<&str>) -> String {
    let then = match (then, not_before) {
        (Some("again"), Some(at)) => format!("runs again after {}", instant(at)),
        (Some("again"), None) => "runs again".to_owned(),
        (Some("dead"), _) => "not sent again".to_owned(),
        (Some("review"), _) => "waits for a person".to_owned(),
        (then, _) => then.unwrap_or_default().to_owned(),
    };
    format!("answer of {batch} rejected: {error}; {then}")
}

fn cause(word: Option<&str>) -> &str {
    match word {
        Some("operator") => "asked for",
        Some("output_vanished") => "its output is gone",
        Some("image_changed") => "its image has changed",
        Some("label_returned") => "its label is back",
        other => other.unwrap_or("no cause was given"),
    }
}

/// An event that has no words of its own, with whatever it carries.
fn other(event: &EventLine) -> Option<String> {
    let told = ["by", "why", "text", "order"];
    let details = event.details.as_object()?;
    let rest: Vec<String> = details
        .iter()
        .filter(|(name, value)| !told.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name} {text}"),
            value => format!("{name} {value}"),
        })
        .collect();
    let event = event.event.replace('_', " ");
    (!rest.is_empty()).then(|| format!("{event} ({})", rest.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(event: &str, details: Value, expected: &str) {
        let line = EventLine {
            at: Timestamp::EPOCH,
            from: None,
            to: "discovered".to_owned(),
            event: event.to_owned(),
            run: None,
            batch: Some("b1".to_owned()),
            correlation: None,
            details,
        };
        let attempt_of = |batch: &str| (batch == "b1").then_some(3);
        assert_eq!(words(&line, attempt_of), expected);
    }

    #[test]
    fn s2_22_every_event_is_told_in_words() {
        check("packed", json!({"batch": "b1"}), "packed: attempt 3");
        check(
            "rejected",
            json!({"error": "Truncated", "afterwards": "again", "not_before": null}),
            "answer of attempt 3 rejected: Truncated; runs again",
        );
        check(
            "upload_deferred",
            json!({"until": "2026-11-22T10:00:00.500000Z"}),
            "upload failed, put off until 2026-11-22T10:00:00Z",
        );
        check(
            "requeued",
            json!({"cause": "image_changed"}),
            "back on the work list: its image has changed",
        );
    }

    #[test]
    fn s2_23_events_of_operators_and_unknown_ones_are_told_as_they_stand() {
        check(
            "noted",
            json!({"text": "blurred,\nask Ben", "by": "anna", "why": null, "order": 7}),
            "noted by anna: blurred, ask Ben",
        );
        check("failures_cleared", json!({}), "failures cleared");
        check(
            "requeued",
            json!({"cause": "operator", "by": "anna", "why": "new scan"}),
            "back on the work list: asked for by anna: new scan",
        );
        check("new_thing", json!({"x": null, "y": "z"}), "new thing (y z)");
    }
}
