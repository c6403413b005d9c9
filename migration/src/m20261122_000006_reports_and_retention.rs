//! Reports of days and weeks: what is booked when, and which were written; and raw results that are
//! still to be compressed.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

crate::run_statements!(UP, DOWN);

const UP: &[&str] = &[PERIOD_REPORTS, BOOKED, UPLOADED, UNCOMPRESSED];

const DOWN: &[&str] = &[
    "DROP INDEX submissions_uncompressed",
    "DROP INDEX remote_files_sent_at",
    "DROP INDEX submissions_booked_at",
    "DROP TABLE period_reports",
];

/// `requests_open` is how many requests of the period had no outcome when it was written: such a
/// report is written again when they have one.
const PERIOD_REPORTS: &str = "
CREATE TABLE period_reports (
    kind          TEXT NOT NULL CHECK (kind IN ('day','week')),
    first_day     TEXT NOT NULL,
    zone          TEXT NOT NULL,
    name          TEXT NOT NULL,
    requests      INTEGER NOT NULL CHECK (requests >= 0),
    requests_open INTEGER NOT NULL CHECK (requests_open BETWEEN 0 AND requests),
    markdown      TEXT NOT NULL,
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL,
    PRIMARY KEY (kind, first_day, zone)
) STRICT;
";

/// A batch is booked to the instant of its submission; until then, of its planning.
const BOOKED: &str = "
CREATE INDEX submissions_booked_at
    ON submissions (coalesce(submitted_at, created_at), batch_id);
";

const UPLOADED: &str = "
CREATE INDEX remote_files_sent_at
    ON remote_files (created_at, purpose, bytes)
    WHERE purpose IN ('image','lines');
";

const UNCOMPRESSED: &str = "
CREATE INDEX submissions_uncompressed
    ON submissions (closed_at, batch_id)
    WHERE closed_at IS NOT NULL AND raw_path IS NOT NULL AND substr(raw_path, -4) <> '.zst';
";
