//! Halts, and what is remembered of failures in a row.

use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};

use super::messages::{FeelPulse, Halt, HaltRow, ListHalts, ListStanding, Resume, StateResult};
use super::rows::{instant, word};
use super::sql::{execute, execute_exactly, first, json_list, number, rows, signed, small, text};
use super::sql::{texts, unsigned};
use super::{Apply, Rules};
use crate::domain::attempt::{Outcome, Verdict};
use crate::domain::batch::AbandonCode;
use crate::domain::halt::{HaltReason, Pulse, Standing};
use crate::domain::ids::RecipeHash;
use crate::domain::time::Timestamp;

#[derive(FromQueryResult)]
struct OpenRow {
    reason: String,
    message: String,
    times: i64,
    since: String,
    updated_at: String,
}

/// The open halts, oldest first.
pub(super) async fn open_halts(conn: &impl ConnectionTrait) -> StateResult<Vec<HaltRow>> {
    let found: Vec<OpenRow> = rows(
        conn,
        "SELECT reason, message, times, since, updated_at FROM halts
         WHERE cleared_at IS NULL ORDER BY id",
        [],
    )
    .await?;
    let halts = found.into_iter().map(|row| {
        let thing = format!("halt '{}'", row.reason);
        Ok(HaltRow {
            reason: word(&thing, &row.reason, HaltReason::parse)?,
            since: instant(&thing, &row.since)?,
            updated_at: instant(&thing, &row.updated_at)?,
            times: small(row.times),
            message: row.message,
        })
    });
    halts.collect()
}

/// How many halts hold submission up.
pub(super) const COUNT_OPEN: &str = "SELECT count(*) FROM halts WHERE cleared_at IS NULL";

impl Apply for ListHalts {
    type Reply = Vec<HaltRow>;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<HaltRow>> {
        open_halts(tx).await
    }
}

impl Apply for Halt {
    type Reply = bool;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<bool> {
        let known = execute(
            tx,
            "UPDATE halts SET message = ?2, times = times + 1, updated_at = ?3
             WHERE reason = ?1 AND cleared_at IS NULL",
            [text(self.reason), text(&self.message), text(self.at)],
        )
        .await?;
        if known > 0 {
            return Ok(false);
        }
        execute_exactly(
            tx,
            INSERT_HALT,
            [text(self.reason), text(&self.message), text(self.at)],
            1,
        )
        .await?;
        Ok(true)
    }
}

/// A probe may succeed where the next create does not: as long as none was taken since, the pauses go
/// on growing.
const INSERT_HALT: &str = "
    INSERT INTO halts (reason, message, times, since, updated_at)
    VALUES (?1, ?2, 1 + coalesce((
        SELECT h.times FROM halts AS h
        WHERE h.id = (SELECT max(id) FROM halts WHERE reason = ?1) AND h.cleared_by = 'probe'
          AND NOT EXISTS (SELECT 1 FROM submission_events AS e
                          WHERE e.id > (SELECT max(id) - 1000 FROM submission_events)
                            AND e.event = 'submit_accepted' AND e.at > h.cleared_at)), 0), ?3, ?3)";

impl Apply for Resume {
    type Reply = Vec<HaltRow>;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Vec<HaltRow>> {
        let mut cleared = open_halts(tx).await?;
        if let Some(reasons) = &self.reasons {
            cleared.retain(|halt| reasons.contains(&halt.reason));
        }
        let list = json_list(cleared.iter().map(|halt| halt.reason.as_str()));
        execute_exactly(
            tx,
            "UPDATE halts SET cleared_at = ?2, cleared_by = ?3, updated_at = ?2
             WHERE cleared_at IS NULL AND reason IN (SELECT value FROM json_each(?1))",
            [list, text(self.at), text(self.by)],
            cleared.len(),
        )
        .await?;
        if cleared.iter().any(|halt| !halt.reason.ends_by_itself()) {
            execute(tx, FORGET_STREAK, [text(self.at)]).await?;
        }
        Ok(cleared)
    }
}

const FORGET_STREAK: &str = "
    UPDATE streaks SET kind = '', count = 0, barren = 0, since = ?1, updated_at = ?1";

#[derive(Default, FromQueryResult)]
pub(super) struct StreakRow {
    kind: String,
    count: i64,
    pub(super) barren: i64,
    /// The most that `barren` was since an alerter looked.
    pub(super) barren_peak: i64,
    /// When an answer was accepted last.
    pub(super) accepted_at: Option<String>,
}

pub(super) async fn streak(conn: &impl ConnectionTrait) -> StateResult<StreakRow> {
    let sql = "SELECT kind, count, barren, barren_peak, accepted_at FROM streaks";
    Ok(first(conn, sql, []).await?.unwrap_or_default())
}

async fn keep_streak(
    tx: &DatabaseTransaction,
    streak: &StreakRow,
    at: Timestamp,
) -> StateResult<()> {
    let values = [
        text(&streak.kind),
        streak.count.into(),
        streak.barren.into(),
        text(at),
        streak.barren_peak.into(),
        streak.accepted_at.clone().into(),
    ];
    execute(
        tx,
        "UPDATE streaks SET since = CASE WHEN kind = ?1 THEN since ELSE ?4 END,
                kind = ?1, count = ?2, barren = ?3, updated_at = ?4, barren_peak = ?5,
                accepted_at = ?6",
        values,
    )
    .await?;
    Ok(())
}

/// Keeps when an answer was accepted that came late, which ends no failures in a row.
pub(super) async fn note_accepted(tx: &DatabaseTransaction, at: Timestamp) -> StateResult<()> {
    execute(tx, "UPDATE streaks SET accepted_at = ?1", [text(at)]).await?;
    Ok(())
}

