//! Which pages an order is about: the same question for saying it and for doing it.

use sea_orm::ConnectionTrait;

use crate::actors::state::messages::StateResult;
use crate::actors::state::selection::condition;
use crate::actors::state::sql::{signed, text, texts};
use crate::domain::ids::RecordKey;
use crate::domain::order::Order;

/// What else must be true of a page, beside being meant, for the order to do something with it;
/// `p` is the page.
pub(super) fn fitting(order: &Order) -> Option<String> {
    let sql = match order {
        Order::ClearFailures {
            done_only: true, ..
        } => "p.stage = 'completed' \
             AND EXISTS (SELECT 1 FROM failure_counts AS c WHERE c.record_key = p.record_key)"
            .to_owned(),
        Order::ClearFailures { .. } => "(p.stage IN ('dead','review') \
             OR EXISTS (SELECT 1 FROM failure_counts AS c WHERE c.record_key = p.record_key))"
            .to_owned(),
        Order::Redo { .. } => "p.stage = 'completed'".to_owned(),
        Order::Skip { .. } => "p.stage IN ('discovered','uploaded','dead','review')".to_owned(),
        Order::Unskip { .. } => "p.stage = 'skipped' AND p.left_out IS NOT NULL".to_owned(),
        Order::Prioritize { priority, .. } => {
            let rank = priority.rank();
            format!(
                "p.stage IN ('discovered','uploading','uploaded') \
                 AND (p.priority_set <> {rank} OR p.priority <> {rank})"
            )
        }
        Order::Note { .. } => "true".to_owned(),
        Order::Pause
        | Order::Resume
        | Order::CancelBatch { .. }
        | Order::ForgetBatch { .. }
        | Order::Nuke { .. } => {
            return None;
        }
    };
    Some(sql)
}

/// The next pages that an order is about, after `last`, in the order of their keys.
pub(super) async fn next_keys(
    conn: &impl ConnectionTrait,
    order: &Order,
    last: Option<&str>,
    limit: u64,
) -> StateResult<Vec<RecordKey>> {
    let (Some(which), Some(fitting)) = (order.which(), fitting(order)) else {
        return Ok(Vec::new());
    };
    let condition = condition(&which, 1);
    let sql = format!(
        "SELECT p.record_key FROM pages AS p
         WHERE {} AND {fitting} AND p.record_key > ?2 ORDER BY p.record_key LIMIT ?3",
        condition.sql
    );
    let values = [
        condition.value,
        text(last.unwrap_or_default()),
        signed(limit).into(),
    ];
    let keys = texts(conn, &sql, values).await?;
    Ok(keys.into_iter().map(RecordKey::from).collect())
}
