//! The words of a reason: one sentence, and what to type.

use std::time::Duration;

use super::{Explanation, Held, ImageSeen, InBatch, Pause, Queue, Reason};
use crate::decide::scan::LeftAlone;
use crate::domain::halt::HaltReason;
use crate::domain::ids::RecordKey;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// How instants and spans are written.
pub struct Style<'a> {
    pub when: &'a dyn Fn(Timestamp) -> String,
    pub span: &'a dyn Fn(Duration) -> String,
    pub count: &'a dyn Fn(u64) -> String,
    pub bytes: &'a dyn Fn(u64) -> String,
}

/// What would make a page run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remedy {
    /// Empty when nothing is to be done.
    pub words: String,
    /// The command to type, word by word; empty when none helps.
    pub command: Vec<String>,
}

impl Remedy {
    fn words(words: &str) -> Self {
        Remedy {
            words: words.to_owned(),
            command: Vec::new(),
        }
    }

    fn command(words: &str, command: &[&str]) -> Self {
        let command = ["pagemill"].iter().chain(command);
        Remedy {
            words: words.to_owned(),
            command: command.map(|word| (*word).to_owned()).collect(),
        }
    }
}

impl Explanation {
    /// Why, as what follows the page's name: `waits for page 4, which is dead: ...`.
    pub fn predicate(&self, style: &Style<'_>) -> String {
        self.reason.predicate(style)
    }

    /// The name of the reason, for programs.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// What the Scanner's log says of the page, where it says anything.
    pub fn left_alone(&self) -> Option<LeftAlone<'_>> {
        self.reason.left_alone()
    }

    /// What would make it run.
    pub fn remedy(&self) -> Remedy {
        let remedy = self.reason.remedy(&self.key);
        let needs_process = remedy.command.is_empty() && self.reason.needs_process();
        if needs_process && !self.running {
            return Remedy::command("nothing is at work on it until you start", &["run"]);
        }
        remedy
    }
}

