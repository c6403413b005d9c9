//! The pages one by one: what their rows say, and what their history, played again, says.

use std::collections::BTreeMap;

use sea_orm::{DatabaseTransaction, FromQueryResult};

use super::audit::Found;
use super::messages::{StateError, StateResult};
use super::rows::{PAGE_COLUMNS, PageRow};
use super::sql::{as_u64, json_list, listed, rows, signed, texts};
use crate::domain::finding::FindingKind;
use crate::domain::replay::{Replay, Steps};

/// Pages that are held against their history in one question.
const PAGES_TOGETHER: u64 = 500;
/// The last of all keys: no text comes after it.
const BEYOND_ALL: &str = "\u{10FFFF}";

#[derive(FromQueryResult)]
struct EventRow {
    record_key: String,
    from_stage: Option<String>,
    to_stage: String,
    event: String,
}

/// Goes through all pages by key; gives how many pages and how many events there are.
pub(super) async fn check_pages(
    tx: &DatabaseTransaction,
    tell: &mut dyn FnMut(Found),
) -> StateResult<(u64, u64)> {
    let steps = Steps::known();
    let (mut pages, mut events) = (0, 0);
    let mut after = String::new();
    loop {
        let sql = format!(
            "SELECT json_group_array(json_array({PAGE_COLUMNS}) ORDER BY p.record_key) FROM \
             (SELECT * FROM pages WHERE record_key > ?1 ORDER BY record_key LIMIT ?2) AS p"
        );
        let values = [after.as_str().into(), signed(PAGES_TOGETHER).into()];
        let found: Vec<PageRow> = listed(tx, &sql, values).await?;
        let is_last = as_u64(found.len()) < PAGES_TOGETHER;
        let upto = match found.last() {
            Some(row) if !is_last => row.record_key.clone(),
            _ => BEYOND_ALL.to_owned(),
        };
        pages += as_u64(found.len());
        let (replays, count) = replay(tx, &steps, &after, &upto).await?;
        events += count;
        compare(tx, &found, replays, tell).await?;
        if is_last {
            return Ok((pages, events));
        }
        after = upto;
    }
}

/// Plays the events of the keys after `after` and up to `upto`, each key's in order.
async fn replay(
    tx: &DatabaseTransaction,
    steps: &Steps,
    after: &str,
    upto: &str,
) -> StateResult<(BTreeMap<String, Replay>, u64)> {
    let found: Vec<EventRow> = rows(tx, EVENTS, [after.into(), upto.into()]).await?;
    let mut replays: BTreeMap<String, Replay> = BTreeMap::new();
    let count = as_u64(found.len());
    for row in found {
        let replay = replays.entry(row.record_key).or_default();
        replay.play(steps, row.from_stage.as_deref(), &row.event, &row.to_stage);
    }
    Ok((replays, count))
}

const EVENTS: &str = "
    SELECT record_key, from_stage, to_stage, event FROM page_events
    WHERE record_key > ?1 AND record_key <= ?2 ORDER BY record_key, id";

async fn compare(
    tx: &DatabaseTransaction,
    pages: &[PageRow],
    mut replays: BTreeMap<String, Replay>,
    tell: &mut dyn FnMut(Found),
) -> StateResult<()> {
    let mut failed = Vec::new();
    for row in pages {
        let mut one = |kind, detail| tell(found(kind, &row.record_key, detail));
        match row.state() {
            Ok(_state) => {}
            Err(StateError::CorruptRow { fault, .. }) => one(FindingKind::RowImpossible, fault),
            Err(error) => return Err(error),
        }
        let replay = replays.remove(&row.record_key).unwrap_or_default();
        if let Some(fault) = replay.fault(&row.stage) {
            one(FindingKind::HistoryBroken, fault);
        }
        // Releases that are spent are nobody's failure: they have no line in the log.
        let by_failure = ["rejected", "upload_refused", "pack_refused"];
        let ended = ["dead", "review"].contains(&row.stage.as_str());
        if ended && by_failure.contains(&replay.last_event()) {
            failed.push(row.record_key.as_str());
        }
    }
    for (key, _replay) in replays {
        let detail = "it has a history, but its row is gone".to_owned();
        tell(found(FindingKind::HistoryBroken, &key, detail));
    }
    if failed.is_empty() {
        return Ok(());
    }
    for key in texts(tx, UNLOGGED, [json_list(failed)]).await? {
        let detail = "it failed for good, but failure_logs says nothing of it".to_owned();
        tell(found(FindingKind::FailureNotLogged, &key, detail));
    }
    Ok(())
}

const UNLOGGED: &str = "
    SELECT j.value FROM json_each(?1) AS j
    WHERE NOT EXISTS (SELECT 1 FROM failure_logs AS l WHERE l.record_key = j.value)
    ORDER BY j.value";

fn found(kind: FindingKind, key: &str, detail: String) -> Found {
    Found {
        kind,
        thing: key.to_owned(),
        detail,
        repair: None,
        count: 1,
    }
}
