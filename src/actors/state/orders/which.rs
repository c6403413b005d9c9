//! Which pages an order is about: the same question for saying it and for doing it.

use sea_orm::ConnectionTrait;

use crate::actors::state::messages::StateResult;
use crate::actors::state::selection::{condition, prefix};
use crate::actors::state::sql::{signed, text, texts};
use crate::domain::ids::RecordKey;
use crate::domain::order::Order;

/// What else must be true of a page, beside being meant, for the order to do something with it;
/// `p` is the page.
///
/// Where keys are named or stand together they find the pages, and the stage is only looked at; else the
/// index on the stage does.
pub(super) fn fitting(order: &Order) -> Option<String> {
    let which = order.which()?;
    let finds_by_key = !which.keys.is_empty() || prefix(&which).is_some();
    let stage = if finds_by_key { "+p.stage" } else { "p.stage" };
    condition_of(order).map(|sql| sql.replace("p.stage", stage))
}

fn condition_of(order: &Order) -> Option<String> {
    let sql = match order {
        Order::ClearFailures {
            done_only: true, ..
        } => "p.stage = 'completed' \
             AND EXISTS (SELECT 1 FROM failure_counts AS c WHERE c.record_key = p.record_key)"
            .to_owned(),
        Order::ClearFailures { .. } => "p.record_key IN (SELECT record_key FROM failure_counts \
             UNION SELECT record_key FROM pages WHERE stage IN ('dead','review'))"
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
        | Order::Nuke { .. }
        | Order::Rekey { .. } => {
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
