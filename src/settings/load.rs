//! Reads the layers in order: defaults, file, environment, flags.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::build::build;
use super::fault::{Fault, SettingsError};
use super::raw::{Origin, RawSettings};
use super::{ApiKey, Settings};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "pagemill.yaml";
/// The variable that names the file.
pub const FILE_VARIABLE: &str = "PAGEMILL_CONFIG";
/// The start of a variable that gives one setting.
const PREFIX: &str = "PAGEMILL__";
/// Where the key may stand; the first one that is set holds.
const KEY_VARIABLES: [&str; 2] = ["GEMINI_API_KEY", "GOOGLE_API_KEY"];
/// The name that the official SDKs read the address from.
const BASE_URL_VARIABLE: &str = "GOOGLE_GEMINI_BASE_URL";

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file that was named; must exist.
    pub file: Option<PathBuf>,
    /// The environment of the process.
    pub env: BTreeMap<String, String>,
    /// Dotted paths and their values as YAML.
    pub flags: Vec<(String, String)>,
    /// The folder that the process works in.
    pub cwd: PathBuf,
}

/// Settings and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// The file that was read; none when there was none to read.
    pub file: Option<PathBuf>,
    /// By dotted path.
    pub origins: BTreeMap<String, Origin>,
}

/// The file that these sources lead to, and whether it was named.
pub fn config_file(sources: &Sources) -> (PathBuf, bool) {
    let variable = sources
        .env
        .get(FILE_VARIABLE)
        .filter(|text| !text.is_empty());
    let named = sources.file.clone().or_else(|| variable.map(PathBuf::from));
    let is_named = named.is_some();
    let file = named.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    (sources.cwd.join(file), is_named)
}

/// Reads and checks all settings; reports every fault at once.
pub fn load(sources: Sources) -> Result<Loaded, SettingsError> {
    let mut faults = Vec::new();
    let (path, is_named) = config_file(&sources);
    let document = read_document(&path, is_named, &mut faults);
    let base = path.parent().unwrap_or(&sources.cwd).to_path_buf();
    let env = with_dot_env(sources.env, &base.join(".env"), &mut faults);
    let api_key = api_key(&env, &mut faults);

    let mut raw = RawSettings::defaults();
    let file = document.is_some().then_some(path);
    raw.add_document(document.unwrap_or_default(), &Origin::File);
    add_env(&mut raw, &env);
    for (path, text) in &sources.flags {
        raw.add_text(path, text, &Origin::Flag);
    }
    faults.append(&mut raw.faults);

    let mut settings = build(&raw, &base, api_key, &mut faults);
    settings.alerts.take_secret(&env, &mut faults);
    faults.extend(settings.faults_of_places_with_the_key());
    if !faults.is_empty() {
        settings.alerts.mask(&mut faults);
        return Err(SettingsError::new(faults, settings.api_key.as_ref()));
    }
    Ok(Loaded {
        settings,
        file,
        origins: raw.origins(),
    })
}

/// The document of the file, or nothing when the default file is absent or the file is at fault.
fn read_document(path: &Path, is_named: bool, faults: &mut Vec<Fault>) -> Option<Value> {
    let name = path.display().to_string();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named => return None,
        Err(error) => {
            let remedy = "check --config and PAGEMILL_CONFIG, or run 'pagemill init'";
            faults.push(Fault::new(name, format!("cannot be read: {error}"), remedy));
            return None;
        }
    };
    let parsed = serde_yaml::from_str::<Value>(&text).and_then(|mut document| {
        document.apply_merge()?;
        Ok(document)
    });
    match parsed {
        Ok(document) => Some(document),
        Err(error) => {
            let place = error.location().map_or(String::new(), |location| {
                format!(" at line {}, column {}", location.line(), location.column())
            });
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let problem = format!("is not YAML{place}: {message}");
            let remedy = "correct that place; indent with spaces, and quote texts with ':' or '{'";
            faults.push(Fault::new(name, problem, remedy));
            None
        }
    }
}

/// Reads a text that a person wrote, of at most [`FILE_BYTES_MAX`].
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bounded(path)?).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// Whatever is longer was not meant, and is not held in memory.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let detail = format!("it is longer than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::other(detail));
    }
    Ok(bytes)
}

