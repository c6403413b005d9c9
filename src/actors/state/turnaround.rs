//! How long jobs take, by model: from their creation to their end.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, FromQueryResult};

use super::messages::{StateResult, Turnaround};
use super::rows::instant;
use super::sql::rows;
use crate::domain::time::Timestamp;

#[derive(FromQueryResult)]
struct JobRow {
    model: String,
    submitted_at: String,
    /// Absent while the job is live.
    ended_at: Option<String>,
}

/// The newest ended jobs, and all live ones.
pub(super) const JOBS: &str = "
    SELECT model, submitted_at, NULL AS ended_at FROM submissions
    WHERE state = 'submitted' AND submitted_at IS NOT NULL AND terminal_seen_at IS NULL
    UNION ALL
    SELECT * FROM (
        SELECT model, submitted_at, coalesce(ended_at, terminal_seen_at) AS ended_at
        FROM submissions
        WHERE submitted_at IS NOT NULL AND terminal_seen_at IS NOT NULL
        ORDER BY terminal_seen_at DESC LIMIT 1000)";

/// The times of the jobs of each model, models in order.
pub(super) async fn turnarounds(
    conn: &impl ConnectionTrait,
    at: Timestamp,
) -> StateResult<Vec<Turnaround>> {
    let found: Vec<JobRow> = rows(conn, JOBS, []).await?;
    let mut spans: BTreeMap<String, (Vec<_>, Vec<_>)> = BTreeMap::new();
    for row in found {
        let submitted = instant("a submission", &row.submitted_at)?;
        let (live, ended) = spans.entry(row.model).or_default();
        match row.ended_at {
            None => live.push(at.since(submitted)),
            Some(end) => ended.push(instant("a submission", &end)?.since(submitted)),
        }
    }
    let times = spans.into_iter().map(|(model, (live, mut ended))| {
        ended.sort_unstable();
        Turnaround {
            model,
            live: live.len(),
            live_oldest: live.into_iter().max(),
            half: percentile(&ended, 50),
            nine_tenths: percentile(&ended, 90),
            ended: ended.len(),
            spans: ended,
        }
    });
    Ok(times.collect())
}

/// The least value that so many hundredths of a sorted list do not exceed.
pub(super) fn percentile<T: Copy>(sorted: &[T], hundredths: usize) -> Option<T> {
    let rank = (sorted.len() * hundredths).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let check = |count: u32, hundredths, expected| {
            let sorted: Vec<u32> = (1..=count).collect();
            assert_eq!(percentile(&sorted, hundredths), expected, "{count}");
        };
        check(0, 50, None);
        check(1, 50, Some(1));
        check(1, 90, Some(1));
        check(2, 50, Some(1));
        check(10, 50, Some(5));
        check(10, 90, Some(9));
        check(11, 90, Some(10));
        check(1_000, 90, Some(900));
    }
}
