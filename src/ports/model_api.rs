//! The provider's models.

use async_trait::async_trait;

use crate::domain::failure::ApiError;
use crate::domain::remote::RemoteModel;
use crate::domain::time::Timestamp;

/// What came of looking at a model.
#[derive(Debug, Clone)]
pub struct ModelLook {
    /// The provider's clock, where its answer tells it.
    pub date: Option<Timestamp>,
    pub outcome: Result<RemoteModel, ApiError>,
}

/// Looks at models, which costs nothing.
#[async_trait(?Send)]
pub trait ModelApi {
    /// Looks at a model; its name stands without `models/`.
    async fn model(&self, name: &str) -> ModelLook;
}
