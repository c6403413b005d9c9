//! What an operator tells pagemill to do: kept first, then carried out piece by piece, each piece in
//! one transaction with its history.

use std::path::Path;

use sea_orm::{ActiveValue::Set, ConnectionTrait, DatabaseTransaction, FromQueryResult};

use entity::submissions;

use super::messages::{
    AgePriorities, BatchRow, CarryOut, CloseOrder, FindBatch, Halt, ListOpenOrders, NextOfOrder,
    PlaceOrder, RecordCancelSent, Resume, ResumedBy, StateError, StateResult, TakeOverKeys,
};
use super::open::connect;
use super::questions::batch_rows;
use super::rows::{instant, maybe_instant, word};
use super::sql::{
    execute, execute_exactly, first, json_list, optional_text, rows, signed, text, texts,
};
use super::submits::Submission;
use super::{Apply, Rules};
use crate::domain::batch::BatchStage;
use crate::domain::halt::HaltReason;
use crate::domain::ids::{BatchId, KeyFingerprint, OrderId, RecordKey};
use crate::domain::order::{Effects, KeptOrder, Order, OrderKind, OrderState, Signature, Wish};
use crate::domain::time::Timestamp;

pub(super) mod carry;
pub mod preview;
mod texts;
mod which;

pub use self::texts::effects_json;

/// Orders that one question lists.
const LISTED_MAX: u64 = 1_000;

#[derive(FromQueryResult)]
struct OrderRow {
    order_id: String,
    command: String,
    arguments: String,
    by_whom: String,
    reason: String,
    state: String,
    answer: String,
    created_at: String,
    done_at: Option<String>,
}

const COLUMNS: &str =
    "order_id, command, arguments, by_whom, reason, state, answer, created_at, done_at";

fn kept(row: OrderRow) -> StateResult<KeptOrder> {
    let thing = format!("order '{}'", row.order_id);
    let kind = word(&thing, &row.command, OrderKind::parse)?;
    Ok(KeptOrder {
        order: texts::order(&thing, kind, &row.arguments)?,
        signature: Signature {
            by: row.by_whom,
            reason: row.reason,
        },
        state: word(&thing, &row.state, OrderState::parse)?,
        effects: texts::effects(&thing, &row.answer)?,
        created_at: instant(&thing, &row.created_at)?,
        done_at: maybe_instant(&thing, row.done_at.as_deref())?,
        id: OrderId::from(row.order_id),
    })
}

/// One order, if it is known.
pub async fn order(conn: &impl ConnectionTrait, id: &OrderId) -> StateResult<Option<KeptOrder>> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE order_id = ?1");
    let row: Option<OrderRow> = first(conn, &sql, [text(id)]).await?;
    row.map(kept).transpose()
}

/// The newest orders, newest first.
pub async fn latest(conn: &impl ConnectionTrait, limit: u64) -> StateResult<Vec<KeptOrder>> {
    let sql = format!("SELECT {COLUMNS} FROM orders ORDER BY order_id DESC LIMIT ?1");
    let found: Vec<OrderRow> = rows(conn, &sql, [signed(limit.min(LISTED_MAX)).into()]).await?;
    found.into_iter().map(kept).collect()
}

/// Keeps an order; carrying it out comes later.
pub(super) async fn place(
    conn: &impl ConnectionTrait,
    id: &OrderId,
    order: &Order,
    signature: &Signature,
    at: Timestamp,
) -> StateResult<()> {
    execute_exactly(
        conn,
        "INSERT INTO orders (order_id, command, arguments, by_whom, reason, state, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 'open', ?6)",
        [
            text(id),
            text(order.kind()),
            texts::arguments(order).into(),
            text(&signature.by),
            text(&signature.reason),
            text(at),
        ],
        1,
    )
    .await
}

/// Keeps an order that was carried out already.
pub(super) async fn place_done(
    tx: &DatabaseTransaction,
    id: &OrderId,
    order: &Order,
    signature: &Signature,
    effects: &Effects,
    at: Timestamp,
) -> StateResult<()> {
    place(tx, id, order, signature, at).await?;
    keep(tx, id, OrderState::Done, effects, None, at).await
}

/// Keeps an order beside the process that owns the database. This is the one thing that is written
/// without owning it: a row of its own, which that process then finds.
pub async fn place_beside(
    path: &Path,
    id: &OrderId,
    order: &Order,
    signature: &Signature,
    at: Timestamp,
) -> StateResult<()> {
    let connection = connect(path).await?;
    let placed = place(&connection, id, order, signature, at).await;
    connection.close().await?;
    placed
}

