//! One page.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "pages")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_key: String,
    pub book: String,
    pub levels: String,
    pub page_number: i64,
    pub stage: String,
    pub status: String,
    pub priority: i64,
    pub scope: Option<String>,
    pub run_id: Option<String>,
    pub recipe_hash: Option<String>,
    pub predecessor: Option<String>,
    pub waits_for: Option<String>,
    pub chain_ahead: i64,
    pub not_before: Option<String>,
    pub error: Option<String>,
    pub upload_cycles: i64,
    pub releases: i64,
    pub batch_size_max: Option<i64>,
    pub batch_id: Option<String>,
    pub image_mime: Option<String>,
    pub image_bytes: Option<i64>,
    pub image_sha256: Option<String>,
    pub image_width: Option<i64>,
    pub image_height: Option<i64>,
    pub image_file: Option<String>,
    pub image_expires_at: Option<String>,
    pub uploaded_at: Option<String>,
    pub output_sha256: Option<String>,
    pub output_bytes: Option<i64>,
    pub created_at: String,
    pub updated_at: String,
    pub priority_set: i64,
    pub priority_at: Option<String>,
    pub left_out: Option<String>,
    pub window_name: Option<String>,
    pub arrived_at: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
