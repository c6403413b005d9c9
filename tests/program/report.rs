//! `pagemill report`: the same figures in every form, equal to what SQL counts.

use std::fs;

use serde_json::Value;

use crate::kit::{World, WorldOptions};

/// Three books of four pages, of which one page is always refused and one fails once.
fn finished() -> World {
    let world = World::new(&WorldOptions {
        books: 3,
        pages: 4,
        faults: "pages:\n\
                 - {key: 'S1:School 1:1850:2', kind: safety}\n\
                 - {key: 'S0:School 0:1849:1', kind: invalid_schema, times: 1}\n",
        settings: &[
            ("execution.context", "none"),
            ("execution.max_retries", "1"),
            ("execution.batch_size_limit", "5"),
            ("breaker.pilot_pages", "0"),
        ],
        ..WorldOptions::default()
    });
    world.run_to(3, &["run"]);
    world
}

#[test]
fn s3_18_a_report_tells_what_the_tables_hold_in_every_form() {
    let world = finished();
    let json = world.run_to(0, &["report", "--format", "json"]).json();
    assert_eq!(json["version"], 1);
    let outcomes = &json["sections"]["outcomes"];
    let count = |sql: &str| Value::from(world.number(sql));
    let requests = count("SELECT count(*) FROM attempts");
    assert_eq!(outcomes["requests"], requests);
    let accepted = "SELECT count(*) FROM attempts WHERE outcome = 'accepted'";
    assert_eq!(outcomes["succeeded"], count(accepted));
    let tokens = count("SELECT sum(tokens_total) FROM attempts");
    assert_eq!(json["sections"]["tokens"]["total"], tokens);
    let cost = world.number("SELECT sum(cost_nanos) FROM attempts") as f64 / 1e9;
    assert_eq!(json["sections"]["cost"]["cost"], Value::from(cost));
    let bytes = "SELECT sum(bytes) FROM remote_files WHERE purpose = 'image'";
    assert_eq!(json["sections"]["transfer"][0]["bytes"], count(bytes));
    let refused = &json["sections"]["refused_pages"][0];
    assert_eq!(refused["page"], "S1:School 1:1850:2");
    assert_eq!(refused["error"], "ContentFiltered");
    assert_eq!(refused["standing"], "maxed");
    let failed = &json["sections"]["failed_pages"][0];
    assert_eq!(failed["page"], "S0:School 0:1849:1");
    assert_eq!(failed["standing"], "done since");

    // Today and this week are all there is; days add up to the whole in any zone.
    let sections = |arguments: &[&str]| {
        let arguments = [&["report", "--format", "json"], arguments].concat();
        world.run_to(0, &arguments).json()["sections"].clone()
    };
    for arguments in [&["--period", "day"][..], &["--period", "week"]] {
        assert_eq!(sections(arguments)["outcomes"], *outcomes);
    }
    let never = sections(&[
        "--period",
        "day",
        "--date",
        "2001-01-23",
        "--zone",
        "Asia/Tokyo",
    ]);
    assert_eq!(never["outcomes"]["requests"], 0);

    let summary = json["summary"].as_str().unwrap();
    let markdown = world.run_to(0, &["report"]);
    markdown.assert_says(&[summary, "## Failed pages", "| maxed |"]);
    let html = world.root().join("report.html");
    let written = world.run_to(0, &["report", "--format", "html", "--out", "report.html"]);
    assert_eq!(written.out, "");
    let html = fs::read_to_string(html).unwrap();
    assert!(
        html.contains(summary) && html.ends_with("</html>\n"),
        "{html}"
    );
    let folder = world.run_to(1, &["report", "--out", "."]);
    folder.assert_says(&["it is a folder; name a file in it"]);
    let csv = world.run_to(0, &["report", "--format", "csv"]).out;
    assert!(
        csv.starts_with("section,row,figure,value,unit\r\n"),
        "{csv}"
    );
    assert!(
        csv.contains(&format!("outcomes,,requests,{requests},\r\n")),
        "{csv}"
    );
}

#[test]
fn a_batch_and_a_run_are_named_by_the_beginning_of_their_id() {
    let world = finished();
    let batches = world.rows("SELECT batch_id, count_submitted FROM submissions ORDER BY 1");
    let sections = |what: &str, id: &str| {
        world
            .run_to(0, &["report", "--format", "json", what, id])
            .json()["sections"]
            .clone()
    };
    let mut sum = 0;
    for batch in &batches {
        let requests = &sections("--batch", &batch[0])["outcomes"]["requests"];
        assert_eq!(requests.to_string(), batch[1]);
        sum += requests.as_i64().unwrap();
    }
    let run = world.rows("SELECT run_id FROM runs")[0][0].clone();
    assert_eq!(sections("--run", &run[..10])["outcomes"]["requests"], sum);

    let several = world.run_to(1, &["report", "--batch", &batches[0][0][..4]]);
    several.assert_says(&["may be several batch ids; write more of it"]);
    let none = world.run_to(1, &["report", "--run", "%"]);
    none.assert_says(&["there is no run '%'"]);
}

#[test]
fn wrong_use_of_report_is_answered_with_what_to_type() {
    let world = World::new(&WorldOptions::default());
    for (arguments, says) in [
        (&["--date", "2025-01-23"][..], "--period"),
        (
            &["--period", "day", "--date", "23.1.2025"],
            "write it like 2025-01-23",
        ),
        (
            &["--period", "day", "--zone", "Berlin"],
            "such as Europe/Berlin",
        ),
        (&["--period", "day", "--batch", "x"], "cannot be used with"),
        (
            &["--format", "pdf"],
            "[possible values: md, html, json, csv]",
        ),
    ] {
        let arguments = [&["report"], arguments].concat();
        world.run_to(2, &arguments).assert_says(&[says]);
    }
    world
        .run_to(1, &["report"])
        .assert_says(&["there is no database", "run the pipeline first"]);
}
