//! All forms of a report show the same figures, and nothing in a report is more than text.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{Body, Document, Value};
use super::facts::{Facts, document, standing, summary};
use super::{Format, render};
use crate::domain::attempt::{Tally, Tokens};
use crate::domain::batch::BatchStage;
use crate::domain::failure::ErrorType;
use crate::domain::figures::*;
use crate::domain::ids::{RecipeHash, RecordKey};
use crate::domain::page::PageStage;
use crate::domain::period::{Day, Parts, Period, PeriodKind, Zone};
use crate::domain::time::Timestamp;

fn sums(scale: u64) -> Sums {
    Sums {
        batches: scale,
        tally: Tally {
            submitted: 1_010 * scale,
            succeeded: 900 * scale,
            failed: 70 * scale,
            missing: 20 * scale,
            released: 15 * scale,
            open: 5 * scale,
        },
        tokens: Tokens {
            prompt: Some(1_500_000 * scale),
            cached: None,
            candidates: Some(400_000 * scale),
            thoughts: Some(7 * scale),
            total: Some(1_900_007 * scale),
        },
        cost_nanos: 1_234_567_891 * scale,
    }
}

fn failed(key: &str, error: ErrorType, message: &str, stage: PageStage) -> FailedPage {
    FailedPage {
        key: RecordKey::from(key),
        error,
        message: message.to_owned(),
        failures: 2,
        stage: Some(stage),
    }
}

/// Facts in which no two figures are alike by accident, with every text that could do harm.
fn facts() -> Facts {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let day = Day::parse("2025-03-30").unwrap();
    let period = Period::of(PeriodKind::Day, day, zone.clone());
    let parts = Parts::of(period.stretch(), &zone);
    let by_part = (0..parts.parts.len() as u64).map(sums).collect();
    Facts {
        title: "Day 2025-03-30".to_owned(),
        about: vec![("zone", "Europe/Berlin".to_owned())],
        zone,
        made_at: Timestamp::parse("2025-03-31T08:00:00Z").unwrap(),
        level: Some("state".to_owned()),
        max_retries: 3,
        figures: Figures {
            sums: sums(253),
            pages: vec![(PageStage::Completed, 41), (PageStage::Dead, 3)],
            errors: vec![ErrorCount {
                error: ErrorType::Validation,
                counted: 17,
                uncounted: 4,
            }],
            failed: vec![
                failed(
                    "<script>alert(1)</script>:a|b:1849:4",
                    ErrorType::Validation,
                    "not \"what\" it should be\r\n\\| [x](http://evil.example) & <b>",
                    PageStage::Discovered,
                ),
                failed(
                    "=1+1,\"x\":7",
                    ErrorType::ContentFiltered,
                    "no, thank you",
                    PageStage::Dead,
                ),
            ],
            failed_total: 1_002,
            failed_dead: 100,
            failed_done: 300,
            batches: vec![(BatchStage::Settled, 250), (BatchStage::Abandoned, 3)],
            took: Took {
                ended: 251,
                shortest: Some(Duration::from_secs(61)),
                half: Some(Duration::from_secs(4_000)),
                nine_tenths: Some(Duration::from_secs(90_000)),
                longest: None,
            },
            parts,
            by_part,
            by_level: vec![
                ("Ohio & <i>".to_owned(), sums(200)),
                ("Utah".to_owned(), sums(53)),
            ],
            by_recipe: vec![RecipeSums {
                recipe: RecipeHash::from("0123456789abcdef"),
                prompt_name: "page_ocr".to_owned(),
                model: "gemini".to_owned(),
                sums: sums(253),
            }],
            by_try: vec![(1, sums(250)), (TRIES_APART, sums(3))],
            images: Carried {
                files: 8,
                bytes: 3_000_000,
            },
            lines: Carried {
                files: 2,
                bytes: 900,
            },
            results: Carried {
                files: 2,
                bytes: 70_000,
            },
            late: LateSums {
                answers: 12,
                accepted: 9,
                paid_twice: 3,
            },
        },
    }
}

/// Section, row and figure of a value.
type Place = (String, String, String);

/// What a form that people read must show for each value.
fn shown(document: &Document) -> Vec<(Place, String)> {
    values(document, |value| value.shown())
}

