//! Batch jobs.

use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::client::{GeminiClient, is_plain, resource};
use super::fault;
use super::part_file;
use crate::domain::failure::ApiError;
use crate::domain::ids::RemoteName;
use crate::domain::remote::RemoteBatch;
use crate::ports::batch_api::BatchApi;
use crate::ports::file_api::{Collected, Listing};
use crate::wire::error::Call;
use crate::wire::{operation, request};

#[async_trait(?Send)]
impl BatchApi for GeminiClient {
    async fn create(
        &self,
        model: &str,
        display_name: &str,
        input: &RemoteName,
    ) -> Result<RemoteBatch, ApiError> {
        let call = Call::CreateBatch;
        let model = model.strip_prefix("models/").unwrap_or(model);
        if !is_plain(model) {
            return Err(fault::not_sent(call, &format!("'{model}' is not a model")));
        }
        let input = resource(call, "files", input)?;
        let url = self.url("", &format!("models/{model}:batchGenerateContent"));
        let request = self
            .request(&self.creates, Method::POST, url)
            .header(CONTENT_TYPE, "application/json")
            .body(request::batch_create(display_name, input));
        let body = self.json(call, request).await?;
        operation::batch(&body).map_err(|error| self.unreadable(call, 200, &error.to_string()))
    }

    async fn batch(&self, name: &RemoteName) -> Result<RemoteBatch, ApiError> {
        let call = Call::GetBatch;
        let body = self.get(call, resource(call, "batches", name)?).await?;
        operation::batch(&body).map_err(|error| self.unreadable(call, 200, &error.to_string()))
    }

    async fn list(&self, page: Option<&str>) -> Result<Listing<RemoteBatch>, ApiError> {
        let call = Call::ListBatches;
        let body = self.get_page(call, "batches", page).await?;
        let page = operation::batch_page(&body)
            .map_err(|error| self.unreadable(call, 200, &error.to_string()))?;
        Ok(Listing {
            items: page.items,
            next: page.next,
        })
    }

    async fn cancel(&self, name: &RemoteName) -> Result<(), ApiError> {
        let call = Call::CancelBatch;
        let url = self.url("", &format!("{}:cancel", resource(call, "batches", name)?));
        // An empty body has no length unless one is named, and a POST without one is refused.
        let request = self
            .request(&self.calls, Method::POST, url)
            .header(CONTENT_LENGTH, 0);
        self.json(call, request).await.map(|_empty| ())
    }

    async fn delete_batch(&self, name: &RemoteName) -> Result<(), ApiError> {
        let call = Call::DeleteBatch;
        self.delete(call, resource(call, "batches", name)?).await
    }

    async fn save_inline(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        let call = Call::GetBatch;
        let body = self.get(call, resource(call, "batches", name)?).await?;
        let lines = operation::inline_lines(&body)
            .map_err(|error| self.unreadable(call, 200, &error.to_string()))?
            .ok_or_else(|| self.unreadable(call, 200, "the batch has no results inside"))?;
        part_file::save(call, destination, lines).await
    }
}
