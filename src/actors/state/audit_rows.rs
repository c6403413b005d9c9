//! The tables held against each other, a question a promise. Each question gives the rows that
//! break it.

use sea_orm::{DatabaseTransaction, FromQueryResult, Value};

use super::audit::Found;
use super::messages::{StateRepair, StateResult};
use super::sql::{as_u64, number, rows, texts};
use crate::domain::finding::FindingKind;
use crate::domain::ids::{BatchId, RecordKey, RemoteName};

/// Breaches of one promise that are named; beyond it they are only counted.
const NAMED_MAX: u64 = 20_000;

/// Asks SQLite itself: is the file whole, do rows refer to rows that are there?
pub(super) async fn check_database(
    tx: &DatabaseTransaction,
    tell: &mut dyn FnMut(Found),
) -> StateResult<()> {
    for fault in texts(tx, "PRAGMA integrity_check(100)", []).await? {
        if fault != "ok" {
            tell(found(FindingKind::DatabaseDamaged, "", fault, None));
        }
    }
    let orphans =
        "SELECT \"table\" || ' refers to rows of ' || \"parent\" || ' that are not there: '
                          || count(*) || ' times'
                   FROM pragma_foreign_key_check GROUP BY \"table\", \"parent\"";
    for fault in texts(tx, orphans, []).await? {
        tell(found(FindingKind::DatabaseDamaged, "", fault, None));
    }
    Ok(())
}

/// A promise between tables.
struct Promise {
    kind: FindingKind,
    /// Gives `thing`, `other` (what a repair needs beside it, or null) and `detail`.
    breaches: &'static str,
    repair: fn(&str, &str) -> Option<StateRepair>,
}

#[derive(FromQueryResult)]
pub(super) struct Breach {
    pub thing: String,
    pub other: Option<String>,
    pub detail: String,
}

/// Asks all questions.
pub(super) async fn check_tables(
    tx: &DatabaseTransaction,
    max_retries: u32,
    tell: &mut dyn FnMut(Found),
) -> StateResult<()> {
    for promise in PROMISES {
        let sql = format!("{} LIMIT {NAMED_MAX}", promise.breaches);
        let breaches: Vec<Breach> = rows(tx, &sql, []).await?;
        let named = as_u64(breaches.len());
        for breach in breaches {
            let other = breach.other.unwrap_or_default();
            let repair = (promise.repair)(&breach.thing, &other);
            tell(found(promise.kind, &breach.thing, breach.detail, repair));
        }
        if named == NAMED_MAX {
            let sql = format!("SELECT count(*) FROM ({})", promise.breaches);
            let more = number(tx, &sql, []).await?.saturating_sub(named);
            tell(Found {
                count: more,
                ..found(promise.kind, "", "and more of them".to_owned(), None)
            });
        }
    }
    let spent: Vec<Breach> = rows(tx, RETRIES_SPENT, [Value::from(max_retries)]).await?;
    for breach in spent {
        tell(found(
            FindingKind::RetriesSpent,
            &breach.thing,
            breach.detail,
            None,
        ));
    }
    Ok(())
}

fn found(kind: FindingKind, thing: &str, detail: String, repair: Option<StateRepair>) -> Found {
    Found {
        kind,
        thing: thing.to_owned(),
        detail,
        repair,
        count: 1,
    }
}

fn nothing(_thing: &str, _other: &str) -> Option<StateRepair> {
    None
}

fn page_and_batch(key: &str, batch: &str) -> (RecordKey, BatchId) {
    (RecordKey::from(key), BatchId::from(batch))
}

