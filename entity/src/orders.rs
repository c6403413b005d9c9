//! What an operator told pagemill to do, and what came of it.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "orders")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    pub command: String,
    pub arguments: String,
    pub by_whom: String,
    pub reason: String,
    pub state: String,
    pub answer: String,
    pub last_key: Option<String>,
    pub created_at: String,
    pub done_at: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
