//! The files in `config/` and the texts that are made of settings.

use std::fmt::Write as _;

use super::*;
use crate::decide::cost::{Date, cost_nanos};
use crate::domain::attempt::Tokens;
use crate::settings::keys::{Key, sections};
use crate::settings::table::KEYS;

const DEFAULT: &str = include_str!("../../../config/default.yaml");
const EXAMPLE: &str = include_str!("../../../config/example.yaml");
const STARTER: &str = include_str!("../../../config/starter/pagemill.yaml");

/// `config/default.yaml` as the list of settings would have it.
fn default_yaml() -> String {
    let mut text = "# Every setting with its default. Copy config/example.yaml, not this file.\n\
        # Precedence: flags, then PAGEMILL__SECTION__KEY, then the file, then these defaults.\n\
        # Relative paths are relative to the configuration file; null means the default.\n"
        .to_owned();
    for section in sections() {
        writeln!(text, "\n{section}:").unwrap();
        for Key {
            path, default, doc, ..
        } in KEYS
        {
            let Some(name) = path.strip_prefix(&format!("{section}.")) else {
                continue;
            };
            let default = if default.is_empty() { "null" } else { default };
            let (name, indent) = match name.split_once('.') {
                None => (name, "  "),
                Some((below, name)) => {
                    let heading = format!("  {below}:\n");
                    if !text.contains(&heading) {
                        text.push_str(&heading);
                    }
                    (name, "    ")
                }
            };
            writeln!(text, "{indent}# {doc}\n{indent}{name}: {default}").unwrap();
        }
    }
    text
}

#[test]
fn the_default_file_is_the_list_of_settings() {
    let expected = default_yaml();
    if std::env::var_os("PAGEMILL_UPDATE_DEFAULTS").is_some() {
        fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/config/default.yaml"),
            expected,
        )
        .unwrap();
        return;
    }
    assert!(
        DEFAULT == expected,
        "config/default.yaml differs from src/settings/table.rs; run this test with \
         PAGEMILL_UPDATE_DEFAULTS=1 and review the change"
    );
}

#[test]
fn the_default_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sources = || Sources {
        cwd: folder.path().into(),
        ..Sources::default()
    };
    let none = load(sources()).unwrap();
    fs::write(folder.path().join("pagemill.yaml"), DEFAULT).unwrap();
    let all = load(sources()).unwrap();
    assert_eq!(none.settings, all.settings);
    assert!(all.file.is_some());
}

#[test]
fn the_other_files_load_without_a_warning() {
    for text in [EXAMPLE, STARTER] {
        assert_eq!(Place::new(text).settings().warnings(), []);
    }
}

#[test]
fn defaults_are_what_they_are_promised_to_be() {
    let settings = Place::new("").settings();
    assert_eq!(settings.execution.batch_size_limit, 100);
    assert_eq!(settings.execution.max_concurrent_batches, 10);
    assert_eq!(settings.execution.context, Context::Chain);
    assert_eq!(settings.batch.poll_interval, Duration::from_secs(30));
    assert_eq!(settings.batch.bytes_max, 1 << 30);
    assert_eq!(settings.batch.tokens_max, None);
    assert_eq!(settings.batch.slow_warn, Duration::from_secs(24 * 3_600));
    assert_eq!(settings.files.uploads_per_second, 50);
    assert_eq!(settings.files.storage_budget_bytes, 18 << 30);
    assert_eq!(settings.files.min_life, Duration::from_secs(26 * 3_600));
    assert_eq!(settings.results.line_bytes_max, 64 << 20);
    assert_eq!(settings.api.version, "v1beta");
    assert_eq!(settings.shutdown_grace, Duration::from_secs(10));
    assert_eq!(
        settings.paths.layout.names(),
        ["state", "school", "year", "page"]
    );
}

#[test]
fn a_planted_key_appears_nowhere() {
    let key = "planted-AIza-0123456789";
    let yaml = format!(
        "log: {{level: 'x{key}'}}\nmodel: {{generation_config: {{seed: ['{key}']}}}}\n\
         filters: {{where: {{school: ['a {key} b']}}}}\npaths: {{output_dir: 'out/{key}'}}"
    );
    let faults = Place::new(&yaml).env("GEMINI_API_KEY", key).faults();
    for path in [
        "log.level",
        "model.generation_config",
        "filters.where",
        "paths.output_dir",
    ] {
        let fault = format!("{path}: holds the API key;");
        assert!(faults.contains(&fault), "{path}: {faults}");
    }
    assert!(!faults.contains(key), "{faults}");
    let number = Place::new("filters: {where: {school: [1234567890]}}");
    let faults = number.env("GEMINI_API_KEY", "1234567890").faults();
    assert!(faults.contains("holds the API key"), "{faults}");
    let short = Place::new("log: {level: debug}").env("GEMINI_API_KEY", "debug");
    assert_eq!(
        format!("{:?}", short.load().unwrap().settings.api_key),
        "Some(***)"
    );

    let clean = Place::new("").env("GEMINI_API_KEY", key).load().unwrap();
    assert!(!format!("{clean:?}").contains(key));
    let faulty = Place::new(&format!("execution: {{context: {key}}}\n{key}: 1"));
    let faults = faulty.env("GEMINI_API_KEY", key).faults();
    assert!(faults.contains("***") && !faults.contains(key), "{faults}");
}

