//! The first shape of the database.
//!
//! Times are RFC 3339 texts of fixed width, so that texts sort as instants do. The partial indexes
//! exist for the questions that are asked again and again: their cost follows the work that is left,
//! not the pages that are done.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

crate::run_statements!(UP, DOWN);

const UP: &[&str] = &[
    RECIPES,
    RUNS,
    PAGES,
    PAGES_INDEXES,
    PAGE_EVENTS,
    SUBMISSIONS,
    SUBMISSION_EVENTS,
    BATCHES,
    REMOTE_FILES,
    ATTEMPTS,
    FAILURES,
    ODDITIES_AND_REPORTS,
    VIEWS,
];

/// Newest first, so that nothing that is dropped is still referred to.
const DOWN: &[&str] = &[
    "DROP VIEW v_failures",
    "DROP VIEW v_inflight",
    "DROP VIEW v_active_batches",
    "DROP TABLE reports",
    "DROP TABLE scan_oddities",
    "DROP TABLE failure_logs",
    "DROP TABLE failure_counts",
    "DROP TABLE attempts",
    "DROP TABLE remote_files",
    "DROP TABLE inflight_records",
    "DROP TABLE batch_record_keys",
    "DROP TABLE active_batches",
    "DROP TABLE submission_events",
    "DROP TABLE submissions",
    "DROP TABLE page_events",
    "DROP TABLE pages",
    "DROP TABLE runs",
    "DROP TABLE recipes",
];

const RECIPES: &str = "
CREATE TABLE recipes (
    recipe_hash       TEXT NOT NULL PRIMARY KEY,
    prompt_name       TEXT NOT NULL,
    prompt_template   TEXT NOT NULL,
    context_template  TEXT,
    schema            TEXT NOT NULL,
    model             TEXT NOT NULL,
    generation_config TEXT NOT NULL CHECK (json_valid(generation_config)),
    created_at        TEXT NOT NULL
) STRICT;
";

const RUNS: &str = "
CREATE TABLE runs (
    run_id          TEXT NOT NULL PRIMARY KEY,
    label           TEXT,
    status          TEXT NOT NULL
                    CHECK (status IN ('initializing','processing','completed','failed','stopped')),
    recipe_hash     TEXT NOT NULL REFERENCES recipes (recipe_hash),
    scope           TEXT NOT NULL,
    config_snapshot TEXT NOT NULL,
    config_sha256   TEXT NOT NULL,
    restarts        INTEGER NOT NULL DEFAULT 0 CHECK (restarts >= 0),
    totals          TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(totals)),
    started_at      TEXT NOT NULL,
    ended_at        TEXT,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL
) STRICT;
CREATE INDEX runs_updated_at ON runs (updated_at);
";

