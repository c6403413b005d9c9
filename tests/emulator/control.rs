//! The judge's endpoints and the handle of the emulator.

use std::time::Duration;

use pagemill::emulator::{Emulator, EmulatorOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{world, world_of};

#[tokio::test]
async fn the_endpoint_tells_what_the_handle_tells() {
    let world = world_of("row_safety: {rate: 1, only: p2}").await;
    let job = world.job("a", &["p1", "p2"]).await;
    world.poll(&job).await;
    let told = world.get("/__control/ledger?files=1").await.body;
    let known = serde_json::to_value(world.emulator.ledger()).unwrap();
    assert_eq!(told, known);
    assert_eq!(
        told["answers_by_key"],
        json!({"p1": {"ok": 1}, "p2": {"safety": 1}})
    );
    assert_eq!(told["faults_played"], json!({"row_safety": 1}));
    assert_eq!(told["jobs_ended"], json!({"succeeded": 1}));
    assert_eq!(told["files"].as_array().unwrap().len(), 4);
    assert_eq!(told["requests_by_endpoint"]["upload_start"], 3);
    assert!(told["uploads_started_per_second_max"].as_u64().unwrap() >= 1);
    let short = world.get("/__control/ledger?keys=0").await.body;
    assert!(short.get("files").is_none());
    assert_eq!(short["answers_by_key"], json!({}));
    assert_eq!(short["answers_by_kind"], json!({"ok": 1, "safety": 1}));
}

#[tokio::test]
async fn faults_can_be_replaced_and_everything_forgotten() {
    let world = world().await;
    let replace = async |text: &'static str| {
        let request = world.request(Method::POST, "/__control/faults").body(text);
        request.send().await.unwrap()
    };
    assert_eq!(replace("list_503: 1").await.status(), 200);
    assert_eq!(world.get("/v1/files").await.status, 503);
    let refused = replace("lst_503: 1").await;
    assert_eq!(refused.status(), 400);
    assert!(
        refused
            .text()
            .await
            .unwrap()
            .contains("did you mean 'list_503'?")
    );
    assert_eq!(
        world.get("/v1/files").await.status,
        503,
        "the old profile stays"
    );
    world
        .emulator
        .set_faults(pagemill::emulator::FaultProfile::none());
    world.job("a", &["p1"]).await;
    world.post("/__control/reset", &Value::Null).await;
    assert_eq!(world.get("/v1/files").await.body, json!({}));
    assert_eq!(world.get("/v1/batches").await.body, json!({}));
    let ledger = world.emulator.ledger();
    assert_eq!((ledger.jobs_made, ledger.files_live_bytes), (0, 0));
}

#[tokio::test]
async fn the_port_file_appears_whole_and_the_port_is_free_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(EmulatorOptions::default()).await.unwrap();
    let path = folder.path().join("port");
    emulator.write_port_file(&path).unwrap();
    let port = emulator.port();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap().trim(),
        port.to_string()
    );
    assert_eq!(emulator.base_url(), format!("http://127.0.0.1:{port}"));
    emulator.stop().await;
    let listen = ([127, 0, 0, 1], port).into();
    let options = EmulatorOptions {
        listen,
        ..EmulatorOptions::default()
    };
    let again = Emulator::start(options.clone()).await.unwrap();
    let taken = Emulator::start(options).await.err().unwrap().to_string();
    assert!(
        taken.starts_with(&format!("cannot listen on 127.0.0.1:{port}")),
        "{taken}"
    );
    drop(again);
}

#[test]
fn it_serves_beside_an_actix_system_and_stops_with_work_under_way() {
    actix_rt::System::new().block_on(async {
        let batch_latency = Duration::from_secs(3600);
        let options = EmulatorOptions {
            batch_latency,
            ..EmulatorOptions::default()
        };
        let emulator = Emulator::start(options).await.unwrap();
        assert_eq!(emulator.ledger().jobs_live, 0);
        drop(emulator);
    });
}
