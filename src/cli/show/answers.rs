//! What was answered, as it came, and what was made of it.

use std::io::Write;
use std::path::PathBuf;

use super::story::Story;
use crate::actors::state::desk_page::PageSheet;
use crate::actors::state::desk_story::AttemptLine;
use crate::cli::exit;
use crate::cli::explain::facts::Look;
use crate::ports::page_source::PageSource;
use crate::ports::result_sink::{RawText, ResultSink};

/// Prints the raw result lines of a page's attempts, oldest first.
pub async fn raw(look: &Look<'_>, story: &Story, out: &mut impl Write) -> anyhow::Result<u8> {
    let mut code = exit::FAILED;
    for attempt in &story.attempts {
        match raw_text(look, attempt).await {
            Ok(line) => {
                code = exit::DONE;
                out.write_all(line.text.as_deref().unwrap_or_default())?;
                writeln!(out)?;
            }
            Err(fault) => eprintln!("attempt {}: {fault}", attempt.number),
        }
    }
    if story.attempts.is_empty() {
        eprintln!(
            "{} was never sent, so nothing was answered",
            story.sheet.key
        );
    }
    Ok(code)
}

/// The raw line of an attempt, or why there is none.
pub async fn raw_text(look: &Look<'_>, attempt: &AttemptLine) -> Result<RawText, String> {
    let (Some(recorded), Some(line)) = (&attempt.raw_path, attempt.raw_line) else {
        return Err(match attempt.outcome.as_str() {
            "pending" => "its answer is not here yet".to_owned(),
            _ => "its results held no line for this page".to_owned(),
        });
    };
    let here = look.files.raw_path(&attempt.batch);
    let mut fault = String::new();
    for path in [PathBuf::from(recorded), here] {
        match look.files.raw_line(&path, line.offset, line.bytes).await {
            Ok(text) => {
                return Ok(RawText {
                    offset: line.offset,
                    bytes: line.bytes,
                    text: Some(text),
                });
            }
            Err(error) => fault = error.to_string(),
        }
    }
    Err(format!("its raw results cannot be read: {fault}"))
}

/// Prints the accepted output of a page.
pub async fn output(
    look: &Look<'_>,
    sheet: &PageSheet,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    match look.files.output(&sheet.key).await {
        Ok(text) => {
            out.write_all(&text)?;
            Ok(exit::DONE)
        }
        Err(error) => {
            eprintln!("{} is {}; its output: {error}", sheet.key, sheet.stage);
            Ok(exit::FAILED)
        }
    }
}
