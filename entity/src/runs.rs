//! One pass of the pipeline over a scope.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: String,
    pub label: Option<String>,
    pub status: String,
    pub recipe_hash: String,
    pub scope: String,
    pub config_snapshot: String,
    pub config_sha256: String,
    pub restarts: i64,
    pub totals: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    pub window_since: Option<String>,
    pub window_until: Option<String>,
    pub window_name: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
