//! Time.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::time::Timestamp;

/// Tells the time and waits.
#[async_trait(?Send)]
pub trait Clock {
    /// The current instant.
    fn now(&self) -> Timestamp;

    /// Returns after `span` of this clock's time.
    async fn sleep(&self, span: Duration);
}
