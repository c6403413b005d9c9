//! The result of a sweep as one HTML page that needs no explanation: what was found, on what, what to
//! change, and how each figure is to be read. No script, nothing from elsewhere.

use super::facts::{DailyLimit, Row};
use super::files::Report;
use super::knobs::{Knob, Point};
use super::plot::{Mark, Plot, Series, bar, figure, legend, lines};
use crate::report::html::{STYLE, add, escaped};
use crate::report::words;

mod reading;
mod tables;

const OWN_STYLE: &str = include_str!("bench.css");

/// Writes the page.
pub fn page(report: &Report) -> String {
    let mut text = String::new();
    let title = "How fast pagemill is here";
    add(
        &mut text,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>{title}</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<main>"
        ),
    );
    let headline = escaped(&report.headline);
    add(
        &mut text,
        format_args!("<header>\n<h1>{title}</h1>\n<p class=\"summary\">{headline}</p>"),
    );
    add_about(&mut text, report);
    add(&mut text, format_args!("</header>"));
    add_suggestions(&mut text, report);
    add_day(&mut text, report);
    add_plots(&mut text, report);
    if let Some(base) = report.rows.first() {
        add_processor(&mut text, base);
        tables::add_waits(&mut text, base);
        tables::add_database(&mut text, base);
    }
    tables::add_rows(&mut text, report);
    reading::add_reading(&mut text, report);
    add(&mut text, format_args!("</main>\n</body>\n</html>"));
    text
}

fn add_about(text: &mut String, report: &Report) {
    let machine = &report.machine;
    let processor = machine.processor.as_deref().unwrap_or("unknown processor");
    let cores = machine.cores;
    let against = if report.is_live {
        "the real service"
    } else {
        "the built-in emulator, on the same machine and beside whatever else ran on it"
    };
    let measured: usize = report.rows.iter().map(|row| row.rates.len()).sum();
    let mut facts = vec![
        ("measured at", report.made_at.clone()),
        (
            "machine",
            format!("{processor}, {cores} processors to use, {}", machine.system),
        ),
        ("folder", machine.folder.clone()),
        (
            "what",
            format!(
                "{} points, {measured} runs of {} pages each, against {against}",
                report.rows.len(),
                words::count(report.pages_per_run)
            ),
        ),
        ("the base", of_point(&report.base)),
        ("program", format!("pagemill {}", report.program_version)),
    ];
    if !machine.is_optimized {
        let slow = "this program was built without optimization: it is many times slower than one that \
                    was built with cargo build --release";
        facts.push(("mind", slow.to_owned()));
    }
    if !report.is_whole {
        let planned = report.planned_runs;
        let cut = format!("stopped before all of the {planned} planned runs were measured");
        facts.push(("mind", cut));
    }
    add(text, format_args!("<dl class=\"about\">"));
    for (name, value) in facts {
        let value = escaped(&value);
        add(
            text,
            format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"),
        );
    }
    add(text, format_args!("</dl>"));
}

fn of_point(point: &Point) -> String {
    let values = Knob::ALL.map(|knob| format!("{} {}", knob.as_str(), knob.shown(point.get(knob))));
    values.join(", ")
}

fn open(text: &mut String, id: &str, title: &str) {
    let title = escaped(title);
    add(
        text,
        format_args!("<section id=\"{id}\">\n<h2>{title}</h2>"),
    );
}

fn note(text: &mut String, words: &str) {
    let words = escaped(words);
    add(text, format_args!("<p class=\"note\">{words}</p>"));
}

fn close(text: &mut String) {
    add(text, format_args!("</section>"));
}

