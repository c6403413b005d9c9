//! What a bench says on the terminal.

use std::io::{self, Write};
use std::path::Path;

use super::SweepFault;
use crate::bench::facts::Row;
use crate::bench::files::{CSV_FILE, HTML_FILE, JSON_FILE, Report};
use crate::bench::html::row_name as name;
use crate::bench::knobs::Knob;
use crate::bench::plan::SweepPlan;
use crate::cli::screen::{Columns, Screen, Side};
use crate::report::words;

/// Says what will be measured.
pub fn plan(
    plan: &SweepPlan,
    folder: &Path,
    screen: &Screen,
    out: &mut impl Write,
) -> io::Result<()> {
    let base = plan.base();
    let values = Knob::ALL.map(|knob| format!("{} {}", knob.as_str(), knob.shown(base.get(knob))));
    let text = format!(
        "base: {}; {} pages a run",
        values.join(", "),
        words::count(plan.pages)
    );
    screen.paragraph(0, &text, out)?;
    for (knob, values) in &plan.values {
        let values: Vec<String> = values.iter().map(|value| knob.shown(*value)).collect();
        writeln!(out, "  {:<19} also {}", knob.as_str(), values.join(", "))?;
    }
    let text = format!(
        "{} points in {} runs, about {}; further ones where a setting helps; results go to {}",
        plan.points.len(),
        plan.runs(),
        words::span(std::time::Duration::from_secs_f64(plan.seconds())),
        folder.display()
    );
    screen.paragraph(0, &text, out)
}

/// Tells of a point that was measured, on stderr: what is printed is the result.
pub fn progress(row: &Row, runs: u64, planned: u64) {
    let point = name(row);
    let rate = row.rate();
    let limit = row.limit;
    eprintln!(
        "[{runs} of {}] {point}: {rate:.1} pages/s, {limit}",
        planned.max(runs)
    );
}

/// Tells why a sweep could not go on.
pub fn fault(fault: &SweepFault) {
    eprintln!("{fault}");
}

/// Prints the result.
pub fn report(report: &Report, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    rows(&report.rows, screen, out)?;
    if let Some(base) = report.rows.first() {
        writeln!(out)?;
        processor(base, screen, out)?;
        writeln!(out)?;
        waits(base, screen, out)?;
    }
    writeln!(out)?;
    conclusions(report, screen, out)
}

/// From this width on a terminal has room for every column.
const WIDE: u16 = 110;

