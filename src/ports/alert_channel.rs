//! A way to tell somebody of an alert.

use async_trait::async_trait;

use crate::domain::alert::{Channel, Notification};

/// Why nobody was told: one line, without an address's path, a user or a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChannelError(pub String);

/// Brings messages out.
#[async_trait(?Send)]
pub trait AlertChannel {
    /// Which one it is.
    fn channel(&self) -> Channel;

    /// Where it leads, fit to be shown.
    fn place(&self) -> String;

    /// Tries once to bring a message out, within a time limit of its own. A message may come again
    /// under the same [`Notification::idempotency_id`]: an answer can be lost.
    async fn deliver(&self, notification: &Notification) -> Result<(), ChannelError>;
}
