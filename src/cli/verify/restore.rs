//! An accepted output, made again from the raw results: they were paid for, and are still there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Look;
use crate::actors::blocking::sha256;
use crate::actors::result_processor::JudgeRules;
use crate::actors::result_processor::judge::{self, Judgement};
use crate::actors::state::audit::{self, AcceptedLine};
use crate::domain::ids::{RecordKey, Sha256Hex};
use crate::ports::result_sink::{RawText, ResultSink};
use crate::prompt::Validator;

/// The output of this hash, if a raw result line still gives it, byte for byte.
pub async fn output(look: &Look<'_>, key: &RecordKey, recorded: &Sha256Hex) -> Option<Vec<u8>> {
    // What cannot be read is not there; the page can still run again.
    let lines = audit::accepted_lines(look.connection, key).await.ok()?;
    for line in lines {
        if let Some(output) = from_line(look, key, line).await
            && sha256(&output) == *recorded
        {
            return Some(output);
        }
    }
    None
}

async fn from_line(look: &Look<'_>, key: &RecordKey, line: AcceptedLine) -> Option<Vec<u8>> {
    let AcceptedLine {
        batch: _,
        raw_path,
        offset,
        bytes,
    } = line;
    let text = look.files.raw_line(Path::new(&raw_path), offset, bytes);
    let text = text.await.ok()?;
    let line = RawText {
        offset,
        bytes,
        text: Some(text),
    };
    // The hash is what speaks for the output; the schema did when it was accepted.
    let anything = Validator::new(&serde_json::Value::Bool(true)).ok()?;
    let rules = JudgeRules {
        max_retries: 0,
        retry_delay: Duration::ZERO,
        stored_response_bytes_max: 0,
        threads: 1,
        refuse_empty: false,
        echo_field: None,
    };
    let judged = judge::judge_lines(vec![line], Arc::new(anything), rules).await;
    judged
        .into_iter()
        .find_map(|judged| match judged.judgement {
            Judgement::Accepted { output } if judged.key == *key => Some(output),
            _ => None,
        })
}