/// Goes on counting failures in a row with these verdicts, in their order.
pub(super) async fn count_verdicts<'a>(
    tx: &DatabaseTransaction,
    verdicts: impl IntoIterator<Item = &'a Verdict>,
    at: Timestamp,
) -> StateResult<()> {
    let mut streak = streak(tx).await?;
    let mut changed = false;
    for verdict in verdicts {
        match &verdict.outcome {
            Outcome::Accepted { .. } => {
                streak.kind.clear();
                (streak.count, streak.barren) = (0, 0);
                streak.accepted_at = Some(at.to_string());
            }
            Outcome::Rejected { failure, .. } => {
                lengthen(&mut streak, failure.error.as_str());
                streak.barren += 1;
                streak.barren_peak = streak.barren_peak.max(streak.barren);
            }
            Outcome::Released { .. } | Outcome::ReleasesSpent { .. } => continue,
        }
        changed = true;
    }
    if changed {
        keep_streak(tx, &streak, at).await?;
    }
    Ok(())
}

/// Goes on counting with a batch that failed as a whole; other ends say nothing of what was sent.
pub(super) async fn count_ended(
    tx: &DatabaseTransaction,
    code: AbandonCode,
    at: Timestamp,
) -> StateResult<()> {
    if !matches!(code, AbandonCode::Failed | AbandonCode::Refused) {
        return Ok(());
    }
    let mut streak = streak(tx).await?;
    lengthen(&mut streak, &format!("batch {code}"));
    keep_streak(tx, &streak, at).await
}

fn lengthen(streak: &mut StreakRow, kind: &str) {
    if streak.kind == kind {
        streak.count += 1;
    } else {
        streak.kind = kind.to_owned();
        streak.count = 1;
    }
}

/// The last instant at which an operator ended a halt that waits for one: what was before it is
/// forgiven.
async fn forgiven_until(conn: &impl ConnectionTrait) -> StateResult<String> {
    let words = HaltReason::ALL
        .iter()
        .filter(|reason| !reason.ends_by_itself());
    let list = json_list(words.map(|reason| reason.as_str()));
    let found = texts(
        conn,
        "SELECT coalesce(max(cleared_at), '') FROM halts
         WHERE reason IN (SELECT value FROM json_each(?1))",
        [list],
    )
    .await?;
    Ok(found.into_iter().next().unwrap_or_default())
}

#[derive(FromQueryResult)]
struct SharesRow {
    results: i64,
    accepted: i64,
}

/// So many of the last answers, to the end of a batch, and how many of them were accepted.
pub(super) async fn last_answers(
    conn: &impl ConnectionTrait,
    window: u64,
) -> StateResult<(u64, u64)> {
    let since = forgiven_until(conn).await?;
    let values = [text(&since), signed(window).into()];
    let found: Option<SharesRow> = first(conn, LAST_SETTLED, values).await?;
    Ok(found.map_or((0, 0), |sums| {
        (unsigned(sums.results), unsigned(sums.accepted))
    }))
}

impl Apply for FeelPulse {
    type Reply = Pulse;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Pulse> {
        let (results, accepted) = last_answers(tx, self.window).await?;
        let streak = streak(tx).await?;
        Ok(Pulse {
            streak: (streak.kind, unsigned(streak.count)),
            barren: unsigned(streak.barren),
            results,
            accepted,
        })
    }
}

/// Sums over the last batches, as long as those after them had fewer answers than were asked for. A settled
/// batch has at least one member, so as many batches as answers are enough.
pub(super) const LAST_SETTLED: &str = "
    SELECT coalesce(sum(results), 0) AS results, coalesce(sum(accepted), 0) AS accepted FROM (
        SELECT results, accepted,
               sum(results) OVER (ORDER BY closed_at DESC ROWS UNBOUNDED PRECEDING) AS so_far
        FROM (SELECT closed_at, count_succeeded AS accepted,
                     count_succeeded + count_failed + count_missing AS results
              FROM submissions INDEXED BY submissions_closed_at
              WHERE state = 'settled' AND closed_at > ?1 ORDER BY closed_at DESC LIMIT ?2))
    WHERE so_far - results < ?2";

impl Apply for ListStanding {
    type Reply = Standing;
    const WRITES: bool = false;

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<Standing> {
        standing(tx, &self.recipe, self.batches).await
    }
}

/// How a recipe has done in its first `batches` batches.
pub(super) async fn standing(
    conn: &impl ConnectionTrait,
    recipe: &RecipeHash,
    batches: u64,
) -> StateResult<Standing> {
    let since = forgiven_until(conn).await?;
    let values = [text(recipe), text(&since), signed(batches).into()];
    let settled: Option<SharesRow> = first(conn, FIRST_SETTLED, values).await?;
    let live = number(
        conn,
        "SELECT count(*) FROM submissions WHERE recipe_hash = ?1
         AND state IN ('planned','submitting','in doubt','submitted','ready')",
        [text(recipe)],
    )
    .await?;
    let settled = settled.unwrap_or(SharesRow {
        results: 0,
        accepted: 0,
    });
    Ok(Standing {
        results: unsigned(settled.results),
        accepted: unsigned(settled.accepted),
        live,
    })
}

/// The first answers are enough to tell whether a recipe is worth more.
const FIRST_SETTLED: &str = "
    SELECT coalesce(sum(results), 0) AS results, coalesce(sum(accepted), 0) AS accepted FROM (
        SELECT count_succeeded + count_failed + count_missing AS results,
               count_succeeded AS accepted
        FROM submissions INDEXED BY submissions_closed_at
        WHERE state = 'settled' AND closed_at > ?2 AND recipe_hash = ?1
        ORDER BY closed_at LIMIT ?3)";