const PROMISES: &[Promise] = &[
    Promise {
        kind: FindingKind::WindowDrift,
        breaches: OUTSIDE_WINDOW,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::HeldByClosedBatch,
        breaches: HELD_BY_CLOSED,
        repair: |key, batch| {
            let (key, batch) = page_and_batch(key, batch);
            Some(StateRepair::Free { key, batch })
        },
    },
    Promise {
        kind: FindingKind::InTwoBatches,
        breaches: IN_TWO_BATCHES,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::InflightAstray,
        breaches: INFLIGHT_OF_CLOSED,
        repair: |key, batch| {
            let (key, batch) = page_and_batch(key, batch);
            Some(StateRepair::DropInflight { key, batch })
        },
    },
    Promise {
        kind: FindingKind::InflightAstray,
        breaches: INFLIGHT_NOT_HELD,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::InflightMissing,
        breaches: HELD_NOT_INFLIGHT,
        repair: |key, batch| {
            let (key, batch) = page_and_batch(key, batch);
            Some(StateRepair::AddInflight { key, batch })
        },
    },
    Promise {
        kind: FindingKind::MembersDiffer,
        breaches: MEMBERS_OF_NOTHING,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::MembersDiffer,
        breaches: MEMBERS_WITHOUT_ATTEMPT,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::MembersDiffer,
        breaches: ATTEMPTS_WITHOUT_MEMBER,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::MembersDiffer,
        breaches: MEMBERS_NOT_HELD,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::MembersDiffer,
        breaches: HELD_NOT_MEMBERS,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::BatchStatusDiffers,
        breaches: STATUS_DIFFERS,
        repair: |batch, _| {
            let batch = BatchId::from(batch);
            Some(StateRepair::MirrorBatch { batch })
        },
    },
    Promise {
        kind: FindingKind::BatchCountsDiffer,
        breaches: COUNTS_DIFFER,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::AttemptPending,
        breaches: PENDING_IN_CLOSED,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::BatchHistoryBroken,
        breaches: BATCH_HISTORY,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::RawDamaged,
        breaches: SETTLED_WITHOUT_RAW,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::ImageNotInLedger,
        breaches: IMAGE_NOT_IN_LEDGER,
        repair: |key, stage| {
            let key = RecordKey::from(key);
            (stage == "uploaded").then_some(StateRepair::UploadAgain { key })
        },
    },
    Promise {
        kind: FindingKind::RemoteFileForgotten,
        breaches: IMAGE_FORGOTTEN,
        repair: forget,
    },
    Promise {
        kind: FindingKind::RemoteFileForgotten,
        breaches: LINES_FORGOTTEN,
        repair: forget,
    },
    Promise {
        kind: FindingKind::FailureCountDiffers,
        breaches: COUNT_DIFFERS,
        repair: recount,
    },
    Promise {
        kind: FindingKind::FailureCountDiffers,
        breaches: COUNT_MISSING,
        repair: recount,
    },
    Promise {
        kind: FindingKind::FailureNotLogged,
        breaches: REJECTED_UNLOGGED,
        repair: nothing,
    },
    Promise {
        kind: FindingKind::FailureLoggedTwice,
        breaches: LOGGED_TWICE,
        repair: nothing,
    },
];

fn forget(name: &str, _other: &str) -> Option<StateRepair> {
    let name = RemoteName::from(name);
    Some(StateRepair::ForgetRemote { name })
}

fn recount(key: &str, _other: &str) -> Option<StateRepair> {
    let key = RecordKey::from(key);
    Some(StateRepair::Recount { key })
}

const HELD_BY_CLOSED: &str = "
    SELECT p.record_key AS thing, p.batch_id AS other,
           'it is ' || p.stage || ' and held by batch ' || p.batch_id || ', which is '
           || coalesce(s.state, 'not there') AS detail
    FROM pages AS p LEFT JOIN submissions AS s ON s.batch_id = p.batch_id
    WHERE p.batch_id IS NOT NULL AND (s.state IS NULL OR s.state IN ('settled','abandoned'))
    ORDER BY p.record_key";

pub(super) const IN_TWO_BATCHES: &str = "
    SELECT m.record_key AS thing, NULL AS other,
           'it is a member of the live batches ' || group_concat(m.batch_id, ' and ') AS detail
    FROM submissions AS s JOIN batch_record_keys AS m ON m.batch_id = s.batch_id
    WHERE s.state IN ('planned','submitting','in doubt','submitted','ready')
    GROUP BY m.record_key HAVING count(*) > 1 ORDER BY m.record_key";

pub(super) const INFLIGHT_OF_CLOSED: &str = "
    SELECT i.record_key AS thing, i.batch_id AS other,
           'its row names batch ' || i.batch_id || ', which is '
           || coalesce(s.state, 'not there') AS detail
    FROM inflight_records AS i LEFT JOIN submissions AS s ON s.batch_id = i.batch_id
    WHERE s.state IS NULL OR s.state IN ('settled','abandoned')
    ORDER BY i.record_key";