const PAGES: &str = "
CREATE TABLE pages (
    record_key       TEXT NOT NULL PRIMARY KEY CHECK (record_key <> ''),
    book             TEXT NOT NULL,
    levels           TEXT NOT NULL CHECK (json_valid(levels)),
    page_number      INTEGER NOT NULL CHECK (page_number >= 0),
    stage            TEXT NOT NULL
                     CHECK (stage IN ('discovered','uploading','uploaded','batched','validating',
                                      'completed','dead','review','skipped')),
    status           TEXT NOT NULL DEFAULT '',
    priority         INTEGER NOT NULL DEFAULT 0,
    scope            TEXT,
    run_id           TEXT,
    recipe_hash      TEXT,
    predecessor      TEXT,
    waits_for        TEXT CHECK (waits_for <> record_key),
    chain_ahead      INTEGER NOT NULL DEFAULT 0 CHECK (chain_ahead >= 0),
    not_before       TEXT,
    error            TEXT
                     CHECK (error IN ('JSONDecodeError','ValidationError','ValueError',
                                      'MissingResponse','AmbiguousResponse','ApiError',
                                      'ContentFiltered','Recitation','Truncated','Repetition',
                                      'UploadError','ImageError')),
    upload_cycles    INTEGER NOT NULL DEFAULT 0 CHECK (upload_cycles >= 0),
    releases         INTEGER NOT NULL DEFAULT 0 CHECK (releases >= 0),
    batch_size_max   INTEGER CHECK (batch_size_max > 0),
    batch_id         TEXT,
    image_mime       TEXT,
    image_bytes      INTEGER CHECK (image_bytes >= 0),
    image_sha256     TEXT,
    image_width      INTEGER CHECK (image_width >= 0),
    image_height     INTEGER CHECK (image_height >= 0),
    image_file       TEXT,
    image_expires_at TEXT,
    uploaded_at      TEXT,
    output_sha256    TEXT,
    output_bytes     INTEGER CHECK (output_bytes >= 0),
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL,
    CONSTRAINT image_of_uploaded
        CHECK ((stage IN ('uploaded','batched')) = (image_file IS NOT NULL)),
    CONSTRAINT image_has_expiry
        CHECK ((image_file IS NULL) = (image_expires_at IS NULL)),
    CONSTRAINT image_was_uploaded
        CHECK ((image_file IS NULL) = (uploaded_at IS NULL)),
    CONSTRAINT batch_of_batched
        CHECK (stage NOT IN ('batched','validating') OR batch_id IS NOT NULL),
    CONSTRAINT upload_outside_batches
        CHECK (stage NOT IN ('uploading','uploaded') OR batch_id IS NULL),
    CONSTRAINT output_of_completed
        CHECK ((stage = 'completed') = (output_sha256 IS NOT NULL)),
    CONSTRAINT output_has_bytes
        CHECK ((output_sha256 IS NULL) = (output_bytes IS NULL)),
    CONSTRAINT error_of_dead
        CHECK ((stage IN ('dead','review')) = (error IS NOT NULL)),
    CONSTRAINT only_discovered_waits
        CHECK (not_before IS NULL OR stage = 'discovered')
) STRICT;
";

const PAGES_INDEXES: &str = "
CREATE INDEX pages_stage ON pages (stage, scope);
CREATE INDEX pages_waits_for ON pages (waits_for) WHERE waits_for IS NOT NULL;
CREATE INDEX pages_batch ON pages (batch_id, stage) WHERE batch_id IS NOT NULL;
CREATE INDEX pages_runnable
    ON pages (scope, priority DESC, chain_ahead DESC, record_key, not_before)
    WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NULL;
CREATE INDEX pages_blocked
    ON pages (scope, priority DESC, chain_ahead DESC, record_key, not_before)
    WHERE stage = 'discovered' AND batch_id IS NULL AND waits_for IS NOT NULL;
CREATE INDEX pages_due
    ON pages (scope, not_before, waits_for)
    WHERE stage = 'discovered' AND batch_id IS NULL AND not_before IS NOT NULL;
CREATE INDEX pages_uploaded
    ON pages (scope, priority DESC, chain_ahead DESC, record_key, image_expires_at, uploaded_at)
    WHERE stage = 'uploaded' AND batch_id IS NULL;
CREATE INDEX pages_expiring
    ON pages (image_expires_at)
    WHERE stage = 'uploaded' AND batch_id IS NULL;
CREATE INDEX pages_image_faults
    ON pages (scope, record_key)
    WHERE stage = 'dead' AND error = 'ImageError';
";

const PAGE_EVENTS: &str = "
CREATE TABLE page_events (
    id             INTEGER NOT NULL PRIMARY KEY,
    record_key     TEXT NOT NULL,
    at             TEXT NOT NULL,
    from_stage     TEXT,
    to_stage       TEXT NOT NULL
                   CHECK (to_stage IN ('discovered','uploading','uploaded','batched','validating',
                                       'completed','dead','review','skipped')),
    event          TEXT NOT NULL,
    run_id         TEXT,
    batch_id       TEXT,
    correlation_id TEXT,
    details        TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(details)),
    CONSTRAINT only_seen_comes_from_nothing CHECK ((from_stage IS NULL) = (event = 'seen'))
) STRICT;
CREATE INDEX page_events_record_key ON page_events (record_key);
CREATE INDEX page_events_batch_id ON page_events (batch_id) WHERE batch_id IS NOT NULL;
";

