//! The history of a page, played again: does each event follow from the one before it, does the
//! state machine know it, and where does it end?

use super::failure::ErrorType;
use super::ids::{BatchId, RemoteName, Sha256Hex};
use super::page::{
    Afterwards, PageEvent, PageStage, PageState, Remark, RequeueCause, SEEN, StoredImage, next,
};
use super::time::Timestamp;

/// Every step that the state machine knows, by its words: from, event, to.
#[derive(Debug, Clone)]
pub struct Steps(Vec<(PageStage, &'static str, PageStage)>);

impl Steps {
    /// Asks the state machine about every pair of state and event.
    pub fn known() -> Self {
        let mut steps = Vec::new();
        for state in states() {
            for event in events() {
                if let Ok(after) = next(&state, &event) {
                    steps.push((state.stage(), event.as_str(), after.stage()));
                }
            }
        }
        steps.sort_unstable();
        steps.dedup();
        Steps(steps)
    }

    /// Whether an event of this name leads from the one stage to the other.
    pub fn has(&self, from: PageStage, event: &str, to: PageStage) -> bool {
        self.0
            .iter()
            .any(|(left, name, right)| *left == from && *name == event && *right == to)
    }
}

/// One page's history on its way through.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    stage: Option<PageStage>,
    last_event: String,
    fault: Option<String>,
}

impl Replay {
    /// Plays the next event; stages are the words that are stored.
    pub fn play(&mut self, steps: &Steps, from: Option<&str>, event: &str, to: &str) {
        let fault = self.fault_of(steps, from, event, to);
        if self.fault.is_none() {
            self.fault = fault;
        }
        self.stage = PageStage::parse(to);
        event.clone_into(&mut self.last_event);
    }

    fn fault_of(&self, steps: &Steps, from: Option<&str>, event: &str, to: &str) -> Option<String> {
        let was = self.stage.map(PageStage::as_str);
        if from != was {
            let shown = |stage: Option<&str>| stage.unwrap_or("nothing").to_owned();
            return Some(format!(
                "'{event}' leads from {}, but the event before it led to {}",
                shown(from),
                shown(was)
            ));
        }
        let Some(to_stage) = PageStage::parse(to) else {
            return Some(format!("'{event}' leads to '{to}', which is no stage"));
        };
        let lawful = match self.stage {
            None => event == SEEN && to_stage == PageStage::Discovered,
            Some(from) if Remark::parse(event).is_some() => from == to_stage,
            Some(from) => steps.has(from, event, to_stage),
        };
        (!lawful).then(|| {
            let from = was.unwrap_or("nothing");
            format!("no event '{event}' leads from {from} to {to}")
        })
    }

    /// The last event's word; empty when there was none.
    pub fn last_event(&self) -> &str {
        &self.last_event
    }

    /// What is wrong with the history of a page that is in `stage` (as stored).
    pub fn fault(&self, stage: &str) -> Option<String> {
        if self.fault.is_some() {
            return self.fault.clone();
        }
        match self.stage {
            None => Some(format!("the page is {stage} and has no history")),
            Some(end) if end.as_str() != stage => Some(format!(
                "the page is {stage}, but its history ends in {end}"
            )),
            Some(_) => None,
        }
    }
}

fn states() -> Vec<PageState> {
    let (batch, error) = (BatchId::from("b"), ErrorType::Api);
    vec![
        PageState::Discovered { not_before: None },
        PageState::Uploading,
        PageState::Uploaded { image: image() },
        PageState::Batched {
            batch: batch.clone(),
            image: image(),
        },
        PageState::Validating { batch },
        PageState::Completed {
            output: Sha256Hex::from("h"),
        },
        PageState::Dead { error },
        PageState::Review { error },
        PageState::Skipped,
    ]
}

fn image() -> StoredImage {
    StoredImage {
        file: RemoteName::from("f"),
        expires_at: Timestamp::from_micros(1),
    }
}

fn events() -> Vec<PageEvent> {
    let (error, output) = (ErrorType::Api, Sha256Hex::from("h"));
    let rejected = |afterwards| PageEvent::Rejected { error, afterwards };
    vec![
        PageEvent::UploadStarted,
        PageEvent::UploadStored { image: image() },
        PageEvent::UploadDeferred { until: None },
        PageEvent::UploadRefused { error },
        PageEvent::FileExpired,
        PageEvent::Packed {
            batch: BatchId::from("b"),
        },
        PageEvent::PackRefused { error },
        // Before and after the end of the image's life.
        PageEvent::Released {
            at: Timestamp::EPOCH,
        },
        PageEvent::Released {
            at: Timestamp::from_micros(2),
        },
        PageEvent::ReleasesSpent { error },
        PageEvent::BatchExpired {
            until: Timestamp::EPOCH,
        },
        PageEvent::Isolated { error },
        PageEvent::AnswerAtHand,
        PageEvent::Accepted {
            output: output.clone(),
        },
        rejected(Afterwards::Again { not_before: None }),
        rejected(Afterwards::Dead),
        rejected(Afterwards::Review),
        PageEvent::Adopted { output },
        PageEvent::LabelVanished,
        PageEvent::LeftOut,
        PageEvent::Requeued {
            cause: RequeueCause::Operator,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(events: &[(&str, &str, &str)], stage: &str, expected: Option<&str>) {
        let steps = Steps::known();
        let mut replay = Replay::default();
        for (from, event, to) in events {
            let from = (!from.is_empty()).then_some(*from);
            replay.play(&steps, from, event, to);
        }
        assert_eq!(replay.fault(stage).as_deref(), expected);
    }

    #[test]
    fn a_history_is_played_to_its_end() {
        let seen = ("", "seen", "discovered");
        let started = ("discovered", "upload_started", "uploading");
        check(&[seen], "discovered", None);
        check(&[seen, started], "uploading", None);
        check(
            &[seen, ("discovered", "noted", "discovered")],
            "discovered",
            None,
        );
        check(
            &[seen, ("discovered", "noted", "skipped")],
            "skipped",
            Some("no event 'noted' leads from discovered to skipped"),
        );
        check(&[], "dead", Some("the page is dead and has no history"));
        check(
            &[seen],
            "completed",
            Some("the page is completed, but its history ends in discovered"),
        );
        check(
            &[seen, ("uploading", "upload_stored", "uploaded")],
            "uploaded",
            Some("'upload_stored' leads from uploading, but the event before it led to discovered"),
        );
        check(
            &[seen, ("discovered", "accepted", "completed")],
            "completed",
            Some("no event 'accepted' leads from discovered to completed"),
        );
        check(
            &[started],
            "uploading",
            Some("'upload_started' leads from discovered, but the event before it led to nothing"),
        );
    }

    /// An event that is missing here would make honest histories look broken.
    #[test]
    fn every_step_of_the_handbook_is_known() {
        let steps = Steps::known();
        let text = include_str!("../../docs/states.md");
        let (_before, pages) = text.split_once("## Page").unwrap();
        let (pages, _batches) = pages.split_once("## Batch").unwrap();
        let mut rows = 0;
        for line in pages.lines().filter(|line| line.contains("| `")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [from, to] = [cells[1], cells[3]].map(|word| PageStage::parse(word).unwrap());
            let event = cells[2].trim_matches('`');
            assert!(steps.has(from, event, to), "{line}");
            rows += 1;
        }
        assert!(rows > 20, "{rows}");
        assert_eq!(steps.0.len(), rows);
    }

    #[test]
    fn both_ends_of_a_release_are_known() {
        let steps = Steps::known();
        for to in [PageStage::Uploaded, PageStage::Discovered] {
            assert!(steps.has(PageStage::Batched, "released", to), "{to}");
        }
        assert!(!steps.has(PageStage::Completed, "rejected", PageStage::Dead));
    }
}
