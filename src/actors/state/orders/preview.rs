//! What an order would do, for saying so before it is given.

use sea_orm::ConnectionTrait;

use super::which::{fitting, next_keys};
use crate::actors::state::messages::StateResult;
use crate::actors::state::questions::counts;
use crate::actors::state::rows::word;
use crate::actors::state::selection::condition;
use crate::actors::state::sql::number;
use crate::domain::ids::RecordKey;
use crate::domain::order::{Effects, Order};
use crate::domain::page::PageStage;

/// What an order would do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// In the words of the answer that carrying it out gives.
    pub effects: Effects,
    /// Pages that are meant and left as they are, by stage.
    pub left_alone: Vec<(PageStage, u64)>,
    /// The first pages that it would touch.
    pub first: Vec<RecordKey>,
    /// Whether no known page is meant at all.
    pub means_none: bool,
}

/// The words for what happens to pages of a stage.
pub(super) fn effect_word(order: &Order, stage: PageStage) -> Option<&'static str> {
    let word = match (order, stage) {
        (Order::ClearFailures { .. }, PageStage::Dead) => "dead pages to run again",
        (Order::ClearFailures { .. }, PageStage::Review) => "pages in review to run again",
        (Order::ClearFailures { .. }, _) => return None,
        (Order::Redo { .. }, _) => "done pages to run again",
        (Order::Skip { .. }, PageStage::Dead) => "dead pages left out",
        (Order::Skip { .. }, PageStage::Review) => "pages in review left out",
        (Order::Skip { .. }, _) => "waiting pages left out",
        (Order::Unskip { .. }, _) => "left-out pages to run again",
        (Order::Prioritize { .. }, _) => "pages with another priority",
        (Order::Note { .. }, _) => "notes written",
        (
            Order::Pause
            | Order::Resume
            | Order::CancelBatch { .. }
            | Order::ForgetBatch { .. }
            | Order::Nuke { .. }
            | Order::Rekey { .. },
            _,
        ) => return None,
    };
    Some(word)
}

/// The words for failure counts that go.
pub(super) const COUNTS_CLEARED: &str = "failure counts cleared";

/// What an order about pages would do now, with the first `limit` of its pages.
pub async fn preview(
    conn: &impl ConnectionTrait,
    order: &Order,
    limit: u64,
) -> StateResult<Preview> {
    let (Some(which), Some(fitting)) = (order.which(), fitting(order)) else {
        return Ok(Preview::default());
    };
    let condition = condition(&which, 1);
    let mut effects = Effects::default();
    let touched = format!(
        "SELECT p.stage AS word, count(*) AS count FROM pages AS p WHERE {} AND {fitting} GROUP BY 1
         ORDER BY 1",
        condition.sql
    );
    for (stage, count) in counts(conn, &touched, [condition.value.clone()]).await? {
        let stage = word("pages", &stage, PageStage::parse)?;
        if let Some(word) = effect_word(order, stage) {
            effects.add(word, count);
        }
    }
    let clears = match order {
        Order::ClearFailures {
            done_only: true, ..
        } => Some("p.stage = 'completed'"),
        Order::ClearFailures { .. } => Some("true"),
        Order::Redo {
            reset_failures: true,
            ..
        } => Some("p.stage = 'completed'"),
        _ => None,
    };
    if let Some(also) = clears {
        let sql = format!(
            "SELECT count(*) FROM failure_counts AS c JOIN pages AS p ON p.record_key = c.record_key
             WHERE {} AND {also}",
            condition.sql
        );
        effects.add(
            COUNTS_CLEARED,
            number(conn, &sql, [condition.value.clone()]).await?,
        );
    }
    let meant = format!(
        "SELECT count(*) FROM (SELECT 1 FROM pages AS p WHERE {} LIMIT 1)",
        condition.sql
    );
    let meant = number(conn, &meant, [condition.value.clone()]).await?;
    Ok(Preview {
        means_none: meant == 0,
        left_alone: left_alone(conn, order, &fitting, &condition).await?,
        first: next_keys(conn, order, None, limit).await?,
        effects,
    })
}

async fn left_alone(
    conn: &impl ConnectionTrait,
    order: &Order,
    fitting: &str,
    condition: &crate::actors::state::selection::Condition,
) -> StateResult<Vec<(PageStage, u64)>> {
    if matches!(
        order,
        Order::ClearFailures { .. } | Order::Prioritize { .. }
    ) {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT p.stage AS word, count(*) AS count FROM pages AS p WHERE {} AND NOT ({fitting})
         GROUP BY 1 ORDER BY 1",
        condition.sql
    );
    let mut found = Vec::new();
    for (stage, count) in counts(conn, &sql, [condition.value.clone()]).await? {
        found.push((word("pages", &stage, PageStage::parse)?, count));
    }
    found.sort_unstable();
    Ok(found)
}