const SUBMISSIONS: &str = "
CREATE TABLE submissions (
    batch_id             TEXT NOT NULL PRIMARY KEY CHECK (batch_id <> ''),
    display_name         TEXT NOT NULL UNIQUE,
    state                TEXT NOT NULL
                         CHECK (state IN ('planned','submitting','in doubt','submitted','ready',
                                          'settled','abandoned')),
    note                 TEXT NOT NULL DEFAULT '',
    run_id               TEXT NOT NULL REFERENCES runs (run_id),
    recipe_hash          TEXT NOT NULL REFERENCES recipes (recipe_hash),
    model                TEXT NOT NULL,
    key_fingerprint      TEXT NOT NULL,
    record_count         INTEGER NOT NULL CHECK (record_count >= 0),
    not_before           TEXT,
    in_doubt_since       TEXT,
    abandon_code         TEXT
                         CHECK (abandon_code IN ('withdrawn','refused','failed','cancelled','quota',
                                                 'expired','results_lost','forgotten')),
    lines_sha256         TEXT,
    lines_bytes          INTEGER CHECK (lines_bytes >= 0),
    lines_file           TEXT,
    reserved_cost_nanos  INTEGER CHECK (reserved_cost_nanos >= 0),
    creates              INTEGER NOT NULL DEFAULT 0 CHECK (creates >= 0),
    lookups              INTEGER NOT NULL DEFAULT 0 CHECK (lookups >= 0),
    last_lookup_at       TEXT,
    extra_jobs           TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(extra_jobs)),
    remote_name          TEXT,
    remote_state         TEXT,
    remote_requests      INTEGER,
    remote_pending       INTEGER,
    remote_succeeded     INTEGER,
    remote_failed        INTEGER,
    output_kind          TEXT CHECK (output_kind IN ('file','inline')),
    output_file          TEXT,
    raw_path             TEXT,
    raw_bytes            INTEGER CHECK (raw_bytes >= 0),
    raw_sha256           TEXT,
    count_submitted      INTEGER,
    count_succeeded      INTEGER,
    count_failed         INTEGER,
    count_missing        INTEGER,
    count_released       INTEGER,
    lines_total          INTEGER,
    lines_foreign        INTEGER,
    lines_unreadable     INTEGER,
    lines_repeated       INTEGER,
    tokens_prompt        INTEGER,
    tokens_cached        INTEGER,
    tokens_candidates    INTEGER,
    tokens_thoughts      INTEGER,
    tokens_total         INTEGER,
    cost_nanos           INTEGER,
    created_at           TEXT NOT NULL,
    updated_at           TEXT NOT NULL,
    submitted_at         TEXT,
    polled_at            TEXT,
    ended_at             TEXT,
    terminal_seen_at     TEXT,
    closed_at            TEXT,
    CONSTRAINT doubt_has_a_start CHECK ((state = 'in doubt') = (in_doubt_since IS NOT NULL)),
    CONSTRAINT abandoned_has_a_code CHECK ((state = 'abandoned') = (abandon_code IS NOT NULL)),
    CONSTRAINT submitted_has_a_name
        CHECK (state NOT IN ('submitted','ready','settled') OR remote_name IS NOT NULL),
    CONSTRAINT only_planned_waits CHECK (not_before IS NULL OR state = 'planned'),
    CONSTRAINT lines_are_whole CHECK ((lines_sha256 IS NULL) = (lines_bytes IS NULL)),
    CONSTRAINT output_file_has_a_name
        CHECK ((output_file IS NOT NULL) = (output_kind IS NOT NULL AND output_kind = 'file')),
    CONSTRAINT raw_is_whole
        CHECK ((raw_path IS NULL) = (raw_bytes IS NULL) AND (raw_path IS NULL) = (raw_sha256 IS NULL)),
    CONSTRAINT settled_adds_up
        CHECK (state <> 'settled' OR (count_submitted IS NOT NULL
               AND count_submitted = count_succeeded + count_failed + count_missing + count_released)),
    CONSTRAINT closed_has_a_time
        CHECK ((state IN ('settled','abandoned')) = (closed_at IS NOT NULL))
) STRICT;
CREATE INDEX submissions_state ON submissions (state, created_at);
CREATE INDEX submissions_run_id ON submissions (run_id);
CREATE INDEX submissions_remote_name ON submissions (remote_name) WHERE remote_name IS NOT NULL;
";

