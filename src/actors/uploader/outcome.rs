//! How an upload ends, and what the state is told of it.

use actix::Addr;

use super::transfer::{Transfer, TransferError};
use crate::actors::brake;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{Counted, StateError, StoredFile, UploadRecord};
use crate::decide::retry::UploadEnd;
use crate::domain::attempt::FailureDetail;
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::image::{ImageFacts, ImageFault};
use crate::domain::page::{PageEvent, StoredImage};
use crate::meter::{Spot, waiting};
use crate::ports::clock::Clock;
use crate::ports::file_api::Upload;

/// Sends one file; a refusal that speaks of the account halts submission.
pub async fn send(
    transfer: &Transfer,
    upload: &Upload,
    state: &Addr<StateActor>,
    clock: &dyn Clock,
) -> Result<Result<StoredFile, TransferError>, StateError> {
    let sent = waiting(Spot::UploadSlot, transfer.send(upload)).await;
    if let Err(failed) = &sent {
        brake::heed(state, &failed.last, clock.now()).await?;
    }
    Ok(sent)
}
use crate::domain::time::Timestamp;

/// The image is in the store.
pub fn stored(key: RecordKey, file: StoredFile, facts: ImageFacts) -> UploadRecord {
    let image = StoredImage {
        file: file.name.clone(),
        expires_at: file.expires_at,
    };
    UploadRecord {
        key,
        event: PageEvent::UploadStored { image },
        stored: Some((file, facts)),
        failure: None,
        cycle_spent: false,
        note: "the image is in the provider's store".to_owned(),
    }
}

/// The image will never be sent as it is. It keeps its page away by itself, and the page comes back
/// when it is mended: its retries are for answers, and none was asked for.
pub fn image_refused(key: RecordKey, fault: &ImageFault) -> UploadRecord {
    let error = ErrorType::Image;
    UploadRecord {
        key,
        event: PageEvent::UploadRefused { error },
        stored: None,
        failure: Some((failure(error, fault.to_string()), Counted::No)),
        cycle_spent: false,
        note: fault.to_string(),
    }
}

/// Our own disk does not give the image now; nothing is held against the page.
pub fn disk_failed(key: RecordKey, until: Timestamp, reason: &str) -> UploadRecord {
    UploadRecord {
        key,
        event: PageEvent::UploadDeferred { until: Some(until) },
        stored: None,
        failure: None,
        cycle_spent: false,
        note: reason.to_owned(),
    }
}

/// The tries of one upload are spent.
pub fn failed(key: RecordKey, end: UploadEnd, message: String) -> UploadRecord {
    let counted = if end.counted {
        Counted::Yes
    } else {
        Counted::No
    };
    UploadRecord {
        key,
        event: end.event,
        stored: None,
        failure: Some((failure(ErrorType::Upload, message.clone()), counted)),
        cycle_spent: end.cycle_spent,
        note: message,
    }
}

fn failure(error: ErrorType, message: String) -> FailureDetail {
    FailureDetail {
        error,
        chain: message.clone(),
        message,
        raw_text: None,
        extracted_text: None,
        raw_json: None,
    }
}
