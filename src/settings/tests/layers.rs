use std::time::Duration;

use super::*;

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let path = "execution.max_retries";
    let origin = |place: &Place| place.load().unwrap().origins[path].clone();
    let place = Place::new("execution: {context: none}");
    assert_eq!(
        (place.settings().execution.max_retries, origin(&place)),
        (3, Origin::Default)
    );
    let place = Place::new("execution: {max_retries: 4}");
    assert_eq!(
        (place.settings().execution.max_retries, origin(&place)),
        (4, Origin::File)
    );
    let name = "PAGEMILL__EXECUTION__MAX_RETRIES";
    let place = place.env(name, "5");
    let from_env = Origin::Env(name.to_owned());
    assert_eq!(
        (place.settings().execution.max_retries, origin(&place)),
        (5, from_env)
    );
    let place = place.flag(path, "6");
    assert_eq!(
        (place.settings().execution.max_retries, origin(&place)),
        (6, Origin::Flag)
    );
    let place = place.flag(path, "null");
    assert_eq!(
        (place.settings().execution.max_retries, origin(&place)),
        (3, Origin::Default)
    );
}

#[test]
fn dot_env_fills_but_does_not_override_or_leak() {
    let place = Place::new("").file(
        ".env",
        "\u{feff}A=1\n# comment\nGEMINI_API_KEY=planted-key-from-file\nexport PAGEMILL__LOG__LEVEL=\"debug\"\n\
         PAGEMILL__LOG__FORMAT=json\n",
    );
    let place = place.env("PAGEMILL__LOG__FORMAT", "human");
    let settings = place.settings();
    assert_eq!(
        settings.log,
        Log {
            format: LogFormat::Human,
            level: "debug".to_owned(),
            slow_query: Some(Duration::from_secs(1)),
        }
    );
    assert_eq!(settings.api_key.unwrap().expose(), "planted-key-from-file");
    assert_eq!(std::env::var_os("PAGEMILL__LOG__LEVEL"), None);
    let settings = place
        .env("GEMINI_API_KEY", "planted-key-from-env")
        .settings();
    assert_eq!(settings.api_key.unwrap().expose(), "planted-key-from-env");
}

#[test]
fn p14_files_that_nobody_wrote_are_not_held_in_memory() {
    let long = format!("# {}\n", "x".repeat(1024 * 1024));
    let faults = Place::new(&long).faults();
    assert!(
        faults.contains("pagemill.yaml: cannot be read: it is longer"),
        "{faults}"
    );
    let faults = Place::new("").file(".env", &long).faults();
    assert!(
        faults.contains(".env: cannot be read: it is longer"),
        "{faults}"
    );
    let mut growing = "A0=0123456789\n".to_owned();
    for step in 1..60 {
        let before = step - 1;
        growing.push_str(&format!("A{step}=${{A{before}}}${{A{before}}}\n"));
    }
    let faults = Place::new("").file(".env", &growing).faults();
    assert!(faults.contains(".env: its values are longer"), "{faults}");
}

#[test]
fn a_broken_dot_env_is_not_repeated() {
    let place = Place::new("").file(".env", "A=1\nplanted-key-0123456789\n");
    let faults = place.faults();
    assert!(
        faults.contains(".env: entry 2 is not NAME=value"),
        "{faults}"
    );
    assert!(!faults.contains("planted"), "{faults}");
}

#[test]
fn the_key_has_two_names() {
    let key = |place: Place| place.settings().api_key.map(|key| key.expose().to_owned());
    assert_eq!(key(Place::new("")), None);
    let place = Place::new("").env("GOOGLE_API_KEY", "second-name");
    assert_eq!(key(place), Some("second-name".to_owned()));
    let place = Place::new("")
        .env("GOOGLE_API_KEY", "second")
        .env("GEMINI_API_KEY", "first");
    assert_eq!(key(place), Some("first".to_owned()));
    let place = Place::new("")
        .env("GOOGLE_API_KEY", "second")
        .env("GEMINI_API_KEY", " ");
    assert_eq!(key(place), Some("second".to_owned()));
}

#[test]
fn the_address_is_read_from_the_name_that_sdks_use() {
    let place = Place::new("api: {base_url: 'https://file.example/'}");
    assert_eq!(place.settings().api.base_url, "https://file.example");
    let place = place.env("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:8787/");
    assert_eq!(place.settings().api.base_url, "http://127.0.0.1:8787");
    let place = place.env("PAGEMILL__API__BASE_URL", "https://ours.example");
    assert_eq!(place.settings().api.base_url, "https://ours.example");
}

#[test]
fn texts_from_outside_need_no_quotes() {
    let place = Place::new("")
        .env("PAGEMILL__PATHS__LAYOUT", "{book}/{page}")
        .env("PAGEMILL__API__PROJECT", "123")
        .env("PAGEMILL__PATHS__WORK_DIR", "yes")
        .env("PAGEMILL__LOG__LEVEL", "")
        .flag("files.image_bytes_max", "5MiB")
        .flag("execution", "{max_retries: 9}");
    let settings = place.settings();
    assert_eq!(settings.paths.layout.names(), ["book", "page"]);
    assert_eq!(settings.api.project.as_deref(), Some("123"));
    assert!(settings.paths.work_dir.ends_with("yes"));
    assert_eq!(settings.log.level, "info");
    assert_eq!(settings.files.image_bytes_max, 5 << 20);
    assert_eq!(settings.execution.max_retries, 9);
}