pub(super) const INFLIGHT_NOT_HELD: &str = "
    SELECT i.record_key AS thing, NULL AS other,
           'its row names the live batch ' || i.batch_id || ', the page '
           || coalesce('batch ' || p.batch_id, 'no batch') AS detail
    FROM inflight_records AS i JOIN submissions AS s ON s.batch_id = i.batch_id
    LEFT JOIN pages AS p ON p.record_key = i.record_key
    WHERE s.state IN ('planned','submitting','in doubt','submitted','ready')
      AND p.batch_id IS NOT i.batch_id
    ORDER BY i.record_key";

pub(super) const HELD_NOT_INFLIGHT: &str = "
    SELECT p.record_key AS thing, p.batch_id AS other,
           'the live batch ' || p.batch_id || ' holds it, and no row says so' AS detail
    FROM pages AS p JOIN submissions AS s ON s.batch_id = p.batch_id
    LEFT JOIN inflight_records AS i ON i.record_key = p.record_key
    WHERE s.state IN ('planned','submitting','in doubt','submitted','ready')
      AND i.record_key IS NULL
    ORDER BY p.record_key";

const MEMBERS_OF_NOTHING: &str = "
    SELECT m.record_key AS thing, NULL AS other,
           'a member of batch ' || m.batch_id || ', but the '
           || CASE WHEN s.batch_id IS NULL THEN 'batch' ELSE 'page' END
           || ' is not there' AS detail
    FROM batch_record_keys AS m
    LEFT JOIN submissions AS s ON s.batch_id = m.batch_id
    LEFT JOIN pages AS p ON p.record_key = m.record_key
    WHERE s.batch_id IS NULL OR p.record_key IS NULL
    ORDER BY m.record_key";

const MEMBERS_WITHOUT_ATTEMPT: &str = "
    SELECT m.record_key AS thing, NULL AS other,
           'a member of batch ' || m.batch_id || ' without an attempt in it' AS detail
    FROM batch_record_keys AS m
    LEFT JOIN attempts AS a ON a.batch_id = m.batch_id AND a.record_key = m.record_key
    WHERE a.batch_id IS NULL ORDER BY m.record_key";

const ATTEMPTS_WITHOUT_MEMBER: &str = "
    SELECT a.record_key AS thing, NULL AS other,
           'an attempt in batch ' || a.batch_id || ', of which it is no member' AS detail
    FROM attempts AS a
    LEFT JOIN batch_record_keys AS m ON m.batch_id = a.batch_id AND m.record_key = a.record_key
    WHERE m.batch_id IS NULL ORDER BY a.record_key";

const MEMBERS_NOT_HELD: &str = "
    SELECT m.record_key AS thing, NULL AS other,
           'a member of the live batch ' || m.batch_id || ', but the page is '
           || p.stage || ' in ' || coalesce('batch ' || p.batch_id, 'no batch') AS detail
    FROM submissions AS s JOIN batch_record_keys AS m ON m.batch_id = s.batch_id
    JOIN pages AS p ON p.record_key = m.record_key
    WHERE s.state IN ('planned','submitting','in doubt','submitted','ready')
      AND p.batch_id IS NOT m.batch_id
    ORDER BY m.record_key";

const HELD_NOT_MEMBERS: &str = "
    SELECT p.record_key AS thing, NULL AS other,
           'the live batch ' || p.batch_id || ' holds it and does not name it' AS detail
    FROM pages AS p JOIN submissions AS s ON s.batch_id = p.batch_id
    LEFT JOIN batch_record_keys AS m ON m.batch_id = p.batch_id AND m.record_key = p.record_key
    WHERE s.state IN ('planned','submitting','in doubt','submitted','ready')
      AND m.record_key IS NULL
    ORDER BY p.record_key";

const STATUS_DIFFERS: &str = "
    SELECT s.batch_id AS thing, NULL AS other,
           'it is ' || s.state || ', but active_batches says '
           || coalesce(b.status, 'nothing') AS detail
    FROM submissions AS s LEFT JOIN active_batches AS b ON b.batch_id = s.batch_id
    WHERE b.status IS NOT CASE s.state WHEN 'settled' THEN 'completed'
                                       WHEN 'abandoned' THEN 'failed' ELSE 'active' END
    ORDER BY s.batch_id";

