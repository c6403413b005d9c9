use super::*;

const SECRET: &str = "planted-webhook-secret-0123456789";

fn check(yaml: &str, expected: &str) {
    let faults = Place::new(yaml).faults();
    assert!(faults.contains(expected), "{yaml}\n{faults}");
    assert_eq!(faults.lines().count(), 1, "{yaml}\n{faults}");
}

#[test]
fn addresses_that_are_not_safe_are_refused_and_not_repeated() {
    let check = |url: &str, expected: &str| {
        let yaml = format!("alerts: {{webhook: {{url: '{url}'}}}}");
        let faults = Place::new(&yaml).faults();
        let expected = format!("alerts.webhook.url: {expected}");
        assert!(faults.contains(&expected), "{url}\n{faults}");
        assert!(!faults.contains("planted"), "{faults}");
    };
    check(
        "http://a.example/planted",
        "would send messages over the network unencrypted",
    );
    check("http://127.0.0.1@a.example/planted", "would send messages");
    check("ftp://a.example/planted", "does not start with https://");
    check("a.example/planted", "does not start with https://");
    check("https://planted@/x", "names no host");
    check("https://a.example/planted x", "names no host");
    check("https://a.example/***", "is masked");
    for good in [
        "https://user:pass@a.example:8443/x?y=z",
        "http://127.0.0.1:9/x",
        "http://user@localhost/x",
    ] {
        let yaml = format!("alerts: {{webhook: {{url: '{good}'}}}}");
        let settings = Place::new(&yaml).settings();
        assert_eq!(settings.alerts.webhook.unwrap().url.expose(), good);
    }
}

#[test]
fn the_variable_of_the_secret_is_named_and_nothing_else_is() {
    let url = "url: 'https://a.example/'";
    for (name, remedy) in [
        ("whsec_planted", "write the name of an environment variable"),
        ("1A", "write the name of an environment variable"),
        ("GEMINI_API_KEY", "the API key is not for others"),
        (
            "PAGEMILL__LOG__LEVEL",
            "variables of this form are settings",
        ),
    ] {
        let yaml = format!("alerts: {{webhook: {{{url}, secret_env: '{name}'}}}}");
        check(&yaml, remedy);
        assert!(!Place::new(&yaml).faults().contains(name), "{name}");
    }
    check(
        "alerts: {webhook: {secret_env: HOOK_SECRET}}",
        "alerts.webhook.secret_env: is given without alerts.webhook.url",
    );
    check(
        &format!("alerts: {{webhook: {{{url}, secret: x}}}}"),
        "name the variable that holds it in alerts.webhook.secret_env",
    );
    check(
        "alerts: {webhok: {url: x}}",
        "did you mean 'alerts.webhook.url'?",
    );
}

fn with_secret(more: &str) -> Place {
    let webhook = "webhook: {url: 'https://a.example/', secret_env: HOOK_SECRET}";
    Place::new(&format!("alerts: {{{webhook}}}\n{more}"))
}

#[test]
fn the_secret_comes_from_the_environment_and_shows_nowhere() {
    let missing = with_secret("").settings();
    let faults = missing.check_environment();
    let is_told = |fault: &Fault| fault.problem.contains("HOOK_SECRET is not set");
    assert!(faults.iter().any(is_told), "{faults:?}");

    let place = with_secret("").file(".env", &format!("HOOK_SECRET={SECRET}\n"));
    let loaded = place.load().unwrap();
    let webhook = loaded.settings.alerts.webhook.clone().unwrap();
    assert_eq!(webhook.secret.unwrap().expose(), SECRET);
    assert!(!format!("{loaded:?}").contains(SECRET));
    assert!(!loaded.settings.snapshot_yaml().contains(SECRET));
    assert!(loaded.settings.alerts.missing_secret().is_none());

    let short = with_secret("").env("HOOK_SECRET", "planted-short");
    let faults = short.faults();
    assert!(faults.contains("openssl rand -hex 32"), "{faults}");
    assert!(!faults.contains("planted"), "{faults}");

    let misplaced = with_secret(&format!("log: {{level: 'a {SECRET}'}}"));
    let faults = misplaced.env("HOOK_SECRET", SECRET).faults();
    assert!(
        faults.contains("log.level: holds the webhook's secret"),
        "{faults}"
    );
    assert!(!faults.contains(SECRET), "{faults}");
    let faulty = with_secret(&format!("execution: {{context: {SECRET}}}"));
    let faults = faulty.env("HOOK_SECRET", SECRET).faults();
    assert!(
        faults.contains("***") && !faults.contains(SECRET),
        "{faults}"
    );
}

#[test]
fn of_the_address_only_the_host_is_shown_and_the_key_is_found_in_it() {
    let url = "https://user:planted@a.example/planted?x=planted";
    let place = Place::new("").env("PAGEMILL__ALERTS__WEBHOOK__URL", url);
    let loaded = place.load().unwrap();
    let shown = [
        loaded.settings.snapshot_yaml(),
        format!("{loaded:?}"),
        format!("{:?}", loaded.settings.effective_values()),
    ];
    for text in shown {
        assert!(!text.contains("planted"), "{text}");
        assert!(text.contains("https://a.example/***") || text.contains("***"));
    }
    let warnings = loaded.settings.warnings();
    let is_unsigned = |fault: &Fault| fault.path == "alerts.webhook.secret_env";
    assert!(warnings.iter().any(is_unsigned), "{warnings:?}");
    let key = "planted-key-0123456789";
    let place = Place::new("")
        .env(
            "PAGEMILL__ALERTS__WEBHOOK__URL",
            &format!("https://a.example/{key}"),
        )
        .env("GEMINI_API_KEY", key);
    assert!(
        place
            .faults()
            .contains("alerts.webhook.url: holds the API key")
    );
}

#[test]
fn a_command_is_a_list_whose_program_stands_below_the_configuration() {
    let settings = Place::new("alerts: {command: [./notify.sh, --to, a/b]}").settings();
    let command = settings.alerts.command;
    assert!(command[0].starts_with('/') && command[0].ends_with("/notify.sh"));
    assert_eq!(command[1..], ["--to", "a/b"]);
    let place = Place::new("").env("PAGEMILL__ALERTS__COMMAND", "[notify, now]");
    assert_eq!(place.settings().alerts.command, ["notify", "now"]);
    for wrong in ["notify --x", "[]", "[notify, 3]", "['']", "{a: b}"] {
        let yaml = format!("alerts: {{command: {wrong}}}");
        check(
            &yaml,
            "alerts.command: is not a list of texts; write it like [",
        );
    }
}

#[test]
fn limits_are_held_to_their_ranges() {
    check("alerts: {failure_percent: 101}", "101 is out of range");
    check("alerts: {attempts_max: 0}", "0 is out of range");
    check("alerts: {disk_free_bytes: lots}", "write a size from");
    check(
        "alerts: {webhook: 3}",
        "alerts.webhook: is a number, not a mapping",
    );
}
