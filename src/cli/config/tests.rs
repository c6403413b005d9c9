use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::cli::init::write_starter;

fn started() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_starter(folder.path()).unwrap();
    folder
}

fn sources(folder: &Path) -> Sources {
    let env = BTreeMap::from([("GEMINI_API_KEY".to_owned(), "planted-key-0123".to_owned())]);
    Sources {
        cwd: folder.to_path_buf(),
        env,
        ..Sources::default()
    }
}

fn today() -> Option<Date> {
    Date::parse("2026-11-21")
}

fn run_command(command: ConfigCommand, sources: Sources) -> (u8, String) {
    let mut out = Vec::new();
    let code = run(&ConfigArgs { command }, sources, today(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("planted"), "{text}");
    (code, text)
}

#[test]
fn the_starter_is_valid_without_a_warning() {
    let folder = started();
    let findings = check(sources(folder.path()), today());
    assert_eq!(findings.faults, []);
    assert_eq!(findings.warnings, []);
    let expected = Dropped {
        pointer: String::new(),
        keyword: "additionalProperties".into(),
    };
    assert_eq!(findings.dropped, [expected]);
    let (code, text) = run_command(ConfigCommand::Check { json: false }, sources(folder.path()));
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("pagemill.yaml") && text.ends_with("configuration is valid\n"),
        "{text}"
    );
    assert!(text.contains("\n  /additionalProperties\n"), "{text}");
}

#[test]
fn the_starter_renders() {
    let folder = started();
    let settings = load(sources(folder.path())).unwrap().settings;
    let recipe = from_settings::recipe(&settings).unwrap();
    let names = settings.paths.layout.names().iter().cloned();
    let values = ["Alabama", "Howard College", "1849", "14"].map(str::to_owned);
    let levels: Vec<(String, String)> = names.zip(values).collect();
    let key = "Alabama:Howard College:1849:14";
    let answer = serde_json::json!({
        "text": "The end.", "page_number": "13", "running_head": null, "is_blank": false,
    });
    assert_eq!(recipe.validator.check(&answer), Ok(()));
    let context = recipe.render_context(&answer, key, &levels).unwrap();
    let with = recipe
        .render_prompt(key, &levels, &json!({}), Some(&context))
        .unwrap();
    assert!(
        with.contains("page 14") && with.contains("The end."),
        "{with}"
    );
    let without = recipe
        .render_prompt(key, &levels, &json!({}), None)
        .unwrap();
    assert!(!without.contains("<previous>"), "{without}");
}

fn check_fault(spoil: impl Fn(&Path), expected: &str) {
    let folder = started();
    spoil(folder.path());
    let (code, text) = run_command(ConfigCommand::Check { json: false }, sources(folder.path()));
    assert_eq!(code, EXIT_CONFIGURATION, "{text}");
    assert!(text.contains(expected), "{text}");
    assert!(text.ends_with("configuration has 1 fault\n"), "{text}");
}

#[test]
fn whatever_is_wrong_is_found() {
    let write = |name: &'static str, text: &'static str| {
        move |folder: &Path| fs::write(folder.join(name), text).unwrap()
    };
    check_fault(
        write("pagemill.yaml", "logs: {}"),
        "fault: logs: there is no such setting",
    );
    check_fault(
        write("prompts/page_ocr/v1.jinja", "{{ pge }}"),
        "did you mean 'page'?",
    );
    check_fault(
        write("schemas/page_ocr.v1.json", "{"),
        "fault: schema.file: ",
    );
    check_fault(
        write("schemas/page_ocr.v1.json", "{\"type\": \"object\"}"),
        "at least one entry",
    );
    check_fault(
        |folder| fs::remove_file(folder.join("schemas/page_ocr.v1.json")).unwrap(),
        "fault: schema.file: ",
    );
    check_fault(
        |folder| fs::remove_file(folder.join("prompts/page_ocr/context.jinja")).unwrap(),
        "fault: prompt: ",
    );
    check_fault(
        |folder| fs::remove_dir(folder.join("dataset/label_to_curricular")).unwrap(),
        "fault: paths.label_source_dir: ",
    );
}

