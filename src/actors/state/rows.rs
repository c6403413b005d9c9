//! Rows and states: the flat form in the tables, the exact form in `domain`, and back.
//!
//! A row that no state could have written is a [`StateError::CorruptRow`]; the CHECKs of the tables
//! refuse the same mixtures.

use sea_orm::{ActiveValue::Set, FromQueryResult};
use serde::Deserialize;

use entity::submissions;

use super::messages::{StateError, StateResult};
use super::spread::Cell;
use super::sql::{signed, unsigned};
use crate::domain::attempt::Tokens;
use crate::domain::batch::{AbandonCode, BatchStage, BatchState};
use crate::domain::failure::ErrorType;
use crate::domain::ids::{BatchId, RemoteName, Sha256Hex};
use crate::domain::image::ImageFacts;
use crate::domain::page::{PageStage, PageState, StoredImage};
use crate::domain::remote::RemoteOutput;
use crate::domain::time::Timestamp;

/// What a transition may read or write of a page. The fields are read by their order, which is that of the
/// columns that are asked for; what is known of the image is only written, and not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PageRow {
    pub record_key: String,
    pub stage: String,
    pub status: String,
    pub not_before: Option<String>,
    pub error: Option<String>,
    pub upload_cycles: i64,
    pub releases: i64,
    pub batch_size_max: Option<i64>,
    pub batch_id: Option<String>,
    pub run_id: Option<String>,
    pub recipe_hash: Option<String>,
    #[serde(skip)]
    pub image_mime: Option<String>,
    #[serde(skip)]
    pub image_bytes: Option<i64>,
    #[serde(skip)]
    pub image_sha256: Option<String>,
    #[serde(skip)]
    pub image_width: Option<i64>,
    #[serde(skip)]
    pub image_height: Option<i64>,
    pub image_file: Option<String>,
    pub image_expires_at: Option<String>,
    pub uploaded_at: Option<String>,
    pub output_sha256: Option<String>,
    pub output_bytes: Option<i64>,
}

/// The columns that a [`PageRow`] is read from, for a SELECT.
pub(super) const PAGE_COLUMNS: &str = "p.record_key, p.stage, p.status, p.not_before, p.error, \
    p.upload_cycles, p.releases, p.batch_size_max, p.batch_id, p.run_id, p.recipe_hash, \
    p.image_file, p.image_expires_at, p.uploaded_at, p.output_sha256, p.output_bytes";

/// How many columns a [`PageRow`] has.
pub(super) const COLUMNS: usize = 21;

/// Names the thing whose row cannot be.
pub(super) fn corrupt(thing: impl Into<String>, fault: impl Into<String>) -> StateError {
    StateError::CorruptRow {
        thing: thing.into(),
        fault: fault.into(),
    }
}

/// Reads an instant of a row.
pub(super) fn instant(thing: &str, text: &str) -> StateResult<Timestamp> {
    Timestamp::parse(text).map_err(|fault| corrupt(thing, fault.to_string()))
}

/// Reads an instant of a row that may be absent.
pub(super) fn maybe_instant(thing: &str, text: Option<&str>) -> StateResult<Option<Timestamp>> {
    text.map(|text| instant(thing, text)).transpose()
}

/// Reads a stored word.
pub(super) fn word<T>(
    thing: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> StateResult<T> {
    parse(text).ok_or_else(|| corrupt(thing, format!("'{text}' is not a word this program knows")))
}

fn needed<'a>(thing: &str, column: &str, value: &'a Option<String>) -> StateResult<&'a str> {
    value
        .as_deref()
        .ok_or_else(|| corrupt(thing, format!("{column} is missing")))
}

impl PageRow {
    /// The names of the columns, in the order of [`PageRow::cells`].
    pub(super) const COLUMNS: [&'static str; COLUMNS] = [
        "record_key",
        "stage",
        "status",
        "not_before",
        "error",
        "upload_cycles",
        "releases",
        "batch_size_max",
        "batch_id",
        "run_id",
        "recipe_hash",
        "image_mime",
        "image_bytes",
        "image_sha256",
        "image_width",
        "image_height",
        "image_file",
        "image_expires_at",
        "uploaded_at",
        "output_sha256",
        "output_bytes",
    ];

