//! `trex bench` against a hub: what it says, and that it leaves nothing behind.

use crate::{
    commands::trex,
    support::{Database, PATIENCE, TestHub, until},
};
use serde_json::Value;
use std::time::Instant;

async fn rows(database: &Database) -> i64 {
    database.connect().await.query_one("SELECT count(*) FROM dinosaurs", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_measures_and_leaves_nothing_behind() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let grpc = hub.app().addresses().grpc.clone().unwrap();
    database.connect().await.batch_execute("INSERT INTO dinosaurs (species) VALUES ('mine')").await.unwrap();
    let arguments = ["bench", "--server", &grpc, "--for=1s", "--rate=50", "--watchers=3", "--output=json"];
    let output = trex(&arguments).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let calls = result["call"]["count"].as_u64().unwrap();
    assert!(calls > 0, "{result}");
    assert_eq!((&result["missing"], &result["repeated"]), (&0.into(), &0.into()), "{result}");
    assert_eq!(result["commit_to_watch"]["count"], calls * 3, "{result}");
    assert!(result["call_to_watch"]["p99_ms"].as_f64().unwrap() > 0.0, "{result}");
    assert_eq!(rows(&database).await, 1);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_reports_and_cleans_up_and_what_a_killed_one_left_can_be_cleaned() {
    let database = Database::create().await;
    let hub = TestHub::start(&database).await;
    let grpc = hub.app().addresses().grpc.clone().unwrap();
    let arguments = ["bench", "--server", &grpc, "--for=10m"];
    let spawn = async || {
        let before = hub.metric("hub_head_revision", "");
        let process = trex(&arguments).spawn().unwrap();
        until("it writes", || hub.metric("hub_head_revision", "") > before + 10.0).await;
        process
    };

    let process = spawn().await;
    let pid = process.id().unwrap().to_string();
    tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    let output = process.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("commit → watch"), "{text}");
    assert!(text.contains("events missing 0, repeated 0"), "{text}");
    assert_eq!(rows(&database).await, 0);

    let mut process = spawn().await;
    process.kill().await.unwrap();
    let deadline = Instant::now() + *PATIENCE;
    // A call that was under way may still commit.
    while rows(&database).await > 0 {
        let cleaned = trex(&["bench", "--clean", "--server", &grpc]).output().await.unwrap();
        assert!(cleaned.status.success() && Instant::now() < deadline, "{cleaned:?}");
    }
    hub.stop().await;
}