#[test]
fn an_unknown_variable_is_a_fault() {
    let faults = Place::new("")
        .env("PAGEMILL__FILES__UPLOAD_PER_SECOND", "3")
        .faults();
    assert!(
        faults.contains("did you mean 'files.uploads_per_second'?"),
        "{faults}"
    );
    let faults = Place::new("")
        .env("PAGEMILL__EXECUTION__DRY_RUN", "{")
        .faults();
    assert!(faults.contains("cannot be read as YAML"), "{faults}");
    assert!(!faults.contains('{'), "{faults}");
}

#[test]
fn model_parameters_are_merged_by_name_in_either_spelling() {
    let place = Place::new(
        "model: {generation_config: {maxOutputTokens: 9000, thinking_config: {thinking_level: LOW}}}",
    );
    let place = place.env("PAGEMILL__MODEL__GENERATION_CONFIG__TOP_K", "5");
    let place = place.flag("model.generation_config", "{temperature: null}");
    let model = place.settings().model;
    let expected = serde_json::json!({
        "maxOutputTokens": 9000, "thinkingConfig": {"thinkingLevel": "LOW"}, "topK": 5,
    });
    assert_eq!(model.generation_config, expected);
    assert_eq!(model.max_output_tokens(), Some(9_000));
    let origins = place.load().unwrap().origins;
    assert_eq!(
        origins["model.generation_config.maxOutputTokens"],
        Origin::File
    );
    let place = Place::new("model: {name: models/gemini-3.8-flash}");
    assert_eq!(place.settings().model.name, "gemini-3.8-flash");
    let expected = serde_json::json!({"temperature": 0.1, "maxOutputTokens": 16384});
    assert_eq!(place.settings().model.generation_config, expected);
}

#[test]
fn names_inside_a_schema_are_left_alone() {
    let given = serde_json::json!({
        "a_b": [{"c_d": 1}], "some_schema": {"x_y": 1}, "parameters": {"x_y": 1}, "fooBar": 2,
    });
    let expected = serde_json::json!({
        "aB": [{"cD": 1}], "someSchema": {"x_y": 1}, "parameters": {"x_y": 1}, "fooBar": 2,
    });
    assert_eq!(super::super::generation::camel_case_below(given), expected);
}

#[test]
fn paths_are_relative_to_the_file() {
    let place = Place::new("");
    fs::create_dir(place.folder.path().join("conf")).unwrap();
    let place = place.file(
        "conf/x.yaml",
        "paths: {work_dir: ../w, output_dir: /abs/out}",
    );
    let mut sources = place.sources();
    sources.file = Some("conf/x.yaml".into());
    let loaded = load(sources).unwrap();
    let root = place.folder.path();
    assert_eq!(loaded.file, Some(root.join("conf/x.yaml")));
    assert_eq!(loaded.settings.paths.work_dir, root.join("w"));
    assert_eq!(loaded.settings.paths.output_dir, PathBuf::from("/abs/out"));
    assert_eq!(
        loaded.settings.state.sqlite_file,
        root.join("conf/data/gemini_batches.db")
    );
    let place = Place::new("state: {url: 'sqlite:///var/x.db'}");
    assert_eq!(
        place.settings().state.sqlite_file,
        PathBuf::from("/var/x.db")
    );
}

#[test]
fn filters_become_a_scope() {
    use crate::ports::page_source::LevelFilter;
    let place = Place::new(
        "filters: {target_states: [Utah, Alabama], target_years: {start: 1849}, where: {school: A}}",
    );
    let scope = place.settings().scope();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        scope.levels,
        [
            Some(LevelFilter::OneOf(names(&["Utah", "Alabama"]))),
            Some(LevelFilter::OneOf(names(&["A"]))),
            Some(LevelFilter::Range {
                start: 1849,
                end: i64::MAX
            }),
            None,
        ]
    );
    let numbers = Place::new("filters: {target_years: [1849, '0050']}")
        .settings()
        .scope();
    assert_eq!(
        numbers.levels[2],
        Some(LevelFilter::OneOf(names(&["1849", "0050"])))
    );
}

#[test]
fn a_scope_token_follows_the_choice_alone() {
    let token = |yaml: &str| Place::new(yaml).settings().scope_token();
    let all = token("");
    assert_eq!(all.as_str().len(), 16);
    assert_eq!(all, token("execution: {max_retries: 1}"));
    let some = token("filters: {target_states: [a, b]}");
    assert_eq!(some, token("filters: {where: {state: [b, a, b]}}"));
    assert_ne!(some, all);
    assert_ne!(some, token("filters: {where: {school: [a, b]}}"));
    assert_ne!(token("filters: {target_states: ['a b']}"), some);
    assert_ne!(
        token("filters: {target_years: {start: 1}}"),
        token("filters: {target_years: {end: 1}}")
    );
}

#[test]
fn without_a_chain_no_context_is_needed() {
    let place = Place::new("execution: {context: none}");
    assert_eq!(place.settings().prompt.context_file, None);
    assert_eq!(
        Place::new("").settings().prompt.context_file.as_deref(),
        Some("context.jinja")
    );
}
