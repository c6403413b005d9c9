//! StateActor on a file, and what its messages are given.

use std::path::Path;

use actix::prelude::*;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::{StateResult, UploadRecord};
use pagemill::actors::state::open::StateOptions;
use pagemill::domain::ids::{RecordKey, RemoteName};
use pagemill::domain::page::{PageEvent, StoredImage};

use crate::state_world::{DAY, at, uploaded};

/// Opens a database.
pub async fn open(path: &Path) -> Addr<StateActor> {
    let options = StateOptions {
        path: path.to_owned(),
        unlock_behind_dead: false,
    };
    StateActor::open(options).await.unwrap().start()
}

/// Sends a message that is not to be refused.
pub async fn tell<M, R>(state: &Addr<StateActor>, message: M) -> R
where
    M: Message<Result = StateResult<R>> + Send + 'static,
    R: Send + 'static,
    StateActor: Handler<M>,
{
    state.send(message).await.unwrap().unwrap()
}

/// The image of a page, stored under a name of its own.
pub fn stored(key: &RecordKey) -> UploadRecord {
    let mut record = uploaded(1, 20);
    let name = RemoteName::from(format!("files/{key}"));
    if let Some((file, _facts)) = &mut record.stored {
        file.name = name.clone();
    }
    let image = StoredImage {
        file: name,
        expires_at: at(20 + 2 * DAY),
    };
    record.event = PageEvent::UploadStored { image };
    record.key = key.clone();
    record
}
