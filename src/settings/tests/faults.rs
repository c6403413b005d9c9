use super::*;

fn check(yaml: &str, expected: &str) {
    let faults = Place::new(yaml).faults();
    assert!(faults.contains(expected), "{yaml}\n{faults}");
    assert_eq!(faults.lines().count(), 1, "{yaml}\n{faults}");
    assert!(faults.contains("; "), "no remedy: {faults}");
}

#[test]
fn unknown_settings_come_with_a_suggestion() {
    check(
        "execution: {max_retry: 3}",
        "execution.max_retry: there is no such setting; did you mean 'execution.max_retries'?",
    );
    check("file: {}", "did you mean 'files'?");
    check(
        "batch: {uploads_per_second: 3}",
        "did you mean 'files.uploads_per_second'?",
    );
    check("max_retries: 3", "did you mean 'execution.max_retries'?");
    check("nonsense: 3", "see 'pagemill config schema'");
    check("paths: {layot: x}", "did you mean 'paths.layout'?");
}

#[test]
fn secrets_are_turned_away_unseen() {
    let faults = Place::new("api: {key: planted-4711}\ngemini_api_key: planted-4712").faults();
    assert_eq!(faults.lines().count(), 2, "{faults}");
    assert!(
        faults.contains("api.key: no secret belongs into the settings"),
        "{faults}"
    );
    assert!(!faults.contains("planted"), "{faults}");
}

#[test]
fn values_are_held_to_their_kind() {
    check(
        "execution: {max_retries: many}",
        "execution.max_retries: is a text, not a number",
    );
    check(
        "execution: {max_retries: 1.5}",
        "1.5 is out of range; write a whole number from 0 to 100",
    );
    check("execution: {max_retries: -1}", "-1 is out of range");
    check("execution: {max_retries: 101}", "101 is out of range");
    check(
        "execution: {dry_run: 1}",
        "execution.dry_run: is a number; write true or false",
    );
    check(
        "execution: {context: chains}",
        "'chains' is not one of chain, none; did you mean 'chain'?",
    );
    check("execution: {context: true}", "is true or false, not one of");
    check(
        "log: {format: xml}",
        "log.format: 'xml' is not one of auto, human, json",
    );
    check(
        "paths: {work_dir: [a]}",
        "paths.work_dir: is a list; write a text",
    );
    check("paths: {work_dir: ''}", "paths.work_dir: is empty");
    check("paths: {work_dir: ~/data}", "only a shell understands");
    check(
        "paths: {layout: {page}}",
        "paths.layout: is a mapping; write a text, in quotes",
    );
    check("paths: 3", "paths: is a number, not a mapping");
    check("[a]", "(document): is not a mapping of sections");
    check("? [a]\n: 3", "has a key that is not a name");
}

#[test]
fn sizes_are_held_to_their_range() {
    check(
        "files: {storage_budget_bytes: 21GiB}",
        "21GiB is out of range; write a size from 10MiB to 20GiB",
    );
    check(
        "files: {storage_budget_bytes: 1G}",
        "'1G': 'G' could be GB or GiB",
    );
    check(
        "files: {image_bytes_max: true}",
        "is true or false, not a size",
    );
    check(
        "files: {image_bytes_max: -5}",
        "-5 is not a whole number of bytes",
    );
    check(
        "batch: {bytes_max: 2GiB}",
        "batch.bytes_max: 2GiB is out of range; write a size from 1MiB to 2GB",
    );
    check(
        "files: {min_life_hours: 48}",
        "48 is out of range; write a whole number from 0 to 47",
    );
}