/// The environment, filled up from a file that may be absent. What is set stays as it is, and the
/// process's own environment is not touched.
fn with_dot_env(
    mut env: BTreeMap<String, String>,
    path: &Path,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, String> {
    let name = path.display().to_string();
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return env,
        Err(error) => {
            let problem = format!("cannot be read: {error}");
            faults.push(Fault::new(
                name,
                problem,
                "check that it is a readable file",
            ));
            return env;
        }
    };
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text);
    let lines = dotenvy::from_read_iter(text);
    let mut held = 0;
    for (position, line) in lines.enumerate() {
        match line {
            Ok((variable, value)) => {
                // A value may name earlier ones, so that a short file can be a very long text.
                held += value.len();
                if held > FILE_BYTES_MAX as usize {
                    let problem = format!("its values are longer than {FILE_BYTES_MAX} bytes");
                    faults.push(Fault::new(
                        name,
                        problem,
                        "take out what is not for pagemill",
                    ));
                    break;
                }
                env.entry(variable).or_insert(value);
            }
            // The error holds the line, and the line may hold the key.
            Err(_) => {
                let problem = format!("entry {} is not NAME=value", position + 1);
                faults.push(Fault::new(
                    name,
                    problem,
                    "correct it, quoting values with spaces",
                ));
                break;
            }
        }
    }
    env
}

fn api_key(env: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> Option<ApiKey> {
    let (name, text) = KEY_VARIABLES.iter().find_map(|name| {
        Some((
            *name,
            env.get(*name).filter(|text| !text.trim().is_empty())?,
        ))
    })?;
    match ApiKey::new(text) {
        Ok(key) => Some(key),
        Err(problem) => {
            faults.push(Fault::new(name, problem, "set it to the key alone"));
            None
        }
    }
}

impl Settings {
    /// Settings name folders, addresses and remote things, and stand in the database. A key that
    /// was typed into one would be in all of them.
    fn faults_of_places_with_the_key(&self) -> Vec<Fault> {
        let webhook = self.alerts.webhook.as_ref();
        let mut faults = Vec::new();
        if let Some(key) = &self.api_key {
            let is_in = |text: &str| key.is_in(text);
            let remedy = "take it out; the key has its place in GEMINI_API_KEY";
            let mut paths = self.places_with(&is_in);
            // Of this one, only the host is in force as it is shown.
            if webhook.is_some_and(|webhook| key.is_in(webhook.url.expose())) {
                paths.push("alerts.webhook.url");
            }
            let found = paths.into_iter();
            faults.extend(found.map(|path| Fault::new(path, "holds the API key", remedy)));
        }
        if let Some(secret) = webhook.and_then(|webhook| webhook.secret.as_ref()) {
            let is_in = |text: &str| secret.is_in(text);
            let remedy = "take it out; it has its place in the environment";
            let found = self.places_with(&is_in).into_iter();
            faults.extend(found.map(|path| Fault::new(path, "holds the webhook's secret", remedy)));
        }
        faults
    }

    fn places_with(&self, is_in: &dyn Fn(&str) -> bool) -> Vec<&str> {
        let places = self.effective.iter();
        places
            .filter(|(_path, value)| holds(is_in, value))
            .map(|(path, _value)| path.as_str())
            .collect()
    }
}

fn holds(is_in: &dyn Fn(&str) -> bool, value: &Value) -> bool {
    match value {
        Value::String(text) => is_in(text),
        Value::Sequence(items) => items.iter().any(|item| holds(is_in, item)),
        Value::Mapping(entries) => entries
            .iter()
            .any(|(name, value)| holds(is_in, name) || holds(is_in, value)),
        Value::Tagged(tagged) => is_in(&tagged.tag.to_string()) || holds(is_in, &tagged.value),
        Value::Number(number) => is_in(&number.to_string()),
        Value::Null | Value::Bool(_) => false,
    }
}

fn add_env(raw: &mut RawSettings, env: &BTreeMap<String, String>) {
    if let Some(url) = env
        .get(BASE_URL_VARIABLE)
        .filter(|url| !url.trim().is_empty())
    {
        raw.add_text(
            "api.base_url",
            url,
            &Origin::Env(BASE_URL_VARIABLE.to_owned()),
        );
    }
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let path = rest
            .split("__")
            .collect::<Vec<&str>>()
            .join(".")
            .to_lowercase();
        raw.add_text(&path, text, &Origin::Env(name.clone()));
    }
}
