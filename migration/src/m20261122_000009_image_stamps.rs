//! How a page's image looked from outside when it was hashed, so that it need not be read again to see
//! that nothing happened to it.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: [&str; 1] = ["ALTER TABLE remote_files ADD COLUMN image_stamp TEXT"];
const DOWN: [&str; 1] = ["ALTER TABLE remote_files DROP COLUMN image_stamp"];

crate::run_statements!(UP, DOWN);
