//! What one result line says, in plain values.

use super::attempt::Tokens;
use super::remote::RemoteStatus;

/// The two things a line can carry for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowBody {
    Response(Response),
    Error(RemoteStatus),
}

/// A response, good or bad; every part of it may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// How many candidates there are; only the first is read.
    pub candidates: usize,
    pub finish_reason: Option<String>,
    /// All text parts that are not thoughts, joined; absent when there is no such part.
    pub text: Option<String>,
    /// Why the prompt was refused.
    pub block_reason: Option<String>,
    pub tokens: Tokens,
    pub model_version: Option<String>,
}
