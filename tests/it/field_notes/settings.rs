//! F05: what is wrong with the parameters is told before anything is sent.

use pagemill::settings::{Loaded, SettingsError, Sources, load};

fn loaded(yaml: &str) -> Result<Loaded, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pagemill.yaml"), yaml).unwrap();
    load(Sources {
        cwd: folder.path().to_owned(),
        ..Sources::default()
    })
}

fn model(name: &str, thinking: &str) -> String {
    format!(
        "model: {{name: {name}, generation_config: {{thinking_config: {thinking}, \
         max_output_tokens: 8192}}}}"
    )
}

fn check_refused(name: &str, thinking: &str, words: &str) {
    let error = loaded(&model(name, thinking))
        .expect_err(thinking)
        .to_string();
    assert!(error.contains(words), "{name} {thinking}: {error}");
}

#[test]
fn f05_a_way_to_think_that_the_model_does_not_take_is_an_error_before_anything_is_sent() {
    let both = "{thinking_budget: 0, thinking_level: LOW}";
    check_refused("gemini-3.8-flash", both, "has both");
    check_refused("gemini-2.5-flash", both, "has both");
    let budget = "{thinking_budget: 0}";
    check_refused(
        "gemini-3.8-flash",
        budget,
        "is not taken by gemini-3.8-flash",
    );
    let level = "{thinking_level: LOW}";
    check_refused(
        "gemini-2.5-flash",
        level,
        "is not taken by gemini-2.5-flash",
    );
    assert!(loaded(&model("gemini-2.5-flash", budget)).is_ok());
    assert!(loaded(&model("gemini-3.8-flash", level)).is_ok());
}

fn warnings(config: &str) -> Vec<String> {
    let yaml = format!("model: {{generation_config: {config}}}");
    let settings = loaded(&yaml).unwrap().settings;
    let warnings = settings.warnings().into_iter();
    warnings.map(|warning| warning.to_string()).collect()
}

#[test]
fn f05_few_output_tokens_and_thinking_that_nobody_set_are_warned_of() {
    let fine = warnings("{max_output_tokens: 4096, thinking_config: {thinking_level: LOW}}");
    assert_eq!(fine, Vec::<String>::new());
    let few = warnings("{max_output_tokens: 4095, thinking_config: {thinking_level: LOW}}");
    assert!(
        few.len() == 1 && few[0].contains("thoughts and answer share them"),
        "{few:?}"
    );
    let unset = warnings("{max_output_tokens: 4096, thinking_config: null}");
    assert!(
        unset.len() == 1 && unset[0].contains("thinkingConfig"),
        "{unset:?}"
    );
}
