//! One transaction of many rows, and the memory of a hub process. Longer: `TREX_TEST_LARGE`, in rows.

use super::{
    stopped::{ALLOWANCE, Hub, Watcher},
    *,
};
use crate::stress::number;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

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