fn add_suggestions(text: &mut String, report: &Report) {
    open(text, "settings", "The settings to change first");
    if let Some(base) = report.rows.first() {
        let words = format!(
            "What limits a run with the settings as they are: {}.",
            base.limit_reason
        );
        add(text, format_args!("<p>{}</p>", escaped(&words)));
        let hours = report.expectation.turnaround_hours;
        let order = format!(
            "Two things are told apart: how many pages a day the settings let through when a job takes {hours} h, \
             and how many pages a second this machine does in a run. What lifts the first comes first."
        );
        note(text, &order);
    }
    add(text, format_args!("<ol class=\"first\">"));
    for suggestion in &report.suggestions {
        let (from, to) = (
            suggestion.shown(suggestion.from),
            suggestion.shown(suggestion.to),
        );
        let (because, mind) = (escaped(&suggestion.because), escaped(suggestion.mind));
        let setting = suggestion.setting;
        add(
            text,
            format_args!("<li><b>{setting}: {from} → {to}</b><span>{because}</span>"),
        );
        if !mind.is_empty() {
            add(
                text,
                format_args!("<span class=\"note\">Mind: {mind}.</span>"),
            );
        }
        add(text, format_args!("</li>"));
    }
    add(text, format_args!("</ol>"));
    let noise = report.noise * 100.0;
    let rest = match report.suggestions.len() {
        0 => "Leave every setting as it is",
        _ => "Leave the others as they are",
    };
    let why = format!(
        "{rest}: nothing else that was tried helped by more than the noise of {noise:.0} %, which is how \
         far runs of one and the same thing were apart. Each suggestion counts on the ones before it."
    );
    note(text, &why);
    close(text);
}

fn add_day(text: &mut String, report: &Report) {
    open(text, "day", "Pages a day to expect");
    let limits = &report.expectation.limits;
    if let Some(first) = limits.first() {
        let pages = words::count(first.pages_per_day);
        let words = format!(
            "At most {pages} pages a day; the limit is: {}.",
            first.limit
        );
        add(text, format_args!("<p>{}</p>", escaped(&words)));
    }
    add(
        text,
        format_args!(
            "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">limit</th>\
             <th scope=\"col\" class=\"number\">pages a day</th><th scope=\"col\">it follows from</th></tr>\
             </thead>\n<tbody>"
        ),
    );
    for (place, limit) in limits.iter().enumerate() {
        let DailyLimit {
            limit,
            pages_per_day,
            from,
        } = limit;
        let (class, binds) = match place {
            0 => (" class=\"binds\"", " (binds)"),
            _ => ("", ""),
        };
        let (pages, from) = (words::count(*pages_per_day), escaped(from));
        add(
            text,
            format_args!(
                "<tr{class}><td>{limit}{binds}</td><td class=\"number\">{pages}</td>\
                 <td class=\"wide\">{from}</td></tr>"
            ),
        );
    }
    add(text, format_args!("</tbody></table></div>"));
    for words in &report.expectation.notes {
        note(text, words);
    }
    close(text);
}

fn add_plots(text: &mut String, report: &Report) {
    let plots: Vec<(Knob, Plot)> = Knob::ALL
        .into_iter()
        .filter_map(|knob| Some((knob, plot(report, knob)?)))
        .collect();
    if plots.is_empty() {
        return;
    }
    open(text, "plots", "Pages a second against each setting");
    note(
        text,
        "A hollow dot is the base of its line; each other dot differs from it in this one value. A broad \
         stroke behind a dot spans the least and the most of several runs.",
    );
    add(text, format_args!("<div class=\"plots\">"));
    for (knob, plot) in plots {
        let names: Vec<String> = plot
            .series
            .iter()
            .map(|series| series.name.clone())
            .collect();
        let (name, drawn, legend) = (knob.as_str(), lines(&plot), legend(&names));
        add(
            text,
            format_args!(
                "<figure id=\"plot-{name}\">\n<h3>{name}</h3>\n{drawn}\n{legend}</figure>"
            ),
        );
    }
    add(text, format_args!("</div>"));
    close(text);
}

