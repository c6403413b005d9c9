//! What is made of figures: rows, the next step of a sweep, the table and the page.

use std::collections::BTreeMap;

use super::facts::{self, Row};
use super::files::{Machine, PROGRAM, Report, table};
use super::html;
use super::knobs::{Knob, Point};
use super::measured::{Cpu, Measured, SpotFigures, StageCpu};
use super::plan::{PlannedPoint, SweepPlan};
use super::sweep::{Findings, next_step, unsure};

pub fn base() -> Point {
    Point {
        upload_concurrency: 16,
        uploads_per_second: 50,
        batch_size: 100,
        live_batches: 10,
        image_kb: 200,
        latency_ms: 500,
        error_permille: 0,
    }
}

/// A run of a hundred pages that did so many a second, and stood before the gate most of the time.
fn run(pages_per_second: f64) -> Measured {
    let wall_seconds = 100.0 / pages_per_second;
    Measured {
        pages: 100,
        completed: 100,
        is_done: true,
        wall_seconds,
        image_bytes: 20_000_000,
        cores: 2,
        cpu: Cpu {
            total: 0.5,
            actor_thread: 0.2,
            stages: vec![StageCpu {
                stage: "uploader".to_owned(),
                actor: 0.1,
                pool: 0.2,
            }],
            database: Some(0.1),
            connections: 0.1,
            other: 0.0,
        },
        spots: vec![SpotFigures {
            spot: "upload rate gate".to_owned(),
            busy_seconds: wall_seconds * 0.9,
            ..SpotFigures::default()
        }],
        ..Measured::default()
    }
}

pub fn row(knob: Option<Knob>, value: u64, step: u32, rates: &[f64]) -> Row {
    let point = knob.map_or(base(), |knob| base().with(knob, value));
    let runs: Vec<Measured> = rates.iter().map(|rate| run(*rate)).collect();
    Row::new(point, knob, step, &runs).unwrap()
}

fn plan(values: &[(Knob, &[u64])]) -> SweepPlan {
    let values: BTreeMap<Knob, Vec<u64>> = values
        .iter()
        .map(|(knob, values)| (*knob, values.to_vec()))
        .collect();
    SweepPlan {
        points: vec![PlannedPoint {
            point: base(),
            varied: None,
        }],
        values,
        cross: false,
        pages: 100,
        repeat: 1,
        base_runs_min: 3,
        is_live: false,
    }
}

#[test]
fn a_row_shows_the_run_in_the_middle_and_names_its_limit() {
    let row = row(None, 0, 0, &[30.0, 50.0, 45.0]);
    assert_eq!(row.rate(), 45.0);
    assert!((row.figures.pages_per_second() - 45.0).abs() < 1e-9);
    assert_eq!((row.limit, row.limit_is_clear), ("upload rate", true));
    assert!(Row::new(base(), None, 0, &[]).is_none());
}

#[test]
fn a_sweep_goes_on_from_what_helped_most_and_stops_when_nothing_does() {
    let plan = plan(&[
        (Knob::UploadsPerSecond, &[0, 200]),
        (Knob::UploadConcurrency, &[64]),
        (Knob::LatencyMs, &[0]),
    ]);
    let mut findings = Findings::default();
    findings.rows.push(row(None, 0, 0, &[48.0, 50.0, 49.0]));
    findings
        .rows
        .push(row(Some(Knob::UploadsPerSecond), 0, 0, &[180.0]));
    findings
        .rows
        .push(row(Some(Knob::UploadsPerSecond), 200, 0, &[178.0]));
    findings
        .rows
        .push(row(Some(Knob::UploadConcurrency), 64, 0, &[60.0]));
    // The world is no setting, however much it helps.
    findings
        .rows
        .push(row(Some(Knob::LatencyMs), 0, 0, &[900.0]));
    // The best value was measured once, and one run proves nothing.
    assert_eq!(unsure(&plan, &findings), Some(2));
    let sure = row(Some(Knob::UploadsPerSecond), 200, 0, &[178.0, 181.0, 170.0]);
    findings.rows[2] = sure;
    assert_eq!(unsure(&plan, &findings), None);
    let (point, step) = next_step(&plan, &mut findings).unwrap();
    assert_eq!((point, step), (base().with(Knob::UploadsPerSecond, 200), 1));
    let tuned = &findings.tuned[0];
    assert_eq!(
        (tuned.setting, tuned.from, tuned.to),
        ("files.uploads_per_second", 50, 200)
    );
    assert_eq!((tuned.before, tuned.after), (49.0, 178.0));
    // Around the better value more places help no further.
    let mut further = row(Some(Knob::UploadConcurrency), 64, 1, &[181.0]);
    further.point = point.with(Knob::UploadConcurrency, 64);
    findings.rows.push(further);
    assert_eq!(next_step(&plan, &mut findings), None);
    assert_eq!(findings.tuned.len(), 1);
}