    /// The values of the columns, the key first.
    pub(super) fn cells(&self) -> [Cell<'_>; COLUMNS] {
        let PageRow {
            record_key,
            stage,
            status,
            not_before,
            error,
            upload_cycles,
            releases,
            batch_size_max,
            batch_id,
            run_id,
            recipe_hash,
            image_mime,
            image_bytes,
            image_sha256,
            image_width,
            image_height,
            image_file,
            image_expires_at,
            uploaded_at,
            output_sha256,
            output_bytes,
        } = self;
        [
            record_key.into(),
            stage.into(),
            status.into(),
            not_before.as_ref().into(),
            error.as_ref().into(),
            (*upload_cycles).into(),
            (*releases).into(),
            (*batch_size_max).into(),
            batch_id.as_ref().into(),
            run_id.as_ref().into(),
            recipe_hash.as_ref().into(),
            image_mime.as_ref().into(),
            (*image_bytes).into(),
            image_sha256.as_ref().into(),
            (*image_width).into(),
            (*image_height).into(),
            image_file.as_ref().into(),
            image_expires_at.as_ref().into(),
            uploaded_at.as_ref().into(),
            output_sha256.as_ref().into(),
            (*output_bytes).into(),
        ]
    }

    fn thing(&self) -> String {
        format!("page '{}'", self.record_key)
    }

    /// The stage of the row.
    pub fn page_stage(&self) -> StateResult<PageStage> {
        PageStage::parse(&self.stage).map_or_else(|| word(&self.thing(), &self.stage, |_| None), Ok)
    }

    /// The state that the row stands for.
    pub fn state(&self) -> StateResult<PageState> {
        let stage = self.page_stage()?;
        self.refuse_mixtures(stage)?;
        let state = match stage {
            PageStage::Discovered => PageState::Discovered {
                not_before: self.instant(self.not_before.as_deref())?,
            },
            PageStage::Uploading => PageState::Uploading,
            PageStage::Uploaded => PageState::Uploaded {
                image: self.image()?,
            },
            PageStage::Batched => PageState::Batched {
                batch: BatchId::from(self.needed("batch_id", &self.batch_id)?),
                image: self.image()?,
            },
            PageStage::Validating => PageState::Validating {
                batch: BatchId::from(self.needed("batch_id", &self.batch_id)?),
            },
            PageStage::Completed => PageState::Completed {
                output: Sha256Hex::from(self.needed("output_sha256", &self.output_sha256)?),
            },
            PageStage::Dead => PageState::Dead {
                error: self.error_type()?,
            },
            PageStage::Review => PageState::Review {
                error: self.error_type()?,
            },
            PageStage::Skipped => PageState::Skipped,
        };
        Ok(state)
    }

    fn image(&self) -> StateResult<StoredImage> {
        let expires_at = self.needed("image_expires_at", &self.image_expires_at)?;
        let expires_at = Timestamp::parse(expires_at);
        Ok(StoredImage {
            file: RemoteName::from(self.needed("image_file", &self.image_file)?),
            expires_at: expires_at.map_err(|fault| corrupt(self.thing(), fault.to_string()))?,
        })
    }

    fn error_type(&self) -> StateResult<ErrorType> {
        let error = self.needed("error", &self.error)?;
        word(&self.thing(), error, ErrorType::parse)
    }

    fn instant(&self, text: Option<&str>) -> StateResult<Option<Timestamp>> {
        text.map(|text| instant(&self.thing(), text)).transpose()
    }

