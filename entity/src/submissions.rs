//! The intent to create one remote job, and what became of it.

use sea_orm::entity::prelude::*;
use serde::Deserialize;

/// Deserialized from an array, it takes its fields in the order of its columns.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "submissions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub batch_id: String,
    pub display_name: String,
    pub state: String,
    pub note: String,
    pub run_id: String,
    pub recipe_hash: String,
    pub model: String,
    pub key_fingerprint: String,
    pub record_count: i64,
    pub not_before: Option<String>,
    pub in_doubt_since: Option<String>,
    pub abandon_code: Option<String>,
    pub lines_sha256: Option<String>,
    pub lines_bytes: Option<i64>,
    pub lines_file: Option<String>,
    pub reserved_cost_nanos: Option<i64>,
    pub creates: i64,
    pub lookups: i64,
    pub last_lookup_at: Option<String>,
    pub extra_jobs: String,
    pub remote_name: Option<String>,
    pub remote_state: Option<String>,
    pub remote_requests: Option<i64>,
    pub remote_pending: Option<i64>,
    pub remote_succeeded: Option<i64>,
    pub remote_failed: Option<i64>,
    pub output_kind: Option<String>,
    pub output_file: Option<String>,
    pub raw_path: Option<String>,
    pub raw_bytes: Option<i64>,
    pub raw_sha256: Option<String>,
    pub count_submitted: Option<i64>,
    pub count_succeeded: Option<i64>,
    pub count_failed: Option<i64>,
    pub count_missing: Option<i64>,
    pub count_released: Option<i64>,
    pub lines_total: Option<i64>,
    pub lines_foreign: Option<i64>,
    pub lines_unreadable: Option<i64>,
    pub lines_repeated: Option<i64>,
    pub tokens_prompt: Option<i64>,
    pub tokens_cached: Option<i64>,
    pub tokens_candidates: Option<i64>,
    pub tokens_thoughts: Option<i64>,
    pub tokens_total: Option<i64>,
    pub cost_nanos: Option<i64>,
    pub created_at: String,
    pub updated_at: String,
    pub submitted_at: Option<String>,
    pub polled_at: Option<String>,
    pub ended_at: Option<String>,
    pub terminal_seen_at: Option<String>,
    pub closed_at: Option<String>,
    pub unreachable_since: Option<String>,
    pub tokens_estimated: Option<i64>,
    pub results_missing_since: Option<String>,
    pub wish: Option<String>,
    pub wish_order: Option<String>,
    pub cancel_sent_at: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
