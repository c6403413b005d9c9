//! Changes a database by hand: `cargo run -p migration -- up sqlite://data/gemini_batches.db`.
//!
//! pagemill itself does this when it opens its database; this program is for looking and for going
//! back. It takes no lock: stop pagemill first.

use std::path::Path;
use std::process::ExitCode;

use migration::{Migrator, MigratorTrait};
use sea_orm_migration::sea_orm::DbErr;
use sqlite::{Access, Mode, Options, Owner};

const USAGE: &str = "usage: migration up|down|status sqlite://PATH[?mode=rwc]";

#[tokio::main(flavor = "current_thread")]
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
    let Some(options) = options(url) else {
        return Ok(false);
    };
    let owner = Owner::open(&options).await?;
    let transaction = owner.begin(Mode::Write).await?;
    match order {
        "up" => Migrator::up(&transaction, None).await?,
        "down" => Migrator::down(&transaction, Some(1)).await?,
        "status" => {
            for migration in Migrator::get_migration_with_status(&transaction).await? {
                println!("{} {}", migration.status(), migration.name());
            }
            // Looking makes a table of its own where there is none.
            owner.rollback(transaction).await?;
            return Ok(true);
        }
        _ => return Ok(false),
    }
    owner.commit(transaction).await?;
    Ok(true)
}

/// A database is made only where the address says so.
fn options(url: &str) -> Option<Options> {
    let rest = url.strip_prefix("sqlite://")?;
    let (path, access) = match rest.split_once('?') {
        None => (rest, Access::Write),
        Some((path, "mode=rw")) => (path, Access::Write),
        Some((path, "mode=rwc")) => (path, Access::Create),
        Some(_) => return None,
    };
    (!path.is_empty()).then(|| Options::new(Path::new(path), access))
}
