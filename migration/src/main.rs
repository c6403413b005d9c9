//! Changes a database by hand: `cargo run -p migration -- up sqlite://data/gemini_batches.db`.
//!
//! pagemill itself does this when it opens its database; this program is for looking and for going
//! back. It takes no lock: stop pagemill first.

use std::process::ExitCode;

use migration::{Migrator, MigratorTrait};
use sea_orm_migration::sea_orm::{Database, DbErr, TransactionTrait};

const USAGE: &str = "usage: migration up|down|status sqlite://PATH?mode=rwc";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (order, url) = match arguments.as_slice() {
        [order, url] => (order.as_str(), url.as_str()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match obey(order, url).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{order}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what is asked in one transaction; false when it is nothing that can be asked.
async fn obey(order: &str, url: &str) -> Result<bool, DbErr> {
    let db = Database::connect(url).await?;
    match order {
        "up" => {
            let transaction = db.begin().await?;
            Migrator::up(&transaction, None).await?;
            transaction.commit().await?;
        }
        "down" => {
            let transaction = db.begin().await?;
            Migrator::down(&transaction, Some(1)).await?;
            transaction.commit().await?;
        }
        "status" => {
            for migration in Migrator::get_migration_with_status_read_only(&db).await? {
                println!("{} {}", migration.status(), migration.name());
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}
