//! How much is sent at a time, as it was adapted to what the service takes.

/// What was learned of one model. Nothing is known of a model that never gave trouble.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// Pages in a batch, while they are fewer than the setting allows.
    pub pages_max: Option<u32>,
    /// Input tokens in all batches together, while that is limited.
    pub tokens_max: Option<u64>,
    /// Batches without trouble since the last change.
    pub clean: u32,
    /// Why it is so, for people.
    pub reason: String,
}