    fn needed<'a>(&self, column: &str, value: &'a Option<String>) -> StateResult<&'a str> {
        value
            .as_deref()
            .ok_or_else(|| corrupt(self.thing(), format!("{column} is missing")))
    }

    /// Refuses columns that belong to another stage.
    fn refuse_mixtures(&self, stage: PageStage) -> StateResult<()> {
        let has_image = matches!(stage, PageStage::Uploaded | PageStage::Batched);
        let has_error = matches!(stage, PageStage::Dead | PageStage::Review);
        let is_free = matches!(stage, PageStage::Uploading | PageStage::Uploaded);
        let rules = [
            (self.image_file.is_some() == has_image, "image_file"),
            (
                self.image_expires_at.is_some() == has_image,
                "image_expires_at",
            ),
            (self.uploaded_at.is_some() == has_image, "uploaded_at"),
            (self.error.is_some() == has_error, "error"),
            (
                self.output_sha256.is_some() == (stage == PageStage::Completed),
                "output_sha256",
            ),
            (
                self.output_bytes.is_some() == self.output_sha256.is_some(),
                "output_bytes",
            ),
            (
                self.not_before.is_none() || stage == PageStage::Discovered,
                "not_before",
            ),
            (!is_free || self.batch_id.is_none(), "batch_id"),
        ];
        match rules.iter().find(|(holds, _column)| !holds) {
            None => Ok(()),
            Some((_holds, column)) => Err(corrupt(
                self.thing(),
                format!("{column} does not fit stage '{stage}'"),
            )),
        }
    }

    /// Writes a state into the row. The hold of a batch outlives the state: only who ends the batch
    /// clears it, except where the state itself says that the page is in none.
    pub fn put(&mut self, state: &PageState) {
        self.stage = state.stage().as_str().to_owned();
        self.not_before = None;
        self.error = None;
        let kept_output = self.output_sha256.take();
        let kept_bytes = self.output_bytes.take();
        let kept_image = (self.image_file.take(), self.image_expires_at.take());
        let kept_uploaded_at = self.uploaded_at.take();
        match state {
            PageState::Discovered { not_before } => {
                self.not_before = not_before.map(|at| at.to_string());
            }
            PageState::Uploading => self.batch_id = None,
            PageState::Uploaded { image } => {
                self.batch_id = None;
                self.put_image(image, kept_uploaded_at);
            }
            PageState::Batched { batch, image } => {
                self.batch_id = Some(batch.to_string());
                self.put_image(image, kept_uploaded_at);
            }
            PageState::Validating { batch } => self.batch_id = Some(batch.to_string()),
            PageState::Completed { output } => {
                self.output_sha256 = Some(output.to_string());
                if kept_output.as_deref() == Some(output.as_str()) {
                    self.output_bytes = kept_bytes;
                }
            }
            PageState::Dead { error } | PageState::Review { error } => {
                self.error = Some(error.as_str().to_owned());
            }
            PageState::Skipped => {}
        }
        drop(kept_image);
    }

    fn put_image(&mut self, image: &StoredImage, uploaded_at: Option<String>) {
        self.image_file = Some(image.file.to_string());
        self.image_expires_at = Some(image.expires_at.to_string());
        self.uploaded_at = uploaded_at;
    }

    /// Writes what is known of the image.
    pub(super) fn put_facts(&mut self, facts: &ImageFacts) {
        let ImageFacts {
            mime,
            bytes,
            width,
            height,
            sha256,
            stamp: _,
        } = facts;
        self.image_mime = Some(mime.as_str().to_owned());
        self.image_bytes = Some(signed(*bytes));
        self.image_width = Some(i64::from(*width));
        self.image_height = Some(i64::from(*height));
        self.image_sha256 = Some(sha256.to_string());
    }
}