impl Reason {
    fn code(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::OutputGone => "output_gone",
            Self::OutputToRead => "output_to_read",
            Self::LabelGone => "label_gone",
            Self::LabelBack => "label_back",
            Self::OutOfScope => "out_of_scope",
            Self::LeftOut(_) => "left_out",
            Self::InReview(_) => "in_review",
            Self::ImageNotUsable(_) => "image_not_usable",
            Self::Dead { .. } => "dead",
            Self::WaitsForPage { .. } => "waits_for_page",
            Self::WaitsUntil { .. } => "waits_until",
            Self::HeldBy(_) => "held_by_batch",
            Self::Uploading(_) => "uploading",
            Self::WaitsForUpload(queue) | Self::WaitsForBatch(queue) => queue.code(),
            Self::InBatch(_, place) => place.code(),
            Self::Judged(_) => "judged",
            Self::NotScanned => "not_scanned",
            Self::NoLabel { .. } => "not_known",
        }
    }

    fn left_alone(&self) -> Option<LeftAlone<'_>> {
        Some(match self {
            Self::Done(_) => LeftAlone::Done,
            Self::OutOfScope => LeftAlone::OutOfScope,
            Self::InReview(_) => LeftAlone::InReview,
            Self::LeftOut(_) => LeftAlone::LeftOut,
            Self::ImageNotUsable(_) => LeftAlone::ImageNotUsable,
            Self::Dead { .. } => LeftAlone::Dead,
            Self::WaitsForPage { before, .. } => LeftAlone::WaitsFor(before),
            Self::Uploading(_) => LeftAlone::InFlight(PageStage::Uploading),
            Self::WaitsForBatch(_) => LeftAlone::InFlight(PageStage::Uploaded),
            Self::InBatch(..) => LeftAlone::InFlight(PageStage::Batched),
            Self::Judged(_) => LeftAlone::InFlight(PageStage::Validating),
            Self::OutputGone
            | Self::OutputToRead
            | Self::LabelGone
            | Self::LabelBack
            | Self::WaitsUntil { .. }
            | Self::HeldBy(_)
            | Self::WaitsForUpload(_)
            | Self::NotScanned
            | Self::NoLabel { .. } => return None,
        })
    }

    /// Whether a process would act on it by itself.
    fn needs_process(&self) -> bool {
        match self {
            Self::WaitsForPage { holder, .. } => holder
                .as_ref()
                .is_none_or(|holder| holder.why.needs_process()),
            Self::ImageNotUsable(seen) => matches!(seen, ImageSeen::Usable { .. }),
            Self::Done(_)
            | Self::LabelGone
            | Self::OutOfScope
            | Self::LeftOut(_)
            | Self::InReview(_)
            | Self::Dead { .. }
            | Self::NoLabel { .. } => false,
            _ => true,
        }
    }

    fn predicate(&self, style: &Style<'_>) -> String {
        let when = style.when;
        let own = self.left_alone().map(|why| why.to_string());
        let own = own.unwrap_or_default();
        match self {
            Self::Done(since) => format!("is {own}, accepted {}", when(*since)),
            Self::OutputGone => "was done, but its output is gone".to_owned(),
            Self::OutputToRead => {
                "is not counted as done, but its output is there; it is read before anything else \
                 happens"
                    .to_owned()
            }
            Self::LabelGone => "is left out, because its label is gone".to_owned(),
            Self::LabelBack => "was left out, but its label is back".to_owned(),
            Self::OutOfScope => format!("is {own}: the filters of this configuration leave it out"),
            Self::LeftOut(status) => match status.strip_prefix("left out by ") {
                Some(who) => format!("is {own}, {who}"),
                None => format!("is {own}: {status}"),
            },
            Self::InReview(status) => format!("is {own}: {status}"),
            Self::ImageNotUsable(ImageSeen::Fault(fault)) => format!("has its {own}: {fault}"),
            Self::ImageNotUsable(_) => format!("had its {own}, and now it is usable"),
            Self::Dead { .. } => format!("is {own}: {}", self.dead_words(style)),
            Self::WaitsForPage { holder, .. } => match holder {
                Some(holder) => format!("{own}{}", holder.words(style)),
                None => own,
            },
            Self::WaitsUntil { until, pause } => {
                format!("waits, and goes on {}: {}", when(*until), pause.words())
            }
            Self::HeldBy(batch) => {
                format!("is on the work list, but held by batch {batch}, which is being closed")
            }
            Self::Uploading(since) => {
                format!(
                    "is {own}: its image is being uploaded, begun {}",
                    when(*since)
                )
            }
            Self::WaitsForUpload(queue) => format!("waits for its upload: {}", queue.words(style)),
            Self::WaitsForBatch(queue) => {
                format!("is {own}, and waits for a batch: {}", queue.words(style))
            }
            Self::InBatch(batch, place) => {
                format!("is {own} in batch {batch}, {}", place.words(style))
            }
            Self::Judged(_) => format!("is {own}: its answer is here and is being judged"),
            Self::NotScanned => {
                "is not known yet: its label is there, and the next look at the tree takes it up"
                    .to_owned()
            }
            Self::NoLabel { .. } => self.stranger_words(),
        }
    }

    fn dead_words(&self, style: &Style<'_>) -> String {
        let Self::Dead {
            error: _,
            failures,
            max_retries,
            status,
        } = self
        else {
            return String::new();
        };
        let count = style.count;
        let times = if *failures == 1 {
            "failure"
        } else {
            "failures"
        };
        format!(
            "{status} ({} {times}, execution.max_retries is {})",
            count(*failures),
            count(u64::from(*max_retries))
        )
    }

    fn stranger_words(&self) -> String {
        let Self::NoLabel {
            has_output,
            has_image,
        } = self
        else {
            return String::new();
        };
        let there = match (has_output, has_image) {
            (false, false) => "no label, no image and no output",
            (false, true) => "an image, but no label",
            (true, false) => "an output, but no label",
            (true, true) => "an image and an output, but no label",
        };
        format!("is not known, and there is {there} for it")
    }

    fn remedy(&self, key: &RecordKey) -> Remedy {
        let key = key.as_str();
        match self {
            Self::Done(_) => Remedy::command("to run it again", &["redo", "--key", key]),
            Self::OutputGone | Self::LabelBack => {
                Remedy::words("the next look at the tree puts it back on the work list")
            }
            Self::OutputToRead => {
                Remedy::words("if it passes the schema the page is done, else it runs again")
            }
            Self::LabelGone => Remedy::words("put its label back, and the next look takes it up"),
            Self::OutOfScope => {
                Remedy::words("run without these filters, or with ones that admit it")
            }
            Self::LeftOut(_) => Remedy::command("to let it run", &["unskip", "--key", key]),
            Self::InReview(_) => Remedy::command(
                "put a right output in its place, or to send it again",
                &["clear-failures", "--key", key],
            ),
            Self::ImageNotUsable(ImageSeen::Usable { .. }) => {
                Remedy::words("the next look at the tree finds it")
            }
            Self::ImageNotUsable(_) => {
                Remedy::words("replace the image, and the next look at the tree finds it")
            }
            Self::Dead { .. } => {
                Remedy::command("to send it again", &["clear-failures", "--key", key])
            }
            Self::WaitsForPage { holder, .. } => match holder {
                Some(holder) => holder.remedy(),
                None => Remedy::words("it runs when that page is done"),
            },
            Self::WaitsUntil { .. } => Remedy::words("then it runs by itself"),
            Self::HeldBy(_) | Self::Uploading(_) | Self::Judged(_) => Remedy::default(),
            Self::WaitsForUpload(queue) | Self::WaitsForBatch(queue) => queue.remedy(),
            Self::InBatch(batch, place) => place.remedy(batch.as_str()),
            Self::NotScanned => Remedy::default(),
            Self::NoLabel { .. } => Remedy::words("a page is known by its label: put one there"),
        }
    }
}

