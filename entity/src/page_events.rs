//! The history of every stage change, append-only.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "page_events")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub record_key: String,
    pub at: String,
    pub from_stage: Option<String>,
    pub to_stage: String,
    pub event: String,
    pub run_id: Option<String>,
    pub batch_id: Option<String>,
    pub correlation_id: Option<String>,
    pub details: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
