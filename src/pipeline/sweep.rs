//! What an upload left behind when its answer was lost: found by our own display names, and deleted
//! when the ledger does not know it.

use std::collections::HashSet;
use std::rc::Rc;

use actix::Addr;
use futures_util::StreamExt;

use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{KnownFiles, StateError};
use crate::domain::failure::{ApiError, Next};
use crate::domain::ids::RemoteName;
use crate::notices;
use crate::ports::file_api::FileApi;

/// Pages of the remote listing that are read at most; beyond them files expire by themselves.
pub(super) const PAGES_MAX: usize = 2_000;
/// Deletions that run side by side.
const DELETIONS: usize = 8;

/// Deletes remote files whose display name begins with `prefix`, which no other state uses, and
/// that the ledger does not know. To be called only while nothing is being uploaded: a file that is
/// not recorded yet would look like one that was left behind. What cannot be listed or deleted now
/// is left to expire.
pub async fn sweep(
    files: &Rc<dyn FileApi>,
    state: &Addr<StateActor>,
    prefix: &str,
) -> Result<u64, StateError> {
    let mut left_behind: Vec<RemoteName> = Vec::new();
    let mut page: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let listed = with_tries(|| files.list_files(page.as_deref())).await;
        let listing = match listed {
            Ok(listing) => listing,
            Err(error) => {
                notices::SweepStopped {
                    message: &error.message,
                }
                .emit();
                break;
            }
        };
        let ours: Vec<RemoteName> = listing
            .items
            .into_iter()
            .filter(|file| {
                file.display_name
                    .as_deref()
                    .is_some_and(|name| is_ours(name, prefix))
            })
            .map(|file| file.name)
            .collect();
        if !ours.is_empty() {
            let question = KnownFiles {
                names: ours.clone(),
            };
            let known: HashSet<RemoteName> =
                answered(state.send(question).await)?.into_iter().collect();
            left_behind.extend(ours.into_iter().filter(|name| !known.contains(name)));
        }
        page = listing.next;
        if page.is_none() {
            break;
        }
    }
    let deleted = futures_util::stream::iter(left_behind)
        .map(|name| async move { with_tries(|| files.delete_file(&name)).await.is_ok() })
        .buffer_unordered(DELETIONS)
        .filter(|deleted| futures_util::future::ready(*deleted))
        .count()
        .await as u64;
    if deleted > 0 {
        notices::Swept { files: deleted }.emit();
    }
    Ok(deleted)
}

/// Whether a display name is one that this state gives: its prefix, what the file is for, an id. A
/// name that only begins alike belongs to somebody else.
fn is_ours(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with("-image-") || rest.starts_with("-lines-"))
}

/// Calls that are made at most for one page or one file.
const TRIES: u32 = 6;

/// Makes a call until it succeeds, is refused for good, or has been tried often enough.
pub(super) async fn with_tries<T, F>(call: impl Fn() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut tried = 1;
    loop {
        match call().await {
            Err(error)
                if tried < TRIES
                    && matches!(error.next, Next::Transient | Next::Throttled { .. }) =>
            {
                tried += 1;
            }
            ended => return ended,
        }
    }
}
