//! Every failure that is meant as a row of a file.

use std::io::{BufWriter, Write};
use std::path::Path;

use sea_orm::ConnectionTrait;

use crate::actors::state::desk_failures::{self as desk, FailureFilter, LogRow};
use crate::adapters::filesystem::export::NewFile;
use crate::cli::rows::{Cell, Form, RowWriter};

/// Rows that are held at once: each may carry whole answers.
const TOGETHER: u64 = 50;

/// The columns of `failure_logs`, all of them.
const COLUMNS: &[&str] = &[
    "id",
    "record_key",
    "batch_id",
    "attempt_number",
    "error_type",
    "error_message",
    "error_traceback",
    "raw_response_text",
    "extracted_text",
    "raw_response_json",
    "model_name",
    "prompt_name",
    "prompt_template",
    "generation_config",
    "counted",
    "run_id",
    "created_at",
];

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    pub rows: u64,
    /// Cells that begin like a formula.
    pub formulas: u64,
}

/// Writes to a file that is whole or not there, or to standard output.
pub async fn export(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    form: Form,
    path: &Path,
    out: &mut impl Write,
) -> anyhow::Result<Exported> {
    if path == Path::new("-") {
        let (_out, exported) = rows(conn, filter, form, BufWriter::new(out)).await?;
        return Ok(exported);
    }
    let file = NewFile::create(path)?;
    let (file, exported) = rows(conn, filter, form, file).await?;
    file.commit()?;
    Ok(exported)
}

async fn rows<W: Write>(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    form: Form,
    out: W,
) -> anyhow::Result<(W, Exported)> {
    let mut writer = RowWriter::new(form, COLUMNS, out)?;
    let mut after = i64::MIN;
    loop {
        let chunk = desk::logs_after(conn, filter, after, TOGETHER).await?;
        let Some(last) = chunk.last() else { break };
        after = last.id;
        for row in chunk {
            writer.row(cells(row))?;
        }
    }
    let exported = Exported {
        rows: writer.rows,
        formulas: writer.formulas,
    };
    Ok((writer.finish()?, exported))
}

/// The values of a row, in the order of [`COLUMNS`].
fn cells(row: LogRow) -> Vec<Cell> {
    let LogRow {
        id,
        record_key,
        batch_id,
        attempt_number,
        error_type,
        error_message,
        error_traceback,
        raw_response_text,
        extracted_text,
        raw_response_json,
        model_name,
        prompt_name,
        prompt_template,
        generation_config,
        counted,
        run_id,
        created_at,
    } = row;
    vec![
        id.into(),
        record_key.into(),
        batch_id.into(),
        attempt_number.into(),
        error_type.into(),
        error_message.into(),
        error_traceback.into(),
        raw_response_text.into(),
        extracted_text.into(),
        raw_response_json.into(),
        model_name.into(),
        prompt_name.into(),
        prompt_template.into(),
        generation_config.into(),
        Cell::Truth(counted != 0),
        run_id.into(),
        created_at.into(),
    ]
}
