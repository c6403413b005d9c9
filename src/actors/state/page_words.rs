//! What the history and the status of a page say of what happened to it.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::rows::PageRow;
use crate::domain::page::{Afterwards, PageEvent, RequeueCause};

/// What `page_events.details` keeps of an event; `before` is the row that it met.
pub(super) fn event_details(event: &PageEvent, before: &PageRow) -> Cow<'static, str> {
    let details: Value = match event {
        PageEvent::UploadStarted
        | PageEvent::AnswerAtHand
        | PageEvent::LabelVanished
        | PageEvent::LeftOut => return Cow::Borrowed("{}"),
        PageEvent::UploadStored { image } => {
            json!({"file": image.file.as_str(), "expires_at": image.expires_at.to_string()})
        }
        PageEvent::UploadDeferred { until } => json!({"until": until.map(|at| at.to_string())}),
        PageEvent::FileExpired => json!({"file": before.image_file}),
        PageEvent::Packed { batch } => json!({"batch": batch.as_str()}),
        PageEvent::Released { at } => json!({"at": at.to_string()}),
        PageEvent::BatchExpired { until } => json!({"until": until.to_string()}),
        PageEvent::UploadRefused { error }
        | PageEvent::PackRefused { error }
        | PageEvent::ReleasesSpent { error }
        | PageEvent::Isolated { error } => json!({"error": error.as_str()}),
        PageEvent::Accepted { output } | PageEvent::Adopted { output } => {
            json!({"output": output.as_str()})
        }
        PageEvent::Rejected { error, afterwards } => match afterwards {
            Afterwards::Again { not_before } => json!({
                "error": error.as_str(),
                "afterwards": "again",
                "not_before": not_before.map(|at| at.to_string()),
            }),
            Afterwards::Dead => json!({"error": error.as_str(), "afterwards": "dead"}),
            Afterwards::Review => json!({"error": error.as_str(), "afterwards": "review"}),
        },
        PageEvent::Requeued { cause } => json!({
            "cause": requeue_word(*cause),
            "output": before.output_sha256,
            "error": before.error,
        }),
    };
    Cow::Owned(details.to_string())
}

fn requeue_word(cause: RequeueCause) -> &'static str {
    match cause {
        RequeueCause::Operator => "operator",
        RequeueCause::OutputVanished => "output_vanished",
        RequeueCause::ImageChanged => "image_changed",
        RequeueCause::LabelReturned => "label_returned",
    }
}

/// One sentence for the page's status, where the message brings none.
pub(super) fn sentence(event: &PageEvent) -> String {
    match event {
        PageEvent::UploadStarted => "its image is being uploaded".to_owned(),
        PageEvent::UploadStored { .. } => "its image is uploaded; it waits for a batch".to_owned(),
        PageEvent::UploadDeferred { .. } => "its upload is put off".to_owned(),
        PageEvent::UploadRefused { error } => format!("its image cannot be sent: {error}"),
        PageEvent::FileExpired => "its remote file was too old; to be uploaded again".to_owned(),
        PageEvent::Packed { batch } => format!("in batch {batch}"),
        PageEvent::PackRefused { error } => format!("cannot be put into a request: {error}"),
        PageEvent::Released { .. } => "its batch ended without a verdict on it".to_owned(),
        PageEvent::BatchExpired { until } => {
            format!("its batch expired; it is sent again after {until}")
        }
        PageEvent::Isolated { error } => {
            format!("alone in a batch that the provider does not take: {error}")
        }
        PageEvent::ReleasesSpent { error } => {
            format!("its batches ended without a verdict too often: {error}")
        }
        PageEvent::AnswerAtHand => "its answer is being judged".to_owned(),
        PageEvent::Accepted { .. } => "done".to_owned(),
        PageEvent::Rejected { error, afterwards } => match afterwards {
            Afterwards::Again { .. } => format!("failed with {error}; runs again"),
            Afterwards::Dead => format!("failed with {error}; not sent again"),
            Afterwards::Review => format!("failed with {error}; waits for a person"),
        },
        PageEvent::Adopted { .. } => "done; its output was found on disk".to_owned(),
        PageEvent::LabelVanished => "left out: its label is gone".to_owned(),
        PageEvent::LeftOut => "left out by an operator".to_owned(),
        PageEvent::Requeued { cause } => match cause {
            RequeueCause::Operator => "to run again: an operator asked for it".to_owned(),
            RequeueCause::OutputVanished => "to run again: its output is gone".to_owned(),
            RequeueCause::ImageChanged => "to run again: its image has changed".to_owned(),
            RequeueCause::LabelReturned => "to run again: its label is back".to_owned(),
        },
    }
}
