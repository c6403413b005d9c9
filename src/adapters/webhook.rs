//! Tells of alerts by HTTP: one signed POST a try.
//!
//! **Invariant:** nothing of the address but scheme, host and port stands in a message or a `Debug`
//! text: paths and users of such addresses are secrets. The secret itself stands nowhere.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use sha2::Sha256;

use super::gemini::SecretText;
use crate::domain::alert::{Channel, Notification};
use crate::ports::alert_channel::{AlertChannel, ChannelError};
use crate::wire::alert;

/// The header that carries time and signature.
pub const SIGNATURE_HEADER: &str = "Pagemill-Signature";
/// The header by which a receiver knows a message that comes again.
pub const ID_HEADER: &str = "Idempotency-Key";

/// Where messages go.
#[derive(Clone)]
pub struct WebhookOptions {
    pub url: String,
    /// Without one, messages are not signed.
    pub secret: Option<SecretText>,
    /// For the whole exchange.
    pub timeout: Duration,
}

/// Why a webhook cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookFault {
    #[error("alerts.webhook.url is not an https address, or an http address of this machine")]
    Url,
    #[error("no TLS provider is installed; the program installs one before anything else")]
    NoTls,
    #[error("the HTTP client cannot be built: {0}")]
    Client(String),
}

/// Sends messages to one address.
pub struct Webhook {
    client: reqwest::Client,
    url: Url,
    secret: Option<SecretText>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("place", &shown(&self.url))
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// Makes a webhook. Opens no connection.
    pub fn new(options: WebhookOptions) -> Result<Self, WebhookFault> {
        let url = Url::parse(options.url.trim()).map_err(|_| WebhookFault::Url)?;
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if !is_safe || url.host_str().is_none() {
            return Err(WebhookFault::Url);
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(WebhookFault::NoTls);
        }
        // Tries are repeated by whoever keeps the message, and a redirect could carry it anywhere.
        let builder = reqwest::Client::builder()
            .user_agent(concat!("pagemill/", env!("CARGO_PKG_VERSION")))
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(options.timeout)
            .timeout(options.timeout)
            .pool_max_idle_per_host(0);
        let builder = if is_loopback(&url) {
            builder.no_proxy()
        } else {
            builder
        };
        let client = builder
            .build()
            .map_err(|error| WebhookFault::Client(chain(&error)))?;
        Ok(Webhook {
            client,
            url,
            secret: options.secret,
        })
    }
}

#[async_trait(?Send)]
impl AlertChannel for Webhook {
    fn channel(&self) -> Channel {
        Channel::Webhook
    }

    fn place(&self) -> String {
        shown(&self.url)
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), ChannelError> {
        let body = alert::body(notification);
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ID_HEADER, notification.idempotency_id());
        if let Some(secret) = &self.secret {
            let seconds = notification.at.as_micros().div_euclid(1_000_000);
            request = request.header(SIGNATURE_HEADER, signature(secret, seconds, &body));
        }
        // What the receiver has to say beyond its status is not read: it may repeat anything.
        let answer = request.body(body).send().await;
        let status = answer.map_err(|error| self.fault(&error))?.status();
        let words = match status.as_u16() {
            200..300 => return Ok(()),
            code @ 300..400 => format!("answered {code}; redirects are not followed"),
            code => format!("answered {code}"),
        };
        Err(ChannelError(format!("{} {words}", self.place())))
    }
}

impl Webhook {
    fn fault(&self, error: &reqwest::Error) -> ChannelError {
        let what = if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke"
        };
        ChannelError(format!("{}: {what}: {}", self.place(), chain(error)))
    }
}

/// `t=SECONDS,v1=HEX`: the HMAC-SHA256 of the seconds, a dot and the body.
fn signature(secret: &SecretText, seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body.as_bytes());
    let code = hex::encode(mac.finalize().into_bytes());
    format!("t={seconds},v1={code}")
}

/// Scheme, host and port.
fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// The causes of an error. Its outermost text names the whole address and is left out.
fn chain(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() {
        "no further detail".to_owned()
    } else {
        causes.join(": ").replace(['\n', '\r'], " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(url: &str) -> Result<Webhook, WebhookFault> {
        // Another test of this process may have installed it.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        Webhook::new(WebhookOptions {
            url: url.to_owned(),
            secret: Some(SecretText::new("a secret of sixteen")),
            timeout: Duration::from_secs(1),
        })
    }

    #[test]
    fn only_addresses_that_keep_a_secret_are_taken() {
        for good in [
            "https://example.org/hooks/1?a=b",
            "https://user:pass@example.org/",
            "http://127.0.0.1:9/",
            "http://[::1]:9/x",
            "http://localhost/x",
        ] {
            assert!(webhook(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.org/",
            "ftp://example.org/",
            "example.org",
            "",
        ] {
            assert_eq!(webhook(bad).err(), Some(WebhookFault::Url), "{bad}");
        }
    }

    #[test]
    fn nothing_but_the_host_is_shown() {
        let hook = webhook("https://user:pass@example.org:8443/T0/secret?x=secret").unwrap();
        assert_eq!(hook.place(), "https://example.org:8443");
        assert_eq!(
            format!("{hook:?}"),
            "Webhook { place: \"https://example.org:8443\", .. }"
        );
    }

    #[test]
    fn the_signature_is_the_hmac_of_time_and_body() {
        // What `printf '1700000000.{}' | openssl dgst -sha256 -hmac key` says.
        let expected = "t=1700000000,\
                        v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        let found = signature(&SecretText::new("key"), 1_700_000_000, "{}");
        assert_eq!(found, expected);
    }
}
