//! What the provider says: to the key, about the model, and what time it is there.

use super::Findings;
use crate::adapters::system_clock;
use crate::decide::doctor::{Refusal, Verdict, clock_skew};
use crate::domain::remote::RemoteModel;
use crate::domain::time::Timestamp;
use crate::pipeline::from_settings;
use crate::ports::batch_api::BatchApi;
use crate::ports::model_api::ModelApi;
use crate::report::words;
use crate::settings::{Fault, Settings};

/// Whether there is a key; shown only as its fingerprint.
pub(super) fn key(settings: &Settings, findings: &mut Findings) -> bool {
    let project = settings.api.project.as_deref();
    match &settings.api_key {
        Some(key) => {
            let fingerprint = key.fingerprint(project);
            findings.good("key", format!("is set, fingerprint {fingerprint}"));
            true
        }
        None => {
            let fault = Fault::new(
                "GEMINI_API_KEY",
                "is not set, so nothing can be sent",
                "set it, or write it into .env beside the configuration file",
            );
            findings.configuration("key", Verdict::Fail, &fault);
            false
        }
    }
}

/// Asks the provider what costs nothing.
pub(super) async fn ask(settings: &Settings, findings: &mut Findings) {
    let client = match from_settings::client(settings) {
        Ok(client) => client,
        Err(error) => {
            let fault = Fault::new("api", error.to_string(), "correct the setting");
            findings.configuration("provider", Verdict::Fail, &fault);
            return;
        }
    };
    let asked_at = system_clock::now();
    let look = client.model(&settings.model.name).await;
    let answered_at = system_clock::now();
    if let Some(theirs) = look.date {
        // Half of the way there and back is as good a guess as any.
        clock(
            asked_at.plus(answered_at.since(asked_at) / 2),
            theirs,
            findings,
        );
    }
    match look.outcome {
        Ok(found) => {
            findings.good(
                "provider",
                format!("{} takes the key", settings.api.base_url),
            );
            model(settings, &found, findings);
        }
        Err(error) => {
            let refusal = Refusal::of(&error);
            if refusal.key_is_good() {
                findings.good(
                    "provider",
                    format!("{} takes the key", settings.api.base_url),
                );
                let words = format!("{}: {}", settings.model.name, refusal);
                findings.fail("model", words, refusal.remedy());
            } else {
                let words = format!("{refusal}: {error}");
                findings.judged("provider", refusal.verdict(), words, refusal.remedy());
                return;
            }
        }
    }
    match client.list(None).await {
        Ok(_page) => findings.good("batch api", "the key may list batches"),
        Err(error) => {
            let refusal = Refusal::of(&error);
            let words = format!("{refusal}: {error}");
            findings.judged("batch api", refusal.verdict(), words, refusal.remedy());
        }
    }
}

fn model(settings: &Settings, found: &RemoteModel, findings: &mut Findings) {
    let takes_batches = |method: &String| method.to_lowercase().contains("batch");
    let name = &found.name;
    if found.methods.is_empty() {
        findings.good("model", format!("{name} exists"));
    } else if found.methods.iter().any(takes_batches) {
        findings.good("model", format!("{name} exists and takes batches"));
    } else {
        findings.warn(
            "model",
            format!("{name} does not say that it takes batches"),
            "look it up in the provider's list, or choose another model.name",
        );
    }
    if let Some((asked, most)) = settings
        .model
        .max_output_tokens()
        .zip(found.output_tokens_max)
        && asked > most
    {
        findings.warn(
            "model",
            format!("maxOutputTokens is {asked}, but {name} gives at most {most}"),
            "lower it: every page could be refused",
        );
    }
}

fn clock(ours: Timestamp, theirs: Timestamp, findings: &mut Findings) {
    let (skew, verdict) = clock_skew(ours, theirs);
    let words = format!("{} from the provider's", words::span(skew));
    let remedy = match verdict {
        Verdict::Good => "",
        Verdict::Warn | Verdict::Fail => "set this machine's clock, with NTP for example",
    };
    findings.judged("clock", verdict, words, remedy);
}