/// The rows that differ from the base of their step in one knob alone, step by step.
fn plot(report: &Report, knob: Knob) -> Option<Plot> {
    let of_knob: Vec<&Row> = report
        .rows
        .iter()
        .filter(|row| row.varied == Some(knob))
        .collect();
    let steps = of_knob.iter().map(|row| row.step).max()?;
    let mut values: Vec<u64> = of_knob.iter().map(|row| row.point.get(knob)).collect();
    values.extend(bases(report).iter().map(|base| base.point.get(knob)));
    // No limit at all is more than any limit.
    let unlimited = knob == Knob::UploadsPerSecond;
    values.sort_by_key(|value| {
        if unlimited && *value == 0 {
            u64::MAX
        } else {
            *value
        }
    });
    values.dedup();
    let place = |row: &Row| {
        values
            .iter()
            .position(|value| *value == row.point.get(knob))
    };
    let mut series = Vec::new();
    for (step, base) in (0..=steps).zip(bases(report)) {
        let rows = of_knob.iter().copied().filter(|row| row.step == step);
        let mut marks: Vec<Mark> = rows
            .filter_map(|row| mark(row, place(row)?, false))
            .collect();
        if marks.is_empty() {
            continue;
        }
        marks.extend(place(base).and_then(|place| mark(base, place, true)));
        marks.sort_by_key(|mark| mark.place);
        let name = match step {
            0 => "around the settings as they are".to_owned(),
            _ => format!("around {}", differences(&report.base, &base.point)),
        };
        series.push(Series { name, marks });
    }
    Some(Plot {
        across: knob.label().to_owned(),
        up: "pages/s".to_owned(),
        places: values.iter().map(|value| knob.shown(*value)).collect(),
        series,
    })
}

/// The rows that the points of each step stand around, first to last.
fn bases(report: &Report) -> Vec<&Row> {
    let last = report.rows.iter().map(|row| row.step).max().unwrap_or(0);
    let mut bases: Vec<&Row> = report.rows.first().into_iter().collect();
    for step in 1..=last {
        // What the points of a step have in common but for what each varies.
        let common = report.rows.iter().find(|row| row.step == step);
        let base = common.and_then(|row| {
            let knob = row.varied?;
            let before = *bases.last()?;
            let point = row.point.with(knob, before.point.get(knob));
            report.rows.iter().find(|row| row.point == point)
        });
        bases.extend(base);
    }
    bases
}

fn differences(from: &Point, to: &Point) -> String {
    let differs = Knob::ALL
        .into_iter()
        .filter(|knob| from.get(*knob) != to.get(*knob));
    let named = differs.map(|knob| format!("{} {}", knob.as_str(), knob.shown(to.get(knob))));
    named.collect::<Vec<String>>().join(", ")
}

fn mark(row: &Row, place: usize, is_base: bool) -> Option<Mark> {
    let least = row.rates.iter().copied().reduce(f64::min)?;
    let most = row.rates.iter().copied().reduce(f64::max)?;
    Some(Mark {
        place,
        value: row.rate(),
        span: (least, most),
        is_base,
    })
}

fn add_processor(text: &mut String, base: &Row) {
    open(text, "processor", "Processor time of a page, by stage");
    let figures = &base.figures;
    let parts: Vec<(String, f64)> = figures
        .cpu
        .parts()
        .into_iter()
        .map(|(name, seconds)| (name, figures.per_page_ms(seconds)))
        .collect();
    let total = figures.per_page_ms(figures.cpu.total);
    let words = format!("{} ms in all, at the base.", figure(total));
    add(text, format_args!("<p>{words}</p>\n<figure>"));
    add(
        text,
        format_args!(
            "{}",
            bar(&parts, "Processor time of a page by stage, in ms")
        ),
    );
    let named: Vec<String> = parts
        .iter()
        .map(|(name, ms)| format!("{name} {} ms", figure(ms.max(0.0))))
        .collect();
    add(text, format_args!("{}</figure>", legend(&named)));
    let thread = figures.cpu.actor_thread * 100.0 / figures.wall_seconds.max(f64::EPSILON);
    note(
        text,
        &format!(
            "The one thread that all stages share was at work for {thread:.0} % of the time. What a stage \
             hands to other threads (files, images, judging) is counted for the stage."
        ),
    );
    close(text);
}

/// What a point differs in, in a word or two.
pub fn row_name(row: &Row) -> String {
    let what = match row.varied {
        Some(knob) => format!("{} {}", knob.as_str(), knob.shown(row.point.get(knob))),
        None if row.step == 0 => "base".to_owned(),
        None => "several".to_owned(),
    };
    match row.step {
        0 => what,
        step => format!("step {step}: {what}"),
    }
}