fn values(document: &Document, of: impl Fn(&Value) -> String) -> Vec<(Place, String)> {
    let mut found = Vec::new();
    for section in &document.sections {
        let name = section.name.to_owned();
        match &section.body {
            Body::Figures(figures) => {
                for figure in figures {
                    let place = (name.clone(), String::new(), figure.name.to_owned());
                    found.push((place, of(&figure.value)));
                }
            }
            Body::Table(table) => {
                for row in &table.rows {
                    for ((column, _), value) in table.columns.iter().zip(row).skip(1) {
                        let place = (name.clone(), row[0].plain(), (*column).to_owned());
                        found.push((place, of(value)));
                    }
                }
            }
        }
    }
    found
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// The values of the Markdown form, table by table: headings lead to sections by their titles.
fn from_markdown(text: &str, document: &Document) -> Vec<(Place, String)> {
    let mut found = Vec::new();
    let mut section = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = document
                .sections
                .iter()
                .find(|one| one.title == unescaped(title));
            continue;
        }
        let (Some(section), Some(row)) = (section, line.strip_prefix("| ")) else {
            continue;
        };
        let row = row.strip_suffix(" |").unwrap_or_default();
        // Bars of cells are escaped, and so are backslashes.
        let row = row.replace("\\\\", "\u{1}").replace("\\|", "\u{2}");
        let cells: Vec<String> = row
            .split(" | ")
            .map(|cell| cell.replace('\u{1}', "\\").replace('\u{2}', "|"))
            .map(|cell| unescaped(&cell.replace("\\[", "[").replace("\\]", "]")))
            .collect();
        let name = section.name.to_owned();
        match &section.body {
            Body::Figures(figures) => {
                let figure = figures.iter().find(|figure| figure.label == cells[0]);
                let figure = figure.map(|figure| figure.name.to_owned());
                found
                    .extend(figure.map(|figure| ((name, String::new(), figure), cells[1].clone())));
            }
            Body::Table(table) => {
                let is_heading = cells
                    .iter()
                    .zip(&table.columns)
                    .all(|(cell, (_, label))| cell == label);
                for ((column, _), cell) in table.columns.iter().zip(&cells).skip(1) {
                    let place = (name.clone(), cells[0].clone(), (*column).to_owned());
                    if !is_heading {
                        found.push((place, cell.clone()));
                    }
                }
            }
        }
    }
    found
}

/// The values of the HTML form, by their marks.
fn from_html(text: &str) -> Vec<(Place, String)> {
    let mut found = Vec::new();
    let (mut section, mut row) = (String::new(), None);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("<section id=\"") {
            section = rest.split('"').next().unwrap().to_owned();
        }
        if line.starts_with("<tr") {
            row = None;
        }
        let Some((_, rest)) = line.split_once("data-figure=\"") else {
            continue;
        };
        let (figure, rest) = rest.split_once('"').unwrap();
        let (_, rest) = rest.split_once('>').unwrap();
        let (value, _) = rest
            .split_once("</d")
            .or(rest.split_once("</td"))
            .unwrap_or((rest, ""));
        let value = unescaped(value.split("</td").next().unwrap());
        if !line.starts_with("<td") {
            found.push(((section.clone(), String::new(), figure.to_owned()), value));
        } else if let Some(row) = &row {
            found.push((
                (section.clone(), String::clone(row), figure.to_owned()),
                value,
            ));
        } else {
            row = Some(value);
        }
    }
    found
}

fn from_csv(text: &str) -> Vec<(Place, String)> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let lines = reader.records().map(|line| line.unwrap());
    lines
        .filter(|line| &line[0] != "report")
        .map(|line| {
            let place = (line[0].to_owned(), line[1].to_owned(), line[2].to_owned());
            (place, line[3].to_owned())
        })
        .collect()
}

fn from_json(text: &str) -> Vec<(Place, String)> {
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["version"], 1);
    let plain = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        // Money without a fraction.
        number => number.to_string().trim_end_matches(".0").to_owned(),
    };
    let mut found = Vec::new();
    for (section, body) in json["sections"].as_object().unwrap() {
        if let Some(figures) = body.as_object() {
            for (figure, value) in figures {
                found.push((
                    (section.clone(), String::new(), figure.clone()),
                    plain(value),
                ));
            }
        }
        for row in body.as_array().into_iter().flatten() {
            let row = row.as_object().unwrap();
            let name = plain(row.values().next().unwrap());
            for (figure, value) in row.iter().skip(1) {
                found.push((
                    (section.clone(), name.clone(), figure.clone()),
                    plain(value),
                ));
            }
        }
    }
    found
}