#[test]
fn a_snapshot_can_be_read_again() {
    let yaml =
        "execution: {max_retries: 7}\nfilters: {where: {school: [A]}}\nbatch: {tokens_max: 5000}";
    let place = Place::new(yaml);
    let settings = place.settings();
    let snapshot = settings.snapshot_yaml();
    for key in KEYS {
        let name = key.path.rsplit_once('.').unwrap().1;
        assert!(
            snapshot.contains(&format!("  {name}:")),
            "{name} is not in\n{snapshot}"
        );
    }
    let again = place.file("pagemill.yaml", &snapshot);
    assert_eq!(again.settings().snapshot_yaml(), snapshot);
    assert_eq!(again.settings(), settings);
}

#[test]
fn the_schema_of_the_configuration_takes_our_files() {
    let schema = json_schema();
    let validator = crate::prompt::Validator::new(&schema).unwrap();
    for text in [DEFAULT, EXAMPLE, STARTER] {
        let document: serde_json::Value = serde_yaml::from_str(text).unwrap();
        assert_eq!(validator.check(&document), Ok(()));
    }
    for wrong in [
        "execution: {max_retries: 101}",
        "log: {format: xml}",
        "paths: {x: y}",
        "y: {}",
    ] {
        let document: serde_json::Value = serde_yaml::from_str(wrong).unwrap();
        assert!(validator.check(&document).is_err(), "{wrong}");
    }
    for key in KEYS {
        let pointer = format!(
            "/properties/{}/description",
            key.path.replace('.', "/properties/")
        );
        assert_eq!(
            schema.pointer(&pointer).and_then(|doc| doc.as_str()),
            Some(key.doc)
        );
    }
}

#[test]
fn what_may_cost_money_is_warned_of() {
    let warned = |yaml: &str, path: &str| {
        let warnings = Place::new(yaml).settings().warnings();
        assert!(
            warnings.iter().any(|warning| warning.path == path),
            "{yaml}: {warnings:?}"
        );
    };
    let config = "model.generation_config";
    warned("", &format!("{config}.thinkingConfig"));
    let small = "model: {generation_config: {max_output_tokens: 4095}}";
    warned(small, &format!("{config}.maxOutputTokens"));
    let none = "model: {generation_config: {max_output_tokens: null}}";
    warned(none, &format!("{config}.maxOutputTokens"));
    warned(
        "model: {generation_config: {temprature: 1}}",
        &format!("{config}.temprature"),
    );
    warned("api: {base_url: 'http://example.com'}", "api.base_url");
    let rehearsal = Place::new("api: {base_url: 'http://[::1]:8787'}")
        .settings()
        .warnings();
    assert!(
        rehearsal
            .iter()
            .all(|warning| warning.path != "api.base_url")
    );
}

fn check_price(model: &str, day: &str, expected_nanos: Option<u64>) {
    let table = prices::load(None).unwrap();
    let tokens = Tokens {
        prompt: Some(1_000),
        cached: Some(200),
        candidates: Some(50),
        thoughts: Some(50),
        total: None,
    };
    let price = table.price(model, Date::parse(day).unwrap());
    let cost = price.map(|price| cost_nanos(&price, &tokens));
    assert_eq!(cost, expected_nanos, "{model} on {day}");
}

#[test]
fn the_built_in_prices_are_read() {
    check_price(
        "gemini-3.8-flash",
        "2026-12-31",
        Some(300_000 + 7_500 + 187_500),
    );
    check_price("gemini-3.8-flash", "2027-01-01", Some(750_000 + 375_000));
    check_price(
        "gemini-3.1-pro-preview",
        "2026-11-01",
        Some(800_000 + 40_000 + 600_000),
    );
    check_price("gemini-4-argon", "2026-12-01", Some(2_000_000 + 1_000_000));
    check_price("gemini-2.5-flash-lite", "2026-11-01", Some(50_000 + 20_000));
    check_price("gemini-1.5-flash", "2026-11-01", None);
}

#[test]
fn a_price_list_is_checked() {
    let check = |yaml: &str, expected: &str| {
        let error = prices::parse(yaml).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("prices: [{model: a, input: 1}]", "missing field `output`");
    check(
        "prices: [{model: a, input: 1, output: 1, out: 2}]",
        "unknown field `out`",
    );
    check(
        "prices: [{model: a, input: -1, output: 1}]",
        "prices[0].input: -1 is not a price",
    );
    check(
        "prices: [{model: a, input: 1, output: .nan}]",
        "prices[0].output",
    );
    check(
        "prices: [{model: a, input: 1, output: 1, from: 2026}]",
        "'2026' is not a day",
    );
    check(
        "prices: [{model: a, input: 1, output: 1, from: '2026-02-30'}]",
        "prices[0].from",
    );
    check(
        "prices: [{model: a, input: 1, output: 1, from: '2026-02-03', until: '2026-02-01'}]",
        "ends before it begins",
    );
    check(
        "prices: [{model: a, input: 1, output: 1}, {model: a, input: 2, output: 1}]",
        "'a' has two prices for the same day",
    );
    let absent = prices::load(Some(std::path::Path::new("/absent/prices.yaml"))).unwrap_err();
    assert!(absent.to_string().contains("cannot be read"));
}
