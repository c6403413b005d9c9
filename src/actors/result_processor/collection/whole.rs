//! Whether a results file has as many lines as the provider counted answers.

use std::path::PathBuf;

use super::super::CollectionError;
use super::super::index::Index;
use super::{Collection, CollectionEnd, index_of};
use crate::actors::activity::answered;
use crate::actors::state::messages::{BeginCollect, RawFile, ToJudge};
use crate::domain::failure::Next;
use crate::notices;
use crate::ports::file_api::Collected;

impl Collection {
    /// Which line answers whom. A file with fewer lines than the provider counts is fetched once
    /// more before any page counts as unanswered: the answers are paid for. What then is missing
    /// is missing, for the provider's counts have been wrong too.
    pub(super) async fn whole_index(
        &self,
        raw: RawFile,
        members: &[ToJudge],
    ) -> Result<Result<(PathBuf, Index), CollectionEnd>, CollectionError> {
        let path = PathBuf::from(&raw.path);
        let keys = || members.iter().map(|member| member.key.clone());
        let index = index_of(&self.shop, &path, keys()).await?;
        let Some(promised) = self.row.answers_counted.filter(|n| *n > index.counts.lines) else {
            return Ok(Ok((path, index)));
        };
        notices::ResultsShort {
            batch: &self.row.batch,
            lines: index.counts.lines,
            promised,
        }
        .emit();
        let path = self.shop.ports.sink.raw_path(&self.row.batch);
        match self.fetch(path.clone()).await {
            Ok(Collected { bytes, sha256 }) => {
                let raw = RawFile {
                    path: path.to_string_lossy().into_owned(),
                    bytes,
                    sha256,
                };
                let (batch, at) = (self.row.batch.clone(), self.now());
                let begin = BeginCollect { batch, raw, at };
                answered(self.shop.peers.state.send(begin).await)?;
                let index = index_of(&self.shop, &path, keys()).await?;
                Ok(Ok((path, index)))
            }
            Err(error) if matches!(error.next, Next::Missing) => Ok(Ok((path, index))),
            Err(error) => self.not_fetched(error).await.map(Err),
        }
    }
}
