//! What a page's turn depends on, read from the database, the disk and the settings.

use std::path::PathBuf;

use sea_orm::DatabaseConnection;

use crate::actors::state::desk_page::{self, PageSheet, Room, RoomOf};
use crate::actors::state::messages::{BatchRow, StateResult};
use crate::adapters::filesystem::Filesystem;
use crate::adapters::filesystem::place::{self, Lock};
use crate::decide::brake::{self, Trial};
use crate::decide::explain::{self, BatchFacts, Desk, Explanation, Facts, ImageSeen, Stranger};
use crate::decide::{pace, scan};
use crate::domain::batch::BatchStage;
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::pipeline::from_settings;
use crate::ports::page_source::PageSource;
use crate::settings::{Context, Settings};

/// Everything that a look at one page needs.
pub struct Look<'a> {
    pub settings: &'a Settings,
    pub connection: &'a DatabaseConnection,
    pub files: Filesystem,
    pub at: Timestamp,
}

impl<'a> Look<'a> {
    pub fn new(
        settings: &'a Settings,
        connection: &'a DatabaseConnection,
        at: Timestamp,
    ) -> Look<'a> {
        Look {
            settings,
            connection,
            files: from_settings::filesystem(settings),
            at,
        }
    }

    /// Why a page that the state knows is not running.
    pub async fn explain(&self, sheet: &PageSheet) -> StateResult<Explanation> {
        let (desk, room) = self.desk().await?;
        let mut facts = self.facts(sheet, &desk, &room).await?;
        if let Some((key, between)) = desk_page::holder(self.connection, &sheet.key).await?
            && let Some(holder) = desk_page::page(self.connection, &key).await?
        {
            let holder = self.facts(&holder, &desk, &room).await?;
            facts.holder = Some((between, Box::new(holder)));
        }
        Ok(explain::explain(&facts))
    }

    /// Why a page that the state does not know is not running.
    pub async fn explain_stranger(&self, key: &RecordKey) -> Explanation {
        let stranger = Stranger {
            has_label: self.label(key).is_some_and(|path| path.is_file()),
            has_output: self.output(key).is_some_and(|path| path.is_file()),
            has_image: self.files.image(key).await.is_ok(),
            in_scope: self.in_scope(key),
            running: self.is_running(),
        };
        explain::explain_stranger(key, stranger)
    }

    /// The page that really holds this one up, if it waits for another.
    pub async fn holder(&self, key: &RecordKey) -> StateResult<Option<RecordKey>> {
        if self.settings.execution.context != Context::Chain {
            return Ok(None);
        }
        let holder = desk_page::holder(self.connection, key).await?;
        Ok(holder.map(|(key, _between)| key))
    }

    /// Where the label of a page stands.
    pub fn label(&self, key: &RecordKey) -> Option<PathBuf> {
        let paths = &self.settings.paths;
        paths.layout.path(&paths.label_source_dir, key, "json").ok()
    }

    /// Where the output of a page stands.
    pub fn output(&self, key: &RecordKey) -> Option<PathBuf> {
        let paths = &self.settings.paths;
        paths.layout.path(&paths.output_dir, key, "json").ok()
    }

    fn in_scope(&self, key: &RecordKey) -> bool {
        let Ok(levels) = self.settings.paths.layout.levels(key) else {
            return false;
        };
        let filters = self.settings.scope().levels;
        let mut filters = filters.iter().zip(&levels);
        filters.all(|(filter, level)| filter.as_ref().is_none_or(|filter| filter.admits(level)))
    }

    /// Whether a process works on this state: it holds the lock beside the database.
    pub fn is_running(&self) -> bool {
        let database = &self.settings.state.sqlite_file;
        let real = std::fs::canonicalize(database).unwrap_or_else(|_gone| database.clone());
        let mut name = real.into_os_string();
        name.push(".lock");
        matches!(place::lock(&PathBuf::from(name)), Ok(Lock::Held(_)))
    }

    async fn desk(&self) -> StateResult<(Desk, Room)> {
        let (settings, now) = (self.settings, self.at);
        let brake = from_settings::brake(settings);
        let recipe = from_settings::recipe(settings).ok();
        let room = RoomOf {
            scope: &settings.scope_token(),
            model: &settings.model.name,
            recipe: recipe.as_ref().map(|recipe| &recipe.hash),
            pilot_batches: u64::from(brake.rules.pilot_pages).max(1),
            usable_until: now.plus(settings.files.min_life),
            at: now,
        };
        let room = desk_page::room(self.connection, &room).await?;
        let submitted = room
            .live
            .iter()
            .filter(|row| is(row, BatchStage::Submitted));
        let oldest = submitted.filter_map(|row| row.submitted_at).min();
        let oldest = oldest.map(|at| now.since(at)).unwrap_or_default();
        let batches = settings.execution.max_concurrent_batches;
        let live_max = usize::try_from(batches).unwrap_or(usize::MAX);
        let sent = room.live.iter().filter(|row| !is(row, BatchStage::Ready));
        let pages = settings.execution.batch_size_limit;
        let halts = room.halts.iter();
        let desk = Desk {
            now,
            running: self.is_running(),
            chained: settings.execution.context == Context::Chain,
            halts: halts
                .map(|halt| (halt.reason, halt.message.clone(), halt.since))
                .collect(),
            live_batches: room.live.len() as u64,
            live_max: pace::live_max(oldest, live_max, &brake.pace) as u64,
            ahead: room.ahead,
            ahead_max: settings
                .files
                .upload_ahead_batches
                .saturating_mul(pages)
                .max(1),
            held_bytes: room.held_bytes,
            storage_budget_bytes: settings.files.storage_budget_bytes,
            uploaded: room.uploaded,
            batch_pages: pages.min(u64::from(pace::pages_now(&room.pace, &brake.pace))),
            sent_at: room.newest.map(|at| at.plus(settings.batch.fill_wait)),
            trial: match recipe {
                Some(_) => brake::trial(&room.standing, &brake.rules),
                None => Trial::Proven,
            },
            tokens: sent.filter_map(|row| row.tokens).sum(),
            tokens_max: pace::tokens_now(&room.pace, &brake.pace),
            life_min: settings.files.min_life,
        };
        Ok((desk, room))
    }

    async fn facts<'d>(
        &self,
        sheet: &PageSheet,
        desk: &'d Desk,
        room: &Room,
    ) -> StateResult<Facts<'d>> {
        let key = &sheet.key;
        let is_dead = sheet.stage == PageStage::Dead;
        let needs_image = sheet.stage == PageStage::Discovered
            || (is_dead && sheet.error == Some(ErrorType::Image));
        let image = if needs_image {
            match self.files.image(key).await {
                Ok((_path, facts)) => ImageSeen::Usable { bytes: facts.bytes },
                Err(fault) => ImageSeen::Fault(fault.to_string()),
            }
        } else {
            ImageSeen::NotLooked
        };
        let batch = match &sheet.batch {
            Some(batch) => desk_page::batch(self.connection, batch).await?,
            None => None,
        };
        Ok(Facts {
            page: scan::Known {
                key: key.clone(),
                stage: sheet.stage,
                predecessor: sheet.predecessor.clone(),
                waits_for: sheet.waits_for.clone(),
                chain_ahead: sheet.chain_ahead,
                scope: sheet.scope.clone(),
                dead_for: sheet.error,
                left_out: sheet.left_out.is_some(),
            },
            since: sheet.since,
            moved_by: sheet.moved_by.clone(),
            status: sheet.status.clone(),
            in_scope: self.in_scope(key),
            has_label: self.label(key).is_some_and(|path| path.is_file()),
            has_output: self.output(key).is_some_and(|path| path.is_file()),
            image,
            not_before: sheet.not_before,
            image_expires_at: sheet.image_expires_at,
            failures: sheet.failures,
            max_retries: self.settings.execution.max_retries,
            batch: batch.map(|batch| self.batch_facts(batch, room)),
            holder: None,
            desk,
        })
    }

    fn batch_facts(&self, row: BatchRow, room: &Room) -> BatchFacts {
        let usual = room.turnarounds.iter();
        let usual = usual.filter(|turnaround| turnaround.model == row.model);
        BatchFacts {
            usual: usual
                .filter_map(|turnaround| turnaround.half.zip(turnaround.nine_tenths))
                .next(),
            submitted_at: row.submitted_at,
            unreachable_since: row.unreachable_since,
            lookups: row.lookups,
            lookups_needed: self.settings.batch.in_doubt_lookups,
            collected: row.raw.is_some(),
            state: row.state,
            batch: row.batch,
        }
    }
}

fn is(row: &BatchRow, stage: BatchStage) -> bool {
    row.state.stage() == stage
}
