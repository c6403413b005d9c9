//! The file store: looking, listing, deleting; transfers stand in `upload` and `download`.

use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::Method;

use super::client::{GeminiClient, resource};
use crate::domain::failure::ApiError;
use crate::domain::ids::RemoteName;
use crate::domain::remote::RemoteFile;
use crate::ports::file_api::{Collected, FileApi, Listing, Upload};
use crate::wire::error::Call;
use crate::wire::file;

/// The most items a list page may have. Always sent: a list without it was seen to be empty.
const PAGE_SIZE: &str = "100";

#[async_trait(?Send)]
impl FileApi for GeminiClient {
    async fn upload(&self, upload: &Upload) -> Result<RemoteFile, ApiError> {
        self.upload_once(upload).await
    }

    async fn file(&self, name: &RemoteName) -> Result<RemoteFile, ApiError> {
        let call = Call::GetFile;
        let body = self.get(call, resource(call, "files", name)?).await?;
        file::file(&body).map_err(|error| self.unreadable(call, 200, &error.to_string()))
    }

    async fn delete_file(&self, name: &RemoteName) -> Result<(), ApiError> {
        let call = Call::DeleteFile;
        self.delete(call, resource(call, "files", name)?).await
    }

    async fn download(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError> {
        self.download_whole(name, destination).await
    }

    async fn list_files(&self, page: Option<&str>) -> Result<Listing<RemoteFile>, ApiError> {
        let call = Call::ListFiles;
        let body = self.get_page(call, "files", page).await?;
        let page = file::file_page(&body)
            .map_err(|error| self.unreadable(call, 200, &error.to_string()))?;
        Ok(Listing {
            items: page.items,
            next: page.next,
        })
    }
}

impl GeminiClient {
    pub(super) async fn get(&self, call: Call, path: &str) -> Result<Vec<u8>, ApiError> {
        let request = self.request(&self.calls, Method::GET, self.url("", path));
        self.json(call, request).await
    }

    pub(super) async fn get_page(
        &self,
        call: Call,
        collection: &str,
        page: Option<&str>,
    ) -> Result<Vec<u8>, ApiError> {
        let mut query = vec![("pageSize", PAGE_SIZE)];
        query.extend(page.map(|token| ("pageToken", token)));
        let mut url = self.url("", collection);
        url.query_pairs_mut().extend_pairs(query);
        let request = self.request(&self.calls, Method::GET, url);
        self.json(call, request).await
    }

    pub(super) async fn delete(&self, call: Call, path: &str) -> Result<(), ApiError> {
        let request = self.request(&self.calls, Method::DELETE, self.url("", path));
        self.json(call, request).await.map(|_empty| ())
    }
}
