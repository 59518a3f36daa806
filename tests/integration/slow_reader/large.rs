//! One transaction of many rows, and the memory of a hub process. Longer: `TREX_TEST_LARGE`, in rows.

use super::{
    stopped::{ALLOWANCE, Hub, Watcher},
    *,
};
use crate::{
    stress::number,
    support::{PATIENCE, until_true},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::time::timeout;

const WINDOW: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_costs_the_hub_no_memory_beyond_its_window() {
    let rows = number("TREX_TEST_LARGE", 100_000);
    let database = Database::create().await;
    let hub = Hub::start(&database, &["--log-window-bytes", &WINDOW.to_string()]).await;
    let session = session(database.url()).await.expect("a session");
    let everything = WatchDinosaursRequest { after_revision: Some(0), ..Default::default() };
    let mut events = hub.client().await.watch_dinosaurs(everything).await.expect("a watch").into_inner();
    // One that takes nothing, beside the one that takes all.
    let stopped = Watcher::start(&hub, "stopped", WatchDinosaursRequest::default()).await;
    stopped.signal("-STOP").await;
    let before = hub.resident();
    let (most, over) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
    let sampler = {
        let (most, over, hub) = (most.clone(), over.clone(), Arc::new(hub));
        let sampled = hub.clone();
        let task = tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(sampled.resident(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        (task, hub)
    };
    let insert = format!(
        "INSERT INTO dinosaurs (id, species) SELECT 'row-' || n, 's' FROM generate_series(1, {rows}) n"
    );
    session.batch_execute(&insert).await.expect("a large transaction");
    let committed = Instant::now();
    for revision in 1..=rows {
        let event = events.message().await.expect("a stream that goes on").expect("an event");
        assert_eq!((event.revision, event.dropped_before), (revision, 0));
    }
    let took = committed.elapsed();
    over.store(true, Ordering::Relaxed);
    let (task, hub) = sampler;
    task.await.expect("a sampler that does not panic");
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    println!("large: {rows} rows in {took:.1?}; memory {before} + {grown} bytes, window {WINDOW}");
    assert_eq!(hub.metric("hub_sealed_events_total").await as u64, rows);
    assert!(grown <= WINDOW + ALLOWANCE, "the hub grew by {grown}");
    stopped.signal("-CONT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_rows_cost_the_hub_a_few_pages() {
    const ROWS: u64 = 100;
    const ROW: u64 = 2 << 20;
    let database = Database::create().await;
    let hub = Hub::start(&database, &["--log-window-bytes", &WINDOW.to_string()]).await;
    let before = hub.resident();
    let session = session(database.url()).await.expect("a session");
    let insert =
        format!("INSERT INTO dinosaurs (species) SELECT repeat('s', {ROW}) FROM generate_series(1, {ROWS})");
    session.batch_execute(&insert).await.expect("a transaction");
    until_true("it is published", async || hub.metric("hub_head_revision").await >= ROWS as f64).await;
    let state = WatchDinosaursRequest { send_initial_state: true, ..Default::default() };
    let mut rows = hub.client().await.watch_dinosaurs(state).await.expect("a watch").into_inner();
    for _ in 0..ROWS {
        let row = timeout(*PATIENCE, rows.message()).await.expect("a row in time");
        let row = row.expect("a stream that goes on").expect("an event").dinosaur;
        assert_eq!(row.expect("a row").species.len() as u64, ROW);
    }
    let grown = hub.most_resident().saturating_sub(before);
    println!("large rows: {ROWS} of {ROW} bytes; memory {before} + {grown} bytes at most");
    assert!(grown < ROWS * ROW / 4 * 3, "the hub grew by {grown}");
}
