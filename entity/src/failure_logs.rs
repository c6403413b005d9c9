//! Everything about one failure.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "failure_logs")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub record_key: String,
    pub batch_id: String,
    pub attempt_number: i64,
    pub error_type: String,
    pub error_message: String,
    pub error_traceback: String,
    pub raw_response_text: Option<String>,
    pub extracted_text: Option<String>,
    pub raw_response_json: Option<String>,
    pub model_name: Option<String>,
    pub prompt_name: Option<String>,
    pub prompt_template: Option<String>,
    pub generation_config: Option<String>,
    pub counted: i64,
    pub run_id: Option<String>,
    pub created_at: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
