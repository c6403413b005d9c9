//! One request for one page in one batch.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub batch_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_key: String,
    pub attempt_number: i64,
    pub outcome: String,
    pub error_type: Option<String>,
    pub message: Option<String>,
    pub image_file: String,
    pub prompt_sha256: Option<String>,
    pub context_sha256: Option<String>,
    pub finish_reason: Option<String>,
    pub model_version: Option<String>,
    pub tokens_prompt: Option<i64>,
    pub tokens_cached: Option<i64>,
    pub tokens_candidates: Option<i64>,
    pub tokens_thoughts: Option<i64>,
    pub tokens_total: Option<i64>,
    pub cost_nanos: Option<i64>,
    pub raw_line_offset: Option<i64>,
    pub raw_line_bytes: Option<i64>,
    pub checks_failed: Option<String>,
    pub corrective_text: Option<String>,
    pub score: Option<f64>,
    pub created_at: String,
    pub decided_at: Option<String>,
    pub parameters: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