fn report(rows: Vec<Row>) -> Report {
    let terms = facts::terms(
        &crate::settings::load(crate::settings::Sources::default())
            .unwrap()
            .settings,
        &base(),
        &rows,
        std::time::Duration::from_secs(86_400),
    );
    Report {
        version: 1,
        program: PROGRAM,
        program_version: "0",
        made_at: "2026-01-01T00:00:00Z".to_owned(),
        machine: Machine {
            cores: 2,
            processor: Some("<b>fast & cheap</b>".to_owned()),
            system: "linux x86_64".to_owned(),
            folder: "/tuning".to_owned(),
            is_optimized: true,
        },
        is_live: false,
        pages_per_run: 100,
        planned_runs: 4,
        is_whole: false,
        base: base(),
        noise: facts::noise(&rows),
        headline: "a headline".to_owned(),
        suggestions: facts::suggestions(&terms, &[]),
        expectation: facts::expectation(&terms, true),
        rows,
    }
}

#[test]
fn the_table_has_a_row_a_point_and_every_column_in_each() {
    let rows = vec![
        row(None, 0, 0, &[50.0]),
        row(Some(Knob::ErrorRate), 50, 0, &[30.0]),
    ];
    let text = table(&report(rows)).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headings = reader.headers().unwrap().clone();
    let place = |name: &str| headings.iter().position(|heading| heading == name).unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(&records[0][place("pages_per_second")], "50.000");
    assert_eq!(&records[1][place("varied")], "error_rate");
    assert_eq!(&records[1][place("error_rate")], "0.05");
    assert_eq!(&records[0][place("cpu_ms_per_page")], "5.000");
    assert_eq!(&records[0][place("cpu_ms_per_page_uploader")], "3.000");
    // What is not known is empty, and never 0.
    assert_eq!(&records[0][place("peak_memory_bytes")], "");
    assert_eq!(&records[0][place("rows_per_commit")], "");
    assert_eq!(table(&report(vec![])).unwrap().trim(), "\"\"");
}

#[test]
fn the_page_tells_everything_and_nothing_breaks_out_of_its_text() {
    let rows = vec![
        row(None, 0, 0, &[50.0]),
        row(Some(Knob::UploadConcurrency), 64, 0, &[55.0]),
    ];
    let report = report(rows);
    assert!(!report.suggestions.is_empty());
    let page = html::page(&report);
    for suggestion in &report.suggestions {
        assert!(page.contains(suggestion.setting), "{}", suggestion.setting);
    }
    for limit in &report.expectation.limits {
        assert!(page.contains(limit.limit), "{}", limit.limit);
    }
    assert!(page.contains("&lt;b&gt;fast &amp; cheap&lt;/b&gt;"));
    assert!(page.contains("stopped before all of the 4 planned runs"));
    assert!(page.contains("id=\"plot-upload_concurrency\""));
    assert!(!page.contains("id=\"plot-image_kb\""), "it was not varied");
    // A page without a row is a page as well.
    assert!(html::page(&self::report(vec![])).contains("</html>"));
}