/// A column: its heading, its side, whether narrow terminals have it, and its cell.
type Column = (&'static str, Side, bool, fn(&Row) -> String);

/// The columns of the points.
const COLUMNS: [Column; 8] = [
    ("point", Side::Left, true, name),
    ("pages/s", Side::Right, true, |row| {
        format!("{:.1}", row.rate())
    }),
    ("MB/s", Side::Right, false, |row| {
        format!("{:.1}", row.figures.megabytes_per_second())
    }),
    ("CPU ms", Side::Right, true, |row| {
        let figures = &row.figures;
        format!("{:.2}", figures.per_page_ms(figures.cpu.total))
    }),
    ("commits/s", Side::Right, true, |row| {
        format!("{:.0}", row.figures.commits_per_second())
    }),
    ("rows/commit", Side::Right, false, |row| {
        let rows = row.figures.rows_per_commit();
        rows.map_or_else(unknown, |rows| format!("{rows:.0}"))
    }),
    ("memory", Side::Right, false, |row| {
        let bytes = row.figures.peak_memory_bytes;
        bytes.map_or_else(unknown, words::bytes)
    }),
    ("limit", Side::Left, true, |row| {
        format!("{} {:.0} %", row.limit, row.limit_share * 100.0)
    }),
];

fn unknown() -> String {
    "unknown".to_owned()
}

fn rows(rows: &[Row], screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    let shown: Vec<&Column> = COLUMNS
        .iter()
        .filter(|(_heading, _side, is_narrow, _cell)| *is_narrow || screen.width >= WIDE)
        .collect();
    let headings: Vec<(&str, Side)> = shown
        .iter()
        .map(|(heading, side, _is_narrow, _cell)| (*heading, *side))
        .collect();
    let mut columns = Columns::new(*screen, &headings);
    for row in rows {
        let cells = shown.iter().map(|(_, _, _, cell)| cell(row));
        columns.row(&cells.collect::<Vec<String>>());
    }
    columns.keep_whole(0);
    columns.keep_whole(shown.len() - 1);
    columns.print(out)
}

fn processor(base: &Row, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    let figures = &base.figures;
    let parts = figures.cpu.parts().into_iter().map(|(part, seconds)| {
        let ms = figures.per_page_ms(seconds);
        format!("{part} {ms:.2}")
    });
    let parts: Vec<String> = parts.collect();
    let total = figures.per_page_ms(figures.cpu.total);
    let text = format!(
        "processor time (CPU) of a page at the base: {total:.2} ms ({})",
        parts.join(", ")
    );
    screen.paragraph(0, &text, out)
}

fn waits(base: &Row, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    let right = Side::Right;
    let mut columns = Columns::new(
        *screen,
        &[
            ("stage, at the base", Side::Left),
            ("pages, mean", right),
            ("most", right),
            ("wait, mean s", right),
            ("95 % within s", right),
        ],
    );
    for stage in &base.figures.stages {
        columns.row(&[
            stage.stage.clone(),
            format!("{:.1}", stage.depth_mean),
            stage.depth_max.to_string(),
            format!("{:.3}", stage.wait_mean_seconds),
            format!("{:.3}", stage.wait_p95_seconds),
        ]);
    }
    let database = &base.figures.database;
    columns.row(&[
        "messages to the database".to_owned(),
        format!("{:.1}", database.queue_mean),
        database.queue_max.to_string(),
        format!("{:.4}", database.waited_mean_ms / 1_000.0),
        String::new(),
    ]);
    columns.print(out)
}

fn conclusions(report: &Report, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
    screen.paragraph(0, &report.headline, out)?;
    if let Some(base) = report.rows.first() {
        let text = format!("what limits at the base: {}", base.limit_reason);
        screen.paragraph(0, &text, out)?;
    }
    writeln!(out)?;
    if report.suggestions.is_empty() {
        let text = format!(
            "settings to change first: none; nothing that was tried helped by more than the noise of {:.0} %",
            report.noise * 100.0
        );
        screen.paragraph(0, &text, out)?;
    } else {
        writeln!(out, "settings to change first")?;
    }
    for (number, suggestion) in (1..).zip(&report.suggestions) {
        let (from, to) = (
            suggestion.shown(suggestion.from),
            suggestion.shown(suggestion.to),
        );
        let mut text = format!(
            "{}: {from} -> {to}: {}",
            suggestion.setting, suggestion.because
        );
        if !suggestion.mind.is_empty() {
            text.push_str(" (");
            text.push_str(suggestion.mind);
            text.push(')');
        }
        write!(out, "  {number}. ")?;
        screen.paragraph(5, &text, out)?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "pages a day to expect, by each limit; the first one binds"
    )?;
    for limit in &report.expectation.limits {
        write!(out, "{:>14}  ", words::count(limit.pages_per_day))?;
        screen.paragraph(16, &format!("{}: {}", limit.limit, limit.from), out)?;
    }
    for note in &report.expectation.notes {
        screen.paragraph(0, note, out)?;
    }
    let names = [HTML_FILE, CSV_FILE, JSON_FILE].join(", ");
    let text = format!("\n{names} in {}", report.machine.folder);
    screen.paragraph(0, &text, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::row;

    #[test]
    fn the_table_fits_a_terminal_and_keeps_the_names_of_points_whole() {
        let report_rows = [
            row(None, 0, 0, &[1_234.5]),
            row(Some(Knob::UploadsPerSecond), 1_000, 1, &[0.5]),
            row(Some(Knob::UploadConcurrency), 256, 2, &[99.9]),
        ];
        for width in [80, 160] {
            let mut text = Vec::new();
            rows(&report_rows, &Screen::plain(width), &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            for line in text.lines() {
                assert!(
                    line.chars().count() <= usize::from(width),
                    "{width}: {line}"
                );
            }
            assert_eq!(text.lines().count(), 4, "{text}");
            assert!(text.contains("step 2: upload_concurrency 256"), "{text}");
            assert_eq!(text.contains("unknown"), width == 160, "{text}");
        }
    }
}