#[test]
fn names_and_addresses_are_checked() {
    check(
        "paths: {layout: 'state/{page}'}",
        "paths.layout: 'state' is not a level",
    );
    check(
        "model: {name: 'gemini 3'}",
        "model.name: is not a model's name",
    );
    check(
        "prompt: {name: ../other}",
        "prompt.name: '../other' is not a single name",
    );
    check(
        "prompt: {template_file: a/b.jinja}",
        "prompt.template_file: 'a/b.jinja' is not a single name",
    );
    check(
        "batch: {display_name_prefix: 'a b'}",
        "batch.display_name_prefix: is not 1 to 64",
    );
    check(
        "api: {base_url: example.com}",
        "does not start with https:// or http://",
    );
    check(
        "api: {base_url: 'https://u:p4711@example.com'}",
        "api.base_url: carries a user or a password",
    );
    check(
        "api: {base_url: 'https://example.com?key=1'}",
        "carries a query",
    );
    check("api: {base_url: 'https://'}", "names no host");
    check(
        "api: {version: 1}",
        "api.version: is a number; write a text",
    );
    check("api: {version: beta}", "api.version: is not a version");
    check(
        "state: {url: 'postgres://u:p@db/x'}",
        "state.url: PostgreSQL is not supported by this version",
    );
    check(
        "state: {url: 'sqlite::memory:'}",
        "is not an address of a database",
    );
    check(
        "state: {url: 'sqlite://:memory:'}",
        "forgets what was paid for",
    );
    check("state: {url: 'sqlite://a.db?mode=ro'}", "takes no options");
    check("state: {url: 'sqlite://'}", "names no file");
}

#[test]
fn filters_are_checked() {
    check(
        "filters: {target_years: {start: 2, end: 1}}",
        "starts at 2, after its end 1",
    );
    check(
        "filters: {target_years: {begin: 2}}",
        "a range has start and end and nothing else",
    );
    check(
        "filters: {target_years: {start: x}}",
        "filters.target_years.start: is not a whole number",
    );
    check("filters: {target_years: {}}", "has neither start nor end");
    check("filters: {target_states: []}", "is an empty list");
    check(
        "filters: {target_states: [[a]]}",
        "holds something that is no name",
    );
    check(
        "filters: {target_states: true}",
        "is true or false, not a filter",
    );
    check(
        "filters: {where: {town: [a]}}",
        "filters.where.town: the layout has no level 'town'",
    );
    check(
        "filters: {where: [a]}",
        "filters.where: is a list; write a mapping",
    );
    check(
        "filters: {target_states: [a], where: {state: [b]}}",
        "the level 'state' is filtered twice",
    );
    check(
        "paths: {layout: '{book}/{page}'}\nfilters: {target_years: [1849]}",
        "filters.target_years: the layout has no level 'year'; its levels are book, page",
    );
}

fn check_generation(yaml: &str, expected: &str) {
    check(
        &format!("model: {{generation_config: {{{yaml}}}}}"),
        expected,
    );
}

#[test]
fn a_broken_layout_does_not_misplace_filters() {
    check(
        "paths: {layout: x}\nfilters: {target_states: [a]}",
        "paths.layout: 'x' is not a level",
    );
}

#[test]
fn model_parameters_are_checked() {
    check_generation(
        "response_schema: {}",
        "model.generation_config.responseSchema: is set by pagemill",
    );
    check_generation("responseJsonSchema: {}", "is set by pagemill");
    check_generation("response_mime_type: x", "is set by pagemill");
    check_generation("candidate_count: 2", "must be 1");
    check_generation(
        "max_output_tokens: 0",
        "maxOutputTokens: is not a whole number",
    );
    check_generation("temperature: 3", "temperature: is not a number from 0 to 2");
    check_generation("topP: 2", "topP: is not a number from 0 to 1");
    check_generation("media_resolution: HIGH", "use one of MEDIA_RESOLUTION_LOW");
    check_generation("max_output_tokens: 1, maxOutputTokens: 2", "stands twice");
    check_generation("thinking_config: 3", "thinkingConfig: is not a mapping");
    check_generation(
        "thinking_config: {thinking_level: low}",
        "thinkingLevel: is not a level",
    );
    check_generation(
        "thinking_config: {thinking_budget: 0}",
        "is not taken by gemini-3.8-flash",
    );
    check_generation(
        "thinking_config: {thinking_budget: 0, thinkingLevel: LOW}",
        "has both",
    );
    check(
        "model: {name: gemini-2.5-flash, generation_config: {thinkingConfig: {thinkingLevel: LOW}}}",
        "is not taken by gemini-2.5-flash",
    );
    check(
        "model: {name: gemini-2.5-flash, generation_config: {thinkingConfig: {thinkingBudget: -2}}}",
        "is not a whole number from -1",
    );
    check(
        "model: {generation_config: 3}",
        "model.generation_config: is a number; write a mapping",
    );
}