impl Held {
    fn words(&self, style: &Style<'_>) -> String {
        let why = self.why.predicate(style);
        let page = self.key.page();
        match self.between {
            0 => format!(", which {why}"),
            _ => format!(", which is held up by page {page}, which {why}"),
        }
    }

    fn remedy(&self) -> Remedy {
        match &self.why {
            // Nothing is to be typed for the page before to be done once more.
            Reason::Done(_) => Remedy::words("the next look at the tree lets it run"),
            why => why.remedy(&self.key),
        }
    }
}

impl Pause {
    fn words(self) -> &'static str {
        match self {
            Self::Upload => "its upload failed and is put off",
            Self::Failure => "it pauses after its failure",
            Self::ExpiredBatch => "its batch expired",
            Self::Other => "so it was told",
        }
    }
}

impl Queue {
    fn code(&self) -> &'static str {
        match self {
            Self::Halted(..) => "halted",
            Self::NoProcess => "no_process",
            Self::Ahead { .. } => "enough_ahead",
            Self::StoreFull { .. } => "store_full",
            Self::FileTooOld(_) => "file_too_old",
            Self::LiveBatches { .. } => "live_batches",
            Self::Pilot => "pilot",
            Self::Tokens { .. } => "tokens",
            Self::Filling { .. } => "batch_filling",
            Self::NextInLine => "next_in_line",
        }
    }

    fn words(&self, style: &Style<'_>) -> String {
        let (when, count, bytes) = (style.when, style.count, style.bytes);
        match self {
            Self::Halted(reason, words, since) => {
                format!(
                    "submission is halted for '{reason}', {words}, begun {}",
                    when(*since)
                )
            }
            Self::NoProcess => "no pagemill is at work on this state".to_owned(),
            Self::Ahead { ahead, ahead_max } => format!(
                "{} pages are on their way to a batch, and files.upload_ahead_batches allows {}",
                count(*ahead),
                count(*ahead_max)
            ),
            Self::StoreFull { held, budget } => format!(
                "{} are held at the provider, and files.storage_budget_bytes is {}",
                bytes(*held),
                bytes(*budget)
            ),
            Self::FileTooOld(expires_at) => format!(
                "its remote file, which ends {}, is too old for one and is uploaded again",
                when(*expires_at)
            ),
            Self::LiveBatches { live, live_max } => format!(
                "{} batches are live, and no more than {} may be now",
                count(*live),
                count(*live_max)
            ),
            Self::Pilot => {
                "the first batch of its recipe is out, and the rest waits for its answers"
                    .to_owned()
            }
            Self::Tokens { tokens, tokens_max } => format!(
                "the live batches hold {} tokens, and no more than {} may be in them",
                count(*tokens),
                count(*tokens_max)
            ),
            Self::Filling { pages, full, until } => format!(
                "it has {} of {} pages, may still grow, and is sent as it is {}",
                count(*pages),
                count(*full),
                when(*until)
            ),
            Self::NextInLine => "nothing keeps it but its turn".to_owned(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Halted(reason, _, _) if reason.ends_by_itself() => Remedy::words(reason.remedy()),
            Self::Halted(reason, _, _) => to_resume(*reason),
            Self::NoProcess => Remedy::command("to start one", &["run"]),
            Self::Ahead { .. } => Remedy::words("it is taken when a batch has left"),
            Self::StoreFull { .. } => Remedy::words("room comes when batches end"),
            Self::LiveBatches { .. } => Remedy::words("it follows when one of them ends"),
            Self::Pilot => Remedy::words("it follows when they are good"),
            Self::Tokens { .. } => Remedy::words("it follows when a batch ends"),
            Self::FileTooOld(_) | Self::Filling { .. } | Self::NextInLine => Remedy::default(),
        }
    }
}