fn compare(what: &str, found: Vec<(Place, String)>, expected: Vec<(Place, String)>) {
    let tidy = |text: String| text.replace(['\r', '\n'], " ").replace('`', "'");
    let map = |list: Vec<(Place, String)>| -> BTreeMap<Place, String> {
        let list = list.into_iter();
        list.map(|((a, b, c), value)| ((a, tidy(b), c), tidy(value)))
            .collect()
    };
    let (found, expected) = (map(found), map(expected));
    assert!(
        expected.len() > 200,
        "{} values are too few",
        expected.len()
    );
    assert_eq!(found, expected, "{what}");
}

#[test]
fn s2_41_all_forms_show_the_same_figures() {
    let document = document(&facts());
    let plain = || values(&document, Value::plain);
    compare("csv", from_csv(&render(&document, Format::Csv)), plain());
    compare("json", from_json(&render(&document, Format::Json)), plain());
    let html = render(&document, Format::Html);
    compare("html", from_html(&html), shown(&document));
    let markdown = render(&document, Format::Markdown);
    compare("md", from_markdown(&markdown, &document), shown(&document));
    for text in [html, markdown, render(&document, Format::Json)] {
        assert!(text.contains("Processed 250,470 records: 227,700 succeeded, 22,770 failed."));
    }
}

#[test]
fn s2_36_a_page_of_html_is_whole_and_runs_nothing() {
    let html = render(&document(&facts()), Format::Html);
    for harm in [
        "<script",
        "<b>",
        "<i>",
        "http://evil.example\"",
        "href=",
        "src=",
        "url(",
        "@import",
    ] {
        assert!(!html.contains(harm), "{harm}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;:a|b:1849:4"));
    assert!(html.contains("default-src 'none'"));
    assert!(html.contains("width=device-width"));
    assert!(html.contains("prefers-color-scheme: dark"));
    assert!(html.contains("@media print"));
    // What is opened is closed.
    for tag in [
        "section", "table", "figure", "svg", "dl", "div", "tr", "td", "th", "main", "g",
    ] {
        let opened =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_cell_of_markdown_is_text_and_nothing_else() {
    let check = |text: &str, expected: &str| assert_eq!(super::markdown::cell(text), expected);
    check("a|b", "a\\|b");
    check("a\\|b", "a\\\\\\|b");
    check("![x](http://y)", "!\\[x\\](http://y)");
    check("<img>`\n", "&lt;img>' ");
}

#[test]
fn s4_17_the_parts_of_a_report_add_up() {
    let document = document(&facts());
    let outcomes: BTreeMap<String, u64> = values(&document, Value::plain)
        .into_iter()
        .filter(|((section, _, _), _)| section == "outcomes")
        .map(|((_, _, figure), value)| (figure, value.parse().unwrap()))
        .collect();
    let parts = ["succeeded", "failed", "missing", "released", "open"];
    let sum: u64 = parts.iter().map(|part| outcomes[*part]).sum();
    assert_eq!(sum, outcomes["requests"]);
}

#[test]
fn the_sentence_at_the_top_names_what_has_no_verdict_only_if_there_is_any() {
    assert_eq!(
        summary(&Sums::default()),
        "Processed 0 records: 0 succeeded, 0 failed."
    );
    let mut one = Sums::default();
    one.tally.succeeded = 1;
    one.tally.open = 2;
    assert_eq!(
        summary(&one),
        "Processed 1 record: 1 succeeded, 0 failed. Beside them 2 still open."
    );
}

#[test]
fn s1_28_a_failed_page_says_what_becomes_of_it() {
    let check = |failures, stage, expected: &str| {
        let page = FailedPage {
            failures,
            stage,
            ..failed("k:1", ErrorType::Validation, "", PageStage::Dead)
        };
        assert_eq!(standing(&page, 3), expected);
    };
    check(2, Some(PageStage::Discovered), "retry 2 of 3");
    check(4, Some(PageStage::Dead), "maxed");
    check(1, Some(PageStage::Dead), "not sent again");
    check(0, Some(PageStage::Discovered), "runs again");
    check(1, Some(PageStage::Completed), "done since");
    check(1, None, "no longer known");
}
