//! Jobs that may bring answers after their batch has ended.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "late_jobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub remote_name: String,
    pub batch_id: String,
    pub why: String,
    pub state: String,
    pub remote_state: Option<String>,
    pub output_kind: Option<String>,
    pub output_file: Option<String>,
    pub looks: i64,
    pub looked_at: Option<String>,
    pub raw_path: Option<String>,
    pub raw_bytes: Option<i64>,
    pub raw_sha256: Option<String>,
    pub answers: Option<i64>,
    pub accepted: Option<i64>,
    pub paid_twice: Option<i64>,
    pub tokens_total: Option<i64>,
    pub cost_nanos: Option<i64>,
    pub note: String,
    pub found_at: String,
    pub updated_at: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
