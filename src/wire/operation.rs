//! Batch operations, lists of them, and results that stand inside one.
//!
//! Where a field stands differs between the documentation, the service and what others saw: the
//! batch is the operation's `metadata`, but every field is also looked for at the top.

use serde_json::value::RawValue;

use super::file::{Page, next_page};
pub use super::loose::DecodeError;
use super::loose::{Object, cut};
use crate::domain::ids::RemoteName;
use crate::domain::remote::{
    RemoteBatch, RemoteBatchState, RemoteOutput, RemoteStats, RemoteStatus,
};

/// The longest error message that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Reads an operation.
pub fn batch(body: &[u8]) -> Result<RemoteBatch, DecodeError> {
    remote_batch(&Object::parse("a batch", body)?)
}

/// Reads a page of a list of operations; both of its keys may be absent. One operation that
/// cannot be read fails the page: a search that passed over it could miss a job that was paid for.
pub fn batch_page(body: &[u8]) -> Result<Page<RemoteBatch>, DecodeError> {
    let outer = Object::parse("a list of batches", body)?;
    let items = outer
        .list(&["operations", "batches"])
        .unwrap_or_default()
        .into_iter()
        .map(|raw| remote_batch(&Object::open(raw).unwrap_or_default()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Page {
        items,
        next: next_page(&outer),
    })
}

/// Brings the results inside an operation to the lines that a result file has, one a row; `None`
/// when there are none inside. A row is kept as it came: one that names two keys, or one field
/// twice, must not become a line that names one.
pub fn inline_lines(body: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
    let operation = Object::parse("a batch", body)?;
    let Some(rows) = output_places(&operation).iter().find_map(inline_rows) else {
        return Ok(None);
    };
    let mut lines = Vec::new();
    for row in rows {
        push_flat(row.get(), &mut lines);
        lines.push(b'\n');
    }
    Ok(Some(lines))
}

/// Reads a google.rpc.Status, or the bare text that some answers have in its place.
pub(super) fn status(raw: &RawValue) -> RemoteStatus {
    let Some(object) = Object::open(raw) else {
        let text: Option<String> = serde_json::from_str(raw.get()).ok();
        return RemoteStatus {
            code: None,
            message: cut(text.as_deref().unwrap_or(raw.get()), MESSAGE_BYTES_MAX).to_owned(),
        };
    };
    let message = object.text(&["message"]).unwrap_or_default();
    RemoteStatus {
        code: object
            .integer(&["code"])
            .and_then(|code| i64::try_from(code).ok()),
        message: cut(&message, MESSAGE_BYTES_MAX).to_owned(),
    }
}

fn remote_batch(operation: &Object<'_>) -> Result<RemoteBatch, DecodeError> {
    let metadata = operation.object(&["metadata"]).unwrap_or_default();
    let text = |names: &[&str]| metadata.text(names).or_else(|| operation.text(names));
    let instant = |names: &[&str]| metadata.instant(names).or_else(|| operation.instant(names));
    let name = operation
        .text(&["name"])
        .or_else(|| metadata.text(&["name"]))
        .filter(|name| !name.is_empty())
        .ok_or_else(|| DecodeError {
            what: "a batch",
            detail: "it has no name".to_owned(),
        })?;
    let output = output_places(operation).iter().find_map(output_of);
    let error = operation
        .raw(&["error"])
        .or_else(|| metadata.raw(&["error"]))
        .map(status);
    let said = text(&["state"]).map(|word| RemoteBatchState::parse(&word));
    let done = operation.is_true(&["done"]);
    Ok(RemoteBatch {
        name: RemoteName::new(name),
        display_name: text(&["displayName", "display_name"]),
        state: state(said, done, error.is_some(), output.is_some()),
        output,
        error,
        stats: stats(operation, &metadata),
        created_at: instant(&["createTime", "create_time"]),
        ended_at: instant(&["endTime", "end_time"]),
    })
}

/// A state that ends a job is believed as it stands. Without one, `done` ends it; without both,
/// only what a job that has ended can have does.
fn state(
    said: Option<RemoteBatchState>,
    done: bool,
    has_error: bool,
    has_output: bool,
) -> RemoteBatchState {
    match said {
        Some(state) if state.is_terminal() => state,
        Some(state) if !done => state,
        _ if has_error => RemoteBatchState::Failed,
        _ if has_output => RemoteBatchState::Succeeded,
        Some(state) => state,
        None => RemoteBatchState::Unknown(String::new()),
    }
}

fn stats(operation: &Object<'_>, metadata: &Object<'_>) -> RemoteStats {
    let names = ["batchStats", "batch_stats"];
    let Some(stats) = metadata.object(&names).or_else(|| operation.object(&names)) else {
        return RemoteStats::default();
    };
    RemoteStats {
        requests: stats.count(&["requestCount", "request_count"]),
        pending: stats.count(&["pendingRequestCount", "pending_request_count"]),
        succeeded: stats.count(&["successfulRequestCount", "successful_request_count"]),
        failed: stats.count(&["failedRequestCount", "failed_request_count"]),
    }
}

/// Every place where results were seen or are documented, the usual one first.
fn output_places<'a>(operation: &Object<'a>) -> Vec<Object<'a>> {
    let metadata = operation.object(&["metadata"]).unwrap_or_default();
    [
        metadata.object(&["output"]),
        operation.object(&["response"]),
        metadata.object(&["dest"]),
        operation.object(&["output"]),
        operation.object(&["dest"]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn output_of(place: &Object<'_>) -> Option<RemoteOutput> {
    let file = place
        .text(&["responsesFile", "responses_file", "fileName", "file_name"])
        .filter(|name| !name.is_empty());
    match file {
        Some(name) => Some(RemoteOutput::File(RemoteName::new(file_name(&name)))),
        None => inline_rows(place).map(|_rows| RemoteOutput::Inline),
    }
}

/// The name in what may be a name or an address that ends with one.
fn file_name(text: &str) -> &str {
    match text.rfind("files/") {
        Some(at) => text[at..]
            .split([':', '?', '#'])
            .next()
            .unwrap_or(&text[at..]),
        None => text,
    }
}

/// The rows, as a list or as a list inside an object of the same name.
fn inline_rows<'a>(place: &Object<'a>) -> Option<Vec<&'a RawValue>> {
    let names = ["inlinedResponses", "inlined_responses"];
    place.list(&names).or_else(|| {
        place
            .object(&names)
            .map(|inner| inner.list(&names).unwrap_or_default())
    })
}

