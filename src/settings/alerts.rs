//! When an operator is told, and how.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::build::reader::Reader;
use super::build::{host, is_loopback};
use super::fault::Fault;
use super::secret::{Hidden, MASK};

/// When an operator is told, and how. A limit of 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    pub consecutive_failures: u64,
    pub failure_percent: u64,
    pub failure_window: u64,
    pub nothing_accepted: Duration,
    pub storage_percent: u64,
    pub disk_free_bytes: u64,
    pub provider: Duration,
    pub slow_factor: u32,
    pub interval: Duration,
    pub timeout: Duration,
    pub attempts_max: u32,
    /// The program and its arguments; empty when there is none.
    pub command: Vec<String>,
    pub webhook: Option<Webhook>,
}

/// Where messages are sent by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: Hidden,
    /// The variable that holds the secret.
    pub secret_env: Option<String>,
    /// From that variable; much can be done without.
    pub secret: Option<Hidden>,
}

const URL: &str = "alerts.webhook.url";
const SECRET_ENV: &str = "alerts.webhook.secret_env";
/// Shorter secrets can be found by trying.
const SECRET_CHARACTERS_MIN: usize = 16;
const HOUR: u64 = 3_600;

/// Reads the section.
pub(super) fn alerts(reader: &mut Reader<'_>) -> Alerts {
    Alerts {
        consecutive_failures: reader.integer("alerts.consecutive_failures"),
        failure_percent: reader.integer("alerts.failure_percent"),
        failure_window: reader.integer("alerts.failure_window"),
        nothing_accepted: Duration::from_secs(
            reader.integer("alerts.nothing_accepted_hours") * HOUR,
        ),
        storage_percent: reader.integer("alerts.storage_percent"),
        disk_free_bytes: reader.bytes("alerts.disk_free_bytes"),
        provider: reader.seconds("alerts.provider_seconds"),
        slow_factor: reader.small("alerts.slow_factor"),
        interval: reader.seconds("alerts.interval_seconds"),
        timeout: reader.seconds("alerts.timeout_seconds"),
        attempts_max: reader.small("alerts.attempts_max"),
        command: command(reader),
        webhook: webhook(reader),
    }
}

fn command(reader: &mut Reader<'_>) -> Vec<String> {
    let mut command = reader.texts("alerts.command");
    // A program named by a path is where every other path of the settings is: below their file.
    if let Some(program) = command.first_mut()
        && program.contains('/')
    {
        *program = reader
            .absolute(Path::new(program.as_str()))
            .display()
            .to_string();
    }
    command
}

fn webhook(reader: &mut Reader<'_>) -> Option<Webhook> {
    let url = reader.optional_text(URL);
    let secret_env = reader.optional_text(SECRET_ENV);
    if let Some(name) = &secret_env
        && let Err(remedy) = variable(name)
    {
        // The name is not repeated: it may be the secret itself.
        let problem = "is not the name of a variable for this secret".to_owned();
        reader.fault(SECRET_ENV, problem, remedy);
    }
    let Some(url) = url else {
        if secret_env.is_some() {
            let problem = format!("is given without {URL}");
            reader.fault(SECRET_ENV, problem, "give both, or take it out");
        }
        return None;
    };
    if let Err((problem, remedy)) = address(&url) {
        reader.fault(URL, problem.to_owned(), remedy);
    }
    Some(Webhook {
        url: Hidden::new(url),
        secret_env,
        secret: None,
    })
}

fn variable(name: &str) -> Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = name.bytes().all(is_plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    if !is_name {
        return Err("write the name of an environment variable, such as PAGEMILL_ALERT_SECRET");
    }
    if name == "GEMINI_API_KEY" || name == "GOOGLE_API_KEY" {
        return Err("the API key is not for others; set a secret of its own");
    }
    if name.starts_with("PAGEMILL__") {
        return Err("variables of this form are settings; choose another name");
    }
    Ok(())
}

/// Checks an address; never repeats it, for it may let somebody in.
fn address(url: &str) -> Result<(), (&'static str, &'static str)> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    if !is_web {
        let remedy = "write the whole address, such as https://alerts.example.org/hook";
        return Err(("does not start with https://", remedy));
    }
    let after_user = |url: &str| match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let bare = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{bare}")
        }
        None => url.to_owned(),
    };
    let bare = after_user(url);
    if host(&bare).is_empty() || url.contains(char::is_whitespace) {
        return Err((
            "names no host",
            "write it like https://alerts.example.org/hook",
        ));
    }
    if url.contains(MASK) {
        let remedy = "write the address itself; settings are shown without its path";
        return Err(("is masked", remedy));
    }
    if url.starts_with("http://") && !is_loopback(&bare) {
        let remedy = "use https://; http:// is for addresses of this machine only";
        return Err(("would send messages over the network unencrypted", remedy));
    }
    Ok(())
}

impl Alerts {
    /// Takes the secret from the environment, if it is there.
    pub(super) fn take_secret(&mut self, env: &BTreeMap<String, String>, faults: &mut Vec<Fault>) {
        let Some(webhook) = &mut self.webhook else {
            return;
        };
        let Some(name) = &webhook.secret_env else {
            return;
        };
        let given = env.get(name).map(|text| text.trim()).unwrap_or_default();
        if given.is_empty() {
            return;
        }
        if given.chars().count() < SECRET_CHARACTERS_MIN {
            faults.push(Fault::new(
                SECRET_ENV,
                format!("names a variable with fewer than {SECRET_CHARACTERS_MIN} characters"),
                "make a secret with: openssl rand -hex 32",
            ));
        }
        webhook.secret = Some(Hidden::new(given));
    }

    /// Takes the secret out of what is said of the settings.
    pub(super) fn mask(&self, faults: &mut [Fault]) {
        let webhook = self.webhook.as_ref();
        let Some(secret) = webhook.and_then(|webhook| webhook.secret.as_ref()) else {
            return;
        };
        for fault in faults {
            for text in [&mut fault.path, &mut fault.problem, &mut fault.remedy] {
                if secret.is_in(text) {
                    *text = text.replace(secret.expose(), MASK);
                }
            }
        }
    }

    /// Messages that were to be signed are not sent unsigned.
    pub fn missing_secret(&self) -> Option<Fault> {
        let webhook = self.webhook.as_ref()?;
        let name = webhook.secret_env.as_ref()?;
        webhook.secret.is_none().then(|| {
            Fault::new(
                SECRET_ENV,
                format!("the environment variable {name} is not set"),
                "set it, or write it into .env beside the configuration file",
            )
        })
    }

    /// What is allowed and not wise.
    pub(super) fn warning(&self) -> Option<Fault> {
        let webhook = self.webhook.as_ref()?;
        webhook.secret_env.is_none().then(|| {
            Fault::new(
                SECRET_ENV,
                "is absent, so whoever gets a message cannot tell that it is from here",
                "name a variable that holds a secret",
            )
        })
    }
}