impl Apply for PlaceOrder {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        place(tx, &self.id, &self.order, &self.signature, self.at).await
    }
}

pub(super) const OPEN_ORDERS: &str = "
    SELECT order_id, command, arguments, by_whom, reason, state, answer, created_at, done_at
    FROM orders WHERE state = 'open' ORDER BY order_id LIMIT ?1";

impl Apply for ListOpenOrders {
    type Reply = Vec<KeptOrder>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<KeptOrder>> {
        let found: Vec<OrderRow> = rows(tx, OPEN_ORDERS, [signed(LISTED_MAX).into()]).await?;
        found.into_iter().map(kept).collect()
    }
}

/// An order that is open, with how far it has come.
async fn open_order(
    tx: &DatabaseTransaction,
    id: &OrderId,
) -> StateResult<(KeptOrder, Option<String>)> {
    let found = order(tx, id).await?;
    let found = found.ok_or_else(|| StateError::Missing(format!("order '{id}'")))?;
    if found.state != OrderState::Open {
        return Err(StateError::Conflict(format!(
            "order '{id}' is {} already",
            found.state
        )));
    }
    let sql = "SELECT coalesce(last_key, '') FROM orders WHERE order_id = ?1";
    let last = texts(tx, sql, [text(id)]).await?.into_iter().next();
    Ok((found, last.filter(|key| !key.is_empty())))
}

impl Apply for NextOfOrder {
    type Reply = Vec<RecordKey>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<RecordKey>> {
        let (found, last) = open_order(tx, &self.id).await?;
        which::next_keys(tx, &found.order, last.as_deref(), self.limit).await
    }
}

impl Apply for CarryOut {
    type Reply = Effects;

    /// Does what is to be done with these pages; without any, the order is done.
    async fn apply(&self, tx: &DatabaseTransaction, rules: &Rules) -> StateResult<Effects> {
        let (found, _last) = open_order(tx, &self.id).await?;
        let mut effects = found.effects.clone();
        let done = self.keys.is_empty();
        let carried = match &found.order {
            Order::Pause => pause(tx, rules, &found.signature, self.at).await?,
            Order::Resume => resume(tx, rules, self.at).await?,
            Order::CancelBatch { batch } => {
                wish(tx, batch, Wish::Cancel, &self.id, self.at).await?
            }
            Order::ForgetBatch {
                batch,
                cancel_remote,
            } => {
                let wanted = if *cancel_remote {
                    Wish::CancelAndForget
                } else {
                    Wish::Forget
                };
                // Whoever works on the batch gives it up; then the order is closed.
                return wish(tx, batch, wanted, &self.id, self.at).await;
            }
            _ if done => Effects::default(),
            order => {
                let carry = carry::Carry {
                    tx,
                    rules,
                    id: &self.id,
                    signature: &found.signature,
                    at: self.at,
                };
                carry.out(order, &self.keys).await?
            }
        };
        effects.add_all(&carried);
        let state = if done {
            OrderState::Done
        } else {
            OrderState::Open
        };
        keep(tx, &self.id, state, &effects, self.keys.last(), self.at).await?;
        Ok(effects)
    }
}

impl Apply for CloseOrder {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        keep(tx, &self.id, self.state, &self.effects, None, self.at).await
    }
}

async fn keep(
    tx: &DatabaseTransaction,
    id: &OrderId,
    state: OrderState,
    effects: &Effects,
    last: Option<&RecordKey>,
    at: Timestamp,
) -> StateResult<()> {
    let done_at = (state != OrderState::Open).then_some(at);
    execute_exactly(
        tx,
        "UPDATE orders SET state = ?2, answer = ?3, last_key = coalesce(?4, last_key), done_at = ?5
         WHERE order_id = ?1 AND state = 'open'",
        [
            text(id),
            text(state),
            effects_json(effects).to_string().into(),
            optional_text(last),
            optional_text(done_at),
        ],
        1,
    )
    .await
}