/// A line break in valid JSON is white space: inside strings it is escaped.
fn push_flat(json: &str, lines: &mut Vec<u8>) {
    lines.extend(json.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        other => other,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, state: &str, output: Option<RemoteOutput>) {
        let batch = batch(json.as_bytes()).unwrap();
        assert_eq!(
            (batch.state.as_str(), batch.output),
            (state, output),
            "{json}"
        );
    }

    fn in_file() -> Option<RemoteOutput> {
        Some(RemoteOutput::File("files/batch-x".into()))
    }

    #[test]
    fn f34_states_and_outputs_are_found_wherever_they_stand() {
        let inline = Some(RemoteOutput::Inline);
        check(r#"{"name":"batches/a"}"#, "", None);
        check(
            r#"{"name":"batches/a","metadata":{"state":"BATCH_STATE_PENDING"}}"#,
            "PENDING",
            None,
        );
        check(
            r#"{"metadata":{"name":"batches/a","state":"JOB_STATE_RUNNING"}}"#,
            "RUNNING",
            None,
        );
        check(
            r#"{"name":"b","state":"succeeded","dest":{"fileName":"files/batch-x"}}"#,
            "SUCCEEDED",
            in_file(),
        );
        check(
            r#"{"name":"b","done":true,"response":{"responsesFile":"files/batch-x"}}"#,
            "SUCCEEDED",
            in_file(),
        );
        check(
            r#"{"name":"b","metadata":{"output":{"responses_file":"https://h/v1/files/batch-x:download?alt=media"}}}"#,
            "SUCCEEDED",
            in_file(),
        );
        check(
            r#"{"name":"b","done":true,"error":{"code":8,"message":"quota"}}"#,
            "FAILED",
            None,
        );
        check(
            r#"{"name":"b","done":true,"error":{"code":13},"metadata":{"state":"BATCH_STATE_CANCELLED"}}"#,
            "CANCELLED",
            None,
        );
        check(
            r#"{"name":"b","done":true,"metadata":{"state":"BATCH_STATE_TIRED"}}"#,
            "BATCH_STATE_TIRED",
            None,
        );
        check(
            r#"{"name":"b","metadata":{"state":"BATCH_STATE_RUNNING","output":{"responsesFile":"files/batch-x"}}}"#,
            "RUNNING",
            in_file(),
        );
        check(
            r#"{"name":"b","done":true,"metadata":{"output":{"inlinedResponses":{"inlinedResponses":[{}]}}}}"#,
            "SUCCEEDED",
            inline.clone(),
        );
        check(
            r#"{"name":"b","done":true,"response":{"inlined_responses":[{}]}}"#,
            "SUCCEEDED",
            inline,
        );
        check(
            r#"{"name":"b","metadata":{"state":"BATCH_STATE_SUCCEEDED"}}"#,
            "SUCCEEDED",
            None,
        );
    }

    #[test]
    fn f35_counts_are_texts_or_numbers_or_absent() {
        let stats = batch(
            br#"{"name":"b","metadata":{"batchStats":{"requestCount":"5","failed_request_count":2,"pendingRequestCount":"x"}}}"#,
        )
        .unwrap()
        .stats;
        assert_eq!(
            stats,
            RemoteStats {
                requests: Some(5),
                pending: None,
                succeeded: None,
                failed: Some(2)
            }
        );
    }

    #[test]
    fn an_operation_without_a_name_fails_its_page() {
        assert!(batch(b"{}").is_err());
        assert!(batch_page(br#"{"operations":[{"name":"a"},{}]}"#).is_err());
        assert!(batch_page(b"{}").unwrap().items.is_empty());
    }

    #[test]
    fn inline_rows_become_result_lines() {
        let body = br#"{"name":"b","response":{"inlinedResponses":{"inlinedResponses":[
            {"response": {"a":
              "x\ny"}, "metadata": {"key": "p1"}},
            {"error": {"code": 7}, "metadata": {"key": "p2"}},
            {"response": {}}, 5]}}}"#;
        let lines = String::from_utf8(inline_lines(body).unwrap().unwrap()).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[0].starts_with(r#"{"response": {"a":  "#),
            "{}",
            lines[0]
        );
        assert!(lines[0].ends_with(r#""x\ny"}, "metadata": {"key": "p1"}}"#));
        let rest = [
            r#"{"error": {"code": 7}, "metadata": {"key": "p2"}}"#,
            r#"{"response": {}}"#,
            "5",
        ];
        assert_eq!(lines[1..], rest);
        assert_eq!(inline_lines(br#"{"name":"b"}"#).unwrap(), None);
    }

    #[test]
    fn p4_an_inline_row_with_two_keys_stays_one_with_two_keys() {
        use super::super::response::{Row, row};
        let check = |inside: &str, is_expected: fn(&Row) -> bool| {
            let body = format!(r#"{{"name":"b","response":{{"inlinedResponses":[{inside}]}}}}"#);
            let lines = inline_lines(body.as_bytes()).unwrap().unwrap();
            let found = row(&lines);
            assert!(is_expected(&found), "{inside}: {found:?}");
        };
        check(
            r#"{"key":"a","metadata":{"key":"b"},"response":{}}"#,
            |row| matches!(row, Row::TwoKeys { .. }),
        );
        check(r#"{"key":"a","key":"b","response":{}}"#, |row| {
            matches!(row, Row::NotJson { .. })
        });
    }
}
