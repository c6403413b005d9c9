//! A page in a planned or live batch; never in two.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "inflight_records")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_key: String,
    pub batch_id: String,
    pub created_at: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