#[test]
fn settings_are_checked_against_each_other() {
    check(
        "paths: {output_dir: dataset/label_to_curricular}",
        "paths.output_dir: is the same folder as paths.label_source_dir",
    );
    check(
        "paths: {output_dir: ./dataset/x/../label_to_curricular/out}",
        "paths.output_dir: is inside paths.label_source_dir",
    );
    check(
        "paths: {image_source_dir: dataset/label_to_curricular}",
        "is the same folder as",
    );
    check(
        "paths: {work_dir: dataset/label_to_curricular/w}",
        "paths.work_dir: is inside paths.label_source_dir",
    );
    check(
        "paths: {output_dir: dataset}",
        "paths.label_source_dir: is inside paths.output_dir",
    );
    check(
        "state: {url: 'sqlite://dataset/output_results/x.db'}",
        "puts the database inside paths.output_dir",
    );
    check(
        "batch: {create_delay_max_seconds: 5}",
        "is below batch.create_delay_min_seconds",
    );
    check(
        "files: {storage_budget_bytes: 50MiB}",
        "files.image_bytes_max: is above files.storage_budget_bytes",
    );
    check(
        "batch: {tokens_max: 1000}",
        "batch.tokens_max: is below batch.tokens_per_image",
    );
}

#[test]
fn folders_beside_each_other_are_fine() {
    Place::new("paths: {output_dir: data/out, work_dir: data, image_source_dir: data/images}")
        .settings();
    Place::new("paths: {label_source_dir: a/label, output_dir: a/label_out}").settings();
}

#[test]
fn every_fault_is_reported_at_once() {
    let place = Place::new(
        "execution: {max_retry: 1, max_retries: x}\nfiles: {image_bytes_max: 1X}\nlog: {format: z}",
    );
    let place = place
        .env("PAGEMILL__BATCH__POLLS_IN_FLIGHT", "0")
        .flag("api.version", "x");
    let place = place
        .env("GEMINI_API_KEY", "a b")
        .file(".env", "not a line\n");
    let faults = place.faults();
    for part in [
        "execution.max_retry: ",
        "execution.max_retries: ",
        "files.image_bytes_max: ",
        "log.format: ",
        "batch.polls_in_flight: ",
        "api.version: ",
        "GEMINI_API_KEY: ",
        ".env: ",
    ] {
        assert!(faults.contains(part), "{part} is not in\n{faults}");
    }
    assert_eq!(faults.lines().count(), 8, "{faults}");
}

#[test]
fn yaml_errors_have_line_and_column() {
    let faults = Place::new("paths:\n  work_dir: [a\nlog: {}\n").faults();
    assert!(
        faults.contains("pagemill.yaml: is not YAML at line 3, column "),
        "{faults}"
    );
    let faults = Place::new("log:\n  level: a\n  level: b\n").faults();
    assert!(
        faults.contains("is not YAML at line 2, column ") && faults.contains("level"),
        "{faults}"
    );
    let faults = Place::new("log:\n\tlevel: a\n").faults();
    assert!(faults.contains("at line 2, column "), "{faults}");
}

#[test]
fn a_named_file_must_exist() {
    let place = Place::new("").env("PAGEMILL_CONFIG", "other.yaml");
    assert!(
        place.faults().contains("other.yaml: cannot be read"),
        "{}",
        place.faults()
    );
    let mut sources = Place::new("").sources();
    sources.file = Some("absent.yaml".into());
    assert!(load(sources).is_err());
}

#[test]
fn a_folder_without_a_file_has_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(Sources {
        cwd: folder.path().into(),
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.settings.execution.max_retries, 3);
    assert!(
        loaded
            .origins
            .values()
            .all(|origin| *origin == Origin::Default)
    );
}

#[test]
fn missing_folders_are_found_when_asked() {
    let place = Place::new("");
    let faults = place.settings().check_environment();
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["paths.label_source_dir", "paths.image_source_dir"]);
    for folder in ["dataset/label_to_curricular", "dataset/raw_image_dataset"] {
        fs::create_dir_all(place.folder.path().join(folder)).unwrap();
    }
    assert_eq!(place.settings().check_environment(), []);
    let place = place.file("data", "a file");
    assert_eq!(
        place.settings().check_environment()[0].path,
        "paths.work_dir"
    );
}
