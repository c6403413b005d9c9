//! The provider's file store.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::domain::failure::ApiError;
use crate::domain::ids::{RemoteName, Sha256Hex};
use crate::domain::remote::RemoteFile;
use crate::ports::page_source::Content;

/// One file to bring to the store.
#[derive(Debug, Clone)]
pub struct Upload {
    /// A name of ours, ASCII, at most 512 characters.
    pub display_name: String,
    /// What the provider is told the bytes are.
    pub mime: String,
    pub path: PathBuf,
    /// What the file held when it was checked; an upload of anything else is refused.
    pub bytes: u64,
    pub sha256: Sha256Hex,
    /// What was checked, where it is held: it is sent, and the file is not read again.
    pub content: Option<Content>,
}

/// A result that is on our disk: whole, synced, under its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    pub bytes: u64,
    pub sha256: Sha256Hex,
}

/// A page of a remote listing.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// Where to go on; absent on the last page.
    pub next: Option<String>,
}

/// Uploads, looks at, fetches and deletes remote files.
#[async_trait(?Send)]
pub trait FileApi {
    /// One try to upload one file: start, chunks, finalize, with `query` to go on after a broken
    /// chunk. Succeeds only when the answer has name, uri, our size and, where given, our hash.
    async fn upload(&self, upload: &Upload) -> Result<RemoteFile, ApiError>;

    /// Looks at a file.
    async fn file(&self, name: &RemoteName) -> Result<RemoteFile, ApiError>;

    /// Deletes a file. A file that is already gone is [`crate::domain::failure::Next::Missing`].
    async fn delete_file(&self, name: &RemoteName) -> Result<(), ApiError>;

    /// Brings a generated file to `destination`: to a temporary file beside it first, resumed when
    /// the connection breaks, then synced and renamed. Never leaves a partial `destination`.
    async fn download(
        &self,
        name: &RemoteName,
        destination: PathBuf,
    ) -> Result<Collected, ApiError>;

    /// One page of the files that this key can see; `page` is the token of the page before.
    async fn list_files(&self, page: Option<&str>) -> Result<Listing<RemoteFile>, ApiError>;
}
