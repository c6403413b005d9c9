//! Who watches over a run: from the settings to the actor.

use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Addr};

use super::{Plan, World};
use crate::actors::alerter::{Alerter, AlerterOptions, AlerterPorts};
use crate::actors::state::StateActor;
use crate::adapters::command_hook::{CommandHook, CommandOptions};
use crate::adapters::gemini::SecretText;
use crate::adapters::webhook::{Webhook, WebhookFault, WebhookOptions};
use crate::decide::alert::AlertRules;
use crate::domain::ids::{RunId, ScopeToken};
use crate::ports::alert_channel::AlertChannel;
use crate::settings::Settings;

/// The longest pause between two signs of life: a row a minute costs nothing.
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// The first pause between two tries to bring a message out, and the longest.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// The longest that the end of a run waits for its last messages.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Starts the alerter of a plan that has one.
pub(super) fn start_alerter(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
) -> Option<Addr<Alerter>> {
    let options = plan.alerter.clone()?;
    let ports = AlerterPorts {
        channels: world.channels.clone(),
        sink: Rc::clone(&world.sink),
        clock: Rc::clone(&world.clock),
        entropy: Rc::clone(&world.entropy),
    };
    Some(Alerter::new(options, state.clone(), ports).start())
}

/// When an operator is told.
pub fn rules(settings: &Settings) -> AlertRules {
    let alerts = &settings.alerts;
    let free_bytes = match alerts.disk_free_bytes {
        0 => 0,
        bytes => bytes.max(settings.paths.free_bytes_min),
    };
    AlertRules {
        consecutive_failures: alerts.consecutive_failures,
        failure_percent: alerts.failure_percent,
        failure_window: alerts.failure_window,
        nothing_accepted: alerts.nothing_accepted,
        uncollected: settings.results.uncollected_alarm,
        storage_percent: alerts.storage_percent,
        storage_budget_bytes: settings.files.storage_budget_bytes,
        free_bytes,
        // A run that is about to end for it says so first.
        provider: alerts.provider.min(settings.execution.provider_unavailable),
        slow_factor: alerts.slow_factor,
        slow_age: settings.batch.slow_warn,
    }
}

/// What the alerter of a run is told.
pub(super) fn options(settings: &Settings, run: &RunId, scope: &ScopeToken) -> AlerterOptions {
    AlerterOptions {
        run: run.clone(),
        scope: scope.clone(),
        instance: settings.batch.display_name_prefix.clone(),
        rules: rules(settings),
        interval: settings.alerts.interval,
        heartbeat: HEARTBEAT,
        attempts_max: settings.alerts.attempts_max,
        pause: PAUSE,
        pause_max: PAUSE_MAX,
        last_words: LAST_WORDS.min(settings.shutdown_grace / 2),
    }
}

/// The channels of the settings. Opens no connection and runs nothing.
pub fn channels(settings: &Settings) -> Result<Vec<Rc<dyn AlertChannel>>, WebhookFault> {
    let alerts = &settings.alerts;
    let mut channels: Vec<Rc<dyn AlertChannel>> = Vec::new();
    if let Some(webhook) = &alerts.webhook {
        let secret = webhook.secret.as_ref();
        channels.push(Rc::new(Webhook::new(WebhookOptions {
            url: webhook.url.expose().to_owned(),
            secret: secret.map(|secret| SecretText::new(secret.expose())),
            timeout: alerts.timeout,
        })?));
    }
    if !alerts.command.is_empty() {
        channels.push(Rc::new(CommandHook::new(command(settings))));
    }
    Ok(channels)
}

/// A command sees the environment of this process without what is secret in it.
fn command(settings: &Settings) -> CommandOptions {
    let alerts = &settings.alerts;
    let mut hidden_names = vec!["GEMINI_API_KEY".to_owned(), "GOOGLE_API_KEY".to_owned()];
    let mut hidden_texts = Vec::new();
    if let Some(key) = &settings.api_key {
        hidden_texts.push(SecretText::new(key.expose()));
    }
    if let Some(webhook) = &alerts.webhook {
        hidden_names.extend(webhook.secret_env.clone());
        hidden_texts.push(SecretText::new(webhook.url.expose()));
        let secret = webhook.secret.as_ref();
        hidden_texts.extend(secret.map(|secret| SecretText::new(secret.expose())));
    }
    CommandOptions {
        command: alerts.command.clone(),
        timeout: alerts.timeout,
        hidden_names,
        hidden_texts,
    }
}