/// Closed batches keep how their pages ended; every batch keeps how many it has.
const COUNTS_DIFFER: &str = "
    WITH t AS (SELECT batch_id, count(*) AS submitted,
                      count(*) FILTER (WHERE outcome = 'accepted') AS succeeded,
                      count(*) FILTER (WHERE outcome = 'rejected'
                                       AND error_type <> 'MissingResponse') AS failed,
                      count(*) FILTER (WHERE outcome = 'rejected'
                                       AND error_type = 'MissingResponse') AS missing,
                      count(*) FILTER (WHERE outcome = 'released') AS released
               FROM attempts GROUP BY batch_id)
    SELECT s.batch_id AS thing, NULL AS other,
           CASE WHEN s.state NOT IN ('settled','abandoned')
                     OR s.record_count <> coalesce(t.submitted, 0)
                THEN 'it is said to have ' || s.record_count || ' pages, its attempts are '
                     || coalesce(t.submitted, 0)
                ELSE 'recorded: ' || coalesce(s.count_submitted, '-') || ' = '
                     || coalesce(s.count_succeeded, '-') || ' + ' || coalesce(s.count_failed, '-')
                     || ' + ' || coalesce(s.count_missing, '-') || ' + '
                     || coalesce(s.count_released, '-') || '; its attempts: '
                     || coalesce(t.submitted, 0) || ' = ' || coalesce(t.succeeded, 0) || ' + '
                     || coalesce(t.failed, 0) || ' + ' || coalesce(t.missing, 0) || ' + '
                     || coalesce(t.released, 0)
                     || ' (submitted = succeeded + failed + missing + released)' END AS detail
    FROM submissions AS s LEFT JOIN t ON t.batch_id = s.batch_id
    WHERE s.record_count <> coalesce(t.submitted, 0)
       OR (s.state IN ('settled','abandoned')
           AND (s.count_submitted IS NOT coalesce(t.submitted, 0)
                OR s.count_succeeded IS NOT coalesce(t.succeeded, 0)
                OR s.count_failed IS NOT coalesce(t.failed, 0)
                OR s.count_missing IS NOT coalesce(t.missing, 0)
                OR s.count_released IS NOT coalesce(t.released, 0)
                OR s.count_submitted IS NOT s.count_succeeded + s.count_failed
                                            + s.count_missing + s.count_released))
    ORDER BY s.batch_id";

const PENDING_IN_CLOSED: &str = "
    SELECT a.record_key AS thing, NULL AS other,
           'batch ' || a.batch_id || ' is ' || s.state || ', and nothing says what came of the page'
               AS detail
    FROM submissions AS s JOIN attempts AS a ON a.batch_id = s.batch_id
    WHERE s.state IN ('settled','abandoned') AND a.outcome = 'pending'
    ORDER BY a.record_key";

const BATCH_HISTORY: &str = "
    WITH steps AS (
        SELECT batch_id, event, from_state, to_state,
               lag(to_state) OVER (PARTITION BY batch_id ORDER BY id) AS former,
               lead(id) OVER (PARTITION BY batch_id ORDER BY id) AS following
        FROM submission_events)
    SELECT batch_id AS thing, NULL AS other,
           '''' || event || ''' leads from ' || coalesce(from_state, 'nothing')
           || ', but the event before it led to ' || coalesce(former, 'nothing') AS detail
    FROM steps WHERE from_state IS NOT former
    UNION ALL
    SELECT s.batch_id, NULL, 'the batch is ' || s.state || ', but its history ends in '
                             || coalesce(e.to_state, 'nothing')
    FROM submissions AS s LEFT JOIN steps AS e ON e.batch_id = s.batch_id AND e.following IS NULL
    WHERE e.to_state IS NOT s.state
    ORDER BY 1";

const SETTLED_WITHOUT_RAW: &str = "
    SELECT batch_id AS thing, NULL AS other,
           'the batch is settled, but no raw results are recorded' AS detail
    FROM submissions WHERE state = 'settled' AND raw_path IS NULL ORDER BY batch_id";

