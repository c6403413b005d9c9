//! What stops submission, what is remembered of failures in a row, how large batches may be, and
//! jobs that may still bring answers after their batch has ended.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

crate::run_statements!(UP, DOWN);

const UP: &[&str] = &[HALTS, STREAKS, PACES, LATE_JOBS, SUBMISSIONS];

const DOWN: &[&str] = &[
    "DROP INDEX submissions_closed_at",
    "ALTER TABLE submissions DROP COLUMN results_missing_since",
    "ALTER TABLE submissions DROP COLUMN tokens_estimated",
    "ALTER TABLE submissions DROP COLUMN unreachable_since",
    "DROP TABLE late_jobs",
    "DROP TABLE paces",
    "DROP TABLE streaks",
    "DROP TABLE halts",
];

/// A halt is open until `cleared_at`; of one reason at most one is open.
const HALTS: &str = "
CREATE TABLE halts (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    reason     TEXT NOT NULL
               CHECK (reason IN ('key','permission','billing','spend_cap','daily_quota',
                                 'identical_failures','accept_rate','nothing_accepted','pilot')),
    message    TEXT NOT NULL,
    times      INTEGER NOT NULL CHECK (times > 0),
    since      TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    cleared_at TEXT,
    cleared_by TEXT CHECK (cleared_by IN ('probe','operator')),
    CONSTRAINT cleared_by_somebody CHECK ((cleared_at IS NULL) = (cleared_by IS NULL))
) STRICT;
CREATE UNIQUE INDEX halts_open ON halts (reason) WHERE cleared_at IS NULL;
";

/// One row: the failures in a row up to now.
const STREAKS: &str = "
CREATE TABLE streaks (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    kind       TEXT NOT NULL,
    count      INTEGER NOT NULL CHECK (count >= 0),
    barren     INTEGER NOT NULL CHECK (barren >= 0),
    since      TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
INSERT INTO streaks (id, kind, count, barren, since, updated_at) VALUES (1, '', 0, 0, '', '');
";

const PACES: &str = "
CREATE TABLE paces (
    model      TEXT NOT NULL PRIMARY KEY CHECK (model <> ''),
    pages_max  INTEGER CHECK (pages_max > 0),
    tokens_max INTEGER CHECK (tokens_max > 0),
    clean      INTEGER NOT NULL DEFAULT 0 CHECK (clean >= 0),
    reason     TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
";

const LATE_JOBS: &str = "
CREATE TABLE late_jobs (
    remote_name  TEXT NOT NULL PRIMARY KEY CHECK (remote_name <> ''),
    batch_id     TEXT NOT NULL REFERENCES submissions (batch_id),
    why          TEXT NOT NULL CHECK (why IN ('extra','ended')),
    state        TEXT NOT NULL CHECK (state IN ('watched','offered','collected','cancelled','gone')),
    remote_state TEXT,
    output_kind  TEXT CHECK (output_kind IN ('file','inline')),
    output_file  TEXT,
    looks        INTEGER NOT NULL DEFAULT 0 CHECK (looks >= 0),
    looked_at    TEXT,
    raw_path     TEXT,
    raw_bytes    INTEGER CHECK (raw_bytes >= 0),
    raw_sha256   TEXT,
    answers      INTEGER CHECK (answers >= 0),
    accepted     INTEGER CHECK (accepted >= 0),
    paid_twice   INTEGER CHECK (paid_twice >= 0),
    tokens_total INTEGER,
    cost_nanos   INTEGER,
    note         TEXT NOT NULL DEFAULT '',
    found_at     TEXT NOT NULL,
    updated_at   TEXT NOT NULL,
    CONSTRAINT output_file_has_a_name
        CHECK ((output_file IS NOT NULL) = (output_kind IS NOT NULL AND output_kind = 'file')),
    CONSTRAINT offered_has_output CHECK (state <> 'offered' OR output_kind IS NOT NULL),
    CONSTRAINT collected_was_counted CHECK ((state = 'collected') = (answers IS NOT NULL))
) STRICT;
CREATE INDEX late_jobs_open ON late_jobs (state, looked_at) WHERE state IN ('watched','offered');
CREATE INDEX late_jobs_batch_id ON late_jobs (batch_id);
";

const SUBMISSIONS: &str = "
ALTER TABLE submissions ADD COLUMN unreachable_since TEXT;
ALTER TABLE submissions ADD COLUMN tokens_estimated INTEGER;
ALTER TABLE submissions ADD COLUMN results_missing_since TEXT;
CREATE INDEX submissions_closed_at ON submissions (closed_at) WHERE state = 'settled';
";