async fn pause(
    tx: &DatabaseTransaction,
    rules: &Rules,
    signature: &Signature,
    at: Timestamp,
) -> StateResult<Effects> {
    let mut message = format!("by {}", signature.by);
    if !signature.reason.is_empty() {
        message = format!("{message}: {}", signature.reason);
    }
    let halt = Halt {
        reason: HaltReason::Paused,
        message,
        at,
    };
    let mut effects = Effects::default();
    if halt.apply(tx, rules).await? {
        effects.add("paused", 1);
    } else {
        effects.message = "it was paused already".to_owned();
    }
    Ok(effects)
}

async fn resume(tx: &DatabaseTransaction, rules: &Rules, at: Timestamp) -> StateResult<Effects> {
    let resume = Resume {
        reasons: None,
        by: ResumedBy::Operator,
        at,
    };
    let mut effects = Effects::default();
    for halt in resume.apply(tx, rules).await? {
        effects.add(halt.reason.as_str(), 1);
    }
    if effects.counts.is_empty() {
        effects.message = "nothing was halted".to_owned();
    }
    Ok(effects)
}

/// Notes what is wanted of a batch that has not ended.
async fn wish(
    tx: &DatabaseTransaction,
    batch: &BatchId,
    wanted: Wish,
    order: &OrderId,
    at: Timestamp,
) -> StateResult<Effects> {
    let submission = Submission::load(tx, batch).await?;
    let stage = submission.state.stage();
    let can = match wanted {
        Wish::Cancel => stage == BatchStage::Submitted,
        Wish::Forget | Wish::CancelAndForget => {
            !matches!(stage, BatchStage::Settled | BatchStage::Abandoned)
        }
    };
    if !can {
        return Ok(Effects::said(format!("batch {batch} is {stage}")));
    }
    let change = submissions::ActiveModel {
        wish: Set(Some(wanted.as_str().to_owned())),
        wish_order: Set(Some(order.to_string())),
        ..submission.change(at)
    };
    submission.write(tx, change).await?;
    let mut effects = Effects::default();
    if wanted == Wish::Cancel {
        effects.add("jobs to be stopped", 1);
    }
    Ok(effects)
}

impl Apply for RecordCancelSent {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        let submission = Submission::load(tx, &self.batch).await?;
        let change = submissions::ActiveModel {
            cancel_sent_at: Set(Some(self.at.to_string())),
            ..submission.change(self.at)
        };
        submission.write(tx, change).await
    }
}

impl Apply for FindBatch {
    type Reply = Option<BatchRow>;
    const WRITES: bool = false;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        _rules: &Rules,
    ) -> StateResult<Option<BatchRow>> {
        batch(tx, &self.batch).await
    }
}

/// One batch, if it is known.
pub async fn batch(conn: &impl ConnectionTrait, batch: &BatchId) -> StateResult<Option<BatchRow>> {
    use sea_orm::EntityTrait;
    let row = submissions::Entity::find_by_id(batch.as_str())
        .one(conn)
        .await?;
    Ok(batch_rows(conn, row.into_iter().collect()).await?.pop())
}

impl Apply for TakeOverKeys {
    type Reply = u64;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<u64> {
        let from = || json_list(self.from.iter().map(KeyFingerprint::as_str));
        let values = || [from(), text(&self.to), text(self.at)];
        let batches = execute(
            tx,
            "UPDATE submissions SET key_fingerprint = ?2, updated_at = ?3
             WHERE key_fingerprint IN (SELECT value FROM json_each(?1))
               AND state IN ('planned','submitting','in doubt','submitted','ready')",
            values(),
        )
        .await?;
        let files = execute(
            tx,
            "UPDATE remote_files SET key_fingerprint = ?2, updated_at = ?3
             WHERE key_fingerprint IN (SELECT value FROM json_each(?1))
               AND state IN ('live','deleting','undeletable')",
            values(),
        )
        .await?;
        let order = Order::Rekey {
            from: self.from.clone(),
            to: self.to.clone(),
        };
        let mut effects = Effects::default();
        effects.add("live batches taken over", batches);
        effects.add("remote files taken over", files);
        place_done(tx, &self.id, &order, &self.signature, &effects, self.at).await?;
        Ok(batches)
    }
}

pub(super) const AGE: &str = "
    UPDATE pages INDEXED BY pages_low SET priority = 0, priority_at = ?2
    WHERE stage = 'discovered' AND priority < 0 AND priority_at <= ?1";

impl Apply for AgePriorities {
    type Reply = u64;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<u64> {
        execute(tx, AGE, [text(self.before), text(self.at)]).await
    }
}
