//! The model's parameters: spelled as the provider wants them, checked before money is spent.

use serde_json::{Map, Value};

use super::fault::Fault;
use super::keys::closest;

/// Output tokens below which answers are known to be cut: thoughts and answer share them.
pub const OUTPUT_TOKENS_WARN: u64 = 4_096;
/// The path of the parameters.
const PATH: &str = "model.generation_config";
/// The parameters that the provider documents.
const KNOWN: [&str; 16] = [
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "thinkingConfig",
    "mediaResolution",
    "responseModalities",
    "audioTimestamp",
    "enableEnhancedCivicAnswers",
];
/// The parameters that pagemill sets.
const OURS: [&str; 3] = ["responseSchema", "responseJsonSchema", "responseMimeType"];
/// How far a model may think.
const LEVELS: [&str; 5] = ["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"];
/// How finely a model may look at an image, for a whole request.
const RESOLUTIONS: [&str; 3] = [
    "MEDIA_RESOLUTION_LOW",
    "MEDIA_RESOLUTION_MEDIUM",
    "MEDIA_RESOLUTION_HIGH",
];

/// Writes a snake_case name in camelCase; leaves a camelCase name as it is.
pub fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut raise = false;
    for character in name.trim_start_matches('_').chars() {
        match character {
            '_' => raise = true,
            _ if raise => {
                out.extend(character.to_uppercase());
                raise = false;
            }
            _ => out.push(character),
        }
    }
    out
}

/// Writes every name below in camelCase, but not inside a schema, where names are the user's.
pub fn camel_case_below(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().map(|(name, value)| {
                let name = camel_case(&name);
                let is_schema = name.to_lowercase().ends_with("schema") || name == "parameters";
                let value = if is_schema {
                    value
                } else {
                    camel_case_below(value)
                };
                (name, value)
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(camel_case_below).collect()),
        other => other,
    }
}

/// Checks the parameters (top names already in camelCase) against the model.
pub fn check(model: &str, config: &Map<String, Value>, faults: &mut Vec<Fault>) {
    let mut fault = |name: &str, problem: &str, remedy: &str| {
        faults.push(Fault::new(format!("{PATH}.{name}"), problem, remedy));
    };
    for name in config.keys() {
        if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            fault(
                name,
                "is set by pagemill",
                "take it out and use schema.file",
            );
        }
    }
    if config
        .get("candidateCount")
        .is_some_and(|count| count.as_u64() != Some(1))
    {
        fault(
            "candidateCount",
            "must be 1",
            "take it out; only one answer a page is read",
        );
    }
    if let Some(tokens) = config.get("maxOutputTokens")
        && !tokens
            .as_u64()
            .is_some_and(|tokens| (1..=1_000_000).contains(&tokens))
    {
        fault(
            "maxOutputTokens",
            "is not a whole number from 1 to 1000000",
            "correct it",
        );
    }
    for (name, max) in [("temperature", 2.0), ("topP", 1.0)] {
        if let Some(number) = config.get(name)
            && !number
                .as_f64()
                .is_some_and(|number| (0.0..=max).contains(&number))
        {
            fault(
                name,
                &format!("is not a number from 0 to {max}"),
                "correct it",
            );
        }
    }
    if let Some(resolution) = config.get("mediaResolution")
        && !resolution
            .as_str()
            .is_some_and(|word| RESOLUTIONS.contains(&word))
    {
        let remedy = format!("use one of {}", RESOLUTIONS.join(", "));
        fault(
            "mediaResolution",
            "is not a resolution of a whole request",
            &remedy,
        );
    }
    if let Some(thinking) = config.get("thinkingConfig") {
        check_thinking(model, thinking, &mut fault);
    }
}

fn check_thinking(model: &str, thinking: &Value, fault: &mut dyn FnMut(&str, &str, &str)) {
    let Value::Object(thinking) = thinking else {
        fault(
            "thinkingConfig",
            "is not a mapping",
            "write {thinking_level: LOW}, for example",
        );
        return;
    };
    let budget = thinking.get("thinkingBudget");
    let level = thinking.get("thinkingLevel");
    let generation = generation(model);
    let takes_budget = generation.is_some_and(|generation| generation < 3);
    let takes_level = generation.is_some_and(|generation| generation >= 3);
    if budget.is_some() && level.is_some() {
        fault(
            "thinkingConfig",
            "has both thinkingBudget and thinkingLevel",
            "keep thinkingLevel for models from 3 on, thinkingBudget for 2.5",
        );
        return;
    }
    if budget.is_some() && takes_level {
        let problem = format!("is not taken by {model}, and every page would fail");
        fault(
            "thinkingConfig.thinkingBudget",
            &problem,
            "use thinkingLevel",
        );
    }
    if level.is_some() && takes_budget {
        let problem = format!("is not taken by {model}, and every page would fail");
        fault(
            "thinkingConfig.thinkingLevel",
            &problem,
            "use thinkingBudget",
        );
    }
    if let Some(level) = level
        && !level.as_str().is_some_and(|word| LEVELS.contains(&word))
    {
        let remedy = format!("use one of {}, in upper case", LEVELS.join(", "));
        fault("thinkingConfig.thinkingLevel", "is not a level", &remedy);
    }
    if budget.is_some_and(|budget| budget.as_i64().is_none_or(|budget| budget < -1)) {
        fault(
            "thinkingConfig.thinkingBudget",
            "is not a whole number from -1",
            "use 0 for none, -1 for automatic, or a number of tokens",
        );
    }
}

/// The leading number of a model's name: 3 for `gemini-3.8-flash`.
fn generation(model: &str) -> Option<u32> {
    let rest = model.strip_prefix("gemini-")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// What is allowed but has cost others money.
pub fn warnings(config: &Map<String, Value>) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut warn = |name: &str, problem: String, remedy: &str| {
        found.push(Fault::new(format!("{PATH}.{name}"), problem, remedy));
    };
    match config.get("maxOutputTokens").and_then(Value::as_u64) {
        Some(tokens) if tokens < OUTPUT_TOKENS_WARN => warn(
            "maxOutputTokens",
            format!("{tokens} tokens are few: thoughts and answer share them"),
            "allow at least 4096, or answers are cut",
        ),
        Some(_) => {}
        None => warn(
            "maxOutputTokens",
            "is not set, so an answer may think without end".to_owned(),
            "set a limit, such as 16384",
        ),
    }
    if !config.contains_key("thinkingConfig") {
        warn(
            "thinkingConfig",
            "is not set, so the model thinks as much as it likes at your cost".to_owned(),
            "set thinking_level (models from 3 on) or thinking_budget (2.5)",
        );
    }
    for name in config.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
        let remedy = closest(name, KNOWN.into_iter()).map_or_else(
            || "check its spelling: the provider fails every page over an unknown one".to_owned(),
            |near| {
                format!("did you mean '{near}'? The provider fails every page over an unknown one")
            },
        );
        warn(
            name,
            "is not a parameter that pagemill knows".to_owned(),
            &remedy,
        );
    }
    found
}
