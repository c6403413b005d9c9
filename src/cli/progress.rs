//! Progress bars on a terminal; nothing otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use actix::Addr;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{Summarize, Summary};
use crate::domain::batch::BatchStage;
use crate::domain::ids::ScopeToken;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// How often the bars are redrawn. Each time costs a count over the pages.
const REDRAW: Duration = Duration::from_secs(1);

/// The bars of a run.
pub struct Bars {
    pages: ProgressBar,
    uploads: ProgressBar,
    batches: ProgressBar,
}

/// A place for bars: on a terminal, or nowhere.
pub fn place() -> MultiProgress {
    let visible = std::io::stderr().is_terminal();
    let target = if visible {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    MultiProgress::with_draw_target(target)
}

impl Bars {
    /// Puts the bars into their place; `None` when nobody would see them.
    pub fn new(place: &MultiProgress) -> Option<Self> {
        if place.is_hidden() {
            return None;
        }
        let bar = |name: &str| {
            let style = ProgressStyle::with_template(
                "{prefix:>8} {bar:20.cyan/dim} {human_pos:>7}/{human_len:<7} {wide_msg}",
            )
            .expect("the template is one of ours")
            .progress_chars("━╸─");
            let bar = place.add(ProgressBar::new(0).with_style(style));
            bar.set_prefix(name.to_owned());
            bar
        };
        Some(Bars {
            pages: bar("pages"),
            uploads: bar("uploads"),
            batches: bar("batches"),
        })
    }

    /// Redraws until dropped.
    pub async fn follow(self, state: Addr<StateActor>, scope: ScopeToken) {
        loop {
            let question = Summarize {
                scope: Some(scope.clone()),
                at: Timestamp::EPOCH,
            };
            match answered(state.send(question).await) {
                Ok(summary) => self.show(&summary),
                Err(_closing) => break,
            }
            actix_rt::time::sleep(REDRAW).await;
        }
    }

    fn show(&self, summary: &Summary) {
        let of = |wanted: PageStage| {
            summary
                .pages
                .iter()
                .find(|(stage, _)| *stage == wanted)
                .map_or(0, |(_, count)| *count)
        };
        let total: u64 = summary.pages.iter().map(|(_, count)| count).sum();
        let dead = of(PageStage::Dead);
        self.pages.set_length(total);
        self.pages.set_position(of(PageStage::Completed));
        self.pages.set_message(format!(
            "done, {dead} dead, {} waiting for a page",
            summary.blocked
        ));
        let on_the_way = of(PageStage::Uploading) + of(PageStage::Uploaded);
        self.uploads.set_length(on_the_way);
        self.uploads.set_position(of(PageStage::Uploaded));
        self.uploads.set_message("uploaded, waiting for a batch");
        let batches = |wanted: BatchStage| {
            summary
                .batches
                .iter()
                .find(|(stage, _)| *stage == wanted)
                .map_or(0, |(_, count)| *count)
        };
        let all: u64 = summary.batches.iter().map(|(_, count)| count).sum();
        self.batches.set_length(all);
        self.batches
            .set_position(batches(BatchStage::Settled) + batches(BatchStage::Abandoned));
        self.batches
            .set_message(format!("{} running", batches(BatchStage::Submitted)));
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.pages.finish_and_clear();
        self.uploads.finish_and_clear();
        self.batches.finish_and_clear();
    }
}
