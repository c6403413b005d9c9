//! The judge's own endpoints, which no client under test may use: read the ledger, change the
//! faults, start over.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use serde::Deserialize;
use serde_json::json;

use super::answering::ok;
use super::faults::FaultProfile;
use super::world::World;

/// What a reader of the ledger wants in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// `files=1` adds the list of live files.
    #[serde(default)]
    files: u8,
    /// `keys=0` leaves out the maps by key.
    #[serde(default = "wanted")]
    keys: u8,
}

fn wanted() -> u8 {
    1
}

/// Sends the ledger.
pub(super) async fn ledger(world: Data<World>, Query(query): Query<Wanted>) -> HttpResponse {
    let snapshot = world.snapshot(query.keys != 0, query.files != 0);
    match serde_json::to_value(&snapshot) {
        Ok(body) => ok(&body),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

/// Puts another fault profile in force; the body is its YAML.
pub(super) async fn faults(world: Data<World>, body: String) -> HttpResponse {
    match FaultProfile::from_yaml(&body) {
        Ok(profile) => {
            world.dice.replace(profile);
            ok(&json!({}))
        }
        Err(error) => HttpResponse::BadRequest().body(error.to_string()),
    }
}

/// Forgets all files, jobs and counts.
pub(super) async fn reset(world: Data<World>) -> HttpResponse {
    world.forget();
    ok(&json!({}))
}
