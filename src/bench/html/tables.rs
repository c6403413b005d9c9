//! The tables of the page: where pages wait, what the database does, every point.

use super::super::facts::Row;
use super::super::files::Report;
use super::super::plot::figure;
use super::{add, close, escaped, note, open, row_name};
use crate::report::words;

/// A table of texts, the first column left and the others right.
fn add_table(text: &mut String, columns: &[&str], rows: &[Vec<String>]) {
    let class = |place: usize| if place == 0 { "" } else { " class=\"number\"" };
    add(
        text,
        format_args!("<div class=\"scroll\"><table>\n<thead><tr>"),
    );
    for (place, column) in columns.iter().enumerate() {
        let (class, column) = (class(place), escaped(column));
        add(text, format_args!("<th scope=\"col\"{class}>{column}</th>"));
    }
    add(text, format_args!("</tr></thead>\n<tbody>"));
    for row in rows {
        add(text, format_args!("<tr>"));
        for (place, cell) in row.iter().enumerate() {
            let (class, cell) = (class(place), escaped(cell));
            add(text, format_args!("<td{class}>{cell}</td>"));
        }
        add(text, format_args!("</tr>"));
    }
    add(text, format_args!("</tbody></table></div>"));
}

pub(super) fn add_waits(text: &mut String, base: &Row) {
    open(text, "waits", "Where pages wait, at the base");
    let figures = &base.figures;
    let stages: Vec<Vec<String>> = figures
        .stages
        .iter()
        .map(|stage| {
            vec![
                stage.stage.clone(),
                figure(stage.depth_mean),
                words::count(stage.depth_max),
                format!("{:.3}", stage.wait_mean_seconds),
                format!("{:.3}", stage.wait_p95_seconds),
            ]
        })
        .collect();
    let columns = [
        "stage",
        "pages, mean",
        "most",
        "wait, mean s",
        "95 % within s",
    ];
    add_table(text, &columns, &stages);
    note(
        text,
        "And what happens in them: how many at once, how long one takes, how often it is full.",
    );
    let wall = figures.wall_seconds.max(f64::EPSILON);
    let spots: Vec<Vec<String>> = figures
        .spots
        .iter()
        .map(|spot| {
            let full = spot.limit.map(|_limit| spot.full_seconds * 100.0 / wall);
            vec![
                spot.spot.clone(),
                words::count(spot.stays),
                spot.limit.map_or_else(|| "-".to_owned(), words::count),
                words::count(spot.most),
                figure(spot.mean_ms()),
                format!("{:.0} %", spot.busy_seconds * 100.0 / wall),
                full.map_or_else(|| "-".to_owned(), |full| format!("{full:.0} %")),
            ]
        })
        .collect();
    let columns = [
        "spot",
        "stays",
        "limit",
        "most at once",
        "mean ms",
        "in use",
        "full",
    ];
    add_table(text, &columns, &spots);
    close(text);
}

/// Kinds of messages that are shown.
const ASKED_MAX: usize = 8;

pub(super) fn add_database(text: &mut String, base: &Row) {
    open(text, "database", "The database, at the base");
    let figures = &base.figures;
    let database = &figures.database;
    let wall = figures.wall_seconds.max(f64::EPSILON);
    let messages = database.messages_committed as f64 / database.commits.max(1) as f64;
    let rows = figures.rows_per_commit();
    let facts = [
        ("commits/s", figure(figures.commits_per_second())),
        (
            "rows a commit",
            rows.map_or_else(|| "unknown".to_owned(), figure),
        ),
        ("messages a commit", figure(messages)),
        (
            "in a transaction",
            format!("{:.0} %", database.busy_seconds * 100.0 / wall),
        ),
        (
            "of it in commits",
            format!("{:.0} %", database.committing_seconds * 100.0 / wall),
        ),
        ("queue, most", words::count(database.queue_max)),
        (
            "wait of a message",
            format!("{} ms", figure(database.waited_mean_ms)),
        ),
    ];
    add(text, format_args!("<dl class=\"figures\">"));
    for (name, value) in facts {
        let value = escaped(&value);
        add(
            text,
            format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"),
        );
    }
    add(text, format_args!("</dl>"));
    let asked: Vec<Vec<String>> = database
        .asked
        .iter()
        .take(ASKED_MAX)
        .map(|asked| {
            let each = asked.seconds * 1_000.0 / asked.messages.max(1) as f64;
            let share = asked.seconds * 100.0 / wall;
            vec![
                asked.message.clone(),
                words::count(asked.messages),
                figure(each),
                format!("{share:.1} %"),
            ]
        })
        .collect();
    add_table(text, &["message", "times", "mean ms", "of the run"], &asked);
    close(text);
}

pub(super) fn add_rows(text: &mut String, report: &Report) {
    open(text, "points", "Every point");
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let figures = &row.figures;
            let unknown = || "unknown".to_owned();
            vec![
                row_name(row),
                figure(row.rate()),
                figure(figures.megabytes_per_second()),
                figure(figures.per_page_ms(figures.cpu.total)),
                figure(figures.commits_per_second()),
                figures.rows_per_commit().map_or_else(unknown, figure),
                figures.peak_memory_bytes.map_or_else(unknown, words::bytes),
                format!("{} {:.0} %", row.limit, row.limit_share * 100.0),
            ]
        })
        .collect();
    let columns = [
        "point",
        "pages/s",
        "MB/s",
        "CPU ms/page",
        "commits/s",
        "rows/commit",
        "peak memory",
        "limit",
    ];
    add_table(text, &columns, &rows);
    close(text);
}
