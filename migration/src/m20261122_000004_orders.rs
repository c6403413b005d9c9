//! What operators tell pagemill to do, and what that needs: orders, a halt of their own, pages that
//! they leave out or prefer, batches that they want cancelled or forgotten, and the window of a run.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

crate::run_statements!(UP, DOWN);

const UP: &[&str] = &[
    ORDERS,
    HALTS_WITH_PAUSE,
    PAGES,
    "ALTER TABLE submissions ADD COLUMN wish TEXT
         CHECK (wish IN ('cancel','forget','cancel and forget'))",
    "ALTER TABLE submissions ADD COLUMN wish_order TEXT",
    "ALTER TABLE submissions ADD COLUMN cancel_sent_at TEXT",
    "ALTER TABLE runs ADD COLUMN window_since TEXT",
    "ALTER TABLE runs ADD COLUMN window_until TEXT",
    "ALTER TABLE runs ADD COLUMN window_name TEXT",
];

const DOWN: &[&str] = &[
    "ALTER TABLE runs DROP COLUMN window_name",
    "ALTER TABLE runs DROP COLUMN window_until",
    "ALTER TABLE runs DROP COLUMN window_since",
    "ALTER TABLE submissions DROP COLUMN cancel_sent_at",
    "ALTER TABLE submissions DROP COLUMN wish_order",
    "ALTER TABLE submissions DROP COLUMN wish",
    "DROP INDEX pages_low",
    "ALTER TABLE pages DROP COLUMN arrived_at",
    "ALTER TABLE pages DROP COLUMN window_name",
    "ALTER TABLE pages DROP COLUMN left_out",
    "ALTER TABLE pages DROP COLUMN priority_at",
    "ALTER TABLE pages DROP COLUMN priority_set",
    HALTS_WITHOUT_PAUSE,
    "DROP TABLE orders",
];

/// An order is open until it is done or refused. `answer` counts what it did.
const ORDERS: &str = "
CREATE TABLE orders (
    order_id   TEXT NOT NULL PRIMARY KEY CHECK (order_id <> ''),
    command    TEXT NOT NULL
               CHECK (command IN ('pause','resume','clear-failures','redo','skip','unskip',
                                  'priority','note','cancel batch','forget batch','nuke','rekey')),
    arguments  TEXT NOT NULL CHECK (json_valid(arguments)),
    by_whom    TEXT NOT NULL,
    reason     TEXT NOT NULL DEFAULT '',
    state      TEXT NOT NULL CHECK (state IN ('open','done','refused')),
    answer     TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(answer)),
    last_key   TEXT,
    created_at TEXT NOT NULL,
    done_at    TEXT,
    CONSTRAINT done_has_a_time CHECK ((state = 'open') = (done_at IS NULL))
) STRICT;
CREATE INDEX orders_open ON orders (order_id) WHERE state = 'open';
CREATE INDEX orders_command ON orders (command, order_id);
";

/// The reasons of a halt grow by the operator's own.
const HALTS_WITH_PAUSE: &str = "
CREATE TABLE halts_new (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    reason     TEXT NOT NULL
               CHECK (reason IN ('key','permission','billing','spend_cap','daily_quota',
                                 'identical_failures','accept_rate','nothing_accepted','pilot',
                                 'paused')),
    message    TEXT NOT NULL,
    times      INTEGER NOT NULL CHECK (times > 0),
    since      TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    cleared_at TEXT,
    cleared_by TEXT CHECK (cleared_by IN ('probe','operator')),
    CONSTRAINT cleared_by_somebody CHECK ((cleared_at IS NULL) = (cleared_by IS NULL))
) STRICT;
INSERT INTO halts_new SELECT * FROM halts;
DROP TABLE halts;
ALTER TABLE halts_new RENAME TO halts;
CREATE UNIQUE INDEX halts_open ON halts (reason) WHERE cleared_at IS NULL;
";

const HALTS_WITHOUT_PAUSE: &str = "
CREATE TABLE halts_old (
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
INSERT INTO halts_old SELECT * FROM halts WHERE reason <> 'paused';
DROP TABLE halts;
ALTER TABLE halts_old RENAME TO halts;
CREATE UNIQUE INDEX halts_open ON halts (reason) WHERE cleared_at IS NULL;
";

/// `priority` is what counts now; `priority_set` is the operator's word, which ageing leaves alone.
const PAGES: &str = "
ALTER TABLE pages ADD COLUMN priority_set INTEGER NOT NULL DEFAULT 0 CHECK (priority_set IN (-1,0,1));
ALTER TABLE pages ADD COLUMN priority_at TEXT;
ALTER TABLE pages ADD COLUMN left_out TEXT;
ALTER TABLE pages ADD COLUMN window_name TEXT;
ALTER TABLE pages ADD COLUMN arrived_at TEXT;
CREATE INDEX pages_low ON pages (priority_at) WHERE stage = 'discovered' AND priority < 0;
";
