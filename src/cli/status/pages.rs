//! The pages in a stage, one a line.

use std::io::{self, Write};

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use super::super::screen::{Columns, Screen, Side, cut, more};
use super::super::select::SelectFault;
use super::json::JSON_VERSION;
use super::{INCOMPLETE, StatusArgs};
use crate::actors::state::desk_pages::{ListedPage, list_stage};
use crate::actors::state::messages::StateResult;
use crate::actors::state::read;
use crate::domain::page::PageStage;
use crate::domain::selection::Selection;
use crate::domain::time::Timestamp;
use crate::report::words;
use crate::settings::Settings;

/// What a sentence is cut to, in characters.
const SENTENCE_CHARACTERS: usize = 200;

/// Which pages are to be listed.
pub(super) struct Wanted {
    stages: Vec<PageStage>,
    selection: Selection,
    limit: u64,
}

/// A selection without a stage, or one that is no selection.
#[derive(Debug, thiserror::Error)]
pub(super) enum WantedFault {
    #[error(
        "say which pages to list: --stage dead, or --incomplete, with the flags that choose them"
    )]
    NoStage,
    #[error(transparent)]
    Select(#[from] SelectFault),
}

/// The pages that were found.
pub(super) struct List {
    pages: Vec<ListedPage>,
    /// Pages in these stages, selected or not.
    in_stages: u64,
}

impl Wanted {
    /// Nothing where only figures are asked for.
    pub(super) fn of(
        args: &StatusArgs,
        settings: &Settings,
    ) -> Result<Option<Wanted>, WantedFault> {
        let mut stages: Vec<PageStage> = if args.incomplete {
            INCOMPLETE.to_vec()
        } else {
            let words = args.stages.iter();
            words.filter_map(|word| PageStage::parse(word)).collect()
        };
        stages.sort_unstable();
        stages.dedup();
        if stages.is_empty() {
            return if args.select.is_empty() {
                Ok(None)
            } else {
                Err(WantedFault::NoStage)
            };
        }
        Ok(Some(Wanted {
            stages,
            selection: args.select.selection(&settings.paths.layout)?,
            limit: args.limit,
        }))
    }

    /// Asks for one page more than is shown, to know whether there are more.
    pub(super) async fn list(&self, conn: &impl ConnectionTrait) -> StateResult<List> {
        let counts = read::pages_by_stage(conn).await?;
        let mut list = List {
            pages: Vec::new(),
            in_stages: 0,
        };
        for stage in &self.stages {
            let found = counts.iter().find(|(known, _)| known == stage);
            let in_stage = found.map_or(0, |(_, count)| *count);
            list.in_stages += in_stage;
            let room = (self.limit + 1).saturating_sub(list.pages.len() as u64);
            if room > 0 && in_stage > 0 {
                let found = list_stage(conn, *stage, in_stage, &self.selection, room).await?;
                list.pages.extend(found);
            }
        }
        Ok(list)
    }

    fn shown<'a>(&self, list: &'a List) -> &'a [ListedPage] {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        &list.pages[..list.pages.len().min(limit)]
    }
}

impl List {
    pub(super) fn print(
        &self,
        wanted: &Wanted,
        screen: Screen,
        at: Timestamp,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let shown = wanted.shown(self);
        if shown.is_empty() {
            let stages: Vec<&str> = wanted.stages.iter().map(|stage| stage.as_str()).collect();
            return writeln!(out, "no page is in stage {}", stages.join(" or "));
        }
        let headings = [
            ("page", Side::Left),
            ("stage", Side::Left),
            ("since", Side::Right),
            ("failed", Side::Right),
            ("why", Side::Left),
        ];
        let mut columns = Columns::new(screen, &headings);
        for page in shown {
            columns.row(&[
                page.key.to_string(),
                page.stage.to_string(),
                words::span(at.since(page.updated_at)),
                match page.failures {
                    0 => String::new(),
                    failures => words::count(failures),
                },
                cut(&why(page, at), SENTENCE_CHARACTERS),
            ]);
        }
        columns.keep_whole(0);
        columns.print(out)?;
        let remedy = "--limit N shows more; --states, --where and others choose";
        if wanted.selection.is_all() {
            more(shown.len() as u64, self.in_stages, remedy, out)
        } else if self.pages.len() > shown.len() {
            writeln!(out, "… and more: {remedy}")
        } else {
            Ok(())
        }
    }

    pub(super) fn as_json(&self, wanted: &Wanted, at: Timestamp) -> Value {
        let shown = wanted.shown(self);
        let pages = shown.iter().map(|page| {
            json!({
                "record_key": page.key.as_str(),
                "stage": page.stage.as_str(),
                "status": page.status,
                "error_type": page.error.map(|error| error.as_str()),
                "waits_for": page.waits_for.as_ref().map(|key| key.as_str()),
                "not_before": page.not_before.map(|at| at.to_string()),
                "batch_id": page.batch.as_ref().map(|batch| batch.as_str()),
                "failures": page.failures,
                "updated_at": page.updated_at.to_string(),
            })
        });
        json!({
            "version": JSON_VERSION,
            "at": at.to_string(),
            "stages": wanted.stages.iter().map(|stage| stage.as_str()).collect::<Vec<_>>(),
            "selection": wanted.selection.to_string(),
            "in_stages": self.in_stages,
            "more": self.pages.len() > shown.len(),
            "pages": pages.collect::<Vec<_>>(),
        })
    }
}

/// The page's own sentence, and what it waits for.
fn why(page: &ListedPage, at: Timestamp) -> String {
    let mut parts = Vec::new();
    if page.stage == PageStage::Discovered {
        if let Some(before) = &page.waits_for {
            parts.push(format!("waits for page {}", before.page()));
        }
        if let Some(until) = page.not_before.filter(|until| *until > at) {
            parts.push(format!("waits {}", words::span(until.since(at))));
        }
        if let Some(batch) = &page.batch {
            parts.push(format!("held by batch {batch}"));
        }
    }
    if !page.status.is_empty() {
        parts.push(page.status.clone());
    }
    parts.join("; ")
}