#[test]
fn warnings_do_not_change_the_exit_code() {
    let folder = started();
    let mut sources = sources(folder.path());
    sources.env.clear();
    sources.flags = vec![
        ("model.name".to_owned(), "gemini-99-ultra".to_owned()),
        (
            "model.generation_config.max_output_tokens".to_owned(),
            "100".to_owned(),
        ),
    ];
    let (code, text) = run_command(ConfigCommand::Check { json: true }, sources);
    assert_eq!(code, 0, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["valid"], true);
    let paths: Vec<&str> = report["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "model.generation_config.maxOutputTokens",
            "GEMINI_API_KEY",
            "model.name"
        ]
    );
}

#[test]
fn settings_are_shown_with_their_origin() {
    let folder = started();
    let mut sources = sources(folder.path());
    sources.flags = vec![("log.level".to_owned(), "debug".to_owned())];
    let retries = "PAGEMILL__EXECUTION__MAX_RETRIES".to_owned();
    sources.env.insert(retries, "5".to_owned());
    fs::write(folder.path().join(".env"), "PAGEMILL__BREAKER__WINDOW=7\n").unwrap();
    let show = |origin, json| run_command(ConfigCommand::Show { origin, json }, sources.clone()).1;
    let text = show(true, false);
    let has = |words: &[&str]| {
        let mut lines = text.lines();
        let found = lines.any(|line| line.split_whitespace().eq(words.iter().copied()));
        assert!(found, "{words:?} in\n{text}");
    };
    has(&["log.level", "debug", "flag", "--log-level"]);
    has(&[
        "execution.max_retries",
        "5",
        "env",
        "PAGEMILL__EXECUTION__MAX_RETRIES",
    ]);
    has(&["breaker.window", "7", ".env", "PAGEMILL__BREAKER__WINDOW"]);
    has(&["results.writers", "16", "default"]);
    has(&["GEMINI_API_KEY", "********", "env", "GEMINI_API_KEY"]);
    let typed = fs::read_to_string(folder.path().join("pagemill.yaml")).unwrap();
    let line = typed
        .lines()
        .position(|line| line.contains("max_output_tokens:"));
    let line = (line.unwrap() + 1).to_string();
    let path = "model.generation_config.maxOutputTokens";
    has(&[path, "16384", "file", "line", &line]);
    for key in crate::settings::table::KEYS {
        let is_map = key.kind.is_map();
        assert!(
            text.lines().any(|line| line.starts_with(key.path)) || is_map,
            "{}",
            key.path
        );
    }
    assert!(show(false, false).contains("max_retries: 5"));
    let value: Value = serde_json::from_str(&show(false, true)).unwrap();
    assert_eq!(value["execution"]["max_retries"], 5);
    let value: Value = serde_json::from_str(&show(true, true)).unwrap();
    assert_eq!(value["version"], 1);
    let settings = &value["settings"];
    assert_eq!(settings["log.level"]["origin"], "flag --log-level");
    assert_eq!(settings["execution.max_retries"]["value"], 5);
    assert_eq!(settings["results.writers"]["line"], Value::Null);
    fs::write(folder.path().join("pagemill.yaml"), "x: 1").unwrap();
    assert_eq!(
        run_command(
            ConfigCommand::Show {
                origin: false,
                json: false
            },
            sources
        )
        .0,
        78
    );
}

#[test]
fn the_schema_is_printed() {
    let folder = started();
    let (code, text) = run_command(ConfigCommand::Schema, sources(folder.path()));
    assert_eq!(code, 0);
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn the_arguments_are_well_formed() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }
    #[derive(clap::Subcommand)]
    enum Command {
        Config(ConfigArgs),
        Init(crate::cli::init::InitArgs),
    }
    use clap::{CommandFactory, Parser};
    Cli::command().debug_assert();
    let cli = Cli::try_parse_from(["pagemill", "config", "check", "--json"]).unwrap();
    let Command::Config(args) = cli.command else {
        panic!("another command")
    };
    assert!(matches!(args.command, ConfigCommand::Check { json: true }));
    let cli = Cli::try_parse_from(["pagemill", "init"]).unwrap();
    let Command::Init(args) = cli.command else {
        panic!("another command")
    };
    assert_eq!(args.folder, PathBuf::from("."));
}
