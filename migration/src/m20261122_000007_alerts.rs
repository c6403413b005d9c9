//! What an operator was told of, how it was brought out, and the last sign of life of a run.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

crate::run_statements!(UP, DOWN);

const UP: &[&str] = &[ALERTS, DELIVERIES, HEARTBEATS, STREAKS];

const DOWN: &[&str] = &[
    "ALTER TABLE streaks DROP COLUMN accepted_at",
    "ALTER TABLE streaks DROP COLUMN barren_peak",
    "DROP TABLE heartbeats",
    "DROP TABLE alert_deliveries",
    "DROP TABLE alerts",
];

/// An alert is open until `cleared_at`; of one kind and subject at most one is open.
const ALERTS: &str = "
CREATE TABLE alerts (
    alert_id   TEXT NOT NULL PRIMARY KEY CHECK (alert_id <> ''),
    kind       TEXT NOT NULL
               CHECK (kind IN ('consecutive_failures','failure_rate','nothing_accepted',
                               'results_uncollected','remote_storage','local_disk','halted',
                               'provider_unreachable','batch_unreachable','batch_slow')),
    subject    TEXT NOT NULL,
    message    TEXT NOT NULL,
    since      TEXT NOT NULL,
    fired_at   TEXT NOT NULL,
    last_seen  TEXT NOT NULL,
    cleared_at TEXT,
    times      INTEGER NOT NULL DEFAULT 1 CHECK (times > 0)
) STRICT;
CREATE UNIQUE INDEX alerts_open ON alerts (kind, subject) WHERE cleared_at IS NULL;
CREATE INDEX alerts_fired_at ON alerts (fired_at);
";

/// A delivery is due at `next_at`; without one it is delivered or given up.
const DELIVERIES: &str = "
CREATE TABLE alert_deliveries (
    alert_id     TEXT NOT NULL REFERENCES alerts (alert_id),
    channel      TEXT NOT NULL CHECK (channel IN ('webhook','command')),
    event        TEXT NOT NULL CHECK (event IN ('fired','cleared')),
    attempts     INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_at      TEXT,
    delivered_at TEXT,
    last_error   TEXT,
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL,
    PRIMARY KEY (alert_id, channel, event),
    CONSTRAINT delivered_is_not_due CHECK (delivered_at IS NULL OR next_at IS NULL)
) STRICT;
CREATE INDEX alert_deliveries_due ON alert_deliveries (next_at) WHERE next_at IS NOT NULL;
";

/// One row: who worked on this database last, and since when there has been work without a pause.
const HEARTBEATS: &str = "
CREATE TABLE heartbeats (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    run_id     TEXT NOT NULL,
    at         TEXT NOT NULL,
    busy_since TEXT
) STRICT;
";

/// The most failures in a row since somebody looked, and when an answer was accepted last.
const STREAKS: &str = "
ALTER TABLE streaks ADD COLUMN barren_peak INTEGER NOT NULL DEFAULT 0 CHECK (barren_peak >= 0);
ALTER TABLE streaks ADD COLUMN accepted_at TEXT;
";
