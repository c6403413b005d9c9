//! The provider's batch jobs.

use std::path::PathBuf;

use async_trait::async_trait;

use super::file_api::{Collected, Listing};
use crate::domain::failure::ApiError;
use crate::domain::ids::RemoteName;
use crate::domain::remote::RemoteBatch;

/// Creates, watches and ends jobs.
#[async_trait(?Send)]
pub trait BatchApi {
    /// Sends one create, once. An error with [`crate::domain::failure::Effect::Maybe`] says that
    /// the job may exist all the same.
    async fn create(
        &self,
        model: &str,
        display_name: &str,
        input: &RemoteName,
    ) -> Result<RemoteBatch, ApiError>;

    /// Looks at a job.
    async fn batch(&self, name: &RemoteName) -> Result<RemoteBatch, ApiError>;

    /// One page of the jobs that this key can see, newest first, with an explicit page size;
    /// `page` is the token of the page before.
    async fn list(&self, page: Option<&str>) -> Result<Listing<RemoteBatch>, ApiError>;

    /// Asks the provider to stop a job.
    async fn cancel(&self, name: &RemoteName) -> Result<(), ApiError>;

    /// Deletes a job and its result file.
    async fn delete_batch(&self, name: &RemoteName) -> Result<(), ApiError>;

    /// Brings the results that stand inside the job to `destination` as lines, in the form that a
    /// result file has; durable as [`super::file_api::FileApi::download`] is.
    async fn save_inline(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError>;
}
