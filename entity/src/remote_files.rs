//! The ledger of our files in the provider's store.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "remote_files")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub uri: String,
    pub purpose: String,
    pub mime: String,
    pub bytes: i64,
    pub sha256: Option<String>,
    pub record_key: Option<String>,
    pub batch_id: Option<String>,
    pub key_fingerprint: String,
    pub state: String,
    pub note: String,
    pub not_before: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    pub expires_at: String,
    pub image_stamp: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
