//! Reports of settled batches, and which of them a crash has kept from being written.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder};

use entity::{reports, submissions};

use super::messages::{LineCounts, ListUnreported, RecordReport, Settled, StateResult, Unreported};
use super::questions::batch_rows;
use super::results::failed_pages;
use super::rows::maybe_instant;
use super::sql::{signed, texts, unsigned};
use super::submits::expect_batch;
use super::tallies::{tally, token_sums};
use super::{Apply, Rules};

impl Apply for RecordReport {
    type Reply = ();

    async fn apply(&self, tx: &DatabaseTransaction, _rules: &Rules) -> StateResult<()> {
        expect_batch(tx, &self.batch).await?;
        let row = reports::ActiveModel {
            batch_id: Set(self.batch.to_string()),
            name: Set(self.name.clone()),
            markdown: Set(self.markdown.clone()),
            created_at: Set(self.at.to_string()),
            updated_at: Set(self.at.to_string()),
        };
        let newest = OnConflict::column(reports::Column::BatchId)
            .update_columns([
                reports::Column::Name,
                reports::Column::Markdown,
                reports::Column::UpdatedAt,
            ])
            .to_owned();
        reports::Entity::insert(row)
            .on_conflict(newest)
            .exec_without_returning(tx)
            .await?;
        Ok(())
    }
}

impl Apply for ListUnreported {
    type Reply = Vec<Unreported>;
    const WRITES: bool = false;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        _rules: &Rules,
    ) -> StateResult<Vec<Unreported>> {
        let batches = texts(tx, UNREPORTED, [signed(self.limit).into()]).await?;
        let found = submissions::Entity::find()
            .filter(submissions::Column::BatchId.is_in(batches))
            .order_by_asc(submissions::Column::CreatedAt)
            .all(tx)
            .await?;
        let mut unreported = Vec::with_capacity(found.len());
        for row in found {
            let lines = |count: Option<i64>| unsigned(count.unwrap_or(0));
            let counts = LineCounts {
                lines: lines(row.lines_total),
                foreign: lines(row.lines_foreign),
                unreadable: lines(row.lines_unreadable),
                repeated: lines(row.lines_repeated),
            };
            let closed_at = maybe_instant("a settled batch", row.closed_at.as_deref())?;
            for batch in batch_rows(tx, vec![row]).await? {
                let settled = Settled {
                    tally: tally(tx, &batch.batch).await?,
                    failed: failed_pages(tx, &batch.batch).await?,
                    released: 0,
                    tokens: token_sums(tx, &batch.batch).await?.tokens(),
                };
                unreported.push(Unreported {
                    settled_at: closed_at.unwrap_or(batch.created_at),
                    batch,
                    settled,
                    lines: counts,
                });
            }
        }
        Ok(unreported)
    }
}

const UNREPORTED: &str = "
    SELECT s.batch_id FROM submissions AS s
    LEFT JOIN reports AS r ON r.batch_id = s.batch_id
    WHERE s.state = 'settled' AND r.batch_id IS NULL ORDER BY s.created_at LIMIT ?1";
