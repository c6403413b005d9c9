//! A raw result file, in lines: exact offsets, bounded memory, whatever stands in it.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::content;
use super::durable::{blocking, fault, refusal};
use crate::ports::page_source::SourceError;
use crate::ports::result_sink::{RawReader, RawText};

/// How much text ends a run of lines, in bytes.
const RUN_BYTES: usize = 4 * 1024 * 1024;
/// How many lines end a run.
const RUN_LINES: usize = 512;

struct Lines {
    file: Box<dyn BufRead + Send>,
    offset: u64,
    line_bytes_max: u64,
}

struct RawFile {
    path: PathBuf,
    /// `None` after a read that failed.
    lines: Option<Lines>,
}

/// Opens a raw result file for reading in runs of lines.
pub(super) async fn open(
    path: &Path,
    line_bytes_max: u64,
) -> Result<Box<dyn RawReader>, SourceError> {
    let place = path.to_path_buf();
    let file = blocking(path, move || {
        content::open(&place).map_err(|error| fault(&place, &error))
    })
    .await?;
    Ok(Box::new(RawFile {
        path: path.to_path_buf(),
        lines: Some(Lines {
            file,
            offset: 0,
            line_bytes_max,
        }),
    }))
}

/// Reads one line by its place.
pub(super) fn line(
    path: &Path,
    offset: u64,
    bytes: u64,
    line_bytes_max: u64,
) -> Result<Vec<u8>, SourceError> {
    if bytes > line_bytes_max {
        let detail = format!("a line of {bytes} bytes is over the limit of {line_bytes_max}");
        return Err(refusal(path, &detail));
    }
    let text = content::part(path, offset, bytes).map_err(|error| fault(path, &error))?;
    if text.len() as u64 != bytes {
        let detail = format!("no line of {bytes} bytes at offset {offset}");
        return Err(refusal(path, &detail));
    }
    Ok(text)
}

#[async_trait(?Send)]
impl RawReader for RawFile {
    async fn next_lines(&mut self) -> Result<Option<Vec<RawText>>, SourceError> {
        let mut lines = self
            .lines
            .take()
            .ok_or_else(|| refusal(&self.path, "an earlier read failed"))?;
        let path = self.path.clone();
        let (lines, run) = blocking(&self.path, move || {
            let run = lines.run().map_err(|error| fault(&path, &error))?;
            Ok((lines, run))
        })
        .await?;
        self.lines = Some(lines);
        Ok((!run.is_empty()).then_some(run))
    }
}

impl Lines {
    fn run(&mut self) -> io::Result<Vec<RawText>> {
        let mut run = Vec::new();
        let mut held = 0;
        while held < RUN_BYTES && run.len() < RUN_LINES {
            let Some(line) = self.line()? else { break };
            held += line.text.as_ref().map_or(0, Vec::len);
            run.push(line);
        }
        Ok(run)
    }

    /// The next line without its end; `None` at the end of the file.
    fn line(&mut self) -> io::Result<Option<RawText>> {
        let start = self.offset;
        // One byte more than a line may have: it could be the carriage return.
        let held_max = self.line_bytes_max.saturating_add(1);
        let mut text = Vec::new();
        let mut length: u64 = 0;
        let mut last = None;
        let mut has_end = false;
        while !has_end {
            let buffer = self.file.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let piece = match memchr::memchr(b'\n', buffer) {
                Some(end) => {
                    has_end = true;
                    &buffer[..end]
                }
                None => buffer,
            };
            length += piece.len() as u64;
            last = piece.last().copied().or(last);
            if length <= held_max {
                text.extend_from_slice(piece);
            } else {
                text = Vec::new();
            }
            let consumed = piece.len() + usize::from(has_end);
            self.offset += consumed as u64;
            self.file.consume(consumed);
        }
        if length == 0 && !has_end {
            return Ok(None);
        }
        if last == Some(b'\r') {
            length -= 1;
            text.pop();
        }
        Ok(Some(RawText {
            offset: start,
            bytes: length,
            text: (length <= self.line_bytes_max).then_some(text),
        }))
    }
}
