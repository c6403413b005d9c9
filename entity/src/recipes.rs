//! What a page is asked with: texts and parameters, named by their hash.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "recipes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub recipe_hash: String,
    pub prompt_name: String,
    pub prompt_template: String,
    pub context_template: Option<String>,
    pub schema: String,
    pub model: String,
    pub generation_config: String,
    pub created_at: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