/// What ends a halt that waits for a person.
fn to_resume(reason: HaltReason) -> Remedy {
    let words = match reason {
        HaltReason::Paused => "to go on",
        _ => "look at `pagemill failures`, mend the cause, and to go on",
    };
    Remedy::command(words, &["resume"])
}

impl InBatch {
    fn code(&self) -> &'static str {
        match self {
            Self::Planned { .. } => "batch_planned",
            Self::Submitting => "batch_submitting",
            Self::InDoubt { .. } => "batch_in_doubt",
            Self::Unreachable(_) => "batch_unreachable",
            Self::WithProvider { .. } => "with_provider",
            Self::Collecting { .. } => "batch_collecting",
            Self::Closing => "batch_closing",
        }
    }

    fn words(&self, style: &Style<'_>) -> String {
        let (when, span) = (style.when, style.span);
        match self {
            Self::Planned {
                halted: Some(reason),
                ..
            } => format!("which is planned, but submission is halted for '{reason}'"),
            Self::Planned {
                not_before: Some(at),
                ..
            } => format!("which is planned and is sent {}", when(*at)),
            Self::Planned { .. } => "which is planned and is sent next".to_owned(),
            Self::Submitting => "whose creation is under way".to_owned(),
            Self::InDoubt {
                since,
                lookups,
                needed,
            } => format!(
                "whose creation was not confirmed {}: the provider's list was looked through \
                 {lookups} of {needed} times for it",
                when(*since)
            ),
            Self::Unreachable(since) => format!(
                "which the provider does not show, first noticed {}; it is not sent again",
                when(*since)
            ),
            Self::WithProvider {
                since,
                usual,
                is_late,
            } => {
                let since = since.map_or_else(String::new, |at| format!(", sent {}", when(at)));
                let usual = usual.map_or_else(
                    || "; no job of this model has ended yet".to_owned(),
                    |(half, most)| {
                        let late = if *is_late { ", so it is late" } else { "" };
                        format!(
                            "; half of this model's jobs took {}, nine tenths {}{late}",
                            span(half),
                            span(most)
                        )
                    },
                );
                format!("which is with the provider{since}{usual}")
            }
            Self::Collecting { on_disk: true } => "whose results are being collected".to_owned(),
            Self::Collecting { on_disk: false } => "whose results are being fetched".to_owned(),
            Self::Closing => "which is being closed".to_owned(),
        }
    }

    fn remedy(&self, batch: &str) -> Remedy {
        match self {
            Self::Planned {
                halted: Some(reason),
                ..
            } if !reason.ends_by_itself() => to_resume(*reason),
            Self::Planned {
                halted: Some(reason),
                ..
            } => Remedy::words(reason.remedy()),
            Self::WithProvider { is_late: true, .. } | Self::Unreachable(_) => Remedy::command(
                "only the provider, or you, can end it",
                &["batches", "show", batch],
            ),
            Self::WithProvider { .. } => Remedy::words("its answer is collected when the job ends"),
            Self::InDoubt { .. } => {
                Remedy::words("it is adopted if it is found, else created once more")
            }
            Self::Planned { .. } | Self::Submitting | Self::Collecting { .. } | Self::Closing => {
                Remedy::default()
            }
        }
    }
}