/// The state that a submission's row stands for.
pub fn batch_state(row: &submissions::Model) -> StateResult<BatchState> {
    let thing = format!("batch '{}'", row.batch_id);
    let stage = word(&thing, &row.state, BatchStage::parse)?;
    let remote = || needed(&thing, "remote_name", &row.remote_name).map(RemoteName::from);
    let misfit = if (stage == BatchStage::InDoubt) != row.in_doubt_since.is_some() {
        Some("in_doubt_since")
    } else if (stage == BatchStage::Abandoned) != row.abandon_code.is_some() {
        Some("abandon_code")
    } else if row.not_before.is_some() && stage != BatchStage::Planned {
        Some("not_before")
    } else {
        None
    };
    if let Some(column) = misfit {
        return Err(corrupt(
            thing,
            format!("{column} does not fit state '{stage}'"),
        ));
    }
    let state = match stage {
        BatchStage::Planned => BatchState::Planned {
            not_before: maybe_instant(&thing, row.not_before.as_deref())?,
        },
        BatchStage::Submitting => BatchState::Submitting,
        BatchStage::InDoubt => BatchState::InDoubt {
            since: instant(
                &thing,
                needed(&thing, "in_doubt_since", &row.in_doubt_since)?,
            )?,
        },
        BatchStage::Submitted => BatchState::Submitted { remote: remote()? },
        BatchStage::Ready => BatchState::Ready { remote: remote()? },
        BatchStage::Settled => BatchState::Settled,
        BatchStage::Abandoned => BatchState::Abandoned {
            code: word(
                &thing,
                needed(&thing, "abandon_code", &row.abandon_code)?,
                AbandonCode::parse,
            )?,
        },
    };
    Ok(state)
}

/// Writes a state into the change of a submission's row.
pub(super) fn put_batch_state(
    change: &mut submissions::ActiveModel,
    state: &BatchState,
    at: Timestamp,
) {
    change.state = Set(state.stage().as_str().to_owned());
    change.not_before = Set(None);
    change.in_doubt_since = Set(None);
    match state {
        BatchState::Planned { not_before } => {
            change.not_before = Set(not_before.map(|at| at.to_string()));
        }
        BatchState::Submitting => {}
        BatchState::InDoubt { since } => change.in_doubt_since = Set(Some(since.to_string())),
        BatchState::Submitted { remote } | BatchState::Ready { remote } => {
            change.remote_name = Set(Some(remote.to_string()));
        }
        BatchState::Settled => change.closed_at = Set(Some(at.to_string())),
        BatchState::Abandoned { code } => {
            change.abandon_code = Set(Some(code.as_str().to_owned()));
            change.closed_at = Set(Some(at.to_string()));
        }
    }
}

/// Where a submission's results stand.
pub(super) fn batch_output(row: &submissions::Model) -> StateResult<Option<RemoteOutput>> {
    match (row.output_kind.as_deref(), &row.output_file) {
        (None, None) => Ok(None),
        (Some("inline"), None) => Ok(Some(RemoteOutput::Inline)),
        (Some("file"), Some(name)) => Ok(Some(RemoteOutput::File(RemoteName::from(name.as_str())))),
        (kind, file) => Err(corrupt(
            format!("batch '{}'", row.batch_id),
            format!("output_kind {kind:?} does not fit output_file {file:?}"),
        )),
    }
}

/// Sums of tokens, null where nothing is known.
#[derive(Debug, Clone, Copy, Default, FromQueryResult)]
pub(super) struct TokenSums {
    pub tokens_prompt: Option<i64>,
    pub tokens_cached: Option<i64>,
    pub tokens_candidates: Option<i64>,
    pub tokens_thoughts: Option<i64>,
    pub tokens_total: Option<i64>,
    pub cost_nanos: Option<i64>,
}

/// The aggregates of [`TokenSums`], for a SELECT.
pub(super) const TOKEN_SUMS: &str = "sum(tokens_prompt) AS tokens_prompt, \
    sum(tokens_cached) AS tokens_cached, sum(tokens_candidates) AS tokens_candidates, \
    sum(tokens_thoughts) AS tokens_thoughts, sum(tokens_total) AS tokens_total, \
    sum(cost_nanos) AS cost_nanos";

impl TokenSums {
    /// The sums as the domain has them.
    pub(super) fn tokens(&self) -> Tokens {
        Tokens {
            prompt: self.tokens_prompt.map(unsigned),
            cached: self.tokens_cached.map(unsigned),
            candidates: self.tokens_candidates.map(unsigned),
            thoughts: self.tokens_thoughts.map(unsigned),
            total: self.tokens_total.map(unsigned),
        }
    }
}
