//! Log lines on stderr: for people on a terminal, JSON otherwise or by flag.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogShape {
    Human,
    Json,
}

/// The shape for a setting (`human`, `json` or `auto`) on this stderr.
pub fn shape(setting: &str) -> LogShape {
    match setting {
        "human" => LogShape::Human,
        "json" => LogShape::Json,
        _ if io::stderr().is_terminal() => LogShape::Human,
        _ => LogShape::Json,
    }
}

/// Starts logging for the process; progress bars step aside while a line is written. Bodies,
/// headers and connections of the HTTP client are never logged, whatever the level: they could
/// carry the key.
pub fn start(shape: LogShape, level: &str, bars: MultiProgress) {
    let quiet = [
        "hyper",
        "hyper_util",
        "reqwest",
        "rustls",
        "h2",
        "sea_orm",
        "actix_http",
        "actix_server",
    ];
    let mut filter = level.to_owned();
    for library in quiet {
        if !level.contains(library) {
            filter.push_str(&format!(",{library}=warn"));
        }
    }
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_wrong| EnvFilter::new("info"));
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(BesideBars { bars })
        .with_ansi(color && shape == LogShape::Human)
        .with_target(false);
    // A second start in one process (tests) keeps the first.
    let _first_wins = match shape {
        LogShape::Human => lines.compact().try_init(),
        LogShape::Json => lines.json().flatten_event(true).try_init(),
    };
}

struct BesideBars {
    bars: MultiProgress,
}

/// One log line on its way.
pub struct LogLine {
    bars: MultiProgress,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = LogLine;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine {
            bars: self.bars.clone(),
            text: Vec::new(),
        }
    }
}

impl Write for LogLine {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        // Nobody is left to be told that stderr is closed.
        let _closed = self.bars.suspend(|| io::stderr().lock().write_all(&text));
    }
}