const IMAGE_NOT_IN_LEDGER: &str = "
    SELECT p.record_key AS thing,
           CASE WHEN p.batch_id IS NULL THEN p.stage ELSE 'batched' END AS other,
           'it is ' || p.stage || ' with ' || coalesce(p.image_file, 'no file') || ', which is '
           || coalesce(f.state || ' in the ledger until ' || f.expires_at, 'not in the ledger')
           || CASE WHEN f.record_key <> p.record_key
                   THEN ' for page ' || f.record_key ELSE '' END AS detail
    FROM pages AS p LEFT JOIN remote_files AS f ON f.name = p.image_file AND f.purpose = 'image'
    WHERE p.stage IN ('uploaded','batched')
      AND (f.name IS NULL OR f.state <> 'live' OR f.record_key <> p.record_key
           OR f.expires_at <> p.image_expires_at)
    ORDER BY p.record_key";

const IMAGE_FORGOTTEN: &str = "
    SELECT f.name AS thing, NULL AS other,
           'the image of ' || f.record_key || ' is live, and no page or batch uses it' AS detail
    FROM remote_files AS f LEFT JOIN pages AS p ON p.record_key = f.record_key
    WHERE f.purpose = 'image' AND f.state = 'live' AND p.image_file IS NOT f.name
      AND NOT EXISTS (SELECT 1 FROM attempts AS a JOIN submissions AS s ON s.batch_id = a.batch_id
                      WHERE a.record_key = f.record_key AND a.image_file = f.name
                        AND s.state NOT IN ('settled','abandoned'))
    ORDER BY f.name";

const LINES_FORGOTTEN: &str = "
    SELECT f.name AS thing, NULL AS other,
           'the lines file of batch ' || f.batch_id || ' is live, and the batch '
           || coalesce('is ' || s.state, 'is not there') AS detail
    FROM remote_files AS f LEFT JOIN submissions AS s ON s.batch_id = f.batch_id
    WHERE f.purpose = 'lines' AND f.state = 'live'
      AND (s.state IS NULL OR s.state IN ('settled','abandoned') OR s.lines_file IS NOT f.name)
    ORDER BY f.name";

const COUNT_DIFFERS: &str = "
    SELECT c.record_key AS thing, NULL AS other,
           'the count is ' || c.count || ', the log counts ' || coalesce(l.counted, 0) AS detail
    FROM failure_counts AS c
    LEFT JOIN (SELECT record_key, sum(counted) AS counted FROM failure_logs GROUP BY record_key)
        AS l ON l.record_key = c.record_key
    WHERE c.count <> coalesce(l.counted, 0) ORDER BY c.record_key";

const COUNT_MISSING: &str = "
    SELECT l.record_key AS thing, NULL AS other,
           'there is no count, the log counts ' || sum(l.counted) AS detail
    FROM failure_logs AS l LEFT JOIN failure_counts AS c ON c.record_key = l.record_key
    WHERE c.record_key IS NULL AND l.counted = 1 GROUP BY l.record_key ORDER BY l.record_key";

const REJECTED_UNLOGGED: &str = "
    SELECT a.record_key AS thing, NULL AS other,
           'batch ' || a.batch_id || ' rejected its answer (' || coalesce(a.error_type, '-')
           || '), but failure_logs says nothing of it' AS detail
    FROM attempts AS a
    WHERE a.outcome = 'rejected'
      AND NOT EXISTS (SELECT 1 FROM failure_logs AS l
                      WHERE l.record_key = a.record_key AND l.batch_id = a.batch_id)
    ORDER BY a.record_key";

const LOGGED_TWICE: &str = "
    SELECT record_key AS thing, NULL AS other,
           'batch ' || batch_id || ' stands ' || count(*) || ' times in its log' AS detail
    FROM failure_logs WHERE batch_id <> '' GROUP BY batch_id, record_key HAVING count(*) > 1
    ORDER BY record_key";

const RETRIES_SPENT: &str = "
    SELECT p.record_key AS thing, NULL AS other,
           'it is ' || p.stage || ' after ' || c.count || ' failures' AS detail
    FROM failure_counts AS c JOIN pages AS p ON p.record_key = c.record_key
    WHERE c.count > ?1 AND p.stage NOT IN ('dead','review','skipped','completed')
    ORDER BY p.record_key LIMIT 20000";

/// Every run of one window has the same ends.
const OUTSIDE_WINDOW: &str = "
    SELECT p.record_key AS thing, NULL AS other,
           'arrived at ' || p.arrived_at || ', outside of the window ' || p.window_name AS detail
    FROM pages AS p
    WHERE p.window_name IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.window_name = p.window_name
                      AND p.arrived_at >= r.window_since AND p.arrived_at < r.window_until)
    ORDER BY p.record_key";