const SUBMISSION_EVENTS: &str = "
CREATE TABLE submission_events (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    batch_id   TEXT NOT NULL REFERENCES submissions (batch_id),
    at         TEXT NOT NULL,
    from_state TEXT,
    to_state   TEXT NOT NULL,
    event      TEXT NOT NULL,
    note       TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX submission_events_batch_id ON submission_events (batch_id);
";

const BATCHES: &str = "
CREATE TABLE active_batches (
    batch_id   TEXT NOT NULL PRIMARY KEY REFERENCES submissions (batch_id),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('active','completed','failed'))
) STRICT;
CREATE INDEX active_batches_created_at ON active_batches (created_at);
CREATE INDEX active_batches_status ON active_batches (status);

CREATE TABLE batch_record_keys (
    batch_id   TEXT NOT NULL REFERENCES active_batches (batch_id),
    record_key TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (batch_id, record_key)
) STRICT;
CREATE INDEX batch_record_keys_batch_id ON batch_record_keys (batch_id);
CREATE INDEX batch_record_keys_record_key ON batch_record_keys (record_key);

CREATE TABLE inflight_records (
    record_key TEXT NOT NULL PRIMARY KEY REFERENCES pages (record_key),
    batch_id   TEXT NOT NULL REFERENCES active_batches (batch_id),
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX inflight_records_batch_id ON inflight_records (batch_id);
";

const REMOTE_FILES: &str = "
CREATE TABLE remote_files (
    name            TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
    uri             TEXT NOT NULL,
    purpose         TEXT NOT NULL CHECK (purpose IN ('image','lines','results')),
    mime            TEXT NOT NULL,
    bytes           INTEGER NOT NULL CHECK (bytes >= 0),
    sha256          TEXT,
    record_key      TEXT,
    batch_id        TEXT,
    key_fingerprint TEXT NOT NULL,
    state           TEXT NOT NULL
                    CHECK (state IN ('live','deleting','deleted','undeletable','gone')),
    note            TEXT NOT NULL DEFAULT '',
    not_before      TEXT,
    created_at      TEXT NOT NULL,
    updated_at      TEXT NOT NULL,
    expires_at      TEXT NOT NULL,
    CONSTRAINT whose CHECK ((purpose = 'image') = (record_key IS NOT NULL)
                            AND (purpose = 'image') = (batch_id IS NULL)),
    CONSTRAINT only_deleting_waits CHECK (not_before IS NULL OR state = 'deleting')
) STRICT;
CREATE INDEX remote_files_deleting
    ON remote_files (created_at, name, not_before)
    WHERE state = 'deleting';
CREATE INDEX remote_files_held
    ON remote_files (expires_at, bytes)
    WHERE state IN ('live','deleting','undeletable');
CREATE INDEX remote_files_image
    ON remote_files (record_key)
    WHERE purpose = 'image' AND state = 'live';
CREATE INDEX remote_files_batch ON remote_files (batch_id) WHERE batch_id IS NOT NULL;
";

const ATTEMPTS: &str = "
CREATE TABLE attempts (
    batch_id          TEXT NOT NULL REFERENCES submissions (batch_id),
    record_key        TEXT NOT NULL,
    attempt_number    INTEGER NOT NULL CHECK (attempt_number > 0),
    outcome           TEXT NOT NULL
                      CHECK (outcome IN ('pending','accepted','rejected','released')),
    error_type        TEXT,
    message           TEXT,
    image_file        TEXT NOT NULL,
    prompt_sha256     TEXT,
    context_sha256    TEXT,
    finish_reason     TEXT,
    model_version     TEXT,
    tokens_prompt     INTEGER,
    tokens_cached     INTEGER,
    tokens_candidates INTEGER,
    tokens_thoughts   INTEGER,
    tokens_total      INTEGER,
    cost_nanos        INTEGER,
    raw_line_offset   INTEGER,
    raw_line_bytes    INTEGER,
    checks_failed     TEXT,
    corrective_text   TEXT,
    score             REAL,
    created_at        TEXT NOT NULL,
    decided_at        TEXT,
    PRIMARY KEY (batch_id, record_key),
    CONSTRAINT rejected_has_an_error CHECK ((outcome = 'rejected') = (error_type IS NOT NULL)),
    CONSTRAINT decided_has_a_time CHECK ((outcome = 'pending') = (decided_at IS NULL))
) STRICT;
CREATE INDEX attempts_record_key ON attempts (record_key);
";

const FAILURES: &str = "
CREATE TABLE failure_counts (
    record_key   TEXT NOT NULL PRIMARY KEY,
    count        INTEGER NOT NULL CHECK (count > 0),
    last_updated TEXT NOT NULL
) STRICT;

CREATE TABLE failure_logs (
    id                INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    record_key        TEXT NOT NULL,
    batch_id          TEXT NOT NULL,
    attempt_number    INTEGER NOT NULL CHECK (attempt_number >= 0),
    error_type        TEXT NOT NULL
                      CHECK (error_type IN ('JSONDecodeError','ValidationError','ValueError',
                                            'MissingResponse','AmbiguousResponse','ApiError',
                                            'ContentFiltered','Recitation','Truncated','Repetition',
                                            'UploadError','ImageError')),
    error_message     TEXT NOT NULL,
    error_traceback   TEXT NOT NULL,
    raw_response_text TEXT,
    extracted_text    TEXT,
    raw_response_json TEXT,
    model_name        TEXT,
    prompt_name       TEXT,
    prompt_template   TEXT,
    generation_config TEXT,
    counted           INTEGER NOT NULL CHECK (counted IN (0, 1)),
    run_id            TEXT,
    created_at        TEXT NOT NULL
) STRICT;
CREATE INDEX failure_logs_record_key ON failure_logs (record_key);
CREATE INDEX failure_logs_batch_id ON failure_logs (batch_id);
CREATE INDEX failure_logs_created_at ON failure_logs (created_at);
CREATE INDEX failure_logs_error_type ON failure_logs (error_type);
";

const ODDITIES_AND_REPORTS: &str = "
CREATE TABLE scan_oddities (
    id         INTEGER NOT NULL PRIMARY KEY,
    run_id     TEXT NOT NULL,
    path       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    detail     TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX scan_oddities_kind ON scan_oddities (kind);

CREATE TABLE reports (
    batch_id   TEXT NOT NULL PRIMARY KEY REFERENCES submissions (batch_id),
    name       TEXT NOT NULL,
    markdown   TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
";

const VIEWS: &str = "
CREATE VIEW v_active_batches AS
    SELECT b.batch_id, s.display_name, s.remote_name, s.state, s.remote_state, s.record_count,
           s.note, b.created_at, s.submitted_at, s.polled_at, b.updated_at
    FROM active_batches AS b JOIN submissions AS s ON s.batch_id = b.batch_id
    WHERE b.status = 'active';
CREATE VIEW v_inflight AS
    SELECT i.record_key, i.batch_id, p.stage, s.state AS batch_state, s.remote_name, i.created_at
    FROM inflight_records AS i
    JOIN pages AS p ON p.record_key = i.record_key
    JOIN submissions AS s ON s.batch_id = i.batch_id;
CREATE VIEW v_failures AS
    SELECT l.id, l.record_key, l.batch_id, l.attempt_number, l.error_type, l.error_message,
           l.counted, l.created_at, coalesce(c.count, 0) AS failures, p.stage
    FROM failure_logs AS l
    LEFT JOIN failure_counts AS c ON c.record_key = l.record_key
    LEFT JOIN pages AS p ON p.record_key = l.record_key;
";
